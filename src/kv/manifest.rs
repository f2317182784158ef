//! Manifests: a snapshot of a partition's mapping, and a log of what changed since.

use super::branch::{Branches, MAIN};
use super::damage::{Damage, Decoded};
use super::mapping::{Mapping, Slot, put_pair};
use super::options::ALIGNMENT;
use super::page::{NONE, PageId};
use super::record::Record;
use super::varint::{Reader, put_varint};

/// More file pages, or segments, than any store has.
pub(super) const FILE_PAGES: u64 = 1 << 56;

/// Segments of very large values: where they are, and how many file segments were ever used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    /// Logical segment to file segment.
    pub mapping: Mapping,
    /// The smallest file segment that was never used.
    pub end: u64,
}

/// A partition as of its last good record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Root of the tree of entries, or `NONE`.
    pub root: PageId,
    /// Root of the tree of expiries, or `NONE`.
    pub ttl_root: PageId,
    /// The smallest file page that was never used.
    pub end: u64,
    /// Dictionary of compressed values; empty for none.
    pub dictionary: Vec<u8>,
    /// Logical page to file page.
    pub mapping: Mapping,
    /// Who owns which files.
    pub branches: Branches,
    /// Present once a very large value was written.
    pub segments: Option<Segments>,
    /// Where in the manifest the next record goes: over a torn tail, if there is one.
    pub tail: u64,
}

/// What a log record says.
#[derive(Clone, Debug)]
pub struct Change {
    /// The new root of the tree of entries, or `NONE`.
    pub root: PageId,
    /// The new root of the tree of expiries, or `NONE`.
    pub ttl_root: PageId,
    /// Who owns which files now.
    pub branches: Branches,
    /// Pages that moved or were freed; later ones win.
    pub pages: Vec<(PageId, Slot)>,
    /// Segments that moved or were freed.
    pub segments: Vec<(u32, Slot)>,
}

impl Manifest {
    /// Of a partition of the main branch that was never written to.
    pub fn empty() -> Manifest {
        Manifest {
            root: NONE,
            ttl_root: NONE,
            end: 0,
            dictionary: Vec::new(),
            mapping: Mapping::default(),
            branches: Branches::new(MAIN, 0),
            segments: None,
            tail: 0,
        }
    }

    /// Replays a manifest or an archive. Damaged records at the end are as if they had never been written; damage
    /// before a good record, or in the snapshot, is damage.
    pub fn replay(bytes: &[u8]) -> Decoded<Manifest> {
        let record = Record::read(bytes, 0).ok_or(Damage::new(0, "the manifest's snapshot is damaged"))?;
        let mut manifest = Manifest::snapshot(&record)?;
        let mut at = record.next;
        while let Some(record) = Record::read(bytes, at) {
            manifest.log(&record)?;
            at = record.next;
        }
        manifest.tail = at as u64;
        let segments = manifest.segments.as_ref();
        if !manifest.mapping.is_distinct() || segments.is_some_and(|known| !known.mapping.is_distinct()) {
            return Err(Damage::new(0, "two pages, or segments, are mapped to one place"));
        }
        let mut later = at + ALIGNMENT;
        while later < bytes.len() {
            if Record::plausible_log(bytes, later) && Record::read(bytes, later).is_some() {
                return Err(Damage::new(at, "a manifest record is damaged, and intact ones follow it"));
            }
            later += ALIGNMENT;
        }
        Ok(manifest)
    }

    fn snapshot(record: &Record<'_>) -> Decoded<Manifest> {
        let inside = |damage: Damage| Damage::new(record.payload_at + damage.at, damage.what);
        let mut reader = Reader::new(record.payload, 0);
        let mut read = || {
            let end = file_pages(&mut reader)?;
            let len = reader.varlen()?;
            let dictionary = reader.take(len)?.to_vec();
            let mapping = section(&mut reader, Mapping::decode)?;
            let branches = section(&mut reader, Branches::decode)?;
            let segments = if reader.is_empty() {
                None
            } else {
                let end = file_pages(&mut reader)?;
                Some(Segments { end, mapping: section(&mut reader, Mapping::decode)? })
            };
            finished(&reader)?;
            let (root, ttl_root) = (record.root, record.ttl_root);
            Ok(Manifest { root, ttl_root, end, dictionary, mapping, branches, segments, tail: 0 })
        };
        read().map_err(inside)
    }

    fn log(&mut self, record: &Record<'_>) -> Decoded<()> {
        let inside = |damage: Damage| Damage::new(record.payload_at + damage.at, damage.what);
        let mut reader = Reader::new(record.payload, 0);
        let mut read = || {
            let largest = section(&mut reader, |bytes| self.mapping.apply(bytes).and_then(end_of))?;
            self.end = self.end.max(largest);
            self.branches = section(&mut reader, Branches::decode)?;
            section(&mut reader, |pairs| {
                if !pairs.is_empty() {
                    let segments = self.segments.get_or_insert_default();
                    segments.end = segments.end.max(segments.mapping.apply(pairs).and_then(end_of)?);
                }
                Ok(())
            })?;
            finished(&reader)?;
            (self.root, self.ttl_root) = (record.root, record.ttl_root);
            Ok(())
        };
        read().map_err(inside)
    }

