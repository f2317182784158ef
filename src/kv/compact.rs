//! Compaction and file collection: how append mode gives space back.
//!
//! Compaction moves the live pages of sparse files to the end, one commit for all; collection then removes files that
//! no manifest and no archive refers to. Views that were opened before must be closed before files are collected.

use super::edit::{Edit, Outcome};
use super::manifest::Manifest;
use super::names::{FileName, superseded};
use super::options::Options;
use super::page::PageId;
use super::sink::Sink;
use super::source::{Directory, now};
use super::versions::Version;
use super::writer::Writer;
use crate::status::{Error, Result, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Pages that are moved in one commit.
const MOVED_AT_ONCE: usize = 65_536;
/// Segments that are moved in one commit.
const SEGMENTS_MOVED_AT_ONCE: usize = 4096;

impl<S: Sink> Writer<S> {
    /// Whether the files hold more than `file_amplify_factor` times what is live, and at least one is full.
    pub fn is_sparse(&self) -> bool {
        let live = self.manifest().mapping.pages().count() as u64;
        let files: BTreeSet<u64> = self.page_files().map(|(file, _)| file).collect();
        let space = (files.len() as u64) << self.options().pages_per_file_shift;
        self.options().append
            && files.len() > 1
            && space > live.saturating_mul(self.options().file_amplify_factor)
    }

    /// How many data and segment files were ever begun.
    pub fn files_begun(&self) -> (u64, u64) {
        let segments = self.manifest().segments.as_ref().map_or(0, |segments| segments.end);
        (
            self.manifest().end.div_ceil(1 << self.options().pages_per_file_shift),
            segments.div_ceil(1 << self.options().segments_per_file_shift),
        )
    }

    fn page_files(&self) -> impl Iterator<Item = (u64, PageId)> + '_ {
        let shift = self.options().pages_per_file_shift;
        self.manifest().mapping.pages().map(move |(id, page)| (page >> shift, id))
    }

    /// Moves the live pages of sparse files to the end and returns how many. Append mode only.
    pub async fn compact(&mut self) -> Result<u64> {
        let mut moved = 0;
        loop {
            let now = self.compact_some(MOVED_AT_ONCE).await?;
            moved += now;
            if now < MOVED_AT_ONCE as u64 {
                return Ok(moved);
            }
        }
    }

    /// Does so with at most `limit` pages, in one commit; fewer are moved only when none are left.
    pub async fn compact_some(&mut self, limit: usize) -> Result<u64> {
        if !self.options().append {
            let what = "only append mode is compacted; otherwise file pages are used again";
            return Err(Error::new(Status::Unsupported, what));
        }
        self.ready().await?;
        let mut files: BTreeMap<u64, Vec<PageId>> = BTreeMap::new();
        self.page_files().for_each(|(file, id)| files.entry(file).or_default().push(id));
        // The last file is still being filled.
        files.pop_last();
        let per_file = 1u64 << self.options().pages_per_file_shift;
        let factor = self.options().file_amplify_factor;
        files.retain(|_, live| (live.len() as u64).saturating_mul(factor) < per_file);
        let moving: Vec<PageId> = files.into_values().flatten().take(limit).collect();
        if !moving.is_empty() {
            self.move_pages(&moving).await?;
        }
        Ok(moving.len() as u64)
    }

    /// Moves the live segments of sparse segment files to the end and returns how many. In either mode: segments are
    /// never written over.
    pub async fn compact_segments(&mut self) -> Result<u64> {
        let mut moved = 0;
        loop {
            let now = self.compact_some_segments(SEGMENTS_MOVED_AT_ONCE).await?;
            moved += now;
            if now < SEGMENTS_MOVED_AT_ONCE as u64 {
                return Ok(moved);
            }
        }
    }

    /// Does so with at most `limit` segments, in one commit; fewer are moved only when none are left.
    pub async fn compact_some_segments(&mut self, limit: usize) -> Result<u64> {
        self.ready().await?;
        let shift = self.options().segments_per_file_shift;
        let mut files: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let known = self.manifest().segments.iter().flat_map(|segments| segments.mapping.pages());
        known.for_each(|(id, place)| files.entry(place >> shift).or_default().push(id));
        // The last file is still being filled.
        let end = self.manifest().segments.as_ref().map_or(0, |segments| segments.end);
        files.remove(&(end.saturating_sub(1) >> shift));
        let factor = self.options().segment_amplify_factor;
        files.retain(|_, live| (live.len() as u64).saturating_mul(factor) < 1 << shift);
        let moving: Vec<u32> = files.into_values().flatten().take(limit).collect();
        if !moving.is_empty() {
            self.move_segments(&moving).await?;
        }
        Ok(moving.len() as u64)
    }

    async fn move_segments(&mut self, ids: &[u32]) -> Result<()> {
        self.certain()?;
        let (tree, room) = self.tree_and_room();
        let mut edit = Edit::new(tree.options, tree.manifest, room, tree.source);
        let mut moved = Ok(());
        for id in ids {
            moved = match tree.segment(*id).await {
                Ok(segment) => edit.copy_segment(*id, segment.as_ref()).await,
                Err(error) => Err(error),
            };
            if moved.is_err() {
                break;
            }
        }
        if moved.is_ok() {
            moved = edit.finish().await;
        }
        let (roots, outcome) = ((tree.manifest.root, tree.manifest.ttl_root), edit.outcome());
        self.end_move(moved, roots, outcome).await
    }

    async fn end_move(&mut self, moved: Result<()>, roots: (PageId, PageId), outcome: Outcome) -> Result<()> {
        match moved {
            Ok(()) => self.commit(roots, outcome).await,
            Err(error) => {
                self.undo(outcome);
                Err(error)
            }
        }
    }

    async fn move_pages(&mut self, ids: &[PageId]) -> Result<()> {
        self.certain()?;
        let (tree, room) = self.tree_and_room();
        let mut edit = Edit::new(tree.options, tree.manifest, room, tree.source);
        let mut moved = Ok(());
        for id in ids {
            moved = match tree.load(*id).await {
                Ok(page) => edit.copy(*id, page.bytes.as_ref()).await,
                Err(error) => Err(error),
            };
            if moved.is_err() {
                break;
            }
        }
        if moved.is_ok() {
            moved = edit.finish().await;
        }
        let (roots, outcome) = ((tree.manifest.root, tree.manifest.ttl_root), edit.outcome());
        self.end_move(moved, roots, outcome).await
    }
}

