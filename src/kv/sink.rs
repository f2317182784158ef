//! Where a partition's bytes go, and when they are safe.

use super::names::FileName;
use super::source::{Directory, Source};
use super::tier::Remote;
use super::tier::ticket::Ticket;
use crate::status::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;

/// Writes pieces of a partition's files.
#[allow(async_fn_in_trait, reason = "one shard's executor runs these; they never move between threads")]
pub trait Sink: Source {
    /// All of `bytes` into `file` from `offset` on; the file is made if it is missing. Not safe until synced.
    async fn write(&self, file: &FileName, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Memory, empty, for pages that will be written together.
    fn take_run(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes it back once nothing more will be.
    fn give_run(&self, _run: Vec<u8>) {}

    /// Nothing new will read these file pages: they need not be kept in memory.
    fn forget(&self, _pages: &[u64]) {}

    /// Makes what was written to these files safe, and the names of those that were made since the last sync.
    async fn sync(&self, files: &[FileName]) -> Result<()>;

    /// Puts a file in the place of another, all or nothing, and makes that safe.
    async fn replace(&self, file: &FileName, bytes: &[u8]) -> Result<()>;

    /// Whether there is such a file.
    async fn exists(&self, file: &FileName) -> Result<bool>;

    /// Removes a file, if it is there, and makes that safe.
    async fn remove(&self, file: &FileName) -> Result<()>;

    /// Cuts a file down to `len` bytes.
    async fn cut(&self, file: &FileName, len: u64) -> Result<()>;

    /// The partition's files; others are left out.
    async fn names(&self) -> Result<Vec<FileName>>;

    /// All of a small file (manifests); None if it is missing.
    async fn contents(&self, file: &FileName) -> Result<Option<Vec<u8>>>;

    /// The partition in an object store, if the files here are a cache of one.
    fn remote(&self) -> Option<&Remote> {
        None
    }

    /// What the partition's tier answers: waited for as this waits for its files.
    async fn answer<T>(&self, ticket: Ticket<T>) -> Result<T> {
        ticket.wait()
    }
}

impl Directory {
    fn failed(&self, file: &FileName) -> impl Fn(std::io::Error) -> Error {
        let name = self.describe(file);
        move |error| Error::os(&name, &error)
    }

    fn sync_directory(&self) -> Result<()> {
        let synced = File::open(self.path()).and_then(|directory| directory.sync_all());
        synced.map_err(|error| Error::os(&self.path().display().to_string(), &error))
    }
}

impl Sink for Directory {
    async fn write(&self, file: &FileName, offset: u64, bytes: &[u8]) -> Result<()> {
        if let Some(remote) = self.remote() {
            remote.writing(file, offset + bytes.len() as u64);
        }
        // Continues short writes; an error leaves bytes that no manifest refers to.
        self.writable(file)?.write_all_at(bytes, offset).map_err(self.failed(file))
    }

    async fn sync(&self, files: &[FileName]) -> Result<()> {
        for file in files {
            self.writable(file)?.sync_data().map_err(self.failed(file))?;
        }
        if self.take_created()
            && let Err(error) = self.sync_directory()
        {
            // The next sync has to see to it.
            self.set_created();
            return Err(error);
        }
        match self.remote() {
            Some(remote) => remote.upload(files).wait(),
            None => Ok(()),
        }
    }

    async fn replace(&self, file: &FileName, bytes: &[u8]) -> Result<()> {
        if let Some(remote) = self.remote() {
            // Of what is read whole, only the manifest that grows is kept here.
            if matches!(file, FileName::Archive { .. }) {
                return remote.publish(file, bytes.to_vec()).wait();
            }
            remote.writing(file, bytes.len() as u64);
        }
        let path = self.path().join(file.to_string());
        let temporary = self.path().join(format!("{file}.tmp"));
        let written = File::create(&temporary).and_then(|mut out| {
            out.write_all(bytes)?;
            out.sync_data()
        });
        written.and_then(|()| std::fs::rename(&temporary, &path)).map_err(|error| {
            // Nobody reads it; it would only take space.
            let _ = std::fs::remove_file(&temporary);
            self.failed(file)(error)
        })?;
        self.forget(file);
        self.sync_directory()?;
        match self.remote() {
            Some(remote) => remote.publish(file, bytes.to_vec()).wait(),
            None => Ok(()),
        }
    }

    async fn exists(&self, file: &FileName) -> Result<bool> {
        if let Some(remote) = self.remote() {
            return remote.exists(file).wait();
        }
        self.path().join(file.to_string()).try_exists().map_err(self.failed(file))
    }

    async fn remove(&self, file: &FileName) -> Result<()> {
        self.forget(file);
        if let Some(remote) = self.remote() {
            return remote.remove(file).wait();
        }
        match std::fs::remove_file(self.path().join(file.to_string())) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed(file)(error)),
            _ => self.sync_directory(),
        }
    }

    async fn cut(&self, file: &FileName, len: u64) -> Result<()> {
        self.writable(file)?.set_len(len).map_err(self.failed(file))
    }

    async fn names(&self) -> Result<Vec<FileName>> {
        self.list()
    }

    fn remote(&self) -> Option<&Remote> {
        self.cached()
    }

    async fn contents(&self, file: &FileName) -> Result<Option<Vec<u8>>> {
        if let Some(remote) = self.remote() {
            return remote.contents(file).wait();
        }
        match std::fs::read(self.path().join(file.to_string())) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(file)(error)),
        }
    }
}
