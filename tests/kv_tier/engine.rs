//! The engine over the tier: readers go on while it uploads, and while there is nothing to upload to.

use super::faulty::{Fate, Faulty};
use super::kv_support::Folder;
use super::{noise, over_folder, partition, quick, upsert};
use object_store::memory::InMemory;
use rdma_engine::Status;
use rdma_engine::kv::batch::Order;
use rdma_engine::kv::engine::{Answer, Choice, Completions, Engine, EngineOptions, Request, Scan};
use rdma_engine::kv::options::Options;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::tier::Tier;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

fn engine(store: Options) -> EngineOptions {
    EngineOptions {
        store,
        io: Choice::Threads,
        cache_bytes: 64 * 4096,
        reads: 16,
        writes: 8,
        open_files: 8,
        open_partitions: 8,
        upkeep_interval: Duration::ZERO,
        ..EngineOptions::default()
    }
}

fn over(store: &Options, objects: Arc<dyn object_store::ObjectStore>) -> Engine {
    Engine::over(engine(store.clone()), Tier::with_store(store, objects).unwrap()).unwrap()
}

#[test]
fn shards_write_and_another_machine_reads() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let options = |name: &str| {
        let mut options = over_folder(&folder.0.join(name), &objects.0);
        (options.threads, options.cloud.local_space) = (2, 300 << 10);
        engine(options)
    };
    let writing = Engine::open(options("a")).unwrap();
    for round in 0..12u64 {
        for number in 0..4 {
            let partition = writing.partition("t", number).unwrap();
            let ops = (0..30).map(|i| upsert(&format!("{i:03}"), &noise(round * 1000 + i, 700))).collect();
            writing.write(partition, ops, Order::Sort).unwrap();
        }
    }
    let compacted = writing.partition("t", 1).unwrap();
    writing.call(compacted, Request::Compact).unwrap();
    writing.call(compacted, Request::Archive { tag: "kept".into() }).unwrap();
    let reading = Engine::open(options("b")).unwrap();
    assert_eq!(reading.partitions().unwrap().len(), 4);
    for number in 0..4 {
        let partition = reading.partition("t", number).unwrap();
        for i in 0..30 {
            let found = reading.read(partition, format!("{i:03}").as_bytes()).unwrap().unwrap();
            assert!(found.value == noise(11_000 + i, 700), "partition {number}, key {i}");
        }
    }
    let archive = reading.archive("t", 1, "kept").unwrap();
    assert_eq!(reading.scan(archive, Scan::default()).unwrap().entries.len(), 30);
    // Reading took nothing over.
    let first = writing.partition("t", 0).unwrap();
    writing.write(first, vec![upsert("new", b"1")], Order::Sort).unwrap();
    let there = reading.partition("t", 0).unwrap();
    assert!(reading.read(there, b"new").unwrap().is_none());
    reading.call(there, Request::Reopen).unwrap();
    assert_eq!(reading.read(there, b"new").unwrap().unwrap().value, b"1");
    // Writing does.
    reading.write(there, vec![upsert("new", b"2")], Order::Sort).unwrap();
    let error = writing.write(first, vec![upsert("new", b"3")], Order::Sort).unwrap_err();
    assert_eq!(error.status, Status::ExpiredTerm, "{error}");
    assert_eq!(writing.read(first, b"new").unwrap().unwrap().value, b"1");
    let limit = 300 << 10;
    for engine in [&writing, &reading] {
        assert!(engine.tier().unwrap().stats().cached_bytes <= limit);
    }
}

#[test]
fn readers_do_not_wait_for_an_upload() {
    let folder = Folder::new();
    let faulty = Faulty::new(Arc::new(InMemory::new()));
    let engine = over(&quick(&folder.0), faulty.clone());
    let partition = engine.partition("t", 0).unwrap();
    engine.write(partition, vec![upsert("k", b"1")], Order::Sort).unwrap();
    let (gate, met) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (wait, reached) = (gate.clone(), met.clone());
    let mut once = true;
    faulty.judge(move |what, key| {
        match what == "put" && key.contains("data_") && std::mem::take(&mut once) {
            true => {
                reached.notify_one();
                Fate::Wait(wait.clone())
            }
            false => Fate::Go,
        }
    });
    let completions = Completions::new(4).unwrap();
    let write = Request::Write { ops: vec![upsert("k", b"2")], order: Order::Sort };
    engine.submit(partition, write, &completions, 7).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(met.notified());
    for _ in 0..100 {
        assert_eq!(engine.read(partition, b"k").unwrap().unwrap().value, b"1");
    }
    assert!(completions.try_next().is_none(), "it is not acknowledged before it is up");
    gate.notify_one();
    let done = completions.next(Some(Duration::from_secs(60))).unwrap();
    assert!(done.user_data == 7 && done.result.is_ok(), "{done:?}");
    assert_eq!(engine.read(partition, b"k").unwrap().unwrap().value, b"2");
}

