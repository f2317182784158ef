//! Whether a page holds together. Seen once, when the page comes from disk; whoever reads it later may rely on it.

use super::damage::{Damage, Decoded};
use super::data_page::DataPage;
use super::index_page::IndexPage;
use super::overflow::OverflowPage;
use super::page::{self, Kind, NONE};

/// Verifies a page's checksum, then all that can be known from the page alone: that its lengths, offsets and integers
/// stay inside, restart points are where coding restarts, separators ascend, and pages and pointers can be.
pub fn verify(page: &[u8]) -> Decoded<()> {
    page::verify(page)?;
    match page::kind(page)? {
        Kind::Inner | Kind::Leaf => index(page),
        Kind::Data => data(page),
        Kind::Overflow => OverflowPage::parse(page).map(drop),
    }
}

fn index(page: &[u8]) -> Decoded<()> {
    let index = IndexPage::parse(page)?;
    if index.leftmost() == NONE {
        return Err(Damage::new(super::index_page::LEFTMOST, "no such page"));
    }
    let mut children = index.children()?;
    let mut first = true;
    while children.step()?.is_some() {
        if std::mem::take(&mut first) && children.separator().is_empty() {
            return Err(Damage::new(super::index_page::FIRST, "a separator is empty"));
        }
    }
    Ok(())
}

/// Not the order of keys: whoever walks over them sees to it, and a point read only ever misses a key of this page.
fn data(page: &[u8]) -> Decoded<()> {
    let mut entries = DataPage::parse(page)?.entries()?;
    let mut last = 0;
    while let Some((entry, restart, shared, suffix)) = entries.raw()? {
        if shared > last || (restart && shared != 0) {
            return Err(Damage::new(entry.at, "a key shares more than there is"));
        }
        last = shared + suffix.len();
        if last == 0 {
            return Err(Damage::new(entry.at, "a key is empty"));
        }
        if entry.descriptor.overflow && (entry.content.is_empty() || !entry.content.len().is_multiple_of(4)) {
            return Err(Damage::new(entry.at, "page pointers are cut off"));
        }
    }
    Ok(())
}
