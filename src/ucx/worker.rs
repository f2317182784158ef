//! Progress, and what UCX's callbacks record for the owner.
#![allow(unsafe_code, reason = "calls UCX and is called by it")]

use super::context::Context;
use super::endpoint::{EndpointId, Endpoints};
use super::library;
use super::memory::Pinned;
use super::message::{Arrived, Data, Eager, Home, Inbox, Message, Rendezvous};
use super::pending::{Completed, Kind, Slot, Slots};
use super::status::UcsStatus;
use crate::limits::COMPACT_FRAME;
use crate::status::{Error, Result, Status};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use ucx_sys::{
    Functions, ucp_am_recv_param_t, ucp_request_param_t, ucp_worker_h, ucs_status_ptr_t, ucs_status_t,
};

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

/// What callbacks can reach: in place for as long as UCX may call. Borrows never span a call into UCX.
pub(super) struct Core<P: Pinned> {
    pub(super) api: &'static Functions,
    pub(super) worker: ucp_worker_h,
    pub(super) home: Arc<Home>,
    pub(super) max_header: usize,
    pub(super) slots: RefCell<Slots<P>>,
    pub(super) endpoints: RefCell<Endpoints<P>>,
    pub(super) failures: RefCell<VecDeque<(EndpointId, UcsStatus)>>,
    pub(super) completed: RefCell<VecDeque<Completed<P>>>,
    inbox: RefCell<Inbox>,
    poisoned: Cell<bool>,
    draining: Cell<bool>,
}

impl<P: Pinned> Worker<P> {
    /// A worker of a context. Takes milliseconds.
    ///
    /// # Errors
    /// What UCX says; [`Status::WrongState`] after a fork.
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
        let mut made = Worker { core, context, returned: Vec::new() };
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
    /// [`Status::WrongState`] after a fork; [`Status::Panic`] when a callback hit a defect: close the worker.
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

    /// The oldest message that was not taken yet.
    #[inline]
    pub fn next_message(&mut self) -> Option<Message> {
        let core = self.core().ok()?;
        core.inbox.borrow_mut().pop(&core.home)
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
            let message = core.inbox.borrow_mut().pop(&core.home);
            match message.map(|message| message.data) {
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
        let drained = self.drain();
        // SAFETY: the core lives until here.
        let home = unsafe { self.core.as_ref() }.home.clone();
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
        // SAFETY: leaked by `new`, freed once: UCX has no callback left that could reach it.
        drop(unsafe { Box::from_raw(self.core.as_ptr()) });
    }
}

#[cold]
fn poisoned() -> Error {
    Error::new(Status::Panic, "a callback of UCX hit a defect of the library: close the worker")
}

impl<P: Pinned> Core<P> {
    #[inline]
    fn check(&self) -> Result<()> {
        library::check_fork()?;
        if self.poisoned.get() { Err(poisoned()) } else { Ok(()) }
    }

