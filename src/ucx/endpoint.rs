//! Connections to peers' workers, and the keys to their memory.
#![allow(unsafe_code, reason = "calls UCX")]

use super::core::Core;
use super::library::printed;
use super::memory::Pinned;
use super::pending::Kind;
use super::registry::{ErrorArg, State, stale};
use super::status::UcsStatus;
use super::worker::Worker;
use crate::limits;
use crate::status::{Error, Result, Status};
use std::ffi::c_void;
use std::ptr;
use ucx_sys::{ucp_ep_h, ucp_ep_params_t, ucp_request_param_t, ucs_status_t};

/// A connection of one worker. Stale once its [`Kind::Close`] has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// A peer's key to its memory, bound to one endpoint, and gone with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RkeyId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// How to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// When every operation of the endpoint has ended and is flushed. May take for ever: follow it with `Force`.
    Graceful,
    /// Now; what is in flight ends with `CANCELED` or the connection's failure.
    Force,
}

/// UCX's error callback: records.
unsafe extern "C" fn on_error<P: Pinned>(arg: *mut c_void, _: ucp_ep_h, status: ucs_status_t) {
    // SAFETY: the argument given with the endpoint, alive as long as the worker.
    let arg = unsafe { &*arg.cast::<ErrorArg<P>>() };
    // SAFETY: the core outlives its endpoints.
    let core = unsafe { &*arg.core };
    core.guard((), || {
        let status = UcsStatus(status);
        if core.endpoints.borrow_mut().fail(arg.id, status) {
            core.failures.borrow_mut().push_back((arg.id, status));
        }
    });
}

/// Bytes of a peer that UCX parses without being told their length, followed by zeros for it to stumble into.
fn padded(bytes: &[u8], limit: usize, what: &'static str) -> Result<Vec<u8>> {
    if bytes.is_empty() || bytes.len() > limit {
        return Err(Error::new(Status::Protocol, what));
    }
    let mut copy = Vec::with_capacity(bytes.len() + 1024);
    copy.extend_from_slice(bytes);
    copy.resize(bytes.len() + 1024, 0);
    Ok(copy)
}

impl<P: Pinned> Worker<P> {
    /// Connects to the worker with this address. Does not wait: a peer that is not there shows as a failure later.
    ///
    /// Both peers need an endpoint to each other, and **the side that accepts makes its own first**, before the side that
    /// dials makes its. Otherwise UCX makes one by itself when the first message comes, without failure handling; UCX
    /// 1.22 crashes there when the dialling process is gone from shared memory by then.
    ///
    /// UCX believes the address: take it only from a peer that has proved who it is.
    ///
    /// # Errors
    /// [`Status::Unreachable`] when no transport of the context leads there; [`Status::Protocol`] for an address of
    /// no bytes or too many; what UCX says.
    pub fn endpoint(&mut self, address: &[u8]) -> Result<EndpointId> {
        let core = self.core()?;
        let address =
            padded(address, limits::WORKER_ADDRESS, "a worker address of no length or too long a one")?;
        let (id, arg) = core.endpoints.borrow_mut().add(core)?;
        // SAFETY: an all-zero ucp_ep_params_t is valid: numbers, NULL and no function.
        let mut params: ucp_ep_params_t = unsafe { std::mem::zeroed() };
        params.field_mask = ucx_sys::UCP_EP_PARAM_FIELD_REMOTE_ADDRESS
            | ucx_sys::UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE
            | ucx_sys::UCP_EP_PARAM_FIELD_ERR_HANDLER;
        params.address = address.as_ptr().cast();
        params.err_mode = ucx_sys::UCP_ERR_HANDLING_MODE_PEER;
        params.err_handler.cb = Some(on_error::<P>);
        params.err_handler.arg = arg.cast();
        let mut handle = ptr::null_mut();
        // SAFETY: the worker is ours alone; address and parameters live over the call, the argument longer.
        let status = unsafe { (core.api.ucp_ep_create)(core.worker, &params, &mut handle) };
        let mut endpoints = core.endpoints.borrow_mut();
        if let Err(status) = UcsStatus::check(status) {
            endpoints.closed(id.index, Ok(()));
            endpoints.retire(id.index);
            return Err(status.error("connecting"));
        }
        endpoints.entry(id)?.handle = handle;
        Ok(id)
    }

