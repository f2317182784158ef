//! Wrong secrets by where they come from: after a few, one try a second.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Wrong tries that are free.
const FREE: u32 = 10;
/// After that, one in so long; so long also until one is forgotten.
const PERIOD: Duration = Duration::from_secs(1);
/// Sources that are remembered.
const SOURCES: usize = 4_096;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// A network address.
    Network(IpAddr),
    /// Processes of this host.
    Local,
}

/// Wrong tries of one source.
struct Tries {
    wrong: u32,
    at: Instant,
}

#[derive(Default)]
pub(super) struct Throttle {
    tries: HashMap<Source, Tries>,
}

impl Throttle {
    /// Whether somebody from there may try now.
    pub fn allows(&mut self, source: Source, now: Instant) -> bool {
        self.tries.get_mut(&source).is_none_or(|tries| tries.left(now) < FREE)
    }

    /// Somebody from there did not know the secret.
    pub fn wrong(&mut self, source: Source, now: Instant) {
        if self.tries.len() >= SOURCES && !self.tries.contains_key(&source) {
            self.tries.retain(|_, tries| tries.left(now) > 0);
            if self.tries.len() >= SOURCES {
                self.tries.clear();
            }
        }
        let tries = self.tries.entry(source).or_insert(Tries { wrong: 0, at: now });
        tries.left(now);
        tries.wrong += 1;
    }
}

impl Tries {
    /// Wrong tries that count still.
    fn left(&mut self, now: Instant) -> u32 {
        let forgotten = now.saturating_duration_since(self.at).as_secs() / PERIOD.as_secs();
        self.wrong = self.wrong.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        self.at += PERIOD * u32::try_from(forgotten).unwrap_or(0);
        self.wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_few_wrong_tries_it_is_one_a_second() {
        let mut throttle = Throttle::default();
        let (bad, good) = (Source::Network([10, 0, 0, 1].into()), Source::Local);
        let mut now = Instant::now();
        for _ in 0..FREE {
            assert!(throttle.allows(bad, now));
            throttle.wrong(bad, now);
        }
        assert!(!throttle.allows(bad, now) && throttle.allows(good, now));
        for _ in 0..5 {
            now += PERIOD;
            assert!(throttle.allows(bad, now));
            throttle.wrong(bad, now);
            assert!(!throttle.allows(bad, now + PERIOD / 2));
        }
        assert!(throttle.allows(bad, now + PERIOD * (FREE + 1)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for i in 0..2 * SOURCES as u32 {
            throttle.wrong(Source::Network(i.to_be_bytes().into()), now);
        }
        assert!(throttle.tries.len() <= SOURCES);
    }
}
