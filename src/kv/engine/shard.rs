//! A shard: what its thread shares among its tasks, and how its partitions are opened and closed.

use super::backing::Backing;
use super::cache::Mixed;
use super::files::Files;
use super::home::Home;
use super::lock::Lock;
use super::logged::{Size, hold};
use super::memory::{Memory, Room};
use super::open_files::OpenFiles;
use super::options::EngineOptions;
use super::pages::Pages;
use super::partition::{Open, Partition, State, Target, Which};
use super::queue::{Landed, Landing, Reply};
use super::request::Answer;
use super::stats::Counters;
use crate::kv::branch::MAIN;
use crate::kv::compress::{Dictionary, LEVEL};
use crate::kv::layout;
use crate::kv::manifest::Manifest;
use crate::kv::names::{FileName, Partition as Name};
use crate::kv::options::Options;
use crate::kv::sink::Sink;
use crate::kv::source::Source;
use crate::kv::tier::{Remote, Tier};
use crate::kv::versions::Version;
use crate::kv::writer::Writer;
use crate::status::{Error, Result, Status};
use parking_lot::RwLock;
use rustix::fs::{FlockOperation, flock};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// What handles stand for: by number, and the number by name and state.
pub type Targets = RwLock<Known>;

/// Handles that were handed out.
#[derive(Debug, Default)]
pub struct Known {
    /// By number.
    pub targets: Vec<Arc<Target>>,
    /// Numbers by partition and state.
    pub numbers: HashMap<(Name, Which), u32>,
}

/// Completions that are handed out together, at most: each time costs the taker a cache miss, and each one waits for
/// the last.
const TOGETHER: usize = 16;

/// What a shard's tasks share. One thread's.
#[derive(Debug)]
pub struct Shard {
    /// What the engine was opened with.
    pub options: Arc<EngineOptions>,
    /// What the store was written with.
    pub store: Arc<Options>,
    /// Pages and the disk.
    pub pages: Rc<Pages>,
    /// Its partitions, open or not, by number.
    pub partitions: RefCell<Mixed<u32, Rc<Partition>>>,
    /// Upkeep under way.
    pub chores: Cell<usize>,
    /// Whether what can be left for the next time should be.
    pub closing: Cell<bool>,
    /// What partitions' write logs take, open or not, by number.
    pub logs: RefCell<HashMap<u32, Size>>,
    /// Whose turn it is to merge one.
    pub merging: Rc<Lock<()>>,
    /// Whose turn it is to read back one that was left.
    pub replaying: Rc<Lock<()>>,
    homes: RefCell<HashMap<Name, Rc<Home>>>,
    completed: RefCell<Vec<Landed>>,
    open_files: Rc<RefCell<OpenFiles>>,
    tier: Option<Arc<Tier>>,
    targets: Arc<Targets>,
    room: Rc<Room>,
    counters: Arc<Counters>,
    clock: Cell<u64>,
}

impl Shard {
    /// A shard without partitions.
    pub fn new(
        options: Arc<EngineOptions>,
        tier: Option<Arc<Tier>>,
        targets: Arc<Targets>,
        counters: Arc<Counters>,
    ) -> Result<Shard> {
        let cache = tier.as_ref().map(|tier| tier.cache().clone());
        Ok(Shard {
            store: Arc::new(options.store.clone()),
            pages: Rc::new(Pages::open(&options, counters.clone())?),
            partitions: RefCell::default(),
            chores: Cell::new(0),
            closing: Cell::new(false),
            logs: RefCell::default(),
            merging: Lock::new(()),
            replaying: Lock::new(()),
            homes: RefCell::default(),
            completed: RefCell::default(),
            open_files: Rc::new(RefCell::new(OpenFiles::new(options.open_files, cache))),
            tier,
            targets,
            room: Rc::new(Room::new(options.memory_limit)),
            counters,
            clock: Cell::new(0),
            options,
        })
    }

    /// What it counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Answers a request; its queue hears of it soon.
    pub(super) fn answer(&self, reply: Reply, result: Result<Answer>) {
        self.counters.completed.add(1);
        let Some(completion) = reply.complete(result) else { return };
        let mut completed = self.completed.borrow_mut();
        completed.push(completion);
        if completed.len() >= TOGETHER {
            Landing::hand_out(&mut completed);
        }
    }

    /// Hands out the completions that there are.
    pub fn hand_out(&self) {
        Landing::hand_out(&mut self.completed.borrow_mut());
    }

    /// Notes how much is in use.
    pub fn measure(&self) {
        let used = self.pages.disk().pool().used() as u64;
        self.counters.pool_pages.set(used);
        self.counters.pool_pages_most.set(self.counters.pool_pages_most.get().max(used));
        self.open_files.borrow_mut().let_go();
        self.counters.open_files.set(self.open_files.borrow().len() as u64);
    }

