//! The writer on the C++ engine's stores: restored from their entries, and continued where the engine stopped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod kv_checked;
mod kv_oracle;
mod kv_support;

use kv_checked::{shape, upsert, value};
use kv_oracle::{Entries, decode};
use kv_support::{Folder, golden, options};
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::restore::restore;
use rdma_engine::kv::scan::Range;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::writer::Writer;
use std::fmt::Write as _;
use std::sync::Arc;

/// Every golden store, restored from its own entries by our writer, holds the same entries.
#[test]
fn golden_stores_are_restored() {
    let (_folder, root) = golden();
    for name in ["na", "ap", "na_zstd", "ap_zstd", "geo8k", "deep", "torn"] {
        let from = options(&root.join(name));
        let mut lines = String::new();
        let store = Store::open(from.clone()).unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for partition in store.partitions() {
            for entry in store.view(partition).unwrap().unwrap().scan(&Range::ALL).unwrap().entries {
                let (key, value) = (hex(&entry.key), hex(&entry.value));
                writeln!(lines, "{partition} {key} {value} {} {}", entry.timestamp, entry.expire_ms).unwrap();
            }
        }
        let folder = Folder::new();
        let mut to = from.clone();
        to.store_paths = (0..from.store_paths.len()).map(|i| folder.0.join(format!("disk{i}"))).collect();
        let restored = restore(to.clone(), lines.as_bytes()).unwrap();
        assert_eq!(restored.entries, lines.lines().count() as u64);
        assert_eq!(restored.applied, restored.entries);
        let ours = Store::open(to.clone()).unwrap();
        for partition in store.partitions() {
            let expected = store.view(partition).unwrap().unwrap().scan(&Range::ALL).unwrap().entries;
            let Some(view) = ours.view(partition).unwrap() else {
                assert!(expected.is_empty(), "{name} {partition}");
                continue;
            };
            assert!(view.scan(&Range::ALL).unwrap().entries == expected, "{name} {partition}");
            let folder =
                to.store_paths.iter().map(|path| path.join(partition.to_string())).find(|path| path.is_dir());
            let theirs = decode(&folder.unwrap(), "manifest_main_0", shape(&to));
            assert_eq!(theirs.len(), expected.len());
            for entry in expected {
                assert!(theirs[&entry.key] == (entry.value, entry.timestamp, entry.expire_ms));
            }
        }
    }
}

/// The writer goes on where the C++ engine stopped.
#[test]
fn golden_stores_are_continued() {
    let (_folder, root) = golden();
    for name in ["na", "ap", "na_zstd", "ap_zstd", "geo8k", "deep", "torn"] {
        let mut options = options(&root.join(name));
        let store = Store::open(options.clone()).unwrap();
        for partition in store.partitions() {
            let folders = options.store_paths.iter().map(|path| path.join(partition.to_string()));
            let folder = folders.into_iter().find(|folder| folder.is_dir()).unwrap();
            let before = store.view(partition).unwrap().unwrap().scan(&Range::ALL).unwrap().entries;
            let mut model: Entries = before
                .into_iter()
                .map(|entry| (entry.key, (entry.value, entry.timestamp, entry.expire_ms)))
                .collect();
            let mut ops = Vec::new();
            for (i, key) in model.keys().enumerate() {
                let value = value(i * 37 % 6000, i as u64);
                match i % 3 {
                    0 => {
                        ops.push(Op { key: key.clone(), action: Action::Delete, timestamp: i64::MAX as u64 })
                    }
                    1 => ops.push(upsert(
                        key.clone(),
                        value.clone(),
                        i64::MAX as u64,
                        i as u64 % 2 * 5_000_000_000_000,
                    )),
                    _ => {}
                }
                ops.push(upsert([&key[..key.len().min(1000)], &[7]].concat(), value, 5, 0));
            }
            options.value_limit = 64 << 20;
            let shared = Arc::new(options.clone());
            let batch = Batch::new(ops, Order::Sort, &shared).unwrap();
            Writer::open(shared, &folder).unwrap().write(&batch, 0).unwrap();
            for op in batch.ops() {
                match &op.action {
                    Action::Delete => drop(model.remove(&op.key)),
                    Action::Upsert { value, expire_ms } | Action::UpsertLarge { value, expire_ms, .. } => {
                        if model.get(&op.key).is_none_or(|old| old.1 <= op.timestamp) {
                            model.insert(op.key.clone(), (value.clone(), op.timestamp, *expire_ms));
                        }
                    }
                }
            }
            let theirs = decode(&folder, "manifest_main_0", shape(&options));
            assert!(theirs == model, "{name} {partition}");
            let after = store.view(partition).unwrap().unwrap().scan(&Range::ALL).unwrap().entries;
            assert!(
                after.len() == model.len() && after.iter().all(|entry| model[&entry.key].0 == entry.value)
            );
        }
    }
}
