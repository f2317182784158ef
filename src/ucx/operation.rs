//! Operations: messages out, their data in, get, put, atomics, flush.
#![allow(unsafe_code, reason = "calls UCX")]

use super::core::{Core, on_received};
use super::endpoint::{EndpointId, RkeyId};
use super::memory::Pinned;
use super::message::Rendezvous;
use super::pending::{Kind, Protocol, Slot, Started};
use super::status::UcsStatus;
use super::worker::{AM_ID, Worker};
use crate::limits;
use crate::status::{Error, Result, Status};
use std::ptr::{self, NonNull};
use ucx_sys::{ucp_dt_iov_t, ucp_ep_h, ucp_rkey_h, ucs_status_ptr_t};

/// An operation that counts for its endpoint, before UCX knows of it.
type Begun<'a, P> = (&'a Core<P>, NonNull<Slot<P>>, ucp_ep_h);

impl<P: Pinned> Worker<P> {
    /// Sends a frame of 1 to [`limits::COMPACT_FRAME`] bytes, which is copied, and a payload.
    ///
    /// # Errors
    /// In [`Started::Failed`]: `InvalidArgument` for the frame's length, `StaleHandle`, `WrongState`, `ConnectionLost`,
    /// `QueueFull`, what UCX says.
    #[inline]
    pub fn send(
        &mut self,
        endpoint: EndpointId,
        frame: &[u8],
        payload: Option<P>,
        token: u64,
        protocol: Protocol,
    ) -> Started<P> {
        let (core, slot, handle) = match self.start_send(endpoint, frame, token) {
            Ok(started) => started,
            Err(error) => return Started::Failed(error, payload),
        };
        // SAFETY: ours alone until UCX gets it.
        let fields = unsafe { &mut *slot.as_ptr() };
        fields.payload = payload;
        let pointer = match &fields.payload {
            None => core.send_frame(handle, slot, frame.len()),
            Some(payload) => {
                fields.length = payload.len();
                let (data, length) = (payload.address(), payload.len());
                core.send_data(handle, slot, frame.len(), data, length, protocol)
            }
        };
        core.settle(slot, pointer, |fields| fields.payload.take())
    }

    /// Sends a frame alone, by the shortest way there is: whether it has gone, or is pending and one
    /// [`super::Completed`] with `token` will follow. `None`: nothing was done, and [`send`](Self::send) has the words
    /// for why.
    #[inline]
    pub fn send_short(&mut self, endpoint: EndpointId, frame: &[u8], token: u64) -> Option<bool> {
        let core = self.core().ok()?;
        if frame.is_empty() || frame.len() > core.max_header {
            return None;
        }
        let slot = core.slots.borrow_mut().take(0)?;
        let Some(handle) = core.endpoints.borrow_mut().begin_open(endpoint) else {
            core.unused(slot);
            return None;
        };
        // SAFETY: ours alone until UCX gets it.
        let fields = unsafe { &mut *slot.as_ptr() };
        fields.token = token;
        fields.kind = Kind::Send;
        fields.endpoint = Some(endpoint.index);
        fields.rkey = None;
        fields.length = 0;
        fields.internal = false;
        fields.frame[..frame.len()].copy_from_slice(frame);
        let pending = match ucx_sys::pointer_status(core.send_frame(handle, slot, frame.len())) {
            Ok(Some(_)) => return Some(false),
            Ok(None) => Some(true),
            Err(_) => None,
        };
        core.endpoints.borrow_mut().end(endpoint.index, None);
        core.unused(slot);
        pending
    }

    /// As [`send`](Self::send), with a payload gathered from 1 to [`limits::SEGMENTS`] pieces.
    ///
    /// # Errors
    /// As `send`; the pieces come back with it, and in [`super::Completed::pieces`].
    pub fn send_pieces(
        &mut self,
        endpoint: EndpointId,
        frame: &[u8],
        pieces: Vec<P>,
        token: u64,
        protocol: Protocol,
    ) -> Started<Vec<P>> {
        if pieces.is_empty() || pieces.len() > limits::SEGMENTS {
            let error = Error::new(Status::InvalidArgument, "a message of no pieces or too many");
            return Started::Failed(error, Some(pieces));
        }
        let (core, slot, handle) = match self.start_send(endpoint, frame, token) {
            Ok(started) => started,
            Err(error) => return Started::Failed(error, Some(pieces)),
        };
        // SAFETY: ours alone until UCX gets it.
        let fields = unsafe { &mut *slot.as_ptr() };
        fields.pieces = pieces;
        fields.iov.clear();
        let entry = |piece: &P| ucp_dt_iov_t { buffer: piece.address().cast(), length: piece.len() };
        fields.iov.extend(fields.pieces.iter().map(entry));
        fields.length = fields.pieces.iter().map(Pinned::len).sum();
        let mut parameters = core.parameters(slot);
        parameters.op_attr_mask |= ucx_sys::UCP_OP_ATTR_FIELD_DATATYPE | ucx_sys::UCP_OP_ATTR_FIELD_FLAGS;
        parameters.datatype = ucx_sys::UCP_DATATYPE_IOV;
        parameters.flags = flags(protocol, fields.length);
        let (header, list, count) = (fields.frame.as_ptr(), fields.iov.as_ptr(), fields.iov.len());
        // SAFETY: frame, list and pieces are in the slot until the operation has ended.
        let pointer = unsafe {
            (core.api.ucp_am_send_nbx)(
                handle,
                AM_ID,
                header.cast(),
                frame.len(),
                list.cast(),
                count,
                &parameters,
            )
        };
        core.settle(slot, pointer, |fields| Some(std::mem::take(&mut fields.pieces)))
    }

