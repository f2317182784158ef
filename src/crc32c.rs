//! CRC-32C, of bytes that come in one piece or in several.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C (Castagnoli) of `data`.
pub fn crc(data: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(data)
}

/// CRC-32C of what comes in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Sum(Digest);

impl Default for Sum {
    fn default() -> Sum {
        Sum(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Sum {
    /// Of nothing.
    pub fn new() -> Sum {
        Sum::default()
    }

    /// Adds the next piece.
    pub fn add(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// Of all pieces together.
    pub fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(crc(b"123456789"), 0xe306_9283);
        assert_eq!(crc(b""), 0);
        // RFC 3720 B.4: 32 bytes of zeros.
        assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
        assert_eq!(Sum::new().value(), 0);
    }

    /// Bit by bit, for the many ways that fast ones have for lengths and places.
    fn slow(data: &[u8]) -> u32 {
        !data.iter().fold(u32::MAX, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1)))
        })
    }

    #[test]
    fn every_length_and_any_pieces() {
        let data: Vec<u8> = (0..3_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for length in (0..600).chain([1023, 1024, 1025, 2047, 2990]) {
            let data = &data[length % 7..length % 7 + length];
            let expected = slow(data);
            assert_eq!(crc(data), expected, "{length}");
            for piece in [1, 13, 64, 255, 256, 1000] {
                let mut sum = Sum::new();
                data.chunks(piece).for_each(|piece| sum.add(piece));
                assert_eq!(sum.value(), expected, "{length} by {piece}");
            }
        }
    }
}
