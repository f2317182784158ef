//! Which file pages and which page ids are free.

use super::manifest::{FILE_PAGES, Manifest};
use super::mapping::Mapping;
use super::options::Options;
use super::page::{NONE, PageId};
use crate::status::{Error, Result, Status};
use std::collections::BTreeMap;

/// Free file pages as runs, and the end of what was ever used.
#[derive(Debug)]
pub struct Space {
    reuse: bool,
    end: u64,
    runs: BTreeMap<u64, u64>,
}

impl Space {
    /// What a loaded manifest leaves free. In append mode that is nothing: compaction reclaims whole files.
    pub fn load(manifest: &Manifest, options: &Options) -> Space {
        let mut space = Space { reuse: !options.append, end: manifest.end, runs: BTreeMap::new() };
        if options.append {
            return space;
        }
        // Files of other branches are theirs.
        let own = (manifest.branches.name.as_str(), manifest.branches.term);
        let foreign =
            manifest.branches.ranges.iter().filter(|range| (range.branch.as_str(), range.term) != own);
        let first = foreign.map(|range| after_file(range.max_file, options.pages_per_file_shift)).max();
        let mut used: Vec<u64> = manifest.mapping.pages().map(|(_, file_page)| file_page).collect();
        used.sort_unstable();
        let mut at = first.unwrap_or(0);
        for page in used {
            if page > at {
                space.runs.insert(at, page - at);
            }
            at = at.max(page + 1);
        }
        if manifest.end > at {
            space.runs.insert(at, manifest.end - at);
        }
        space
    }

    /// Room for nothing, which keeps nothing.
    pub fn none() -> Space {
        Space { reuse: false, end: 0, runs: BTreeMap::new() }
    }

    /// The smallest file page that was never used.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Leaves file pages below `end` alone that were never used by this manifest.
    pub fn skip(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// A free file page; ascending ones as far as possible, so that writes join.
    pub fn take(&mut self) -> u64 {
        let Some(run) = self.runs.first_entry() else {
            self.end += 1;
            return self.end - 1;
        };
        let (start, len) = (*run.key(), *run.get());
        run.remove();
        if len > 1 {
            self.runs.insert(start + 1, len - 1);
        }
        start
    }

    /// Takes a free file page out of what can be taken.
    pub fn hold(&mut self, page: u64) {
        let Some((start, len)) = self.runs.range(..=page).next_back().map(|(start, len)| (*start, *len))
        else {
            return;
        };
        if page >= start + len {
            return;
        }
        self.runs.remove(&start);
        if page > start {
            self.runs.insert(start, page - start);
        }
        if page + 1 < start + len {
            self.runs.insert(page + 1, start + len - page - 1);
        }
    }

    /// A file page that nothing refers to any more.
    pub fn give(&mut self, page: u64) {
        if !self.reuse {
            return;
        }
        let mut run = (page, 1);
        if let Some((start, len)) = self.runs.range(..page).next_back().map(|(start, len)| (*start, *len))
            && start + len == page
        {
            self.runs.remove(&start);
            run = (start, len + 1);
        }
        if let Some(len) = self.runs.remove(&(page + 1)) {
            run.1 += len;
        }
        self.runs.insert(run.0, run.1);
    }
}

/// The first file page, or segment, after a file; bounded, whatever the file's number.
pub fn after_file(id: u64, shift: u32) -> u64 {
    id.saturating_add(1).min(FILE_PAGES >> shift) << shift
}

/// Free ids of logical pages or segments, and the end of those that were ever used.
#[derive(Debug)]
pub struct Ids {
    free: Vec<PageId>,
    end: PageId,
}

impl Ids {
    /// What a mapping leaves free.
    pub fn load(mapping: &Mapping) -> Ids {
        let mut free: Vec<PageId> = mapping.free().collect();
        free.reverse();
        Ids { free, end: mapping.len() as PageId }
    }

    /// A free id.
    pub fn take(&mut self) -> Result<PageId> {
        if let Some(id) = self.free.pop() {
            return Ok(id);
        }
        // Differences of ids are stored in 31 bits.
        if self.end >= NONE / 2 {
            return Err(Error::new(Status::LimitReached, "the partition has 2^31 pages; split it"));
        }
        self.end += 1;
        Ok(self.end - 1)
    }

    /// An id that nothing refers to any more.
    pub fn give(&mut self, id: PageId) {
        self.free.push(id);
    }
}

/// What a partition can still take: file pages, page ids, and for very large values segments.
#[derive(Debug)]
pub struct Room {
    /// File pages.
    pub space: Space,
    /// Ids of pages.
    pub ids: Ids,
    /// Ids of segments.
    pub segment_ids: Ids,
    /// The smallest file segment that was never used. Segments are only ever appended; collection frees whole files.
    pub segment_end: u64,
}

impl Room {
    /// What a loaded manifest leaves.
    pub fn load(manifest: &Manifest, options: &Options) -> Room {
        let none = Mapping::default();
        let segments = manifest.segments.as_ref();
        // What a range covers is its branch's, also when that branch never wrote a segment.
        let own = (manifest.branches.name.as_str(), manifest.branches.term);
        let foreign =
            manifest.branches.ranges.iter().filter(|range| (range.branch.as_str(), range.term) != own);
        let after = foreign.map(|range| after_file(range.max_segment_file, options.segments_per_file_shift));
        Room {
            space: Space::load(manifest, options),
            ids: Ids::load(&manifest.mapping),
            segment_ids: Ids::load(segments.map_or(&none, |segments| &segments.mapping)),
            segment_end: segments.map_or(0, |segments| segments.end).max(after.max().unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn runs_join_and_nothing_is_given_twice(choices in prop::collection::vec((any::<bool>(), 0usize..64), 1..300)) {
            let mut space = Space { reuse: true, end: 0, runs: BTreeMap::new() };
            let mut used = BTreeSet::new();
            for (take, which) in choices {
                if take || used.is_empty() {
                    prop_assert!(used.insert(space.take()));
                } else {
                    let page = *used.iter().nth(which % used.len()).unwrap();
                    used.remove(&page);
                    space.give(page);
                }
                let free: Vec<u64> = space.runs.iter().flat_map(|(start, len)| *start..start + len).collect();
                let rest: Vec<u64> = (0..space.end).filter(|page| !used.contains(page)).collect();
                prop_assert_eq!(free, rest);
                let starts: Vec<(u64, u64)> = space.runs.iter().map(|(start, len)| (*start, *len)).collect();
                prop_assert!(starts.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0), "runs touch");
            }
        }
    }

    #[test]
    fn what_is_held_is_not_taken() {
        let mut space = Space { reuse: true, end: 10, runs: BTreeMap::from([(2, 5)]) };
        for page in [4, 2, 6, 9, 4] {
            space.hold(page);
        }
        assert_eq!([space.take(), space.take(), space.take()], [3, 5, 10]);
    }

    #[test]
    fn append_mode_never_reuses() {
        let mut space = Space { reuse: false, end: 5, runs: BTreeMap::new() };
        space.give(3);
        assert_eq!((space.take(), space.end()), (5, 6));
    }
}
