//! One partition's objects, and the directory that caches them.

use super::super::branch::MAIN;
use super::super::names::{FileName, Partition};
use super::Object;
use super::open::{Inner, Tier};
use super::ticket::Ticket;
use crate::status::{Error, Result, Status};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;

/// A partition in the object store. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Remote {
    tier: Arc<Tier>,
    partition: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    inner: Arc<Inner>,
    name: String,
    directory: PathBuf,
    /// The branch that is written to.
    branch: Mutex<String>,
    /// A term was taken for it.
    held: AtomicBool,
    /// An upload ended without an answer: names of this term may still be written to by it.
    spent: AtomicBool,
    /// The newest data file and segment file: they are still being written.
    tails: Mutex<Vec<FileName>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.release();
    }
}

impl Remote {
    pub(super) fn new(tier: Arc<Tier>, partition: &Partition, directory: &Path) -> Remote {
        let place = Place {
            inner: tier.inner.clone(),
            name: partition.to_string(),
            directory: directory.to_owned(),
            branch: Mutex::new(MAIN.into()),
            held: AtomicBool::new(false),
            spent: AtomicBool::new(false),
            tails: Mutex::default(),
        };
        Remote { tier, partition: Arc::new(place) }
    }

    /// The tier.
    pub fn tier(&self) -> &Arc<Tier> {
        &self.tier
    }

    /// Whether a term was taken to write to it.
    pub fn is_held(&self) -> bool {
        self.partition.held.load(Ordering::Relaxed)
    }

    /// Whether it must not be written to again in the term that it has.
    pub fn is_spent(&self) -> bool {
        self.partition.spent.load(Ordering::Relaxed)
    }

    fn begin<T: Send + 'static, F>(&self, work: impl FnOnce(Arc<Place>) -> F) -> Ticket<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.tier.worker.begin(work(self.partition.clone()))
    }

    /// A term of the branch in which nobody has written to the partition yet.
    pub fn term(&self, branch: &str) -> Ticket<u64> {
        let claims = self.partition.inner.claims(branch);
        let branch = branch.to_owned();
        self.partition.branch.lock().clone_from(&branch);
        self.begin(|place| async move {
            place.spent.store(false, Ordering::Relaxed);
            place.inner.record().await?;
            // One writer of a partition after another has a term of its own; partitions may share one.
            let writer = format!("{} {branch}", place.name);
            let used = place.inner.used.lock().get(&writer).copied();
            let term = claims.above(used).await?;
            place.inner.used.lock().insert(writer, term);
            place.held.store(true, Ordering::Relaxed);
            // What was not committed in an earlier one never will be.
            place.release();
            Ok(term)
        })
    }

    /// Whether the term is still ours.
    pub fn verify(&self) -> Ticket<()> {
        self.begin(|place| async move { place.verify().await })
    }

    /// The files that are there.
    pub fn list(&self) -> Ticket<Vec<Object>> {
        self.begin(|place| async move { place.list().await })
    }

    /// Their names.
    pub fn names(&self) -> Ticket<Vec<FileName>> {
        self.begin(
            |place| async move { Ok(place.list().await?.into_iter().map(|object| object.name).collect()) },
        )
    }

    /// All of a small file; None if it is missing.
    pub fn contents(&self, file: &FileName) -> Ticket<Option<Vec<u8>>> {
        let file = file.to_string();
        self.begin(|place| async move { place.inner.objects.get(&place.key(&file)).await })
    }

    /// Whether there is such a file.
    pub fn exists(&self, file: &FileName) -> Ticket<bool> {
        let file = file.to_string();
        self.begin(|place| async move { place.inner.objects.exists(&place.key(&file)).await })
    }

    /// Removes a file, if it is there, also from the cache.
    pub fn remove(&self, file: &FileName) -> Ticket<()> {
        let file = file.to_string();
        self.begin(|place| async move {
            place.inner.objects.remove(&place.key(&file)).await?;
            let path = place.directory.join(&file);
            place.inner.cache.forget(&path);
            let _ = std::fs::remove_file(path);
            Ok(())
        })
    }

    /// Fetches a file that is not in the cache, or is there and lacks something (`again`).
    pub fn fetch(&self, file: &FileName, again: bool) -> Ticket<()> {
        let file = file.to_string();
        self.begin(|place| async move {
            let path = place.directory.join(&file);
            place.inner.fetch(&place.key(&file), &path, again).await?;
            place.inner.cache.want(&path);
            Ok(())
        })
    }

    /// The error of a file that was evicted each time before it could be opened.
    pub fn evicted(&self, file: &FileName) -> Error {
        let what = format!(
            "{} is evicted as soon as it is fetched: local_space_limit is too small for what is read at a time",
            self.partition.key(&file.to_string())
        );
        Error::new(Status::LimitReached, what)
    }

    /// Notes that a file is being written locally, up to `end`.
    pub fn writing(&self, file: &FileName, end: u64) {
        self.partition.inner.cache.writing(&self.partition.directory.join(file.to_string()), end);
        let mut tails = self.partition.tails.lock();
        if !tails.contains(file) {
            tails.push(file.clone());
        }
    }

    /// Puts files as they are locally into the object store. A manifest counts once its term was still ours afterwards.
    pub fn upload(&self, files: &[FileName]) -> Ticket<()> {
        let files = files.to_vec();
        self.begin(|place| async move {
            let uploaded = place.upload(&files).await;
            if uploaded.is_err() {
                place.spent.store(true, Ordering::Relaxed);
            }
            uploaded
        })
    }

    /// Puts a manifest or an archive in the place of another.
    pub fn publish(&self, file: &FileName, bytes: Vec<u8>) -> Ticket<()> {
        let key = self.partition.key(&file.to_string());
        self.begin(|place| async move {
            let len = bytes.len() as u64;
            let put = place.inner.objects.put(&key, bytes).await;
            if put.as_ref().map_or(true, |done| done.unclear) {
                place.spent.store(true, Ordering::Relaxed);
            }
            put?;
            place.inner.count(len);
            place.verify().await
        })
    }
}

