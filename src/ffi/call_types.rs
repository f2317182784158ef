//! Structures of calls, with their layout asserted in `layout`.
#![allow(unsafe_code, reason = "vouches for structures that are plain integers and pointers")]

use std::ffi::c_void;

use super::argument::Versioned;
use super::handle::*;
use super::types::rde_bytes;

/// A service's header: 24 bytes that travel with every call and reply.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_rpc_header {
    /// A file's offset, a cookie, a size.
    pub offset: u64,
    /// Bytes wanted or carried.
    pub len: u64,
    /// The service's.
    pub flags: u32,
    /// Zero: a receiver refuses anything else.
    pub reserved: u32,
}

/// A part of a payload: bytes that are copied, or a range of a buffer that is not.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_piece {
    /// Bytes that are copied, at most 64 KiB in all pieces of a payload; NULL with a buffer.
    pub data: *const c_void,
    /// Bytes of the piece.
    pub length: usize,
    /// Registered memory, or zero.
    pub buffer: rde_buffer,
    /// Where the piece begins in the buffer, in bytes.
    pub buffer_offset: u64,
}

/// What to call, with what, and where the reply goes. Set struct_size; fields that are not used are zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_call_arguments {
    /// sizeof(rde_call_arguments).
    pub struct_size: u32,
    /// RDE_CALL_ONE_WAY, RDE_CALL_ONCE, RDE_CALL_CHECKSUM or 0.
    pub flags: u32,
    /// The service's number of what is called.
    pub method: u32,
    /// Microseconds until the call times out, here and at the peer; 0 is never.
    pub timeout_us: u32,
    /// Travels with the call.
    pub header: rde_rpc_header,
    /// The payload, in the order in which it arrives.
    pub pieces: *const rde_piece,
    /// Pieces of the payload, at most RDE_PIECES_MAX.
    pub piece_count: u32,
    /// RDE_CALL_ONCE: the slot, below 1,024: it has one call at a time.
    pub slot: u16,
    /// Zero.
    pub reserved: u16,
    /// Where the reply's payload goes, until the completion; zero: inline, or a buffer of the library's.
    pub reply: rde_buffer,
    /// Where it begins in that buffer, in bytes.
    pub reply_offset: u64,
    /// Room for it, in bytes.
    pub reply_capacity: u64,
    /// RDE_CALL_ONCE: the slot's first call is 1, and each next one is one more. A repetition has the same number.
    pub sequence: u32,
    /// Zero.
    pub reserved1: u32,
    /// Returned as it is in the completion.
    pub user_data: u64,
}

/// What an inbound call tells about itself. Set struct_size before asking.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_call_details {
    /// sizeof(rde_call_details), set by the caller.
    pub struct_size: u32,
    /// RDE_CALL_*.
    pub flags: u32,
    /// What is called.
    pub method: u32,
    /// Zero.
    pub reserved: u32,
    /// The session it came over.
    pub session: rde_session,
    /// What came with it.
    pub header: rde_rpc_header,
    /// Nanoseconds until the caller gives up; 0 without a deadline, 1 when it has passed.
    pub left_ns: u64,
    /// The payload, until the call is answered or released.
    pub payload: rde_bytes,
    /// The buffer that has the payload, for pieces and puts; zero for a short one. It goes with the call.
    pub buffer: rde_buffer,
}

// SAFETY: as those of `types`.
unsafe impl Versioned for rde_call_arguments {
    const FIRST: usize = 96;
}
// SAFETY: as those of `types`.
unsafe impl Versioned for rde_call_details {
    const FIRST: usize = 80;
}
