//! A shard's thread: what waits for it, and how it begins and ends.

use super::options::EngineOptions;
use super::rounds::Rounds;
use super::serve::{Work, serve};
use super::shard::{Shard, Targets};
use super::stats::Counters;
use crate::io::disk::Backend;
use crate::io::event::Event;
use crate::io::processor::Processor;
use crate::kv::tier::Tier;
use crate::status::Result;
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

/// What waits for a shard. Reads do not queue behind writes.
#[derive(Debug)]
pub struct Inbox {
    /// Requests that only read.
    pub reads: ArrayQueue<Work>,
    /// Requests that need their partition's writer.
    pub writes: ArrayQueue<Work>,
    /// Nothing is taken any more.
    pub closed: AtomicBool,
    /// The processor that the last request came from.
    pub processor: Processor,
}

impl Inbox {
    /// Room for this many of each.
    pub fn new(limit: usize) -> Inbox {
        let (reads, writes) = (ArrayQueue::new(limit), ArrayQueue::new(limit));
        Inbox { reads, writes, closed: AtomicBool::new(false), processor: Processor::unknown() }
    }

    /// Drops what waits, which answers it.
    pub fn clear(&self) {
        while self.reads.pop().is_some() {}
        while self.writes.pop().is_some() {}
    }
}

/// What the engine needs to know of a shard that has started.
pub type Started = Result<(Arc<Event>, Backend)>;

/// Runs a shard until its inbox is closed and its tasks are done.
pub fn run(
    options: Arc<EngineOptions>,
    tier: Option<Arc<Tier>>,
    targets: Arc<Targets>,
    counters: Arc<Counters>,
    inbox: Arc<Inbox>,
    started: SyncSender<Started>,
) {
    let _closing = Closing(inbox.clone());
    let shard = match Shard::new(options, tier, targets, counters) {
        Ok(shard) => shard,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let disk = shard.pages.disk();
    let _ = started.send(Ok((disk.event().clone(), disk.backend())));
    if let Err(error) = Rounds::new(shard, inbox, serve).run() {
        tracing::error!("a shard of the key-value store lost its ring: {error}");
    }
}

/// Ends what waits for a shard when its thread ends, however it does.
struct Closing(Arc<Inbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.clear();
    }
}
