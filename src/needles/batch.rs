//! Many reads in one round trip: what the payloads of [`METHOD_BATCH`](super::METHOD_BATCH) look like. Little-endian.
//!
//! A call's payload is an [`Entry`] for each read and then their texts, one behind the other; its header says how many
//! reads there are (`len`) and how many bytes of answer the caller takes (`offset`, 0 as many as a message may have). The
//! answer's header says of how many reads it is (`len`): of the first ones, as many as fit, at least one; the caller asks
//! for the others again. Its payload is a [`Row`] for each of these, and then their data, which begins at multiples of 8.

use zerocopy::little_endian::{I32, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::status::{Error, Result, Status};
use crate::volume::checksum;

/// Reads in one call.
pub const READS: usize = 1_024;

/// Bytes of a call's payload: what travels without a buffer.
pub const PAYLOAD: usize = 64 << 10;

/// One read of a call: 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Entry {
    /// Where the part begins, with `RANGE`.
    pub offset: U64,
    /// Bytes of the part, with `RANGE`.
    pub len: U64,
    /// [`read`](super::read) flags.
    pub flags: U32,
    /// Bytes of the text: a file id, and `?jwt=TOKEN`.
    pub text: U32,
}

/// What became of one read: 64 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Row {
    /// A number of [`Status`]. With `TRUNCATED` the needle is longer than any answer can be, and `data_length` says how
    /// long: read it in parts. With other errors everything below is 0.
    pub status: I32,
    /// Bits 0–7 as SeaweedFS stores them, [`needle`](super::needle) flags.
    pub flags: U32,
    /// Bytes of all stored data.
    pub data_length: U64,
    /// Unix seconds; 0 unknown.
    pub last_modified: U64,
    /// Unix nanoseconds; 0 unknown.
    pub append_at_ns: U64,
    /// Which opening of the volume's files it was read from.
    pub generation: U64,
    /// CRC-32C of all stored data, as it is stored: raw or masked.
    pub checksum: U32,
    /// 0.
    pub reserved: U32,
    /// Where the data begins, in bytes from the start of the payload.
    pub offset: U64,
    /// Bytes of data.
    pub length: U64,
}

/// Bytes of an [`Entry`].
pub const ENTRY: usize = size_of::<Entry>();
/// Bytes of a [`Row`].
pub const ROW: usize = size_of::<Row>();

const _: () = assert!(ENTRY == 24 && ROW == 64);

/// Puts the payload of a call together.
#[derive(Clone, Debug)]
pub struct Builder {
    entries: Vec<Entry>,
    texts: Vec<u8>,
    capacity: usize,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::with_capacity(PAYLOAD)
    }
}

impl Builder {
    /// No reads yet.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The same, and the payload is to be of at most so many bytes.
    pub fn with_capacity(bytes: usize) -> Builder {
        Builder { entries: Vec::new(), texts: Vec::new(), capacity: bytes.min(PAYLOAD) }
    }

    /// Adds a read; false, and it is not added, when the call is full.
    pub fn add(&mut self, text: &str, offset: u64, len: u64, flags: u32) -> bool {
        let bytes = (self.entries.len() + 1) * ENTRY + self.texts.len() + text.len();
        if self.entries.len() == READS || bytes > self.capacity {
            return false;
        }
        let text_length = U32::new(text.len() as u32);
        let (offset, len, flags) = (offset.into(), len.into(), flags.into());
        self.entries.push(Entry { offset, len, flags, text: text_length });
        self.texts.extend_from_slice(text.as_bytes());
        true
    }

    /// How many reads there are: the header's `len`.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The payload.
    pub fn payload(&self) -> Vec<u8> {
        [self.entries.as_bytes(), &self.texts].concat()
    }
}

/// The reads of a call: each one's entry and text. Errors: `InvalidArgument` when there are none or too many, or what they
/// say of their lengths is not so. Texts and flags are not looked at.
pub fn reads(count: u64, payload: &[u8]) -> Result<Vec<(Entry, &[u8])>> {
    let invalid = |why| Error::new(Status::InvalidArgument, why);
    let count = usize::try_from(count).ok().filter(|count| (1..=READS).contains(count));
    let count = count.ok_or_else(|| invalid("a batch has 1 to 1,024 reads"))?;
    if payload.len() > PAYLOAD {
        return Err(invalid("a batch has at most 64 KiB"));
    }
    let cut = |_| invalid("a batch is shorter than it says");
    let (entries, mut texts) = <[Entry]>::ref_from_prefix_with_elems(payload, count).map_err(|_| cut(()))?;
    let mut reads = Vec::with_capacity(count);
    for entry in entries {
        let (text, rest) = texts.split_at_checked(entry.text.get() as usize).ok_or(()).map_err(cut)?;
        reads.push((*entry, text));
        texts = rest;
    }
    match texts {
        [] => Ok(reads),
        _ => Err(invalid("a batch is longer than it says")),
    }
}

