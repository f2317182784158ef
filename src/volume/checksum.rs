//! Checksums of a needle's stored data: CRC-32C, raw as writers store it now and masked as they did before 3.09.

pub use crate::crc32c::{Sum, crc};

/// What masking adds after the rotation.
const MASK_DELTA: u32 = 0xa282_ead8;

/// The masked form of a raw checksum.
pub fn mask(raw: u32) -> u32 {
    raw.rotate_right(15).wrapping_add(MASK_DELTA)
}

/// Whether `stored` is `raw` in either form: the record does not say which one it holds.
pub fn matches(stored: u32, raw: u32) -> bool {
    stored == raw || stored == mask(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_masks() {
        assert_eq!(mask(0), MASK_DELTA);
        assert_eq!(mask(0x0000_8000), MASK_DELTA + 1);
    }

    #[test]
    fn either_form_matches_and_nothing_else() {
        let raw = crc(b"needle");
        assert!(matches(raw, raw));
        assert!(matches(mask(raw), raw));
        assert!(!matches(mask(mask(raw)), raw));
        assert!(!matches(raw ^ 1, raw));
    }
}
