//! Memory for direct I/O: aligned, and from a pool that a ring can register once.
#![allow(unsafe_code, reason = "slots of one mapping are handed out as slices")]

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

/// What direct I/O aligns memory, offsets and lengths to, in bytes: every disk's sectors divide it.
pub const ALIGNMENT: usize = 4096;

/// A mapping cut into slots of one size. Memory is bounded by it: without a free slot there is no buffer.
#[derive(Clone)]
pub struct Pool(Rc<Slots>);

struct Slots {
    base: NonNull<u8>,
    slot: usize,
    count: usize,
    free: RefCell<Vec<u32>>,
}

impl Pool {
    /// `count` slots of `slot` bytes, which is rounded up to the alignment.
    pub fn new(count: usize, slot: usize) -> std::io::Result<Pool> {
        let slot = slot.max(1).next_multiple_of(ALIGNMENT);
        let bytes = count.max(1).checked_mul(slot).filter(|_| u32::try_from(count).is_ok());
        let bytes = bytes.ok_or(std::io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        // SAFETY: the mapping is ours; advice about its pages changes no content. Refusal costs only speed.
        let _ = unsafe { madvise(base, bytes, Advice::LinuxHugepage) };
        let base = NonNull::new(base.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let free = RefCell::new((0..count as u32).rev().collect());
        Ok(Pool(Rc::new(Slots { base, slot, count, free })))
    }

    /// A free slot, with whatever its last user left in it; None when all are taken.
    pub fn take(&self) -> Option<Buffer> {
        let slot = self.0.free.borrow_mut().pop()?;
        // SAFETY: `slot` is below `count`, so this stays in the mapping.
        let pointer = unsafe { self.0.base.add(slot as usize * self.0.slot) };
        Some(Buffer { pointer, len: self.0.slot, owner: Owner::Pool { slots: self.0.clone(), slot } })
    }

    /// Slots that are taken.
    pub fn used(&self) -> usize {
        self.0.count - self.0.free.borrow().len()
    }

    /// Slots that there are.
    pub fn capacity(&self) -> usize {
        self.0.count
    }

    /// The whole mapping: address and length.
    pub(super) fn memory(&self) -> (*mut u8, usize) {
        (self.0.base.as_ptr(), self.0.count * self.0.slot)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} of {} slots used)", self.used(), self.capacity())
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and every buffer of it held an Rc of this, so none is left.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.count.max(1) * self.slot) };
    }
}

/// Aligned memory that one owner reads and writes. An operation owns it while the kernel may.
pub struct Buffer {
    pointer: NonNull<u8>,
    len: usize,
    owner: Owner,
}

enum Owner {
    Pool { slots: Rc<Slots>, slot: u32 },
    Heap(Layout),
}

impl Buffer {
    /// Zeroed memory of its own, rounded up to the alignment; None when there is none left.
    pub fn heap(len: usize) -> Option<Buffer> {
        let len = len.max(1).checked_next_multiple_of(ALIGNMENT)?;
        let layout = Layout::from_size_align(len, ALIGNMENT).ok()?;
        // SAFETY: the layout's size is not zero.
        let pointer = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Buffer { pointer, len, owner: Owner::Heap(layout) })
    }

    /// Where it lies, if it is a slot of a pool: its distance from the pool's start, in bytes.
    pub(super) fn offset_in(&self, pool: &Pool) -> Option<usize> {
        match &self.owner {
            Owner::Pool { slots, slot } if Rc::ptr_eq(slots, &pool.0) => Some(*slot as usize * slots.slot),
            _ => None,
        }
    }

    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.pointer.as_ptr()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped and initialised (zeroed at first), and only this owner can reach them.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match &self.owner {
            Owner::Pool { slots, slot } => slots.free.borrow_mut().push(*slot),
            // SAFETY: the pointer came from this layout and is not used again.
            Owner::Heap(layout) => unsafe { dealloc(self.pointer.as_ptr(), *layout) },
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_distinct_bounded_and_come_back() {
        let pool = Pool::new(3, 5000).unwrap();
        let mut taken: Vec<Buffer> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!((taken.len(), pool.used(), taken[0].len()), (3, 3, 8192));
        for (i, buffer) in taken.iter_mut().enumerate() {
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
            buffer.fill(i as u8);
        }
        assert!((0..3).all(|i| taken[i].iter().all(|byte| *byte == i as u8)));
        taken.pop();
        assert_eq!(pool.used(), 2);
        assert!(pool.take().is_some());
        assert_eq!(pool.used(), 2);
    }

    #[test]
    fn heap_buffers_are_aligned_and_zeroed() {
        let buffer = Buffer::heap(1).unwrap();
        assert_eq!((buffer.len(), buffer.as_ptr() as usize % ALIGNMENT), (ALIGNMENT, 0));
        assert!(buffer.iter().all(|byte| *byte == 0));
        assert!(Buffer::heap(usize::MAX).is_none());
    }
}