    fn start_send<'a>(&mut self, endpoint: EndpointId, frame: &[u8], token: u64) -> Result<Begun<'a, P>> {
        let core = self.core()?;
        if frame.is_empty() || frame.len() > core.max_header {
            return Err(Error::new(Status::InvalidArgument, "a frame of no length or too long a one"));
        }
        let slot = core.slot(Kind::Send, token, 0)?;
        let handle = core.begin(slot, endpoint)?;
        // SAFETY: ours alone until UCX gets it.
        let fields = unsafe { &mut *slot.as_ptr() };
        fields.frame[..frame.len()].copy_from_slice(frame);
        Ok((core, slot, handle))
    }

    /// Fetches the data of a rendezvous into the beginning of `into`. [`super::Completed::length`] says how much it was.
    ///
    /// # Errors
    /// In [`Started::Failed`], and the rendezvous is discarded: `OutOfRange` when `into` is too short,
    /// `InvalidArgument` for a rendezvous of another worker, `QueueFull`, what UCX says.
    pub fn receive(&mut self, rendezvous: Rendezvous, into: P, token: u64) -> Started<P> {
        let length = rendezvous.len();
        let refused = |status, text| Error::new(status, text);
        let core = match self.core() {
            Ok(core) => core,
            Err(error) => return Started::Failed(error, Some(into)),
        };
        if length > into.len() {
            return Started::Failed(
                refused(Status::OutOfRange, "the data is longer than its memory"),
                Some(into),
            );
        }
        let slot = match core.slot(Kind::Receive, token, 0) {
            Ok(slot) => slot,
            Err(error) => return Started::Failed(error, Some(into)),
        };
        let Some(descriptor) = rendezvous.descriptor.take(&core.home) else {
            core.unused(slot);
            let error = refused(Status::InvalidArgument, "the rendezvous belongs to another worker");
            return Started::Failed(error, Some(into));
        };
        // SAFETY: ours alone until UCX gets it.
        let fields = unsafe { &mut *slot.as_ptr() };
        fields.length = length;
        let buffer = fields.payload.insert(into).address();
        let mut parameters = core.parameters(slot);
        parameters.cb.recv_am = on_received::<P>;
        let data = descriptor.as_ptr().cast();
        // SAFETY: a descriptor of this worker, consumed here; the memory is in the slot until the operation has ended.
        let pointer =
            unsafe { (core.api.ucp_am_recv_data_nbx)(core.worker, data, buffer.cast(), length, &parameters) };
        core.settle(slot, pointer, |fields| fields.payload.take())
    }

    /// Reads all of `into` from a peer's memory. Use it only with peers that are trusted; see [`super::Memory`].
    ///
    /// # Errors
    /// In [`Started::Failed`]: `StaleHandle`, `WrongState`, `ConnectionLost`, `QueueFull`, what UCX says.
    pub fn get(
        &mut self,
        endpoint: EndpointId,
        rkey: RkeyId,
        remote: u64,
        into: P,
        token: u64,
    ) -> Started<P> {
        self.access(endpoint, rkey, into, Kind::Get, token, |core, handle, rkey, slot, address, length| {
            // SAFETY: the memory is in the slot until the operation has ended; endpoint and key are live.
            unsafe {
                (core.api.ucp_get_nbx)(handle, address.cast(), length, remote, rkey, &core.parameters(slot))
            }
        })
    }

