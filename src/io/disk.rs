//! One thread's disk: starts operations, and hands out what they end with when it is turned.

use super::buffer::{Buffer, Pool};
use super::event::Event;
use super::file::{File, FileSlots};
use super::operation::{Ended, Operation};
use super::ring::Ring;
use super::table::{Kind, Op, Table};
use super::threads::Threads;
use crate::status::{Error, Result, Status};
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// io_uring if the kernel has it and allows it, otherwise threads.
    Auto,
    /// io_uring, or an error.
    Ring,
    /// Positioned reads and writes on threads.
    Threads,
}

/// What a disk came to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring.
    Ring {
        /// Whether its buffers are registered: the limit on locked memory may forbid it.
        fixed_buffers: bool,
        /// Whether its files are.
        fixed_files: bool,
    },
    /// Positioned reads and writes on threads.
    Threads,
}

/// What a disk is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// How bytes are moved.
    pub choice: Choice,
    /// Operations that the kernel, or threads, have at a time; more wait in the disk.
    pub depth: u32,
    /// Operations that may be started and not over; more are `QUEUE_FULL`.
    pub operations: usize,
    /// Threads for positioned I/O. With a ring one suffices, for calls that block.
    pub threads: usize,
    /// Files that may be registered with the ring; others work too.
    pub files: u32,
    /// Buffers of the pool.
    pub buffers: usize,
    /// Bytes of each, rounded up to 4 KiB.
    pub buffer_size: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            choice: Choice::Auto,
            depth: 256,
            operations: 1 << 16,
            threads: 8,
            files: 256,
            buffers: 256,
            buffer_size: 4096,
        }
    }
}

/// A disk. It belongs to the thread that opened it.
pub struct Disk {
    // The ring goes before the memory that it knows.
    ring: RefCell<Option<Ring>>,
    threads: RefCell<Threads>,
    table: RefCell<Table>,
    backlog: RefCell<VecDeque<u32>>,
    in_flight: Cell<usize>,
    depth: usize,
    files: Rc<RefCell<FileSlots>>,
    event: Arc<Event>,
    pool: Pool,
    scratch: Cell<Vec<(u32, i64)>>,
}

impl Disk {
    /// Opens a disk for this thread.
    pub fn open(options: &Options) -> Result<Rc<Disk>> {
        let event = Arc::new(Event::new()?);
        let pool = Pool::new(options.buffers, options.buffer_size)
            .map_err(|error| Error::os("mapping a pool of buffers", &error))?;
        let depth = options.depth.clamp(1, 4096);
        let ring = match options.choice {
            Choice::Threads => None,
            _ => match Ring::open(depth, options.files.min(1 << 15), &pool, &event) {
                Ok(ring) => Some(ring),
                Err(error) if options.choice == Choice::Ring => return Err(Error::os("io_uring", &error)),
                Err(_) => None,
            },
        };
        let mut files = FileSlots::default();
        files.free = (0..ring.as_ref().map_or(0, Ring::files)).rev().collect();
        // Calls that block are few; more threads would only wait for the same locks of the file system.
        let threads = if ring.is_some() { options.threads.min(2) } else { options.threads };
        Ok(Rc::new(Disk {
            ring: RefCell::new(ring),
            threads: RefCell::new(Threads::new(threads, options.operations, &event)),
            table: RefCell::new(Table::new(options.operations)),
            backlog: RefCell::default(),
            in_flight: Cell::new(0),
            depth: depth as usize,
            files: Rc::new(RefCell::new(files)),
            event,
            pool,
            scratch: Cell::default(),
        }))
    }

    /// What it came to use.
    pub fn backend(&self) -> Backend {
        match &*self.ring.borrow() {
            Some(ring) => {
                Backend::Ring { fixed_buffers: ring.fixed_buffers(), fixed_files: ring.files() > 0 }
            }
            None => Backend::Threads,
        }
    }

