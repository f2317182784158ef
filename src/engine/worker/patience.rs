//! How long a thread that waits for work spins before it sleeps. To spin and then sleep all the same has only kept a processor
//! from whoever makes what is waited for. So waits that outlast the longest spin, one after another, shorten it, soon to
//! nothing, and one that does not brings it back, asleep or not.

use std::time::{Duration, Instant};

/// Waits in a row that were too long until none is spun for; the first costs nothing.
const STEPS: u32 = 5;

/// One of so many waits is spun for then: two that wait for each other, both asleep, would never find out how near they are.
const PROBE: u32 = 64;

#[derive(Debug)]
pub(super) struct Patience {
    longest: Duration,
    /// Waits in a row that were longer.
    lost: u32,
    /// Waits since that were not spun for.
    unspun: u32,
}

impl Patience {
    /// Spins for `longest` at most; zero is not at all.
    pub fn new(longest: Duration) -> Patience {
        Patience { longest, lost: 0, unspun: 0 }
    }

    /// Whether it ever spins.
    pub fn spins(&self) -> bool {
        self.longest > Duration::ZERO
    }

    /// How long to spin in the wait that begins.
    pub fn budget(&mut self) -> Duration {
        match self.lost {
            0 => self.longest,
            lost if lost < STEPS => self.longest / (1 << (lost - 1)),
            _ => {
                self.unspun = (self.unspun + 1) % PROBE;
                if self.unspun == 0 { self.longest } else { Duration::ZERO }
            }
        }
    }

    /// A wait has ended with work after so long, slept or not.
    pub fn ended(&mut self, wait: Duration) {
        if wait <= self.longest {
            self.at_once();
        } else {
            self.lost = (self.lost + 1).min(STEPS);
        }
    }

    /// Work was there at once.
    pub fn at_once(&mut self) {
        self.lost = 0;
    }
}

/// A wait for work.
#[derive(Clone, Copy)]
pub(super) struct Idle {
    since: Instant,
    spin: Duration,
}

impl Idle {
    /// The wait that is under way, or one that begins now.
    pub fn of(idle: &mut Option<Idle>, patience: &mut Patience, now: Instant) -> Idle {
        *idle.get_or_insert_with(|| Idle { since: now, spin: patience.budget() })
    }

    /// Whether it is time to sleep.
    pub fn is_over(self, now: Instant) -> bool {
        now - self.since >= self.spin
    }

    /// There is work.
    pub fn end(idle: &mut Option<Idle>, patience: &mut Patience) {
        match idle.take() {
            Some(Idle { since, .. }) => patience.ended(since.elapsed()),
            None => patience.at_once(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(48);

    fn wait(patience: &mut Patience, micros: u64) -> u128 {
        let budget = patience.budget();
        patience.ended(Duration::from_micros(micros));
        budget.as_micros()
    }

    #[test]
    fn waits_that_are_too_long_end_the_spinning() {
        let mut patience = Patience::new(LONGEST);
        let budgets: Vec<_> = (0..7).map(|_| wait(&mut patience, 49)).collect();
        assert_eq!(budgets, [48, 48, 24, 12, 6, 0, 0]);
        let spun: u128 = (0..64 * u64::from(PROBE)).map(|_| wait(&mut patience, 1_000)).sum();
        assert_eq!(spun, 64 * 48, "one of {PROBE} is spun for");
    }

    #[test]
    fn a_wait_that_is_short_enough_brings_it_back() {
        for short in [0, 3, 48] {
            let mut patience = Patience::new(LONGEST);
            for _ in 0..10 {
                wait(&mut patience, 1_000);
            }
            assert_eq!(wait(&mut patience, short), 0, "asleep");
            assert_eq!(wait(&mut patience, short), 48);
        }
        // Long ones that stand alone among short ones change nothing.
        let mut patience = Patience::new(LONGEST);
        for _ in 0..100 {
            assert_eq!([wait(&mut patience, 1_000), wait(&mut patience, 5)], [48, 48]);
        }
    }

    #[test]
    fn none_is_none() {
        let mut patience = Patience::new(Duration::ZERO);
        assert!(!patience.spins());
        assert!((0..200).all(|i| wait(&mut patience, i % 3) == 0));
    }
}
