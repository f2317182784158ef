//! Borrowed bytes in a layout that C shares.
#![allow(
    unsafe_code,
    reason = "gives a pointer and a length from C the lifetime of the call that brought them"
)]

use std::marker::PhantomData;

use super::call::Piece;

/// Borrowed bytes. `data` may be NULL only when `len` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    /// The first byte.
    data: *const u8,
    /// How many.
    len: usize,
    borrow: PhantomData<&'a [u8]>,
}

impl<'a> Bytes<'a> {
    /// The bytes; `None` for a NULL that claims a length, or a length no allocation can have.
    pub fn get(self) -> Option<&'a [u8]> {
        if self.len == 0 {
            return Some(&[]);
        }
        if self.data.is_null() || self.len > isize::MAX as usize {
            return None;
        }
        // SAFETY: made from a slice, or by C code that promises `len` readable bytes at `data` for the call.
        Some(unsafe { std::slice::from_raw_parts(self.data, self.len) })
    }
}

/// In `Bytes::len`: they are [`Piece`]s. Longer than any allocation, so that nobody reads them as bytes.
pub const PIECES: usize = 1 << (usize::BITS - 1);

impl<'a> Bytes<'a> {
    /// Pieces instead of bytes.
    pub fn pieces(pieces: &'a [Piece<'a>]) -> Bytes<'a> {
        Bytes { data: pieces.as_ptr().cast(), len: size_of_val(pieces) | PIECES, borrow: PhantomData }
    }

    /// The pieces, if that is what they are. `Some(None)`: NULL, not aligned, too many, or half a piece.
    #[allow(clippy::option_option, reason = "three cases, met in one place")]
    pub(in crate::engine) fn get_pieces(self) -> Option<Option<&'a [Piece<'a>]>> {
        if self.len & PIECES == 0 {
            return None;
        }
        let (len, size) = (self.len & !PIECES, size_of::<Piece<'_>>());
        let data = self.data.cast::<Piece<'a>>();
        let fits = len.is_multiple_of(size) && len / size <= crate::limits::PIECES;
        if len == 0 || data.is_null() || !data.is_aligned() || !fits {
            return Some((len == 0).then_some(&[]));
        }
        // SAFETY: only `Bytes::pieces` and C code, which promises as much, set the mark: `len` bytes of pieces.
        Some(Some(unsafe { std::slice::from_raw_parts(data, len / size) }))
    }

    /// No bytes, but a length: of what is elsewhere.
    pub(in crate::engine) fn absent(len: usize) -> Bytes<'a> {
        Bytes { data: std::ptr::null(), len, borrow: PhantomData }
    }

    /// The length of bytes that are elsewhere.
    pub(in crate::engine) fn len_if_absent(self) -> Option<usize> {
        self.data.is_null().then_some(self.len)
    }
}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(slice: &'a [u8]) -> Bytes<'a> {
        Bytes { data: slice.as_ptr(), len: slice.len(), borrow: PhantomData }
    }
}

impl Default for Bytes<'_> {
    fn default() -> Self {
        Bytes { data: std::ptr::null(), len: 0, borrow: PhantomData }
    }
}
