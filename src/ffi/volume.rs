//! Volume: needles of SeaweedFS volumes on this machine's disk, without a context.
#![allow(unsafe_code, reason = "exported functions")]

use std::ffi::c_void;
use std::sync::Arc;

use super::argument::{PATH, invalid, output, output_struct, path, read_struct, text};
use super::handle::VOLUMES;
use super::types::*;
use super::volume_types::*;
use super::{guard, guard_close, handle};
use crate::status::{Error, Result, Status};
use crate::volume::needle::Flags;
use crate::volume::{FileId, Needle, OpenOptions, ReadOptions, Volume};

const _: () = {
    assert!(RDE_NEEDLE_COMPRESSED == Flags::COMPRESSED.0 as u32);
    assert!(RDE_NEEDLE_CHUNK_MANIFEST == Flags::CHUNK_MANIFEST.0 as u32);
    assert!(RDE_NEEDLE_DELETED > u8::MAX as u32);
};

const DEFAULTS: rde_volume_options = rde_volume_options {
    struct_size: size_of::<rde_volume_options>() as u32,
    flags: 0,
    index_dir: rde_bytes { data: std::ptr::null(), len: 0 },
    reserved: [0; 4],
};

/// Opens a SeaweedFS volume and loads its index: `[collection_]id.dat` and `.idx` in a folder. Nothing is ever written
/// there. The volume is followed as its server appends to it, vacuums it, unmounts and mounts it.
///
/// Parameters: `dir` in, a path, for the call. `collection` in, UTF-8, for the call; empty is the default one. `id` in.
/// `options` in, nullable (the defaults), for the call. `out_volume` out. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, a NUL in a path, or something in a reserved field; ABI_MISMATCH: a `struct_size`
/// of no version; NOT_FOUND: no such files; INELIGIBLE: erasure-coded, or in a tier: use HTTP; CORRUPTED, UNSUPPORTED,
/// STALE: files that make no sense (now); OUT_OF_MEMORY; LIMIT_REACHED: 65,536 are open; IO.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: while the index loads, a second for some 10 million needles.
/// On failure: `out_volume` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_volume_open(
    dir: rde_bytes,
    collection: rde_bytes,
    id: u32,
    options: *const rde_volume_options,
    out_volume: *mut rde_volume,
    error: *mut rde_error,
) -> rde_status {
    guard(0, error, || {
        let out = output(out_volume, "out_volume")?;
        // SAFETY: forwarded from the caller.
        let given = unsafe { read_struct(options, DEFAULTS, "options") }?;
        if given.flags != 0 || given.reserved != [0; 4] {
            return Err(invalid("options: flags or reserved is not zero"));
        }
        // SAFETY: forwarded from the caller.
        let dir = unsafe { path(dir, "dir") }?;
        // SAFETY: forwarded from the caller.
        let collection = unsafe { text(collection, PATH, "collection") }?;
        // SAFETY: forwarded from the caller.
        let index_dir = unsafe { path(given.index_dir, "index_dir") }?;
        let index_dir = Some(index_dir).filter(|dir| !dir.as_os_str().is_empty());
        let options = OpenOptions { index_dir, ..OpenOptions::default() };
        let volume = Volume::open_with(&dir, collection, id, options)?;
        let handle = VOLUMES.insert(Arc::new(volume));
        let id = handle.ok_or_else(|| Error::new(Status::LimitReached, "65,536 volumes are open"))?;
        out.set(rde_volume { id });
        Ok(())
    })
}

/// Closes a volume. Calls that run on it end as usual.
///
/// Parameters: `volume` in; zero is OK and does nothing.
/// Completion: none.
/// Returns: OK; STALE_HANDLE: closed before.
/// Threads: any; not from a signal handler.
/// Blocks: never.
/// On failure: nothing has changed.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_volume_close(volume: rde_volume) -> rde_status {
    guard_close(volume.id, || {
        if volume.id == 0 || VOLUMES.remove(volume.id).is_some() {
            return Ok(());
        }
        Err(Status::StaleHandle.into())
    })
}

