//! What changes mean in a partition's two trees: values are compressed and cut into pages, expiries are followed.

use super::apply::{Change, Effects};
use super::batch::{Action, Op};
use super::compress::{self, Dictionary};
use super::data_page::Entry;
use super::edit::Edit;
use super::overflow::Cut;
use super::packer::Cell;
use super::page::NONE;
use super::sink::Sink;
use super::tree::{Loaded, Tree};
use super::value::{Codec, Descriptor, LargeValue};
use crate::status::Result;
use std::borrow::Cow;

/// A change to the tree of expiries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    /// Big-endian expiry, then the user's key.
    key: Vec<u8>,
    live: bool,
}

impl Expiry {
    fn new(expire_ms: u64, key: &[u8], live: bool) -> Expiry {
        Expiry { key: [&expire_ms.to_be_bytes(), key].concat(), live }
    }
}

impl Change for Op {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn timestamp(&self) -> u64 {
        self.timestamp
    }
}

impl Change for Expiry {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn timestamp(&self) -> u64 {
        0
    }
}

/// Changes to entries. What they mean for the tree of expiries is collected.
#[derive(Debug)]
pub struct Entries<'w> {
    /// Compresses values.
    pub dictionary: Option<&'w Dictionary>,
    /// Whether values are compressed at all.
    pub compresses: bool,
    /// Entries that expire at or before this are gone, unix milliseconds.
    pub now_ms: u64,
    /// What the tree of expiries has to follow.
    pub expiries: Vec<Expiry>,
    /// How many changes took effect.
    pub applied: u64,
}

impl<'w> Entries<'w> {
    /// Changes as of `now_ms`; 0 takes nothing for expired.
    pub fn new(dictionary: Option<&'w Dictionary>, compresses: bool, now_ms: u64) -> Entries<'w> {
        Entries { dictionary, compresses, now_ms, expiries: Vec::new(), applied: 0 }
    }

    fn is_past(&self, expire_ms: u64) -> bool {
        expire_ms != 0 && expire_ms <= self.now_ms
    }
}

impl<S: Sink> Effects<S> for Entries<'_> {
    type Change = Op;

    async fn stage<'b>(&mut self, edit: &mut Edit<'_, S>, op: &'b Op) -> Result<Option<Cell<'b>>> {
        self.applied += 1;
        let (value, expire_ms, large) = match &op.action {
            Action::Upsert { value, expire_ms } => (value, expire_ms, None),
            Action::UpsertLarge { value, expire_ms, metadata } => {
                (value, expire_ms, Some(metadata.as_deref()))
            }
            Action::Delete => return Ok(None),
        };
        if self.is_past(*expire_ms) {
            return Ok(None);
        }
        let options = edit.options();
        let (codec, content): (Codec, Cow<'b, [u8]>) = match (large, options.compression) {
            (Some(metadata), _) => {
                let segments = edit.put_segments(value).await?;
                (Codec::Large, LargeValue { len: value.len(), segments, metadata }.encode().into())
            }
            (None, false) => (Codec::Raw, value.into()),
            (None, true) => match compress::encode(value, self.dictionary, compress::LEVEL)? {
                (codec, Some(stored)) => (codec, stored.into()),
                (codec, None) => (codec, value.into()),
            },
        };
        let expires = *expire_ms != 0;
        let descriptor = Descriptor { len: content.len(), overflow: false, expires, codec };
        let mut cell = Cell {
            key: (&op.key).into(),
            descriptor,
            content,
            expire_ms: *expire_ms,
            timestamp: op.timestamp,
        };
        if !cell.fits(options.page_size) {
            // Batches are refused whose very large values' entries do not fit.
            let cut = Cut { page_size: options.page_size, group: options.overflow_pointers };
            let ids =
                (0..cut.pages(cell.content.len())).map(|_| edit.new_id()).collect::<Result<Vec<_>>>()?;
            for (id, page) in cut.encode(&cell.content, &ids) {
                edit.put(id, page, super::page::Kind::Overflow).await?;
            }
            let first = ids.iter().take(options.overflow_pointers);
            cell.content = first.flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>().into();
            cell.descriptor.overflow = true;
            cell.descriptor.len = cell.content.len();
        }
        if expires {
            self.expiries.push(Expiry::new(*expire_ms, &op.key, true));
        }
        Ok(Some(cell))
    }

