/*
 * rdma-engine: registered memory, one-sided get and put, messages, over UCX (InfiniBand/RoCE, shared memory, TCP).
 *
 * A context holds the memory and the limits. A worker makes progress and queues completions. A listener accepts and a
 * connect dials sessions to peers. A buffer is local registered memory; its key, sent to a peer, becomes a region there,
 * which the peer gets from and puts to. What follows holds for every function; each one's comment adds only what differs.
 *
 * Requests and completions. What can take time is a request. A request that was accepted ends in exactly one completion,
 *   also after a cancel, a timeout, a close of its session, and the loss of the peer (CONNECTION_LOST). A request that was
 *   not accepted has none. The memory of a request belongs to the library until its completion, whatever the status.
 * Events. Completions that nobody requested (flag RDE_COMPLETION_EVENT): SESSION_ACCEPTED (user_data of the listener, value the session), MESSAGE
 *   (user_data of the session), SESSION_CLOSED (user_data of the session; OK: closed by the peer, CONNECTION_LOST,
 *   TIMED_OUT: idle for too long). A message of at most RDE_INLINE_BYTES arrives in the completion: flag
 *   RDE_COMPLETION_INLINE, bytes in `data`, session in `value`. A longer one arrives in a buffer, `value`, which is the
 *   receiver's to release; its session's id is in the first 8 bytes of `data`, little-endian.
 * Calls. rde_call calls a method of a peer and completes with its answer. Calls of peers are events CALL_RECEIVED of a worker
 *   opened with RDE_WORKER_CALLS (user_data of the session, value the call, detail the method): answer each one from any
 *   thread with rde_call_reply or rde_call_refuse, or rde_call_release it. CALL_CANCELED says that nobody waits any more.
 *   They come in turn, one of each session.
 * Statuses. 0 is OK, above 0 is not an error, below 0 is one. Numbers are never reused. A later version may return others:
 *   treat an unknown one by its sign.
 * Errors. Control calls fill an rde_error, if given one, on failure only. There is no thread-local or global error.
 * Outputs are untouched on failure, unless the function says otherwise.
 * Handles are numbers: copy them, compare them, send them between threads. {0} is none: closing it is OK and does nothing,
 *   any other use of it is STALE_HANDLE. So is a handle that was closed, was made up, or is of another kind: never
 *   undefined behaviour. A second close is STALE_HANDLE.
 * Structures with `struct_size`: start from their RDE_..._INIT. Reserved fields and unused fields are zero; something else
 *   there is INVALID_ARGUMENT, so that a later version can give it a meaning.
 * Text is UTF-8, pointer and length, without a NUL. NULL is allowed where the length is 0, and where "nullable" is said.
 * Closing. A session's close ends its operations and then delivers SESSION_CLOSED; a worker's close takes undelivered
 *   completions with it; a context closes after its workers. A buffer may be released while operations use it.
 * Volumes are files on this machine: they need no context, and their calls block for the disk.
 * Panics. A defect of the library does not end the process: the call returns PANIC, and the object is poisoned: every call
 *   on it but its close returns WRONG_STATE.
 * Threads. Every function may be called from any thread, unless it says otherwise; none from a signal handler but those
 *   that say so. A polled worker is polled by one thread at a time.
 * Event loops. After a poll that returned fewer completions than it had room for:
 *     drain  rde_worker_poll(worker, 0, ...) until it returns none
 *     arm    rde_worker_arm(worker); NOT_READY: drain again
 *     sleep  epoll_wait on the descriptor of rde_worker_event_fd; then read its 8 bytes (a failure is nothing), and drain
 *   Sleeping without arming misses completions; arming without draining is refused. While a polled worker sleeps nobody
 *   looks at its clock, and UCX 1.13 can miss an event: let it sleep for at most a second at a time.
 * Environment. The first rde_context_open sets these variables, where the program has not, before it loads UCX:
 *   UCX_HANDLE_ERRORS=none, UCX_DEBUG_SIGNO=0, UCX_MEM_EVENTS=n, and sizes for TCP. setenv is not thread-safe: open the
 *   first context before other threads use the environment. RDE_UCX_LIBRARY is the path of another libucp.so.0.
 * Signals. The library installs no handler and blocks all signals in its threads.
 * Fork. A child may only exec: handles, memory and threads stay with the parent. Descriptors are close-on-exec.
 */


#ifndef RDMA_ENGINE_H
#define RDMA_ENGINE_H

/* Generated from src/ffi by cbindgen. Do not edit: run `make header`. */

#include <stddef.h>
#include <stdint.h>

#define RDE_VERSION_MAJOR 0
#define RDE_VERSION_MINOR 1
#define RDE_VERSION_PATCH 0
#define RDE_VERSION "0.1.0"

/* On functions whose status says whether anything happened. */
#if defined(__GNUC__) || defined(__clang__)
#define RDE_MUST_USE __attribute__((warn_unused_result))
#else
#define RDE_MUST_USE
#endif

/* Initialisers: zero everywhere but in the size, which tells the library the version that the caller knows. */
#ifdef __cplusplus
#define RDE_INIT(type) ([] { type zero = {}; zero.struct_size = sizeof(type); return zero; }())
#define RDE_REQUEST_INIT (rde_request{})
#else
#define RDE_INIT(type) {.struct_size = sizeof(type)}
#define RDE_REQUEST_INIT {.user_data = 0}
#endif
#define RDE_CONTEXT_OPTIONS_INIT RDE_INIT(rde_context_options)
#define RDE_CONTEXT_DETAILS_INIT RDE_INIT(rde_context_details)
#define RDE_WORKER_OPTIONS_INIT RDE_INIT(rde_worker_options)
#define RDE_SESSION_DETAILS_INIT RDE_INIT(rde_session_details)
#define RDE_REGION_DETAILS_INIT RDE_INIT(rde_region_details)
#define RDE_STATS_INIT RDE_INIT(rde_stats)
#define RDE_VOLUME_OPTIONS_INIT RDE_INIT(rde_volume_options)
#define RDE_VOLUME_DETAILS_INIT RDE_INIT(rde_volume_details)
#define RDE_EXPORTER_OPTIONS_INIT RDE_INIT(rde_exporter_options)
#define RDE_NEEDLE_INIT RDE_INIT(rde_needle)
#define RDE_KV_OPTIONS_INIT RDE_INIT(rde_kv_options)
#define RDE_KV_DETAILS_INIT RDE_INIT(rde_kv_details)
#define RDE_CALL_ARGUMENTS_INIT RDE_INIT(rde_call_arguments)
#define RDE_CALL_DETAILS_INIT RDE_INIT(rde_call_details)

/** Buckets of a histogram of durations. */
#define RDE_HISTOGRAM_BUCKETS 32

/** Version of the structures and functions of this header. `rde_abi_version` returns the library's. */
#define RDE_ABI_VERSION 1

/** Bytes of an exported key. */
#define RDE_KEY_BYTES 64

/** Longest message that arrives inside its completion, in bytes. */
#define RDE_INLINE_BYTES 24

/** Most requests in one submit; a poll returns no more completions either. */
#define RDE_BATCH_MAX 65536

/** Most segments of one vectored get or put. */
#define RDE_SEGMENTS_MAX 1024

/** Longest address, in bytes. */
#define RDE_ADDRESS_MAX 512

/** Transport: shared memory, for peers on this host. */
#define RDE_TRANSPORT_SHARED (1 << 0)

/** Transport: TCP. */
#define RDE_TRANSPORT_TCP (1 << 1)

/** Transport: InfiniBand and RoCE, where UCX finds a device. */
#define RDE_TRANSPORT_RDMA (1 << 2)

/** Way of a get or put: the peer's memory is mapped, and a get is a load. */
#define RDE_WAY_MAPPED (1 << 0)

/** Way of a get or put: UCX RMA. */
#define RDE_WAY_RMA (1 << 1)

/** Way of a get or put: messages to the peer's engine, which checks and copies. */
#define RDE_WAY_MESSAGE (1 << 2)

/** Worker: makes progress only inside `rde_worker_poll`, in the calling thread. Without it, a thread of the library does. */
#define RDE_WORKER_POLLED (1 << 0)

/** Worker: its thread sleeps at once when there is nothing to do. */
#define RDE_WORKER_NO_SPIN (1 << 1)

/** Worker: calls of peers arrive as events CALL_RECEIVED. Without it they are answered UNKNOWN_METHOD. */
#define RDE_WORKER_CALLS (1 << 2)

/**
 * Buffer: peers on this host may map it once it is exported, which makes their gets loads. Costs whole pages, and a file
 * descriptor. Without it, an exported buffer is reached by messages.
 */
#define RDE_BUFFER_EXPORTABLE (1 << 0)

/** Buffer: its bytes are whatever they were, and it cannot be exported. For what is overwritten anyway. */
#define RDE_BUFFER_UNINITIALISED (1 << 1)

/** Right of a key: gets. */
#define RDE_RIGHT_READ (1 << 0)

/** Right of a key: puts. */
#define RDE_RIGHT_WRITE (1 << 1)

/** Right of a key: fetch-add and compare-and-swap. */
#define RDE_RIGHT_ATOMIC (1 << 2)

/** Request: `data` is an array of `rde_segment` (get and put only). */
#define RDE_REQUEST_VECTORED (1 << 0)

/** Request: of a call, as RDE_CALL_CHECKSUM. */
#define RDE_REQUEST_CHECKSUM (1 << 1)

/** Completion: the message is in `data`; there is no buffer. */
#define RDE_COMPLETION_INLINE (1 << 0)

/** Completion: an event that no request asked for. */
#define RDE_COMPLETION_EVENT (1 << 1)

/** Completion: of a call, `value` is the CRC-32C of the reply's payload. */
#define RDE_COMPLETION_CHECKSUM (1 << 2)



/** Most pieces of one payload. */
#define RDE_PIECES_MAX 64

/** Call, in its arguments: nobody answers it; it completes when it has left. */
#define RDE_CALL_ONE_WAY (1 << 0)

/** Call, in its arguments and details: it happens once, by its slot and sequence. */
#define RDE_CALL_ONCE (1 << 1)

/**
 * Call, in its arguments, with a buffer for the reply: count the reply's payload if it is received by the library itself
 * (its own TCP), which is cheap. The completion says so by RDE_COMPLETION_CHECKSUM; without it nothing was counted.
 */
#define RDE_CALL_CHECKSUM (1 << 3)

/** Call, in its details: its caller has given it up, or is gone. */
#define RDE_CALL_CANCELED (1 << 2)

/** Session: the peer runs on this host and shared memory carries the session. */
#define RDE_SESSION_LOCAL (1 << 0)

/** Session: the peer dialled us. */
#define RDE_SESSION_ACCEPTED (1 << 1)

/** Log level: nothing. */
#define RDE_LOG_OFF 0

/** Log level: something was lost. */
#define RDE_LOG_ERROR 1

/** Log level: something is wrong and was dealt with. */
#define RDE_LOG_WARN 2

/** Log level: objects come and go. */
#define RDE_LOG_INFO 3

/** Log level: each step of the control path. */
#define RDE_LOG_DEBUG 4

/** Log level: each operation. */
#define RDE_LOG_TRACE 5

/**
 * Read of a needle: one that was deleted is DELETED. Without it, it is read as long as its bytes are there, as
 * SeaweedFS's own readers of chunks ask for.
 */
#define RDE_VOLUME_LIVE (1 << 0)

/** Read of a needle: chunk manifests, and parts of compressed data, are given out as they are stored. */
#define RDE_VOLUME_STORED (1 << 1)

/** Read of a needle: the part that begins at the offset, as far as it goes. */
#define RDE_VOLUME_RANGE (1 << 2)

/** Read of a needle from an exporter: no data, only what is known of it. */
#define RDE_VOLUME_STAT (1 << 3)

/** Method of an exporter: reads a needle. */
#define RDE_METHOD_NEEDLE 1398210561

/** Method of an exporter: reads many needles. */
#define RDE_METHOD_NEEDLES 1398210562

/**
 * Method of an exporter: lends it memory on this host, so that it puts answers there itself: one copy in all. The payload is
 * the key of all of a buffer that was allocated with RDE_BUFFER_EXPORTABLE, with the rights to read and to write. The answer's
 * header is the memory's number in this session (`offset`) and its length (`len`). Without a payload, the memory with the
 * number `offset` of the call's header is not lent any more. The answer's status: UNSUPPORTED: it cannot be mapped there;
 * PERMISSION_DENIED, REVOKED, NOT_FOUND: the key; LIMIT_REACHED. An exporter that does not know this answers UNKNOWN_METHOD.
 */
#define RDE_METHOD_NEEDLE_MEMORY 1398210563

/**
 * Call of RDE_METHOD_NEEDLE and RDE_METHOD_NEEDLES, in the header's flags: the payload ends with an rde_needle_place, such as a
 * second piece. The answer goes there, if it can: then its header has RDE_NEEDLE_PLACED. Else it comes as without; give the
 * same place as the call's reply buffer, and it is there either way. After TIMED_OUT, CANCELED and CONNECTION_LOST the
 * exporter may still write to the place: release the buffer, and do not use its memory for anything else; or give such calls
 * no time-out, and do not cancel them.
 */
