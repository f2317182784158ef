//! Memory: [`Mapping`] (owned or borrowed pages), [`Buffer`] (a piece handed out) and [`Span`] (a counted reference to
//! some of its bytes).
//!
//! A mapping lives until the last span of it is gone, whatever was released meanwhile. Peers, devices and the user's
//! threads may change these bytes at any time, so no `&[u8]` over them is ever made: bytes are copied in and out with
//! raw copies, words are read and written atomically. Who writes what when is the user's business; the outcome of a
//! race is some mix of the bytes, never a wild access.
#![allow(unsafe_code, reason = "copies to and from it by address")]

mod file;
mod mapping;

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use self::mapping::Address;
pub use self::mapping::{HUGE_PAGE, Mapping, PAGE, Pages, UserMemory};
use super::account::Charge;
use super::slab::Home;
use crate::crc32c::Sum;
use crate::status::Status;

/// Bytes that are copied at a time to be counted: they fit into the first cache.
const COUNTED: usize = 16 << 10;

/// Outcome of an access: the status says why not.
pub type Access<T> = std::result::Result<T, Status>;

/// A piece of memory that was handed out: by the pool, by registration or by an import.
///
/// Its bytes go back when the last `Arc` and the last [`Span`] are gone; releasing a buffer in use is deferred by that.
pub struct Buffer {
    // Dropped in this order: the memory is unmapped before its charge is taken back.
    mapping: Arc<Mapping>,
    home: Home,
    address: Address,
    length: usize,
    initialised: bool,
    released: AtomicBool,
    /// How peers may map it, from the first grant on: writable, or read-only.
    peers_write: OnceLock<bool>,
    /// Its handle, and that of its context.
    handle: OnceLock<(u64, u64)>,
}

impl Buffer {
    /// `length` bytes of a mapping from `offset` on; `home` takes them back. `initialised` says that nobody else's old
    /// bytes are in it. `OutOfRange` when the mapping is shorter.
    pub fn new(
        mapping: Arc<Mapping>,
        offset: usize,
        length: usize,
        home: Home,
        initialised: bool,
    ) -> Access<Buffer> {
        match offset.checked_add(length) {
            Some(end) if end <= mapping.len() => {}
            _ => return Err(Status::OutOfRange),
        }
        // SAFETY: `offset` is within the mapping.
        let address = Address(unsafe { mapping.address.0.add(offset) });
        let (released, peers_write) = (AtomicBool::new(false), OnceLock::new());
        let handle = OnceLock::new();
        Ok(Buffer { mapping, home, address, length, initialised, released, peers_write, handle })
    }

    /// The first byte. Valid while the buffer lives.
    pub fn address(&self) -> *mut u8 {
        self.address.0.as_ptr()
    }

    /// Length in bytes, as it was asked for, never 0.
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Its handle; 0 when it has none.
    pub fn id(&self) -> u64 {
        self.handle.get().map_or(0, |handle| handle.0)
    }

    /// The handle of the context that gave it its own; 0 when it has none.
    pub fn context(&self) -> u64 {
        self.handle.get().map_or(0, |handle| handle.1)
    }

    /// Gives it its handle, once.
    pub(super) fn set_id(&self, id: u64, context: u64) {
        let _ = self.handle.set((id, context));
    }

    /// The pages it lies in.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Where it begins in its mapping, in bytes.
    pub fn mapping_offset(&self) -> usize {
        self.address() as usize - self.mapping.address() as usize
    }

    /// What its memory costs, if it is on the account by itself.
    pub(super) fn charge(&self) -> Option<&Arc<Charge>> {
        match &self.home {
            Home::Charged(charge) => Some(charge),
            _ => None,
        }
    }

    /// Whether peers that map it may write, once that is decided.
    pub(super) fn peers_write(&self) -> &OnceLock<bool> {
        &self.peers_write
    }

    /// Whether a peer may map it, because it has a memory file of its own.
    pub fn is_exportable(&self) -> bool {
        self.mapping.file().is_some()
    }

    /// Whether nobody else's old bytes can be in it. Only such a buffer is exported.
    pub fn is_initialised(&self) -> bool {
        self.initialised
    }

    /// Ends the buffer: no new spans and exports; those that exist go on. `WrongState` the second time.
    pub fn release(&self) -> Access<()> {
        if self.released.swap(true, Ordering::SeqCst) { Err(Status::WrongState) } else { Ok(()) }
    }

    /// Whether [`Buffer::release`] was called.
    pub fn is_released(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }

    /// Writes zeros over all of it.
    pub(super) fn zero(&self) {
        if self.mapping.is_writable() {
            // SAFETY: the whole of this buffer, which is mapped and writable.
            unsafe { self.address().write_bytes(0, self.length) };
        }
    }

    /// `length` bytes from `offset` on; may be 0 up to the end. `WrongState` after release, `OutOfRange` past the end.
    pub fn span(self: &Arc<Self>, offset: u64, length: u64) -> Access<Span> {
        if self.is_released() {
            return Err(Status::WrongState);
        }
        Span { buffer: self.clone(), address: self.address, length: self.length }.slice(offset, length)
    }

    /// All of it. `WrongState` after release.
    pub fn whole(self: &Arc<Self>) -> Access<Span> {
        self.span(0, self.length as u64)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("address", &self.address()).field("length", &self.length).finish()
    }
}

/// A counted reference to bytes of a [`Buffer`]. Cheap to clone and slice; any thread.
///
/// Offsets and lengths are in bytes, relative to the span. A length of 0 is fine anywhere up to the end and touches
/// nothing. Errors: `OutOfRange` past the end, `PermissionDenied` for writing memory imported read-only,
/// `InvalidArgument` for a word that is not aligned to 8 bytes. After an error nothing was touched.
#[derive(Clone)]
pub struct Span {
    buffer: Arc<Buffer>,
    address: Address,
    length: usize,
}