impl Place {
    fn key(&self, file: &str) -> String {
        format!("{}/{file}", self.name)
    }

    /// Nothing of it is written any more: all of it may be evicted.
    fn release(&self) {
        for file in self.tails.lock().drain(..) {
            self.inner.cache.unpin(&self.directory.join(file.to_string()));
        }
    }

    async fn verify(&self) -> Result<()> {
        let claims = self.inner.claims(&self.branch.lock());
        claims.verify().await
    }

    async fn list(&self) -> Result<Vec<Object>> {
        let (objects, _) = self.inner.objects.list(&self.name).await?;
        let objects = objects.iter().filter_map(|listed| {
            let name = FileName::parse(&listed.key)?;
            Some(Object { name, bytes: listed.bytes, written_ms: listed.written_ms })
        });
        Ok(objects.collect())
    }

    async fn upload(self: &Arc<Place>, files: &[FileName]) -> Result<()> {
        let mut uploads = JoinSet::new();
        for file in files {
            let (place, name) = (self.clone(), file.to_string());
            uploads.spawn(async move {
                let path = place.directory.join(&name);
                let done = place.inner.objects.put_file(&place.key(&name), &path).await?;
                place.inner.count(done.value);
                place.inner.cache.note(&path, done.value, true);
                Ok::<bool, Error>(done.unclear)
            });
        }
        let mut first = Ok(());
        while let Some(ended) = uploads.join_next().await {
            match ended {
                Ok(Ok(unclear)) => {
                    self.spent.fetch_or(unclear, Ordering::Relaxed);
                }
                Ok(Err(error)) => first = first.and(Err(error)),
                Err(_) => first = first.and(Err(Error::new(Status::Panic, "an upload panicked"))),
            }
        }
        first?;
        if files.iter().any(|file| matches!(file, FileName::Manifest { .. })) {
            self.verify().await?;
        }
        self.keep_tails();
        let cache = self.inner.cache.clone();
        // Files have grown.
        let _ = super::worker::beside(move || {
            cache.make_room(0);
            Ok(())
        })
        .await;
        Ok(())
    }

    /// Of the files that were uploaded only the newest ones are written to again, and manifests.
    fn keep_tails(&self) {
        let mut tails = self.tails.lock();
        let newest = |data: bool| {
            let ids = tails.iter().filter_map(move |file| match file {
                FileName::Data { id, .. } if data => Some(*id),
                FileName::Segment { id, .. } if !data => Some(*id),
                _ => None,
            });
            ids.max()
        };
        let (data, segment) = (newest(true), newest(false));
        tails.retain(|file| {
            let kept = match file {
                FileName::Data { id, .. } => Some(*id) == data,
                FileName::Segment { id, .. } => Some(*id) == segment,
                _ => true,
            };
            if !kept {
                self.inner.cache.unpin(&self.directory.join(file.to_string()));
            }
            kept
        });
    }
}

impl Inner {
    pub(super) fn count(&self, bytes: u64) {
        self.counters.uploaded.fetch_add(1, Ordering::Relaxed);
        self.counters.uploaded_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Fetches a file into the cache, unless another did just now.
    pub(super) async fn fetch(&self, key: &str, path: &Path, again: bool) -> Result<()> {
        let lock = self.fetching.lock().entry(path.to_owned()).or_default().clone();
        let fetched = {
            let _turn = lock.lock().await;
            self.fetch_now(key, path, again).await
        };
        let mut fetching = self.fetching.lock();
        // Ours and the table's: nobody waits.
        if Arc::strong_count(&lock) == 2 {
            fetching.remove(path);
        }
        fetched
    }

    async fn fetch_now(&self, key: &str, path: &Path, again: bool) -> Result<()> {
        // What is being written is newer here than there.
        if path.exists() && (!again || self.cache.is_pinned(path)) {
            return Ok(());
        }
        let fetched = self.objects.get_file(key, path, &self.cache).await;
        let bytes = fetched.map_err(|error| match error.status {
            Status::NotFound => {
                let what = format!(
                    "{key} is gone from the object store: what refers to it was replaced; open it again"
                );
                Error::new(Status::Stale, what)
            }
            _ => error,
        })?;
        // Who has the old one open lets go of it.
        self.cache.forget(path);
        self.cache.note(path, bytes, false);
        self.counters.fetched.fetch_add(1, Ordering::Relaxed);
        self.counters.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}
