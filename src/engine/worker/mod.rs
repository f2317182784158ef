//! A worker: progress and a completion queue. Submissions come from any thread; one thread at a time makes progress,
//! the engine's own (threaded) or whoever polls (polled), through the same [`Core`].

mod answer;
mod call;
mod channel;
mod connect;
mod core;
mod data;
mod fabric;
mod fair;
mod inbound;
mod issue;
mod loss;
mod mapped;
mod message;
mod pending;
mod rma;
mod round;
mod serve;
mod stream;
mod submit;
mod thread;
mod timer;
mod work;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;

use self::core::Core;
use self::fair::{Queues, SharedFair};
use self::work::Work;
pub(in crate::engine) use self::work::{Local, SHORT, Short};
use super::bell::Bell;
use super::call::Answer;
use super::context::Context;
use super::control::Notice;
use super::handle;
use super::inbox::Inbox;
use super::listener::Listener;
use super::options::{Mode, WorkerOptions};
use super::request::{COMPLETION_EVENT, COMPLETION_INLINE, Completion, Op};
use super::session::Session;
use crate::limits;
use crate::status::{Error, Result, Status};
use crate::telemetry::{Count, Meter, Stats};

/// Rounds of progress between two looks at the clock: a look costs as much as a round.
const CLOCK: u32 = 32;

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const POISONED: u8 = 2;

/// What crosses from any thread to the one that makes progress.
pub(in crate::engine) enum Order {
    /// A checked request.
    Work(Work),
    /// Open this session.
    Connect(Arc<Session>),
    /// Close this session; the completion carries the number.
    Close(Arc<Session>, u64),
    /// Cancel every request with this user data.
    Cancel(u64),
    /// Tell the peer of this session that messages were taken.
    Window(Arc<Session>),
}

/// Progress and a completion queue.
pub struct Worker {
    id: std::sync::OnceLock<u64>,
    context: Arc<Context>,
    mode: Mode,
    spin: Duration,
    core: Mutex<Core>,
    orders: ArrayQueue<Order>,
    inbox: Arc<Inbox<Notice>>,
    delivered: Mutex<VecDeque<Completion>>,
    /// Inbound calls that nobody has taken, of a threaded worker.
    calls: Arc<SharedFair>,
    serves_calls: bool,
    /// Answers to calls, from threads that do not make progress; no more than calls in flight.
    answers: Inbox<Answer>,
    /// Completions that will come or were not taken: counted by who holds the core, without a locked operation, and by
    /// others. The sum counts.
    outstanding: [AtomicI64; 2],
    capacity: u32,
    ready: Bell,
    state: AtomicU8,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    meter: Arc<Meter>,
}

impl Worker {
    /// Opens a worker of `context`; a threaded one starts its thread.
    pub fn open(context: &Arc<Context>, options: &WorkerOptions) -> Result<Arc<Worker>> {
        check(options)?;
        let inbox = Arc::new(Inbox::new()?);
        let ready = Bell::new()?;
        let number = context.number_worker()?;
        let meter = Arc::new(Meter::default());
        let core = Core::new(context.clone(), inbox.clone(), number, meter.clone())?;
        let worker = Arc::new(Worker {
            id: std::sync::OnceLock::new(),
            context: context.clone(),
            mode: options.mode,
            spin: options.spin,
            core: Mutex::new(core),
            orders: ArrayQueue::new(options.submission_capacity as usize),
            answers: Inbox::with_waker(inbox.waker().clone()),
            inbox,
            delivered: Mutex::new(VecDeque::new()),
            calls: Arc::default(),
            serves_calls: options.calls,
            outstanding: Default::default(),
            capacity: options.completion_capacity,
            ready,
            state: AtomicU8::new(OPEN),
            thread: Mutex::new(None),
            meter,
        });
        worker.core.lock().bind(&worker);
        let id = handle::WORKERS.insert(worker.clone());
        let id =
            id.ok_or_else(|| Error::new(Status::LimitReached, "no handle is left for another worker"))?;
        let _ = worker.id.set(id);
        if options.mode == Mode::Threaded
            && let Err(error) = thread::start(&worker)
        {
            handle::WORKERS.remove(id);
            return Err(error);
        }
        context.adopt(&worker);
        Ok(worker)
    }

    /// Its handle.
    pub fn id(&self) -> u64 {
        self.id.get().copied().unwrap_or(0)
    }

