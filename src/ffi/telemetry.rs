//! Telemetry: counters, histograms, Prometheus text.
#![allow(unsafe_code, reason = "exported functions")]

use std::ffi::c_char;

use super::argument::{output_struct, output_text};
use super::types::*;
use super::{guard, handle};

/// What a context counted, with all its workers and sessions.
///
/// Parameters: `context` in. `out_stats` in and out: its `struct_size` is read, everything else is written.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
/// STALE_HANDLE.
/// Threads: any, concurrently; not from a signal handler. Counters that move meanwhile may be of different instants.
/// Blocks: never.
/// On failure: `out_stats` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_context_stats(context: rde_context, out_stats: *mut rde_stats) -> rde_status {
    guard(context.id, std::ptr::null_mut(), || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_struct(out_stats, "out_stats") }?;
        out.set(handle::context(context)?.stats());
        Ok(())
    })
}

/// What a worker counted, with all its sessions.
///
/// Parameters: `worker` in. `out_stats` in and out: its `struct_size` is read, everything else is written.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
/// STALE_HANDLE.
/// Threads: any, concurrently; not from a signal handler. Counters that move meanwhile may be of different instants.
/// Blocks: never.
/// On failure: `out_stats` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_worker_stats(worker: rde_worker, out_stats: *mut rde_stats) -> rde_status {
    guard(worker.id, std::ptr::null_mut(), || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_struct(out_stats, "out_stats") }?;
        out.set(handle::worker(worker)?.stats());
        Ok(())
    })
}

/// What a session counted.
///
/// Parameters: `session` in. `out_stats` in and out: its `struct_size` is read, everything else is written.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
/// STALE_HANDLE.
/// Threads: any, concurrently; not from a signal handler. Counters that move meanwhile may be of different instants.
/// Blocks: never.
/// On failure: `out_stats` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_session_stats(session: rde_session, out_stats: *mut rde_stats) -> rde_status {
    guard(session.id, std::ptr::null_mut(), || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_struct(out_stats, "out_stats") }?;
        out.set(handle::session(session)?.stats());
        Ok(())
    })
}

/// Counters and histograms of a context and its workers in the Prometheus text format.
///
/// Parameters: `context` in. `out_text` out, room for `capacity` bytes, NUL-terminated; nullable with a capacity of 0.
/// `out_len` out: its length without the NUL.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; TRUNCATED: `capacity` must be over `*out_len`, which was written;
/// the next text may be longer still, so add some.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_text` is untouched, and so is `out_len` but for TRUNCATED.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_context_metrics(
    context: rde_context,
    out_text: *mut c_char,
    capacity: usize,
    out_len: *mut usize,
) -> rde_status {
    guard(context.id, std::ptr::null_mut(), || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_text(out_text, capacity, out_len) }?;
        out.set(&handle::context(context)?.metrics())
    })
}
