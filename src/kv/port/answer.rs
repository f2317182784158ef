//! Answers as numbers, and their bytes where they belong.

use super::{Memory, Op};
use crate::kv::engine::Answer;
use crate::kv::packed::{EntryRef, HEAD, Packed};
use crate::kv::tree::Found;
use crate::status::{Error, Result, Status};

/// Bytes before each entry: u64 distance to the next entry (a multiple of 8), u64 length of the value, u64 timestamp,
/// u64 expiry, u32 length of the key, u32 flags. Key and value follow.
pub const ENTRY: usize = HEAD;

/// Flag of an answer: the range holds more.
pub const MORE: u32 = 1 << 8;

/// How a request ended.
#[derive(Clone, Debug)]
pub struct Done {
    /// The request's.
    pub user_data: u64,
    /// The request's.
    pub kind: u16,
    /// How.
    pub status: Status,
    /// `errno`, or 0.
    pub os_errno: i32,
    /// Why, for a person; empty without an error.
    pub message: std::borrow::Cow<'static, str>,
    /// Bytes that were written to the memory; of `TRUNCATED`, that are needed.
    pub length: u64,
    /// A read's timestamp, a scan's number of entries, or what was counted.
    pub value: u64,
    /// A read's expiry, unix milliseconds; 0 never.
    pub expire_ms: u64,
    /// [`MORE`] or 0.
    pub flags: u32,
}

impl Done {
    fn new(status: Status) -> Done {
        Done {
            user_data: 0,
            kind: 0,
            status,
            os_errno: 0,
            message: "".into(),
            length: 0,
            value: 0,
            expire_ms: 0,
            flags: 0,
        }
    }

    /// Its error, if it is one.
    pub fn into_result(self) -> Result<()> {
        match self.status {
            Status::Ok => Ok(()),
            status => Err(Error { os_errno: self.os_errno, ..Error::new(status, self.message) }),
        }
    }

    fn failed(error: Error) -> Done {
        Done { os_errno: error.os_errno, message: error.message, ..Done::new(error.status) }
    }

    fn truncated(needed: usize) -> Done {
        let message = format!("{needed} bytes are needed").into();
        Done { length: needed as u64, message, ..Done::new(Status::Truncated) }
    }
}

/// Puts an answer where it belongs.
pub fn settle(result: Result<Answer>, op: Op, memory: Option<&dyn Memory>) -> Done {
    let put = |answer| match (answer, op) {
        (Answer::Found(None), _) => Err(Error::new(Status::NotFound, "there is no such entry")),
        (Answer::Found(Some(found)), Op::Read) => value(&found, memory),
        (Answer::Found(Some(found)), _) => {
            let mut entry = Packed::default();
            entry.push(&EntryRef::from(&found));
            packed(&entry, false, memory)
        }
        (Answer::Scanned(scanned), _) => {
            let mut entries = Packed::default();
            scanned.entries.iter().for_each(|found| entries.push(&EntryRef::from(found)));
            packed(&entries, scanned.remaining, memory)
        }
        (Answer::Packed { entries, remaining }, _) => packed(&entries, remaining, memory),
        (Answer::Count(count), _) => Ok(Done { value: count, ..Done::new(Status::Ok) }),
        (Answer::Names(names), _) => Ok(Done { value: names.len() as u64, ..Done::new(Status::Ok) }),
        (Answer::Done, _) => Ok(Done::new(Status::Ok)),
    };
    result.and_then(put).unwrap_or_else(Done::failed)
}

fn room(memory: Option<&dyn Memory>) -> usize {
    memory.map_or(0, Memory::room)
}

fn write(memory: Option<&dyn Memory>, at: usize, bytes: &[u8]) -> Result<()> {
    match memory {
        Some(memory) if !bytes.is_empty() => memory.put(at, bytes),
        _ => Ok(()),
    }
}

