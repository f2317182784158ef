//! Where a partition's bytes come from. The tree is walked by the same code over a directory, a ring or memory.

use super::damage::corrupted;
use super::names::FileName;
use crate::status::{Error, Result, Status};
use std::fs::File;
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Reads pieces of a partition's files.
#[allow(async_fn_in_trait, reason = "one shard's executor runs these; they never move between threads")]
pub trait Source {
    /// Bytes that were read; a ring hands out its registered buffers.
    type Bytes: AsRef<[u8]>;

    /// Exactly `len` bytes of `file` from `offset` on. A missing file or one that ends before is `CORRUPTED`,
    /// because only bytes that the manifest promises are asked for.
    async fn read(&self, file: &FileName, offset: u64, len: usize) -> Result<Self::Bytes>;

    /// What to call `file` in a message.
    fn describe(&self, file: &FileName) -> String;
}

/// Positioned reads of a partition's directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    open: parking_lot::Mutex<Vec<(FileName, std::sync::Arc<File>)>>,
}

/// Files that a directory keeps open.
const OPEN_FILES: usize = 16;

impl Directory {
    /// The files in `path`.
    pub fn new(path: PathBuf) -> Directory {
        Directory { path, open: parking_lot::Mutex::new(Vec::new()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of a small file (manifests).
    pub fn whole(&self, file: &FileName) -> Result<Vec<u8>> {
        let path = self.path.join(file.to_string());
        std::fs::read(&path).map_err(|error| Error::os(&path.display().to_string(), &error))
    }

    fn file(&self, name: &FileName) -> Result<std::sync::Arc<File>> {
        let mut open = self.open.lock();
        if let Some(at) = open.iter().position(|(known, _)| known == name) {
            // The least recently used one is at the front.
            let entry = open.remove(at);
            let file = entry.1.clone();
            open.push(entry);
            return Ok(file);
        }
        let path = self.path.join(name.to_string());
        let file = File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                corrupted(path.display(), 0, "the manifest names this file and it is missing")
            }
            _ => Error::os(&path.display().to_string(), &error),
        })?;
        if open.len() >= OPEN_FILES {
            open.remove(0);
        }
        let file = std::sync::Arc::new(file);
        open.push((name.clone(), file.clone()));
        Ok(file)
    }
}

impl Source for Directory {
    type Bytes = Vec<u8>;

    async fn read(&self, file: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file(file)?.read_exact_at(&mut bytes, offset).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                corrupted(self.describe(file), offset, "the file ends before this page does")
            }
            _ => Error::os(&self.describe(file), &error),
        })?;
        Ok(bytes)
    }

    fn describe(&self, file: &FileName) -> String {
        self.path.join(file.to_string()).display().to_string()
    }
}

/// The result of a future that never waits, as everything over a [`Directory`] is.
pub fn now<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Error::new(Status::Internal, "a blocking source waited; please report it")),
    }
}
