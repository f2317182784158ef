//! A shard's rounds: what its thread does again and again.

use super::glance;
use super::idle::Idle;
use super::options::UPKEEP;
use super::serve::Task;
use super::shard::Shard;
use super::thread::Inbox;
use super::upkeep;
use crate::io::tasks::Tasks;
use crate::status::Result;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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

/// A shard with its tasks, and how it makes them. One thread's.
pub struct Rounds<F, S> {
    shard: Rc<Shard>,
    inbox: Arc<Inbox>,
    serve: S,
    reads: Tasks<F>,
    writes: Tasks<F>,
    upkeep_due: Instant,
    idle: Idle,
    /// Rounds without anything for the disk.
    calm: u32,
    /// How many of all reads of late were not answered from memory.
    missing: usize,
    closed: bool,
    /// Write logs are being merged, the last thing to do.
    settled: bool,
}

impl<F: Future<Output = ()>, S: Fn(Rc<Shard>, Task) -> F> Rounds<F, S> {
    /// Of a shard that has begun nothing.
    pub fn new(shard: Shard, inbox: Arc<Inbox>, serve: S) -> Rounds<F, S> {
        Rounds {
            inbox,
            serve,
            reads: Tasks::new(shard.options.reads),
            writes: Tasks::new(shard.options.writes + UPKEEP),
            upkeep_due: Instant::now() + shard.options.upkeep_interval,
            idle: Idle::new(shard.options.spin),
            calm: 0,
            missing: 0,
            closed: false,
            settled: false,
            shard: Rc::new(shard),
        }
    }

    /// Until the inbox is closed and the tasks are done. An error: the ring is lost.
    pub fn run(&mut self) -> Result<()> {
        loop {
            let did = self.round();
            if self.closed && self.reads.len() == 0 && self.writes.len() == 0 {
                if std::mem::replace(&mut self.settled, true) || self.shard.logs.borrow().is_empty() {
                    return Ok(());
                }
                self.write(Task::Settle);
            }
            let ended = self.shard.pages.disk().turn(None)?;
            self.shard.measure();
            if did + ended > 0 {
                self.idle.over();
            } else {
                self.wait();
            }
        }
    }

    /// Goes on with what has ended and begins what was asked, until the disk is to be turned; returns how much it did.
    fn round(&mut self) -> usize {
        self.closed = self.inbox.closed.load(Ordering::SeqCst);
        self.shard.closing.set(self.closed);
        // A disk that has just ended all it had is waiting for more.
        self.calm = if self.shard.pages.disk().is_idle() { self.calm.saturating_add(1) } else { 0 };
        let busy = if self.missing > MOST { 1 } else { BUSY_ROUND };
        let round = if self.calm > CALM { ROUND } else { busy };
        // What has ended goes first: its answers bring the next requests, which are then started just before the disk is
        // turned.
        let mut did = self.reads.run(round) + self.writes.run(round);
        self.shard.hand_out();
        if !self.closed {
            did += self.take_reads(round) + self.take_writes();
            self.shard.hand_out();
        }
        did
    }

    fn take_reads(&mut self, round: usize) -> usize {
        // Reads that need no task keep the disk waiting little.
        let (mut taken, mut started) = (0, 0);
        while taken < ROUND && started < round && self.reads.room() > 0 {
            let Some(work) = self.inbox.reads.pop() else { break };
            taken += 1;
            if let Some(task) = glance::answer(&self.shard, work) {
                self.reads.start((self.serve)(self.shard.clone(), task));
                started += 1;
            }
        }
        if let Some(missed) = (ALL * started).checked_div(taken) {
            self.missing = (self.missing * 15 + missed) / 16;
        }
        taken
    }

    fn take_writes(&mut self) -> usize {
        let mut taken = 0;
        while self.room_to_write() > 0 {
            let Some(work) = self.inbox.writes.pop() else { break };
            self.write(Task::Request(work));
            taken += 1;
        }
        taken
    }

    /// Places for writes that are free. Upkeep that is not under way keeps its own.
    fn room_to_write(&self) -> usize {
        let kept = UPKEEP - self.shard.chores.get().min(UPKEEP);
        self.writes.room().saturating_sub(kept)
    }

    fn write(&mut self, task: Task) {
        self.writes.start((self.serve)(self.shard.clone(), task));
    }

    /// After a round that did nothing: upkeep if it is time, another look, or a sleep until there may be more to do.
    fn wait(&mut self) {
        let now = Instant::now();
        let interval = self.shard.options.upkeep_interval;
        if !interval.is_zero() && now >= self.upkeep_due {
            self.upkeep_due = now + interval;
            upkeep::due(&self.shard, self.closed).into_iter().for_each(|task| self.write(task));
            return;
        }
        if !self.inbox.processor.is_here() && self.idle.looks(now, self.reads.len() > 0) {
            std::hint::spin_loop();
            return;
        }
        let disk = self.shard.pages.disk().clone();
        disk.event().arm();
        if !self.has_more() {
            let until_upkeep = match interval.is_zero() {
                true => SLEEP,
                false => self.upkeep_due.saturating_duration_since(now).min(SLEEP),
            };
            // A ring that is lost shows in the next round.
            let _ = disk.turn(Some(until_upkeep));
            self.idle.slept();
        }
        disk.event().disarm();
    }

    /// Whether a round would find something, other than of the disk.
    fn has_more(&self) -> bool {
        let waits = (self.reads.room() > 0 && !self.inbox.reads.is_empty())
            || (self.room_to_write() > 0 && !self.inbox.writes.is_empty());
        // The tier's thread may have woken a task since they were run.
        let ready = self.reads.is_ready() || self.writes.is_ready();
        ready || (!self.closed && waits) || self.inbox.closed.load(Ordering::SeqCst) != self.closed
    }
}
