//! Writes while others read: every read sees a committed state, never an older one than was acknowledged.

use super::{Random, open, small, upsert};
use rdma_engine::Status;
use rdma_engine::kv::batch::{Action, Op, Order};
use rdma_engine::kv::engine::{Choice, Engine, EngineOptions, Handle, Request, Scan};
use rdma_engine::kv::options::Options;
use rdma_engine::kv::scan::Large;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

crate::both! {
    readers_see_committed_states_in_place
    readers_see_committed_states_appended
    readers_see_committed_states_in_a_log
    it_agrees_with_a_model_in_a_log
    it_agrees_with_a_model
}

#[test]
fn it_agrees_with_a_model_in_memory() {
    agree(EngineOptions { store: Options::default(), ..small(Choice::Auto, "unused".as_ref()) }, 5, false);
}

const KEYS: usize = 600;

fn key(i: usize) -> Vec<u8> {
    format!("key-{i:05}").into_bytes()
}

/// Every commit writes one number into all keys, so a scan that sees two numbers saw no committed state.
fn readers_see_committed_states(options: &EngineOptions, rounds: u64) {
    let engine = open(options);
    let partition = engine.partition("t", 0).unwrap();
    let (acknowledged, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (engine, acknowledged, done) = (&engine, &acknowledged, &done);
            scope.spawn(move || read(engine, partition, acknowledged, done, seed));
        }
        for round in 1..=rounds {
            // Lengths vary, so that pages split and empty.
            let value = |i: usize| {
                let mut value = round.to_le_bytes().to_vec();
                value.resize(8 + (i * 37 + round as usize * 101) % 900, i as u8);
                value
            };
            let ops = (0..KEYS).map(|i| upsert(&key(i), &value(i), round)).collect();
            assert_eq!(engine.write(partition, ops, Order::Refuse).unwrap(), KEYS as u64);
            acknowledged.store(round, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
    });
    engine.close();
}

fn read(engine: &Engine, partition: Handle, acknowledged: &AtomicU64, done: &AtomicBool, seed: u64) {
    let mut random = Random(seed);
    let number = |value: &[u8]| u64::from_le_bytes(*value.first_chunk().unwrap());
    let mut reads = 0;
    while !done.load(Ordering::SeqCst) || reads == 0 {
        let before = acknowledged.load(Ordering::SeqCst);
        if before == 0 {
            std::thread::yield_now();
            continue;
        }
        if random.below(3) == 0 {
            let entries = engine.scan(partition, Scan::default()).unwrap().entries;
            assert_eq!(entries.len(), KEYS, "seed {seed}");
            let first = number(&entries[0].value);
            assert!(first >= before, "seed {seed}: {first} after {before} was acknowledged");
            assert!(
                entries.iter().all(|entry| number(&entry.value) == first),
                "seed {seed}: two states at once"
            );
        } else {
            let i = random.below(KEYS);
            let found = engine.read(partition, &key(i)).unwrap().unwrap();
            assert!(number(&found.value) >= before && found.value[8..].iter().all(|byte| *byte == i as u8));
        }
        reads += 1;
    }
}

fn readers_see_committed_states_in_place(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    readers_see_committed_states(&small(io, folder.path()), 60);
}

/// With compaction and collection as fast as they come.
fn readers_see_committed_states_appended(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = small(io, folder.path());
    options.store.append = true;
    options.upkeep_interval = Duration::from_millis(1);
    readers_see_committed_states(&options, 60);
    let data = std::fs::read_dir(folder.path().join("t.0")).unwrap();
    let files =
        data.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("data_"));
    // 60 rounds filled more than 150 files.
    assert!(files.count() < 60, "nothing was collected");
}

/// With a log that is merged every few rounds.
fn readers_see_committed_states_in_a_log(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = small(io, folder.path());
    options.log_bytes = 1 << 20;
    readers_see_committed_states(&options, 60);
}

fn it_agrees_with_a_model_in_a_log(io: Choice) {
    agree_both_ways(io, [11, 12], 1 << 20);
}

fn it_agrees_with_a_model(io: Choice) {
    agree_both_ways(io, [1, 2], 0);
}

/// In place with data pages in the cache, and appending with compression.
fn agree_both_ways(io: Choice, [in_place, appending]: [u64; 2], log_bytes: usize) {
    for (seed, append) in [(in_place, false), (appending, true)] {
        let folder = tempfile::tempdir().unwrap();
        let mut options = small(io, folder.path());
        options.store.append = append;
        options.store.compression = append;
        options.cache_data_pages = !append;
        options.log_bytes = log_bytes;
        agree(options, seed, true);
    }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Random requests to a few partitions; now and then they are closed and opened again.
fn agree(options: EngineOptions, seed: u64, lasting: bool) {
    let mut engine = open(&options);
    let mut random = Random(seed);
    let mut models = vec![Model::new(); 3];
    for step in 0..120u64 {
        let at = random.below(models.len());
        let (partition, model) = (engine.partition("m", at as u32).unwrap(), &mut models[at]);
        match random.below(12) {
            0 => {
                let position = key(random.below(KEYS));
                engine.call(partition, Request::Truncate { position: position.clone() }).unwrap();
                model.split_off(&position);
            }
            1 if random.below(3) == 0 => {
                engine.call(partition, Request::Drop).unwrap();
                model.clear();
            }
            2 => drop(engine.call(partition, Request::Reopen).unwrap()),
            3 if options.store.append => drop(engine.call(partition, Request::Compact).unwrap()),
            4 if lasting => {
                engine.close();
                engine = open(&options);
            }
            _ => {
                let ops = batch(&mut random, step, model);
                engine.write(partition, ops, Order::Sort).unwrap();
            }
        }
        for (at, model) in models.iter().enumerate() {
            let partition = engine.partition("m", at as u32).unwrap();
            let scan = Scan { large: Large::Return, max_bytes: 0, ..Scan::default() };
            let entries = match engine.scan(partition, scan) {
                Err(error) if error.status == Status::NotFound => Vec::new(),
                scanned => scanned.unwrap().entries,
            };
            let found: Vec<_> = entries.iter().map(|entry| (&entry.key, &entry.value)).collect();
            assert!(found == model.iter().collect::<Vec<_>>(), "seed {seed} step {step} partition {at}");
        }
    }
}

fn batch(random: &mut Random, step: u64, model: &mut Model) -> Vec<Op> {
    let mut ops = Vec::new();
    for _ in 0..random.below(200) {
        let key = key(random.below(KEYS));
        let action = match random.below(10) {
            0..=2 => Action::Delete,
            3 => {
                let value = vec![random.below(256) as u8; random.below(20_000)];
                Action::UpsertLarge { value, metadata: None, expire_ms: 0 }
            }
            _ => {
                let value = vec![random.below(256) as u8; random.below(3_000)];
                Action::Upsert { value, expire_ms: 0 }
            }
        };
        match &action {
            Action::Delete => model.remove(&key),
            Action::Upsert { value, .. } | Action::UpsertLarge { value, .. } => {
                model.insert(key.clone(), value.clone())
            }
        };
        ops.push(Op { key, action, timestamp: step });
    }
    ops
}
