//! The object store: every request with a deadline, repeated a bounded number of times with pauses that grow.

use super::cloud::{Cloud, Provider};
use crate::status::{Error, Result, Status};
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Bytes a second that a transfer has to reach at least, beside the time that every attempt has.
const SLOWEST: u64 = 1 << 20;
/// The first pause between attempts; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest object that is read into memory (manifests), in bytes.
const LONGEST: u64 = 1 << 30;

/// What errors of local files are called among those of the object store.
pub(super) const LOCAL: &str = "a local file";

/// Objects below one prefix of one bucket.
#[derive(Debug)]
pub struct Objects {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The folder, if it is one: what it cannot compare and swap, a lock on it does.
    pub(super) folder: Option<PathBuf>,
    pub(super) attempt: Duration,
    prefix: String,
    name: String,
    retries: u32,
    turns: Semaphore,
}

/// What a request came to.
#[derive(Debug)]
pub struct Done<T> {
    /// Its answer.
    pub value: T,
    /// An attempt before ended without an answer: it may still be under way, and take effect later.
    pub unclear: bool,
}

/// An object in a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its key, without the prefix.
    pub key: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it was written, in unix milliseconds.
    pub written_ms: i64,
}

impl Objects {
    /// The object store that the options describe. Nothing is sent yet.
    pub fn open(cloud: &Cloud) -> Result<Objects> {
        let store = build(cloud).map_err(|error| {
            Error::new(Status::InvalidArgument, format!("the object store's options: {error}"))
        })?;
        Ok(Objects::over(cloud, store))
    }

    /// An object store of the caller's.
    pub fn over(cloud: &Cloud, store: Arc<dyn ObjectStore>) -> Objects {
        let (bucket, prefix) = match cloud.provider {
            Provider::Local => ("", ""),
            _ => cloud.bucket(),
        };
        Objects {
            name: if bucket.is_empty() {
                cloud.path.clone()
            } else {
                format!("{bucket} at {}", cloud.endpoint)
            },
            store,
            folder: cloud.folder(),
            attempt: cloud.timeout,
            prefix: prefix.into(),
            retries: cloud.retries,
            turns: Semaphore::new(cloud.concurrency),
        }
    }

    /// An object's whole key.
    pub fn key(&self, name: &str) -> Result<Path> {
        let key = if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(&key).map_err(|error| Error::new(Status::InvalidArgument, format!("{key}: {error}")))
    }

    /// How long an attempt may take that moves this many bytes.
    pub(super) fn patience(&self, bytes: u64) -> Duration {
        self.attempt + Duration::from_micros(bytes.saturating_mul(1_000_000) / SLOWEST)
    }

