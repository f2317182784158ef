//! Needles of an exporter: what calls of RDE_METHOD_NEEDLES carry, and whether parts put together are a needle.
#![allow(unsafe_code, reason = "exported functions")]

use std::ffi::c_void;

use super::argument::{array, bytes, invalid, output, text};
use super::guard;
use super::types::*;
use super::volume_types::*;
use crate::limits;
use crate::needles::{FILE_ID, batch};
use crate::status::{Error, Result, Status};

/// One read of a caller's as text with its token.
///
/// # Safety
/// Its file id and token are readable.
unsafe fn named(read: &rde_needle_read) -> Result<String> {
    if read.reserved != 0 {
        return Err(invalid("reads: reserved is not zero"));
    }
    // SAFETY: forwarded from the caller.
    let file_id = unsafe { text(read.file_id, FILE_ID, "file_id") }?;
    // SAFETY: forwarded from the caller.
    let token = unsafe { text(read.token, FILE_ID, "token") }?;
    Ok(batch::text(file_id, token))
}

/// Makes the payload and the header of a call of RDE_METHOD_NEEDLES: many reads in one round trip. Call with them; the
/// payload is one piece of `rde_call`. The answer's status is an rde_status of the whole: INVALID_ARGUMENT, BUSY. With OK its
/// payload, at least 64 bytes and so never inline, is for `rde_needles_decode`. An answer is of the first reads, as many as
/// fit into it, at least one: ask for the others again. Data of each read begins at a multiple of 8 in it.
///
/// Parameters: `reads` in, `count` of them, for the call. `capacity` in: bytes of the answer at most, such as the room in
/// the reply's buffer; 0: as many as a message may have. `payload` out, room for `payload_capacity` bytes;
/// RDE_NEEDLES_BYTES_MAX are enough for any. `out_length` out: bytes of payload. `out_count` out: how many of the first reads
/// are in it: as many as fit, RDE_NEEDLES_MAX at most. `out_header` out.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, no reads, a text that is not UTF-8 or too long, a capacity below 64, or something in a
/// reserved field; TRUNCATED: not even the first read fits into `payload_capacity`.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: the outputs are untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_needles_encode(
    reads: *const rde_needle_read,
    count: u32,
    capacity: u64,
    payload: *mut c_void,
    payload_capacity: usize,
    out_length: *mut usize,
    out_count: *mut u32,
    out_header: *mut rde_rpc_header,
) -> rde_status {
    guard(0, std::ptr::null_mut(), || {
        let (out_length, out_count) = (output(out_length, "out_length")?, output(out_count, "out_count")?);
        let (out_header, _) = (output(out_header, "out_header")?, output(payload.cast::<u8>(), "payload")?);
        array(reads, count as usize, limits::BATCH, "reads")?;
        if count == 0 || (1..batch::ROW as u64).contains(&capacity) {
            return Err(invalid("there are no reads, or no room for an answer of one"));
        }
        let mut builder = batch::Builder::with_capacity(payload_capacity);
        for i in 0..count as usize {
            // SAFETY: not NULL, aligned, and the caller vouches for `count` of them.
            let read = unsafe { &*reads.wrapping_add(i) };
            // SAFETY: forwarded from the caller.
            if !builder.add(&unsafe { named(read) }?, read.offset, read.length, read.flags) {
                break;
            }
        }
        if builder.is_empty() {
            return Err(Error::new(Status::Truncated, "the payload has no room for the first read"));
        }
        let bytes = builder.payload();
        // SAFETY: the builder made no more than `payload_capacity` bytes, for which the caller vouches.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), payload.cast::<u8>(), bytes.len()) };
        out_length.set(bytes.len());
        out_count.set(builder.len() as u32);
        out_header.set(rde_rpc_header { offset: capacity, len: builder.len() as u64, flags: 0, reserved: 0 });
        Ok(())
    })
}

/// Takes an answer to RDE_METHOD_NEEDLES apart: what became of each read, and where its data is. Every place is checked to
/// be inside of the payload.
///
/// Parameters: `header` in: the answer's. `payload` in: the answer's, for the call, aligned to 1. `out_results` out, room for
/// `capacity` of them; RDE_NEEDLES_MAX are enough for any. `out_count` out: of how many of the first reads the answer is.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL; TRUNCATED: `capacity` is too small; PROTOCOL: this is no such answer.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: the outputs are untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_needles_decode(
    header: *const rde_rpc_header,
    payload: rde_bytes,
    out_results: *mut rde_needle_result,
    capacity: u32,
    out_count: *mut u32,
) -> rde_status {
    guard(0, std::ptr::null_mut(), || {
        let (out_count, _) = (output(out_count, "out_count")?, output(out_results, "out_results")?);
        if header.is_null() {
            return Err(invalid("header is NULL"));
        }
        // SAFETY: not NULL, and the caller vouches for it.
        let header = unsafe { header.read_unaligned() };
        // SAFETY: forwarded from the caller.
        let payload = unsafe { bytes(payload, usize::MAX, "payload") }?;
        let rows = batch::rows(header.len, payload, payload.len() as u64)?;
        if rows.len() > capacity as usize {
            let text = format!("there are {} results", rows.len());
            return Err(Error::new(Status::Truncated, text));
        }
        for (i, row) in rows.iter().enumerate() {
            // SAFETY: below `capacity`, for which the caller vouches.
            unsafe { out_results.wrapping_add(i).write_unaligned(result(row)) };
        }
        out_count.set(rows.len() as u32);
        Ok(())
    })
}

fn result(row: &batch::Row) -> rde_needle_result {
    rde_needle_result {
        status: row.status.get(),
        flags: row.flags.get(),
        length: row.data_length.get(),
        last_modified: row.last_modified.get(),
        append_at_ns: row.append_at_ns.get(),
        generation: row.generation.get(),
        checksum: row.checksum.get(),
        reserved: 0,
        data_offset: row.offset.get(),
        data_length: row.length.get(),
    }
}

/// Whether bytes are all of a needle's data: their number and their checksum. A needle that is longer than a message is read
/// so: what is known of it (a read of RDE_METHOD_NEEDLES with RDE_VOLUME_STAT), then its parts by calls of RDE_METHOD_NEEDLE
/// with RDE_VOLUME_RANGE and RDE_VOLUME_STORED, straight to their places, several at a time, then this. If it was
/// overwritten meanwhile, this says so: begin again.
///
/// Parameters: `needle` in, for the call: what `rde_needles_decode` said of it. `data` in, `length` bytes, for the call.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL; CORRUPTED: these bytes are not the needle's.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never; takes some 0.1 ms a MiB.
/// On failure: nothing has changed.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_needle_check(
    needle: *const rde_needle_result,
    data: *const c_void,
    length: usize,
) -> rde_status {
    guard(0, std::ptr::null_mut(), || {
        if needle.is_null() {
            return Err(invalid("needle is NULL"));
        }
        // SAFETY: not NULL, and the caller vouches for it.
        let needle = unsafe { needle.read_unaligned() };
        // SAFETY: forwarded from the caller.
        let data = unsafe { bytes(rde_bytes { data: data.cast(), len: length }, usize::MAX, "data") }?;
        batch::check(needle.length, needle.checksum, data)
    })
}
