//! The slab: small buffers cut from chunks.
//!
//! A chunk is up to one huge page, divided into leaves of 64 KiB. A run is a few adjacent leaves, cut into blocks of one
//! size class; what is larger than a class takes leaves. Empty runs go back to their chunk but for one of each kind, empty
//! chunks to the system but for a few: new memory is cleared page by page, which takes longer than to fill it.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::account::{Account, Charge};
use super::buffer::{HUGE_PAGE, Mapping, Pages};
use super::size_class::{self, CLASSES, LEAF, SizeClass};
use crate::limits;
use crate::status::Result;

/// Where a buffer's bytes go when it is gone.
pub enum Home {
    /// Nowhere: the user's memory, or a peer's.
    Foreign,
    /// Unmapped, and taken off the account unless peers still have them.
    Charged(Arc<Charge>),
    /// Back into its run.
    Block {
        /// Its slab.
        slab: Arc<Slab>,
        /// Its size class.
        class: usize,
        /// Its run in the class.
        run: u32,
        /// Its place in the run.
        block: u16,
    },
    /// Back into its chunk.
    Leaves {
        /// Its slab.
        slab: Arc<Slab>,
        /// Which leaves.
        leaves: Leaves,
    },
}

impl Drop for Home {
    fn drop(&mut self) {
        match self {
            Home::Foreign => {}
            Home::Charged(charge) => charge.retire(),
            Home::Block { slab, class, run, block } => slab.give_block(*class, *run, *block),
            Home::Leaves { slab, leaves } => slab.give_leaves(*leaves),
        }
    }
}

/// Adjacent leaves of a chunk.
#[derive(Clone, Copy)]
pub struct Leaves {
    chunk: u32,
    first: u32,
    count: u32,
}

impl Leaves {
    fn mask(self) -> u32 {
        (u32::MAX >> (32 - self.count)) << self.first
    }
}

/// Memory that was taken from the slab.
pub struct Taken {
    /// The chunk's memory.
    pub mapping: Arc<Mapping>,
    /// Where it begins in there, in bytes.
    pub offset: usize,
    /// Whether it was never handed out before, and so is zero.
    pub clean: bool,
    /// How it goes back.
    pub home: Home,
}

struct Chunk {
    mapping: Arc<Mapping>,
    _charge: Charge,
    /// One bit a leaf: nobody has it.
    free: u32,
    /// One bit a leaf: it was handed out before.
    touched: u32,
}

#[derive(Default)]
struct Chunks {
    list: Vec<Option<Chunk>>,
    vacant: Vec<u32>,
    /// Chunks that have free leaves.
    open: BTreeSet<u32>,
    empty: usize,
}

struct Run {
    leaves: Leaves,
    mapping: Arc<Mapping>,
    offset: usize,
    clean: bool,
    /// Blocks from here on were never handed out by this run.
    next: u16,
    free: Vec<u16>,
    /// Its place in `Class::partial`.
    position: u32,
}

impl Run {
    fn in_use(&self) -> usize {
        usize::from(self.next) - self.free.len()
    }
}

#[derive(Default)]
struct Class {
    runs: Vec<Option<Run>>,
    vacant: Vec<u32>,
    /// Runs with a free block.
    partial: Vec<u32>,
}

/// What the slab holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlabStatistics {
    /// Mapped for chunks.
    pub mapped: u64,
    /// Handed out, rounded to size classes.
    pub in_use: u64,
    /// Mapped on reserved huge pages.
    pub huge: u64,
    /// Mapped where the kernel was asked for huge pages.
    pub advised: u64,
}

/// Chunks and their runs. Any thread; a class has its own lock.
pub struct Slab {
    account: Arc<Account>,
    chunk_leaves: u32,
    classes: [Mutex<Class>; CLASSES],
    chunks: Mutex<Chunks>,
}

impl Slab {
    /// An empty slab. A chunk is at most a sixteenth of the limit, so that small limits are not used up by rounding.
    pub fn new(account: Arc<Account>) -> Arc<Slab> {
        let most = (HUGE_PAGE / LEAF) as u64;
        let chunk_leaves = (account.limit() / 16 / LEAF as u64).clamp(1, most) as u32;
        let classes = std::array::from_fn(|_| Mutex::default());
        Arc::new(Slab { account, chunk_leaves, classes, chunks: Mutex::default() })
    }

