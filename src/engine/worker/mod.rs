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
mod patience;
mod pending;
mod poll;
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
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;

use self::core::Core;
use self::fair::SharedFair;
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
use super::request::{COMPLETION_INLINE, Completion};
use super::session::Session;
use crate::limits;
use crate::status::{Error, Result, Status};
use crate::telemetry::{Count, Meter, Stats};

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
        worker.core.lock().bind(&worker, options.spin);
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

    /// A round of progress, or a moment of watching UCX alone; a panic in it, or in a callback of UCX, stops the worker.
    fn round(&self, core: &mut Core, watching: bool) -> Result<bool> {
        let busy = self.guarded(|| if watching { core.watch_fabrics() } else { core.progress(self) })?;
        if core.is_defect() {
            self.poison();
            return Err(defect());
        }
        Ok(busy)
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
