//! A part of a file that is sent as it is in the page cache, without a copy of ours.
#![allow(unsafe_code, reason = "a system call without a wrapper, and a signal that is kept away")]

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// So many bytes of an open file. What they are is read when they are sent: the file must not change there meanwhile. One that
/// is cut short is noticed: its receiver gets an error.
#[derive(Clone)]
pub struct FileRange {
    file: Arc<dyn AsFd + Send + Sync>,
    offset: u64,
    length: u64,
}

impl FileRange {
    /// `length` bytes from `offset` on.
    pub fn new(file: Arc<dyn AsFd + Send + Sync>, offset: u64, length: u64) -> FileRange {
        FileRange { file, offset, length }
    }

    /// Bytes in it.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether the page cache has all of it, so that sending it waits for no disk. `false` also when the kernel does not say
    /// (before 6.5).
    pub fn is_cached(&self) -> bool {
        let page = rustix::param::page_size() as u64;
        let Some(end) = self.offset.checked_add(self.length) else { return false };
        let pages = end.div_ceil(page) - self.offset / page;
        let range = CacheRange { offset: self.offset, length: self.length };
        let mut found = CacheStat::default();
        let fd = self.file.as_fd().as_raw_fd();
        // SAFETY: both structures are the kernel's, and live until it returns; it checks the descriptor.
        let done = unsafe { libc::syscall(CACHESTAT, fd, &raw const range, &raw mut found, 0) };
        self.length > 0 && done == 0 && found.cached == pages
    }

    /// Leaves the first bytes out.
    pub(super) fn advance(&mut self, count: u64) {
        self.offset += count;
        self.length -= count;
    }

    /// Copies its first bytes; fewer when the file ends there.
    pub(super) fn read(&self, into: &mut [u8]) -> usize {
        let slices = &mut [std::io::IoSliceMut::new(into)];
        preadv2(self.file.as_fd(), slices, self.offset, ReadWriteFlags::empty()).unwrap_or(0)
    }

    /// Gives a socket up to so many bytes from the page cache; how many it took. 0: the file ends here.
    pub(super) fn send(&self, socket: BorrowedFd<'_>, length: usize) -> Result<usize, Errno> {
        let mut offset = self.offset;
        without_sigpipe(|| rustix::fs::sendfile(socket, self.file.as_fd(), Some(&mut offset), length))
    }
}

impl std::fmt::Debug for FileRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileRange").field("offset", &self.offset).field("length", &self.length).finish()
    }
}

/// The call's number, the same on every architecture.
const CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct CacheRange {
    offset: u64,
    length: u64,
}

/// Pages, each way.
#[repr(C)]
#[derive(Default)]
struct CacheStat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// `sendfile` knows no `MSG_NOSIGNAL`: to a socket that its peer has closed it would end programs that do not ignore SIGPIPE.
fn without_sigpipe<T>(send: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut pipe = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: it makes an empty set of it.
    unsafe { libc::sigemptyset(pipe.as_mut_ptr()) };
    // SAFETY: just made.
    let mut pipe = unsafe { pipe.assume_init() };
    // SAFETY: a set, and a signal that there is.
    unsafe { libc::sigaddset(&raw mut pipe, libc::SIGPIPE) };
    let mut before = pipe;
    // SAFETY: of this thread alone; both sets live until it returns.
    let kept = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const pipe, &raw mut before) };
    if kept != 0 {
        return Err(Errno::from_raw_os_error(kept));
    }
    let sent = send();
    // SAFETY: a set that the kernel filled.
    let blocked = unsafe { libc::sigismember(&raw const before, libc::SIGPIPE) } == 1;
    if !blocked {
        if matches!(&sent, Err(Errno::PIPE)) {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: takes the signal of this thread's, if there is one.
            unsafe { libc::sigtimedwait(&raw const pipe, std::ptr::null_mut(), &raw const now) };
        }
        // SAFETY: the set of before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    }
    sent
}
