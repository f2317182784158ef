//! The only Rust that touches UCX: library, context, worker, endpoint, message, pending operation, memory, status.
//!
//! UCX is loaded at run time ([`library()`]); a [`Context`] opens transports and devices, a [`Worker`] owns endpoints,
//! operations in flight and received messages. Nothing here calls user code: a callback of UCX only records, and the
//! owner takes what was recorded with `next_message`, `next_completed` and `next_failure`.
//!
//! Memory that UCX reads or writes is owned by the worker from the call until the operation has ended; see [`Pinned`].

pub mod context;
mod core;
pub mod endpoint;
pub mod library;
pub mod memory;
pub mod message;
mod operation;
pub mod pending;
mod registry;
pub mod status;
pub mod worker;

pub use context::{Context, ContextConfig};
pub use endpoint::{Close, EndpointId, RkeyId};
pub use library::{Library, library, settings};
pub use memory::{Memory, Pinned};
pub use message::{Data, Eager, Message, Rendezvous};
pub use pending::{Completed, Kind, Protocol, Started};
pub use status::UcsStatus;
pub use worker::{Signal, Worker, leaked};
