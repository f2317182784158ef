//! The write logs of a shard's partitions: batches go to them first, and are merged into the pages when the logs are long.
//!
//! Who needs several turns takes them in this order: the shard's to merge, a log's to append, the partition's to write.

use super::backing::Backing;
use super::lock::Guard;
use super::partition::{Partition, Which};
use super::serve::{apply, now_ms};
use super::shard::Shard;
use crate::io::tasks::rest;
use crate::kv::batch::Batch;
use crate::kv::log::{self, Appended, Log};
use crate::status::Result;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Memory that logs take at most for each of their bytes: what they hold of a key beside its value.
const MEMORY: usize = 8;
/// How long a log rests that could not be merged, before others than its own writers try again.
const REST: Duration = Duration::from_secs(1);
/// How long nothing is added to a log before its changes go to the pages, so that those that expire do.
const QUIET: Duration = Duration::from_secs(30);

/// What a partition's log takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    bytes: u64,
    memory: usize,
    /// When merging it has failed; it was not merged since.
    stuck: Option<Instant>,
}

/// Nobody appends to a partition's log as long as this is held.
#[derive(Debug)]
pub struct Quiet {
    _append: Guard<()>,
}

/// Adds a batch to the log. Else it goes to the pages, while what is returned is held.
pub async fn write(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    batch: &Batch,
) -> Result<std::result::Result<u64, Quiet>> {
    if shard.options.log_bytes == 0 {
        return settle(shard, partition).await.map(Err);
    }
    make_room(shard, partition).await?;
    let append = partition.appending.lock().await;
    // Until there is a manifest, there is no partition that a log could belong to.
    let open = shard.open(partition, true).await?.filter(|open| open.version.borrow().is_some());
    if let Some(log) = open.as_ref().and_then(|open| open.log.as_ref()) {
        let appended = log.append(batch, now_ms()).await;
        shard.measure_log(partition, log);
        if let Appended::Safe(count) = appended? {
            partition.unarchived.set(true);
            partition.logged.set(Some(Instant::now()));
            return Ok(Ok(count));
        }
    }
    drop((open, append));
    settle(shard, partition).await.map(Err)
}

/// Waits until the logs are no longer than twice what they may be: who writes helps to merge them.
async fn make_room(shard: &Rc<Shard>, partition: &Rc<Partition>) -> Result<()> {
    while shard.is_over(2) {
        let turn = shard.merging.lock().await;
        if shard.is_over(2) {
            merge_longest(shard, &turn).await;
        }
    }
    // One that cannot be merged concerns nobody else.
    if shard.is_stuck(partition.target.number) {
        settle(shard, partition).await?;
    }
    Ok(())
}

/// Merges what a partition's log holds, for a request that needs all of it in the pages.
pub async fn settle(shard: &Rc<Shard>, partition: &Rc<Partition>) -> Result<Quiet> {
    let mut merging = None;
    loop {
        let append = partition.appending.lock().await;
        let open = shard.open(partition, false).await?;
        let log = open.as_ref().and_then(|open| open.log.as_ref()).filter(|log| !log.is_settled());
        let Some(log) = log else { return Ok(Quiet { _append: append }) };
        if merging.is_some() {
            merge(shard, partition, log, false).await?;
            return Ok(Quiet { _append: append });
        }
        drop(append);
        merging = Some(shard.merging.lock().await);
    }
}

/// Merges a log that nothing was added to for a while.
pub async fn settle_quiet(shard: &Rc<Shard>, partition: &Rc<Partition>) -> Result<()> {
    let rests = partition.logged.get().is_none_or(|last| last.elapsed() >= QUIET);
    if rests && shard.logs.borrow().contains_key(&partition.target.number) {
        settle(shard, partition).await?;
    }
    Ok(())
}

/// Keeps others from appending to a partition's log and from merging it while this is held, as it is.
pub async fn hold(shard: &Shard, partition: &Partition) -> (Guard<()>, Guard<()>) {
    (shard.merging.lock().await, partition.appending.lock().await)
}

