//! Checks of what a C caller hands in, and writes of what it gets back.
#![allow(unsafe_code, reason = "reads and writes memory that the caller vouches for")]

use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::types::rde_bytes;
use crate::status::{Error, Result, Status};

/// Longest path, collection or file id, in bytes; the kernel's bound of a path.
pub(super) const PATH: usize = 4096;

/// Above this, a `struct_size` is not the size of any structure of ours but garbage.
const STRUCT_SIZE: usize = 64 << 10;

/// A structure that starts with its size as a u32, and of which every bit pattern is valid.
///
/// # Safety
/// `repr(C)`, first field `struct_size: u32`, only integers, arrays of integers and raw pointers, no padding.
pub(super) unsafe trait Versioned: Copy {
    /// Bytes of its first published version; a smaller `struct_size` was never valid.
    const FIRST: usize;
}

/// An `INVALID_ARGUMENT` with what is wrong.
pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Status::InvalidArgument, message)
}

/// An output that must not be NULL.
pub(super) fn output<T>(pointer: *mut T, name: &str) -> Result<Output<T>> {
    if pointer.is_null() { Err(invalid(format!("{name} is NULL"))) } else { Ok(Output(pointer)) }
}

/// A place of the caller to write one value to.
pub(super) struct Output<T>(*mut T);

impl<T> Output<T> {
    /// Writes it; once, after everything that can fail.
    pub(super) fn set(self, value: T) {
        // SAFETY: `output` checked for NULL, and the caller promises that the place can be written during the call.
        unsafe { self.0.write_unaligned(value) };
    }
}

/// Reads a structure of the caller over `defaults`: as much as it has, checking that what is past our knowledge is zero.
///
/// # Safety
/// `pointer` is NULL (the defaults are taken) or points to as many readable bytes as its `struct_size` says.
pub(super) unsafe fn read_struct<T: Versioned>(pointer: *const T, defaults: T, name: &str) -> Result<T> {
    if pointer.is_null() {
        return Ok(defaults);
    }
    // SAFETY: forwarded from the caller.
    let size = unsafe { struct_size::<T>(pointer, name) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's structure is `size` bytes long.
    let bytes = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), size) };
    if bytes[known..].iter().any(|byte| *byte != 0) {
        return Err(invalid(format!("{name} uses fields that this version of the library does not know")));
    }
    let mut ours = defaults;
    // SAFETY: `known` bytes are within both structures, and every bit pattern of T is valid.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut ours).cast::<u8>(), known) };
    Ok(ours)
}

/// A structure of the caller to write to, its size checked.
///
/// # Safety
/// `pointer` is NULL (refused) or points to as many bytes as its `struct_size` says, readable and, while the result
/// lives, writable.
pub(super) unsafe fn output_struct<T: Versioned>(pointer: *mut T, name: &str) -> Result<OutputStruct<T>> {
    output(pointer, name)?;
    // SAFETY: forwarded from the caller.
    let size = unsafe { struct_size::<T>(pointer, name) }?;
    Ok(OutputStruct { pointer, size })
}

/// What [`output_struct`] found.
pub(super) struct OutputStruct<T> {
    pointer: *mut T,
    size: usize,
}

impl<T: Versioned> OutputStruct<T> {
    /// Writes `value`: as much as there is room for, zero past what we know. The caller's `struct_size` stays.
    pub(super) fn set(self, value: T) {
        let known = self.size.min(size_of::<T>());
        let (from, to) = ((&raw const value).cast::<u8>(), self.pointer.cast::<u8>());
        // SAFETY: both are at least `known` bytes long and do not overlap; the first four keep the caller's size.
        unsafe { std::ptr::copy_nonoverlapping(from.wrapping_add(4), to.wrapping_add(4), known - 4) };
        // SAFETY: the caller's structure is `size` bytes long.
        unsafe { std::ptr::write_bytes(to.wrapping_add(known), 0, self.size - known) };
    }
}

unsafe fn struct_size<T: Versioned>(pointer: *const T, name: &str) -> Result<usize> {
    // SAFETY: not NULL, and every such structure starts with a u32.
    let size = unsafe { pointer.cast::<u32>().read_unaligned() } as usize;
    match size {
        0 => Err(invalid(format!("{name}: struct_size is 0; start from its RDE_..._INIT"))),
        _ if size < T::FIRST || size > STRUCT_SIZE => Err(Error::new(
            Status::AbiMismatch,
            format!("{name}: struct_size {size} is of no version; this one has {}", size_of::<T>()),
        )),
        _ => Ok(size),
    }
}

