//! A volume that is being read while a volume server writes and vacuums it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use crate::status::{Error, Result, Status};
use crate::volume::file_id::FileId;
use crate::volume::files::{Generation, Paths};
use crate::volume::index::Change;
use crate::volume::location::{Location, Needle, ReadOptions};
use crate::volume::needle::unpadded_length;
use crate::volume::read::Read;
use crate::volume::row::OFFSET_UNIT;
use crate::volume::superblock::Superblock;

/// How often a read looks whether the files' names still lead to the open files. What matters at once (rows appended,
/// a vacuum) is seen by every read; this is for what only the names tell: files moved away, a volume sent to a tier.
const NAMES_EVERY_MS: u64 = 100;

/// How many places a read tries before it gives up.
const ATTEMPTS: u8 = 4;

/// Where the 33rd bit of an offset went that has only 32: a record not found is looked for this much further on.
const LOST_BIT: u64 = OFFSET_UNIT << 32;

/// How to open a volume.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Where `.idx` and `.sdx` are; None is beside the `.dat` file.
    pub index_dir: Option<PathBuf>,
    /// Reads that find the files replaced load the new index themselves, which takes 0.1 s a million needles. If
    /// false they answer `Busy`, and [`Volume::refresh`] has to be called from elsewhere. Default true.
    pub reload_on_read: bool,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions { index_dir: None, reload_on_read: true }
    }
}

/// One volume. Any thread may use it, any number at once.
#[derive(Debug)]
pub struct Volume {
    id: u32,
    paths: Paths,
    options: OpenOptions,
    /// None while the files are gone.
    current: RwLock<Option<Arc<Generation>>>,
    /// Held while files are opened anew: the number of the last generation.
    opening: Mutex<u64>,
    opened: Instant,
    names_checked_ms: AtomicU64,
}

/// Numbers of a volume, for a person or a gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Which opening of the files this is about, from 1.
    pub generation: u64,
    /// As it was when the files were opened.
    pub superblock: Superblock,
    /// Entries of the needle map, deleted ones included; an entry that changed lately may be counted twice.
    pub entries: usize,
    /// Bytes that the needle map takes.
    pub map_bytes: usize,
}

impl Volume {
    /// Opens a volume and loads its index. An empty `collection` is the default one. Errors: `NotFound`; `Ineligible`
    /// for erasure-coded and tiered volumes; `Corrupted`, `Unsupported`, `Stale` for files that make no sense; `Io`,
    /// `OutOfMemory`.
    pub fn open(dir: &Path, collection: &str, id: u32) -> Result<Volume> {
        Volume::open_with(dir, collection, id, OpenOptions::default())
    }

    /// [`Volume::open`] with options.
    pub fn open_with(dir: &Path, collection: &str, id: u32, options: OpenOptions) -> Result<Volume> {
        let paths = Paths::new(dir, options.index_dir.as_deref(), collection, id)?;
        let generation = Generation::open(&paths, 1)?;
        Ok(Volume {
            id,
            paths,
            options,
            current: RwLock::new(Some(Arc::new(generation))),
            opening: Mutex::new(1),
            opened: Instant::now(),
            names_checked_ms: AtomicU64::new(0),
        })
    }

    /// The volume's number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Numbers as of the last look; None while the files are gone.
    pub fn info(&self) -> Option<Info> {
        let generation = self.current.read().clone()?;
        let (entries, map_bytes) = generation.index.size();
        let (generation, superblock) = (generation.number, generation.data.superblock);
        Some(Info { generation, superblock, entries, map_bytes })
    }

    /// Takes in what was appended, and opens the files anew if they were replaced or came back. Reads do the same;
    /// call this now and then all the same, so that an idle volume lets go of files that a vacuum replaced. Errors: as
    /// of [`Volume::open`]; the volume can be used again once its files are back.
    pub fn refresh(&self) -> Result<()> {
        self.fresh(true, true, true).map(|_| ())
    }

