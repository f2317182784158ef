//! The first bytes of a `.dat` file.

use crate::status::{Error, Result, Status};
use crate::volume::ttl::Ttl;

/// Bytes of a superblock without its extra part.
pub const SUPERBLOCK_BYTES: usize = 8;

/// Layout of the needle records of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Header, data, checksum.
    V1 = 1,
    /// Data length and metadata in the body.
    V2 = 2,
    /// Version 2 and the append time after the checksum. New volumes are this.
    V3 = 3,
}

impl Version {
    /// The version with this number.
    pub fn from_number(number: u32) -> Result<Version> {
        match number {
            1 => Ok(Version::V1),
            2 => Ok(Version::V2),
            3 => Ok(Version::V3),
            _ => Err(Error::new(Status::Unsupported, format!("volume version {number} is not 1, 2 or 3"))),
        }
    }
}

/// A decoded superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Record layout; a `.vif` file may override it.
    pub version: Version,
    /// Replica placement: decimal digits xyz in one byte.
    pub replica_placement: u8,
    /// Time to live of the whole volume.
    pub ttl: Ttl,
    /// How often the volume was vacuumed, modulo 65,536.
    pub compaction_revision: u16,
    /// Bytes of protobuf that follow.
    pub extra_bytes: u16,
}

impl Superblock {
    /// Decodes the start of a `.dat` file. Errors: `Corrupted` when it is too short, `Unsupported` for a version
    /// this library does not know.
    pub fn decode(bytes: &[u8]) -> Result<Superblock> {
        let &[version, replica_placement, count, unit, r1, r0, e1, e0] = bytes
            .first_chunk::<SUPERBLOCK_BYTES>()
            .ok_or_else(|| Error::new(Status::Corrupted, "the .dat file is shorter than its superblock"))?;
        Ok(Superblock {
            version: Version::from_number(u32::from(version))?,
            replica_placement,
            ttl: Ttl { count, unit },
            compaction_revision: u16::from_be_bytes([r1, r0]),
            extra_bytes: u16::from_be_bytes([e1, e0]),
        })
    }

    /// Offset of the first needle in bytes. Version 1 has no extra part, whatever its length field says.
    pub fn first_needle(&self) -> u64 {
        let extra = if self.version == Version::V1 { 0 } else { u64::from(self.extra_bytes) };
        SUPERBLOCK_BYTES as u64 + extra
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_every_field() {
        let block = Superblock::decode(&[3, 102, 5, 2, 1, 2, 0, 16, 99]).unwrap();
        assert_eq!(block.version, Version::V3);
        assert_eq!(block.replica_placement, 102);
        assert_eq!(block.ttl, Ttl { count: 5, unit: 2 });
        assert_eq!(block.compaction_revision, 258);
        assert_eq!(block.extra_bytes, 16);
        assert_eq!(block.first_needle(), 24);
        let first = Superblock::decode(&[1, 0, 0, 0, 0, 0, 0, 16]).unwrap();
        assert_eq!(first.first_needle(), 8, "version 1 ignores the extra part");
    }

    #[test]
    fn refuses_short_and_unknown() {
        for length in 0..SUPERBLOCK_BYTES {
            assert_eq!(Superblock::decode(&[3; 8][..length]).unwrap_err().status, Status::Corrupted);
        }
        for version in [0, 4, 255] {
            let error = Superblock::decode(&[version, 0, 0, 0, 0, 0, 0, 0]).unwrap_err();
            assert_eq!(error.status, Status::Unsupported);
        }
    }
}
