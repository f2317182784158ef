//! Context, worker, listener, control connection, session, buffer, region.

pub mod handle;
pub mod request;
