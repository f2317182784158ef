//! The write logs of a shard's partitions: batches go to them first, and are merged into the pages when the logs are long.
//!
//! Who needs several turns takes them in this order: the shard's to merge, a log's to append, the partition's to write.

use super::backing::Backing;
use super::lock::{Guard, Lock};
use super::partition::{Partition, Which};
use super::serve::{apply, now_ms};
use super::shard::Shard;
use crate::io::tasks::rest;
use crate::kv::batch::Batch;
use crate::kv::log::{Appended, Log};
use crate::status::Result;
use std::rc::Rc;

/// Memory that logs take at most for each of their bytes: what they hold of a key beside its value.
const MEMORY: usize = 8;

/// A partition's log, and whose turn it is.
#[derive(Debug)]
pub struct Logged {
    /// The log.
    pub log: Log<Backing>,
    turn: Rc<Lock<()>>,
}

/// A partition whose log is empty, and stays so as long as this is held.
#[derive(Debug)]
pub struct Quiet {
    _append: Guard<()>,
}

/// Adds a batch to the log. None: it goes to the pages, while what is returned is held.
pub async fn write(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    batch: &Batch,
) -> Result<std::result::Result<u64, Option<Quiet>>> {
    if shard.options.log_bytes > 0 {
        // Twice as much is the end: who writes helps to merge.
        while shard.is_over(2) {
            let turn = shard.merging.lock().await;
            if shard.is_over(2) {
                merge_longest(shard, &turn).await?;
            }
        }
        while let Some(open) = shard.open(partition, true).await? {
            // Until there is a manifest, there is no partition that a log could belong to.
            let Some(logged) = open.logged.as_ref().filter(|_| open.version.borrow().is_some()) else {
                break;
            };
            let turn = logged.turn.lock().await;
            if !partition.open().is_some_and(|current| Rc::ptr_eq(&current, &open)) {
                continue;
            }
            let appended = logged.log.append(batch, now_ms()).await;
            shard.measure_log(partition, &logged.log);
            drop(turn);
            match appended? {
                Appended::Safe(count) => return Ok(Ok(count)),
                Appended::Refused => break,
            }
        }
    }
    settle(shard, partition).await.map(Err)
}

/// Merges what a partition's log holds, for a request that needs all of it in the pages. None: it has no log.
pub async fn settle(shard: &Rc<Shard>, partition: &Rc<Partition>) -> Result<Option<Quiet>> {
    let mut merging = None;
    loop {
        let Some(open) = shard.open(partition, false).await? else { return Ok(None) };
        let Some(logged) = &open.logged else { return Ok(None) };
        let append = logged.turn.lock().await;
        if !partition.open().is_some_and(|current| Rc::ptr_eq(&current, &open)) {
            continue;
        }
        if merging.is_some() {
            merge(shard, partition, logged, false).await?;
        } else if !logged.log.is_settled() {
            drop(append);
            merging = Some(shard.merging.lock().await);
            continue;
        }
        return Ok(Some(Quiet { _append: append }));
    }
}

/// Keeps others from appending to a partition's log and from merging it while this is held, as it is.
pub async fn hold(shard: &Shard, partition: &Partition) -> (Guard<()>, Option<Guard<()>>) {
    let merging = shard.merging.lock().await;
    let append =
        match partition.open().and_then(|open| open.logged.as_ref().map(|logged| logged.turn.clone())) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
    (merging, append)
}

/// Merges the longest logs until they are no longer than they may be. Who has filled them does it, after its answer.
pub async fn relieve(shard: &Rc<Shard>) {
    if !shard.is_over(1) || !shard.merging.is_free() {
        return;
    }
    let turn = shard.merging.lock().await;
    while shard.is_over(1) {
        if let Err(error) = merge_longest(shard, &turn).await {
            shard.counters().upkeep_failed.add(1);
            tracing::warn!("merging a write log failed: {error}");
            return;
        }
        rest().await;
    }
}

/// Merges all logs: the engine closes.
pub async fn settle_all(shard: &Rc<Shard>) {
    let numbers: Vec<u32> = shard.logs.borrow().keys().copied().collect();
    for number in numbers {
        let settled = async {
            let partition = shard.partition(number)?;
            settle(shard, &partition).await
        };
        if let Err(error) = settled.await {
            shard.counters().upkeep_failed.add(1);
            tracing::warn!("a write log was not merged, which the next one to open it does: {error}");
        }
    }
}

async fn merge_longest(shard: &Rc<Shard>, _turn: &Guard<()>) -> Result<()> {
    let longest = shard.logs.borrow().iter().max_by_key(|(_, (bytes, _))| *bytes).map(|(number, _)| *number);
    let Some(number) = longest else { return Ok(()) };
    let partition = shard.partition(number)?;
    let open = shard.open(&partition, false).await?;
    match open.as_ref().and_then(|open| open.logged.as_ref()) {
        Some(logged) => merge(shard, &partition, logged, true).await,
        None => {
            shard.logs.borrow_mut().remove(&number);
            Ok(())
        }
    }
}

/// Merges what the log holds now, in steps. Requests go on meanwhile: until the end they find it in the log.
async fn merge(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    logged: &Logged,
    others_append: bool,
) -> Result<()> {
    let log = &logged.log;
    let layers = {
        let _turn = if others_append { Some(logged.turn.lock().await) } else { None };
        log.freeze()
    };
    let mut after = Vec::new();
    while let Some(batch) = log.changes(&layers, &after).await? {
        apply(shard, partition.target.number, &batch).await?;
        if let Some(last) = batch.ops().last() {
            after.clone_from(&last.key);
        }
        rest().await;
    }
    log.forget(&layers);
    while Log::<Backing>::is_read(&layers) {
        rest().await;
    }
    let removed = log.remove(layers).await;
    shard.measure_log(partition, log);
    removed
}

impl Shard {
    /// Whether logs are longer than `times` what they may be.
    fn is_over(&self, times: usize) -> bool {
        let limit = self.options.log_bytes.saturating_mul(times);
        let logs = self.logs.borrow();
        let (bytes, memory) =
            logs.values().fold((0, 0), |sum: (u64, usize), log| (sum.0 + log.0, sum.1 + log.1));
        !logs.is_empty() && (bytes > limit as u64 || memory > limit / MEMORY)
    }

    /// Notes how long a partition's log is.
    fn measure_log(&self, partition: &Partition, log: &Log<Backing>) {
        let number = partition.target.number;
        match log.is_empty() {
            true => self.logs.borrow_mut().remove(&number),
            false => self.logs.borrow_mut().insert(number, (log.bytes(), log.memory())),
        };
    }

    /// The log of a partition that is being opened: one that is there, or one to be. Branches and archives have none.
    pub async fn log_of(&self, partition: &Partition) -> Result<Option<Logged>> {
        if partition.target.which != Which::Main || partition.target.path.is_none() || self.has_tier() {
            return Ok(None);
        }
        // Of its own: what fails of its writes is not taken for the pages' failure.
        let backing = Backing::Disk(self.files(&partition.target, None));
        let logged = Logged { log: Log::open(backing).await?, turn: Lock::new(()) };
        self.measure_log(partition, &logged.log);
        Ok((self.options.log_bytes > 0 || !logged.log.is_empty()).then_some(logged))
    }
}