    /// The partition that a handle stands for.
    pub fn partition(&self, number: u32) -> Result<Rc<Partition>> {
        if let Some(partition) = self.partitions.borrow().get(&number) {
            return Ok(partition.clone());
        }
        let target = self.targets.read().targets.get(number as usize).cloned();
        let target = target.ok_or(Error::new(Status::StaleHandle, "no such partition handle"))?;
        let home = self.homes.borrow_mut().entry(target.name.clone()).or_insert_with(Home::new).clone();
        let partition = Rc::new(Partition::new(target, home));
        partition.home.join(&partition);
        self.partitions.borrow_mut().insert(number, partition.clone());
        Ok(partition)
    }

    /// Notes that a partition was asked for.
    pub fn use_now(&self, partition: &Partition) {
        self.clock.set(self.clock.get() + 1);
        partition.used.set(self.clock.get());
    }

    /// The partition, open; None if there is none and `make` does not ask for one.
    pub async fn open(&self, partition: &Rc<Partition>, make: bool) -> Result<Option<Rc<Open>>> {
        // What is no partition of its own is made by a request of its own.
        let make = make && partition.target.which == Which::Main;
        self.use_now(partition);
        let state = partition.state.borrow().clone();
        match state {
            State::Open(open) => return Ok(Some(open)),
            State::Missing if !make => return Ok(None),
            _ => {}
        }
        let _turn = partition.home.opening.lock().await;
        let state = partition.state.borrow().clone();
        match state {
            State::Open(open) => return Ok(Some(open)),
            State::Missing if !make => return Ok(None),
            _ => {}
        }
        self.make_room();
        let open = self.open_now(partition, make).await?;
        *partition.state.borrow_mut() = match &open {
            Some(open) => {
                self.counters.open_partitions.set(self.counters.open_partitions.get() + 1);
                State::Open(open.clone())
            }
            None if partition.target.which == Which::Main => State::Missing,
            // It may come without a request to this one.
            None => State::Closed,
        };
        Ok(open)
    }

    async fn open_now(&self, partition: &Rc<Partition>, make: bool) -> Result<Option<Rc<Open>>> {
        let Some(backing) = self.backing(partition, make).await? else { return Ok(None) };
        let branch = match &partition.target.which {
            Which::Main => MAIN,
            Which::Archive(tag) => {
                let Some(file) = archive(&backing.names().await?, tag)? else { return Ok(None) };
                let version = Arc::new(version(&backing, &file).await?);
                return Ok(Some(Rc::new(open(partition, backing, None, Some(version)))));
            }
            Which::Branch(name) => {
                let is =
                    |file: &FileName| matches!(file, FileName::Manifest { branch, .. } if branch == name);
                if !backing.names().await?.iter().any(is) {
                    return Ok(None);
                }
                name
            }
        };
        let mut writer = Writer::load(self.store.clone(), backing.clone(), branch).await?;
        let version = (writer.manifest().tail > 0).then(|| writer.version());
        let log = self.log_of(partition).await?;
        if let Some(log) = log.as_ref().filter(|log| version.is_none() && !log.is_empty()) {
            return Err(log.without_manifest());
        }
        let mut open = open(partition, backing, Some(writer), version);
        open.log = log;
        Ok(Some(Rc::new(open)))
    }

    /// Where a partition's bytes are; None if there is no such partition.
    async fn backing(&self, partition: &Partition, make: bool) -> Result<Option<Backing>> {
        let (target, home) = (&partition.target, &partition.home);
        let Some(path) = target.path.clone() else {
            let mut memory = home.memory.borrow_mut();
            let new = || Memory::new(self.store.page_size, self.room.clone(), self.counters.clone());
            return Ok(Some(Backing::Memory(memory.get_or_insert_with(new).clone())));
        };
        let remote = self.tier.as_ref().map(|tier| tier.remote(&target.name, &path));
        // Whether there is a partition, its objects say; its directory is only a cache.
        let mut make = make;
        if let Some(remote) = remote.as_ref().filter(|_| !make) {
            make = !remote.names().ringing(self.pages.disk().event()).await?.is_empty();
        }
        let writes = !matches!(target.which, Which::Archive(_));
        if writes && partition.lock.borrow().is_none() {
            *partition.lock.borrow_mut() = home.lock();
        }
        let (store, locks) = (self.store.clone(), writes && partition.lock.borrow().is_none());
        let prepared = self.pages.disk().call(move || prepare(&path, make, locks, &store)).await??;
        let Some(lock) = prepared else { return Ok(None) };
        if let Some(lock) = lock.map(Rc::new) {
            home.locked(&lock);
            *partition.lock.borrow_mut() = Some(lock);
        }
        Ok(Some(Backing::Disk(self.files(target, remote))))
    }

    /// A partition's files, with writes of their own under way.
    pub fn files(&self, target: &Target, remote: Option<Remote>) -> Files {
        let path = target.path.clone().unwrap_or_default();
        let (pages, open_files) = (self.pages.clone(), self.open_files.clone());
        Files::new(pages, open_files, target.number, path, &self.store, remote)
    }

