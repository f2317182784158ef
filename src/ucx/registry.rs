//! Every endpoint and key of a worker: generations, states, counts.
#![allow(unsafe_code, reason = "owns what UCX's error callback is given")]

use super::core::Core;
use super::endpoint::{EndpointId, RkeyId};
use super::memory::Pinned;
use super::status::UcsStatus;
use crate::status::{Error, Result, Status};
use std::ptr;
use ucx_sys::{ucp_ep_h, ucp_rkey_h};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Open,
    Failed(UcsStatus),
    /// A graceful close waits for operations; whether the flush is done.
    Flushing(bool),
    /// UCX is closing it.
    Closing,
    /// UCX has closed it; operations may still have to end.
    Closed,
}

pub(super) struct Endpoint<P: Pinned> {
    pub(super) generation: u32,
    pub(super) state: State,
    pub(super) handle: ucp_ep_h,
    pub(super) in_flight: u32,
    pub(super) close_token: u64,
    pub(super) close_status: std::result::Result<(), UcsStatus>,
    pub(super) rkeys: Vec<RkeyId>,
    /// What UCX passes to the error callback; owned, and in place until the worker is gone.
    pub(super) arg: *mut ErrorArg<P>,
}

pub(super) struct ErrorArg<P: Pinned> {
    pub(super) core: *const Core<P>,
    pub(super) id: EndpointId,
}

pub(super) struct Rkey {
    pub(super) generation: u32,
    /// NULL in a free entry.
    pub(super) handle: ucp_rkey_h,
    pub(super) endpoint: EndpointId,
    pub(super) in_flight: u32,
    pub(super) released: bool,
}

/// Every endpoint and key of a worker.
pub(super) struct Endpoints<P: Pinned> {
    pub(super) all: Vec<Endpoint<P>>,
    pub(super) free: Vec<u32>,
    pub(super) rkeys: Vec<Rkey>,
    pub(super) free_rkeys: Vec<u32>,
    /// Gracefully closing, to be looked at after progress.
    pub(super) closing: Vec<EndpointId>,
    /// Released keys whose last operation has ended.
    pub(super) dying: Vec<RkeyId>,
}

pub(super) fn stale(what: &'static str) -> Error {
    Error::new(Status::StaleHandle, what)
}

impl<P: Pinned> Endpoints<P> {
    pub(super) fn new() -> Endpoints<P> {
        let (free_rkeys, closing, dying) = (Vec::new(), Vec::new(), Vec::new());
        Endpoints { all: Vec::new(), free: Vec::new(), rkeys: Vec::new(), free_rkeys, closing, dying }
    }

    pub(super) fn entry(&mut self, id: EndpointId) -> Result<&mut Endpoint<P>> {
        match self.all.get_mut(id.index as usize) {
            Some(entry) if entry.generation == id.generation && entry.state != State::Free => Ok(entry),
            _ => Err(stale("the endpoint was closed")),
        }
    }

    /// Counts an operation on an open endpoint and gives UCX's handle.
    #[inline]
    pub(super) fn begin(&mut self, id: EndpointId) -> Result<ucp_ep_h> {
        let entry = self.entry(id)?;
        match entry.state {
            State::Open => {
                entry.in_flight += 1;
                Ok(entry.handle)
            }
            State::Failed(status) => Err(failed(status)),
            _ => Err(Error::new(Status::WrongState, "the endpoint is being closed")),
        }
    }

    /// `begin` of an endpoint that is open; `None` for others.
    #[inline]
    pub(super) fn begin_open(&mut self, id: EndpointId) -> Option<ucp_ep_h> {
        let entry = self.all.get_mut(id.index as usize)?;
        if entry.generation != id.generation || entry.state != State::Open {
            return None;
        }
        entry.in_flight += 1;
        Some(entry.handle)
    }

    /// As `begin`, with a key of the same endpoint.
    pub(super) fn begin_with_rkey(&mut self, id: EndpointId, rkey: RkeyId) -> Result<(ucp_ep_h, ucp_rkey_h)> {
        let key = match self.rkeys.get(rkey.index as usize) {
            Some(key) if key.generation == rkey.generation && !key.released && key.endpoint == id => {
                key.handle
            }
            _ => return Err(stale("the key was released, or belongs to another endpoint")),
        };
        let handle = self.begin(id)?;
        self.rkeys[rkey.index as usize].in_flight += 1;
        Ok((handle, key))
    }

    /// An operation has ended.
    #[inline]
    pub(super) fn end(&mut self, endpoint: u32, rkey: Option<RkeyId>) {
        if let Some(entry) = self.all.get_mut(endpoint as usize) {
            entry.in_flight -= 1;
        }
        if let Some(id) = rkey
            && let Some(key) = self.rkeys.get_mut(id.index as usize)
            && key.generation == id.generation
        {
            key.in_flight -= 1;
            if key.released && key.in_flight == 0 {
                self.dying.push(id);
            }
        }
    }

    /// A graceful close's flush has ended.
    pub(super) fn flushed(&mut self, endpoint: u32) {
        if let Some(entry) = self.all.get_mut(endpoint as usize)
            && entry.state == State::Flushing(false)
        {
            entry.state = State::Flushing(true);
        }
    }

