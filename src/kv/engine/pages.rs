//! A shard's pages: its disk, the cache over it, the reads under way, and the files that are open.

use super::cache::{Cache, Key, Mixed};
use super::options::EngineOptions;
use super::stats::Counters;
use crate::io::buffer::{Buffer, Pool};
use crate::io::disk::{Disk, Options as DiskOptions};
use crate::io::file::File;
use crate::io::operation::Operation;
use crate::io::tasks::rest;
use crate::kv::edit::RUN;
use crate::status::{Error, Result, Status};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Pages that were read ahead and not asked for yet, at most.
pub const AHEAD: usize = 512;
/// Pages that are asked for until who had one read ahead has stopped early: several readers with a slow taker of their answers
/// come to a third of it.
const STALE: u64 = 8 * AHEAD as u64;
/// Bytes of neighbouring pages that are read together.
const STRETCH: usize = 128 << 10;
/// Longest write that has memory of the shard's, in bytes, and how many of them.
pub const WRITE: usize = RUN;
const WRITES: usize = 32;
/// Memory of edits that is kept.
const RUNS: usize = 4;
/// Bytes of one that is kept: a log's records are longer than what pages need.
const LONGEST_RUN: usize = 2 << 20;
/// Pages that a task holds at a time: a data page, its neighbour, an index page, one of a value's.
const HELD: usize = 4;
/// Pages that are found in memory before a task lets others run.
const PATIENCE: u32 = 256;

/// What all partitions of a shard read through. One thread's.
#[derive(Debug)]
pub struct Pages {
    disk: Rc<Disk>,
    page_size: usize,
    data_too: bool,
    reserve: usize,
    cache: RefCell<Cache>,
    loading: RefCell<Mixed<Key, (Rc<Loading>, usize)>>,
    stretches: Pool,
    writes: Pool,
    /// Pages that were read ahead, oldest first, and how many had been asked for by then; some of them were since.
    ahead: RefCell<VecDeque<(Key, u64)>>,
    /// How many were not.
    unasked: Cell<usize>,
    /// Pages that were asked for and not in memory.
    asked: Cell<u64>,
    consumed: RefCell<Vec<Waker>>,
    patience: Cell<u32>,
    /// Memory of edits that are over, for the next ones.
    runs: RefCell<Vec<Vec<u8>>>,
    counters: Arc<Counters>,
}

/// What a read ended with: the memory, and how many bytes there are.
type Read = std::result::Result<(Rc<Buffer>, usize), Broken>;

/// A page, or several that lie together, being read.
#[derive(Debug)]
struct Loading {
    operation: RefCell<Option<Operation>>,
    /// The memory, and how much of it was read.
    done: RefCell<Option<Read>>,
    ahead: bool,
    fate: Fate,
}

/// What becomes of a page once it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is kept.
    Kept,
    /// It is copied, if there is room: it was read with others, whose memory is not for keeping.
    Copied,
    /// It is not kept.
    Dropped,
}

/// A page in memory: a buffer, and where the page begins in it.
pub type Page = (Rc<Buffer>, usize);

/// Why a page could not be read.
#[derive(Clone, Debug)]
pub enum Broken {
    /// The system said so.
    Os(i32),
    /// The file ends before the page does.
    Short,
}

