//! Applies sorted changes to a tree: new data pages, then the index pages above them.

use super::chain::Chain;
use super::child_table::ChildTable;
use super::damage::{Damage, corrupted};
use super::data_page::{DataPage, Entry};
use super::edit::Edit;
use super::index_builder;
use super::level::Level;
use super::packer::{Cell, Packer, encode, separator};
use super::page::{Kind, NONE, PageId};
use super::replacement::{Carry, Replacement, carried};
use super::sink::Sink;
use super::tree::{DEPTH, Loaded, Tree};
use crate::status::Result;
use std::cmp::Ordering;

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

    /// The data pages of a new tree.
    async fn fill(&mut self, changes: &[E::Change]) -> Result<ChildTable> {
        let mut packer = self.packer();
        let mut made = Replacement::new(None, Vec::new(), (NONE, NONE), ChildTable::default());
        for change in changes {
            if let Some(cell) = self.effects.stage(self.edit, change).await?
                && let Some(cells) = packer.push(cell)
            {
                self.emit(&mut made, cells).await?;
            }
        }
        for cells in packer.finish() {
            self.emit(&mut made, cells).await?;
        }
        Ok(made.children)
    }

    /// The data page that the lowest level is at, if it is the one that level means, and its links.
    async fn whole(&self, level: &Level) -> Result<(Loaded<S::Bytes>, (PageId, PageId))> {
        let loaded = self.tree.load(level.current()).await?;
        let page = self.tree.sound(&loaded, DataPage::parse(loaded.bytes.as_ref()))?;
        self.tree.sound(&loaded, level.current_bounds().hold(&page))?;
        let links = page.previous().and_then(|previous| Ok((previous, page.next()?)));
        let links = self.tree.sound(&loaded, links)?;
        Ok((loaded, links))
    }

    /// Begins with what the page before has left; whether it left anything.
    async fn go_on(&mut self, made: &mut Replacement, packer: &mut Packer<'_>) -> Result<bool> {
        let Some(carry) = self.carry.take() else { return Ok(false) };
        made.from = carry.from;
        for cell in carry.cells {
            if let Some(cells) = packer.push(cell) {
                self.emit(made, cells).await?;
            }
        }
        Ok(true)
    }

    /// Merges changes into the data page that the lowest level is at and returns what replaces it; None if nothing took
    /// effect.
    async fn leaf(&mut self, changes: &[E::Change]) -> Result<Option<ChildTable>> {
        let Some(level) = self.path.last() else { return Ok(None) };
        let (id, from, has_next) = (level.current(), level.current_from().to_vec(), level.has_next());
        let (loaded, links) = self.whole(level).await?;
        let tree = self.tree;
        let page = tree.sound(&loaded, DataPage::parse(loaded.bytes.as_ref()))?;
        let mut table = self.tables.pop().unwrap_or_default();
        table.clear();
        let mut made = Replacement::new(Some(id), from, links, table);
        let mut packer = self.packer();
        let mut keys = std::mem::take(&mut self.keys);
        let entries = tree.sound(&loaded, page.all(&mut keys))?;
        let mut old = entries.iter().map(|(key, entry)| (&keys[key.clone()], entry)).peekable();
        let mut changes = changes.iter().peekable();
        let mut changed = self.go_on(&mut made, &mut packer).await?;
        loop {
            let order = match (old.peek(), changes.peek()) {
                (Some((key, _)), Some(change)) => key.cmp(&change.key()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let mut kept = None;
            let mut change = None;
            if let (Some((key, entry)), true) = (old.next_if(|_| order.is_le()), order.is_le()) {
                if order == Ordering::Equal {
                    change = changes.next().filter(|change| change.timestamp() >= entry.timestamp);
                }
                if change.is_some() || self.effects.is_spent(entry) {
                    self.effects.release(self.edit, tree, &loaded, key, entry).await?;
                    changed = true;
                } else {
                    kept = Some(carried(key, entry));
                }
            } else {
                change = changes.next();
            }
            let cell = match change {
                Some(change) => self.effects.stage(self.edit, change).await?,
                None => kept.take(),
            };
            changed |= change.is_some() && cell.is_some();
            if let Some(cell) = cell {
                if !cell.fits(self.edit.options().page_size) {
                    return tree.sound(&loaded, Err(Damage::new(0, "an entry is larger than a page")));
                }
                if let Some(cells) = packer.push(cell) {
                    self.emit(&mut made, cells).await?;
                }
            }
        }
        if !changed && !made.begun {
            self.tables.push(made.children);
            drop(packer);
            self.keys = keys;
            return Ok(None);
        }
        if packer.is_small() && has_next {
            self.carry = made.carry(packer);
            packer = self.packer();
        }
        for cells in packer.finish() {
            self.emit(&mut made, cells).await?;
        }
        self.begin(&mut made).await?;
        self.chain.end(tree).await?;
        if made.children.is_empty() {
            self.edit.free(id)?;
        }
        self.keys = keys;
        Ok(Some(made.children))
    }

    fn packer<'b>(&self) -> Packer<'b> {
        let options = self.edit.options();
        Packer::new(options.page_size, options.data_restart_interval)
    }

    async fn begin(&mut self, made: &mut Replacement) -> Result<()> {
        if !made.begun {
            made.begun = true;
            let old = made.old.unwrap_or(NONE);
            self.chain.begin(self.edit, self.tree, old, made.links).await?;
        }
        Ok(())
    }

    /// Puts a page of entries into the chain.
    async fn emit(&mut self, made: &mut Replacement, cells: Vec<Cell<'_>>) -> Result<()> {
        self.begin(made).await?;
        let (Some(first), Some(last)) = (cells.first(), cells.last()) else { return Ok(()) };
        let id = match (made.children.is_empty(), made.old) {
            (true, Some(old)) => old,
            _ => self.edit.new_id()?,
        };
        match (made.children.is_empty(), made.old) {
            (true, Some(_)) => made.children.push(&made.from, id),
            (true, None) => made.children.push(&[], id),
            _ => made.children.push(separator(&made.last, &first.key), id),
        }
        made.last.clear();
        made.last.extend_from_slice(&last.key);
        let options = self.edit.options();
        let page = encode(&cells, options.page_size, options.data_restart_interval);
        self.chain.push(self.edit, id, page).await
    }
}
