//! A sorted run of index entries in a few bytes each.
//!
//! Entries are cut into blocks of up to 128. A block stores ids and offsets as differences from its least, and
//! all three columns in as many bytes as its largest value needs, so that an entry takes 16 bytes in the worst case of
//! a large map (7 + 5 + 4) and 6 to 9 in the usual one. A look-up is two binary searches.

use crate::status::{Error, Result, Status};

/// Most entries of a block: differences stay small, and a block's own 24 bytes are spread thin.
const BLOCK: usize = 128;

/// A partly filled block is closed early, so that what follows can be copied as it is, from this many entries on.
const CLOSE_EARLY: usize = BLOCK / 2;

/// Values are read as 8 bytes and masked; this much follows the last one.
const PADDING: usize = 8;

/// Where a needle is, and whether it still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The needle.
    pub id: u64,
    /// Of its record, in units of 8 bytes; below 2^40. 0 in a deletion that does not know what it deletes.
    pub offset: u64,
    /// Size field of its record; below 2^31.
    pub size: u32,
    /// It was deleted; the record may still be there.
    pub deleted: bool,
}

impl Entry {
    /// A deletion that hides older entries of the same id and says nothing of where they are.
    pub fn is_tombstone(&self) -> bool {
        self.deleted && self.offset == 0
    }

    /// What is known after `self` happened to `older` of the same id.
    pub fn over(self, older: Entry) -> Entry {
        if self.is_tombstone() { Entry { deleted: true, ..older } } else { self }
    }
}

/// Position and widths of a block: `at` in 40 bits, then 4 bits each for the three widths, then the count.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The least offset in the block.
    offset: u64,
    packed: u64,
}

impl Block {
    fn new(offset: u64, at: usize, widths: [usize; 3], count: usize) -> Block {
        let [id, place, size] = widths.map(|width| width as u64);
        Block { offset, packed: at as u64 | id << 40 | place << 44 | size << 48 | (count as u64) << 52 }
    }

    fn at(self) -> usize {
        (self.packed & 0xff_ffff_ffff) as usize
    }

    fn widths(self) -> [usize; 3] {
        [40, 44, 48].map(|shift| (self.packed >> shift & 15) as usize)
    }

    fn count(self) -> usize {
        (self.packed >> 52) as usize
    }

    fn length(self) -> usize {
        self.widths().iter().sum::<usize>() * self.count()
    }
}

/// Entries sorted by id, each id once. Never changes.
#[derive(Debug, Default)]
pub struct Compact {
    /// The least id of each block; apart from the rest because a look-up searches only these.
    firsts: Vec<u64>,
    blocks: Vec<Block>,
    bytes: Vec<u8>,
    len: usize,
}

impl Compact {
    /// How many entries, deleted ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory it holds.
    pub fn memory(&self) -> usize {
        self.firsts.capacity() * size_of::<u64>()
            + self.blocks.capacity() * size_of::<Block>()
            + self.bytes.capacity()
    }

    /// The entry of `id`.
    pub fn get(&self, id: u64) -> Option<Entry> {
        let index = self.firsts.partition_point(|first| *first <= id).checked_sub(1)?;
        let block = self.blocks[index];
        let wanted = id - self.firsts[index];
        let [width, ..] = block.widths();
        let stride = block.widths().iter().sum::<usize>();
        let (mut low, mut high) = (0, block.count());
        while low < high {
            let middle = (low + high) / 2;
            let found = self.value(block.at() + middle * stride, width);
            match found.cmp(&wanted) {
                std::cmp::Ordering::Equal => return Some(self.entry(index, middle)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Every entry, by id.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.blocks.len()).flat_map(|block| self.block(block))
    }

    fn value(&self, at: usize, width: usize) -> u64 {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        u64::from_le_bytes(bytes) & u64::MAX.checked_shr(64 - 8 * width as u32).unwrap_or(0)
    }

    fn entry(&self, index: usize, place: usize) -> Entry {
        let block = self.blocks[index];
        let widths = block.widths();
        self.entry_at(
            self.firsts[index],
            block.offset,
            widths,
            block.at() + place * widths.iter().sum::<usize>(),
        )
    }

    fn block(&self, index: usize) -> impl Iterator<Item = Entry> + '_ {
        let (first, block) = (self.firsts[index], self.blocks[index]);
        let (at, widths) = (block.at(), block.widths());
        let stride = widths.iter().sum::<usize>();
        (0..block.count()).map(move |place| self.entry_at(first, block.offset, widths, at + place * stride))
    }

    fn entry_at(&self, first: u64, least: u64, [id, offset, size]: [usize; 3], at: usize) -> Entry {
        let packed = self.value(at + id + offset, size);
        Entry {
            id: first + self.value(at, id),
            offset: least + self.value(at + id, offset),
            size: (packed >> 1) as u32,
            deleted: packed & 1 == 1,
        }
    }

    /// Joins two runs; what `newer` says happened after what `older` says. With `last`, no run is older than `older`,
    /// and deletions of what is nowhere are dropped.
    pub fn merge(older: &Compact, newer: &Compact, last: bool) -> Result<Compact> {
        let mut out = Builder::with_room(older.bytes.len() + newer.bytes.len(), older.len + newer.len)?;
        let mut coming = newer.iter().peekable();
        for index in 0..older.blocks.len() {
            let next_block = older.firsts.get(index + 1).copied();
            let untouched = match (coming.peek(), next_block) {
                (None, _) => true,
                (Some(entry), Some(first)) => entry.id >= first,
                (Some(_), None) => false,
            };
            // A block without tombstones to drop and without news can go over as it is.
            if untouched && (!last || !older.has_tombstones(index)) && out.append_block(older, index)? {
                continue;
            }
            for old in older.block(index) {
                while let Some(new) = coming.next_if(|new| new.id < old.id) {
                    out.push_unless(last && new.is_tombstone(), new)?;
                }
                let joined = coming.next_if(|new| new.id == old.id).map_or(old, |new| new.over(old));
                out.push_unless(last && joined.is_tombstone(), joined)?;
            }
        }
        for new in coming {
            out.push_unless(last && new.is_tombstone(), new)?;
        }
        out.finish()
    }

    fn has_tombstones(&self, index: usize) -> bool {
        // Only the least offset of a block can be 0.
        self.blocks[index].offset == 0
    }
}

/// Makes a [`Compact`] from entries that come by rising id.
#[derive(Debug, Default)]
pub struct Builder {
    run: Compact,
    open: Vec<Entry>,
}

impl Builder {
    /// A builder that expects about this many bytes and entries. Errors: `OutOfMemory`.
    pub fn with_room(bytes: usize, entries: usize) -> Result<Builder> {
        let mut builder = Builder::default();
        let blocks = entries / BLOCK + 1;
        builder.run.bytes.try_reserve_exact(bytes + PADDING).map_err(no_memory)?;
        builder.run.firsts.try_reserve_exact(blocks).map_err(no_memory)?;
        builder.run.blocks.try_reserve_exact(blocks).map_err(no_memory)?;
        Ok(builder)
    }

