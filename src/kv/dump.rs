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

/// Prints every partition of a store, or, with `archive`, those that have an archive of this tag or file name.
pub fn dump(store: &Store, archive: Option<&str>, out: &mut impl Write) -> Result<()> {
    let mut found = false;
    for partition in store.partitions() {
        let view = match archive {
            Some(name) => store.archive(partition, name)?,
            None => store.view(partition)?,
        };
        if let Some(view) = view {
            found = true;
            dump_view(partition, &view, out)?;
        }
    }
    match archive {
        Some(name) if !found => {
            Err(Error::new(Status::NotFound, format!("no partition has an archive {name}")))
        }
        _ => Ok(()),
    }
}

/// Prints one partition.
pub fn dump_view(partition: &Partition, view: &View, out: &mut impl Write) -> Result<()> {
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
            let line = line(partition, entry);
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

fn line(partition: &Partition, entry: &Found) -> String {
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

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}
