//! A partition that is written to and compared with a model, through the writer, a reader and the second decoder.

#![allow(dead_code, reason = "each test file uses a part")]

use crate::kv_oracle::{Entries, Shape, decode};
use crate::kv_support::Folder;
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::scan::{Large, Range};
use rdma_engine::kv::source::now;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::writer::Writer;
use std::sync::Arc;

pub const ALL: Range<'static> = Range { large: Large::Return, ..Range::ALL };

pub fn shape(options: &Options) -> Shape {
    Shape {
        page_size: options.page_size,
        pages_per_file_shift: options.pages_per_file_shift,
        overflow_pointers: options.overflow_pointers,
        data_restart: options.data_restart_interval,
        index_restart: options.index_restart_interval,
        segment_size: options.segment_size,
        segments_per_file_shift: options.segments_per_file_shift,
    }
}

pub fn partition() -> Partition {
    Partition { table: "t".into(), number: 0 }
}

/// A store in a folder of its own, and what should be in its only partition.
pub struct Checked {
    pub folder: Folder,
    pub options: Arc<Options>,
    pub writer: Option<Writer>,
    pub model: Entries,
}

impl Checked {
    pub fn new(mut options: Options) -> Checked {
        let folder = Folder::new();
        options.store_paths = vec![folder.0.clone()];
        let options = Arc::new(options);
        let mut checked = Checked { folder, options, writer: None, model: Entries::new() };
        checked.reopen();
        checked
    }

    pub fn reopen(&mut self) {
        self.writer = None;
        self.writer = Some(Writer::open(self.options.clone(), &self.folder.0.join("t.0")).unwrap());
    }

    pub fn write(&mut self, ops: Vec<Op>, now_ms: u64) {
        let batch = Batch::new(ops, Order::Sort, &self.options).unwrap();
        self.writer.as_mut().unwrap().write(&batch, now_ms).unwrap();
        for op in batch.ops() {
            if self.model.get(&op.key).is_some_and(|(_, timestamp, _)| *timestamp > op.timestamp) {
                continue;
            }
            match &op.action {
                Action::Upsert { value, expire_ms } | Action::UpsertLarge { value, expire_ms, .. }
                    if *expire_ms == 0 || *expire_ms > now_ms =>
                {
                    self.model.insert(op.key.clone(), (value.clone(), op.timestamp, *expire_ms));
                }
                _ => {
                    self.model.remove(&op.key);
                }
            }
        }
    }

    /// Through the writer's own view.
    pub fn check_live(&self) {
        let scanned = now(self.writer.as_ref().unwrap().tree().scan(&ALL)).unwrap().entries;
        self.compare(
            scanned.into_iter().map(|entry| (entry.key, (entry.value, entry.timestamp, entry.expire_ms))),
        );
    }

    /// Through a reader that opens the directory, and through the second decoder.
    pub fn check_disk(&self) {
        let view = Store::open((*self.options).clone()).unwrap().view(&partition()).unwrap();
        let Some(view) = view else { return assert!(self.model.is_empty()) };
        let scanned = view.scan(&ALL).unwrap().entries;
        self.compare(
            scanned.into_iter().map(|entry| (entry.key, (entry.value, entry.timestamp, entry.expire_ms))),
        );
        self.compare(decode(&self.folder.0.join("t.0"), "manifest_main_0", shape(&self.options)));
    }

    pub fn compare(&self, found: impl IntoIterator<Item = (Vec<u8>, (Vec<u8>, u64, u64))>) {
        let mut expected = self.model.iter();
        for (key, entry) in found {
            let (expected_key, expected_entry) = expected.next().expect("too many entries");
            assert_eq!(&key, expected_key);
            assert!(&entry == expected_entry, "entry of {key:?}");
        }
        assert!(expected.next().is_none(), "entries are missing");
    }
}

pub fn upsert(key: impl Into<Vec<u8>>, value: Vec<u8>, timestamp: u64, expire_ms: u64) -> Op {
    Op { key: key.into(), action: Action::Upsert { value, expire_ms }, timestamp }
}

/// A repeatable value that compresses somewhat.
pub fn value(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b"abcdefgh"[(state >> 40) as usize % 8]
    };
    (0..len).map(|_| next()).collect()
}
