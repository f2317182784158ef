//! Stands in for the tier in builds without the feature `object-storage`: nothing of it can be opened.

use super::super::names::{FileName, Partition};
use super::super::options::Options;
use super::cache::Cache;
use super::ticket::Ticket;
use super::{Object, TierStats};
use crate::status::{Error, Result, Status};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

/// There is none.
#[derive(Debug)]
pub struct Tier(Infallible);

/// There is none.
#[derive(Clone, Debug)]
pub struct Remote(Infallible);

macro_rules! never {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $($(#[$doc])* pub fn $name(&self, $($argument: $type),*) -> $answer {
            $(let _ = $argument;)*
            match self.0 {}
        })*
    };
}

impl Tier {
    /// None, or `UNSUPPORTED` if the options name an object store.
    pub fn open(options: &Options) -> Result<Option<Arc<Tier>>> {
        if !options.cloud.is_on() {
            return Ok(None);
        }
        let what = "this build has no object storage: build it with the feature object-storage, or take cloud_store_path \
            out of the options";
        Err(Error::new(Status::Unsupported, what))
    }

    /// Never called.
    pub fn remote(self: &Arc<Tier>, _: &Partition, _: &Path) -> Remote {
        match self.0 {}
    }

    never! {
        /// Never called.
        stats() -> TierStats;
        /// Never called.
        cache() -> &Arc<Cache>;
        /// Never called.
        partitions() -> Ticket<Vec<Partition>>;
        /// Never called.
        prewarm() -> Ticket<u64>;
    }
}

impl Remote {
    never! {
        /// Never called.
        tier() -> &Arc<Tier>;
        /// Never called.
        is_held() -> bool;
        /// Never called.
        is_spent() -> bool;
        /// Never called.
        term(branch: &str) -> Ticket<u64>;
        /// Never called.
        verify() -> Ticket<()>;
        /// Never called.
        list() -> Ticket<Vec<Object>>;
        /// Never called.
        names() -> Ticket<Vec<FileName>>;
        /// Never called.
        contents(file: &FileName) -> Ticket<Option<Vec<u8>>>;
        /// Never called.
        exists(file: &FileName) -> Ticket<bool>;
        /// Never called.
        remove(file: &FileName) -> Ticket<()>;
        /// Never called.
        fetch(file: &FileName, again: bool) -> Ticket<()>;
        /// Never called.
        evicted(file: &FileName) -> Error;
        /// Never called.
        writing(file: &FileName, end: u64) -> ();
        /// Never called.
        upload(files: &[FileName]) -> Ticket<()>;
        /// Never called.
        publish(file: &FileName, bytes: Vec<u8>) -> Ticket<()>;
    }
}
