//! The engine: the same bytes as without it, over both back-ends; committed states while it writes; every completion
//! once; bounds that hold.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/both.rs"]
#[macro_use]
mod both;
#[path = "../kv_support/mod.rs"]
mod kv_support;

mod bounds;
mod branches;
mod ends;
#[cfg(feature = "cli")]
mod golden;
mod log;
mod model;
mod scans;
mod upkeep;

use rdma_engine::kv::batch::{Action, Op};
use rdma_engine::kv::engine::{Backend, Choice, Engine, EngineOptions};
use rdma_engine::kv::options::Options;
use std::path::Path;

/// A small engine: one shard, a cache of 64 pages, no upkeep.
fn small(io: Choice, path: &Path) -> EngineOptions {
    EngineOptions {
        store: Options {
            store_paths: vec![path.to_owned()],
            pages_per_file_shift: 6,
            segment_size: 8192,
            segments_per_file_shift: 2,
            manifest_limit: 64 << 10,
            ..Options::default()
        },
        io,
        cache_bytes: 64 * 4096,
        reads: 16,
        writes: 8,
        open_files: 8,
        open_partitions: 8,
        upkeep_interval: std::time::Duration::ZERO,
        ..EngineOptions::default()
    }
}

fn open(options: &EngineOptions) -> Engine {
    let engine = Engine::open(options.clone()).unwrap();
    match options.io {
        Choice::Ring => assert!(matches!(engine.backend(), Backend::Ring { .. })),
        Choice::Threads => assert_eq!(engine.backend(), Backend::Threads),
        Choice::Auto => {}
    }
    engine
}

fn upsert(key: &[u8], value: &[u8], timestamp: u64) -> Op {
    let action = Action::Upsert { value: value.to_vec(), expire_ms: 0 };
    Op { key: key.to_vec(), action, timestamp }
}

/// Numbers that a seed decides.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}
