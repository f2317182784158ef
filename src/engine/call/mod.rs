//! Calls: what travels with one, what arrives, and how it is answered.
//!
//! - [`Header`], [`Once`]: the typed header of every call and reply, and what makes a call happen once
//! - [`Piece`]: a part of a payload
//! - [`Call`]: an inbound call that must be answered; handles of them for C
//! - [`Reply`]: what it is answered with

mod header;
mod inbound;
mod kept;
mod piece;
mod reply;
pub mod short;
mod slots;
mod table;

pub use header::{HEADER, Header, ONCE, Once};
pub use inbound::{Call, CallInfo};
pub(in crate::engine) use inbound::{Inbound, Payload};
pub(in crate::engine) use kept::{Kept, OnceTable, Verdict};
pub use piece::Piece;
pub(in crate::engine) use piece::Source;
pub use reply::Reply;
pub(in crate::engine) use reply::{Answer, gather};
pub use slots::OnceSlots;
pub use table::{CALLS, Calls};