    /// Writes all of `from` to a peer's memory. The end means that `from` may be reused; that it is visible to the peer
    /// is known after [`flush`](Self::flush).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn put(
        &mut self,
        endpoint: EndpointId,
        rkey: RkeyId,
        remote: u64,
        from: P,
        token: u64,
    ) -> Started<P> {
        self.access(endpoint, rkey, from, Kind::Put, token, |core, handle, rkey, slot, address, length| {
            // SAFETY: the memory is in the slot until the operation has ended; endpoint and key are live.
            unsafe {
                (core.api.ucp_put_nbx)(handle, address.cast(), length, remote, rkey, &core.parameters(slot))
            }
        })
    }

    fn access(
        &mut self,
        endpoint: EndpointId,
        rkey: RkeyId,
        memory: P,
        kind: Kind,
        token: u64,
        call: impl FnOnce(&Core<P>, ucp_ep_h, ucp_rkey_h, NonNull<Slot<P>>, *mut u8, usize) -> ucs_status_ptr_t,
    ) -> Started<P> {
        let begun =
            self.core().and_then(|core| Ok((core, core.begin_with_rkey(kind, token, endpoint, rkey)?)));
        let (core, (slot, handle, rkey)) = match begun {
            Ok(begun) => begun,
            Err(error) => return Started::Failed(error, Some(memory)),
        };
        // SAFETY: ours alone until UCX gets it.
        let fields = unsafe { &mut *slot.as_ptr() };
        fields.length = memory.len();
        let length = fields.length;
        let address = fields.payload.insert(memory).address();
        let pointer = match length {
            0 => ptr::null_mut(),
            _ => call(core, handle, rkey, slot, address, length),
        };
        core.settle(slot, pointer, |fields| fields.payload.take())
    }

    /// Ends when everything sent or put on the endpoint before is done at the peer's side of the transport.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn flush(&mut self, endpoint: EndpointId, token: u64) -> Started<P> {
        let begun = self.core().and_then(|core| {
            let slot = core.slot(Kind::Flush, token, 0)?;
            Ok((core, slot, core.begin(slot, endpoint)?))
        });
        let (core, slot, handle) = match begun {
            Ok(begun) => begun,
            Err(error) => return Started::Failed(error, None),
        };
        // SAFETY: an open endpoint; the slot lives until the operation has ended.
        let pointer = unsafe { (core.api.ucp_ep_flush_nbx)(handle, &core.parameters(slot)) };
        core.settle(slot, pointer, |_| None)
    }

    /// Adds to a peer's 64-bit word, aligned to 8. Always followed by a [`Kind::Atomic`] with the value before.
    ///
    /// UCX 1.13 emulates atomics where the transport has none; 1.22 does not (measured, TCP and shared memory with the
    /// caller's memory): there they end with `CANCELED`, and the endpoint may fail.
    ///
    /// # Errors
    /// `InvalidArgument` for an unaligned address; as [`get`](Self::get).
    pub fn fetch_add(
        &mut self,
        endpoint: EndpointId,
        rkey: RkeyId,
        remote: u64,
        add: u64,
        token: u64,
    ) -> Result<()> {
        self.atomic(endpoint, rkey, remote, ucx_sys::UCP_ATOMIC_OP_ADD, (add, 0), token)
    }

    /// Replaces a peer's 64-bit word, aligned to 8, if it is `expected`. Always followed by a [`Kind::Atomic`] with the
    /// value before.
    ///
    /// # Errors
    /// As [`fetch_add`](Self::fetch_add).
    pub fn compare_swap(
        &mut self,
        endpoint: EndpointId,
        rkey: RkeyId,
        remote: u64,
        expected: u64,
        new: u64,
        token: u64,
    ) -> Result<()> {
        self.atomic(endpoint, rkey, remote, ucx_sys::UCP_ATOMIC_OP_CSWAP, (expected, new), token)
    }

    fn atomic(
        &mut self,
        endpoint: EndpointId,
        rkey: RkeyId,
        remote: u64,
        operation: u32,
        (operand, value): (u64, u64),
        token: u64,
    ) -> Result<()> {
        let core = self.core()?;
        if !remote.is_multiple_of(8) {
            return Err(Error::new(
                Status::InvalidArgument,
                "an atomic on an address that is not aligned to 8",
            ));
        }
        let (slot, handle, rkey) = core.begin_with_rkey(Kind::Atomic, token, endpoint, rkey)?;
        // SAFETY: ours alone until UCX gets it.
        let fields = unsafe { &mut *slot.as_ptr() };
        fields.length = 8;
        fields.operand = operand;
        fields.value = value;
        let mut parameters = core.parameters(slot);
        parameters.op_attr_mask |=
            ucx_sys::UCP_OP_ATTR_FIELD_DATATYPE | ucx_sys::UCP_OP_ATTR_FIELD_REPLY_BUFFER;
        parameters.datatype = ucx_sys::ucp_dt_make_contig(8);
        parameters.reply_buffer = (&raw mut fields.value).cast();
        let operand = (&raw const fields.operand).cast();
        // SAFETY: operand and result are in the slot until the operation has ended; endpoint and key are live.
        let pointer =
            unsafe { (core.api.ucp_atomic_op_nbx)(handle, operation, operand, 1, remote, rkey, &parameters) };
        core.finish_if_ended(slot, pointer);
        Ok(())
    }
}

