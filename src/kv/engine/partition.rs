//! A partition as a shard has it: closed until somebody asks for it, and again when others are asked for.

use super::backing::Backing;
use super::home::Home;
use super::lock::Lock;
use crate::io::tasks::rest;
use crate::kv::log::{Hit, Log};
use crate::kv::names::{FileName, Partition as Name};
use crate::kv::sink::Sink;
use crate::kv::versions::Version;
use crate::kv::writer::Writer;
use crate::status::Result;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// What a handle stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// The handle's number.
    pub number: u32,
    /// The partition.
    pub name: Name,
    /// Which state of it.
    pub which: Which,
    /// Its directory; None in memory.
    pub path: Option<PathBuf>,
    /// The shard that has it.
    pub shard: usize,
}

/// The partition itself, or something else in its directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The partition: its branch `main`.
    Main,
    /// Another branch, by name. It can be written once it is there.
    Branch(String),
    /// An archive, by tag. It can only be read.
    Archive(String),
}

/// A partition, or a branch or an archive of one.
#[derive(Debug)]
pub struct Partition {
    /// What it is.
    pub target: Arc<Target>,
    /// Whether it is open.
    pub state: RefCell<State>,
    /// Its files, which others share.
    pub home: Rc<Home>,
    /// Its directory's lock against other processes, from when it is first opened until it is closed.
    pub lock: RefCell<Option<Rc<File>>>,
    /// When it was last asked for, on the shard's own clock.
    pub used: Cell<u64>,
    /// Whether the engine looks after it at the moment.
    pub in_upkeep: Cell<bool>,
    /// When the engine last looked after it.
    pub looked_after: Cell<Option<Instant>>,
    /// When it was last archived by schedule.
    pub archived: Cell<Option<Instant>>,
    /// Whether it changed since then.
    pub unarchived: Cell<bool>,
    /// Whose turn it is to append to its write log, whether it is open or not.
    pub appending: Rc<Lock<()>>,
    /// When something was last appended to its write log.
    pub logged: Cell<Option<Instant>>,
}

/// Whether a partition is open.
#[derive(Clone, Debug)]
pub enum State {
    /// It has to be opened.
    Closed,
    /// There is no such partition, and only a write makes it.
    Missing,
    /// It is.
    Open(Rc<Open>),
}

/// An open partition. Requests hold it while they run.
#[derive(Debug)]
pub struct Open {
    /// Where its bytes are.
    pub backing: Backing,
    /// Its writer; None if it can only be read.
    pub writer: Option<Rc<Lock<Writer<Backing>>>>,
    /// Its write log, if it has one. Who appends has the partition's turn to.
    pub log: Option<Log<Backing>>,
    /// What the pages have since the last commit; None if there was none.
    pub version: RefCell<Option<Arc<Version>>>,
    /// Versions that were shown and may still be read.
    pub published: RefCell<Vec<Weak<Version>>>,
    /// Whether something was committed since upkeep last looked.
    pub changed: Cell<bool>,
    /// Data and segment files that had been begun when upkeep last looked.
    pub files: Cell<(u64, u64)>,
    /// Whether files wait to be collected until nobody reads them.
    pub uncollected: Cell<bool>,
}

impl Partition {
    /// A closed one.
    pub fn new(target: Arc<Target>, home: Rc<Home>) -> Partition {
        Partition {
            target,
            state: RefCell::new(State::Closed),
            home,
            lock: RefCell::default(),
            used: Cell::new(0),
            in_upkeep: Cell::new(false),
            looked_after: Cell::new(None),
            archived: Cell::new(None),
            unarchived: Cell::new(true),
            appending: Lock::new(()),
            logged: Cell::new(None),
        }
    }

    /// It, if it is open.
    pub fn open(&self) -> Option<Rc<Open>> {
        match &*self.state.borrow() {
            State::Open(open) => Some(open.clone()),
            _ => None,
        }
    }

    /// Whether closing it would disturb nobody.
    pub fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        let State::Open(open) = &*state else { return false };
        let writes = open.writer.as_ref().is_some_and(|writer| !writer.is_free());
        Rc::strong_count(open) == 1 && !writes && self.home.opening.is_free() && !self.in_upkeep.get()
    }
}

impl Open {
    /// Shows what the writer has committed to requests that begin from now on.
    pub fn publish(&self, partition: &Partition, writer: &mut Writer<Backing>) {
        if writer.manifest().tail > 0 {
            let version = writer.version();
            partition.home.shown(&version);
            let mut published = self.published.borrow_mut();
            published.retain(|version| version.strong_count() > 0);
            published.push(Arc::downgrade(&version));
            *self.version.borrow_mut() = Some(version);
            self.changed.set(true);
            partition.unarchived.set(true);
        }
    }

    /// Waits until nobody reads it any more, once its version is not shown: a new writer knows nothing of who does. The
    /// writer is lost only when a task panicked.
    pub async fn drained(&self, writer: Option<&mut Writer<Backing>>) {
        let reads = || match &writer {
            Some(writer) => writer.is_read(),
            None => self.published.borrow().iter().any(|version| version.strong_count() > 0),
        };
        while reads() {
            rest().await;
        }
    }

    /// The last change of a key that is in the log and may not be in the pages.
    pub fn logged(&self, key: &[u8]) -> Option<Hit> {
        self.log.as_ref()?.get(key)
    }

    /// Waits for writes of an edit that failed.
    pub async fn settle(&self) {
        if let Backing::Disk(files) = &self.backing {
            files.settle().await;
        }
    }

    /// Tags of the archives, sorted; of one branch, or of all.
    pub async fn archives(&self, of: Option<&str>) -> Result<Vec<String>> {
        let tags = self.backing.names().await?.into_iter().filter_map(|name| match name {
            FileName::Archive { tag, branch, .. } if of.is_none_or(|of| of == branch) => Some(tag),
            _ => None,
        });
        let mut tags: Vec<String> = tags.collect();
        tags.sort();
        Ok(tags)
    }

    /// Names of the branches, sorted.
    pub async fn branches(&self) -> Result<Vec<String>> {
        let names = self.backing.names().await?.into_iter().filter_map(|name| match name {
            FileName::Manifest { branch, .. } => Some(branch),
            _ => None,
        });
        Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
    }
}
