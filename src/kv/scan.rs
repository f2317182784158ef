//! Ranges of a tree, a page of entries at a time.

use super::cursor::Cursor;
use super::damage::Damage;
use super::data_page::{DataPage, Entry};
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

/// A scan under way: what was found, and how much it is.
struct Page<'r, 'k> {
    range: &'r Range<'k>,
    scanned: Scanned,
    bytes: usize,
}

impl<S: Source> Tree<'_, S> {
    /// The entries of `range`.
    pub async fn scan(&self, range: &Range<'_>) -> Result<Scanned> {
        let mut page = Page { range, scanned: Scanned::default(), bytes: 0 };
        match range.backward {
            false => self.scan_forward(&mut page).await?,
            true => self.scan_backward(&mut page).await?,
        }
        Ok(page.scanned)
    }

    async fn scan_forward(&self, page: &mut Page<'_, '_>) -> Result<()> {
        let range = page.range;
        let mut cursor = Cursor::new(self, self.manifest.root);
        cursor.seek(range.begin).await?;
        let mut last: Vec<u8> = Vec::new();
        while let Some(leaf) = &cursor.leaf {
            let parsed = self.sound(leaf, DataPage::parse(leaf.bytes.as_ref()))?;
            let mut entries = self.sound(leaf, parsed.entries_near(range.begin))?;
            let mut first = true;
            while let Some(entry) = self.sound(leaf, entries.step())? {
                let key = entries.key();
                // Within a page the decoder sees to it.
                if std::mem::take(&mut first) && !last.is_empty() && last.as_slice() >= key {
                    return self.sound(leaf, Err(Damage::new(entry.at, OUT_OF_ORDER)));
                }
                if range.begins_after(key) {
                    continue;
                }
                if range.ends_before(key) || !self.take(page, leaf, key, &entry).await? {
                    return Ok(());
                }
            }
            last.clear();
            last.extend_from_slice(entries.key());
            cursor.forward().await?;
        }
        Ok(())
    }

    async fn scan_backward(&self, page: &mut Page<'_, '_>) -> Result<()> {
        let range = page.range;
        let mut cursor = Cursor::new(self, self.manifest.root);
        match range.end.is_empty() {
            true => cursor.seek_last().await?,
            false => cursor.seek(range.end).await?,
        }
        let mut last: Option<Vec<u8>> = None;
        while let Some(leaf) = &cursor.leaf {
            let parsed = self.sound(leaf, DataPage::parse(leaf.bytes.as_ref()))?;
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
    async fn take(
        &self,
        page: &mut Page<'_, '_>,
        leaf: &Loaded<S::Bytes>,
        key: &[u8],
        entry: &Entry<'_>,
    ) -> Result<bool> {
        let (range, scanned) = (page.range, &mut page.scanned);
        if range.max_entries > 0 && scanned.entries.len() >= range.max_entries {
            scanned.remaining = true;
            return Ok(false);
        }
        if entry.descriptor.codec == Codec::Large && range.large == Large::Refuse {
            let what = "the range holds a very large value: read it alone, or scan around it";
            return Err(Error::new(Status::Unsupported, what));
        }
        let found = self.found(leaf, key.to_vec(), entry, Vec::new()).await?;
        page.bytes += key.len() + found.value.len() + 16;
        if range.max_bytes > 0 && page.bytes > range.max_bytes && !scanned.entries.is_empty() {
            scanned.remaining = true;
            return Ok(false);
        }
        scanned.entries.push(found);
        Ok(true)
    }
}

const OUT_OF_ORDER: &str = "keys are out of order between pages";
