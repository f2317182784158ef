//! [`Mapping`]: pages in our address space, owned, imported or the user's.
#![allow(unsafe_code, reason = "maps and unmaps memory")]

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::engine::memfd::{self, failed};
use crate::status::{Error, Result, Status};

/// Size of a huge page, in bytes.
pub const HUGE_PAGE: usize = 2 << 20;

/// Granularity of mappings, in bytes. Larger pages of other machines are multiples of it.
pub const PAGE: usize = if cfg!(target_arch = "aarch64") { 64 << 10 } else { 4 << 10 };

/// An address that may be used from any thread.
#[derive(Clone, Copy)]
pub(super) struct Address(pub(super) NonNull<u8>);

// SAFETY: a number; what is done with it is decided where it is dereferenced.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

/// Memory of the user's, and the promise that it stays.
pub struct UserMemory {
    address: Address,
    length: usize,
}

impl UserMemory {
    /// `length` bytes from `address` on. `InvalidArgument` for NULL, length 0, or past the end of the address space.
    ///
    /// # Safety
    /// They are readable and writable until every buffer made of this is released and every operation on it has
    /// completed.
    pub unsafe fn new(address: *mut u8, length: u64) -> Result<UserMemory> {
        let end = (address as u64).checked_add(length);
        match NonNull::new(address) {
            Some(address) if length > 0 && end.is_some_and(|end| end <= isize::MAX as u64) => {
                Ok(UserMemory { address: Address(address), length: length as usize })
            }
            _ => Err(Error::new(
                Status::InvalidArgument,
                "registering memory needs an address and a length above 0",
            )),
        }
    }

    /// Address and length.
    pub fn range(&self) -> (usize, usize) {
        (self.address.0.as_ptr() as usize, self.length)
    }
}

/// What pages a mapping got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Ordinary ones.
    Ordinary,
    /// Ordinary ones that the kernel was asked to merge into huge ones.
    Advised,
    /// Reserved huge pages.
    Huge,
}

enum Backing {
    Anonymous(Pages),
    /// A memory file of ours; a peer may map it too.
    Memfd(OwnedFd),
    /// A peer's memory file.
    Imported,
    /// The user's; it is not ours to unmap.
    User,
    /// Instead of anonymous memory, which Miri cannot align.
    #[cfg(miri)]
    Heap(std::alloc::Layout),
}

/// Pages in our address space. Unmapped when dropped, unless they are the user's.
pub struct Mapping {
    pub(super) address: Address,
    length: usize,
    writable: bool,
    backing: Backing,
    /// What a transport keeps for this memory, dropped before the memory is unmapped.
    attachment: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

impl Mapping {
    fn new(address: NonNull<u8>, length: usize, writable: bool, backing: Backing) -> Mapping {
        Mapping { address: Address(address), length, writable, backing, attachment: Mutex::new(None) }
    }

    /// Private zeroed memory of ours. From [`HUGE_PAGE`] on it is aligned to that and on huge pages if the machine has
    /// any. `OutOfMemory` when the system has not that much.
    pub fn anonymous(length: usize) -> Result<Mapping> {
        anonymous::map(length)
    }

    /// Zeroed memory of ours in a memory file of its own, which may be exported to be mapped by a peer.
    pub fn memfd(length: usize) -> Result<Mapping> {
        let fd = memfd::create(length)?;
        let address = map_shared(fd.as_fd(), 0, length, true)?;
        if length >= HUGE_PAGE {
            advise_huge(address, length);
        }
        Ok(Mapping::new(address, length, true, Backing::Memfd(fd)))
    }

    /// Memory of a peer on this host, from its descriptor, which is checked first and not kept.
    ///
    /// `offset` is a multiple of [`PAGE`]. `Protocol` when the peer could make access unsafe.
    pub fn import(fd: BorrowedFd<'_>, offset: u64, length: usize, writable: bool) -> Result<Mapping> {
        let too_long = || Error::new(Status::OutOfRange, "the peer's memory ends past what can be addressed");
        memfd::check_foreign(fd, offset.checked_add(length as u64).ok_or_else(too_long)?)?;
        let address = map_shared(fd, offset, length, writable)?;
        Ok(Mapping::new(address, length, writable, Backing::Imported))
    }

    /// The user's memory.
    pub fn user(memory: UserMemory) -> Mapping {
        Mapping::new(memory.address.0, memory.length, true, Backing::User)
    }

    /// The first byte.
    pub fn address(&self) -> *mut u8 {
        self.address.0.as_ptr()
    }

    /// Length in bytes, never 0.
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// What pages it has.
    pub fn pages(&self) -> Pages {
        match self.backing {
            Backing::Anonymous(pages) => pages,
            _ => Pages::Ordinary,
        }
    }

