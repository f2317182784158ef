//! A partition's directory, read and written through its shard's disk.

use super::bytes::Bytes;
use super::open_files::OpenFiles;
use super::pages::{Broken, Fate, Pages, WRITE};
use crate::io::buffer::{ALIGNMENT, Buffer};
use crate::io::file::File;
use crate::io::operation::Operation;
use crate::kv::damage::corrupted;
use crate::kv::names::FileName;
use crate::kv::sink::Sink;
use crate::kv::source::{Directory, Place, Source};
use crate::kv::structure;
use crate::kv::tier::cache::Seat;
use crate::kv::tier::ticket::Ticket;
use crate::kv::tier::{FETCHES, Remote};
use crate::status::{Error, Result, Status};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File as StdFile;
use std::io::{Error as OsError, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// Bytes of writes under way before a writer waits for the oldest.
const UNDER_WAY: usize = 4 << 20;
/// Neighbouring pages that are not worth a read of their own together.
const SHORT: usize = 4;

/// A partition's files. Writes are under way when `write` returns; `sync` waits for them and says what failed.
#[derive(Clone, Debug)]
pub struct Files(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    pages: Rc<Pages>,
    open: Rc<RefCell<OpenFiles>>,
    partition: u32,
    path: PathBuf,
    page_size: usize,
    pages_per_file_shift: u32,
    created: Cell<bool>,
    writes: RefCell<VecDeque<(FileName, usize, Operation)>>,
    bytes_under_way: Cell<usize>,
    failed: RefCell<Option<Error>>,
    remote: Option<Remote>,
}

impl Files {
    /// The files in `path`, whose pages are cached under the number `partition`.
    pub fn new(
        pages: Rc<Pages>,
        open: Rc<RefCell<OpenFiles>>,
        partition: u32,
        path: PathBuf,
        store: &crate::kv::options::Options,
        remote: Option<Remote>,
    ) -> Files {
        Files(Rc::new(Inner {
            pages,
            open,
            partition,
            path,
            page_size: store.page_size,
            pages_per_file_shift: store.pages_per_file_shift,
            created: Cell::new(false),
            writes: RefCell::default(),
            bytes_under_way: Cell::new(0),
            failed: RefCell::default(),
            remote,
        }))
    }

    /// The shard's pages.
    pub fn pages(&self) -> &Rc<Pages> {
        &self.0.pages
    }

    /// The number that its pages are cached under.
    pub fn partition(&self) -> u32 {
        self.0.partition
    }

    /// Waits for the writes under way, whatever they end with: an edit that failed must not meet the next one.
    pub async fn settle(&self) {
        while self.finish_one().await {}
        self.0.failed.borrow_mut().take();
    }

    async fn file(&self, name: &FileName, write: bool) -> Result<Rc<File>> {
        let known = self.0.open.borrow_mut().get(self.0.partition, name, write);
        if let Some(file) = known {
            return Ok(file);
        }
        let path = self.0.path.join(name.to_string());
        let direct = !matches!(name, FileName::Manifest { .. } | FileName::Archive { .. });
        let here = path.clone();
        let mut seat = self.seat(&path);
        let mut opened = self.0.pages.disk().call(move || open(&here, write, direct)).await?;
        if let Some(remote) = &self.0.remote {
            let missing = |opened: &std::io::Result<_>| {
                opened.as_ref().is_err_and(|error: &OsError| error.kind() == ErrorKind::NotFound)
            };
            for _ in 0..FETCHES {
                if !missing(&opened) {
                    break;
                }
                self.answer(remote.fetch(name, false)).await?;
                let here = path.clone();
                seat = self.seat(&path);
                opened = self.0.pages.disk().call(move || open(&here, write, direct)).await?;
            }
            if missing(&opened) {
                return Err(remote.evicted(name));
            }
        }
        let (fd, direct, created) = opened.map_err(|error| match error.kind() {
            ErrorKind::NotFound if !write => {
                corrupted(self.describe(name), 0, "the manifest names this file and it is missing")
            }
            _ => self.failure(name, &error),
        })?;
        self.0.created.set(self.0.created.get() || created);
        let file = self.0.pages.disk().file(fd, direct);
        self.0.open.borrow_mut().insert(self.0.partition, name, write, &file, seat);
        Ok(file)
    }

    fn failure(&self, name: &FileName, error: &OsError) -> Error {
        Error::os(&self.describe(name), error)
    }

    fn ends(&self, name: &FileName, offset: u64) -> Error {
        corrupted(self.describe(name), offset, "the file ends before this page does")
    }

    /// Memory for a write: from the shard's pools, for which it waits as long as writes of its own are under way.
    async fn write_buffer(&self, len: usize) -> Result<Buffer> {
        loop {
            if let Some(buffer) = self.0.pages.write_buffer(len) {
                return Ok(buffer);
            }
            if len > WRITE || !self.finish_one().await {
                let buffer = Buffer::heap(len);
                return buffer.ok_or_else(|| Error::new(Status::OutOfMemory, "no memory for a write"));
            }
        }
    }

    /// Ends the oldest write under way; false if there is none.
    async fn finish_one(&self) -> bool {
        let oldest = self.0.writes.borrow_mut().pop_front();
        let Some((name, len, operation)) = oldest else { return false };
        let ended = operation.await;
        self.0.bytes_under_way.set(self.0.bytes_under_way.get() - len);
        if let Err(error) = ended.result {
            let error = self.failure(&name, &error);
            self.0.failed.borrow_mut().get_or_insert(error);
        }
        true
    }

    fn expect_page(&self, place: &Place<'_>, fate: Fate) {
        let key = (self.0.partition, place.file_page);
        let open = self.0.open.borrow_mut().data(key.0, place.id, place.branch, place.term);
        if let Some(file) = open {
            self.0.pages.expect(key, &file, place.offset, fate);
        }
    }

    /// Pages that a data file's write changes.
    fn note_pages(&self, name: &FileName, offset: u64, bytes: &[u8]) {
        let FileName::Data { id, .. } = name else { return };
        let first = (id << self.0.pages_per_file_shift) + offset / self.0.page_size as u64;
        for (i, page) in bytes.chunks(self.0.page_size).enumerate() {
            self.0.pages.written((self.0.partition, first + i as u64), page);
        }
    }

    /// A file's place in the cache, from before it is opened: if it goes meanwhile, that is seen.
    fn seat(&self, path: &Path) -> Option<Arc<Seat>> {
        self.0.remote.as_ref().and_then(|remote| remote.tier().cache().seat(path))
    }

    /// What is cached of an object can lack what was appended since, or be damaged: fetches it anew.
    pub async fn mends(&self, name: &FileName, error: &Error) -> Result<bool> {
        let Some(remote) = self.0.remote.as_ref().filter(|_| error.status == Status::Corrupted) else {
            return Ok(false);
        };
        self.answer(remote.fetch(name, true)).await?;
        self.0.open.borrow_mut().remove(self.0.partition, name);
        Ok(true)
    }

    async fn call<T: Send + 'static>(
        &self,
        name: &FileName,
        work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.0.path.join(name.to_string());
        let done = self.0.pages.disk().call(move || work(&path)).await?;
        done.map_err(|error| self.failure(name, &error))
    }
}

