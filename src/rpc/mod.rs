//! Calls the way a service wants them: a [`Server`] with a handler for each method, and a [`Client`] with one connection
//! to each peer, which it makes, shares, remakes and gives up on.
//!
//! What travels is the engine's ([`Header`], [`Piece`], [`Call`]): a program may use one end of this and the other of its
//! own, in C too.

mod answer;
mod client;
mod hub;
mod lent;
mod methods;
mod once;
mod peers;
mod pool;
mod server;

pub use crate::engine::call::{Call, Header, Once, Piece, Reply};
pub use answer::{Answer, Body, Part};
pub use client::{Client, ClientOptions, Outgoing, Replied, Ticket};
pub use lent::{Lent, writable};
pub use methods::{Methods, Resume};
pub use server::{Server, ServerOptions};
