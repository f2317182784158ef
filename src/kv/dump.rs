//! Stores as text, a line an entry: `<table.partition> <key> <length> <value> <timestamp> <expiry>`.
//!
//! Keys are hex. Values are `h:` and hex up to 64 bytes, `s:` and their SHA-256 beyond. Lines of very large values
//! begin with `LARGE` and have `meta=` before the timestamp; they follow the others of their partition.

use super::names::Partition;
use super::scan::{Large, Range};
use super::store::{Store, View};
use super::tree::Found;
use crate::status::{Error, Result, Status};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Write;

/// Longest value that is printed in full, in bytes.
const PLAIN: usize = 64;
/// Bytes of entries fetched at a time.
const PAGE: usize = 4 << 20;

/// Which state of partitions is printed.
#[derive(Clone, Copy, Debug)]
pub enum State<'n> {
    /// What is there now.
    Now,
    /// An archive, by its tag or file name.
    Archive(&'n str),
    /// A branch, by its name.
    Branch(&'n str),
}

/// Prints every partition of a store, or, with `archive`, those that have an archive of this tag or file name.
pub fn dump(store: &Store, archive: Option<&str>, out: &mut impl Write) -> Result<()> {
    dump_state(store, archive.map_or(State::Now, State::Archive), |_| true, line, out)
}

/// Prints one state of the partitions that `wanted` names, each entry as `format` says. A state that no partition has
/// is `NOT_FOUND`.
pub fn dump_state(
    store: &Store,
    state: State<'_>,
    wanted: impl Fn(&Partition) -> bool,
    format: impl Fn(&Partition, &Found) -> String,
    out: &mut impl Write,
) -> Result<()> {
    let mut found = false;
    for partition in store.partitions().filter(|partition| wanted(partition)) {
        let view = match state {
            State::Archive(name) => store.archive(partition, name)?,
            State::Branch(name) => store.branch(partition, name)?,
            State::Now => store.view(partition)?,
        };
        if let Some(view) = view {
            found = true;
            dump_view(partition, &view, &format, out)?;
        }
    }
    match state {
        State::Archive(name) if !found => {
            Err(Error::new(Status::NotFound, format!("no partition has an archive {name}")))
        }
        State::Branch(name) if !found => {
            Err(Error::new(Status::NotFound, format!("no partition has a branch {name}")))
        }
        _ => Ok(()),
    }
}

/// Prints one partition; very large values after the others.
fn dump_view(
    partition: &Partition,
    view: &View,
    format: impl Fn(&Partition, &Found) -> String,
    out: &mut impl Write,
) -> Result<()> {
    let mut large = String::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let range = Range {
            begin: after.as_deref().unwrap_or(&[]),
            begin_inclusive: after.is_none(),
            max_bytes: PAGE,
            large: Large::Return,
            ..Range::ALL
        };
        let mut scanned = view.scan(&range)?;
        for entry in &scanned.entries {
            let line = format(partition, entry);
            match entry.large {
                Some(_) => large += &line,
                None => write(out, &line)?,
            }
        }
        if !scanned.remaining {
            return write(out, &large);
        }
        after = scanned.entries.pop().map(|entry| entry.key);
    }
}

fn write(out: &mut impl Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).map_err(|error| Error::os("writing the dump", &error))
}

/// An entry as a line of a golden file.
pub fn line(partition: &Partition, entry: &Found) -> String {
    let mut line = String::new();
    if entry.large.is_some() {
        line.push_str("LARGE ");
    }
    let _ = write!(line, "{partition} {} {} {}", hex(&entry.key), entry.value.len(), shown(&entry.value));
    if let Some(metadata) = &entry.large {
        let _ = write!(line, " meta={}", shown(metadata.as_deref().unwrap_or_default()));
    }
    let _ = writeln!(line, " {} {}", entry.timestamp, entry.expire_ms);
    line
}

fn shown(value: &[u8]) -> String {
    match value.len() {
        0..=PLAIN => format!("h:{}", hex(value)),
        _ => format!("s:{}", hex(&Sha256::digest(value))),
    }
}

/// An entry as a line of JSON.
pub fn json(partition: &Partition, entry: &Found) -> String {
    let mut line = serde_json::json!({
        "partition": partition.to_string(),
        "key_hex": hex(&entry.key),
        "length": entry.value.len(),
        "timestamp": entry.timestamp,
        "expire_ms": entry.expire_ms,
    });
    match entry.value.len() {
        0..=PLAIN => line["value_hex"] = hex(&entry.value).into(),
        _ => line["sha256"] = hex(&Sha256::digest(&entry.value)).into(),
    }
    if let Some(metadata) = &entry.large {
        line["large"] = true.into();
        line["metadata_hex"] = metadata.as_deref().map(hex).into();
    }
    format!("{line}\n")
}

/// An entry as a line that `restore` reads.
pub fn restorable(partition: &Partition, entry: &Found) -> String {
    let (key, value) = (hex(&entry.key), hex(&entry.value));
    let (timestamp, expire_ms) = (entry.timestamp, entry.expire_ms);
    match &entry.large {
        None => format!("{partition} {key} {value} {timestamp} {expire_ms}\n"),
        Some(None) => format!("LARGE {partition} {key} {value} {timestamp} {expire_ms}\n"),
        Some(Some(metadata)) => {
            format!("LARGE {partition} {key} {value} meta={} {timestamp} {expire_ms}\n", hex(metadata))
        }
    }
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            out.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    out
}
