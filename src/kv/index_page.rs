//! Index pages: which child holds which range of keys.

use super::block::{Block, Sought, Walk};
use super::child_table::ChildTable;
use super::damage::{Damage, Decoded};
use super::page::{Kind, NONE, PageId, kind};
use super::varint::Reader;
use std::cmp::Ordering;

/// Where the leftmost child stands.
pub const LEFTMOST: usize = 11;
/// Where the entries begin.
pub const FIRST: usize = 15;

/// An index page, decoded lazily.
#[derive(Clone, Copy, Debug)]
pub struct IndexPage<'a> {
    leftmost: PageId,
    leaf: bool,
    block: Block<'a>,
}

/// A child of an index page, where its range begins and ends, and the child after it: None if that is not in this page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surrounded {
    /// The child.
    pub child: PageId,
    /// The smallest key that it may hold.
    pub from: Option<Vec<u8>>,
    /// The smallest key that the next one may hold.
    pub until: Option<Vec<u8>>,
    /// The child after it.
    pub next: Option<PageId>,
}

impl<'a> IndexPage<'a> {
    /// A page whose checksum was verified, or whose owner chose not to.
    pub fn parse(page: &'a [u8]) -> Decoded<IndexPage<'a>> {
        let leaf = match kind(page)? {
            Kind::Leaf => true,
            Kind::Inner => false,
            _ => return Err(Damage::new(8, "not an index page where one belongs")),
        };
        let leftmost = Reader::new(page, LEFTMOST).u32()?;
        Ok(IndexPage { leftmost, leaf, block: Block::parse(page, FIRST)? })
    }

    /// Whether the children are data pages.
    pub fn is_leaf(&self) -> bool {
        self.leaf
    }

    /// The child whose range holds `key`.
    pub fn child_of(&self, key: &[u8]) -> Decoded<PageId> {
        let mut found = self.leftmost;
        if self.block.restarts() > 0 {
            let mut children = self.start_at(self.block.search(key)?)?;
            let mut sought = Sought::new(key);
            while let Some((child, restart, shared, suffix, at)) = children.raw()? {
                match sought.next(restart, shared, suffix, at)? {
                    Ordering::Less => found = child,
                    Ordering::Equal => return Ok(child),
                    Ordering::Greater => break,
                }
            }
        }
        Ok(found)
    }

    /// The child whose range holds `key`, with what surrounds it.
    pub fn surrounded(&self, key: &[u8]) -> Decoded<Surrounded> {
        let mut found = Surrounded { child: self.leftmost, from: None, until: None, next: None };
        if self.block.restarts() > 0 {
            let mut children = self.start_at(self.block.search(key)?)?;
            while let Some(child) = children.step()? {
                if children.separator() > key {
                    (found.until, found.next) = (Some(children.separator().to_vec()), Some(child));
                    break;
                }
                let from: &mut Vec<u8> = found.from.get_or_insert_default();
                from.clear();
                from.extend_from_slice(children.separator());
                found.child = child;
            }
        }
        Ok(found)
    }

    /// Every child but the leftmost, in order.
    pub fn children(&self) -> Decoded<Children<'a>> {
        self.start_at(0)
    }

    /// Every child, without the separators.
    pub fn ids(&self) -> Decoded<Vec<PageId>> {
        let mut ids = vec![self.leftmost];
        let mut children = self.children()?;
        while let Some((child, ..)) = children.raw()? {
            ids.push(child);
        }
        Ok(ids)
    }

    /// The child for keys before the first separator.
    pub fn leftmost(&self) -> PageId {
        self.leftmost
    }

    /// Every child with its separator, the leftmost under `from`, the page's own lower bound.
    /// The separators must lie after `from` and before `until`, where there is a bound.
    pub fn table(&self, from: &[u8], until: Option<&[u8]>) -> Decoded<ChildTable> {
        let mut table = ChildTable::default();
        self.table_into(from, until, &mut table).map(|()| table)
    }

    /// The same, into memory that there is.
    pub fn table_into(&self, from: &[u8], until: Option<&[u8]>, table: &mut ChildTable) -> Decoded<()> {
        table.clear();
        table.push(from, self.leftmost);
        let mut children = self.children()?;
        while let Some((child, restart, shared, suffix, at)) = children.raw()? {
            table.follow(child, (restart, shared, suffix), at)?;
        }
        // Among themselves they ascend: the walk sees to it.
        let (first, last) = (1.min(table.len() - 1), table.len() - 1);
        let after = first == 0 || table.key(first) > from;
        if !after || (last > 0 && until.is_some_and(|until| table.key(last) >= until)) {
            return Err(Damage::new(FIRST, "a separator is outside its page's range"));
        }
        Ok(())
    }

    fn start_at(&self, restart: usize) -> Decoded<Children<'a>> {
        Ok(Children { walk: Walk::new(self.block, restart)?, child: 0 })
    }
}

/// A child, whether it is at a restart point, how its separator follows from the one before (shared bytes, others), and
/// where it is.
type Raw<'a> = (PageId, bool, usize, &'a [u8], usize);

/// The separated children of an index page from one restart point on.
#[derive(Clone, Debug)]
pub struct Children<'a> {
    walk: Walk<'a>,
    child: i64,
}

impl<'a> Children<'a> {
    /// The next child; its separator is then in [`Children::separator`].
    pub fn step(&mut self) -> Decoded<Option<PageId>> {
        let Some((child, restart, shared, suffix, _)) = self.raw()? else { return Ok(None) };
        self.walk.extend_key(restart, shared, suffix)?;
        Ok(Some(child))
    }

    /// The next child, without its separator.
    #[inline]
    fn raw(&mut self) -> Decoded<Option<Raw<'a>>> {
        if self.walk.at_end()? {
            return Ok(None);
        }
        let at = self.walk.reader.at();
        let restart = self.walk.at_restart()?;
        let reader = &mut self.walk.reader;
        let (shared, unshared) = (reader.varlen()?, reader.varlen()?);
        let suffix = reader.take(unshared)?;
        let delta = reader.delta32()?;
        self.child = delta + if restart { 0 } else { self.child };
        let child = u32::try_from(self.child).ok().filter(|child| *child != NONE);
        let child = child.ok_or(Damage::new(at, "no such page"))?;
        Ok(Some((child, restart, shared, suffix, at)))
    }

    /// The smallest key that the child last returned may hold.
    pub fn separator(&self) -> &[u8] {
        &self.walk.key
    }
}
