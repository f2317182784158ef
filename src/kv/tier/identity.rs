//! Whether the local directories are a cache of this very store, and the store is opened with what it was written with.

use super::super::layout;
use super::super::names::{FileName, Partition};
use super::super::options::Options;
use super::open::{Inner, nonce};
use super::worker::beside;
use crate::status::{Error, Result, Status};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// The file in a local directory that says whose cache it is.
const OWNER: &str = "CURRENT_TERM_rde-cache_0";
/// What stands there for a store that has no record yet, as EloqStore's.
const UNRECORDED: &str = "unrecorded";

impl Inner {
    /// Compares the options with what is on record, and makes the local directories a cache of this store.
    pub(super) async fn identify(&self) -> Result<()> {
        let record = self.objects.get(layout::RECORD).await?;
        let text = record.as_deref().map(String::from_utf8_lossy);
        if let Some(text) = &text {
            layout::agrees(text, &self.options, "the object store")?;
        }
        self.own(text.as_deref().and_then(identity).unwrap_or(UNRECORDED)).await
    }

    /// Records the options of a store that has none on record, before anything is written.
    pub(super) async fn record(&self) -> Result<()> {
        if self.recorded.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.objects.get(layout::RECORD).await?.is_some() {
            self.recorded.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let id = nonce()?;
        let text = format!("{}store={id}\n", layout::text(&self.options));
        self.objects.put(layout::RECORD, text.into_bytes()).await?;
        // Another writer may have been as quick; the last one counts, for both.
        let text = self.objects.get(layout::RECORD).await?.unwrap_or_default();
        let id = identity(&String::from_utf8_lossy(&text)).unwrap_or(UNRECORDED).to_owned();
        let paths = self.options.store_paths.clone();
        let written = beside(move || paths.iter().try_for_each(|path| std::fs::write(path.join(OWNER), &id)));
        written.await.map_err(|error| Error::os("the local directories", &error))?;
        self.recorded.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn own(&self, id: &str) -> Result<()> {
        let (options, id) = (self.options.clone(), id.to_owned());
        let owned = beside(move || Ok(options.store_paths.iter().try_for_each(|path| own(path, &id))));
        owned.await.map_err(|error| Error::os("the local directories", &error))?
    }

    /// Notes what is in the local directories, the oldest first. What was never finished goes.
    pub(super) fn scan(&self) -> Result<()> {
        let mut found = Vec::new();
        for (path, name, metadata) in files(&self.options)? {
            if name.ends_with(".tmp") {
                let _ = std::fs::remove_file(&path);
            } else if FileName::parse(&name).is_some() {
                found.push((metadata.modified().ok(), path, metadata.len()));
            }
        }
        found.sort();
        found.iter().for_each(|(_, path, bytes)| self.cache.note(path, *bytes, false));
        self.cache.make_room(0);
        Ok(())
    }
}

fn identity(record: &str) -> Option<&str> {
    record.lines().find_map(|line| line.strip_prefix("store="))
}

/// Makes a local directory a cache of a store. One that was another store's is emptied; one that is no cache stays.
fn own(path: &Path, id: &str) -> Result<()> {
    let failed = |error: std::io::Error| Error::os(&path.display().to_string(), &error);
    let file = path.join(OWNER);
    match std::fs::read_to_string(&file) {
        Ok(known) if known == id => return Ok(()),
        Ok(_) => {
            for (partition, _) in partitions(path).map_err(failed)? {
                std::fs::remove_dir_all(partition).map_err(failed)?;
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some((partition, _)) = partitions(path).map_err(failed)?.first() {
                let what = format!(
                    "{} is there and no cache of ours: over object storage a store_path must be empty at first",
                    partition.display()
                );
                return Err(Error::new(Status::InvalidArgument, what));
            }
        }
        Err(error) => return Err(failed(error)),
    }
    std::fs::write(&file, id).map_err(failed)
}

fn partitions(path: &Path) -> std::io::Result<Vec<(PathBuf, Partition)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_str().and_then(Partition::parse);
        if let Some(name) = name.filter(|_| entry.path().is_dir()) {
            found.push((entry.path(), name));
        }
    }
    Ok(found)
}

type Found = (PathBuf, String, std::fs::Metadata);

/// The files in the local directories' partitions.
fn files(options: &Options) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in &options.store_paths {
        let failed = |error: std::io::Error| Error::os(&path.display().to_string(), &error);
        for (partition, _) in partitions(path).map_err(failed)? {
            for entry in std::fs::read_dir(&partition).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) {
                    found.push((entry.path(), name, metadata));
                }
            }
        }
    }
    Ok(found)
}