impl Span {
    /// The first byte. Valid while a span of it lives.
    pub fn address(&self) -> *mut u8 {
        self.address.0.as_ptr()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The buffer it is of.
    pub fn buffer(&self) -> &Arc<Buffer> {
        &self.buffer
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        self.buffer.mapping.is_writable()
    }

    /// A part of it.
    pub fn slice(&self, offset: u64, length: u64) -> Access<Span> {
        self.clone().narrow(offset, length)
    }

    /// A part of it, in its place.
    pub fn narrow(mut self, offset: u64, length: u64) -> Access<Span> {
        self.address = Address(self.at(offset, length)?);
        self.length = length as usize;
        Ok(self)
    }

    /// Writes `source` from `offset` on.
    pub fn copy_from_slice(&self, offset: u64, source: &[u8]) -> Access<()> {
        let target = self.at_writable(offset, source.len() as u64)?;
        if let Ok(word) = source.try_into()
            && let Ok(place) = self.word(target)
        {
            place.store(u64::from_ne_bytes(word), Ordering::Release);
            return Ok(());
        }
        // SAFETY: `at` checked the range.
        unsafe { std::ptr::copy(source.as_ptr(), target.as_ptr(), source.len()) };
        Ok(())
    }

    /// Reads into `target` from `offset` on.
    pub fn copy_to_slice(&self, offset: u64, target: &mut [u8]) -> Access<()> {
        let source = self.at(offset, target.len() as u64)?;
        if target.len() == 8
            && let Ok(place) = self.word(source)
        {
            target.copy_from_slice(&read(place).to_ne_bytes());
            return Ok(());
        }
        // SAFETY: `at` checked the range.
        unsafe { std::ptr::copy(source.as_ptr(), target.as_mut_ptr(), target.len()) };
        Ok(())
    }

    /// Adds a part of it to a checksum: by copies, because no slice of what others may change can be made.
    pub fn count(&self, at: usize, length: usize, sum: &mut Sum) -> Access<()> {
        let mut copy = [0; COUNTED];
        for done in (0..length).step_by(COUNTED) {
            let copy = &mut copy[..COUNTED.min(length - done)];
            self.copy_to_slice((at + done) as u64, copy)?;
            sum.add(copy);
        }
        Ok(())
    }

    /// Copies between two spans, which may overlap: the bytes arrive as they were before. Eight aligned bytes are
    /// copied in one piece.
    pub fn copy_from(&self, offset: u64, source: &Span, source_offset: u64, length: u64) -> Access<()> {
        let from = source.at(source_offset, length)?;
        let to = self.at_writable(offset, length)?;
        if length == 8
            && let (Ok(from), Ok(to)) = (source.word(from), self.word(to))
        {
            to.store(read(from), Ordering::Release);
            return Ok(());
        }
        // SAFETY: `at` checked both ranges.
        unsafe { std::ptr::copy(from.as_ptr(), to.as_ptr(), length as usize) };
        Ok(())
    }

    /// Reads a word.
    pub fn load(&self, offset: u64) -> Access<u64> {
        Ok(read(self.word(self.at(offset, 8)?)?))
    }

    /// Writes a word.
    pub fn store(&self, offset: u64, value: u64) -> Access<()> {
        self.word(self.at_writable(offset, 8)?)?.store(value, Ordering::SeqCst);
        Ok(())
    }

    /// Adds to a word, wrapping around. The value before.
    pub fn fetch_add(&self, offset: u64, operand: u64) -> Access<u64> {
        Ok(self.word(self.at_writable(offset, 8)?)?.fetch_add(operand, Ordering::SeqCst))
    }

    /// Replaces a word if it is `expected`. The value before, in both cases.
    pub fn compare_swap(&self, offset: u64, expected: u64, new: u64) -> Access<u64> {
        let word = self.word(self.at_writable(offset, 8)?)?;
        let (Ok(before) | Err(before)) =
            word.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
        Ok(before)
    }

    #[inline]
    fn at(&self, offset: u64, length: u64) -> Access<NonNull<u8>> {
        match offset.checked_add(length) {
            // SAFETY: `offset` is within the span, and the span within its mapping.
            Some(end) if end <= self.length as u64 => Ok(unsafe { self.address.0.add(offset as usize) }),
            _ => Err(Status::OutOfRange),
        }
    }

    #[inline]
    fn at_writable(&self, offset: u64, length: u64) -> Access<NonNull<u8>> {
        if self.is_writable() { self.at(offset, length) } else { Err(Status::PermissionDenied) }
    }

    fn word(&self, address: NonNull<u8>) -> Access<&AtomicU64> {
        let address = address.as_ptr().cast::<u64>();
        if !address.is_aligned() {
            return Err(Status::InvalidArgument);
        }
        // SAFETY: eight mapped bytes, checked and aligned, that live as long as `self`.
        Ok(unsafe { AtomicU64::from_ptr(address) })
    }
}

// SAFETY: the span counts its buffer, whose mapping stays in place until the last span is gone.
unsafe impl crate::ucx::Pinned for Span {
    fn address(&self) -> *mut u8 {
        Span::address(self)
    }

    fn len(&self) -> usize {
        Span::len(self)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span").field("address", &self.address()).field("length", &self.length).finish()
    }
}

/// An acquiring load that is sound in read-only memory.
#[inline]
fn read(word: &AtomicU64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

#[cfg(test)]
mod tests;
