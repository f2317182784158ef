//! Structures, enumerations and constants of the key-value store, with their layout asserted.
#![allow(unsafe_code, reason = "vouches for structures that are plain integers and pointers")]

use std::ffi::c_void;

use super::argument::Versioned;
use super::types::*;
use crate::kv::engine::Stats;
use crate::kv::port;

/// An open key-value store: shards with a thread each, and a queue of completions of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_kv {
    /// 0 is none.
    pub id: u64,
}

/// Store: data pages are kept in the cache too, not only index pages.
pub const RDE_KV_CACHE_DATA: u32 = 1 << 0;
/// Store: positioned reads and writes on threads, also where io_uring is to be had.
pub const RDE_KV_NO_URING: u32 = 1 << 1;

/// Request: a scan returns the last entries first.
pub const RDE_KV_BACKWARD: u16 = 1 << 0;
/// Request: a scan begins after `key`, not at it.
pub const RDE_KV_AFTER_KEY: u16 = 1 << 1;
/// Request: a scan includes `end`.
pub const RDE_KV_INCLUDE_END: u16 = 1 << 2;
/// Request: a scan returns very large values; without it, one ends it with UNSUPPORTED.
pub const RDE_KV_LARGE_VALUES: u16 = 1 << 3;
/// Request: a batch whose keys do not ascend is sorted, and of equal keys the newest counts; without it, it is refused.
pub const RDE_KV_SORT: u16 = 1 << 4;

/// Completion of a scan: the range holds more. Ask again from the last key on, with RDE_KV_AFTER_KEY (backward: up to it).
pub const RDE_COMPLETION_MORE: u32 = 1 << 8;

/// Entry: its value is a very large one, in segments of its own.
pub const RDE_KV_ENTRY_LARGE: u32 = 1 << 0;

/// What a request to a store asks for.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rde_kv_op {
    /// The value of `key`, as it is. Completion: `length` of the value, `value` its timestamp, `data` its expiry.
    Read = 64,
    /// The entry with the largest key that is at most `key`, as rde_kv_entry.
    Floor = 65,
    /// The entries from `key` to `end`, as many as there is room for, as rde_kv_entry; `value` is their number. NOT_FOUND: there is
    /// no such partition.
    Scan = 66,
    /// Applies `changes`, all or none; `value` is how many took effect. Done when they are safe on disk.
    Write = 67,
    /// Deletes all keys from `key` on, all there are if it is empty; `value` is how many.
    Truncate = 68,
    /// Removes the partition.
    Drop = 69,
    /// Keeps the partition as it is under the name `key` (append mode).
    ArchiveCreate = 70,
    /// Forgets the archive `key`.
    ArchiveDelete = 71,
    /// Moves live pages out of sparse files and removes files that nothing refers to; `value` is the pages moved.
    Compact = 72,
    /// Removes files that nothing refers to.
    Collect = 73,
    /// Deletes what has expired; `value` is how many.
    Clean = 74,
    /// Opens the partition again with the next request: after a write that failed with IO.
    Reopen = 75,
    /// Starts the branch `key` from what the partition, or branch, is now (append mode): rde_kv_branch.
    BranchCreate = 76,
    /// Removes the branch `key`, neither `main` nor the one that is asked. Who reads it finishes.
    BranchDelete = 77,
}

/// What a change does to its key.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rde_kv_action {
    /// It gets the value.
    Upsert = 0,
    /// It goes.
    Delete = 1,
    /// It gets the value, which lives in segments of its own.
    UpsertLarge = 2,
}

/// Options of a store. Start from RDE_KV_OPTIONS_INIT; a field that is zero takes its default.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_kv_options {
    /// sizeof(rde_kv_options).
    pub struct_size: u32,
    /// RDE_KV_CACHE_DATA, RDE_KV_NO_URING.
    pub flags: u32,
    /// Path of a file of options: `name=value` lines or EloqStore's ini; paths in it are relative to its folder.
    pub file: rde_bytes,
    /// More `name=value` lines, after those of the file: `store_path=/data`. Without any store path it is in memory.
    pub lines: rde_bytes,
    /// Bytes of pages that each shard has; 0 is 128 MiB, at most 1 TiB. Pages that requests hold or that are read ahead are
    /// part of it: of 128 MiB about 117 MiB are left for pages that are kept.
    pub cache_bytes: u64,
    /// Bytes that a store in memory may take, each shard; 0 is 1 GiB.
    pub memory_limit_bytes: u64,
    /// How often partitions are compacted, cleaned and collected; 0 is 1 s, UINT64_MAX never.
    pub upkeep_interval_ns: u64,
    /// How often a partition that changed is archived (append mode); 0 is never.
    pub archive_interval_ns: u64,
    /// Scheduled archives that are kept; 0 is 100.
    pub archives_kept: u32,
    /// Requests that wait for a shard, reads and writes each; 0 is 4,096, at most 1,048,576.
    pub submission_capacity: u32,
    /// Requests that may be accepted and not yet polled; 0 is 16,384, at most 1,048,576.
    pub completion_capacity: u32,
    /// Zero.
    pub reserved0: u32,
    /// Bytes of write logs that each shard has before it merges them into pages, 1 MiB to 64 GiB; twice as many are the end,
    /// and an eighth as much memory. A batch is safe once it is in a log, so that many rewrites of random keys cost few writes.
    /// 0 is none: batches go to the pages at once, as EloqStore's do. Not over an object store; none in memory.
    pub log_bytes: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

