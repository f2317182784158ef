//! The object storage tier: a store's files are objects, and its local directories a bounded cache of them.
//!
//! A commit is acknowledged when its data files, its manifest and the writer's term are safe in the object store
//! ([`remote`], [`term`]). No object ever changes but by growing, or is written by two writers, because each writer
//! has a term of its own and the term is part of every name; so a cached file can be old but never wrong.
//!
//! Without the feature `object-storage` there is none to be opened.
//!
//! [`cloud`] says where the objects are, [`objects`] and [`transfer`] move them, with deadlines; [`cache`] keeps the
//! local directories small, [`prewarm`] fills them. All of it runs on one thread of the tier's ([`worker`]), whose
//! answers are [`ticket`]s, for threads and tasks alike.

#[cfg(not(feature = "object-storage"))]
mod absent;
pub mod cache;
pub mod cloud;
#[cfg(feature = "object-storage")]
mod identity;
#[cfg(feature = "object-storage")]
mod objects;
#[cfg(feature = "object-storage")]
mod open;
#[cfg(feature = "object-storage")]
mod prewarm;
#[cfg(feature = "object-storage")]
mod remote;
#[cfg(feature = "object-storage")]
mod term;
pub mod ticket;
#[cfg(feature = "object-storage")]
mod transfer;
#[cfg(feature = "object-storage")]
mod worker;

#[cfg(not(feature = "object-storage"))]
pub use absent::{Remote, Tier};
#[cfg(feature = "object-storage")]
pub use open::Tier;
#[cfg(feature = "object-storage")]
pub use remote::Remote;

use super::names::FileName;

/// Times that a file is fetched for who wants to open it: others may evict it before.
pub(super) const FETCHES: usize = 8;

/// What a tier has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Objects that were uploaded.
    pub uploaded: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Data and segment files that were fetched.
    pub fetched: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Files that were evicted from the local directories.
    pub evicted: u64,
    /// Bytes of the files that are there now.
    pub cached_bytes: u64,
}

/// A file of the partition in the object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: FileName,
    /// Its bytes.
    pub bytes: u64,
    /// When it was written, in unix milliseconds.
    pub written_ms: i64,
}