    /// The volume as of now: every row that is in the index is taken into account. Costs one `fstat`
    /// when there is no news. Errors: `Busy`, and those of [`Volume::refresh`].
    pub fn view(&self) -> Result<View> {
        self.view_as(true)
    }

    /// [`Volume::view`], and unless it may `wait`, `NotReady` when there is news.
    pub fn view_as(&self, wait: bool) -> Result<View> {
        let generation = self.fresh(false, self.options.reload_on_read, wait)?;
        Ok(View { volume: self.id, generation })
    }

    /// Where the needle of a file id is, as of now. Errors: those of [`Volume::view`] and [`View::locate`].
    pub fn locate(&self, id: FileId, options: &ReadOptions) -> Result<Location> {
        self.view_as(options.wait)?.locate(id, options)
    }

    /// Reads a whole needle into `buffer`. See [`Location::read`] for errors; adds those of [`Volume::locate`].
    pub fn read(&self, id: FileId, buffer: &mut [u8], options: &ReadOptions) -> Result<Read> {
        self.attempt(id, options, |location| location.read(buffer, options))
    }

    /// Reads a part of a needle into `buffer`. See [`Location::read_range`]; adds the errors of [`Volume::locate`].
    pub fn read_range(
        &self,
        id: FileId,
        offset: u64,
        buffer: &mut [u8],
        options: &ReadOptions,
    ) -> Result<Read> {
        self.attempt(id, options, |location| location.read_range(offset, buffer, options))
    }

    /// What is known of a needle: its length before a buffer is chosen, its flags. See [`Location::stat`].
    pub fn stat(&self, id: FileId, options: &ReadOptions) -> Result<Needle> {
        self.attempt(id, options, |location| location.stat(options))
    }

    /// What to do after a read at `location` failed: another place to try, or the error to answer with. The files may
    /// have been replaced since it was looked up, or its row may be ahead of its record. Gives up after a few places.
    pub fn retry(&self, location: &Location, error: Error, options: &ReadOptions) -> Result<Location> {
        if !matches!(error.status, Status::Stale | Status::Corrupted) || location.attempt >= ATTEMPTS {
            return Err(error);
        }
        if !options.wait {
            return Err(Status::NotReady.into());
        }
        let attempt = location.attempt + 1;
        let generation = self.fresh(true, self.options.reload_on_read, true)?;
        let view = View { volume: self.id, generation };
        let now = view.locate(location.id, options)?;
        let unshifted = if location.shifted { location.offset - LOST_BIT } else { location.offset };
        if (now.generation, now.offset, now.size) != (location.generation, unshifted, location.size) {
            return Ok(Location { attempt, ..now });
        }
        if !location.shifted && view.generation.index.is_narrow() {
            let shifted = Location { offset: location.offset + LOST_BIT, shifted: true, attempt, ..now };
            let length =
                rustix::fs::fstat(shifted.file()).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
            if shifted.offset + unpadded_length(shifted.version(), shifted.size) <= length {
                return Ok(shifted);
            }
        }
        if error.status == Status::Corrupted && self.paths.compacting() {
            return Err(Error::new(Status::Stale, "the volume is being vacuumed and its files do not agree"));
        }
        Err(error)
    }

    fn attempt<T>(
        &self,
        id: FileId,
        options: &ReadOptions,
        mut read: impl FnMut(&Location) -> Result<T>,
    ) -> Result<T> {
        let mut location = self.locate(id, options)?;
        loop {
            match read(&location) {
                Err(error) => location = self.retry(&location, error, options)?,
                done => return done,
            }
        }
    }

