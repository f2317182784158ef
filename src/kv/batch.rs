//! Batches of changes to one partition, checked before anything is touched.

use super::options::Options;
use super::packer::TIMESTAMP_MAX;
use crate::status::{Error, Result, Status};

/// What happens to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It gets this value.
    Upsert {
        /// The value.
        value: Vec<u8>,
        /// When it expires, unix milliseconds; 0 never. One that has passed makes this a delete.
        expire_ms: u64,
    },
    /// It gets this very large value, which lives in segments of its own and is never compressed.
    UpsertLarge {
        /// The value.
        value: Vec<u8>,
        /// What comes with it; `None` differs from empty. Below 64 KiB, and small enough for the entry's page.
        metadata: Option<Vec<u8>>,
        /// When it expires, unix milliseconds; 0 never.
        expire_ms: u64,
    },
    /// It goes, and leaves nothing behind: a later upsert with an older timestamp succeeds.
    Delete,
}

impl Action {
    /// The value that it puts there; empty for a delete.
    pub fn value(&self) -> &[u8] {
        match self {
            Action::Upsert { value, .. } | Action::UpsertLarge { value, .. } => value,
            Action::Delete => &[],
        }
    }
}

/// A change to one key. It takes effect unless the key holds a newer timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// The key: not empty, at most half a page.
    pub key: Vec<u8>,
    /// What happens to it.
    pub action: Action,
    /// When the caller says that this is, in a unit of its own; at most 2^63-1, larger ones are clamped.
    pub timestamp: u64,
}

impl Op {
    fn check(&self, options: &Options) -> Result<()> {
        let invalid = |what| Err(Error::new(Status::InvalidArgument, what));
        let (value, metadata) = match &self.action {
            Action::Upsert { value, .. } => (value, None),
            Action::UpsertLarge { value, metadata, .. } => {
                (value, Some(metadata.as_deref().unwrap_or_default()))
            }
            Action::Delete => return Ok(()),
        };
        if value.len() > options.value_limit {
            return invalid(format!(
                "a value has {} bytes; the limit is {}",
                value.len(),
                options.value_limit
            ));
        }
        let Some(metadata) = metadata else { return Ok(()) };
        let segments = value.len().div_ceil(options.segment_size);
        let entry = ENTRY + self.key.len() + 4 * segments + metadata.len();
        if entry > options.page_size || metadata.len() > usize::from(u16::MAX) || value.len() >= 1 << 31 {
            return invalid(format!(
                "a very large value of {} bytes with {} of metadata does not fit its entry: use larger segments",
                value.len(),
                metadata.len()
            ));
        }
        Ok(())
    }
}

/// Bytes that a page and an entry take at most beside key, segment ids and metadata.
const ENTRY: usize = 64;

/// What to do with a batch whose keys do not ascend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Refuse it.
    Refuse,
    /// Sort it; of equal keys the newest timestamp counts, of equal timestamps the last.
    Sort,
}

/// Changes with ascending, unique keys. They are applied all or none.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    /// A batch for a store with these options.
    pub fn new(mut ops: Vec<Op>, order: Order, options: &Options) -> Result<Batch> {
        let limit = options.key_limit();
        if let Some(op) = ops.iter().find(|op| op.key.is_empty() || op.key.len() > limit) {
            let what = format!("a key has {} bytes; they must be 1 to {limit}", op.key.len());
            return Err(Error::new(Status::InvalidArgument, what));
        }
        for op in &mut ops {
            op.timestamp = op.timestamp.min(TIMESTAMP_MAX);
            op.check(options)?;
        }
        if !ops.is_sorted_by(|a, b| a.key < b.key) {
            if order == Order::Refuse {
                let what = "keys of a batch must ascend and be unique; sort them, or ask for it";
                return Err(Error::new(Status::InvalidArgument, what));
            }
            sort(&mut ops);
        }
        Ok(Batch { ops })
    }

    /// Deletes of keys that were read. They may be longer than ours: EloqStore does not refuse long ones.
    pub(super) fn of_known(mut ops: Vec<Op>) -> Batch {
        sort(&mut ops);
        Batch { ops }
    }

    /// The changes in the order of their keys.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }
}

/// Of equal keys the newest is kept, of equal timestamps the last.
fn sort(ops: &mut Vec<Op>) {
    // Stable: of equal keys and timestamps the last stays last, and the later of a pair is the one kept.
    ops.sort_by(|a, b| a.key.cmp(&b.key).then(a.timestamp.cmp(&b.timestamp)));
    ops.reverse();
    ops.dedup_by(|later, kept| later.key == kept.key);
    ops.reverse();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(key: &str, timestamp: u64, value: &str) -> Op {
        let action = Action::Upsert { value: value.into(), expire_ms: 0 };
        Op { key: key.into(), action, timestamp }
    }

    #[test]
    fn disorder_is_refused_or_sorted() {
        let options = Options::default();
        let ops = vec![op("b", 1, "x"), op("a", 5, "new"), op("a", 3, "old"), op("b", 1, "y")];
        let error = Batch::new(ops.clone(), Order::Refuse, &options).unwrap_err();
        assert_eq!(error.status, Status::InvalidArgument);
        let sorted = Batch::new(ops, Order::Sort, &options).unwrap();
        assert_eq!(sorted.ops(), [op("a", 5, "new"), op("b", 1, "y")]);
        let twice = vec![op("a", 1, ""), op("a", 2, "")];
        assert!(Batch::new(twice, Order::Refuse, &options).is_err());
    }

    #[test]
    fn keys_and_values_have_limits() {
        let options = Options { value_limit: 10, ..Options::default() };
        assert!(Batch::new(vec![op("", 1, "")], Order::Sort, &options).is_err());
        assert!(Batch::new(vec![op(&"k".repeat(2048), 1, "")], Order::Sort, &options).is_ok());
        assert!(Batch::new(vec![op(&"k".repeat(2049), 1, "")], Order::Sort, &options).is_err());
        assert!(Batch::new(vec![op("k", 1, "12345678901")], Order::Sort, &options).is_err());
        let clamped = Batch::new(vec![op("k", u64::MAX, "")], Order::Sort, &options).unwrap();
        assert_eq!(clamped.ops()[0].timestamp, TIMESTAMP_MAX);
    }
}
