//! A partition that is only in memory.

use super::bytes::Bytes;
use super::stats::Counters;
use crate::kv::damage::corrupted;
use crate::kv::names::FileName;
use crate::kv::sink::Sink;
use crate::kv::source::{Place, Source};
use crate::status::{Error, Result, Status};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Files of one partition. Pages of data files are kept one by one, so that reading one costs no copy.
#[derive(Clone, Debug)]
pub struct Memory(Rc<Inner>);

/// Pages of a file by their offset.
type FilePages = HashMap<u64, Rc<[u8]>>;

#[derive(Debug)]
struct Inner {
    page_size: usize,
    pages: RefCell<HashMap<FileName, FilePages>>,
    others: RefCell<HashMap<FileName, Vec<u8>>>,
    room: Rc<Room>,
    counters: Arc<Counters>,
}

/// What a shard's partitions in memory may take together.
#[derive(Debug)]
pub struct Room {
    left: Cell<u64>,
}

impl Room {
    /// Room for this many bytes.
    pub fn new(bytes: u64) -> Room {
        Room { left: Cell::new(bytes) }
    }

    fn take(&self, bytes: usize) -> Result<()> {
        match self.left.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(Error::new(Status::OutOfMemory, "the store in memory is full: see memory_limit")),
        }
    }

    fn give(&self, bytes: usize) {
        self.left.set(self.left.get() + bytes as u64);
    }
}

impl Memory {
    /// An empty partition.
    pub fn new(page_size: usize, room: Rc<Room>, counters: Arc<Counters>) -> Memory {
        let (pages, others) = (RefCell::default(), RefCell::default());
        Memory(Rc::new(Inner { page_size, pages, others, room, counters }))
    }

    fn missing(&self, file: &FileName, offset: u64) -> Error {
        corrupted(self.describe(file), offset, "there is nothing there in memory")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let pages: usize = self.pages.borrow().values().map(HashMap::len).sum();
        let others: usize = self.others.borrow().values().map(Vec::len).sum();
        self.room.give(pages * self.page_size + others);
    }
}

impl Source for Memory {
    type Bytes = Bytes;

    async fn read(&self, file: &FileName, offset: u64, len: usize) -> Result<Bytes> {
        let others = self.0.others.borrow();
        let bytes = others.get(file).and_then(|bytes| bytes.get(offset as usize..)?.get(..len));
        bytes.map(|bytes| Bytes::Memory(bytes.into())).ok_or_else(|| self.missing(file, offset))
    }

    fn describe(&self, file: &FileName) -> String {
        format!("memory:{file}")
    }

    async fn page(&self, place: &Place<'_>) -> Result<Bytes> {
        self.0.counters.hits.add(1);
        let file = place.file();
        let page = self.0.pages.borrow().get(&file).and_then(|pages| pages.get(&place.offset).cloned());
        page.map(Bytes::Memory).ok_or_else(|| self.missing(&file, place.offset))
    }
}

impl Sink for Memory {
    async fn write(&self, file: &FileName, offset: u64, bytes: &[u8]) -> Result<()> {
        if matches!(file, FileName::Data { .. }) {
            let mut pages = self.0.pages.borrow_mut();
            let pages = pages.entry(file.clone()).or_default();
            for (i, page) in bytes.chunks(self.0.page_size).enumerate() {
                let at = offset + (i * self.0.page_size) as u64;
                if !pages.contains_key(&at) {
                    self.0.room.take(self.0.page_size)?;
                }
                pages.insert(at, page.into());
            }
            return Ok(());
        }
        let mut others = self.0.others.borrow_mut();
        let content = others.entry(file.clone()).or_default();
        let end = offset as usize + bytes.len();
        self.0.room.take(end.saturating_sub(content.len()))?;
        content.resize(content.len().max(end), 0);
        content[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    async fn sync(&self, _: &[FileName]) -> Result<()> {
        Ok(())
    }

    async fn replace(&self, file: &FileName, bytes: &[u8]) -> Result<()> {
        self.0.room.take(bytes.len())?;
        let before = self.0.others.borrow_mut().insert(file.clone(), bytes.to_vec());
        self.0.room.give(before.map_or(0, |before| before.len()));
        Ok(())
    }

    async fn exists(&self, file: &FileName) -> Result<bool> {
        Ok(self.0.others.borrow().contains_key(file) || self.0.pages.borrow().contains_key(file))
    }

    async fn remove(&self, file: &FileName) -> Result<()> {
        let pages = self.0.pages.borrow_mut().remove(file).map_or(0, |pages| pages.len());
        let other = self.0.others.borrow_mut().remove(file).map_or(0, |bytes| bytes.len());
        self.0.room.give(pages * self.0.page_size + other);
        Ok(())
    }

    async fn cut(&self, file: &FileName, len: u64) -> Result<()> {
        if let Some(content) = self.0.others.borrow_mut().get_mut(file) {
            let kept = content.len().min(len as usize);
            self.0.room.give(content.len() - kept);
            content.truncate(kept);
        }
        Ok(())
    }

    async fn names(&self) -> Result<Vec<FileName>> {
        let others = self.0.others.borrow();
        Ok(self.0.pages.borrow().keys().chain(others.keys()).cloned().collect())
    }

    async fn contents(&self, file: &FileName) -> Result<Option<Vec<u8>>> {
        Ok(self.0.others.borrow().get(file).cloned())
    }
}