    /// Adds an entry; its id must be larger than every one before it.
    pub fn push(&mut self, entry: Entry) -> Result<()> {
        debug_assert!(self.open.last().is_none_or(|last| last.id < entry.id), "entries come by rising id");
        self.open.push(entry);
        if self.open.len() == BLOCK { self.close_block() } else { Ok(()) }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.run.len + self.open.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push_unless(&mut self, skip: bool, entry: Entry) -> Result<()> {
        if skip { Ok(()) } else { self.push(entry) }
    }

    /// Copies a whole block of another run; false if that would leave too small a block behind.
    fn append_block(&mut self, from: &Compact, index: usize) -> Result<bool> {
        if !self.open.is_empty() && self.open.len() < CLOSE_EARLY {
            return Ok(false);
        }
        self.close_block()?;
        let block = from.blocks[index];
        let source = from.bytes.get(block.at()..block.at() + block.length()).unwrap_or_default();
        self.add_block(
            from.firsts[index],
            Block::new(block.offset, self.run.bytes.len(), block.widths(), block.count()),
        )?;
        self.run.bytes.try_reserve(source.len()).map_err(no_memory)?;
        self.run.bytes.extend_from_slice(source);
        Ok(true)
    }

    fn add_block(&mut self, first: u64, block: Block) -> Result<()> {
        self.run.firsts.try_reserve(1).map_err(no_memory)?;
        self.run.blocks.try_reserve(1).map_err(no_memory)?;
        self.run.firsts.push(first);
        self.run.blocks.push(block);
        self.run.len += block.count();
        Ok(())
    }

    fn close_block(&mut self) -> Result<()> {
        let (Some(first), Some(last)) = (self.open.first(), self.open.last()) else { return Ok(()) };
        let (first, last) = (first.id, last.id);
        let (mut least, mut most, mut size) = (u64::MAX, 0, 0);
        for entry in &self.open {
            least = least.min(entry.offset);
            most = most.max(entry.offset);
            size |= packed_size(entry);
        }
        let widths = [last - first, most - least, size].map(byte_width);
        self.add_block(first, Block::new(least, self.run.bytes.len(), widths, self.open.len()))?;
        let length = widths.iter().sum::<usize>() * self.open.len();
        self.run.bytes.try_reserve(length + PADDING).map_err(no_memory)?;
        // Each value is written as 8 bytes, the next one over its upper zeros.
        let start = self.run.bytes.len();
        self.run.bytes.resize(start + length + PADDING, 0);
        let mut at = start;
        for entry in &self.open {
            for (value, width) in
                [entry.id - first, entry.offset - least, packed_size(entry)].into_iter().zip(widths)
            {
                if let Some(place) = self.run.bytes.get_mut(at..at + 8) {
                    place.copy_from_slice(&value.to_le_bytes());
                }
                at += width;
            }
        }
        self.run.bytes.truncate(start + length);
        self.open.clear();
        Ok(())
    }

    /// The finished run, holding no more memory than it needs.
    pub fn finish(mut self) -> Result<Compact> {
        self.close_block()?;
        self.run.bytes.try_reserve_exact(PADDING).map_err(no_memory)?;
        self.run.bytes.extend_from_slice(&[0; PADDING]);
        self.run.bytes.shrink_to_fit();
        self.run.firsts.shrink_to_fit();
        self.run.blocks.shrink_to_fit();
        Ok(self.run)
    }
}

fn packed_size(entry: &Entry) -> u64 {
    u64::from(entry.size) << 1 | u64::from(entry.deleted)
}

fn byte_width(largest: u64) -> usize {
    8 - largest.leading_zeros() as usize / 8
}

fn no_memory(_: std::collections::TryReserveError) -> Error {
    Error::new(
        Status::OutOfMemory,
        "no memory for the needle map of a volume: serve fewer or smaller volumes",
    )
}
