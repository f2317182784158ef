//! A data page some of whose entries get other values. The rest of it is copied as it lies: an entry is coded against the
//! one before it alone, and not across a restart point.

use super::block::{CONTENT_LEN, Sought};
use super::damage::{Damage, Decoded};
use super::data_page::{DataPage, Entries, Entry, FIRST};
use super::packer::Cell;
use super::value::Codec;
use std::cmp::Ordering;

/// A page on its way to another one.
struct Patch<'a, 'm> {
    page: DataPage<'a>,
    /// The new page as far as it is made, and where its restart points are.
    out: &'m mut Vec<u8>,
    restarts: Vec<u16>,
    /// What lies before this in the old page is in the new one.
    copied: usize,
    /// What follows an entry that was replaced, and the timestamp that it is now coded against.
    behind: Option<(Entries<'a>, i64)>,
}

/// Makes a page with other values under keys that `page` has, without kind and checksum, in `out`, and returns how many
/// entries were replaced: those that are newer stay. The cells' keys ascend. None if it takes more than that: a cell is
/// missing, its key is, what it replaces has to be freed, or there is no room. Only the entries of the restart intervals that
/// change are looked at.
pub fn patch<'b>(
    page: DataPage<'_>,
    cells: impl Iterator<Item = Option<Cell<'b>>>,
    out: &mut Vec<u8>,
) -> Decoded<Option<u64>> {
    out.clear();
    if page.block().restarts() == 0 {
        return Ok(None);
    }
    let page_size = page.bytes().len();
    let restarts = Vec::with_capacity(page.block().restarts());
    let mut patch = Patch { page, out, restarts, copied: 0, behind: None };
    let mut replaced = 0;
    for cell in cells {
        let Some(cell) = cell else { return Ok(None) };
        let Some(taken) = patch.replace(&cell)? else { return Ok(None) };
        replaced += u64::from(taken);
        if patch.out.len() > page_size {
            return Ok(None);
        }
    }
    Ok(patch.finish(page_size)?.then_some(replaced))
}

impl<'a> Patch<'a, '_> {
    /// Puts a cell in the place of the entry with its key, unless that is newer: whether it did. None if there is no such
    /// entry, or something is to be freed with it.
    fn replace(&mut self, cell: &Cell<'_>) -> Decoded<Option<bool>> {
        let mut entries = self.page.start_at(self.page.block().search(&cell.key)?)?;
        let mut sought = Sought::new(&cell.key);
        loop {
            let before = entries.timestamp();
            let Some((entry, restart, shared, suffix)) = entries.raw()? else { return Ok(None) };
            match sought.next(restart, shared, suffix, entry.at)? {
                Ordering::Less => continue,
                Ordering::Greater => return Ok(None),
                Ordering::Equal if entry.timestamp > cell.timestamp => return Ok(Some(false)),
                Ordering::Equal if !is_simple(&entry) => return Ok(None),
                Ordering::Equal => {}
            }
            let base = match (&self.behind, restart) {
                (_, true) => 0,
                // The entry before it was replaced too.
                (Some((_, base)), false) if entry.at == self.copied => *base,
                _ => before,
            };
            self.copy(entry.at)?;
            cell.stored().put(shared, suffix, base, self.out);
            self.copied = entries.at();
            self.behind = Some((entries, cell.timestamp as i64));
            return Ok(Some(true));
        }
    }

    /// Copies the old page up to `to`, with the restart points until there. What comes after an entry that was replaced is
    /// coded against that one.
    fn copy(&mut self, to: usize) -> Decoded<()> {
        if let Some((mut entries, base)) = self.behind.take().filter(|_| self.copied < to)
            && let Some((entry, restart, shared, suffix)) = entries.raw()?
            && !restart
        {
            entry.put(shared, suffix, base, self.out);
            self.copied = entries.at();
        }
        let wrong = Damage::new(to, "a restart point is not at an entry");
        let block = self.page.block();
        while self.restarts.len() < block.restarts() {
            let at = block.restart(self.restarts.len())?;
            if at > to {
                break;
            }
            let more = at.checked_sub(self.copied).ok_or(wrong)?;
            self.restarts.push((self.out.len() + more) as u16);
        }
        self.out.extend_from_slice(self.page.bytes().get(self.copied..to).ok_or(wrong)?);
        self.copied = to;
        Ok(())
    }

    /// Copies the rest; false if there is no room for it.
    fn finish(mut self, page_size: usize) -> Decoded<bool> {
        self.copy(self.page.block().bytes.len())?;
        let len = self.out.len() + 2 * self.restarts.len() + 2;
        if len > page_size {
            return Ok(false);
        }
        for restart in &self.restarts {
            self.out.extend_from_slice(&restart.to_le_bytes());
        }
        self.out.extend_from_slice(&(self.restarts.len() as u16).to_le_bytes());
        self.out[CONTENT_LEN..CONTENT_LEN + 2].copy_from_slice(&(len as u16).to_le_bytes());
        self.out.resize(page_size, 0);
        Ok(true)
    }
}

/// Whether nothing else has to go when an entry does.
fn is_simple(entry: &Entry<'_>) -> bool {
    !entry.descriptor.overflow && !entry.descriptor.expires && entry.descriptor.codec != Codec::Large
}