/// The flags of a message with data.
fn flags(protocol: Protocol, length: usize) -> u32 {
    match protocol {
        Protocol::Auto => 0,
        Protocol::Eager => ucx_sys::UCP_AM_SEND_FLAG_EAGER,
        Protocol::Rendezvous if length == 0 => 0,
        Protocol::Rendezvous => ucx_sys::UCP_AM_SEND_FLAG_RNDV,
    }
}

impl<P: Pinned> Core<P> {
    /// Counts the slot's operation on an endpoint, or gives the slot back.
    #[inline]
    fn begin(&self, slot: NonNull<Slot<P>>, endpoint: EndpointId) -> Result<ucp_ep_h> {
        match self.endpoints.borrow_mut().begin(endpoint) {
            Ok(handle) => {
                // SAFETY: ours alone until UCX gets it.
                unsafe { &mut *slot.as_ptr() }.endpoint = Some(endpoint.index);
                Ok(handle)
            }
            Err(error) => {
                self.unused(slot);
                Err(error)
            }
        }
    }

    fn begin_with_rkey(
        &self,
        kind: Kind,
        token: u64,
        endpoint: EndpointId,
        rkey: RkeyId,
    ) -> Result<(NonNull<Slot<P>>, ucp_ep_h, ucp_rkey_h)> {
        let slot = self.slot(kind, token, 0)?;
        let begun = self.endpoints.borrow_mut().begin_with_rkey(endpoint, rkey);
        match begun {
            Ok((handle, key)) => {
                // SAFETY: ours alone until UCX gets it.
                let fields = unsafe { &mut *slot.as_ptr() };
                fields.endpoint = Some(endpoint.index);
                fields.rkey = Some(rkey);
                Ok((slot, handle, key))
            }
            Err(error) => {
                self.unused(slot);
                Err(error)
            }
        }
    }

    /// A frame alone goes as data without a header: UCX's shortest path.
    #[inline]
    fn send_frame(&self, handle: ucp_ep_h, slot: NonNull<Slot<P>>, length: usize) -> ucs_status_ptr_t {
        // SAFETY: the slot is live.
        let frame = unsafe { &raw const (*slot.as_ptr()).frame };
        let parameters = self.parameters(slot);
        // SAFETY: an open endpoint; the frame is in the slot until the operation has ended.
        unsafe {
            (self.api.ucp_am_send_nbx)(handle, AM_ID, ptr::null(), 0, frame.cast(), length, &parameters)
        }
    }

    #[inline]
    fn send_data(
        &self,
        handle: ucp_ep_h,
        slot: NonNull<Slot<P>>,
        frame_length: usize,
        data: *const u8,
        length: usize,
        protocol: Protocol,
    ) -> ucs_status_ptr_t {
        // SAFETY: the slot is live.
        let frame = unsafe { &raw const (*slot.as_ptr()).frame };
        let mut parameters = self.parameters(slot);
        parameters.op_attr_mask |= ucx_sys::UCP_OP_ATTR_FIELD_FLAGS;
        parameters.flags = flags(protocol, length);
        let (header, data) = (frame.cast(), data.cast());
        // SAFETY: an open endpoint; frame and payload are in the slot until the operation has ended.
        unsafe { (self.api.ucp_am_send_nbx)(handle, AM_ID, header, frame_length, data, length, &parameters) }
    }

    /// What became of an operation; one that has ended frees its slot, and `memory` is taken out of it.
    #[inline]
    fn settle<M>(
        &self,
        slot: NonNull<Slot<P>>,
        pointer: ucs_status_ptr_t,
        memory: impl FnOnce(&mut Slot<P>) -> Option<M>,
    ) -> Started<M> {
        let ended = match ucx_sys::pointer_status(pointer) {
            Ok(Some(_)) => return Started::Pending,
            Ok(None) => Ok(()),
            Err(status) => Err(UcsStatus(status)),
        };
        // SAFETY: UCX has ended the operation: the slot is ours again.
        let fields = unsafe { &mut *slot.as_ptr() };
        let memory = memory(fields);
        if let Some(endpoint) = fields.endpoint {
            self.endpoints.borrow_mut().end(endpoint, fields.rkey);
        }
        self.unused(slot);
        match ended {
            Ok(()) => Started::Done(memory),
            Err(status) => Started::Failed(status.plain(), memory),
        }
    }
}
