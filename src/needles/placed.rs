//! Answers that are put into the caller's own memory, where that is mapped here: what a caller lent by a call of
//! [`METHOD_MEMORY`](super::METHOD_MEMORY). Nothing of a needle gets there before its cookie was looked at.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ask::Ask;
use super::read;
use crate::engine::region::Region;
use crate::rpc::{self, Lent};
use crate::status::{Error, Result, Status};
use crate::volume::checksum::{self, Sum};
use crate::volume::{Location, Needle, Read, ReadOptions};

/// Bytes that go by way of a core's own cache: one system call, checked there, and copied when all is well. More are read
/// straight to their place.
const NEARBY: u64 = 64 << 10;

/// Bytes that are read at a time, between two looks at the key: they are in a core's own cache when they are counted.
const STEP: u64 = 256 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where an answer goes, at the end of a call's payload: 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Place {
    /// Its number, as the exporter gave it.
    pub memory: U64,
    /// Where in it, in bytes.
    pub offset: U64,
    /// How many bytes there are for it.
    pub length: U64,
}

/// Bytes of a [`Place`].
pub const PLACE: usize = size_of::<Place>();

const _: () = assert!(PLACE == 24);

/// Memory of a caller's, for one answer.
pub(super) struct Target {
    region: Arc<Region>,
    offset: u64,
    length: u64,
}

/// What was put into a [`Target`].
pub(super) struct Put {
    pub needle: Needle,
    pub length: u64,
}

impl Target {
    /// Takes the place off the end of a call's payload. `None`: no memory of this number is lent, or not any more. Errors:
    /// `InvalidArgument`; `OutOfRange` past its end.
    pub fn split<'a>(
        lent: &Lent,
        session: u64,
        payload: &'a [u8],
        flags: u32,
    ) -> Result<(&'a [u8], Option<Target>)> {
        if flags & read::PLACED == 0 {
            return Ok((payload, None));
        }
        let (rest, place) = Place::read_from_suffix(payload)
            .map_err(|_| Error::new(Status::InvalidArgument, "the payload does not end with a place"))?;
        let Some(region) = lent.region(session, place.memory.get()) else { return Ok((rest, None)) };
        let (offset, length) = (place.offset.get(), place.length.get());
        if offset.checked_add(length).is_none_or(|end| end > region.len()) {
            return Err(Error::new(Status::OutOfRange, "the place ends past the memory that was lent"));
        }
        Ok((rest, Some(Target { region, offset, length })))
    }

    /// Bytes that it has room for.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Puts bytes there, from `at` on. Errors: `OutOfRange`, `Revoked`.
    pub fn put(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        if at.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(Status::OutOfRange.into());
        }
        Ok(rpc::writable(&self.region, self.offset + at, length)?.copy_from_slice(0, bytes)?)
    }

    /// Reads what is asked for to its place, from `at` on. `None`: it is longer than the rest of the place, which is left
    /// as it was. Errors: those of [`Location::read`]; `Revoked`. After `Corrupted` and `Stale` the place may have changed.
    pub fn read(
        &self,
        at: u64,
        ask: &Ask,
        location: &Location,
        options: &ReadOptions,
    ) -> Result<Option<Put>> {
        let room = self.length.saturating_sub(at);
        let wanted = ask.room(location.size());
        if wanted > NEARBY {
            return self.read_long(at, room, ask, location, options);
        }
        scratch(wanted as usize, |scratch| {
            let Read { length, needle } = ask.read(location, scratch, options)?;
            if length as u64 > room {
                return Ok(None);
            }
            self.put(at, &scratch[..length])?;
            Ok(Some(Put { needle, length: length as u64 }))
        })
    }

    fn read_long(
        &self,
        at: u64,
        room: u64,
        ask: &Ask,
        location: &Location,
        options: &ReadOptions,
    ) -> Result<Option<Put>> {
        let needle = location.stat(options)?;
        let range = ask.range(&needle, options)?;
        let (length, whole) =
            (u64::from(range.end - range.start), range.len() == needle.data_length as usize);
        if length > room {
            return Ok(None);
        }
        if whole {
            self.fill_checked(at, &needle, location, options)?;
        } else {
            self.fill(at, range, location, options, None)?;
        }
        Ok(Some(Put { needle, length }))
    }

    /// From the page cache to the place, and nothing in between. What is `counted` is read back while it is in this core's
    /// cache. The memory is the caller's: if he writes there meanwhile, he gets what he wrote.
    fn fill(
        &self,
        at: u64,
        range: Range<u32>,
        location: &Location,
        options: &ReadOptions,
        mut counted: Option<&mut Sum>,
    ) -> Result<()> {
        let (start, end) = (u64::from(range.start), u64::from(range.end));
        for from in (start..end).step_by(STEP as usize) {
            let length = STEP.min(end - from);
            let span = rpc::writable(&self.region, self.offset + at + (from - start), length)?;
            let got = span.read_file(location.file(), location.data_at() + from, options.wait)?;
            if got as u64 != length {
                return Err(cut_off());
            }
            if let Some(sum) = &mut counted {
                span.count(0, span.len(), sum)?;
            }
        }
        Ok(())
    }

    fn fill_checked(
        &self,
        at: u64,
        needle: &Needle,
        location: &Location,
        options: &ReadOptions,
    ) -> Result<()> {
        let mut sum = Sum::new();
        self.fill(at, 0..needle.data_length, location, options, Some(&mut sum))?;
        match checksum::matches(needle.checksum, sum.value()) {
            true => Ok(()),
            false => Err(Error::new(Status::Corrupted, "a needle's data does not match its checksum")),
        }
    }
}

fn cut_off() -> Error {
    Error::new(Status::Stale, "the .dat file ends inside the needle's data")
}

/// Bytes of this thread's own.
fn scratch<T>(length: usize, with: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < length {
            scratch.resize(length, 0);
        }
        with(&mut scratch[..length])
    })
}
