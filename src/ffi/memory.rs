//! Memory: buffers, keys and regions.
#![allow(unsafe_code, reason = "exported functions")]

use std::ffi::c_void;

use super::argument::{invalid, output, output_struct};
use super::types::*;
use super::{guard, guard_close, handle};
use crate::engine::buffer::{Buffer, UserMemory};
use crate::engine::context::Context;
use crate::engine::handle::{CONTEXTS, REGIONS, Ref};
use crate::engine::options::way;
use crate::engine::region::{Region, Way};
use crate::status::{Error, Result, Status};

/// The context a buffer is of.
fn context_of(buffer: &Buffer) -> Result<Ref<Context>> {
    CONTEXTS
        .get(buffer.context())
        .ok_or_else(|| Error::new(Status::StaleHandle, "the buffer's context is closed"))
}

fn way_of(region: &Region) -> u32 {
    match region.way() {
        Way::Mapped(_) => way::MAPPED,
        Way::Rma { .. } => way::RMA,
        Way::Message => way::MESSAGE,
    }
}

/// Allocates registered memory. Its bytes are zero.
///
/// Parameters: `context` in. `length` in, bytes, at least 1. `flags` in: RDE_BUFFER_* or 0. `out_buffer` out. `out_data`
/// out, nullable: the memory, aligned to 64 bytes, until the release. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, a length of 0, or an unknown flag; STALE_HANDLE; OUT_OF_MEMORY: over the context's
/// limit, or the system has no more; IO.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never on the network; large ones wait for the system's pages.
/// On failure: the outputs are untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_buffer_alloc(
    context: rde_context,
    length: u64,
    flags: u32,
    out_buffer: *mut rde_buffer,
    out_data: *mut *mut c_void,
    error: *mut rde_error,
) -> rde_status {
    guard(context.id, error, || {
        let out = output(out_buffer, "out_buffer")?;
        let buffer = handle::context(context)?.alloc(length, flags)?;
        if let Ok(out_data) = output(out_data, "out_data") {
            out_data.set(buffer.address().cast());
        }
        out.set(rde_buffer { id: buffer.id() });
        Ok(())
    })
}

/// Registers memory of the caller, to use it without a copy. Slower than `rde_buffer_alloc`, and never mapped by peers.
///
/// Parameters: `context` in. `data` in, `length` bytes, at least 1: readable and writable, at one place until the release
/// has returned and every operation on it has completed; not memory of a garbage collector. `flags` in: 0. `out_buffer`
/// out. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, a length of 0 or past the end of the address space, or an unknown flag;
/// STALE_HANDLE; UNSUPPORTED: not with this flag; OUT_OF_MEMORY; TRANSPORT: the device refused the memory.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: while a device pins the pages.
/// On failure: `out_buffer` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_buffer_register(
    context: rde_context,
    data: *mut c_void,
    length: u64,
    flags: u32,
    out_buffer: *mut rde_buffer,
    error: *mut rde_error,
) -> rde_status {
    guard(context.id, error, || {
        let out = output(out_buffer, "out_buffer")?;
        if flags != 0 {
            return Err(invalid("flags must be zero"));
        }
        // SAFETY: the caller vouches for the memory until the release.
        let memory = unsafe { UserMemory::new(data.cast(), length) }?;
        let buffer = handle::context(context)?.register(memory)?;
        out.set(rde_buffer { id: buffer.id() });
        Ok(())
    })
}

/// Where a buffer's memory is, and how long: also of a buffer that brought a message.
///
/// Parameters: `buffer` in. `out_data` out: the memory, until the release. `out_length` out, nullable: bytes.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: the outputs are untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_buffer_data(
    buffer: rde_buffer,
    out_data: *mut *mut c_void,
    out_length: *mut u64,
) -> rde_status {
    guard(buffer.id, std::ptr::null_mut(), || {
        let out = output(out_data, "out_data")?;
        let buffer = handle::buffer(buffer)?;
        if let Ok(out_length) = output(out_length, "out_length") {
            out_length.set(buffer.len() as u64);
        }
        out.set(buffer.address().cast());
        Ok(())
    })
}

