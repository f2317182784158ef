//! Where completions go: exactly one for every request that was accepted.

use super::request::{Answer, Completion};
use crate::io::event::Event;
use crate::status::{Error, Result, Status};
use crossbeam_queue::ArrayQueue;
use parking_lot::{Condvar, Mutex};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a waiter looks before it sleeps.
const SPIN: Duration = Duration::from_micros(20);

/// A bounded queue of completions. Any thread may submit to it; one at a time may wait.
#[derive(Debug)]
pub struct Completions {
    queue: ArrayQueue<Completion>,
    /// Requests that were accepted and whose completions were not taken yet: never more than there is room for.
    outstanding: AtomicUsize,
    event: Event,
    /// Looks in a row that found nothing.
    futile: AtomicU32,
}

impl Completions {
    /// A queue for at most `capacity` requests that are not done or whose completions were not taken.
    pub fn new(capacity: usize) -> Result<Arc<Completions>> {
        if !(1..=1 << 20).contains(&capacity) {
            let what = "a queue of completions has room for 1 to 1,048,576";
            return Err(Error::new(Status::InvalidArgument, what));
        }
        let queue = ArrayQueue::new(capacity);
        let (outstanding, futile) = (AtomicUsize::new(0), AtomicU32::new(0));
        Ok(Arc::new(Completions { queue, outstanding, event: Event::new()?, futile }))
    }

    /// Requests that are not done, or whose completions were not taken.
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Acquire)
    }

    /// A completion, if there is one.
    pub fn try_next(&self) -> Option<Completion> {
        let completion = self.queue.pop()?;
        self.outstanding.fetch_sub(1, Ordering::AcqRel);
        Some(completion)
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
            self.event.arm();
            if self.queue.is_empty() {
                self.event.wait(left);
            }
            self.event.disarm();
        }
    }

    /// Looks a short while for a completion: to sleep and be woken costs more than it takes many of them to come. Seldom
    /// when that was of no use lately.
    fn soon(&self) -> bool {
        let futile = self.futile.load(Ordering::Relaxed);
        self.futile.store(futile.wrapping_add(1), Ordering::Relaxed);
        if futile > 2 && !futile.is_multiple_of(16) {
            return false;
        }
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..16 {
                if !self.queue.is_empty() {
                    self.futile.store(0, Ordering::Relaxed);
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
        self.event.arm();
        if self.queue.is_empty() && !stop.load(Ordering::SeqCst) {
            self.event.wait(timeout);
        }
        self.event.disarm();
    }

    /// Wakes who waits for a completion, and ends a [`Completions::wait`].
    pub fn wake(&self) {
        self.event.ring();
    }

    /// A descriptor that becomes readable once a completion comes after [`Completions::arm`]; reading its 8 bytes makes
    /// it unreadable again. Not for use beside [`Completions::next`] or [`Completions::wait`].
    pub fn event_fd(&self) -> Result<OwnedFd> {
        self.event.duplicate()
    }

    /// Arms the descriptor; false if completions wait already.
    pub fn arm(&self) -> bool {
        self.event.arm();
        let empty = self.queue.is_empty();
        if !empty {
            self.event.disarm();
        }
        empty
    }

    /// Takes room for a completion.
    fn reserve(&self) -> bool {
        let capacity = self.queue.capacity();
        let more = |now| (now < capacity).then_some(now + 1);
        self.outstanding.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
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
    Queue(Arc<Completions>, u64),
    Once(Arc<Once>),
    Nobody,
}

/// The duty to answer. Dropping it is an answer too: the request was cancelled, or its task panicked.
#[derive(Debug)]
pub(super) struct Reply(To);

impl Reply {
    /// To a queue, if it has room.
    pub fn queue(queue: &Arc<Completions>, user_data: u64) -> Result<Reply> {
        match queue.reserve() {
            true => Ok(Reply(To::Queue(queue.clone(), user_data))),
            false => Err(Error::new(Status::QueueFull, "the queue of completions is full: take some")),
        }
    }

    /// To somebody who waits.
    pub fn once(once: &Arc<Once>) -> Reply {
        Reply(To::Once(once.clone()))
    }

    /// Answers. The queue that is returned has to be rung, once for many answers.
    pub fn complete(mut self, result: Result<Answer>) -> Option<Arc<Completions>> {
        self.send(result)
    }

    /// The request was not accepted, so there is no completion.
    pub fn withdraw(mut self) {
        if let To::Queue(queue, _) = std::mem::replace(&mut self.0, To::Nobody) {
            queue.outstanding.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn send(&mut self, result: Result<Answer>) -> Option<Arc<Completions>> {
        match std::mem::replace(&mut self.0, To::Nobody) {
            To::Queue(queue, user_data) => {
                // There is room: it was taken when the request was accepted.
                let _ = queue.queue.push(Completion { user_data, result });
                return Some(queue);
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
        if let Some(queue) = self.send(Err(error)) {
            queue.wake();
        }
    }
}
