//! What a shard counts. Written by its thread, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread changes.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it. From the shard's thread only.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Replaces it. From the shard's thread only.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident)*) => {
        /// A shard's counters.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Count,)*
        }

        /// Counters of all shards, added up.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            /// Adds a shard's.
            pub(super) fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.get();)*
            }
        }
    };
}

counters! {
    /// Requests that were completed.
    completed
    /// Pages found in memory.
    hits
    /// Pages read from disk.
    pages_read
    /// Pages in the cache now.
    cached_pages
    /// Pages of the pool in use now: cached, being read, or held by a request.
    pool_pages
    /// The most that `pool_pages` ever was.
    pool_pages_most
    /// Bytes written to data and segment files.
    data_bytes
    /// Bytes written to manifests and archives.
    manifest_bytes
    /// Bytes written to write logs.
    log_bytes
    /// Partitions that are open now.
    open_partitions
    /// Files that are open now.
    open_files
    /// Commits of compaction, cleaning and archiving that the engine began itself.
    upkeep
    /// Upkeep that failed; the log says why.
    upkeep_failed
}
