//! Requests to a key-value store as C hands them in, and completions as it gets them back.
#![allow(unsafe_code, reason = "reads and writes memory that the caller vouches for")]

use std::path::Path;
use std::ptr::null;
use std::time::Duration;

use super::argument::{array, bytes, invalid, text};
use super::handle;
use super::kv_types::*;
use super::types::*;
use crate::engine::buffer::Span;
use crate::kv::batch::{Action, Op, Order};
use crate::kv::engine::{Choice, EngineOptions, Handle, Request, Scan};
use crate::kv::options::Options;
use crate::kv::port::{self, Ask, Done, Memory};
use crate::kv::scan::Large;
use crate::status::{Error, Result, Status};

/// Longest name of a table, an archive or a file, in bytes.
pub(super) const NAME: usize = 4096;
/// Longest text of options, in bytes.
const LINES: usize = 1 << 20;
/// Longest key that is looked at, in bytes; stores have narrower limits.
const KEY: usize = 64 << 10;
/// Changes of one batch.
const CHANGES: usize = 16 << 20;

const NONE: rde_bytes = rde_bytes { data: null(), len: 0 };

/// What a field that is not there is taken as.
pub(super) const DEFAULTS: rde_kv_options = rde_kv_options {
    struct_size: size_of::<rde_kv_options>() as u32,
    flags: 0,
    file: NONE,
    lines: NONE,
    cache_bytes: 0,
    memory_limit_bytes: 0,
    upkeep_interval_ns: 0,
    archive_interval_ns: 0,
    archives_kept: 0,
    submission_capacity: 0,
    completion_capacity: 0,
    reserved0: 0,
    log_bytes: 0,
    reserved: [0; 3],
};

/// The engine's options, and the capacity of the queue of completions.
///
/// # Safety
/// `file` and `lines` are readable, as [`bytes`] says.
pub(super) unsafe fn options(given: &rde_kv_options) -> Result<(EngineOptions, usize)> {
    if given.flags & !(RDE_KV_CACHE_DATA | RDE_KV_NO_URING) != 0
        || given.reserved0 != 0
        || given.reserved != [0; 3]
    {
        return Err(invalid("options: unknown flags, or reserved fields that are not zero"));
    }
    // SAFETY: forwarded from the caller.
    let file = unsafe { text(given.file, NAME, "file") }?;
    // SAFETY: forwarded from the caller.
    let lines = unsafe { text(given.lines, LINES, "lines") }?;
    let mut store = if file.is_empty() { Options::default() } else { Options::from_file(Path::new(file))? };
    store.set_lines(lines, Path::new(""))?;
    let mut options = EngineOptions {
        cache_data_pages: given.flags & RDE_KV_CACHE_DATA != 0,
        archives_kept: store.retained_archives,
        store,
        ..EngineOptions::default()
    };
    if given.flags & RDE_KV_NO_URING != 0 {
        options.io = Choice::Threads;
    }
    let size = |given: u64, default: usize| match given {
        0 => Ok(default),
        _ => usize::try_from(given).map_err(|_| invalid("options: a size does not fit memory")),
    };
    options.log_bytes = size(given.log_bytes, 0)?;
    options.cache_bytes = size(given.cache_bytes, options.cache_bytes)?;
    options.queue = size(given.submission_capacity.into(), options.queue)?;
    options.archives_kept = size(given.archives_kept.into(), options.archives_kept)?;
    if given.memory_limit_bytes != 0 {
        options.memory_limit = given.memory_limit_bytes;
    }
    match given.upkeep_interval_ns {
        0 => {}
        u64::MAX => options.upkeep_interval = Duration::ZERO,
        ns => options.upkeep_interval = Duration::from_nanos(ns),
    }
    options.archive_interval = Duration::from_nanos(given.archive_interval_ns);
    Ok((options, size(given.completion_capacity.into(), 16_384)?))
}

/// Bytes of a registered buffer.
struct Registered(Span);

impl Memory for Registered {
    fn room(&self) -> usize {
        self.0.len()
    }

    fn put(&self, at: usize, bytes: &[u8]) -> Result<()> {
        self.0.copy_from_slice(at as u64, bytes).map_err(Error::from)
    }
}

/// Memory of the caller.
struct Plain(*mut u8, usize);

// SAFETY: the caller leaves it to us until the completion, whichever thread that is taken on.
unsafe impl Send for Plain {}

impl Memory for Plain {
    fn room(&self) -> usize {
        self.1
    }

