//! Exports: what peers may do with our memory, until it is revoked.
//!
//! Every access that we serve ourselves goes through [`Exports::check`]. A peer on this host may instead be given the
//! memory file of an exportable buffer, once ([`Exports::grant_mapping`]):
//!
//! - The kernel enforces read-only: the descriptor is opened for reading, and the file is sealed against writers, whom
//!   `/proc` would otherwise let in. So the first grant decides for the life of a buffer whether it is mapped read-only or
//!   writable; keys of the other sort are served by messages.
//! - Revocation is a word of ours that the peer's engine reads before each access (one file for all exports, read-only for
//!   peers). A peer that ignores it keeps what it mapped, which is why such memory is never reused: when its buffer is
//!   gone it counts as retired until every holder has dropped it or is lost. What its owner writes into a buffer that it
//!   keeps after revoking can still be read by such a peer.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::account::Charge;
use super::buffer::{Access, Buffer, Mapping, PAGE, Span};
use super::handle::{Kind, Table, index};
use super::key::{Key, Rights, Secret};
use super::memfd;
use super::slab::Home;
use crate::status::{Error, Result, Status};

struct Export {
    secret: Secret,
    rights: Rights,
    span: Span,
}

/// What a peer is given to map.
#[derive(Debug)]
pub struct Grant {
    /// The memory, from its first byte; read-only unless the rights have write.
    pub memory: OwnedFd,
    /// The words that say which exports live: the one of export `id` is the u64 at `8 · index(id)`, and holds `id` until
    /// it is revoked. Read-only.
    pub words: OwnedFd,
    /// Bytes that may be used.
    pub length: u64,
    /// What is allowed.
    pub rights: Rights,
}

struct Holder {
    grants: u32,
    _charge: Option<Arc<Charge>>,
}

#[derive(Default)]
struct Grants {
    words: Option<Span>,
    /// By (export, link).
    holders: BTreeMap<(u64, u32), Holder>,
    /// (link, export)
    by_link: BTreeSet<(u32, u64)>,
}

/// The exports of one context. Any thread.
pub struct Exports {
    context: [u8; 16],
    capacity: u32,
    table: Table<Export>,
    /// (address of the buffer, export), for all that are not revoked.
    by_buffer: Mutex<BTreeSet<(usize, u64)>>,
    grants: Mutex<Grants>,
}

impl Exports {
    /// No exports yet. `context` is ours and goes into every key; at most `capacity` exports live at once.
    pub fn new(context: [u8; 16], capacity: u32) -> Exports {
        let (by_buffer, grants) = (Mutex::default(), Mutex::default());
        Exports { context, capacity, table: Table::new(Kind::Export, capacity), by_buffer, grants }
    }

    /// A key to `length` bytes of a buffer from `offset` on. It works until it or its buffer is revoked, which keeps the
    /// buffer's memory alive.
    ///
    /// `InvalidArgument` for length 0, `OutOfRange`, `WrongState` for a buffer that is released or uninitialised,
    /// `LimitReached` past the capacity.
    pub fn export(&self, buffer: &Arc<Buffer>, offset: u64, length: u64, rights: Rights) -> Result<Key> {
        if length == 0 {
            return Err(Error::new(Status::InvalidArgument, "a key covers at least one byte"));
        }
        if !buffer.is_initialised() {
            let why = "an uninitialised buffer may hold another peer's bytes and is not exported: allocate it without that flag";
            return Err(Error::new(Status::WrongState, why));
        }
        let secret = Secret::random()?;
        // Under the lock, so that a buffer is either seen released here, or its export by `revoke_buffer`.
        let mut by_buffer = self.by_buffer.lock();
        let span = buffer.span(offset, length)?;
        let mappable = is_mappable(&span, rights);
        let export =
            self.table.insert(Arc::new(Export { secret, rights, span })).ok_or_else(|| self.full())?;
        by_buffer.insert((identity(buffer), export));
        Ok(Key { export, secret, length, rights, mappable, context: self.context })
    }