    /// The memory file, if it has one that may be given to a peer.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::Memfd(fd) => Some(fd.as_fd()),
            _ => None,
        }
    }

    /// What a transport keeps for this memory (its registration), made at the first call. It is shared by all buffers
    /// of the mapping and dropped before the memory is unmapped; it must not own a span of it.
    ///
    /// `Internal` when something of another type is attached.
    pub fn attachment<A: Any + Send + Sync>(
        &self,
        make: impl FnOnce(*mut u8, usize) -> Result<A>,
    ) -> Result<Arc<A>> {
        let mut attachment = self.attachment.lock();
        let any = match &*attachment {
            Some(any) => any.clone(),
            None => {
                let made: Arc<dyn Any + Send + Sync> = Arc::new(make(self.address(), self.length)?);
                attachment.insert(made).clone()
            }
        };
        any.downcast().map_err(|_| Error::new(Status::Internal, "memory is registered by another transport"))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        drop(self.attachment.get_mut().take());
        match &self.backing {
            Backing::User => {}
            #[cfg(miri)]
            // SAFETY: allocated with this layout, and no span is left.
            Backing::Heap(layout) => unsafe { std::alloc::dealloc(self.address(), *layout) },
            // SAFETY: our own mapping of this length, and no span is left. An error leaves it mapped.
            _ => drop(unsafe { rustix::mm::munmap(self.address().cast(), self.length) }),
        }
    }
}

fn map_shared(fd: BorrowedFd<'_>, offset: u64, length: usize, writable: bool) -> Result<NonNull<u8>> {
    let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
    let null = std::ptr::null_mut();
    // SAFETY: the kernel picks a free range.
    let address = unsafe { rustix::mm::mmap(null, length, protection, MapFlags::SHARED, fd, offset) };
    non_null(address.map_err(failed("mapping a memory file"))?)
}

fn non_null(address: *mut std::ffi::c_void) -> Result<NonNull<u8>> {
    NonNull::new(address.cast()).ok_or_else(|| Error::new(Status::Internal, "memory was mapped at address 0"))
}

fn advise_huge(address: NonNull<u8>, length: usize) -> bool {
    // SAFETY: a fresh mapping of this length; the advice changes no contents.
    unsafe { rustix::mm::madvise(address.as_ptr().cast(), length, Advice::LinuxHugepage) }.is_ok()
}

#[cfg(not(miri))]
mod anonymous {
    use super::*;

    pub fn map(length: usize) -> Result<Mapping> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let null = std::ptr::null_mut();
        if length.is_multiple_of(HUGE_PAGE) {
            let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
            // SAFETY: the kernel picks a free range.
            if let Ok(address) = unsafe { rustix::mm::mmap_anonymous(null, length, protection, flags) } {
                return Ok(Mapping::new(non_null(address)?, length, true, Backing::Anonymous(Pages::Huge)));
            }
        }
        let slack = if length >= HUGE_PAGE { HUGE_PAGE } else { 0 };
        let wanted = length.checked_add(slack).ok_or(Status::OutOfMemory)?;
        // SAFETY: the kernel picks a free range.
        let address = unsafe { rustix::mm::mmap_anonymous(null, wanted, protection, MapFlags::PRIVATE) };
        let start = non_null(address.map_err(failed("mapping memory"))?)?;
        if slack == 0 {
            return Ok(Mapping::new(start, length, true, Backing::Anonymous(Pages::Ordinary)));
        }
        let address = trim(start, length, slack);
        let pages = if advise_huge(address, length) { Pages::Advised } else { Pages::Ordinary };
        Ok(Mapping::new(address, length, true, Backing::Anonymous(pages)))
    }

    /// Unmaps what lies before and behind the first aligned `length` bytes.
    fn trim(start: NonNull<u8>, length: usize, slack: usize) -> NonNull<u8> {
        let before = start.align_offset(HUGE_PAGE).min(slack);
        let behind = slack - before;
        // SAFETY: `before` is at most `slack`, within the mapping.
        let address = unsafe { start.add(before) };
        if before > 0 {
            // SAFETY: the front of a fresh mapping, used by nobody.
            let _ = unsafe { rustix::mm::munmap(start.as_ptr().cast(), before) };
        }
        if behind > 0 {
            // SAFETY: `before + length` is within the mapping.
            let end = unsafe { address.add(length) };
            // SAFETY: the back of a fresh mapping, used by nobody.
            let _ = unsafe { rustix::mm::munmap(end.as_ptr().cast(), behind) };
        }
        address
    }
}

#[cfg(miri)]
mod anonymous {
    use super::*;

    pub fn map(length: usize) -> Result<Mapping> {
        let layout = std::alloc::Layout::from_size_align(length, PAGE).map_err(|_| Status::OutOfMemory)?;
        // SAFETY: the length is not 0.
        let address = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or(Status::OutOfMemory)?;
        Ok(Mapping::new(address, length, true, Backing::Heap(layout)))
    }
}
