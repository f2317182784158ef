//! Every bound of the library in one place, with its reason.

/// Longest message of the control connection, in bytes: a hello with several worker addresses stays below 4 KiB.
pub const CONTROL_MESSAGE: usize = 64 << 10;

/// Longest UCX worker address taken from a peer, in bytes: measured ones are below 1 KiB, many NICs add to it.
pub const WORKER_ADDRESS: usize = 16 << 10;

/// Longest address text (`tcp://…`, `unix://…`), in bytes.
pub const ADDRESS_TEXT: usize = 512;

/// Bytes of an exported key.
pub const KEY_BYTES: usize = 64;

/// Frame and inline payload that travel in one piece, in bytes: fits one shared-memory FIFO element.
pub const COMPACT_FRAME: usize = 192;

/// Requests or completions in one call.
pub const BATCH: usize = 65_536;

/// Segments in one vectored get or put.
pub const SEGMENTS: usize = 1_024;

/// Longest message copied at submit because it comes without a buffer, in bytes.
pub const COPIED_MESSAGE: usize = 64 << 10;

/// Messages of a session that may be on their way and not taken by the receiver.
pub const MESSAGE_WINDOW: u32 = 256;

/// Sessions that a peer may open before it has to ask for more: half a second of opening them as fast as it goes.
pub const SESSION_CREDITS: u32 = 1_024;

/// Sessions that a new peer may open without asking, so that many peers find room; one that opens more asks early.
pub const FIRST_CREDITS: u32 = 64;

/// Get replies with bytes that wait to be sent to one peer.
pub const SERVING: u32 = 4_096;

/// Sets of network devices below one worker; each costs a UCX worker of 2 MiB and 9 descriptors.
pub const FABRICS: usize = 8;

/// Workers of this host that one worker may be attached to; each costs a UCX worker of 2 MiB and 9 descriptors.
pub const LOCAL_PEERS: usize = 256;

/// Capacity of a submission or completion queue.
pub const QUEUE: usize = 1 << 20;

/// Workers of one context: ten bits of a route.
pub const WORKERS: u32 = 1 << 10;

/// Bytes that wait to be sent on one control connection: a peer that does not read for so long is cut off.
pub const CONTROL_OUTPUT: usize = 1 << 20;

/// Questions (attach, import) open at once on one control connection, each direction.
pub const CONTROL_PENDING: usize = 4_096;

/// Longest packed UCX remote key, in bytes: measured ones are below 100.
pub const REMOTE_KEY: usize = 4 << 10;

/// UCX settings in a hello.
pub const HELLO_SETTINGS: usize = 64;

/// Longest explanation of a refusal, in bytes.
pub const REFUSAL_TEXT: usize = 240;

/// Inbound calls of this process that may wait for their answer at a time.
pub const CALLS: u32 = 1 << 18;

/// Calls whose memory a worker keeps for others: 256 bytes each.
pub const SPARE_CALLS: usize = 256;

/// Pieces of one payload.
pub const PIECES: usize = 64;

/// Bytes of an inbound call's payload that are kept without a buffer: what one piece on the wire can bring.
pub const CALL_INLINE: usize = COMPACT_FRAME;

/// When to try again after `QUEUE_FULL` or `BUSY`, in nanoseconds: a few hundred calls.
pub const RETRY_AFTER_NS: u64 = 500_000;

/// Longest reply that is kept for a call that happens once, in bytes.
pub const KEPT_REPLY: usize = 1 << 10;

/// Kept replies of one context in bytes; of clients that were silent for longest they go first.
pub const KEPT_BYTES: usize = 64 << 20;

/// Slots of one client for calls that happen once.
pub const ONCE_SLOTS: u16 = 1 << 10;

/// Clients whose replies are kept in one context: the one that was silent for longest goes first.
pub const ONCE_CLIENTS: usize = 4_096;

/// Folders of one exporter: a volume server has one a disk.
pub const EXPORTER_FOLDERS: usize = 256;

/// Empty chunks of a pool that are kept for the next buffers, 32 MiB: a buffer of a mebibyte takes most of one.
pub const EMPTY_CHUNKS: usize = 16;

/// Bytes of one piece of a payload on a stream: short frames go between two of them, a fifth of a millisecond apart.
pub const STREAM_PIECE: usize = 1 << 20;

/// Bytes of a stream that are read at a time and are no payload: a hundred short frames.
pub const STREAM_INPUT: usize = 16 << 10;

/// Bytes of frames that wait to be sent on a stream; a peer that does not read for so long is cut off.
pub const STREAM_OUTPUT: usize = 16 << 20;

/// Payloads that may be on their way on one stream, in each direction: as many as UCX would take.
pub const STREAM_PAYLOADS: usize = 64 << 10;
