//! Structures and enumerations of the header, with their layout asserted in `layout`.
#![allow(unsafe_code, reason = "vouches for structures that are plain integers and pointers")]

use std::ffi::{c_char, c_void};

use super::argument::{Versioned, char_array};
use crate::status::Error;

pub use super::call_types::*;
pub use super::constants::*;
pub use super::handle::*;
pub use crate::status::Status as rde_status;
pub use crate::telemetry::Stats as rde_stats;

/// What a request asks for, and what a completion answers.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rde_op {
    /// Does nothing and completes: a marker, or a test of the queue.
    Nop = 0,
    /// Reads a region into a buffer.
    Get = 1,
    /// Writes a buffer into a region.
    Put = 2,
    /// Completes when every put submitted before it on the session is visible at the peer.
    Flush = 3,
    /// Adds `operand` to a u64 of a region; `value` is what it was before.
    FetchAdd = 4,
    /// Stores `operand` in a u64 of a region if it is `compare`; `value` is what it was before.
    CompareSwap = 5,
    /// Sends one message to the session's peer.
    Send = 6,
    /// Makes a region from a key (64 bytes in `data`); `value` is the region.
    RegionImport = 7,
    /// A connect has ended; `value` is the session, and the status says how it went.
    SessionConnect = 8,
    /// Calls a method of the session's peer; use rde_call or rde_call_prepare.
    Call = 9,
    /// Calls a method that nobody answers; it completes when it has left.
    OneWay = 10,
    /// Event: a listener accepted a session; `value` is the session.
    SessionAccepted = 32,
    /// Event or answer: a session has ended; `value` is the session, and nothing of it follows.
    SessionClosed = 33,
    /// Event: a message arrived, inline or in a buffer that is now the receiver's.
    Message = 34,
    /// Event: a peer calls; `value` is the call, to be answered by rde_call_reply, rde_call_refuse or rde_call_release.
    CallReceived = 35,
    /// Event: nobody waits for the answer to a call any more; `value` is the call, which is still to be released.
    CallCanceled = 36,
}

/// A session's life.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rde_session_state {
    /// Dialling, or waiting for the peer's worker.
    Connecting = 0,
    /// Operations may go.
    Open = 1,
    /// Closed by us; its operations are ending.
    Closing = 2,
    /// Ended in order.
    Closed = 3,
    /// The peer was lost.
    Lost = 4,
}

/// Borrowed bytes. `data` may be NULL only when `len` is 0. Text is UTF-8 and needs no NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_bytes {
    /// The first byte.
    pub data: *const c_void,
    /// How many.
    pub len: usize,
}

/// What went wrong in a control call. The caller's; every pointer to it may be NULL; written only on failure. 256 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_error {
    /// An rde_status.
    pub status: i32,
    /// errno when the operating system failed a call, else 0.
    pub os_errno: i32,
    /// ucs_status_t when UCX failed a call, else 0.
    pub transport_status: i32,
    /// Bytes of `message` without its NUL.
    pub message_len: u32,
    /// What happened and what to do: UTF-8, NUL-terminated, cut to fit.
    pub message: [c_char; 240],
}

/// A capability to touch a range of a peer's buffer: give it to nobody who shall not. 64 bytes, may be copied and sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct rde_key {
    /// Opaque.
    pub bytes: [u8; RDE_KEY_BYTES],
}

