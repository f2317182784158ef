//! Operations in flight: what UCX uses until they end, at addresses that do not change.
#![allow(unsafe_code, reason = "slots are shared with UCX by address")]

use super::core::Core;
use super::endpoint::RkeyId;
use super::memory::Pinned;
use super::status::UcsStatus;
use crate::limits::COMPACT_FRAME;
use crate::status::Error;
use std::fmt;
use std::ptr::{self, NonNull};
use ucx_sys::ucp_dt_iov_t;

/// Operations of one worker that may be in flight at a time: 64 Ki, some 25 MiB of slots.
pub const IN_FLIGHT: usize = 65_536;

/// How a message's data should travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocol {
    /// As the context's threshold says.
    #[default]
    Auto,
    /// At once, through UCX's buffers.
    Eager,
    /// When the receiver asks for it, into its memory.
    Rendezvous,
}

/// What became of an operation that was asked for. `M` is its memory: one [`Pinned`] value or several.
pub enum Started<M> {
    /// It has ended well, and there will be no [`Completed`]. The memory comes back.
    Done(Option<M>),
    /// It goes on; one [`Completed`] with its token will follow and bring the memory back.
    Pending,
    /// It was refused or failed at once, and there will be no [`Completed`]. The memory comes back.
    Failed(Error, Option<M>),
}

impl<M> fmt::Debug for Started<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = |memory: &Option<M>| if memory.is_some() { "memory" } else { "no memory" };
        match self {
            Started::Done(back) => write!(f, "Done({})", memory(back)),
            Started::Pending => f.write_str("Pending"),
            Started::Failed(error, back) => write!(f, "Failed({error}, {})", memory(back)),
        }
    }
}

/// What an operation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `send`, `send_pieces`.
    Send,
    /// `receive`.
    Receive,
    /// `get`.
    Get,
    /// `put`.
    Put,
    /// `flush`.
    Flush,
    /// `fetch_add`, `compare_swap`.
    Atomic,
    /// `close`.
    Close,
}

/// An operation that has ended.
#[derive(Debug)]
pub struct Completed<P> {
    /// What the caller gave.
    pub token: u64,
    /// What it was.
    pub kind: Kind,
    /// How it ended.
    pub status: Result<(), UcsStatus>,
    /// Bytes moved: of the payload for a send, get or put; of what arrived for a receive. 0 for a failure.
    pub length: usize,
    /// For an atomic: what was there before.
    pub value: u64,
    /// The memory of the operation; UCX does not use it any more.
    pub payload: Option<P>,
    /// The memory of `send_pieces`.
    pub pieces: Vec<P>,
}

/// One operation in flight.
pub(super) struct Slot<P: Pinned> {
    /// Whom the callback tells.
    pub(super) core: *const Core<P>,
    pub(super) frame: [u8; COMPACT_FRAME],
    pub(super) iov: Vec<ucp_dt_iov_t>,
    pub(super) payload: Option<P>,
    pub(super) pieces: Vec<P>,
    pub(super) token: u64,
    pub(super) kind: Kind,
    /// Index of the endpoint that it counts for.
    pub(super) endpoint: Option<u32>,
    pub(super) rkey: Option<RkeyId>,
    pub(super) length: usize,
    /// Operand of an atomic.
    pub(super) operand: u64,
    /// Result of an atomic, and the swap value before.
    pub(super) value: u64,
    /// An operation of our own making: its end is not an event for the caller.
    pub(super) internal: bool,
    next: *mut Slot<P>,
}

/// Slots in blocks that never move.
pub(super) struct Slots<P: Pinned> {
    core: *const Core<P>,
    blocks: Vec<NonNull<[Slot<P>]>>,
    free: *mut Slot<P>,
    used: usize,
}

const BLOCK: usize = 64;

impl<P: Pinned> Slots<P> {
    pub(super) fn new() -> Slots<P> {
        Slots { core: ptr::null(), blocks: Vec::new(), free: ptr::null_mut(), used: 0 }
    }

    /// Says whom the slots belong to; before the first is taken.
    pub(super) fn set_core(&mut self, core: *const Core<P>) {
        self.core = core;
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// A slot of the caller's own, until `put`; `None` at the limit, of which `close` may go beyond by `reserve`.
    #[inline]
    pub(super) fn take(&mut self, reserve: usize) -> Option<NonNull<Slot<P>>> {
        if self.free.is_null() {
            if self.used >= IN_FLIGHT + reserve {
                return None;
            }
            self.grow();
        }
        let slot = NonNull::new(self.free)?;
        // SAFETY: a free slot, which only this list refers to.
        self.free = unsafe { slot.as_ref() }.next;
        self.used += 1;
        Some(slot)
    }

    /// Gives a slot back; its memory has been taken out of it.
    ///
    /// # Safety
    /// `slot` came from `take` of the same object, once, and UCX does not use it any more.
    #[inline]
    pub(super) unsafe fn put(&mut self, mut slot: NonNull<Slot<P>>) {
        // SAFETY: the caller's promise.
        unsafe { slot.as_mut() }.next = self.free;
        self.free = slot.as_ptr();
        self.used -= 1;
    }

    #[cold]
    fn grow(&mut self) {
        let core = self.core;
        let slot = |_| Slot {
            core,
            frame: [0; COMPACT_FRAME],
            iov: Vec::new(),
            payload: None,
            pieces: Vec::new(),
            token: 0,
            kind: Kind::Send,
            endpoint: None,
            rkey: None,
            length: 0,
            operand: 0,
            value: 0,
            internal: false,
            next: ptr::null_mut(),
        };
        let block: Box<[Slot<P>]> = (0..BLOCK).map(slot).collect();
        // A raw pointer from here on: UCX holds addresses into the block while we use others of it.
        let block = NonNull::from(Box::leak(block));
        for index in 0..BLOCK {
            // SAFETY: within the block.
            let slot = unsafe { block.cast::<Slot<P>>().add(index) };
            // SAFETY: nobody else knows it yet.
            unsafe { (*slot.as_ptr()).next = self.free };
            self.free = slot.as_ptr();
        }
        self.blocks.push(block);
    }
}

impl<P: Pinned> Drop for Slots<P> {
    fn drop(&mut self) {
        for block in self.blocks.drain(..) {
            // SAFETY: leaked by `grow`, freed once; the worker drops slots only when none is used, else it leaks them.
            drop(unsafe { Box::from_raw(block.as_ptr()) });
        }
    }
}
