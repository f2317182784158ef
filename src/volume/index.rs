//! The index of a volume: an `.idx` file that is followed as it grows, or a sorted `.sdx` file that is searched.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::status::{Error, Result, Status};
use crate::volume::compact::Entry;
use crate::volume::location::DataFile;
use crate::volume::map::{Loader, NeedleMap};
use crate::volume::needle::{HEADER_BYTES, Header};
use crate::volume::read::read_at;
use crate::volume::row::{OFFSET_UNIT, Row, RowWidth};
use crate::volume::sorted;

/// Rows of one read while the whole file is loaded.
const LOAD_ROWS: usize = 1 << 16;

/// Rows of one read, and of one hold of the map's lock, while the file is followed.
const FOLLOW_ROWS: usize = 1 << 10;

/// Rows that are held against the `.dat` file to learn their width.
const SAMPLE_ROWS: usize = 32;

/// What a look at the file said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Everything in the file is in the map.
    UpToDate,
    /// The number of the file's names changed: it may have been replaced.
    Renamed,
    /// It is shorter, or its rows are others: it must be loaded again.
    Rewritten,
}

/// An open index file and what was learnt from it.
#[derive(Debug)]
pub(super) struct Index {
    file: File,
    sorted: bool,
    /// How many names the file has: 0 once another file was renamed over it.
    links: AtomicU64,
    /// Length of the file up to which the map is complete, in bytes, a cut-off row included.
    seen: AtomicU64,
    map: RwLock<NeedleMap>,
    progress: Mutex<Progress>,
    merging: Mutex<()>,
}

#[derive(Debug, Default)]
struct Progress {
    /// None until the first row tells.
    width: Option<RowWidth>,
    /// Bytes of whole rows that are in the map.
    consumed: u64,
    /// The last of them, to notice a file that was written anew in place.
    last: Option<Row>,
}

impl Index {
    /// Takes the file; loads it unless it is `sorted`. `width` is what `.vif` says. Errors: `Stale`, `Io`,
    /// `OutOfMemory`.
    pub(super) fn open(
        file: File,
        links: u64,
        sorted: bool,
        width: Option<RowWidth>,
        data: &DataFile,
    ) -> Result<Index> {
        let width = if width.is_some() { width } else { detect_width(&file, data)? };
        let mut progress = Progress { width, ..Progress::default() };
        let map = match width {
            Some(width) if !sorted => load(&file, width, &mut progress)?,
            _ => NeedleMap::default(),
        };
        Ok(Index {
            file,
            sorted,
            links: links.into(),
            seen: progress.consumed.into(),
            map: RwLock::new(map),
            progress: Mutex::new(progress),
            merging: Mutex::new(()),
        })
    }

    /// Whether it is an `.sdx` file.
    pub(super) fn is_sorted(&self) -> bool {
        self.sorted
    }

    /// Whether offsets have 32 bits.
    pub(super) fn is_narrow(&self) -> bool {
        self.progress.lock().width == Some(RowWidth::Sixteen)
    }

    /// The entry of `id`, as of the last [`Index::follow`]. A sorted index is read for it; see [`read_at`] for `wait`.
    pub(super) fn get(&self, id: u64, wait: bool) -> Result<Option<Entry>> {
        if !self.sorted {
            return Ok(self.map.read().get(id));
        }
        let Some(width) = self.progress.lock().width else { return Ok(None) };
        let length = length_and_links(&self.file)?.0;
        let found =
            sorted::search(width, length, id, |offset, row| read_at(self.file.as_fd(), offset, [row], wait))?;
        Ok(found.map(Entry::from))
    }

    /// Entries in the map, and the bytes of memory they take.
    pub(super) fn size(&self) -> (usize, usize) {
        let map = self.map.read();
        (map.entries(), map.memory())
    }

    /// Takes in what was appended since the last look. Costs one `fstat` when nothing was. Unless it may `wait`, `NotReady`
    /// when something was: that can be many rows, and runs to be merged.
    pub(super) fn follow(&self, data: &DataFile, wait: bool) -> Result<Change> {
        let (length, links) = length_and_links(&self.file)?;
        if links != self.links.load(Ordering::Relaxed) {
            return Ok(Change::Renamed);
        }
        // `seen` is stored after the rows are in the map.
        if self.sorted || length == self.seen.load(Ordering::Acquire) {
            return Ok(Change::UpToDate);
        }
        if !wait {
            return Err(Status::NotReady.into());
        }
        let change = self.take_in(data)?;
        self.merge()?;
        Ok(change)
    }