#define RDE_VOLUME_PLACED (1 << 4)

/**
 * The caller checks by `rde_needle_check` what the answer says was not checked (RDE_NEEDLE_UNCHECKED). Over TCP an exporter
 * then sends long needles from the page cache, without having looked at their bytes.
 */
#define RDE_VOLUME_UNCHECKED (1 << 5)

/** Longest file id with its token, in bytes. */
#define RDE_FILE_ID_MAX 4096

/** Reads in one call of RDE_METHOD_NEEDLES. */
#define RDE_NEEDLES_MAX 1024

/** Bytes that the payload of a call of RDE_METHOD_NEEDLES has at most. */
#define RDE_NEEDLES_BYTES_MAX (64 << 10)

/** An exporter's port is its volume server's HTTP port and this, unless somebody chose another one. */
#define RDE_NEEDLE_PORT_OFFSET 20000

/** Needle: its data is gzip. */
#define RDE_NEEDLE_COMPRESSED (1 << 0)

/** Needle: its data is a list of chunks, to be put together by whoever reads it. */
#define RDE_NEEDLE_CHUNK_MANIFEST (1 << 7)

/** Needle: it was deleted; its bytes are still there. */
#define RDE_NEEDLE_DELETED (1 << 8)

/**
 * Header of an answer: it is at its place, from there on as its payload would be. Of one needle its length is that of all data
 * (or of the part), of many the header's `offset`.
 */
#define RDE_NEEDLE_PLACED (1 << 9)

/**
 * Needle: its data was not checked against its checksum, and must be: `rde_needle_check`. In an answer for one needle the
 * upper half of the header's `offset` is the checksum.
 */
#define RDE_NEEDLE_UNCHECKED (1 << 10)

/** Store: data pages are kept in the cache too, not only index pages. */
#define RDE_KV_CACHE_DATA (1 << 0)

/** Store: positioned reads and writes on threads, also where io_uring is to be had. */
#define RDE_KV_NO_URING (1 << 1)

/** Request: a scan returns the last entries first. */
#define RDE_KV_BACKWARD (1 << 0)

/** Request: a scan begins after `key`, not at it. */
#define RDE_KV_AFTER_KEY (1 << 1)

/** Request: a scan includes `end`. */
#define RDE_KV_INCLUDE_END (1 << 2)

/** Request: a scan returns very large values; without it, one ends it with UNSUPPORTED. */
#define RDE_KV_LARGE_VALUES (1 << 3)

/** Request: a batch whose keys do not ascend is sorted, and of equal keys the newest counts; without it, it is refused. */
#define RDE_KV_SORT (1 << 4)

/** Completion of a scan: the range holds more. Ask again from the last key on, with RDE_KV_AFTER_KEY (backward: up to it). */
#define RDE_COMPLETION_MORE (1 << 8)

/** Entry: its value is a very large one, in segments of its own. */
#define RDE_KV_ENTRY_LARGE (1 << 0)

/** What a call or a completion ended with. 0 ok, > 0 not an error, < 0 error; numbers are never reused. */
enum rde_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /** Done. */
    RDE_STATUS_OK = 0,
    /** Nothing to do now; drain the completions, or try later. */
    RDE_STATUS_NOT_READY = 1,
    /** An argument is NULL, out of its documented values, or inconsistent with another. */
    RDE_STATUS_INVALID_ARGUMENT = -1,
    /** The handle was closed, was never created, or is of another kind. */
    RDE_STATUS_STALE_HANDLE = -2,
    /** The object is in a state that does not allow this call. */
    RDE_STATUS_WRONG_STATE = -3,
    /** A bounded queue is full: poll for completions, then submit again. */
    RDE_STATUS_QUEUE_FULL = -4,
    /** The context's memory limit, or the system's memory, is exhausted. */
    RDE_STATUS_OUT_OF_MEMORY = -5,
    /** An offset or a length goes past the end of the memory it names. */
    RDE_STATUS_OUT_OF_RANGE = -6,
    /** What was named does not exist. */
    RDE_STATUS_NOT_FOUND = -7,
    /** What was to be created exists, or the address is in use. */
    RDE_STATUS_ALREADY_EXISTS = -8,
    /** The key does not grant this, or its secret is wrong. */
    RDE_STATUS_PERMISSION_DENIED = -9,
    /** Not available on this machine or in this build; the message says what is missing. */
    RDE_STATUS_UNSUPPORTED = -10,
    /** The output was too small; its needed length was returned. */
    RDE_STATUS_TRUNCATED = -11,
    /** The key was revoked, or its buffer released. */
    RDE_STATUS_REVOKED = -12,
    /** A limit that was configured is reached: sessions, memory windows or calls. */
    RDE_STATUS_LIMIT_REACHED = -13,
    /** The deadline passed; the outcome of a write is unknown. */
    RDE_STATUS_TIMED_OUT = -20,
    /** The request was cancelled, or its object closed, before it was done. */
    RDE_STATUS_CANCELED = -21,
    /** Nobody answers at the address. */
    RDE_STATUS_UNREACHABLE = -22,
    /** The peer died, was cut off, or stopped answering. */
    RDE_STATUS_CONNECTION_LOST = -23,
    /** The operating system failed a call; see the errno. */
    RDE_STATUS_IO = -24,
    /** UCX failed a call; see the transport status. */
    RDE_STATUS_TRANSPORT = -25,
    /** The peer speaks another version of the protocol, or broke it. */
    RDE_STATUS_PROTOCOL = -26,
    /** The peer's UCX settings differ from ours and would corrupt memory. */
    RDE_STATUS_SETTINGS_MISMATCH = -27,
    /** The peer has no such method, or serves no calls. */
    RDE_STATUS_UNKNOWN_METHOD = -28,
    /** The caller was built against another ABI version. */
    RDE_STATUS_ABI_MISMATCH = -90,
    /** A defect of the library; please report it. */
    RDE_STATUS_INTERNAL = -98,
    /** A defect of the library was contained; the object is poisoned: close it. */
    RDE_STATUS_PANIC = -99,
    /** Bytes on disk fail their checksum or contradict each other. */
    RDE_STATUS_CORRUPTED = -30,
    /** It was there and was deleted. */
    RDE_STATUS_DELETED = -31,
    /** The file id's cookie is not the one that was stored. */
    RDE_STATUS_COOKIE_MISMATCH = -32,
    /** Its time to live has passed. */
    RDE_STATUS_EXPIRED = -33,
    /** This path cannot serve it (erasure-coded, tiered, encrypted, a part of compressed data): use HTTP. */
    RDE_STATUS_INELIGIBLE = -35,
    /** The files changed underneath and do not agree at the moment: look it up again, or use HTTP. */
    RDE_STATUS_STALE = -36,
    /** The token is missing, wrong, expired, or for something else. */
    RDE_STATUS_UNAUTHORIZED = -37,
    /** Not now: being reloaded, or too much is under way; try again, or use HTTP. */
    RDE_STATUS_BUSY = -38,
    /** Another writer has taken over the store that is written to: this one can only read, until it is opened again. */
    RDE_STATUS_EXPIRED_TERM = -39,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum rde_status rde_status;
#else
typedef int32_t rde_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/** What a request asks for, and what a completion answers. */
enum rde_op
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint16_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /** Does nothing and completes: a marker, or a test of the queue. */
    RDE_OP_NOP = 0,
    /** Reads a region into a buffer. */
    RDE_OP_GET = 1,
    /** Writes a buffer into a region. */
    RDE_OP_PUT = 2,
    /** Completes when every put submitted before it on the session is visible at the peer. */
    RDE_OP_FLUSH = 3,
    /** Adds `operand` to a u64 of a region; `value` is what it was before. */
    RDE_OP_FETCH_ADD = 4,
    /** Stores `operand` in a u64 of a region if it is `compare`; `value` is what it was before. */
    RDE_OP_COMPARE_SWAP = 5,
    /** Sends one message to the session's peer. */
    RDE_OP_SEND = 6,
    /** Makes a region from a key (64 bytes in `data`); `value` is the region. */
    RDE_OP_REGION_IMPORT = 7,
    /** A connect has ended; `value` is the session, and the status says how it went. */
    RDE_OP_SESSION_CONNECT = 8,
    /** Calls a method of the session's peer; use rde_call or rde_call_prepare. */
    RDE_OP_CALL = 9,
    /** Calls a method that nobody answers; it completes when it has left. */
    RDE_OP_ONE_WAY = 10,
    /** Event: a listener accepted a session; `value` is the session. */
    RDE_OP_SESSION_ACCEPTED = 32,
    /** Event or answer: a session has ended; `value` is the session, and nothing of it follows. */
    RDE_OP_SESSION_CLOSED = 33,
    /** Event: a message arrived, inline or in a buffer that is now the receiver's. */
    RDE_OP_MESSAGE = 34,
    /** Event: a peer calls; `value` is the call, to be answered by rde_call_reply, rde_call_refuse or rde_call_release. */
    RDE_OP_CALL_RECEIVED = 35,
    /** Event: nobody waits for the answer to a call any more; `value` is the call, which is still to be released. */
    RDE_OP_CALL_CANCELED = 36,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum rde_op rde_op;
#else
typedef uint16_t rde_op;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/** A session's life. */
enum rde_session_state
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /** Dialling, or waiting for the peer's worker. */
    RDE_SESSION_STATE_CONNECTING = 0,
    /** Operations may go. */
    RDE_SESSION_STATE_OPEN = 1,
    /** Closed by us; its operations are ending. */
    RDE_SESSION_STATE_CLOSING = 2,
    /** Ended in order. */
    RDE_SESSION_STATE_CLOSED = 3,
    /** The peer was lost. */
    RDE_SESSION_STATE_LOST = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum rde_session_state rde_session_state;
#else
typedef uint32_t rde_session_state;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/** What a request to a store asks for. */
enum rde_kv_op
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint16_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /** The value of `key`, as it is. Completion: `length` of the value, `value` its timestamp, `data` its expiry. */
    RDE_KV_OP_READ = 64,
    /** The entry with the largest key that is at most `key`, as rde_kv_entry. */
    RDE_KV_OP_FLOOR = 65,
    /**
     * The entries from `key` to `end`, as many as there is room for, as rde_kv_entry; `value` is their number. NOT_FOUND: there is
     * no such partition.
     */
    RDE_KV_OP_SCAN = 66,
    /** Applies `changes`, all or none; `value` is how many took effect. Done when they are safe on disk. */
    RDE_KV_OP_WRITE = 67,
    /** Deletes all keys from `key` on, all there are if it is empty; `value` is how many. */
    RDE_KV_OP_TRUNCATE = 68,
    /** Removes the partition. */
    RDE_KV_OP_DROP = 69,
    /** Keeps the partition as it is under the name `key` (append mode). */
    RDE_KV_OP_ARCHIVE_CREATE = 70,
    /** Forgets the archive `key`. */
    RDE_KV_OP_ARCHIVE_DELETE = 71,
    /** Moves live pages out of sparse files and removes files that nothing refers to; `value` is the pages moved. */
    RDE_KV_OP_COMPACT = 72,
    /** Removes files that nothing refers to. */
    RDE_KV_OP_COLLECT = 73,
    /** Deletes what has expired; `value` is how many. */
    RDE_KV_OP_CLEAN = 74,
    /** Opens the partition again with the next request: after a write that failed with IO. */
    RDE_KV_OP_REOPEN = 75,
    /** Starts the branch `key` from what the partition, or branch, is now (append mode): rde_kv_branch. */
    RDE_KV_OP_BRANCH_CREATE = 76,
    /** Removes the branch `key`, neither `main` nor the one that is asked. Who reads it finishes. */
    RDE_KV_OP_BRANCH_DELETE = 77,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum rde_kv_op rde_kv_op;
#else
typedef uint16_t rde_kv_op;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/** What a change does to its key. */
enum rde_kv_action
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /** It gets the value. */
    RDE_KV_ACTION_UPSERT = 0,
    /** It goes. */
    RDE_KV_ACTION_DELETE = 1,
    /** It gets the value, which lives in segments of its own. */
    RDE_KV_ACTION_UPSERT_LARGE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum rde_kv_action rde_kv_action;
#else
typedef uint32_t rde_kv_action;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/** Borrowed bytes. `data` may be NULL only when `len` is 0. Text is UTF-8 and needs no NUL. */
typedef struct {
    /** The first byte. */
    const void *data;
    /** How many. */
    size_t len;
} rde_bytes;

/**
 * Takes one log message. `text` and `module` live for the call. It runs on whichever thread logged, several at once,
 * and must not call the library, throw, or wait for long.
 */
typedef void (*rde_log_callback)(void *user, uint32_t level, rde_bytes module, rde_bytes text);

