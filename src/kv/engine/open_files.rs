//! Files that a shard has open, their number bounded.

use super::cache::Mixed;
use crate::io::file::File;
use crate::kv::names::FileName;
use crate::kv::tier::cache::{Cache, Seat};
use std::rc::Rc;
use std::sync::Arc;

/// Open files by partition. The least recently used one is closed for a new one; operations under way keep theirs.
#[derive(Debug)]
pub struct OpenFiles {
    open: Mixed<(u32, Kind, u64), Entry>,
    limit: usize,
    clock: u64,
    cache: Option<Arc<Cache>>,
    changes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Data,
    Segment,
    Manifest,
    Log,
}

#[derive(Debug)]
struct Entry {
    branch: String,
    term: u64,
    writable: bool,
    file: Rc<File>,
    used: u64,
    /// Its place in the cache of an object store.
    seat: Option<Arc<Seat>>,
}

/// Kind, number, branch and term of a file; archives are not kept open.
fn parts(name: &FileName) -> Option<(Kind, u64, &str, u64)> {
    match name {
        FileName::Data { id, branch, term } => Some((Kind::Data, *id, branch, *term)),
        FileName::Segment { id, branch, term } => Some((Kind::Segment, *id, branch, *term)),
        FileName::Manifest { branch, term } => Some((Kind::Manifest, 0, branch, *term)),
        FileName::Log { number } => Some((Kind::Log, *number, "", 0)),
        FileName::Archive { .. } => None,
    }
}

impl OpenFiles {
    /// At most `limit` files; those in `cache` are closed when they are evicted.
    pub fn new(limit: usize, cache: Option<Arc<Cache>>) -> OpenFiles {
        OpenFiles { open: Mixed::default(), limit: limit.max(1), clock: 0, cache, changes: 0 }
    }

    /// Closes the files that have gone since this was last asked: only then their space is free.
    pub fn let_go(&mut self) {
        let Some(cache) = &self.cache else { return };
        let changes = cache.changes();
        if std::mem::replace(&mut self.changes, changes) != changes {
            self.open.retain(|_, entry| entry.seat.as_ref().is_none_or(|seat| !seat.is_gone()));
        }
    }

    /// Files that are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// A data file that is open, without a name made for it.
    pub fn data(&mut self, partition: u32, id: u64, branch: &str, term: u64) -> Option<Rc<File>> {
        self.find((partition, Kind::Data, id), branch, term, false)
    }

    /// A file that is open, to be written if `write`.
    pub fn get(&mut self, partition: u32, name: &FileName, write: bool) -> Option<Rc<File>> {
        let (kind, id, branch, term) = parts(name)?;
        self.find((partition, kind, id), branch, term, write)
    }

    fn find(&mut self, key: (u32, Kind, u64), branch: &str, term: u64, write: bool) -> Option<Rc<File>> {
        self.clock += 1;
        let entry = self.open.get_mut(&key)?;
        if entry.branch != branch || entry.term != term || (write && !entry.writable) {
            return None;
        }
        entry.used = self.clock;
        if let (Some(seat), Some(cache)) = (&entry.seat, &self.cache) {
            // It was evicted: what is there now, if anything, is another file.
            if seat.is_gone() {
                self.open.remove(&key);
                return None;
            }
            cache.touch(seat);
        }
        Some(entry.file.clone())
    }

    /// Keeps a file open.
    pub fn insert(
        &mut self,
        partition: u32,
        name: &FileName,
        writable: bool,
        file: &Rc<File>,
        seat: Option<Arc<Seat>>,
    ) {
        let Some((kind, id, branch, term)) = parts(name) else { return };
        if self.open.len() >= self.limit {
            let oldest = self.open.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
            oldest.map(|key| self.open.remove(&key));
        }
        let (branch, file) = (branch.into(), file.clone());
        let entry = Entry { branch, term, writable, file, used: self.clock, seat };
        self.open.insert((partition, kind, id), entry);
    }

    /// Closes a file that was replaced or removed.
    pub fn remove(&mut self, partition: u32, name: &FileName) {
        if let Some((kind, id, ..)) = parts(name) {
            self.open.remove(&(partition, kind, id));
        }
    }

    /// Closes the files of a partition.
    pub fn remove_partition(&mut self, partition: u32) {
        self.open.retain(|key, _| key.0 != partition);
    }
}
