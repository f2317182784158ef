//! Progress, and taking what UCX's callbacks recorded.
#![allow(unsafe_code, reason = "calls UCX and is called by it")]

use super::context::Context;
use super::core::{Core, on_message, poisoned};
use super::endpoint::EndpointId;
use super::library;
use super::memory::Pinned;
use super::message::{Data, Eager, Home, Inbox, Message, Rendezvous};
use super::pending::{Completed, Slots};
use super::registry::Endpoints;
use super::status::UcsStatus;
use crate::limits::COMPACT_FRAME;
use crate::status::Result;
use std::cell::{Cell, RefCell};
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The active message id of the engine.
pub(super) const AM_ID: u32 = 1;

/// Messages that may wait to be taken before `progress` stops asking UCX for more. One round of progress may go beyond
/// it by what UCX had received: a queue of 256 on shared memory, a segment of 256 KiB for each TCP connection.
pub const INBOX: usize = 4_096;

/// Longest time that dropping a worker drives what is in flight to its end.
const DRAIN: Duration = Duration::from_secs(2);

static LEAKED: AtomicUsize = AtomicUsize::new(0);

/// Operations of this process whose memory was leaked, because UCX did not end them when their worker was dropped.
pub fn leaked() -> usize {
    LEAKED.load(Ordering::Relaxed)
}

/// UCX's worker: endpoints, operations in flight, received messages. One thread at a time.
///
/// `P` is memory that operations use; the worker owns it from the call to the end of the operation. Dropping the
/// worker force-closes its endpoints and drives them to their end for at most 2 s; operations that UCX still has not given
/// up then are leaked with their memory and the context, never freed under it. That happens on shared memory when the
/// peer lives but has stopped and its queue is full: UCX waits for room in it, also to close by force.
pub struct Worker<P: Pinned> {
    core: NonNull<Core<P>>,
    context: Arc<Context>,
    returned: Vec<NonNull<u8>>,
    /// Nobody is left who could touch the memory of what is in flight.
    alone: bool,
}

// SAFETY: UCX's serialized mode allows any one thread at a time, which `&mut self` ensures; `P` is `Send`. What
// other threads can reach (lent data, `Signal`) is behind `Home`'s lock.
unsafe impl<P: Pinned> Send for Worker<P> {}

/// Wakes a thread that sleeps on a worker's event descriptor; from any thread, also when the worker is gone.
#[derive(Clone)]
pub struct Signal(Arc<Home>);

impl Signal {
    /// Makes the worker's event descriptor readable. A system call.
    pub fn wake(&self) {
        self.0.wake();
    }
}

impl<P: Pinned> Worker<P> {
    /// A worker of a context. Takes milliseconds.
    ///
    /// # Errors
    /// What UCX says; `WrongState` after a fork.
    pub fn new(context: Arc<Context>) -> Result<Worker<P>> {
        library::check_fork()?;
        let api = &context.library.api;
        // SAFETY: an all-zero ucp_worker_params_t is valid: numbers and NULL.
        let mut params: ucx_sys::ucp_worker_params_t = unsafe { std::mem::zeroed() };
        params.field_mask = ucx_sys::UCP_WORKER_PARAM_FIELD_THREAD_MODE;
        params.thread_mode = ucx_sys::UCS_THREAD_MODE_SERIALIZED;
        let mut worker = ptr::null_mut();
        // SAFETY: the context is live; the handle is written.
        let status = unsafe { (api.ucp_worker_create)(context.handle, &params, &mut worker) };
        UcsStatus::check(status).map_err(|s| s.error("creating a worker"))?;
        let core = Box::leak(Box::new(Core {
            api,
            worker,
            home: Home::new(worker, context.clone()),
            max_header: 0,
            slots: RefCell::new(Slots::new()),
            endpoints: RefCell::new(Endpoints::new()),
            failures: RefCell::default(),
            completed: RefCell::default(),
            inbox: RefCell::new(Inbox::new(256)),
            poisoned: Cell::new(false),
            draining: Cell::new(false),
        }));
        let core = NonNull::from(core);
        // From here on Drop cleans up.
        let mut made = Worker { core, context, returned: Vec::new(), alone: false };
        let max_header = made.query_max_header()?;
        // SAFETY: just made; nobody refers to it yet.
        let fields = unsafe { &mut *core.as_ptr() };
        fields.max_header = max_header.min(COMPACT_FRAME);
        fields.slots.get_mut().set_core(core.as_ptr());
        made.set_handler(Some(on_message::<P>))?;
        Ok(made)
    }