fn value(found: &Found, memory: Option<&dyn Memory>) -> Result<Done> {
    let (value, expire_ms) = (found.timestamp, found.expire_ms);
    if found.value.len() > room(memory) {
        return Ok(Done { value, expire_ms, ..Done::truncated(found.value.len()) });
    }
    write(memory, 0, &found.value)?;
    Ok(Done { value, expire_ms, length: found.value.len() as u64, ..Done::new(Status::Ok) })
}

/// As many entries as there is room for; at least one, or it is `TRUNCATED`.
fn packed(entries: &Packed, remaining: bool, memory: Option<&dyn Memory>) -> Result<Done> {
    let room = room(memory);
    let (mut len, mut count) = (entries.bytes().len(), entries.len());
    if len > room {
        (len, count) = (0, 0);
        for entry in entries.iter() {
            if len + entry.size() > room {
                break;
            }
            len += entry.size();
            count += 1;
        }
    }
    if let (0, Some(first)) = (count, entries.iter().next()) {
        return Ok(Done::truncated(first.size()));
    }
    write(memory, 0, &entries.bytes()[..len])?;
    let flags = if remaining || count < entries.len() { MORE } else { 0 };
    Ok(Done { length: len as u64, value: count as u64, flags, ..Done::new(Status::Ok) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::scan::Scanned;
    use parking_lot::Mutex;

    struct Place(Mutex<Vec<u8>>);

    impl Memory for Place {
        fn room(&self) -> usize {
            self.0.lock().len()
        }

        fn put(&self, at: usize, bytes: &[u8]) -> Result<()> {
            self.0.lock()[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    fn found(key: &str, value: &str) -> Found {
        Found { key: key.into(), value: value.into(), timestamp: 7, expire_ms: 9, large: None }
    }

    #[test]
    fn values_land_whole_or_not_at_all() {
        let place = Place(Mutex::new(vec![0xee; 5]));
        let done = settle(Ok(Answer::Found(Some(found("k", "value")))), Op::Read, Some(&place));
        assert_eq!((done.status, done.length, done.value, done.expire_ms), (Status::Ok, 5, 7, 9));
        let done = settle(Ok(Answer::Found(Some(found("k", "longer")))), Op::Read, Some(&place));
        assert_eq!((done.status, done.length), (Status::Truncated, 6));
        assert_eq!(*place.0.lock(), b"value");
        let done = settle(Ok(Answer::Found(None)), Op::Read, None);
        assert_eq!(done.status, Status::NotFound);
        let done = settle(Ok(Answer::Found(Some(found("k", "")))), Op::Read, None);
        assert_eq!((done.status, done.length), (Status::Ok, 0));
    }

    #[test]
    fn entries_land_as_far_as_there_is_room() {
        let scanned = |remaining| {
            Answer::Scanned(Scanned { entries: vec![found("a", "1"), found("bb", "22")], remaining })
        };
        for (room, count, more) in [(96, 2, false), (95, 1, true), (48, 1, true)] {
            let place = Place(Mutex::new(vec![0xee; room]));
            let done = settle(Ok(scanned(false)), Op::Entries, Some(&place));
            assert_eq!((done.status, done.value, done.flags != 0), (Status::Ok, count, more), "{room}");
            let bytes = place.0.lock();
            assert_eq!((bytes[0], bytes[8], bytes[16], bytes[24], bytes[32]), (48, 1, 7, 9, 1));
            assert_eq!(&bytes[40..42], b"a1");
            assert_eq!(done.length, 48 * count);
        }
        let place = Place(Mutex::new(vec![0xee; 47]));
        let done = settle(Ok(scanned(true)), Op::Entries, Some(&place));
        assert_eq!((done.status, done.length), (Status::Truncated, 48));
        assert!(place.0.lock().iter().all(|byte| *byte == 0xee));
        let empty = settle(Ok(Answer::Scanned(Scanned::default())), Op::Entries, None);
        assert_eq!((empty.status, empty.value, empty.flags), (Status::Ok, 0, 0));
    }
}
