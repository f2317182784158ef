//! Packs sorted entries into data pages.

use super::block::CONTENT_LEN;
use super::data_page::{Entry, FIRST};
use super::page::{NONE, PageId};
use super::value::Descriptor;
use super::varint::{delta_code, put_varint, varint_len};
use std::borrow::Cow;

/// Largest timestamp that an entry holds; larger ones are clamped to it.
pub const TIMESTAMP_MAX: u64 = i64::MAX as u64;

/// An entry on its way into a page; its content is as it will be stored.
#[derive(Clone, Debug)]
pub struct Cell<'b> {
    /// The key.
    pub key: Cow<'b, [u8]>,
    /// What the content is; its length is the content's.
    pub descriptor: Descriptor,
    /// The stored bytes.
    pub content: Cow<'b, [u8]>,
    /// When it expires, unix milliseconds; 0 never.
    pub expire_ms: u64,
    /// The writer's timestamp, at most [`TIMESTAMP_MAX`].
    pub timestamp: u64,
}

impl Cell<'_> {
    /// Whether it fits a page that holds nothing else.
    pub fn fits(&self, page_size: usize) -> bool {
        FIRST + 4 + self.len_after(None) <= page_size
    }

    /// The same entry with memory of its own.
    pub fn into_owned(self) -> Cell<'static> {
        Cell {
            key: self.key.into_owned().into(),
            descriptor: self.descriptor,
            content: self.content.into_owned().into(),
            expire_ms: self.expire_ms,
            timestamp: self.timestamp,
        }
    }

    /// Bytes it takes after `previous`, or at a restart point.
    fn len_after(&self, previous: Option<&Cell<'_>>) -> usize {
        let shared = previous.map_or(0, |previous| common(&previous.key, &self.key));
        let base = previous.map_or(0, |previous| previous.timestamp);
        let expiry = if self.descriptor.expires { varint_len(self.expire_ms) } else { 0 };
        let unshared = self.key.len() - shared;
        varint_len(shared as u64)
            + varint_len(unshared as u64)
            + varint_len(self.descriptor.code())
            + unshared
            + self.content.len()
            + expiry
            + varint_len(delta_code(self.timestamp as i64 - base as i64))
    }

    fn put_after(&self, previous: Option<&Cell<'_>>, out: &mut Vec<u8>) {
        let shared = previous.map_or(0, |previous| common(&previous.key, &self.key));
        let base = previous.map_or(0, |previous| previous.timestamp as i64);
        self.stored().put(shared, &self.key[shared..], base, out);
    }

    /// All of it but the key.
    pub(super) fn stored(&self) -> Entry<'_> {
        let (expire_ms, timestamp) = (self.expire_ms, self.timestamp);
        Entry { descriptor: self.descriptor, content: &self.content, expire_ms, timestamp, at: 0 }
    }
}

impl Entry<'_> {
    /// Appends it under a key of which the one before has the first `shared` bytes; `base` is that one's timestamp. Both are
    /// 0 at a restart point.
    pub(super) fn put(&self, shared: usize, suffix: &[u8], base: i64, out: &mut Vec<u8>) {
        put_varint(out, shared as u64);
        put_varint(out, suffix.len() as u64);
        put_varint(out, self.descriptor.code());
        out.extend_from_slice(suffix);
        out.extend_from_slice(self.content);
        if self.descriptor.expires {
            put_varint(out, self.expire_ms);
        }
        put_varint(out, delta_code(self.timestamp as i64 - base));
    }
}

/// How many bytes two keys begin with in common.
#[inline]
pub(super) fn common(a: &[u8], b: &[u8]) -> usize {
    let (a8, b8) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    for (i, (x, y)) in a8.iter().zip(b8).enumerate() {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return i * 8 + differ.trailing_zeros() as usize / 8;
        }
    }
    let at = 8 * a8.len().min(b8.len());
    at + a[at..].iter().zip(&b[at..]).take_while(|(a, b)| a == b).count()
}

/// Entries that there is room for from the start.
const CELLS: usize = 40;