/// Opens a file: the descriptor, whether it is for direct I/O, and whether it was made.
fn open(path: &Path, write: bool, direct: bool) -> std::io::Result<(OwnedFd, bool, bool)> {
    let created = write && !path.try_exists()?;
    let mut options = StdFile::options();
    options.read(true).write(write).create(write);
    if direct {
        match options.clone().custom_flags(libc::O_DIRECT).open(path) {
            // Some file systems know no direct I/O.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            opened => return Ok((opened?.into(), true, created)),
        }
    }
    Ok((options.open(path)?.into(), false, created))
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) => StdFile::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

impl Source for Files {
    type Bytes = Bytes;

    async fn read(&self, name: &FileName, offset: u64, len: usize) -> Result<Bytes> {
        let file = self.file(name, false).await?;
        let none = || Error::new(Status::OutOfMemory, format!("no memory to read {len} bytes"));
        // Direct I/O reads whole blocks; files consist of them.
        let whole = len.checked_next_multiple_of(ALIGNMENT).ok_or_else(none)?;
        let buffer = Buffer::heap(whole).ok_or_else(none)?;
        let ended = self.0.pages.disk().read(&file, offset, buffer, whole)?.await;
        match (ended.result, ended.buffer) {
            (Ok(read), Some(buffer)) if read >= len => Ok(Bytes::Disk(Rc::new(buffer), 0, len)),
            (Err(error), _) => Err(self.failure(name, &error)),
            _ => Err(self.ends(name, offset)),
        }
    }

