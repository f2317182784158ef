//! Context: UCX, devices, memory and limits.
#![allow(unsafe_code, reason = "exported functions")]

use std::time::Duration;

use super::argument::{char_array, invalid, output, output_struct, read_struct, text};
use super::types::*;
use super::{guard, guard_close, handle};
use crate::engine::context::Context;
use crate::engine::info::ContextInfo;
use crate::engine::options::{ContextOptions, transport, way};
use crate::status::Result;

/// Longest name of a context, in bytes.
const NAME: usize = 64;
/// Longest list of devices, in bytes.
const DEVICES: usize = 1_024;

const DEFAULTS: rde_context_options = rde_context_options {
    struct_size: size_of::<rde_context_options>() as u32,
    flags: 0,
    name: rde_bytes { data: std::ptr::null(), len: 0 },
    devices: rde_bytes { data: std::ptr::null(), len: 0 },
    transports: 0,
    ways: 0,
    memory_limit_bytes: 0,
    max_sessions: 0,
    max_exports: 0,
    keepalive_ns: 0,
    connect_timeout_ns: 0,
    idle_timeout_ns: 0,
    max_message_bytes: 0,
    max_call_bytes: 0,
    max_calls: 0,
    reserved0: 0,
    reserved: [0; 2],
};

/// The engine's options from those of the caller.
///
/// # Safety
/// As the Parameters of `rde_context_open`.
unsafe fn options(options: *const rde_context_options) -> Result<ContextOptions> {
    // SAFETY: forwarded from the caller.
    let given = unsafe { read_struct(options, DEFAULTS, "options") }?;
    if given.flags != 0 || given.reserved0 != 0 || given.reserved != [0; 2] {
        return Err(invalid("options: flags and reserved must be zero"));
    }
    if given.transports & !transport::ALL != 0 || given.ways & !way::ALL != 0 {
        return Err(invalid("options: transports or ways has a bit that this version does not know"));
    }
    let mut ours = ContextOptions {
        // SAFETY: forwarded from the caller.
        name: unsafe { text(given.name, NAME, "options.name") }?.to_owned(),
        // SAFETY: forwarded from the caller.
        devices: unsafe { text(given.devices, DEVICES, "options.devices") }?.to_owned(),
        idle_timeout: Duration::from_nanos(given.idle_timeout_ns),
        ..ContextOptions::default()
    };
    take(&mut ours.transports, given.transports);
    take(&mut ours.ways, given.ways);
    take(&mut ours.memory_limit, given.memory_limit_bytes);
    take(&mut ours.max_sessions, given.max_sessions);
    take(&mut ours.max_exports, given.max_exports);
    take(&mut ours.max_message, given.max_message_bytes);
    take(&mut ours.max_calls, given.max_calls);
    take(&mut ours.max_call_bytes, given.max_call_bytes);
    take_duration(&mut ours.keepalive, given.keepalive_ns);
    take_duration(&mut ours.connect_timeout, given.connect_timeout_ns);
    Ok(ours)
}

/// Replaces a default by what was given, if that is not zero.
pub(super) fn take<T: Default + PartialEq>(ours: &mut T, given: T) {
    if given != T::default() {
        *ours = given;
    }
}

/// [`take`] of nanoseconds.
pub(super) fn take_duration(ours: &mut Duration, given_ns: u64) {
    take(ours, Duration::from_nanos(given_ns));
}

/// Opens a context: finds and loads UCX (once for the process), picks transports and devices, sets up memory. The first
/// one sets environment variables of UCX that the program has not set (see the top of this file).
///
/// Parameters: `options` in, nullable (the defaults), for the call. `out_context` out. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: a NULL, a text that is not UTF-8 or too long, an unknown bit, or something in a
/// reserved field; ABI_MISMATCH: a `struct_size` of no version; UNSUPPORTED: UCX is not installed or too old (the message
/// names the package), or none of the transports is to be had; OUT_OF_MEMORY; IO; TRANSPORT: UCX failed.
/// Threads: any, concurrently, except that no other thread may use the environment (getenv, setenv) during the first one;
/// not from a signal handler.
/// Blocks: while UCX loads and looks at devices, tens of milliseconds; no network.
/// On failure: `out_context` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_context_open(
    options: *const rde_context_options,
    out_context: *mut rde_context,
    error: *mut rde_error,
) -> rde_status {
    guard(0, error, || {
        let out = output(out_context, "out_context")?;
        // SAFETY: forwarded from the caller.
        let options = unsafe { self::options(options) }?;
        out.set(rde_context { id: Context::open(&options)?.id() });
        Ok(())
    })
}

