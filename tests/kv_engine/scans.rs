//! Long scans: pages that lie together are read together, others one by one, and every entry comes once.

use crate::{open, small};
use rdma_engine::Status;
use rdma_engine::kv::batch::{Action, Op, Order};
use rdma_engine::kv::engine::{Answer, Choice, Completions, Engine, EngineOptions, Handle, Request, Scan};
use rdma_engine::kv::options::Options;
use std::collections::BTreeMap;

crate::both! {
    packed_scans_return_what_was_written
    what_was_read_ahead_is_not_read_again
    a_partition_that_is_not_there_is_not_an_empty_one
}

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

/// Scans in pieces, of each partition one at a time and all of them at once: how many entries and pieces there were.
fn side_by_side(engine: &Engine, partitions: &[Handle], max_bytes: usize) -> (usize, u64) {
    let completions = Completions::new(partitions.len()).unwrap();
    let submit = |place: u64, begin: &[u8]| {
        let (begin, begin_inclusive) = (begin.to_vec(), begin.is_empty());
        let scan = Scan { begin, begin_inclusive, max_bytes, ..Scan::default() };
        engine.submit(partitions[place as usize], Request::ScanPacked(scan), &completions, place).unwrap();
    };
    (0..partitions.len() as u64).for_each(|place| submit(place, &[]));
    let (mut found, mut pieces) = (0, 0);
    while completions.outstanding() > 0 {
        let completion = completions.next(None).unwrap();
        let Ok(Answer::Packed { entries, remaining }) = completion.result else { panic!("no entries") };
        (found, pieces) = (found + entries.len(), pieces + 1);
        if remaining {
            submit(completion.user_data, entries.last_key().unwrap());
        }
    }
    (found, pieces)
}

fn what_was_read_ahead_is_not_read_again(io: Choice) {
    const KEYS: u32 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let mut options = small(io, folder.path());
    options.store.pages_per_file_shift = 12;
    let engine = open(&options);
    let partitions: Vec<Handle> = (0..4).map(|number| engine.partition("t", number).unwrap()).collect();
    let before = engine.stats().data_bytes;
    for partition in &partitions {
        let value = vec![7; 128];
        let entry = |number: u32| Op {
            key: format!("{number:08}").into_bytes(),
            action: Action::Upsert { value: value.clone(), expire_ms: 0 },
            timestamp: 1,
        };
        engine.write(*partition, (0..KEYS).map(entry).collect(), Order::Refuse).unwrap();
    }
    let pages = (engine.stats().data_bytes - before) / 4096;
    for (readers, max_bytes) in
        [(&partitions[..1], 90 << 10), (&partitions, 90 << 10), (&partitions, 1 << 20)]
    {
        let before = engine.stats().pages_read;
        let (found, pieces) = side_by_side(&engine, readers, max_bytes);
        assert_eq!(found, KEYS as usize * readers.len());
        let (read, there) = (engine.stats().pages_read - before, pages * readers.len() as u64 / 4);
        // A piece begins in a page that the one before ended in, and finds its way to it over two others at most. Of several
        // readers one may be kept from the processor until it seems to have stopped.
        let late = if readers.len() > 1 { there / 10 } else { 0 };
        assert!(read <= there + 3 * pieces + late, "{read} pages read of {there}, in {pieces} pieces");
    }
}

fn a_partition_that_is_not_there_is_not_an_empty_one(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let in_memory = EngineOptions { store: Options::default(), ..small(io, folder.path()) };
    for options in [small(io, folder.path()), in_memory] {
        let engine = open(&options);
        let partition = engine.partition("t", 0).unwrap();
        let scan = |request| engine.call(partition, request).map_err(|error| error.status);
        let both = || [Request::Scan(Scan::default()), Request::ScanPacked(Scan::default())].map(scan);
        assert_eq!(both(), [Err(Status::NotFound), Err(Status::NotFound)]);
        engine.write(partition, vec![op(&mut Model::new(), 1, 1)], Order::Refuse).unwrap();
        engine.call(partition, Request::Truncate { position: Vec::new() }).unwrap();
        assert!(both().iter().all(Result::is_ok));
        assert_eq!(engine.scan(partition, Scan::default()).unwrap().entries, []);
        engine.call(partition, Request::Drop).unwrap();
        assert_eq!(both(), [Err(Status::NotFound), Err(Status::NotFound)]);
    }
}
