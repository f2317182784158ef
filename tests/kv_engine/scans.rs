//! Long scans: pages that lie together are read together, others one by one, and every entry comes once.

use crate::{open, small};
use rdma_engine::kv::batch::{Action, Op, Order};
use rdma_engine::kv::engine::{Answer, Choice, Engine, Handle, Request, Scan};
use std::collections::BTreeMap;

crate::both! { packed_scans_return_what_was_written }

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn op(model: &mut Model, number: u32, round: u8) -> Op {
    // Some have pages of their own.
    let len = if number.is_multiple_of(997) { 9_000 } else { 100 + number as usize % 150 };
    let (key, value) = (format!("{number:08}").into_bytes(), vec![round ^ number as u8; len]);
    model.insert(key.clone(), value.clone());
    Op { key, action: Action::Upsert { value, expire_ms: 0 }, timestamp: u64::from(round) }
}

fn packed(engine: &Engine, partition: Handle, max_bytes: usize, backward: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut all, mut last) = (Vec::new(), Vec::new());
    loop {
        let (begin, end) = if backward { (Vec::new(), last) } else { (last, Vec::new()) };
        let begin_inclusive = begin.is_empty();
        let scan = Scan { begin, end, begin_inclusive, max_bytes, backward, ..Scan::default() };
        let answer = engine.call(partition, Request::ScanPacked(scan)).unwrap();
        let Answer::Packed { entries, remaining } = answer else { panic!("{answer:?}") };
        all.extend(entries.iter().map(|entry| (entry.key.to_vec(), entry.value.to_vec())));
        assert_eq!(entries.last_key(), all.last().map(|entry| entry.0.as_slice()));
        if !remaining {
            return all;
        }
        last = all.last().unwrap().0.clone();
    }
}

fn packed_scans_return_what_was_written(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&small(io, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    let mut model = Model::new();
    let whole: Vec<Op> = (0..20_000).map(|number| op(&mut model, number, 1)).collect();
    engine.write(partition, whole, Order::Refuse).unwrap();
    let expected = |model: &Model| model.clone().into_iter().collect::<Vec<_>>();
    assert!(packed(&engine, partition, 64 << 10, false) == expected(&model));
    // Their pages lie elsewhere then.
    let some = (0..20_000).filter(|i| i / 300 % 3 == 0);
    let some: Vec<Op> = some.map(|number| op(&mut model, number, 2)).collect();
    engine.write(partition, some, Order::Refuse).unwrap();
    for begin in (0..19_000u32).step_by(700) {
        // Stops early, with pages on the way that nobody comes for.
        let begin = format!("{begin:08}").into_bytes();
        let scan = Scan { begin, max_entries: 500, ..Scan::default() };
        assert_eq!(engine.scan(partition, scan).unwrap().entries.len(), 500);
    }
    let mut all = expected(&model);
    assert!(packed(&engine, partition, 1 << 20, false) == all);
    all.reverse();
    assert!(packed(&engine, partition, 100 << 10, true) == all);
}