    /// The context it was opened in.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Who makes progress.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Its counters.
    pub fn stats(&self) -> Stats {
        self.meter.snapshot()
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(super) fn inbox(&self) -> &Arc<Inbox<Notice>> {
        &self.inbox
    }

    /// Makes progress (polled) or waits for the worker's thread (threaded), and takes completions. `timeout` zero
    /// returns at once, `None` waits for ever or until `wake`. Returns how many were written.
    pub fn poll(&self, timeout: Option<Duration>, out: &mut [Completion]) -> Result<usize> {
        if out.len() > limits::BATCH {
            return Err(Error::new(Status::InvalidArgument, "poll for at most 65,536 completions at a time"));
        }
        match self.mode {
            Mode::Polled => self.poll_core(timeout, out),
            Mode::Threaded => {
                self.meter.add(Count::Polls, 1);
                let taken = self.poll_delivered(timeout, out)?;
                self.account(&out[..taken]);
                Ok(taken)
            }
        }
    }

    fn poll_core(&self, timeout: Option<Duration>, out: &mut [Completion]) -> Result<usize> {
        let mut core = self.core.lock();
        let mut waiting: Option<Option<Instant>> = None;
        let mut idle: Option<Instant> = None;
        let (mut rounds, mut watching) = (0u32, false);
        loop {
            let open = self.state_status().map_err(Error::from);
            match open.and_then(|()| self.round(&mut core, watching)) {
                // Who serves others is not idle, though nothing completes.
                Ok(true) => idle = None,
                Ok(false) => {}
                Err(error) => {
                    // Of a poisoned worker the ends of its requests are left to take.
                    if error.status == Status::Panic {
                        core.fail_everything(self, Status::Panic);
                    }
                    let taken = core.take_completions(self, out);
                    return if taken > 0 { Ok(taken) } else { Err(error) };
                }
            }
            let mut taken = core.take_completions(self, out);
            taken += self.take_calls(&mut core.calls, &mut out[taken..]);
            if taken > 0 || timeout == Some(Duration::ZERO) || out.is_empty() {
                return Ok(taken);
            }
            watching = !watching;
            rounds += 1;
            let clogged = self.spin > Duration::ZERO && core.is_clogged();
            if !clogged && !rounds.is_multiple_of(CLOCK) {
                continue;
            }
            let now = Instant::now();
            let until = *waiting.get_or_insert_with(|| timeout.and_then(|t| now.checked_add(t)));
            if until.is_some_and(|until| now >= until) || self.ready.take_wake() {
                return Ok(0);
            }
            // A peer that takes no more has time: it does not wait for us.
            if clogged || now - *idle.get_or_insert(now) > self.spin {
                core.sleep(self, until.map(|until| until - now))?;
            }
        }
    }

    fn poll_delivered(&self, timeout: Option<Duration>, out: &mut [Completion]) -> Result<usize> {
        let until = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut calls = Queues::Shared(self.calls.clone());
        loop {
            let mut taken = take(&mut self.delivered.lock(), out);
            taken += self.take_calls(&mut calls, &mut out[taken..]);
            if taken > 0 || timeout == Some(Duration::ZERO) || out.is_empty() {
                return Ok(taken);
            }
            if let Err(status) = self.state_status() {
                self.deliver_last();
                let taken = take(&mut self.delivered.lock(), out);
                return if taken > 0 { Ok(taken) } else { Err(status.into()) };
            }
            if self.ready.take_wake() {
                return Ok(0);
            }
            self.ready.arm();
            if !self.delivered.lock().is_empty() || !self.calls.is_empty() {
                continue;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(0);
            }
            self.ready.wait(left)?;
        }
    }

    /// A round of progress, or a moment of watching UCX alone; a panic in it, or in a callback of UCX, stops the worker.
    fn round(&self, core: &mut Core, watching: bool) -> Result<bool> {
        let busy = self.guarded(|| if watching { core.watch_fabrics() } else { core.progress(self) })?;
        if core.is_defect() {
            self.poison();
            return Err(defect());
        }
        Ok(busy)
    }

    /// What the user took no longer counts against the capacity; messages taken are told to their senders.
    fn account(&self, taken: &[Completion]) {
        let mut answers = 0;
        for completion in taken {
            if completion.op == Op::Message as u32 {
                self.message_taken(completion);
            }
            answers += i64::from(completion.flags & COMPLETION_EVENT == 0);
        }
        if answers > 0 {
            self.taken(answers, false);
        }
    }

    fn message_taken(&self, completion: &Completion) {
        let Some(session) = handle::SESSIONS.get(message_session(completion)) else { return };
        if session.message_taken() == limits::MESSAGE_WINDOW / 2 {
            // A full queue only delays the credits until the next message goes the other way.
            let _ = self.hand_over(Order::Window(session.arc()));
        }
    }

    /// Puts completions where `poll` of a threaded worker finds them.
    fn deliver(&self, finished: Vec<Completion>) {
        if finished.is_empty() {
            return;
        }
        self.delivered.lock().extend(finished);
        self.ready.ring();
    }

    /// Ends what waits for a worker that was poisoned, once.
    fn deliver_last(&self) {
        if self.state.load(Ordering::Acquire) == POISONED {
            let mut core = self.core.lock();
            core.fail_everything(self, Status::Panic);
            self.deliver(core.drain_completions());
        }
    }

    /// A descriptor that becomes readable when completions may have come after `arm`; the caller owns it. Of a
    /// threaded worker an eventfd, of a polled one an epoll descriptor (poll it, do not read it).
    pub fn event_fd(&self) -> Result<OwnedFd> {
        self.state_status()?;
        match self.mode {
            Mode::Threaded => self.ready.duplicate(),
            Mode::Polled => self.core.lock().event_fd(),
        }
    }

    /// Asks for a wake-up. `NOT_READY`: completions wait already, drain them first. `OK`: sleep on the descriptor.
    pub fn arm(&self) -> Status {
        if let Err(status) = self.state_status() {
            return status;
        }
        match self.mode {
            Mode::Threaded => {
                self.ready.arm();
                let waiting = !self.delivered.lock().is_empty() || !self.calls.is_empty();
                let quiet = !waiting && !self.ready.take_wake();
                if quiet { Status::Ok } else { Status::NotReady }
            }
            Mode::Polled => {
                let mut core = self.core.lock();
                if core.has_completions() {
                    return Status::NotReady;
                }
                match self.guarded(|| core.arm_for_others(self)) {
                    Ok(Ok(true)) if self.ready.take_wake() => Status::NotReady,
                    Ok(Ok(true)) => Status::Ok,
                    Ok(Ok(false)) => Status::NotReady,
                    Ok(Err(error)) | Err(error) => error.status,
                }
            }
        }
    }

    /// Makes a `poll` that waits, or the next one that would, return; the event descriptor becomes readable.
    pub fn wake(&self) {
        self.meter.add(Count::Wakes, 1);
        self.end_sleep();
    }

    fn end_sleep(&self) {
        self.ready.wake();
        self.inbox.waker().wake();
    }

    /// Ends the worker: its sessions are closed, its requests cancelled, its completions dropped. Blocks until its
    /// thread and UCX have let go of everything.
    pub fn close(&self) -> Result<()> {
        if self.state.swap(CLOSED, Ordering::AcqRel) == CLOSED {
            return Err(Status::StaleHandle.into());
        }
        handle::WORKERS.remove(self.id());
        Listener::close_all(self);
        self.wake();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
        let mut core = self.core.lock();
        let number = core.number;
        core.take_orders(self);
        let shut = self.guarded(|| core.shut(self));
        drop(self.answers.close());
        self.context.forget(self, number);
        shut
    }

    /// Runs a piece of progress; a panic in it poisons the worker and ends its requests.
    fn guarded<T>(&self, body: impl FnOnce() -> T) -> Result<T> {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).map_err(|_| {
            self.poison();
            defect()
        })
    }