/** Options of a context. Start from RDE_CONTEXT_OPTIONS_INIT; a field that is zero takes its default. */
typedef struct {
    /** sizeof(rde_context_options). */
    uint32_t struct_size;
    /** Zero. */
    uint32_t flags;
    /** Shown to peers and in metrics; at most 64 bytes, for the call. */
    rde_bytes name;
    /** UCX network devices ("mlx5_0:1,eth0"), at most 255 bytes, for the call; empty takes those that the addresses in use belong to. */
    rde_bytes devices;
    /** RDE_TRANSPORT_*; 0 is all. */
    uint32_t transports;
    /** RDE_WAY_*; 0 is all. RMA without MAPPED forces UCX RMA, over shared memory too. */
    uint32_t ways;
    /** Bytes of registered memory that the context may allocate; 0 is 1 GiB. */
    uint64_t memory_limit_bytes;
    /** Sessions, dialled and accepted; 0 is 10,000, at most 1,048,576. */
    uint32_t max_sessions;
    /** Keys that may be exported at a time; 0 is 100,000, at most 16,777,216. */
    uint32_t max_exports;
    /** A peer that is silent for this long is lost; 0 is 3 s, else 10 ms to an hour. */
    uint64_t keepalive_ns;
    /** Until a dial gives up; 0 is 5 s, else 10 ms to an hour. */
    uint64_t connect_timeout_ns;
    /** A session without an operation for this long is closed; 0 is never. */
    uint64_t idle_timeout_ns;
    /** Longest message that a session sends or takes, in bytes; 0 is 16 MiB. */
    uint64_t max_message_bytes;
    /** Bytes of the payloads of one session's calls that wait for their answer here; 0 is 64 MiB. */
    uint64_t max_call_bytes;
    /** Calls of one session that wait for their answer here; 0 is 1,024, at most 262,144. */
    uint32_t max_calls;
    /** Zero. */
    uint32_t reserved0;
    /**
     * 16 to 1,024 random bytes that every peer must have too, for the call; empty: none. Both sides prove that they know
     * it, without telling it, before anything is served: a peer that knows another one is PERMISSION_DENIED, one that
     * knows none, or asks for none, UNAUTHORIZED. UCX's own ports do not ask for it: see docs/wire.md.
     */
    rde_bytes secret;
} rde_context_options;

/** The library with its devices, its registered memory and its limits. Opened first, closed last. */
typedef struct {
    /** 0 is none. */
    uint64_t id;
} rde_context;

/** What went wrong in a control call. The caller's; every pointer to it may be NULL; written only on failure. 256 bytes. */
typedef struct {
    /** An rde_status. */
    int32_t status;
    /** errno when the operating system failed a call, else 0. */
    int32_t os_errno;
    /** ucs_status_t when UCX failed a call, else 0. */
    int32_t transport_status;
    /** Bytes of `message` without its NUL. */
    uint32_t message_len;
    /** What happened and what to do: UTF-8, NUL-terminated, cut to fit. */
    char message[240];
} rde_error;

/** What a context found and is bound by. Set struct_size before asking. Texts are NUL-terminated and cut to fit. */
typedef struct {
    /** sizeof(rde_context_details), set by the caller. */
    uint32_t struct_size;
    /** Zero. */
    uint32_t flags;
    /** UCX's version. */
    uint32_t ucx_major;
    /** UCX's version. */
    uint32_t ucx_minor;
    /** UCX's version. */
    uint32_t ucx_patch;
    /** Limit of sessions. */
    uint32_t max_sessions;
    /** Sessions now, and slots that are set aside for connected peers. */
    uint32_t sessions;
    /** Zero. */
    uint32_t reserved;
    /** Limit of registered memory in bytes. */
    uint64_t memory_limit_bytes;
    /** Bytes handed out. */
    uint64_t memory_used_bytes;
    /** Bytes of revoked memory that a peer may still have mapped. */
    uint64_t memory_retired_bytes;
    /** Bytes that lie on huge pages. */
    uint64_t memory_huge_bytes;
    /** Path of the UCX library that was loaded. */
    char ucx_path[256];
    /** UCX transports that the options allow and this machine has, comma-separated. */
    char transports[256];
    /** Their devices, comma-separated. */
    char devices[256];
} rde_context_details;

/** Options of a worker. Start from RDE_WORKER_OPTIONS_INIT; a field that is zero takes its default. */
typedef struct {
    /** sizeof(rde_worker_options). */
    uint32_t struct_size;
    /** RDE_WORKER_* or 0. */
    uint32_t flags;
    /** Requests that may wait to be taken by the worker; 0 is 4,096, at most 1,048,576. */
    uint32_t submission_capacity;
    /** Requests that may be accepted and not yet polled; 0 is 16,384, at most 1,048,576. */
    uint32_t completion_capacity;
    /**
     * How long an idle worker's thread spins before it sleeps; 0 is 50 µs, at most 1 s. What takes longer than that, such as a
     * batch of many needles, pays for a wake-up too. Once several waits in a row took longer, it spins less and then not at
     * all, until one does not.
     */
    uint64_t spin_ns;
    /** Zero. */
    uint64_t reserved[4];
} rde_worker_options;

/** Makes progress and holds a queue of completions. */
typedef struct {
    /** 0 is none. */
    uint64_t id;
} rde_worker;

/** A connection to a peer. Sessions to one peer share what lies below. */
typedef struct {
    /** 0 is none. */
    uint64_t id;
} rde_session;

/** Local registered memory. */
typedef struct {
    /** 0 is none. */
    uint64_t id;
} rde_buffer;

/** Memory of a peer that its key lets us touch. */
typedef struct {
    /** 0 is none. */
    uint64_t id;
} rde_region;

/** One submission; 96 bytes. Fields that an operation does not use are zero. */
typedef struct {
    /** Returned as it is in the completion; also names the request to rde_worker_cancel. */
    uint64_t user_data;
    /** The session that the operation goes to. */
    rde_session session;
    /** RDE_OP_*. */
    uint16_t op;
    /** RDE_REQUEST_* or 0. */
    uint16_t flags;
    /** Microseconds until the request times out; 0 is never. */
    uint32_t timeout_us;
    /** Local memory, until the completion. */
    rde_buffer buffer;
    /** Offset in the local buffer, in bytes. */
    uint64_t buffer_offset;
    /** Bytes to move. */
    uint64_t length;
    /** The peer's memory. */
    rde_region region;
    /** Offset in the region, in bytes; of an atomic, a multiple of 8. */
    uint64_t region_offset;
    /** Copied during the submit: a message, a key, or segments. */
    rde_bytes data;
    /** Fetch-add: what to add. Compare-swap: what to store. */
    uint64_t operand;
    /** Compare-swap: what must be there. */
    uint64_t compare;
} rde_request;

/** One completion; 64 bytes. */
typedef struct {
    /** The request's; of an event, the listener's or the session's. */
    uint64_t user_data;
    /** RDE_OP_*. */
    uint32_t op;
    /** An rde_status. */
    int32_t status;
    /** Bytes moved, or the message's length. */
    uint64_t length;
    /** Id of a new object, value before an atomic, or the buffer that holds a message. */
    uint64_t value;
    /** RDE_COMPLETION_*. */
    uint32_t flags;
    /**
     * errno or transport status, 0 if none. CALL: the service's status; with QUEUE_FULL and BUSY microseconds until it
     * may be tried again. CALL_RECEIVED: the method.
     */
    int32_t detail;
    /** An inline message's or payload's bytes. CALL, CALL_RECEIVED: else the rde_rpc_header. Of a message in a buffer the first 8 are its session's id, little-endian; else zero. */
    uint8_t data[RDE_INLINE_BYTES];
} rde_completion;

/** Accepts sessions at an address. */
typedef struct {
    /** 0 is none. */
    uint64_t id;
} rde_listener;

/** What a session tells about itself. Set struct_size before asking. Texts are NUL-terminated and cut to fit. */
typedef struct {
    /** sizeof(rde_session_details), set by the caller. */
    uint32_t struct_size;
    /** RDE_SESSION_*. */
    uint32_t flags;
    /** An rde_session_state. */
    uint32_t state;
    /** The peer's process id as it told us. */
    uint32_t peer_pid;
    /** Gets and puts that went each way: mapped, RMA, message. */
    uint64_t way_operations[3];
    /** Their bytes: mapped, RMA, message. */
    uint64_t way_bytes[3];
    /** UCX transports below the session. */
    char transport[64];
    /** The name of the peer's context. */
    char peer_name[72];
    /** The address that was dialled, or the peer's own. */
    char address[RDE_ADDRESS_MAX];
} rde_session_details;

/** A capability to touch a range of a peer's buffer: give it to nobody who shall not. 64 bytes, may be copied and sent. */
typedef struct {
    /** Opaque. */
    uint8_t bytes[RDE_KEY_BYTES];
} rde_key;

/** What a region tells about itself. Set struct_size before asking. */
typedef struct {
    /** sizeof(rde_region_details), set by the caller. */
    uint32_t struct_size;
    /** One of RDE_WAY_*: how gets and puts on it go. */
    uint32_t way;
    /** RDE_RIGHT_*. */
    uint32_t rights;
    /** Zero. */
    uint32_t reserved;
    /** Bytes of the range that its key grants. */
    uint64_t length;
} rde_region_details;

/** Options of a store. Start from RDE_KV_OPTIONS_INIT; a field that is zero takes its default. */
typedef struct {
    /** sizeof(rde_kv_options). */
    uint32_t struct_size;
    /** RDE_KV_CACHE_DATA, RDE_KV_NO_URING. */
    uint32_t flags;
    /** Path of a file of options: `name=value` lines or EloqStore's ini; paths in it are relative to its folder. */
    rde_bytes file;
    /** More `name=value` lines, after those of the file: `store_path=/data`. Without any store path it is in memory. */
    rde_bytes lines;
    /**
     * Bytes of pages that each shard has; 0 is 128 MiB, at most 1 TiB. Pages that requests hold or that are read ahead are
     * part of it: of 128 MiB about 117 MiB are left for pages that are kept.
     */
    uint64_t cache_bytes;
    /** Bytes that a store in memory may take, each shard; 0 is 1 GiB. */
    uint64_t memory_limit_bytes;
    /** How often partitions are compacted, cleaned and collected; 0 is 1 s, UINT64_MAX never. */
    uint64_t upkeep_interval_ns;
    /** How often a partition that changed is archived (append mode); 0 is never. */
    uint64_t archive_interval_ns;
    /** Scheduled archives that are kept; 0 is 100. */
    uint32_t archives_kept;
    /** Requests that wait for a shard, reads and writes each; 0 is 4,096, at most 1,048,576. */
    uint32_t submission_capacity;
    /** Requests that may be accepted and not yet polled; 0 is 16,384, at most 1,048,576. */
    uint32_t completion_capacity;
    /** Zero. */
    uint32_t reserved0;
    /**
     * Bytes of write logs that each shard has before it merges them into pages, 1 MiB to 64 GiB; twice as many are the end,
     * and an eighth as much memory. A batch is safe once it is in a log, so that many rewrites of random keys cost few writes.
     * 0 is none: batches go to the pages at once, as EloqStore's do. Not over an object store; none in memory.
     */
    uint64_t log_bytes;
    /** Zero. */
    uint64_t reserved[3];
} rde_kv_options;

/** An open key-value store: shards with a thread each, and a queue of completions of its own. */
typedef struct {
    /** 0 is none. */
    uint64_t id;
} rde_kv;

/** One change of a batch. Start from zero. */
typedef struct {
    /** Not empty, at most half a page. */
    rde_bytes key;
    /** The value. */
    rde_bytes value;
    /** What comes with a very large value; else empty. */
    rde_bytes metadata;
    /** The change takes effect unless the key holds a newer one. */
    uint64_t timestamp;
    /** When it expires, unix milliseconds; 0 never. */
    uint64_t expire_ms;
    /** An rde_kv_action. */
    uint32_t action;
    /** Zero. */
    uint32_t reserved;
} rde_kv_change;

/** One request to a store; 128 bytes. Fields that an operation does not use are zero. */
typedef struct {
    /** Returned as it is in the completion. */
    uint64_t user_data;
    /** From rde_kv_partition, rde_kv_branch or rde_kv_archive. */
    uint32_t partition;
    /** RDE_KV_OP_*. */
    uint16_t op;
    /** RDE_KV_BACKWARD, RDE_KV_AFTER_KEY, RDE_KV_INCLUDE_END, RDE_KV_LARGE_VALUES, RDE_KV_SORT. */
    uint16_t flags;
    /** A key, the begin of a range, a position, or the name of an archive. Copied during the call. */
    rde_bytes key;
    /** The end of a range, not included; empty for none. Copied during the call. */
    rde_bytes end;
    /** Entries of a scan at most; 0 for as many as there is room for. */
    uint64_t max_entries;
    /** Registered memory for the answer, until the completion: what lands there is sent and exported without a copy. */
    rde_buffer buffer;
    /** Offset in the buffer, in bytes. */
    uint64_t buffer_offset;
    /** Other memory for the answer, until the completion; NULL with a buffer. */
    void *memory;
    /** Room for the answer in bytes, in either. */
    uint64_t length;
    /** The changes of a batch, copied during the call. */
    const rde_kv_change *changes;
    /** How many. */
    uint64_t change_count;
    /** Zero. */
    uint64_t reserved[3];
} rde_kv_request;

