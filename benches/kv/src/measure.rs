//! What both sides share: what a task is, and the data it works on.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Ascending keys into an empty store, batches of 1,000, each safe before the next of its partition.
    Load,
    /// Random keys, one at a time, so many in flight.
    Read,
    /// The same with everything in memory.
    Cached,
    /// Every entry in order.
    Scan,
    /// Random keys written anew, batches of 1,000.
    Rewrite,
    /// The same, and until the upkeep that it causes is done.
    Sustain,
}

/// One run of one side.
#[derive(Clone, Debug, clap::Args)]
pub struct Task {
    /// What is measured.
    #[arg(long)]
    pub kind: Kind,
    /// Where the store is.
    #[arg(long)]
    pub dir: PathBuf,
    /// Entries in the store.
    #[arg(long)]
    pub keys: u64,
    /// Bytes of a value.
    #[arg(long)]
    pub value: usize,
    /// Operations to measure.
    #[arg(long, default_value_t = 0)]
    pub operations: u64,
    /// Operations in flight.
    #[arg(long, default_value_t = 32)]
    pub depth: usize,
    /// Bytes of the cache.
    #[arg(long, default_value_t = 128 << 20)]
    pub cache: usize,
    /// Partitions.
    #[arg(long, default_value_t = 4)]
    pub partitions: u32,
    /// Shards of our side, which share the cache; 0 for as many as suit the task.
    #[arg(long, default_value_t = 0)]
    pub shards: usize,
    /// Bytes of write logs of our side, whose memory comes out of the cache's; 0 for none.
    #[arg(long, default_value_t = 0)]
    pub log: usize,
    /// Append mode, of our side.
    #[arg(long)]
    pub append: bool,
}

/// What a run ended with: one line of JSON.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    /// Operations or entries a second.
    pub rate: f64,
    /// What that took.
    #[serde(default)]
    pub seconds: f64,
    /// The 99th percentile of their latency, microseconds.
    pub p99_us: f64,
    /// Bytes written for each byte of key and value.
    pub amplification: f64,
    /// Most memory that the process had, bytes.
    pub memory: u64,
}

/// A key of 16 bytes; they ascend with their numbers.
pub fn key(number: u64) -> Vec<u8> {
    format!("{number:016}").into_bytes()
}

/// A value that does not compress.
pub fn value(number: u64, round: u64, len: usize) -> Vec<u8> {
    let mut random = Random(number ^ round << 40 ^ 0x5851_f42d);
    let mut value = Vec::with_capacity(len + 8);
    while value.len() < len {
        value.extend_from_slice(&random.next().to_le_bytes());
    }
    value.truncate(len);
    value
}

/// Numbers that a seed decides.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

/// The most memory that this process had, in bytes.
pub fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
