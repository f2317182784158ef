//! The tier's one thread: an asynchronous runtime for what waits for the network.

use super::ticket::{Ticket, ticket};
use crate::status::{Error, Result};
use std::future::Future;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread. Dropping it ends what it does.
#[derive(Debug)]
pub struct Worker {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread, with at most this many helpers that read and write files.
    pub fn start(helpers: usize) -> Result<Worker> {
        let failed = |error: std::io::Error| Error::os("starting the object storage tier's thread", &error);
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(helpers).build();
        let runtime = runtime.map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            let _ = runtime.block_on(stopped);
        };
        let thread = std::thread::Builder::new().name("rde-kv-tier".into()).spawn(run).map_err(failed)?;
        Ok(Worker { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Begins some work. A panic in it is its answer.
    pub fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Ticket<T> {
        let (ticket, answerer) = ticket();
        self.handle.spawn(async move { answerer.answer(work.await) });
        ticket
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        let own =
            self.thread.as_ref().is_some_and(|thread| thread.thread().id() == std::thread::current().id());
        // The last owner may be a piece of work.
        if !own && let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs what reads or writes files beside the thread.
pub async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
