//! A change to a partition that is not committed yet: pages it has written, and what the log will say about them.

use super::branch::Branches;
use super::damage::corrupted;
use super::manifest::Manifest;
use super::mapping::Slot;
use super::names::FileName;
use super::options::Options;
use super::page::{Kind, PageId, seal};
use super::sink::Sink;
use super::space::Room;
use super::versions::Versions;
use crate::status::{Error, Result};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Bytes of neighbouring pages that are written at once, at most.
pub const RUN: usize = 128 << 10;

/// Pages whose memory is kept for the next ones.
const SPARE: usize = 4;

/// An uncommitted change. Nothing that the base refers to is overwritten, so dropping it changes nothing.
#[derive(Debug)]
pub struct Edit<'w, S> {
    options: &'w Options,
    base: &'w Manifest,
    room: &'w mut Room,
    sink: &'w S,
    moved: HashMap<PageId, Slot>,
    pages: Vec<(PageId, Slot)>,
    segments: Vec<(u32, Slot)>,
    /// File pages that were taken, and those that are free once this is committed.
    taken: Vec<u64>,
    retired: Vec<u64>,
    taken_ids: Vec<PageId>,
    retired_ids: Vec<PageId>,
    taken_segments: Vec<u32>,
    retired_segments: Vec<u32>,
    freed_segments: HashSet<u32>,
    run: Vec<u8>,
    run_at: u64,
    /// Memory of pages that were put.
    spare: Vec<Vec<u8>>,
    files: BTreeSet<FileName>,
}

/// What an edit leaves to its writer: the log's pairs, and what is free after the commit.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Pages that moved or were freed, in order; later ones win.
    pub pages: Vec<(PageId, Slot)>,
    /// Segments likewise.
    pub segments: Vec<(u32, Slot)>,
    /// File pages that nothing refers to once the log says so.
    pub retired: Vec<u64>,
    /// Page ids likewise.
    pub retired_ids: Vec<PageId>,
    taken: Vec<u64>,
    taken_ids: Vec<PageId>,
    taken_segments: Vec<u32>,
    retired_segments: Vec<u32>,
}