/// Borrowed bytes of the caller.
///
/// # Safety
/// `bytes.data` is NULL, or readable for `bytes.len` bytes and unchanged while the result lives.
pub(super) unsafe fn bytes<'a>(bytes: rde_bytes, limit: usize, name: &str) -> Result<&'a [u8]> {
    if bytes.len == 0 {
        return Ok(&[]);
    }
    if bytes.data.is_null() {
        return Err(invalid(format!("{name} is NULL with a length of {}", bytes.len)));
    }
    // No allocation is longer than isize::MAX.
    let limit = limit.min(isize::MAX as usize);
    if bytes.len > limit {
        return Err(invalid(format!("{name} is {} bytes long, over the limit of {limit}", bytes.len)));
    }
    // SAFETY: not NULL, and the caller vouches for `len` bytes.
    Ok(unsafe { std::slice::from_raw_parts(bytes.data.cast::<u8>(), bytes.len) })
}

/// Borrowed text of the caller.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn text<'a>(text: rde_bytes, limit: usize, name: &str) -> Result<&'a str> {
    // SAFETY: forwarded from the caller.
    let bytes = unsafe { self::bytes(text, limit, name) }?;
    std::str::from_utf8(bytes).map_err(|_| invalid(format!("{name} is not UTF-8")))
}

/// A path of the caller: any bytes but NUL.
///
/// # Safety
/// As for [`bytes`].
pub(super) unsafe fn path(given: rde_bytes, name: &str) -> Result<PathBuf> {
    // SAFETY: forwarded from the caller.
    let bytes = unsafe { bytes(given, PATH, name) }?;
    if bytes.contains(&0) {
        return Err(invalid(format!("{name} has a NUL in it")));
    }
    Ok(Path::new(OsStr::from_bytes(bytes)).to_path_buf())
}

/// Checks an array of the caller before it becomes a slice: not NULL, aligned, not longer than `limit`.
pub(super) fn array<T>(pointer: *const T, count: usize, limit: usize, name: &str) -> Result<()> {
    if pointer.is_null() && count > 0 {
        return Err(invalid(format!("{name} is NULL with a count of {count}")));
    }
    if !pointer.is_aligned() {
        return Err(invalid(format!("{name} is not aligned to {} bytes", align_of::<T>())));
    }
    if count > limit {
        return Err(invalid(format!("{name}: {count} in one call, over the limit of {limit}")));
    }
    Ok(())
}

/// A buffer of the caller for text.
///
/// # Safety
/// `to` is NULL with a capacity of 0, or writable for `capacity` bytes; `out_len` is NULL (refused) or writable; both
/// while the result lives.
pub(super) unsafe fn output_text(
    to: *mut c_char,
    capacity: usize,
    out_len: *mut usize,
) -> Result<OutputText> {
    let length = output(out_len, "out_len")?;
    if to.is_null() && capacity > 0 {
        return Err(invalid("out_text is NULL with a capacity"));
    }
    Ok(OutputText { to: to.cast(), capacity, length })
}

/// What [`output_text`] found.
pub(super) struct OutputText {
    to: *mut u8,
    capacity: usize,
    length: Output<usize>,
}

impl OutputText {
    /// Copies `text` and a NUL, and tells its length without the NUL. When it does not fit (`TRUNCATED`) only the length
    /// is written.
    pub(super) fn set(self, text: &str) -> Result<()> {
        self.length.set(text.len());
        if text.len() >= self.capacity {
            let needed = text.len() + 1;
            return Err(Error::new(Status::Truncated, format!("{needed} bytes are needed")));
        }
        // SAFETY: text.len() + 1 bytes fit in `capacity`.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), self.to, text.len()) };
        // SAFETY: as above.
        unsafe { self.to.wrapping_add(text.len()).write(0) };
        Ok(())
    }
}

