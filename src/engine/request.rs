//! What goes in and what comes out: [`Request`] and [`Completion`], laid out as the C ABI shows them.

use super::bytes::Bytes;
use super::call::{Header, Once};
use crate::limits;
use crate::status::Status;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a request asks for, and what a completion answers. Values are part of the ABI.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Does nothing and completes: a marker, or a test of the queue.
    Nop = 0,
    /// Reads a region of a peer into a local buffer.
    Get = 1,
    /// Writes a local buffer into a region of a peer.
    Put = 2,
    /// Completes when every put submitted before it on the session is visible at the peer.
    Flush = 3,
    /// Adds to a u64 of a region; the value before is returned.
    FetchAdd = 4,
    /// Replaces a u64 of a region if it has the expected value; the value before is returned.
    CompareSwap = 5,
    /// Sends one message to the peer of the session.
    Send = 6,
    /// Makes a region handle from a key that a peer exported.
    RegionImport = 7,
    /// A connect has ended; `value` is the session.
    SessionConnect = 8,
    /// Calls a method of the peer; `detail` is the service's status, `value` the buffer that holds the reply.
    Call = 9,
    /// Calls a method of the peer that nobody answers.
    OneWay = 10,
    /// Event: a listener accepted a session; `value` is the session.
    SessionAccepted = 32,
    /// Event or answer: a session has ended; `value` is the session.
    SessionClosed = 33,
    /// Event: a message arrived.
    Message = 34,
    /// Event: a peer calls; `value` is the call, `detail` the method.
    CallReceived = 35,
    /// Event: nobody waits for the answer to a call any more; `value` is the call, which is still to be answered.
    CallCanceled = 36,
}

impl Op {
    /// The operation with this number, if a request may ask for it.
    pub fn requested(number: u16) -> Option<Op> {
        use Op::*;
        [Nop, Get, Put, Flush, FetchAdd, CompareSwap, Send, RegionImport, Call, OneWay]
            .into_iter()
            .find(|op| *op as u16 == number)
    }
}

/// `Request::flags`: `data` is an array of [`Segment`]s (get and put only).
pub const REQUEST_VECTORED: u16 = 1 << 0;

/// `Request::flags` of a call with a buffer for its reply: the reply's payload is counted while it is received, where that
/// is cheap (streams).
pub const REQUEST_CHECKSUM: u16 = 1 << 1;

/// `Completion::flags`: the message is in `data`, its length in `length`; there is no buffer.
pub const COMPLETION_INLINE: u32 = 1 << 0;

/// `Completion::flags`: an event that no request asked for.
pub const COMPLETION_EVENT: u32 = 1 << 1;

/// `Completion::flags`: `value` is the CRC-32C of the bytes that came.
pub const COMPLETION_CHECKSUM: u32 = 1 << 2;

/// Longest message that arrives inside its completion, in bytes.
pub const INLINE_MESSAGE: usize = 24;

/// One piece of a vectored get or put.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Segment {
    /// Offset in the local buffer, in bytes.
    pub buffer_offset: u64,
    /// Offset in the region, in bytes.
    pub region_offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// One submission; 96 bytes. Fields that an operation does not use are zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Returned as it is in the completion; also names the request to `cancel`.
    pub user_data: u64,
    /// The session the operation goes to.
    pub session: u64,
    /// An [`Op`].
    pub op: u16,
    /// `REQUEST_*` or 0.
    pub flags: u16,
    /// Microseconds until the request times out; 0 is never.
    pub timeout_us: u32,
    /// Local memory.
    pub buffer: u64,
    /// Offset in the local buffer, in bytes.
    pub buffer_offset: u64,
    /// Bytes to move.
    pub length: u64,
    /// Memory of the peer.
    pub region: u64,
    /// Offset in the region, in bytes.
    pub region_offset: u64,
    /// Copied during submit: a message, a key, or segments.
    pub data: Bytes<'a>,
    /// Fetch-add: what to add. Compare-swap: what to store.
    pub operand: u64,
    /// Compare-swap: what must be there.
    pub compare: u64,
}

/// One completion; 64 bytes, one cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The request's; of an event, the listener's or the session's.
    pub user_data: u64,
    /// An [`Op`].
    pub op: u32,
    /// A [`Status`].
    pub status: i32,
    /// Bytes moved, or the message's length.
    pub length: u64,
    /// New handle, value before an atomic, the buffer that holds a message, or a checksum.
    pub value: u64,
    /// `COMPLETION_*`.
    pub flags: u32,
    /// errno or transport status, 0 if none; of a call the service's status, or microseconds until it may be tried again.
    pub detail: i32,
    /// A short message's or reply's bytes; a reply's header; zero otherwise. Of a message in a buffer the first 8 bytes
    /// name its session, little-endian.
    pub data: [u8; INLINE_MESSAGE],
}

const _: () = assert!(size_of::<Request>() == 96 && align_of::<Request>() == 8);
const _: () = assert!(size_of::<Completion>() == 64 && align_of::<Completion>() == 8);
const _: () = assert!(size_of::<Segment>() == 24);

/// How a call is laid out in a request: `region` is `method | slot << 32 | CALL_* << 48`, `region_offset`, `operand` and
/// the low half of `compare` are the header's `offset`, `len` and `flags`, the high half of `compare` is the sequence.
/// `data` is the payload, or pieces of it; `buffer`, `buffer_offset` and `length` are where the reply goes.
impl<'a> Request<'a> {
    /// A call of `method` with a payload; what it does not say is left as it is by default.
    pub fn call(session: u64, method: u32, header: &Header, payload: Bytes<'a>) -> Request<'a> {
        Request {
            session,
            op: Op::Call as u16,
            region: method.into(),
            region_offset: header.offset,
            operand: header.len,
            compare: header.flags.into(),
            data: payload,
            ..Request::default()
        }
    }

    /// The same, and it happens once; see [`Once`].
    #[must_use]
    pub fn once(mut self, once: Once) -> Request<'a> {
        self.region |= u64::from(once.slot) << 32 | u64::from(CALL_ONCE) << 48;
        self.compare |= u64::from(once.sequence) << 32;
        self
    }

    /// What a call's request says: method, header, and which one it is if it happens once.
    pub(in crate::engine) fn call_parts(&self) -> Option<(u32, Header, Option<Once>)> {
        let flags = (self.region >> 48) as u16;
        let header =
            Header { offset: self.region_offset, len: self.operand, flags: self.compare as u32, reserved: 0 };
        let once = Once { slot: (self.region >> 32) as u16, sequence: (self.compare >> 32) as u32 };
        let once = match flags {
            0 if once == (Once { slot: 0, sequence: 0 }) => None,
            CALL_ONCE if once.slot < limits::ONCE_SLOTS && once.sequence != 0 => Some(once),
            _ => return None,
        };
        Some((self.region as u32, header, once))
    }
}

/// Flag of a call: it happens once.
pub const CALL_ONCE: u16 = 1 << 0;

impl Completion {
    /// A completion of `op` with nothing else set.
    pub fn new(user_data: u64, op: Op, status: Status) -> Completion {
        Completion {
            user_data,
            op: op as u32,
            status: status as i32,
            length: 0,
            value: 0,
            flags: 0,
            detail: 0,
            data: [0; INLINE_MESSAGE],
        }
    }
}

impl Default for Completion {
    fn default() -> Completion {
        Completion::new(0, Op::Nop, Status::Ok)
    }
}
