//! The key-value store: EloqStore's directories, read and written.
#![allow(unsafe_code, reason = "exported functions")]

use std::ffi::{c_char, c_int};
use std::os::fd::IntoRawFd;
use std::time::Duration;

use super::argument::{array, bytes, output, output_struct, output_text, read_struct, text};
use super::kv_request::{self, completion, options};
use super::kv_types::*;
use super::types::*;
use super::worker::checked;
use super::{guard, guard_close, handle};
use crate::kv::engine::{Backend, Handle};
use crate::kv::port::Port;
use crate::limits;
use crate::status::{Error, Result, Status};
use std::sync::Arc;

/// Opens or makes a store.
///
/// Parameters: `options` in: at least a store path in `file` or `lines`, else the store is in memory. `out_kv` out.
/// `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, an option that cannot be, or other options than the store was made with;
/// ABI_MISMATCH; LIMIT_REACHED: 65,536 stores are open; OUT_OF_MEMORY; IO; UNSUPPORTED: no io_uring where it was asked for.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: while directories are listed and threads are started.
/// On failure: `out_kv` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_open(
    options: *const rde_kv_options,
    out_kv: *mut rde_kv,
    error: *mut rde_error,
) -> rde_status {
    guard(0, error, || {
        let out = output(out_kv, "out_kv")?;
        // SAFETY: forwarded from the caller.
        let given = unsafe { read_struct(options, kv_request::DEFAULTS, "options") }?;
        // SAFETY: forwarded from the caller.
        let (options, capacity) = unsafe { self::options(&given) }?;
        let port = Arc::new(Port::open(options, capacity)?);
        let full = || Error::new(Status::LimitReached, "65,536 stores are open");
        out.set(rde_kv { id: handle::STORES.insert(port).ok_or_else(full)? });
        Ok(())
    })
}

/// Closes a store: requests that run are finished, those that wait end as CANCELED, completions that were not polled are
/// lost. The memory of requests is the caller's again afterwards.
///
/// Parameters: `kv` in; zero is OK and does nothing.
/// Completion: none.
/// Returns: OK; STALE_HANDLE: closed before.
/// Threads: any; not from a signal handler. A poll that waits ends with STALE_HANDLE.
/// Blocks: until writes that run are safe on disk.
/// On failure: nothing has changed.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_kv_close(kv: rde_kv) -> rde_status {
    guard_close(kv.id, || {
        if kv.id != 0 {
            handle::kv(kv)?;
            // Of two that close at once, one finds it gone.
            let port = handle::STORES.remove(kv.id).ok_or(Status::StaleHandle)?;
            port.close();
        }
        Ok(())
    })
}

/// The number of a partition for requests, whether it is there or not. The same each time; valid until the close.
///
/// Parameters: `kv` in. `table` in, UTF-8 without `/`, for the call. `number` in. `out_partition` out: never 0. `error`
/// out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or no name of a table; STALE_HANDLE; LIMIT_REACHED: 1,048,576 were asked for.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_partition` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_partition(
    kv: rde_kv,
    table: rde_bytes,
    number: u32,
    out_partition: *mut u32,
    error: *mut rde_error,
) -> rde_status {
    guard(kv.id, error, || {
        let out = output(out_partition, "out_partition")?;
        // SAFETY: forwarded from the caller.
        let table = unsafe { text(table, kv_request::NAME, "table") }?;
        out.set(handle::kv(kv)?.engine().partition(table, number)?.number() + 1);
        Ok(())
    })
}

/// A table, and the name of something in one of its partitions.
///
/// # Safety
///
/// As for [`text`].
unsafe fn named<'a>(table: rde_bytes, name: rde_bytes) -> Result<(&'a str, &'a str)> {
    // SAFETY: forwarded from the caller.
    let table = unsafe { text(table, kv_request::NAME, "table") }?;
    // SAFETY: forwarded from the caller.
    let name = unsafe { text(name, kv_request::NAME, "name") }?;
    Ok((table, name))
}