impl Pages {
    /// Pages for one shard with this many tasks.
    pub fn open(options: &EngineOptions, counters: Arc<Counters>) -> Result<Pages> {
        let page_size = options.store.page_size;
        // What tasks hold and what is read ahead belongs to the budget, unless that is small.
        let (pages, reserve) = (options.cache_bytes / page_size, AHEAD + HELD * options.tasks());
        let limit = if pages >= 4 * reserve { pages - reserve } else { pages };
        let disk = DiskOptions {
            choice: options.io,
            depth: options.io_depth,
            files: options.open_files as u32,
            buffers: limit + reserve,
            buffer_size: page_size,
            ..DiskOptions::default()
        };
        Ok(Pages {
            disk: Disk::open(&disk)?,
            page_size,
            data_too: options.cache_data_pages,
            reserve,
            cache: RefCell::new(Cache::new(limit)),
            loading: RefCell::default(),
            stretches: Pool::new((AHEAD * page_size / STRETCH).max(1), STRETCH)
                .map_err(|error| Error::os("mapping buffers for scans", &error))?,
            writes: Pool::new(WRITES, WRITE)
                .map_err(|error| Error::os("mapping buffers for writes", &error))?,
            ahead: RefCell::default(),
            unasked: Cell::new(0),
            asked: Cell::new(0),
            consumed: RefCell::default(),
            patience: Cell::new(PATIENCE),
            runs: RefCell::default(),
            counters,
        })
    }

    /// The disk.
    pub fn disk(&self) -> &Rc<Disk> {
        &self.disk
    }

    /// Memory for a write, if there is some: a single page's from the pool, as long as that leaves enough for readers.
    pub fn write_buffer(&self, len: usize) -> Option<Buffer> {
        let pool = self.disk.pool();
        if len <= self.page_size && pool.capacity() - pool.used() > self.reserve / 2 {
            return pool.take();
        }
        if len <= WRITE { self.writes.take() } else { None }
    }

