//! The prefix-coded entries of a data or index page: where they end, and where coding restarts.

use super::damage::{Damage, Decoded};
use super::varint::Reader;
use std::cmp::Ordering;
use std::ops::Range;

/// Where `content_len` stands in a page.
pub const CONTENT_LEN: usize = 9;

/// The entries of a page and its restart points, with every offset checked against the page.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The page up to the end of its entries; offsets count from the start of the page.
    pub bytes: &'a [u8],
    /// Offset of the first entry.
    pub first: usize,
    restarts: &'a [u8],
}

impl<'a> Block<'a> {
    /// The block of a page whose entries begin at `first`.
    pub fn parse(page: &'a [u8], first: usize) -> Decoded<Block<'a>> {
        let wrong = Damage::new(CONTENT_LEN, "the content's length is wrong");
        let content = usize::from(Reader::new(page, CONTENT_LEN).u16()?);
        if content > page.len() || content < first + 2 {
            return Err(wrong);
        }
        let count_at = content - 2;
        let count = usize::from(Reader::new(page, count_at).u16()?);
        let restarts_at = count_at.checked_sub(2 * count).filter(|at| *at >= first).ok_or(wrong)?;
        let block = Block { bytes: &page[..restarts_at], first, restarts: &page[restarts_at..count_at] };
        if (count == 0) != (restarts_at == first) || (count > 0 && block.restart(0)? != first) {
            return Err(Damage::new(restarts_at, "the restart points do not match the entries"));
        }
        Ok(block)
    }

    /// How many restart points there are; 0 only without entries.
    pub fn restarts(&self) -> usize {
        self.restarts.len() / 2
    }

    /// Offset of restart point `i`.
    pub fn restart(&self, i: usize) -> Decoded<usize> {
        let bad = Damage::new(self.bytes.len() + 2 * i, "a restart point is outside the entries");
        let pair = self.restarts.get(2 * i..2 * i + 2).ok_or(bad)?;
        let at = usize::from(u16::from_le_bytes([pair[0], pair[1]]));
        if at < self.first || at >= self.bytes.len() { Err(bad) } else { Ok(at) }
    }

    /// The last restart point whose key is at most `key`; 0 if there is none. Not for an empty block.
    pub fn search(&self, key: &[u8]) -> Decoded<usize> {
        let (mut low, mut high) = (0, self.restarts());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.restart_key(middle)? <= key {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The key at restart point `i`.
    pub fn restart_key(&self, i: usize) -> Decoded<&'a [u8]> {
        let mut reader = Reader::new(self.bytes, self.restart(i)?);
        if reader.varint32()? != 0 {
            return Err(Damage::new(reader.at(), "a restart point shares a prefix"));
        }
        let len = reader.varlen()?;
        // Data entries have their value descriptor between the lengths and the key.
        if self.first == super::data_page::FIRST {
            reader.varint32()?;
        }
        reader.take(len)
    }
}

/// Compares the keys of a walk with one that is looked for, without putting them together.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'k> {
    key: &'k [u8],
    /// Bytes that the last key has in common with it.
    common: usize,
    /// Bytes of the last key, which is smaller; None before the first.
    last: Option<usize>,
}

impl<'k> Sought<'k> {
    /// Looks for `key`.
    pub fn new(key: &'k [u8]) -> Sought<'k> {
        Sought { key, common: 0, last: None }
    }

    /// How the next key compares with the one that is looked for, as long as all before it are smaller. `at` is where
    /// damage is.
    #[inline]
    pub fn next(&mut self, restart: bool, shared: usize, suffix: &[u8], at: usize) -> Decoded<Ordering> {
        if shared > self.last.unwrap_or(0) || (restart && shared != 0) {
            return Err(Damage::new(at, "a key shares more than there is"));
        }
        self.last = Some(shared + suffix.len());
        // It has the byte by which the last one is smaller. (Keys may share more than they say: the bytes decide.)
        if !restart && shared > self.common {
            return Ok(Ordering::Less);
        }
        let from = if restart { 0 } else { shared };
        let rest = &self.key[from..];
        let more = rest.iter().zip(suffix).take_while(|(a, b)| a == b).count();
        self.common = from + more;
        Ok(suffix[more..].first().cmp(&rest[more..].first()))
    }
}

/// Walks the keys of a block; the caller reads what lies between and after them.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    /// The block walked over.
    pub block: Block<'a>,
    /// At the next entry.
    pub reader: Reader<'a>,
    /// The key of the entry last read.
    pub key: Vec<u8>,
    next_restart: usize,
    started: bool,
}

impl<'a> Walk<'a> {
    /// A walk that starts at restart point `restart`.
    pub fn new(block: Block<'a>, restart: usize) -> Decoded<Walk<'a>> {
        let at = if block.restarts() == 0 { block.first } else { block.restart(restart)? };
        let reader = Reader::new(block.bytes, at);
        Ok(Walk { block, reader, key: Vec::new(), next_restart: restart, started: false })
    }

    /// Whether the next entry begins a restart interval; moves on to the interval after it.
    pub fn at_restart(&mut self) -> Decoded<bool> {
        if self.next_restart >= self.block.restarts() {
            return Ok(false);
        }
        let at = self.block.restart(self.next_restart)?;
        if self.reader.at() > at {
            return Err(Damage::new(at, "a restart point is not at an entry"));
        }
        let here = self.reader.at() == at;
        self.next_restart += usize::from(here);
        Ok(here)
    }

    /// Whether no entry is left; then every restart point must have been met.
    pub fn at_end(&self) -> Decoded<bool> {
        if !self.reader.is_empty() {
            return Ok(false);
        }
        if self.next_restart < self.block.restarts() {
            return Err(Damage::new(self.block.bytes.len(), "a restart point is not at an entry"));
        }
        Ok(true)
    }

    /// Replaces the key's tail. `shared` bytes stay, `suffix` follows them; keys must ascend.
    pub fn extend_key(&mut self, restart: bool, shared: usize, suffix: &[u8]) -> Decoded<()> {
        let at = self.reader.at();
        if shared > self.key.len() || (restart && shared != 0) {
            return Err(Damage::new(at, "a key shares more than there is"));
        }
        // What follows the shared prefix decides the order; a first key has nothing before it.
        let first = !std::mem::replace(&mut self.started, true);
        if !first && suffix <= &self.key[shared..] {
            return Err(Damage::new(at, "keys are out of order"));
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(suffix);
        Ok(())
    }
}

/// Appends a key to others that lie one after the other: `shared` bytes of the one before it, if there is one, then
/// `suffix`. They must ascend. `at` is where damage is.
#[inline]
pub fn append_key(
    keys: &mut Vec<u8>,
    before: Option<Range<usize>>,
    (restart, shared, suffix): (bool, usize, &[u8]),
    at: usize,
) -> Decoded<()> {
    let first = before.is_none();
    let before = before.unwrap_or(keys.len()..keys.len());
    if shared > before.len() || (restart && shared != 0) {
        return Err(Damage::new(at, "a key shares more than there is"));
    }
    let common = before.start..before.start + shared;
    if !first && suffix <= &keys[common.end..before.end] {
        return Err(Damage::new(at, "keys are out of order"));
    }
    keys.extend_from_within(common);
    keys.extend_from_slice(suffix);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// What is found out from shared and unshared bytes is what whole keys say.
        #[test]
        fn keys_compare_without_being_put_together(
            keys in prop::collection::btree_set(prop::collection::vec(0u8..3, 1..6), 1..40),
            sought in prop::collection::vec(0u8..3, 0..6),
            interval in 1usize..8,
            less in prop::collection::vec(0usize..3, 40),
        ) {
            let keys: Vec<&Vec<u8>> = keys.iter().collect::<BTreeSet<_>>().into_iter().collect();
            let mut look = Sought::new(&sought);
            for (i, key) in keys.iter().enumerate() {
                let restart = i % interval == 0;
                let shared = match restart {
                    true => 0,
                    false => key.iter().zip(keys[i - 1]).take_while(|(a, b)| a == b).count(),
                };
                // Other writers may share less than they could.
                let shared = shared.saturating_sub(less[i]);
                let order = look.next(restart, shared, &key[shared..], 0).unwrap();
                prop_assert_eq!(order, key.as_slice().cmp(&sought));
                if order != Ordering::Less {
                    break;
                }
            }
        }
    }
}
