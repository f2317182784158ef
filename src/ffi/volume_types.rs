//! Structures and constants of volumes, with their layout asserted.
#![allow(unsafe_code, reason = "vouches for structures that are plain integers and pointers")]

use std::mem::offset_of;

use super::argument::Versioned;
use super::types::rde_bytes;

/// Read of a needle: one that was deleted is DELETED. Without it, it is read as long as its bytes are there, as
/// SeaweedFS's own readers of chunks ask for.
pub const RDE_VOLUME_LIVE: u32 = 1 << 0;
/// Read of a needle: chunk manifests, and parts of compressed data, are given out as they are stored.
pub const RDE_VOLUME_STORED: u32 = 1 << 1;
/// Read of a needle: the part that begins at the offset, as far as it goes.
pub const RDE_VOLUME_RANGE: u32 = 1 << 2;

/// Read of a needle from an exporter: no data, only what is known of it.
pub const RDE_VOLUME_STAT: u32 = 1 << 3;

/// Method of an exporter: reads a needle.
pub const RDE_METHOD_NEEDLE: u32 = 0x5357_0001;
/// Method of an exporter: reads many needles.
pub const RDE_METHOD_NEEDLES: u32 = 0x5357_0002;

/// Method of an exporter: lends it memory on this host, so that it puts answers there itself: one copy in all. The payload is
/// the key of all of a buffer that was allocated with RDE_BUFFER_EXPORTABLE, with the rights to read and to write. The answer's
/// header is the memory's number in this session (`offset`) and its length (`len`). Without a payload, the memory with the
/// number `offset` of the call's header is not lent any more. The answer's status: UNSUPPORTED: it cannot be mapped there;
/// PERMISSION_DENIED, REVOKED, NOT_FOUND: the key; LIMIT_REACHED. An exporter that does not know this answers UNKNOWN_METHOD.
pub const RDE_METHOD_NEEDLE_MEMORY: u32 = 0x5357_0003;

/// Call of RDE_METHOD_NEEDLE and RDE_METHOD_NEEDLES, in the header's flags: the payload ends with an rde_needle_place, such as a
/// second piece. The answer goes there, if it can: then its header has RDE_NEEDLE_PLACED. Else it comes as without; give the
/// same place as the call's reply buffer, and it is there either way. After TIMED_OUT, CANCELED and CONNECTION_LOST the
/// exporter may still write to the place: release the buffer, and do not use its memory for anything else; or give such calls
/// no time-out, and do not cancel them.
pub const RDE_VOLUME_PLACED: u32 = 1 << 4;
/// The caller checks by `rde_needle_check` what the answer says was not checked (RDE_NEEDLE_UNCHECKED). Over TCP an exporter
/// then sends long needles from the page cache, without having looked at their bytes.
pub const RDE_VOLUME_UNCHECKED: u32 = 1 << 5;

/// Longest file id with its token, in bytes.
pub const RDE_FILE_ID_MAX: usize = 4096;
/// Reads in one call of RDE_METHOD_NEEDLES.
pub const RDE_NEEDLES_MAX: u32 = 1024;
/// Bytes that the payload of a call of RDE_METHOD_NEEDLES has at most.
pub const RDE_NEEDLES_BYTES_MAX: usize = 64 << 10;
/// An exporter's port is its volume server's HTTP port and this, unless somebody chose another one.
pub const RDE_NEEDLE_PORT_OFFSET: u32 = 20000;

/// Needle: its data is gzip.
pub const RDE_NEEDLE_COMPRESSED: u32 = 1 << 0;
/// Needle: its data is a list of chunks, to be put together by whoever reads it.
pub const RDE_NEEDLE_CHUNK_MANIFEST: u32 = 1 << 7;
/// Needle: it was deleted; its bytes are still there.
pub const RDE_NEEDLE_DELETED: u32 = 1 << 8;
/// Header of an answer: it is at its place, from there on as its payload would be. Of one needle its length is that of all data
/// (or of the part), of many the header's `offset`.
pub const RDE_NEEDLE_PLACED: u32 = 1 << 9;
/// Needle: its data was not checked against its checksum, and must be: `rde_needle_check`. In an answer for one needle the
/// upper half of the header's `offset` is the checksum.
pub const RDE_NEEDLE_UNCHECKED: u32 = 1 << 10;

/// Options of a volume. Start from RDE_VOLUME_OPTIONS_INIT; a field that is zero takes its default.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_volume_options {
    /// sizeof(rde_volume_options).
    pub struct_size: u32,
    /// Zero.
    pub flags: u32,
    /// Where the index is, for the call; empty is beside the data.
    pub index_dir: rde_bytes,
    /// Zero.
    pub reserved: [u64; 4],
}

