//! Context, worker, listener, control connection, session, buffer, region.

pub mod account;
pub mod buffer;
pub mod export;
pub mod handle;
pub mod key;
mod memfd;
pub mod pool;
pub mod region;
pub mod request;
pub mod size_class;
pub mod slab;
