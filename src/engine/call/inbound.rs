//! An inbound call: it is answered once, whatever becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reply::{Answer, Reply};
use super::table::Seat;
use super::{CALLS, Header, Once};
use crate::engine::buffer::{Buffer, Span};
use crate::engine::handle;
use crate::engine::session::Session;
use crate::status::{Error, Result, Status};

/// Bytes of a payload that are kept in place.
const SHORT: usize = 64;

/// What came with a call.
pub(in crate::engine) enum Payload {
    Short([u8; SHORT], u8),
    Copied(Box<[u8]>),
    Buffer(Arc<Buffer>),
}

impl Payload {
    /// Nothing.
    const EMPTY: Payload = Payload::Short([0; SHORT], 0);

    /// Becomes a copy of bytes that came in one piece.
    pub fn fill(&mut self, bytes: &[u8]) {
        match self {
            Payload::Short(short, len) if bytes.len() <= SHORT => {
                short[..bytes.len()].copy_from_slice(bytes);
                *len = bytes.len() as u8;
            }
            _ => *self = Payload::Copied(bytes.into()),
        }
    }

    /// The bytes, unless a buffer has them.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Payload::Short(bytes, len) => Some(&bytes[..usize::from(*len)]),
            Payload::Copied(bytes) => Some(bytes),
            Payload::Buffer(_) => None,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Payload::Buffer(buffer) => buffer.len(),
            Payload::Short(..) | Payload::Copied(_) => self.bytes().map_or(0, <[u8]>::len),
        }
    }
}

/// What is known of a call, and whom to answer. One after another uses the same memory and [`Seat`].
pub(in crate::engine) struct Inbound {
    /// Its slot among [`CALLS`].
    pub seat: Seat,
    pub session: Arc<Session>,
    pub peer: u64,
    pub channel: u32,
    pub request: u64,
    pub one_way: bool,
    pub method: u32,
    pub header: Header,
    pub deadline: Option<Instant>,
    pub once: Option<Once>,
    /// Bytes of the payload.
    pub length: u64,
    pub payload: Payload,
}

impl Inbound {
    /// A call of which nothing is known but its session; `None` when there are too many.
    pub fn new(session: Arc<Session>) -> Option<Box<Inbound>> {
        Some(Box::new(Inbound {
            seat: Seat::claim()?,
            session,
            peer: 0,
            channel: 0,
            request: 0,
            one_way: false,
            method: 0,
            header: Header::default(),
            deadline: None,
            once: None,
            length: 0,
            payload: Payload::EMPTY,
        }))
    }

    /// Makes it ready for another call; `false` when its seat is worn out.
    pub fn renew(&mut self) -> bool {
        self.let_go();
        self.seat.renew()
    }

    fn let_go(&mut self) {
        if let Payload::Buffer(buffer) = &self.payload
            && let Some(context) = handle::CONTEXTS.get(buffer.context())
        {
            // The handle was told for reading only; who released it all the same was first.
            let _ = context.release_buffer(buffer);
        }
        match &mut self.payload {
            Payload::Short(_, len) => *len = 0,
            other => *other = Payload::EMPTY,
        }
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// What a call tells about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallInfo {
    /// What is called.
    pub method: u32,
    /// The caller's header.
    pub header: Header,
    /// The session it came over: its handle.
    pub session: u64,
    /// Time left; `None`: no deadline.
    pub left: Option<Duration>,
    /// Bytes of the payload.
    pub length: u64,
    /// The payload's first byte; valid until the call is answered.
    pub payload: *const u8,
    /// The buffer that has the payload, 0 if none has.
    pub buffer: u64,
    /// Nobody waits for an answer.
    pub one_way: bool,
    /// Its caller has given it up, or is gone.
    pub canceled: bool,
    /// It happens once: a repetition is answered by the engine.
    pub once: bool,
}

impl Inbound {
    fn info(&self) -> CallInfo {
        let (payload, buffer) = match &self.payload {
            Payload::Buffer(buffer) => (buffer.address().cast_const(), buffer.id()),
            other => (other.bytes().unwrap_or_default().as_ptr(), 0),
        };
        CallInfo {
            method: self.method,
            header: self.header,
            session: self.session.id(),
            left: self.deadline.map(|at| at.saturating_duration_since(Instant::now())),
            length: self.payload.len() as u64,
            payload,
            buffer,
            one_way: self.one_way,
            canceled: self.seat.is_canceled(),
            once: self.once.is_some(),
        }
    }
}

/// A call that waits for its answer. Dropping it answers `CANCELED`, in a panic `INTERNAL`. Any thread.
pub struct Call(Option<Box<Inbound>>);

impl Call {
    /// The call of a completion `CallReceived`: the caller's to answer, and the handle is stale. `STALE_HANDLE` when
    /// it was answered, taken, or its session has ended before it was handed out.
    pub fn take(handle: u64) -> Result<Call> {
        let stale = || Error::new(Status::StaleHandle, "this call is answered, or never was one");
        CALLS.take(handle).map(|inbound| Call(Some(inbound))).ok_or_else(stale)
    }