#[test]
fn a_dead_object_store_stops_writes_and_not_reads() {
    let folder = Folder::new();
    let faulty = Faulty::new(Arc::new(InMemory::new()));
    let engine = over(&quick(&folder.0), faulty.clone());
    let partition = engine.partition("t", 0).unwrap();
    let all: Vec<_> = (0..50).map(|i| upsert(&format!("{i:03}"), &noise(i, 900))).collect();
    engine.write(partition, all, Order::Sort).unwrap();
    for dead in ["data_", "manifest", "CURRENT_TERM"] {
        faulty.judge(move |_, key| if key.contains(dead) { Fate::Fail } else { Fate::Go });
        let error = engine.write(partition, vec![upsert("x", dead.as_bytes())], Order::Sort).unwrap_err();
        assert_eq!(error.status, Status::Unreachable, "{error}");
        faulty.judge(|_, _| Fate::Fail);
        let error = engine.write(partition, vec![upsert("x", dead.as_bytes())], Order::Sort).unwrap_err();
        assert_eq!(error.status, Status::Unreachable, "{error}");
        assert_eq!(engine.call(partition, Request::Reopen).unwrap_err().status, Status::Unreachable);
        for i in 0..50 {
            let found = engine.read(partition, format!("{i:03}").as_bytes()).unwrap().unwrap();
            assert!(found.value == noise(i, 900), "key {i} without {dead}");
        }
        // Nobody has to open anything again.
        faulty.judge(|_, _| Fate::Go);
        engine.write(partition, vec![upsert("y", dead.as_bytes())], Order::Sort).unwrap();
        assert_eq!(engine.read(partition, b"y").unwrap().unwrap().value, dead.as_bytes());
    }
    assert_eq!(engine.scan(partition, Scan::default()).unwrap().entries.len(), 52);
}

#[test]
fn upkeep_of_a_reader_takes_nothing_over() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let options = |name: &str| EngineOptions {
        upkeep_interval: Duration::from_millis(1),
        ..engine(over_folder(&folder.0.join(name), &objects.0))
    };
    let (writing, reading) = (Engine::open(options("a")).unwrap(), Engine::open(options("b")).unwrap());
    let (here, there) = (writing.partition("t", 0).unwrap(), reading.partition("t", 0).unwrap());
    for round in 0..60u64 {
        let ops = (0..10).map(|i| upsert(&format!("{i:03}"), &noise(round + i, 900))).collect();
        writing.write(here, ops, Order::Sort).unwrap();
        reading.call(there, Request::Reopen).unwrap();
        for i in 0..10 {
            match reading.read(there, format!("{i:03}").as_bytes()) {
                Ok(found) => assert!(found.unwrap().value == noise(round + i, 900), "round {round}, key {i}"),
                // The writer's upkeep has moved it meanwhile.
                Err(error) => assert_eq!(error.status, Status::Stale, "{error}"),
            }
        }
    }
    assert_eq!(reading.stats().upkeep, 0);
    assert!(writing.stats().upkeep > 0, "there was something to compact");
    drop((writing, reading));
    let last = Store::open(over_folder(Path::new(&folder.0.join("c")), &objects.0)).unwrap();
    super::check(&last);
    assert_eq!(last.partitions().collect::<Vec<_>>(), [&partition()]);
}

/// However small the limit is, everybody reads: what was just fetched stays until it is opened.
#[test]
fn many_readers_share_a_cache_that_is_too_small() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let writing = Engine::open(engine(over_folder(&folder.0.join("a"), &objects.0))).unwrap();
    let partition = writing.partition("t", 0).unwrap();
    for round in 0..20u64 {
        let ops = (0..20).map(|i| upsert(&format!("{:04}", round * 20 + i), &noise(round * 20 + i, 1000)));
        writing.write(partition, ops.collect(), Order::Sort).unwrap();
    }
    let mut options = over_folder(&folder.0.join("b"), &objects.0);
    options.cloud.local_space = 1;
    let reading = Engine::open(engine(options)).unwrap();
    let partition = reading.partition("t", 0).unwrap();
    let completions = Completions::new(512).unwrap();
    for i in 0..400u64 {
        let key = format!("{:04}", i * 37 % 400).into_bytes();
        reading.submit(partition, Request::Read { key }, &completions, i * 37 % 400).unwrap();
    }
    for _ in 0..400 {
        let done = completions.next(Some(Duration::from_secs(60))).unwrap();
        let Answer::Found(Some(found)) = done.result.unwrap() else {
            panic!("{} is missing", done.user_data)
        };
        assert!(found.value == noise(done.user_data, 1000), "{}", done.user_data);
    }
    assert!(reading.tier().unwrap().stats().evicted > 0);
}
