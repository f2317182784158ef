//! Integers in pages and manifests: fixed little-endian, LEB128, and signed deltas with the sign in bit 0.

use super::damage::{Damage, Decoded};

/// Reads from a slice and never past its end; `at` counts from the start of the slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes` that starts at `at`.
    pub fn new(bytes: &'a [u8], at: usize) -> Reader<'a> {
        Reader { bytes, at }
    }

    /// Where the next byte comes from.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether nothing is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Decoded<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Damage::new(self.at, "a length goes past the end"))?;
        let part = &self.bytes[self.at..end];
        self.at = end;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// A u16.
    pub fn u16(&mut self) -> Decoded<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// A u32.
    pub fn u32(&mut self) -> Decoded<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A u64.
    pub fn u64(&mut self) -> Decoded<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A LEB128 integer of up to 10 bytes that fits 64 bits.
    #[inline]
    pub fn varint64(&mut self) -> Decoded<u64> {
        // Most are below 128.
        match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Decoded<u64> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte =
                u64::from(*self.bytes.get(self.at).ok_or(Damage::new(start, "an integer is cut off"))?);
            self.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damage::new(start, "an integer is too long"))
    }

    /// A LEB128 integer that fits 32 bits.
    #[inline]
    pub fn varint32(&mut self) -> Decoded<u32> {
        let start = self.at;
        u32::try_from(self.varint64()?).map_err(|_| Damage::new(start, "an integer exceeds 32 bits"))
    }

    /// A LEB128 length, as a usize.
    #[inline]
    pub fn varlen(&mut self) -> Decoded<usize> {
        self.varint32().map(|value| value as usize)
    }

    /// A signed delta of up to 63 bits of magnitude.
    #[inline]
    pub fn delta64(&mut self) -> Decoded<i64> {
        self.varint64().map(delta_from)
    }

    /// A signed delta of up to 31 bits of magnitude.
    #[inline]
    pub fn delta32(&mut self) -> Decoded<i64> {
        self.varint32().map(|value| delta_from(u64::from(value)))
    }
}

fn delta_from(coded: u64) -> i64 {
    let magnitude = (coded >> 1) as i64;
    if coded & 1 == 1 { -magnitude } else { magnitude }
}

/// A delta as it is stored: magnitude shifted left, sign in bit 0. `delta` is not `i64::MIN`.
pub fn delta_code(delta: i64) -> u64 {
    delta.unsigned_abs() << 1 | u64::from(delta < 0)
}

/// Appends `value` in LEB128.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that `put_varint` appends: 1 to 10.
pub fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(bytes.len(), varint_len(value));
            let mut reader = Reader::new(&bytes, 0);
            prop_assert_eq!(reader.varint64(), Ok(value));
            prop_assert!(reader.is_empty());
            for cut in 0..bytes.len() {
                prop_assert!(Reader::new(&bytes[..cut], 0).varint64().is_err());
            }
        }

        #[test]
        fn deltas_come_back(delta in -i64::MAX..=i64::MAX) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, delta_code(delta));
            prop_assert_eq!(Reader::new(&bytes, 0).delta64(), Ok(delta));
        }
    }

    #[test]
    fn known_bytes() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, 300);
        assert_eq!(bytes, [0xac, 0x02]);
        assert_eq!((delta_code(0), delta_code(5), delta_code(-5), delta_code(-1)), (0, 10, 11, 3));
    }

    #[test]
    fn overlong_integers_are_damage() {
        let mut reader = Reader::new(&[0xff; 12], 0);
        assert_eq!(reader.varint64().unwrap_err().what, "an integer is too long");
        let eleven_bits_too_many = [0xff, 0xff, 0xff, 0xff, 0x1f];
        assert_eq!(
            Reader::new(&eleven_bits_too_many, 0).varint32().unwrap_err().what,
            "an integer exceeds 32 bits"
        );
        let mut past = Reader::new(&[1, 2], 1);
        assert!(past.take(usize::MAX).is_err());
        assert!(past.u16().is_err());
        assert_eq!(past.take(1), Ok(&[2u8][..]));
    }
}
