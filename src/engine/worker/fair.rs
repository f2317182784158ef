//! Inbound calls that nobody has taken yet: handed out in turn, one of each session, so that a caller with many does not
//! hold up the others.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::inbound::IdHasher;
use crate::engine::request::Completion;

/// A call that waits to be taken.
struct Waiting {
    event: Completion,
    deadline: Option<Instant>,
}

/// Queues by session.
#[derive(Default)]
pub(super) struct Fair {
    by_session: HashMap<u64, VecDeque<Waiting>, BuildHasherDefault<IdHasher>>,
    /// Sessions with something in their queue, in turn.
    turns: VecDeque<u64>,
    len: usize,
}

/// Room that an empty queue keeps.
const KEPT: usize = 64;

impl Fair {
    /// Appends the event of a call of a session.
    pub fn push(&mut self, session: u64, event: Completion, deadline: Option<Instant>) {
        let queue = self.by_session.entry(session).or_default();
        if queue.is_empty() {
            self.turns.push_back(session);
        }
        queue.push_back(Waiting { event, deadline });
        self.len += 1;
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes events in turn. Calls whose deadline has passed go to `late` instead.
    pub fn take(&mut self, out: &mut [Completion], late: &mut Vec<u64>) -> usize {
        let (mut taken, mut now) = (0, None);
        while taken < out.len()
            && let Some(waiting) = self.next()
        {
            match waiting.deadline {
                Some(at) if at <= *now.get_or_insert_with(Instant::now) => late.push(waiting.event.value),
                _ => {
                    out[taken] = waiting.event;
                    taken += 1;
                }
            }
        }
        taken
    }

    /// Takes away what waits of a session that has ended.
    pub fn remove(&mut self, session: u64) -> Vec<Completion> {
        let Some(queue) = self.by_session.remove(&session) else { return Vec::new() };
        self.len -= queue.len();
        if !queue.is_empty() {
            self.turns.retain(|one| *one != session);
        }
        queue.into_iter().map(|waiting| waiting.event).collect()
    }

    /// Takes away one call of a session; whether it waited.
    pub fn remove_one(&mut self, session: u64, call: u64) -> bool {
        let Some(queue) = self.by_session.get_mut(&session) else { return false };
        let Some(at) = queue.iter().position(|waiting| waiting.event.value == call) else { return false };
        queue.remove(at);
        self.len -= 1;
        if queue.is_empty() {
            self.turns.retain(|one| *one != session);
        }
        true
    }

    fn next(&mut self) -> Option<Waiting> {
        let session = self.turns.pop_front()?;
        let queue = self.by_session.get_mut(&session)?;
        let waiting = queue.pop_front();
        self.len -= usize::from(waiting.is_some());
        if !queue.is_empty() {
            self.turns.push_back(session);
        } else if queue.capacity() > KEPT {
            *queue = VecDeque::new();
        }
        waiting
    }
}

/// The same for a worker whose owner takes calls while its thread makes progress.
#[derive(Default)]
pub(super) struct SharedFair {
    fair: Mutex<Fair>,
    len: AtomicUsize,
}

impl SharedFair {
    /// Whether nothing waits: one load.
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// Does something with the queues.
    pub fn with<T>(&self, work: impl FnOnce(&mut Fair) -> T) -> T {
        let mut fair = self.fair.lock();
        let done = work(&mut fair);
        self.len.store(fair.len, Ordering::Release);
        done
    }
}

/// A worker's: its own, or shared with its owner.
pub(super) enum Queues {
    Own(Fair),
    Shared(Arc<SharedFair>),
}

impl Queues {
    pub fn is_empty(&self) -> bool {
        match self {
            Queues::Own(fair) => fair.is_empty(),
            Queues::Shared(shared) => shared.is_empty(),
        }
    }

    pub fn with<T>(&mut self, work: impl FnOnce(&mut Fair) -> T) -> T {
        match self {
            Queues::Own(fair) => work(fair),
            Queues::Shared(shared) => shared.with(work),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::request::Op;
    use crate::status::Status;
    use std::time::Duration;

    fn event(call: u64) -> Completion {
        Completion { value: call, ..Completion::new(0, Op::CallReceived, Status::Ok) }
    }

    fn all(fair: &mut Fair, most: usize) -> (Vec<u64>, Vec<u64>) {
        let (mut out, mut late) = (vec![Completion::default(); most], Vec::new());
        let taken = fair.take(&mut out, &mut late);
        (out[..taken].iter().map(|c| c.value).collect(), late)
    }

    #[test]
    fn a_session_with_many_calls_waits_for_the_others() {
        let mut fair = Fair::default();
        (0..5).for_each(|i| fair.push(1, event(10 + i), None));
        fair.push(2, event(20), None);
        fair.push(3, event(30), None);
        fair.push(3, event(31), None);
        assert_eq!(all(&mut fair, 4).0, [10, 20, 30, 11]);
        fair.push(2, event(21), None);
        assert_eq!(all(&mut fair, 9).0, [31, 12, 21, 13, 14]);
        assert!(fair.is_empty() && all(&mut fair, 9).0.is_empty());
    }

    #[test]
    fn late_calls_and_those_of_ended_sessions_are_not_handed_out() {
        let mut fair = Fair::default();
        let now = Instant::now();
        fair.push(1, event(10), Some(now));
        fair.push(1, event(11), Some(now + Duration::from_secs(3600)));
        fair.push(2, event(20), None);
        fair.push(2, event(21), None);
        assert!(fair.remove_one(2, 20) && !fair.remove_one(2, 20) && !fair.remove_one(1, 21));
        assert_eq!(all(&mut fair, 1), (vec![21], vec![10]));
        assert_eq!(fair.remove(1).iter().map(|c| c.value).collect::<Vec<_>>(), [11]);
        assert!(fair.is_empty() && fair.remove(1).is_empty());
        fair.push(3, event(30), None);
        assert!(fair.remove_one(3, 30));
        fair.push(3, event(31), None);
        assert_eq!(all(&mut fair, 9).0, [31]);
    }
}
