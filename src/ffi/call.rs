//! Calls: to a peer's methods, and of peers to ours.
#![allow(unsafe_code, reason = "exported functions")]

use std::time::Duration;

use super::argument::{array, invalid, output, output_struct, read_struct};
use super::types::*;
use super::worker::checked;
use super::{guard, handle};
use crate::engine::bytes::Bytes;
use crate::engine::call::{Call, CallInfo, Header, Once, Piece, Reply};
use crate::engine::request::{Op, Request};
use crate::limits;
use crate::status::{Result, Status};

const NO_HEADER: rde_rpc_header = rde_rpc_header { offset: 0, len: 0, flags: 0, reserved: 0 };

const NOTHING: rde_call_arguments = rde_call_arguments {
    struct_size: size_of::<rde_call_arguments>() as u32,
    flags: 0,
    method: 0,
    timeout_us: 0,
    header: NO_HEADER,
    pieces: std::ptr::null(),
    piece_count: 0,
    slot: 0,
    reserved: 0,
    reply: rde_buffer { id: 0 },
    reply_offset: 0,
    reply_capacity: 0,
    sequence: 0,
    reserved1: 0,
    user_data: 0,
};

/// The request that arguments make.
///
/// # Safety
/// As the Parameters of `rde_call`.
unsafe fn request<'a>(session: rde_session, arguments: *const rde_call_arguments) -> Result<Request<'a>> {
    if arguments.is_null() {
        return Err(invalid("arguments is NULL"));
    }
    // SAFETY: forwarded from the caller.
    let given = unsafe { read_struct(arguments, NOTHING, "arguments") }?;
    if given.flags & !(RDE_CALL_ONE_WAY | RDE_CALL_ONCE | RDE_CALL_CHECKSUM) != 0
        || (given.reserved, given.reserved1) != (0, 0)
    {
        return Err(invalid("arguments: flags has an unknown bit, or a reserved field is not zero"));
    }
    let header = header(&given.header)?;
    // SAFETY: forwarded from the caller.
    let pieces = unsafe { pieces(given.pieces, given.piece_count) }?;
    let mut request = Request {
        user_data: given.user_data,
        timeout_us: given.timeout_us,
        buffer: given.reply.id,
        buffer_offset: given.reply_offset,
        length: given.reply_capacity,
        ..Request::call(session.id, given.method, &header, Bytes::pieces(pieces))
    };
    if given.flags & RDE_CALL_ONE_WAY != 0 {
        request.op = Op::OneWay as u16;
    }
    if given.flags & RDE_CALL_CHECKSUM != 0 {
        request.flags = RDE_REQUEST_CHECKSUM;
    }
    if given.flags & RDE_CALL_ONCE != 0 {
        request = request.once(Once { slot: given.slot, sequence: given.sequence });
    } else if (given.slot, given.sequence) != (0, 0) {
        return Err(invalid("arguments: slot and sequence go with RDE_CALL_ONCE"));
    }
    Ok(request)
}

fn header(given: &rde_rpc_header) -> Result<Header> {
    if given.reserved != 0 {
        return Err(invalid("header.reserved is not zero"));
    }
    Ok(Header { offset: given.offset, len: given.len, flags: given.flags, reserved: 0 })
}

/// # Safety
/// `pieces` is NULL with a count of 0, or has `count` pieces that live for `'a`, with what they point to.
unsafe fn pieces<'a>(pieces: *const rde_piece, count: u32) -> Result<&'a [Piece<'a>]> {
    array(pieces, count as usize, limits::PIECES, "pieces")?;
    Ok(match count {
        0 => &[],
        // SAFETY: not NULL, aligned, the caller vouches for `count` of them, and both types are the same memory.
        _ => unsafe { std::slice::from_raw_parts(pieces.cast::<Piece<'_>>(), count as usize) },
    })
}

/// Calls a method of the session's peer.
///
/// Parameters: `session` in. `arguments` in, for the call, with its pieces and their bytes; buffers of pieces and of the
/// reply until the completion.
/// Completion: CALL: OK: the service answered: `detail` is its status, `length` the bytes of its payload. They are in the
/// reply's buffer, if one was given; else RDE_COMPLETION_INLINE: in `data`, and the reply's header is zero; else in the
/// buffer `value`, which is the caller's now. RDE_COMPLETION_CHECKSUM: `value` is the payload's CRC-32C. Unless inline,
/// `data` is the reply's header. Otherwise: TRUNCATED: the reply's buffer is too small, `length` says what is needed;
/// UNKNOWN_METHOD; QUEUE_FULL, BUSY: the peer has too much to do, or still runs the call that this one repeats: try again
/// after `detail` microseconds; TIMED_OUT, CANCELED (also: the peer released the call), CONNECTION_LOST: the call may have
/// happened; INTERNAL: the peer's handler failed; EXPIRED, WRONG_STATE: of a call that happens once: the peer does not know
/// its slot, or its sequence is not the next. ONE_WAY: it has left.
/// Returns: as `rde_worker_submit` of this one request; INVALID_ARGUMENT also for NULL, an unknown flag, a reserved field,
/// RDE_CALL_CHECKSUM without a buffer for the reply, pieces that are both or neither, or more than 64 KiB of copied bytes;
/// ABI_MISMATCH: a `struct_size` of no version.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: there is no completion.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_call(session: rde_session, arguments: *const rde_call_arguments) -> rde_status {
    guard(session.id, std::ptr::null_mut(), || {
        // SAFETY: forwarded from the caller.
        let request = unsafe { request(session, arguments) }?;
        let worker = handle::session(session)?.worker()?;
        checked(worker.submit(&[request]).1)
    })
}

/// Makes the request that `rde_call` would submit, for `rde_worker_submit` of several.
///
/// Parameters: `session` in. `arguments` in: its pieces and their bytes until the submit, buffers until the completion.
/// `out_request` out.
/// Completion: none; the request's is that of `rde_call`.
/// Returns: OK; INVALID_ARGUMENT, ABI_MISMATCH as `rde_call`. Handles are looked at by the submit.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_request` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_call_prepare(
    session: rde_session,
    arguments: *const rde_call_arguments,
    out_request: *mut rde_request,
) -> rde_status {
    guard(0, std::ptr::null_mut(), || {
        let out = output(out_request.cast::<Request<'_>>(), "out_request")?;
        // SAFETY: forwarded from the caller.
        out.set(unsafe { request(session, arguments) }?);
        Ok(())
    })
}

/// What an inbound call tells about itself, and its payload.
///
/// Parameters: `call` in, from CALL_RECEIVED. `out_details` in and out: its `struct_size` is read, everything else is
/// written. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
/// STALE_HANDLE: answered or released.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_details` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_call_info(
    call: rde_incoming_call,
    out_details: *mut rde_call_details,
    error: *mut rde_error,
) -> rde_status {
    guard(call.id, error, || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_struct(out_details, "out_details") }?;
        out.set(details(&Call::info_of(call.id)?));
        Ok(())
    })
}