    fn describe(&self, file: &FileName) -> String {
        self.0.path.join(file.to_string()).display().to_string()
    }

    async fn page(&self, place: &Place<'_>) -> Result<Bytes> {
        let (pages, key) = (&self.0.pages, (self.0.partition, place.file_page));
        if let Some(page) = pages.cached(key).await {
            return Ok(Bytes::Disk(page, 0, place.len));
        }
        let open = self.0.open.borrow_mut().data(key.0, place.id, place.branch, place.term);
        let file = match open {
            Some(file) => file,
            None => self.file(&place.file(), false).await?,
        };
        let verify = |bytes: &[u8]| {
            structure::verify(bytes)
                .map_err(|damage| damage.in_file(self.describe(&place.file()), place.offset))
        };
        match pages.load(key, &file, place.offset, verify).await? {
            Ok((buffer, at)) => Ok(Bytes::Disk(buffer, at, place.len)),
            Err(Broken::Short) => Err(self.ends(&place.file(), place.offset)),
            Err(Broken::Os(errno)) => Err(self.failure(&place.file(), &OsError::from_raw_os_error(errno))),
        }
    }

    fn expect(&self, place: &Place<'_>) {
        self.expect_page(place, Fate::Kept);
    }

    fn expect_last(&self, place: &Place<'_>) {
        self.expect_page(place, Fate::Dropped);
    }

    fn expect_all(&self, places: &[Place<'_>]) -> usize {
        let most = self.0.pages.stretch();
        let mut rest = places;
        while let [first, after @ ..] = rest {
            let joins = |(i, place): &(usize, &Place<'_>)| {
                place.id == first.id && place.file_page == first.file_page + *i as u64 + 1
            };
            let len = 1 + (0..).zip(after).take(most - 1).take_while(joins).count();
            let (run, others) = rest.split_at(len);
            let key = (self.0.partition, first.file_page);
            if !self.0.pages.has_room_ahead(key, len) {
                break;
            }
            rest = others;
            let open = self.0.open.borrow_mut().data(self.0.partition, first.id, first.branch, first.term);
            let Some(file) = open else { continue };
            if len < SHORT || !self.0.pages.expect_run(key, len, &file, first.offset) {
                run.iter().for_each(|place| self.expect(place));
            }
        }
        places.len() - rest.len()
    }
}

impl Sink for Files {
    async fn write(&self, name: &FileName, offset: u64, bytes: &[u8]) -> Result<()> {
        if let Some(remote) = &self.0.remote {
            remote.writing(name, offset + bytes.len() as u64);
        }
        let file = self.file(name, true).await?;
        self.note_pages(name, offset, bytes);
        let mut buffer = self.write_buffer(bytes.len()).await?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        let operation = self.0.pages.disk().write(&file, offset, buffer, bytes.len())?;
        let counters = self.0.pages.counters();
        match name {
            FileName::Data { .. } | FileName::Segment { .. } => counters.data_bytes.add(bytes.len() as u64),
            FileName::Log { .. } => counters.log_bytes.add(bytes.len() as u64),
            _ => counters.manifest_bytes.add(bytes.len() as u64),
        }
        self.0.writes.borrow_mut().push_back((name.clone(), bytes.len(), operation));
        self.0.bytes_under_way.set(self.0.bytes_under_way.get() + bytes.len());
        while self.0.bytes_under_way.get() > UNDER_WAY {
            self.finish_one().await;
        }
        Ok(())
    }

    fn take_run(&self) -> Vec<u8> {
        self.0.pages.take_run()
    }

    fn give_run(&self, run: Vec<u8>) {
        self.0.pages.give_run(run);
    }

    fn forget(&self, pages: &[u64]) {
        pages.iter().for_each(|page| self.0.pages.forget((self.0.partition, *page)));
    }