    /// The file has its name still: its present count of names is the one to compare with.
    pub(super) fn confirm(&self) -> Result<()> {
        self.links.store(length_and_links(&self.file)?.1, Ordering::Relaxed);
        Ok(())
    }

    fn take_in(&self, data: &DataFile) -> Result<Change> {
        let mut progress = self.progress.lock();
        let length = length_and_links(&self.file)?.0;
        if length < progress.consumed {
            return Ok(Change::Rewritten);
        }
        if progress.width.is_none() {
            progress.width = detect_width(&self.file, data)?;
        }
        let Some(width) = progress.width else { return Ok(Change::UpToDate) };
        let step = width.bytes();
        let mut buffer = [0; FOLLOW_ROWS * 17];
        let buffer = &mut buffer[..FOLLOW_ROWS * step];
        loop {
            // The last row that is in the map is read again, with the new ones.
            let again = if progress.last.is_some() { step } else { 0 };
            let got = read_at(self.file.as_fd(), progress.consumed - again as u64, [&mut *buffer], true)?;
            let mut rows = Row::decode_all(width, &buffer[..got]).peekable();
            if progress.last.is_some() && rows.next() != progress.last {
                return Ok(Change::Rewritten);
            }
            if rows.peek().is_none() {
                break;
            }
            let mut map = self.map.write();
            for row in rows {
                map.apply(row)?;
                progress.consumed += step as u64;
                progress.last = Some(row);
            }
        }
        // Rows may have come after `length` was taken; then the next look takes in nothing and moves this on.
        self.seen.store(length, Ordering::Release);
        Ok(Change::UpToDate)
    }

    /// Merges runs if there are any to merge, unless another thread is at it. Readers go on meanwhile.
    fn merge(&self) -> Result<()> {
        let Some(_merging) = self.merging.try_lock() else { return Ok(()) };
        loop {
            let Some(merge) = self.map.read().next_merge() else { return Ok(()) };
            let result = merge.run()?;
            self.map.write().merged(&merge, result);
        }
    }
}

fn length_and_links(file: &File) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(file).map_err(|error| Error::os("looking at an index", &error.into()))?;
    Ok((u64::try_from(stat.st_size).unwrap_or(0), stat.st_nlink as u64))
}

fn load(file: &File, width: RowWidth, progress: &mut Progress) -> Result<NeedleMap> {
    let mut loader = Loader::default();
    let mut buffer = vec![0; LOAD_ROWS * width.bytes()];
    loop {
        let got = read_at(file.as_fd(), progress.consumed, [&mut buffer], true)?;
        let whole = got - got % width.bytes();
        if whole == 0 {
            return loader.finish();
        }
        loader.extend(Row::decode_all(width, &buffer[..whole]))?;
        progress.consumed += whole as u64;
        progress.last = Row::decode(width, &buffer[whole - width.bytes()..whole]);
    }
}

/// Learns the width of the rows from the records they point to, and from the length of the file. None while there is no row. Errors: `Stale` when
/// neither width makes sense.
fn detect_width(file: &File, data: &DataFile) -> Result<Option<RowWidth>> {
    let mut buffer = [0; SAMPLE_ROWS * 17];
    let got = read_at(file.as_fd(), 0, [&mut buffer], true)?;
    if got < RowWidth::Sixteen.bytes() {
        return Ok(None);
    }
    let length = length_and_links(file)?.0;
    let score = |width| -> Result<(usize, bool)> {
        let mut matches = 0;
        for row in Row::decode_all(width, &buffer[..got]).filter(|row| row.offset != 0) {
            let mut header = [0; HEADER_BYTES];
            read_at(data.file.as_fd(), row.offset * OFFSET_UNIT, [&mut header], true)?;
            let found = Header::decode(&header);
            // The row of a deletion points to a record of size 0.
            let size = row.size.max(0);
            matches += usize::from(found.is_some_and(|header| header.id == row.id && header.size == size));
        }
        Ok((matches, length % width.bytes() as u64 == 0))
    };
    let (sixteen, seventeen) = (score(RowWidth::Sixteen)?, score(RowWidth::Seventeen)?);
    match sixteen.cmp(&seventeen) {
        std::cmp::Ordering::Greater => Ok(Some(RowWidth::Sixteen)),
        std::cmp::Ordering::Less => Ok(Some(RowWidth::Seventeen)),
        std::cmp::Ordering::Equal => Err(Error::new(
            Status::Stale,
            "rows of 16 and of 17 bytes make as little sense in the volume's index: it does not belong to its .dat file",
        )),
    }
}
