//! Reading a located needle into the caller's memory: one `preadv` for a whole needle, the data not copied again.

use std::io::IoSliceMut;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, ReadWriteFlags, preadv, preadv2};

use crate::status::{Error, Result, Status};
use crate::volume::location::{Location, Needle, ReadOptions};
use crate::volume::needle::{FRONT_BYTES, Layout, META_BYTES, TRAILER_BYTES};

/// Room for what follows the data: most needles' metadata is below 300 bytes.
const TAIL_BYTES: usize = 1 << 10;

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Bytes of data at the start of the caller's buffer.
    pub length: usize,
    /// What it is.
    pub needle: Needle,
}

impl Location {
    /// Reads the whole data into `buffer` and checks it. What follows the data in `buffer`, and all of it after an
    /// error, is undefined. Errors: `Truncated` when `buffer` is too small; those of [`Location::verify`]; `Io`.
    pub fn read(&self, buffer: &mut [u8], options: &ReadOptions) -> Result<Read> {
        let needle = self.read_from_start(buffer, options)?;
        let length = needle.data_length as usize;
        let data = buffer.get(..length).ok_or_else(|| {
            Error::new(
                Status::Truncated,
                format!("the needle's data is {length} bytes, the buffer is smaller"),
            )
        })?;
        self.check_data(&needle, data)?;
        Ok(Read { length, needle })
    }

    /// Reads data from `offset` on until `buffer` is full or the data ends. A part is not checked against the
    /// checksum, as with HTTP; the whole is. Errors: `OutOfRange`, and those of [`Location::read`].
    pub fn read_range(&self, offset: u64, buffer: &mut [u8], options: &ReadOptions) -> Result<Read> {
        let needle = match offset {
            0 => self.read_from_start(buffer, options)?,
            _ => self.stat(options)?,
        };
        let range = needle.range(offset, buffer.len(), options)?;
        let length = range.len();
        let wanted = &mut buffer[..length];
        if offset != 0 {
            if self.read_data(range.start.into(), wanted, options)? != length {
                return Err(Error::new(Status::Stale, "the .dat file ends inside the needle's data"));
            }
        } else if range.end == needle.data_length {
            self.check_data(&needle, wanted)?;
        }
        Ok(Read { length, needle })
    }

    /// Fills `buffer` with stored data from `offset` on, unchecked; how many bytes there were before the file's end. For who
    /// knows the record by [`Location::stat`] and checks the data himself. Errors: `Io`.
    pub fn read_data(&self, offset: u64, buffer: &mut [u8], options: &ReadOptions) -> Result<usize> {
        read_at(self.file(), self.offset + self.front_length() as u64 + offset, [buffer], options.wait)
    }

    /// Fills `buffer` with the data and what follows it, as far as it goes; checks everything but the data.
    fn read_from_start(&self, buffer: &mut [u8], options: &ReadOptions) -> Result<Needle> {
        let body_at = self.front_length();
        let body = usize::try_from(self.length()).unwrap_or(usize::MAX) - body_at;
        let direct = body.min(buffer.len());
        let (mut front, mut scratch) = ([0; FRONT_BYTES], [0; TAIL_BYTES]);
        let front = &mut front[..body_at];
        let scratch = &mut scratch[..(body - direct).min(TAIL_BYTES)];
        let got = read_at(self.file(), self.offset, [front, &mut buffer[..direct], scratch], options.wait)?;
        let layout = self.check_front(&front[..got.min(body_at)])?;
        let got = got.saturating_sub(body_at);
        if (got as u64) < u64::from(layout.data_length).min(direct as u64) {
            return Err(Error::new(Status::Stale, "the .dat file ends inside the needle's data"));
        }
        Body { direct: &buffer[..direct], scratch, got, location: self }.check(&layout, options)
    }

    /// Reads and checks everything but the data. Errors: those of [`Location::verify`], `Io`.
    pub fn stat(&self, options: &ReadOptions) -> Result<Needle> {
        let mut front = [0; FRONT_BYTES];
        let front = &mut front[..self.front_length()];
        let got = read_at(self.file(), self.offset, [front], options.wait)?;
        let layout = self.check_front(&front[..got])?;
        Body { direct: &[], scratch: &[], got: 0, location: self }.check(&layout, options)
    }
}

/// What follows a record's front, as far as it was read: first `direct`, then `scratch`, together `got` bytes.
struct Body<'a> {
    direct: &'a [u8],
    scratch: &'a [u8],
    got: usize,
    location: &'a Location,
}

impl Body<'_> {
    fn check(&self, layout: &Layout, options: &ReadOptions) -> Result<Needle> {
        let mut tail = [0; META_BYTES + TRAILER_BYTES];
        let (meta, trailer) = (layout.meta(), layout.trailer());
        // The trailer follows at once, unless long pairs are between.
        let meta_length = if meta.end == trailer.start {
            self.copy(meta.start..trailer.end, &mut tail, options.wait)? - layout.trailer_length
        } else {
            let length = self.copy(meta, &mut tail, options.wait)?;
            self.copy(trailer, &mut tail[length..], options.wait)?;
            length
        };
        let (meta, trailer) = tail.split_at(meta_length);
        self.location.check_tail(layout, meta, &trailer[..layout.trailer_length], options)
    }

    /// Copies a small part of the record, read or still to be read.
    fn copy(&self, range: Range<u64>, out: &mut [u8], wait: bool) -> Result<usize> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let out = out
            .get_mut(..length)
            .ok_or_else(|| Error::new(Status::Internal, "a record's tail has no room"))?;
        let start = usize::try_from(range.start).unwrap_or(usize::MAX) - self.location.front_length();
        if start + length <= self.got {
            for (at, byte) in (start..).zip(out) {
                *byte = if at < self.direct.len() {
                    self.direct[at]
                } else {
                    self.scratch[at - self.direct.len()]
                };
            }
        } else if read_at(self.location.file(), self.location.offset + range.start, [out], wait)? != length {
            return Err(Error::new(Status::Stale, "the .dat file ends before the needle's record does"));
        }
        Ok(length)
    }
}

/// Fills the buffers from `offset` on; returns how many bytes there were before the end of the file. Unless it may `wait`,
/// only from the page cache: `NotReady` when that has not all of it, or the file system does not say.
pub(super) fn read_at<const N: usize>(
    file: BorrowedFd<'_>,
    offset: u64,
    buffers: [&mut [u8]; N],
    wait: bool,
) -> Result<usize> {
    let mut slices = buffers.map(IoSliceMut::new);
    let mut rest = &mut slices[..];
    IoSliceMut::advance_slices(&mut rest, 0);
    let mut done = 0;
    while !rest.is_empty() {
        let got = match wait {
            true => preadv(file, rest, offset + done as u64),
            false => preadv2(file, rest, offset + done as u64, ReadWriteFlags::NOWAIT),
        };
        match got {
            Ok(0) => break,
            Ok(count) => {
                done += count;
                IoSliceMut::advance_slices(&mut rest, count);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::OPNOTSUPP) if !wait => return Err(Status::NotReady.into()),
            Err(error) => return Err(Error::os("reading a volume's file", &error.into())),
        }
    }
    Ok(done)
}