    async fn sync(&self, files: &[FileName]) -> Result<()> {
        while self.finish_one().await {}
        if let Some(error) = self.0.failed.borrow_mut().take() {
            return Err(error);
        }
        let mut syncs = Vec::with_capacity(files.len());
        for name in files {
            let file = self.file(name, true).await?;
            syncs.push((name, self.0.pages.disk().sync(&file)?));
        }
        for (name, sync) in syncs {
            sync.await.result.map_err(|error| self.failure(name, &error))?;
        }
        if self.0.created.get() {
            let path = self.0.path.clone();
            let synced = self.0.pages.disk().call(move || StdFile::open(path)?.sync_all()).await?;
            synced.map_err(|error| Error::os(&self.0.path.display().to_string(), &error))?;
            self.0.created.set(false);
        }
        match &self.0.remote {
            Some(remote) => self.answer(remote.upload(files)).await,
            None => Ok(()),
        }
    }

    async fn replace(&self, name: &FileName, bytes: &[u8]) -> Result<()> {
        self.0.pages.counters().manifest_bytes.add(bytes.len() as u64);
        if let Some(remote) = &self.0.remote {
            // Of what is read whole, only the manifest that grows is kept here.
            if matches!(name, FileName::Archive { .. }) {
                return self.answer(remote.publish(name, bytes.to_vec())).await;
            }
            remote.writing(name, bytes.len() as u64);
        }
        let published = bytes;
        let (bytes, temporary) = (bytes.to_vec(), self.0.path.join(format!("{name}.tmp")));
        let replaced = self.call(name, move |path| {
            let mut out = StdFile::create(&temporary)?;
            std::io::Write::write_all(&mut out, &bytes)?;
            out.sync_data()?;
            std::fs::rename(&temporary, path)?;
            sync_parent(path)
        });
        let replaced = replaced.await;
        self.0.open.borrow_mut().remove(self.0.partition, name);
        replaced?;
        match &self.0.remote {
            Some(remote) => self.answer(remote.publish(name, published.to_vec())).await,
            None => Ok(()),
        }
    }

    fn remote(&self) -> Option<&Remote> {
        self.0.remote.as_ref()
    }

    async fn answer<T>(&self, ticket: Ticket<T>) -> Result<T> {
        ticket.ringing(self.0.pages.disk().event()).await
    }

    async fn exists(&self, name: &FileName) -> Result<bool> {
        if let Some(remote) = &self.0.remote {
            return self.answer(remote.exists(name)).await;
        }
        self.call(name, Path::try_exists).await
    }

    async fn remove(&self, name: &FileName) -> Result<()> {
        self.0.open.borrow_mut().remove(self.0.partition, name);
        if let Some(remote) = &self.0.remote {
            return self.answer(remote.remove(name)).await;
        }
        let removed = |path: &Path| match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => sync_parent(path),
        };
        self.call(name, removed).await
    }

    async fn cut(&self, name: &FileName, len: u64) -> Result<()> {
        self.call(name, move |path| StdFile::options().write(true).open(path)?.set_len(len)).await
    }

    async fn names(&self) -> Result<Vec<FileName>> {
        if let Some(remote) = &self.0.remote {
            return self.answer(remote.names()).await;
        }
        let path = self.0.path.clone();
        self.0.pages.disk().call(move || Directory::new(path).list()).await?
    }

    async fn contents(&self, name: &FileName) -> Result<Option<Vec<u8>>> {
        if let Some(remote) = &self.0.remote {
            return self.answer(remote.contents(name)).await;
        }
        let found = |error: OsError| if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(error) };
        let len = move |path: &Path| path.metadata().map(|metadata| Some(metadata.len())).or_else(found);
        let Some(len) = self.call(name, len).await? else { return Ok(None) };
        // The memory is this thread's: what another one would allocate for it stays with that.
        let mut bytes = Vec::new();
        let none = |_| Error::new(Status::OutOfMemory, format!("no memory to read {len} bytes"));
        bytes.try_reserve_exact(usize::try_from(len).unwrap_or(usize::MAX)).map_err(none)?;
        let whole = move |path: &Path| {
            let read =
                StdFile::open(path).and_then(|mut file| std::io::Read::read_to_end(&mut file, &mut bytes));
            read.map(|_| Some(bytes)).or_else(|error| match error.kind() {
                ErrorKind::NotFound => Ok(None),
                _ => Err(error),
            })
        };
        self.call(name, whole).await
    }
}
