//! Single entries and ranges: `rde kv get`, `put`, `delete` and `scan`.

use std::io::{self, BufWriter, IsTerminal, Write};

use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::dump::restorable;
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::scan::{Large, Range};
use rdma_engine::kv::store::Store;
use rdma_engine::kv::tree::Found;
use rdma_engine::{Error, Result, Status};
use serde_json::{Map, Value, json};

use super::args::{Delete, Get, On, Put, Scan};
use super::{Kvs, now_ms, now_us, print, quietly};

/// Bytes of entries fetched at a time.
const PAGE: usize = 4 << 20;

/// Prints one value.
pub fn get(kvs: &Kvs<'_>, get: &Get) -> Result<()> {
    let key = kvs.bytes(&get.key)?;
    let view = kvs.view(&get.partition, get.on.branch.as_ref())?;
    let found = if get.floor { view.floor(&key)? } else { view.read(&key)? };
    let found = found.filter(|entry| !get.hide_expired || !expired(entry));
    let Some(found) = found else {
        let what = format!("{} has no key `{}`", get.partition, kvs.shown(&key));
        return Err(Error::new(Status::NotFound, what));
    };
    if let Some(path) = &get.output {
        std::fs::write(path, &found.value).map_err(|error| Error::os(&path.display().to_string(), &error))?;
    }
    if kvs.run.json {
        let mut line = entry_json(kvs, &get.partition, &found);
        if get.output.is_some() {
            line.retain(|name, _| !name.starts_with("value"));
        }
        return kvs.run.print(&Value::Object(line), "");
    }
    if get.output.is_some() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    let value = if kvs.hex { kvs.shown(&found.value).into_bytes() } else { found.value };
    // A person wants a line; a program wants the bytes and nothing else.
    let end: &[u8] = if kvs.hex || io::stdout().is_terminal() { b"\n" } else { b"" };
    let written = out.write_all(&value).and_then(|()| out.write_all(end)).and_then(|()| out.flush());
    quietly(written.map_err(|error| Error::os("cannot write to the standard output", &error)))
}

fn expired(entry: &Found) -> bool {
    entry.expire_ms != 0 && entry.expire_ms <= now_ms()
}

fn entry_json(kvs: &Kvs<'_>, partition: &Partition, entry: &Found) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("partition".into(), json!(partition.to_string()));
    line.extend([kvs.json("key", &entry.key), kvs.json("value", &entry.value)]);
    line.insert("length".into(), json!(entry.value.len()));
    line.insert("timestamp".into(), json!(entry.timestamp));
    line.insert("expire_ms".into(), json!(entry.expire_ms));
    if let Some(metadata) = &entry.large {
        line.insert("large".into(), json!(true));
        line.extend(metadata.as_ref().map(|metadata| kvs.json("metadata", metadata)));
    }
    line
}

/// Writes one value.
pub fn put(kvs: &Kvs<'_>, put: &Put) -> Result<()> {
    let value = match (&put.file, &put.value) {
        (Some(path), _) => {
            std::fs::read(path).map_err(|error| Error::os(&path.display().to_string(), &error))?
        }
        (None, Some(value)) => kvs.bytes(value)?,
        (None, None) => Vec::new(),
    };
    let expire_ms =
        put.ttl.map_or(0, |ttl| now_ms().saturating_add(ttl.0.as_millis().clamp(1, u64::MAX.into()) as u64));
    let action = match put.large {
        true => Action::UpsertLarge { value, metadata: None, expire_ms },
        false => Action::Upsert { value, expire_ms },
    };
    let op = Op { key: kvs.bytes(&put.key)?, action, timestamp: put.when.timestamp.unwrap_or_else(now_us) };
    let store = Store::create(kvs.options.clone())?;
    let applied = write(kvs, &store, (&put.partition, &put.on), vec![op])?;
    let text = if applied == 1 { "written" } else { "not written: the key holds a newer timestamp" };
    kvs.run.print(&json!({"applied": applied}), text)
}

/// Deletes keys, all or none.
pub fn delete(kvs: &Kvs<'_>, delete: &Delete) -> Result<()> {
    let timestamp = delete.when.timestamp.unwrap_or_else(now_us);
    let ops =
        delete.keys.iter().map(|key| Ok(Op { key: kvs.bytes(key)?, action: Action::Delete, timestamp }));
    let ops = ops.collect::<Result<Vec<Op>>>()?;
    let store = kvs.open()?;
    kvs.chosen(&store, std::slice::from_ref(&delete.partition))?;
    let applied = write(kvs, &store, (&delete.partition, &delete.on), ops)?;
    kvs.run.print(&json!({"applied": applied}), &format!("{applied} deletes took effect"))
}

fn write(kvs: &Kvs<'_>, store: &Store, (partition, on): (&Partition, &On), ops: Vec<Op>) -> Result<u64> {
    let batch = Batch::new(ops, Order::Sort, store.options())?;
    kvs.writer(store, partition, on.branch.as_ref())?.write(&batch, now_ms())
}

/// Prints a range.
pub fn scan(kvs: &Kvs<'_>, scan: &Scan) -> Result<()> {
    let (mut begin, mut end) = (kvs.bytes(&scan.begin)?, kvs.bytes(&scan.end)?);
    let view = kvs.view(&scan.partition, scan.on.branch.as_ref())?;
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut left, mut begin_inclusive) = (scan.limit, true);
    loop {
        kvs.go_on()?;
        let range = Range {
            begin: &begin,
            end: &end,
            begin_inclusive,
            max_bytes: PAGE,
            large: Large::Return,
            backward: scan.reverse,
            ..Range::ALL
        };
        let page = view.scan(&range)?;
        for entry in page.entries.iter().filter(|entry| !scan.hide_expired || !expired(entry)) {
            match quietly(print(&mut out, &shown(kvs, scan, entry))) {
                Ok(()) => {}
                Err(error) => return Err(error),
            }
            left = left.saturating_sub(1);
            if left == 0 && scan.limit > 0 {
                return flush(&mut out);
            }
        }
        let Some(last) = page.entries.last().filter(|_| page.remaining) else { return flush(&mut out) };
        if scan.reverse {
            end.clone_from(&last.key);
        } else {
            begin.clone_from(&last.key);
            begin_inclusive = false;
        }
    }
}

fn flush(out: &mut impl Write) -> Result<()> {
    quietly(out.flush().map_err(|error| Error::os("cannot write to the standard output", &error)))
}

fn shown(kvs: &Kvs<'_>, scan: &Scan, entry: &Found) -> String {
    if kvs.run.json {
        let mut line = entry_json(kvs, &scan.partition, entry);
        if scan.keys {
            line.retain(|name, _| !name.starts_with("value"));
        }
        return format!("{}\n", Value::Object(line));
    }
    let key = kvs.shown(&entry.key);
    match (scan.lines, scan.keys) {
        (true, _) => restorable(&scan.partition, entry),
        (false, true) => format!("{key}\n"),
        (false, false) => format!("{key}\t{}\n", kvs.shown(&entry.value)),
    }
}
