//! A range of keys as log and pages have it together, a page of entries at a time.

use super::pending::{Key, Pending, merged};
use super::values::entry;
use super::{Hit, Log};
use crate::kv::scan::{Large, Range, Scanned, refused};
use crate::kv::sink::Sink;
use crate::kv::source::Source;
use crate::kv::tree::{Found, Tree};
use crate::status::Result;
use std::cell::Ref;
use std::ops::Bound;

/// Entries that are asked of the pages at a time when those before were not enough.
const MOST: usize = 256;

/// What a log holds of a range, as of one moment: enough of it for one page of entries.
#[derive(Debug)]
pub struct Overlay {
    /// In the order of the scan.
    changes: Vec<(Key, Hit)>,
    /// There are more changes after these.
    cut: bool,
}

/// An entry of the page, or where it is.
enum Item {
    Here(Found),
    Logged(Key, Hit),
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Item::Here(found) => found.key.len() + found.value.len() + 16,
            Item::Logged(key, hit) => key.len() + hit.value_len() + 16,
        }
    }
}

/// A page of entries that is being put together.
struct Page<'r, 'k> {
    range: &'r Range<'k>,
    items: Vec<Item>,
    bytes: usize,
    full: bool,
}

impl Page<'_, '_> {
    /// Adds what the pages have, if there is room for it.
    fn put_found(&mut self, found: Found) -> Result<()> {
        let large = found.large.is_some();
        self.put(Item::Here(found));
        match large && !self.full && self.range.large == Large::Refuse {
            true => Err(refused()),
            false => Ok(()),
        }
    }

    /// Adds an item if there is room for it; after one that had none nothing is.
    fn put(&mut self, item: Item) {
        let (range, size) = (self.range, item.size());
        let many = range.max_entries > 0 && self.items.len() >= range.max_entries;
        let much = range.max_bytes > 0 && self.bytes + size > range.max_bytes && !self.items.is_empty();
        self.full = self.full || many || much;
        if !self.full {
            self.bytes += size;
            self.items.push(item);
        }
    }
}

impl<S: Sink> Log<S> {
    /// What it holds of a range now. None if that is nothing.
    pub fn overlay(&self, range: &Range<'_>) -> Option<Overlay> {
        let layers = self.layers.borrow();
        let pendings: Vec<Ref<'_, Pending>> = layers.iter().map(|layer| layer.pending.borrow()).collect();
        let pendings: Vec<&Pending> = pendings.iter().map(|pending| &**pending).collect();
        let (mut entries, mut bytes) = (0, 0);
        let (mut changes, mut cut) = (Vec::new(), false);
        for (key, i, slot) in merged(&pendings, bounds(range), range.backward) {
            changes.push((key.clone(), Hit { layer: layers[i].clone(), slot }));
            if slot.deletes() {
                continue;
            }
            entries += 1;
            bytes += key.len() + slot.value_len() + 16;
            // Each is an entry of the page, this one or a newer one. So one more than fit suffices.
            if (range.max_entries > 0 && entries > range.max_entries)
                || (range.max_bytes > 0 && bytes > range.max_bytes && entries > 1)
            {
                cut = true;
                break;
            }
        }
        (!changes.is_empty()).then_some(Overlay { changes, cut })
    }
}

fn bounds<'k>(range: &Range<'k>) -> (Bound<&'k [u8]>, Bound<&'k [u8]>) {
    let bound = |key, inclusive| if inclusive { Bound::Included(key) } else { Bound::Excluded(key) };
    let begin = match range.begin {
        [] => Bound::Unbounded,
        key => bound(key, range.begin_inclusive),
    };
    let end = match range.end {
        [] => Bound::Unbounded,
        key => bound(key, range.end_inclusive),
    };
    (begin, end)
}

impl Overlay {
    /// The entries of `range` of the state that `tree` shows and this was taken beside.
    pub async fn scan<S: Source, L: Sink>(
        self,
        tree: &Tree<'_, S>,
        log: &Log<L>,
        range: &Range<'_>,
    ) -> Result<Scanned> {
        let mut page = Page { range, items: Vec::new(), bytes: 0, full: false };
        let mut changes = self.changes.into_iter().peekable();
        let mut from: Option<Vec<u8>> = None;
        // What the log deletes leaves room for more.
        let mut entries = range.max_entries;
        while !page.full {
            let part = tree.scan(&Range { max_entries: entries, ..after(range, from.as_deref()) }).await?;
            entries = entries.max((2 * entries).min(MOST));
            let last = part.entries.last().map(|entry| entry.key.clone());
            for found in part.entries {
                let before = |key: &Key| if range.backward { **key > *found.key } else { **key < *found.key };
                while let Some((key, hit)) = changes.next_if(|(key, _)| before(key)) {
                    add(&mut page, key, hit);
                }
                match changes.next_if(|(key, _)| **key == *found.key) {
                    Some((key, hit)) if hit.counts(Some(&found)) => add(&mut page, key, hit),
                    // What the log has from here on was not looked at.
                    None if self.cut && changes.peek().is_none() => page.full = true,
                    _ => page.put_found(found)?,
                }
            }
            match last.filter(|_| part.remaining) {
                Some(last) => from = Some(last),
                None => break,
            }
        }
        // What the pages have no entries after.
        changes.for_each(|(key, hit)| add(&mut page, key, hit));
        page.full |= self.cut;
        finish(page, log).await
    }
}

fn add(page: &mut Page<'_, '_>, key: Key, hit: Hit) {
    if !hit.deletes() {
        page.put(Item::Logged(key, hit));
    }
}

/// The rest of `range` behind what was found last, with very large values: the log may have others in their place.
fn after<'k>(range: &Range<'k>, last: Option<&'k [u8]>) -> Range<'k> {
    let range = Range { large: Large::Return, ..*range };
    match (last, range.backward) {
        (None, _) => range,
        (Some(last), false) => Range { begin: last, begin_inclusive: false, ..range },
        (Some(last), true) => Range { end: last, end_inclusive: false, ..range },
    }
}

async fn finish<L: Sink>(page: Page<'_, '_>, log: &Log<L>) -> Result<Scanned> {
    let mut fetched: Vec<Option<Found>> = page.items.iter().map(|_| None).collect();
    let wanted = page.items.iter().enumerate().filter_map(|(i, item)| match item {
        Item::Here(_) => None,
        Item::Logged(key, hit) => Some((i, key.as_slice(), hit)),
    });
    log.read(wanted.collect(), |i, logged| fetched[i] = Some(entry(logged))).await?;
    let entries = page.items.into_iter().zip(fetched).filter_map(|(item, fetched)| match item {
        Item::Here(found) => Some(found),
        Item::Logged(..) => fetched,
    });
    Ok(Scanned { entries: entries.collect(), remaining: page.full })
}