    fn put(&self, at: usize, bytes: &[u8]) -> Result<()> {
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.1) {
            return Err(Status::Internal.into());
        }
        // SAFETY: within the memory that the caller vouched for until the completion, and ours does not overlap it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.wrapping_add(at), bytes.len()) };
        Ok(())
    }
}

/// What a request asks for.
///
/// # Safety
/// Its keys and changes are readable during the call; its memory is writable until its completion was taken.
pub(super) unsafe fn ask(request: &rde_kv_request) -> Result<Ask> {
    if request.reserved != [0; 3] {
        return Err(invalid("request: reserved fields are not zero"));
    }
    let partition = request.partition.checked_sub(1).map(Handle::from_number);
    let partition =
        partition.ok_or_else(|| Error::new(Status::StaleHandle, "request: partition 0 is none"))?;
    // SAFETY: forwarded from the caller.
    let key = unsafe { bytes(request.key, KEY, "key") }?.to_vec();
    let answers = request.op == rde_kv_op::Read as u16
        || request.op == rde_kv_op::Floor as u16
        || request.op == rde_kv_op::Scan as u16;
    let memory = memory(request)?;
    if !answers && memory.is_some() {
        return Err(invalid("request: memory with an operation that returns no bytes"));
    }
    if request.op != rde_kv_op::Write as u16 && (request.change_count != 0 || !request.changes.is_null()) {
        return Err(invalid("request: changes with an operation that is no write"));
    }
    let allowed = match request.op {
        op if op == rde_kv_op::Scan as u16 => {
            RDE_KV_BACKWARD | RDE_KV_AFTER_KEY | RDE_KV_INCLUDE_END | RDE_KV_LARGE_VALUES
        }
        op if op == rde_kv_op::Write as u16 => RDE_KV_SORT,
        _ => 0,
    };
    if request.flags & !allowed != 0 {
        return Err(invalid("request: flags that the operation does not have"));
    }
    // SAFETY: forwarded from the caller.
    let (asked, op) = unsafe { asked(request, key) }?;
    let (user_data, kind) = (request.user_data, request.op);
    Ok(Ask { partition, request: asked, op, memory, user_data, kind })
}

fn memory(request: &rde_kv_request) -> Result<Option<Box<dyn Memory>>> {
    match (request.buffer.id, request.memory.is_null()) {
        (0, true) if request.length == 0 && request.buffer_offset == 0 => Ok(None),
        (0, true) => Err(invalid("request: a length without memory")),
        (0, false) => {
            let length = usize::try_from(request.length).ok().filter(|length| *length <= isize::MAX as usize);
            let length = length.ok_or_else(|| invalid("request: length is more than memory has"))?;
            Ok(Some(Box::new(Plain(request.memory.cast(), length))))
        }
        (_, true) => {
            let span = handle::buffer(request.buffer)?.arc().span(request.buffer_offset, request.length)?;
            match span.is_writable() {
                true => Ok(Some(Box::new(Registered(span)))),
                false => Err(Error::new(Status::PermissionDenied, "request: the buffer cannot be written")),
            }
        }
        (_, false) => Err(invalid("request: a buffer and memory; one is enough")),
    }
}

