//! Data pages: sorted entries, prefix-coded keys, delta-coded timestamps.

use super::block::{Block, Sought, Walk, append_key};
use super::damage::{Damage, Decoded};
use super::page::{Kind, PageId, kind};
use super::value::{Codec, Descriptor};
use super::varint::Reader;
use std::cmp::Ordering;
use std::ops::Range;

/// Where the link to the previous data page stands; the next one's follows.
pub const PREVIOUS: usize = 11;
/// Where the link to the next data page stands.
pub const NEXT: usize = 15;
/// Where the entries begin.
pub const FIRST: usize = 19;

/// A data page, decoded lazily.
#[derive(Clone, Copy, Debug)]
pub struct DataPage<'a> {
    page: &'a [u8],
    block: Block<'a>,
}

/// One entry; its key is in the [`Entries`] that returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What `content` is.
    pub descriptor: Descriptor,
    /// The value as it is stored: raw, compressed, page pointers or segment ids.
    pub content: &'a [u8],
    /// When it expires, unix milliseconds; 0 never.
    pub expire_ms: u64,
    /// The writer's timestamp.
    pub timestamp: u64,
    /// Where the entry begins in the page.
    pub at: usize,
}

impl Entry<'_> {
    /// Whether `content` is the value.
    pub fn is_plain(&self) -> bool {
        self.descriptor.codec == Codec::Raw && !self.descriptor.overflow
    }
}

impl<'a> DataPage<'a> {
    /// A page whose checksum was verified, or whose owner chose not to.
    pub fn parse(page: &'a [u8]) -> Decoded<DataPage<'a>> {
        if kind(page)? != Kind::Data {
            return Err(Damage::new(8, "not a data page where one belongs"));
        }
        Ok(DataPage { page, block: Block::parse(page, FIRST)? })
    }

    /// The data page before this one, or `NONE`.
    pub fn previous(&self) -> Decoded<PageId> {
        Reader::new(self.page, PREVIOUS).u32()
    }

    /// The data page after this one, or `NONE`.
    pub fn next(&self) -> Decoded<PageId> {
        Reader::new(self.page, NEXT).u32()
    }

    /// All entries in order.
    pub fn entries(&self) -> Decoded<Entries<'a>> {
        self.start_at(0)
    }

    /// All entries in order, each with where its key then is in `keys`.
    pub fn all(&self, keys: &mut Vec<u8>) -> Decoded<Vec<(Range<usize>, Entry<'a>)>> {
        keys.clear();
        let mut all = Vec::with_capacity(self.block.restarts() * 16);
        let mut entries = self.entries()?;
        let mut before = None;
        while let Some((entry, restart, shared, suffix)) = entries.raw()? {
            let start = keys.len();
            append_key(keys, before, (restart, shared, suffix), entry.at)?;
            before = Some(start..keys.len());
            all.push((start..keys.len(), entry));
        }
        Ok(all)
    }

    /// Entries in order, beginning at or somewhat before the largest key that is at most `key`.
    pub fn entries_near(&self, key: &[u8]) -> Decoded<Entries<'a>> {
        self.start_at(if self.block.restarts() == 0 { 0 } else { self.block.search(key)? })
    }

    /// The entry with exactly this key.
    pub fn find(&self, key: &[u8]) -> Decoded<Option<Entry<'a>>> {
        let mut entries = self.entries_near(key)?;
        let mut sought = Sought::new(key);
        while let Some((entry, restart, shared, suffix)) = entries.raw()? {
            match sought.next(restart, shared, suffix, entry.at)? {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Some(entry)),
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// The first key and the last one; None if there is none.
    pub fn edges(&self) -> Decoded<Option<(&'a [u8], Vec<u8>)>> {
        let Some(last) = self.block.restarts().checked_sub(1) else { return Ok(None) };
        let mut entries = self.start_at(last)?;
        while entries.step()?.is_some() {}
        Ok(Some((self.block.restart_key(0)?, entries.walk.key)))
    }

    /// Its entries as they lie.
    pub(super) fn block(&self) -> Block<'a> {
        self.block
    }

    /// The whole page.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.page
    }

    /// The entries from a restart point on.
    pub(super) fn start_at(&self, restart: usize) -> Decoded<Entries<'a>> {
        Ok(Entries { walk: Walk::new(self.block, restart)?, timestamp: 0 })
    }
}

/// An entry, whether it is at a restart point, and how its key follows from the one before: shared bytes, others.
pub(super) type Raw<'a> = (Entry<'a>, bool, usize, &'a [u8]);

/// The entries of a data page from one restart point on.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    walk: Walk<'a>,
    timestamp: i64,
}

impl<'a> Entries<'a> {
    /// The next entry; its key is then in [`Entries::key`].
    pub fn step(&mut self) -> Decoded<Option<Entry<'a>>> {
        let Some((entry, restart, shared, suffix)) = self.raw()? else { return Ok(None) };
        self.walk.extend_key(restart, shared, suffix)?;
        Ok(Some(entry))
    }

    /// The next entry, without its key.
    #[inline]
    pub(super) fn raw(&mut self) -> Decoded<Option<Raw<'a>>> {
        let at = self.walk.reader.at();
        if self.walk.at_end()? {
            return Ok(None);
        }
        let restart = self.walk.at_restart()?;
        let reader = &mut self.walk.reader;
        let (shared, unshared) = (reader.varlen()?, reader.varlen()?);
        if shared + unshared == 0 {
            return Err(Damage::new(at, "a key is empty"));
        }
        let coded = reader.varint32()?;
        let descriptor = Descriptor::decode(coded).ok_or(Damage::new(at, "no such kind of value"))?;
        let suffix = reader.take(unshared)?;
        let content = reader.take(descriptor.len)?;
        let expire_ms = if descriptor.expires { reader.varint64()? } else { 0 };
        let delta = reader.delta64()?;
        let base = if restart { 0 } else { self.timestamp };
        self.timestamp = base
            .checked_add(delta)
            .filter(|timestamp| *timestamp >= 0)
            .ok_or(Damage::new(at, "a timestamp is out of range"))?;
        let entry = Entry { descriptor, content, expire_ms, timestamp: self.timestamp as u64, at };
        Ok(Some((entry, restart, shared, suffix)))
    }

    /// The key of the entry last returned.
    pub fn key(&self) -> &[u8] {
        &self.walk.key
    }

    /// Where the next entry begins.
    pub(super) fn at(&self) -> usize {
        self.walk.reader.at()
    }

    /// The timestamp of the entry last returned, which that of the next one is coded against; 0 before the first.
    pub(super) fn timestamp(&self) -> i64 {
        self.timestamp
    }
}
