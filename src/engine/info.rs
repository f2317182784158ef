//! What contexts and sessions tell about themselves.

use super::options::way;

/// What a context found and is bound by.
#[derive(Clone, Debug, Default)]
pub struct ContextInfo {
    /// UCX's version.
    pub ucx_version: (u32, u32, u32),
    /// Path of the UCX library that was loaded.
    pub ucx_path: String,
    /// UCX transports that the options allow and this machine has, comma-separated.
    pub transports: String,
    /// Their devices, comma-separated.
    pub devices: String,
    /// Bytes of registered memory: limit, handed out, revoked but still mapped by a peer.
    pub memory_limit: u64,
    /// Bytes handed out.
    pub memory_used: u64,
    /// Bytes of revoked memory that a peer may still have mapped.
    pub memory_retired: u64,
    /// Bytes that lie on huge pages.
    pub memory_huge: u64,
    /// Limit of sessions.
    pub max_sessions: u32,
    /// Sessions now.
    pub sessions: u32,
}

/// A session's life.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Dialling, or waiting for the peer's worker.
    Connecting = 0,
    /// Operations may go.
    Open = 1,
    /// Closed by us, operations are ending.
    Closing = 2,
    /// Ended in order.
    Closed = 3,
    /// The peer was lost.
    Lost = 4,
}

/// What a session tells about itself.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Its state.
    pub state: SessionState,
    /// Whether the peer runs on this host and shared memory carries the session.
    pub local: bool,
    /// Whether we were dialled.
    pub accepted: bool,
    /// The address that was dialled or the peer's own.
    pub address: String,
    /// The peer's name.
    pub peer_name: String,
    /// The peer's process id as it told us.
    pub peer_pid: u32,
    /// UCX transports below the session (`posix`, `tcp`, …).
    pub transport: String,
    /// Operations that went each way: mapped, RMA, message.
    pub operations: [u64; 3],
    /// Bytes that went each way.
    pub bytes: [u64; 3],
}

/// Name of one way of the mask.
pub fn way_name(one: u32) -> &'static str {
    match one {
        way::MAPPED => "mapped",
        way::RMA => "rma",
        way::MESSAGE => "message",
        _ => "none",
    }
}
