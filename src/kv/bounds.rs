//! Whether a data page is the one that its index pages mean: what is right within each page can still be wrong between
//! them.

use super::damage::{Damage, Decoded};
use super::data_page::{DataPage, FIRST, NEXT};
use super::index_page::IndexPage;
use super::page::{NONE, PageId};
use super::source::Source;
use super::tree::{DEPTH, Loaded, Tree};
use crate::status::Result;

/// The keys that a data page may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds<'k> {
    /// Its keys are not below this; empty for the first page of a tree.
    pub from: &'k [u8],
    /// Its keys are below this; None for the last page of a tree.
    pub until: Option<&'k [u8]>,
    /// The data page after it, if the same index page names that too.
    pub next: Option<PageId>,
}

const OUTSIDE: &str = "a key is outside its page's range";

impl Bounds<'_> {
    /// Whether the page's keys lie within, and its link is right. Reads the page's last keys.
    pub fn hold(&self, page: &DataPage<'_>) -> Decoded<()> {
        self.hold_link(page)?;
        match page.edges()? {
            Some((first, last)) => self.hold_first(first).and_then(|()| self.hold_last(&last)),
            None => Ok(()),
        }
    }

    /// Whether the page links to the one after it, and the last one to none: an index page that leaves one out is seen.
    pub fn hold_link(&self, page: &DataPage<'_>) -> Decoded<()> {
        let link = page.next()?;
        let right = match (self.next, self.until) {
            (Some(next), _) => link == next,
            (None, until) => (link == NONE) == until.is_none(),
        };
        if right { Ok(()) } else { Err(Damage::new(NEXT, "a link is wrong, or an index page above")) }
    }

    /// Whether a page's first key lies within.
    pub fn hold_first(&self, first: &[u8]) -> Decoded<()> {
        if first < self.from { Err(Damage::new(FIRST, OUTSIDE)) } else { Ok(()) }
    }

    /// Whether a page's last key lies within.
    pub fn hold_last(&self, last: &[u8]) -> Decoded<()> {
        match self.until {
            Some(until) if last >= until => Err(Damage::new(FIRST, OUTSIDE)),
            _ => Ok(()),
        }
    }
}

impl<S: Source> Tree<'_, S> {
    /// An error if `leaf`, which lacks `key`, is not the page that would hold it. A key between two others of the page
    /// needs no more; else the way down is gone once more, over index pages that are in memory by now.
    pub(super) async fn confirm_absent(&self, leaf: &Loaded<S::Bytes>, key: &[u8]) -> Result<()> {
        let page = self.sound(leaf, DataPage::parse(leaf.bytes.as_ref()))?;
        let inside = |edges: Option<(&[u8], Vec<u8>)>| {
            edges.is_some_and(|(first, last)| first <= key && key <= last.as_slice())
        };
        if inside(self.sound(leaf, page.edges())?) {
            return Ok(());
        }
        let (mut id, mut from, mut until) = (self.manifest.root, Vec::new(), None);
        for _ in 0..DEPTH {
            let loaded = self.load(id).await?;
            let index = self.sound(&loaded, IndexPage::parse(loaded.bytes.as_ref()))?;
            let found = self.sound(&loaded, index.surrounded(key))?;
            let within = found.from.as_ref().is_none_or(|begin| *begin > from)
                && (until.is_none() || found.until.is_none() || found.until < until);
            if !within {
                let what = "a separator is outside its page's range";
                return self.sound(&loaded, Err(Damage::new(super::index_page::FIRST, what)));
            }
            (id, from, until) = (found.child, found.from.unwrap_or(from), found.until.or(until));
            if index.is_leaf() {
                let bounds = Bounds { from: &from, until: until.as_deref(), next: found.next };
                return self.sound(leaf, bounds.hold(&page));
            }
        }
        Err(self.too_deep(self.manifest.root))
    }
}
