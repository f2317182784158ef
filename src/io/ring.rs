//! The back-end over io_uring: one ring, registered files and buffers.
#![allow(
    unsafe_code,
    reason = "requests name memory that their operation owns until the kernel has answered"
)]

use super::buffer::Pool;
use super::event::Event;
use super::file::File;
use super::table::{Kind, Op};
use io_uring::types::{Fd, Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Longest piece of memory that the kernel registers at once, in bytes.
const REGION: usize = 1 << 30;
/// Token of the poll of the event.
const EVENT: u64 = u64::MAX;

/// A ring that one thread uses.
pub struct Ring {
    ring: IoUring,
    event: Arc<Event>,
    event_polled: bool,
    /// Bytes of registered pieces of the pool; None when the kernel refused to register it.
    piece: Option<usize>,
    /// Places in the table of registered files.
    files: u32,
}

impl Ring {
    /// A ring for `depth` operations at a time. The pool is registered if the kernel allows (it counts as locked
    /// memory), and `files` places for files.
    pub fn open(depth: u32, files: u32, pool: &Pool, event: &Arc<Event>) -> io::Result<Ring> {
        let entries = depth.saturating_add(8);
        let mut modern = IoUring::builder();
        modern.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().dontfork();
        // Kernels before 6.1 know neither flag.
        let ring = modern.build(entries).or_else(|_| IoUring::builder().dontfork().build(entries))?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let (start, len) = pool.memory();
        let slot = len / pool.capacity().max(1);
        let piece = REGION / slot.max(1) * slot;
        let pieces: Vec<libc::iovec> = (0..len)
            .step_by(piece.max(1))
            .map(|at| libc::iovec { iov_base: start.wrapping_add(at).cast(), iov_len: piece.min(len - at) })
            .collect();
        // SAFETY: the pool's mapping outlives the ring: the disk drops its ring first.
        let registered = !pieces.is_empty() && unsafe { ring.submitter().register_buffers(&pieces) }.is_ok();
        let tabled = files > 0 && ring.submitter().register_files_sparse(files).is_ok();
        Ok(Ring {
            ring,
            event: event.clone(),
            event_polled: false,
            piece: registered.then_some(piece),
            files: if tabled { files } else { 0 },
        })
    }

    /// Whether the pool is registered.
    pub fn fixed_buffers(&self) -> bool {
        self.piece.is_some()
    }

    /// Places for registered files.
    pub fn files(&self) -> u32 {
        self.files
    }

    /// Puts a file in a place of the table, or empties it with -1.
    pub fn place(&self, slot: u32, fd: i32) -> bool {
        self.ring.submitter().register_files_update(slot, &[fd]).is_ok()
    }

    /// Hands an operation, or what is left of it, to the kernel.
    pub fn push(&mut self, token: u32, op: &Op, pool: &Pool) -> io::Result<()> {
        let Some(file) = &op.file else { return Err(io::ErrorKind::InvalidInput.into()) };
        let entry = self.entry(op, file, pool)?.user_data(u64::from(token));
        self.queue(&entry)
    }

    fn entry(&self, op: &Op, file: &Rc<File>, pool: &Pool) -> io::Result<squeue::Entry> {
        // A request's length is 32 bits; what is left over is asked for when this much has moved.
        let len = (op.len - op.done).min(1 << 30) as u32;
        let offset = op.offset + op.done as u64;
        let memory = op.buffer.as_ref().map(|buffer| {
            let fixed = buffer.offset_in(pool).zip(self.piece).map(|(at, piece)| (at / piece) as u16);
            (buffer.as_ptr().wrapping_add(op.done), fixed)
        });
        // A registered file and a plain one are of different types.
        macro_rules! on {
            ($build:expr) => {
                match file.slot() {
                    Some(slot) => $build(Fixed(slot)),
                    None => $build(Fd(file.raw())),
                }
            };
        }
        Ok(match (op.kind, memory) {
            (Kind::Read, Some((at, Some(piece)))) => {
                on!(|file| opcode::ReadFixed::new(file, at, len, piece).offset(offset).build())
            }
            (Kind::Read, Some((at, None))) => {
                on!(|file| opcode::Read::new(file, at, len).offset(offset).build())
            }
            (Kind::Write, Some((at, Some(piece)))) => {
                on!(|file| opcode::WriteFixed::new(file, at, len, piece).offset(offset).build())
            }
            (Kind::Write, Some((at, None))) => {
                on!(|file| opcode::Write::new(file, at, len).offset(offset).build())
            }
            (Kind::Sync, _) => on!(|file| opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build()),
            (Kind::SyncAll, _) => on!(|file| opcode::Fsync::new(file).build()),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        })
    }

    fn queue(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the operation in the table owns the memory and the file that the entry names until its answer
            // has been taken, and the table outlives the ring.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    /// Submits what was queued, waits for an answer if told to (the event counts as one), and takes the answers:
    /// token, and bytes or negative errno.
    pub fn turn(&mut self, wait: Option<Duration>, answers: &mut Vec<(u32, i64)>) -> io::Result<()> {
        if wait.is_some() && !self.event_polled {
            let poll = opcode::PollAdd::new(Fd(self.event.raw()), libc::POLLIN as u32).build();
            self.queue(&poll.user_data(EVENT))?;
            self.event_polled = true;
        }
        let (queued, deferred) = {
            let queue = self.ring.submission();
            (!queue.is_empty(), queue.taskrun())
        };
        let ready = !self.ring.completion().is_empty();
        let entered = match wait {
            Some(timeout) if !ready => {
                let limit = Timespec::new().sec(timeout.as_secs().min(1 << 30)).nsec(timeout.subsec_nanos());
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit))
            }
            _ if queued || deferred => self.ring.submit(),
            _ => Ok(0),
        };
        self.collect(answers);
        match entered {
            // Time is up, a signal came, or the kernel is short of memory for the moment: the caller turns again.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
            Ok(_) => Ok(()),
        }
    }

    fn collect(&mut self, answers: &mut Vec<(u32, i64)>) {
        let mut rang = false;
        for entry in self.ring.completion() {
            match entry.user_data() {
                EVENT => rang = true,
                token => answers.push((token as u32, i64::from(entry.result()))),
            }
        }
        if rang {
            self.event_polled = false;
            // The poll said that there is something to read.
            self.event.wait(Some(Duration::ZERO));
        }
    }
}