    /// The bytes that a peer asks for, if its key allows it now. `length` may be 0.
    ///
    /// `NotFound` for an export that never was, `Revoked`, `PermissionDenied` for a wrong secret or a missing right,
    /// `OutOfRange` past the end of the key.
    #[inline]
    pub fn check(
        &self,
        export: u64,
        secret: &Secret,
        offset: u64,
        length: u64,
        right: Rights,
    ) -> Access<Span> {
        let Some(entry) = self.table.get(export) else { return Err(self.missing(export)) };
        if !entry.secret.matches(secret) || !entry.rights.allows(right) {
            return Err(Status::PermissionDenied);
        }
        entry.span.slice(offset, length)
    }

    /// All the bytes of an export and what its key allows. Errors as of [`Exports::check`].
    pub fn open(&self, export: u64, secret: &Secret) -> Access<(Span, Rights)> {
        let Some(entry) = self.table.get(export) else { return Err(self.missing(export)) };
        if !entry.secret.matches(secret) {
            return Err(Status::PermissionDenied);
        }
        Ok((entry.span.clone(), entry.rights))
    }

    /// Ends a key: when this returns, no check succeeds and no importer's engine touches the memory again. Spans that
    /// were checked before stay valid. Answers the links to be told, those that had it mapped. `NotFound`, `Revoked`.
    pub fn revoke(&self, export: u64) -> Access<Vec<u32>> {
        let entry = self.table.remove(export).ok_or_else(|| self.missing(export))?;
        self.by_buffer.lock().remove(&(identity(entry.span.buffer()), export));
        let grants = self.grants.lock();
        if let Some(words) = &grants.words {
            // The slot may serve another export already, whose word stays. It is within the words, so this cannot fail.
            let _ = words.compare_swap(8 * u64::from(index(export)), export, 0);
        }
        Ok(grants.holders.range((export, 0)..=(export, u32::MAX)).map(|((_, link), _)| *link).collect())
    }

    /// Ends every key of a buffer, as [`Exports::revoke`] does; release the buffer first, so that no new one is made
    /// meanwhile. Answers each export with the links that had it mapped.
    pub fn revoke_buffer(&self, buffer: &Arc<Buffer>) -> Vec<(u64, Vec<u32>)> {
        let identity = identity(buffer);
        let exports: Vec<u64> = self
            .by_buffer
            .lock()
            .range((identity, 0)..=(identity, u64::MAX))
            .map(|(_, export)| *export)
            .collect();
        exports.into_iter().filter_map(|export| Some((export, self.revoke(export).ok()?))).collect()
    }

    /// Ends every key, before its context is closed.
    pub fn revoke_all(&self) -> Vec<(u64, u32)> {
        let revoked =
            self.table.ids().into_iter().filter_map(|export| Some((export, self.revoke(export).ok()?)));
        revoked.flat_map(|(export, links)| links.into_iter().map(move |link| (export, link))).collect()
    }

    /// Lets the peer at the other end of `link`, on this host, map the whole buffer of an export. Each grant is ended
    /// by [`Exports::drop_mapping`] or [`Exports::link_lost`].
    ///
    /// `None` when the key is to be served by messages: it does not cover all of an exportable buffer, or allows
    /// something that a mapping cannot, or the buffer is mapped in the other mode. Errors as of [`Exports::check`].
    pub fn grant_mapping(&self, export: u64, secret: &Secret, link: u32) -> Result<Option<Grant>> {
        let mut grants = self.grants.lock();
        let Some(entry) = self.table.get(export) else { return Err(self.missing(export).into()) };
        if !entry.secret.matches(secret) {
            return Err(Status::PermissionDenied.into());
        }
        let (rights, buffer) = (entry.rights, entry.span.buffer());
        let Some(memory) = open_mapping(buffer, &entry.span, rights)? else { return Ok(None) };
        let words = self.words(&mut grants)?;
        let file = words.buffer().mapping().file().ok_or(Status::Internal)?;
        let file = memfd::reopen_read_only(file)?;
        words.store(8 * u64::from(index(export)), export)?;
        let holder = || Holder { grants: 0, _charge: buffer.charge().cloned() };
        grants.holders.entry((export, link)).or_insert_with(holder).grants += 1;
        grants.by_link.insert((link, export));
        Ok(Some(Grant { memory, words: file, length: entry.span.len() as u64, rights }))
    }