/// One change of a batch. Start from zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_kv_change {
    /// Not empty, at most half a page.
    pub key: rde_bytes,
    /// The value.
    pub value: rde_bytes,
    /// What comes with a very large value; else empty.
    pub metadata: rde_bytes,
    /// The change takes effect unless the key holds a newer one.
    pub timestamp: u64,
    /// When it expires, unix milliseconds; 0 never.
    pub expire_ms: u64,
    /// An rde_kv_action.
    pub action: u32,
    /// Zero.
    pub reserved: u32,
}

/// One request to a store; 128 bytes. Fields that an operation does not use are zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_kv_request {
    /// Returned as it is in the completion.
    pub user_data: u64,
    /// From rde_kv_partition, rde_kv_branch or rde_kv_archive.
    pub partition: u32,
    /// RDE_KV_OP_*.
    pub op: u16,
    /// RDE_KV_BACKWARD, RDE_KV_AFTER_KEY, RDE_KV_INCLUDE_END, RDE_KV_LARGE_VALUES, RDE_KV_SORT.
    pub flags: u16,
    /// A key, the begin of a range, a position, or the name of an archive. Copied during the call.
    pub key: rde_bytes,
    /// The end of a range, not included; empty for none. Copied during the call.
    pub end: rde_bytes,
    /// Entries of a scan at most; 0 for as many as there is room for.
    pub max_entries: u64,
    /// Registered memory for the answer, until the completion: what lands there is sent and exported without a copy.
    pub buffer: rde_buffer,
    /// Offset in the buffer, in bytes.
    pub buffer_offset: u64,
    /// Other memory for the answer, until the completion; NULL with a buffer.
    pub memory: *mut c_void,
    /// Room for the answer in bytes, in either.
    pub length: u64,
    /// The changes of a batch, copied during the call.
    pub changes: *const rde_kv_change,
    /// How many.
    pub change_count: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

/// One entry in the memory of a floor or a scan: this, then its key, then its value; the next is `next` bytes further.
/// 40 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct rde_kv_entry {
    /// Distance to the next entry in bytes: a multiple of 8.
    pub next: u64,
    /// Bytes of the value.
    pub value_len: u64,
    /// The change's timestamp.
    pub timestamp: u64,
    /// When it expires, unix milliseconds; 0 never. It is there until it is cleaned.
    pub expire_ms: u64,
    /// Bytes of the key.
    pub key_len: u32,
    /// RDE_KV_ENTRY_LARGE or 0.
    pub flags: u32,
}

/// Counters of a store since it was opened. Set struct_size before asking.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct rde_kv_details {
    /// sizeof(rde_kv_details), set by the caller.
    pub struct_size: u32,
    /// 1 if io_uring is in use.
    pub uring: u32,
    /// Requests that were completed.
    pub completed: u64,
    /// Pages found in memory.
    pub hits: u64,
    /// Pages read from disk.
    pub pages_read: u64,
    /// Pages in the cache now.
    pub cached_pages: u64,
    /// Bytes written to data and segment files.
    pub data_bytes: u64,
    /// Bytes written to manifests and archives.
    pub manifest_bytes: u64,
    /// Partitions that are open now.
    pub open_partitions: u64,
    /// Files that are open now.
    pub open_files: u64,
    /// Commits of compaction, cleaning and archiving that the engine began itself.
    pub upkeep: u64,
    /// Upkeep that failed; the log says why.
    pub upkeep_failed: u64,
    /// Bytes written to write logs.
    pub log_bytes: u64,
}

impl rde_kv_details {
    /// The engine's counters.
    pub(super) fn new(stats: &Stats, uring: bool) -> rde_kv_details {
        rde_kv_details {
            struct_size: size_of::<rde_kv_details>() as u32,
            uring: u32::from(uring),
            completed: stats.completed,
            hits: stats.hits,
            pages_read: stats.pages_read,
            cached_pages: stats.cached_pages,
            data_bytes: stats.data_bytes,
            manifest_bytes: stats.manifest_bytes,
            open_partitions: stats.open_partitions,
            open_files: stats.open_files,
            upkeep: stats.upkeep,
            upkeep_failed: stats.upkeep_failed,
            log_bytes: stats.log_bytes,
        }
    }
}

const _: () = {
    assert!(size_of::<rde_kv_options>() == 120 && size_of::<rde_kv_change>() == 72);
    assert!(size_of::<rde_kv_request>() == 128 && size_of::<rde_kv_details>() == 96);
    assert!(size_of::<rde_kv_entry>() == port::ENTRY && RDE_COMPLETION_MORE == port::MORE);
};

// SAFETY: C layout, size first, only integers, arrays of them and raw pointers, without padding.
unsafe impl Versioned for rde_kv_options {
    const FIRST: usize = 120;
}
// SAFETY: see above.
unsafe impl Versioned for rde_kv_details {
    const FIRST: usize = 88;
}
