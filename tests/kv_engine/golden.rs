//! Stores that the C++ engine wrote.

use super::kv_support::{golden, options};
use super::open;
use rdma_engine::kv::engine::{Choice, Engine, EngineOptions, Handle, Request, Scan};
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::scan::Large;
use rdma_engine::kv::tree::Found;
use sha2::{Digest, Sha256};
use std::path::Path;

crate::both! {
    every_store_reads_as_expected
    an_archive_reads_as_expected
    reads_and_floors_agree_with_the_scan
}

fn engine(io: Choice, folder: &Path, pages: usize) -> Engine {
    let store = options(folder);
    let cache_bytes = pages * store.page_size;
    // Without upkeep: what the golden stores hold has expired long ago.
    let upkeep_interval = std::time::Duration::ZERO;
    open(&EngineOptions { store, io, cache_bytes, upkeep_interval, ..EngineOptions::default() })
}

fn all(engine: &Engine, partition: Handle) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    loop {
        let begin = found.last().map_or(Vec::new(), |entry| entry.key.clone());
        let (begin_inclusive, large) = (found.is_empty(), Large::Return);
        let scan = Scan { begin, begin_inclusive, large, max_bytes: 64 << 10, ..Scan::default() };
        let scanned = engine.scan(partition, scan).unwrap();
        found.extend(scanned.entries);
        if !scanned.remaining {
            return found;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shown(value: &[u8]) -> String {
    match value.len() {
        0..=64 => format!("h:{}", hex(value)),
        _ => format!("s:{}", hex(&Sha256::digest(value))),
    }
}

fn lines(partition: &Partition, entries: &[Found]) -> String {
    let (mut lines, mut large) = (String::new(), String::new());
    for entry in entries {
        let (key, length, value) = (hex(&entry.key), entry.value.len(), shown(&entry.value));
        let (time, expiry) = (entry.timestamp, entry.expire_ms);
        match &entry.large {
            None => lines += &format!("{partition} {key} {length} {value} {time} {expiry}\n"),
            Some(meta) => {
                let meta = shown(meta.as_deref().unwrap_or_default());
                large += &format!("LARGE {partition} {key} {length} {value} meta={meta} {time} {expiry}\n");
            }
        }
    }
    lines + &large
}

fn every_store_reads_as_expected(io: Choice) {
    let (_folder, root) = golden();
    for name in ["na", "ap", "na_zstd", "ap_zstd", "geo8k", "deep", "seg", "torn"] {
        let folder = root.join(name);
        let engine = engine(io, &folder, 32);
        let mut text = String::new();
        for partition in engine.partitions().unwrap() {
            let handle = engine.partition(&partition.table, partition.number).unwrap();
            text += &lines(&partition, &all(&engine, handle));
        }
        let expected = std::fs::read_to_string(folder.join("expected.txt")).unwrap();
        for (i, (ours, theirs)) in text.lines().zip(expected.lines()).enumerate() {
            assert_eq!(ours, theirs, "{name} line {}", i + 1);
        }
        assert_eq!(text.len(), expected.len(), "{name}");
        assert!(engine.stats().cached_pages <= 32);
    }
}

fn an_archive_reads_as_expected(io: Choice) {
    let (_folder, root) = golden();
    let folder = root.join("ap");
    let engine = engine(io, &folder, 32);
    let archive = engine.archive("t0", 0, "snap1").unwrap();
    let partition = Partition { table: "t0".into(), number: 0 };
    let expected = std::fs::read_to_string(folder.join("expected_archive_t0.0_snap1.txt")).unwrap();
    assert!(lines(&partition, &all(&engine, archive)) == expected);
    let absent = engine.archive("t0", 0, "snap2").unwrap();
    assert_eq!(engine.read(absent, b"key").unwrap_err().status, rdma_engine::Status::NotFound);
    let error = engine.call(archive, Request::Truncate { position: Vec::new() }).unwrap_err();
    assert_eq!(error.status, rdma_engine::Status::Unsupported);
}

fn reads_and_floors_agree_with_the_scan(io: Choice) {
    let (_folder, root) = golden();
    for name in ["na_zstd", "deep", "geo8k"] {
        let engine = engine(io, &root.join(name), 1024);
        for partition in engine.partitions().unwrap() {
            let handle = engine.partition(&partition.table, partition.number).unwrap();
            let entries = all(&engine, handle);
            for entry in entries.iter().step_by(7) {
                assert_eq!(engine.read(handle, &entry.key).unwrap().as_ref(), Some(entry));
                assert_eq!(engine.floor(handle, &entry.key).unwrap().as_ref(), Some(entry));
            }
        }
    }
}
