//! The one writer of a partition: applies batches and commits them.

mod term;

use super::apply::Apply;
use super::batch::{Action, Batch};
use super::branch::MAIN;
use super::compress::{self, Dictionary, LEVEL};
use super::edit::{Edit, Outcome};
use super::effects::{Entries, Expiries};
use super::log::Log;
use super::manifest::{Change, Manifest};
use super::names::FileName;
use super::options::Options;
use super::page::PageId;
use super::sink::Sink;
use super::source::{Directory, now};
use super::space::{Room, after_file};
use super::tree::Tree;
use super::versions::{Version, Versions};
use crate::status::{Error, Result, Status};
use rustix::fs::{FlockOperation, flock};
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// A partition that is open to be written. One at a time; a directory is locked against other processes.
#[derive(Debug)]
pub struct Writer<S = Directory> {
    options: Arc<Options>,
    sink: S,
    file: FileName,
    manifest: Manifest,
    dictionary: Option<Dictionary>,
    room: Room,
    versions: Versions,
    samples: Samples,
    /// A commit failed half-way: what is on disk is unknown until the partition is opened again.
    unsure: bool,
    /// The manifest's file is of a new term: it begins with a snapshot.
    fresh: bool,
    _lock: Option<File>,
}

/// Values that will train the partition's dictionary.
#[derive(Debug, Default)]
struct Samples {
    bytes: Vec<u8>,
    sizes: Vec<usize>,
}

impl Writer<Directory> {
    /// Opens the partition in a directory, which is made if it is missing, on the main branch. Blocks.
    pub fn open(options: Arc<Options>, path: &Path) -> Result<Writer> {
        Writer::open_branch(options, path, MAIN)
    }

    /// Opens a branch of the partition in a directory. One that is not `main` must exist. Blocks.
    pub fn open_branch(options: Arc<Options>, path: &Path, branch: &str) -> Result<Writer> {
        Writer::open_in(options, Directory::new(path.to_owned()), branch)
    }

    /// Opens a branch of the partition whose files are in `directory`.
    pub(super) fn open_in(options: Arc<Options>, directory: Directory, branch: &str) -> Result<Writer> {
        options.check()?;
        let path = directory.path().to_owned();
        let failed = |error: std::io::Error| Error::os(&path.display().to_string(), &error);
        std::fs::create_dir_all(&path).map_err(failed)?;
        if let Some(parent) = path.parent() {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        }
        let lock = lock(&path)?;
        let mut writer = now(Writer::load(options, directory, branch))?;
        writer._lock = Some(lock);
        if branch == MAIN && writer.sink.cached().is_none() {
            now(writer.merge_log(Directory::new(path)))?;
        }
        Ok(writer)
    }

    /// Reads again what is on disk: what a writer has to do after a commit that failed. Blocks.
    pub fn reopen(self) -> Result<Writer> {
        let branch = self.manifest.branches.name.clone();
        let path = self.sink.path().to_owned();
        let directory = match self.sink.cached() {
            Some(remote) => Directory::cache(path, remote.clone()),
            None => Directory::new(path),
        };
        let mut writer = now(Writer::load(self.options, directory, &branch))?;
        // Nobody else came in between.
        writer._lock = self._lock;
        Ok(writer)
    }

    /// Applies a batch. Blocks until it is safe on disk.
    pub fn write(&mut self, batch: &Batch, now_ms: u64) -> Result<u64> {
        now(self.apply(batch, now_ms))
    }
}

/// Locks a partition's directory against other processes and writers.
pub(super) fn lock(path: &Path) -> Result<File> {
    let lock = File::open(path).map_err(|error| Error::os(&path.display().to_string(), &error))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let what = format!("{} is open in another process, or by another writer of this one", path.display());
        return Err(Error::new(Status::WrongState, what));
    }
    Ok(lock)
}

impl<S: Sink> Writer<S> {
    /// Merges what a write log holds that an engine has left in `sink`.
    pub async fn merge_log<L: Sink>(&mut self, sink: L) -> Result<()> {
        let log = Log::open(sink).await?;
        if log.is_empty() {
            return Ok(());
        }
        if self.manifest.tail == 0 {
            return Err(log.without_manifest());
        }
        let layers = log.freeze();
        log.merge(&layers, async |batch| self.apply(batch, 0).await.map(drop)).await?;
        log.forget(&layers);
        log.remove(layers).await
    }