/** Counters of a store since it was opened. Set struct_size before asking. */
typedef struct {
    /** sizeof(rde_kv_details), set by the caller. */
    uint32_t struct_size;
    /** 1 if io_uring is in use. */
    uint32_t uring;
    /** Requests that were completed. */
    uint64_t completed;
    /** Pages found in memory. */
    uint64_t hits;
    /** Pages read from disk. */
    uint64_t pages_read;
    /** Pages in the cache now. */
    uint64_t cached_pages;
    /** Bytes written to data and segment files. */
    uint64_t data_bytes;
    /** Bytes written to manifests and archives. */
    uint64_t manifest_bytes;
    /** Partitions that are open now. */
    uint64_t open_partitions;
    /** Files that are open now. */
    uint64_t open_files;
    /** Commits of compaction, cleaning and archiving that the engine began itself. */
    uint64_t upkeep;
    /** Upkeep that failed; the log says why. */
    uint64_t upkeep_failed;
    /** Bytes written to write logs. */
    uint64_t log_bytes;
} rde_kv_details;

/** A service's header: 24 bytes that travel with every call and reply. */
typedef struct {
    /** A file's offset, a cookie, a size. */
    uint64_t offset;
    /** Bytes wanted or carried. */
    uint64_t len;
    /** The service's. */
    uint32_t flags;
    /** Zero: a receiver refuses anything else. */
    uint32_t reserved;
} rde_rpc_header;

/** A part of a payload: bytes that are copied, or a range of a buffer that is not. */
typedef struct {
    /** Bytes that are copied, at most 64 KiB in all pieces of a payload; NULL with a buffer. */
    const void *data;
    /** Bytes of the piece. */
    size_t length;
    /** Registered memory, or zero. */
    rde_buffer buffer;
    /** Where the piece begins in the buffer, in bytes. */
    uint64_t buffer_offset;
} rde_piece;

/** What to call, with what, and where the reply goes. Set struct_size; fields that are not used are zero. */
typedef struct {
    /** sizeof(rde_call_arguments). */
    uint32_t struct_size;
    /** RDE_CALL_ONE_WAY, RDE_CALL_ONCE, RDE_CALL_CHECKSUM or 0. */
    uint32_t flags;
    /** The service's number of what is called. */
    uint32_t method;
    /** Microseconds until the call times out, here and at the peer; 0 is never. */
    uint32_t timeout_us;
    /** Travels with the call. */
    rde_rpc_header header;
    /** The payload, in the order in which it arrives. */
    const rde_piece *pieces;
    /** Pieces of the payload, at most RDE_PIECES_MAX. */
    uint32_t piece_count;
    /** RDE_CALL_ONCE: the slot, below 1,024: it has one call at a time. */
    uint16_t slot;
    /** Zero. */
    uint16_t reserved;
    /** Where the reply's payload goes, until the completion; zero: inline, or a buffer of the library's. */
    rde_buffer reply;
    /** Where it begins in that buffer, in bytes. */
    uint64_t reply_offset;
    /** Room for it, in bytes. */
    uint64_t reply_capacity;
    /** RDE_CALL_ONCE: the slot's first call is 1, and each next one is one more. A repetition has the same number. */
    uint32_t sequence;
    /** Zero. */
    uint32_t reserved1;
    /** Returned as it is in the completion. */
    uint64_t user_data;
} rde_call_arguments;

/** A peer's call that waits for its answer. */
typedef struct {
    /** 0 is none. */
    uint64_t id;
} rde_incoming_call;

/** What an inbound call tells about itself. Set struct_size before asking. */
typedef struct {
    /** sizeof(rde_call_details), set by the caller. */
    uint32_t struct_size;
    /** RDE_CALL_*. */
    uint32_t flags;
    /** What is called. */
    uint32_t method;
    /** Zero. */
    uint32_t reserved;
    /** The session it came over. */
    rde_session session;
    /** What came with it. */
    rde_rpc_header header;
    /** Nanoseconds until the caller gives up; 0 without a deadline, 1 when it has passed. */
    uint64_t left_ns;
    /** The payload, until the call is answered or released. */
    rde_bytes payload;
    /** The buffer that has the payload, for pieces and puts; zero for a short one. It goes with the call. */
    rde_buffer buffer;
} rde_call_details;

/** Options of a volume. Start from RDE_VOLUME_OPTIONS_INIT; a field that is zero takes its default. */
typedef struct {
    /** sizeof(rde_volume_options). */
    uint32_t struct_size;
    /** Zero. */
    uint32_t flags;
    /** Where the index is, for the call; empty is beside the data. */
    rde_bytes index_dir;
    /** Zero. */
    uint64_t reserved[4];
} rde_volume_options;

/** A SeaweedFS volume on this machine's disk. */
typedef struct {
    /** 0 is none. */
    uint64_t id;
} rde_volume;

/** What a volume tells about itself. Set struct_size before asking. */
typedef struct {
    /** sizeof(rde_volume_details), set by the caller. */
    uint32_t struct_size;
    /** Of the records: 1, 2 or 3. */
    uint32_t version;
    /** How often the volume was vacuumed, modulo 65,536. */
    uint32_t compaction_revision;
    /** Zero. */
    uint32_t reserved;
    /** How often its files were opened; grows with each vacuum. */
    uint64_t generation;
    /** Entries of the needle map, deleted ones included; one that changed lately may be counted twice. */
    uint64_t entries;
    /** Bytes that the needle map takes. */
    uint64_t map_bytes;
} rde_volume_details;

/** What is known of a needle. Set struct_size before asking. */
typedef struct {
    /** sizeof(rde_needle), set by the caller. */
    uint32_t struct_size;
    /** RDE_NEEDLE_*; other bits are those that SeaweedFS stored. */
    uint32_t flags;
    /** Bytes of stored data, of which a read may have been for a part. */
    uint64_t length;
    /** Unix seconds; 0 is unknown. */
    uint64_t last_modified;
    /** Unix nanoseconds; 0 is unknown. */
    uint64_t append_at_ns;
    /** Generation of the volume that it was read from. */
    uint64_t generation;
    /** CRC-32C of the stored data as it is stored: raw or masked. */
    uint32_t checksum;
    /** Zero. */
    uint32_t reserved;
} rde_needle;

/** Options of an exporter. Start from RDE_EXPORTER_OPTIONS_INIT; a field that is zero takes its default. */
typedef struct {
    /** sizeof(rde_exporter_options). */
    uint32_t struct_size;
    /** Threads that read the disk, at most 256; 0 is 4. */
    uint32_t threads;
    /** Where the indexes are, for the call; empty is beside the data. */
    rde_bytes index_dir;
    /**
     * SeaweedFS's read key (jwt.signing.read.key), at most 1,024 bytes, copied: each read needs a token that was signed with
     * it. Empty: none is needed.
     */
    rde_bytes read_key;
    /** Zero. */
    uint64_t reserved[2];
} rde_exporter_options;

/** Serves the needles of a folder of SeaweedFS volumes. */
typedef struct {
    /** 0 is none. */
    uint64_t id;
} rde_exporter;

/** One read of RDE_METHOD_NEEDLES. Zero is none. */
typedef struct {
    /** Such as "3,01637037d6", for the call; also as in a URL. */
    rde_bytes file_id;
    /** What SeaweedFS gave out for this file id, if the exporter asks for it, for the call. */
    rde_bytes token;
    /** Where the part begins, with RDE_VOLUME_RANGE. */
    uint64_t offset;
    /** Bytes of the part, with RDE_VOLUME_RANGE. */
    uint64_t length;
    /** RDE_VOLUME_*. */
    uint32_t flags;
    /** Zero. */
    uint32_t reserved;
} rde_needle_read;

/** What became of one read of RDE_METHOD_NEEDLES. */
typedef struct {
    /** As of rde_volume_read; UNAUTHORIZED; TRUNCATED: longer than any answer can be, `length` says how long: read it in parts. */
    int32_t status;
    /** RDE_NEEDLE_*; other bits are those that SeaweedFS stored. */
    uint32_t flags;
    /** Bytes of all stored data. */
    uint64_t length;
    /** Unix seconds; 0 is unknown. */
    uint64_t last_modified;
    /** Unix nanoseconds; 0 is unknown. */
    uint64_t append_at_ns;
    /** Generation of the volume that it was read from. */
    uint64_t generation;
    /** CRC-32C of all stored data as it is stored: raw or masked. */
    uint32_t checksum;
    /** Zero. */
    uint32_t reserved;
    /** Where in the answer the data begins, in bytes. */
    uint64_t data_offset;
    /** Bytes of data. */
    uint64_t data_length;
} rde_needle_result;

/** Counts of events since the object was opened; all only grow. */
typedef struct {
    /** Requests that were accepted. */
    uint64_t submitted;
    /** Completions of requests, whatever their status. */
    uint64_t completed;
    /** Completions with an error. */
    uint64_t failed;
    /** Of the failed: deadlines that passed. */
    uint64_t timed_out;
    /** Of the failed: cancelled, or closed under. */
    uint64_t canceled;
    /** Requests that were not accepted because a queue was full. */
    uint64_t queue_full;
    /** Gets that succeeded. */
    uint64_t gets;
    /** Puts that succeeded. */
    uint64_t puts;
    /** Flushes that succeeded. */
    uint64_t flushes;
    /** Fetch-adds and compare-and-swaps that succeeded. */
    uint64_t atomics;
    /** Messages that were sent. */
    uint64_t sends;
    /** Messages that arrived. */
    uint64_t messages;
    /** Bytes read by gets. */
    uint64_t get_bytes;
    /** Bytes written by puts. */
    uint64_t put_bytes;
    /** Bytes of the messages that were sent. */
    uint64_t send_bytes;
    /** Bytes of the messages that arrived. */
    uint64_t message_bytes;
    /** Gets and puts by the way they went: mapped, RMA, message. */
    uint64_t way_operations[3];
    /** Their bytes: mapped, RMA, message. */
    uint64_t way_bytes[3];
    /** Gets of peers that this side served with messages. */
    uint64_t served_gets;
    /** Puts of peers that this side served with messages. */
    uint64_t served_puts;
    /** Atomics of peers that this side served with messages. */
    uint64_t served_atomics;
    /** Bytes moved by what was served. */
    uint64_t served_bytes;
    /** Requests of peers that were refused: key, range, rights, or revoked. */
    uint64_t refused;
    /** Sessions that were dialled and opened. */
    uint64_t connects;
    /** Sessions that were accepted. */
    uint64_t accepts;
    /** Dials that failed. */
    uint64_t connects_failed;
    /** Peers that were turned away at the hello: limit, version, settings, or nonsense. */
    uint64_t hellos_refused;
    /** Sessions that ended in order. */
    uint64_t sessions_closed;
    /** Sessions that ended because their peer was lost. */
    uint64_t sessions_lost;
    /** Keys that were exported. */
    uint64_t exports;
    /** Keys that were revoked. */
    uint64_t revokes;
    /** Keys of peers that were imported. */
    uint64_t imports;
    /** Calls to poll. */
    uint64_t polls;
    /** Times the worker went to sleep. */
    uint64_t sleeps;
    /** Times the worker was woken from sleep by a submission or a wake. */
    uint64_t wakes;
    /** Log messages that were dropped because their callback was busy with another of the same thread. */
    uint64_t logs_dropped;
    /** Calls that were answered by the peer's service. */
    uint64_t calls;
    /** Replies that nobody waited for. */
    uint64_t late_replies;
    /** Calls of peers that were handed out. */
    uint64_t calls_received;
    /** Calls of peers that were answered. */
    uint64_t calls_answered;
    /** Calls of peers that were refused: limit, method, header, deadline, or released without an answer. */
    uint64_t calls_refused;
    /** Calls of peers that were answered with a kept reply. */
    uint64_t calls_repeated;
    /** Handlers of calls that panicked. */
    uint64_t handler_panics;
    /** Peers that did not prove the shared secret. */
    uint64_t proofs_failed;
    /** Zero; later counters take these places. */
    uint64_t reserved[16];
} rde_counters;

/**
 * Durations in power-of-two buckets: bucket 0 holds those below 16 ns, bucket `i` those below `16 << i` ns, the last
 * one everything from `16 << 30` ns (17 s) on.
 */
typedef struct {
    /** How many durations fell in each bucket. */
    uint64_t buckets[RDE_HISTOGRAM_BUCKETS];
    /** Sum of all durations, in nanoseconds. */
    uint64_t sum_ns;
    /** The longest, in nanoseconds. */
    uint64_t max_ns;
} rde_histogram;

