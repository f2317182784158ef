//! One read as it arrives: a file id, perhaps with a token, a part and flags.

use std::ops::Range;

use super::token::ReadKey;
use super::{FILE_ID, read};
use crate::status::{Error, Result, Status};
use crate::volume::{FileId, Needle, ReadOptions};

/// A read that may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub id: FileId,
    pub offset: u64,
    pub len: u64,
    pub flags: u32,
}

impl Ask {
    /// Takes a read apart and checks its token, if there is a `key`. Errors: `InvalidArgument`, `Unauthorized`.
    pub fn new(text: &[u8], offset: u64, len: u64, flags: u32, key: Option<&ReadKey>) -> Result<Ask> {
        let invalid = |why| Error::new(Status::InvalidArgument, why);
        if flags & !read::ALL != 0 || text.len() > FILE_ID {
            return Err(invalid("an unknown flag, or too long a file id"));
        }
        let text = std::str::from_utf8(text).map_err(|_| invalid("a file id is UTF-8"))?;
        let (path, token) = match text.split_once('?') {
            None => (text, None),
            Some((path, query)) => {
                let token =
                    query.strip_prefix("jwt=").ok_or_else(|| invalid("what follows ? is no jwt=TOKEN"))?;
                (path, Some(token).filter(|token| !token.is_empty()))
            }
        };
        let id = FileId::from_path(path)?;
        if let Some(key) = key {
            key.check(token, &FileId::name(path)?)?;
        }
        Ok(Ask { id, offset, len, flags })
    }

    /// How the volume is to read it; `wait` as of [`ReadOptions`].
    pub fn options(&self, wait: bool) -> ReadOptions {
        let (read_deleted, stored) = (self.flags & read::LIVE == 0, self.flags & read::STORED != 0);
        ReadOptions { read_deleted, stored, wait, now_ns: None }
    }

    /// Which bytes of a needle it is for. Errors: those of [`Needle::range`].
    pub fn range(&self, needle: &Needle, options: &ReadOptions) -> Result<Range<u32>> {
        match self.flags & read::RANGE {
            0 => Ok(0..needle.data_length),
            _ => needle.range(self.offset, usize::try_from(self.len).unwrap_or(usize::MAX), options),
        }
    }

    /// Bytes of data that it brings at most, of a record of this size field: the data is never longer than that.
    pub fn room(&self, size: u32) -> u64 {
        match self.flags & (read::STAT | read::RANGE) {
            0 => size.into(),
            read::RANGE => self.len.min(size.into()),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_refusals() {
        let ask = |text: &str, flags| Ask::new(text.as_bytes(), 1, 2, flags, None).map_err(|e| e.status);
        let id = FileId { volume: 3, needle: 1, cookie: 0x6370_37d6 };
        for text in ["3,01637037d6", "/3/01637037d6/name.jpg", "3,01637037d6?jwt=", "3,01637037d6?jwt=a.b.c"]
        {
            assert_eq!(ask(text, read::ALL), Ok(Ask { id, offset: 1, len: 2, flags: read::ALL }), "{text}");
        }
        for text in ["", "3", "3,01637037d6?", "3,01637037d6?width=7", "3,01637037d6?jw", "?jwt=a"] {
            assert_eq!(ask(text, 0), Err(Status::InvalidArgument), "{text}");
        }
        assert_eq!(ask("3,01637037d6", read::ALL + 1), Err(Status::InvalidArgument));
        let long = format!("3,01637037d6/{}", "x".repeat(FILE_ID));
        assert_eq!(ask(&long, 0), Err(Status::InvalidArgument));
        assert!(Ask::new(b"3,\xff1637037d6", 0, 0, 0, None).is_err());
        let key = ReadKey::new(b"key").unwrap();
        let locked = |text: &str| Ask::new(text.as_bytes(), 0, 0, 0, Some(&key)).map_err(|e| e.status);
        assert_eq!(locked("3,01637037d6"), Err(Status::Unauthorized));
        assert_eq!(locked("3,01637037d6?jwt="), Err(Status::Unauthorized));
        assert_eq!(locked("3,01637037d6?jwt=a.b.c"), Err(Status::Unauthorized));
        assert_eq!(locked("nonsense"), Err(Status::InvalidArgument));
    }

    #[test]
    fn room_for_whole_needles_parts_and_nothing() {
        let room = |flags, len| Ask { id: "3,01637037d6".parse().unwrap(), offset: 9, len, flags }.room(100);
        assert_eq!((room(0, 7), room(read::RANGE, 7), room(read::RANGE, 700)), (100, 7, 100));
        assert_eq!((room(read::STAT, 7), room(read::STAT | read::RANGE, 7)), (0, 0));
    }
}
