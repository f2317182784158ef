//! Applies sorted changes to a tree: new data pages, then the index pages above them.

mod leaf;

use super::chain::Chain;
use super::child_table::ChildTable;
use super::damage::corrupted;
use super::data_page::Entry;
use super::edit::Edit;
use super::index_builder;
use super::level::Level;
use super::packer::Cell;
use super::page::{Kind, NONE, PageId};
use super::replacement::Carry;
use super::sink::Sink;
use super::tree::{DEPTH, Loaded, Tree};
use crate::status::Result;

/// A change as the tree sees it: its value is staged when it takes effect.
pub trait Change {
    /// The key.
    fn key(&self) -> &[u8];
    /// When the caller says that this is.
    fn timestamp(&self) -> u64;
}

/// What a tree's changes mean.
#[allow(async_fn_in_trait, reason = "one shard's executor runs these; they never move between threads")]
pub trait Effects<S: Sink> {
    /// What changes.
    type Change: Change;

    /// The entry that a change puts in the place of what its key had; None for none.
    async fn stage<'b>(
        &mut self,
        edit: &mut Edit<'_, S>,
        change: &'b Self::Change,
    ) -> Result<Option<Cell<'b>>>;

    /// An entry goes: what it refers to is freed.
    async fn release(
        &mut self,
        edit: &mut Edit<'_, S>,
        tree: &Tree<'_, S>,
        leaf: &Loaded<S::Bytes>,
        key: &[u8],
        entry: &Entry<'_>,
    ) -> Result<()>;

    /// Whether an entry that is met on the way may go.
    fn is_spent(&self, entry: &Entry<'_>) -> bool;

    /// Whether any entry of the tree may be such a one.
    fn may_meet_spent(&self, tree: &Tree<'_, S>) -> bool;

    /// What `stage` would return, if nothing has to be written or noted for it.
    fn plain<'b>(&self, change: &'b Self::Change) -> Option<Cell<'b>>;

    /// So many plain cells were used.
    fn took(&mut self, plain: u64);
}

/// One tree being changed.
pub struct Apply<'x, 'w, S: Sink, E> {
    edit: &'x mut Edit<'w, S>,
    tree: &'x Tree<'x, S>,
    effects: &'x mut E,
    chain: Chain,
    path: Vec<Level>,
    carry: Option<Carry>,
    /// Memory for the next tables, and for the keys of the next page.
    tables: Vec<ChildTable>,
    keys: Vec<u8>,
}

impl<'x, 'w, S: Sink, E: Effects<S>> Apply<'x, 'w, S, E> {
    /// Applies changes with ascending, unique keys to the tree of `root`, and returns its new root.
    pub async fn run(
        edit: &'x mut Edit<'w, S>,
        tree: &'x Tree<'x, S>,
        effects: &'x mut E,
        root: PageId,
        changes: &[E::Change],
    ) -> Result<PageId> {
        if changes.is_empty() {
            return Ok(root);
        }
        let (chain, path, tables, keys) = (Chain::default(), Vec::new(), Vec::new(), Vec::new());
        let mut apply = Apply { edit, tree, effects, chain, path, carry: None, tables, keys };
        let children = if root == NONE {
            let leaves = apply.fill(changes).await?;
            apply.build(&leaves, &[], Kind::Leaf, None).await?
        } else {
            apply.change(root, changes).await?
        };
        apply.chain.settle(apply.edit, apply.tree, NONE).await?;
        apply.grow(children).await
    }

    /// Walks down to every page that changes, in the order of keys, and up again when a subtree is done.
    async fn change(&mut self, root: PageId, changes: &[E::Change]) -> Result<ChildTable> {
        let table = self.tables.pop().unwrap_or_default();
        let level = Level::load(self.tree, root, &[], None, table).await?;
        self.path.push(level);
        let mut rest = changes;
        while let (Some(next), Some(lowest)) = (rest.first(), self.path.last_mut()) {
            if lowest.until.as_deref().is_some_and(|until| until <= next.key()) {
                self.close().await?;
                continue;
            }
            lowest.advance(next.key());
            if lowest.leaf {
                rest = self.leaves(rest).await?;
                continue;
            }
            if self.path.len() >= DEPTH {
                return Err(self.tree.too_deep(root));
            }
            self.descend().await?;
        }
        while self.path.len() > 1 {
            self.close().await?;
        }
        match self.path.pop() {
            Some(root) => self.seal(root, true).await.map(Option::unwrap_or_default),
            None => Ok(ChildTable::default()),
        }
    }

