//! Deadlines of operations, nearest first. An operation that has ended leaves its entry behind until it is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// How often sessions are looked at for expiry.
const SWEEP: Duration = Duration::from_millis(250);

/// Marks ids of peers among those of operations; ids leave the three highest bits free.
const PEER: u64 = 1 << 63;

pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    sweep: Option<Instant>,
    rounds: u32,
}

impl Timers {
    pub fn new() -> Timers {
        Timers { heap: BinaryHeap::new(), sweep: None, rounds: 0 }
    }

    pub fn add(&mut self, id: u64, after: Duration) {
        if let Some(at) = Instant::now().checked_add(after) {
            self.heap.push(Reverse((at, id)));
        }
    }

    /// The same for a peer.
    pub fn add_peer(&mut self, id: u64, after: Duration) {
        self.add(id | PEER, after);
    }

    /// The peer that an entry is about, if it is about one.
    pub fn peer(id: u64) -> Option<u64> {
        (id & PEER != 0).then_some(id & !PEER)
    }

    /// Drops entries of operations that have ended once they are the larger part.
    pub fn compact(&mut self, live: usize, is_live: impl Fn(u64) -> bool) {
        if self.heap.len() > 1024 + 2 * live {
            self.heap.retain(|Reverse((_, id))| is_live(*id));
        }
    }

    /// Has sessions looked at now and then from here on.
    pub fn sweep(&mut self) {
        self.sweep.get_or_insert_with(|| Instant::now() + SWEEP);
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        let first = self.heap.peek().map(|Reverse((at, _))| *at);
        [first, self.sweep].into_iter().flatten().min()
    }

    /// Now, if something is due. The clock is read once in a while only: it costs more than a round.
    pub fn due(&mut self) -> Option<Instant> {
        let next = self.next()?;
        self.rounds = self.rounds.wrapping_add(1);
        if !self.rounds.is_multiple_of(32) {
            return None;
        }
        let now = Instant::now();
        (now >= next).then_some(now)
    }

    /// The next operation whose deadline has passed.
    pub fn pop(&mut self, now: Instant) -> Option<u64> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now { None } else { self.heap.pop().map(|Reverse((_, id))| id) }
    }

    /// Whether it is time to look at sessions; sets the next time.
    pub fn take_sweep(&mut self, now: Instant) -> bool {
        let due = self.sweep.is_some_and(|at| now >= at);
        if due {
            self.sweep = Some(now + SWEEP);
        }
        due
    }
}
