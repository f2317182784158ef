//! The command line of `rde kv`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rdma_engine::kv::names::Partition;
use serde::Deserialize;

use crate::units::{Size, Span};

/// `rde kv`.
#[derive(Args, Clone, Debug)]
pub struct Kv {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command on a store needs.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Common {
    /// What the store is opened with: lines of `name=value`, or an ini file of EloqStore; paths in it are relative to
    /// its folder.
    #[arg(long, global = true, env = "RDE_KV_OPTIONS", value_name = "FILE")]
    pub options: Option<PathBuf>,
    /// Keys and values are given and shown in hex.
    #[arg(long, global = true)]
    #[serde(skip)]
    pub hex: bool,
}

/// What to do with a store.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Print every entry: `<table.number> <key hex> <length> h:<value hex>|s:<SHA-256> <timestamp> <expiry>`.
    Dump(Dump),
    /// Write entries from the standard input: `<table.number> <key hex> <value hex> <timestamp> <expiry ms>` a line.
    Restore,
    /// Print the value of a key.
    Get(Get),
    /// Write a value, and return when it is safe on disk.
    Put(Put),
    /// Delete keys.
    Delete(Delete),
    /// Print a range of entries.
    Scan(Scan),
    /// Write many entries, from a file of lines as `restore` reads them, or made up.
    Load(Load),
    /// Show what is in the store's directories.
    Stat(Some),
    /// Verify every checksum, mapping and chain; say what is wrong and where.
    Check(Some),
    /// Keep a partition as it is now under a name (append mode).
    #[command(subcommand)]
    Archive(Archive),
    /// Move live pages together and remove files that nothing refers to.
    Compact(SomeOf),
    /// Delete what has expired.
    Clean(SomeOf),
    /// Delete all keys from a position on; all of the partition without one.
    Truncate(Truncate),
    /// Remove a partition, or every partition of a table.
    Drop(Drop),
    /// Branches: copies of a partition that go their own way.
    #[command(subcommand)]
    Branch(Branch),
}

fn partition(text: &str) -> Result<Partition, String> {
    Partition::parse(text)
        .ok_or_else(|| format!("`{text}` is no partition; write TABLE.NUMBER, as in users.7"))
}

/// `rde kv dump`.
#[derive(Args, Clone, Debug)]
pub struct Dump {
    /// Print this archive, by its name or its file's, instead of what is there now.
    #[arg(long, value_name = "NAME")]
    pub archive: Option<String>,
    /// Print this branch.
    #[arg(long, value_name = "NAME", conflicts_with = "archive")]
    pub branch: Option<String>,
    /// Only these partitions.
    #[arg(value_parser = partition)]
    pub partitions: Vec<Partition>,
}

/// The branch that a command works on.
#[derive(Args, Clone, Debug)]
pub struct On {
    /// This branch of the partition [default: main].
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
}

/// `rde kv get`.
#[derive(Args, Clone, Debug)]
pub struct Get {
    /// TABLE.NUMBER.
    #[arg(value_parser = partition)]
    pub partition: Partition,
    #[command(flatten)]
    pub on: On,
    /// The key.
    pub key: String,
    /// The largest key that is at most this one, if there is none like it.
    #[arg(long)]
    pub floor: bool,
    /// Write the value here, as it is.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Take what has expired and is still there for absent.
    #[arg(long)]
    pub hide_expired: bool,
}

/// When a change is, and when it ends.
#[derive(Args, Clone, Debug)]
pub struct When {
    /// The change's timestamp: older ones do not replace newer ones [default: now, in microseconds].
    #[arg(long, value_name = "NUMBER")]
    pub timestamp: Option<u64>,
}

/// `rde kv put`.
#[derive(Args, Clone, Debug)]
pub struct Put {
    /// TABLE.NUMBER; made if it is missing.
    #[arg(value_parser = partition)]
    pub partition: Partition,
    #[command(flatten)]
    pub on: On,
    /// The key.
    pub key: String,
    /// The value.
    #[arg(required_unless_present = "file")]
    pub value: Option<String>,
    /// Take the value from this file.
    #[arg(short, long, value_name = "FILE", conflicts_with = "value")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub when: When,
    /// It expires after this long.
    #[arg(long, value_name = "TIME")]
    pub ttl: Option<Span>,
    /// Keep it in segments, as very large values are.
    #[arg(long)]
    pub large: bool,
}

