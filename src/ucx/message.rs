//! Active messages that have arrived, and the data UCX holds for them.
#![allow(unsafe_code, reason = "memory that UCX lends")]

use super::context::Context;
use super::library;
use crate::limits::COMPACT_FRAME;
use parking_lot::Mutex;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use ucx_sys::ucp_worker_h;

/// A message that arrived: a frame, and what came with it.
pub struct Message {
    frame: Frame,
    /// What came beside the frame.
    pub data: Data,
}

impl Default for Message {
    fn default() -> Message {
        Message { frame: Frame::EMPTY, data: Data::None }
    }
}

impl Message {
    /// The frame, 0 to [`COMPACT_FRAME`] bytes. Empty: the peer sent something that is no message of ours.
    pub fn frame(&self) -> &[u8] {
        self.frame.bytes()
    }
}

/// What came beside a frame.
pub enum Data {
    /// Nothing.
    None,
    /// It is here.
    Eager(Eager),
    /// The sender waits until it is fetched or discarded.
    Rendezvous(Rendezvous),
}

impl Data {
    /// Bytes that came or will come.
    #[allow(clippy::len_without_is_empty, reason = "nothing is a variant of its own")]
    pub fn len(&self) -> usize {
        match self {
            Data::None => 0,
            Data::Eager(eager) => eager.len(),
            Data::Rendezvous(rendezvous) => rendezvous.len(),
        }
    }
}

/// Data that has arrived, in memory that UCX lends until this is dropped, on any thread.
///
/// Holding many keeps UCX's receive buffers from being reused: it allocates others. `Worker::release` gives it back
/// a little cheaper than dropping.
pub struct Eager(Held);

enum Held {
    Lent { descriptor: Descriptor, length: usize },
    Copied(Box<[u8]>),
}

// SAFETY: UCX does not touch data it has lent until it is given back.
unsafe impl Sync for Descriptor {}
// SAFETY: giving back goes through a lock.
unsafe impl Send for Descriptor {}

impl Deref for Eager {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: UCX gave `length` bytes, valid until the descriptor is released.
            Held::Lent { descriptor, length } => unsafe {
                std::slice::from_raw_parts(descriptor.pointer.as_ptr().cast::<u8>(), *length)
            },
            Held::Copied(bytes) => bytes,
        }
    }
}

impl Eager {
    pub(super) fn into_descriptor(self) -> Option<Descriptor> {
        match self.0 {
            Held::Lent { descriptor, .. } => Some(descriptor),
            Held::Copied(_) => None,
        }
    }
}

/// Data that the sender still holds. Dropping it is discarding it: **the sender sees a success**.
pub struct Rendezvous {
    pub(super) descriptor: Descriptor,
    length: usize,
}

impl Rendezvous {
    /// Bytes that the sender announced.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is to be fetched.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// A descriptor of UCX, released when it is dropped.
pub(super) struct Descriptor {
    pointer: NonNull<u8>,
    home: Arc<Home>,
}

impl Descriptor {
    fn new(pointer: NonNull<u8>, home: &Arc<Home>) -> Descriptor {
        home.lent.fetch_add(1, Ordering::Relaxed);
        Descriptor { pointer, home: home.clone() }
    }

    /// Takes the pointer out of a descriptor of this worker; the caller releases or consumes it.
    ///
    /// A descriptor of another worker is given back to that one, and `None` is the answer.
    pub(super) fn take(self, home: &Arc<Home>) -> Option<NonNull<u8>> {
        if !Arc::ptr_eq(&self.home, home) {
            return None;
        }
        let this = ManuallyDrop::new(self);
        this.home.lent.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: `this` is never dropped, so the reference count is released exactly once, here.
        drop(unsafe { ptr::read(&this.home) });
        Some(this.pointer)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.home.give_back(self.pointer);
    }
}

/// Where lent data goes back to, and what of a worker survives it while data is lent.
pub(super) struct Home {
    /// Descriptors that are out.
    lent: AtomicUsize,
    /// Descriptors that came back and wait for the worker; a hint, the truth is under the lock.
    waiting: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    returned: Vec<NonNull<u8>>,
    worker: Option<Handle>,
    /// The owner of the worker is gone: whoever gives back the last descriptor destroys it.
    orphan: bool,
}

/// A UCX worker and what it needs.
struct Handle {
    worker: ucp_worker_h,
    context: Arc<Context>,
}

// SAFETY: the pointers are used under the lock, and by one thread at a time as UCX's serialized mode demands: either
// the worker has an owner, or it is an orphan.
unsafe impl Send for State {}

impl Home {
    pub(super) fn new(worker: ucp_worker_h, context: Arc<Context>) -> Arc<Home> {
        let state = State { returned: Vec::new(), worker: Some(Handle { worker, context }), orphan: false };
        Arc::new(Home { lent: AtomicUsize::new(0), waiting: AtomicUsize::new(0), state: Mutex::new(state) })
    }

    /// Descriptors to be released by the worker's owner, who passes an empty vector to swap with.
    pub(super) fn collect(&self, into: &mut Vec<NonNull<u8>>) {
        if self.waiting.load(Ordering::Acquire) > 0 {
            let mut state = self.state.lock();
            std::mem::swap(&mut state.returned, into);
            self.waiting.store(0, Ordering::Relaxed);
        }
    }