/// The number of an archive of a partition, to be read. That there is none shows with the first request.
///
/// Parameters: `kv` in. `table` in, UTF-8, for the call. `number` in. `name` in, UTF-8, for the call: the archive's.
/// `out_partition` out: never 0. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or no name; STALE_HANDLE; LIMIT_REACHED: 1,048,576 were asked for.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_partition` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_archive(
    kv: rde_kv,
    table: rde_bytes,
    number: u32,
    name: rde_bytes,
    out_partition: *mut u32,
    error: *mut rde_error,
) -> rde_status {
    guard(kv.id, error, || {
        let out = output(out_partition, "out_partition")?;
        // SAFETY: forwarded from the caller.
        let (table, name) = unsafe { named(table, name) }?;
        out.set(handle::kv(kv)?.engine().archive(table, number, name)?.number() + 1);
        Ok(())
    })
}

/// The number of a branch of a partition, to be read and written. `main` is the partition itself. That there is none shows
/// with the first request, as NOT_FOUND; RDE_KV_OP_BRANCH_CREATE makes it.
///
/// Parameters: `kv` in. `table` in, UTF-8, for the call. `number` in. `name` in, for the call: letters, digits and `-`,
/// taken in lower case. `out_partition` out: never 0. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or no name; STALE_HANDLE; LIMIT_REACHED: 1,048,576 were asked for.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_partition` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_branch(
    kv: rde_kv,
    table: rde_bytes,
    number: u32,
    name: rde_bytes,
    out_partition: *mut u32,
    error: *mut rde_error,
) -> rde_status {
    guard(kv.id, error, || {
        let out = output(out_partition, "out_partition")?;
        // SAFETY: forwarded from the caller.
        let (table, name) = unsafe { named(table, name) }?;
        out.set(handle::kv(kv)?.engine().branch(table, number, name)?.number() + 1);
        Ok(())
    })
}

/// Names of a partition's branches, `main` among them: each followed by a line feed.
///
/// Parameters: `kv` in. `partition` in: of the partition or any branch. `out_text` out, room for `capacity` bytes,
/// NUL-terminated; nullable with a capacity of 0. `out_len` out: its length without the NUL. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL; NOT_FOUND: `partition` is of a branch or an archive that is not there;
/// STALE_HANDLE; TRUNCATED: `capacity` must be over `*out_len`, which was written; IO.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: while a directory is listed.
/// On failure: `out_text` is untouched, and so is `out_len` but for TRUNCATED.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_branches(
    kv: rde_kv,
    partition: u32,
    out_text: *mut c_char,
    capacity: usize,
    out_len: *mut usize,
    error: *mut rde_error,
) -> rde_status {
    guard(kv.id, error, || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_text(out_text, capacity, out_len) }?;
        let port = handle::kv(kv)?.arc();
        let partition = partition.checked_sub(1).map(Handle::from_number);
        out.set(&port.branches(partition.ok_or(Status::StaleHandle)?)?)
    })
}

/// Names of the store's partitions, `table.number`, or of a partition's archives: each followed by a line feed.
///
/// Parameters: `kv` in. `partition` in: 0 for the partitions, else the one whose archives are named. `out_text` out, room
/// for `capacity` bytes, NUL-terminated; nullable with a capacity of 0. `out_len` out: its length without the NUL. `error`
/// out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; TRUNCATED: `capacity` must be over `*out_len`, which was written; IO.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: while directories are listed.
/// On failure: `out_text` is untouched, and so is `out_len` but for TRUNCATED.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_names(
    kv: rde_kv,
    partition: u32,
    out_text: *mut c_char,
    capacity: usize,
    out_len: *mut usize,
    error: *mut rde_error,
) -> rde_status {
    guard(kv.id, error, || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_text(out_text, capacity, out_len) }?;
        let port = handle::kv(kv)?.arc();
        let partition = partition.checked_sub(1).map(Handle::from_number);
        out.set(&port.names(partition)?)
    })
}

