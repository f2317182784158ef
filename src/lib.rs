//! The data plane of a storage program, linked into its own process: registered memory, one-sided get and put,
//! messages, over UCX (InfiniBand/RoCE, shared memory, TCP).
//!
//! The map, arrows going one way: `ffi → {needles, rpc, volume, kv} → engine → ucx`, and `{volume, kv} → io`.
//!
//! - [`status`](mod@status): every status, in one table
//! - [`limits`](mod@limits): every bound, with its reason
//! - [`ucx`](mod@ucx): the only Rust that touches UCX
//! - [`engine`](mod@engine): context, worker, listener, control connection, session, buffer, region
//! - [`rpc`](mod@rpc): servers with handlers, clients with pooled connections
//! - [`telemetry`](mod@telemetry): counters, histograms, tracing
//! - [`io`](mod@io): disk
//! - [`volume`](mod@volume): SeaweedFS volumes
//! - [`needles`](mod@needles): SeaweedFS needles for other processes, by calls
//! - [`kv`](mod@kv): the key-value store
//! - [`ffi`](mod@ffi): the C ABI, one file for each section of the header

// Of the library only: a test says what failed by panicking.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod crc32c;
pub mod engine;
#[doc(hidden)]
pub mod fault;
pub mod ffi;
pub mod io;
pub mod kv;
pub mod limits;
pub mod needles;
pub mod rpc;
pub mod status;
pub mod telemetry;
pub mod ucx;
pub mod volume;

pub use status::{Error, Result, Status};