    /// A writer of a branch of the partition whose files `sink` has. A branch that is not `main` must exist. Whoever
    /// calls sees to it that there is no other writer.
    pub async fn load(options: Arc<Options>, sink: S, branch: &str) -> Result<Writer<S>> {
        let newest = sink.names().await?.into_iter().filter_map(|file| match file {
            FileName::Manifest { branch: name, term } if name == branch => Some(term),
            _ => None,
        });
        let newest = newest.max();
        let file = FileName::Manifest { branch: branch.into(), term: newest.unwrap_or(0) };
        if newest.is_none() && branch != MAIN {
            let what = format!("{}: there is no branch {branch}", sink.describe(&file));
            return Err(Error::new(Status::NotFound, what));
        }
        let bytes = if newest.is_some() { sink.contents(&file).await? } else { None };
        let mut writer = Writer::with_manifest(options, sink, file, bytes.as_deref())?;
        if writer.sink.remote().is_some() {
            // There may be other writers, until a term is taken.
            writer.unsure = true;
            return Ok(writer);
        }
        writer.keep_others().await?;
        if bytes.is_some_and(|bytes| bytes.len() as u64 > writer.manifest.tail) {
            writer.sink.cut(&writer.file, writer.manifest.tail).await?;
        }
        Ok(writer)
    }

    /// Goes on after what archives and other branches need, also when the manifest knows nothing of it: the partition
    /// was dropped, its last records were damaged, or a branch of this name was there before.
    async fn keep_others(&mut self) -> Result<()> {
        let files = self.sink.names().await?;
        let others = files.iter().filter(|file| {
            matches!(file, FileName::Archive { .. } | FileName::Manifest { .. }) && **file != self.file
        });
        let own = (self.manifest.branches.name.as_str(), self.manifest.branches.term);
        let (data, segments) = (self.options.pages_per_file_shift, self.options.segments_per_file_shift);
        for other in others {
            let bytes = self.sink.contents(other).await?.unwrap_or_default();
            let (end, segment_end) = match Manifest::replay(&bytes) {
                Ok(other) => other.ends(own, data, segments),
                // It may be mended; until then every file may be its.
                Err(_) => {
                    let after = files.iter().map(|file| match file {
                        FileName::Data { id, .. } => (after_file(*id, data), 0),
                        FileName::Segment { id, .. } => (0, after_file(*id, segments)),
                        _ => (0, 0),
                    });
                    after.fold((0, 0), |most, after| (most.0.max(after.0), most.1.max(after.1)))
                }
            };
            self.room.space.skip(end);
            self.room.segment_end = self.room.segment_end.max(segment_end);
        }
        Ok(())
    }

    /// A writer over what `manifest`, the content of the partition's manifest, says; None for a new partition.
    pub fn new(options: Arc<Options>, sink: S, manifest: Option<&[u8]>) -> Result<Writer<S>> {
        Writer::with_manifest(options, sink, FileName::main_manifest(), manifest)
    }

    fn with_manifest(
        options: Arc<Options>,
        sink: S,
        file: FileName,
        manifest: Option<&[u8]>,
    ) -> Result<Writer<S>> {
        let manifest = match manifest {
            Some(bytes) => {
                Manifest::replay(bytes).map_err(|damage| damage.in_file(sink.describe(&file), 0))?
            }
            None => Manifest::empty(),
        };
        let dictionary =
            (!manifest.dictionary.is_empty()).then(|| Dictionary::new(&manifest.dictionary, LEVEL));
        let room = Room::load(&manifest, &options);
        Ok(Writer {
            options,
            sink,
            file,
            manifest,
            dictionary,
            room,
            versions: Versions::default(),
            samples: Samples::default(),
            unsure: false,
            fresh: false,
            _lock: None,
        })
    }