    /// What wakes it from a turn that waits.
    pub fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// Its pool: memory that the ring knows already.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Operations that are not over, or whose end nobody has taken.
    pub fn operations(&self) -> usize {
        self.table.borrow().len()
    }

    /// Whether neither the kernel nor a thread has anything to do.
    pub fn is_idle(&self) -> bool {
        self.in_flight.get() == 0
    }

    /// Takes a file over. `direct` says that it was opened with `O_DIRECT`.
    pub fn file(&self, fd: OwnedFd, direct: bool) -> Rc<File> {
        use std::os::fd::AsRawFd;
        let mut slot = None;
        if let Some(ring) = &*self.ring.borrow() {
            let mut files = self.files.borrow_mut();
            self.empty_released(ring, &mut files);
            slot = files.free.pop();
            if let Some(place) = slot
                && !ring.place(place, fd.as_raw_fd())
            {
                files.free.push(place);
                slot = None;
            }
        }
        Rc::new(File::new(fd, direct, slot, self.files.clone()))
    }

    fn empty_released(&self, ring: &Ring, files: &mut FileSlots) {
        while let Some(slot) = files.released.pop() {
            // A place that cannot be emptied is not used again.
            if ring.place(slot, -1) {
                files.free.push(slot);
            }
        }
    }

    /// Reads `len` bytes from `offset` on into `buffer`, which has room for them.
    pub fn read(
        self: &Rc<Disk>,
        file: &Rc<File>,
        offset: u64,
        buffer: Buffer,
        len: usize,
    ) -> Result<Operation> {
        self.start(Op::new(Kind::Read, Some(file.clone()), Some(buffer), offset, len))
    }

    /// Writes the first `len` bytes of `buffer` from `offset` on: all of them, or an error.
    pub fn write(
        self: &Rc<Disk>,
        file: &Rc<File>,
        offset: u64,
        buffer: Buffer,
        len: usize,
    ) -> Result<Operation> {
        self.start(Op::new(Kind::Write, Some(file.clone()), Some(buffer), offset, len))
    }

    /// Makes what was written to a file safe (`fdatasync`). Writes that have not ended are not part of it.
    pub fn sync(self: &Rc<Disk>, file: &Rc<File>) -> Result<Operation> {
        self.start(Op::new(Kind::Sync, Some(file.clone()), None, 0, 0))
    }

    /// Makes everything about a file safe (`fsync`): for a directory, the names in it.
    pub fn sync_all(self: &Rc<Disk>, file: &Rc<File>) -> Result<Operation> {
        self.start(Op::new(Kind::SyncAll, Some(file.clone()), None, 0, 0))
    }

