//! What a partition, its branches and its archives share: the files of one directory.

use super::lock::Lock;
use super::memory::Memory;
use super::partition::Partition;
use crate::kv::versions::Version;
use std::cell::RefCell;
use std::fs::File;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Weak as ArcWeak};

/// The files of a partition. One thread's.
#[derive(Debug)]
pub struct Home {
    /// Whose turn it is to write: one branch at a time, because each may remove what no other needs.
    pub turn: Rc<Lock<()>>,
    /// Who opens or closes one of them.
    pub opening: Rc<Lock<()>>,
    /// The files, if they are in memory.
    pub memory: RefCell<Option<Memory>>,
    lock: RefCell<Weak<File>>,
    members: RefCell<Vec<Weak<Partition>>>,
    versions: RefCell<Vec<ArcWeak<Version>>>,
}

impl Home {
    /// Nobody's yet.
    pub fn new() -> Rc<Home> {
        Rc::new(Home {
            turn: Lock::new(()),
            opening: Lock::new(()),
            memory: RefCell::default(),
            lock: RefCell::default(),
            members: RefCell::default(),
            versions: RefCell::default(),
        })
    }

    /// Somebody lives here too.
    pub fn join(&self, member: &Rc<Partition>) {
        self.members.borrow_mut().push(Rc::downgrade(member));
    }

    /// The partition, its branches and archives, as far as they were asked for.
    pub fn members(&self) -> Vec<Rc<Partition>> {
        self.members.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// The directory's lock against other processes, while a member has it.
    pub fn lock(&self) -> Option<Rc<File>> {
        self.lock.borrow().upgrade()
    }

    /// A member has locked the directory.
    pub fn locked(&self, lock: &Rc<File>) {
        *self.lock.borrow_mut() = Rc::downgrade(lock);
    }

    /// A state of a member is shown, and may be read from now on.
    pub fn shown(&self, version: &Arc<Version>) {
        let mut versions = self.versions.borrow_mut();
        versions.retain(|version| version.strong_count() > 0);
        versions.push(Arc::downgrade(version));
    }

    /// States that are shown or still read: their files stay.
    pub fn held(&self) -> Vec<Arc<Version>> {
        self.versions.borrow().iter().filter_map(ArcWeak::upgrade).collect()
    }

    /// Whether a state is still read that no member shows any more.
    pub fn is_read_before(&self) -> bool {
        let shown: Vec<Arc<Version>> = self
            .members()
            .iter()
            .filter_map(|member| member.open().and_then(|open| open.version.borrow().clone()))
            .collect();
        self.held().iter().any(|held| !shown.iter().any(|shown| Arc::ptr_eq(held, shown)))
    }
}
