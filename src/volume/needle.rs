//! Needle records of versions 1 to 3: a header, then data and metadata, then the checksum.
//!
//! Decoding comes in three pieces, because a reader puts the data straight into its caller's memory: [`Header`], then
//! [`Layout`] (where the data and the rest are), then [`Meta`] and [`Trailer`]. [`Record`] does all of them at once.

use std::ops::Range;

use crate::status::{Error, Result, Status};
use crate::volume::checksum;
use crate::volume::superblock::Version;
use crate::volume::ttl::Ttl;

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 16;

/// Bytes from the start of a record to its data, at most: the header, and the data's length in versions 2 and 3.
pub const FRONT_BYTES: usize = HEADER_BYTES + 4;

/// The metadata up to and with the time to live, at most: flags, name, mime type, modification time, time to live.
/// What a read has to know is in there; what follows is the pairs.
pub const META_BYTES: usize = 1 + 256 + 256 + 5 + 2;

/// Bytes after the metadata: checksum, and in version 3 the append time.
pub const TRAILER_BYTES: usize = 12;

/// Flags of a needle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// The stored data is gzip.
    pub const COMPRESSED: Flags = Flags(0x01);
    /// A name is stored.
    pub const NAME: Flags = Flags(0x02);
    /// A mime type is stored.
    pub const MIME: Flags = Flags(0x04);
    /// The modification time is stored.
    pub const LAST_MODIFIED: Flags = Flags(0x08);
    /// A time to live is stored.
    pub const TTL: Flags = Flags(0x10);
    /// Pairs (headers, in JSON) are stored.
    pub const PAIRS: Flags = Flags(0x20);
    /// The data is a list of chunks, to be put together by whoever reads it.
    pub const CHUNK_MANIFEST: Flags = Flags(0x80);

    /// Whether all flags of `other` are set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The first 16 bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Must be the file id's.
    pub cookie: u32,
    /// Must be the file id's.
    pub id: u64,
    /// Version 1: length of the data; later: of data length, data and metadata. 0 for an empty file and a tombstone.
    pub size: i32,
}

impl Header {
    /// Decodes a header; None when `bytes` is too short. Every content is a valid header.
    pub fn decode(bytes: &[u8]) -> Option<Header> {
        let (cookie, rest) = bytes.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        Some(Header {
            cookie: u32::from_be_bytes(*cookie),
            id: u64::from_be_bytes(*id),
            size: i32::from_be_bytes(*rest.first_chunk()?),
        })
    }
}

/// Bytes from the start of a record of this size field to the end of its trailer.
pub fn unpadded_length(version: Version, size: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(size) + trailer_length(version) as u64
}

/// Bytes of a record of this size field on disk. The padding is 1 to 8 bytes of anything.
pub fn padded_length(version: Version, size: u32) -> u64 {
    let length = unpadded_length(version, size);
    length + 8 - length % 8
}

/// Bytes from the start of a record to its data.
pub fn front_length(version: Version, size: u32) -> usize {
    if version == Version::V1 || size == 0 { HEADER_BYTES } else { FRONT_BYTES }
}

fn trailer_length(version: Version) -> usize {
    if version == Version::V3 { TRAILER_BYTES } else { 4 }
}

/// Where the parts of a record are, in bytes from its start: data, metadata and trailer follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The first byte of the data.
    pub data: u64,
    /// Length of the data.
    pub data_length: u32,
    /// Length of the metadata, pairs included.
    pub meta_length: u32,
    /// Length of the trailer.
    pub trailer_length: usize,
}

impl Layout {
    /// Decodes it from the record's first bytes: [`front_length`] of them, or more. Errors: `Corrupted`.
    pub fn decode(version: Version, size: u32, front: &[u8]) -> Result<Layout> {
        let data = front_length(version, size);
        let trailer_length = trailer_length(version);
        if data == HEADER_BYTES {
            return Ok(Layout { data: data as u64, data_length: size, meta_length: 0, trailer_length });
        }
        let length = front.get(HEADER_BYTES..).and_then(|rest| rest.first_chunk().copied());
        let data_length = u32::from_be_bytes(length.ok_or_else(|| corrupted("it ends before its data"))?);
        // The data length itself counts; at least the flags follow the data.
        let meta_length = size.checked_sub(4).and_then(|rest| rest.checked_sub(data_length));
        match meta_length {
            Some(meta_length) if meta_length > 0 => {
                Ok(Layout { data: data as u64, data_length, meta_length, trailer_length })
            }
            _ => Err(corrupted("its data is longer than itself")),
        }
    }

    /// The data.
    pub fn data(&self) -> Range<u64> {
        self.data..self.data + u64::from(self.data_length)
    }

    /// The metadata as far as [`Meta::decode`] needs it.
    pub fn meta(&self) -> Range<u64> {
        let start = self.data().end;
        start..start + u64::from(self.meta_length).min(META_BYTES as u64)
    }

    /// The trailer.
    pub fn trailer(&self) -> Range<u64> {
        let start = self.data().end + u64::from(self.meta_length);
        start..start + self.trailer_length as u64
    }
}