    /// Memory for `length` bytes; `None` when it is too large for the slab. `OutOfMemory` when no chunk is to be had.
    pub fn take(self: &Arc<Self>, length: usize) -> Option<Result<Taken>> {
        match size_class::of(length) {
            Some((class, size)) if size.leaves <= self.chunk_leaves => Some(self.take_block(class, size)),
            None if length <= self.chunk_leaves as usize * LEAF => {
                let count = length.div_ceil(LEAF) as u32;
                Some(self.take_leaves(count).map(|(leaves, mapping, clean)| Taken {
                    offset: leaves.first as usize * LEAF,
                    mapping,
                    clean,
                    home: Home::Leaves { slab: self.clone(), leaves },
                }))
            }
            _ => None,
        }
    }

    /// Gives every empty run and chunk back to the system.
    pub fn trim(&self) {
        for class in &self.classes {
            let mut class = class.lock();
            for run in class.partial.clone() {
                if let Some(leaves) = class.close_if_empty(run) {
                    self.give_leaves(leaves);
                }
            }
        }
        self.chunks.lock().close_empty(0, self.full());
    }

    /// What it holds now.
    pub fn statistics(&self) -> SlabStatistics {
        let mut sum = SlabStatistics::default();
        let mut in_runs = 0;
        for (class, size) in self.classes.iter().zip(size_class::TABLE) {
            for run in class.lock().runs.iter().flatten() {
                sum.in_use += run.in_use() as u64 * u64::from(size.bytes);
                in_runs += u64::from(run.leaves.count) * LEAF as u64;
            }
        }
        let mut in_leaves = 0;
        for chunk in self.chunks.lock().list.iter().flatten() {
            let bytes = chunk.mapping.len() as u64;
            sum.mapped += bytes;
            in_leaves += bytes - u64::from(chunk.free.count_ones()) * LEAF as u64;
            match chunk.mapping.pages() {
                Pages::Ordinary => {}
                Pages::Advised => sum.advised += bytes,
                Pages::Huge => sum.huge += bytes,
            }
        }
        sum.in_use += in_leaves.saturating_sub(in_runs);
        sum
    }

    fn full(&self) -> u32 {
        u32::MAX >> (32 - self.chunk_leaves)
    }

    fn take_block(self: &Arc<Self>, class: usize, size: SizeClass) -> Result<Taken> {
        loop {
            if let Some(taken) = self.take_from_run(class, size) {
                return Ok(taken);
            }
            // Not under the lock of the class: making room visits all of them.
            let (leaves, mapping, clean) = self.take_leaves(size.leaves)?;
            let offset = leaves.first as usize * LEAF;
            let run = Run { leaves, mapping, offset, clean, next: 0, free: Vec::new(), position: 0 };
            self.classes[class].lock().open(run);
        }
    }

    fn take_from_run(self: &Arc<Self>, class: usize, size: SizeClass) -> Option<Taken> {
        let mut state = self.classes[class].lock();
        let index = *state.partial.last()?;
        let run = state.runs[index as usize].as_mut()?;
        let (block, clean) = match run.free.pop() {
            Some(block) => (block, false),
            None => {
                run.next += 1;
                (run.next - 1, run.clean)
            }
        };
        let (mapping, offset) = (run.mapping.clone(), run.offset + usize::from(block) * size.bytes as usize);
        if run.in_use() == usize::from(size.blocks) {
            state.partial.pop();
        }
        drop(state);
        let home = Home::Block { slab: self.clone(), class, run: index, block };
        Some(Taken { mapping, offset, clean, home })
    }

    fn give_block(&self, class: usize, run: u32, block: u16) {
        let size = size_class::TABLE[class];
        let mut state = self.classes[class].lock();
        let position = state.partial.len() as u32;
        let Some(entry) = state.runs[run as usize].as_mut() else { return };
        let was_full = entry.in_use() == usize::from(size.blocks);
        entry.free.push(block);
        if was_full {
            entry.position = position;
            state.partial.push(run);
        }
        if state.partial.len() > 1
            && let Some(leaves) = state.close_if_empty(run)
        {
            drop(state);
            self.give_leaves(leaves);
        }
    }

