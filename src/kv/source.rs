//! Where a partition's bytes come from. The tree is walked by the same code over a directory, a ring or memory.

use super::damage::corrupted;
use super::names::FileName;
use super::structure;
use super::tier::cache::Seat;
use super::tier::{FETCHES, Remote};
use crate::status::{Error, Result, Status};
use parking_lot::Mutex;
use std::fs::File;
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads pieces of a partition's files.
#[allow(async_fn_in_trait, reason = "one shard's executor runs these; they never move between threads")]
pub trait Source {
    /// Bytes that were read; a ring hands out its registered buffers.
    type Bytes: AsRef<[u8]>;

    /// Exactly `len` bytes of `file` from `offset` on. A missing file or one that ends before is `CORRUPTED`,
    /// because only bytes that the manifest promises are asked for.
    async fn read(&self, file: &FileName, offset: u64, len: usize) -> Result<Self::Bytes>;

    /// What to call `file` in a message.
    fn describe(&self, file: &FileName) -> String;

    /// The page at `place`, its checksum and structure verified. A source that keeps verified pages need not do it again.
    async fn page(&self, place: &Place<'_>) -> Result<Self::Bytes> {
        let file = place.file();
        let bytes = self.read(&file, place.offset, place.len).await?;
        structure::verify(bytes.as_ref())
            .map_err(|damage| damage.in_file(self.describe(&file), place.offset))?;
        Ok(bytes)
    }

    /// Says that the page at `place` will be asked for soon. A source that can fetch it meanwhile does.
    fn expect(&self, _place: &Place<'_>) {}

    /// The same of one that is not asked for again after that: another takes its place.
    fn expect_last(&self, _place: &Place<'_>) {}

    /// The same of several pages, in the order in which they will be asked for; for how many of the first there was room.
    fn expect_all(&self, places: &[Place<'_>]) -> usize {
        places.iter().for_each(|place| self.expect(place));
        places.len()
    }
}

/// Where a page is, and whose file that is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The file page.
    pub file_page: u64,
    /// The data file's number.
    pub id: u64,
    /// Where the page begins there, in bytes.
    pub offset: u64,
    /// The page's bytes.
    pub len: usize,
    /// Who wrote the file.
    pub branch: &'a str,
    /// The writer's term.
    pub term: u64,
}

impl Place<'_> {
    /// The file.
    pub fn file(&self) -> FileName {
        FileName::Data { id: self.id, branch: self.branch.into(), term: self.term }
    }
}

/// Positioned reads and writes of a partition's directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    files: Mutex<Files>,
    remote: Option<Remote>,
}

/// Files that are open, the least recently used one first.
#[derive(Debug, Default)]
struct Files {
    open: Vec<Open>,
    created: bool,
}

#[derive(Debug)]
struct Open {
    name: FileName,
    writable: bool,
    file: Arc<File>,
    /// Its place in the cache of an object store.
    seat: Option<Arc<Seat>>,
}

/// Files that a directory keeps open.
const OPEN_FILES: usize = 16;

impl Directory {
    /// The files in `path`.
    pub fn new(path: PathBuf) -> Directory {
        Directory { path, files: Mutex::default(), remote: None }
    }

    /// The files of a partition in an object store, cached in `path`.
    pub fn cache(path: PathBuf, remote: Remote) -> Directory {
        Directory { path, files: Mutex::default(), remote: Some(remote) }
    }

