//! Where a store's objects are, and how they are reached: EloqStore's `cloud_…` options.

use super::super::ini::size;
use super::super::options::{flag, invalid, number};
use crate::status::Result;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who keeps the objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provider {
    /// S3, or what speaks its protocol.
    #[default]
    Aws,
    /// Google Cloud Storage.
    Gcs,
    /// A folder of this machine, or one that machines share: for tests.
    Local,
}

/// An object store. Off unless `path` says where.
#[derive(Clone, PartialEq, Eq)]
pub struct Cloud {
    /// `bucket/prefix`; for [`Provider::Local`] a folder. Empty for a store that is on local disks alone.
    pub path: String,
    /// Who keeps it.
    pub provider: Provider,
    /// URL of the service; empty for the provider's own.
    pub endpoint: String,
    /// The bucket's region.
    pub region: String,
    /// Name of the access key. For GCS unused.
    pub access_key: String,
    /// The access key's secret; for GCS the path of a service account's file.
    pub secret_key: String,
    /// Credentials come from the environment or the machine's role, and the two above are unused.
    pub auto_credentials: bool,
    /// Whether certificates of `https` are verified.
    pub verify_ssl: bool,
    /// Bytes of the local directories that cached files may take. What is not uploaded yet comes on top.
    pub local_space: u64,
    /// Transfers at a time.
    pub concurrency: usize,
    /// Whether files are fetched before somebody asks for them.
    pub prewarm: bool,
    /// Files that are fetched at a time for that.
    pub prewarm_tasks: usize,
    /// How long one attempt may take, and one byte in a mebibyte a microsecond longer.
    pub timeout: Duration,
    /// Attempts after the first one.
    pub retries: u32,
    /// Which of the stores below one path: EloqStore's partition group.
    pub group: u64,
    /// The smallest term that a writer takes; one that is not larger than the current one is `EXPIRED_TERM`. 0 for the
    /// next one.
    pub term: u64,
}

impl Default for Cloud {
    fn default() -> Cloud {
        Cloud {
            path: String::new(),
            provider: Provider::Aws,
            endpoint: String::new(),
            region: "us-east-1".into(),
            access_key: "minioadmin".into(),
            secret_key: "minioadmin".into(),
            auto_credentials: false,
            verify_ssl: true,
            local_space: 1 << 40,
            concurrency: 20,
            prewarm: false,
            prewarm_tasks: 3,
            timeout: Duration::from_secs(10),
            retries: 4,
            group: 0,
            term: 0,
        }
    }
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the secret.
        f.debug_struct("Cloud")
            .field("path", &self.path)
            .field("provider", &self.provider)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Cloud {
    /// Whether there is an object store.
    pub fn is_on(&self) -> bool {
        !self.path.is_empty()
    }

    /// Sets one option, if it is one of these; a folder is relative to `base`.
    pub fn set(&mut self, name: &str, value: &str, base: &Path) -> Result<bool> {
        match name {
            "cloud_store_path" => self.path = value.into(),
            "cloud_provider" => {
                self.provider = match value {
                    "aws" | "s3" => Provider::Aws,
                    "gcs" => Provider::Gcs,
                    "local" => Provider::Local,
                    _ => return Err(invalid(format!("{name}={value}: neither aws nor gcs nor local"))),
                }
            }
            "cloud_endpoint" => self.endpoint = value.into(),
            "cloud_region" => self.region = value.into(),
            "cloud_access_key" => self.access_key = value.into(),
            "cloud_secret_key" => self.secret_key = value.into(),
            "cloud_auto_credentials" => self.auto_credentials = flag(name, value)?,
            "cloud_verify_ssl" => self.verify_ssl = flag(name, value)?,
            "local_space_limit" => self.local_space = size(name, value)?,
            "max_cloud_concurrency" => self.concurrency = number(name, value)?,
            "prewarm_cloud_cache" => self.prewarm = flag(name, value)?,
            "prewarm_task_count" => self.prewarm_tasks = number(name, value)?,
            "cloud_timeout_ms" => self.timeout = Duration::from_millis(number(name, value)?),
            "cloud_retries" => self.retries = number(name, value)?,
            "cloud_group" => self.group = number(name, value)?,
            "cloud_term" => self.term = number(name, value)?,
            _ => return Ok(false),
        }
        // Which provider it is may come after the path.
        if self.provider == Provider::Local && matches!(name, "cloud_provider" | "cloud_store_path") {
            self.path =
                if self.is_on() { base.join(&self.path).display().to_string() } else { String::new() };
        }
        Ok(true)
    }

    /// Whether every value is one that an object store can have.
    pub fn check(&self) -> Result<()> {
        let bucket = self.path.split('/').next().unwrap_or_default();
        let sound = [
            (
                self.provider == Provider::Local || !self.is_on() || !bucket.is_empty(),
                "cloud_store_path must be BUCKET or BUCKET/PREFIX",
            ),
            ((1..=1 << 10).contains(&self.concurrency), "max_cloud_concurrency must be 1 to 1,024"),
            ((1..=1 << 10).contains(&self.prewarm_tasks), "prewarm_task_count must be 1 to 1,024"),
            (
                (Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&self.timeout),
                "cloud_timeout_ms must be 1 to 3,600,000",
            ),
            (self.retries <= 100, "cloud_retries must be at most 100"),
        ];
        match sound.iter().find(|(ok, _)| !ok) {
            Some((_, what)) => Err(invalid((*what).to_owned())),
            None => Ok(()),
        }
    }

    /// The folder of [`Provider::Local`].
    pub fn folder(&self) -> Option<PathBuf> {
        (self.provider == Provider::Local).then(|| PathBuf::from(&self.path))
    }

    /// Bucket and prefix.
    pub fn bucket(&self) -> (&str, &str) {
        let (bucket, prefix) = self.path.split_once('/').unwrap_or((&self.path, ""));
        (bucket, prefix.trim_matches('/'))
    }
}