    /// The bytes of a manifest that says all this in one snapshot.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        put_varint(&mut payload, self.end);
        put_varint(&mut payload, self.dictionary.len() as u64);
        payload.extend_from_slice(&self.dictionary);
        put_section(&mut payload, &self.mapping.encode());
        put_section(&mut payload, &self.branches.encode());
        if let Some(segments) = &self.segments {
            put_varint(&mut payload, segments.end);
            put_section(&mut payload, &segments.mapping.encode());
        }
        Record::encode(self.root, self.ttl_root, &payload)
    }

    /// Turns this into what a log record says, after the record is safe.
    pub fn adopt(&mut self, change: &Change) {
        change.pages.iter().for_each(|(id, slot)| self.mapping.set(*id, *slot));
        if !change.segments.is_empty() {
            let segments = self.segments.get_or_insert_default();
            change.segments.iter().for_each(|(id, slot)| segments.mapping.set(*id, *slot));
        }
        (self.root, self.ttl_root, self.branches) = (change.root, change.ttl_root, change.branches.clone());
    }
}

impl Change {
    /// The bytes of the log record that says this.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        let pairs = |pairs: &[(u32, Slot)]| {
            let mut out = Vec::new();
            pairs.iter().for_each(|(id, slot)| put_pair(&mut out, *id, *slot));
            out
        };
        put_section(&mut payload, &pairs(&self.pages));
        put_section(&mut payload, &self.branches.encode());
        put_section(&mut payload, &pairs(&self.segments));
        Record::encode(self.root, self.ttl_root, &payload)
    }
}

/// A u32 length and what it covers; damage inside is placed in the payload.
fn section<'a, T>(reader: &mut Reader<'a>, decode: impl FnOnce(&'a [u8]) -> Decoded<T>) -> Decoded<T> {
    let len = reader.u32()? as usize;
    let at = reader.at();
    decode(reader.take(len)?).map_err(|damage| Damage::new(at + damage.at, damage.what))
}

/// One past the largest file page that a record names.
fn end_of(largest: Option<u64>) -> Decoded<u64> {
    match largest.map_or(0, |largest| largest + 1) {
        end @ 0..=FILE_PAGES => Ok(end),
        _ => Err(Damage::new(0, "a file page is out of range")),
    }
}

fn file_pages(reader: &mut Reader<'_>) -> Decoded<u64> {
    let at = reader.at();
    reader.varint64().and_then(|end| match end {
        0..=FILE_PAGES => Ok(end),
        _ => Err(Damage::new(at, "the number of file pages is out of range")),
    })
}

fn finished(reader: &Reader<'_>) -> Decoded<()> {
    if reader.is_empty() { Ok(()) } else { Err(Damage::new(reader.at(), "a manifest record is too long")) }
}

fn put_section(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot and two changes, and what each of the three amounts to.
    fn history() -> (Vec<u8>, Vec<Manifest>) {
        let mut now = Manifest {
            root: 1,
            ttl_root: NONE,
            end: 3,
            dictionary: vec![9; 5000],
            mapping: Mapping::default(),
            branches: Branches::new("main", 0),
            segments: None,
            tail: 0,
        };
        now.mapping.set(0, Slot::at(0));
        now.mapping.set(1, Slot::at(2));
        now.branches.extend(0, 0);
        let mut bytes = now.encode();
        now.tail = bytes.len() as u64;
        let mut states = vec![Manifest::replay(&bytes).unwrap()];
        for (page, segment) in [(3u64, None), (4, Some(7u64))] {
            let change = Change {
                root: page as u32,
                ttl_root: NONE,
                branches: now.branches.clone(),
                pages: vec![(1, Slot::at(page)), (page as u32, Slot::FREE)],
                segments: segment.map(|segment| (0, Slot::at(segment))).into_iter().collect(),
            };
            bytes.extend(change.encode());
            states.push(Manifest::replay(&bytes).unwrap());
        }
        (bytes, states)
    }

    #[test]
    fn every_record_counts() {
        let (bytes, states) = history();
        assert_eq!(bytes.len(), 4 * 4096);
        let last = &states[2];
        assert_eq!((last.root, last.end, last.tail, last.mapping.get(1)), (4, 5, 16384, Some(4)));
        let segments = last.segments.as_ref().unwrap();
        assert_eq!((segments.end, segments.mapping.get(0)), (8, Some(7)));
        assert_eq!((states[0].mapping.get(1), &states[0].segments), (Some(2), &None));
        let again = Manifest::replay(&last.encode()).unwrap();
        assert_eq!(
            (again.mapping.pages().collect::<Vec<_>>(), again.end),
            (last.mapping.pages().collect(), 5)
        );
    }

    #[test]
    fn a_torn_tail_is_as_if_never_written() {
        let (bytes, states) = history();
        for cut in 8192..bytes.len() {
            let kept = (cut - 8192) / 4096;
            assert_eq!(Manifest::replay(&bytes[..cut]).unwrap(), states[kept], "cut at {cut}");
        }
        for cut in 0..8192 {
            assert!(Manifest::replay(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_byte_undoes_the_last_record_or_is_damage() {
        let (bytes, states) = history();
        for (start, last) in [(0, false), (8192, false), (12288, true)] {
            let payload = u32::from_le_bytes(*bytes[start + 16..].first_chunk().unwrap()) as usize;
            let covered = start..start + 20 + payload;
            for at in start..covered.end.next_multiple_of(4096) {
                let mut bytes = bytes.clone();
                bytes[at] ^= 0x40;
                let result = Manifest::replay(&bytes);
                match (covered.contains(&at), last) {
                    (true, true) => assert_eq!(result.unwrap(), states[1], "byte {at}"),
                    (true, false) => assert_eq!(result.unwrap_err().at, start, "byte {at}"),
                    (false, _) => assert_eq!(result.unwrap(), states[2], "padding byte {at}"),
                }
            }
        }
    }
}
