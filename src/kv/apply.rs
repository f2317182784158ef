//! Applies sorted changes to a tree: new data pages, then the index pages above them.

use super::bounds::Bounds;
use super::chain::Chain;
use super::damage::{Damage, corrupted};
use super::data_page::{DataPage, Entry};
use super::edit::Edit;
use super::index_builder::{self, Child};
use super::index_page::IndexPage;
use super::packer::{Cell, Packer, encode, separator};
use super::page::{Kind, NONE, PageId};
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
}

/// Entries of a data page that is nearly empty, on their way to the page after it.
struct Carry {
    cells: Vec<Cell<'static>>,
    /// The smallest key that may stand there.
    from: Vec<u8>,
}

/// An index page on the way to where the changes are.
struct Level {
    id: PageId,
    from: Vec<u8>,
    until: Option<Vec<u8>>,
    leaf: bool,
    children: Vec<Child>,
    /// Children before this one are in `out`.
    done: usize,
    out: Vec<Child>,
    changed: bool,
}

impl Level {
    fn replace(&mut self, by: Vec<Child>) {
        self.changed |= by.len() != 1 || self.children.get(self.done) != by.first();
        self.out.extend(by);
        self.done += 1;
    }

    /// Keeps the children up to the one whose range holds `key`, and returns that.
    fn advance(&mut self, key: &[u8]) -> (Child, Option<Vec<u8>>) {
        let at =
            self.children.partition_point(|child| child.0.as_slice() <= key).saturating_sub(1).max(self.done);
        self.out.extend_from_slice(&self.children[self.done..at]);
        self.done = at;
        self.current()
    }

    /// The child after those that are done, and where its range ends.
    fn current(&self) -> (Child, Option<Vec<u8>>) {
        let until = self.children.get(self.done + 1).map(|next| next.0.clone());
        (self.children[self.done].clone(), until.or_else(|| self.until.clone()))
    }

    /// Whether a child follows the one that is being replaced.
    fn has_next(&self) -> bool {
        self.done + 1 < self.children.len()
    }
}

