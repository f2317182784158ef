//! Where completions go: exactly one for every request that was accepted.

use super::request::{Answer, Completion};
use crate::io::event::Event;
use crate::io::processor::Processor;
use crate::status::{Error, Result, Status};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a waiter looks before it sleeps: about as long as a disk takes for a page.
const SPIN: Duration = Duration::from_micros(200);
/// Times in a row that it looks in vain before it only does so now and then.
const PATIENCE: u32 = 16;

/// Bytes that are allocated for a value before it is known, at most.
const VALUE_ROOM: usize = 4096;

/// A bounded queue of completions. Any thread may submit to it; one at a time may wait.
#[derive(Debug)]
pub struct Completions(Arc<Landing>);

/// Where completions land. Replies on their way hold it too, and a completion brings that hold back: the count of its
/// holders changes on the submitters' side alone, and does not wander between processors.
#[derive(Debug)]
pub(super) struct Landing {
    capacity: usize,
    /// Completions that landed and were not moved to `taken`.
    landed: Apart<Mutex<Vec<Landed>>>,
    /// How many, and the processor that the last ones came from: read without the lock.
    there: Apart<There>,
    /// Completions in the order in which they are handed out.
    taken: Apart<Mutex<VecDeque<Landed>>>,
    /// Requests that were accepted and whose completions were not taken yet: never more than there is room for.
    outstanding: AtomicUsize,
    event: Apart<Event>,
    /// Looks in a row that found nothing.
    futile: AtomicU32,
    /// Bytes of the longest value that was read of late.
    value_room: AtomicUsize,
    /// Nobody takes completions any more.
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct There {
    count: AtomicUsize,
    processor: Processor,
}

/// A completion on its way to its queue.
pub(super) type Landed = (Arc<Landing>, Completion);

/// Keeps what one thread writes out of the cache lines that another one uses.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

impl Completions {
    /// A queue for at most `capacity` requests that are not done or whose completions were not taken.
    pub fn new(capacity: usize) -> Result<Arc<Completions>> {
        if !(1..=1 << 20).contains(&capacity) {
            let what = "a queue of completions has room for 1 to 1,048,576";
            return Err(Error::new(Status::InvalidArgument, what));
        }
        let landing = Landing {
            capacity,
            landed: Apart(Mutex::default()),
            there: Apart(There { count: AtomicUsize::new(0), processor: Processor::unknown() }),
            taken: Apart(Mutex::default()),
            outstanding: AtomicUsize::new(0),
            event: Apart(Event::new()?),
            futile: AtomicU32::new(0),
            value_room: AtomicUsize::new(0),
            abandoned: AtomicBool::new(false),
        };
        Ok(Arc::new(Completions(Arc::new(landing))))
    }

    /// Requests that are not done, or whose completions were not taken.
    pub fn outstanding(&self) -> usize {
        self.0.outstanding.load(Ordering::Acquire)
    }

    /// A completion, if there is one.
    pub fn try_next(&self) -> Option<Completion> {
        let mut taken = self.0.taken.0.lock();
        if taken.is_empty() && self.0.there.0.count.load(Ordering::Acquire) > 0 {
            let mut landed = self.0.landed.0.lock();
            taken.extend(landed.drain(..));
            self.0.there.0.count.store(0, Ordering::Release);
        }
        let (landing, completion) = taken.pop_front()?;
        drop(taken);
        landing.outstanding.fetch_sub(1, Ordering::AcqRel);
        if let Ok(Answer::Found(Some(found))) = &completion.result {
            let (len, known) =
                (found.value.len().min(VALUE_ROOM), landing.value_room.load(Ordering::Relaxed));
            // Longer ones count at once, shorter ones when there are many of them.
            let next = if len >= known { len } else { known - (known - len).div_ceil(64) };
            if next != known {
                landing.value_room.store(next, Ordering::Relaxed);
            }
        }
        Some(completion)
    }

    /// How much memory the value of the next read will most likely need, in bytes.
    pub(super) fn value_room(&self) -> usize {
        self.0.value_room.load(Ordering::Relaxed)
    }

    /// The next completion; None once the time is up (`None` waits for ever).
    pub fn next(&self, timeout: Option<Duration>) -> Option<Completion> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(completion) = self.try_next() {
                return Some(completion);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            if self.soon() {
                continue;
            }
            self.wait(left, &NEVER);
        }
    }

