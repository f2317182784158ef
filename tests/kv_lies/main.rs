//! Pages that lie under a checksum that matches, as a defect or malice makes them. What holds then:
//!
//! - A data page that lies can change what is said of the keys in its own range, an overflow page its one key's value.
//!   All else is right, or `CORRUPTED`.
//! - An index page that lies never gives a key another's value. A scan is whole, or `CORRUPTED`. A point read or floor
//!   may miss an entry whose separator lies.
//! - Nothing panics, hangs or takes memory without bounds, also when batches are written over it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../kv_support/mod.rs"]
mod kv_support;

mod liar;
mod reads;
mod writes;

use kv_support::Folder;
use rdma_engine::Result;
use rdma_engine::Status;
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::scan::{Large, Range};
use rdma_engine::kv::tree::Found;
use rdma_engine::kv::writer::Writer;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const ALL: Range<'static> = Range { large: Large::Return, ..Range::ALL };
const ENTRIES: u64 = 420;

/// What is right: each key's entry.
type Truth = BTreeMap<Vec<u8>, Found>;

/// Numbers that a seed decides.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

fn partition() -> Partition {
    Partition { table: "t".into(), number: 0 }
}

fn options(folder: &Path, append: bool) -> Options {
    Options {
        store_paths: vec![folder.to_owned()],
        append,
        pages_per_file_shift: 4,
        overflow_pointers: 2,
        data_restart_interval: 3,
        // Every separator is a restart point, so that entries are easily left out.
        index_restart_interval: 1,
        segment_size: 4096,
        segments_per_file_shift: 3,
        ..Options::default()
    }
}

/// Long keys make a deep tree of few entries.
fn key(i: u64) -> Vec<u8> {
    [&[b'k'; 250][..], format!("{i:06}").as_bytes()].concat()
}

fn value(i: u64, seed: u64) -> Vec<u8> {
    let len = match i % 30 {
        7 => 13_000,
        8 => 9_000,
        _ => 300 + (i * 37 % 400) as usize,
    };
    (0..len).map(|at| (at as u64 * 31 + i * 7 + seed) as u8).collect()
}

fn upsert(i: u64, seed: u64) -> Op {
    let (value, expire_ms) = (value(i, seed), if i.is_multiple_of(4) { 1 << 40 } else { 0 });
    let action = match i % 30 {
        9 => Action::UpsertLarge { value, metadata: None, expire_ms },
        _ => Action::Upsert { value, expire_ms },
    };
    Op { key: key(i), action, timestamp: seed }
}

/// A store of one partition, written in several batches.
fn written(append: bool) -> (Folder, Arc<Options>) {
    let folder = Folder::in_memory();
    let options = Arc::new(options(&folder.0, append));
    let mut writer = Writer::open(options.clone(), &folder.0.join("t.0")).unwrap();
    for part in 0..6 {
        // Odd numbers are absent.
        let ops = (0..ENTRIES).filter(|i| i % 6 == part).map(|i| upsert(2 * i, 5)).collect();
        writer.write(&Batch::new(ops, Order::Refuse, &options).unwrap(), 0).unwrap();
    }
    (folder, options)
}

/// An error is `CORRUPTED` and names a file and a byte.
fn corrupted<T>(result: &Result<T>, place: &str) -> bool {
    let Err(error) = result else { return false };
    assert_eq!(error.status, Status::Corrupted, "{place}: {error}");
    let named = ["data_", "manifest_", "segment_"].iter().any(|file| error.message.contains(file));
    assert!(named && error.message.contains(", byte "), "{place}: {error}");
    true
}