/// Merges the longest logs until they are no longer than they may be. Who has filled them does it, after its answer.
pub async fn relieve(shard: &Rc<Shard>) {
    if !shard.is_over(1) || !shard.merging.is_free() {
        return;
    }
    let turn = shard.merging.lock().await;
    while shard.is_over(1) {
        merge_longest(shard, &turn).await;
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

/// Merges the longest log of those that count. One that cannot be merged does not count for a while.
async fn merge_longest(shard: &Rc<Shard>, _turn: &Guard<()>) {
    let longest = shard.counted(|logs| logs.max_by_key(|(_, size)| size.bytes).map(|(number, _)| *number));
    let Some(number) = longest else { return };
    let merged = async {
        let partition = shard.partition(number)?;
        let open = shard.open(&partition, false).await?;
        match open.as_ref().and_then(|open| open.log.as_ref()) {
            Some(log) => merge(shard, &partition, log, true).await,
            None => {
                shard.logs.borrow_mut().remove(&number);
                Ok(())
            }
        }
    };
    if let Err(error) = merged.await {
        shard.stuck(number);
        shard.counters().upkeep_failed.add(1);
        tracing::warn!("merging a write log failed: {error}");
    }
}

/// Merges what the log holds now, in steps. Requests go on meanwhile: until the end they find it in the log.
async fn merge(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    log: &Log<Backing>,
    others_append: bool,
) -> Result<()> {
    let layers = {
        let _turn = if others_append { Some(partition.appending.lock().await) } else { None };
        log.freeze()
    };
    let step = async |batch: &Batch| {
        apply(shard, partition.target.number, batch).await?;
        rest().await;
        Ok(())
    };
    if let Err(error) = log.merge(&layers, step).await {
        log.thaw(&layers);
        shard.stuck(partition.target.number);
        return Err(error);
    }
    log.forget(&layers);
    while Log::<Backing>::is_read(&layers) {
        rest().await;
    }
    let removed = log.remove(layers).await;
    shard.logs.borrow_mut().remove(&partition.target.number);
    shard.measure_log(partition, log);
    removed
}

impl Shard {
    /// Asks the sizes of logs that are not stuck, or were long ago.
    fn counted<T>(&self, ask: impl FnOnce(&mut dyn Iterator<Item = (&u32, &Size)>) -> T) -> T {
        let logs = self.logs.borrow();
        ask(&mut logs.iter().filter(|(_, size)| size.stuck.is_none_or(|since| since.elapsed() >= REST)))
    }

    /// Whether logs are longer than `times` what they may be.
    fn is_over(&self, times: usize) -> bool {
        let limit = self.options.log_bytes.saturating_mul(times);
        let sum = |sum: Size, size: &Size| Size {
            bytes: sum.bytes + size.bytes,
            memory: sum.memory + size.memory,
            stuck: None,
        };
        let all = self.counted(|logs| logs.fold(Size::default(), |all, (_, size)| sum(all, size)));
        all.bytes > limit as u64 || all.memory > limit / MEMORY
    }

    /// Whether a partition's log could not be merged and has its share of what all of them may have.
    fn is_stuck(&self, number: u32) -> bool {
        let logs = self.logs.borrow();
        let limit = (self.options.log_bytes / logs.len().max(1)) as u64;
        logs.get(&number).is_some_and(|size| size.stuck.is_some() && size.bytes > limit)
    }

    fn stuck(&self, number: u32) {
        if let Some(size) = self.logs.borrow_mut().get_mut(&number) {
            size.stuck = Some(Instant::now());
        }
    }

    /// Notes how long a partition's log is.
    fn measure_log(&self, partition: &Partition, log: &Log<Backing>) {
        let (number, mut logs) = (partition.target.number, self.logs.borrow_mut());
        if log.is_empty() {
            logs.remove(&number);
        } else {
            let size = logs.entry(number).or_default();
            (size.bytes, size.memory) = (log.bytes(), log.memory());
        }
    }

    /// The log of a partition that is being opened: one that is there, or one to be. Branches and archives have none.
    pub async fn log_of(&self, partition: &Partition) -> Result<Option<Log<Backing>>> {
        if partition.target.which != Which::Main || partition.target.path.is_none() || self.has_tier() {
            return Ok(None);
        }
        // Of its own: what fails of its writes is not taken for the pages' failure.
        let backing = Backing::Disk(self.files(&partition.target, None));
        let numbers = log::numbers(&backing).await?;
        // One at a time: each is in memory as a whole.
        let _turn = if numbers.is_empty() { None } else { Some(self.replaying.lock().await) };
        let log = Log::of(backing, numbers).await?;
        self.measure_log(partition, &log);
        Ok((self.options.log_bytes > 0 || !log.is_empty()).then_some(log))
    }
}
