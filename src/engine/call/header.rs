//! The typed header of calls and replies, and what a call carries that happens once. Pure; `docs/wire.md` has the bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::status::Status;

/// The header that every storage service uses: 24 bytes, little-endian on the wire. What its fields mean is the
/// service's business, but `reserved` is 0: a receiver refuses anything else, so that it can be given a meaning later.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// A file's offset, a cookie, a size.
    pub offset: u64,
    /// Bytes wanted or carried.
    pub len: u64,
    /// The service's.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

/// Bytes of a [`Header`].
pub const HEADER: usize = size_of::<Header>();
/// Bytes of an [`Once`].
pub const ONCE: usize = 8;

const _: () = assert!(HEADER == 24 && align_of::<Header>() == 8);

impl Header {
    /// Whether every field is 0.
    pub fn is_zero(&self) -> bool {
        *self == Header::default()
    }

    /// Its bytes on the wire.
    pub fn to_wire(self) -> [u8; HEADER] {
        let wire = Header {
            offset: self.offset.to_le(),
            len: self.len.to_le(),
            flags: self.flags.to_le(),
            reserved: self.reserved.to_le(),
        };
        zerocopy::transmute!(wire)
    }

    /// Reads what came. `Protocol` when `reserved` is not 0.
    pub fn from_wire(bytes: [u8; HEADER]) -> Result<Header, Status> {
        let wire: Header = zerocopy::transmute!(bytes);
        let header = Header {
            offset: u64::from_le(wire.offset),
            len: u64::from_le(wire.len),
            flags: u32::from_le(wire.flags),
            reserved: u32::from_le(wire.reserved),
        };
        if header.reserved == 0 { Ok(header) } else { Err(Status::Protocol) }
    }

    /// Reads the header at the beginning of `bytes`, and what follows it.
    pub fn split(bytes: &[u8]) -> Result<(Header, &[u8]), Status> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Status::Protocol)?;
        Ok((Header::from_wire(*header)?, rest))
    }
}

/// Which of a client's calls this is: one that has the number of the last one in its slot is that one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// One call at a time.
    pub slot: u16,
    /// One more than that of the slot's call before; the first is 1.
    pub sequence: u32,
}

impl Once {
    /// Its bytes on the wire.
    pub fn to_wire(self) -> [u8; ONCE] {
        let ([s0, s1], [n0, n1, n2, n3]) = (self.slot.to_le_bytes(), self.sequence.to_le_bytes());
        [s0, s1, 0, 0, n0, n1, n2, n3]
    }

    /// Reads what came; nothing may follow.
    pub fn from_wire(bytes: &[u8]) -> Result<Once, Status> {
        let [s0, s1, 0, 0, n0, n1, n2, n3] = *bytes else { return Err(Status::Protocol) };
        let once =
            Once { slot: u16::from_le_bytes([s0, s1]), sequence: u32::from_le_bytes([n0, n1, n2, n3]) };
        if once.slot < crate::limits::ONCE_SLOTS { Ok(once) } else { Err(Status::Protocol) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let header = Header { offset: 0x0102_0304_0506_0708, len: 9, flags: 0x0A0B, reserved: 0 };
        let wire = header.to_wire();
        assert_eq!(wire[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(wire[8..], [9, 0, 0, 0, 0, 0, 0, 0, 0x0B, 0x0A, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Header::from_wire(wire), Ok(header));
        let once = Once { slot: 0x0102, sequence: 0x0304_0506 };
        assert_eq!(once.to_wire(), [2, 1, 0, 0, 6, 5, 4, 3]);
        assert_eq!(Once::from_wire(&once.to_wire()), Ok(once));
    }

    #[test]
    fn what_is_reserved_or_short_is_refused() {
        for at in 20..24 {
            let mut wire = Header::default().to_wire();
            wire[at] = 1;
            assert_eq!(Header::from_wire(wire), Err(Status::Protocol));
        }
        assert!((0..HEADER).all(|len| Header::split(&[0; HEADER][..len]).is_err()));
        assert!((0..16).all(|len| Once::from_wire(&[0; 16][..len]).is_ok() == (len == ONCE)));
        for (at, value) in [(1, 4), (2, 1), (3, 1)] {
            let mut wire = Once { slot: 0, sequence: 1 }.to_wire();
            wire[at] = value;
            assert_eq!(Once::from_wire(&wire), Err(Status::Protocol), "byte {at}");
        }
    }
}
