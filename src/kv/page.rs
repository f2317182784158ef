//! What every page begins with: its checksum and its kind.

use super::damage::{Damage, Decoded};
use twox_hash::XxHash3_64;

/// Bytes of the checksum, which it does not cover.
pub const CHECKSUM: usize = 8;
/// Where the kind stands.
const KIND: usize = 8;
/// Bytes of checksum and kind.
pub const HEADER: usize = 9;

/// A page's place in the tree, stable while its bytes move between file pages.
pub type PageId = u32;
/// No page.
pub const NONE: PageId = u32::MAX;

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Index whose children are index pages.
    Inner = 0,
    /// Index whose children are data pages.
    Leaf = 1,
    /// Entries.
    Data = 2,
    /// A part of a value too large for a data page.
    Overflow = 3,
}

/// Recomputes the checksum over the whole page and compares. Pages that fail hold nothing that can be trusted.
pub fn verify(page: &[u8]) -> Decoded<()> {
    let (stored, body) = page.split_first_chunk::<CHECKSUM>().ok_or(Damage::new(0, "the page is cut off"))?;
    if u64::from_le_bytes(*stored) != XxHash3_64::oneshot(body) {
        return Err(Damage::new(0, "the page's checksum is wrong (or data_page_size is)"));
    }
    Ok(())
}

/// The page's kind.
pub fn kind(page: &[u8]) -> Decoded<Kind> {
    match page.get(KIND) {
        Some(0) => Ok(Kind::Inner),
        Some(1) => Ok(Kind::Leaf),
        Some(2) => Ok(Kind::Data),
        Some(3) => Ok(Kind::Overflow),
        Some(_) => Err(Damage::new(KIND, "no such kind of page")),
        None => Err(Damage::new(KIND, "the page is cut off")),
    }
}

/// Writes kind and checksum into a page whose content is complete. Pages are at least 4 KiB.
pub fn seal(page: &mut [u8], kind: Kind) {
    if let Some(byte) = page.get_mut(KIND) {
        *byte = kind as u8;
    }
    if let Some((stored, body)) = page.split_first_chunk_mut::<CHECKSUM>() {
        *stored = XxHash3_64::oneshot(body).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_byte_is_seen() {
        let mut page = vec![7u8; 4096];
        seal(&mut page, Kind::Overflow);
        assert_eq!(verify(&page), Ok(()));
        assert_eq!(kind(&page), Ok(Kind::Overflow));
        for at in 0..page.len() {
            page[at] ^= 0x10;
            assert!(verify(&page).is_err(), "byte {at}");
            page[at] ^= 0x10;
        }
    }

    #[test]
    fn unknown_kinds_and_short_pages_are_damage() {
        let mut page = vec![0u8; 4096];
        for byte in 4..=255 {
            page[KIND] = byte;
            assert!(kind(&page).is_err());
        }
        assert!(kind(&[]).is_err());
        assert!(verify(&[0; 7]).is_err());
    }
}
