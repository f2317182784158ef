//! Time to live: a count and a unit in two bytes.

const NANOS_PER_MINUTE: u64 = 60 * 1_000_000_000;

/// A time to live as it is stored: `count` of `unit`. Zero of either means for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ttl {
    /// How many units.
    pub count: u8,
    /// 0 none, 1 minute, 2 hour, 3 day, 4 week, 5 month of 30 days, 6 year of 365 days.
    pub unit: u8,
}

impl Ttl {
    /// Decodes the two stored bytes; every value is valid.
    pub fn decode(bytes: [u8; 2]) -> Ttl {
        Ttl { count: bytes[0], unit: bytes[1] }
    }

    /// Its length in minutes; 0 for none and for a unit that nobody defined.
    pub fn minutes(self) -> u64 {
        let unit = match self.unit {
            1 => 1,
            2 => 60,
            3 => 24 * 60,
            4 => 7 * 24 * 60,
            5 => 30 * 24 * 60,
            6 => 365 * 24 * 60,
            _ => 0,
        };
        u64::from(self.count) * unit
    }

    /// Whether data appended at `append_at_ns` (Unix nanoseconds) is over at `now_ns`. Version 2 stores no append
    /// time: 0 makes such data expired at once, as it is over HTTP.
    pub fn expired(self, append_at_ns: u64, now_ns: u64) -> bool {
        let minutes = self.minutes();
        minutes != 0 && now_ns >= append_at_ns.saturating_add(minutes * NANOS_PER_MINUTE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let minutes = |count, unit| Ttl { count, unit }.minutes();
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 255].map(|unit| minutes(2, unit)), {
            [0, 2, 120, 2_880, 20_160, 86_400, 1_051_200, 0, 0]
        });
    }

    #[test]
    fn expires_at_its_last_nanosecond() {
        let ttl = Ttl::decode([3, 1]);
        let end = 1_000 + 3 * NANOS_PER_MINUTE;
        assert!(!ttl.expired(1_000, end - 1));
        assert!(ttl.expired(1_000, end));
        assert!(ttl.expired(0, 1_700_000_000_000_000_000), "version 2 has no append time");
        assert!(!Ttl::default().expired(0, u64::MAX));
        assert!(!Ttl::decode([255, 6]).expired(u64::MAX - 1, u64::MAX - 1));
    }
}
