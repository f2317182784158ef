#![no_main]
//! Names of partitions and files: what parses is written the same way.

use libfuzzer_sys::fuzz_target;
use rdma_engine::kv::names::{FileName, Partition};

fuzz_target!(|text: &str| {
    if let Some(partition) = Partition::parse(text) {
        assert_eq!(partition.to_string(), text);
        assert!(!text.contains('/'));
    }
    if let Some(file) = FileName::parse(text) {
        assert_eq!(file.to_string(), text);
        assert!(!text.contains('/'));
    }
});
