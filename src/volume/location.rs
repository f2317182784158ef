//! Where a needle's record is, and whether bytes that were read from there are the needle. No I/O: a caller with its
//! own (a registered buffer, `io_uring`) reads the ranges that a [`Location`] names and has them checked.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::status::{Error, Result, Status};
use crate::volume::file_id::FileId;
use crate::volume::needle::{Flags, Header, Layout, Meta, Trailer, corrupted, front_length, unpadded_length};
use crate::volume::superblock::{Superblock, Version};

/// How to answer.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Deleted needles are read as long as their bytes are there, as SeaweedFS's own chunk reads ask for. Default true.
    pub read_deleted: bool,
    /// Chunk manifests and parts of compressed data are given out as they are stored. Default false: `Ineligible`.
    pub stored: bool,
    /// The time that expiry is judged by, in Unix nanoseconds; None is the system's clock.
    pub now_ns: Option<u64>,
    /// False: what would wait for the disk, or for much work, is not done: `NotReady`. Default true.
    pub wait: bool,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { read_deleted: true, stored: false, now_ns: None, wait: true }
    }
}

/// What is known of a needle that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needle {
    /// Bytes of stored data, of which a read may have been for a part.
    pub data_length: u32,
    /// `COMPRESSED` means that the data is gzip.
    pub flags: Flags,
    /// Unix seconds.
    pub last_modified: Option<u64>,
    /// Unix nanoseconds; 0 before version 3.
    pub append_at_ns: u64,
    /// CRC-32C of the stored data as it is stored: raw or masked.
    pub checksum: u32,
    /// It was deleted; its bytes are still there.
    pub deleted: bool,
    /// Which opening of the files it was read from; grows with each vacuum.
    pub generation: u64,
}

/// An open `.dat` file.
#[derive(Debug)]
pub(super) struct DataFile {
    pub(super) file: File,
    pub(super) superblock: Superblock,
    /// The superblock's, or the `.vif` file's.
    pub(super) version: Version,
}

impl AsFd for DataFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Where a needle's record is. Keeps the file open, so that a vacuum does not take it away.
#[derive(Clone, Debug)]
pub struct Location {
    pub(super) data: Arc<DataFile>,
    pub(super) id: FileId,
    pub(super) offset: u64,
    pub(super) size: u32,
    pub(super) deleted: bool,
    pub(super) generation: u64,
    /// How many others were tried before.
    pub(super) attempt: u8,
    /// The offset had lost its 33rd bit.
    pub(super) shifted: bool,
}