/// The metadata of a record up to its pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta<'a> {
    /// Which of the rest there is.
    pub flags: Flags,
    /// Empty if there is none.
    pub name: &'a [u8],
    /// Empty if there is none.
    pub mime: &'a [u8],
    /// Unix seconds.
    pub last_modified: Option<u64>,
    /// How long it lives from its append time on.
    pub ttl: Option<Ttl>,
    /// Where the pairs begin, in bytes from the start of the metadata.
    pub pairs_at: usize,
}

impl<'a> Meta<'a> {
    /// Decodes the metadata, or its first [`META_BYTES`]; none at all is that of an empty file or of version 1.
    /// Errors: `Corrupted`.
    pub fn decode(bytes: &'a [u8]) -> Result<Meta<'a>> {
        let mut meta = Meta::default();
        if bytes.is_empty() {
            return Ok(meta);
        }
        let mut rest = bytes;
        meta.flags = Flags(take(&mut rest, 1)?[0]);
        let has = |flag| meta.flags.has(flag);
        if has(Flags::NAME) {
            let length = take(&mut rest, 1)?[0];
            meta.name = take(&mut rest, length.into())?;
        }
        if has(Flags::MIME) {
            let length = take(&mut rest, 1)?[0];
            meta.mime = take(&mut rest, length.into())?;
        }
        if has(Flags::LAST_MODIFIED) {
            meta.last_modified =
                Some(take(&mut rest, 5)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        }
        if has(Flags::TTL) {
            let bytes = take(&mut rest, 2)?;
            meta.ttl = Some(Ttl::decode([bytes[0], bytes[1]]));
        }
        meta.pairs_at = bytes.len() - rest.len();
        Ok(meta)
    }

    /// Whether data appended at `append_at_ns` is over at `now_ns`, by the rule that HTTP reads go by.
    pub fn expired(&self, append_at_ns: u64, now_ns: u64) -> bool {
        self.last_modified.is_some() && self.ttl.is_some_and(|ttl| ttl.expired(append_at_ns, now_ns))
    }
}

/// What follows the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// CRC-32C of the stored data, raw or masked.
    pub checksum: u32,
    /// Unix nanoseconds; 0 before version 3.
    pub append_at_ns: u64,
}

impl Trailer {
    /// Decodes the trailer. Errors: `Corrupted` when it is cut off.
    pub fn decode(version: Version, bytes: &[u8]) -> Result<Trailer> {
        let cut = || corrupted("its checksum is cut off");
        let (checksum, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
        let append_at_ns = match version {
            Version::V3 => u64::from_be_bytes(*rest.first_chunk().ok_or_else(cut)?),
            _ => 0,
        };
        Ok(Trailer { checksum: u32::from_be_bytes(*checksum), append_at_ns })
    }

    /// Checks the data against the checksum. Errors: `Corrupted`. An empty record (`size` 0) has no checksum.
    pub fn check(&self, size: u32, data: &[u8]) -> Result<()> {
        if size == 0 || checksum::matches(self.checksum, checksum::crc(data)) {
            return Ok(());
        }
        Err(corrupted("its data does not match its checksum"))
    }
}

/// A whole record, borrowed from the bytes it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Cookie, id, size.
    pub header: Header,
    /// As it is stored: perhaps compressed.
    pub data: &'a [u8],
    /// Flags, name, and so on.
    pub meta: Meta<'a>,
    /// JSON; empty if there is none.
    pub pairs: &'a [u8],
    /// Checksum and append time.
    pub trailer: Trailer,
}

impl<'a> Record<'a> {
    /// Decodes a record and checks its data against its checksum; padding is not looked at. Errors: `Corrupted`, also
    /// when `bytes` ends too early.
    pub fn decode(version: Version, bytes: &'a [u8]) -> Result<Record<'a>> {
        let cut = || corrupted("it is cut off");
        let header = Header::decode(bytes).ok_or_else(cut)?;
        let size = u32::try_from(header.size).map_err(|_| corrupted("its size is negative"))?;
        let layout = Layout::decode(version, size, bytes)?;
        let part = |range: Range<u64>| {
            let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
            bytes.get(range)
        };
        let trailer = Trailer::decode(version, part(layout.trailer()).ok_or_else(cut)?)?;
        let data = part(layout.data()).ok_or_else(cut)?;
        let all_meta = part(layout.data().end..layout.trailer().start).ok_or_else(cut)?;
        let meta = Meta::decode(all_meta)?;
        let mut rest = all_meta.get(meta.pairs_at..).unwrap_or_default();
        let mut pairs: &[u8] = &[];
        if meta.flags.has(Flags::PAIRS) {
            let length = take(&mut rest, 2)?;
            pairs = take(&mut rest, u16::from_be_bytes([length[0], length[1]]).into())?;
        }
        trailer.check(size, data)?;
        Ok(Record { header, data, meta, pairs, trailer })
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length).ok_or_else(|| corrupted("its metadata is cut off"))?;
    *rest = left;
    Ok(taken)
}

pub(super) fn corrupted(why: &'static str) -> Error {
    Error::new(Status::Corrupted, format!("a needle's record is damaged: {why}"))
}
