//! Stores from text, a line an entry: `<table.partition> <key hex> <value hex> <timestamp> <expiry ms>`.

use super::batch::{Action, Batch, Op, Order};
use super::names::Partition;
use super::options::Options;
use super::store::Store;
use crate::status::{Error, Result, Status};
use std::collections::BTreeMap;
use std::io::{BufRead, Read};

/// Bytes of entries that are collected before they are written.
const BATCH: usize = 64 << 20;
/// Bytes of a line beside its value.
const REST_OF_LINE: u64 = 128 << 10;

/// What a restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Lines read.
    pub entries: u64,
    /// Of these, how many took effect: the others were older than what was there.
    pub applied: u64,
}

/// Writes the entries of `lines` into the store of `options`, in any order of keys, partitions as they come. Nothing
/// counts as expired. Lines are committed a batch at a time: on an error those before it may have been written.
pub fn restore(options: Options, lines: impl BufRead) -> Result<Restored> {
    let mut lines = Lines { input: lines, limit: 2 * options.value_limit as u64 + REST_OF_LINE, number: 0 };
    let store = Store::create(options)?;
    let mut done = Restored::default();
    let mut pending: BTreeMap<Partition, Vec<Op>> = BTreeMap::new();
    let mut bytes = 0;
    while let Some((partition, op)) = lines.next()? {
        bytes += op.key.len() + if let Action::Upsert { value, .. } = &op.action { value.len() } else { 0 };
        pending.entry(partition).or_default().push(op);
        done.entries += 1;
        if bytes >= BATCH {
            done.applied += write(&store, std::mem::take(&mut pending))?;
            bytes = 0;
        }
    }
    done.applied += write(&store, pending)?;
    Ok(done)
}

fn write(store: &Store, pending: BTreeMap<Partition, Vec<Op>>) -> Result<u64> {
    let mut applied = 0;
    for (partition, ops) in pending {
        let batch = Batch::new(ops, Order::Sort, store.options())?;
        applied += store.writer(&partition)?.write(&batch, 0)?;
    }
    Ok(applied)
}

struct Lines<R> {
    input: R,
    limit: u64,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<(Partition, Op)>> {
        let mut line = Vec::new();
        let read = self.input.by_ref().take(self.limit).read_until(b'\n', &mut line);
        read.map_err(|error| Error::os("reading the lines to restore", &error))?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if !line.ends_with(b"\n") && line.len() as u64 == self.limit {
            return Err(self.wrong("it is longer than any value may be"));
        }
        let line = line.trim_ascii_end();
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [partition, key, value, timestamp, expire_ms] = fields[..] else {
            return Err(self.wrong(
                "it needs five fields with a space between: partition, key, value, timestamp, expiry",
            ));
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
        Ok(Some((partition, Op { key, action: Action::Upsert { value, expire_ms }, timestamp })))
    }

    fn wrong(&self, what: &str) -> Error {
        Error::new(Status::InvalidArgument, format!("line {}: {what}", self.number))
    }
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
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
        let ops = parse("t.0 6B 00fF 7 0\na.b.3 01  18446744073709551615 9").unwrap();
        assert_eq!(ops.len(), 2);
        assert_eq!(ops[0].1.action, Action::Upsert { value: vec![0, 255], expire_ms: 0 });
        assert_eq!((ops[1].0.to_string(), ops[1].1.timestamp), ("a.b.3".into(), u64::MAX));
        assert_eq!(ops[1].1.action, Action::Upsert { value: vec![], expire_ms: 9 });
    }

    #[test]
    fn wrong_lines_are_refused_by_number() {
        for line in [
            "",
            "t.0 6b 00 7",
            "t 6b 00 7 0",
            "t.0 6 00 7 0",
            "t.0 6b 0g 7 0",
            "t.0 6b 00 -7 0",
            "t.0 6b 00 7 0 1",
        ] {
            let error = parse(&format!("t.0 6b 00 7 0\n{line}\n")).unwrap_err();
            assert_eq!(error.status, Status::InvalidArgument);
            assert!(error.message.starts_with("line 2: "), "{line}: {error}");
        }
        assert!(parse(&"0".repeat(300)).is_err());
    }
}
