//! File ids: `3,01637037d6` is volume 3, needle 1, cookie 0x637037d6.

use std::fmt;
use std::str::FromStr;

use crate::status::{Error, Result, Status};

/// Hex digits of the cookie, always written in full.
const COOKIE_DIGITS: usize = 8;

/// Most hex digits of needle id and cookie together.
const KEY_DIGITS: usize = 24;

/// Names one needle. The cookie is a secret that must match the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The volume.
    pub volume: u32,
    /// The needle in the volume.
    pub needle: u64,
    /// Drawn at random when the id was assigned.
    pub cookie: u32,
}

impl FileId {
    /// Parses a path of a volume server's URL: `/3,01637037d6.jpg`, `/3/01637037d6` or `/3/01637037d6/name.jpg`; the
    /// leading slash may be missing. Errors: `InvalidArgument`.
    pub fn from_path(path: &str) -> Result<FileId> {
        let (volume, key) = FileId::split(path)?;
        FileId::from_parts(volume, key)
    }

    /// The `volume,key` of such a path as it is written, without an `_N`: what tokens name. Errors: `InvalidArgument`.
    pub fn name(path: &str) -> Result<String> {
        let (volume, key) = FileId::split(path)?;
        Ok(format!("{volume},{}", key.rsplit_once('_').map_or(key, |(key, _)| key)))
    }

    /// Volume and key, with its `_N`.
    fn split(path: &str) -> Result<(&str, &str)> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (volume, rest) = match path.split_once('/') {
            Some((volume, rest)) => (volume, rest.split_once('/').map_or(rest, |(key, _)| key)),
            None => path.split_once(',').ok_or_else(|| invalid("no comma between volume and key"))?,
        };
        Ok((volume, rest.split_once('.').map_or(rest, |(key, _)| key)))
    }

    fn from_parts(volume: &str, key: &str) -> Result<FileId> {
        let (key, delta) = match key.rsplit_once('_') {
            Some((key, delta)) => {
                (key, decimal(delta).ok_or_else(|| invalid("what follows _ is no number"))?)
            }
            None => (key, 0),
        };
        // A volume id is read as 64 bits and cut to 32 by the servers that made it; be of the same mind.
        let volume = decimal(volume).ok_or_else(|| invalid("the volume is no decimal number"))? as u32;
        if key.len() <= COOKIE_DIGITS || key.len() > KEY_DIGITS {
            return Err(invalid("the key must have 9 to 24 hex digits"));
        }
        if !key.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(invalid("the key is not hexadecimal"));
        }
        let (needle, cookie) = key.split_at(key.len() - COOKIE_DIGITS);
        let needle = u64::from_str_radix(needle, 16).map_err(|_| invalid("the needle id is no number"))?;
        let cookie = u32::from_str_radix(cookie, 16).map_err(|_| invalid("the cookie is no number"))?;
        let needle = needle.checked_add(delta).ok_or_else(|| invalid("what follows _ is too large"))?;
        Ok(FileId { volume, needle, cookie })
    }
}

impl FromStr for FileId {
    type Err = Error;

    /// Parses `volume,key` with an optional `_N`, which adds N to the needle id.
    fn from_str(text: &str) -> Result<FileId> {
        let (volume, key) = text.split_once(',').ok_or_else(|| invalid("no comma between volume and key"))?;
        FileId::from_parts(volume, key)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whole bytes, leading zero bytes dropped, at least one.
        let zero_bytes = (self.needle.leading_zeros() / 8).min(7) as usize;
        let digits = 2 * (8 - zero_bytes);
        write!(f, "{},{:0digits$x}{:08x}", self.volume, self.needle, self.cookie)
    }
}

/// Digits only: `from_str` alone would take a plus sign.
fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|digit| digit.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn invalid(why: &'static str) -> Error {
    Error::new(Status::InvalidArgument, format!("not a file id: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: FileId = FileId { volume: 3, needle: 1, cookie: 0x6370_37d6 };

    #[test]
    fn forms() {
        assert_eq!("3,01637037d6".parse::<FileId>().unwrap(), ID);
        assert_eq!("3,1637037d6".parse::<FileId>().unwrap(), ID, "an odd count of digits");
        assert_eq!("3,0000000000000001637037D6".parse::<FileId>().unwrap(), ID);
        for path in
            ["3,01637037d6", "/3,01637037d6.jpg", "/3/01637037d6", "3/01637037d6/a,b_c.x", "/3/01637037d6.gz"]
        {
            assert_eq!(FileId::from_path(path).unwrap(), ID, "{path}");
        }
        let third = FileId { needle: 3, ..ID };
        assert_eq!("3,01637037d6_2".parse::<FileId>().unwrap(), third);
        assert_eq!(FileId::from_path("/3,01637037d6_2.jpg").unwrap(), third);
        for path in ["3,01637037d6", "/3,01637037d6_2.jpg", "3/01637037d6_1/a_b.c"] {
            assert_eq!(FileId::name(path).unwrap(), "3,01637037d6", "{path}");
        }
        assert_eq!("4294967299,01637037d6".parse::<FileId>().unwrap(), ID, "cut to 32 bits");
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            ",",
            "3",
            "3,",
            "3,637037d6",
            "x,01637037d6",
            "+3,01637037d6",
            ",01637037d6",
            "3,01637037dg",
            "3,+1637037d6",
            "3,01637037d6_",
            "3,01637037d6_x",
            "3,00000000000000001637037d6",
            "-1,01637037d6",
            "3,ffffffffffffffff637037d6_1",
            "3,01637037d6_99999999999999999999",
            "3,é1637037d6",
            "3,01é37037d6",
        ] {
            let error = text.parse::<FileId>().unwrap_err();
            assert_eq!(error.status, Status::InvalidArgument, "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        assert_eq!(ID.to_string(), "3,01637037d6");
        for needle in [0, 1, 0xff, 0x100, 0x1234_5678_9abc, u64::MAX] {
            for cookie in [0, 1, u32::MAX] {
                let id = FileId { volume: u32::MAX, needle, cookie };
                assert_eq!(id.to_string().parse::<FileId>().unwrap(), id);
                assert_eq!(id.to_string().len() % 2, 1, "volume and comma are 11 long, the rest whole bytes");
            }
        }
    }
}
