//! Exporter: SeaweedFS needles of a folder for other processes, by calls of RDE_METHOD_NEEDLE.
#![allow(unsafe_code, reason = "exported functions")]

use std::ffi::c_char;
use std::sync::Arc;

use super::argument::{bytes, invalid, output, output_text, path, read_struct, text};
use super::handle::{EXPORTERS, Serving};
use super::types::*;
use super::volume_types::*;
use super::{guard, guard_close, handle};
use crate::limits;
use crate::needles::{
    Exporter, ExporterOptions, FILE_ID, METHOD, METHOD_BATCH, METHOD_MEMORY, PLACE, PORT_OFFSET, READ_KEY,
    ReadKey, batch, needle, read,
};
use crate::status::{Error, Result, Status};

const _: () = {
    assert!(RDE_METHOD_NEEDLE == METHOD && RDE_NEEDLE_DELETED == needle::DELETED);
    assert!(RDE_VOLUME_LIVE == read::LIVE && RDE_VOLUME_STORED == read::STORED);
    assert!(RDE_VOLUME_RANGE == read::RANGE && RDE_VOLUME_STAT == read::STAT);
    assert!(RDE_METHOD_NEEDLES == METHOD_BATCH && RDE_FILE_ID_MAX == FILE_ID);
    assert!(RDE_METHOD_NEEDLE_MEMORY == METHOD_MEMORY && size_of::<rde_needle_place>() == PLACE);
    assert!(RDE_VOLUME_PLACED == read::PLACED && RDE_VOLUME_UNCHECKED == read::UNCHECKED);
    assert!(RDE_NEEDLE_PLACED == needle::PLACED && RDE_NEEDLE_UNCHECKED == needle::UNCHECKED);
    assert!(RDE_NEEDLES_MAX as usize == batch::READS && RDE_NEEDLES_BYTES_MAX == batch::PAYLOAD);
    assert!(RDE_NEEDLE_PORT_OFFSET == PORT_OFFSET as u32 && size_of::<rde_needle_result>() == batch::ROW);
};

const DEFAULTS: rde_exporter_options = rde_exporter_options {
    struct_size: size_of::<rde_exporter_options>() as u32,
    threads: 0,
    index_dir: rde_bytes { data: std::ptr::null(), len: 0 },
    read_key: rde_bytes { data: std::ptr::null(), len: 0 },
    reserved: [0; 2],
};

/// The engine's options from those of the caller.
///
/// # Safety
/// As the Parameters of `rde_exporter_open`.
unsafe fn options(options: *const rde_exporter_options) -> Result<ExporterOptions> {
    // SAFETY: forwarded from the caller.
    let given = unsafe { read_struct(options, DEFAULTS, "options") }?;
    if given.reserved != [0; 2] || given.threads > 256 {
        return Err(invalid("options: more than 256 threads, or reserved is not zero"));
    }
    let mut ours = ExporterOptions::default();
    if given.threads > 0 {
        ours.threads = given.threads as usize;
    }
    // SAFETY: forwarded from the caller.
    let index_dir = unsafe { path(given.index_dir, "index_dir") }?;
    ours.index_dir = Some(index_dir).filter(|dir| !dir.as_os_str().is_empty());
    // SAFETY: forwarded from the caller.
    let read_key = unsafe { bytes(given.read_key, READ_KEY, "read_key") }?;
    ours.read_key = if read_key.is_empty() { None } else { Some(ReadKey::new(read_key)?) };
    Ok(ours)
}

