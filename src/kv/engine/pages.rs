//! A shard's pages: its disk, the cache over it, the reads under way, and the files that are open.

use super::cache::{Cache, Key, Mixed};
use super::options::EngineOptions;
use super::stats::Counters;
use super::tasks::rest;
use crate::io::buffer::Buffer;
use crate::io::disk::{Disk, Options as DiskOptions};
use crate::io::file::File;
use crate::io::operation::Operation;
use crate::status::{Error, Result, Status};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Pages that were read ahead and not asked for yet, at most.
pub const AHEAD: usize = 256;
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
    cache: RefCell<Cache>,
    loading: RefCell<Mixed<Key, Rc<Loading>>>,
    ahead: RefCell<VecDeque<Key>>,
    consumed: RefCell<Vec<Waker>>,
    patience: Cell<u32>,
    counters: Arc<Counters>,
}

/// A page that is being read.
#[derive(Debug)]
struct Loading {
    operation: RefCell<Option<Operation>>,
    done: RefCell<Option<std::result::Result<Rc<Buffer>, Broken>>>,
    ahead: bool,
}

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
        let limit = options.cache_bytes / page_size;
        let reserve = AHEAD + HELD * options.tasks();
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
            cache: RefCell::new(Cache::new(limit)),
            loading: RefCell::default(),
            ahead: RefCell::default(),
            consumed: RefCell::default(),
            patience: Cell::new(PATIENCE),
            counters,
        })
    }

    /// The disk.
    pub fn disk(&self) -> &Rc<Disk> {
        &self.disk
    }

    /// What is counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The page, if it is in memory. Lets other tasks run now and then.
    pub async fn cached(&self, key: Key) -> Option<Rc<Buffer>> {
        let page = self.cache.borrow_mut().get(key)?;
        self.counters.hits.add(1);
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
    ) -> Result<std::result::Result<Rc<Buffer>, Broken>> {
        let known = self.loading.borrow().get(&key).cloned();
        let loading = match known {
            Some(loading) => loading,
            None => self.start(key, file, offset, false)?,
        };
        let page = poll_fn(|context| loading.poll(context)).await;
        // The first that sees it takes it out of what is under way.
        if self.loading.borrow().get(&key).is_some_and(|current| Rc::ptr_eq(current, &loading)) {
            self.loading.borrow_mut().remove(&key);
            if loading.ahead {
                self.ahead.borrow_mut().retain(|ahead| *ahead != key);
                self.consumed.take().into_iter().for_each(Waker::wake);
            }
            if let Ok(page) = &page {
                verify(&page[..self.page_size])?;
                self.keep(key, page);
            }
        } else if let Ok(page) = &page {
            verify(&page[..self.page_size])?;
        }
        Ok(page)
    }

    /// Begins to read a page that will be asked for, unless there is no room for it.
    pub fn expect(&self, key: Key, file: &Rc<File>, offset: u64) {
        if self.is_near(key) {
            return;
        }
        let stale = {
            let ahead = self.ahead.borrow();
            (ahead.len() >= AHEAD).then(|| ahead.front().copied()).flatten()
        };
        // Nobody came for the oldest: its reader stopped early.
        if let Some(stale) = stale {
            self.forget(stale);
        }
        if self.start(key, file, offset, true).is_ok() {
            self.ahead.borrow_mut().push_back(key);
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
        self.loading.borrow().get(&key).is_some_and(|loading| loading.ahead)
    }

    fn start(&self, key: Key, file: &Rc<File>, offset: u64, ahead: bool) -> Result<Rc<Loading>> {
        let buffer = self.buffer()?;
        let operation = self.disk.read(file, offset, buffer, self.page_size)?;
        self.counters.pages_read.add(1);
        let loading =
            Rc::new(Loading { operation: RefCell::new(Some(operation)), done: RefCell::default(), ahead });
        self.loading.borrow_mut().insert(key, loading.clone());
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

    fn keep(&self, key: Key, page: &Rc<Buffer>) {
        // The kind of a page stands after its checksum.
        let index = page[8] <= 1;
        if index || self.data_too {
            self.cache.borrow_mut().insert(key, page.clone(), index);
            self.counters.cached_pages.set(self.cache.borrow().len() as u64);
        }
    }

    /// A page is being written anew: what was known of it is wrong, and it may be read soon.
    pub fn written(&self, key: Key, page: &[u8]) {
        self.forget(key);
        let index = page.get(8).is_some_and(|kind| *kind <= 1);
        if (index || self.data_too)
            && let Ok(mut buffer) = self.buffer()
            && buffer.len() >= page.len()
        {
            buffer[..page.len()].copy_from_slice(page);
            self.keep(key, &Rc::new(buffer));
        }
    }

    fn forget(&self, key: Key) {
        self.cache.borrow_mut().remove(key);
        let loading = self.loading.borrow_mut().remove(&key);
        if loading.is_some_and(|loading| loading.ahead) {
            self.ahead.borrow_mut().retain(|ahead| *ahead != key);
            self.consumed.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Forgets a partition.
    pub fn forget_partition(&self, partition: u32) {
        self.cache.borrow_mut().remove_partition(partition);
        let keys: Vec<Key> = self.loading.borrow().keys().filter(|key| key.0 == partition).copied().collect();
        keys.into_iter().for_each(|key| self.forget(key));
    }
}

impl Loading {
    fn poll(&self, context: &mut Context<'_>) -> Poll<std::result::Result<Rc<Buffer>, Broken>> {
        if let Some(done) = &*self.done.borrow() {
            return Poll::Ready(done.clone());
        }
        let mut operation = self.operation.borrow_mut();
        let ended = operation.as_mut().and_then(|operation| operation.try_end(context.waker()));
        let Some(ended) = ended else { return Poll::Pending };
        *operation = None;
        let done = match (ended.result, ended.buffer) {
            (Ok(read), Some(buffer)) if read >= buffer.len() => Ok(Rc::new(buffer)),
            (Ok(_), _) => Err(Broken::Short),
            (Err(error), _) => Err(Broken::Os(error.raw_os_error().unwrap_or(libc::EIO))),
        };
        *self.done.borrow_mut() = Some(done.clone());
        Poll::Ready(done)
    }
}
