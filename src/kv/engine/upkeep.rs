//! What a shard does by itself: compaction, file collection, expiry, archives on a schedule. A step at a time, so that
//! writes come between.

use super::logged::{settle, settle_quiet};
use super::options::UPKEEP;
use super::partition::{Open, Partition, Which};
use super::serve::{Task, now_ms, writing};
use super::shard::Shard;
use crate::io::tasks::rest;
use crate::kv::branch::MAIN;
use crate::kv::page::NONE;
use crate::kv::sink::Sink;
use crate::kv::tier::Remote;
use crate::status::{Error, Result, Status};
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Segments that are moved in one commit.
const SEGMENTS: usize = 64;
/// Pages that are moved, or entries that are deleted, in one commit.
const STEP: usize = 2_048;

/// Upkeep for partitions that are open and not being looked after, as many as may be at a time.
pub fn due(shard: &Shard, closed: bool) -> Vec<Task> {
    let mut chosen = Vec::new();
    let partitions = shard.partitions.borrow();
    let open = partitions.values().filter(|partition| {
        // Over an object store, who only reads leaves upkeep to who writes.
        let ours = |open: &Open| open.backing.remote().is_none_or(Remote::is_held);
        partition.open().is_some_and(|open| open.writer.is_some() && ours(&open))
            && !partition.in_upkeep.get()
    });
    let mut open: Vec<_> = if closed { Vec::new() } else { open.cloned().collect() };
    drop(partitions);
    // Those that had their turn longest ago first, or the first few would have all of it.
    open.sort_by_key(|partition| partition.looked_after.get());
    for partition in open {
        if shard.chores.get() >= UPKEEP {
            break;
        }
        shard.chores.set(shard.chores.get() + 1);
        partition.in_upkeep.set(true);
        partition.looked_after.set(Some(Instant::now()));
        chosen.push(Task::Upkeep(partition));
    }
    chosen
}

/// Looks a partition over and does what it needs.
pub async fn look_after(shard: &Rc<Shard>, partition: &Rc<Partition>) {
    if let Err(error) = all(shard, partition).await
        && error.status != Status::Canceled
    {
        shard.counters().upkeep_failed.add(1);
        tracing::warn!("upkeep of partition {} failed: {error}", partition.target.name);
    }
    partition.in_upkeep.set(false);
    shard.chores.set(shard.chores.get() - 1);
}

async fn all(shard: &Rc<Shard>, partition: &Rc<Partition>) -> Result<()> {
    let target = partition.target.number;
    settle_quiet(shard, partition).await?;
    let Some(open) = partition.open() else { return Ok(()) };
    let changed = open.changed.replace(false);
    if changed {
        let Some(mut writing) = writing(shard, target, false).await? else { return Ok(()) };
        let writer = writing.writer()?;
        let (sparse, files) = (writer.is_sparse(), writer.files_begun());
        drop(writing);
        if sparse {
            compact(shard, target).await?;
        }
        // As long as no file is full, none can be dead.
        if open.files.replace(files) != files {
            compact_segments(shard, target).await?;
            open.uncollected.set(true);
        }
    }
    if open.uncollected.get() {
        collect(shard, target).await?;
    }
    let expires = open.version.borrow().as_ref().is_some_and(|version| version.manifest.ttl_root != NONE);
    if expires {
        clean(shard, target).await?;
    }
    drop(open);
    archive(shard, partition).await
}

/// Compacts a partition in steps, then collects its files; returns how many pages and segments were moved.
pub async fn compact(shard: &Rc<Shard>, target: u32) -> Result<u64> {
    let mut moved = 0;
    loop {
        let Some(mut writing) = writing(shard, target, false).await? else { break };
        let result = writing.writer()?.compact_some(STEP).await;
        let now = writing.ended(result).await?;
        moved += now;
        shard.counters().upkeep.add(u64::from(now > 0));
        drop(writing);
        if now < STEP as u64 {
            break;
        }
        go_on(shard).await?;
    }
    moved += compact_segments(shard, target).await?;
    collect(shard, target).await?;
    Ok(moved)
}

/// Moves live segments out of sparse files, in steps; returns how many.
async fn compact_segments(shard: &Rc<Shard>, target: u32) -> Result<u64> {
    let mut moved = 0;
    loop {
        let Some(mut writing) = writing(shard, target, false).await? else { return Ok(moved) };
        let result = writing.writer()?.compact_some_segments(SEGMENTS).await;
        let now = writing.ended(result).await?;
        moved += now;
        shard.counters().upkeep.add(u64::from(now > 0));
        drop(writing);
        if now < SEGMENTS as u64 {
            return Ok(moved);
        }
        go_on(shard).await?;
    }
}

/// Collects a partition's files; those that are still read are left for the next time.
async fn collect(shard: &Rc<Shard>, target: u32) -> Result<()> {
    let Some(mut writing) = writing(shard, target, false).await? else { return Ok(()) };
    let (open, home) = (writing.open.clone(), writing.partition.home.clone());
    // The versions that are shown would keep nothing, were it not for those who read older ones.
    open.uncollected.set(home.is_read_before());
    writing.writer()?.collect_beside(&home.held()).await.map(|_| ())
}

/// Deletes what has expired, in steps; returns how many entries went.
pub async fn clean(shard: &Rc<Shard>, target: u32) -> Result<u64> {
    let mut cleaned = 0;
    loop {
        let Some(mut writing) = writing(shard, target, false).await? else { return Ok(cleaned) };
        let result = writing.writer()?.clean_some(now_ms(), STEP).await;
        let now = writing.ended(result).await?;
        cleaned += now;
        shard.counters().upkeep.add(u64::from(now > 0));
        drop(writing);
        if now == 0 {
            return Ok(cleaned);
        }
        go_on(shard).await?;
    }
}

/// Lets others run; an error once the engine closes: what is left is done the next time.
async fn go_on(shard: &Shard) -> Result<()> {
    rest().await;
    match shard.closing.get() {
        true => Err(Error::new(Status::Canceled, "the engine closes; the rest is done another time")),
        false => Ok(()),
    }
}

/// Archives a partition that changed, if it is time, and deletes scheduled archives beyond those to be kept.
async fn archive(shard: &Rc<Shard>, partition: &Rc<Partition>) -> Result<()> {
    let interval = shard.options.archive_interval;
    let due = partition.archived.get().is_none_or(|last| last.elapsed() >= interval);
    let main = partition.target.which == Which::Main;
    if interval.is_zero() || !main || !due || !partition.unarchived.get() {
        return Ok(());
    }
    let _quiet = settle(shard, partition).await?;
    let Some(mut writing) = writing(shard, partition.target.number, false).await? else { return Ok(()) };
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
    writing.writer()?.archive(&micros.to_string()).await?;
    partition.archived.set(Some(Instant::now()));
    partition.unarchived.set(false);
    shard.counters().upkeep.add(1);
    // Scheduled ones are called by their time; all else is a name that somebody gave.
    let tags = writing.open.archives(Some(MAIN)).await?;
    let mut times: Vec<u64> = tags.iter().filter_map(|tag| tag.parse().ok()).collect();
    times.sort_unstable();
    let excess = times.len().saturating_sub(shard.options.archives_kept.max(1));
    for time in &times[..excess] {
        writing.forget_archive(shard, &time.to_string()).await?;
    }
    writing.open.uncollected.set(writing.open.uncollected.get() || excess > 0);
    Ok(())
}