/// Numbers of a volume as of its last look at the files.
///
/// Parameters: `volume` in. `out_info` in and out: its `struct_size` is read, everything else is written. `error` out,
/// nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
/// STALE_HANDLE; NOT_FOUND: the files are gone at the moment.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_info` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_volume_info(
    volume: rde_volume,
    out_info: *mut rde_volume_details,
    error: *mut rde_error,
) -> rde_status {
    guard(volume.id, error, || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_struct(out_info, "out_info") }?;
        let info = handle::volume(volume)?.info();
        let info = info.ok_or_else(|| Error::new(Status::NotFound, "the volume's files are gone"))?;
        out.set(rde_volume_details {
            struct_size: 0,
            version: info.superblock.version as u32,
            compaction_revision: info.superblock.compaction_revision.into(),
            reserved: 0,
            generation: info.generation,
            entries: info.entries as u64,
            map_bytes: info.map_bytes as u64,
        });
        Ok(())
    })
}

/// Takes in what was appended, and opens the files anew if they were replaced or came back. Reads do the same: call this
/// now and then for an idle volume, so that it lets go of files that a vacuum has replaced.
///
/// Parameters: `volume` in. `error` out, nullable.
/// Completion: none.
/// Returns: OK; STALE_HANDLE; BUSY: the files are being replaced again and again; NOT_FOUND, INELIGIBLE, CORRUPTED,
/// UNSUPPORTED, STALE, OUT_OF_MEMORY, IO as of `rde_volume_open`: the volume can be used again once its files are back.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: while rows are read: as of `rde_volume_open` when the files were replaced, else microseconds.
/// On failure: what was known stays known, or is dropped with the files.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_volume_refresh(volume: rde_volume, error: *mut rde_error) -> rde_status {
    guard(volume.id, error, || handle::volume(volume)?.refresh())
}

/// What a read of the caller's asks for.
///
/// # Safety
/// As for [`bytes`].
unsafe fn asked(file_id: rde_bytes, flags: u32, known: u32) -> Result<(FileId, ReadOptions)> {
    if flags & !known != 0 {
        return Err(invalid("flags has an unknown bit"));
    }
    // SAFETY: forwarded from the caller.
    let id = FileId::from_path(unsafe { text(file_id, PATH, "file_id") }?)?;
    let (read_deleted, stored) = (flags & RDE_VOLUME_LIVE == 0, flags & RDE_VOLUME_STORED != 0);
    Ok((id, ReadOptions { read_deleted, stored, ..ReadOptions::default() }))
}

fn details(needle: &Needle) -> rde_needle {
    let deleted = if needle.deleted { RDE_NEEDLE_DELETED } else { 0 };
    rde_needle {
        struct_size: 0,
        flags: u32::from(needle.flags.0) | deleted,
        length: needle.data_length.into(),
        last_modified: needle.last_modified.unwrap_or(0),
        append_at_ns: needle.append_at_ns,
        generation: needle.generation,
        checksum: needle.checksum,
        reserved: 0,
    }
}

/// What is known of a needle, so that memory for it can be chosen. Checks all but its data.
///
/// Parameters: `volume` in. `file_id` in, such as "3,01637037d6", for the call; also as in a URL. `flags` in:
/// RDE_VOLUME_LIVE, RDE_VOLUME_STORED. `out_needle` in and out: its `struct_size` is read, everything else is written.
/// `error` out, nullable.
/// Completion: none.
/// Returns: as `rde_volume_read`, but for TRUNCATED and OUT_OF_RANGE.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: for one read of the disk.
/// On failure: `out_needle` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_volume_stat(
    volume: rde_volume,
    file_id: rde_bytes,
    flags: u32,
    out_needle: *mut rde_needle,
    error: *mut rde_error,
) -> rde_status {
    guard(volume.id, error, || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_struct(out_needle, "out_needle") }?;
        // SAFETY: forwarded from the caller.
        let (id, options) = unsafe { asked(file_id, flags, RDE_VOLUME_LIVE | RDE_VOLUME_STORED) }?;
        out.set(details(&handle::volume(volume)?.stat(id, &options)?));
        Ok(())
    })
}