/// Options of a context. Start from RDE_CONTEXT_OPTIONS_INIT; a field that is zero takes its default.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_context_options {
    /// sizeof(rde_context_options).
    pub struct_size: u32,
    /// Zero.
    pub flags: u32,
    /// Shown to peers and in metrics; at most 64 bytes, for the call.
    pub name: rde_bytes,
    /// UCX network devices ("mlx5_0:1,eth0"), at most 255 bytes, for the call; empty takes those that the addresses in use belong to.
    pub devices: rde_bytes,
    /// RDE_TRANSPORT_*; 0 is all.
    pub transports: u32,
    /// RDE_WAY_*; 0 is all. RMA without MAPPED forces UCX RMA, over shared memory too.
    pub ways: u32,
    /// Bytes of registered memory that the context may allocate; 0 is 1 GiB.
    pub memory_limit_bytes: u64,
    /// Sessions, dialled and accepted; 0 is 10,000, at most 1,048,576.
    pub max_sessions: u32,
    /// Keys that may be exported at a time; 0 is 100,000, at most 16,777,216.
    pub max_exports: u32,
    /// A peer that is silent for this long is lost; 0 is 3 s, else 10 ms to an hour.
    pub keepalive_ns: u64,
    /// Until a dial gives up; 0 is 5 s, else 10 ms to an hour.
    pub connect_timeout_ns: u64,
    /// A session without an operation for this long is closed; 0 is never.
    pub idle_timeout_ns: u64,
    /// Longest message that a session sends or takes, in bytes; 0 is 16 MiB.
    pub max_message_bytes: u64,
    /// Bytes of the payloads of one session's calls that wait for their answer here; 0 is 64 MiB.
    pub max_call_bytes: u64,
    /// Calls of one session that wait for their answer here; 0 is 1,024, at most 262,144.
    pub max_calls: u32,
    /// Zero.
    pub reserved0: u32,
    /// 16 to 1,024 random bytes that every peer must have too, for the call; empty: none. Both sides prove that they know
    /// it, without telling it, before anything is served: a peer that knows another one is PERMISSION_DENIED, one that
    /// knows none, or asks for none, UNAUTHORIZED. UCX's own ports do not ask for it: see docs/wire.md.
    pub secret: rde_bytes,
}

/// Options of a worker. Start from RDE_WORKER_OPTIONS_INIT; a field that is zero takes its default.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_worker_options {
    /// sizeof(rde_worker_options).
    pub struct_size: u32,
    /// RDE_WORKER_* or 0.
    pub flags: u32,
    /// Requests that may wait to be taken by the worker; 0 is 4,096, at most 1,048,576.
    pub submission_capacity: u32,
    /// Requests that may be accepted and not yet polled; 0 is 16,384, at most 1,048,576.
    pub completion_capacity: u32,
    /// How long an idle worker's thread spins before it sleeps; 0 is 50 µs, at most 1 s. What takes longer than that, such as a
    /// batch of many needles, pays for a wake-up too. Once several waits in a row took longer, it spins less and then not at
    /// all, until one does not.
    pub spin_ns: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

/// What a context found and is bound by. Set struct_size before asking. Texts are NUL-terminated and cut to fit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_context_details {
    /// sizeof(rde_context_details), set by the caller.
    pub struct_size: u32,
    /// Zero.
    pub flags: u32,
    /// UCX's version.
    pub ucx_major: u32,
    /// UCX's version.
    pub ucx_minor: u32,
    /// UCX's version.
    pub ucx_patch: u32,
    /// Limit of sessions.
    pub max_sessions: u32,
    /// Sessions now, and slots that are set aside for connected peers.
    pub sessions: u32,
    /// Zero.
    pub reserved: u32,
    /// Limit of registered memory in bytes.
    pub memory_limit_bytes: u64,
    /// Bytes handed out.
    pub memory_used_bytes: u64,
    /// Bytes of revoked memory that a peer may still have mapped.
    pub memory_retired_bytes: u64,
    /// Bytes that lie on huge pages.
    pub memory_huge_bytes: u64,
    /// Path of the UCX library that was loaded.
    pub ucx_path: [c_char; 256],
    /// UCX transports that the options allow and this machine has, comma-separated.
    pub transports: [c_char; 256],
    /// Their devices, comma-separated.
    pub devices: [c_char; 256],
}

/// What a session tells about itself. Set struct_size before asking. Texts are NUL-terminated and cut to fit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_session_details {
    /// sizeof(rde_session_details), set by the caller.
    pub struct_size: u32,
    /// RDE_SESSION_*.
    pub flags: u32,
    /// An rde_session_state.
    pub state: u32,
    /// The peer's process id as it told us.
    pub peer_pid: u32,
    /// Gets and puts that went each way: mapped, RMA, message.
    pub way_operations: [u64; 3],
    /// Their bytes: mapped, RMA, message.
    pub way_bytes: [u64; 3],
    /// UCX transports below the session.
    pub transport: [c_char; 64],
    /// The name of the peer's context.
    pub peer_name: [c_char; 72],
    /// The address that was dialled, or the peer's own.
    pub address: [c_char; RDE_ADDRESS_MAX],
}

