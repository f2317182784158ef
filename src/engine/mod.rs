//! Context, worker, listener, control connection, session, buffer, region.

pub mod control;
pub mod inbox;
pub mod request;
