//! The engine's own thread of a threaded worker: makes progress, spins for a while when there is nothing to do, then
//! sleeps until something rings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{OPEN, Worker};
use crate::status::{Error, Result};

/// Starts the thread.
pub(super) fn start(worker: &Arc<Worker>) -> Result<()> {
    let shared = worker.clone();
    let thread = std::thread::Builder::new().name("rde-worker".into()).spawn(move || run(&shared));
    let thread = thread.map_err(|error| Error::os("start the worker's thread", &error))?;
    *worker.thread.lock() = Some(thread);
    Ok(())
}

fn run(worker: &Worker) {
    let mut idle: Option<Instant> = None;
    while worker.state.load(Ordering::Acquire) == OPEN {
        let mut core = worker.core.lock();
        let Ok(busy) = worker.round(&mut core) else { break };
        worker.deliver(core.drain_completions());
        if std::mem::take(&mut core.called) {
            worker.ready.ring();
        }
        if busy {
            idle = None;
            continue;
        }
        let since = *idle.get_or_insert_with(Instant::now);
        if since.elapsed() > worker.spin {
            if let Err(error) = core.sleep(worker, None) {
                tracing::error!(%error, "a worker cannot sleep");
            }
            idle = None;
        } else {
            std::hint::spin_loop();
        }
    }
    worker.deliver_last();
}