/// Closes a context and frees its memory; its buffers and what their data pointers point to are gone. Memory that a peer
/// has mapped stays mapped there.
///
/// Parameters: `context` in; zero is OK and does nothing.
/// Completion: none.
/// Returns: OK; STALE_HANDLE: closed before; WRONG_STATE: a worker is open: close it first.
/// Threads: any; not from a signal handler.
/// Blocks: until the threads of the context have ended, milliseconds.
/// On failure: the context stays open.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_context_close(context: rde_context) -> rde_status {
    guard_close(context.id, || {
        if context.id == 0 {
            return Ok(());
        }
        handle::context(context)?.close()
    })
}

/// What a context found and is bound by.
///
/// Parameters: `context` in. `out_info` in and out: its `struct_size` is read, everything else is written. `error` out,
/// nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
/// STALE_HANDLE.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_info` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_context_info(
    context: rde_context,
    out_info: *mut rde_context_details,
    error: *mut rde_error,
) -> rde_status {
    guard(context.id, error, || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_struct(out_info, "out_info") }?;
        out.set(info(&handle::context(context)?.info()?));
        Ok(())
    })
}

fn info(info: &ContextInfo) -> rde_context_details {
    let (ucx_major, ucx_minor, ucx_patch) = info.ucx_version;
    rde_context_details {
        struct_size: size_of::<rde_context_details>() as u32,
        flags: 0,
        ucx_major,
        ucx_minor,
        ucx_patch,
        max_sessions: info.max_sessions,
        sessions: info.sessions,
        reserved: 0,
        memory_limit_bytes: info.memory_limit,
        memory_used_bytes: info.memory_used,
        memory_retired_bytes: info.memory_retired,
        memory_huge_bytes: info.memory_huge,
        ucx_path: char_array(&info.ucx_path),
        transports: char_array(&info.transports),
        devices: char_array(&info.devices),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_takes_the_default_and_anything_else_is_taken_as_it_is() {
        // SAFETY: NULL takes the defaults.
        let defaults = unsafe { options(std::ptr::null()) }.unwrap();
        assert_eq!(format!("{defaults:?}"), format!("{:?}", ContextOptions::default()));
        let given = rde_context_options {
            name: rde_bytes { data: b"here".as_ptr().cast(), len: 4 },
            devices: rde_bytes { data: b"eth0".as_ptr().cast(), len: 4 },
            transports: RDE_TRANSPORT_TCP,
            ways: RDE_WAY_MESSAGE,
            memory_limit_bytes: 1,
            max_sessions: 2,
            max_exports: 3,
            keepalive_ns: 4,
            connect_timeout_ns: 5,
            idle_timeout_ns: 6,
            max_message_bytes: 7,
            ..DEFAULTS
        };
        // SAFETY: a whole structure with its size.
        let ours = unsafe { options(&given) }.unwrap();
        assert_eq!((ours.name.as_str(), ours.devices.as_str()), ("here", "eth0"));
        assert_eq!((ours.transports, ours.ways, ours.memory_limit), (transport::TCP, way::MESSAGE, 1));
        assert_eq!((ours.max_sessions, ours.max_exports, ours.max_message), (2, 3, 7));
        let nanos = [ours.keepalive, ours.connect_timeout, ours.idle_timeout].map(|d| d.as_nanos());
        assert_eq!(nanos, [4, 5, 6]);
    }

    #[test]
    fn unknown_bits_and_reserved_fields_are_refused() {
        for bad in [
            rde_context_options { flags: 1, ..DEFAULTS },
            rde_context_options { transports: 8, ..DEFAULTS },
            rde_context_options { ways: 1 << 31, ..DEFAULTS },
            rde_context_options { reserved: [0, 1], ..DEFAULTS },
            rde_context_options { reserved0: 1, ..DEFAULTS },
        ] {
            // SAFETY: a whole structure with its size.
            let refused = unsafe { options(&bad) }.unwrap_err();
            assert_eq!(refused.status, rde_status::InvalidArgument, "{bad:?}");
        }
    }
}
