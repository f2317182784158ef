//! What replaces a data page, as it is made.

use super::child_table::ChildTable;
use super::data_page::Entry;
use super::packer::{Cell, Packer, separator};
use super::page::PageId;

/// Entries of a data page that is nearly empty, on their way to the page after it.
pub struct Carry {
    /// The entries.
    pub cells: Vec<Cell<'static>>,
    /// The smallest key that may stand there.
    pub from: Vec<u8>,
}

/// The pages that replace one data page, as they are made.
pub struct Replacement {
    /// The page that is replaced; its id goes to the first page.
    pub old: Option<PageId>,
    /// Its links.
    pub links: (PageId, PageId),
    /// The smallest key that may stand in it.
    pub from: Vec<u8>,
    /// The last key of the last page that was made.
    pub last: Vec<u8>,
    /// Whether the page has been taken out of the chain.
    pub begun: bool,
    /// The pages that were made.
    pub children: ChildTable,
}

impl Replacement {
    /// Nothing is made yet.
    pub fn new(
        old: Option<PageId>,
        from: Vec<u8>,
        links: (PageId, PageId),
        children: ChildTable,
    ) -> Replacement {
        Replacement { old, links, from, last: Vec::new(), begun: false, children }
    }

    /// What is left in the packer, for the next page.
    pub fn carry(&self, packer: Packer<'_>) -> Option<Carry> {
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
pub fn carried<'b>(key: &'b [u8], entry: &Entry<'b>) -> Cell<'b> {
    Cell {
        key: key.into(),
        descriptor: entry.descriptor,
        content: entry.content.into(),
        expire_ms: entry.expire_ms,
        timestamp: entry.timestamp,
    }
}
