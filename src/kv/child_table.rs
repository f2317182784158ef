//! The children of an index page with their separators, in one piece of memory.

use super::block::append_key;
use super::damage::Decoded;
use super::page::PageId;
use std::ops::Range;

/// Children in the order of their keys. Each has the smallest key that it may hold; the first one's is its page's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildTable {
    keys: Vec<u8>,
    /// Where each child's key ends in `keys`.
    ends: Vec<u32>,
    ids: Vec<PageId>,
}

impl ChildTable {
    /// One child.
    pub fn one(key: &[u8], id: PageId) -> ChildTable {
        let mut children = ChildTable::default();
        children.push(key, id);
        children
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Forgets all of them and keeps the memory.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.ends.clear();
        self.ids.clear();
    }

    /// Adds a child after the others.
    pub fn push(&mut self, key: &[u8], id: PageId) {
        self.keys.extend_from_slice(key);
        self.ends.push(self.keys.len() as u32);
        self.ids.push(id);
    }

    /// Adds a child whose key follows from the one before it, which is not the first one's: that is not coded.
    pub fn follow(&mut self, id: PageId, coded: (bool, usize, &[u8]), at: usize) -> Decoded<()> {
        let before = (self.len() > 1).then(|| self.start(self.len() - 1)..self.keys.len());
        append_key(&mut self.keys, before, coded, at)?;
        self.ends.push(self.keys.len() as u32);
        self.ids.push(id);
        Ok(())
    }

    /// Adds some of others' after these.
    pub fn extend(&mut self, others: &ChildTable, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let (from, to) = (others.start(range.start), others.start(range.end));
        let base = self.keys.len();
        self.keys.extend_from_slice(&others.keys[from..to]);
        self.ends.extend(others.ends[range.clone()].iter().map(|end| (base + *end as usize - from) as u32));
        self.ids.extend_from_slice(&others.ids[range]);
    }

    fn start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.ends[i - 1] as usize }
    }

    /// The smallest key that child `i` may hold.
    pub fn key(&self, i: usize) -> &[u8] {
        &self.keys[self.start(i)..self.ends[i] as usize]
    }

    /// Child `i`.
    pub fn id(&self, i: usize) -> PageId {
        self.ids[i]
    }

    /// Every child.
    pub fn ids(&self) -> &[PageId] {
        &self.ids
    }

    /// Every child with its key.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], PageId)> {
        (0..self.len()).map(|i| (self.key(i), self.id(i)))
    }

    /// The child whose range holds `key`: the last one whose own is not larger, or the first.
    pub fn find(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.key(middle) <= key {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }
}

impl<K: AsRef<[u8]>> FromIterator<(K, PageId)> for ChildTable {
    fn from_iter<I: IntoIterator<Item = (K, PageId)>>(children: I) -> ChildTable {
        let mut all = ChildTable::default();
        children.into_iter().for_each(|(key, id)| all.push(key.as_ref(), id));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn children_are_found_and_copied(
            keys in prop::collection::btree_set(prop::collection::vec(0u8..4, 0..6), 1..40),
            sought in prop::collection::vec(0u8..4, 0..6),
            cut in (0usize..40, 0usize..40),
        ) {
            let keys: Vec<&Vec<u8>> = keys.iter().collect();
            let children: ChildTable = (0..).zip(&keys).map(|(id, key)| (key, id)).collect();
            let expected = keys.partition_point(|key| **key <= sought).saturating_sub(1);
            prop_assert_eq!(children.find(&sought), expected);
            let (from, to) = (cut.0 % keys.len(), cut.1 % (keys.len() + 1));
            let mut copied = ChildTable::one(b"before", 77);
            copied.extend(&children, from..to);
            let expected: Vec<(&[u8], PageId)> = std::iter::once((&b"before"[..], 77))
                .chain((from..to).map(|i| (keys[i].as_slice(), i as u32)))
                .collect();
            prop_assert_eq!(copied.iter().collect::<Vec<_>>(), expected);
        }
    }
}
