//! What UCX's callbacks can reach, and the callbacks: they record, and nothing else.
#![allow(unsafe_code, reason = "called by UCX")]

use super::endpoint::EndpointId;
use super::library;
use super::memory::Pinned;
use super::message::{Arrived, Home, Inbox};
use super::pending::{Completed, Kind, Slot, Slots};
use super::registry::Endpoints;
use super::status::UcsStatus;
use crate::limits::COMPACT_FRAME;
use crate::status::{Error, Result, Status};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use ucx_sys::{
    Functions, ucp_am_recv_param_t, ucp_request_param_t, ucp_worker_h, ucs_status_ptr_t, ucs_status_t,
};

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
    pub(super) inbox: RefCell<Inbox>,
    pub(super) poisoned: Cell<bool>,
    pub(super) draining: Cell<bool>,
}

#[cold]
pub(super) fn poisoned() -> Error {
    Error::new(Status::Panic, "a callback of UCX hit a defect of the library: close the worker")
}

impl<P: Pinned> Core<P> {
    #[inline]
    pub(super) fn check(&self) -> Result<()> {
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
        crate::fault::point("ucx.message");
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
pub(super) unsafe extern "C" fn on_message<P: Pinned>(
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
