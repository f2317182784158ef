//! Whether a page that comes from disk can be used.

use super::damage::{Damage, Decoded};
use super::data_page::DataPage;
use super::index_page::IndexPage;
use super::overflow::OverflowPage;
use super::page::{self, Kind, NONE};

/// Verifies a page's checksum, and as much of its structure as whoever reads it later relies on.
///
/// An index page is walked over whole: many look-ups go through it, each over a part, and what it says of keys that they do
/// not meet must be right too. Of a data page only the lengths are looked at. Whoever reads its entries has every one
/// checked that it goes over (lengths, what keys share, their order, restart points), and what a page says of its own keys
/// concerns nobody else's.
pub fn verify(page: &[u8]) -> Decoded<()> {
    page::verify(page)?;
    match page::kind(page)? {
        Kind::Inner | Kind::Leaf => index(page),
        Kind::Data => DataPage::parse(page).map(drop),
        Kind::Overflow => OverflowPage::parse(page).map(drop),
    }
}

/// Lengths, offsets and integers stay inside, restart points are where coding restarts, separators ascend, and children can
/// be.
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