/// `text` in a NUL-terminated array, cut between characters where it does not fit.
pub(super) fn char_array<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    let text = &text[..text.floor_char_boundary(N - 1)];
    for (to, from) in array.iter_mut().zip(text.bytes()) {
        *to = from as c_char;
    }
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Old {
        struct_size: u32,
        a: u32,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Ours {
        struct_size: u32,
        a: u32,
        b: u64,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Newer {
        ours: Ours,
        c: u64,
    }

    // SAFETY: integers only, in C layout without padding, size first.
    unsafe impl Versioned for Ours {
        const FIRST: usize = size_of::<Old>();
    }

    fn read(pointer: *const Ours) -> Result<Ours> {
        // SAFETY: the tests hand in structures of the size that they say, or one whose size is refused.
        unsafe { read_struct(pointer, Ours { struct_size: 16, a: 10, b: 20 }, "options") }
    }

    #[test]
    fn structures_of_other_versions_are_read_as_far_as_both_know_them() {
        assert_eq!(read(std::ptr::null()).unwrap(), Ours { struct_size: 16, a: 10, b: 20 });
        let old = Old { struct_size: 8, a: 1 };
        assert_eq!(read((&raw const old).cast()).unwrap(), Ours { struct_size: 8, a: 1, b: 20 });
        let mut newer = Newer { ours: Ours { struct_size: 24, a: 1, b: 2 }, c: 0 };
        assert_eq!(read((&raw const newer).cast()).unwrap(), Ours { struct_size: 24, a: 1, b: 2 });
        newer.c = 1 << 63;
        assert_eq!(read((&raw const newer).cast()).unwrap_err().status, Status::InvalidArgument);
    }

    #[test]
    fn sizes_of_no_version_are_refused() {
        for (size, status) in [
            (0, Status::InvalidArgument),
            (1, Status::AbiMismatch),
            (7, Status::AbiMismatch),
            (STRUCT_SIZE as u32 + 1, Status::AbiMismatch),
            (u32::MAX, Status::AbiMismatch),
        ] {
            let mut wrong = Ours { struct_size: size, a: 1, b: 2 };
            assert_eq!(read(&wrong).unwrap_err().status, status, "{size}");
            let before = wrong;
            // SAFETY: the size is refused before anything is written.
            let written = unsafe { output_struct(&mut wrong, "info") }.map(|out| out.set(before));
            assert_eq!((written.unwrap_err().status, wrong), (status, before), "{size}");
        }
    }

    #[test]
    fn structures_are_written_as_far_as_the_caller_has_room() {
        let value = Ours { struct_size: 16, a: 5, b: 6 };
        let mut newer = Newer { ours: Ours { struct_size: 8, a: 1, b: 2 }, c: 3 };
        // SAFETY: 8 bytes are there.
        unsafe { output_struct((&raw mut newer).cast::<Ours>(), "info") }.unwrap().set(value);
        assert_eq!(newer, Newer { ours: Ours { struct_size: 8, a: 5, b: 2 }, c: 3 });
        newer.ours.struct_size = 24;
        // SAFETY: 24 bytes are there.
        unsafe { output_struct((&raw mut newer).cast::<Ours>(), "info") }.unwrap().set(value);
        assert_eq!(newer, Newer { ours: Ours { struct_size: 24, a: 5, b: 6 }, c: 0 });
    }

    #[test]
    fn text_is_copied_whole_or_not_at_all() {
        let mut length = 0;
        let mut buffer = [0x7f as c_char; 6];
        // SAFETY: the capacities are those of the buffer.
        let mut write = |to, capacity| unsafe { output_text(to, capacity, &mut length) }?.set("hello");
        assert_eq!(write(std::ptr::null_mut(), 0).unwrap_err().status, Status::Truncated);
        assert_eq!(write(std::ptr::null_mut(), 6).unwrap_err().status, Status::InvalidArgument);
        assert_eq!(write(buffer.as_mut_ptr(), 5).unwrap_err().status, Status::Truncated);
        assert!(write(buffer.as_mut_ptr(), 6).is_ok());
        assert_eq!((length, buffer.map(|c| c as u8)), (5, *b"hello\0"));
        assert_eq!(char_array::<4>("éé").map(|c| c as u8), [0xc3, 0xa9, 0, 0]);
    }

    #[test]
    fn bytes_and_arrays_are_checked_before_they_are_touched() {
        let nothing = rde_bytes { data: std::ptr::null(), len: 0 };
        let dangling = rde_bytes { data: std::ptr::without_provenance(8), len: usize::MAX };
        let missing = rde_bytes { data: std::ptr::null(), len: 1 };
        let latin = rde_bytes { data: b"\xe9".as_ptr().cast(), len: 1 };
        // SAFETY: what is not readable is refused by its length or by NULL.
        let check = |bytes| unsafe { text(bytes, 16, "address") }.map_err(|error| error.status);
        assert_eq!(check(nothing), Ok(""));
        for bad in [dangling, missing, latin] {
            assert_eq!(check(bad), Err(Status::InvalidArgument));
        }
        // SAFETY: refused by its length.
        let endless = unsafe { super::bytes(dangling, usize::MAX, "data") };
        assert_eq!(endless.unwrap_err().status, Status::InvalidArgument);
        assert!(array(std::ptr::null::<u64>(), 0, 1, "requests").is_ok());
        assert!(array(std::ptr::null::<u64>(), 1, 1, "requests").is_err());
        assert!(array(std::ptr::without_provenance::<u64>(12), 1, 1, "requests").is_err());
        assert!(array(std::ptr::without_provenance::<u64>(16), 2, 1, "requests").is_err());
    }
}
