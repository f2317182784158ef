//! What becomes of a data page: its entries merged with the changes, or copied around them.

use super::super::child_table::ChildTable;
use super::super::damage::Damage;
use super::super::data_page::DataPage;
use super::super::level::Level;
use super::super::packer::{Cell, Packer, encode_into, separator};
use super::super::page::{NONE, PageId};
use super::super::patch::{content_len, patch};
use super::super::replacement::{Replacement, carried};
use super::super::sink::Sink;
use super::super::tree::Loaded;
use super::{Apply, Change, Effects};
use crate::status::Result;
use std::cmp::Ordering;

/// A data page, and its links.
type Linked<B> = (Loaded<B>, (PageId, PageId));

impl<S: Sink, E: Effects<S>> Apply<'_, '_, S, E> {
    /// The data pages of a new tree.
    pub(super) async fn fill(&mut self, changes: &[E::Change]) -> Result<ChildTable> {
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

    /// The data page that the lowest level is at, and its links.
    async fn linked(&self, level: &Level) -> Result<Linked<S::Bytes>> {
        let loaded = self.tree.load(level.current()).await?;
        let page = self.tree.sound(&loaded, DataPage::parse(loaded.bytes.as_ref()))?;
        self.tree.sound(&loaded, level.current_bounds().hold_link(&page))?;
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

    /// Changes the data page that the lowest level is at and returns what replaces it; None if its children stay as they
    /// are.
    pub(super) async fn leaf(&mut self, changes: &[E::Change]) -> Result<Option<ChildTable>> {
        let Some(level) = self.path.last() else { return Ok(None) };
        let (id, has_next) = (level.current(), level.has_next());
        let (loaded, links) = self.linked(level).await?;
        if self.carry.is_none() && !self.effects.may_meet_spent(self.tree) {
            let mut page = self.edit.page();
            match self.patched(changes, &loaded, has_next, &mut page)? {
                Some(0) => {
                    self.edit.keep(page);
                    return Ok(None);
                }
                Some(replaced) => {
                    self.effects.took(replaced);
                    self.chain.begin(self.edit, self.tree, id, links).await?;
                    self.chain.push(self.edit, id, page).await?;
                    return Ok(None);
                }
                None => self.edit.keep(page),
            }
        }
        self.merged(changes, (loaded, links)).await
    }

    /// The data page with other values under keys that it has: how many. None if the changes are others. The keys are of the
    /// page's range, so that it is the right page if it has them.
    fn patched(
        &self,
        changes: &[E::Change],
        loaded: &Loaded<S::Bytes>,
        has_next: bool,
        out: &mut Vec<u8>,
    ) -> Result<Option<u64>> {
        let page = self.tree.sound(loaded, DataPage::parse(loaded.bytes.as_ref()))?;
        let cells = changes.iter().map(|change| self.effects.plain(change));
        let replaced = self.tree.sound(loaded, patch(page, cells, out))?;
        // One that is left nearly empty is joined to the next.
        let small = has_next && content_len(out) < self.edit.options().page_size / 4;
        Ok(replaced.filter(|replaced| *replaced == 0 || !small))
    }

    /// Merges changes into the data page that the lowest level is at and returns what replaces it; None if nothing took
    /// effect.
    async fn merged(
        &mut self,
        changes: &[E::Change],
        (loaded, links): Linked<S::Bytes>,
    ) -> Result<Option<ChildTable>> {
        let Some(level) = self.path.last() else { return Ok(None) };
        let (id, from, has_next) = (level.current(), level.current_from().to_vec(), level.has_next());
        let tree = self.tree;
        let page = tree.sound(&loaded, DataPage::parse(loaded.bytes.as_ref()))?;
        tree.sound(&loaded, level.current_bounds().hold(&page))?;
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
        self.finish(&mut made, packer, has_next).await?;
        if made.children.is_empty() {
            self.edit.free(id)?;
        }
        self.keys = keys;
        Ok(Some(made.children))
    }

    /// Makes the last pages, unless what is left goes to the page after this one.
    async fn finish(&mut self, made: &mut Replacement, mut packer: Packer<'_>, has_next: bool) -> Result<()> {
        if packer.is_small() && has_next {
            self.carry = made.carry(packer);
            packer = self.packer();
        }
        for cells in packer.finish() {
            self.emit(made, cells).await?;
        }
        self.begin(made).await?;
        self.chain.end(self.tree).await
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
        let page = self.edit.page();
        let page = encode_into(&cells, options.page_size, options.data_restart_interval, page);
        self.chain.push(self.edit, id, page).await
    }
}