    /// Whether the store's files are a cache of an object store's.
    pub fn has_tier(&self) -> bool {
        self.tier.is_some()
    }

    /// Closes partitions that nobody uses, those not used for longest first, until one more may be opened.
    fn make_room(&self) {
        loop {
            let partitions = self.partitions.borrow();
            let open = partitions.values().filter(|partition| partition.open().is_some());
            if open.count() < self.options.open_partitions {
                return;
            }
            let on_disk = partitions.values().filter(|partition| partition.target.path.is_some());
            let idle = on_disk.filter(|partition| partition.is_idle());
            let Some(oldest) = idle.min_by_key(|partition| partition.used.get()).cloned() else { return };
            drop(partitions);
            self.forget(&oldest, State::Closed);
            *oldest.lock.borrow_mut() = None;
        }
    }

    /// Puts an open partition into another state.
    pub fn forget(&self, partition: &Partition, state: State) {
        let before = std::mem::replace(&mut *partition.state.borrow_mut(), state);
        if matches!(before, State::Open(_)) {
            self.counters.open_partitions.set(self.counters.open_partitions.get().saturating_sub(1));
        }
        self.pages.forget_partition(partition.target.number);
        self.open_files.borrow_mut().remove_partition(partition.target.number);
    }

    /// Closes a member of a home by who has its turns to write and to open. Requests that read it go on.
    pub async fn dismiss(&self, member: &Partition) {
        if let Some(open) = member.open() {
            *open.version.borrow_mut() = None;
            if let Some(writer) = &open.writer {
                drop(writer.lock().await.take());
            }
        }
        self.forget(member, State::Closed);
        *member.lock.borrow_mut() = None;
    }

    /// Closes a partition once the requests that run on it are done; the next one opens it again.
    pub async fn reopen(&self, partition: &Rc<Partition>) -> Result<()> {
        if partition.target.path.is_none() {
            return Ok(());
        }
        // Without the object store it could not be opened again, and now it can be read at least.
        if let Some(open) = partition.open().filter(|open| open.backing.remote().is_some()) {
            open.backing.names().await?;
        }
        let _log = hold(self, partition).await;
        let _writes = partition.home.turn.lock().await;
        // Requests that come now wait for their turn to open it. From here on it is open, or not, by nobody else.
        let _turn = partition.home.opening.lock().await;
        let open = partition.open();
        self.forget(partition, State::Closed);
        let Some(open) = open else { return Ok(()) };
        let mut guard = match &open.writer {
            Some(writer) => Some(writer.lock().await),
            None => None,
        };
        *open.version.borrow_mut() = None;
        let mut writer = guard.as_mut().and_then(|guard| guard.take());
        open.drained(writer.as_mut()).await;
        Ok(())
    }
}

fn open(
    partition: &Partition,
    backing: Backing,
    writer: Option<Writer<Backing>>,
    version: Option<Arc<Version>>,
) -> Open {
    version.iter().for_each(|version| partition.home.shown(version));
    Open {
        backing,
        writer: writer.map(Lock::new),
        published: RefCell::new(version.iter().map(Arc::downgrade).collect()),
        version: RefCell::new(version),
        changed: Cell::new(true),
        log: None,
        files: Cell::new((0, 0)),
        uncollected: Cell::new(false),
    }
}

/// The file of an archive, by its tag or its name.
fn archive(files: &[FileName], name: &str) -> Result<Option<FileName>> {
    let matching = files.iter().filter(|file| match file {
        FileName::Archive { tag, .. } => tag == name || file.to_string() == name,
        _ => false,
    });
    match matching.collect::<Vec<_>>().as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).clone())),
        _ => {
            let what = format!("several archives are called {name}: give the file's name");
            Err(Error::new(Status::InvalidArgument, what))
        }
    }
}

async fn version(backing: &Backing, file: &FileName) -> Result<Version> {
    let bytes = backing.contents(file).await?.unwrap_or_default();
    let manifest = Manifest::replay(&bytes).map_err(|damage| damage.in_file(backing.describe(file), 0))?;
    let dictionary = (!manifest.dictionary.is_empty()).then(|| Dictionary::new(&manifest.dictionary, LEVEL));
    Ok(Version { manifest, dictionary })
}

/// Checks a partition's directory, makes it if told to, and locks it if told to; None if there is none. Blocks.
fn prepare(path: &Path, make: bool, locks: bool, store: &Options) -> Result<Option<Option<File>>> {
    let failed = |error: std::io::Error| Error::os(&path.display().to_string(), &error);
    if !path.try_exists().map_err(failed)? {
        if !make {
            return Ok(None);
        }
        std::fs::create_dir_all(path).map_err(failed)?;
        if let Some(parent) = path.parent() {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        }
    }
    layout::fits(path, store)?;
    if !locks {
        return Ok(Some(None));
    }
    let lock = File::open(path).map_err(failed)?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let what = format!("{} is open in another process, or by another engine of this one", path.display());
        return Err(Error::new(Status::WrongState, what));
    }
    Ok(Some(Some(lock)))
}
