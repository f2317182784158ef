//! Single operations: one request without the array, through the same queue.
#![allow(unsafe_code, reason = "exported functions")]

use super::argument::{bytes, invalid};
use super::types::*;
use super::worker::checked;
use super::{guard, handle};
use crate::engine::bytes::Bytes;
use crate::engine::request::{Op, Request};
use crate::status::Result;

/// Longest message that a single send copies, in bytes; longer ones go from a buffer.
const COPIED: usize = 64 << 10;

/// Submits one request to the worker of its session.
fn submit(session: rde_session, request: Request<'_>) -> Result<()> {
    let worker = handle::session(session)?.worker()?;
    checked(worker.submit(&[Request { session: session.id, ..request }]).1)
}

/// Reads a range of a region into a buffer.
///
/// Parameters: `session` in. `buffer` in, until the completion, with `buffer_offset`. `region` in, with `region_offset`.
/// `length` in, bytes. `user_data` in.
/// Completion: GET: `length` is the bytes moved.
/// Returns: as `rde_worker_submit` of this one request.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: there is no completion.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_get(
    session: rde_session,
    buffer: rde_buffer,
    buffer_offset: u64,
    region: rde_region,
    region_offset: u64,
    length: u64,
    user_data: u64,
) -> rde_status {
    guard(session.id, std::ptr::null_mut(), || {
        let (op, buffer, region) = (Op::Get as u16, buffer.id, region.id);
        let request = Request {
            user_data,
            op,
            buffer,
            buffer_offset,
            length,
            region,
            region_offset,
            ..Request::default()
        };
        submit(session, request)
    })
}

/// Writes a buffer into a range of a region.
///
/// Parameters: `session` in. `buffer` in, until the completion, with `buffer_offset`. `region` in, with `region_offset`.
/// `length` in, bytes. `user_data` in.
/// Completion: PUT: `length` is the bytes moved; they have left the buffer. `rde_flush` says when they are visible.
/// Returns: as `rde_worker_submit` of this one request.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: there is no completion.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_put(
    session: rde_session,
    buffer: rde_buffer,
    buffer_offset: u64,
    region: rde_region,
    region_offset: u64,
    length: u64,
    user_data: u64,
) -> rde_status {
    guard(session.id, std::ptr::null_mut(), || {
        let (op, buffer, region) = (Op::Put as u16, buffer.id, region.id);
        let request = Request {
            user_data,
            op,
            buffer,
            buffer_offset,
            length,
            region,
            region_offset,
            ..Request::default()
        };
        submit(session, request)
    })
}

/// Waits for the puts that were submitted before it on the session.
///
/// Parameters: `session` in. `user_data` in.
/// Completion: FLUSH: those puts are visible at the peer.
/// Returns: as `rde_worker_submit` of this one request.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: there is no completion.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_flush(session: rde_session, user_data: u64) -> rde_status {
    guard(session.id, std::ptr::null_mut(), || {
        submit(session, Request { user_data, op: Op::Flush as u16, ..Request::default() })
    })
}

/// Adds to a u64 of a region, atomically to every other such operation of any peer.
///
/// Parameters: `session` in. `region` in, with `region_offset`, a multiple of 8. `operand` in: what to add, wrapping.
/// `user_data` in.
/// Completion: FETCH_ADD: `value` is what was there before.
/// Returns: as `rde_worker_submit` of this one request.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: there is no completion.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_fetch_add(
    session: rde_session,
    region: rde_region,
    region_offset: u64,
    operand: u64,
    user_data: u64,
) -> rde_status {
    guard(session.id, std::ptr::null_mut(), || {
        let (op, region, length) = (Op::FetchAdd as u16, region.id, 8);
        submit(
            session,
            Request { user_data, op, length, region, region_offset, operand, ..Request::default() },
        )
    })
}

/// Stores a u64 in a region if it holds what is expected, atomically to every other such operation of any peer.
///
/// Parameters: `session` in. `region` in, with `region_offset`, a multiple of 8. `compare` in: what must be there.
/// `operand` in: what to store. `user_data` in.
/// Completion: COMPARE_SWAP: `value` is what was there before; the swap happened if that is `compare`.
/// Returns: as `rde_worker_submit` of this one request.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: there is no completion.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_compare_swap(
    session: rde_session,
    region: rde_region,
    region_offset: u64,
    compare: u64,
    operand: u64,
    user_data: u64,
) -> rde_status {
    guard(session.id, std::ptr::null_mut(), || {
        let (op, region, length) = (Op::CompareSwap as u16, region.id, 8);
        submit(
            session,
            Request { user_data, op, length, region, region_offset, operand, compare, ..Request::default() },
        )
    })
}

/// Sends one message: bytes that are copied now, or those of a buffer.
///
/// Parameters: `session` in. `data` in, for the call: the message, at most 64 KiB; empty when a buffer is given. `buffer`
/// in, zero or until the completion, with `buffer_offset` and `length` in bytes. `user_data` in.
/// Completion: SEND: `length` is the message's; it has left the buffer. At the peer an event MESSAGE.
/// Returns: as `rde_worker_submit` of this one request; INVALID_ARGUMENT also with both or an overlong `data`.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: there is no completion.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_send(
    session: rde_session,
    data: rde_bytes,
    buffer: rde_buffer,
    buffer_offset: u64,
    length: u64,
    user_data: u64,
) -> rde_status {
    guard(session.id, std::ptr::null_mut(), || {
        if data.len > 0 && buffer.id != 0 {
            return Err(invalid("data and buffer exclude each other"));
        }
        // SAFETY: forwarded from the caller.
        let data = unsafe { bytes(data, COPIED, "data") }?;
        let data = Bytes::from(data);
        let (op, buffer) = (Op::Send as u16, buffer.id);
        submit(session, Request { user_data, op, buffer, buffer_offset, length, data, ..Request::default() })
    })
}

/// Makes a region from a key that the session's peer exported. Later imports of the key are answered from a cache.
///
/// Parameters: `session` in. `key` in, for the call. `user_data` in.
/// Completion: REGION_IMPORT: `value` is the region; PERMISSION_DENIED: a wrong secret; REVOKED; NOT_FOUND: not of this
/// peer; PROTOCOL, CONNECTION_LOST.
/// Returns: as `rde_worker_submit` of this one request; INVALID_ARGUMENT also when the key is NULL or garbage.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: there is no completion.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_region_import(
    session: rde_session,
    key: *const rde_key,
    user_data: u64,
) -> rde_status {
    guard(session.id, std::ptr::null_mut(), || {
        if key.is_null() {
            return Err(invalid("key is NULL"));
        }
        // SAFETY: not NULL, and the caller vouches for it during the call.
        let key = unsafe { key.read_unaligned() };
        let (op, data) = (Op::RegionImport as u16, Bytes::from(&key.bytes[..]));
        submit(session, Request { user_data, op, data, ..Request::default() })
    })
}
