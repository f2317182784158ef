//! Stores from text, a line an entry: `<table.partition> <key hex> <value hex> <timestamp> <expiry ms>`.
//!
//! A line may begin with `LARGE`, and then have `meta=<hex>` before the timestamp: its value goes into segments. Empty
//! lines mean nothing.

use super::batch::{Action, Batch, Op, Order};
use super::names::Partition;
use super::options::Options;
use super::store::Store;
use super::writer::Writer;
use crate::status::{Error, Result, Status};
use std::collections::BTreeMap;
use std::io::{BufRead, Read};

/// Bytes of memory that entries may take before they are written.
const BATCH: usize = 64 << 20;
/// Bytes that an entry takes beside its key and value, about: its place in a list, and two allocations.
const ENTRY: usize = size_of::<Op>() + 32;
/// Bytes of a line beside its value.
const REST_OF_LINE: u64 = 256 << 10;

/// What a restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Lines read.
    pub entries: u64,
    /// Of these, how many took effect: the others were older than what was there.
    pub applied: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Writes the entries of `lines` into the store of `options`, in any order of keys, partitions as they come. Nothing
/// counts as expired. Lines are committed a batch at a time: on an error those before it may have been written.
pub fn restore(options: Options, lines: impl BufRead) -> Result<Restored> {
    restore_watched(options, lines, |_| Ok(()))
}

/// As [`restore`]; `watch` hears after every batch what is done, and may end it with an error.
pub fn restore_watched(
    options: Options,
    lines: impl BufRead,
    mut watch: impl FnMut(&Restored) -> Result<()>,
) -> Result<Restored> {
    let mut lines = Lines { input: lines, limit: 2 * options.value_limit as u64 + REST_OF_LINE, number: 0 };
    let mut target = Target { store: Store::create(options)?, open: None };
    let mut done = Restored::default();
    let mut pending: BTreeMap<Partition, Vec<Op>> = BTreeMap::new();
    let mut held = 0;
    while let Some((partition, op)) = lines.next()? {
        let bytes = op.key.len() + op.action.value().len();
        held += bytes + ENTRY;
        done.bytes += bytes as u64;
        done.entries += 1;
        pending.entry(partition).or_default().push(op);
        if held >= BATCH {
            done.applied += target.write(std::mem::take(&mut pending))?;
            held = 0;
            watch(&done)?;
        }
    }
    done.applied += target.write(pending)?;
    watch(&done)?;
    Ok(done)
}

/// A store that is being filled.
struct Target {
    store: Store,
    /// The partition last written to: lines come mostly a partition at a time. Others are closed, for the sake of
    /// their descriptors.
    open: Option<(Partition, Writer)>,
}

impl Target {
    fn write(&mut self, pending: BTreeMap<Partition, Vec<Op>>) -> Result<u64> {
        let mut applied = 0;
        for (partition, ops) in pending {
            let batch = Batch::new(ops, Order::Sort, self.store.options())?;
            let mut writer = match self.open.take() {
                Some((open, writer)) if open == partition => writer,
                _ => self.store.writer(&partition)?,
            };
            applied += writer.write(&batch, 0)?;
            self.open = Some((partition, writer));
        }
        Ok(applied)
    }
}

struct Lines<R> {
    input: R,
    limit: u64,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<(Partition, Op)>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = self.input.by_ref().take(self.limit).read_until(b'\n', &mut line);
            read.map_err(|error| Error::os("reading the lines to restore", &error))?;
            if line.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            if !line.ends_with(b"\n") && line.len() as u64 == self.limit {
                return Err(self.wrong("it is longer than any value may be"));
            }
            let text = line.trim_ascii();
            if !text.is_empty() {
                return self.entry(text).map(Some);
            }
        }
    }

    fn entry(&self, line: &[u8]) -> Result<(Partition, Op)> {
        let (line, large) = match line.strip_prefix(b"LARGE ") {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        // From the end, because the name of a table may have spaces.
        let mut fields = line.rsplitn(5, |byte| *byte == b' ').collect::<Vec<&[u8]>>();
        let mut metadata = None;
        if large && fields.get(2).is_some_and(|field| field.starts_with(b"meta=")) {
            fields = line.rsplitn(6, |byte| *byte == b' ').collect();
            metadata = Some(fields.remove(2));
        }
        let (partition, key, value, timestamp, expire_ms) = match fields[..] {
            [expire_ms, timestamp, value, key, partition] => (partition, key, value, timestamp, expire_ms),
            _ => {
                return Err(self.wrong(
                    "it needs five fields with a space between: partition, key, value, timestamp, expiry",
                ));
            }
        };
        let text = |field| std::str::from_utf8(field).ok();
        let partition = text(partition).and_then(Partition::parse);
        let partition = partition.ok_or_else(|| self.wrong("the first field must be `<table>.<number>`"))?;
        let number = |field| text(field).and_then(|text: &str| text.parse::<u64>().ok());
        let (Some(timestamp), Some(expire_ms)) = (number(timestamp), number(expire_ms)) else {
            return Err(self.wrong("timestamp and expiry must be numbers"));
        };
        let (Some(key), Some(value)) = (unhex(key), unhex(value)) else {
            return Err(self.wrong("key and value must be hex"));
        };
        let metadata = match metadata.map(|field| field.strip_prefix(b"meta=").and_then(unhex)) {
            Some(None) => return Err(self.wrong("what comes with a very large value must be meta=<hex>")),
            Some(metadata) => metadata,
            None => None,
        };
        let action = match large {
            true => Action::UpsertLarge { value, metadata, expire_ms },
            false => Action::Upsert { value, expire_ms },
        };
        Ok((partition, Op { key, action, timestamp }))
    }

    fn wrong(&self, what: &str) -> Error {
        Error::new(Status::InvalidArgument, format!("line {}: {what}", self.number))
    }
}