    /// What the call with this handle tells about itself.
    pub fn info_of(handle: u64) -> Result<CallInfo> {
        let stale = || Error::new(Status::StaleHandle, "this call is answered, or never was one");
        CALLS.with(handle, Inbound::info).ok_or_else(stale)
    }

    /// Gives the call back to its handle.
    pub fn put_back(mut self) {
        if let Some(inbound) = self.0.take() {
            CALLS.open(inbound);
        }
    }

    fn inbound(&self) -> &Inbound {
        match &self.0 {
            Some(inbound) => inbound,
            None => unreachable!("only what consumes a call empties it"),
        }
    }

    /// What is called.
    pub fn method(&self) -> u32 {
        self.inbound().method
    }

    /// The caller's header.
    pub fn header(&self) -> Header {
        self.inbound().header
    }

    /// The session it came over.
    pub fn session(&self) -> &Arc<Session> {
        &self.inbound().session
    }

    /// Until when the caller waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.inbound().deadline
    }

    /// Whether the caller has given it up, or is gone.
    pub fn is_canceled(&self) -> bool {
        self.inbound().seat.is_canceled()
    }

    /// Whether nobody waits for an answer.
    pub fn is_one_way(&self) -> bool {
        self.inbound().one_way
    }

    /// Whether it happens once, and its reply is kept for its repetitions.
    pub fn is_once(&self) -> bool {
        self.inbound().once.is_some()
    }

    /// Bytes of the payload.
    #[allow(clippy::len_without_is_empty, reason = "a call is no container")]
    pub fn len(&self) -> usize {
        self.inbound().payload.len()
    }

    /// The payload, if it is a short one; a longer one is in [`Call::span`].
    pub fn bytes(&self) -> Option<&[u8]> {
        self.inbound().payload.bytes()
    }

    /// The registered memory that has the payload, if it is a long one. It lives as long as a span of it.
    pub fn span(&self) -> Option<Span> {
        match &self.inbound().payload {
            Payload::Buffer(buffer) => buffer.whole().ok(),
            Payload::Short(..) | Payload::Copied(_) => None,
        }
    }

    /// The buffer that has the payload, for [`super::Piece::buffer`]; 0 for a short one.
    pub fn buffer(&self) -> u64 {
        match &self.inbound().payload {
            Payload::Buffer(buffer) => buffer.id(),
            Payload::Short(..) | Payload::Copied(_) => 0,
        }
    }

    /// A copy of the payload.
    pub fn to_vec(&self) -> Vec<u8> {
        if let Some(bytes) = self.bytes() {
            return bytes.to_vec();
        }
        let mut bytes = vec![0; self.len()];
        if let Some(span) = self.span() {
            let _ = span.copy_to_slice(0, &mut bytes);
        }
        bytes
    }

    /// Answers. When the reply is refused (`INVALID_ARGUMENT`, `STALE_HANDLE`, `OUT_OF_RANGE`, `OUT_OF_MEMORY`) the
    /// call comes back and waits for another answer. To a caller that is gone it goes nowhere, which is no error.
    pub fn reply(mut self, reply: &Reply<'_>) -> std::result::Result<(), (Status, Call)> {
        let Some(inbound) = self.0.take() else { return Ok(()) };
        let Ok(worker) = inbound.session.worker() else { return Ok(()) };
        match reply.check(worker.context(), &inbound) {
            Ok(body) => {
                worker.answer(Answer::reply(inbound, reply, body));
                Ok(())
            }
            Err(status) => {
                self.0 = Some(inbound);
                Err((status, self))
            }
        }
    }

    /// Answers with a status of the engine's: the service did not run. `retry_after` tells the caller when to try again.
    /// Of a call that happens once nothing is kept: it may come again.
    pub fn refuse(mut self, status: Status, retry_after: Duration) {
        if let Some(inbound) = self.0.take() {
            refuse(inbound, status, false, retry_after);
        }
    }

    /// The same, but the service may have done something: a call that happens once does not run again.
    pub fn fail(mut self, status: Status) {
        if let Some(inbound) = self.0.take() {
            refuse(inbound, status, true, Duration::ZERO);
        }
    }
}

fn refuse(inbound: Box<Inbound>, status: Status, ran: bool, retry_after: Duration) {
    if let Ok(worker) = inbound.session.worker() {
        worker.answer(Answer::refusal(inbound, status, ran, retry_after));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(inbound) = self.0.take() {
            let panicked = std::thread::panicking();
            let status = if panicked { Status::Internal } else { Status::Canceled };
            refuse(inbound, status, true, Duration::ZERO);
        }
    }
}