impl Location {
    /// The open `.dat` file.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.data.file.as_fd()
    }

    /// The same, kept open by whoever has it.
    pub fn kept_file(&self) -> Arc<dyn AsFd + Send + Sync> {
        self.data.clone()
    }

    /// Where in the file the data begins, in bytes.
    pub fn data_at(&self) -> u64 {
        self.offset + self.front_length() as u64
    }

    /// The file id it was looked up by.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Where the record begins in the file, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The record's size field: the data of version 1; data and metadata of later ones.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Layout of the record.
    pub fn version(&self) -> Version {
        self.data.version
    }

    /// Whether the needle was deleted.
    pub fn deleted(&self) -> bool {
        self.deleted
    }

    /// Which opening of the volume's files this is from.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Bytes to read at `offset` for the whole record, at most 2^31 + 28; the padding is left out.
    pub fn length(&self) -> u64 {
        unpadded_length(self.data.version, self.size)
    }

    /// Bytes to read at `offset` for [`Location::check_front`]; the data begins after them.
    pub fn front_length(&self) -> usize {
        front_length(self.data.version, self.size)
    }

    /// Checks a whole record that was read from here ([`Location::length`] bytes, or more), and tells where in it the
    /// data is. Errors as of a read; `Stale` when `record` is cut off.
    pub fn verify(&self, record: &[u8], options: &ReadOptions) -> Result<(Needle, Range<usize>)> {
        let layout = self.check_front(record)?;
        let place = |range: Range<u64>| {
            let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
            Some((record.get(range.clone())?, range))
        };
        let part = |range| place(range).ok_or_else(cut_off);
        let (data, range) = part(layout.data())?;
        let needle = self.check_tail(&layout, part(layout.meta())?.0, part(layout.trailer())?.0, options)?;
        self.check_data(&needle, data)?;
        Ok((needle, range))
    }

    /// Checks the record's first bytes ([`Location::front_length`] of them, or more): that they are there, that id,
    /// cookie and size are right. Errors: `Stale` (nothing is there), `Corrupted` (something else is there; ask
    /// [`Volume::retry`](super::Volume::retry) what that means), `CookieMismatch`.
    pub fn check_front(&self, front: &[u8]) -> Result<Layout> {
        let front = front.get(..self.front_length()).ok_or_else(cut_off)?;
        if front.iter().all(|byte| *byte == 0) {
            return Err(Error::new(Status::Stale, "the needle's record is not written yet"));
        }
        let header = Header::decode(front).ok_or_else(cut_off)?;
        if header.id != self.id.needle || u32::try_from(header.size) != Ok(self.size) {
            return Err(corrupted("another one is in its place"));
        }
        if header.cookie != self.id.cookie {
            return Err(Status::CookieMismatch.into());
        }
        Layout::decode(self.data.version, self.size, front)
    }

    /// Checks what follows the data: `meta` and `trailer` as `layout` names them. Errors: `Expired`, `Ineligible` (a
    /// chunk manifest), `Corrupted`.
    pub fn check_tail(
        &self,
        layout: &Layout,
        meta: &[u8],
        trailer: &[u8],
        options: &ReadOptions,
    ) -> Result<Needle> {
        let meta = Meta::decode(meta)?;
        let trailer = Trailer::decode(self.data.version, trailer)?;
        if meta.ttl.is_some() && meta.expired(trailer.append_at_ns, options.now_ns.unwrap_or_else(now_ns)) {
            return Err(Status::Expired.into());
        }
        if meta.flags.has(Flags::CHUNK_MANIFEST) && !options.stored {
            return Err(Error::new(Status::Ineligible, "a chunk manifest: HTTP puts the chunks together"));
        }
        Ok(Needle {
            data_length: layout.data_length,
            flags: meta.flags,
            last_modified: meta.last_modified,
            append_at_ns: trailer.append_at_ns,
            checksum: trailer.checksum,
            deleted: self.deleted,
            generation: self.generation,
        })
    }

    /// Checks the whole data against the checksum. Errors: `Corrupted`. Parts of it cannot be checked.
    pub fn check_data(&self, needle: &Needle, data: &[u8]) -> Result<()> {
        Trailer { checksum: needle.checksum, append_at_ns: 0 }.check(self.size, data)
    }
}

impl Needle {
    /// Which bytes `offset` and `length` stand for, by the rule of HTTP ranges: the end is cut to the data's, the
    /// start must be inside (or the data empty). Errors: `OutOfRange`; `Ineligible` for anything but the whole of
    /// compressed data, because offsets in the clear data say nothing of the stored one, not even where it ends.
    pub fn range(&self, offset: u64, length: usize, options: &ReadOptions) -> Result<Range<u32>> {
        let all = self.data_length;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if self.flags.has(Flags::COMPRESSED) && !options.stored && (offset != 0 || length < all) {
            return Err(Error::new(
                Status::Ineligible,
                "a part of compressed data: read it whole, or use HTTP",
            ));
        }
        let start = u32::try_from(offset).ok().filter(|start| *start < all || (*start == 0 && all == 0));
        let start = start.ok_or_else(|| {
            Error::new(Status::OutOfRange, format!("offset {offset} is past the needle's {all} bytes"))
        })?;
        Ok(start..start + length.min(all - start))
    }
}

fn cut_off() -> Error {
    Error::new(Status::Stale, "the .dat file ends before the needle's record does")
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