/** What a context, a worker or a session counted. The histograms hold a sample of the operations. A C caller sets `struct_size` before it asks. */
typedef struct {
    /** Size of this structure in bytes. */
    uint32_t struct_size;
    /** Zero. */
    uint32_t flags;
    /** Counts of events. */
    rde_counters counters;
    /** Gets, from submission to completion. */
    rde_histogram get;
    /** Puts, from submission to completion. */
    rde_histogram put;
    /** Messages, from submission to completion at the sender. */
    rde_histogram message;
    /** Connects, from the call to the completion. */
    rde_histogram connect;
} rde_stats;

/** Where an answer is to go: the end of a payload, with RDE_VOLUME_PLACED. Little-endian, as all that travels. */
typedef struct {
    /** The number of memory that was lent on this session by RDE_METHOD_NEEDLE_MEMORY. */
    uint64_t memory;
    /** Where in it, in bytes. */
    uint64_t offset;
    /** Bytes of room. An answer for one needle goes elsewhere when it is longer, one for many is cut to it. */
    uint64_t length;
} rde_needle_place;

/** One piece of a vectored get or put. */
typedef struct {
    /** Offset in the local buffer, in bytes. */
    uint64_t buffer_offset;
    /** Offset in the region, in bytes. */
    uint64_t region_offset;
    /** Length in bytes. */
    uint64_t length;
} rde_segment;

/**
 * One entry in the memory of a floor or a scan: this, then its key, then its value; the next is `next` bytes further.
 * 40 bytes.
 */
typedef struct {
    /** Distance to the next entry in bytes: a multiple of 8. */
    uint64_t next;
    /** Bytes of the value. */
    uint64_t value_len;
    /** The change's timestamp. */
    uint64_t timestamp;
    /** When it expires, unix milliseconds; 0 never. It is there until it is cleaned. */
    uint64_t expire_ms;
    /** Bytes of the key. */
    uint32_t key_len;
    /** RDE_KV_ENTRY_LARGE or 0. */
    uint32_t flags;
} rde_kv_entry;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/* ---- Library: version, statuses, log. ---- */

/**
 * Version of the ABI of the library that is loaded; compare it with RDE_ABI_VERSION.
 *
 * Parameters: none.
 * Completion: none.
 * Returns: the version.
 * Threads: any, concurrently; also from a signal handler.
 * Blocks: never.
 * On failure: it does not fail.
 * Since: 0.1
 */
uint32_t rde_abi_version(void);

/**
 * Version of the library that is loaded, such as "0.1.0".
 *
 * Parameters: none.
 * Completion: none.
 * Returns: static NUL-terminated text; never NULL.
 * Threads: any, concurrently; also from a signal handler.
 * Blocks: never.
 * On failure: it does not fail.
 * Since: 0.1
 */
const char *rde_version_string(void);

/**
 * Name of a status without its prefix, such as "CONNECTION_LOST".
 *
 * Parameters: `status` in, any number.
 * Completion: none.
 * Returns: static NUL-terminated text; "UNKNOWN" for a number that is no status; never NULL.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: it does not fail.
 * Since: 0.1
 */
const char *rde_status_name(int32_t status);

/**
 * Meaning of a status in a few words.
 *
 * Parameters: `status` in, any number.
 * Completion: none.
 * Returns: static NUL-terminated text; "unknown status" for a number that is no status; never NULL.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: it does not fail.
 * Since: 0.1
 */
const char *rde_status_message(int32_t status);

/**
 * Sends the library's log messages to a function, or nowhere. When it returns, the function before is not running and
 * never runs again.
 *
 * Parameters: `callback` in, nullable (no messages); called until the next call of this function. `level` in: RDE_LOG_*;
 * messages at this level and graver ones. `user` in, handed to `callback`, never dereferenced.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: no such level; WRONG_STATE: called by the callback; ALREADY_EXISTS: the program, a Rust
 * one, has a tracing subscriber of its own, which gets the messages.
 * Threads: any; not from a signal handler, not from the callback.
 * Blocks: until running callbacks have returned.
 * On failure: the function before stays.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_log_set(rde_log_callback callback,
                       uint32_t level,
                       void *user);

/* ---- Context: UCX, devices, memory and limits. ---- */

/**
 * Opens a context: finds and loads UCX (once for the process), picks transports and devices, sets up memory. The first
 * one sets environment variables of UCX that the program has not set (see the top of this file).
 *
 * Parameters: `options` in, nullable (the defaults), for the call. `out_context` out. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: a NULL, a text that is not UTF-8 or too long, an unknown bit, or something in a
 * reserved field; ABI_MISMATCH: a `struct_size` of no version; UNSUPPORTED: UCX is not installed or too old (the message
 * names the package), or none of the transports is to be had; OUT_OF_MEMORY; IO; TRANSPORT: UCX failed.
 * Threads: any, concurrently, except that no other thread may use the environment (getenv, setenv) during the first one;
 * not from a signal handler.
 * Blocks: while UCX loads and looks at devices, tens of milliseconds; no network.
 * On failure: `out_context` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_context_open(const rde_context_options *options,
                            rde_context *out_context,
                            rde_error *error);

/**
 * Closes a context and frees its memory; its buffers and what their data pointers point to are gone, and so are its
 * regions. Memory that a peer has mapped stays mapped there.
 *
 * Parameters: `context` in; zero is OK and does nothing.
 * Completion: none.
 * Returns: OK; STALE_HANDLE: closed before; WRONG_STATE: a worker is open: close it first.
 * Threads: any; not from a signal handler.
 * Blocks: until the threads of the context have ended, milliseconds.
 * On failure: the context stays open.
 * Since: 0.1
 */
rde_status rde_context_close(rde_context context);

/**
 * What a context found and is bound by.
 *
 * Parameters: `context` in. `out_info` in and out: its `struct_size` is read, everything else is written. `error` out,
 * nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
 * STALE_HANDLE.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_info` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_context_info(rde_context context,
                            rde_context_details *out_info,
                            rde_error *error);

/* ---- Worker: progress, submission, completion. ---- */

/**
 * Opens a worker: its UCX worker, its queues and, unless RDE_WORKER_POLLED, its thread.
 *
 * Parameters: `context` in. `options` in, nullable (the defaults), for the call. `out_worker` out. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: a NULL, a capacity out of bounds, an unknown flag, or something in a reserved field;
 * ABI_MISMATCH: a `struct_size` of no version; STALE_HANDLE; WRONG_STATE: the context is closing; OUT_OF_MEMORY; IO;
 * TRANSPORT: UCX failed.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: while UCX opens devices, milliseconds.
 * On failure: `out_worker` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_worker_open(rde_context context,
                           const rde_worker_options *options,
                           rde_worker *out_worker,
                           rde_error *error);

/**
 * Closes a worker, its listeners and its sessions. Operations in flight end; their completions, and those that were not
 * polled, are gone with the worker: to see each one, close the sessions, poll until their SESSION_CLOSED, then close.
 *
 * Parameters: `worker` in; zero is OK and does nothing. A thread that waits in its poll returns with STALE_HANDLE.
 * Completion: none.
 * Returns: OK; STALE_HANDLE: closed before.
 * Threads: any but the worker's own; not from a signal handler.
 * Blocks: until the worker's thread has ended and its peers are told, milliseconds.
 * On failure: nothing has changed.
 * Since: 0.1
 */
rde_status rde_worker_close(rde_worker worker);

/**
 * Submits requests, in order, up to the first one that is not accepted.
 *
 * Parameters: `requests` in, `count` of them (NULL only with 0, aligned to 8), for the call, and what their `data`
 * points to too; their buffers until the completion. `out_accepted` out: how many were accepted, from the first one on.
 * Completion: exactly one for each accepted request, also after a cancel, a close, a timeout and the loss of the peer;
 * requests that are not accepted have none. `op` and `user_data` are the request's. By `op`:
 * NOP: nothing more. GET, PUT: `length` is the bytes moved; a put has then left the buffer, and FLUSH says when all puts
 * before it on the session are visible at the peer. FETCH_ADD, COMPARE_SWAP: `value` is what was there. SEND: the
 * message has left the buffer; messages of one session arrive in order, other operations end in any order.
 * REGION_IMPORT: `value` is the region. `detail` is an errno or a transport status, if there was one.
 * Returns: OK: all are accepted. Otherwise why the request at `*out_accepted` is not: INVALID_ARGUMENT: an unknown
 * operation or flag, or fields that contradict each other; STALE_HANDLE: its session, buffer or region; OUT_OF_RANGE:
 * past the end of its buffer or region; PERMISSION_DENIED: the region's key does not grant it; QUEUE_FULL: poll, then
 * submit the rest; WRONG_STATE: the session or the worker is closing; CONNECTION_LOST: the session is.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `*out_accepted` is written unless a pointer or a count was refused, and the worker is open.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_worker_submit(rde_worker worker,
                             const rde_request *requests,
                             uint32_t count,
                             uint32_t *out_accepted);

/**
 * Takes completions, oldest first; of a polled worker it also makes progress.
 *
 * Parameters: `timeout_ns` in: 0 returns at once, negative waits for ever, else the longest wait for a first completion.
 * `completions` out, room for `capacity` (NULL only with 0, aligned to 8; more than RDE_BATCH_MAX is taken as that).
 * `out_count` out: how many were written.
 * Completion: none of its own.
 * Returns: OK, also with none; INVALID_ARGUMENT: NULL, or not aligned; STALE_HANDLE: closed, also while waiting;
 * WRONG_STATE: another thread is in the poll of a polled worker; IO, TRANSPORT: progress failed: close the worker.
 * Threads: any, one at a time of a polled worker, concurrently of a threaded one; not from a signal handler.
 * Blocks: up to `timeout_ns`; `rde_worker_wake` ends the wait, signals do not.
 * On failure: `out_count` is untouched, and no completion is lost.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_worker_poll(rde_worker worker,
                           int64_t timeout_ns,
                           rde_completion *completions,
                           uint32_t capacity,
                           uint32_t *out_count);

/**
 * Hands out a file descriptor for an event loop: readable when completions may wait. Drain, arm, sleep, as the top of
 * this file says.
 *
 * Parameters: `worker` in. `out_fd` out: the caller's to close, also after the worker's close. A threaded worker's is an
 * eventfd: read its 8 bytes after each wake-up (it does not block). A polled worker's cannot be read, and needs not be:
 * a read fails at once. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; IO: no descriptor left.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_fd` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_worker_event_fd(rde_worker worker,
                               int *out_fd,
                               rde_error *error);

/**
 * Makes the event file descriptor fire at the next completion or event, once.
 *
 * Parameters: `worker` in.
 * Completion: none.
 * Returns: OK: sleep now; NOT_READY: completions or work wait: poll first, then arm again; STALE_HANDLE; IO, TRANSPORT:
 * progress failed: close the worker.
 * Threads: the one that polls and sleeps; not from a signal handler.
 * Blocks: never.
 * On failure: the descriptor is not armed.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_worker_arm(rde_worker worker);

/**
 * Ends a wait in `rde_worker_poll` and makes the event file descriptor readable, once; when nobody waits, the next one.
 *
 * Parameters: `worker` in.
 * Completion: none.
 * Returns: OK; STALE_HANDLE.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: nobody is woken.
 * Since: 0.1
 */
rde_status rde_worker_wake(rde_worker worker);

/**
 * Asks the requests with this `user_data` to end. What has gone to the peer may still happen.
 *
 * Parameters: `worker` in. `user_data` in, as in the requests.
 * Completion: none of its own; each such request completes once, with CANCELED or as if nothing had been asked. Its
 * buffer is free again then, not before.
 * Returns: OK: asked, also when no such request is pending; STALE_HANDLE; QUEUE_FULL: poll, then ask again.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: no request is affected.
 * Since: 0.1
 */
rde_status rde_worker_cancel(rde_worker worker,
                             uint64_t user_data);

/* ---- Listeners and sessions: connections to peers. ---- */

