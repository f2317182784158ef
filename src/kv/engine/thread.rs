//! A shard's thread: takes requests, runs tasks, turns the disk, and sleeps when there is nothing to do.

use super::glance;
use super::options::{EngineOptions, UPKEEP};
use super::partition::Open;
use super::serve::{Task, Work, serve};
use super::shard::{Shard, Targets};
use super::stats::Counters;
use crate::io::disk::Backend;
use crate::io::event::Event;
use crate::io::tasks::Tasks;
use crate::kv::sink::Sink;
use crate::kv::tier::Remote;
use crate::kv::tier::Tier;
use crate::status::Result;
use crossbeam_queue::ArrayQueue;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// What waits for a shard. Reads do not queue behind writes.
#[derive(Debug)]
pub struct Inbox {
    /// Requests that only read.
    pub reads: ArrayQueue<Work>,
    /// Requests that need their partition's writer.
    pub writes: ArrayQueue<Work>,
    /// Nothing is taken any more.
    pub closed: AtomicBool,
}

impl Inbox {
    /// Room for this many of each.
    pub fn new(limit: usize) -> Inbox {
        let (reads, writes) = (ArrayQueue::new(limit), ArrayQueue::new(limit));
        Inbox { reads, writes, closed: AtomicBool::new(false) }
    }

    /// Drops what waits, which answers it.
    pub fn clear(&self) {
        while self.reads.pop().is_some() {}
        while self.writes.pop().is_some() {}
    }
}

/// What the engine needs to know of a shard that has started.
pub type Started = Result<(Arc<Event>, Backend)>;

/// Requests that are taken, and tasks that are run, before the disk is turned: few while the disk is busy, because what
/// it has to do next waits for the end of the round and it would be idle meanwhile. One while most reads need it.
const ROUND: usize = 32;
const BUSY_ROUND: usize = 4;
/// That is three in four of those of late.
const MOST: usize = ALL / 4 * 3;
const ALL: usize = 1 << 10;
/// Rounds without anything for the disk after which it is not busy.
const CALM: u32 = 64;
/// Longest sleep. Nothing needs it; it bounds what a lost wake-up could cost.
const SLEEP: Duration = Duration::from_secs(1);

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
        Ok(shard) => Rc::new(shard),
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let disk = shard.pages.disk().clone();
    let _ = started.send(Ok((disk.event().clone(), disk.backend())));
    let mut reads = Tasks::new(shard.options.reads);
    let mut writes = Tasks::new(shard.options.writes + UPKEEP);
    let mut upkeep_due = Instant::now() + shard.options.upkeep_interval;
    let (mut idle_since, mut calm) = (None, 0u32);
    // How many of all reads of late were not answered from memory.
    let (mut missing, mut settled) = (0, false);
    loop {
        let closed = inbox.closed.load(Ordering::SeqCst);
        shard.closing.set(closed);
        // A disk that has just ended all it had is waiting for more.
        calm = if disk.is_idle() { calm.saturating_add(1) } else { 0 };
        let busy = if missing > MOST { 1 } else { BUSY_ROUND };
        let round = if calm > CALM { ROUND } else { busy };
        // What has ended goes first: its answers bring the next requests, which are then started just before the disk is
        // turned.
        let mut did = reads.run(round) + writes.run(round);
        shard.hand_out();
        // Reads that need no task keep the disk waiting little.
        let (mut taken, mut started) = (0, 0);
        while !closed && taken < ROUND && started < round && reads.room() > 0 {
            let Some(work) = inbox.reads.pop() else { break };
            taken += 1;
            if let Some(task) = glance::answer(&shard, work) {
                reads.start(serve(shard.clone(), task));
                started += 1;
            }
        }
        did += taken;
        if let Some(missed) = (ALL * started).checked_div(taken) {
            missing = (missing * 15 + missed) / 16;
        }
        // Upkeep that is not under way keeps its places.
        let kept = UPKEEP - shard.chores.get().min(UPKEEP);
        while !closed && writes.room() > kept {
            let Some(work) = inbox.writes.pop() else { break };
            writes.start(serve(shard.clone(), Task::Request(work)));
            did += 1;
        }
        shard.hand_out();
        if closed && reads.len() == 0 && writes.len() == 0 {
            if std::mem::replace(&mut settled, true) || shard.logs.borrow().is_empty() {
                break;
            }
            writes.start(serve(shard.clone(), Task::Settle));
        }
        let ended = disk.turn(None);
        did += ended.as_ref().map_or(0, |ended| *ended);
        shard.measure();
        if ended.is_err() {
            tracing::error!("a shard of the key-value store lost its ring: {ended:?}");
            break;
        }
        if did > 0 {
            idle_since = None;
            continue;
        }
        let now = Instant::now();
        if !shard.options.upkeep_interval.is_zero() && now >= upkeep_due {
            upkeep_due = now + shard.options.upkeep_interval;
            start_upkeep(&shard, closed).for_each(|task| writes.start(serve(shard.clone(), task)));
            continue;
        }
        if now < *idle_since.get_or_insert(now) + shard.options.spin {
            std::hint::spin_loop();
            continue;
        }
        disk.event().arm();
        let more = (reads.room() > 0 && !inbox.reads.is_empty())
            || (writes.room() > kept && !inbox.writes.is_empty());
        // The tier's thread may have woken a task since they were run.
        let ready = reads.is_ready() || writes.is_ready();
        if !ready && (closed || !more) && inbox.closed.load(Ordering::SeqCst) == closed {
            let _ = disk.turn(Some(sleep(&shard, upkeep_due.saturating_duration_since(now))));
            idle_since = None;
        }
        disk.event().disarm();
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

fn sleep(shard: &Shard, until_upkeep: Duration) -> Duration {
    if shard.options.upkeep_interval.is_zero() { SLEEP } else { until_upkeep.min(SLEEP) }
}

/// Upkeep for partitions that are open and not being looked after, as many as may be at a time.
fn start_upkeep(shard: &Rc<Shard>, closed: bool) -> impl Iterator<Item = Task> {
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
    chosen.into_iter()
}
