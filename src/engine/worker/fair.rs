//! Inbound calls that nobody has taken yet: handed out in turn, one of each session, so that a caller with many does not
//! hold up the others.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::engine::request::Completion;

/// A call that waits to be taken.
struct Waiting {
    event: Completion,
    deadline: Option<Instant>,
}

#[derive(Default)]
struct Queues {
    by_session: HashMap<u64, VecDeque<Waiting>>,
    /// Sessions with something in their queue, in turn.
    turns: VecDeque<u64>,
    /// Empty queues, kept for their memory.
    spare: Vec<VecDeque<Waiting>>,
}

/// Queues of one worker. Any thread.
#[derive(Default)]
pub(super) struct Fair {
    queues: Mutex<Queues>,
    len: AtomicUsize,
}

/// Queues kept for reuse.
const SPARE: usize = 64;

impl Fair {
    /// Appends the event of a call of a session.
    pub fn push(&self, session: u64, event: Completion, deadline: Option<Instant>) {
        let mut queues = self.queues.lock();
        let Queues { by_session, turns, spare } = &mut *queues;
        let queue = by_session.entry(session).or_insert_with(|| {
            turns.push_back(session);
            spare.pop().unwrap_or_default()
        });
        queue.push_back(Waiting { event, deadline });
        self.len.fetch_add(1, Ordering::Release);
    }

    /// Whether nothing waits: one load.
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// Takes events in turn. Calls whose deadline has passed go to `late` instead.
    pub fn take(&self, out: &mut [Completion], late: &mut Vec<u64>) -> usize {
        if out.is_empty() || self.is_empty() {
            return 0;
        }
        let mut queues = self.queues.lock();
        let (mut taken, mut now) = (0, None);
        while taken < out.len()
            && let Some(waiting) = queues.next()
        {
            self.len.fetch_sub(1, Ordering::Relaxed);
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

    /// Takes away what waits of a session.
    pub fn remove(&self, session: u64) -> Vec<Completion> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut queues = self.queues.lock();
        let Some(queue) = queues.by_session.remove(&session) else { return Vec::new() };
        queues.turns.retain(|one| *one != session);
        self.len.fetch_sub(queue.len(), Ordering::Relaxed);
        queue.into_iter().map(|waiting| waiting.event).collect()
    }

    /// Takes away one call of a session; whether it waited.
    pub fn remove_one(&self, session: u64, call: u64) -> bool {
        let mut queues = self.queues.lock();
        let Some(queue) = queues.by_session.get_mut(&session) else { return false };
        let Some(at) = queue.iter().position(|waiting| waiting.event.value == call) else { return false };
        queue.remove(at);
        self.len.fetch_sub(1, Ordering::Relaxed);
        if queue.is_empty() {
            queues.by_session.remove(&session);
            queues.turns.retain(|one| *one != session);
        }
        true
    }
}

impl Queues {
    fn next(&mut self) -> Option<Waiting> {
        let session = self.turns.pop_front()?;
        let queue = self.by_session.get_mut(&session)?;
        let waiting = queue.pop_front();
        if !queue.is_empty() {
            self.turns.push_back(session);
        } else if let Some(empty) = self.by_session.remove(&session)
            && self.spare.len() < SPARE
        {
            self.spare.push(empty);
        }
        waiting
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

    fn all(fair: &Fair, most: usize) -> (Vec<u64>, Vec<u64>) {
        let (mut out, mut late) = (vec![Completion::default(); most], Vec::new());
        let taken = fair.take(&mut out, &mut late);
        (out[..taken].iter().map(|c| c.value).collect(), late)
    }

    #[test]
    fn a_session_with_many_calls_waits_for_the_others() {
        let fair = Fair::default();
        (0..5).for_each(|i| fair.push(1, event(10 + i), None));
        fair.push(2, event(20), None);
        fair.push(3, event(30), None);
        fair.push(3, event(31), None);
        assert_eq!(all(&fair, 4).0, [10, 20, 30, 11]);
        fair.push(2, event(21), None);
        assert_eq!(all(&fair, 9).0, [31, 12, 21, 13, 14]);
        assert!(fair.is_empty() && all(&fair, 9).0.is_empty());
    }

    #[test]
    fn late_calls_and_those_of_ended_sessions_are_not_handed_out() {
        let fair = Fair::default();
        let now = Instant::now();
        fair.push(1, event(10), Some(now));
        fair.push(1, event(11), Some(now + Duration::from_secs(3600)));
        fair.push(2, event(20), None);
        fair.push(2, event(21), None);
        assert!(fair.remove_one(2, 20) && !fair.remove_one(2, 20) && !fair.remove_one(1, 21));
        assert_eq!(all(&fair, 1), (vec![21], vec![10]));
        assert_eq!(fair.remove(1).iter().map(|c| c.value).collect::<Vec<_>>(), [11]);
        assert!(fair.is_empty() && fair.remove(1).is_empty());
        fair.push(3, event(30), None);
        assert!(fair.remove_one(3, 30));
        fair.push(3, event(31), None);
        assert_eq!(all(&fair, 9).0, [31]);
    }
}