/**
 * Listens at an address: "tcp://host:port" (port 0 picks one; IPv6 in brackets) or "unix:///path".
 *
 * Parameters: `worker` in: gets the accepted sessions. `address` in, UTF-8, for the call. `user_data` in: of the events.
 * `out_listener` out. `error` out, nullable.
 * Completion: an event SESSION_ACCEPTED for each session: `user_data` is the listener's, `value` the session, whose later
 * events carry the listener's `user_data` too.
 * Returns: OK; INVALID_ARGUMENT: NULL, or an address that cannot be read; STALE_HANDLE; WRONG_STATE: the worker is
 * closing; ALREADY_EXISTS: the address is in use; NOT_FOUND: no such host, interface or folder; PERMISSION_DENIED;
 * UNSUPPORTED: the context's transports do not allow it; IO.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: while a host name is resolved; use numbers to avoid it.
 * On failure: `out_listener` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_listener_open(rde_worker worker,
                             rde_bytes address,
                             uint64_t user_data,
                             rde_listener *out_listener,
                             rde_error *error);

/**
 * The address a listener is at, in the form to dial, with the port that was picked.
 *
 * Parameters: `listener` in. `out_text` out, room for `capacity` bytes, NUL-terminated; nullable with a capacity of 0.
 * `out_len` out: its length without the NUL. RDE_ADDRESS_MAX + 1 bytes always suffice.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; TRUNCATED: `capacity` must be over `*out_len`, which was written.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_text` is untouched, and so is `out_len` but for TRUNCATED.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_listener_address(rde_listener listener,
                                char *out_text,
                                size_t capacity,
                                size_t *out_len);

/**
 * Stops listening. Sessions that were accepted stay.
 *
 * Parameters: `listener` in; zero is OK and does nothing.
 * Completion: none; events of sessions accepted before may still follow.
 * Returns: OK; STALE_HANDLE: closed before.
 * Threads: any; not from a signal handler.
 * Blocks: until the address is free, which takes microseconds; a second at most.
 * On failure: nothing has changed.
 * Since: 0.1
 */
rde_status rde_listener_close(rde_listener listener);

/**
 * Dials a peer. Operations go from the completion on; before it they end with WRONG_STATE.
 *
 * Parameters: `worker` in: carries the session. `address` in: "tcp://host:port" or "unix:///path", UTF-8, for the call.
 * `user_data` in: of the completion and of the session's events. `out_session` out. `error` out, nullable.
 * Completion: SESSION_CONNECT, once: `value` is the session; its status is OK, or why there is none: UNREACHABLE,
 * TIMED_OUT, LIMIT_REACHED (ours or the peer's), SETTINGS_MISMATCH, PROTOCOL, CONNECTION_LOST, CANCELED. Later the events
 * MESSAGE and SESSION_CLOSED.
 * Returns: OK: dialling; INVALID_ARGUMENT: NULL, or an address that cannot be read; STALE_HANDLE; WRONG_STATE: the worker
 * is closing; QUEUE_FULL: poll first; LIMIT_REACHED: `max_sessions` are open; UNSUPPORTED: the context's transports do
 * not allow it.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_session` is untouched, and there is no completion.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_session_connect(rde_worker worker,
                               rde_bytes address,
                               uint64_t user_data,
                               rde_session *out_session,
                               rde_error *error);

/**
 * Closes a session. Its operations in flight end first, each with its completion: as usual, or with CANCELED.
 *
 * Parameters: `session` in; zero is OK and does nothing. `user_data` in: of the completion.
 * Completion: SESSION_CLOSED, the last one of the session: `value` is the session.
 * Returns: OK: closing; STALE_HANDLE: closed before; WRONG_STATE: it is closing already.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: there is no completion.
 * Since: 0.1
 */
rde_status rde_session_close(rde_session session,
                             uint64_t user_data);

/**
 * What a session tells about itself: state, peer, transport, and which way its operations went.
 *
 * Parameters: `session` in. `out_info` in and out: its `struct_size` is read, everything else is written. `error` out,
 * nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
 * STALE_HANDLE.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_info` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_session_info(rde_session session,
                            rde_session_details *out_info,
                            rde_error *error);

/* ---- Memory: buffers, keys and regions. ---- */

/**
 * Allocates registered memory. Its bytes are zero.
 *
 * Parameters: `context` in. `length` in, bytes, at least 1. `flags` in: RDE_BUFFER_* or 0. `out_buffer` out. `out_data`
 * out, nullable: the memory, aligned to 64 bytes, until the release. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, a length of 0, or an unknown flag; STALE_HANDLE; OUT_OF_MEMORY: over the context's
 * limit, or the system has no more; IO.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never on the network; large ones wait for the system's pages.
 * On failure: the outputs are untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_buffer_alloc(rde_context context,
                            uint64_t length,
                            uint32_t flags,
                            rde_buffer *out_buffer,
                            void **out_data,
                            rde_error *error);

/**
 * Registers memory of the caller, to use it without a copy. Slower than `rde_buffer_alloc`, and never mapped by peers.
 *
 * Parameters: `context` in. `data` in, `length` bytes, at least 1: readable and writable, at one place until the release
 * has returned and every operation on it has completed; not memory of a garbage collector. `flags` in: 0. `out_buffer`
 * out. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, a length of 0 or past the end of the address space, or an unknown flag;
 * STALE_HANDLE; UNSUPPORTED: not with this flag; OUT_OF_MEMORY; TRANSPORT: the device refused the memory.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: while a device pins the pages.
 * On failure: `out_buffer` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_buffer_register(rde_context context,
                               void *data,
                               uint64_t length,
                               uint32_t flags,
                               rde_buffer *out_buffer,
                               rde_error *error);

/**
 * Where a buffer's memory is, and how long: also of a buffer that brought a message.
 *
 * Parameters: `buffer` in. `out_data` out: the memory, until the release. `out_length` out, nullable: bytes.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: the outputs are untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_buffer_data(rde_buffer buffer,
                           void **out_data,
                           uint64_t *out_length);

/**
 * Releases a buffer: its handle is stale at once and its keys are revoked. Operations in flight keep the memory alive
 * until they end; what a peer has mapped stays readable there and is not reused.
 *
 * Parameters: `buffer` in; zero is OK and does nothing.
 * Completion: none.
 * Returns: OK; STALE_HANDLE: released before.
 * Threads: any; not from a signal handler.
 * Blocks: never.
 * On failure: nothing has changed.
 * Since: 0.1
 */
rde_status rde_buffer_release(rde_buffer buffer);

/**
 * Makes a key with which a peer may touch a range of a buffer. Send it there by any means that others cannot read.
 *
 * Parameters: `buffer` in, allocated without RDE_BUFFER_UNINITIALISED, or registered. `offset`, `length` in, bytes; a length of
 * at least 1. `rights` in: RDE_RIGHT_*, at least one. `out_key` out. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, a length of 0, or no or unknown rights; STALE_HANDLE; OUT_OF_RANGE: past the end;
 * WRONG_STATE: the buffer is uninitialised; LIMIT_REACHED: `max_exports` are out; IO.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_key` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_buffer_export(rde_buffer buffer,
                             uint64_t offset,
                             uint64_t length,
                             uint32_t rights,
                             rde_key *out_key,
                             rde_error *error);

/**
 * Takes a key back: when it returns, no operation with it starts any more. A peer that has mapped the range can still
 * read or write the old memory, which is never used for anything else; release the buffer and allocate another.
 *
 * Parameters: `context` in: that of the buffer. `key` in, for the call. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or not a key; STALE_HANDLE; REVOKED: before; NOT_FOUND: never exported;
 * PERMISSION_DENIED: of another context, or its secret is wrong.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: until operations with the key that have begun are done, microseconds.
 * On failure: no key is revoked.
 * Since: 0.1
 */
rde_status rde_key_revoke(rde_context context,
                          const rde_key *key,
                          rde_error *error);

/**
 * Releases a region. Operations in flight end as usual.
 *
 * Parameters: `region` in; zero is OK and does nothing.
 * Completion: none.
 * Returns: OK; STALE_HANDLE: released before.
 * Threads: any; not from a signal handler.
 * Blocks: never.
 * On failure: nothing has changed.
 * Since: 0.1
 */
rde_status rde_region_release(rde_region region);

/**
 * What a region tells about itself: length, rights, and the way its operations go.
 *
 * Parameters: `region` in. `out_info` in and out: its `struct_size` is read, everything else is written.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
 * STALE_HANDLE.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_info` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_region_info(rde_region region,
                           rde_region_details *out_info);

/* ---- Single operations: one request without the array, through the same queue. ---- */

/**
 * Reads a range of a region into a buffer.
 *
 * Parameters: `session` in. `buffer` in, until the completion, with `buffer_offset`. `region` in, with `region_offset`.
 * `length` in, bytes. `user_data` in.
 * Completion: GET: `length` is the bytes moved.
 * Returns: as `rde_worker_submit` of this one request.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: there is no completion.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_get(rde_session session,
                   rde_buffer buffer,
                   uint64_t buffer_offset,
                   rde_region region,
                   uint64_t region_offset,
                   uint64_t length,
                   uint64_t user_data);

/**
 * Writes a buffer into a range of a region.
 *
 * Parameters: `session` in. `buffer` in, until the completion, with `buffer_offset`. `region` in, with `region_offset`.
 * `length` in, bytes. `user_data` in.
 * Completion: PUT: `length` is the bytes moved; they have left the buffer. `rde_flush` says when they are visible.
 * Returns: as `rde_worker_submit` of this one request.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: there is no completion.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_put(rde_session session,
                   rde_buffer buffer,
                   uint64_t buffer_offset,
                   rde_region region,
                   uint64_t region_offset,
                   uint64_t length,
                   uint64_t user_data);

/**
 * Waits for the puts that were submitted before it on the session.
 *
 * Parameters: `session` in. `user_data` in.
 * Completion: FLUSH: those puts are visible at the peer.
 * Returns: as `rde_worker_submit` of this one request.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: there is no completion.
 * Since: 0.1
 */
RDE_MUST_USE rde_status rde_flush(rde_session session, uint64_t user_data);

/**
 * Adds to a u64 of a region, atomically to every other such operation of any peer.
 *
 * Parameters: `session` in. `region` in, with `region_offset`, a multiple of 8. `operand` in: what to add, wrapping.
 * `user_data` in.
 * Completion: FETCH_ADD: `value` is what was there before.
 * Returns: as `rde_worker_submit` of this one request.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: there is no completion.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_fetch_add(rde_session session,
                         rde_region region,
                         uint64_t region_offset,
                         uint64_t operand,
                         uint64_t user_data);

/**
 * Stores a u64 in a region if it holds what is expected, atomically to every other such operation of any peer.
 *
 * Parameters: `session` in. `region` in, with `region_offset`, a multiple of 8. `compare` in: what must be there.
 * `operand` in: what to store. `user_data` in.
 * Completion: COMPARE_SWAP: `value` is what was there before; the swap happened if that is `compare`.
 * Returns: as `rde_worker_submit` of this one request.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: there is no completion.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_compare_swap(rde_session session,
                            rde_region region,
                            uint64_t region_offset,
                            uint64_t compare,
                            uint64_t operand,
                            uint64_t user_data);

/**
 * Sends one message: bytes that are copied now, or those of a buffer.
 *
 * Parameters: `session` in. `data` in, for the call: the message, at most 64 KiB; empty when a buffer is given. `buffer`
 * in, zero or until the completion, with `buffer_offset` and `length` in bytes. `user_data` in.
 * Completion: SEND: `length` is the message's; it has left the buffer. At the peer an event MESSAGE.
 * Returns: as `rde_worker_submit` of this one request; INVALID_ARGUMENT also with both or an overlong `data`.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: there is no completion.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_send(rde_session session,
                    rde_bytes data,
                    rde_buffer buffer,
                    uint64_t buffer_offset,
                    uint64_t length,
                    uint64_t user_data);

/**
 * Makes a region from a key that the session's peer exported. Later imports of the key are answered from a cache.
 *
 * Parameters: `session` in. `key` in, for the call. `user_data` in.
 * Completion: REGION_IMPORT: `value` is the region; PERMISSION_DENIED: a wrong secret; REVOKED; NOT_FOUND: not of this
 * peer; PROTOCOL, CONNECTION_LOST.
 * Returns: as `rde_worker_submit` of this one request; INVALID_ARGUMENT also when the key is NULL or garbage.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: there is no completion.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_region_import(rde_session session,
                             const rde_key *key,
                             uint64_t user_data);

/* ---- The key-value store: EloqStore's directories, read and written. ---- */

/**
 * Opens or makes a store.
 *
 * Parameters: `options` in: at least a store path in `file` or `lines`, else the store is in memory. `out_kv` out.
 * `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, an option that cannot be, or other options than the store was made with;
 * ABI_MISMATCH; LIMIT_REACHED: 65,536 stores are open; OUT_OF_MEMORY; IO; UNSUPPORTED: no io_uring where it was asked for.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: while directories are listed and threads are started.
 * On failure: `out_kv` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_open(const rde_kv_options *options,
                       rde_kv *out_kv,
                       rde_error *error);

/**
 * Closes a store: requests that run are finished, those that wait end as CANCELED, completions that were not polled are
 * lost. The memory of requests is the caller's again afterwards.
 *
 * Parameters: `kv` in; zero is OK and does nothing.
 * Completion: none.
 * Returns: OK; STALE_HANDLE: closed before.
 * Threads: any; not from a signal handler. A poll that waits ends with STALE_HANDLE.
 * Blocks: until writes that run are safe on disk.
 * On failure: nothing has changed.
 * Since: 0.1
 */
rde_status rde_kv_close(rde_kv kv);

