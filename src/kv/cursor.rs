//! A place in a tree, moved from data page to data page.

use super::bounds::Bounds;
use super::child_table::ChildTable;
use super::damage::Damage;
use super::data_page::NEXT;
use super::index_page::IndexPage;
use super::packer::link;
use super::page::{self, Kind, NONE, PageId};
use super::scout::Scout;
use super::source::Source;
use super::tree::{DEPTH, Loaded, Tree};
use crate::status::Result;

/// A place in a tree: one data page, and the index pages above it.
pub struct Cursor<'t, 'a, S: Source> {
    tree: &'t Tree<'a, S>,
    root: PageId,
    path: Vec<Level>,
    /// Data pages that are to be announced ahead: more, the longer the walk goes on.
    ahead: usize,
    /// Data pages that are announced.
    lead: usize,
    scout: Option<Scout>,
    /// The id of the data page that it was last at.
    id: PageId,
    /// The data page that the cursor is at; None before the first, after the last, and in an empty tree.
    pub leaf: Option<Loaded<S::Bytes>>,
}

/// An index page on the way: its children with their separators, and the one that was taken.
struct Level {
    children: ChildTable,
    at: usize,
    leaf: bool,
}

/// Data pages that a long walk announces ahead, and how many at a time.
const AHEAD: usize = 256;
const TOGETHER: usize = 64;

impl<'t, 'a, S: Source> Cursor<'t, 'a, S> {
    /// A cursor that is nowhere yet.
    pub fn new(tree: &'t Tree<'a, S>, root: PageId) -> Cursor<'t, 'a, S> {
        Cursor { tree, root, path: Vec::new(), ahead: 0, lead: 0, scout: None, id: NONE, leaf: None }
    }

    /// To the data page whose range holds `key`.
    pub async fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.path.clear();
        (self.leaf, self.scout, self.lead) = (None, None, 0);
        if self.root == NONE {
            return Ok(());
        }
        let root = self.level(self.root, &[], None).await?;
        self.path.push(root);
        self.descend(|children| children.find(key)).await
    }

    /// To the last data page.
    pub async fn seek_last(&mut self) -> Result<()> {
        self.path.clear();
        (self.leaf, self.scout, self.lead) = (None, None, 0);
        if self.root == NONE {
            return Ok(());
        }
        let root = self.level(self.root, &[], None).await?;
        self.path.push(root);
        self.descend(|children| children.len() - 1).await
    }

    /// To the data page after this one; nowhere after the last.
    pub async fn forward(&mut self) -> Result<()> {
        let left = self.leaf.take();
        self.ahead = (self.ahead * 2).clamp(2, AHEAD);
        self.lead = self.lead.saturating_sub(1);
        while let Some(last) = self.path.last_mut() {
            if last.at + 1 < last.children.len() {
                last.at += 1;
                if last.leaf {
                    self.announce().await;
                }
                self.enter(|_| 0).await?;
                return self.linked(left.as_ref(), self.id);
            }
            self.path.pop();
        }
        Ok(())
    }

    async fn announce(&mut self) {
        let scout = self.scout.get_or_insert_with(|| {
            let ids = |level: &Level| level.children.ids().to_vec();
            Scout::new(self.path.iter().map(|level| (ids(level), level.at)))
        });
        while self.lead + TOGETHER.min(self.ahead) <= self.ahead {
            match scout.announce(self.tree, self.ahead - self.lead).await {
                // There are no more.
                None => self.lead = usize::MAX / 2,
                Some(0) => return,
                Some(announced) => self.lead += announced,
            }
        }
    }

    /// To the data page before this one; nowhere before the first.
    pub async fn back(&mut self) -> Result<()> {
        self.leaf = None;
        while let Some(last) = self.path.last_mut() {
            if last.at > 0 {
                last.at -= 1;
                let after = self.id;
                self.enter(|children| children.len() - 1).await?;
                return self.linked(self.leaf.as_ref(), after);
            }
            self.path.pop();
        }
        Ok(())
    }

    /// What the index pages say about the data page that the cursor is at.
    pub fn bounds(&self) -> Bounds<'_> {
        let from = self.path.last().map_or(&[][..], |level| level.children.key(level.at));
        let has_next = |level: &&Level| level.at + 1 < level.children.len();
        let until = self.path.iter().rev().find(has_next).map(|level| level.children.key(level.at + 1));
        let next = self.path.last().filter(has_next).map(|level| level.children.id(level.at + 1));
        Bounds { from, until, next }
    }

    async fn descend(&mut self, pick: impl Fn(&ChildTable) -> usize) -> Result<()> {
        if let Some(last) = self.path.last_mut() {
            last.at = pick(&last.children);
        }
        self.enter(pick).await
    }

    /// Goes down from the child that the last level is at.
    async fn enter(&mut self, pick: impl Fn(&ChildTable) -> usize) -> Result<()> {
        while let Some(last) = self.path.last() {
            let id = last.children.id(last.at);
            if last.leaf {
                self.leaf = Some(self.tree.load(id).await?);
                self.id = id;
                return Ok(());
            }
            if self.path.len() >= DEPTH {
                return Err(self.tree.too_deep(self.root));
            }
            let mut level = self.level(id, last.children.key(last.at), self.bounds().until).await?;
            level.at = pick(&level.children);
            self.path.push(level);
        }
        Ok(())
    }

    /// Whether a data page links to the one after it: an index page that leaves one out is seen.
    fn linked(&self, leaf: Option<&Loaded<S::Bytes>>, to: PageId) -> Result<()> {
        let Some(leaf) = leaf else { return Ok(()) };
        let page = leaf.bytes.as_ref();
        match page::kind(page) == Ok(Kind::Data) && link(page, NEXT) != to {
            true => self.tree.sound(leaf, Err(Damage::new(NEXT, "a link is wrong, or an index page above"))),
            false => Ok(()),
        }
    }

    async fn level(&self, id: PageId, from: &[u8], until: Option<&[u8]>) -> Result<Level> {
        let page = self.tree.load(id).await?;
        let index = self.tree.sound(&page, IndexPage::parse(page.bytes.as_ref()))?;
        let children = self.tree.sound(&page, index.table(from, until))?;
        Ok(Level { children, at: 0, leaf: index.is_leaf() })
    }
}
