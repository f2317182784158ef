//! An eventfd that wakes one sleeping thread, and is written only while that thread sleeps.

use crate::status::{Error, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

/// Wakes one sleeper. The sleeper arms it, looks once more for work, then sleeps; whoever queued work rings.
#[derive(Debug)]
pub struct Event {
    fd: OwnedFd,
    armed: AtomicBool,
}

impl Event {
    /// An event that nobody waits for.
    pub fn new() -> Result<Event> {
        // Blocking: a ring may read it, and waits there instead of failing with EAGAIN.
        let fd = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| Error::os("eventfd", &errno.into()))?;
        Ok(Event { fd, armed: AtomicBool::new(false) })
    }

    /// Says that its owner is about to sleep. Work that was queued before may not ring: look for it after this.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Says that its owner is awake.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// Wakes the owner if it sleeps; costs a load otherwise. Work must have been queued before.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::SeqCst) {
            // Only a full counter could refuse, and then the owner wakes anyway.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }

    /// Sleeps until it rings or the timeout passes; None for as long as it takes.
    pub fn wait(&self, timeout: Option<Duration>) {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        // A signal ends the wait early, which every caller of a wait has to bear.
        if poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0) {
            let _ = rustix::io::read(self.fd.as_fd(), &mut [0; 8]);
        }
    }

    /// Another descriptor of it, which does not block, and neither does its own from now on.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        let failed = |errno: rustix::io::Errno| Error::os("duplicating an eventfd", &errno.into());
        rustix::fs::fcntl_setfl(&self.fd, rustix::fs::OFlags::NONBLOCK).map_err(failed)?;
        rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).map_err(failed)
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
