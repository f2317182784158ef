//! The object storage tier: over folders and stores that fail on purpose, and over a real S3 server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../kv_support/mod.rs"]
mod kv_support;

mod cache;
mod command;
mod crash;
mod engine;
mod faulty;
mod fencing;
mod proxy;
mod refusals;
mod weed;

use kv_support::Folder;
use object_store::ObjectStore;
use rdma_engine::Result;
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::dump;
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::survey;
use rdma_engine::kv::tier::Tier;
use rdma_engine::kv::writer::Writer;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Small files, so that there are many.
fn options(local: &Path, text: &str) -> Options {
    let text = format!(
        "store_path=local\npages_per_file_shift=3\nsegment_size=4096\nsegments_per_file_shift=2\nmanifest_limit=16384\n{text}"
    );
    Options::from_lines(&text, local).unwrap()
}

/// A store whose objects are in the folder `objects`, and its cache in `local`.
fn over_folder(local: &Path, objects: &Path) -> Options {
    options(local, &format!("cloud_provider=local\ncloud_store_path={}\n", objects.display()))
}

/// A store over an object store of the test's own.
fn over(options: &Options, objects: Arc<dyn ObjectStore>) -> Result<Store> {
    Store::over(options.clone(), Tier::with_store(options, objects)?)
}

/// Options for an object store that is no folder: requests end soon, and are repeated once.
fn quick(local: &Path) -> Options {
    let mut options = options(local, "cloud_store_path=bucket/prefix\ncloud_retries=1\n");
    options.cloud.timeout = Duration::from_secs(5);
    options
}

fn partition() -> Partition {
    Partition { table: "t".into(), number: 0 }
}

fn upsert(key: &str, value: &[u8]) -> Op {
    let action = Action::Upsert { value: value.to_vec(), expire_ms: 0 };
    Op { key: key.as_bytes().to_vec(), action, timestamp: 1 }
}

fn write(writer: &mut Writer, ops: Vec<Op>) -> Result<u64> {
    let batch = Batch::new(ops, Order::Sort, writer.options())?;
    writer.write(&batch, 0)
}

/// Noise that a number decides.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| byte()).collect()
}

fn dump(store: &Store) -> String {
    let mut out = Vec::new();
    dump::dump(store, None, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Every state of every partition is sound.
fn check(store: &Store) {
    for partition in store.partitions() {
        for (file, report) in survey::check(store, partition, |_| Ok(())).unwrap() {
            assert_eq!(report.problems, Vec::<String>::new(), "{partition} {file}");
        }
    }
}

#[test]
fn an_empty_machine_sees_the_same_store() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let mut store = Store::create(over_folder(&folder.0.join("a"), &objects.0)).unwrap();
    for number in 0..3u32 {
        let partition = Partition { table: "some.table".into(), number };
        let mut writer = store.writer(&partition).unwrap();
        for round in 0..20u64 {
            let mut ops: Vec<Op> = (0..30)
                .map(|i| upsert(&format!("{:03}", (i * 7 + round * 13) % 200), &noise(round * 100 + i, 300)))
                .collect();
            ops.push(upsert("long", &noise(round, 20_000)));
            let action =
                Action::UpsertLarge { value: noise(round, 9_000), metadata: None, expire_ms: 9 << 40 };
            ops.push(Op { key: b"very large".to_vec(), action, timestamp: 1 });
            ops.sort_by(|a, b| a.key.cmp(&b.key));
            ops.dedup_by(|a, b| a.key == b.key);
            write(&mut writer, ops).unwrap();
        }
        rdma_engine::kv::source::now(writer.archive("kept")).unwrap();
        write(&mut writer, vec![upsert("after", b"the archive")]).unwrap();
        rdma_engine::kv::source::now(writer.compact()).unwrap();
        assert!(writer.collect_files().unwrap() > 0);
    }
    store.refresh().unwrap();
    let here = dump(&store);
    assert_eq!(here.lines().filter(|line| line.starts_with("LARGE")).count(), 3);
    check(&store);
    drop(store);
    // The keys are EloqStore's.
    assert!(objects.0.join("CURRENT_TERM_main_0").is_file());
    assert!(objects.0.join("some.table.2").join("manifest_main_1").is_file());
    let other = Store::open(over_folder(&folder.0.join("b"), &objects.0)).unwrap();
    assert_eq!(dump(&other), here);
    check(&other);
    let mut archive = Vec::new();
    dump::dump(&other, Some("kept"), &mut archive).unwrap();
    assert!(!archive.is_empty() && !String::from_utf8(archive).unwrap().contains(&hex("after")));
    assert!(other.tier().unwrap().stats().fetched > 0);
    drop(other);
    // And the first one, with its cache.
    let again = Store::open(over_folder(&folder.0.join("a"), &objects.0)).unwrap();
    assert_eq!(dump(&again), here);
    assert_eq!(again.tier().unwrap().stats().fetched, 0, "all of it was cached");
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
