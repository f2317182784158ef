//! Keys: 64 bytes that let a peer use a range of a buffer.
//!
//! ```text
//! magic "RDEK" @0 | version u8 @4 | rights u8 @5 | flags u8 @6 | 0 u8 @7 | export u64 @8 | secret @16, 16 bytes
//! length u64 @32 | context @40, 16 bytes | 0 u32 @56 | crc32c of the first 60 bytes u32 @60      (little-endian)
//! ```
//! The exporter's table decides what a key may do; what is written here only tells the importer early.

use std::fmt;

use subtle::ConstantTimeEq;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::KEY_BYTES;
use crate::status::{Error, Result, Status};

const MAGIC: [u8; 4] = *b"RDEK";
const VERSION: u8 = 1;
const MAPPABLE: u8 = 1 << 0;

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rights(u8);

impl Rights {
    /// Gets.
    pub const READ: Rights = Rights(1 << 0);
    /// Puts.
    pub const WRITE: Rights = Rights(1 << 1);
    /// Fetch-add and compare-and-swap.
    pub const ATOMIC: Rights = Rights(1 << 2);

    /// From bits. `InvalidArgument` for none or unknown ones.
    pub fn from_bits(bits: u32) -> Result<Rights> {
        match u8::try_from(bits) {
            Ok(bits @ 1..=7) => Ok(Rights(bits)),
            _ => {
                Err(Error::new(Status::InvalidArgument, "rights are a combination of read, write and atomic"))
            }
        }
    }

    /// As bits: 1 read, 2 write, 4 atomic.
    pub fn bits(self) -> u32 {
        self.0.into()
    }

    /// Whether all of `other` is allowed.
    pub fn allows(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Rights {
    type Output = Rights;

    fn bitor(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
}

/// What proves that one was given a key. Compared in constant time, never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

impl Secret {
    /// A new one from the kernel.
    pub fn random() -> Result<Secret> {
        let mut bytes = [0; 16];
        let failed = |error: getrandom::Error| Error::new(Status::Io, format!("no random numbers: {error}"));
        getrandom::fill(&mut bytes).map_err(failed)?;
        Ok(Secret(bytes))
    }

    /// Whether it is the same, in a time that does not depend on where it differs.
    pub fn matches(&self, other: &Secret) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A key, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The id of the export in its context.
    pub export: u64,
    /// Proves the key.
    pub secret: Secret,
    /// Bytes it covers, never 0.
    pub length: u64,
    /// What it allows.
    pub rights: Rights,
    /// Whether the exporter may let a peer on its host map the memory.
    pub mappable: bool,
    /// The exporter's context.
    pub context: [u8; 16],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Wire {
    magic: [u8; 4],
    version: u8,
    rights: u8,
    flags: u8,
    zero: u8,
    export: U64,
    secret: [u8; 16],
    length: U64,
    context: [u8; 16],
    reserved: U32,
    checksum: U32,
}

const _: () = assert!(size_of::<Wire>() == KEY_BYTES);

impl Key {
    /// As bytes.
    pub fn encode(&self) -> [u8; KEY_BYTES] {
        let mut wire = Wire {
            magic: MAGIC,
            version: VERSION,
            rights: self.rights.0,
            flags: if self.mappable { MAPPABLE } else { 0 },
            zero: 0,
            export: self.export.into(),
            secret: self.secret.0,
            length: self.length.into(),
            context: self.context,
            reserved: 0.into(),
            checksum: 0.into(),
        };
        wire.checksum = checksum(&wire).into();
        zerocopy::transmute!(wire)
    }

    /// From bytes of anybody. `InvalidArgument` for a wrong length, garbage, and a key that was changed.
    pub fn decode(bytes: &[u8]) -> Result<Key> {
        let refused = |why: &'static str| Error::new(Status::InvalidArgument, why);
        let wire = Wire::read_from_bytes(bytes).map_err(|_| refused("a key has 64 bytes"))?;
        if wire.magic != MAGIC {
            return Err(refused("this is not a key"));
        }
        if wire.checksum.get() != checksum(&wire) {
            return Err(refused("the key is damaged: its checksum is wrong"));
        }
        if wire.version != VERSION {
            return Err(refused("the key is of another version of the library"));
        }
        if wire.flags & !MAPPABLE != 0 || wire.zero != 0 || wire.reserved.get() != 0 || wire.length.get() == 0
        {
            return Err(refused("the key has fields that this version does not know"));
        }
        Ok(Key {
            export: wire.export.get(),
            secret: Secret(wire.secret),
            length: wire.length.get(),
            rights: Rights::from_bits(wire.rights.into())?,
            mappable: wire.flags & MAPPABLE != 0,
            context: wire.context,
        })
    }

    /// Refuses a key of another context than `context`, the peer's, with a message that says so.
    pub fn check_context(&self, context: &[u8; 16]) -> Result<()> {
        if self.context == *context {
            return Ok(());
        }
        Err(Error::new(
            Status::PermissionDenied,
            "the key is of another peer than this session's: import it there",
        ))
    }
}

fn checksum(wire: &Wire) -> u32 {
    crc_fast::crc32_iscsi(&wire.as_bytes()[..KEY_BYTES - 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key {
            export: 0x0b00_0001_2345_6789,
            secret: Secret(*b"0123456789abcdef"),
            length: 1 << 40,
            rights: Rights::READ | Rights::ATOMIC,
            mappable: true,
            context: *b"context of peers",
        }
    }

    #[test]
    fn a_key_survives_its_bytes() {
        let bytes = key().encode();
        assert_eq!(Key::decode(&bytes).unwrap(), key());
        assert_eq!(&bytes[..8], b"RDEK\x01\x05\x01\x00");
        assert_eq!(bytes[8..16], key().export.to_le_bytes());
    }

    #[test]
    fn every_flipped_bit_and_every_wrong_length_is_refused() {
        let bytes = key().encode();
        for bit in 0..KEY_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Key::decode(&flipped).unwrap_err().status, Status::InvalidArgument, "bit {bit}");
        }
        for length in 0..KEY_BYTES {
            assert_eq!(Key::decode(&bytes[..length]).unwrap_err().status, Status::InvalidArgument);
        }
        assert!(Key::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        assert!(Key::decode(&[0; KEY_BYTES]).is_err());
    }

    #[test]
    fn fields_that_make_no_sense_are_refused_with_a_right_checksum() {
        for (place, value) in [(4, 2), (5, 0), (5, 8), (6, 2), (7, 1), (56, 1)] {
            let mut bytes = key().encode();
            bytes[place] = value;
            let sum = crc_fast::crc32_iscsi(&bytes[..60]);
            bytes[60..].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(Key::decode(&bytes).unwrap_err().status, Status::InvalidArgument, "{place}");
        }
        assert!(Key::decode(&Key { length: 0, ..key() }.encode()).is_err());
    }

    #[test]
    fn a_key_of_another_context_is_refused_and_a_secret_is_not_printed() {
        assert!(key().check_context(b"context of peers").is_ok());
        let error = key().check_context(b"another context.").unwrap_err();
        assert_eq!(error.status, Status::PermissionDenied);
        assert!(!format!("{:?}", key()).contains("48"));
        assert!(!format!("{:?}", key()).contains("0123"));
    }
}
