//! The links between data pages while a batch replaces some of them.
//!
//! Pages arrive in the order of their keys. The last one is held back until its neighbour's fate is known, so that
//! every page is written once, and untouched neighbours are rewritten only when a link of theirs changes.

use super::damage::Damage;
use super::data_page::{DataPage, NEXT, PREVIOUS};
use super::edit::Edit;
use super::packer::{link, set_link};
use super::page::{Kind, NONE, PageId};
use super::sink::Sink;
use super::tree::Tree;
use crate::status::Result;

/// What is known about the place in the chain where the batch is.
#[derive(Debug)]
pub struct Chain {
    /// The page before the place, not written yet.
    left: Option<(PageId, Vec<u8>)>,
    /// The id of the page before the place.
    before: PageId,
    /// The page after the place.
    right: PageId,
    /// Whether the right page's link back is wrong.
    stale: bool,
    /// The page that is being replaced.
    old: PageId,
    replaced: bool,
    started: bool,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain {
            left: None,
            before: NONE,
            right: NONE,
            stale: false,
            old: NONE,
            replaced: false,
            started: false,
        }
    }
}

impl Chain {
    /// Begins to replace page `old`, whose links are these. For the first pages of a tree all three are `NONE`.
    pub async fn begin<S: Sink>(
        &mut self,
        edit: &mut Edit<'_, S>,
        tree: &Tree<'_, S>,
        old: PageId,
        (previous, next): (PageId, PageId),
    ) -> Result<()> {
        let mut adjacent = self.started && self.right == old;
        if !adjacent {
            self.settle(edit, tree, old).await?;
            adjacent = self.left.is_some();
        }
        self.before = match (&self.left, adjacent) {
            (Some((id, _)), _) => *id,
            (None, true) => NONE,
            (None, false) => previous,
        };
        (self.old, self.right, self.stale, self.replaced, self.started) = (old, next, false, false, true);
        Ok(())
    }

    /// The next page in the place of the old one; the first keeps the old id.
    pub async fn push<S: Sink>(
        &mut self,
        edit: &mut Edit<'_, S>,
        id: PageId,
        mut page: Vec<u8>,
    ) -> Result<()> {
        set_link(&mut page, PREVIOUS, self.before);
        set_link(&mut page, NEXT, self.right);
        if let Some((left, mut left_page)) = self.left.replace((id, page)) {
            set_link(&mut left_page, NEXT, id);
            edit.put(left, left_page, Kind::Data).await?;
        }
        (self.before, self.stale, self.replaced) = (id, id != self.old, true);
        Ok(())
    }

    /// Ends the replacement; without any page pushed the old one is gone.
    pub async fn end<S: Sink>(&mut self, tree: &Tree<'_, S>) -> Result<()> {
        if self.replaced {
            return Ok(());
        }
        self.stale = true;
        if self.left.is_none() && self.before != NONE {
            self.left = Some((self.before, neighbour(tree, self.before, NEXT, self.old).await?));
        }
        if let Some((_, page)) = &mut self.left {
            set_link(page, NEXT, self.right);
        }
        Ok(())
    }

    /// Writes what is held back. The place is then before page `until`; `NONE` ends the batch.
    pub async fn settle<S: Sink>(
        &mut self,
        edit: &mut Edit<'_, S>,
        tree: &Tree<'_, S>,
        until: PageId,
    ) -> Result<()> {
        if self.stale && self.right != NONE {
            let id = self.right;
            let mut page = neighbour(tree, id, PREVIOUS, self.old).await?;
            let before = self.left.as_ref().map_or(NONE, |(id, _)| *id);
            set_link(&mut page, PREVIOUS, before);
            self.right = link(&page, NEXT);
            if let Some((left, left_page)) = self.left.replace((id, page)) {
                edit.put(left, left_page, Kind::Data).await?;
            }
            self.stale = false;
            if self.right == until && until != NONE {
                return Ok(());
            }
        }
        if let Some((left, page)) = self.left.take() {
            edit.put(left, page, Kind::Data).await?;
        }
        self.stale = false;
        Ok(())
    }
}

/// A data page whose link at `at` is about to change: it must lead to `old`, or the page is not what it is taken for.
async fn neighbour<S: Sink>(tree: &Tree<'_, S>, id: PageId, at: usize, old: PageId) -> Result<Vec<u8>> {
    let loaded = tree.load(id).await?;
    tree.sound(&loaded, DataPage::parse(loaded.bytes.as_ref()))?;
    let page = loaded.bytes.as_ref().to_vec();
    match link(&page, at) == old {
        true => Ok(page),
        false => tree.sound(&loaded, Err(Damage::new(at, "a link between data pages leads nowhere"))),
    }
}
