//! Many partitions and few file descriptors. Alone in its process, which the limit holds for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod kv_support;

use kv_support::Folder;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::restore::restore;
use rdma_engine::kv::scan::Range;
use rdma_engine::kv::store::Store;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt::Write as _;

#[test]
fn a_thousand_partitions_with_64_descriptors() {
    let folder = Folder::in_memory();
    let limit = getrlimit(Resource::Nofile);
    let store_paths = vec![folder.0.join("store"), folder.0.join("other")];
    let options = Options { store_paths, weights: vec![1, 2], ..Options::default() };
    let mut lines = String::new();
    for i in 0..1000 {
        for key in 0..3 {
            writeln!(lines, "table.{i} {key:04x} {i:08x} 1 0").unwrap();
        }
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: limit.maximum }).unwrap();
    let restored = restore(options.clone(), lines.as_bytes());
    let store = Store::open(options).unwrap();
    let mut count = 0;
    for partition in store.partitions() {
        let entries = store.view(partition).unwrap().unwrap().scan(&Range::ALL).unwrap().entries;
        assert!(entries.iter().all(|entry| entry.value == partition.number.to_be_bytes()));
        count += entries.len();
    }
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!((restored.unwrap().applied, count), (3000, 3000));
    let on = |path: &str| std::fs::read_dir(folder.0.join(path)).unwrap().count();
    // A file in each path records the options.
    assert_eq!((on("store"), on("other")), (334 + 1, 666 + 1));
}
