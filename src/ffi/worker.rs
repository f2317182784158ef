//! Worker: progress, submission, completion.
#![allow(unsafe_code, reason = "exported functions")]

use std::ffi::c_int;
use std::os::fd::IntoRawFd;
use std::time::Duration;

use super::argument::{array, invalid, output, read_struct};
use super::context::{take, take_duration};
use super::types::*;
use super::{guard, guard_close, handle};
use crate::engine::options::{Mode, WorkerOptions};
use crate::engine::request::{Completion, Request};
use crate::engine::worker::Worker;
use crate::limits;
use crate::status::{Result, Status};

const DEFAULTS: rde_worker_options = rde_worker_options {
    struct_size: size_of::<rde_worker_options>() as u32,
    flags: 0,
    submission_capacity: 0,
    completion_capacity: 0,
    spin_ns: 0,
    reserved: [0; 4],
};

/// A status that is not an error either stays what it is, through the guard.
pub(super) fn checked(status: Status) -> Result<()> {
    if status == Status::Ok { Ok(()) } else { Err(status.into()) }
}

/// The engine's options from those of the caller.
///
/// # Safety
/// As the Parameters of `rde_worker_open`.
unsafe fn options(options: *const rde_worker_options) -> Result<WorkerOptions> {
    // SAFETY: forwarded from the caller.
    let given = unsafe { read_struct(options, DEFAULTS, "options") }?;
    if given.flags & !(RDE_WORKER_POLLED | RDE_WORKER_NO_SPIN | RDE_WORKER_CALLS) != 0
        || given.reserved != [0; 4]
    {
        return Err(invalid("options: flags has an unknown bit, or reserved is not zero"));
    }
    let mut ours = WorkerOptions::default();
    if given.flags & RDE_WORKER_POLLED != 0 {
        ours.mode = Mode::Polled;
    }
    take(&mut ours.submission_capacity, given.submission_capacity);
    take(&mut ours.completion_capacity, given.completion_capacity);
    take_duration(&mut ours.spin, given.spin_ns);
    if given.flags & RDE_WORKER_NO_SPIN != 0 {
        ours.spin = Duration::ZERO;
    }
    ours.calls = given.flags & RDE_WORKER_CALLS != 0;
    Ok(ours)
}

/// Opens a worker: its UCX worker, its queues and, unless RDE_WORKER_POLLED, its thread.
///
/// Parameters: `context` in. `options` in, nullable (the defaults), for the call. `out_worker` out. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: a NULL, a capacity out of bounds, an unknown flag, or something in a reserved field;
/// ABI_MISMATCH: a `struct_size` of no version; STALE_HANDLE; WRONG_STATE: the context is closing; OUT_OF_MEMORY; IO;
/// TRANSPORT: UCX failed.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: while UCX opens devices, milliseconds.
/// On failure: `out_worker` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_worker_open(
    context: rde_context,
    options: *const rde_worker_options,
    out_worker: *mut rde_worker,
    error: *mut rde_error,
) -> rde_status {
    guard(context.id, error, || {
        let out = output(out_worker, "out_worker")?;
        // SAFETY: forwarded from the caller.
        let options = unsafe { self::options(options) }?;
        let worker = Worker::open(&handle::context(context)?.arc(), &options)?;
        out.set(rde_worker { id: worker.id() });
        Ok(())
    })
}

/// Closes a worker, its listeners and its sessions. Operations in flight end; their completions, and those that were not
/// polled, are gone with the worker: to see each one, close the sessions, poll until their SESSION_CLOSED, then close.
///
/// Parameters: `worker` in; zero is OK and does nothing. A thread that waits in its poll returns with STALE_HANDLE.
/// Completion: none.
/// Returns: OK; STALE_HANDLE: closed before.
/// Threads: any but the worker's own; not from a signal handler.
/// Blocks: until the worker's thread has ended and its peers are told, milliseconds.
/// On failure: nothing has changed.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_worker_close(worker: rde_worker) -> rde_status {
    guard_close(worker.id, || {
        if worker.id == 0 {
            return Ok(());
        }
        handle::worker(worker)?.close()
    })
}