unsafe fn asked(request: &rde_kv_request, key: Vec<u8>) -> Result<(Request, port::Op)> {
    use port::Op::{Count, Entries, Read};
    let named = |key: Vec<u8>| String::from_utf8(key).map_err(|_| invalid("request: the name is not UTF-8"));
    let flag = |flag: u16| request.flags & flag != 0;
    let ops: &[rde_kv_op] = &[
        rde_kv_op::Read,
        rde_kv_op::Floor,
        rde_kv_op::Scan,
        rde_kv_op::Write,
        rde_kv_op::Truncate,
        rde_kv_op::Drop,
        rde_kv_op::ArchiveCreate,
        rde_kv_op::ArchiveDelete,
        rde_kv_op::Compact,
        rde_kv_op::Collect,
        rde_kv_op::Clean,
        rde_kv_op::Reopen,
        rde_kv_op::BranchCreate,
        rde_kv_op::BranchDelete,
    ];
    let op = ops.iter().find(|op| **op as u16 == request.op);
    let op = op.ok_or_else(|| invalid(format!("request: {} is no operation of a store", request.op)))?;
    Ok(match op {
        rde_kv_op::Read => (Request::Read { key }, Read),
        rde_kv_op::Floor => (Request::Floor { key }, Entries),
        rde_kv_op::Scan => {
            let scan = Scan {
                begin: key,
                // SAFETY: forwarded from the caller.
                end: unsafe { bytes(request.end, KEY, "end") }?.to_vec(),
                begin_inclusive: !flag(RDE_KV_AFTER_KEY),
                end_inclusive: flag(RDE_KV_INCLUDE_END),
                max_entries: usize::try_from(request.max_entries).unwrap_or(usize::MAX),
                // More than there is room for would be fetched in vain.
                max_bytes: usize::try_from(request.length).unwrap_or(usize::MAX).max(1),
                large: if flag(RDE_KV_LARGE_VALUES) { Large::Return } else { Large::Refuse },
                backward: flag(RDE_KV_BACKWARD),
            };
            (Request::ScanPacked(scan), Entries)
        }
        rde_kv_op::Write => {
            let order = if flag(RDE_KV_SORT) { Order::Sort } else { Order::Refuse };
            // SAFETY: forwarded from the caller.
            (Request::Write { ops: unsafe { changes(request) }?, order }, Count)
        }
        rde_kv_op::Truncate => (Request::Truncate { position: key }, Count),
        rde_kv_op::Drop => (Request::Drop, Count),
        rde_kv_op::ArchiveCreate => (Request::Archive { tag: named(key)? }, Count),
        rde_kv_op::ArchiveDelete => (Request::ForgetArchive { tag: named(key)? }, Count),
        rde_kv_op::Compact => (Request::Compact, Count),
        rde_kv_op::Collect => (Request::Collect, Count),
        rde_kv_op::Clean => (Request::CleanExpired, Count),
        rde_kv_op::Reopen => (Request::Reopen, Count),
        rde_kv_op::BranchCreate => (Request::CreateBranch { name: named(key)? }, Count),
        rde_kv_op::BranchDelete => (Request::DeleteBranch { name: named(key)? }, Count),
    })
}

unsafe fn changes(request: &rde_kv_request) -> Result<Vec<Op>> {
    let count = usize::try_from(request.change_count).unwrap_or(usize::MAX);
    array(request.changes, count, CHANGES, "changes")?;
    let mut ops = Vec::with_capacity(count);
    for i in 0..count {
        // SAFETY: not NULL, aligned, and the caller vouches for `count` of them.
        let change = unsafe { request.changes.wrapping_add(i).read() };
        // SAFETY: forwarded from the caller.
        ops.push(unsafe { self::change(&change) }?);
    }
    Ok(ops)
}

unsafe fn change(change: &rde_kv_change) -> Result<Op> {
    let any = isize::MAX as usize;
    // SAFETY: forwarded from the caller.
    let key = unsafe { bytes(change.key, KEY, "key") }?;
    // SAFETY: forwarded from the caller.
    let value = unsafe { bytes(change.value, any, "value") }?;
    // SAFETY: forwarded from the caller.
    let metadata = unsafe { bytes(change.metadata, KEY, "metadata") }?;
    let expire_ms = change.expire_ms;
    let action = match change.action {
        action if action == rde_kv_action::Upsert as u32 => {
            Action::Upsert { value: value.to_vec(), expire_ms }
        }
        action if action == rde_kv_action::Delete as u32 => Action::Delete,
        action if action == rde_kv_action::UpsertLarge as u32 => {
            let metadata = (!metadata.is_empty()).then(|| metadata.to_vec());
            Action::UpsertLarge { value: value.to_vec(), metadata, expire_ms }
        }
        other => return Err(invalid(format!("change: {other} is no action"))),
    };
    let large = change.action == rde_kv_action::UpsertLarge as u32;
    let deletes_something = action == Action::Delete && (!value.is_empty() || expire_ms != 0);
    if change.reserved != 0 || deletes_something || (!large && !metadata.is_empty()) {
        return Err(invalid("change: fields that its action does not use are not zero"));
    }
    Ok(Op { key: key.to_vec(), action, timestamp: change.timestamp })
}

/// A completion as C gets it.
pub(super) fn completion(done: &Done) -> rde_completion {
    let mut data = [0; RDE_INLINE_BYTES];
    data[..8].copy_from_slice(&done.expire_ms.to_ne_bytes());
    rde_completion {
        user_data: done.user_data,
        op: done.kind.into(),
        status: done.status as i32,
        length: done.length,
        value: done.value,
        flags: done.flags,
        detail: done.os_errno,
        data,
    }
}