impl<'w, S: Sink> Edit<'w, S> {
    /// A change to `base` that has done nothing yet.
    pub fn new(options: &'w Options, base: &'w Manifest, room: &'w mut Room, sink: &'w S) -> Edit<'w, S> {
        Edit {
            options,
            base,
            room,
            sink,
            moved: HashMap::new(),
            pages: Vec::new(),
            segments: Vec::new(),
            taken: Vec::new(),
            retired: Vec::new(),
            taken_ids: Vec::new(),
            retired_ids: Vec::new(),
            taken_segments: Vec::new(),
            retired_segments: Vec::new(),
            run: sink.take_run(),
            freed_segments: HashSet::new(),
            run_at: 0,
            spare: Vec::new(),
            files: BTreeSet::new(),
        }
    }

    /// What the partition is written with.
    pub fn options(&self) -> &'w Options {
        self.options
    }

    /// An id for a new page.
    pub fn new_id(&mut self) -> Result<PageId> {
        let id = self.room.ids.take()?;
        self.taken_ids.push(id);
        Ok(id)
    }

    /// Memory for a page, with whatever its last user left in it.
    pub fn page(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(self.options.page_size))
    }

    /// Keeps a page's memory for the next ones.
    pub fn keep(&mut self, page: Vec<u8>) {
        if self.spare.len() < SPARE {
            self.spare.push(page);
        }
    }

    /// Seals a page and gives it a place.
    pub async fn put(&mut self, id: PageId, mut page: Vec<u8>, kind: Kind) -> Result<()> {
        seal(&mut page, kind);
        self.copy(id, &page).await?;
        self.keep(page);
        Ok(())
    }

    /// Gives a page that is sealed already another place.
    pub async fn copy(&mut self, id: PageId, page: &[u8]) -> Result<()> {
        let place = self.room.space.take();
        self.taken.push(place);
        self.map(id, Slot::at(place));
        self.write(place, page).await
    }

    /// Frees a page. `CORRUPTED` if it is free already: its id would be handed out twice.
    pub fn free(&mut self, id: PageId) -> Result<()> {
        let slot = self.moved.get(&id).copied();
        if slot.map_or_else(|| self.base.mapping.get(id), Slot::file_page).is_none() {
            return Err(self.freed_twice("page", id));
        }
        self.map(id, Slot::FREE);
        self.retired_ids.push(id);
        Ok(())
    }

    fn freed_twice(&self, what: &str, id: u32) -> Error {
        let Branches { name, term, .. } = &self.base.branches;
        let manifest = FileName::Manifest { branch: name.clone(), term: *term };
        let what = format_args!("{what} {id} is referred to twice, or mapped to nothing");
        corrupted(self.sink.describe(&manifest), 0, what)
    }

    /// Writes a very large value into segments of its own and returns their ids.
    pub async fn put_segments(&mut self, value: &[u8]) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for part in value.chunks(self.options.segment_size) {
            let id = self.room.segment_ids.take()?;
            self.taken_segments.push(id);
            self.copy_segment(id, part).await?;
            ids.push(id);
        }
        Ok(ids)
    }

    /// Gives a segment another place.
    pub async fn copy_segment(&mut self, id: u32, part: &[u8]) -> Result<()> {
        let place = self.room.segment_end;
        self.room.segment_end += 1;
        let (file, offset) = self.options.segment_place(place);
        let (branch, term) = (self.base.branches.name.clone(), self.base.branches.term);
        let file = FileName::Segment { id: file, branch, term };
        // Whole segments, as files are read in them.
        let mut padded = part.to_vec();
        padded.resize(self.options.segment_size, 0);
        self.sink.write(&file, offset, &padded).await?;
        self.files.insert(file);
        self.segments.push((id, Slot::at(place)));
        Ok(())
    }

    /// Frees a segment of a very large value. Its file goes when nothing in it is left. `CORRUPTED` if it is free already.
    pub fn free_segment(&mut self, id: u32) -> Result<()> {
        let known = self.base.segments.as_ref().and_then(|segments| segments.mapping.get(id));
        if known.is_none() || !self.freed_segments.insert(id) {
            return Err(self.freed_twice("segment", id));
        }
        self.segments.push((id, Slot::FREE));
        self.retired_segments.push(id);
        Ok(())
    }

    fn map(&mut self, id: PageId, slot: Slot) {
        let before = match self.moved.insert(id, slot) {
            Some(slot) => slot.file_page(),
            None => self.base.mapping.get(id),
        };
        self.retired.extend(before);
        self.pages.push((id, slot));
    }

    /// Collects neighbouring pages of a file and writes them together.
    async fn write(&mut self, place: u64, page: &[u8]) -> Result<()> {
        let shift = self.options.pages_per_file_shift;
        let next = self.run_at + (self.run.len() / self.options.page_size) as u64;
        let joins = place == next && place >> shift == self.run_at >> shift && self.run.len() < RUN;
        if !joins || self.run.is_empty() {
            self.flush().await?;
            self.run_at = place;
        }
        self.run.extend_from_slice(page);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if self.run.is_empty() {
            return Ok(());
        }
        let (file, offset) = self.options.page_place(self.run_at);
        let file = self.data_file(file);
        self.sink.write(&file, offset, &self.run).await?;
        self.files.insert(file);
        self.run.clear();
        Ok(())
    }

    fn data_file(&self, id: u64) -> FileName {
        FileName::Data { id, branch: self.base.branches.name.clone(), term: self.base.branches.term }
    }

    /// Writes what is left and makes all of it safe.
    pub async fn finish(&mut self) -> Result<()> {
        self.flush().await?;
        let files: Vec<FileName> = self.files.iter().cloned().collect();
        if files.is_empty() { Ok(()) } else { self.sink.sync(&files).await }
    }

    /// What was done, to be committed or undone.
    pub fn outcome(mut self) -> Outcome {
        self.run.clear();
        self.sink.give_run(std::mem::take(&mut self.run));
        Outcome {
            pages: self.pages,
            segments: self.segments,
            retired: self.retired,
            retired_ids: self.retired_ids,
            taken: self.taken,
            taken_ids: self.taken_ids,
            taken_segments: self.taken_segments,
            retired_segments: self.retired_segments,
        }
    }
}

impl Outcome {
    /// Frees what a committed change has replaced; file pages once no version needs them.
    pub fn commit(self, room: &mut Room, versions: &mut Versions) {
        versions.retire(self.retired, &mut room.space);
        self.retired_ids.into_iter().for_each(|id| room.ids.give(id));
        self.retired_segments.into_iter().for_each(|id| room.segment_ids.give(id));
    }

    /// Gives back what a change took that will not be committed.
    pub fn undo(self, room: &mut Room) {
        self.taken.into_iter().for_each(|place| room.space.give(place));
        self.taken_ids.into_iter().for_each(|id| room.ids.give(id));
        self.taken_segments.into_iter().for_each(|id| room.segment_ids.give(id));
    }
}