    /// The present generation with every row of its index taken in. `names` makes it look at the files' names too;
    /// `reload` lets it open them anew. Unless it may `wait`, `NotReady` when there are rows or files to be read.
    fn fresh(&self, names: bool, reload: bool, wait: bool) -> Result<Arc<Generation>> {
        // Bound: each round but the last needs the files to be replaced during it.
        for _ in 0..ATTEMPTS {
            let current = self.current.read().clone();
            let old = current.as_ref().map(|generation| generation.number);
            if let Some(generation) = current {
                if self.is_up_to_date(&generation, names, wait)? {
                    return Ok(generation);
                }
            } else if !reload {
                return Err(Error::new(Status::NotFound, "the volume's files are gone"));
            }
            if !wait {
                return Err(Status::NotReady.into());
            }
            if !reload {
                return Err(Error::new(
                    Status::Busy,
                    "the volume's files were replaced and are not loaded yet",
                ));
            }
            self.reopen(old)?;
        }
        Err(Error::new(Status::Busy, "the volume's files are being replaced again and again"))
    }

    /// Takes in what was appended; false if the files have to be opened anew.
    fn is_up_to_date(&self, generation: &Generation, names: bool, wait: bool) -> Result<bool> {
        match generation.index.follow(&generation.data, wait)? {
            Change::Rewritten => Ok(false),
            Change::UpToDate if !names && !self.names_due() => Ok(true),
            // To look at names may wait for the disk too; and whoever looks has to open what he finds.
            _ if !wait => Err(Status::NotReady.into()),
            Change::UpToDate | Change::Renamed => {
                self.names_checked_ms.store(self.now_ms(), Ordering::Relaxed);
                if generation.is_current(&self.paths) {
                    generation.index.confirm()?;
                    return Ok(generation.index.follow(&generation.data, wait)? == Change::UpToDate);
                }
                // In the middle of a vacuum's commit both open files are still the old ones, and nothing is written
                // before both are new. An index that is not the old one any more is of a vacuum before this one.
                Ok(self.paths.committing() && generation.has_index(&self.paths))
            }
        }
    }

    /// Whether the names are to be looked at.
    fn names_due(&self) -> bool {
        self.now_ms().saturating_sub(self.names_checked_ms.load(Ordering::Relaxed)) >= NAMES_EVERY_MS
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Opens the files anew, unless another thread did so since `old` was current.
    fn reopen(&self, old: Option<u64>) -> Result<()> {
        let mut number = self.opening.lock();
        if self.current.read().as_ref().map(|generation| generation.number) != old {
            return Ok(());
        }
        match Generation::open(&self.paths, *number + 1) {
            Ok(generation) => {
                *number += 1;
                *self.current.write() = Some(Arc::new(generation));
                Ok(())
            }
            Err(error) => {
                // What was open is not the volume any more; let go of its files.
                *self.current.write() = None;
                Err(error)
            }
        }
    }
}

/// A volume as it was at one moment: for many look-ups at the price of one. Keeps the files open.
#[derive(Clone, Debug)]
pub struct View {
    volume: u32,
    generation: Arc<Generation>,
}

impl View {
    /// Where the needle of a file id is. Errors: `NotFound`; `Deleted` (also with `read_deleted`, when nobody knows any
    /// more where it was); of a sorted index `Io` and `Stale`.
    pub fn locate(&self, id: FileId, options: &ReadOptions) -> Result<Location> {
        if id.volume != self.volume {
            return Err(Error::new(
                Status::NotFound,
                format!("a needle of volume {}, not {}", id.volume, self.volume),
            ));
        }
        let entry = self.generation.index.get(id.needle, options.wait)?.ok_or(Status::NotFound)?;
        // Of an empty file no bytes are left that could be read; HTTP says so, too.
        if entry.deleted && (!options.read_deleted || entry.is_tombstone() || entry.size == 0) {
            return Err(Status::Deleted.into());
        }
        Ok(Location {
            data: self.generation.data.clone(),
            id,
            offset: entry.offset * OFFSET_UNIT,
            size: entry.size,
            deleted: entry.deleted,
            generation: self.generation.number,
            attempt: 0,
            shifted: false,
        })
    }
}
