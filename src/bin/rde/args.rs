//! The command line. Everything that a configuration file may set is an `Option` here: [`super::config`] fills the
//! gaps, so that a flag beats the environment and the environment beats the file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

use super::units::{Size, Span};

/// Measures and uses the data plane of rdma-engine: registered memory, one-sided get and put, and messages over UCX.
#[derive(Parser, Debug)]
#[command(name = "rde", version, propagate_version = true)]
pub struct Cli {
    /// Print JSON, one object a line.
    #[arg(long, global = true, env = "RDE_JSON", action = clap::ArgAction::SetTrue, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
    /// Read settings from this file, TOML or JSON; see the README.
    #[arg(long, global = true, env = "RDE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log to the standard error; twice for every detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(flatten)]
    pub engine: Engine,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show what UCX, devices and limits this machine offers.
    Info,
    /// Export files and scratch memory to `rde get`, `rde ping` and `rde perf`.
    Serve(Serve),
    /// Time message round trips to an `rde serve`.
    Ping(Ping),
    /// Measure latency and bandwidth to an `rde serve`.
    Perf(Perf),
    /// Show what an `rde serve` exports.
    List(List),
    /// Fetch a file from an `rde serve` by one-sided gets and check its SHA-256.
    Get(Get),
    /// Read a SeaweedFS needle from an `rde serve --volumes`, or from a volume server with an exporter.
    Cat(Cat),
    /// Read, write, check and keep stores of the key-value engine, byte-compatible with EloqStore.
    Kv(Box<super::kv::args::Kv>),
}

/// Settings of the engine, for every command.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Engine")]
pub struct Engine {
    /// Levels of the log: `info`, `debug`, or by module: `rdma_engine::engine=trace`.
    #[arg(long, global = true, env = "RDE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Name shown to peers.
    #[arg(long, global = true, env = "RDE_NAME")]
    pub name: Option<String>,
    /// Transports to use [default: all of them].
    #[arg(long, global = true, env = "RDE_TRANSPORTS", value_delimiter = ',', value_name = "LIST")]
    pub transports: Option<Vec<Transport>>,
    /// UCX devices to use, as UCX names them [default: chosen by address].
    #[arg(long, global = true, env = "RDE_DEVICES", value_name = "LIST")]
    pub devices: Option<String>,
    /// Registered memory this process may hold.
    #[arg(long, global = true, env = "RDE_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<Size>,
    /// A peer that is silent for this long is lost [default: 3s].
    #[arg(long, global = true, env = "RDE_KEEPALIVE", value_name = "TIME")]
    pub keepalive: Option<Span>,
    /// Give up dialling after this long [default: 5s].
    #[arg(long, global = true, env = "RDE_CONNECT_TIMEOUT", value_name = "TIME")]
    pub connect_timeout: Option<Span>,
    /// Who makes progress: the calling thread (lowest latency, one core busy), or a thread of the engine
    /// [default: threaded].
    #[arg(long, global = true, env = "RDE_PROGRESS", value_name = "MODE")]
    pub progress: Option<Progress>,
    /// A file with the secret that both sides of a session must know, 16 to 1,024 bytes. Without it: what RDE_SECRET holds.
    #[arg(long, global = true, env = "RDE_SECRET_FILE", value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

/// A transport by name.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Shared memory with peers of the same host.
    Shared,
    /// TCP.
    Tcp,
    /// InfiniBand and RoCE.
    Rdma,
}

/// Who makes a worker's progress.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// The calling thread.
    Polled,
    /// A thread of the engine.
    Threaded,
}

/// `rde serve`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// Where to listen: `tcp://host:port` (port 0 picks one) or `unix:///path`; may be repeated.
    #[arg(long, env = "RDE_LISTEN", value_delimiter = ',', value_name = "ADDRESS")]
    pub listen: Option<Vec<String>>,
    /// A file to export, read-only, under its last name; may be repeated. It is read once, now.
    #[arg(long, env = "RDE_FILE", value_delimiter = ',', value_name = "PATH")]
    pub file: Option<Vec<PathBuf>>,
    /// Memory that peers may read and write, for `rde perf` [default: 64MiB].
    #[arg(long, env = "RDE_SCRATCH", value_name = "SIZE")]
    pub scratch: Option<Size>,
    /// Serve the needles of every SeaweedFS volume in this folder; nothing is ever written there.
    #[arg(long, env = "RDE_VOLUMES", value_name = "DIR")]
    pub volumes: Option<PathBuf>,
    /// Where needles are served: as --listen. Readers look for it at a volume server's HTTP port and 20000.
    #[arg(long, env = "RDE_VOLUMES_LISTEN", value_name = "ADDRESS")]
    pub volumes_listen: Option<String>,
    /// Where the volumes' indexes are [default: beside the data].
    #[arg(long, env = "RDE_INDEX_DIR", value_name = "DIR")]
    pub index_dir: Option<PathBuf>,
    /// A file with the cluster's read key (`jwt.signing.read.key`): each read of a needle needs a token then. Without it: what
    /// RDE_READ_KEY holds.
    #[arg(long, env = "RDE_READ_KEY_FILE", value_name = "FILE")]
    pub read_key_file: Option<PathBuf>,
}

