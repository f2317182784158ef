//! Whole files to the object store and back.

use super::cache::Cache;
use super::objects::{Done, LOCAL, Objects};
use super::worker::beside;
use crate::status::{Error, Result};
use object_store::path::Path as Key;
use object_store::{GetResultPayload, MultipartUpload, ObjectStoreExt, PutPayload};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tokio::time::timeout;

/// Longest file that is sent in one piece, in bytes.
const ONE_PIECE: u64 = 16 << 20;
/// Parts of longer ones. At least 5 MiB, and S3 takes 10,000 of them.
const PART: u64 = 16 << 20;
/// Bytes of a download that are written at a time.
const WRITTEN_AT_ONCE: usize = 1 << 20;

type Outcome<T> = object_store::Result<T>;

fn failed(error: std::io::Error) -> object_store::Error {
    if error.kind() == ErrorKind::UnexpectedEof {
        let source = "another number of bytes came than was said".into();
        return object_store::Error::Generic { store: "tier", source };
    }
    object_store::Error::Generic { store: LOCAL, source: error.into() }
}

fn late() -> object_store::Error {
    object_store::Error::Generic { store: "tier", source: "no progress in time".into() }
}

impl Objects {
    /// Puts a file as it is now in the place of an object; returns its bytes.
    pub async fn put_file(&self, name: &str, path: &Path) -> Result<Done<u64>> {
        let key = self.key(name)?;
        let local = |error: std::io::Error| Error::os(&path.display().to_string(), &error);
        let file = path.to_owned();
        let (file, len) = beside(move || {
            let file = File::open(file)?;
            let len = file.metadata()?.len();
            Ok((Arc::new(file), len))
        })
        .await
        .map_err(local)?;
        let done = self.attempts(name, len, || async {
            match len {
                0..=ONE_PIECE => {
                    let payload = read(&file, 0, len).await.map_err(failed)?;
                    self.store.put(&key, payload).await.map(|_| ())
                }
                _ => self.put_parts(&key, &file, len).await,
            }
        });
        let done = done.await?;
        Ok(Done { value: len, unclear: done.unclear })
    }

    async fn put_parts(&self, key: &Key, file: &Arc<File>, len: u64) -> Outcome<()> {
        let mut upload = self.store.put_multipart(key).await?;
        let sent = self.send_parts(&mut upload, file, len).await;
        match sent {
            Ok(()) => upload.complete().await.map(|_| ()),
            Err(error) => {
                // What cannot be taken back is the bucket's lifecycle rules' to remove.
                let _ = timeout(self.attempt, upload.abort()).await;
                Err(error)
            }
        }
    }

    async fn send_parts(
        &self,
        upload: &mut Box<dyn MultipartUpload>,
        file: &Arc<File>,
        len: u64,
    ) -> Outcome<()> {
        let mut at = 0;
        while at < len {
            let part = PART.min(len - at);
            let payload = read(file, at, part).await.map_err(failed)?;
            let sent = timeout(self.patience(part), upload.put_part(payload)).await;
            sent.unwrap_or_else(|_| Err(late()))?;
            at += part;
        }
        Ok(())
    }

    /// Fetches an object into a file, which is there whole or not at all; returns its bytes. Room is made in the cache.
    pub async fn get_file(&self, name: &str, path: &Path, cache: &Arc<Cache>) -> Result<u64> {
        let key = self.key(name)?;
        let temporary = path.with_file_name(format!(
            "{}.fetched.tmp",
            path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
        ));
        // How long it may take is known only once its size is.
        let fetched = self.attempts(name, 1 << 40, || async {
            let got = timeout(self.attempt, self.store.get(&key)).await.unwrap_or_else(|_| Err(late()))?;
            let size = got.meta.size;
            let (cache, file) = (cache.clone(), temporary.clone());
            let out = beside(move || {
                cache.make_room(size);
                if let Some(parent) = file.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                File::create(file)
            });
            let out = Arc::new(out.await.map_err(failed)?);
            let received = timeout(self.patience(size), receive(got.payload, out.clone(), size)).await;
            received.unwrap_or_else(|_| Err(late()))?;
            Ok(size)
        });
        let size = match fetched.await {
            Ok(done) => done.value,
            Err(error) => {
                let _ = std::fs::remove_file(&temporary);
                return Err(error);
            }
        };
        let (from, to) = (temporary, path.to_owned());
        let renamed = beside(move || std::fs::rename(from, to)).await;
        renamed.map_err(|error| Error::os(&path.display().to_string(), &error))?;
        Ok(size)
    }
}

async fn read(file: &Arc<File>, at: u64, len: u64) -> std::io::Result<PutPayload> {
    let file = file.clone();
    let bytes = beside(move || {
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    });
    bytes.await.map(PutPayload::from)
}

/// All of an object into a file, safe on disk.
async fn receive(payload: GetResultPayload, out: Arc<File>, size: u64) -> Outcome<()> {
    match payload {
        GetResultPayload::File(mut from, _) => beside(move || {
            std::io::copy(&mut from, &mut &*out)?;
            ends(&out, size)
        })
        .await
        .map_err(failed),
        GetResultPayload::Stream(mut stream) => {
            let mut gathered: Vec<u8> = Vec::new();
            loop {
                let next = std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await;
                let ended = next.is_none();
                if let Some(piece) = next {
                    gathered.extend_from_slice(&piece?);
                }
                if gathered.len() >= WRITTEN_AT_ONCE || ended {
                    let (out, piece) = (out.clone(), std::mem::take(&mut gathered));
                    beside(move || (&*out).write_all(&piece)).await.map_err(failed)?;
                }
                if ended {
                    return beside(move || ends(&out, size)).await.map_err(failed);
                }
            }
        }
    }
}

fn ends(out: &File, size: u64) -> std::io::Result<()> {
    if out.metadata()?.len() != size {
        return Err(std::io::Error::from(ErrorKind::UnexpectedEof));
    }
    out.sync_data()
}