/// The bytes that hex digits say, in either case.
pub fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    const fn digit(byte: u8) -> u8 {
        match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => 0xff,
        }
    }
    let (pairs, rest) = text.as_chunks::<2>();
    // Values have up to a GiB: the digits are judged once, after the loop.
    let mut wrong = !rest.is_empty();
    let bytes = pairs.iter().map(|[high, low]| {
        let (high, low) = (digit(*high), digit(*low));
        wrong |= high | low > 0xf;
        high << 4 | low & 0xf
    });
    let bytes = bytes.collect();
    if wrong { None } else { Some(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(Partition, Op)>> {
        let mut lines = Lines { input: text.as_bytes(), limit: 200, number: 0 };
        std::iter::from_fn(|| lines.next().transpose()).collect()
    }

    #[test]
    fn lines_are_read() {
        let ops = parse("t.0 6B 00fF 7 0\nspace and. more.9 61 62 1 2").unwrap();
        assert_eq!(ops[1].0, Partition { table: "space and. more".into(), number: 9 });
        let ops = parse("t.0 6B 00fF 7 0\na.b.3 01  18446744073709551615 9").unwrap();
        assert_eq!(ops.len(), 2);
        assert_eq!(ops[0].1.action, Action::Upsert { value: vec![0, 255], expire_ms: 0 });
        assert_eq!((ops[1].0.to_string(), ops[1].1.timestamp), ("a.b.3".into(), u64::MAX));
        assert_eq!(ops[1].1.action, Action::Upsert { value: vec![], expire_ms: 9 });
    }

    #[test]
    fn blank_lines_line_ends_and_very_large_values() {
        let ops = parse("\r\nt.0 6b 61 7 0\r\n \nLARGE t.0 6c 62 meta=6d 8 9\nLARGE t.0 6d  8 9").unwrap();
        let actions: Vec<Action> = ops.into_iter().map(|(_, op)| op.action).collect();
        let large = |value: &[u8], metadata: Option<Vec<u8>>| Action::UpsertLarge {
            value: value.into(),
            metadata,
            expire_ms: 9,
        };
        let small = Action::Upsert { value: b"a".into(), expire_ms: 0 };
        assert_eq!(actions, [small, large(b"b", Some(b"m".into())), large(b"", None)]);
    }

    #[test]
    fn hex_is_read_in_either_case() {
        assert_eq!(unhex(b"00fFaB"), Some(vec![0, 255, 171]));
        assert_eq!(unhex(b""), Some(vec![]));
        for byte in (0..=255u8).filter(|byte| !byte.is_ascii_hexdigit()) {
            assert_eq!((unhex(&[b'0', byte]), unhex(&[byte, b'0'])), (None, None), "{byte}");
        }
    }

    #[test]
    fn wrong_lines_are_refused_by_number() {
        for line in [
            "x",
            "t.0 6b 00 7",
            "t 6b 00 7 0",
            "t.0 6 00 7 0",
            "t.0 6b 0g 7 0",
            "t.0 6b 00 -7 0",
            "t.0 6b 00 7 0 1",
            "t.0 6b 00 meta=00 7 0",
            "LARGE t.0 6b 00 00 7 0",
            "LARGE t.0 6b 00 meta=0 7 0",
        ] {
            let error = parse(&format!("t.0 6b 00 7 0\n{line}\n")).unwrap_err();
            assert_eq!(error.status, Status::InvalidArgument);
            assert!(error.message.starts_with("line 2: "), "{line}: {error}");
        }
        assert!(parse(&"0".repeat(300)).is_err());
    }
}