    async fn release(
        &mut self,
        edit: &mut Edit<'_, S>,
        tree: &Tree<'_, S>,
        leaf: &Loaded<S::Bytes>,
        key: &[u8],
        entry: &Entry<'_>,
    ) -> Result<()> {
        if entry.expire_ms != 0 {
            self.expiries.push(Expiry::new(entry.expire_ms, key, false));
        }
        if entry.descriptor.overflow {
            for id in tree.chain(leaf, entry).await? {
                edit.free(id)?;
            }
        }
        if entry.descriptor.codec == Codec::Large {
            for id in tree.large(leaf, entry)?.segments {
                edit.free_segment(id)?;
            }
        }
        Ok(())
    }

    fn is_spent(&self, entry: &Entry<'_>) -> bool {
        self.is_past(entry.expire_ms)
    }

    fn may_meet_spent(&self, tree: &Tree<'_, S>) -> bool {
        self.now_ms != 0 && tree.manifest.ttl_root != NONE
    }

    fn plain<'b>(&self, op: &'b Op) -> Option<Cell<'b>> {
        // Whether a value is compressed is decided once, when it is staged.
        match &op.action {
            Action::Upsert { value, expire_ms: 0 } if !self.compresses => {
                let len = value.len();
                let descriptor = Descriptor { len, overflow: false, expires: false, codec: Codec::Raw };
                let (key, content) = ((&op.key).into(), value.into());
                Some(Cell { key, descriptor, content, expire_ms: 0, timestamp: op.timestamp })
            }
            _ => None,
        }
    }

    fn took(&mut self, plain: u64) {
        self.applied += plain;
    }
}

/// Changes to the tree of expiries.
#[derive(Debug)]
pub struct Expiries;

impl Expiries {
    /// Collected changes in the order of the tree. An expiry that went and came back stays where it is.
    pub fn ordered(mut changes: Vec<Expiry>) -> Vec<Expiry> {
        changes.sort();
        let mut ordered: Vec<Expiry> = Vec::with_capacity(changes.len());
        for change in changes {
            match ordered.last() {
                Some(last) if last.key == change.key => {
                    ordered.pop();
                }
                _ => ordered.push(change),
            }
        }
        ordered
    }
}

impl<S: Sink> Effects<S> for Expiries {
    type Change = Expiry;

    async fn stage<'b>(&mut self, _: &mut Edit<'_, S>, change: &'b Expiry) -> Result<Option<Cell<'b>>> {
        let descriptor = Descriptor { len: 0, overflow: false, expires: false, codec: Codec::Raw };
        let key = (&change.key).into();
        Ok(change.live.then_some(Cell { key, descriptor, content: (&[]).into(), expire_ms: 0, timestamp: 0 }))
    }

    async fn release(
        &mut self,
        _: &mut Edit<'_, S>,
        _: &Tree<'_, S>,
        _: &Loaded<S::Bytes>,
        _: &[u8],
        _: &Entry<'_>,
    ) -> Result<()> {
        Ok(())
    }

    fn is_spent(&self, _: &Entry<'_>) -> bool {
        false
    }

    fn may_meet_spent(&self, _: &Tree<'_, S>) -> bool {
        false
    }

    /// Expiries come and go; none gets another value.
    fn plain<'b>(&self, _: &'b Expiry) -> Option<Cell<'b>> {
        None
    }

    fn took(&mut self, _: u64) {}
}
