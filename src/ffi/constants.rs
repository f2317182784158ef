//! Constants of the header: limits, flags and levels.

/// Version of the structures and functions of this header. `rde_abi_version` returns the library's.
pub const RDE_ABI_VERSION: u32 = 1;

/// Bytes of an exported key.
pub const RDE_KEY_BYTES: usize = 64;
/// Longest message that arrives inside its completion, in bytes.
pub const RDE_INLINE_BYTES: usize = 24;
/// Most requests in one submit; a poll returns no more completions either.
pub const RDE_BATCH_MAX: u32 = 65536;
/// Most segments of one vectored get or put.
pub const RDE_SEGMENTS_MAX: u32 = 1024;
/// Longest address, in bytes.
pub const RDE_ADDRESS_MAX: usize = 512;

/// Transport: shared memory, for peers on this host.
pub const RDE_TRANSPORT_SHARED: u32 = 1 << 0;
/// Transport: TCP.
pub const RDE_TRANSPORT_TCP: u32 = 1 << 1;
/// Transport: InfiniBand and RoCE, where UCX finds a device.
pub const RDE_TRANSPORT_RDMA: u32 = 1 << 2;

/// Way of a get or put: the peer's memory is mapped, and a get is a load.
pub const RDE_WAY_MAPPED: u32 = 1 << 0;
/// Way of a get or put: UCX RMA.
pub const RDE_WAY_RMA: u32 = 1 << 1;
/// Way of a get or put: messages to the peer's engine, which checks and copies.
pub const RDE_WAY_MESSAGE: u32 = 1 << 2;

/// Worker: makes progress only inside `rde_worker_poll`, in the calling thread. Without it, a thread of the library does.
pub const RDE_WORKER_POLLED: u32 = 1 << 0;
/// Worker: its thread sleeps at once when there is nothing to do.
pub const RDE_WORKER_NO_SPIN: u32 = 1 << 1;
/// Worker: calls of peers arrive as events CALL_RECEIVED. Without it they are answered UNKNOWN_METHOD.
pub const RDE_WORKER_CALLS: u32 = 1 << 2;

/// Buffer: peers on this host may map it once it is exported, which makes their gets loads. Costs whole pages, and a file
/// descriptor. Without it, an exported buffer is reached by messages.
pub const RDE_BUFFER_EXPORTABLE: u32 = 1 << 0;

/// Buffer: its bytes are whatever they were, and it cannot be exported. For what is overwritten anyway.
pub const RDE_BUFFER_UNINITIALISED: u32 = 1 << 1;

/// Right of a key: gets.
pub const RDE_RIGHT_READ: u32 = 1 << 0;
/// Right of a key: puts.
pub const RDE_RIGHT_WRITE: u32 = 1 << 1;
/// Right of a key: fetch-add and compare-and-swap.
pub const RDE_RIGHT_ATOMIC: u32 = 1 << 2;

/// Request: `data` is an array of `rde_segment` (get and put only).
pub const RDE_REQUEST_VECTORED: u16 = 1 << 0;
/// Request: of a call, as RDE_CALL_CHECKSUM.
pub const RDE_REQUEST_CHECKSUM: u16 = 1 << 1;
/// Completion: the message is in `data`; there is no buffer.
pub const RDE_COMPLETION_INLINE: u32 = 1 << 0;
/// Completion: an event that no request asked for.
pub const RDE_COMPLETION_EVENT: u32 = 1 << 1;
/// Completion: of a call, `value` is the CRC-32C of the reply's payload.
pub const RDE_COMPLETION_CHECKSUM: u32 = 1 << 2;

/// Marks the length of `rde_request.data` of a call: it is an array of rde_piece, and the rest of the length its bytes.
pub const RDE_PIECES: usize = 1 << (usize::BITS - 1);
/// Most pieces of one payload.
pub const RDE_PIECES_MAX: u32 = 64;

/// Call, in its arguments: nobody answers it; it completes when it has left.
pub const RDE_CALL_ONE_WAY: u32 = 1 << 0;
/// Call, in its arguments and details: it happens once, by its slot and sequence.
pub const RDE_CALL_ONCE: u32 = 1 << 1;
/// Call, in its arguments, with a buffer for the reply: count the reply's payload if it is received by the library itself
/// (its own TCP), which is cheap. The completion says so by RDE_COMPLETION_CHECKSUM; without it nothing was counted.
pub const RDE_CALL_CHECKSUM: u32 = 1 << 3;
/// Call, in its details: its caller has given it up, or is gone.
pub const RDE_CALL_CANCELED: u32 = 1 << 2;

/// Session: the peer runs on this host and shared memory carries the session.
pub const RDE_SESSION_LOCAL: u32 = 1 << 0;
/// Session: the peer dialled us.
pub const RDE_SESSION_ACCEPTED: u32 = 1 << 1;

/// Log level: nothing.
pub const RDE_LOG_OFF: u32 = 0;
/// Log level: something was lost.
pub const RDE_LOG_ERROR: u32 = 1;
/// Log level: something is wrong and was dealt with.
pub const RDE_LOG_WARN: u32 = 2;
/// Log level: objects come and go.
pub const RDE_LOG_INFO: u32 = 3;
/// Log level: each step of the control path.
pub const RDE_LOG_DEBUG: u32 = 4;
/// Log level: each operation.
pub const RDE_LOG_TRACE: u32 = 5;
