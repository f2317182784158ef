//! A few threads for what blocks: positioned I/O without a ring, and calls such as opening and removing files.
#![allow(
    unsafe_code,
    reason = "threads move bytes to memory that their operation owns until they have answered"
)]

use super::event::Event;
use super::table::{Kind, Op};
use crate::status::{Error, Result};
use crossbeam_queue::ArrayQueue;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Threads that are started when there is work for them, and end with the disk.
#[derive(Debug)]
pub struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    most: usize,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    answers: ArrayQueue<(u32, i64)>,
    event: Arc<Event>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} jobs)", self.jobs.len())
    }
}

struct Job {
    token: u32,
    work: Box<dyn FnOnce() -> i64 + Send>,
}

/// A piece of an operation's memory, on its way to the thread that moves bytes to or from it.
struct Piece {
    kind: Kind,
    fd: RawFd,
    at: *mut u8,
    len: usize,
    offset: i64,
}

// SAFETY: the operation owns memory and file until this piece's answer was taken; nobody else touches them before.
unsafe impl Send for Piece {}

impl Piece {
    fn run(self) -> i64 {
        let moved = match self.kind {
            // SAFETY: `len` bytes from `at` on are the operation's own.
            Kind::Read => unsafe { libc::pread64(self.fd, self.at.cast(), self.len, self.offset) },
            // SAFETY: as above.
            Kind::Write => unsafe { libc::pwrite64(self.fd, self.at.cast(), self.len, self.offset) },
            // SAFETY: a system call without memory.
            Kind::Sync => unsafe { libc::fdatasync(self.fd) as isize },
            // SAFETY: as above.
            Kind::SyncAll => unsafe { libc::fsync(self.fd) as isize },
            Kind::Call => 0,
        };
        match moved {
            0.. => moved as i64,
            _ => -i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

impl Threads {
    /// At most `most` threads; at most `limit` jobs at a time, which the caller sees to.
    pub fn new(most: usize, limit: usize, event: &Arc<Event>) -> Threads {
        let shared = Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            answers: ArrayQueue::new(limit.max(1)),
            event: event.clone(),
        };
        Threads { shared: Arc::new(shared), handles: Vec::new(), most: most.max(1) }
    }

    /// Gives an operation, or what is left of it, to a thread.
    pub fn push(&mut self, token: u32, op: &Op) -> Result<()> {
        let piece = Piece {
            kind: op.kind,
            fd: op.file.as_ref().map_or(-1, |file| file.raw()),
            at: op
                .buffer
                .as_ref()
                .map_or(std::ptr::null_mut(), |buffer| buffer.as_ptr().wrapping_add(op.done)),
            len: op.len - op.done,
            offset: (op.offset + op.done as u64) as i64,
        };
        self.run(token, Box::new(move || piece.run()))
    }

    /// Gives a closure to a thread.
    pub fn run(&mut self, token: u32, work: Box<dyn FnOnce() -> i64 + Send>) -> Result<()> {
        let mut queue = self.shared.queue.lock();
        if queue.jobs.len() >= queue.idle && self.handles.len() < self.most {
            let shared = self.shared.clone();
            let started = std::thread::Builder::new().name("rde-io".into()).spawn(move || shared.serve());
            match started {
                Ok(handle) => self.handles.push(handle),
                // The threads that there are do it later.
                Err(error) if self.handles.is_empty() => return Err(Error::os("starting a thread", &error)),
                Err(_) => {}
            }
        }
        queue.jobs.push_back(Job { token, work });
        drop(queue);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Takes the answers that there are: token, and bytes or negative errno.
    pub fn collect(&self, answers: &mut Vec<(u32, i64)>) {
        while let Some(answer) = self.shared.answers.pop() {
            answers.push(answer);
        }
    }
}

impl Shared {
    fn serve(&self) {
        loop {
            let mut queue = self.queue.lock();
            let job = loop {
                match queue.jobs.pop_front() {
                    Some(job) => break job,
                    None if queue.closed => return,
                    None => {
                        queue.idle += 1;
                        self.work.wait(&mut queue);
                        queue.idle -= 1;
                    }
                }
            };
            drop(queue);
            // A panicking call leaves its result empty, which its caller reports.
            let answer = catch_unwind(AssertUnwindSafe(job.work)).unwrap_or(-i64::from(libc::EIO));
            // There is room: operations are bounded by the same number.
            let _ = self.answers.push((job.token, answer));
            self.event.ring();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.work.notify_all();
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
    }
}