    fn take_leaves(&self, count: u32) -> Result<(Leaves, Arc<Mapping>, bool)> {
        if let Some(found) = self.chunks.lock().take(count) {
            return Ok(found);
        }
        let bytes = self.chunk_leaves as usize * LEAF;
        let charge = self.account.charge(bytes).or_else(|_| {
            self.trim();
            self.account.charge(bytes)
        });
        let charge = match charge {
            Ok(charge) => charge,
            // Trimming may have freed leaves of chunks that are still in use.
            Err(error) => return self.chunks.lock().take(count).ok_or(error),
        };
        let mapping = Arc::new(Mapping::anonymous(bytes)?);
        let mut chunks = self.chunks.lock();
        chunks.open(Chunk { mapping, _charge: charge, free: self.full(), touched: 0 });
        chunks.take(count).ok_or_else(|| crate::status::Status::Internal.into())
    }

    fn give_leaves(&self, leaves: Leaves) {
        let mut chunks = self.chunks.lock();
        let Some(chunk) = chunks.list[leaves.chunk as usize].as_mut() else { return };
        chunk.free |= leaves.mask();
        let empty = chunk.free == self.full();
        chunks.open.insert(leaves.chunk);
        if empty {
            chunks.empty += 1;
            chunks.close_empty(limits::EMPTY_CHUNKS, self.full());
        }
    }
}

impl Class {
    fn open(&mut self, mut run: Run) {
        run.position = self.partial.len() as u32;
        let index = match self.vacant.pop() {
            Some(index) => {
                self.runs[index as usize] = Some(run);
                index
            }
            None => {
                self.runs.push(Some(run));
                self.runs.len() as u32 - 1
            }
        };
        self.partial.push(index);
    }

    fn close_if_empty(&mut self, index: u32) -> Option<Leaves> {
        let run = self.runs[index as usize].take_if(|run| run.in_use() == 0)?;
        let position = run.position as usize;
        self.partial.swap_remove(position);
        if let Some(moved) = self.partial.get(position)
            && let Some(moved) = self.runs[*moved as usize].as_mut()
        {
            moved.position = position as u32;
        }
        self.vacant.push(index);
        Some(run.leaves)
    }
}

impl Chunks {
    fn open(&mut self, chunk: Chunk) {
        let index = match self.vacant.pop() {
            Some(index) => {
                self.list[index as usize] = Some(chunk);
                index
            }
            None => {
                self.list.push(Some(chunk));
                self.list.len() as u32 - 1
            }
        };
        self.open.insert(index);
        self.empty += 1;
    }

    /// The first `count` adjacent free leaves.
    fn take(&mut self, count: u32) -> Option<(Leaves, Arc<Mapping>, bool)> {
        for index in &self.open {
            let Some(chunk) = self.list[*index as usize].as_mut() else { continue };
            let Some(first) = adjacent(chunk.free, count) else { continue };
            let leaves = Leaves { chunk: *index, first, count };
            if chunk.free.count_ones() as usize * LEAF == chunk.mapping.len() {
                self.empty -= 1;
            }
            let clean = chunk.touched & leaves.mask() == 0;
            chunk.touched |= leaves.mask();
            chunk.free &= !leaves.mask();
            let mapping = chunk.mapping.clone();
            if chunk.free == 0 {
                self.open.remove(&leaves.chunk);
            }
            return Some((leaves, mapping, clean));
        }
        None
    }

    /// Unmaps empty chunks but for `keep` of them.
    fn close_empty(&mut self, keep: usize, full: u32) {
        while self.empty > keep {
            let is_empty =
                |index: &&u32| self.list[**index as usize].as_ref().is_some_and(|c| c.free == full);
            let Some(index) = self.open.iter().rev().find(is_empty).copied() else { return };
            self.open.remove(&index);
            self.list[index as usize] = None;
            self.vacant.push(index);
            self.empty -= 1;
        }
    }
}

/// The lowest place of `count` adjacent ones.
fn adjacent(bits: u32, count: u32) -> Option<u32> {
    let mut starts = bits;
    for shift in 1..count {
        starts &= bits >> shift;
    }
    (starts != 0).then(|| starts.trailing_zeros())
}

#[cfg(test)]
mod tests;