/// Takes entries in order and gives them back a page's worth at a time, the last two evened out.
#[derive(Debug)]
pub struct Packer<'b> {
    page_size: usize,
    interval: usize,
    current: Vec<Cell<'b>>,
    len: usize,
    full: Option<Vec<Cell<'b>>>,
}

impl<'b> Packer<'b> {
    /// A packer for pages of `page_size` that restarts every `interval` entries.
    pub fn new(page_size: usize, interval: usize) -> Packer<'b> {
        Packer { page_size, interval, current: Vec::with_capacity(CELLS), len: FIRST + 2, full: None }
    }

    /// Adds an entry that fits a page alone. Returns a page's entries once later ones cannot change them.
    pub fn push(&mut self, cell: Cell<'b>) -> Option<Vec<Cell<'b>>> {
        let more = self.cost(&cell);
        if self.len + more <= self.page_size {
            self.len += more;
            self.current.push(cell);
            return None;
        }
        let full = std::mem::take(&mut self.current);
        self.len = FIRST + 2;
        self.len += self.cost(&cell);
        self.current.push(cell);
        self.full.replace(full)
    }

    /// Whether what is left is one page, less than a quarter full.
    pub fn is_small(&self) -> bool {
        self.full.is_none() && !self.current.is_empty() && self.len < self.page_size / 4
    }

    /// Whether all that it took is in one page so far.
    #[cfg(test)]
    pub(super) fn is_one_page(&self) -> bool {
        self.full.is_none()
    }

    /// The rest: up to two pages.
    pub fn finish(mut self) -> Vec<Vec<Cell<'b>>> {
        let Some(mut full) = self.full.take() else {
            return if self.current.is_empty() { Vec::new() } else { vec![self.current] };
        };
        // A nearly empty page after a full one would make the next insertion split again.
        if self.len < self.page_size / 4 {
            let mut sizes = full.iter().map(|cell| cell.key.len() + cell.content.len() + 8);
            let half = sizes.clone().sum::<usize>() / 2;
            let mut sum = 0;
            let at = sizes.position(|size| {
                sum += size;
                sum > half
            });
            let moved = full.split_off(at.unwrap_or(0).max(1).min(full.len()));
            let mut second = Packer::new(self.page_size, self.interval);
            let fits = moved.iter().chain(&self.current).all(|cell| {
                let more = second.cost(cell);
                second.len += more;
                second.current.push(cell.clone());
                second.len <= self.page_size
            });
            if fits {
                return vec![full, second.current];
            }
            full.extend(moved);
        }
        vec![full, self.current]
    }

    fn cost(&self, cell: &Cell<'_>) -> usize {
        if self.current.len().is_multiple_of(self.interval) {
            2 + cell.len_after(None)
        } else {
            cell.len_after(self.current.last())
        }
    }
}

