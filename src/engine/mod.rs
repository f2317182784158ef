//! Context, worker, listener, control connection, session, buffer, region.

pub mod account;
pub mod bell;
pub mod buffer;
pub mod bytes;
pub mod call;
pub mod context;
pub mod control;
pub mod draft;
pub mod export;
pub mod fabric;
pub mod file;
pub mod frame;
pub mod handle;
pub mod import;
pub mod inbox;
pub mod info;
pub mod key;
pub mod keys;
pub mod listener;
pub mod memfd;
pub mod options;
pub mod pool;
#[cfg(test)]
mod random;
pub mod region;
pub mod request;
mod ring;
pub mod session;
pub mod size_class;
pub mod slab;
pub mod slots;
pub mod stream;
pub mod worker;