/// Submits requests, in order, as many as there is room for. Each that was accepted ends in one completion; there is no
/// order among requests that are not completed.
///
/// Parameters: `kv` in. `requests` in, `count` of them (NULL only with 0, aligned to 8), for the call; the memory that they
/// name for answers belongs to the library until the completion was polled. `out_accepted` out: how many were accepted,
/// also on failure. `error` out, nullable: why the first that was not accepted was refused.
/// Completion: one for each accepted request: `op` the request's; `status` OK, NOT_FOUND, TRUNCATED (`length` is what is
/// needed), UNSUPPORTED, CORRUPTED, IO, WRONG_STATE (a commit failed: RDE_KV_OP_REOPEN; or another process has it),
/// OUT_OF_MEMORY, CANCELED; `length` the bytes that landed; `value` as the operation says; `detail` errno or 0; `data` of
/// a read the expiry as a u64.
/// Returns: OK: all; INVALID_ARGUMENT: NULL, fields that make no sense, keys out of order; STALE_HANDLE, also of a buffer or
/// a partition; OUT_OF_RANGE: past the buffer's end; QUEUE_FULL: poll first.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: requests from `*out_accepted` on have no completion.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_submit(
    kv: rde_kv,
    requests: *const rde_kv_request,
    count: u32,
    out_accepted: *mut u32,
    error: *mut rde_error,
) -> rde_status {
    guard(kv.id, error, || {
        let out = output(out_accepted, "out_accepted")?;
        array(requests, count as usize, limits::BATCH, "requests")?;
        let port = handle::kv(kv)?;
        let mut accepted = 0;
        let mut submit = || {
            while accepted < count {
                // SAFETY: not NULL, aligned, and the caller vouches for `count` of them.
                let request = unsafe { requests.wrapping_add(accepted as usize).read() };
                // SAFETY: forwarded from the caller.
                port.submit(unsafe { kv_request::ask(&request) }?)?;
                accepted += 1;
            }
            Ok(())
        };
        let submitted = submit();
        out.set(accepted);
        submitted
    })
}

/// Takes completions; answers land in their memory now.
///
/// Parameters: `kv` in. `timeout_ns` in: 0 returns at once, negative waits for ever, else the longest wait for a first
/// completion. `completions` out, room for `capacity` (NULL only with 0, aligned to 8; more than RDE_BATCH_MAX is taken as
/// that). `out_count` out: how many were written.
/// Completion: none of its own.
/// Returns: OK, also with none; INVALID_ARGUMENT: NULL, or not aligned; STALE_HANDLE: closed, also while waiting;
/// WRONG_STATE: another thread is in the poll of this store.
/// Threads: any, one at a time; not from a signal handler.
/// Blocks: up to `timeout_ns`.
/// On failure: `out_count` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_poll(
    kv: rde_kv,
    timeout_ns: i64,
    completions: *mut rde_completion,
    capacity: u32,
    out_count: *mut u32,
) -> rde_status {
    guard(kv.id, std::ptr::null_mut(), || {
        let out = output(out_count, "out_count")?;
        let capacity = (capacity as usize).min(limits::BATCH);
        array(completions, capacity, limits::BATCH, "completions")?;
        let port = handle::kv(kv)?.arc();
        // Negative waits for ever.
        let timeout = u64::try_from(timeout_ns).ok().map(Duration::from_nanos);
        let mut at = 0;
        let count = port.poll(timeout, capacity, |done| {
            // SAFETY: not NULL, aligned, the caller vouches for `capacity`, and there are no more than that.
            unsafe { completions.wrapping_add(at).write(completion(&done)) };
            at += 1;
        })?;
        out.set(count as u32);
        Ok(())
    })
}