    /// Memory for pages that will be written together.
    pub fn take_run(&self) -> Vec<u8> {
        self.runs.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(RUN))
    }

    /// Takes it back.
    pub fn give_run(&self, mut run: Vec<u8>) {
        run.clear();
        let mut runs = self.runs.borrow_mut();
        if runs.len() < RUNS && run.capacity() <= LONGEST_RUN {
            runs.push(run);
        }
    }

    /// What is counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The page, if it is in memory.
    pub fn at_hand(&self, key: Key) -> Option<Rc<Buffer>> {
        let page = self.cache.borrow_mut().get(key)?;
        self.counters.hits.add(1);
        Some(page)
    }

    /// The same. Lets other tasks run now and then.
    pub async fn cached(&self, key: Key) -> Option<Rc<Buffer>> {
        let page = self.at_hand(key)?;
        match self.patience.get() {
            0 => {
                self.patience.set(PATIENCE);
                rest().await;
            }
            left => self.patience.set(left - 1),
        }
        Some(page)
    }

    /// Whether the page is in memory or on its way.
    pub fn is_near(&self, key: Key) -> bool {
        self.cache.borrow().has(key) || self.loading.borrow().contains_key(&key)
    }

    /// Reads a page that is not in memory, together with whoever else asks for it. `verify` sees it once.
    pub async fn load(
        &self,
        key: Key,
        file: &Rc<File>,
        offset: u64,
        verify: impl Fn(&[u8]) -> Result<()>,
    ) -> Result<std::result::Result<Page, Broken>> {
        let known = self.loading.borrow().get(&key).cloned();
        let (loading, at) = match known {
            Some(known) => known,
            None => (self.start(key, file, offset, false, Fate::Kept)?, 0),
        };
        let read = poll_fn(|context| loading.poll(context)).await;
        // The first that sees it takes it out of what is under way.
        let first = self.loading.borrow().get(&key).is_some_and(|(current, _)| Rc::ptr_eq(current, &loading));
        if first {
            self.asked.set(self.asked.get() + 1);
            self.loading.borrow_mut().remove(&key);
            if loading.ahead {
                self.came_for();
            }
        }
        match read {
            Ok((buffer, read)) if at + self.page_size <= read => {
                verify(&buffer[at..at + self.page_size])?;
                match loading.fate {
                    Fate::Kept if first => self.keep_read(key, &buffer),
                    Fate::Copied if first => self.keep_copy(key, &buffer[at..at + self.page_size]),
                    _ => {}
                }
                Ok(Ok((buffer, at)))
            }
            Ok(_) => Ok(Err(Broken::Short)),
            Err(broken) => Ok(Err(broken)),
        }
    }

    /// A page that was read ahead is not ahead any more.
    fn came_for(&self) {
        self.unasked.set(self.unasked.get().saturating_sub(1));
        self.consumed.take().into_iter().for_each(Waker::wake);
    }

    /// A page is being read ahead.
    fn note_ahead(&self, key: Key) {
        self.unasked.set(self.unasked.get() + 1);
        let mut ahead = self.ahead.borrow_mut();
        ahead.push_back((key, self.asked.get()));
        if ahead.len() > 4 * AHEAD {
            ahead.retain(|(key, _)| self.is_ahead(*key));
        }
    }

    /// Forgets the page that was read ahead first and that nobody came for while `others` were asked for.
    fn forget_oldest(&self, others: u64) -> bool {
        loop {
            let Some((oldest, since)) = self.ahead.borrow().front().copied() else { return false };
            let waits = self.is_ahead(oldest);
            if waits && self.asked.get() - since < others {
                return false;
            }
            self.ahead.borrow_mut().pop_front();
            if waits {
                self.forget(oldest);
                return true;
            }
        }
    }

    /// Whether pages that lie together, from `first` on, may be read ahead. What others will come for does not go for them.
    pub fn has_room_ahead(&self, first: Key, count: usize) -> bool {
        let more = (0..count as u64).filter(|i| !self.is_near((first.0, first.1 + i))).count();
        while self.unasked.get() + more > AHEAD {
            if !self.forget_oldest(STALE) {
                return false;
            }
        }
        true
    }

    /// Pages that may be read together.
    pub fn stretch(&self) -> usize {
        (STRETCH / self.page_size).max(1)
    }

    /// Begins to read pages that lie together and will be asked for, from `first` on; false if there is no room.
    pub fn expect_run(&self, first: Key, count: usize, file: &Rc<File>, offset: u64) -> bool {
        let key = |i: usize| (first.0, first.1 + i as u64);
        // Those at the ends that are near need not be read; others between are read again.
        let Some(begin) = (0..count).find(|i| !self.is_near(key(*i))) else { return true };
        let end = (begin..count).rfind(|i| !self.is_near(key(*i))).map_or(begin, |last| last + 1);
        // Without one they are read page by page: those that have one will be asked for first.
        let Some(buffer) = self.stretches.take() else { return false };
        let (at, len) = (begin * self.page_size, (end - begin) * self.page_size);
        let Ok(operation) = self.disk.read(file, offset + at as u64, buffer, len) else { return false };
        self.counters.pages_read.add((end - begin) as u64);
        let loading = Rc::new(Loading {
            operation: RefCell::new(Some(operation)),
            done: RefCell::default(),
            ahead: true,
            fate: Fate::Copied,
        });
        for i in (begin..end).filter(|i| !self.is_near(key(*i))).collect::<Vec<_>>() {
            self.loading.borrow_mut().insert(key(i), (loading.clone(), (i - begin) * self.page_size));
            self.note_ahead(key(i));
        }
        true
    }

    /// Begins to read a page that will be asked for, unless there is no room for it.
    pub fn expect(&self, key: Key, file: &Rc<File>, offset: u64, fate: Fate) {
        if self.is_near(key) {
            return;
        }
        if self.unasked.get() >= AHEAD {
            self.forget_oldest(0);
        }
        if self.start(key, file, offset, true, fate).is_ok() {
            self.note_ahead(key);
        }
    }

    /// Waits until one of the pages read ahead was asked for.
    pub async fn consumed(&self) {
        let mut waited = false;
        poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.consumed.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether a page that was read ahead has not been asked for yet.
    pub fn is_ahead(&self, key: Key) -> bool {
        self.loading.borrow().get(&key).is_some_and(|(loading, _)| loading.ahead)
    }

    fn start(&self, key: Key, file: &Rc<File>, offset: u64, ahead: bool, fate: Fate) -> Result<Rc<Loading>> {
        let buffer = self.buffer()?;
        let operation = self.disk.read(file, offset, buffer, self.page_size)?;
        self.counters.pages_read.add(1);
        let operation = RefCell::new(Some(operation));
        let loading = Rc::new(Loading { operation, done: RefCell::default(), ahead, fate });
        self.loading.borrow_mut().insert(key, (loading.clone(), 0));
        Ok(loading)
    }

    /// Memory for one page: from the pool, which bounds it.
    fn buffer(&self) -> Result<Buffer> {
        if let Some(buffer) = self.disk.pool().take() {
            return Ok(buffer);
        }
        let evicted = self.cache.borrow_mut().evict();
        let buffer = if evicted { self.disk.pool().take() } else { None };
        buffer.ok_or_else(|| Error::new(Status::LimitReached, "every page of the cache is in use"))
    }

    fn keep_read(&self, key: Key, page: &Rc<Buffer>) {
        if is_index(page) || (self.data_too && self.cache.borrow_mut().admits(key)) {
            self.keep(key, page);
        }
    }

    fn keep(&self, key: Key, page: &Rc<Buffer>) {
        let index = is_index(page);
        if index || self.data_too {
            self.cache.borrow_mut().insert(key, page.clone(), index);
            self.counters.cached_pages.set(self.cache.borrow().len() as u64);
        }
    }

    /// Keeps a page of a long scan only where nothing else has to go for it.
    fn keep_copy(&self, key: Key, page: &[u8]) {
        if self.cache.borrow().has_room()
            && let Some(mut buffer) = self.disk.pool().take()
        {
            buffer[..page.len()].copy_from_slice(page);
            self.keep(key, &Rc::new(buffer));
        }
    }

    /// A page is being written anew: what was known of it is wrong, and it may be read soon.
    pub fn written(&self, key: Key, page: &[u8]) {
        self.stop_loading(key);
        if (is_index(page) || self.data_too)
            && let Ok(mut buffer) = self.buffer()
            && buffer.len() >= page.len()
        {
            buffer[..page.len()].copy_from_slice(page);
            self.keep(key, &Rc::new(buffer));
            return;
        }
        self.cache.borrow_mut().remove(key);
    }

    /// Forgets a page. Whoever still reads it has it read again.
    pub fn forget(&self, key: Key) {
        self.cache.borrow_mut().remove(key);
        self.stop_loading(key);
    }

    fn stop_loading(&self, key: Key) {
        if self.loading.borrow().is_empty() {
            return;
        }
        let loading = self.loading.borrow_mut().remove(&key);
        if loading.is_some_and(|(loading, _)| loading.ahead) {
            self.came_for();
        }
    }

    /// Forgets a partition.
    pub fn forget_partition(&self, partition: u32) {
        self.cache.borrow_mut().remove_partition(partition);
        let keys: Vec<Key> = self.loading.borrow().keys().filter(|key| key.0 == partition).copied().collect();
        keys.into_iter().for_each(|key| self.forget(key));
    }
}

/// The kind of a page stands after its checksum.
fn is_index(page: &[u8]) -> bool {
    page.get(8).is_some_and(|kind| *kind <= 1)
}

impl Loading {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Read> {
        if let Some(done) = &*self.done.borrow() {
            return Poll::Ready(done.clone());
        }
        let mut operation = self.operation.borrow_mut();
        let ended = operation.as_mut().and_then(|operation| operation.try_end(context.waker()));
        let Some(ended) = ended else { return Poll::Pending };
        *operation = None;
        let done = match (ended.result, ended.buffer) {
            (Ok(read), Some(buffer)) => Ok((Rc::new(buffer), read)),
            (Ok(_), None) => Err(Broken::Short),
            (Err(error), _) => Err(Broken::Os(error.raw_os_error().unwrap_or(libc::EIO))),
        };
        *self.done.borrow_mut() = Some(done.clone());
        Poll::Ready(done)
    }
}
