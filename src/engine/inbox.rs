//! A queue into a thread that sometimes sleeps: [`Inbox`], and the [`Waker`] that ends the sleep.
//!
//! The contract of the owner: drain, [`Waker::prepare_sleep`], look at every queue once more, sleep on
//! [`Waker::fd`], [`Waker::finish_sleep`]. Who pushes pays a system call only when the owner said that it sleeps.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use crate::status::{Error, Result};

/// Wakes one sleeping thread through an eventfd. Several queues of that thread may share it.
#[derive(Debug)]
pub struct Waker {
    fd: OwnedFd,
    asleep: AtomicBool,
}

impl Waker {
    /// A waker whose owner is awake.
    pub fn new() -> Result<Waker> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::os("eventfd", &errno.into()))?;
        Ok(Waker { fd, asleep: AtomicBool::new(false) })
    }

    /// Ends the owner's sleep, if it sleeps or is about to. Any thread; call it after the work is visible.
    pub fn wake(&self) {
        // Pairs with the fence of `prepare_sleep`: either we see the sleeper, or it sees our work.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            // Fails only when the counter is full, and then the descriptor is readable anyway.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }

    /// Owner: says that it is about to sleep. Look at every queue after this call and before sleeping.
    pub fn prepare_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Owner: says that it is awake, and makes the descriptor quiet again. Drain every queue after it.
    pub fn finish_sleep(&self) {
        self.asleep.store(false, Ordering::Release);
        let mut count = [0u8; 8];
        // Always: a waker may still be between its swap and its write, and would leave the descriptor readable.
        let _ = rustix::io::read(&self.fd, &mut count);
    }

    /// The eventfd: readable when the owner should wake. It stays the waker's: never read, write or close it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

struct Queue<T> {
    items: VecDeque<T>,
    closed: bool,
}

/// A queue with many writers and one owner. It grows with use: who pushes must be bounded by what it was asked for.
pub struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    len: AtomicUsize,
    waker: Arc<Waker>,
}

impl<T> Inbox<T> {
    /// An empty inbox with a waker of its own.
    pub fn new() -> Result<Inbox<T>> {
        Ok(Inbox::with_waker(Arc::new(Waker::new()?)))
    }

    /// An empty inbox whose pushes end the sleep of `waker`'s owner.
    pub fn with_waker(waker: Arc<Waker>) -> Inbox<T> {
        let queue = Mutex::new(Queue { items: VecDeque::new(), closed: false });
        Inbox { queue, len: AtomicUsize::new(0), waker }
    }

    /// Appends `item` and wakes a sleeping owner. Gives the item back when the inbox is closed.
    pub fn push(&self, item: T) -> std::result::Result<(), T> {
        {
            let mut queue = self.queue.lock();
            if queue.closed {
                return Err(item);
            }
            queue.items.push_back(item);
            self.len.store(queue.items.len(), Ordering::Release);
        }
        self.waker.wake();
        Ok(())
    }

    /// Moves everything to the end of `out`, in order, and says how many. Costs one load when there is nothing.
    pub fn drain_into(&self, out: &mut Vec<T>) -> usize {
        if self.is_empty() {
            return 0;
        }
        let mut queue = self.queue.lock();
        let count = queue.items.len();
        out.extend(queue.items.drain(..));
        self.len.store(0, Ordering::Release);
        count
    }

    /// Closes the inbox: later pushes fail. What was in it is returned.
    pub fn close(&self) -> Vec<T> {
        let mut queue = self.queue.lock();
        queue.closed = true;
        self.len.store(0, Ordering::Release);
        std::mem::take(&mut queue.items).into()
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Whether nothing is in it: one atomic load.
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// The waker that pushes use.
    pub fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// The waker's eventfd; see [`Waker::fd`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.waker.fd()
    }
}

impl<T> std::fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("len", &self.len.load(Ordering::Relaxed)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn readable(waker: &Waker, seconds: i64) -> bool {
        let fd = waker.fd();
        let mut set = [PollFd::new(&fd, PollFlags::IN)];
        poll(&mut set, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn keeps_order_and_counts() {
        let inbox = Inbox::new().unwrap();
        assert!(inbox.is_empty());
        for i in 0..5 {
            inbox.push(i).unwrap();
        }
        let mut out = vec![9];
        assert_eq!(inbox.drain_into(&mut out), 5);
        assert_eq!(out, [9, 0, 1, 2, 3, 4]);
        assert!(inbox.is_empty());
        assert_eq!(inbox.drain_into(&mut out), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no poll")]
    fn writes_the_eventfd_only_for_a_sleeper() {
        let inbox = Inbox::new().unwrap();
        inbox.push(1).unwrap();
        assert!(!readable(inbox.waker(), 0));
        inbox.waker().prepare_sleep();
        inbox.push(2).unwrap();
        inbox.push(3).unwrap();
        assert!(readable(inbox.waker(), 0));
        inbox.waker().finish_sleep();
        assert!(!readable(inbox.waker(), 0));
    }

    #[test]
    fn closed_gives_items_back() {
        let inbox = Inbox::new().unwrap();
        inbox.push("a").unwrap();
        assert_eq!(inbox.close(), ["a"]);
        assert_eq!(inbox.push("b"), Err("b"));
        assert!(inbox.is_empty());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no poll")]
    fn no_push_is_slept_through() {
        const ITEMS: usize = 20_000;
        let inbox = Arc::new(Inbox::new().unwrap());
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let inbox = inbox.clone();
                std::thread::spawn(move || (0..ITEMS).for_each(|i| inbox.push(i).unwrap()))
            })
            .collect();
        let mut out = Vec::new();
        while out.len() < 2 * ITEMS {
            inbox.waker().prepare_sleep();
            if inbox.is_empty() {
                assert!(readable(inbox.waker(), 60), "slept through a push after {}", out.len());
            }
            inbox.waker().finish_sleep();
            inbox.drain_into(&mut out);
        }
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(out.len(), 2 * ITEMS);
    }
}