/// Bytes of a page's content.
pub fn content_len(page: &[u8]) -> usize {
    page.get(CONTENT_LEN..).and_then(<[u8]>::first_chunk).map_or(FIRST, |len| u16::from_le_bytes(*len).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::packer::{Packer, TIMESTAMP_MAX, encode};
    use crate::kv::page::{Kind, seal};
    use crate::kv::value::Descriptor;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn cell<'b>(key: &'b [u8], content: &'b [u8], timestamp: u64) -> Cell<'b> {
        let descriptor =
            Descriptor { len: content.len(), overflow: false, expires: false, codec: Codec::Raw };
        Cell { key: key.into(), descriptor, content: content.into(), expire_ms: 0, timestamp }
    }

    fn sealed(cells: &[Cell<'_>], interval: usize) -> Vec<u8> {
        let mut page = encode(cells, 4096, interval);
        seal(&mut page, Kind::Data);
        page
    }

    /// A key's value and timestamp.
    fn values() -> impl Strategy<Value = (Vec<u8>, u64)> {
        let timestamp = prop_oneof![0u64..300, 0..=TIMESTAMP_MAX];
        (prop::collection::vec(any::<u8>(), 0..300), timestamp)
    }

    proptest! {
        /// What is patched is byte for byte what encoding all of it anew would have made, or nothing.
        #[test]
        fn a_patched_page_is_as_if_encoded_anew(
            entries in prop::collection::btree_map(prop::collection::vec(0u8..4, 1..12), values(), 1..60),
            changes in prop::collection::vec((0usize..60, values()), 1..20),
            interval in 1usize..20,
        ) {
            let mut packer = Packer::new(4096, interval);
            let mut fitting = BTreeMap::new();
            for (key, (value, timestamp)) in &entries {
                if packer.push(cell(key, value, *timestamp)).is_some() || !packer.is_one_page() {
                    break;
                }
                fitting.insert(key.clone(), (value.clone(), *timestamp));
            }
            let keys: Vec<Vec<u8>> = fitting.keys().cloned().collect();
            let changes: BTreeMap<Vec<u8>, (Vec<u8>, u64)> =
                changes.into_iter().map(|(at, change)| (keys[at % keys.len()].clone(), change)).collect();
            let cells = |all: &BTreeMap<Vec<u8>, (Vec<u8>, u64)>| {
                all.iter().map(|(key, (value, timestamp))| {
                    cell(key, value, *timestamp).into_owned()
                }).collect::<Vec<Cell<'static>>>()
            };
            let page = sealed(&cells(&fitting), interval);
            let mut after = fitting.clone();
            let mut taken = 0;
            for (key, change) in &changes {
                if change.1 >= fitting[key].1 {
                    after.insert(key.clone(), change.clone());
                    taken += 1;
                }
            }
            let mut out = vec![7; 9];
            let parsed = DataPage::parse(&page).unwrap();
            let patched = patch(parsed, cells(&changes).into_iter().map(Some), &mut out).unwrap();
            let mut packer = Packer::new(4096, interval);
            let fits = cells(&after).into_iter().all(|cell| packer.push(cell).is_none() && packer.is_one_page());
            prop_assert_eq!(patched, fits.then_some(taken));
            if fits {
                seal(&mut out, Kind::Data);
                prop_assert_eq!(&out, &sealed(&cells(&after), interval));
                prop_assert!(content_len(&out) <= 4096);
            }
        }

        /// Damage in a page is an error, or is left where it lies.
        #[test]
        fn any_bytes_are_patched_without_a_panic(
            flips in prop::collection::vec((9usize..1200, any::<u8>()), 1..8),
            changes in prop::collection::btree_map(0usize..40, values(), 1..6),
        ) {
            let keys: Vec<[u8; 4]> = (0..40u32).map(u32::to_be_bytes).collect();
            let cells: Vec<Cell<'_>> = keys.iter().map(|key| cell(key, &[9; 20], 5)).collect();
            let mut page = sealed(&cells, 16);
            flips.iter().for_each(|(at, byte)| page[*at] = *byte);
            let changes = changes.iter().map(|(at, (value, timestamp))| Some(cell(&keys[*at], value, *timestamp)));
            if let Ok(page) = DataPage::parse(&page) {
                let mut out = Vec::new();
                if let Ok(Some(_)) = patch(page, changes, &mut out) {
                    prop_assert_eq!(out.len(), 4096);
                }
            }
        }
    }

    #[test]
    fn what_takes_more_than_a_value_is_left() {
        let keys: Vec<[u8; 4]> = (0..40u32).map(|i| (2 * i).to_be_bytes()).collect();
        let mut cells: Vec<Cell<'_>> = keys.iter().map(|key| cell(key, &[9; 20], 5)).collect();
        (cells[7].descriptor.expires, cells[7].expire_ms) = (true, 77);
        (cells[9].descriptor.overflow, cells[11].descriptor.codec) = (true, Codec::Large);
        let page = sealed(&cells, 16);
        let patched = |key: &[u8], timestamp| {
            let page = DataPage::parse(&page).unwrap();
            patch(page, std::iter::once(Some(cell(key, b"new", timestamp))), &mut Vec::new()).unwrap()
        };
        for i in [7, 9, 11] {
            assert_eq!((patched(&keys[i], 6), patched(&keys[i], 4)), (None, Some(0)));
        }
        assert_eq!((patched(&keys[8], 5), patched(&keys[8], 4)), (Some(1), Some(0)));
        assert_eq!(
            (patched(&9u32.to_be_bytes(), 6), patched(&[0xff; 4], 6), patched(&[0], 6)),
            (None, None, None)
        );
        let none = patch(DataPage::parse(&page).unwrap(), std::iter::once(None), &mut Vec::new());
        assert_eq!(none, Ok(None));
    }
}
