//! A part of a payload: bytes that are copied when the call is made, or a range of a registered buffer that is not.

use crate::engine::bytes::Bytes;

/// A part of a payload; 32 bytes, laid out as the C ABI shows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Piece<'a> {
    /// Bytes that are copied; of a buffer's piece NULL and its length.
    bytes: Bytes<'a>,
    /// A buffer's handle, or 0.
    buffer: u64,
    /// Where the piece begins in the buffer.
    offset: u64,
}

const _: () = assert!(size_of::<Piece<'_>>() == 32 && align_of::<Piece<'_>>() == 8);

/// What a piece is of.
pub(in crate::engine) enum Source<'a> {
    /// Bytes, to be copied.
    Bytes(&'a [u8]),
    /// Handle, offset and length.
    Buffer(u64, u64, u64),
}

impl<'a> Piece<'a> {
    /// Bytes, copied when the call is made; all of a payload's together at most 64 KiB.
    pub fn bytes(bytes: &'a [u8]) -> Piece<'a> {
        Piece { bytes: bytes.into(), buffer: 0, offset: 0 }
    }

    /// `length` bytes of a registered buffer from `offset` on, not copied: they must stay until the call has ended.
    pub fn buffer(buffer: u64, offset: u64, length: usize) -> Piece<'a> {
        Piece { bytes: Bytes::absent(length), buffer, offset }
    }

    /// What it is of. `None` for a piece from C that says both or neither.
    pub(in crate::engine) fn source(&self) -> Option<Source<'a>> {
        if self.buffer != 0 {
            let length = self.bytes.len_if_absent()?;
            return Some(Source::Buffer(self.buffer, self.offset, length as u64));
        }
        self.bytes.get().filter(|_| self.offset == 0).map(Source::Bytes)
    }
}
