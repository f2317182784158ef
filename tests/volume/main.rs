//! Volumes that a small writer made, read back: all versions, what happens under a reader, and what is damaged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod corpus;
mod hostile;
mod map;
mod model;
mod moving;
mod reading;
mod writer;