    /// The partition in the object store that this is a cache of.
    pub fn cached(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of a small file (manifests).
    pub fn whole(&self, file: &FileName) -> Result<Vec<u8>> {
        if let Some(remote) = &self.remote {
            let gone = || {
                Error::new(
                    Status::Stale,
                    format!("{}: it was just replaced; open it again", self.describe(file)),
                )
            };
            return remote.contents(file).wait()?.ok_or_else(gone);
        }
        let path = self.path.join(file.to_string());
        std::fs::read(&path).map_err(|error| Error::os(&path.display().to_string(), &error))
    }

    /// The partition's files; others are left out.
    pub fn list(&self) -> Result<Vec<FileName>> {
        if let Some(remote) = &self.remote {
            return remote.names().wait();
        }
        let failed = |error: std::io::Error| Error::os(&self.path.display().to_string(), &error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            files.extend(entry.map_err(failed)?.file_name().to_str().and_then(FileName::parse));
        }
        Ok(files)
    }

    /// The partition's files and when they were last written.
    pub fn times(&self) -> Result<Vec<(FileName, SystemTime)>> {
        if let Some(remote) = &self.remote {
            let time = |ms: i64| UNIX_EPOCH + Duration::from_millis(ms.max(0) as u64);
            let objects = remote.list().wait()?.into_iter();
            return Ok(objects.map(|object| (object.name, time(object.written_ms))).collect());
        }
        let written = |file: FileName| {
            let path = self.path.join(file.to_string());
            let time = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
            time.map(|time| (file, time)).map_err(|error| Error::os(&path.display().to_string(), &error))
        };
        self.list()?.into_iter().map(written).collect()
    }

    /// The partition's files and their bytes.
    pub fn sizes(&self) -> Result<Vec<(FileName, u64)>> {
        if let Some(remote) = &self.remote {
            return Ok(remote.list().wait()?.into_iter().map(|object| (object.name, object.bytes)).collect());
        }
        let bytes = |file: &FileName| {
            std::fs::metadata(self.path.join(file.to_string())).map_or(0, |metadata| metadata.len())
        };
        Ok(self.list()?.into_iter().map(|file| (file.clone(), bytes(&file))).collect())
    }

    /// The file, open to be read and written; made if it is missing.
    pub(super) fn writable(&self, name: &FileName) -> Result<Arc<File>> {
        self.open(name, true)
    }

    /// Whether files were made since this was last asked.
    pub(super) fn take_created(&self) -> bool {
        std::mem::take(&mut self.files.lock().created)
    }

    /// Files were made whose names are not safe yet.
    pub(super) fn set_created(&self) {
        self.files.lock().created = true;
    }

    /// Closes a file that another has replaced.
    pub(super) fn forget(&self, name: &FileName) {
        self.files.lock().open.retain(|open| open.name != *name);
    }

    fn open(&self, name: &FileName, write: bool) -> Result<Arc<File>> {
        if let Some(file) = self.open_here(name, write)? {
            return Ok(file);
        }
        let Some(remote) = &self.remote else {
            return Err(corrupted(self.describe(name), 0, "the manifest names this file and it is missing"));
        };
        for _ in 0..FETCHES {
            remote.fetch(name, false).wait()?;
            if let Some(file) = self.open_here(name, write)? {
                return Ok(file);
            }
        }
        Err(remote.evicted(name))
    }

    /// The file, if it is here.
    fn open_here(&self, name: &FileName, write: bool) -> Result<Option<Arc<File>>> {
        let mut files = self.files.lock();
        files.open.retain(|open| open.seat.as_ref().is_none_or(|seat| !seat.is_gone()));
        let known = files.open.iter().position(|open| open.name == *name && (open.writable || !write));
        if let Some(at) = known {
            let entry = files.open.remove(at);
            let file = entry.file.clone();
            if let (Some(remote), Some(seat)) = (&self.remote, &entry.seat) {
                remote.tier().cache().touch(seat);
            }
            files.open.push(entry);
            return Ok(Some(file));
        }
        let path = self.path.join(name.to_string());
        let missing = write && !path.exists();
        let seat = self.remote.as_ref().and_then(|remote| remote.tier().cache().seat(&path));
        let opened = File::options().read(true).write(write).create(write).truncate(false).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && !write => return Ok(None),
            Err(error) => return Err(Error::os(&path.display().to_string(), &error)),
        };
        files.created |= missing;
        if files.open.len() >= OPEN_FILES {
            files.open.remove(0);
        }
        let file = Arc::new(file);
        files.open.push(Open { name: name.clone(), writable: write, file: file.clone(), seat });
        Ok(Some(file))
    }

    fn read_here(&self, file: &FileName, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.open(file, false)?.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                corrupted(self.describe(file), offset, "the file ends before this page does")
            }
            _ => Error::os(&self.describe(file), &error),
        })
    }

    /// What is in the cache can lack what was appended since, or be damaged: fetches it anew, once.
    fn mend<T>(&self, file: &FileName, read: impl Fn() -> Result<T>) -> Result<T> {
        match (read(), &self.remote) {
            (Err(error), Some(remote)) if error.status == Status::Corrupted => {
                remote.fetch(file, true).wait()?;
                read()
            }
            (result, _) => result,
        }
    }
}

impl Source for Directory {
    type Bytes = Vec<u8>;

    async fn read(&self, file: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.mend(file, || {
            let mut bytes = vec![0; len];
            self.read_here(file, offset, &mut bytes).map(|()| bytes)
        })
    }

    async fn page(&self, place: &Place<'_>) -> Result<Vec<u8>> {
        let file = place.file();
        self.mend(&file, || {
            let mut bytes = vec![0; place.len];
            self.read_here(&file, place.offset, &mut bytes)?;
            structure::verify(&bytes).map_err(|damage| damage.in_file(self.describe(&file), place.offset))?;
            Ok(bytes)
        })
    }

    fn describe(&self, file: &FileName) -> String {
        self.path.join(file.to_string()).display().to_string()
    }
}

/// The result of a future that never waits, as everything over a [`Directory`] is.
pub fn now<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Error::new(Status::Internal, "a blocking source waited; please report it")),
    }
}