/// A data page without kind, checksum and links. The cells fit, as a [`Packer`] gave them.
pub fn encode(cells: &[Cell<'_>], page_size: usize, interval: usize) -> Vec<u8> {
    encode_into(cells, page_size, interval, Vec::with_capacity(page_size))
}

/// The same in memory that there is.
pub(super) fn encode_into(
    cells: &[Cell<'_>],
    page_size: usize,
    interval: usize,
    mut page: Vec<u8>,
) -> Vec<u8> {
    page.clear();
    page.resize(FIRST, 0);
    let mut restarts: Vec<u16> = Vec::new();
    for (i, cell) in cells.iter().enumerate() {
        if i.is_multiple_of(interval) {
            restarts.push(page.len() as u16);
            cell.put_after(None, &mut page);
        } else {
            cell.put_after(cells.get(i - 1), &mut page);
        }
    }
    finish(page, &restarts, page_size)
}

/// Ends a page's content with its restart points, and fills it up.
pub(super) fn finish(mut page: Vec<u8>, restarts: &[u16], page_size: usize) -> Vec<u8> {
    for restart in restarts {
        page.extend_from_slice(&restart.to_le_bytes());
    }
    page.extend_from_slice(&(restarts.len() as u16).to_le_bytes());
    let len = page.len() as u16;
    page[CONTENT_LEN..CONTENT_LEN + 2].copy_from_slice(&len.to_le_bytes());
    debug_assert!(page.len() <= page_size);
    page.resize(page_size, 0);
    page
}

/// A link of a data page.
pub fn link(page: &[u8], at: usize) -> PageId {
    let bytes = page.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(NONE, |bytes| u32::from_le_bytes(*bytes))
}

/// Sets a link of a data page, at [`super::data_page::PREVIOUS`] or [`super::data_page::NEXT`].
pub fn set_link(page: &mut [u8], at: usize, to: PageId) {
    if let Some(bytes) = page.get_mut(at..at + 4) {
        bytes.copy_from_slice(&to.to_le_bytes());
    }
}

/// The shortest key that is greater than `left` and at most `right`: what separates their pages.
pub fn separator<'k>(left: &[u8], right: &'k [u8]) -> &'k [u8] {
    &right[..(common(left, right) + 1).min(right.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::data_page::DataPage;
    use crate::kv::page::{Kind, seal};
    use crate::kv::value::Codec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn cell<'b>(key: &'b [u8], content: &'b [u8], expire_ms: u64, timestamp: u64) -> Cell<'b> {
        let descriptor =
            Descriptor { len: content.len(), overflow: false, expires: expire_ms != 0, codec: Codec::Raw };
        Cell { key: key.into(), descriptor, content: content.into(), expire_ms, timestamp }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn pages_hold_what_was_packed(
            entries in prop::collection::btree_map(
                prop::collection::vec(0u8..4, 1..12), (0usize..900, 0u64..3, 0..=TIMESTAMP_MAX), 1..200),
            interval in 1usize..20,
        ) {
            let bytes = vec![0xabu8; 900];
            let mut packer = Packer::new(4096, interval);
            let mut pages = Vec::new();
            for (key, (len, expire, timestamp)) in &entries {
                pages.extend(packer.push(cell(key, &bytes[..*len], *expire, *timestamp)));
            }
            pages.extend(packer.finish());
            let mut back = BTreeMap::new();
            for cells in &pages {
                prop_assert!(!cells.is_empty());
                let mut page = encode(cells, 4096, interval);
                prop_assert_eq!(page.len(), 4096);
                seal(&mut page, Kind::Data);
                let mut found = DataPage::parse(&page).unwrap().entries().unwrap();
                while let Some(entry) = found.step().unwrap() {
                    let entry = (entry.content.len(), entry.expire_ms, entry.timestamp);
                    prop_assert!(back.insert(found.key().to_vec(), entry).is_none());
                }
                for cell in cells {
                    let found = DataPage::parse(&page).unwrap().find(&cell.key).unwrap();
                    prop_assert_eq!(found.map(|entry| entry.timestamp), Some(cell.timestamp));
                }
            }
            prop_assert_eq!(back, entries);
        }
    }

    #[test]
    fn separators_are_short_and_between() {
        assert_eq!(separator(b"long/13", b"long/24"), b"long/2");
        assert_eq!(separator(b"a", b"ab"), b"ab");
        assert_eq!(separator(b"", b"x"), b"x");
    }

    #[test]
    fn a_small_tail_is_evened_out() {
        let bytes = [7u8; 100];
        let keys: Vec<[u8; 4]> = (0..40u32).map(u32::to_be_bytes).collect();
        let mut packer = Packer::new(4096, 16);
        assert!(keys.iter().all(|key| packer.push(cell(key, &bytes, 0, 5)).is_none()));
        let pages = packer.finish();
        assert_eq!(pages.len(), 2);
        assert!(pages[0].len().abs_diff(pages[1].len()) < 8, "{} and {}", pages[0].len(), pages[1].len());
    }

    #[test]
    fn an_entry_that_fills_a_page_exactly_fits() {
        let (key, content) = ([1u8; 100], vec![0u8; 4096]);
        let fitting = (0..4096).rev().find(|len| cell(&key, &content[..*len], 0, 1).fits(4096)).unwrap();
        let cell = cell(&key, &content[..fitting], 0, 1);
        let mut page = encode(std::slice::from_ref(&cell), 4096, 16);
        assert_eq!(u16::from_le_bytes([page[9], page[10]]), 4096);
        seal(&mut page, Kind::Data);
        assert!(DataPage::parse(&page).unwrap().find(&key).unwrap().is_some());
    }
}