    /// The peer has unmapped an export that was granted to it once. Others, unknown ones, change nothing.
    pub fn drop_mapping(&self, export: u64, link: u32) {
        let grants = &mut *self.grants.lock();
        if let Some(holder) = grants.holders.get_mut(&(export, link)) {
            holder.grants -= 1;
            if holder.grants == 0 {
                grants.holders.remove(&(export, link));
                grants.by_link.remove(&(link, export));
            }
        }
    }

    /// The peer is gone, and its mappings with it. (Were it alive and hostile, it would keep pages that we have given
    /// back to the kernel; they are not on our account any more, and never ours again.)
    pub fn link_lost(&self, link: u32) {
        let grants = &mut *self.grants.lock();
        let lost: Vec<_> = grants.by_link.range((link, 0)..=(link, u64::MAX)).copied().collect();
        for (link, export) in lost {
            grants.by_link.remove(&(link, export));
            grants.holders.remove(&(export, link));
        }
    }

    /// Whether the peer at the other end of `link` has memory of ours mapped: what it does there, nobody here sees.
    pub fn is_mapped_by(&self, link: u32) -> bool {
        self.grants.lock().by_link.range((link, 0)..=(link, u64::MAX)).next().is_some()
    }

    /// How many exports live.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn words(&self, grants: &mut Grants) -> Result<Span> {
        if let Some(words) = &grants.words {
            return Ok(words.clone());
        }
        let length = (self.capacity as usize * 8).next_multiple_of(PAGE);
        let mapping = Mapping::memfd(length)?;
        memfd::forbid_writers(mapping.file().ok_or(Status::Internal)?)?;
        let buffer = Arc::new(Buffer::new(Arc::new(mapping), 0, length, Home::Foreign, true)?);
        Ok(grants.words.insert(buffer.whole()?).clone())
    }

    fn missing(&self, export: u64) -> Status {
        if self.table.was_removed(export) { Status::Revoked } else { Status::NotFound }
    }

    fn full(&self) -> Error {
        let message =
            format!("{} keys are out, as many as the context's options allow: revoke some", self.capacity);
        Error::new(Status::LimitReached, message)
    }
}

/// Buffers that have exports are alive, so no two have the same.
fn identity(buffer: &Arc<Buffer>) -> usize {
    Arc::as_ptr(buffer) as usize
}

/// Whether the kernel can enforce these rights on a mapping: it knows read, and read with write.
fn is_mappable(span: &Span, rights: Rights) -> bool {
    let buffer = span.buffer();
    let whole = span.address() == buffer.address() && span.len() == buffer.len();
    let enforceable = rights == Rights::READ || rights.allows(Rights::READ | Rights::WRITE);
    buffer.is_exportable() && whole && enforceable
}

/// A descriptor for a peer. Runs under the lock of the grants, so that the first one decides the mode.
fn open_mapping(buffer: &Buffer, span: &Span, rights: Rights) -> Result<Option<OwnedFd>> {
    let Some(file) = buffer.mapping().file().filter(|_| is_mappable(span, rights)) else { return Ok(None) };
    let writable = rights.allows(Rights::WRITE);
    match buffer.peers_write().get() {
        Some(mode) if *mode != writable => return Ok(None),
        Some(_) => {}
        None => {
            if writable {
                memfd::fix_seals(file)?
            } else {
                memfd::forbid_writers(file)?
            }
            let _ = buffer.peers_write().set(writable);
        }
    }
    let fd = if writable { memfd::duplicate(file)? } else { memfd::reopen_read_only(file)? };
    Ok(Some(fd))
}

#[cfg(test)]
mod tests;
