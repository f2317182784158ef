//! An object store that fails when it is told to.

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt::{Display, Formatter};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It is done.
    Go,
    /// It fails and is not done.
    Fail,
    /// It is done and fails.
    DoneButFails,
    /// It is done once somebody notifies.
    Wait(Arc<Notify>),
    /// Its condition is ignored.
    Ignored,
}

/// A request: `put`, `get`, `list`, `delete`, and its key.
type Judge = dyn FnMut(&'static str, &str) -> Fate + Send;

pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    judge: Mutex<Box<Judge>>,
    /// What was done, in order.
    pub log: Mutex<Vec<String>>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Faulty> {
        let judge: Box<Judge> = Box::new(|_, _| Fate::Go);
        Arc::new(Faulty { inner, judge: Mutex::new(judge), log: Mutex::default() })
    }

    /// From now on this decides.
    pub fn judge(&self, judge: impl FnMut(&'static str, &str) -> Fate + Send + 'static) {
        *self.judge.lock().unwrap() = Box::new(judge);
    }

    async fn run<T>(
        &self,
        what: &'static str,
        key: &str,
        work: impl AsyncFnOnce(bool) -> Result<T>,
    ) -> Result<T> {
        let fate = (self.judge.lock().unwrap())(what, key);
        let failed = || Error::Generic { store: "faulty", source: "it was told to fail".into() };
        match &fate {
            Fate::Fail => return Err(failed()),
            Fate::Wait(notify) => notify.notified().await,
            _ => {}
        }
        let done = work(matches!(fate, Fate::Ignored)).await;
        if done.is_ok() {
            self.log.lock().unwrap().push(format!("{what} {key}"));
        }
        match fate {
            Fate::DoneButFails => Err(failed()),
            _ => done,
        }
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

impl Display for Faulty {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        self.run("put", key.as_ref(), async |ignored| {
            if ignored {
                options.mode = PutMode::Overwrite;
            }
            self.inner.put_opts(key, payload, options).await
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.run("put", key.as_ref(), async |_| self.inner.put_multipart_opts(key, options).await).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.run("get", key.as_ref(), async |_| self.inner.get_opts(key, options).await).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let key = prefix.map_or("", |prefix| prefix.as_ref()).to_owned();
        self.run("list", &key, async |_| self.inner.list_with_delimiter(prefix).await).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