    /// The partition as it was last committed.
    pub fn tree(&self) -> Tree<'_, S> {
        Tree {
            options: &self.options,
            manifest: &self.manifest,
            dictionary: self.dictionary.as_ref(),
            source: &self.sink,
        }
    }

    /// The partition as it was last committed, to be read while this goes on.
    pub fn version(&mut self) -> Arc<Version> {
        // A dictionary that was trained but not committed yet decodes nothing that was.
        let make = || Version { manifest: self.manifest.clone(), dictionary: self.dictionary.clone() };
        self.versions.current(make)
    }

    /// Versions that somebody holds, the current one among them.
    pub(super) fn versions(&self) -> impl Iterator<Item = Arc<Version>> {
        self.versions.live()
    }

    /// Whether somebody holds a version.
    pub fn is_read(&self) -> bool {
        self.versions.live().next().is_some()
    }

    /// Whether somebody holds a version that is not the current one.
    pub fn is_read_before(&self) -> bool {
        self.versions.is_held()
    }

    /// What was last committed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The file that the manifest is in.
    pub(super) fn file(&self) -> &FileName {
        &self.file
    }

    /// Where bytes go.
    pub(super) fn sink(&self) -> &S {
        &self.sink
    }

    /// What the partition is written with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether what is on disk is known.
    pub(super) fn certain(&self) -> Result<()> {
        if self.unsure {
            return Err(Error::new(
                Status::WrongState,
                "a commit failed: open the partition again to write to it",
            ));
        }
        Ok(())
    }

    /// Applies a batch, all or nothing, and returns once it is safe: how many changes were not older than what was
    /// there. Entries that expire at or before `now_ms` go; 0 keeps them all.
    pub async fn apply(&mut self, batch: &Batch, now_ms: u64) -> Result<u64> {
        self.ready().await?;
        self.sample(batch)?;
        let (tree, room) = self.tree_and_room();
        let mut edit = Edit::new(tree.options, tree.manifest, room, tree.source);
        let mut entries = Entries::new(tree.dictionary, tree.options.compression, now_ms);
        let roots = change_trees(&mut edit, &tree, &mut entries, batch).await;
        let applied = entries.applied;
        let outcome = edit.outcome();
        match roots {
            Ok(_) if outcome.pages.is_empty() && outcome.segments.is_empty() => Ok(applied),
            Ok(roots) => self.commit(roots, outcome).await.map(|()| applied),
            Err(error) => {
                self.undo(outcome);
                Err(error)
            }
        }
    }

    /// The partition as it was last committed, and the room for a change to it.
    pub(super) fn tree_and_room(&mut self) -> (Tree<'_, S>, &mut Room) {
        self.versions.settle(&mut self.room.space);
        let tree = Tree {
            options: &self.options,
            manifest: &self.manifest,
            dictionary: self.dictionary.as_ref(),
            source: &self.sink,
        };
        (tree, &mut self.room)
    }

    /// Gives back what an edit took that failed.
    pub(super) fn undo(&mut self, outcome: Outcome) {
        outcome.undo(&mut self.room);
    }

    /// Says in the manifest what the edit did. The edit's pages are safe already.
    pub(super) async fn commit(
        &mut self,
        (root, ttl_root): (PageId, PageId),
        outcome: Outcome,
    ) -> Result<()> {
        let mut branches = self.manifest.branches.clone();
        let last_file = self.room.space.end().saturating_sub(1) >> self.options.pages_per_file_shift;
        let last_segment_file =
            self.room.segment_end.saturating_sub(1) >> self.options.segments_per_file_shift;
        branches.extend(last_file, last_segment_file);
        let (pages, segments) = (outcome.pages.clone(), outcome.segments.clone());
        let change = Change { root, ttl_root, branches, pages, segments };
        let record = change.encode();
        let dictionary = self.dictionary.as_ref().map_or(&[][..], |dictionary| &dictionary.bytes);
        let snapshot = self.fresh
            || self.manifest.tail == 0
            || self.manifest.dictionary != dictionary
            || self.manifest.tail + record.len() as u64 > self.options.manifest_limit;
        let written = if snapshot {
            self.write_snapshot(&change).await
        } else {
            self.write_log(&change, &record).await
        };
        match written {
            Ok(()) => {
                self.sink.forget(&outcome.retired);
                outcome.commit(&mut self.room, &mut self.versions);
            }
            // Pages that the record names stay taken: it may be on disk.
            Err(_) => self.unsure = true,
        }
        written
    }

    async fn write_log(&mut self, change: &Change, record: &[u8]) -> Result<()> {
        self.sink.write(&self.file, self.manifest.tail, record).await?;
        self.sink.sync(std::slice::from_ref(&self.file)).await?;
        self.manifest.adopt(change);
        self.manifest.end = self.room.space.end();
        self.manifest.tail += record.len() as u64;
        if let Some(segments) = &mut self.manifest.segments {
            segments.end = self.room.segment_end;
        }
        Ok(())
    }

    /// Puts a snapshot of another state in the place of this one.
    pub(super) async fn adopt_snapshot(&mut self, mut next: Manifest, room: Room) -> Result<()> {
        self.certain()?;
        let bytes = next.encode();
        let replaced = self.sink.replace(&self.file, &bytes).await;
        self.unsure = replaced.is_err();
        replaced?;
        self.fresh = false;
        next.tail = bytes.len() as u64;
        self.replace_state(next, room);
        Ok(())
    }

    /// Goes on from another state than this one. What versions need of this one stays.
    fn replace_state(&mut self, next: Manifest, room: Room) {
        if next.dictionary != self.manifest.dictionary {
            self.dictionary = (!next.dictionary.is_empty()).then(|| Dictionary::new(&next.dictionary, LEVEL));
        }
        let before = std::mem::replace(&mut self.manifest, next);
        self.room = room;
        let kept: HashSet<u64> = self.manifest.mapping.pages().map(|(_, page)| page).collect();
        let gone = before.mapping.pages().map(|(_, page)| page).filter(|page| !kept.contains(page));
        self.versions.restart(gone.collect(), &mut self.room.space);
    }

    async fn write_snapshot(&mut self, change: &Change) -> Result<()> {
        let mut next = self.manifest.clone();
        next.adopt(change);
        next.end = self.room.space.end();
        if let Some(segments) = &mut next.segments {
            segments.end = self.room.segment_end;
        }
        next.dictionary = self.dictionary.as_ref().map_or(Vec::new(), |dictionary| dictionary.bytes.to_vec());
        let bytes = next.encode();
        self.sink.replace(&self.file, &bytes).await?;
        self.fresh = false;
        next.tail = bytes.len() as u64;
        self.manifest = next;
        Ok(())
    }

    /// Collects values until there are enough to train a dictionary, then trains it, before the batch is applied.
    fn sample(&mut self, batch: &Batch) -> Result<()> {
        if !self.options.compression || self.dictionary.is_some() {
            return Ok(());
        }
        for op in batch.ops() {
            let Action::Upsert { value, .. } = &op.action else { continue };
            if (compress::RAW_BELOW..=compress::STANDALONE_ABOVE).contains(&value.len()) {
                self.samples.bytes.extend_from_slice(value);
                self.samples.sizes.push(value.len());
            }
            if self.samples.bytes.len() >= compress::SAMPLES {
                let samples = std::mem::take(&mut self.samples);
                // Values that have nothing in common train nothing; later ones may.
                self.dictionary = Dictionary::train(&samples.bytes, &samples.sizes, LEVEL).ok();
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Both trees of a partition: the entries, then what that means for the expiries. Their pages are safe afterwards.
async fn change_trees<S: Sink>(
    edit: &mut Edit<'_, S>,
    tree: &Tree<'_, S>,
    entries: &mut Entries<'_>,
    batch: &Batch,
) -> Result<(PageId, PageId)> {
    let root = Apply::run(edit, tree, entries, tree.manifest.root, batch.ops()).await?;
    let expiries = Expiries::ordered(std::mem::take(&mut entries.expiries));
    let ttl_root = Apply::run(edit, tree, &mut Expiries, tree.manifest.ttl_root, &expiries).await?;
    edit.finish().await?;
    Ok((root, ttl_root))
}