fn details(info: &CallInfo) -> rde_call_details {
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    let Header { offset, len, flags, reserved } = info.header;
    let left = info.left.map_or(0, |left| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX).max(1));
    rde_call_details {
        struct_size: size_of::<rde_call_details>() as u32,
        flags: flag(info.one_way, RDE_CALL_ONE_WAY)
            | flag(info.once, RDE_CALL_ONCE)
            | flag(info.canceled, RDE_CALL_CANCELED),
        method: info.method,
        reserved: 0,
        session: rde_session { id: info.session },
        header: rde_rpc_header { offset, len, flags, reserved },
        left_ns: left,
        payload: rde_bytes { data: info.payload.cast(), len: info.length as usize },
        buffer: rde_buffer { id: info.buffer },
    }
}

/// Answers an inbound call. Its handle is stale then, and its payload is gone.
///
/// Parameters: `call` in. `status` in: the service's own, 0 or an errno or what both sides agreed on. `header` in,
/// nullable (zero), for the call. `pieces` in, `count` of them (NULL only with 0), for the call, with their bytes. Ranges
/// of buffers are read until they are sent: release such a buffer when it pleases, but do not write to it any more. The
/// call's own buffer may be one of them.
/// Completion: none. The caller's CALL completes; when it does not wait any more, the answer goes nowhere.
/// Returns: OK; STALE_HANDLE: answered or released before, or a buffer of a piece; INVALID_ARGUMENT: a NULL, a reserved
/// field, pieces that are both or neither, or more than 64 KiB of copied bytes; OUT_OF_RANGE: past the end of a buffer,
/// or longer than a message may be, or than 1 KiB for a call that happens once; OUT_OF_MEMORY.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: the call still waits for its answer.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_call_reply(
    call: rde_incoming_call,
    status: i32,
    header: *const rde_rpc_header,
    pieces: *const rde_piece,
    count: u32,
) -> rde_status {
    guard(call.id, std::ptr::null_mut(), || {
        let header = match header.is_null() {
            true => Header::default(),
            // SAFETY: not NULL, and the caller vouches for it during the call.
            false => self::header(&unsafe { header.read_unaligned() })?,
        };
        // SAFETY: forwarded from the caller.
        let pieces = unsafe { self::pieces(pieces, count) }?;
        match Call::take(call.id)?.reply(&Reply { status, header, pieces, file: None }) {
            Ok(()) => Ok(()),
            Err((status, call)) => {
                call.put_back();
                Err(status.into())
            }
        }
    })
}

/// Answers an inbound call with a status of the library's: the service has not done it.
///
/// Parameters: `call` in. `status` in: an error. `retry_after_us` in: microseconds until the caller may try again, or 0.
/// Completion: none. The caller's CALL completes with that status.
/// Returns: OK; STALE_HANDLE: answered or released before; INVALID_ARGUMENT: not an error of the library's.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: the call still waits for its answer.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_call_refuse(
    call: rde_incoming_call,
    status: i32,
    retry_after_us: u32,
) -> rde_status {
    guard(call.id, std::ptr::null_mut(), || {
        let status = Status::from_i32(status).filter(|status| status.is_error());
        let status = status.ok_or_else(|| invalid("status is no error of the library's"))?;
        Call::take(call.id)?.refuse(status, Duration::from_micros(retry_after_us.into()));
        Ok(())
    })
}

/// Gives an inbound call up. One that waits for an answer is answered CANCELED.
///
/// Parameters: `call` in; zero is OK and does nothing.
/// Completion: none. The caller's CALL completes with CANCELED, unless it was a one-way call.
/// Returns: OK; STALE_HANDLE: answered or released before.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: nothing has changed.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_call_release(call: rde_incoming_call) -> rde_status {
    guard(call.id, std::ptr::null_mut(), || {
        if call.id == 0 {
            return Ok(());
        }
        drop(Call::take(call.id)?);
        Ok(())
    })
}
