//! Needle map: where every needle of a volume is.
//!
//! Sorted runs ([`Compact`]), the oldest and largest first, and a small tree of what was appended since. A full tree
//! becomes a run; runs of like size are merged. So the memory stays near that of one run, and appending costs little.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::status::{Error, Result, Status};
use crate::volume::compact::{Builder, Compact, Entry};
use crate::volume::row::Row;

/// The tree becomes a run at this many entries at the latest: below 600 KB of it, and half a millisecond to turn.
const DELTA_MOST: usize = 8_192;

/// A small map's tree may be this large: a run of less is not worth its while.
const DELTA_LEAST: usize = 256;

/// Otherwise the tree may be this part of the whole, since an entry takes five times the room there.
const DELTA_PART: usize = 32;

/// A run is merged into the one before it when that is at most this many times as large. Runs then fall by this
/// factor, so what they hold twice is at most 1/7 of the whole.
const MERGE_RATIO: usize = 8;

/// Rows that a load looks at together: 1.5 MB, which stays in a core's cache while it is sorted.
const LOAD_CHUNK: usize = 1 << 16;

/// Rows that a load keeps aside before it sorts them: 48 MB, and only where so many are out of order.
const LOAD_BATCH: usize = 2 << 20;

impl From<Row> for Entry {
    fn from(row: Row) -> Entry {
        match u32::try_from(row.size) {
            Ok(size) if row.offset != 0 => Entry { id: row.id, offset: row.offset, size, deleted: false },
            // A deletion's own offset is that of its tombstone record; what it deletes is in an older row.
            _ => Entry { id: row.id, offset: 0, size: 0, deleted: true },
        }
    }
}

/// Two neighbouring runs to be merged into one.
#[derive(Debug, Clone)]
pub struct Merge {
    older: Arc<Compact>,
    newer: Arc<Compact>,
    last: bool,
}

impl Merge {
    /// Does the work, in time that grows with the entries of both; needs no lock on the map. Errors: `OutOfMemory`.
    pub fn run(&self) -> Result<Arc<Compact>> {
        Compact::merge(&self.older, &self.newer, self.last).map(Arc::new)
    }
}

/// The map from needle id to place. Rows are applied in the order of the file; the last one of an id counts.
#[derive(Debug, Default)]
pub struct NeedleMap {
    runs: Vec<Arc<Compact>>,
    delta: BTreeMap<u64, Entry>,
}

impl NeedleMap {
    /// The entry of `id`, deleted or not; None if it never was.
    pub fn get(&self, id: u64) -> Option<Entry> {
        let mut found = self.delta.get(&id).copied();
        for run in self.runs.iter().rev() {
            match found {
                Some(entry) if !entry.is_tombstone() => break,
                Some(newer) => found = Some(run.get(id).map_or(newer, |older| newer.over(older))),
                None => found = run.get(id),
            }
        }
        found.filter(|entry| !entry.is_tombstone())
    }

    /// How many entries it stores; an id that is in several runs counts as often.
    pub fn entries(&self) -> usize {
        self.delta.len() + self.runs.iter().map(|run| run.len()).sum::<usize>()
    }

    /// Bytes of memory it holds; the tree's part is an estimate from above.
    pub fn memory(&self) -> usize {
        // A tree node has room for 11 entries and is at least half full.
        let tree = self.delta.len() * 2 * (size_of::<Entry>() + size_of::<u64>() + 4);
        tree + self.runs.iter().map(|run| run.memory() + size_of::<Compact>()).sum::<usize>()
    }

    /// Applies one row that was appended to the index. Errors: `OutOfMemory`.
    pub fn apply(&mut self, row: Row) -> Result<()> {
        let entry = Entry::from(row);
        self.delta.entry(row.id).and_modify(|old| *old = entry.over(*old)).or_insert(entry);
        let in_runs = self.runs.iter().map(|run| run.len()).sum::<usize>();
        if self.delta.len() >= (in_runs / DELTA_PART).clamp(DELTA_LEAST, DELTA_MOST) {
            let mut builder = Builder::default();
            for entry in self.delta.values() {
                builder.push(*entry)?;
            }
            self.runs.push(Arc::new(builder.finish()?));
            self.delta.clear();
        }
        Ok(())
    }

    /// Two runs that should be one, if there are any. [`Merge::run`] and then [`NeedleMap::merged`].
    pub fn next_merge(&self) -> Option<Merge> {
        let at = (1..self.runs.len())
            .rev()
            .find(|&at| self.runs[at - 1].len() <= MERGE_RATIO * self.runs[at].len())?;
        Some(self.merge_at(at))
    }

