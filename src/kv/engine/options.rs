//! What an engine is opened with, beside what its store was written with.

use crate::io::disk::Choice;
use crate::kv::options::Options;
use crate::status::{Error, Result, Status};
use std::time::Duration;

/// Options of an engine. Bytes and numbers are those of one shard; there are `store.threads` shards.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The store: without a path it is in memory, and gone when the engine closes.
    pub store: Options,
    /// How bytes are moved.
    pub io: Choice,
    /// Operations that the disk has at a time.
    pub io_depth: u32,
    /// Bytes of pages that are kept. What is read ahead and held by requests is part of them, unless they are few.
    pub cache_bytes: usize,
    /// Whether data pages are kept too, and not only index pages.
    pub cache_data_pages: bool,
    /// Bytes of write logs that a shard has at most before it merges the longest into its partition's pages, and an eighth
    /// as much memory; twice as many are the end, and writes wait. 0: batches go to the pages at once, as EloqStore's do.
    pub log_bytes: usize,
    /// Requests that wait for a shard at most, reads and writes each; more are `QUEUE_FULL`.
    pub queue: usize,
    /// Reads that a shard works on at a time.
    pub reads: usize,
    /// Writes that a shard works on, or that wait for their partition, at a time.
    pub writes: usize,
    /// Files that are open at most.
    pub open_files: usize,
    /// Partitions that are open at most; those not used for longest are closed.
    pub open_partitions: usize,
    /// Bytes of a store in memory.
    pub memory_limit: u64,
    /// How long a shard without work looks for more before it sleeps: five times as long while reads wait for the disk, not at
    /// all on the processor that requests come from.
    pub spin: Duration,
    /// How often partitions are looked over: compaction, file collection, expiry. Zero for never.
    pub upkeep_interval: Duration,
    /// How often a partition that changed is archived. Zero for never; append mode only.
    pub archive_interval: Duration,
    /// Scheduled archives that a partition keeps; older ones are deleted. Named ones stay.
    pub archives_kept: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            store: Options::default(),
            io: Choice::Auto,
            io_depth: 256,
            cache_bytes: 128 << 20,
            cache_data_pages: false,
            log_bytes: 0,
            queue: 4096,
            reads: 512,
            writes: 64,
            open_files: 256,
            open_partitions: 256,
            memory_limit: 1 << 30,
            spin: Duration::from_micros(50),
            upkeep_interval: Duration::from_secs(1),
            archive_interval: Duration::ZERO,
            archives_kept: 100,
        }
    }
}

/// Upkeep that a shard does at a time.
pub(super) const UPKEEP: usize = 4;

impl EngineOptions {
    /// Tasks of a shard.
    pub(super) fn tasks(&self) -> usize {
        self.reads + self.writes + UPKEEP
    }

    /// Whether every value is one that an engine can have.
    pub fn check(&self) -> Result<()> {
        self.store.check()?;
        let sound = [
            (self.cache_bytes / self.store.page_size >= 16, "cache_bytes must be at least 16 pages"),
            (self.cache_bytes <= 1 << 40, "cache_bytes must be at most 1 TiB"),
            (
                self.log_bytes == 0 || (1 << 20..=1 << 36).contains(&self.log_bytes),
                "log_bytes must be 1 MiB to 64 GiB, or 0",
            ),
            (self.log_bytes == 0 || !self.store.cloud.is_on(), "log_bytes must be 0 over an object store"),
            ((1..=1 << 20).contains(&self.queue), "queue must be 1 to 1,048,576"),
            ((1..=1 << 16).contains(&self.reads), "reads must be 1 to 65,536"),
            ((1..=1 << 12).contains(&self.writes), "writes must be 1 to 4,096"),
            ((4..=1 << 15).contains(&self.open_files), "open_files must be 4 to 32,768"),
            (self.open_partitions > 0, "open_partitions must be at least 1"),
            (self.store.threads <= 1 << 10, "num_threads must be at most 1,024"),
            (
                self.archive_interval.is_zero() || self.store.append,
                "archives need append mode: without it the archived pages would be overwritten",
            ),
        ];
        match sound.iter().find(|(ok, _)| !ok) {
            Some((_, what)) => {
                Err(Error::new(Status::InvalidArgument, format!("options of the key-value engine: {what}")))
            }
            None => Ok(()),
        }
    }
}
