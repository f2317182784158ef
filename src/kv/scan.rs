//! Ranges of a tree, a page of entries at a time.

use super::cursor::Cursor;
use super::damage::Damage;
use super::data_page::{DataPage, Entry};
use super::packed::{EntryRef, Packed};
use super::source::Source;
use super::tree::{Found, Loaded, Tree};
use super::value::Codec;
use crate::status::{Error, Result, Status};

/// A range of keys and how much of it to return at once.
#[derive(Clone, Copy, Debug)]
pub struct Range<'k> {
    /// Where it begins.
    pub begin: &'k [u8],
    /// Where it ends; empty for the end of the partition.
    pub end: &'k [u8],
    /// Whether `begin` itself belongs to it.
    pub begin_inclusive: bool,
    /// Whether `end` itself belongs to it.
    pub end_inclusive: bool,
    /// Entries to return at most; 0 for any number.
    pub max_entries: usize,
    /// Bytes to return at most, counting key, value and 16 for each entry; 0 for any number. One entry is always
    /// returned.
    pub max_bytes: usize,
    /// What to do with very large values.
    pub large: Large,
    /// Whether the last entries come first.
    pub backward: bool,
}

/// What a scan does when it meets a very large value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Large {
    /// It fails with `UNSUPPORTED`, as EloqStore does.
    Refuse,
    /// It returns the value like any other.
    Return,
}

impl Range<'_> {
    /// Everything.
    pub const ALL: Range<'static> = Range {
        begin: &[],
        end: &[],
        begin_inclusive: true,
        end_inclusive: false,
        max_entries: 0,
        max_bytes: 0,
        large: Large::Refuse,
        backward: false,
    };

    /// The last entry up to and with `key`.
    pub fn last_until(key: &[u8]) -> Range<'_> {
        Range {
            end: key,
            end_inclusive: true,
            max_entries: 1,
            large: Large::Return,
            backward: true,
            ..Range::ALL
        }
    }

    fn begins_after(&self, key: &[u8]) -> bool {
        key < self.begin || (key == self.begin && !self.begin_inclusive)
    }

    fn ends_before(&self, key: &[u8]) -> bool {
        !self.end.is_empty() && (key > self.end || (key == self.end && !self.end_inclusive))
    }
}

/// What a scan returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Entries in the order of their keys; the other way round if that was asked for.
    pub entries: Vec<Found>,
    /// There is more: scan again with `begin` (backward: `end`) the last key, not inclusive.
    pub remaining: bool,
}

/// Where entries that are found go.
trait Gather {
    /// One that stands in its page as it is.
    fn put(&mut self, key: &[u8], entry: &Entry<'_>);
    /// One whose value had to be fetched.
    fn put_found(&mut self, found: Found);
}

impl Gather for Vec<Found> {
    fn put(&mut self, key: &[u8], entry: &Entry<'_>) {
        let (key, value) = (key.to_vec(), entry.content.to_vec());
        let (timestamp, expire_ms) = (entry.timestamp, entry.expire_ms);
        self.push(Found { key, value, timestamp, expire_ms, large: None });
    }

    fn put_found(&mut self, found: Found) {
        self.push(found);
    }
}

impl Gather for Packed {
    fn put(&mut self, key: &[u8], entry: &Entry<'_>) {
        let (value, timestamp, expire_ms) = (entry.content, entry.timestamp, entry.expire_ms);
        self.push(&EntryRef { key, value, timestamp, expire_ms, large: false });
    }

    fn put_found(&mut self, found: Found) {
        self.push(&EntryRef::from(&found));
    }
}

/// A scan under way: what was found, and how much it is.
struct Page<'r, 'k, G> {
    range: &'r Range<'k>,
    found: G,
    count: usize,
    bytes: usize,
    remaining: bool,
}

impl<S: Source> Tree<'_, S> {
    /// The entries of `range`.
    pub async fn scan(&self, range: &Range<'_>) -> Result<Scanned> {
        let (entries, remaining) = self.gather(range, Vec::new()).await?;
        Ok(Scanned { entries, remaining })
    }

    /// The entries of `range` in one piece of memory, and whether there are more.
    pub async fn scan_packed(&self, range: &Range<'_>) -> Result<(Packed, bool)> {
        let room = if range.max_entries == 0 { range.max_bytes.min(ROOM) } else { 0 };
        self.gather(range, Packed::with_capacity(room + room / 4)).await
    }

    async fn gather<G: Gather>(&self, range: &Range<'_>, found: G) -> Result<(G, bool)> {
        let mut page = Page { range, found, count: 0, bytes: 0, remaining: false };
        match range.backward {
            false => self.scan_forward(&mut page).await?,
            true => self.scan_backward(&mut page).await?,
        }
        Ok((page.found, page.remaining))
    }

