//! The engine's own thread of a threaded worker: makes progress, spins for a while when there is nothing to do, then
//! sleeps until something rings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::patience::Idle;
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
    let _span = tracing::info_span!("worker", id = worker.id()).entered();
    let mut idle = None;
    while worker.state.load(Ordering::Acquire) == OPEN {
        let mut core = worker.core.lock();
        let Ok(busy) = worker.round(&mut core, false) else { break };
        worker.deliver(core.drain_completions());
        if std::mem::take(&mut core.called) {
            worker.ready.ring();
        }
        if busy {
            Idle::end(&mut idle, &mut core.patience);
            continue;
        }
        let now = Instant::now();
        if Idle::of(&mut idle, &mut core.patience, now).is_over(now) {
            if let Err(error) = core.sleep(worker, None) {
                tracing::error!(%error, "a worker cannot sleep");
            }
        } else {
            std::hint::spin_loop();
        }
    }
    worker.deliver_last();
}
