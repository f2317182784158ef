//! Entries in one piece of memory, for whoever wants many of them.

use super::tree::Found;

/// Bytes before an entry's key: its size, its value's length, timestamp, expiry, its key's length, and flags.
pub const HEAD: usize = 40;
/// Flag of an entry that is a very large value.
pub const LARGE: u32 = 1;

/// Entries one after the other, each as the C ABI lays them out (`rde_kv_entry`): fields in the machine's byte order, key,
/// value, and up to 7 bytes that align the next one to 8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    bytes: Vec<u8>,
    count: usize,
    last_key: (usize, usize),
}

/// One of packed entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'b> {
    /// The key.
    pub key: &'b [u8],
    /// The value, decompressed.
    pub value: &'b [u8],
    /// The writer's timestamp.
    pub timestamp: u64,
    /// When it expires, unix milliseconds; 0 never.
    pub expire_ms: u64,
    /// Whether it is a very large value.
    pub large: bool,
}

impl<'b> From<&'b Found> for EntryRef<'b> {
    fn from(found: &'b Found) -> EntryRef<'b> {
        let Found { key, value, timestamp, expire_ms, large } = found;
        EntryRef { key, value, timestamp: *timestamp, expire_ms: *expire_ms, large: large.is_some() }
    }
}

impl EntryRef<'_> {
    /// Bytes that it takes, packed.
    pub fn size(&self) -> usize {
        (HEAD + self.key.len() + self.value.len()).next_multiple_of(8)
    }
}

impl Packed {
    /// No entries, with room for this many bytes.
    pub fn with_capacity(bytes: usize) -> Packed {
        Packed { bytes: Vec::with_capacity(bytes), ..Packed::default() }
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &EntryRef<'_>) {
        let mut head = [0; HEAD];
        let words = [entry.size() as u64, entry.value.len() as u64, entry.timestamp, entry.expire_ms];
        for (slot, word) in head.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *slot = word.to_ne_bytes();
        }
        head[32..36].copy_from_slice(&(entry.key.len() as u32).to_ne_bytes());
        head[36..40].copy_from_slice(&(if entry.large { LARGE } else { 0 }).to_ne_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(entry.key);
        self.bytes.extend_from_slice(entry.value);
        self.bytes.resize(at + entry.size(), 0);
        self.last_key = (at + HEAD, at + HEAD + entry.key.len());
        self.count += 1;
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The key of the last entry: where the next scan goes on.
    pub fn last_key(&self) -> Option<&[u8]> {
        self.bytes.get(self.last_key.0..self.last_key.1).filter(|_| self.count > 0)
    }

    /// All of them as they lie.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The entries in their order.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (head, body) = rest.split_first_chunk::<HEAD>()?;
            let (words, _) = head.as_chunks::<8>();
            let [size, value_len, timestamp, expire_ms, ends] = words.first_chunk()?.map(u64::from_ne_bytes);
            let [a, b, c, d, f, ..] = ends.to_ne_bytes();
            let (key, tail) = body.split_at_checked(u32::from_ne_bytes([a, b, c, d]) as usize)?;
            let value = tail.get(..value_len as usize)?;
            rest = rest.get(size as usize..)?;
            Some(EntryRef { key, value, timestamp, expire_ms, large: f & LARGE as u8 != 0 })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_in_their_order() {
        let mut block = Packed::with_capacity(100);
        assert_eq!((block.len(), block.last_key(), block.iter().count()), (0, None, 0));
        let value = [7u8; 300];
        let entries = (0..9usize).map(|i| EntryRef {
            key: &value[..i],
            value: &value[..i * 31],
            timestamp: i as u64,
            expire_ms: u64::MAX - i as u64,
            large: i % 3 == 0,
        });
        let entries: Vec<EntryRef<'_>> = entries.collect();
        entries.iter().for_each(|entry| block.push(entry));
        assert!(block.iter().eq(entries.iter().copied()));
        assert_eq!((block.len(), block.last_key()), (9, Some(&value[..8])));
        assert_eq!(block.bytes().len(), entries.iter().map(EntryRef::size).sum::<usize>());
    }
}
