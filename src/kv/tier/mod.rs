//! The object storage tier: a store's files are objects, and its local directories a bounded cache of them.
//!
//! A commit is acknowledged when its data files, its manifest and the writer's term are safe in the object store
//! ([`remote`], [`term`]). No object ever changes but by growing, or is written by two writers, because each writer
//! has a term of its own and the term is part of every name; so a cached file can be old but never wrong.
//!
//! [`cloud`] says where the objects are, [`objects`] and [`transfer`] move them, with deadlines; [`cache`] keeps the
//! local directories small, [`prewarm`] fills them. All of it runs on one thread of the tier's ([`worker`]), whose
//! answers are [`ticket`]s, for threads and tasks alike.

pub mod cache;
pub mod cloud;
pub mod identity;
pub mod objects;
pub mod prewarm;
pub mod remote;
pub mod term;
pub mod ticket;
pub mod transfer;
pub mod worker;

use super::names::Partition;
use super::options::Options;
use crate::status::{Error, Result, Status};
use cache::Cache;
use object_store::ObjectStore;
use objects::Objects;
use parking_lot::Mutex;
use remote::Remote;
use rustix::fs::{FlockOperation, flock};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use term::Claims;
use ticket::Ticket;
use worker::Worker;

/// Threads that read and write files for the tier's thread.
const HELPERS: usize = 8;

/// An object store and the local directories that cache it. One process has it at a time.
#[derive(Debug)]
pub struct Tier {
    inner: Arc<Inner>,
    worker: Worker,
    _locks: Vec<File>,
}

/// What work of the tier needs. Does not keep the thread going.
#[derive(Debug)]
struct Inner {
    options: Arc<Options>,
    objects: Arc<Objects>,
    cache: Arc<Cache>,
    writer: String,
    recorded: AtomicBool,
    claims: Mutex<HashMap<String, Arc<Claims>>>,
    /// Files that are being fetched: who comes second waits for the first.
    fetching: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    uploaded: AtomicU64,
    uploaded_bytes: AtomicU64,
    fetched: AtomicU64,
    fetched_bytes: AtomicU64,
}

/// What a tier has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Objects that were uploaded.
    pub uploaded: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Data and segment files that were fetched.
    pub fetched: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Files that were evicted from the local directories.
    pub evicted: u64,
    /// Bytes of the files that are there now.
    pub cached_bytes: u64,
}

impl Tier {
    /// The object store that `options.cloud` describes; None without one. Locks the local directories, which must be
    /// empty or a cache already. Blocks.
    pub fn open(options: &Options) -> Result<Option<Arc<Tier>>> {
        if !options.cloud.is_on() {
            return Ok(None);
        }
        Tier::over(options, Objects::open(&options.cloud)?).map(Some)
    }

    /// Over an object store of the caller's, in the place of the one that the options describe. Blocks.
    pub fn with_store(options: &Options, store: Arc<dyn ObjectStore>) -> Result<Arc<Tier>> {
        Tier::over(options, Objects::over(&options.cloud, store))
    }

    fn over(options: &Options, objects: Objects) -> Result<Arc<Tier>> {
        options.check()?;
        let options = options.clone().over_objects();
        if options.store_paths.is_empty() {
            let what = "a store over object storage needs at least one store path, as its cache";
            return Err(Error::new(Status::InvalidArgument, what));
        }
        let locks = options.store_paths.iter().map(|path| lock(path)).collect::<Result<_>>()?;
        let inner = Inner {
            cache: Arc::new(Cache::new(options.cloud.local_space)),
            objects: Arc::new(objects),
            writer: nonce()?,
            recorded: AtomicBool::new(false),
            claims: Mutex::default(),
            fetching: Mutex::default(),
            counters: Counters::default(),
            options: Arc::new(options),
        };
        let tier = Tier { inner: Arc::new(inner), worker: Worker::start(HELPERS)?, _locks: locks };
        let inner = tier.inner.clone();
        tier.worker.begin(async move { inner.identify().await }).wait()?;
        tier.inner.scan()?;
        Ok(Arc::new(tier))
    }

    /// What it has done.
    pub fn stats(&self) -> TierStats {
        let (counters, cache) = (&self.inner.counters, &self.inner.cache);
        TierStats {
            uploaded: counters.uploaded.load(Ordering::Relaxed),
            uploaded_bytes: counters.uploaded_bytes.load(Ordering::Relaxed),
            fetched: counters.fetched.load(Ordering::Relaxed),
            fetched_bytes: counters.fetched_bytes.load(Ordering::Relaxed),
            evicted: cache.evicted(),
            cached_bytes: cache.bytes(),
        }
    }

    /// The local directories.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.inner.cache
    }

    /// One partition's objects, cached in `directory`.
    pub fn remote(self: &Arc<Tier>, partition: &Partition, directory: &Path) -> Remote {
        Remote::new(self.clone(), partition, directory)
    }

    /// The partitions that have objects.
    pub fn partitions(&self) -> Ticket<Vec<Partition>> {
        let inner = self.inner.clone();
        self.worker.begin(async move { inner.partitions().await })
    }

    /// Fetches files that are not cached, the newest first, as long as nothing has to be evicted for them; returns how
    /// many.
    pub fn prewarm(&self) -> Ticket<u64> {
        let inner = self.inner.clone();
        self.worker.begin(async move { inner.prewarm().await })
    }
}

impl Inner {
    async fn partitions(&self) -> Result<Vec<Partition>> {
        let (_, folders) = self.objects.list("").await?;
        Ok(folders.iter().filter_map(|folder| Partition::parse(folder)).collect())
    }

    fn claims(&self, branch: &str) -> Arc<Claims> {
        let cloud = &self.options.cloud;
        let make = || {
            Arc::new(Claims::new(self.objects.clone(), branch, cloud.group, self.writer.clone(), cloud.term))
        };
        self.claims.lock().entry(branch.to_owned()).or_insert_with(make).clone()
    }
}

/// Makes a local directory and locks it against other processes, and other tiers of this one.
fn lock(path: &Path) -> Result<File> {
    let failed = |error: std::io::Error| Error::os(&path.display().to_string(), &error);
    std::fs::create_dir_all(path).map_err(failed)?;
    let lock = File::open(path).map_err(failed)?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let what = format!(
            "{} is the cache of another process, or of another store of this one: give each a store_path of its own",
            path.display()
        );
        return Err(Error::new(Status::WrongState, what));
    }
    Ok(lock)
}

/// A name that nobody else has.
fn nonce() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::new(Status::Io, format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