/// Reads a needle, whole and checked against its checksum, or with RDE_VOLUME_RANGE a part of it, which is not checked, as
/// with HTTP. Compressed data is returned as it is stored, whole, with its flag. A needle that its server has
/// acknowledged is found.
///
/// Parameters: `volume` in. `file_id` in, such as "3,01637037d6", for the call; also as in a URL. `flags` in:
/// RDE_VOLUME_* or 0. `offset` in, bytes: 0 unless RDE_VOLUME_RANGE. `data` out, room for `capacity` bytes (NULL only with
/// 0); of a part, `capacity` is how many are asked for. `out_length` out: bytes of data at `data`. `out_needle` in and
/// out, nullable: its `struct_size` is read, everything else is written. `error` out, nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, an unknown flag, no file id, or an offset without RDE_VOLUME_RANGE; STALE_HANDLE;
/// NOT_FOUND: no such needle, or of another volume; DELETED; COOKIE_MISMATCH; EXPIRED; INELIGIBLE: a chunk manifest, or a
/// part of compressed data: use HTTP, or RDE_VOLUME_STORED; OUT_OF_RANGE: the part begins past the end; TRUNCATED:
/// `capacity` must be at least `*out_length`, which was written; CORRUPTED: the disk's bytes are wrong; STALE, BUSY: the
/// files are changing: try again, or use HTTP; IO.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: for one read of the disk; while the index loads when the files were replaced.
/// On failure: `data` is undefined; the other outputs are untouched, but for the length with TRUNCATED.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_volume_read(
    volume: rde_volume,
    file_id: rde_bytes,
    flags: u32,
    offset: u64,
    data: *mut c_void,
    capacity: u64,
    out_length: *mut u64,
    out_needle: *mut rde_needle,
    error: *mut rde_error,
) -> rde_status {
    guard(volume.id, error, || {
        let out = output(out_length, "out_length")?;
        let needle_out = match out_needle.is_null() {
            true => None,
            // SAFETY: forwarded from the caller.
            false => Some(unsafe { output_struct(out_needle, "out_needle") }?),
        };
        let known = RDE_VOLUME_LIVE | RDE_VOLUME_STORED | RDE_VOLUME_RANGE;
        // SAFETY: forwarded from the caller.
        let (id, options) = unsafe { asked(file_id, flags, known) }?;
        let range = flags & RDE_VOLUME_RANGE != 0;
        if !range && offset != 0 {
            return Err(invalid("an offset needs RDE_VOLUME_RANGE"));
        }
        // SAFETY: forwarded from the caller.
        let room = unsafe { room(data, capacity) }?;
        let volume = handle::volume(volume)?;
        let read = match range {
            true => volume.read_range(id, offset, room, &options),
            false => volume.read(id, room, &options),
        };
        match read {
            Ok(read) => {
                out.set(read.length as u64);
                if let Some(needle_out) = needle_out {
                    needle_out.set(details(&read.needle));
                }
                Ok(())
            }
            Err(error) if error.status == Status::Truncated => {
                out.set(volume.stat(id, &options)?.data_length.into());
                Err(error)
            }
            Err(error) => Err(error),
        }
    })
}

/// The caller's room for data.
///
/// # Safety
/// `data` is NULL (refused unless `capacity` is 0), or writable for `capacity` bytes while the result lives.
unsafe fn room<'a>(data: *mut c_void, capacity: u64) -> Result<&'a mut [u8]> {
    // No needle has more.
    let capacity = capacity.min(u64::from(u32::MAX)) as usize;
    if capacity == 0 {
        return Ok(&mut []);
    }
    if data.is_null() {
        return Err(invalid(format!("data is NULL with a capacity of {capacity}")));
    }
    // SAFETY: not NULL, and the caller vouches for `capacity` bytes.
    Ok(unsafe { std::slice::from_raw_parts_mut(data.cast::<u8>(), capacity) })
}