/// What a region tells about itself. Set struct_size before asking.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct rde_region_details {
    /// sizeof(rde_region_details), set by the caller.
    pub struct_size: u32,
    /// One of RDE_WAY_*: how gets and puts on it go.
    pub way: u32,
    /// RDE_RIGHT_*.
    pub rights: u32,
    /// Zero.
    pub reserved: u32,
    /// Bytes of the range that its key grants.
    pub length: u64,
}

/// One piece of a vectored get or put.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_segment {
    /// Offset in the local buffer, in bytes.
    pub buffer_offset: u64,
    /// Offset in the region, in bytes.
    pub region_offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// One submission; 96 bytes. Fields that an operation does not use are zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_request {
    /// Returned as it is in the completion; also names the request to rde_worker_cancel.
    pub user_data: u64,
    /// The session that the operation goes to.
    pub session: rde_session,
    /// RDE_OP_*.
    pub op: u16,
    /// RDE_REQUEST_* or 0.
    pub flags: u16,
    /// Microseconds until the request times out; 0 is never.
    pub timeout_us: u32,
    /// Local memory, until the completion.
    pub buffer: rde_buffer,
    /// Offset in the local buffer, in bytes.
    pub buffer_offset: u64,
    /// Bytes to move.
    pub length: u64,
    /// The peer's memory.
    pub region: rde_region,
    /// Offset in the region, in bytes; of an atomic, a multiple of 8.
    pub region_offset: u64,
    /// Copied during the submit: a message, a key, or segments.
    pub data: rde_bytes,
    /// Fetch-add: what to add. Compare-swap: what to store.
    pub operand: u64,
    /// Compare-swap: what must be there.
    pub compare: u64,
}

/// One completion; 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_completion {
    /// The request's; of an event, the listener's or the session's.
    pub user_data: u64,
    /// RDE_OP_*.
    pub op: u32,
    /// An rde_status.
    pub status: i32,
    /// Bytes moved, or the message's length.
    pub length: u64,
    /// Id of a new object, value before an atomic, or the buffer that holds a message.
    pub value: u64,
    /// RDE_COMPLETION_*.
    pub flags: u32,
    /// errno or transport status, 0 if none. CALL: the service's status; with QUEUE_FULL and BUSY microseconds until it
    /// may be tried again. CALL_RECEIVED: the method.
    pub detail: i32,
    /// An inline message's or payload's bytes. CALL, CALL_RECEIVED: else the rde_rpc_header. Of a message in a buffer the first 8 are its session's id, little-endian; else zero.
    pub data: [u8; RDE_INLINE_BYTES],
}

/// Takes one log message. `text` and `module` live for the call. It runs on whichever thread logged, several at once,
/// and must not call the library, throw, or wait for long.
pub type rde_log_callback =
    Option<unsafe extern "C" fn(user: *mut c_void, level: u32, module: rde_bytes, text: rde_bytes)>;

impl From<&Error> for rde_error {
    fn from(error: &Error) -> rde_error {
        let message = char_array(&error.message);
        let message_len = message.iter().position(|byte| *byte == 0).unwrap_or(0) as u32;
        let (status, os_errno) = (error.status as i32, error.os_errno);
        rde_error { status, os_errno, transport_status: error.transport, message_len, message }
    }
}

impl rde_error {
    /// The message as text, if it is valid.
    pub fn text(&self) -> Option<&str> {
        let bytes = self.message.get(..self.message_len as usize)?;
        // SAFETY: a C char and a u8 have one layout.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<u8>(), bytes.len()) };
        std::str::from_utf8(bytes).ok()
    }
}

// SAFETY (all of these): C layout, size first, only integers, arrays of them and raw pointers; the assertions below
// leave no room for padding.
// SAFETY: see above.
unsafe impl Versioned for rde_context_options {
    const FIRST: usize = 128;
}
// SAFETY: see above.
unsafe impl Versioned for rde_worker_options {
    const FIRST: usize = 56;
}
// SAFETY: see above.
unsafe impl Versioned for rde_context_details {
    const FIRST: usize = 832;
}
// SAFETY: see above.
unsafe impl Versioned for rde_session_details {
    const FIRST: usize = 712;
}
// SAFETY: see above.
unsafe impl Versioned for rde_region_details {
    const FIRST: usize = 24;
}
// SAFETY: see above.
unsafe impl Versioned for rde_stats {
    const FIRST: usize = 1608;
}
