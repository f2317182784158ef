//! The bytes every message is made of: frame header, integers, byte strings. Pure: no I/O, no state.
//!
//! All integers are little-endian. `docs/wire.md` has the offsets.

use crate::limits::CONTROL_MESSAGE;
use crate::status::{Error, Result, Status};

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"RDEC";

/// Peers of another major version are refused.
pub const WIRE_MAJOR: u16 = 1;

/// A newer minor version adds optional messages and appends fields to the hello.
pub const WIRE_MINOR: u16 = 0;

/// Bytes of a frame header: magic, body length u32, kind u16, flags u16.
pub const HEADER_BYTES: usize = 12;

/// Frame flag: a receiver that does not know the kind ignores the message.
pub const FLAG_OPTIONAL: u16 = 1 << 0;

/// Frame flag: two descriptors travel with the frame's first byte.
pub const FLAG_DESCRIPTOR: u16 = 1 << 1;

/// A frame's header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body; header and body together are at most [`CONTROL_MESSAGE`].
    pub length: usize,
    /// What the body is.
    pub kind: u16,
    /// `FLAG_*`.
    pub flags: u16,
}

impl Header {
    /// Reads the header at the beginning of `bytes`; `None` until all of it is there. Wrong magic is seen at the
    /// first wrong byte.
    pub fn decode(bytes: &[u8]) -> Result<Option<Header>> {
        let seen = bytes.len().min(MAGIC.len());
        if bytes[..seen] != MAGIC[..seen] {
            return Err(broken("these are not the engine's bytes"));
        }
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [_, _, _, _, l0, l1, l2, l3, k0, k1, f0, f1] = *bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let header =
            Header { length, kind: u16::from_le_bytes([k0, k1]), flags: u16::from_le_bytes([f0, f1]) };
        if length > CONTROL_MESSAGE - HEADER_BYTES {
            return Err(broken("a control message is longer than the limit"));
        }
        if header.flags & !(FLAG_OPTIONAL | FLAG_DESCRIPTOR) != 0 {
            return Err(broken("a control message has unknown flags"));
        }
        Ok(Some(header))
    }
}

/// A peer that broke the protocol.
pub(super) fn broken(message: &'static str) -> Error {
    Error::new(Status::Protocol, message)
}

/// Reads a body from front to back. Every length is checked against what is there before anything is allocated.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A u16 length, at most `limit`, and so many bytes.
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8]> {
        let length = usize::from(self.u16()?);
        if length > limit {
            return Err(broken("a field of a control message is longer than its limit"));
        }
        let (head, rest) = self.rest.split_at_checked(length).ok_or_else(short)?;
        self.rest = rest;
        Ok(head)
    }

    /// Like [`Reader::bytes`], and it is UTF-8.
    pub fn text(&mut self, limit: usize) -> Result<String> {
        let bytes = self.bytes(limit)?;
        let text =
            std::str::from_utf8(bytes).map_err(|_| broken("a text of a control message is not UTF-8"))?;
        Ok(text.to_owned())
    }

    /// An error status; a number of a newer version becomes `Protocol`.
    pub fn failure(&mut self) -> Result<Status> {
        let number = self.u32()?.cast_signed();
        if number >= 0 {
            return Err(broken("a refusal carries no error"));
        }
        Ok(Status::from_i32(number).unwrap_or(Status::Protocol))
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(broken("a control message is longer than its fields")) }
    }
}

fn short() -> Error {
    broken("a control message ends inside a field")
}

/// Appends one frame to a buffer; on an error the buffer is as before.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    overflow: bool,
}

impl Writer {
    pub fn new(kind: u16, flags: u16) -> Writer {
        let mut writer = Writer { bytes: Vec::with_capacity(64), overflow: false };
        writer.array(MAGIC);
        writer.u32(0);
        writer.u16(kind);
        writer.u16(flags);
        writer
    }

    pub fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes.extend_from_slice(&bytes);
    }

    pub fn u8(&mut self, value: u8) {
        self.array(value.to_le_bytes());
    }

    pub fn u16(&mut self, value: u16) {
        self.array(value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.array(value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.array(value.to_le_bytes());
    }

    /// A u16 length and the bytes.
    pub fn bytes(&mut self, bytes: &[u8], limit: usize) {
        match u16::try_from(bytes.len()) {
            Ok(length) if bytes.len() <= limit => {
                self.u16(length);
                self.bytes.extend_from_slice(bytes);
            }
            _ => self.overflow = true,
        }
    }

    /// A count that must fit.
    pub fn count(&mut self, count: usize, limit: usize) {
        match u16::try_from(count) {
            Ok(value) if count <= limit => self.u16(value),
            _ => self.overflow = true,
        }
    }

    pub fn failure(&mut self, status: Status) {
        let status = if status.is_error() { status } else { Status::Internal };
        self.u32((status as i32).cast_unsigned());
    }

    /// The frame, its length filled in.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        if self.overflow || self.bytes.len() > CONTROL_MESSAGE {
            return Err(Error::new(Status::InvalidArgument, "a field is too long for a control message"));
        }
        let length = u32::try_from(self.bytes.len() - HEADER_BYTES).unwrap_or(u32::MAX);
        self.bytes[4..8].copy_from_slice(&length.to_le_bytes());
        Ok(self.bytes)
    }
}

/// The beginning of `text`, at most `limit` bytes, cut between characters.
pub(super) fn clip(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