/// The pages that replace one data page, as they are made.
struct Replacement {
    /// The page that is replaced; its id goes to the first page.
    old: Option<PageId>,
    links: (PageId, PageId),
    from: Vec<u8>,
    last: Vec<u8>,
    begun: bool,
    children: Vec<Child>,
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
        let mut apply = Apply { edit, tree, effects, chain: Chain::default(), path: Vec::new(), carry: None };
        let children = if root == NONE {
            let leaves = apply.fill(changes).await?;
            apply.build(leaves, Kind::Leaf, None).await?
        } else {
            apply.change(root, changes).await?
        };
        apply.chain.settle(apply.edit, apply.tree, NONE).await?;
        apply.grow(children).await
    }

    /// Walks down to every page that changes, in the order of keys, and up again when a subtree is done.
    async fn change(&mut self, root: PageId, changes: &[E::Change]) -> Result<Vec<Child>> {
        let level = self.level((Vec::new(), root), None).await?;
        self.path.push(level);
        let mut rest = changes;
        while let (Some(next), Some(level)) = (rest.first(), self.path.last_mut()) {
            if level.until.as_deref().is_some_and(|until| until <= next.key()) {
                self.close().await?;
                continue;
            }
            let (child, until) = level.advance(next.key());
            if !level.leaf {
                if self.path.len() >= DEPTH {
                    return Err(self.tree.too_deep(root));
                }
                let level = self.level(child, until).await?;
                self.path.push(level);
                continue;
            }
            rest = self.leaves(child, until, rest).await?;
        }
        while self.path.len() > 1 {
            self.close().await?;
        }
        match self.path.pop() {
            Some(root) => self.seal(root, true).await,
            None => Ok(Vec::new()),
        }
    }

    /// Changes a data page, and those after it as long as one is left nearly empty; returns the changes after them.
    async fn leaves<'b>(
        &mut self,
        mut child: Child,
        mut until: Option<Vec<u8>>,
        mut rest: &'b [E::Change],
    ) -> Result<&'b [E::Change]> {
        loop {
            let end_key = until;
            let end = end_key
                .as_deref()
                .map_or(rest.len(), |until| rest.partition_point(|change| change.key() < until));
            let (these, after) = rest.split_at(end);
            let replaced = self.leaf(child, end_key.as_deref(), these).await?;
            rest = after;
            let Some(level) = self.path.last_mut() else { return Ok(rest) };
            level.replace(replaced);
            if self.carry.is_none() {
                return Ok(rest);
            }
            (child, until) = level.current();
        }
    }

    async fn level(&self, child: Child, until: Option<Vec<u8>>) -> Result<Level> {
        let (from, id) = child;
        let page = self.tree.load(id).await?;
        let index = self.tree.sound(&page, IndexPage::parse(page.bytes.as_ref()))?;
        let children = self.tree.sound(&page, index.table(&from, until.as_deref()))?;
        let leaf = index.is_leaf();
        Ok(Level { id, from, until, leaf, children, done: 0, out: Vec::new(), changed: false })
    }

    /// Ends the lowest level and tells the one above what became of it. One that is left nearly empty is joined to the
    /// one after it, which is then the lowest.
    async fn close(&mut self) -> Result<()> {
        if let Some(mut level) = self.path.pop() {
            let next = self.path.last().is_some_and(Level::has_next);
            if next && level.changed && self.is_small(&mut level) {
                self.edit.free(level.id)?;
                let Some(above) = self.path.last_mut() else { return Ok(()) };
                above.replace(Vec::new());
                let (child, until) = above.current();
                let mut joined = self.level(child, until).await?;
                if joined.leaf != level.leaf {
                    let what = "index pages of one level have children of different kinds";
                    return Err(corrupted(
                        self.tree.manifest_name(),
                        0,
                        format_args!("page {}: {what}", joined.id),
                    ));
                }
                (joined.from, joined.out, joined.changed) = (level.from, level.out, true);
                self.path.push(joined);
                return Ok(());
            }
            let replaced = self.seal(level, false).await?;
            if let Some(above) = self.path.last_mut() {
                above.replace(replaced);
            }
        }
        Ok(())
    }

    /// Whether an index page would be less than a quarter full. Moves all its children to `out`.
    fn is_small(&self, level: &mut Level) -> bool {
        level.out.extend_from_slice(&level.children[level.done..]);
        level.done = level.children.len();
        if let Some(first) = level.out.first_mut() {
            first.0.clone_from(&level.from);
        }
        let options = self.edit.options();
        let quarter =
            index_builder::encoded_len(&level.out, options.index_restart_interval) < options.page_size / 4;
        quarter && !level.out.is_empty()
    }

    /// Writes an index page anew if its children changed, and returns what replaces it.
    async fn seal(&mut self, mut level: Level, root: bool) -> Result<Vec<Child>> {
        level.out.extend_from_slice(&level.children[level.done..]);
        if !level.changed {
            return Ok(vec![(level.from, level.id)]);
        }
        if let Some(first) = level.out.first_mut() {
            first.0 = level.from;
        }
        // A root with one index page below it is not needed.
        if root && !level.leaf && level.out.len() == 1 {
            self.edit.free(level.id)?;
            return Ok(level.out);
        }
        let kind = if level.leaf { Kind::Leaf } else { Kind::Inner };
        self.build(level.out, kind, Some(level.id)).await
    }

    /// Index pages over `children`; the first gets `id`. Without children the page goes.
    async fn build(
        &mut self,
        children: Vec<Child>,
        kind: Kind,
        mut id: Option<PageId>,
    ) -> Result<Vec<Child>> {
        let options = self.edit.options();
        let (page_size, interval) = (options.page_size, options.index_restart_interval);
        let mut pages = Vec::new();
        for run in index_builder::cut(&children, page_size, interval) {
            let page_id = match id.take() {
                Some(id) => id,
                None => self.edit.new_id()?,
            };
            self.edit.put(page_id, index_builder::encode(run, page_size, interval), kind).await?;
            pages.push((run[0].0.clone(), page_id));
        }
        if let Some(unused) = id {
            self.edit.free(unused)?;
        }
        Ok(pages)
    }

    /// Levels above until one page is left: the root.
    async fn grow(&mut self, mut pages: Vec<Child>) -> Result<PageId> {
        while pages.len() > 1 {
            pages = self.build(pages, Kind::Inner, None).await?;
        }
        Ok(pages.first().map_or(NONE, |root| root.1))
    }

    /// The data pages of a new tree.
    async fn fill(&mut self, changes: &[E::Change]) -> Result<Vec<Child>> {
        let mut packer = self.packer();
        let mut made = Replacement::new(None, Vec::new(), (NONE, NONE));
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

    /// A data page that is the one its index page means, and its links.
    async fn whole(
        &self,
        child: &Child,
        until: Option<&[u8]>,
    ) -> Result<(Loaded<S::Bytes>, (PageId, PageId))> {
        let loaded = self.tree.load(child.1).await?;
        let page = self.tree.sound(&loaded, DataPage::parse(loaded.bytes.as_ref()))?;
        let next = self.path.last().and_then(|level| level.children.get(level.done + 1));
        let bounds = Bounds { from: &child.0, until, next: next.map(|next| next.1) };
        self.tree.sound(&loaded, bounds.hold(&page))?;
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

    /// Merges changes into a data page and returns what replaces it; itself if nothing took effect.
    async fn leaf(
        &mut self,
        child: Child,
        until: Option<&[u8]>,
        changes: &[E::Change],
    ) -> Result<Vec<Child>> {
        let (loaded, links) = self.whole(&child, until).await?;
        let tree = self.tree;
        let page = tree.sound(&loaded, DataPage::parse(loaded.bytes.as_ref()))?;
        let mut made = Replacement::new(Some(child.1), child.0.clone(), links);
        let mut packer = self.packer();
        let mut entries = tree.sound(&loaded, page.entries())?;
        let mut old = tree.sound(&loaded, entries.step())?;
        let mut changes = changes.iter().peekable();
        let mut changed = self.go_on(&mut made, &mut packer).await?;
        loop {
            let order = match (&old, changes.peek()) {
                (Some(_), Some(change)) => entries.key().cmp(change.key()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let mut kept = None;
            let mut change = None;
            if let (Some(entry), Ordering::Less | Ordering::Equal) = (old, order) {
                let key = entries.key();
                if order == Ordering::Equal {
                    change = changes.next().filter(|change| change.timestamp() >= entry.timestamp);
                }
                if change.is_some() || self.effects.is_spent(&entry) {
                    self.effects.release(self.edit, tree, &loaded, key, &entry).await?;
                    changed = true;
                } else {
                    kept = Some(carried(key.to_vec(), &entry));
                }
                old = tree.sound(&loaded, entries.step())?;
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
            return Ok(vec![child]);
        }
        if packer.is_small() && self.path.last().is_some_and(Level::has_next) {
            self.carry = made.carry(packer);
            packer = self.packer();
        }
        for cells in packer.finish() {
            self.emit(&mut made, cells).await?;
        }
        self.begin(&mut made).await?;
        self.chain.end(tree).await?;
        if made.children.is_empty() {
            self.edit.free(child.1)?;
        }
        Ok(made.children)
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
        let (from, id) = match (made.children.is_empty(), made.old) {
            (true, Some(old)) => (made.from.clone(), old),
            (true, None) => (Vec::new(), self.edit.new_id()?),
            _ => (separator(&made.last, &first.key).to_vec(), self.edit.new_id()?),
        };
        made.last = last.key.to_vec();
        made.children.push((from, id));
        let options = self.edit.options();
        let page = encode(&cells, options.page_size, options.data_restart_interval);
        self.chain.push(self.edit, id, page).await
    }
}

impl Replacement {
    fn new(old: Option<PageId>, from: Vec<u8>, links: (PageId, PageId)) -> Replacement {
        Replacement { old, links, from, last: Vec::new(), begun: false, children: Vec::new() }
    }

    /// What is left in the packer, for the next page.
    fn carry(&self, packer: Packer<'_>) -> Option<Carry> {
        let cells: Vec<Cell<'static>> = packer.finish().into_iter().flatten().map(Cell::into_owned).collect();
        let first = cells.first()?;
        let from = match self.children.is_empty() {
            true => self.from.clone(),
            false => separator(&self.last, &first.key).to_vec(),
        };
        Some(Carry { cells, from })
    }
}

/// An entry as it is, on its way to another page.
fn carried<'b>(key: Vec<u8>, entry: &Entry<'b>) -> Cell<'b> {
    Cell {
        key: key.into(),
        descriptor: entry.descriptor,
        content: entry.content.into(),
        expire_ms: entry.expire_ms,
        timestamp: entry.timestamp,
    }
}
