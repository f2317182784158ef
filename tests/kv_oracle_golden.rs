//! The second decoder agrees with the engine about every golden store, so that it can judge what the engine writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod kv_oracle;
mod kv_support;

use kv_oracle::{Shape, decode};
use kv_support::{golden, options};
use rdma_engine::kv::scan::{Large, Range};
use rdma_engine::kv::store::Store;

#[test]
fn two_decoders_agree_about_every_golden_store() {
    let (_folder, root) = golden();
    for name in ["na", "ap", "na_zstd", "ap_zstd", "geo8k", "deep", "seg", "torn"] {
        let options = options(&root.join(name));
        let shape = Shape::parse(&std::fs::read_to_string(root.join(name).join("options.txt")).unwrap());
        let store = Store::open(options.clone()).unwrap();
        for partition in store.partitions() {
            let folders = options.store_paths.iter().map(|path| path.join(partition.to_string()));
            let folder = folders.into_iter().find(|folder| folder.is_dir()).unwrap();
            let theirs = decode(&folder, "manifest_main_0", shape);
            let all = Range { large: Large::Return, ..Range::ALL };
            let ours = store.view(partition).unwrap().unwrap().scan(&all).unwrap().entries;
            assert_eq!(ours.len(), theirs.len(), "{name} {partition}");
            for entry in ours {
                assert!(
                    theirs[&entry.key] == (entry.value, entry.timestamp, entry.expire_ms),
                    "{name} {partition}"
                );
            }
        }
    }
}
