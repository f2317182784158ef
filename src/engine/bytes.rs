//! Borrowed bytes in a layout that C shares.
#![allow(
    unsafe_code,
    reason = "gives a pointer and a length from C the lifetime of the call that brought them"
)]

use std::marker::PhantomData;

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
