//! What a context and a worker can be told, with the defaults.

use std::time::Duration;

pub use super::control::SharedSecret;

/// Transports a context may use (`ContextOptions::transports`), a mask.
pub mod transport {
    /// Shared memory and CMA, peers of the same host.
    pub const SHARED: u32 = 1 << 0;
    /// TCP.
    pub const TCP: u32 = 1 << 1;
    /// InfiniBand and RoCE, where UCX finds a device.
    pub const RDMA: u32 = 1 << 2;
    /// All of them.
    pub const ALL: u32 = SHARED | TCP | RDMA;
}

/// Ways a get or put may go (`ContextOptions::ways`), a mask; the first possible one in this order is taken.
pub mod way {
    /// The peer's exported memory is mapped: a get is a load.
    pub const MAPPED: u32 = 1 << 0;
    /// UCX RMA; the NIC moves the bytes. Chosen by itself only with an RDMA device.
    pub const RMA: u32 = 1 << 1;
    /// Messages to the peer's engine, which checks and copies.
    pub const MESSAGE: u32 = 1 << 2;
    /// All of them.
    pub const ALL: u32 = MAPPED | RMA | MESSAGE;
}

/// Options of a context.
#[derive(Clone, Debug)]
pub struct ContextOptions {
    /// Shown to peers and in metrics; at most 64 bytes, may be empty.
    pub name: String,
    /// `transport::*`.
    pub transports: u32,
    /// `way::*`. `RMA` without `MAPPED` forces UCX RMA, also over shared memory.
    pub ways: u32,
    /// UCX network devices (`mlx5_0:1,eth0`); empty takes the ones that the addresses in use belong to.
    pub devices: String,
    /// Bytes of registered memory this context may allocate.
    pub memory_limit: u64,
    /// Sessions, dialled and accepted.
    pub max_sessions: u32,
    /// Keys that may be exported at a time.
    pub max_exports: u32,
    /// A peer that is silent for this long is lost.
    pub keepalive: Duration,
    /// Longest message that a session sends or takes, in bytes.
    pub max_message: u64,
    /// Until a dial gives up.
    pub connect_timeout: Duration,
    /// A session without an operation for this long is closed; zero is never.
    pub idle_timeout: Duration,
    /// What every peer must prove to know, and prove it is known here: nothing is served before. None: nobody is asked.
    pub secret: Option<SharedSecret>,
    /// Whether a stream of the engine's own carries what goes over TCP, if the peer wants that too; else UCX does.
    pub streams: bool,
    /// Calls of one session that may wait for their answer here.
    pub max_calls: u32,
    /// Bytes of their payloads.
    pub max_call_bytes: u64,
}

impl Default for ContextOptions {
    fn default() -> ContextOptions {
        ContextOptions {
            name: String::new(),
            transports: transport::ALL,
            ways: way::ALL,
            devices: String::new(),
            memory_limit: 1 << 30,
            max_sessions: 10_000,
            max_exports: 100_000,
            keepalive: Duration::from_secs(3),
            max_message: 16 << 20,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::ZERO,
            secret: None,
            streams: true,
            max_calls: 1_024,
            max_call_bytes: 64 << 20,
        }
    }
}

/// Who makes a worker's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A thread of the engine.
    Threaded,
    /// Whoever calls `poll`.
    Polled,
}

/// Options of a worker.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Who makes progress.
    pub mode: Mode,
    /// Requests that may wait to be taken by the worker.
    pub submission_capacity: u32,
    /// Requests that may be accepted and not yet polled.
    pub completion_capacity: u32,
    /// How long an idle worker thread spins before it sleeps, at most: less while that is in vain.
    pub spin: Duration,
    /// Whether inbound calls are handed out; else they are answered `UNKNOWN_METHOD`.
    pub calls: bool,
}

impl Default for WorkerOptions {
    fn default() -> WorkerOptions {
        WorkerOptions {
            mode: Mode::Threaded,
            submission_capacity: 4_096,
            completion_capacity: 16_384,
            spin: Duration::from_micros(50),
            calls: false,
        }
    }
}