    /// Runs a callback's work; a panic stays here and poisons the worker.
    #[inline]
    pub(super) fn guard<R>(&self, otherwise: R, work: impl FnOnce() -> R) -> R {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            self.poisoned.set(true);
            otherwise
        })
    }

    /// A slot for an operation; `reserve` allows going beyond the limit.
    #[inline]
    pub(super) fn slot(&self, kind: Kind, token: u64, reserve: usize) -> Result<NonNull<Slot<P>>> {
        let Some(mut slot) = self.slots.borrow_mut().take(reserve) else {
            return Err(Error::new(
                Status::QueueFull,
                "too many operations in flight: take completions first",
            ));
        };
        // SAFETY: ours alone until UCX gets it.
        let fields = unsafe { slot.as_mut() };
        fields.token = token;
        fields.kind = kind;
        fields.endpoint = None;
        fields.rkey = None;
        fields.length = 0;
        fields.internal = false;
        Ok(slot)
    }

    /// Gives back a slot that UCX does not have, without memory in it.
    #[inline]
    pub(super) fn unused(&self, slot: NonNull<Slot<P>>) {
        // SAFETY: taken from these slots; UCX does not have it.
        unsafe { self.slots.borrow_mut().put(slot) };
    }

    /// Parameters that name the slot and the callback for its end.
    #[inline]
    pub(super) fn parameters(&self, slot: NonNull<Slot<P>>) -> ucp_request_param_t {
        ucp_request_param_t {
            op_attr_mask: ucx_sys::UCP_OP_ATTR_FIELD_CALLBACK | ucx_sys::UCP_OP_ATTR_FIELD_USER_DATA,
            flags: 0,
            request: ptr::null_mut(),
            cb: ucx_sys::ucp_callback_t { send: on_done::<P> },
            datatype: 0,
            user_data: slot.as_ptr().cast(),
            reply_buffer: ptr::null_mut(),
            memory_type: 0,
            recv_info: ptr::null_mut(),
            memh: ptr::null_mut(),
        }
    }

    /// Records the end of an operation that UCX has ended at once.
    pub(super) fn finish_if_ended(&self, slot: NonNull<Slot<P>>, pointer: ucs_status_ptr_t) {
        match ucx_sys::pointer_status(pointer) {
            Ok(Some(_)) => {}
            Ok(None) => self.finish(slot, Ok(())),
            Err(status) => self.finish(slot, Err(UcsStatus(status))),
        }
    }

    /// Records the end of an operation and frees its slot.
    pub(super) fn finish(&self, mut slot: NonNull<Slot<P>>, status: std::result::Result<(), UcsStatus>) {
        // SAFETY: UCX has ended the operation: the slot is ours again.
        let fields = unsafe { slot.as_mut() };
        let (token, kind, internal, value) = (fields.token, fields.kind, fields.internal, fields.value);
        let (endpoint, rkey) = (fields.endpoint, fields.rkey);
        let length = if status.is_ok() { fields.length } else { 0 };
        let (payload, pieces) = (fields.payload.take(), std::mem::take(&mut fields.pieces));
        self.unused(slot);
        let close = kind == Kind::Close;
        if !close && !internal {
            let done = Completed { token, kind, status, length, value, payload, pieces };
            self.completed.borrow_mut().push_back(done);
        }
        let Some(endpoint) = endpoint else { return };
        let mut endpoints = self.endpoints.borrow_mut();
        match close {
            true => endpoints.closed(endpoint, status),
            false => endpoints.end(endpoint, rkey),
        }
        if internal {
            endpoints.flushed(endpoint);
        }
        if let Some((token, status)) = endpoints.retire(endpoint) {
            let (payload, pieces) = (None, Vec::new());
            let done = Completed { token, kind: Kind::Close, status, length: 0, value: 0, payload, pieces };
            self.completed.borrow_mut().push_back(done);
        }
    }

    /// Records a message; whether UCX may have its data back.
    #[inline]
    fn record(&self, header: &[u8], data: *mut u8, length: usize, attributes: u64) -> ucs_status_t {
        let rendezvous = attributes & ucx_sys::UCP_AM_RECV_ATTR_FLAG_RNDV != 0;
        if self.draining.get() {
            return if rendezvous { ucx_sys::UCS_ERR_CANCELED } else { ucx_sys::UCS_OK };
        }
        let mut inbox = self.inbox.borrow_mut();
        let pointer = match NonNull::new(data) {
            Some(pointer) if length > 0 || rendezvous => pointer,
            _ => {
                inbox.push(header, Arrived::None);
                return ucx_sys::UCS_OK;
            }
        };
        if rendezvous {
            inbox.push(header, Arrived::Rendezvous(pointer, length));
            return ucx_sys::UCS_INPROGRESS;
        }
        // SAFETY: UCX's data, valid during the callback at least.
        let bytes = unsafe { std::slice::from_raw_parts(data, length) };
        if header.is_empty() && length <= COMPACT_FRAME {
            inbox.push(bytes, Arrived::None);
            ucx_sys::UCS_OK
        } else if attributes & ucx_sys::UCP_AM_RECV_ATTR_FLAG_DATA != 0 {
            inbox.push(header, Arrived::Lent(pointer, length));
            ucx_sys::UCS_INPROGRESS
        } else {
            inbox.push(header, Arrived::Copied(bytes.into()));
            ucx_sys::UCS_OK
        }
    }
}

/// UCX's message callback: records.
unsafe extern "C" fn on_message<P: Pinned>(
    arg: *mut c_void,
    header: *const c_void,
    header_length: usize,
    data: *mut c_void,
    length: usize,
    param: *const ucp_am_recv_param_t,
) -> ucs_status_t {
    // SAFETY: the argument of `set_handler`: the core, alive as long as UCX's worker calls back.
    let core = unsafe { &*arg.cast::<Core<P>>() };
    let header = match header_length {
        0 => &[],
        // SAFETY: UCX's header of this length, valid during the callback.
        _ => unsafe { std::slice::from_raw_parts(header.cast::<u8>(), header_length) },
    };
    // SAFETY: UCX's parameters, valid during the callback.
    let attributes = unsafe { (*param).recv_attr };
    core.guard(ucx_sys::UCS_OK, || core.record(header, data.cast(), length, attributes))
}

/// UCX's callback for the end of a send, get, put, flush, atomic or close: records.
unsafe extern "C" fn on_done<P: Pinned>(request: *mut c_void, status: ucs_status_t, user_data: *mut c_void) {
    let Some(slot) = NonNull::new(user_data.cast::<Slot<P>>()) else { return };
    // SAFETY: the slot of the operation, in flight until now.
    let core = unsafe { slot.as_ref() }.core;
    // SAFETY: the core outlives its operations.
    let core = unsafe { &*core };
    core.guard((), || core.finish(slot, UcsStatus::check(status)));
    // SAFETY: the request has ended and is released once.
    unsafe { (core.api.ucp_request_free)(request) };
}

/// UCX's callback for the end of a receive: records.
pub(super) unsafe extern "C" fn on_received<P: Pinned>(
    request: *mut c_void,
    status: ucs_status_t,
    length: usize,
    user_data: *mut c_void,
) {
    let Some(mut slot) = NonNull::new(user_data.cast::<Slot<P>>()) else { return };
    // SAFETY: the slot of the operation, in flight until now and ours from here on.
    let fields = unsafe { slot.as_mut() };
    if status == ucx_sys::UCS_OK {
        fields.length = length;
    }
    // SAFETY: as above.
    unsafe { on_done::<P>(request, status, user_data) };
}