    /// What UCX says of an endpoint's transports and thresholds, for a person.
    ///
    /// # Errors
    /// [`Status::StaleHandle`].
    pub fn describe(&mut self, id: EndpointId) -> Result<String> {
        let core = self.core()?;
        let handle = core.endpoints.borrow_mut().begin(id)?;
        // SAFETY: an open endpoint and an open stream.
        let text = printed(|file| unsafe { (core.api.ucp_ep_print_info)(handle, file) });
        core.endpoints.borrow_mut().end(id.index, None);
        text
    }

    /// Closes an endpoint: one [`Kind::Close`] with `token` follows, after everything that was in flight has completed.
    ///
    /// A graceful close may be followed by a forced one, which then gives the token. The endpoint's keys go with it.
    ///
    /// # Errors
    /// [`Status::StaleHandle`]; [`Status::WrongState`] when it is being closed in this way already.
    pub fn close(&mut self, id: EndpointId, how: Close, token: u64) -> Result<()> {
        let core = self.core()?;
        let state = core.endpoints.borrow_mut().entry(id)?.state;
        match (state, how) {
            (State::Open, Close::Graceful) => self.close_gracefully(id, token),
            (State::Open | State::Failed(_) | State::Flushing(_), _)
                if how == Close::Force || state != State::Open =>
            {
                if how == Close::Graceful && matches!(state, State::Flushing(_)) {
                    return Err(Error::new(Status::WrongState, "the endpoint is being closed"));
                }
                core.endpoints.borrow_mut().entry(id)?.close_token = token;
                core.force_close(id)
            }
            _ => Err(Error::new(Status::WrongState, "the endpoint is being closed")),
        }
    }

    fn close_gracefully(&mut self, id: EndpointId, token: u64) -> Result<()> {
        let core = self.core()?;
        let slot = core.slot(Kind::Flush, token, 1)?;
        let handle = match core.endpoints.borrow_mut().begin(id) {
            Ok(handle) => handle,
            Err(error) => {
                core.unused(slot);
                return Err(error);
            }
        };
        {
            let mut endpoints = core.endpoints.borrow_mut();
            endpoints.closing.push(id);
            let entry = endpoints.entry(id)?;
            entry.state = State::Flushing(false);
            entry.close_token = token;
        }
        // SAFETY: a slot of ours, not yet given to UCX.
        let fields = unsafe { &mut *slot.as_ptr() };
        fields.internal = true;
        fields.endpoint = Some(id.index);
        // SAFETY: an open endpoint; the slot lives until the callback.
        let pointer = unsafe { (core.api.ucp_ep_flush_nbx)(handle, &core.parameters(slot)) };
        core.finish_if_ended(slot, pointer);
        core.chores();
        Ok(())
    }

    /// Operations on an endpoint that UCX has not ended; 0 for one that is not open. Receives do not count: they are
    /// the worker's.
    pub fn in_flight_on(&self, id: EndpointId) -> u32 {
        self.core()
            .ok()
            .and_then(|core| Some(core.endpoints.borrow_mut().entry(id).ok()?.in_flight))
            .unwrap_or(0)
    }