/// `rde ping`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ping {
    /// The peer: `tcp://host:port` or `unix:///path`.
    #[serde(skip)]
    pub address: String,
    /// Round trips; 0 goes on until interrupted [default: 10].
    #[arg(short, long, env = "RDE_COUNT")]
    pub count: Option<u64>,
    /// Pause between two of them [default: 100ms].
    #[arg(short, long, env = "RDE_INTERVAL", value_name = "TIME")]
    pub interval: Option<Span>,
    /// Payload [default: 8].
    #[arg(short, long, env = "RDE_SIZE", value_name = "SIZE")]
    pub size: Option<Size>,
}

/// What `rde perf` measures.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operation {
    /// Reads the peer's memory.
    #[default]
    Get,
    /// Writes the peer's memory; a latency includes the flush that makes it visible.
    Put,
    /// Sends messages; a latency is a round trip.
    Message,
    /// Calls an echo.
    Rpc,
}

/// `rde perf`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Perf {
    /// What to measure.
    #[serde(skip)]
    pub operation: Operation,
    /// The peer: `tcp://host:port` or `unix:///path`.
    #[serde(skip)]
    pub address: String,
    /// Sizes [default: 8,4KiB,64KiB,1MiB; messages, calls: 8,4KiB].
    #[arg(short, long, env = "RDE_SIZES", value_delimiter = ',', value_name = "SIZE")]
    pub sizes: Option<Vec<Size>>,
    /// Operations in flight when bandwidth is measured [default: 32].
    #[arg(long, env = "RDE_DEPTH")]
    pub depth: Option<u32>,
    /// Time for each size and measure, instead of a count [default: 1s].
    #[arg(short, long, env = "RDE_DURATION", value_name = "TIME")]
    pub duration: Option<Span>,
    /// Operations for each size and measure, instead of a time.
    #[arg(short, long, env = "RDE_ITERATIONS", conflicts_with = "duration")]
    pub iterations: Option<u64>,
    /// Operations before the clock starts [default: 100].
    #[arg(long, env = "RDE_WARM_UP")]
    pub warm_up: Option<u64>,
}

/// `rde list`.
#[derive(Args, Clone, Debug)]
pub struct List {
    /// The peer: `tcp://host:port` or `unix:///path`.
    pub address: String,
}

/// `rde get`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Get {
    /// What to fetch: `tcp://host:port/NAME` or `unix:///path/NAME`.
    #[serde(skip)]
    pub source: String,
    /// Where to put it [default: NAME in this folder]. Written beside it first and renamed when it is proved.
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub output: Option<PathBuf>,
    /// Bytes of one get [default: 1MiB].
    #[arg(long, env = "RDE_CHUNK", value_name = "SIZE")]
    pub chunk: Option<Size>,
    /// Gets in flight [default: 16].
    #[arg(long, env = "RDE_WINDOW")]
    pub window: Option<u32>,
}

/// `rde cat`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cat {
    /// The needle, such as `3,01637037d6`; also as in a URL.
    #[serde(skip)]
    pub file_id: String,
    /// The volume server as HOST:PORT of its HTTP, or the exporter as `tcp://host:port` or `unix:///path`.
    #[arg(long, env = "RDE_SERVER", value_name = "HOST:PORT|ADDRESS")]
    #[serde(skip)]
    pub server: String,
    /// How far the exporter's port is from the volume server's HTTP port [default: 20000].
    #[arg(long, env = "RDE_PORT_OFFSET", value_name = "PORTS")]
    pub port_offset: Option<u16>,
    /// Where the part begins.
    #[arg(long, value_name = "SIZE")]
    #[serde(skip)]
    pub offset: Option<Size>,
    /// Bytes of the part, as far as the data goes.
    #[arg(long, value_name = "SIZE")]
    #[serde(skip)]
    pub length: Option<Size>,
    /// What SeaweedFS gave out for this file id, where the cluster has a read key. Others see it: rather use a file, or
    /// RDE_TOKEN.
    #[arg(long, conflicts_with = "token_file")]
    #[serde(skip)]
    pub token: Option<String>,
    /// A file with the token.
    #[arg(long, env = "RDE_TOKEN_FILE", value_name = "FILE")]
    #[serde(skip)]
    pub token_file: Option<PathBuf>,
    /// Do not read a needle that was deleted, also while its bytes are there.
    #[arg(long)]
    #[serde(skip)]
    pub live: bool,
    /// Take chunk manifests, and parts of compressed data, as they are stored.
    #[arg(long)]
    #[serde(skip)]
    pub stored: bool,
    /// Where to put the data [default: the standard output]. Written beside it first and renamed when it is whole.
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub output: Option<PathBuf>,
}