/// Submits requests, in order, up to the first one that is not accepted.
///
/// Parameters: `requests` in, `count` of them (NULL only with 0, aligned to 8), for the call, and what their `data`
/// points to too; their buffers until the completion. `out_accepted` out: how many were accepted, from the first one on.
/// Completion: exactly one for each accepted request, also after a cancel, a close, a timeout and the loss of the peer;
/// requests that are not accepted have none. `op` and `user_data` are the request's. By `op`:
/// NOP: nothing more. GET, PUT: `length` is the bytes moved; a put has then left the buffer, and FLUSH says when all puts
/// before it on the session are visible at the peer. FETCH_ADD, COMPARE_SWAP: `value` is what was there. SEND: the
/// message has left the buffer; messages of one session arrive in order, other operations end in any order.
/// REGION_IMPORT: `value` is the region. `detail` is an errno or a transport status, if there was one.
/// Returns: OK: all are accepted. Otherwise why the request at `*out_accepted` is not: INVALID_ARGUMENT: an unknown
/// operation or flag, or fields that contradict each other; STALE_HANDLE: its session, buffer or region; OUT_OF_RANGE:
/// past the end of its buffer or region; PERMISSION_DENIED: the region's key does not grant it; QUEUE_FULL: poll, then
/// submit the rest; WRONG_STATE: the session or the worker is closing; CONNECTION_LOST: the session is.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `*out_accepted` is written unless a pointer or a count was refused, and the worker is open.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_worker_submit(
    worker: rde_worker,
    requests: *const rde_request,
    count: u32,
    out_accepted: *mut u32,
) -> rde_status {
    guard(worker.id, std::ptr::null_mut(), || {
        let out = output(out_accepted, "out_accepted")?;
        array(requests, count as usize, limits::BATCH, "requests")?;
        let worker = handle::worker(worker)?;
        let requests: &[Request<'_>] = match count {
            0 => &[],
            // SAFETY: not NULL, aligned, the caller vouches for `count` of them, and both types are the same memory.
            _ => unsafe { std::slice::from_raw_parts(requests.cast::<Request<'_>>(), count as usize) },
        };
        let (accepted, status) = worker.submit(requests);
        out.set(accepted);
        checked(status)
    })
}

/// Takes completions, oldest first; of a polled worker it also makes progress.
///
/// Parameters: `timeout_ns` in: 0 returns at once, negative waits for ever, else the longest wait for a first completion.
/// `completions` out, room for `capacity` (NULL only with 0, aligned to 8; more than RDE_BATCH_MAX is taken as that).
/// `out_count` out: how many were written.
/// Completion: none of its own.
/// Returns: OK, also with none; INVALID_ARGUMENT: NULL, or not aligned; STALE_HANDLE: closed, also while waiting;
/// WRONG_STATE: another thread is in the poll of a polled worker; IO, TRANSPORT: progress failed: close the worker.
/// Threads: any, one at a time of a polled worker, concurrently of a threaded one; not from a signal handler.
/// Blocks: up to `timeout_ns`; `rde_worker_wake` ends the wait, signals do not.
/// On failure: `out_count` is untouched, and no completion is lost.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_worker_poll(
    worker: rde_worker,
    timeout_ns: i64,
    completions: *mut rde_completion,
    capacity: u32,
    out_count: *mut u32,
) -> rde_status {
    guard(worker.id, std::ptr::null_mut(), || {
        let out = output(out_count, "out_count")?;
        let capacity = (capacity as usize).min(limits::BATCH);
        array(completions, capacity, limits::BATCH, "completions")?;
        let worker = handle::worker(worker)?;
        let completions: &mut [Completion] = match capacity {
            0 => &mut [],
            // SAFETY: not NULL, aligned, the caller vouches for `capacity`, and both types are the same memory.
            _ => unsafe { std::slice::from_raw_parts_mut(completions.cast::<Completion>(), capacity) },
        };
        // Negative waits for ever.
        let timeout = u64::try_from(timeout_ns).ok().map(Duration::from_nanos);
        out.set(worker.poll(timeout, completions)? as u32);
        Ok(())
    })
}

/// Hands out a file descriptor for an event loop: readable when completions may wait. Drain, arm, sleep, as the top of
/// this file says.
///
/// Parameters: `worker` in. `out_fd` out: the caller's to close, also after the worker's close. A threaded worker's is an
/// eventfd: read its 8 bytes after each wake-up (it does not block). A polled worker's cannot be read, and needs not be:
/// a read fails at once. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; IO: no descriptor left.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_fd` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_worker_event_fd(
    worker: rde_worker,
    out_fd: *mut c_int,
    error: *mut rde_error,
) -> rde_status {
    guard(worker.id, error, || {
        let out = output(out_fd, "out_fd")?;
        out.set(handle::worker(worker)?.event_fd()?.into_raw_fd());
        Ok(())
    })
}

