//! An open tier.

use super::super::names::Partition;
use super::super::options::Options;
use super::TierStats;
use super::cache::Cache;
use super::objects::Objects;
use super::remote::Remote;
use super::term::Claims;
use super::ticket::Ticket;
use super::worker::Worker;
use crate::status::{Error, Result, Status};
use object_store::ObjectStore;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Threads that read and write files for the tier's thread.
const HELPERS: usize = 8;

/// An object store and the local directories that cache it. One process has it at a time.
#[derive(Debug)]
pub struct Tier {
    pub(super) inner: Arc<Inner>,
    pub(super) worker: Worker,
    _locks: Vec<File>,
}

/// What work of the tier needs. Does not keep the thread going.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) options: Arc<Options>,
    pub(super) objects: Arc<Objects>,
    pub(super) cache: Arc<Cache>,
    pub(super) writer: String,
    pub(super) recorded: AtomicBool,
    /// The last term in which a partition's branch was written to.
    pub(super) used: Mutex<HashMap<String, u64>>,
    pub(super) claims: Mutex<HashMap<String, Arc<Claims>>>,
    /// Files that are being fetched: who comes second waits for the first.
    pub(super) fetching: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
    pub(super) counters: Counters,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) uploaded: AtomicU64,
    pub(super) uploaded_bytes: AtomicU64,
    pub(super) fetched: AtomicU64,
    pub(super) fetched_bytes: AtomicU64,
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
            used: Mutex::default(),
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
    pub(super) async fn partitions(&self) -> Result<Vec<Partition>> {
        let (_, folders) = self.objects.list("").await?;
        Ok(folders.iter().filter_map(|folder| Partition::parse(folder)).collect())
    }

    pub(super) fn claims(&self, branch: &str) -> Arc<Claims> {
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
pub(super) fn nonce() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Status::Io, format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
