//! An engine as other languages use it: requests say where their answer goes, and end in one completion of numbers.
//!
//! Answers are copied to where they belong by whoever takes the completion, so that memory is touched only then.

mod answer;

use super::engine::{Answer, Completions, Engine, EngineOptions, Handle, Request, Stats};
use crate::status::{Error, Result, Status};
use answer::settle;
use parking_lot::Mutex;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use answer::{Done, ENTRY, MORE};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The value of a key; it goes to the memory as it is.
    Read,
    /// Entries: one after the other, each behind a head of [`ENTRY`] bytes.
    Entries,
    /// A number, or nothing.
    Count,
}

/// Memory that an answer goes to.
pub trait Memory: Send {
    /// Its length in bytes.
    fn room(&self) -> usize;

    /// Copies `bytes` to `at`. They fit.
    fn put(&self, at: usize, bytes: &[u8]) -> Result<()>;
}

/// A request and where its answer goes.
pub struct Ask {
    /// The partition.
    pub partition: Handle,
    /// What is asked.
    pub request: Request,
    /// What comes back.
    pub op: Op,
    /// Where to; None for answers without bytes.
    pub memory: Option<Box<dyn Memory>>,
    /// Returned with the completion.
    pub user_data: u64,
    /// Returned with the completion.
    pub kind: u16,
}

/// What a request leaves behind until its completion is taken.
struct Pending {
    op: Op,
    memory: Option<Box<dyn Memory>>,
    user_data: u64,
    kind: u16,
}

#[derive(Default)]
struct Slots {
    pending: Vec<Option<Pending>>,
    free: Vec<usize>,
}

/// An open store with a queue of completions.
pub struct Port {
    engine: Engine,
    completions: Arc<Completions>,
    slots: Mutex<Slots>,
    polling: Mutex<()>,
    closed: AtomicBool,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Port {
    /// Opens a store, with room for `capacity` requests whose completions were not taken. Blocks.
    pub fn open(options: EngineOptions, capacity: usize) -> Result<Port> {
        let completions = Completions::new(capacity)?;
        let engine = Engine::open(options)?;
        Ok(Port {
            engine,
            completions,
            slots: Mutex::default(),
            polling: Mutex::new(()),
            closed: AtomicBool::new(false),
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Submits a request; one completion follows. On an error there is none. Does not block.
    pub fn submit(&self, ask: Ask) -> Result<()> {
        let Ask { partition, request, op, memory, user_data, kind } = ask;
        let slot = {
            let mut slots = self.slots.lock();
            let pending = Some(Pending { op, memory, user_data, kind });
            match slots.free.pop() {
                Some(slot) => {
                    slots.pending[slot] = pending;
                    slot
                }
                None => {
                    slots.pending.push(pending);
                    slots.pending.len() - 1
                }
            }
        };
        let submitted = self.engine.submit(partition, request, &self.completions, slot as u64);
        if submitted.is_err() {
            self.take(slot);
        }
        submitted
    }

    fn take(&self, slot: usize) -> Option<Pending> {
        let mut slots = self.slots.lock();
        let pending = slots.pending.get_mut(slot)?.take();
        slots.free.push(slot);
        pending
    }

    /// Does a request and waits for its end. Blocks.
    pub fn call(&self, ask: Ask) -> Result<Done> {
        let answer = self.engine.call(ask.partition, ask.request)?;
        let mut done = settle(Ok(answer), ask.op, ask.memory.as_deref());
        (done.user_data, done.kind) = (ask.user_data, ask.kind);
        Ok(done)
    }

    /// Takes completions, and waits for the first one until the time is up (None: for ever) or the store is closed.
    /// One thread at a time. Returns how many there were.
    pub fn poll(&self, timeout: Option<Duration>, most: usize, mut take: impl FnMut(Done)) -> Result<usize> {
        let Some(_turn) = self.polling.try_lock() else {
            return Err(Error::new(Status::WrongState, "another thread is polling this store"));
        };
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut count = 0;
        while count < most {
            if let Some(completion) = self.completions.try_next() {
                if let Some(pending) = self.take(completion.user_data as usize) {
                    let mut done = settle(completion.result, pending.op, pending.memory.as_deref());
                    (done.user_data, done.kind) = (pending.user_data, pending.kind);
                    take(done);
                    count += 1;
                }
                continue;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let over =
                timeout.is_some_and(|timeout| timeout.is_zero()) || left.is_some_and(|left| left.is_zero());
            if count > 0 || over {
                break;
            }
            if self.closed.load(Ordering::SeqCst) {
                return Err(Error::new(Status::StaleHandle, "the store was closed"));
            }
            self.completions.wait(left, &self.closed);
        }
        Ok(count)
    }

    /// A descriptor that becomes readable when a completion comes after [`Port::arm`].
    pub fn event_fd(&self) -> Result<OwnedFd> {
        self.completions.event_fd()
    }

    /// Arms the descriptor; false if completions wait already.
    pub fn arm(&self) -> bool {
        self.completions.arm()
    }

    /// Closes the engine: what runs is finished, what waits is cancelled. Completions that were not taken are lost.
    /// Blocks.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.engine.close();
        self.completions.wake();
        let mut slots = self.slots.lock();
        *slots = Slots::default();
    }

    /// Names of partitions, or of a partition's archives, each on a line. Blocks.
    pub fn names(&self, archives_of: Option<Handle>) -> Result<String> {
        let names: Vec<String> = match archives_of {
            None => self.engine.partitions()?.iter().map(ToString::to_string).collect(),
            Some(partition) => match self.engine.call(partition, Request::Archives)? {
                Answer::Names(names) => names,
                _ => Vec::new(),
            },
        };
        Ok(lines(names))
    }

    /// Names of a partition's branches, each on a line. Blocks.
    pub fn branches(&self, partition: Handle) -> Result<String> {
        self.engine.branches(partition).map(lines)
    }
}

fn lines(names: Vec<String>) -> String {
    names.into_iter().map(|name| name + "\n").collect()
}