    async fn scan_forward<G: Gather>(&self, page: &mut Page<'_, '_, G>) -> Result<()> {
        let range = page.range;
        let mut cursor = Cursor::new(self, self.manifest.root);
        cursor.seek(range.begin).await?;
        let mut last: Vec<u8> = Vec::new();
        while let Some(leaf) = &cursor.leaf {
            let parsed = self.sound(leaf, DataPage::parse(leaf.bytes.as_ref()))?;
            let bounds = cursor.bounds();
            let mut entries = self.sound(leaf, parsed.entries_near(range.begin))?;
            let mut first = true;
            while let Some(entry) = self.sound(leaf, entries.step())? {
                let key = entries.key();
                // Within a page the decoder sees to it.
                if std::mem::take(&mut first) {
                    if !last.is_empty() && last.as_slice() >= key {
                        return self.sound(leaf, Err(Damage::new(entry.at, OUT_OF_ORDER)));
                    }
                    self.sound(leaf, bounds.hold_first(key))?;
                }
                if range.begins_after(key) {
                    continue;
                }
                if range.ends_before(key) || !self.take(page, leaf, key, &entry).await? {
                    return self.sound(leaf, bounds.hold(&parsed));
                }
            }
            self.sound(leaf, bounds.hold_link(&parsed).and_then(|()| bounds.hold_last(entries.key())))?;
            last.clear();
            last.extend_from_slice(entries.key());
            cursor.forward().await?;
        }
        Ok(())
    }

    async fn scan_backward<G: Gather>(&self, page: &mut Page<'_, '_, G>) -> Result<()> {
        let range = page.range;
        let mut cursor = Cursor::new(self, self.manifest.root);
        match range.end.is_empty() {
            true => cursor.seek_last().await?,
            false => cursor.seek(range.end).await?,
        }
        let mut last: Option<Vec<u8>> = None;
        while let Some(leaf) = &cursor.leaf {
            let parsed = self.sound(leaf, DataPage::parse(leaf.bytes.as_ref()))?;
            self.sound(leaf, cursor.bounds().hold(&parsed))?;
            let mut entries = self.sound(leaf, parsed.entries())?;
            let mut found: Vec<(Vec<u8>, Entry<'_>)> = Vec::new();
            while let Some(entry) = self.sound(leaf, entries.step())? {
                if last.as_deref().is_some_and(|last| last <= entries.key()) {
                    return self.sound(leaf, Err(Damage::new(entry.at, OUT_OF_ORDER)));
                }
                if range.ends_before(entries.key()) {
                    break;
                }
                found.push((entries.key().to_vec(), entry));
            }
            last = found.first().map(|(key, _)| key.clone()).or(last);
            for (key, entry) in found.iter().rev() {
                if range.begins_after(key) || !self.take(page, leaf, key, entry).await? {
                    return Ok(());
                }
            }
            cursor.back().await?;
        }
        Ok(())
    }

    /// Adds an entry to the page of a scan; whether there was room for it.
    async fn take<G: Gather>(
        &self,
        page: &mut Page<'_, '_, G>,
        leaf: &Loaded<S::Bytes>,
        key: &[u8],
        entry: &Entry<'_>,
    ) -> Result<bool> {
        let range = page.range;
        if range.max_entries > 0 && page.count >= range.max_entries {
            page.remaining = true;
            return Ok(false);
        }
        let found = if entry.is_plain() {
            None
        } else {
            Some(Box::pin(self.elsewhere(range, leaf, key, entry)).await?)
        };
        let len = found.as_ref().map_or(entry.content.len(), |found| found.value.len());
        page.bytes += key.len() + len + 16;
        if range.max_bytes > 0 && page.bytes > range.max_bytes && page.count > 0 {
            page.remaining = true;
            return Ok(false);
        }
        page.count += 1;
        match found {
            None => page.found.put(key, entry),
            Some(found) => page.found.put_found(found),
        }
        Ok(true)
    }

    /// An entry whose value does not stand in its page as it is.
    async fn elsewhere(
        &self,
        range: &Range<'_>,
        leaf: &Loaded<S::Bytes>,
        key: &[u8],
        entry: &Entry<'_>,
    ) -> Result<Found> {
        if entry.descriptor.codec == Codec::Large && range.large == Large::Refuse {
            return Err(refused());
        }
        self.found(leaf, key.to_vec(), entry, Vec::new()).await
    }
}

/// A range with a very large value that is not to be returned.
pub fn refused() -> Error {
    Error::new(Status::Unsupported, "the range holds a very large value: read it alone, or scan around it")
}

/// Bytes that are allocated for entries before they are known, at most.
const ROOM: usize = 4 << 20;
const OUT_OF_ORDER: &str = "keys are out of order between pages";
