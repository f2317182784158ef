//! Which changes a log holds, by key: what became of each key, and where in the log its value is.

use super::record::{GRAIN, Logged, size};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;

/// A key, without memory of its own if it is short.
pub type Key = SmallVec<[u8; 16]>;

/// The last change of a key that a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// When it was made, by its writer's word.
    pub timestamp: u64,
    /// Where its entry begins in the log, in grains.
    at: u32,
    /// The value's length; all ones for a delete.
    len: u32,
}

const DELETE: u32 = u32::MAX;
/// Bytes of memory that a key takes, beside its own when they are many.
const COST: usize = 64;

impl Slot {
    /// A change whose entry begins at byte `at`. None if no slot can say so.
    pub fn new(at: u64, logged: &Logged<'_>) -> Option<Slot> {
        let at = u32::try_from(at / GRAIN as u64).ok()?;
        let len = match logged.value {
            Some(value) => u32::try_from(value.len()).ok().filter(|len| *len != DELETE)?,
            None => DELETE,
        };
        Some(Slot { timestamp: logged.timestamp, at, len })
    }

    /// Where its entry begins in the log, in bytes.
    pub fn at(&self) -> u64 {
        u64::from(self.at) * GRAIN as u64
    }

    /// Whether the key is deleted.
    pub fn deletes(&self) -> bool {
        self.len == DELETE
    }

    /// Bytes of the value.
    pub fn value_len(&self) -> usize {
        if self.deletes() { 0 } else { self.len as usize }
    }

    /// Bytes of the entry of `key`.
    pub fn size(&self, key: &[u8]) -> usize {
        size(key.len(), self.value_len())
    }

    /// What a later change of the same key comes to.
    pub fn meets(&self, timestamp: u64, deletes: bool) -> Meeting {
        match timestamp >= self.timestamp {
            true => Meeting::Counts,
            // A delete leaves nothing, so that an older value may come after it; what the pages hold may be newer than that.
            false if self.deletes() && !deletes => Meeting::Unclear,
            false => Meeting::Stale,
        }
    }
}

/// What a change comes to beside the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// It takes the other's place: whatever the pages hold, that one does not matter any more.
    Counts,
    /// It is older, and has no effect.
    Stale,
    /// Only the pages can say.
    Unclear,
}

/// The last changes of keys.
#[derive(Debug, Default)]
pub struct Pending {
    slots: BTreeMap<Key, Slot>,
    memory: usize,
}

impl Pending {
    /// Bytes of memory that it takes, about.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// The last change of a key.
    pub fn get(&self, key: &[u8]) -> Option<Slot> {
        self.slots.get(key).copied()
    }

    /// A change that counts.
    pub fn put(&mut self, key: &[u8], slot: Slot) {
        match self.slots.get_mut(key) {
            Some(known) => *known = slot,
            None => {
                let key = Key::from_slice(key);
                self.memory += COST + if key.spilled() { key.len() } else { 0 };
                self.slots.insert(key, slot);
            }
        }
    }

    fn range(&self, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> btree_map::Range<'_, Key, Slot> {
        match bounds {
            // What a map panics at is empty.
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to))
                if from >= to && !matches!(bounds, (Bound::Included(a), Bound::Included(b)) if a == b) =>
            {
                btree_map::Range::default()
            }
            _ => self.slots.range::<[u8], _>(bounds),
        }
    }
}

/// The last changes of several pendings, of which later ones count, in the order of their keys, with the place of the pending
/// among them.
pub fn merged<'p>(
    all: &[&'p Pending],
    bounds: (Bound<&[u8]>, Bound<&[u8]>),
    backward: bool,
) -> impl Iterator<Item = (&'p Key, usize, Slot)> + use<'p> {
    type Each<'p> = Box<dyn Iterator<Item = (&'p Key, &'p Slot)> + 'p>;
    let ranges = all.iter().map(|pending| match backward {
        false => Box::new(pending.range(bounds)) as Each<'p>,
        true => Box::new(pending.range(bounds).rev()) as Each<'p>,
    });
    let mut ranges: Vec<Peekable<Each<'p>>> = ranges.map(Iterator::peekable).collect();
    std::iter::from_fn(move || {
        let keys = ranges.iter_mut().filter_map(|range| range.peek().map(|(key, _)| *key));
        let key = if backward { keys.max() } else { keys.min() }?;
        let mut last = None;
        for (i, range) in ranges.iter_mut().enumerate() {
            if let Some((_, slot)) = range.next_if(|(next, _)| *next == key) {
                last = Some((i, *slot));
            }
        }
        last.map(|(i, slot)| (key, i, slot))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Bound::{Excluded, Included, Unbounded};

    fn slot(timestamp: u64, value: Option<&[u8]>) -> Slot {
        Slot::new(8 * timestamp, &Logged { key: b"k", value, timestamp, expire_ms: 0 }).unwrap()
    }

    fn pending(keys: &[(&str, u64)]) -> Pending {
        let mut pending = Pending::default();
        keys.iter().for_each(|(key, at)| pending.put(key.as_bytes(), slot(*at, Some(b""))));
        pending
    }

    #[test]
    fn a_later_change_counts_if_it_is_not_older() {
        let (value, delete) = (slot(5, Some(b"v")), slot(5, None));
        assert_eq!(value.meets(5, false), Meeting::Counts);
        assert_eq!(value.meets(5, true), Meeting::Counts);
        assert_eq!(value.meets(4, true), Meeting::Stale);
        assert_eq!(delete.meets(6, false), Meeting::Counts);
        assert_eq!(delete.meets(4, true), Meeting::Stale);
        assert_eq!(delete.meets(4, false), Meeting::Unclear);
    }

    #[test]
    fn the_latest_of_several_comes_in_order() {
        let (old, new) = (pending(&[("a", 1), ("b", 1), ("d", 1)]), pending(&[("b", 2), ("c", 2)]));
        let read = |from, to, backward| {
            merged(&[&old, &new], (from, to), backward)
                .map(|(key, i, slot)| (String::from_utf8(key.to_vec()).unwrap(), i, slot.timestamp))
                .collect::<Vec<_>>()
        };
        let all = [("a", 0, 1), ("b", 1, 2), ("c", 1, 2), ("d", 0, 1)];
        let all = all.map(|(key, i, timestamp)| (key.to_owned(), i, timestamp));
        assert_eq!(read(Unbounded, Unbounded, false), all);
        assert_eq!(read(Unbounded, Unbounded, true).into_iter().rev().collect::<Vec<_>>(), all);
        assert_eq!(read(Excluded(b"a"), Included(b"c"), false), all[1..3]);
        assert_eq!(read(Included(b"d"), Excluded(b"a"), false), []);
        assert_eq!(read(Excluded(b"a"), Excluded(b"a"), false), []);
        assert_eq!(read(Included(b"a"), Included(b"a"), true), all[..1]);
    }

    #[test]
    fn memory_counts_keys_once() {
        let mut keys = pending(&[("a", 1), ("a", 2)]);
        assert_eq!(keys.memory(), COST);
        assert_eq!(keys.get(b"a"), Some(slot(2, Some(b""))));
        keys.put(&[b'x'; 100], slot(1, None));
        assert_eq!(keys.memory(), 2 * COST + 100);
    }
}