    /// Looks a short while for a completion: to sleep and be woken costs more than it takes many of them to come. Seldom
    /// when that was of no use lately.
    fn soon(&self) -> bool {
        let futile = self.0.futile.load(Ordering::Relaxed);
        self.0.futile.store(futile.wrapping_add(1), Ordering::Relaxed);
        if futile >= PATIENCE && !futile.is_multiple_of(16) {
            return false;
        }
        let start = Instant::now();
        // Who answers cannot do so where this thread looks.
        while start.elapsed() < SPIN && !self.0.there.0.processor.is_here() {
            for _ in 0..16 {
                if !self.is_empty() {
                    self.0.futile.store(0, Ordering::Relaxed);
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        false
    }

    /// Sleeps until there is a completion, `stop` is set and [`Completions::wake`] was called, or the time is up; may
    /// end early.
    pub fn wait(&self, timeout: Option<Duration>, stop: &AtomicBool) {
        let event = &self.0.event.0;
        event.arm();
        if self.is_empty() && !stop.load(Ordering::SeqCst) {
            event.wait(timeout);
        }
        event.disarm();
    }

    /// Wakes who waits for a completion, and ends a [`Completions::wait`].
    pub fn wake(&self) {
        self.0.event.0.ring();
    }

    /// A descriptor that becomes readable once a completion comes after [`Completions::arm`]; reading its 8 bytes makes
    /// it unreadable again. Not for use beside [`Completions::next`] or [`Completions::wait`].
    pub fn event_fd(&self) -> Result<OwnedFd> {
        self.0.event.0.duplicate()
    }

    /// Arms the descriptor; false if completions wait already.
    pub fn arm(&self) -> bool {
        self.0.event.0.arm();
        let empty = self.is_empty();
        if !empty {
            self.0.event.0.disarm();
        }
        empty
    }

    fn is_empty(&self) -> bool {
        self.0.there.0.count.load(Ordering::Acquire) == 0 && self.0.taken.0.lock().is_empty()
    }
}

/// What never stops a wait.
static NEVER: AtomicBool = AtomicBool::new(false);

impl Drop for Completions {
    fn drop(&mut self) {
        // What has landed holds the landing: it goes now, and what comes later does not stay.
        self.0.abandoned.store(true, Ordering::SeqCst);
        let landed = std::mem::take(&mut *self.0.landed.0.lock());
        let taken = std::mem::take(&mut *self.0.taken.0.lock());
        drop((landed, taken));
    }
}

impl Landing {
    /// Takes room for a completion.
    fn reserve(&self) -> bool {
        let capacity = self.capacity;
        let more = |now| (now < capacity).then_some(now + 1);
        self.outstanding.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn push(&self, completions: impl Iterator<Item = Landed>) {
        let mut landed = self.landed.0.lock();
        // There is room: it was taken when the requests were accepted.
        landed.extend(completions);
        if self.abandoned.load(Ordering::SeqCst) {
            let gone = std::mem::take(&mut *landed);
            drop(landed);
            drop(gone);
            return;
        }
        self.there.0.processor.note();
        self.there.0.count.store(landed.len(), Ordering::Release);
    }

    /// Hands out completions, each to its queue, and wakes who waits for them.
    pub fn hand_out(completions: &mut Vec<Landed>) {
        let mut rest = completions.drain(..).peekable();
        while let Some(first) = rest.next() {
            let landing = first.0.clone();
            let same = std::iter::from_fn(|| rest.next_if(|next| Arc::ptr_eq(&next.0, &landing)));
            landing.push(std::iter::once(first).chain(same));
            landing.event.0.ring();
        }
    }
}

/// One answer that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Once {
    answer: Mutex<Option<Result<Answer>>>,
    there: Condvar,
}

impl Once {
    /// Waits for it.
    pub fn wait(&self) -> Result<Answer> {
        let mut answer = self.answer.lock();
        loop {
            match answer.take() {
                Some(answer) => return answer,
                None => self.there.wait(&mut answer),
            }
        }
    }
}

#[derive(Debug)]
enum To {
    Queue(Arc<Landing>, u64),
    Once(Arc<Once>),
    Nobody,
}

/// The duty to answer. Dropping it is an answer too: the request was cancelled, or its task panicked.
#[derive(Debug)]
pub(super) struct Reply(To);

impl Reply {
    /// To a queue, if it has room.
    pub fn queue(queue: &Arc<Completions>, user_data: u64) -> Result<Reply> {
        match queue.0.reserve() {
            true => Ok(Reply(To::Queue(queue.0.clone(), user_data))),
            false => Err(Error::new(Status::QueueFull, "the queue of completions is full: take some")),
        }
    }

    /// To somebody who waits.
    pub fn once(once: &Arc<Once>) -> Reply {
        Reply(To::Once(once.clone()))
    }

    /// Answers. What is returned has to be handed out, together with other answers.
    pub fn complete(mut self, result: Result<Answer>) -> Option<Landed> {
        self.send(result)
    }

    /// The request was not accepted, so there is no completion.
    pub fn withdraw(mut self) {
        if let To::Queue(queue, _) = std::mem::replace(&mut self.0, To::Nobody) {
            queue.outstanding.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn send(&mut self, result: Result<Answer>) -> Option<Landed> {
        match std::mem::replace(&mut self.0, To::Nobody) {
            To::Queue(queue, user_data) => {
                return Some((queue, Completion { user_data, result }));
            }
            To::Once(once) => {
                *once.answer.lock() = Some(result);
                once.there.notify_one();
            }
            To::Nobody => {}
        }
        None
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if matches!(self.0, To::Nobody) {
            return;
        }
        let error = match std::thread::panicking() {
            true => Error::new(Status::Panic, "the request's task panicked; please report it"),
            false => Error::new(Status::Canceled, "the engine closed before the request was done"),
        };
        if let Some(landed) = self.send(Err(error)) {
            Landing::hand_out(&mut vec![landed]);
        }
    }
}
