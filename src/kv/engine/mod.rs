//! The engine: a store that is read and written by many at once. A thread a shard, nothing shared between shards.
//!
//! ```no_run
//! use rdma_engine::kv::engine::{Engine, EngineOptions};
//! use rdma_engine::kv::options::Options;
//! # fn main() -> rdma_engine::Result<()> {
//! let store = Options { store_paths: vec!["/data/kv".into()], ..Options::default() };
//! let engine = Engine::open(EngineOptions { store, ..EngineOptions::default() })?;
//! let partition = engine.partition("orders", 0)?;
//! let found = engine.read(partition, b"key")?;
//! # Ok(()) }
//! ```
//!
//! A [`Request`] is submitted with a queue of [`Completions`], which gets exactly one completion for it, or in a form
//! that blocks. Requests that were submitted and not completed have no order among them. Reads see what was committed
//! when they began, and never wait for a write.
//!
//! Inside: [`thread`] runs a [`shard`]'s [`tasks`](crate::io::tasks) in [`rounds`], and is [`idle`] between them; [`serve`]
//! are the requests, of which [`glance`] answers those that need no task, [`upkeep`] what the engine does by itself. A
//! [`partition`] is kept in a [`backing`]: [`files`] over the shard's [`pages`], a [`cache`] over its disk, or [`memory`],
//! and has a write log ([`logged`]); with its branches and archives it shares a [`home`].

mod ahead;
mod backing;
mod blocking;
mod bytes;
mod cache;
mod files;
mod glance;
mod home;
mod idle;
mod lock;
mod logged;
mod memory;
mod open_files;
mod options;
mod pages;
mod partition;
mod queue;
mod request;
mod rounds;
mod serve;
mod shard;
mod stats;
mod thread;
mod upkeep;

pub use crate::io::disk::{Backend, Choice};
pub use options::EngineOptions;
pub use queue::Completions;
pub use request::{Answer, Completion, Request, Scan};
pub use stats::Stats;

use super::batch::Batch;
use super::branch::MAIN;
use super::fork;
use super::names::Partition as Name;
use super::store::Store;
use super::tier::Tier;
use crate::io::event::Event;
use crate::status::{Error, Result, Status};
use parking_lot::{Mutex, RwLock};
use partition::{Target, Which};
use queue::{Once, Reply};
use request::Job;
use serve::Work;
use shard::Targets;
use stats::Counters;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use thread::Inbox;

/// A partition, or a branch or an archive of one, of the engine that handed it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(u32);

impl Handle {
    /// Its number, for languages that have no types of ours.
    pub fn number(self) -> u32 {
        self.0
    }

    /// From a number; one that no engine handed out is `STALE_HANDLE` when it is used.
    pub fn from_number(number: u32) -> Handle {
        Handle(number)
    }
}

/// Handles that an engine hands out at most. They are never taken back.
const HANDLES: usize = 1 << 20;

/// An open store. Closing it, or dropping it, completes every request.
#[derive(Debug)]
pub struct Engine {
    options: Arc<EngineOptions>,
    store: Option<Store>,
    targets: Arc<Targets>,
    shards: Vec<Running>,
}

/// A shard's thread, from outside.
#[derive(Debug)]
struct Running {
    inbox: Arc<Inbox>,
    event: Arc<Event>,
    backend: Backend,
    counters: Arc<Counters>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Opens or makes the store of `options.store.store_paths`; without any it is in memory. Blocks.
    pub fn open(options: EngineOptions) -> Result<Engine> {
        options.check()?;
        let store = match options.store.store_paths.is_empty() && !options.store.cloud.is_on() {
            true => None,
            false => Some(Store::create(options.store.clone())?),
        };
        Engine::start(options, store)
    }

    /// Opens the store whose files are objects of `tier`. Blocks.
    pub fn over(options: EngineOptions, tier: Arc<Tier>) -> Result<Engine> {
        options.check()?;
        let store = Store::over(options.store.clone(), tier)?;
        Engine::start(options, Some(store))
    }

    fn start(mut options: EngineOptions, store: Option<Store>) -> Result<Engine> {
        let tier = store.as_ref().and_then(|store| store.tier().cloned());
        if let Some(tier) = &tier {
            options.store = options.store.over_objects();
            if options.store.cloud.prewarm {
                // Nobody waits for it.
                drop(tier.prewarm());
            }
        }
        let (options, targets) = (Arc::new(options), Arc::new(RwLock::default()));
        let mut shards = Vec::new();
        // If one fails, those that were started are closed by its drop.
        for number in 0..options.store.threads {
            shards.push(Running::start(number, &options, &tier, &targets)?);
        }
        Ok(Engine { options, store, targets, shards })
    }

    /// What it was opened with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// What its shards' disks came to use.
    pub fn backend(&self) -> Backend {
        self.shards.first().map_or(Backend::Threads, |shard| shard.backend)
    }

    /// The object storage tier, if there is one.
    pub fn tier(&self) -> Option<&Arc<Tier>> {
        self.store.as_ref()?.tier()
    }

