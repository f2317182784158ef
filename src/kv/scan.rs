//! Ranges of a tree, a page of entries at a time.

use super::cursor::Cursor;
use super::damage::Damage;
use super::data_page::DataPage;
use super::source::Source;
use super::tree::{Found, Tree};
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
    };

    fn ends_before(&self, key: &[u8]) -> bool {
        !self.end.is_empty() && (key > self.end || (key == self.end && !self.end_inclusive))
    }
}

/// What a scan returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Entries in the order of their keys.
    pub entries: Vec<Found>,
    /// There is more: scan again with `begin` the last key, not inclusive.
    pub remaining: bool,
}

impl<S: Source> Tree<'_, S> {
    /// The entries of `range`.
    pub async fn scan(&self, range: &Range<'_>) -> Result<Scanned> {
        let mut scanned = Scanned::default();
        let mut bytes = 0;
        let mut cursor = Cursor::new(self, self.manifest.root);
        cursor.seek(range.begin).await?;
        let mut last: Option<Vec<u8>> = None;
        while let Some(leaf) = &cursor.leaf {
            let page = self.sound(leaf, DataPage::parse(leaf.bytes.as_ref()))?;
            let mut entries = self.sound(leaf, page.entries_near(range.begin))?;
            while let Some(entry) = self.sound(leaf, entries.step())? {
                let key = entries.key();
                if last.as_deref().is_some_and(|last| last >= key) {
                    return self
                        .sound(leaf, Err(Damage::new(entry.at, "keys are out of order between pages")));
                }
                last = Some(key.to_vec());
                if key < range.begin || (key == range.begin && !range.begin_inclusive) {
                    continue;
                }
                if range.ends_before(key) {
                    return Ok(scanned);
                }
                if range.max_entries > 0 && scanned.entries.len() >= range.max_entries {
                    scanned.remaining = true;
                    return Ok(scanned);
                }
                if entry.descriptor.codec == Codec::Large && range.large == Large::Refuse {
                    let what = "the range holds a very large value: read it alone, or scan around it";
                    return Err(Error::new(Status::Unsupported, what));
                }
                let found = self.found(leaf, key, &entry).await?;
                bytes += key.len() + found.value.len() + 16;
                if range.max_bytes > 0 && bytes > range.max_bytes && !scanned.entries.is_empty() {
                    scanned.remaining = true;
                    return Ok(scanned);
                }
                scanned.entries.push(found);
            }
            cursor.forward().await?;
        }
        Ok(scanned)
    }
}