    /// Descriptors that are out.
    pub(super) fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// Whether descriptors wait to be released.
    pub(super) fn has_returned(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Wakes whoever sleeps on the worker's descriptor, if the worker still has an owner.
    pub(super) fn wake(&self) {
        let state = self.state.lock();
        if let (Some(handle), false, false) = (&state.worker, state.orphan, library::is_forked()) {
            // SAFETY: live under the lock; UCX allows this call from any thread.
            unsafe { (handle.context.library.api.ucp_worker_signal)(handle.worker) };
        }
    }

    fn give_back(&self, pointer: NonNull<u8>) {
        let mut state = self.state.lock();
        state.returned.push(pointer);
        let lent = self.lent.fetch_sub(1, Ordering::Relaxed) - 1;
        if state.orphan {
            state.destroy_if_last(lent);
        } else {
            self.waiting.store(state.returned.len(), Ordering::Release);
        }
    }

    /// The owner is gone: destroys the worker now, or when the last lent descriptor comes back.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.orphan = true;
        let lent = self.lent.load(Ordering::Relaxed);
        state.destroy_if_last(lent);
    }

    /// The worker is left to the end of the process: something of it could not be drained.
    pub(super) fn leak(&self) {
        let mut state = self.state.lock();
        std::mem::forget(state.worker.take());
    }
}

impl State {
    fn destroy_if_last(&mut self, lent: usize) {
        if lent > 0 || library::is_forked() {
            return;
        }
        let Some(Handle { worker, context }) = self.worker.take() else { return };
        for pointer in self.returned.drain(..) {
            // SAFETY: a descriptor of this worker, released once; nobody else uses the worker.
            unsafe { (context.library.api.ucp_am_data_release)(worker, pointer.as_ptr().cast()) };
        }
        // SAFETY: as above; its endpoints are closed.
        unsafe { (context.library.api.ucp_worker_destroy)(worker) };
    }
}

/// Up to [`COMPACT_FRAME`] bytes in place.
struct Frame {
    length: u8,
    bytes: [MaybeUninit<u8>; COMPACT_FRAME],
}

const _: () = assert!(COMPACT_FRAME <= u8::MAX as usize);

impl Frame {
    const EMPTY: Frame = Frame { length: 0, bytes: [MaybeUninit::uninit(); COMPACT_FRAME] };

    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: `length` bytes were written by `set`.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), usize::from(self.length)) }
    }

    /// Copies `from`; one that is too long leaves the frame empty.
    #[inline]
    fn set(&mut self, from: &[u8]) {
        let length = if from.len() <= COMPACT_FRAME { from.len() } else { 0 };
        // SAFETY: `length` is within both; they are different objects.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), self.bytes.as_mut_ptr().cast(), length) };
        self.length = length as u8;
    }
}

/// Data as the callback records it; pointers become guards when the message is taken.
pub(super) enum Arrived {
    None,
    Lent(NonNull<u8>, usize),
    Copied(Box<[u8]>),
    Rendezvous(NonNull<u8>, usize),
}

struct Entry {
    frame: Frame,
    data: Arrived,
}

/// Messages not yet taken: a ring that grows when it must and copies only the bytes there are.
pub(super) struct Inbox {
    entries: Vec<Entry>,
    head: usize,
    length: usize,
}

impl Inbox {
    /// A ring with room for `capacity` messages, a power of two.
    pub(super) fn new(capacity: usize) -> Inbox {
        let capacity = capacity.next_power_of_two();
        Inbox { entries: Self::empty(capacity), head: 0, length: 0 }
    }

    fn empty(capacity: usize) -> Vec<Entry> {
        (0..capacity).map(|_| Entry { frame: Frame::EMPTY, data: Arrived::None }).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub(super) fn push(&mut self, frame: &[u8], data: Arrived) {
        if self.length == self.entries.len() {
            self.grow();
        }
        let index = (self.head + self.length) & (self.entries.len() - 1);
        let entry = &mut self.entries[index];
        entry.frame.set(frame);
        entry.data = data;
        self.length += 1;
    }

    #[cold]
    fn grow(&mut self) {
        let capacity = self.entries.len() * 2;
        self.entries.rotate_left(self.head);
        self.head = 0;
        self.entries.extend(Self::empty(capacity - self.length));
    }

    /// Moves the oldest message into `message`; `false`: there is none, and `message` is as it was.
    #[inline]
    pub(super) fn pop_into(&mut self, message: &mut Message, home: &Arc<Home>) -> bool {
        if self.length == 0 {
            return false;
        }
        let capacity = self.entries.len();
        let entry = &mut self.entries[self.head];
        self.head = (self.head + 1) & (capacity - 1);
        self.length -= 1;
        message.frame.set(entry.frame.bytes());
        if let Arrived::None = entry.data {
            message.data = Data::None;
            return true;
        }
        match std::mem::replace(&mut entry.data, Arrived::None) {
            Arrived::None => {}
            Arrived::Lent(pointer, length) => {
                let descriptor = Descriptor::new(pointer, home);
                message.data = Data::Eager(Eager(Held::Lent { descriptor, length }));
            }
            Arrived::Copied(bytes) => message.data = Data::Eager(Eager(Held::Copied(bytes))),
            Arrived::Rendezvous(pointer, length) => {
                let descriptor = Descriptor::new(pointer, home);
                message.data = Data::Rendezvous(Rendezvous { descriptor, length });
            }
        }
        true
    }
}