/// Does one request and waits for its end: the blocking form of all of them.
///
/// Parameters: `kv` in. `request` in, for the call, as is the memory that it names. `out_completion` out, aligned to 8: as
/// rde_kv_poll would write it. `error` out, nullable.
/// Completion: none.
/// Returns: the completion's status, or why the request was refused, as rde_kv_submit does.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: until the request has ended.
/// On failure: `out_completion` is untouched, but for TRUNCATED.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_call(
    kv: rde_kv,
    request: *const rde_kv_request,
    out_completion: *mut rde_completion,
    error: *mut rde_error,
) -> rde_status {
    guard(kv.id, error, || {
        let out = output(out_completion, "out_completion")?;
        array(request, 1, 1, "request")?;
        let port = handle::kv(kv)?.arc();
        // SAFETY: not NULL and aligned.
        let request = unsafe { request.read() };
        // SAFETY: forwarded from the caller.
        let done = port.call(unsafe { kv_request::ask(&request) }?)?;
        if matches!(done.status, Status::Ok | Status::Truncated) {
            out.set(completion(&done));
        }
        done.into_result()
    })
}

/// Removes every partition of a table.
///
/// Parameters: `kv` in. `table` in, UTF-8, for the call. `out_count` out: how many partitions there were. `error` out,
/// nullable.
/// Completion: none.
/// Returns: OK, also if there was none; INVALID_ARGUMENT: NULL, or no name of a table; STALE_HANDLE; IO; WRONG_STATE.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: until all are removed.
/// On failure: `out_count` is untouched; some partitions may be gone.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_drop_table(
    kv: rde_kv,
    table: rde_bytes,
    out_count: *mut u64,
    error: *mut rde_error,
) -> rde_status {
    guard(kv.id, error, || {
        let out = output(out_count, "out_count")?;
        // SAFETY: forwarded from the caller.
        let table = unsafe { bytes(table, kv_request::NAME, "table") }?;
        let table = std::str::from_utf8(table).map_err(|_| Status::InvalidArgument)?;
        out.set(handle::kv(kv)?.arc().engine().drop_table(table)?);
        Ok(())
    })
}

/// Hands out a file descriptor for an event loop: an eventfd that becomes readable when a completion comes after
/// `rde_kv_arm`. Drain, arm, sleep, as the top of this file says.
///
/// Parameters: `kv` in. `out_fd` out: the caller's to close, also after the store's close; reading it does not block.
/// `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; IO: no descriptor left.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_fd` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_event_fd(
    kv: rde_kv,
    out_fd: *mut c_int,
    error: *mut rde_error,
) -> rde_status {
    guard(kv.id, error, || {
        let out = output(out_fd, "out_fd")?;
        out.set(handle::kv(kv)?.event_fd()?.into_raw_fd());
        Ok(())
    })
}

/// Makes the event file descriptor fire at the next completion, once.
///
/// Parameters: `kv` in.
/// Completion: none.
/// Returns: OK: sleep now; NOT_READY: completions wait: poll first, then arm again; STALE_HANDLE.
/// Threads: the one that polls and sleeps; not from a signal handler.
/// Blocks: never.
/// On failure: the descriptor is not armed.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_arm(kv: rde_kv) -> rde_status {
    guard(kv.id, std::ptr::null_mut(), || {
        let armed = handle::kv(kv)?.arm();
        checked(if armed { Status::Ok } else { Status::NotReady })
    })
}

/// Counters of a store.
///
/// Parameters: `kv` in. `out_details` in and out: its `struct_size` is read, everything else is written. `error` out,
/// nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
/// STALE_HANDLE.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_details` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_kv_info(
    kv: rde_kv,
    out_details: *mut rde_kv_details,
    error: *mut rde_error,
) -> rde_status {
    guard(kv.id, error, || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_struct(out_details, "out_details") }?;
        let port = handle::kv(kv)?;
        out.set(rde_kv_details::new(&port.stats(), matches!(port.engine().backend(), Backend::Ring { .. })));
        Ok(())
    })
}
