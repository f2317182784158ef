//! How an entry says what its value is, and what a very large value's entry holds.

use super::damage::{Damage, Decoded};
use super::varint::Reader;

/// How the stored bytes become the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// They are the value.
    Raw,
    /// zstd with the partition's dictionary.
    Dictionary,
    /// zstd alone.
    Standalone,
    /// They name segments that hold the value.
    Large,
}

/// An entry's value descriptor: `len << 4 | codec << 2 | expires << 1 | overflow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Bytes of the value that are in the entry.
    pub len: usize,
    /// The entry holds page pointers; the stored bytes are in overflow pages.
    pub overflow: bool,
    /// An expiry follows the value.
    pub expires: bool,
    /// How the stored bytes become the value.
    pub codec: Codec,
}

impl Descriptor {
    /// None for a combination that means nothing: very large values never overflow.
    pub fn decode(coded: u32) -> Option<Descriptor> {
        let codec = match coded >> 2 & 3 {
            0 => Codec::Raw,
            1 => Codec::Dictionary,
            2 => Codec::Standalone,
            _ => Codec::Large,
        };
        let overflow = coded & 1 == 1;
        if overflow && codec == Codec::Large {
            return None;
        }
        Some(Descriptor { len: (coded >> 4) as usize, overflow, expires: coded & 2 != 0, codec })
    }

    /// As it is stored. `len` is below 2^28.
    pub fn code(self) -> u64 {
        let codec = match self.codec {
            Codec::Raw => 0,
            Codec::Dictionary => 1,
            Codec::Standalone => 2,
            Codec::Large => 3u64,
        };
        (self.len as u64) << 4 | codec << 2 | u64::from(self.expires) << 1 | u64::from(self.overflow)
    }
}

/// What the entry of a very large value holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeValue<'a> {
    /// Bytes of the value.
    pub len: usize,
    /// Logical segment ids, in the value's order.
    pub segments: Vec<u32>,
    /// What the writer attached; `None` differs from empty.
    pub metadata: Option<&'a [u8]>,
}

const HAS_METADATA: u32 = 1 << 31;

impl<'a> LargeValue<'a> {
    /// From an entry's content; `at` is where that begins in its page.
    pub fn decode(content: &'a [u8], segment_size: usize, at: usize) -> Decoded<LargeValue<'a>> {
        let inside = |damage: Damage| Damage::new(at + damage.at, "a very large value's entry is cut off");
        let mut reader = Reader::new(content, 0);
        let word = reader.u32().map_err(inside)?;
        let len = (word & !HAS_METADATA) as usize;
        let ids = reader.take(len.div_ceil(segment_size) * 4).map_err(inside)?;
        let segments = ids.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
        let metadata = if word & HAS_METADATA != 0 {
            let len = usize::from(reader.u16().map_err(inside)?);
            Some(reader.take(len).map_err(inside)?)
        } else {
            None
        };
        if !reader.is_empty() {
            return Err(Damage::new(at + reader.at(), "a very large value's entry is too long"));
        }
        Ok(LargeValue { len, segments, metadata })
    }

    /// As an entry holds it. `len` is below 2^31, metadata below 64 KiB.
    pub fn encode(&self) -> Vec<u8> {
        let flag = if self.metadata.is_some() { HAS_METADATA } else { 0 };
        let mut out = (self.len as u32 | flag).to_le_bytes().to_vec();
        for id in &self.segments {
            out.extend_from_slice(&id.to_le_bytes());
        }
        if let Some(metadata) = self.metadata {
            out.extend_from_slice(&(metadata.len() as u16).to_le_bytes());
            out.extend_from_slice(metadata);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn descriptors_come_back(coded: u32) {
            if let Some(descriptor) = Descriptor::decode(coded) {
                prop_assert_eq!(descriptor.code(), u64::from(coded));
            } else {
                prop_assert_eq!(coded & 0b1101, 0b1101);
            }
        }

        #[test]
        fn large_values_come_back(len in 0usize..100_000, metadata: Option<Vec<u8>>) {
            let segments = (7..7 + len.div_ceil(4096) as u32).collect();
            let value = LargeValue { len, segments, metadata: metadata.as_deref() };
            let mut bytes = value.encode();
            prop_assert_eq!(LargeValue::decode(&bytes, 4096, 0), Ok(value));
            bytes.push(0);
            prop_assert!(LargeValue::decode(&bytes, 4096, 0).is_err());
            bytes.truncate(bytes.len() - 2);
            prop_assert!(LargeValue::decode(&bytes, 4096, 0).is_err());
        }
    }
}