    /// Counters of all shards.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.shards.iter().for_each(|shard| stats.add(&shard.counters));
        stats
    }

    /// A partition, whether it is there or not. The same handle each time.
    pub fn partition(&self, table: &str, number: u32) -> Result<Handle> {
        self.handle(table, number, Which::Main)
    }

    /// A branch of a partition; `main` is the partition itself. It is read and written like a partition, once it is there:
    /// until then a request ends as `NOT_FOUND`.
    pub fn branch(&self, table: &str, number: u32, branch: &str) -> Result<Handle> {
        let name = fork::branch_name(branch)?;
        let which = if name == MAIN { Which::Main } else { Which::Branch(name) };
        self.handle(table, number, which)
    }

    /// A partition as an archive has it, by its tag: it can only be read. That there is no such archive shows with the
    /// first request.
    pub fn archive(&self, table: &str, number: u32, tag: &str) -> Result<Handle> {
        self.handle(table, number, Which::Archive(tag.to_owned()))
    }

    fn handle(&self, table: &str, number: u32, which: Which) -> Result<Handle> {
        let name = format!("{table}.{number}");
        let name = Name::parse(&name).filter(|parsed| parsed.table == table);
        let name = name.ok_or_else(|| {
            Error::new(Status::InvalidArgument, format!("`{table}` cannot be the name of a table"))
        })?;
        let key = (name.clone(), which);
        let mut known = self.targets.write();
        if let Some(number) = known.numbers.get(&key) {
            return Ok(Handle(*number));
        }
        if known.targets.len() >= HANDLES {
            return Err(Error::new(Status::LimitReached, "the engine has handed out 2^20 partitions"));
        }
        let path = match &self.store {
            Some(store) => Some(store.directory(&name)?),
            None => None,
        };
        let shard = number as usize % self.shards.len();
        let number = known.targets.len() as u32;
        let target = Target { number, name, which: key.1.clone(), path, shard };
        known.targets.push(Arc::new(target));
        known.numbers.insert(key, number);
        Ok(Handle(number))
    }

    /// Submits a request. Its one completion goes to `completions` with `user_data`; on an error there is none.
    /// `QUEUE_FULL`: the shard, or the queue of completions, has no room now. Does not block.
    pub fn submit(
        &self,
        partition: Handle,
        request: Request,
        completions: &Arc<Completions>,
        user_data: u64,
    ) -> Result<()> {
        let job = self.check(request, completions.value_room())?;
        self.send(partition, job, Reply::queue(completions, user_data)?)
    }

    /// Submits a request and waits for its answer. Blocks.
    pub fn call(&self, partition: Handle, request: Request) -> Result<Answer> {
        let once = Arc::new(Once::default());
        let job = self.check(request, 0)?;
        self.send(partition, job, Reply::once(&once))?;
        once.wait()
    }

    /// Batches are checked where they come from: it costs the shard nothing. `room` is the length of values of late.
    fn check(&self, request: Request, room: usize) -> Result<Job> {
        match request {
            Request::Read { key } => Ok(Job::Read { key, value: Vec::with_capacity(room) }),
            Request::Write { ops, order } => Batch::new(ops, order, &self.options.store).map(Job::Write),
            other => Ok(Job::Other(other)),
        }
    }

    fn send(&self, partition: Handle, job: Job, reply: Reply) -> Result<()> {
        let Some(shard) = self.targets.read().targets.get(partition.0 as usize).map(|target| target.shard)
        else {
            reply.withdraw();
            return Err(Error::new(Status::StaleHandle, "the handle is of another engine"));
        };
        let running = &self.shards[shard];
        if running.inbox.closed.load(Ordering::SeqCst) {
            reply.withdraw();
            return Err(Error::new(Status::WrongState, "the engine is closed"));
        }
        let queue = if job.writes() { &running.inbox.writes } else { &running.inbox.reads };
        if let Err(work) = queue.push(Work { target: partition.0, job, reply }) {
            work.reply.withdraw();
            return Err(Error::new(
                Status::QueueFull,
                "the shard has no room for more requests: wait for some",
            ));
        }
        running.inbox.processor.note();
        running.event.ring();
        // It may have closed in between, and then nobody else looks.
        if running.inbox.closed.load(Ordering::SeqCst) {
            running.inbox.clear();
        }
        Ok(())
    }

    /// Closes the engine: requests that run are finished, those that wait end as `CANCELED`. Blocks until that is done.
    pub fn close(&self) {
        for shard in &self.shards {
            shard.inbox.closed.store(true, Ordering::SeqCst);
            shard.event.ring();
        }
        self.shards.iter().for_each(Running::join);
    }
}

impl Running {
    fn start(
        number: usize,
        options: &Arc<EngineOptions>,
        tier: &Option<Arc<Tier>>,
        targets: &Arc<Targets>,
    ) -> Result<Running> {
        let (inbox, counters) = (Arc::new(Inbox::new(options.queue)), Arc::new(Counters::default()));
        let (sender, receiver) = sync_channel(1);
        let run = {
            let (options, tier, targets) = (options.clone(), tier.clone(), targets.clone());
            let (counters, inbox) = (counters.clone(), inbox.clone());
            move || thread::run(options, tier, targets, counters, inbox, sender)
        };
        let thread = std::thread::Builder::new().name(format!("rde-kv-{number}")).spawn(run);
        let thread = thread.map_err(|error| Error::os("starting a shard's thread", &error))?;
        let started = receiver
            .recv()
            .unwrap_or_else(|_| Err(Error::new(Status::Panic, "a shard's thread ended while it started")));
        let (event, backend) = started?;
        Ok(Running { inbox, event, backend, counters, thread: Mutex::new(Some(thread)) })
    }

    fn join(&self) {
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
        self.inbox.clear();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inbox.closed.store(true, Ordering::SeqCst);
        self.event.ring();
        self.join();
    }
}