/// The rows of an answer of `count` reads, whose payload begins with `start` and has `length` bytes. Errors: `Protocol`
/// when they do not fit or point outside.
pub fn rows(count: u64, start: &[u8], length: u64) -> Result<Vec<Row>> {
    let broken = |why| Error::new(Status::Protocol, why);
    let count = usize::try_from(count).ok().filter(|count| (1..=READS).contains(count));
    let count = count.ok_or_else(|| broken("an answer is of 1 to 1,024 reads"))?;
    let rows = <[Row]>::ref_from_prefix_with_elems(start, count);
    // Copied before they are looked at: a place that was lent is the exporter's, too.
    let rows = rows.map_err(|_| broken("an answer is shorter than its rows"))?.0.to_vec();
    let table = (count * ROW) as u64;
    for row in &rows {
        let (offset, bytes) = (row.offset.get(), row.length.get());
        let end = offset.checked_add(bytes).filter(|end| *end <= length);
        if bytes > 0 && (offset < table || end.is_none()) || bytes > row.data_length.get() {
            return Err(broken("a row of an answer points outside of it"));
        }
    }
    Ok(rows)
}

/// Whether `data` is all of a needle whose row says this length and checksum. Errors: `Corrupted`.
pub fn check(data_length: u64, checksum: u32, data: &[u8]) -> Result<()> {
    let right = data.len() as u64 == data_length
        && (data.is_empty() || checksum::matches(checksum, checksum::crc(data)));
    if right { Ok(()) } else { Err(Error::new(Status::Corrupted, "these bytes are not the needle's")) }
}

/// A file id as it travels: with its token, if there is one.
pub fn text(file_id: &str, token: &str) -> String {
    if token.is_empty() { file_id.to_owned() } else { format!("{file_id}?jwt={token}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needles::read;

    fn two() -> Builder {
        let mut builder = Builder::new();
        assert!(builder.add("3,01637037d6", 0, 0, 0));
        assert!(builder.add("4,02deadbeef?jwt=a.b.c", 0x0102, 0x0304, read::RANGE | read::LIVE));
        builder
    }

    #[test]
    fn golden_bytes_of_a_call() {
        #[rustfmt::skip]
        let golden = [
            &[0; 16][..], &[0, 0, 0, 0, 12, 0, 0, 0],
            &[2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 22, 0, 0, 0],
            b"3,01637037d6", b"4,02deadbeef?jwt=a.b.c",
        ];
        assert_eq!(two().payload(), golden.concat());
    }

    #[test]
    fn golden_bytes_of_a_row() {
        let row = Row {
            status: (-11).into(),
            flags: 0x101.into(),
            data_length: 5.into(),
            last_modified: 0x0607.into(),
            append_at_ns: 8.into(),
            generation: 9.into(),
            checksum: 0x0A0B_0C0D.into(),
            reserved: 0.into(),
            offset: 64.into(),
            length: 4.into(),
        };
        #[rustfmt::skip]
        let golden = [
            0xF5, 0xFF, 0xFF, 0xFF, 1, 1, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 7, 6, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
            9, 0, 0, 0, 0, 0, 0, 0, 0x0D, 0x0C, 0x0B, 0x0A, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(row.as_bytes(), golden);
        assert_eq!(rows(1, &golden, 68).unwrap(), [row]);
    }

    #[test]
    fn what_goes_in_comes_out_and_every_other_length_is_refused() {
        let payload = two().payload();
        let back = reads(2, &payload).unwrap();
        assert_eq!((back[0].1, back[1].1), (&b"3,01637037d6"[..], &b"4,02deadbeef?jwt=a.b.c"[..]));
        assert_eq!((back[1].0.offset.get(), back[1].0.len.get(), back[1].0.flags.get()), (258, 772, 5));
        assert!((0..payload.len()).all(|short| reads(2, &payload[..short]).is_err()));
        assert!(reads(2, &[&payload[..], b"x"].concat()).is_err());
        for count in [0, 1, 3, READS as u64 + 1, u64::MAX] {
            assert!(reads(count, &payload).is_err(), "{count}");
        }
        let mut long = payload.clone();
        long[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(reads(2, &long).is_err());
    }

    #[test]
    fn a_call_is_bounded() {
        let mut builder = Builder::new();
        assert_eq!((0..2 * READS).filter(|_| builder.add("3,01637037d6", 0, 0, 0)).count(), READS);
        let mut builder = Builder::new();
        let text = "x".repeat(1000);
        assert_eq!((0..READS).filter(|_| builder.add(&text, 0, 0, 0)).count(), 64);
        assert!(builder.payload().len() <= PAYLOAD);
        assert_eq!(reads(64, &builder.payload()).unwrap().len(), 64);
    }

    #[test]
    fn rows_that_point_outside_are_refused() {
        let row = |offset: u64, length: u64| Row {
            offset: offset.into(),
            length: length.into(),
            data_length: length.into(),
            ..Row::default()
        };
        let check = |row: Row, length| rows(1, row.as_bytes(), length).is_ok();
        assert!(check(row(64, 8), 72) && check(row(0, 0), 64) && check(row(u64::MAX, 0), 64));
        for (offset, bytes) in [(63, 8), (64, 9), (72, 1), (u64::MAX, 2), (64, u64::MAX)] {
            assert!(!check(row(offset, bytes), 72), "{offset} {bytes}");
        }
        assert!(!check(Row { data_length: 7.into(), ..row(64, 8) }, 72), "more than there is");
        assert!(rows(2, row(64, 0).as_bytes(), 64).is_err());
        assert!(rows(0, row(64, 0).as_bytes(), 64).is_err());
    }
}