    /// Attempts `run` until it succeeds, fails for good, or has failed often enough.
    pub(super) async fn attempts<T, F>(
        &self,
        what: &str,
        bytes: u64,
        mut run: impl FnMut() -> F,
    ) -> Result<Done<T>>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let (mut pause, mut unclear, mut left) = (PAUSE, false, self.retries);
        loop {
            let outcome = {
                let _turn = self.turns.acquire().await;
                timeout(self.patience(bytes), run()).await
            };
            let (error, again) = match outcome {
                Ok(Ok(value)) => return Ok(Done { value, unclear }),
                Ok(Err(error)) => self.explain(what, &error),
                Err(_) => {
                    let spent = self.patience(bytes);
                    let what = format!("{what} in {}: no answer within {spent:?}", self.name);
                    (Error::new(Status::TimedOut, what), true)
                }
            };
            if !again || left == 0 {
                return Err(error);
            }
            tracing::debug!("the object store: {error}; trying again in {pause:?}");
            (unclear, left) = (true, left - 1);
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// An error in our words, and whether another attempt could end otherwise.
    pub(super) fn explain(&self, what: &str, error: &object_store::Error) -> (Error, bool) {
        use object_store::Error as E;
        if let E::Generic { store: LOCAL, source } = error {
            let local = source.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
            let local = std::io::Error::from_raw_os_error(local.unwrap_or(libc::EIO));
            return (Error::os(&format!("{what}: the local copy"), &local), false);
        }
        let text = one_line(error);
        let (status, again) = match error {
            E::NotFound { .. } => (Status::NotFound, false),
            E::Precondition { .. } | E::NotModified { .. } | E::AlreadyExists { .. } => {
                (Status::AlreadyExists, false)
            }
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => (Status::Unauthorized, false),
            E::NotImplemented { .. } | E::NotSupported { .. } => (Status::Unsupported, false),
            E::InvalidPath { .. } => (Status::InvalidArgument, false),
            _ if text.contains("507 Insufficient Storage") => {
                let what = format!("{what} in {}: the object store is full ({text})", self.name);
                let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
                return (Error { message: what.into(), ..Error::os("", &full) }, false);
            }
            _ if ["400 ", "405 ", "411 ", "413 ", "414 "].iter().any(|code| text.contains(code)) => {
                (Status::Io, false)
            }
            _ => (Status::Unreachable, true),
        };
        (Error::new(status, format!("{what} in {}: {text}", self.name)), again)
    }

    /// All of an object; None if it is missing.
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let key = self.key(name)?;
        let got = self.attempts(name, 0, || async {
            let got = self.store.get(&key).await?;
            if got.meta.size > LONGEST {
                let source = "the object is longer than 1 GiB".into();
                return Err(object_store::Error::NotSupported { source });
            }
            // The size is known only now, and with it how long it may take.
            let patience = self.patience(got.meta.size);
            let late = |_| object_store::Error::Generic { store: "tier", source: "no answer in time".into() };
            timeout(patience, got.bytes()).await.unwrap_or_else(|error| Err(late(error)))
        });
        match got.await {
            Ok(done) => Ok(Some(done.value.into())),
            Err(error) if error.status == Status::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts an object in the place of another.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<Done<()>> {
        let (key, payload) = (self.key(name)?, PutPayload::from(bytes));
        let put = || async { self.store.put(&key, payload.clone()).await.map(|_| ()) };
        self.attempts(name, payload.content_length() as u64, put).await
    }

    /// Whether there is such an object.
    pub async fn exists(&self, name: &str) -> Result<bool> {
        let key = self.key(name)?;
        match self.attempts(name, 0, || self.store.head(&key)).await {
            Ok(_) => Ok(true),
            Err(error) if error.status == Status::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes an object, if it is there.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let key = self.key(name)?;
        match self.attempts(name, 0, || self.store.delete(&key)).await {
            Err(error) if error.status != Status::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The objects right below a folder (the prefix itself if it is empty), and the folders there.
    pub async fn list(&self, folder: &str) -> Result<(Vec<Listed>, Vec<String>)> {
        let path =
            if folder.is_empty() { Path::parse(&self.prefix).unwrap_or_default() } else { self.key(folder)? };
        let done = self.attempts(folder, 0, || self.store.list_with_delimiter(Some(&path))).await?;
        let short = |path: &Path| path.filename().unwrap_or_default().to_owned();
        let objects = done.value.objects.iter().map(|meta| Listed {
            key: short(&meta.location),
            bytes: meta.size,
            written_ms: meta.last_modified.timestamp_millis(),
        });
        Ok((objects.collect(), done.value.common_prefixes.iter().map(short).collect()))
    }
}

/// What an error says, without line breaks and without end.
fn one_line(error: &object_store::Error) -> String {
    let text = error.to_string();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(400).collect()
}

fn build(cloud: &Cloud) -> object_store::Result<Arc<dyn ObjectStore>> {
    // Which cryptography TLS has is said once a process; whoever said it before is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(cloud.timeout)
        .with_allow_http(true)
        .with_allow_invalid_certificates(!cloud.verify_ssl);
    // Whether an attempt may be repeated is known here, and not there.
    let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let (bucket, _) = cloud.bucket();
    match cloud.provider {
        Provider::Local => {
            std::fs::create_dir_all(&cloud.path)
                .map_err(|error| object_store::Error::Generic { store: "folder", source: error.into() })?;
            Ok(Arc::new(
                LocalFileSystem::new_with_prefix(&cloud.path)?.with_fsync(true).with_automatic_cleanup(true),
            ))
        }
        Provider::Aws => {
            let mut builder = match cloud.auto_credentials {
                true => AmazonS3Builder::from_env(),
                false => AmazonS3Builder::new()
                    .with_access_key_id(&cloud.access_key)
                    .with_secret_access_key(&cloud.secret_key),
            };
            builder = builder.with_bucket_name(bucket).with_region(&cloud.region);
            builder = builder.with_client_options(client).with_retry(once);
            if !cloud.endpoint.is_empty() {
                builder = builder.with_endpoint(&cloud.endpoint);
            }
            Ok(Arc::new(builder.build()?))
        }
        Provider::Gcs => {
            let mut builder = match cloud.auto_credentials {
                true => GoogleCloudStorageBuilder::from_env(),
                false => GoogleCloudStorageBuilder::new().with_service_account_path(&cloud.secret_key),
            };
            builder = builder.with_bucket_name(bucket).with_client_options(client).with_retry(once);
            if !cloud.endpoint.is_empty() {
                builder = builder.with_base_url(&cloud.endpoint);
            }
            Ok(Arc::new(builder.build()?))
        }
    }
}