    fn poison(&self) {
        let _ = self.state.compare_exchange(OPEN, POISONED, Ordering::AcqRel, Ordering::Acquire);
        tracing::error!(worker = self.id(), "panic contained, worker poisoned");
        // Its thread ends what waits.
        self.end_sleep();
    }

    fn state_status(&self) -> std::result::Result<(), Status> {
        match self.state.load(Ordering::Acquire) {
            OPEN => Ok(()),
            CLOSED => Err(Status::StaleHandle),
            _ => Err(Status::Panic),
        }
    }
}

fn defect() -> Error {
    Error::new(Status::Panic, "the worker met a defect and was stopped: close it")
}

/// The session that a message came by.
fn message_session(completion: &Completion) -> u64 {
    if completion.flags & COMPLETION_INLINE != 0 {
        completion.value
    } else {
        u64::from_le_bytes(std::array::from_fn(|i| completion.data[i]))
    }
}

#[inline]
fn take(queue: &mut VecDeque<Completion>, out: &mut [Completion]) -> usize {
    if queue.is_empty() {
        return 0;
    }
    let count = queue.len().min(out.len());
    for (slot, completion) in out.iter_mut().zip(queue.drain(..count)) {
        *slot = completion;
    }
    count
}

fn check(options: &WorkerOptions) -> Result<()> {
    let bounds = 1..=limits::QUEUE as u32;
    if !bounds.contains(&options.submission_capacity) || !bounds.contains(&options.completion_capacity) {
        return Err(Error::new(Status::InvalidArgument, "capacities lie between 1 and 1,048,576"));
    }
    if options.spin > Duration::from_secs(1) {
        return Err(Error::new(Status::InvalidArgument, "a worker spins for at most a second"));
    }
    Ok(())
}