    /// Runs a closure that may block on another thread.
    pub async fn call<T: Send + 'static>(
        self: &Rc<Disk>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let place = Arc::new(Mutex::new(None));
        let result = place.clone();
        let token = self.insert(Op::new(Kind::Call, None, None, 0, 0))?;
        let operation = Operation::new(self.clone(), token);
        let run = move || {
            *place.lock() = Some(work());
            0
        };
        let started = self.threads.borrow_mut().run(token, Box::new(run));
        if let Err(error) = started {
            self.fail(token, std::io::ErrorKind::OutOfMemory.into());
            return Err(error);
        }
        self.in_flight.set(self.in_flight.get() + 1);
        operation.await;
        let result = result.lock().take();
        result.ok_or_else(|| Error::new(Status::Panic, "a call of the disk's threads panicked"))
    }

    fn start(self: &Rc<Disk>, op: Op) -> Result<Operation> {
        if op.buffer.as_ref().is_some_and(|buffer| op.len > buffer.len()) {
            return Err(Error::new(Status::OutOfRange, "an operation is longer than its buffer"));
        }
        let token = self.insert(op)?;
        if self.in_flight.get() < self.depth {
            self.issue(token);
        } else {
            self.backlog.borrow_mut().push_back(token);
        }
        Ok(Operation::new(self.clone(), token))
    }

    fn insert(&self, op: Op) -> Result<u32> {
        let full = |_| Error::new(Status::QueueFull, "too many operations of the disk are under way");
        self.table.borrow_mut().insert(op).map_err(full)
    }

    /// Hands an operation to the kernel or a thread. One that cannot be handed over ends with the reason.
    fn issue(&self, token: u32) {
        let mut table = self.table.borrow_mut();
        let Some(op) = table.get(token) else { return };
        let issued = match &mut *self.ring.borrow_mut() {
            Some(ring) => ring.push(token, op, &self.pool),
            None => {
                let pushed = self.threads.borrow_mut().push(token, op);
                pushed.map_err(|_| std::io::ErrorKind::OutOfMemory.into())
            }
        };
        drop(table);
        match issued {
            Ok(()) => self.in_flight.set(self.in_flight.get() + 1),
            Err(error) => self.fail(token, error),
        }
    }

    /// Ends an operation that neither the kernel nor a thread has.
    fn fail(&self, token: u32, error: std::io::Error) {
        let wakers = self.table.borrow_mut().fail(token, error);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Submits what was started, takes what has ended and wakes who asked for it; returns how many ended. With `wait` it
    /// sleeps until something ends, the event rings, or that much time has passed.
    pub fn turn(&self, wait: Option<Duration>) -> Result<usize> {
        let mut answers = self.scratch.take();
        answers.clear();
        let armed = wait.is_some();
        if armed {
            self.event.arm();
        }
        self.threads.borrow().collect(&mut answers);
        let wait = wait.filter(|_| answers.is_empty());
        let turned = match (&mut *self.ring.borrow_mut(), wait) {
            (Some(ring), wait) => ring.turn(wait, &mut answers),
            (None, Some(timeout)) => {
                self.event.wait((timeout < Duration::MAX).then_some(timeout));
                Ok(())
            }
            (None, None) => Ok(()),
        };
        if armed {
            self.event.disarm();
        }
        self.threads.borrow().collect(&mut answers);
        let mut wakers = Vec::new();
        for (token, answer) in answers.drain(..) {
            self.in_flight.set(self.in_flight.get() - 1);
            self.answer(token, answer, &mut wakers);
        }
        self.scratch.set(answers);
        while self.in_flight.get() < self.depth {
            let Some(token) = self.backlog.borrow_mut().pop_front() else { break };
            self.issue(token);
        }
        let ended = wakers.len();
        wakers.into_iter().for_each(Waker::wake);
        turned.map(|()| ended).map_err(|error| Error::os("io_uring_enter", &error))
    }

    fn answer(&self, token: u32, answer: i64, wakers: &mut Vec<Waker>) {
        let again = self.table.borrow_mut().answer(token, answer, wakers);
        if again {
            self.issue(token);
        }
    }

    pub(super) fn take_ended(&self, token: u32, waker: &Waker) -> Option<Ended> {
        self.table.borrow_mut().take(token, waker)
    }

    pub(super) fn abandon(&self, token: u32) {
        // Dropped after the table is free again: files and buffers have drops of their own.
        let over = self.table.borrow_mut().abandon(token);
        drop(over);
    }

    /// Turns until a future is done: for programs and tests that have nothing else to do.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return Ok(done);
            }
            self.turn(Some(Duration::from_millis(100)))?;
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is still under way was abandoned, and the kernel may be writing to its memory.
        self.backlog.borrow_mut().clear();
        while self.in_flight.get() > 0 {
            if self.turn(Some(Duration::from_millis(100))).is_err() {
                // The ring is broken, and nobody can say when the memory is free: it is never freed.
                std::mem::forget(std::mem::take(&mut *self.table.borrow_mut()));
                std::mem::forget(self.pool.clone());
                return;
            }
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({:?}, {} in flight)", self.backend(), self.in_flight.get())
    }
}
