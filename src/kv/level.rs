//! An index page on the way to where the changes of a batch are.

use super::bounds::Bounds;
use super::child_table::ChildTable;
use super::index_page::IndexPage;
use super::page::PageId;
use super::source::Source;
use super::tree::Tree;
use crate::status::Result;

/// An index page: its children, and those that replace them as far as that is known.
#[derive(Debug)]
pub struct Level {
    /// The page.
    pub id: PageId,
    /// The smallest key that it may hold.
    pub from: Vec<u8>,
    /// Where its range ends; None for nowhere.
    pub until: Option<Vec<u8>>,
    /// Whether its children are data pages.
    pub leaf: bool,
    /// The children as they were.
    pub children: ChildTable,
    /// Children before this one are done.
    done: usize,
    /// What the done ones became, once one has changed.
    out: ChildTable,
    /// Whether one has.
    pub changed: bool,
}

impl Level {
    /// Reads an index page; its children go to the memory of `table`.
    pub async fn load<S: Source>(
        tree: &Tree<'_, S>,
        id: PageId,
        from: &[u8],
        until: Option<&[u8]>,
        mut table: ChildTable,
    ) -> Result<Level> {
        let page = tree.load(id).await?;
        let index = tree.sound(&page, IndexPage::parse(page.bytes.as_ref()))?;
        tree.sound(&page, index.table_into(from, until, &mut table))?;
        Ok(Level::new(id, from, until, index.is_leaf(), table))
    }

    /// A page whose children are as they were.
    pub fn new(id: PageId, from: &[u8], until: Option<&[u8]>, leaf: bool, children: ChildTable) -> Level {
        let (from, until) = (from.to_vec(), until.map(<[u8]>::to_vec));
        Level { id, from, until, leaf, children, done: 0, out: ChildTable::default(), changed: false }
    }

    /// Moves to the child whose range holds `key`.
    pub fn advance(&mut self, key: &[u8]) {
        // Most often it is this one or the next.
        let mut at = self.done;
        if self.ends_at(at).is_some_and(|end| end <= key) {
            at = self.children.find(key).max(at);
        }
        if self.changed {
            self.out.extend(&self.children, self.done..at);
        }
        self.done = at;
    }

    /// The child after those that are done.
    pub fn current(&self) -> PageId {
        self.children.id(self.done)
    }

    /// Where its range begins.
    pub fn current_from(&self) -> &[u8] {
        self.children.key(self.done)
    }

    /// Where its range ends; None for nowhere.
    pub fn current_until(&self) -> Option<&[u8]> {
        self.ends_at(self.done)
    }

    /// What this page says about it, when it is a data page.
    pub fn current_bounds(&self) -> Bounds<'_> {
        let next = self.has_next().then(|| self.children.id(self.done + 1));
        Bounds { from: self.current_from(), until: self.current_until(), next }
    }

    fn ends_at(&self, i: usize) -> Option<&[u8]> {
        if i + 1 < self.children.len() { Some(self.children.key(i + 1)) } else { self.until.as_deref() }
    }

    /// Whether a child follows the current one.
    pub fn has_next(&self) -> bool {
        self.done + 1 < self.children.len()
    }

    /// The current child stays as it is.
    pub fn keep(&mut self) {
        if self.changed {
            self.out.extend(&self.children, self.done..self.done + 1);
        }
        self.done += 1;
    }

    /// The current child is replaced.
    pub fn replace(&mut self, by: &ChildTable) {
        let same = by.len() == 1 && by.id(0) == self.current() && by.key(0) == self.current_from();
        if same {
            return self.keep();
        }
        self.change();
        self.out.extend(by, 0..by.len());
        self.done += 1;
    }

    fn change(&mut self) {
        if !self.changed {
            self.changed = true;
            self.out.extend(&self.children, 0..self.done);
        }
    }

    /// Takes over what another page's children became, which lies before this page's.
    pub fn join(&mut self, before: Level) {
        (self.from, self.out, self.changed) = (before.from, before.out, true);
    }

    /// What the children of a page that changed became, the others as they were.
    pub fn rest(&mut self) -> &ChildTable {
        self.change();
        self.out.extend(&self.children, self.done..self.children.len());
        self.done = self.children.len();
        &self.out
    }

    /// The tables' memory, for another page.
    pub fn into_tables(self) -> [ChildTable; 2] {
        [self.children, self.out]
    }
}