    /// Puts the result of a merge in the place of its two runs; nothing happens if they are gone.
    pub fn merged(&mut self, merge: &Merge, result: Arc<Compact>) {
        let place = self
            .runs
            .windows(2)
            .position(|pair| Arc::ptr_eq(&pair[0], &merge.older) && Arc::ptr_eq(&pair[1], &merge.newer));
        if let Some(at) = place {
            self.runs[at] = result;
            self.runs.remove(at + 1);
        }
    }

    fn merge_at(&self, at: usize) -> Merge {
        Merge { older: self.runs[at - 1].clone(), newer: self.runs[at].clone(), last: at == 1 }
    }

    fn settle(&mut self) -> Result<()> {
        while let Some(merge) = self.next_merge() {
            let result = merge.run()?;
            self.merged(&merge, result);
        }
        Ok(())
    }
}

/// Fills a map from a whole index file, far faster than row by row.
///
/// Most rows of an index come by rising id and go straight into a run. Where they come in some disorder, as many writers
/// at once make it, they are sorted a chunk at a time first. The rest (changes, deletions) is kept aside and sorted in
/// larger batches.
#[derive(Debug, Default)]
pub struct Loader {
    map: NeedleMap,
    chunk: Vec<Entry>,
    rising: Builder,
    largest: Option<u64>,
    aside: Vec<Entry>,
}

impl Loader {
    /// Adds rows in the order of the file. Errors: `OutOfMemory`.
    pub fn extend(&mut self, rows: impl Iterator<Item = Row>) -> Result<()> {
        self.chunk.try_reserve_exact(LOAD_CHUNK).map_err(no_memory)?;
        for row in rows {
            self.chunk.push(row.into());
            if self.chunk.len() == LOAD_CHUNK {
                self.take_chunk()?;
            }
        }
        Ok(())
    }

    /// The loaded map, in one run. Errors: `OutOfMemory`.
    pub fn finish(mut self) -> Result<NeedleMap> {
        self.take_chunk()?;
        self.flush()?;
        while self.map.runs.len() > 1 {
            let merge = self.map.merge_at(self.map.runs.len() - 1);
            let result = merge.run()?;
            self.map.merged(&merge, result);
        }
        Ok(self.map)
    }

    fn take_chunk(&mut self) -> Result<()> {
        let mut chunk = std::mem::take(&mut self.chunk);
        let (before, mut largest) = (self.largest, self.largest);
        let (mut late, mut falling) = (0, 0);
        for entry in &chunk {
            late += usize::from(Some(entry.id) <= before);
            falling += usize::from(Some(entry.id) <= largest);
            largest = largest.max(Some(entry.id));
        }
        // What was late before this chunk goes aside in any case; sorting helps those that only their neighbours passed.
        if (falling - late) * 8 > chunk.len() {
            sort(&mut chunk);
        }
        for entry in chunk.drain(..) {
            let rises = self.largest.is_none_or(|largest| entry.id > largest);
            if rises {
                self.largest = Some(entry.id);
            }
            if rises && !entry.is_tombstone() {
                self.rising.push(entry)?;
                continue;
            }
            if self.aside.len() == self.aside.capacity() {
                self.aside.try_reserve(LOAD_BATCH.min(self.aside.len() + 1_024)).map_err(no_memory)?;
            }
            self.aside.push(entry);
            if self.aside.len() == LOAD_BATCH {
                self.flush()?;
            }
        }
        self.chunk = chunk;
        Ok(())
    }

    /// Rows that came aside are newer than those of the same id in `rising`: an id goes there only when it is first
    /// seen, and so never after it was put aside.
    fn flush(&mut self) -> Result<()> {
        let rising = std::mem::take(&mut self.rising);
        if !rising.is_empty() {
            self.map.runs.push(Arc::new(rising.finish()?));
        }
        if self.aside.is_empty() {
            return Ok(());
        }
        sort(&mut self.aside);
        let mut builder = Builder::with_room(0, self.aside.len())?;
        for entry in self.aside.drain(..) {
            builder.push(entry)?;
        }
        self.map.runs.push(Arc::new(builder.finish()?));
        self.map.settle()
    }
}

/// Sorts entries by id and leaves one of each: what they come to in the order they were in.
fn sort(entries: &mut Vec<Entry>) {
    // Stable: entries of one id stay in their order.
    entries.sort_by_key(|entry| entry.id);
    entries.dedup_by(|later, first| {
        let same = later.id == first.id;
        if same {
            *first = later.over(*first);
        }
        same
    });
}

fn no_memory(_: std::collections::TryReserveError) -> Error {
    Error::new(Status::OutOfMemory, "no memory to load the index of a volume: serve fewer or smaller volumes")
}
