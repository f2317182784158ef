//! What an engine is asked, and what it answers.

use crate::kv::batch::{Batch, Op, Order};
use crate::kv::packed::Packed;
use crate::kv::scan::{Large, Range, Scanned};
use crate::kv::tree::Found;
use crate::status::Result;

/// A request to one partition.
#[derive(Clone, Debug)]
pub enum Request {
    /// The entry with exactly this key.
    Read {
        /// The key.
        key: Vec<u8>,
    },
    /// The entry with the largest key that is at most this.
    Floor {
        /// The key.
        key: Vec<u8>,
    },
    /// The entries of a range. `NOT_FOUND`: there is no such partition; one without entries answers with none.
    Scan(Scan),
    /// The entries of a range in one piece of memory: what many of them are best read with.
    ScanPacked(Scan),
    /// A batch, applied all or none.
    Write {
        /// The changes.
        ops: Vec<Op>,
        /// What to do if their keys do not ascend.
        order: Order,
    },
    /// Deletes all keys from a position on; an empty one empties the partition.
    Truncate {
        /// The first key that goes.
        position: Vec<u8>,
    },
    /// Removes the partition.
    Drop,
    /// Keeps the partition as it is under a name.
    Archive {
        /// The name.
        tag: String,
    },
    /// Forgets an archive; one that is not there is forgotten already.
    ForgetArchive {
        /// Its name.
        tag: String,
    },
    /// Names of archives.
    Archives,
    /// Starts a branch from what the partition, or branch, is now. Append mode only.
    CreateBranch {
        /// Its name: letters, digits and `-`. In lower case.
        name: String,
    },
    /// Removes a branch of the partition, neither `main` nor the one that is asked.
    DeleteBranch {
        /// Its name.
        name: String,
    },
    /// Names of the partition's branches, `main` among them.
    Branches,
    /// Moves live pages out of sparse files, then collects files. Append mode only.
    Compact,
    /// Removes files that nothing refers to.
    Collect,
    /// Deletes what has expired.
    CleanExpired,
    /// Closes the partition and opens it again with the next request: after a failed commit.
    Reopen,
}

/// A range of keys and how much of it to return at once; it owns its keys.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Where it begins.
    pub begin: Vec<u8>,
    /// Where it ends; empty for the end of the partition.
    pub end: Vec<u8>,
    /// Whether `begin` itself belongs to it.
    pub begin_inclusive: bool,
    /// Whether `end` itself belongs to it.
    pub end_inclusive: bool,
    /// Entries to return at most; 0 for any number.
    pub max_entries: usize,
    /// Bytes to return at most; 0 for any number. One entry is always returned.
    pub max_bytes: usize,
    /// What to do with very large values.
    pub large: Large,
    /// Whether the last entries come first.
    pub backward: bool,
}

impl Default for Scan {
    fn default() -> Scan {
        Scan {
            begin: Vec::new(),
            end: Vec::new(),
            begin_inclusive: true,
            end_inclusive: false,
            max_entries: 0,
            max_bytes: 4 << 20,
            large: Large::Refuse,
            backward: false,
        }
    }
}

impl Scan {
    pub(super) fn range(&self) -> Range<'_> {
        Range {
            begin: &self.begin,
            end: &self.end,
            begin_inclusive: self.begin_inclusive,
            end_inclusive: self.end_inclusive,
            max_entries: self.max_entries,
            max_bytes: self.max_bytes,
            large: self.large,
            backward: self.backward,
        }
    }
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of reads and floors; None if there is no such entry.
    Found(Option<Found>),
    /// Of scans.
    Scanned(Scanned),
    /// Of packed scans.
    Packed {
        /// The entries.
        entries: Packed,
        /// There is more: scan again with `begin` (backward: `end`) the last key, not inclusive.
        remaining: bool,
    },
    /// Changes that took effect, keys that went, pages that moved, files that were removed.
    Count(u64),
    /// Of `Archives` and `Branches`, sorted.
    Names(Vec<String>),
    /// There is nothing else to say.
    Done,
}

/// The one end of a request.
#[derive(Debug)]
pub struct Completion {
    /// What was given with the request.
    pub user_data: u64,
    /// How it ended.
    pub result: Result<Answer>,
}

/// A request whose batch has been checked.
#[derive(Debug)]
pub(super) enum Job {
    Write(Batch),
    /// A read, with memory for the value from the thread that will free it: to free what another thread allocated
    /// makes both wait for each other.
    Read {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Other(Request),
}

impl Job {
    /// Whether it waits for its partition's writer.
    pub fn writes(&self) -> bool {
        !matches!(
            self,
            Job::Read { .. }
                | Job::Other(
                    Request::Floor { .. }
                        | Request::Scan(_)
                        | Request::ScanPacked(_)
                        | Request::Archives
                        | Request::Branches
                )
        )
    }
}