    /// Makes a peer's key usable on an endpoint.
    ///
    /// UCX believes the key: take it only from a peer that has proved who it is.
    ///
    /// # Errors
    /// [`Status::StaleHandle`], [`Status::ConnectionLost`]; [`Status::Protocol`] for a key of no bytes or too many.
    pub fn unpack(&mut self, id: EndpointId, key: &[u8]) -> Result<RkeyId> {
        let core = self.core()?;
        let key = padded(key, limits::WORKER_ADDRESS, "a key of no length or too long a one")?;
        let handle = core.endpoints.borrow_mut().begin(id)?;
        let mut rkey = ptr::null_mut();
        // SAFETY: an open endpoint; the key lives over the call.
        let status = unsafe { (core.api.ucp_ep_rkey_unpack)(handle, key.as_ptr().cast(), &mut rkey) };
        let mut endpoints = core.endpoints.borrow_mut();
        endpoints.end(id.index, None);
        UcsStatus::check(status).map_err(|s| s.error("unpacking a key"))?;
        endpoints.add_rkey(id, rkey)
    }

    /// Releases a key; operations that use it go on.
    ///
    /// # Errors
    /// [`Status::StaleHandle`].
    pub fn release_rkey(&mut self, id: RkeyId) -> Result<()> {
        let core = self.core()?;
        {
            let mut endpoints = core.endpoints.borrow_mut();
            let key = endpoints
                .rkeys
                .get_mut(id.index as usize)
                .filter(|key| key.generation == id.generation && !key.released);
            let key = key.ok_or_else(|| stale("the key was released"))?;
            key.released = true;
            if key.in_flight == 0 {
                endpoints.dying.push(id);
            }
        }
        core.chores();
        Ok(())
    }
}

impl<P: Pinned> Core<P> {
    /// Closes at once. Keys go first, as UCX demands; nothing is progressed in between.
    pub(super) fn force_close(&self, id: EndpointId) -> Result<()> {
        let slot = self.slot(Kind::Close, 0, usize::MAX / 2)?;
        let (handle, rkeys) = {
            let mut endpoints = self.endpoints.borrow_mut();
            endpoints.closing.retain(|closing| *closing != id);
            let entry = endpoints.entry(id)?;
            entry.state = State::Closing;
            let (handle, rkeys) = (entry.handle, std::mem::take(&mut entry.rkeys));
            (handle, rkeys.into_iter().filter_map(|rkey| endpoints.remove_rkey(rkey)).collect::<Vec<_>>())
        };
        for rkey in rkeys {
            // SAFETY: taken out of the table, destroyed once, before its endpoint.
            unsafe { (self.api.ucp_rkey_destroy)(rkey) };
        }
        // SAFETY: a slot of ours, not yet given to UCX.
        unsafe { &mut *slot.as_ptr() }.endpoint = Some(id.index);
        let mut parameters = self.parameters(slot);
        parameters.op_attr_mask |= ucx_sys::UCP_OP_ATTR_FIELD_FLAGS;
        parameters.flags = ucx_sys::UCP_EP_CLOSE_FLAG_FORCE;
        // SAFETY: open until here, closed once: the state says so from now on.
        let pointer =
            unsafe { (self.api.ucp_ep_close_nbx)(handle, &parameters as *const ucp_request_param_t) };
        self.finish_if_ended(slot, pointer);
        Ok(())
    }

    /// What callbacks must not do themselves: graceful closes that became due, keys without operations.
    pub(super) fn chores(&self) {
        let (due, rkeys) = {
            let mut endpoints = self.endpoints.borrow_mut();
            let dying = std::mem::take(&mut endpoints.dying);
            let rkeys: Vec<_> = dying.into_iter().filter_map(|rkey| endpoints.remove_rkey(rkey)).collect();
            let closing = endpoints.closing.clone();
            let mut due = Vec::new();
            for id in closing {
                match endpoints.entry(id) {
                    Ok(entry) if entry.state != State::Flushing(true) || entry.in_flight > 0 => {}
                    _ => due.push(id),
                }
            }
            (due, rkeys)
        };
        for rkey in rkeys {
            // SAFETY: taken out of the table, destroyed once; no operation uses it.
            unsafe { (self.api.ucp_rkey_destroy)(rkey) };
        }
        for id in due {
            if let Err(error) = self.force_close(id) {
                tracing::error!(%error, "closing an endpoint");
            }
        }
    }
}