/**
 * The number of a partition for requests, whether it is there or not. The same each time; valid until the close.
 *
 * Parameters: `kv` in. `table` in, UTF-8 without `/`, for the call. `number` in. `out_partition` out: never 0. `error`
 * out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or no name of a table; STALE_HANDLE; LIMIT_REACHED: 1,048,576 were asked for.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_partition` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_partition(rde_kv kv,
                            rde_bytes table,
                            uint32_t number,
                            uint32_t *out_partition,
                            rde_error *error);

/**
 * The number of an archive of a partition, to be read. That there is none shows with the first request.
 *
 * Parameters: `kv` in. `table` in, UTF-8, for the call. `number` in. `name` in, UTF-8, for the call: the archive's.
 * `out_partition` out: never 0. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or no name; STALE_HANDLE; LIMIT_REACHED: 1,048,576 were asked for.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_partition` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_archive(rde_kv kv,
                          rde_bytes table,
                          uint32_t number,
                          rde_bytes name,
                          uint32_t *out_partition,
                          rde_error *error);

/**
 * The number of a branch of a partition, to be read and written. `main` is the partition itself. That there is none shows
 * with the first request, as NOT_FOUND; RDE_KV_OP_BRANCH_CREATE makes it.
 *
 * Parameters: `kv` in. `table` in, UTF-8, for the call. `number` in. `name` in, for the call: letters, digits and `-`,
 * taken in lower case. `out_partition` out: never 0. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or no name; STALE_HANDLE; LIMIT_REACHED: 1,048,576 were asked for.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_partition` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_branch(rde_kv kv,
                         rde_bytes table,
                         uint32_t number,
                         rde_bytes name,
                         uint32_t *out_partition,
                         rde_error *error);

/**
 * Names of a partition's branches, `main` among them: each followed by a line feed.
 *
 * Parameters: `kv` in. `partition` in: of the partition or any branch. `out_text` out, room for `capacity` bytes,
 * NUL-terminated; nullable with a capacity of 0. `out_len` out: its length without the NUL. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL; NOT_FOUND: `partition` is of a branch or an archive that is not there;
 * STALE_HANDLE; TRUNCATED: `capacity` must be over `*out_len`, which was written; IO.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: while a directory is listed.
 * On failure: `out_text` is untouched, and so is `out_len` but for TRUNCATED.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_branches(rde_kv kv,
                           uint32_t partition,
                           char *out_text,
                           size_t capacity,
                           size_t *out_len,
                           rde_error *error);

/**
 * Names of the store's partitions, `table.number`, or of a partition's archives: each followed by a line feed.
 *
 * Parameters: `kv` in. `partition` in: 0 for the partitions, else the one whose archives are named. `out_text` out, room
 * for `capacity` bytes, NUL-terminated; nullable with a capacity of 0. `out_len` out: its length without the NUL. `error`
 * out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; TRUNCATED: `capacity` must be over `*out_len`, which was written; IO.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: while directories are listed.
 * On failure: `out_text` is untouched, and so is `out_len` but for TRUNCATED.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_names(rde_kv kv,
                        uint32_t partition,
                        char *out_text,
                        size_t capacity,
                        size_t *out_len,
                        rde_error *error);

/**
 * Submits requests, in order, as many as there is room for. Each that was accepted ends in one completion; there is no
 * order among requests that are not completed.
 *
 * Parameters: `kv` in. `requests` in, `count` of them (NULL only with 0, aligned to 8), for the call; the memory that they
 * name for answers belongs to the library until the completion was polled. `out_accepted` out: how many were accepted,
 * also on failure. `error` out, nullable: why the first that was not accepted was refused.
 * Completion: one for each accepted request: `op` the request's; `status` OK, NOT_FOUND, TRUNCATED (`length` is what is
 * needed), UNSUPPORTED, CORRUPTED, IO, WRONG_STATE (a commit failed: RDE_KV_OP_REOPEN; or another process has it),
 * OUT_OF_MEMORY, CANCELED; `length` the bytes that landed; `value` as the operation says; `detail` errno or 0; `data` of
 * a read the expiry as a u64.
 * Returns: OK: all; INVALID_ARGUMENT: NULL, fields that make no sense, keys out of order; STALE_HANDLE, also of a buffer or
 * a partition; OUT_OF_RANGE: past the buffer's end; QUEUE_FULL: poll first.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: requests from `*out_accepted` on have no completion.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_submit(rde_kv kv,
                         const rde_kv_request *requests,
                         uint32_t count,
                         uint32_t *out_accepted,
                         rde_error *error);

/**
 * Takes completions; answers land in their memory now.
 *
 * Parameters: `kv` in. `timeout_ns` in: 0 returns at once, negative waits for ever, else the longest wait for a first
 * completion. `completions` out, room for `capacity` (NULL only with 0, aligned to 8; more than RDE_BATCH_MAX is taken as
 * that). `out_count` out: how many were written.
 * Completion: none of its own.
 * Returns: OK, also with none; INVALID_ARGUMENT: NULL, or not aligned; STALE_HANDLE: closed, also while waiting;
 * WRONG_STATE: another thread is in the poll of this store.
 * Threads: any, one at a time; not from a signal handler.
 * Blocks: up to `timeout_ns`.
 * On failure: `out_count` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_poll(rde_kv kv,
                       int64_t timeout_ns,
                       rde_completion *completions,
                       uint32_t capacity,
                       uint32_t *out_count);

/**
 * Does one request and waits for its end: the blocking form of all of them.
 *
 * Parameters: `kv` in. `request` in, for the call, as is the memory that it names. `out_completion` out, aligned to 8: as
 * rde_kv_poll would write it. `error` out, nullable.
 * Completion: none.
 * Returns: the completion's status, or why the request was refused, as rde_kv_submit does.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: until the request has ended.
 * On failure: `out_completion` is untouched, but for TRUNCATED.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_call(rde_kv kv,
                       const rde_kv_request *request,
                       rde_completion *out_completion,
                       rde_error *error);

/**
 * Removes every partition of a table.
 *
 * Parameters: `kv` in. `table` in, UTF-8, for the call. `out_count` out: how many partitions there were. `error` out,
 * nullable.
 * Completion: none.
 * Returns: OK, also if there was none; INVALID_ARGUMENT: NULL, or no name of a table; STALE_HANDLE; IO; WRONG_STATE.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: until all are removed.
 * On failure: `out_count` is untouched; some partitions may be gone.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_drop_table(rde_kv kv,
                             rde_bytes table,
                             uint64_t *out_count,
                             rde_error *error);

/**
 * Hands out a file descriptor for an event loop: an eventfd that becomes readable when a completion comes after
 * `rde_kv_arm`. Drain, arm, sleep, as the top of this file says.
 *
 * Parameters: `kv` in. `out_fd` out: the caller's to close, also after the store's close; reading it does not block.
 * `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; IO: no descriptor left.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_fd` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_event_fd(rde_kv kv,
                           int *out_fd,
                           rde_error *error);

/**
 * Makes the event file descriptor fire at the next completion, once.
 *
 * Parameters: `kv` in.
 * Completion: none.
 * Returns: OK: sleep now; NOT_READY: completions wait: poll first, then arm again; STALE_HANDLE.
 * Threads: the one that polls and sleeps; not from a signal handler.
 * Blocks: never.
 * On failure: the descriptor is not armed.
 * Since: 0.1
 */
RDE_MUST_USE rde_status rde_kv_arm(rde_kv kv);

/**
 * Counters of a store.
 *
 * Parameters: `kv` in. `out_details` in and out: its `struct_size` is read, everything else is written. `error` out,
 * nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
 * STALE_HANDLE.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_details` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_kv_info(rde_kv kv,
                       rde_kv_details *out_details,
                       rde_error *error);

/* ---- Calls: to a peer's methods, and of peers to ours. ---- */

/**
 * Calls a method of the session's peer.
 *
 * Parameters: `session` in. `arguments` in, for the call, with its pieces and their bytes; buffers of pieces and of the
 * reply until the completion.
 * Completion: CALL: OK: the service answered: `detail` is its status, `length` the bytes of its payload. They are in the
 * reply's buffer, if one was given; else RDE_COMPLETION_INLINE: in `data`, and the reply's header is zero; else in the
 * buffer `value`, which is the caller's now. RDE_COMPLETION_CHECKSUM: `value` is the payload's CRC-32C. Unless inline,
 * `data` is the reply's header. Otherwise: TRUNCATED: the reply's buffer is too small, `length` says what is needed;
 * UNKNOWN_METHOD; QUEUE_FULL, BUSY: the peer has too much to do, or still runs the call that this one repeats: try again
 * after `detail` microseconds; TIMED_OUT, CANCELED (also: the peer released the call), CONNECTION_LOST: the call may have
 * happened; INTERNAL: the peer's handler failed; EXPIRED, WRONG_STATE: of a call that happens once: the peer does not know
 * its slot, or its sequence is not the next. ONE_WAY: it has left.
 * Returns: as `rde_worker_submit` of this one request; INVALID_ARGUMENT also for NULL, an unknown flag, a reserved field,
 * RDE_CALL_CHECKSUM without a buffer for the reply, pieces that are both or neither, or more than 64 KiB of copied bytes;
 * ABI_MISMATCH: a `struct_size` of no version.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: there is no completion.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_call(rde_session session,
                    const rde_call_arguments *arguments);

/**
 * Makes the request that `rde_call` would submit, for `rde_worker_submit` of several.
 *
 * Parameters: `session` in. `arguments` in: its pieces and their bytes until the submit, buffers until the completion.
 * `out_request` out.
 * Completion: none; the request's is that of `rde_call`.
 * Returns: OK; INVALID_ARGUMENT, ABI_MISMATCH as `rde_call`. Handles are looked at by the submit.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_request` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_call_prepare(rde_session session,
                            const rde_call_arguments *arguments,
                            rde_request *out_request);

/**
 * What an inbound call tells about itself, and its payload.
 *
 * Parameters: `call` in, from CALL_RECEIVED. `out_details` in and out: its `struct_size` is read, everything else is
 * written. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
 * STALE_HANDLE: answered or released.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_details` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_call_info(rde_incoming_call call,
                         rde_call_details *out_details,
                         rde_error *error);

/**
 * Answers an inbound call. Its handle is stale then, and its payload is gone.
 *
 * Parameters: `call` in. `status` in: the service's own, 0 or an errno or what both sides agreed on. `header` in,
 * nullable (zero), for the call. `pieces` in, `count` of them (NULL only with 0), for the call, with their bytes. Ranges
 * of buffers are read until they are sent: release such a buffer when it pleases, but do not write to it any more. The
 * call's own buffer may be one of them.
 * Completion: none. The caller's CALL completes; when it does not wait any more, the answer goes nowhere.
 * Returns: OK; STALE_HANDLE: answered or released before, or a buffer of a piece; INVALID_ARGUMENT: a NULL, a reserved
 * field, pieces that are both or neither, or more than 64 KiB of copied bytes; OUT_OF_RANGE: past the end of a buffer,
 * or longer than a message may be, or than 1 KiB for a call that happens once; OUT_OF_MEMORY.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: the call still waits for its answer.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_call_reply(rde_incoming_call call,
                          int32_t status,
                          const rde_rpc_header *header,
                          const rde_piece *pieces,
                          uint32_t count);

/**
 * Answers an inbound call with a status of the library's: the service has not done it.
 *
 * Parameters: `call` in. `status` in: an error. `retry_after_us` in: microseconds until the caller may try again, or 0.
 * Completion: none. The caller's CALL completes with that status.
 * Returns: OK; STALE_HANDLE: answered or released before; INVALID_ARGUMENT: not an error of the library's.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: the call still waits for its answer.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_call_refuse(rde_incoming_call call,
                           int32_t status,
                           uint32_t retry_after_us);

/**
 * Gives an inbound call up. One that waits for an answer is answered CANCELED.
 *
 * Parameters: `call` in; zero is OK and does nothing.
 * Completion: none. The caller's CALL completes with CANCELED, unless it was a one-way call.
 * Returns: OK; STALE_HANDLE: answered or released before.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: nothing has changed.
 * Since: 0.1
 */
rde_status rde_call_release(rde_incoming_call call);

/* ---- Telemetry: counters, histograms, Prometheus text. ---- */

/**
 * What a context counted, with all its workers and sessions.
 *
 * Parameters: `context` in. `out_stats` in and out: its `struct_size` is read, everything else is written.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
 * STALE_HANDLE.
 * Threads: any, concurrently; not from a signal handler. Counters that move meanwhile may be of different instants.
 * Blocks: never.
 * On failure: `out_stats` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_context_stats(rde_context context,
                             rde_stats *out_stats);

/**
 * What a worker counted, with all its sessions.
 *
 * Parameters: `worker` in. `out_stats` in and out: its `struct_size` is read, everything else is written.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
 * STALE_HANDLE.
 * Threads: any, concurrently; not from a signal handler. Counters that move meanwhile may be of different instants.
 * Blocks: never.
 * On failure: `out_stats` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_worker_stats(rde_worker worker,
                            rde_stats *out_stats);

/**
 * What a session counted.
 *
 * Parameters: `session` in. `out_stats` in and out: its `struct_size` is read, everything else is written.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
 * STALE_HANDLE.
 * Threads: any, concurrently; not from a signal handler. Counters that move meanwhile may be of different instants.
 * Blocks: never.
 * On failure: `out_stats` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_session_stats(rde_session session,
                             rde_stats *out_stats);

/**
 * Counters and histograms of a context and its workers in the Prometheus text format.
 *
 * Parameters: `context` in. `out_text` out, room for `capacity` bytes, NUL-terminated; nullable with a capacity of 0.
 * `out_len` out: its length without the NUL.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; TRUNCATED: `capacity` must be over `*out_len`, which was written;
 * the next text may be longer still, so add some.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_text` is untouched, and so is `out_len` but for TRUNCATED.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_context_metrics(rde_context context,
                               char *out_text,
                               size_t capacity,
                               size_t *out_len);

/* ---- Volume: needles of SeaweedFS volumes on this machine's disk, without a context. ---- */

