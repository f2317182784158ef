//! An eventfd that is written only when its owner said that it sleeps.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::status::{Error, Result};

/// Wakes one sleeper: `arm`, look once more for work, then `wait`. `ring` costs a load unless the owner is armed.
pub struct Bell {
    fd: OwnedFd,
    armed: AtomicBool,
    woken: AtomicBool,
}

impl Bell {
    /// A bell that nobody waits for.
    pub fn new() -> Result<Bell> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::os("eventfd", &errno.into()))?;
        Ok(Bell { fd, armed: AtomicBool::new(false), woken: AtomicBool::new(false) })
    }

    /// Says that the owner is about to sleep and takes earlier rings back. What was queued before may not ring again:
    /// look for it after this.
    pub fn arm(&self) {
        let mut count = [0; 8];
        // An empty eventfd answers EAGAIN, which is what is wanted.
        let _ = rustix::io::read(&self.fd, &mut count);
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Says that the owner is awake.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// Wakes the owner if it sleeps. Work must have been queued before.
    pub fn ring(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::SeqCst) {
            self.signal();
        }
    }

    /// Makes the next or present wait end, armed or not.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.signal();
    }

    /// Whether `wake` was called since this was last asked.
    pub fn take_wake(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::SeqCst)
    }

    /// Sleeps until a ring, a wake or the timeout (`None`: for ever).
    pub fn wait(&self, timeout: Option<Duration>) -> Result<()> {
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::os("poll", &errno.into())),
        }
    }

    /// A descriptor of its own for somebody else's epoll.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        self.fd.try_clone().map_err(|error| Error::os("dup", &error))
    }

    fn signal(&self) {
        // A full counter answers EAGAIN: it is readable already.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn no_ring_is_missed() {
        let bell = Arc::new(Bell::new().unwrap());
        let queued = Arc::new(AtomicU32::new(0));
        let rounds = 20_000;
        let ringer = {
            let (bell, queued) = (bell.clone(), queued.clone());
            std::thread::spawn(move || {
                for _ in 0..rounds {
                    queued.fetch_add(1, Ordering::SeqCst);
                    bell.ring();
                }
            })
        };
        let mut seen = 0;
        while seen < rounds {
            bell.arm();
            if queued.load(Ordering::SeqCst) == seen {
                // A missed ring would sleep for ever; the harness's timeout is the judge.
                bell.wait(None).unwrap();
            }
            seen = queued.load(Ordering::SeqCst);
        }
        ringer.join().unwrap();
    }

    #[test]
    fn a_ring_without_a_sleeper_is_free() {
        let bell = Bell::new().unwrap();
        bell.ring();
        let mut count = [0; 8];
        assert!(rustix::io::read(&bell, &mut count).is_err(), "nothing was written");
        bell.wake();
        assert!(bell.take_wake());
        assert!(!bell.take_wake());
        bell.wait(None).unwrap();
    }
}
