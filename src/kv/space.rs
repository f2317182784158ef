//! Which file pages and which page ids are free.

use super::manifest::{FILE_PAGES, Manifest};
use super::mapping::Mapping;
use super::options::Options;
use super::page::{NONE, PageId};
use crate::status::{Error, Result, Status};
use std::collections::{BTreeMap, BTreeSet};

/// File pages that lie together and are worth looking for: one write of so many costs the disk what a few alone do.
const LONG: u64 = 64;
/// Shorter runs are not found by their length: there may be very many of them.
const SHORT: u64 = 4;

/// Free file pages as runs, and the end of what was ever used.
#[derive(Clone, Debug)]
pub struct Space {
    reuse: bool,
    end: u64,
    /// Files may grow as long as they hold no more than this many times what is used.
    factor: u64,
    used: u64,
    free: u64,
    runs: BTreeMap<u64, u64>,
    /// Those that are not short, by length.
    lengths: BTreeSet<(u64, u64)>,
    /// Where the last run that was taken ended.
    next: u64,
    /// The run that is being used up, which is in neither: where it begins, and its length.
    current: (u64, u64),
}

impl Space {
    /// What a loaded manifest leaves free. In append mode that is nothing: compaction reclaims whole files.
    pub fn load(manifest: &Manifest, options: &Options) -> Space {
        let (reuse, factor) = (!options.append, options.file_amplify_factor);
        let mut space = Space { reuse, factor, end: manifest.end, ..Space::none() };
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
                space.add(at, page - at);
            }
            space.used += u64::from(page >= at);
            at = at.max(page + 1);
        }
        if manifest.end > at {
            space.add(at, manifest.end - at);
        }
        space
    }

    /// Room for nothing, which keeps nothing.
    pub fn none() -> Space {
        Space {
            reuse: false,
            end: 0,
            factor: 1,
            used: 0,
            free: 0,
            runs: BTreeMap::new(),
            lengths: BTreeSet::new(),
            next: 0,
            current: (0, 0),
        }
    }

    /// The smallest file page that was never used.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Leaves file pages below `end` alone that were never used by this manifest.
    pub fn skip(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// A free file page; ascending ones as far as possible, so that writes join. Where only short runs are free, files
    /// grow until they hold `file_amplify_factor` times what is used: pages at random places cost the disk an access each.
    pub fn take(&mut self) -> u64 {
        self.used += 1;
        if self.current.1 == 0 && self.free > 0 {
            let long = self.lengths.last().is_some_and(|(len, _)| *len >= LONG);
            let grown = self.used.saturating_mul(self.factor.saturating_sub(1));
            if (long || self.free >= grown)
                && let Some((start, len)) = self.best()
            {
                self.remove(start, len);
                self.current = (start, len);
            }
        }
        if self.current.1 > 0 {
            let page = self.current.0;
            self.current = (page + 1, self.current.1 - 1);
            (self.free, self.next) = (self.free - 1, page + 1);
            return page;
        }
        self.end += 1;
        self.end - 1
    }

    /// The longest run, or if all are short the one after the last that was taken.
    fn best(&self) -> Option<(u64, u64)> {
        if let Some((len, start)) = self.lengths.last() {
            return Some((*start, *len));
        }
        let after = self.runs.range(self.next..).next().or_else(|| self.runs.first_key_value());
        after.map(|(start, len)| (*start, *len))
    }

    /// Takes a free file page out of what can be taken.
    pub fn hold(&mut self, page: u64) {
        self.put_back();
        let Some((start, len)) = self.runs.range(..=page).next_back().map(|(start, len)| (*start, *len))
        else {
            return;
        };
        if page >= start + len {
            return;
        }
        self.remove(start, len);
        (self.used, self.free) = (self.used + 1, self.free - len);
        if page > start {
            self.add(start, page - start);
        }
        if page + 1 < start + len {
            self.add(page + 1, start + len - page - 1);
        }
    }

    /// A file page that nothing refers to any more.
    pub fn give(&mut self, page: u64) {
        if !self.reuse {
            return;
        }
        self.put_back();
        self.used = self.used.saturating_sub(1);
        self.join(page, 1);
    }

    /// Adds a run that may touch others.
    fn join(&mut self, start: u64, len: u64) {
        let (mut first, mut end) = (start, start + len);
        let before = self.runs.range(..start).next_back().map(|(start, len)| (*start, *len));
        if let Some((before, len)) = before.filter(|(before, len)| before + len == start) {
            self.remove(before, len);
            self.free -= len;
            first = before;
        }
        if let Some(len) = self.runs.get(&end).copied() {
            self.remove(end, len);
            self.free -= len;
            end += len;
        }
        self.add(first, end - first);
    }

    fn add(&mut self, start: u64, len: u64) {
        self.runs.insert(start, len);
        if len >= SHORT {
            self.lengths.insert((len, start));
        }
        self.free += len;
    }

    /// Takes a run out of both orders; its pages still count as free.
    fn remove(&mut self, start: u64, len: u64) {
        self.runs.remove(&start);
        self.lengths.remove(&(len, start));
    }

    /// Puts what is left of the run that is being used up among the others.
    fn put_back(&mut self) {
        let (start, len) = std::mem::take(&mut self.current);
        if len > 0 {
            self.free -= len;
            self.join(start, len);
        }
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
        fn runs_join_and_nothing_is_given_twice(
            choices in prop::collection::vec((any::<bool>(), 0usize..64), 1..300),
            factor in 1u64..4,
        ) {
            let mut space = Space { reuse: true, factor, ..Space::none() };
            let mut used = BTreeSet::new();
            for (take, which) in choices {
                if take || used.is_empty() {
                    prop_assert!(used.insert(space.take()));
                } else {
                    let page = *used.iter().nth(which % used.len()).unwrap();
                    used.remove(&page);
                    space.give(page);
                }
                prop_assert_eq!((space.used, space.free), (used.len() as u64, space.end - used.len() as u64));
                let mut space = space.clone();
                space.put_back();
                let free: Vec<u64> = space.runs.iter().flat_map(|(start, len)| *start..start + len).collect();
                let rest: Vec<u64> = (0..space.end).filter(|page| !used.contains(page)).collect();
                prop_assert_eq!(free, rest);
                let starts: Vec<(u64, u64)> = space.runs.iter().map(|(start, len)| (*start, *len)).collect();
                prop_assert!(starts.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0), "runs touch");
                prop_assert!(starts.iter().filter(|run| run.1 >= SHORT).map(|(start, len)| (*len, *start)).collect::<BTreeSet<_>>() == space.lengths);
            }
        }
    }

    #[test]
    fn what_is_held_is_not_taken() {
        let mut space = Space { reuse: true, end: 10, ..Space::none() };
        space.add(2, 5);
        for page in [4, 2, 6, 9, 4] {
            space.hold(page);
        }
        assert_eq!([space.take(), space.take(), space.take()], [3, 5, 10]);
    }

    #[test]
    fn append_mode_never_reuses() {
        let mut space = Space { end: 5, ..Space::none() };
        space.give(3);
        assert_eq!((space.take(), space.end()), (5, 6));
    }

    /// A partition whose pages are rewritten at random for long: files hold no more than the factor says, and the free
    /// pages that are taken lie together far more often than those that are given.
    #[test]
    fn files_grow_to_the_factor_and_then_reuse() {
        let (live, factor) = (20_000u64, 2);
        let mut space = Space { reuse: true, factor, ..Space::none() };
        let mut pages: Vec<u64> = (0..live).map(|_| space.take()).collect();
        let (mut seed, mut joined, mut taken) = (1u64, 0u64, 0u64);
        for round in 0..400 {
            let mut freed = Vec::new();
            let mut last = None;
            for _ in 0..200 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let id = (seed >> 33) as usize % pages.len();
                let page = space.take();
                freed.push(std::mem::replace(&mut pages[id], page));
                if round > 200 {
                    taken += 1;
                    joined += u64::from(last == Some(page.wrapping_sub(1)));
                }
                last = Some(page);
            }
            freed.into_iter().for_each(|page| space.give(page));
            assert!(space.end() <= factor * (live + 200) + LONG, "{} pages for {live}", space.end());
        }
        assert!(joined * 2 > taken, "{joined} of {taken} pages lie after the one taken before");
    }
}