/// Options of an exporter. Start from RDE_EXPORTER_OPTIONS_INIT; a field that is zero takes its default.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_exporter_options {
    /// sizeof(rde_exporter_options).
    pub struct_size: u32,
    /// Threads that read the disk, at most 256; 0 is 4.
    pub threads: u32,
    /// Where the indexes are, for the call; empty is beside the data.
    pub index_dir: rde_bytes,
    /// SeaweedFS's read key (jwt.signing.read.key), at most 1,024 bytes, copied: each read needs a token that was signed with
    /// it. Empty: none is needed.
    pub read_key: rde_bytes,
    /// Zero.
    pub reserved: [u64; 2],
}

/// What a volume tells about itself. Set struct_size before asking.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct rde_volume_details {
    /// sizeof(rde_volume_details), set by the caller.
    pub struct_size: u32,
    /// Of the records: 1, 2 or 3.
    pub version: u32,
    /// How often the volume was vacuumed, modulo 65,536.
    pub compaction_revision: u32,
    /// Zero.
    pub reserved: u32,
    /// How often its files were opened; grows with each vacuum.
    pub generation: u64,
    /// Entries of the needle map, deleted ones included; one that changed lately may be counted twice.
    pub entries: u64,
    /// Bytes that the needle map takes.
    pub map_bytes: u64,
}

/// What is known of a needle. Set struct_size before asking.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct rde_needle {
    /// sizeof(rde_needle), set by the caller.
    pub struct_size: u32,
    /// RDE_NEEDLE_*; other bits are those that SeaweedFS stored.
    pub flags: u32,
    /// Bytes of stored data, of which a read may have been for a part.
    pub length: u64,
    /// Unix seconds; 0 is unknown.
    pub last_modified: u64,
    /// Unix nanoseconds; 0 is unknown.
    pub append_at_ns: u64,
    /// Generation of the volume that it was read from.
    pub generation: u64,
    /// CRC-32C of the stored data as it is stored: raw or masked.
    pub checksum: u32,
    /// Zero.
    pub reserved: u32,
}

/// One read of RDE_METHOD_NEEDLES. Zero is none.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rde_needle_read {
    /// Such as "3,01637037d6", for the call; also as in a URL.
    pub file_id: rde_bytes,
    /// What SeaweedFS gave out for this file id, if the exporter asks for it, for the call.
    pub token: rde_bytes,
    /// Where the part begins, with RDE_VOLUME_RANGE.
    pub offset: u64,
    /// Bytes of the part, with RDE_VOLUME_RANGE.
    pub length: u64,
    /// RDE_VOLUME_*.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// Where an answer is to go: the end of a payload, with RDE_VOLUME_PLACED. Little-endian, as all that travels.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct rde_needle_place {
    /// The number of memory that was lent on this session by RDE_METHOD_NEEDLE_MEMORY.
    pub memory: u64,
    /// Where in it, in bytes.
    pub offset: u64,
    /// Bytes of room. An answer for one needle goes elsewhere when it is longer, one for many is cut to it.
    pub length: u64,
}

/// What became of one read of RDE_METHOD_NEEDLES.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct rde_needle_result {
    /// As of rde_volume_read; UNAUTHORIZED; TRUNCATED: longer than any answer can be, `length` says how long: read it in parts.
    pub status: i32,
    /// RDE_NEEDLE_*; other bits are those that SeaweedFS stored.
    pub flags: u32,
    /// Bytes of all stored data.
    pub length: u64,
    /// Unix seconds; 0 is unknown.
    pub last_modified: u64,
    /// Unix nanoseconds; 0 is unknown.
    pub append_at_ns: u64,
    /// Generation of the volume that it was read from.
    pub generation: u64,
    /// CRC-32C of all stored data as it is stored: raw or masked.
    pub checksum: u32,
    /// Zero.
    pub reserved: u32,
    /// Where in the answer the data begins, in bytes.
    pub data_offset: u64,
    /// Bytes of data.
    pub data_length: u64,
}

const _: () = {
    assert!(size_of::<rde_needle_read>() == 56 && size_of::<rde_needle_result>() == 64);
    assert!(size_of::<rde_needle_place>() == 24 && offset_of!(rde_needle_place, length) == 16);
    assert!(size_of::<rde_volume_options>() == 56 && offset_of!(rde_volume_options, reserved) == 24);
    assert!(size_of::<rde_exporter_options>() == 56 && offset_of!(rde_exporter_options, read_key) == 24);
    assert!(size_of::<rde_volume_details>() == 40 && offset_of!(rde_volume_details, generation) == 16);
    assert!(size_of::<rde_needle>() == 48 && offset_of!(rde_needle, checksum) == 40);
};

// SAFETY (all of these): C layout, size first, only integers, arrays of them and raw pointers; the assertions above
// leave no room for padding.
// SAFETY: see above.
unsafe impl Versioned for rde_volume_options {
    const FIRST: usize = 56;
}
// SAFETY: see above.
unsafe impl Versioned for rde_exporter_options {
    const FIRST: usize = 56;
}
// SAFETY: see above.
unsafe impl Versioned for rde_volume_details {
    const FIRST: usize = 40;
}
// SAFETY: see above.
unsafe impl Versioned for rde_needle {
    const FIRST: usize = 48;
}