    /// UCX has closed an endpoint.
    pub(super) fn closed(&mut self, endpoint: u32, status: std::result::Result<(), UcsStatus>) {
        if let Some(entry) = self.all.get_mut(endpoint as usize) {
            entry.state = State::Closed;
            entry.close_status = status;
        }
    }

    /// Frees a closed endpoint with nothing in flight: the token of its close and how that ended.
    #[inline]
    pub(super) fn retire(&mut self, endpoint: u32) -> Option<(u64, std::result::Result<(), UcsStatus>)> {
        let entry = self.all.get_mut(endpoint as usize)?;
        if entry.state != State::Closed || entry.in_flight > 0 {
            return None;
        }
        entry.state = State::Free;
        entry.generation = entry.generation.wrapping_add(1);
        entry.handle = ptr::null_mut();
        self.free.push(endpoint);
        Some((entry.close_token, entry.close_status))
    }

    /// Notes a failure; whether it is the first of an endpoint in use.
    pub(super) fn fail(&mut self, id: EndpointId, status: UcsStatus) -> bool {
        match self.entry(id) {
            Ok(entry) if entry.state == State::Open => {
                entry.state = State::Failed(status);
                true
            }
            // The flush of a graceful close will end with the failure.
            _ => false,
        }
    }

    /// Whether something waits to be looked at after progress.
    #[inline]
    pub(super) fn has_chores(&self) -> bool {
        !self.closing.is_empty() || !self.dying.is_empty()
    }

    /// Whether progress would do something of its own at once.
    pub(super) fn has_chores_due(&self) -> bool {
        let due = |id: &EndpointId| {
            self.all
                .get(id.index as usize)
                .is_some_and(|e| e.state == State::Flushing(true) && e.in_flight == 0)
        };
        !self.dying.is_empty() || self.closing.iter().any(due)
    }

    /// Endpoints that were not closed yet.
    pub(super) fn open_ones(&self) -> Vec<EndpointId> {
        let open =
            |entry: &Endpoint<P>| matches!(entry.state, State::Open | State::Failed(_) | State::Flushing(_));
        let id = |(index, entry): (usize, &Endpoint<P>)| EndpointId {
            index: index as u32,
            generation: entry.generation,
        };
        self.all.iter().enumerate().filter(|(_, entry)| open(entry)).map(id).collect()
    }

    /// An entry for a new endpoint.
    pub(super) fn add(&mut self, core: *const Core<P>) -> Result<(EndpointId, *mut ErrorArg<P>)> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.all.len()).map_err(|_| Error::from(Status::LimitReached))?;
                let id = EndpointId { index, generation: 1 };
                let arg = Box::into_raw(Box::new(ErrorArg { core, id }));
                let (handle, rkeys) = (ptr::null_mut(), Vec::new());
                let (state, generation) = (State::Free, 1);
                self.all.push(Endpoint {
                    generation,
                    state,
                    handle,
                    in_flight: 0,
                    close_token: 0,
                    close_status: Ok(()),
                    rkeys,
                    arg,
                });
                index
            }
        };
        let entry = &mut self.all[index as usize];
        let id = EndpointId { index, generation: entry.generation };
        // SAFETY: allocated above and not freed; no endpoint of UCX refers to it now.
        unsafe { (*entry.arg).id = id };
        entry.state = State::Open;
        Ok((id, entry.arg))
    }

    pub(super) fn add_rkey(&mut self, endpoint: EndpointId, handle: ucp_rkey_h) -> Result<RkeyId> {
        let index = match self.free_rkeys.pop() {
            Some(index) => index,
            None => {
                self.rkeys.push(Rkey { generation: 0, handle, endpoint, in_flight: 0, released: false });
                u32::try_from(self.rkeys.len() - 1).map_err(|_| Error::from(Status::LimitReached))?
            }
        };
        let key = &mut self.rkeys[index as usize];
        *key = Rkey {
            generation: key.generation.wrapping_add(1),
            handle,
            endpoint,
            in_flight: 0,
            released: false,
        };
        let id = RkeyId { index, generation: key.generation };
        self.entry(endpoint)?.rkeys.push(id);
        Ok(id)
    }

    /// Takes a key out: its handle, to be destroyed.
    pub(super) fn remove_rkey(&mut self, id: RkeyId) -> Option<ucp_rkey_h> {
        let key = self.rkeys.get_mut(id.index as usize)?;
        if key.generation != id.generation || key.handle.is_null() {
            return None;
        }
        let handle = std::mem::replace(&mut key.handle, ptr::null_mut());
        key.generation = key.generation.wrapping_add(1);
        let endpoint = key.endpoint;
        self.free_rkeys.push(id.index);
        if let Ok(entry) = self.entry(endpoint) {
            entry.rkeys.retain(|rkey| *rkey != id);
        }
        Some(handle)
    }
}

impl<P: Pinned> Drop for Endpoints<P> {
    fn drop(&mut self) {
        for entry in self.all.drain(..) {
            // SAFETY: from Box::into_raw, freed once; endpoints of UCX are gone before the worker drops this.
            drop(unsafe { Box::from_raw(entry.arg) });
        }
    }
}

#[cold]
fn failed(status: UcsStatus) -> Error {
    let mut error = Error::new(Status::ConnectionLost, "the connection failed; close the endpoint");
    error.transport = status.code();
    error
}
