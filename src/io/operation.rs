//! Operations that were started, and what they end with.

use super::buffer::Buffer;
use super::disk::Disk;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What an operation ended with.
#[derive(Debug)]
pub struct Ended {
    /// The memory that it was given; None for a sync.
    pub buffer: Option<Buffer>,
    /// Bytes that were read, fewer than asked for only at the end of the file; bytes written, always all of them; 0 for
    /// a sync. An error says nothing about how many bytes were moved before it.
    pub result: std::io::Result<usize>,
}

/// A read, write or sync on its way. Dropping it does not stop it: its memory is freed when the kernel is done with it.
#[derive(Debug)]
pub struct Operation {
    disk: Rc<Disk>,
    token: u32,
    taken: bool,
}

impl Operation {
    pub(super) fn new(disk: Rc<Disk>, token: u32) -> Operation {
        Operation { disk, token, taken: false }
    }

    /// What it ended with, once; until it has ended `waker` is remembered, beside others, and None returned.
    pub fn try_end(&mut self, waker: &Waker) -> Option<Ended> {
        let ended = self.disk.take_ended(self.token, waker);
        self.taken |= ended.is_some();
        ended
    }
}

impl Future for Operation {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        match self.get_mut().try_end(context.waker()) {
            Some(ended) => Poll::Ready(ended),
            None => Poll::Pending,
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.taken {
            self.disk.abandon(self.token);
        }
    }
}