impl Writer<Directory> {
    /// Removes data and segment files that nothing refers to, and returns how many. Blocks.
    pub fn collect_files(&mut self) -> Result<u64> {
        now(self.collect())
    }
}

impl<S: Sink> Writer<S> {
    /// Removes data and segment files that nothing refers to, versions that are held among them, and returns how many.
    /// A manifest or an archive that cannot be read could refer to any, so nothing is removed then.
    pub async fn collect(&mut self) -> Result<u64> {
        self.collect_beside(&[]).await
    }

    /// The same; what other branches show and read, as `held`, stays too.
    pub async fn collect_beside(&mut self, held: &[Arc<Version>]) -> Result<u64> {
        self.ready().await?;
        // Files of branches that are gone, or that others write to: over an object store only the former go.
        let sink = self.sink();
        let mut files = sink.names().await?;
        if sink.remote().is_some() {
            self.still_ours().await?;
            let old = superseded(&files);
            for file in old.iter().filter(|file| self.has_replaced(file)) {
                sink.remove(file).await?;
            }
            files.retain(|file| !old.contains(file));
        }
        let mut needed: BTreeSet<FileName> = BTreeSet::new();
        self.manifest().files(self.options(), &mut needed);
        for version in self.versions().chain(held.iter().cloned()) {
            version.manifest.files(self.options(), &mut needed);
        }
        for file in &files {
            if matches!(file, FileName::Manifest { .. } | FileName::Archive { .. }) {
                let bytes = sink.contents(file).await?.unwrap_or_default();
                let manifest = Manifest::replay(&bytes);
                let manifest = manifest.map_err(|damage| damage.in_file(sink.describe(file), 0))?;
                manifest.files(self.options(), &mut needed);
            }
        }
        let mut removed = 0;
        for file in &files {
            let ours = match file {
                FileName::Data { .. } => self.options().append,
                FileName::Segment { .. } => true,
                _ => false,
            };
            if ours && !needed.contains(file) && self.may_remove(file, &files) {
                sink.remove(file).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl<S: Sink> Writer<S> {
    /// Whether this branch's manifest has taken the place of another.
    fn has_replaced(&self, file: &FileName) -> bool {
        let own = &self.manifest().branches;
        matches!(file, FileName::Manifest { branch, term } if *branch == own.name && *term < own.term)
    }

    /// Over an object store others may be writing: their files are not referred to yet. Those of this branch's own terms
    /// are dead, and those of branches that are gone.
    fn may_remove(&self, file: &FileName, files: &[FileName]) -> bool {
        let (FileName::Data { branch, term, .. } | FileName::Segment { branch, term, .. }) = file else {
            return true;
        };
        let own = &self.manifest().branches;
        let lives = |name: &str| {
            files.iter().any(|file| matches!(file, FileName::Manifest { branch, .. } if branch == name))
        };
        self.sink().remote().is_none() || if *branch == own.name { *term <= own.term } else { !lives(branch) }
    }
}

impl Manifest {
    /// The data and segment files that this refers to.
    pub fn files(&self, options: &Options, needed: &mut BTreeSet<FileName>) {
        let (pages, segments) = (options.pages_per_file_shift, options.segments_per_file_shift);
        let data: BTreeSet<u64> = self.mapping.pages().map(|(_, page)| page >> pages).collect();
        for id in data {
            let (branch, term) = self.branches.owner(id);
            needed.insert(FileName::Data { id, branch: branch.into(), term });
        }
        let mapping = self.segments.iter().flat_map(|known| known.mapping.pages());
        let files: BTreeSet<u64> = mapping.map(|(_, segment)| segment >> segments).collect();
        for id in files {
            let (branch, term) = self.branches.segment_owner(id);
            needed.insert(FileName::Segment { id, branch: branch.into(), term });
        }
    }

    /// One past the last file page, and file segment, in files of `owner` that this refers to.
    pub(super) fn ends(&self, owner: (&str, u64), data: u32, segments: u32) -> (u64, u64) {
        let pages = self.mapping.pages().map(|(_, page)| page);
        let pages = pages.filter(|page| self.branches.owner(page >> data) == owner);
        let known = self.segments.iter().flat_map(|known| known.mapping.pages()).map(|(_, segment)| segment);
        let known = known.filter(|segment| self.branches.segment_owner(segment >> segments) == owner);
        (pages.max().map_or(0, |page| page + 1), known.max().map_or(0, |segment| segment + 1))
    }
}