/// Serves the needles of every SeaweedFS volume in a folder, with threads of its own. Volumes that come and go are
/// noticed. Nothing is ever written there. Whoever reaches the address may read what he has a file id with its cookie for,
/// unless there is a read key. A reader calls RDE_METHOD_NEEDLE with `rde_call`: the payload is the file id as text, the
/// header the part (`offset`, `len`; with RDE_VOLUME_RANGE) and RDE_VOLUME_* (`flags`); with a read key "?jwt=" and a token
/// follow the file id, as in SeaweedFS's URLs. The answer's status is an
/// rde_status as of `rde_volume_read`, its payload the data, its header the length of all data (`offset`), Unix seconds of
/// the last change or 0 (`len`) and RDE_NEEDLE_* (`flags`). UNAUTHORIZED: the token is missing, wrong, over, or for something
/// else. TRUNCATED: longer than a message may be: read it in parts, and hold all of it against its checksum with
/// `rde_needle_check`. RDE_METHOD_NEEDLES reads many in one round trip: see `rde_needles_encode`.
/// A reader on the same host that lends memory (RDE_METHOD_NEEDLE_MEMORY) gets answers put there.
///
/// Parameters: `context` in. `address` in, as of `rde_listener_open`, for the call. `dir` in, a path, for the call.
/// `options` in, nullable (the defaults), for the call. `out_exporter` out. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, an address or a path that cannot be read, too many threads, or something in a
/// reserved field; ABI_MISMATCH: a `struct_size` of no version; STALE_HANDLE; LIMIT_REACHED: 65,536 are open; IO: no such
/// folder, or threads; and those of `rde_worker_open` and `rde_listener_open`.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: while UCX opens devices and the folder is looked through, milliseconds.
/// On failure: `out_exporter` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_exporter_open(
    context: rde_context,
    address: rde_bytes,
    dir: rde_bytes,
    options: *const rde_exporter_options,
    out_exporter: *mut rde_exporter,
    error: *mut rde_error,
) -> rde_status {
    guard(context.id, error, || {
        let out = output(out_exporter, "out_exporter")?;
        // SAFETY: forwarded from the caller.
        let options = unsafe { self::options(options) }?;
        // SAFETY: forwarded from the caller.
        let address = unsafe { text(address, limits::ADDRESS_TEXT, "address") }?;
        // SAFETY: forwarded from the caller.
        let dir = unsafe { path(dir, "dir") }?;
        let exporter = Exporter::open(&handle::context(context)?.arc(), address, dir, &options)?;
        let id = EXPORTERS.insert(Arc::new(Serving(exporter)));
        let id = id.ok_or_else(|| Error::new(Status::LimitReached, "65,536 exporters are open"))?;
        out.set(rde_exporter { id });
        Ok(())
    })
}

/// Has an exporter serve the volumes of another folder, too. Of a volume that is in several folders, the first one's is
/// served.
///
/// Parameters: `exporter` in. `dir` in, a path, for the call. `index_dir` in, a path, where its indexes are; empty is beside
/// the data; for the call. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: a path that cannot be read; STALE_HANDLE; LIMIT_REACHED: 256 folders; IO: no such folder.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: while the folders are looked through, milliseconds.
/// On failure: nothing has changed.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_exporter_add(
    exporter: rde_exporter,
    dir: rde_bytes,
    index_dir: rde_bytes,
    error: *mut rde_error,
) -> rde_status {
    guard(exporter.id, error, || {
        // SAFETY: forwarded from the caller.
        let dir = unsafe { path(dir, "dir") }?;
        // SAFETY: forwarded from the caller.
        let index_dir = unsafe { path(index_dir, "index_dir") }?;
        let index_dir = Some(index_dir).filter(|dir| !dir.as_os_str().is_empty());
        handle::exporter(exporter)?.0.add(dir, index_dir)
    })
}

/// The address an exporter is at, in the form to dial, with the port that was picked.
///
/// Parameters: `exporter` in. `out_text` out, room for `capacity` bytes, NUL-terminated; nullable with a capacity of 0.
/// `out_len` out: its length without the NUL. RDE_ADDRESS_MAX + 1 bytes always suffice.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; TRUNCATED: `capacity` must be over `*out_len`, which was written.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_text` is untouched, and so is `out_len` but for TRUNCATED.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_exporter_address(
    exporter: rde_exporter,
    out_text: *mut c_char,
    capacity: usize,
    out_len: *mut usize,
) -> rde_status {
    guard(exporter.id, std::ptr::null_mut(), || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_text(out_text, capacity, out_len) }?;
        out.set(handle::exporter(exporter)?.0.address())
    })
}

/// Closes an exporter: reads that run end, its sessions close. Close it before its context.
///
/// Parameters: `exporter` in; zero is OK and does nothing.
/// Completion: none.
/// Returns: OK; STALE_HANDLE: closed before.
/// Threads: any; not from a signal handler.
/// Blocks: until reads that run have ended, and its threads.
/// On failure: nothing has changed.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_exporter_close(exporter: rde_exporter) -> rde_status {
    guard_close(exporter.id, || {
        if exporter.id == 0 {
            return Ok(());
        }
        let closed = EXPORTERS.remove(exporter.id).ok_or_else(|| Error::from(Status::StaleHandle))?;
        closed.0.close();
        Ok(())
    })
}
