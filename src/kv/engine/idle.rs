//! How long a shard without work looks for more before it sleeps.

use std::time::{Duration, Instant};

/// Times longer that it looks while reads wait for the disk, which ends them soon: to sleep and be woken costs more.
const LONGER: u32 = 5;
/// Times in a row that it did so in vain before it only does so now and then.
const PATIENCE: u32 = 16;

/// Looks that found nothing.
#[derive(Debug)]
pub struct Idle {
    spin: Duration,
    until: Option<Instant>,
    /// Sleeps in a row.
    futile: u32,
}

impl Idle {
    /// Looks at least this long.
    pub fn new(spin: Duration) -> Idle {
        Idle { spin, until: None, futile: 0 }
    }

    /// Whether to look once more, now that a look has found nothing.
    pub fn looks(&mut self, now: Instant, reads_wait: bool) -> bool {
        let until = *self.until.get_or_insert_with(|| {
            let patient = self.futile < PATIENCE || self.futile.is_multiple_of(PATIENCE);
            now + if reads_wait && patient { self.spin * LONGER } else { self.spin }
        });
        now < until
    }

    /// A look found something.
    pub fn over(&mut self) {
        if self.until.take().is_some() {
            self.futile = 0;
        }
    }

    /// It slept.
    pub fn slept(&mut self) {
        self.until = None;
        self.futile = self.futile.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_longer_for_reads_unless_that_was_in_vain() {
        let (spin, start) = (Duration::from_micros(50), Instant::now());
        let mut idle = Idle::new(spin);
        let longest = |idle: &mut Idle, reads| {
            let looks = (0..).take_while(|i| idle.looks(start + spin / 2 * *i, reads)).count();
            idle.slept();
            looks
        };
        assert_eq!((longest(&mut idle, false), longest(&mut idle, true)), (2, 10));
        let patient = (2..160).filter(|_| longest(&mut idle, true) == 10).count();
        assert_eq!(patient, 14 + 9);
        assert!(idle.looks(start, true));
        idle.over();
        assert_eq!(longest(&mut idle, true), 10);
    }
}