    /// Changes the data page that the lowest level is at, and those after it as long as one is left nearly empty;
    /// returns the changes after them.
    async fn leaves<'b>(&mut self, mut rest: &'b [E::Change]) -> Result<&'b [E::Change]> {
        loop {
            let Some(level) = self.path.last() else { return Ok(rest) };
            let end = match level.current_until() {
                Some(until) => rest.iter().take_while(|change| change.key() < until).count(),
                None => rest.len(),
            };
            let (these, after) = rest.split_at(end);
            let replaced = self.leaf(these).await?;
            rest = after;
            let Some(level) = self.path.last_mut() else { return Ok(rest) };
            match replaced {
                None => level.keep(),
                Some(by) => {
                    level.replace(&by);
                    self.tables.push(by);
                }
            }
            if self.carry.is_none() {
                return Ok(rest);
            }
        }
    }

    /// Goes down to the child that the lowest level is at.
    async fn descend(&mut self) -> Result<()> {
        let table = self.tables.pop().unwrap_or_default();
        let Some(above) = self.path.last() else { return Ok(()) };
        let (id, from, until) = (above.current(), above.current_from(), above.current_until());
        let below = Level::load(self.tree, id, from, until, table).await?;
        self.path.push(below);
        Ok(())
    }

    /// Ends the lowest level and tells the one above what became of it. One that is left nearly empty is joined to the
    /// one after it, which is then the lowest.
    async fn close(&mut self) -> Result<()> {
        let Some(mut level) = self.path.pop() else { return Ok(()) };
        let next = self.path.last().is_some_and(Level::has_next);
        if next && level.changed && self.is_small(&mut level) {
            self.edit.free(level.id)?;
            let Some(above) = self.path.last_mut() else { return Ok(()) };
            above.replace(&ChildTable::default());
            self.descend().await?;
            let Some(joined) = self.path.last_mut() else { return Ok(()) };
            if joined.leaf != level.leaf {
                let what = "index pages of one level have children of different kinds";
                let what = format_args!("page {}: {what}", joined.id);
                return Err(corrupted(self.tree.manifest_name(), 0, what));
            }
            joined.join(level);
            return Ok(());
        }
        let replaced = self.seal(level, false).await?;
        match (self.path.last_mut(), replaced) {
            (Some(above), Some(by)) => above.replace(&by),
            (Some(above), None) => above.keep(),
            (None, _) => {}
        }
        Ok(())
    }

    /// Whether an index page would be less than a quarter full.
    fn is_small(&self, level: &mut Level) -> bool {
        let options = self.edit.options();
        let out = level.rest();
        let len = index_builder::encoded_len(out, options.index_restart_interval);
        len < options.page_size / 4 && !out.is_empty()
    }

    /// Writes an index page anew if its children changed, and returns what replaces it; None for itself, unless it is
    /// the root.
    async fn seal(&mut self, mut level: Level, root: bool) -> Result<Option<ChildTable>> {
        let replaced = if !level.changed {
            root.then(|| ChildTable::one(&level.from, level.id))
        } else if root && !level.leaf && level.rest().len() == 1 {
            // A root with one index page below it is not needed.
            self.edit.free(level.id)?;
            Some(level.rest().clone())
        } else {
            let kind = if level.leaf { Kind::Leaf } else { Kind::Inner };
            let (id, from) = (level.id, std::mem::take(&mut level.from));
            Some(self.build(level.rest(), &from, kind, Some(id)).await?)
        };
        self.tables.extend(level.into_tables());
        Ok(replaced)
    }

    /// Index pages over `children`; the first holds keys from `from` on and gets `id`. Without children the page goes.
    async fn build(
        &mut self,
        children: &ChildTable,
        from: &[u8],
        kind: Kind,
        mut id: Option<PageId>,
    ) -> Result<ChildTable> {
        let options = self.edit.options();
        let (page_size, interval) = (options.page_size, options.index_restart_interval);
        let mut pages = ChildTable::default();
        for run in index_builder::cut(children, page_size, interval) {
            let page_id = match id.take() {
                Some(id) => id,
                None => self.edit.new_id()?,
            };
            let key = if run.start == 0 { from } else { children.key(run.start) };
            pages.push(key, page_id);
            self.edit.put(page_id, index_builder::encode(children, run, page_size, interval), kind).await?;
        }
        if let Some(unused) = id {
            self.edit.free(unused)?;
        }
        Ok(pages)
    }

    /// Levels above until one page is left: the root.
    async fn grow(&mut self, mut pages: ChildTable) -> Result<PageId> {
        while pages.len() > 1 {
            pages = self.build(&pages, &[], Kind::Inner, None).await?;
        }
        Ok(pages.ids().first().map_or(NONE, |root| *root))
    }
}
