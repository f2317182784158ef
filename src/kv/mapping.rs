//! The mapping from logical pages to file pages.

use super::damage::{Damage, Decoded};
use super::varint::{Reader, put_varint};
use std::sync::Arc;

/// A mapping value: type in the low 3 bits, a file page or a free-list link above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u64);

const FILE_PAGE: u64 = 1;
const FREE_LINK: u64 = 2;
const INVALID: u64 = 7;

impl Slot {
    /// A page that is not there.
    pub const FREE: Slot = Slot(INVALID);

    /// A page that is at this file page. File pages are below 2^61.
    pub fn at(file_page: u64) -> Slot {
        Slot(file_page << 3 | FILE_PAGE)
    }

    /// Where the page is, unless it is free.
    pub fn file_page(self) -> Option<u64> {
        (self.0 & 7 == FILE_PAGE).then_some(self.0 >> 3)
    }

    fn decode(reader: &mut Reader<'_>) -> Decoded<Slot> {
        let at = reader.at();
        let value = reader.varint64()?;
        match value & 7 {
            FILE_PAGE | FREE_LINK => Ok(Slot(value)),
            INVALID => Ok(Slot::FREE),
            _ => Err(Damage::new(at, "no such kind of mapping")),
        }
    }
}

/// Pages beyond what records account for that a mapping may have: ids that were taken and given back unrecorded.
const SLACK: usize = 1 << 20;

/// Slots that are copied together when one of them changes and another state shares them.
const CHUNK: usize = 512;

/// Where every page of a partition is, by its id. Clones share what neither changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    chunks: Vec<Arc<[Slot; CHUNK]>>,
    len: usize,
    /// Values and pairs read so far: what the table's size is held against.
    read: usize,
}

impl Mapping {
    /// A snapshot's values; damage counts from the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Decoded<Mapping> {
        let mut reader = Reader::new(bytes, 0);
        let mut mapping = Mapping::default();
        while !reader.is_empty() {
            mapping.set(mapping.len as u32, Slot::decode(&mut reader)?);
        }
        mapping.read = mapping.len;
        Ok(mapping)
    }

    /// Applies a log record's pairs and returns the largest file page among them.
    pub fn apply(&mut self, bytes: &[u8]) -> Decoded<Option<u64>> {
        let mut reader = Reader::new(bytes, 0);
        let mut largest = None;
        while !reader.is_empty() {
            let at = reader.at();
            let id = reader.varlen()?;
            let slot = Slot::decode(&mut reader)?;
            self.read += 1;
            if id > 4 * self.read + SLACK {
                return Err(Damage::new(at, "a page id is far beyond the others"));
            }
            self.set(id as u32, slot);
            largest = largest.max(slot.file_page());
        }
        Ok(largest)
    }

    /// Where page `id` is; None if there is no such page.
    pub fn get(&self, id: u32) -> Option<u64> {
        let id = id as usize;
        self.chunks.get(id / CHUNK).and_then(|chunk| chunk[id % CHUNK].file_page())
    }

    /// Puts page `id` somewhere, or frees it.
    pub fn set(&mut self, id: u32, slot: Slot) {
        let id = id as usize;
        self.len = self.len.max(id + 1);
        while self.chunks.len() * CHUNK < self.len {
            self.chunks.push(Arc::new([Slot::FREE; CHUNK]));
        }
        Arc::make_mut(&mut self.chunks[id / CHUNK])[id % CHUNK] = slot;
    }

    /// One more than the largest id that was ever used.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no id was ever used.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every page that is there: id, file page.
    pub fn pages(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        (0..).zip(self.slots()).filter_map(|(id, slot)| slot.file_page().map(|file_page| (id, file_page)))
    }

    /// Whether no two pages are at one place.
    pub fn is_distinct(&self) -> bool {
        let most = self.pages().map(|(_, place)| place).max().unwrap_or(0);
        // A bit for each place, unless few pages are far apart.
        if most / 64 <= 2 * self.len as u64 + 1024 {
            let mut seen = vec![0u64; most as usize / 64 + 1];
            return self.pages().all(|(_, place)| {
                let (word, bit) = (&mut seen[place as usize / 64], 1 << (place % 64));
                let new = *word & bit == 0;
                *word |= bit;
                new
            });
        }
        let mut places: Vec<u64> = self.pages().map(|(_, place)| place).collect();
        places.sort_unstable();
        places.windows(2).all(|pair| pair[0] != pair[1])
    }

    /// Ids that are free, ascending.
    pub fn free(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(self.slots()).filter(|(_, slot)| slot.file_page().is_none()).map(|(id, _)| id)
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).take(self.len)
    }

    /// As a snapshot holds it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len * 3);
        self.slots().for_each(|slot| put_varint(&mut out, slot.0));
        out
    }
}

/// Appends a log record's pair.
pub fn put_pair(out: &mut Vec<u8>, id: u32, slot: Slot) {
    put_varint(out, u64::from(id));
    put_varint(out, slot.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_and_pairs_come_back() {
        let mut mapping = Mapping::default();
        mapping.set(0, Slot::at(9));
        mapping.set(3, Slot::at(1 << 40));
        let again = Mapping::decode(&mapping.encode()).unwrap();
        assert!(again.slots().eq(mapping.slots()));
        assert_eq!(again.free().collect::<Vec<_>>(), [1, 2]);
        assert_eq!((again.get(3), again.get(1), again.get(99)), (Some(1 << 40), None, None));
        let mut pairs = Vec::new();
        put_pair(&mut pairs, 3, Slot::FREE);
        put_pair(&mut pairs, 5, Slot::at(77));
        put_pair(&mut pairs, 5, Slot::at(70));
        let mut after = again;
        assert_eq!(after.apply(&pairs), Ok(Some(77)));
        assert_eq!(after.pages().collect::<Vec<_>>(), [(0, 9), (5, 70)]);
    }

    #[test]
    fn clones_share_what_neither_changes() {
        let mut mapping = Mapping::default();
        (0..10_000).for_each(|id| mapping.set(id, Slot::at(u64::from(id))));
        let before = mapping.clone();
        mapping.set(5_000, Slot::at(77));
        assert_eq!((before.get(5_000), mapping.get(5_000)), (Some(5_000), Some(77)));
        let shared = before.chunks.iter().zip(&mapping.chunks).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, mapping.chunks.len() - 1);
    }

    #[test]
    fn one_pair_cannot_claim_the_memory_of_four_billion() {
        let mut pairs = Vec::new();
        put_pair(&mut pairs, u32::MAX - 1, Slot::at(1));
        assert!(Mapping::default().apply(&pairs).is_err());
    }

    #[test]
    fn two_pages_at_one_place_are_seen() {
        for far in [100, 1 << 50] {
            let mut mapping = Mapping::default();
            (0..40).for_each(|id| mapping.set(id, Slot::at(u64::from(id) * 7)));
            mapping.set(41, Slot::at(far));
            assert!(mapping.is_distinct());
            mapping.set(43, Slot::at(far));
            assert!(!mapping.is_distinct());
            mapping.set(41, Slot::FREE);
            assert!(mapping.is_distinct());
        }
        assert!(Mapping::default().is_distinct());
    }

    #[test]
    fn in_memory_pointers_are_damage() {
        for kind in [0, 3, 4, 5, 6u8] {
            assert!(Mapping::decode(&[8 | kind]).is_err());
        }
    }
}