/**
 * Opens a SeaweedFS volume and loads its index: `[collection_]id.dat` and `.idx` in a folder. Nothing is ever written
 * there. The volume is followed as its server appends to it, vacuums it, unmounts and mounts it.
 *
 * Parameters: `dir` in, a path, for the call. `collection` in, UTF-8, for the call; empty is the default one. `id` in.
 * `options` in, nullable (the defaults), for the call. `out_volume` out. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, a NUL in a path, or something in a reserved field; ABI_MISMATCH: a `struct_size`
 * of no version; NOT_FOUND: no such files; INELIGIBLE: erasure-coded, or in a tier: use HTTP; CORRUPTED, UNSUPPORTED,
 * STALE: files that make no sense (now); OUT_OF_MEMORY; LIMIT_REACHED: 65,536 are open; IO.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: while the index loads, a second for some 10 million needles.
 * On failure: `out_volume` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_volume_open(rde_bytes dir,
                           rde_bytes collection,
                           uint32_t id,
                           const rde_volume_options *options,
                           rde_volume *out_volume,
                           rde_error *error);

/**
 * Closes a volume. Calls that run on it end as usual.
 *
 * Parameters: `volume` in; zero is OK and does nothing.
 * Completion: none.
 * Returns: OK; STALE_HANDLE: closed before.
 * Threads: any; not from a signal handler.
 * Blocks: never.
 * On failure: nothing has changed.
 * Since: 0.1
 */
rde_status rde_volume_close(rde_volume volume);

/**
 * Numbers of a volume as of its last look at the files.
 *
 * Parameters: `volume` in. `out_info` in and out: its `struct_size` is read, everything else is written. `error` out,
 * nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
 * STALE_HANDLE; NOT_FOUND: the files are gone at the moment.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_info` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_volume_info(rde_volume volume,
                           rde_volume_details *out_info,
                           rde_error *error);

/**
 * Takes in what was appended, and opens the files anew if they were replaced or came back. Reads do the same: call this
 * now and then for an idle volume, so that it lets go of files that a vacuum has replaced.
 *
 * Parameters: `volume` in. `error` out, nullable.
 * Completion: none.
 * Returns: OK; STALE_HANDLE; BUSY: the files are being replaced again and again; NOT_FOUND, INELIGIBLE, CORRUPTED,
 * UNSUPPORTED, STALE, OUT_OF_MEMORY, IO as of `rde_volume_open`: the volume can be used again once its files are back.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: while rows are read: as of `rde_volume_open` when the files were replaced, else microseconds.
 * On failure: what was known stays known, or is dropped with the files.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_volume_refresh(rde_volume volume,
                              rde_error *error);

/**
 * What is known of a needle, so that memory for it can be chosen. Checks all but its data.
 *
 * Parameters: `volume` in. `file_id` in, such as "3,01637037d6", for the call; also as in a URL. `flags` in:
 * RDE_VOLUME_LIVE, RDE_VOLUME_STORED. `out_needle` in and out: its `struct_size` is read, everything else is written.
 * `error` out, nullable.
 * Completion: none.
 * Returns: as `rde_volume_read`, but for TRUNCATED and OUT_OF_RANGE.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: for one read of the disk.
 * On failure: `out_needle` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_volume_stat(rde_volume volume,
                           rde_bytes file_id,
                           uint32_t flags,
                           rde_needle *out_needle,
                           rde_error *error);

/**
 * Reads a needle, whole and checked against its checksum, or with RDE_VOLUME_RANGE a part of it, which is not checked, as
 * with HTTP. Compressed data is returned as it is stored, whole, with its flag. A needle that its server has
 * acknowledged is found.
 *
 * Parameters: `volume` in. `file_id` in, such as "3,01637037d6", for the call; also as in a URL. `flags` in:
 * RDE_VOLUME_* or 0. `offset` in, bytes: 0 unless RDE_VOLUME_RANGE. `data` out, room for `capacity` bytes (NULL only with
 * 0); of a part, `capacity` is how many are asked for. `out_length` out: bytes of data at `data`. `out_needle` in and
 * out, nullable: its `struct_size` is read, everything else is written. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, an unknown flag, no file id, or an offset without RDE_VOLUME_RANGE; STALE_HANDLE;
 * NOT_FOUND: no such needle, or of another volume; DELETED; COOKIE_MISMATCH; EXPIRED; INELIGIBLE: a chunk manifest, or a
 * part of compressed data: use HTTP, or RDE_VOLUME_STORED; OUT_OF_RANGE: the part begins past the end; TRUNCATED:
 * `capacity` must be at least `*out_length`, which was written; CORRUPTED: the disk's bytes are wrong; STALE, BUSY: the
 * files are changing: try again, or use HTTP; IO.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: for one read of the disk; while the index loads when the files were replaced.
 * On failure: `data` is undefined; the other outputs are untouched, but for the length with TRUNCATED.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_volume_read(rde_volume volume,
                           rde_bytes file_id,
                           uint32_t flags,
                           uint64_t offset,
                           void *data,
                           uint64_t capacity,
                           uint64_t *out_length,
                           rde_needle *out_needle,
                           rde_error *error);

/* ---- Exporter: SeaweedFS needles of a folder for other processes, by calls of RDE_METHOD_NEEDLE. ---- */

/**
 * Serves the needles of every SeaweedFS volume in a folder, with threads of its own. Volumes that come and go are
 * noticed. Nothing is ever written there. Whoever reaches the address may read what he has a file id with its cookie for,
 * unless there is a read key. A reader calls RDE_METHOD_NEEDLE with `rde_call`: the payload is the file id as text, the
 * header the part (`offset`, `len`; with RDE_VOLUME_RANGE) and RDE_VOLUME_* (`flags`); with a read key "?jwt=" and a token
 * follow the file id, as in SeaweedFS's URLs. The answer's status is an
 * rde_status as of `rde_volume_read`, its payload the data, its header the length of all data (`offset`), Unix seconds of
 * the last change or 0 (`len`) and RDE_NEEDLE_* (`flags`). UNAUTHORIZED: the token is missing, wrong, over, or for something
 * else. TRUNCATED: longer than a message may be: read it in parts, and hold all of it against its checksum with
 * `rde_needle_check`. RDE_METHOD_NEEDLES reads many in one round trip: see `rde_needles_encode`.
 * A reader on the same host that lends memory (RDE_METHOD_NEEDLE_MEMORY) gets answers put there.
 *
 * Parameters: `context` in. `address` in, as of `rde_listener_open`, for the call. `dir` in, a path, for the call.
 * `options` in, nullable (the defaults), for the call. `out_exporter` out. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, an address or a path that cannot be read, too many threads, or something in a
 * reserved field; ABI_MISMATCH: a `struct_size` of no version; STALE_HANDLE; LIMIT_REACHED: 65,536 are open; IO: no such
 * folder, or threads; and those of `rde_worker_open` and `rde_listener_open`.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: while UCX opens devices and the folder is looked through, milliseconds.
 * On failure: `out_exporter` is untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_exporter_open(rde_context context,
                             rde_bytes address,
                             rde_bytes dir,
                             const rde_exporter_options *options,
                             rde_exporter *out_exporter,
                             rde_error *error);

/**
 * Has an exporter serve the volumes of another folder, too. Of a volume that is in several folders, the first one's is
 * served.
 *
 * Parameters: `exporter` in. `dir` in, a path, for the call. `index_dir` in, a path, where its indexes are; empty is beside
 * the data; for the call. `error` out, nullable.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: a path that cannot be read; STALE_HANDLE; LIMIT_REACHED: 256 folders; IO: no such folder.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: while the folders are looked through, milliseconds.
 * On failure: nothing has changed.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_exporter_add(rde_exporter exporter,
                            rde_bytes dir,
                            rde_bytes index_dir,
                            rde_error *error);

/**
 * The address an exporter is at, in the form to dial, with the port that was picked.
 *
 * Parameters: `exporter` in. `out_text` out, room for `capacity` bytes, NUL-terminated; nullable with a capacity of 0.
 * `out_len` out: its length without the NUL. RDE_ADDRESS_MAX + 1 bytes always suffice.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; TRUNCATED: `capacity` must be over `*out_len`, which was written.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: `out_text` is untouched, and so is `out_len` but for TRUNCATED.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_exporter_address(rde_exporter exporter,
                                char *out_text,
                                size_t capacity,
                                size_t *out_len);

/**
 * Closes an exporter: reads that run end, its sessions close. Close it before its context.
 *
 * Parameters: `exporter` in; zero is OK and does nothing.
 * Completion: none.
 * Returns: OK; STALE_HANDLE: closed before.
 * Threads: any; not from a signal handler.
 * Blocks: until reads that run have ended, and its threads.
 * On failure: nothing has changed.
 * Since: 0.1
 */
rde_status rde_exporter_close(rde_exporter exporter);

/* ---- Needles of an exporter: what calls of RDE_METHOD_NEEDLES carry, and whether parts put together are a needle. ---- */

/**
 * Makes the payload and the header of a call of RDE_METHOD_NEEDLES: many reads in one round trip. Call with them; the
 * payload is one piece of `rde_call`. The answer's status is an rde_status of the whole: INVALID_ARGUMENT, BUSY. With OK its
 * payload, at least 64 bytes and so never inline, is for `rde_needles_decode`. An answer is of the first reads, as many as
 * fit into it, at least one: ask for the others again. Data of each read begins at a multiple of 8 in it.
 *
 * Parameters: `reads` in, `count` of them, for the call. `capacity` in: bytes of the answer at most, such as the room in
 * the reply's buffer; 0: as many as a message may have. `payload` out, room for `payload_capacity` bytes;
 * RDE_NEEDLES_BYTES_MAX are enough for any. `out_length` out: bytes of payload. `out_count` out: how many of the first reads
 * are in it: as many as fit, RDE_NEEDLES_MAX at most. `out_header` out.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL, no reads, a text that is not UTF-8 or too long, a capacity below 64, or something in a
 * reserved field; TRUNCATED: not even the first read fits into `payload_capacity`.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: the outputs are untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_needles_encode(const rde_needle_read *reads,
                              uint32_t count,
                              uint64_t capacity,
                              void *payload,
                              size_t payload_capacity,
                              size_t *out_length,
                              uint32_t *out_count,
                              rde_rpc_header *out_header);

/**
 * Takes an answer to RDE_METHOD_NEEDLES apart: what became of each read, and where its data is. Every place is checked to
 * be inside of the payload.
 *
 * Parameters: `header` in: the answer's. `payload` in: the answer's, for the call, aligned to 1. `out_results` out, room for
 * `capacity` of them; RDE_NEEDLES_MAX are enough for any. `out_count` out: of how many of the first reads the answer is.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL; TRUNCATED: `capacity` is too small; PROTOCOL: this is no such answer.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never.
 * On failure: the outputs are untouched.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_needles_decode(const rde_rpc_header *header,
                              rde_bytes payload,
                              rde_needle_result *out_results,
                              uint32_t capacity,
                              uint32_t *out_count);

/**
 * Whether bytes are all of a needle's data: their number and their checksum. A needle that is longer than a message is read
 * so: what is known of it (a read of RDE_METHOD_NEEDLES with RDE_VOLUME_STAT), then its parts by calls of RDE_METHOD_NEEDLE
 * with RDE_VOLUME_RANGE and RDE_VOLUME_STORED, straight to their places, several at a time, then this. If it was
 * overwritten meanwhile, this says so: begin again.
 *
 * Parameters: `needle` in, for the call: what `rde_needles_decode` said of it. `data` in, `length` bytes, for the call.
 * Completion: none.
 * Returns: OK; INVALID_ARGUMENT: NULL; CORRUPTED: these bytes are not the needle's.
 * Threads: any, concurrently; not from a signal handler.
 * Blocks: never; takes some 0.1 ms a MiB.
 * On failure: nothing has changed.
 * Since: 0.1
 */
RDE_MUST_USE
rde_status rde_needle_check(const rde_needle_result *needle,
                            const void *data,
                            size_t length);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RDMA_ENGINE_H */