/// `rde kv delete`.
#[derive(Args, Clone, Debug)]
pub struct Delete {
    /// TABLE.NUMBER.
    #[arg(value_parser = partition)]
    pub partition: Partition,
    #[command(flatten)]
    pub on: On,
    /// The keys.
    #[arg(required = true)]
    pub keys: Vec<String>,
    #[command(flatten)]
    pub when: When,
}

/// `rde kv scan`.
#[derive(Args, Clone, Debug)]
pub struct Scan {
    /// TABLE.NUMBER.
    #[arg(value_parser = partition)]
    pub partition: Partition,
    #[command(flatten)]
    pub on: On,
    /// From this key on.
    #[arg(long, default_value = "")]
    pub begin: String,
    /// Up to this key, not included.
    #[arg(long, default_value = "")]
    pub end: String,
    /// Entries at most; 0 for all.
    #[arg(short = 'n', long, default_value_t = 0)]
    pub limit: u64,
    /// The last ones first.
    #[arg(short, long)]
    pub reverse: bool,
    /// Keys only.
    #[arg(short, long, conflicts_with = "lines")]
    pub keys: bool,
    /// Print lines that `rde kv restore` reads.
    #[arg(long)]
    pub lines: bool,
    /// Leave out what has expired and is still there.
    #[arg(long)]
    pub hide_expired: bool,
}

/// `rde kv load`.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// The file [default: the standard input].
    #[arg(conflicts_with = "generate")]
    pub file: Option<PathBuf>,
    /// Make up this many entries instead.
    #[arg(long, value_name = "COUNT")]
    pub generate: Option<u64>,
    /// Bytes of a made-up value.
    #[arg(long, value_name = "SIZE", default_value = "1KiB", requires = "generate")]
    pub value_size: Size,
    /// Partitions of the table `load` that they are spread over.
    #[arg(long, default_value_t = 1, requires = "generate", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub partitions: u32,
    /// What they are made of; the same one makes the same entries.
    #[arg(long, default_value_t = 1, requires = "generate")]
    pub seed: u64,
}

/// Some partitions, or all.
#[derive(Args, Clone, Debug)]
pub struct Some {
    /// TABLE.NUMBER [default: all].
    #[arg(value_parser = partition)]
    pub partitions: Vec<Partition>,
}

/// Some partitions, or all, of one branch.
#[derive(Args, Clone, Debug)]
pub struct SomeOf {
    #[command(flatten)]
    pub some: Some,
    #[command(flatten)]
    pub on: On,
}

/// `rde kv archive`.
#[derive(Subcommand, Clone, Debug)]
pub enum Archive {
    /// Keep a partition as it is now.
    Create {
        /// TABLE.NUMBER.
        #[arg(value_parser = partition)]
        partition: Partition,
        /// What it is called [default: now, in microseconds].
        name: Option<String>,
        /// Afterwards only this many of the newest are kept, of the same branch.
        #[arg(long, value_name = "COUNT")]
        retain: Option<usize>,
        #[command(flatten)]
        on: On,
    },
    /// Forget an archive.
    Delete {
        /// TABLE.NUMBER.
        #[arg(value_parser = partition)]
        partition: Partition,
        /// What it is called.
        name: String,
        #[command(flatten)]
        on: On,
    },
    /// Show the archives.
    List(Some),
}

/// `rde kv truncate`.
#[derive(Args, Clone, Debug)]
pub struct Truncate {
    /// TABLE.NUMBER.
    #[arg(value_parser = partition)]
    pub partition: Partition,
    #[command(flatten)]
    pub on: On,
    /// The first key that goes.
    pub position: Option<String>,
}

/// `rde kv drop`.
#[derive(Args, Clone, Debug)]
pub struct Drop {
    /// TABLE.NUMBER.
    #[arg(value_parser = partition, required_unless_present = "table")]
    pub partition: Option<Partition>,
    /// Every partition of this table.
    #[arg(long, conflicts_with = "partition")]
    pub table: Option<String>,
}

/// `rde kv branch`.
#[derive(Subcommand, Clone, Debug)]
pub enum Branch {
    /// Start a branch from what a partition is now.
    Create {
        /// TABLE.NUMBER.
        #[arg(value_parser = partition)]
        partition: Partition,
        /// Letters, digits and `-`.
        name: String,
        /// From this branch of the partition [default: main].
        #[arg(long, value_name = "NAME")]
        from: Option<String>,
    },
    /// Remove a branch; what only it refers to goes with the next `rde kv compact`.
    Delete {
        /// TABLE.NUMBER.
        #[arg(value_parser = partition)]
        partition: Partition,
        /// What it is called.
        name: String,
    },
    /// Show the branches.
    List(Some),
}