/// Releases a buffer: its handle is stale at once and its keys are revoked. Operations in flight keep the memory alive
/// until they end; what a peer has mapped stays readable there and is not reused.
///
/// Parameters: `buffer` in; zero is OK and does nothing.
/// Completion: none.
/// Returns: OK; STALE_HANDLE: released before.
/// Threads: any; not from a signal handler.
/// Blocks: never.
/// On failure: nothing has changed.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_buffer_release(buffer: rde_buffer) -> rde_status {
    guard_close(buffer.id, || {
        if buffer.id != 0 {
            let buffer = handle::buffer(buffer)?;
            context_of(&buffer)?.release_buffer(&buffer.arc())?;
        }
        Ok(())
    })
}

/// Makes a key with which a peer may touch a range of a buffer. Send it there by any means that others cannot read.
///
/// Parameters: `buffer` in, allocated without RDE_BUFFER_UNINITIALISED, or registered. `offset`, `length` in, bytes; a length of
/// at least 1. `rights` in: RDE_RIGHT_*, at least one. `out_key` out. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, a length of 0, or no or unknown rights; STALE_HANDLE; OUT_OF_RANGE: past the end;
/// WRONG_STATE: the buffer is uninitialised; LIMIT_REACHED: `max_exports` are out; IO.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_key` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_buffer_export(
    buffer: rde_buffer,
    offset: u64,
    length: u64,
    rights: u32,
    out_key: *mut rde_key,
    error: *mut rde_error,
) -> rde_status {
    guard(buffer.id, error, || {
        let out = output(out_key, "out_key")?;
        let buffer = handle::buffer(buffer)?;
        out.set(rde_key { bytes: context_of(&buffer)?.export(&buffer.arc(), offset, length, rights)? });
        Ok(())
    })
}

/// Takes a key back: when it returns, no operation with it starts any more. A peer that has mapped the range can still
/// read or write the old memory, which is never used for anything else; release the buffer and allocate another.
///
/// Parameters: `context` in: that of the buffer. `key` in, for the call. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or not a key; STALE_HANDLE; REVOKED: before; NOT_FOUND: never exported;
/// PERMISSION_DENIED: of another context, or its secret is wrong.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: until operations with the key that have begun are done, microseconds.
/// On failure: no key is revoked.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_key_revoke(
    context: rde_context,
    key: *const rde_key,
    error: *mut rde_error,
) -> rde_status {
    guard(context.id, error, || {
        if key.is_null() {
            return Err(invalid("key is NULL"));
        }
        // SAFETY: not NULL, and the caller vouches for it during the call.
        let key = unsafe { key.read_unaligned() };
        handle::context(context)?.revoke(&key.bytes)
    })
}

/// Releases a region. Operations in flight end as usual.
///
/// Parameters: `region` in; zero is OK and does nothing.
/// Completion: none.
/// Returns: OK; STALE_HANDLE: released before.
/// Threads: any; not from a signal handler.
/// Blocks: never.
/// On failure: nothing has changed.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_region_release(region: rde_region) -> rde_status {
    guard_close(region.id, || {
        if region.id != 0 {
            REGIONS.remove(region.id).ok_or(Status::StaleHandle)?;
        }
        Ok(())
    })
}

/// What a region tells about itself: length, rights, and the way its operations go.
///
/// Parameters: `region` in. `out_info` in and out: its `struct_size` is read, everything else is written.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
/// STALE_HANDLE.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_info` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_region_info(
    region: rde_region,
    out_info: *mut rde_region_details,
) -> rde_status {
    guard(region.id, std::ptr::null_mut(), || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_struct(out_info, "out_info") }?;
        let region = handle::region(region)?;
        let (length, rights, way) = (region.len(), region.rights().bits(), way_of(&region));
        let struct_size = size_of::<rde_region_details>() as u32;
        out.set(rde_region_details { struct_size, way, rights, reserved: 0, length });
        Ok(())
    })
}
