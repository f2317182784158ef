//! The memory of a context: [`Pool`] hands out buffers within a limit and registers the user's memory.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::account::Account;
use super::buffer::{Buffer, Mapping, PAGE, UserMemory};
use super::slab::{Home, Slab, Taken};
use crate::status::{Error, Result, Status};

/// [`Pool::alloc`]: a memory file of its own, which a peer on this host may map. Costs whole pages and a descriptor.
pub const EXPORTABLE: u32 = 1 << 0;

/// [`Pool::alloc`]: the bytes are whatever they were, and the buffer cannot be exported. For buffers that are
/// overwritten anyway.
pub const UNINITIALISED: u32 = 1 << 1;

/// What a pool holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The limit.
    pub limit: u64,
    /// Taken from the system and charged to the limit: never above it. Includes `retired`.
    pub used: u64,
    /// Of `used`: in buffers, rounded to size classes and pages. The rest is room for small buffers, or retired.
    pub in_use: u64,
    /// Of `used`: released by us, but a peer may still have it mapped.
    pub retired: u64,
    /// Of the slab's chunks: on reserved huge pages.
    pub huge: u64,
    /// Of the slab's chunks: where the kernel was asked for huge pages.
    pub advised: u64,
}

/// The memory of one context. Any thread. Buffers outlive it.
pub struct Pool {
    account: Arc<Account>,
    slab: Arc<Slab>,
    /// The user's ranges (address, length) that the next registration may share.
    registered: Mutex<HashMap<(usize, usize), Weak<Mapping>>>,
}

impl Pool {
    /// A pool that takes at most `limit` bytes from the system. The user's memory and peers' memory do not count.
    pub fn new(limit: u64) -> Pool {
        let account = Account::new(limit);
        Pool { slab: Slab::new(account.clone()), account, registered: Mutex::default() }
    }

    /// A buffer of `length` bytes: zero, unless [`UNINITIALISED`] is among `flags`. Aligned to 64 bytes, from 4 KiB on to
    /// pages.
    ///
    /// `InvalidArgument` for length 0, and for flags that are unknown or exclude each other; `OutOfMemory` past the limit.
    pub fn alloc(&self, length: u64, flags: u32) -> Result<Arc<Buffer>> {
        if length == 0 || ![0, EXPORTABLE, UNINITIALISED].contains(&flags) {
            let why = "a buffer needs a length above 0, and is at most one of exportable and uninitialised";
            return Err(Error::new(Status::InvalidArgument, why));
        }
        let pages = usize::try_from(length).ok().and_then(|l| l.checked_next_multiple_of(PAGE));
        let pages =
            pages.filter(|pages| *pages <= isize::MAX as usize).ok_or_else(|| self.too_large(length))?;
        let length = length as usize;
        if flags & EXPORTABLE != 0 {
            return self.alloc_mapped(length, pages, Mapping::memfd, true);
        }
        // Near the limit there may be room for a page, but for no chunk.
        match self.slab.take(length) {
            Some(Ok(taken)) => cut(taken, length, flags),
            _ => self.alloc_mapped(length, pages, Mapping::anonymous, flags & UNINITIALISED == 0),
        }
    }

    fn alloc_mapped(
        &self,
        length: usize,
        pages: usize,
        map: fn(usize) -> Result<Mapping>,
        initialised: bool,
    ) -> Result<Arc<Buffer>> {
        let charge = self.account.charge(pages).or_else(|_| {
            self.slab.trim();
            self.account.charge(pages)
        })?;
        let mapping = Arc::new(map(pages)?);
        Ok(Arc::new(Buffer::new(mapping, 0, length, Home::Charged(Arc::new(charge)), initialised)?))
    }

    fn too_large(&self, length: u64) -> Error {
        let message =
            format!("{length} bytes cannot be addressed; the memory limit is {}", self.account.limit());
        Error::new(Status::OutOfMemory, message)
    }

    /// A buffer over memory of the user's. It is never exported to be mapped. The same range registered again shares
    /// what transports keep for it; ranges may overlap.
    ///
    /// The memory must stay until [`Pool::release`] and the completion of every operation on it: that is the promise
    /// made with [`UserMemory::new`].
    pub fn register(&self, memory: UserMemory) -> Result<Arc<Buffer>> {
        let (address, length) = memory.range();
        let mut registered = self.registered.lock();
        let cached = registered.get(&(address, length)).and_then(Weak::upgrade);
        let mapping = cached.unwrap_or_else(|| {
            // Buffers that were dropped without a release leave their entries behind.
            if registered.len() == registered.capacity() {
                registered.retain(|_, mapping| mapping.strong_count() > 0);
            }
            let mapping = Arc::new(Mapping::user(memory));
            registered.insert((address, length), Arc::downgrade(&mapping));
            mapping
        });
        Ok(Arc::new(Buffer::new(mapping, 0, length, Home::Foreign, true)?))
    }

    /// Ends a buffer, of either origin: no new spans of it. Its memory goes back when the last span is gone. What was
    /// cached for the user's range is not used for later registrations, because other pages may be there by then.
    /// `WrongState` the second time.
    ///
    /// Revoke its exports too: see [`super::export::Exports::revoke_buffer`].
    pub fn release(&self, buffer: &Buffer) -> Result<()> {
        buffer.release()?;
        let key = (buffer.mapping().address() as usize, buffer.mapping().len());
        let mut registered = self.registered.lock();
        if registered
            .get(&key)
            .is_some_and(|cached| std::ptr::eq(cached.as_ptr(), Arc::as_ptr(buffer.mapping())))
        {
            registered.remove(&key);
        }
        Ok(())
    }

    /// What it holds now.
    pub fn statistics(&self) -> Statistics {
        let slab = self.slab.statistics();
        let (used, retired) = (self.account.charged(), self.account.retired());
        let mapped = used.saturating_sub(retired).saturating_sub(slab.mapped);
        Statistics {
            limit: self.account.limit(),
            used,
            in_use: mapped + slab.in_use,
            retired,
            huge: slab.huge,
            advised: slab.advised,
        }
    }
}

fn cut(taken: Taken, length: usize, flags: u32) -> Result<Arc<Buffer>> {
    let Taken { mapping, offset, clean, home } = taken;
    let initialised = flags & UNINITIALISED == 0;
    let buffer = Buffer::new(mapping, offset, length, home, initialised)?;
    if initialised && !clean {
        buffer.zero();
    }
    Ok(Arc::new(buffer))
}

#[cfg(test)]
mod tests;