    /// The context it was made of.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What wakes its sleeper, for an epoll set; see [`Worker::event_fd`].
    ///
    /// # Errors
    /// What UCX says.
    pub fn event_source(&self) -> Result<BorrowedFd<'_>> {
        let fd = self.event_fd()?;
        // SAFETY: UCX keeps the descriptor open for as long as the worker lives, which is borrowed.
        Ok(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Its address, for peers' `endpoint`.
    ///
    /// # Errors
    /// What UCX says.
    pub fn address(&self) -> Result<Vec<u8>> {
        let core = self.core()?;
        let (mut address, mut length) = (ptr::null_mut(), 0);
        // SAFETY: the worker is live; both outputs are written.
        let status = unsafe { (core.api.ucp_worker_get_address)(core.worker, &mut address, &mut length) };
        UcsStatus::check(status).map_err(|s| s.error("asking for the worker's address"))?;
        // SAFETY: UCX gave `length` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(address.cast::<u8>(), length) }.to_vec();
        // SAFETY: given by this worker, released once.
        unsafe { (core.api.ucp_worker_release_address)(core.worker, address) };
        Ok(bytes)
    }

    /// An epoll descriptor that becomes readable after a successful [`arm`](Self::arm). UCX owns it: it lives as long as the
    /// worker, and must not be read or closed.
    ///
    /// # Errors
    /// What UCX says.
    pub fn event_fd(&self) -> Result<RawFd> {
        let core = self.core()?;
        let mut fd = -1;
        // SAFETY: the worker is live; the number is written.
        let status = unsafe { (core.api.ucp_worker_get_efd)(core.worker, &mut fd) };
        UcsStatus::check(status).map_err(|s| s.error("asking for the event descriptor"))?;
        Ok(fd)
    }

    /// Prepares to sleep on [`event_fd`](Self::event_fd). `false`: something is there already, so progress and take it first.
    ///
    /// UCX 1.13 can miss an event: sleep with a timeout of at most a second.
    ///
    /// # Errors
    /// What UCX says.
    pub fn arm(&mut self) -> Result<bool> {
        let core = self.core()?;
        let waiting = core.inbox.borrow().len() > 0
            || !core.completed.borrow().is_empty()
            || !core.failures.borrow().is_empty()
            || core.endpoints.borrow().has_chores_due()
            || core.home.has_returned();
        if waiting {
            return Ok(false);
        }
        // SAFETY: ours alone by `&mut self`.
        match unsafe { (core.api.ucp_worker_arm)(core.worker) } {
            ucx_sys::UCS_ERR_BUSY => Ok(false),
            status => UcsStatus::check(status).map(|()| true).map_err(|s| s.error("arming")),
        }
    }

    /// A handle that wakes a sleeper on the event descriptor.
    pub fn signal(&self) -> Result<Signal> {
        Ok(Signal(self.core()?.home.clone()))
    }

    /// Makes UCX go on, once: how many events it handled; 0 means there is nothing to do.
    ///
    /// While [`INBOX`] messages wait to be taken it does nothing: UCX's flow control then holds up the senders.
    ///
    /// # Errors
    /// `WrongState` after a fork; `Panic` when a callback hit a defect: close the worker.
    #[inline]
    pub fn progress(&mut self) -> Result<u32> {
        // SAFETY: the core lives until this is dropped.
        let core = unsafe { self.core.as_ref() };
        core.check()?;
        core.home.collect(&mut self.returned);
        for pointer in self.returned.drain(..) {
            // SAFETY: a descriptor of this worker, released once.
            unsafe { (core.api.ucp_am_data_release)(core.worker, pointer.as_ptr().cast()) };
        }
        if core.inbox.borrow().len() >= INBOX {
            return Ok(0);
        }
        // SAFETY: ours alone by `&mut self`.
        let events = unsafe { (core.api.ucp_worker_progress)(core.worker) };
        if core.endpoints.borrow().has_chores() {
            core.chores();
        }
        if core.poisoned.get() { Err(poisoned()) } else { Ok(events) }
    }

    /// Whether messages, ends or failures wait to be taken.
    #[inline]
    pub fn has_news(&self) -> bool {
        // SAFETY: the core lives until this is dropped.
        let core = unsafe { self.core.as_ref() };
        core.inbox.borrow().len() > 0 || self.has_ends()
    }

    /// The oldest message that was not taken yet.
    pub fn next_message(&mut self) -> Option<Message> {
        let mut message = Message::default();
        self.next_message_into(&mut message).then_some(message)
    }

    /// The same into memory that is used again and again; `false` when there is none.
    #[inline]
    pub fn next_message_into(&mut self, message: &mut Message) -> bool {
        // SAFETY: the core lives until this is dropped.
        let core = unsafe { self.core.as_ref() };
        core.inbox.borrow_mut().pop_into(message, &core.home)
    }

    /// Whether operations have ended, or endpoints failed, that were not taken yet.
    #[inline]
    pub fn has_ends(&self) -> bool {
        // SAFETY: the core lives until this is dropped.
        let core = unsafe { self.core.as_ref() };
        !core.completed.borrow().is_empty() || !core.failures.borrow().is_empty()
    }

    /// The oldest end of an operation that was not taken yet.
    #[inline]
    pub fn next_completed(&mut self) -> Option<Completed<P>> {
        // SAFETY: the core lives until this is dropped.
        unsafe { self.core.as_ref() }.completed.borrow_mut().pop_front()
    }

    /// The oldest failure of an endpoint that was not taken yet; one for each endpoint. Close it then.
    pub fn next_failure(&mut self) -> Option<(EndpointId, UcsStatus)> {
        // SAFETY: the core lives until this is dropped.
        unsafe { self.core.as_ref() }.failures.borrow_mut().pop_front()
    }

    /// Gives data back at once.
    #[inline]
    pub fn release(&mut self, eager: Eager) {
        if let (Ok(core), Some(descriptor)) = (self.core(), eager.into_descriptor())
            && let Some(pointer) = descriptor.take(&core.home)
        {
            // SAFETY: a descriptor of this worker, taken out of its guard.
            unsafe { (core.api.ucp_am_data_release)(core.worker, pointer.as_ptr().cast()) };
        }
    }

    /// Ends a rendezvous without fetching its data. **The sender sees a success**: tell it otherwise by a message.
    pub fn discard(&mut self, rendezvous: Rendezvous) {
        if let Ok(core) = self.core()
            && let Some(pointer) = rendezvous.descriptor.take(&core.home)
        {
            // SAFETY: a descriptor of this worker, taken out of its guard.
            unsafe { (core.api.ucp_am_data_release)(core.worker, pointer.as_ptr().cast()) };
        }
    }

    /// Operations in flight.
    pub fn in_flight(&self) -> usize {
        // SAFETY: the core lives until this is dropped.
        unsafe { self.core.as_ref() }.slots.borrow().used()
    }

    /// Drops a worker all of whose peers are gone from this host: what is in flight is not waited for, and its memory is
    /// free at once. UCX itself would wait for room in the queue of a process that has died.
    pub fn bereave(mut self) {
        self.alone = true;
    }

    /// The core of a worker that can be used.
    #[inline]
    pub(super) fn core<'a>(&self) -> Result<&'a Core<P>> {
        // SAFETY: the core lives until this is dropped, and no caller keeps the reference over its own call.
        let core = unsafe { self.core.as_ref() };
        core.check()?;
        Ok(core)
    }

    fn query_max_header(&mut self) -> Result<usize> {
        let core = self.core()?;
        // SAFETY: an all-zero ucp_worker_attr_t is valid: numbers and NULL.
        let mut attributes: ucx_sys::ucp_worker_attr_t = unsafe { std::mem::zeroed() };
        attributes.field_mask = ucx_sys::UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER;
        // SAFETY: the worker is live; only the asked field is written.
        let status = unsafe { (core.api.ucp_worker_query)(core.worker, &mut attributes) };
        UcsStatus::check(status).map_err(|s| s.error("asking for the longest header"))?;
        Ok(attributes.max_am_header)
    }

    fn set_handler(&mut self, callback: Option<ucx_sys::ucp_am_recv_callback_t>) -> Result<()> {
        let core = self.core()?;
        let params = ucx_sys::ucp_am_handler_param_t {
            field_mask: ucx_sys::UCP_AM_HANDLER_PARAM_FIELD_ID
                | ucx_sys::UCP_AM_HANDLER_PARAM_FIELD_FLAGS
                | ucx_sys::UCP_AM_HANDLER_PARAM_FIELD_CB
                | ucx_sys::UCP_AM_HANDLER_PARAM_FIELD_ARG,
            id: AM_ID,
            flags: ucx_sys::UCP_AM_FLAG_WHOLE_MSG,
            cb: callback,
            arg: self.core.as_ptr().cast(),
        };
        // SAFETY: the worker is live; the core outlives it.
        let status = unsafe { (core.api.ucp_worker_set_am_recv_handler)(core.worker, &params) };
        UcsStatus::check(status).map_err(|s| s.error("setting the message handler"))
    }

    /// Closes everything and progresses until nothing is in flight, for a bounded time; whether it was reached.
    fn drain(&mut self) -> bool {
        // SAFETY: the core lives until this is dropped.
        let core = unsafe { self.core.as_ref() };
        core.draining.set(true);
        loop {
            let mut message = Message::default();
            let any = core.inbox.borrow_mut().pop_into(&mut message, &core.home);
            match any.then_some(message.data) {
                Some(Data::Eager(eager)) => self.release(eager),
                Some(Data::Rendezvous(rendezvous)) => self.discard(rendezvous),
                Some(Data::None) => {}
                None => break,
            }
        }
        let open = core.endpoints.borrow().open_ones();
        for id in open {
            if let Err(error) = core.force_close(id) {
                tracing::error!(%error, "closing an endpoint");
            }
        }
        let deadline = Instant::now() + DRAIN;
        while core.slots.borrow().used() > 0 {
            // SAFETY: ours alone by `&mut self`.
            unsafe { (core.api.ucp_worker_progress)(core.worker) };
            core.completed.borrow_mut().clear();
            if Instant::now() > deadline {
                return false;
            }
        }
        let handler = self.set_handler(None);
        handler.is_ok()
    }
}

impl<P: Pinned> Drop for Worker<P> {
    fn drop(&mut self) {
        if library::is_forked() {
            return;
        }
        // SAFETY: the core lives until here.
        let home = unsafe { self.core.as_ref() }.home.clone();
        // With data lent the worker cannot go yet, and its core not before.
        let drained = (self.alone && home.lent() == 0) || self.drain();
        if !drained {
            LEAKED.fetch_add(self.in_flight(), Ordering::Relaxed);
            tracing::error!(
                in_flight = self.in_flight(),
                "UCX did not end every operation; leaking their memory"
            );
            home.leak();
            return;
        }
        home.abandon();
        // SAFETY: leaked by `new`, freed once: UCX's worker is gone, or has no callback left that could reach it.
        drop(unsafe { Box::from_raw(self.core.as_ptr()) });
    }
}