/// Makes the event file descriptor fire at the next completion or event, once.
///
/// Parameters: `worker` in.
/// Completion: none.
/// Returns: OK: sleep now; NOT_READY: completions or work wait: poll first, then arm again; STALE_HANDLE; IO, TRANSPORT:
/// progress failed: close the worker.
/// Threads: the one that polls and sleeps; not from a signal handler.
/// Blocks: never.
/// On failure: the descriptor is not armed.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_worker_arm(worker: rde_worker) -> rde_status {
    guard(worker.id, std::ptr::null_mut(), || checked(handle::worker(worker)?.arm()))
}

/// Ends a wait in `rde_worker_poll` and makes the event file descriptor readable, once; when nobody waits, the next one.
///
/// Parameters: `worker` in.
/// Completion: none.
/// Returns: OK; STALE_HANDLE.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: nobody is woken.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_worker_wake(worker: rde_worker) -> rde_status {
    guard(worker.id, std::ptr::null_mut(), || {
        handle::worker(worker)?.wake();
        Ok(())
    })
}

/// Asks the requests with this `user_data` to end. What has gone to the peer may still happen.
///
/// Parameters: `worker` in. `user_data` in, as in the requests.
/// Completion: none of its own; each such request completes once, with CANCELED or as if nothing had been asked. Its
/// buffer is free again then, not before.
/// Returns: OK: asked, also when no such request is pending; STALE_HANDLE; QUEUE_FULL: poll, then ask again.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: no request is affected.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_worker_cancel(worker: rde_worker, user_data: u64) -> rde_status {
    guard(worker.id, std::ptr::null_mut(), || checked(handle::worker(worker)?.cancel(user_data)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_zeros_become_options() {
        // SAFETY: NULL takes the defaults.
        let defaults = unsafe { options(std::ptr::null()) }.unwrap();
        assert_eq!(format!("{defaults:?}"), format!("{:?}", WorkerOptions::default()));
        let flags = RDE_WORKER_POLLED | RDE_WORKER_NO_SPIN;
        let given = rde_worker_options { flags, submission_capacity: 1, completion_capacity: 2, ..DEFAULTS };
        // SAFETY: a whole structure with its size.
        let ours = unsafe { options(&given) }.unwrap();
        assert_eq!((ours.mode, ours.spin), (Mode::Polled, Duration::ZERO));
        assert_eq!((ours.submission_capacity, ours.completion_capacity), (1, 2));
        for bad in [
            rde_worker_options { flags: 8, ..DEFAULTS },
            rde_worker_options { reserved: [1, 0, 0, 0], ..DEFAULTS },
        ] {
            // SAFETY: a whole structure with its size.
            assert_eq!(unsafe { options(&bad) }.unwrap_err().status, Status::InvalidArgument);
        }
    }
}
