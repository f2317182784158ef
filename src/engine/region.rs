//! Regions: a peer's memory that we may touch, by one of three ways.

use std::any::Any;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::buffer::{Access, Buffer, Mapping, PAGE, Span};
use super::export::Grant;
use super::handle::index;
use super::key::{Key, Rights, Secret};
use super::slab::Home;
use crate::status::{Error, Result, Status};

/// A peer's memory in our address space, and the word that says whether we still may touch it.
pub struct MappedRegion {
    memory: Span,
    word: Span,
    export: u64,
}

impl MappedRegion {
    /// Maps what a peer granted for `key`. Nothing of the peer's is trusted but what the kernel enforces: `Protocol` when
    /// the grant disagrees with the key, or access could end in SIGBUS.
    pub fn import(key: &Key, grant: &Grant) -> Result<MappedRegion> {
        if grant.length != key.length || grant.rights != key.rights {
            return Err(Error::new(
                Status::Protocol,
                "the peer granted another range or other rights than its key says",
            ));
        }
        let writable = key.rights.allows(Rights::WRITE);
        let memory = map(&grant.memory, 0, grant.length, writable)?;
        let place = 8 * u64::from(index(key.export));
        let page = place - place % PAGE as u64;
        let word = map(&grant.words, page, PAGE as u64, false)?.narrow(place - page, 8)?;
        Ok(MappedRegion { memory, word, export: key.export })
    }

    fn is_live(&self) -> bool {
        self.word.load(0) == Ok(self.export)
    }
}

fn map(fd: impl AsFd, offset: u64, length: u64, writable: bool) -> Result<Span> {
    let length = usize::try_from(length).map_err(|_| Status::OutOfRange)?;
    let mapping = Mapping::import(fd.as_fd(), offset, length, writable)?;
    Ok(Arc::new(Buffer::new(Arc::new(mapping), 0, length, Home::Foreign, false)?).whole()?)
}

/// How a region is reached.
pub enum Way {
    /// Mapped: a load or a store.
    Mapped(MappedRegion),
    /// UCX RMA over a NIC, which enforces the key.
    Rma {
        /// Where the memory begins at the peer.
        remote_address: u64,
        /// The packed UCX key.
        rkey: Vec<u8>,
    },
    /// Messages to the peer's engine, which checks export, secret, range and right.
    Message,
}

/// A peer's memory that was imported. Any thread.
pub struct Region {
    key: Key,
    way: Way,
    revoked: AtomicBool,
    /// The context that imported it, 0 for none; it takes the region along when it closes.
    context: u64,
    /// Tells the peer, when the last user is gone, that the key is not held any more.
    _hold: Option<Box<dyn Any + Send + Sync>>,
}

/// What an access that was allowed goes by.
#[derive(Debug)]
pub enum Place {
    /// These bytes, here.
    Here(Span),
    /// This address at the peer.
    Remote(u64),
    /// Ask the peer: export, secret, and the offset as it was given.
    Ask,
}

impl Region {
    /// A region for a key, reached by `way`.
    pub fn new(key: Key, way: Way) -> Region {
        Region { key, way, revoked: AtomicBool::new(false), context: 0, _hold: None }
    }

    /// The same, of a context, with something that is dropped with it.
    pub fn of(self, context: u64, hold: Box<dyn Any + Send + Sync>) -> Region {
        Region { context, _hold: Some(hold), ..self }
    }

    /// The context that imported it.
    pub fn context(&self) -> u64 {
        self.context
    }

    /// The key it was imported by.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Length in bytes, never 0.
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> u64 {
        self.key.length
    }

    /// What is allowed.
    pub fn rights(&self) -> Rights {
        self.key.rights
    }

    /// The id of the export at the peer.
    pub fn export(&self) -> u64 {
        self.key.export
    }

    /// What proves the key to the peer.
    pub fn secret(&self) -> &Secret {
        &self.key.secret
    }

    /// How it is reached.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// The peer told that it revoked the key: every access is refused from now on.
    pub fn set_revoked(&self) {
        self.revoked.store(true, Ordering::Release);
    }

    /// Whether the key is known to be revoked.
    pub fn is_revoked(&self) -> bool {
        let word = match &self.way {
            Way::Mapped(mapped) => mapped.is_live(),
            _ => true,
        };
        !word || self.revoked.load(Ordering::Acquire)
    }

    /// Where to access `length` bytes from `offset` on with this right. `length` may be 0.
    ///
    /// `Revoked`, `PermissionDenied`, `OutOfRange`. What is allowed here the peer checks again, but for mapped memory.
    pub fn check(&self, offset: u64, length: u64, right: Rights) -> Access<Place> {
        let range = self.allow(offset, length, right)?;
        match &self.way {
            Way::Mapped(mapped) => Ok(Place::Here(mapped.memory.slice(range, length)?)),
            Way::Rma { remote_address, .. } => {
                Ok(Place::Remote(remote_address.checked_add(range).ok_or(Status::OutOfRange)?))
            }
            Way::Message => Ok(Place::Ask),
        }
    }

    /// The mapped bytes of the whole region, without counting a reference, when it is mapped and this access is
    /// allowed; `None` for other ways. Copy from or to it at once: the shortest way of a small get.
    #[inline]
    pub fn mapped(&self, offset: u64, length: u64, right: Rights) -> Access<Option<&Span>> {
        self.allow(offset, length, right)?;
        match &self.way {
            Way::Mapped(mapped) => Ok(Some(&mapped.memory)),
            _ => Ok(None),
        }
    }

    #[inline]
    fn allow(&self, offset: u64, length: u64, right: Rights) -> Access<u64> {
        if self.is_revoked() {
            return Err(Status::Revoked);
        }
        if !self.key.rights.allows(right) {
            return Err(Status::PermissionDenied);
        }
        match offset.checked_add(length) {
            Some(end) if end <= self.key.length => Ok(offset),
            _ => Err(Status::OutOfRange),
        }
    }
}

#[cfg(test)]
mod tests;
