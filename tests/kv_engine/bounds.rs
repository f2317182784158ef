//! Bounds: pages, files, partitions, and one engine a store.

use super::{Random, open, small, upsert};
use rdma_engine::Status;
use rdma_engine::kv::batch::Order;
use rdma_engine::kv::engine::{Choice, Completions, Engine, EngineOptions, Request, Scan};
use rdma_engine::kv::options::Options;
use rdma_engine::kv::page::{Kind, seal};

crate::both! {
    pages_in_memory_stay_below_the_budget
    a_thousand_partitions_with_a_few_files
    one_engine_a_store
    damage_is_an_error_and_the_rest_is_served
}

fn fill(engine: &Engine, keys: usize) {
    let partition = engine.partition("t", 0).unwrap();
    let key = |i: usize| format!("{i:06}").into_bytes();
    for from in (0..keys).step_by(1000) {
        let ops = (from..from + 1000).map(|i| upsert(&key(i), &[i as u8; 700], 1)).collect();
        engine.write(partition, ops, Order::Refuse).unwrap();
    }
}

fn pages_in_memory_stay_below_the_budget(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    for cache_data_pages in [false, true] {
        let options = EngineOptions { cache_data_pages, ..small(io, folder.path()) };
        let engine = open(&options);
        fill(&engine, 10_000);
        let partition = engine.partition("t", 0).unwrap();
        let completions = Completions::new(256).unwrap();
        let mut random = Random(3);
        for i in 0..5_000 {
            let key = format!("{:06}", random.below(10_000)).into_bytes();
            let request = match i % 50 {
                0 => Request::Scan(Scan { begin: key, max_entries: 300, ..Scan::default() }),
                _ => Request::Read { key },
            };
            while completions.outstanding() == 256 {
                completions.next(None).unwrap().result.unwrap();
            }
            engine.submit(partition, request, &completions, i).unwrap();
            assert!(engine.stats().cached_pages <= 64);
        }
        while completions.outstanding() > 0 {
            completions.next(None).unwrap().result.unwrap();
        }
        let stats = engine.stats();
        // The cache, 512 pages read ahead, and four for each of 28 tasks.
        assert!(stats.pool_pages_most <= 64 + 512 + 4 * 28, "{stats:?}");
        // The index is smaller than the cache; with data pages it is full.
        let cached = if cache_data_pages { 64..=64 } else { 2..=63 };
        assert!(stats.pages_read > 2_000 && cached.contains(&stats.cached_pages), "{stats:?}");
    }
}

fn descriptors_below(path: &std::path::Path) -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries
        .filter(|entry| {
            std::fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|to| to.starts_with(path))
        })
        .count()
}

fn a_thousand_partitions_with_a_few_files(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&small(io, folder.path()));
    for number in 0..1_000u32 {
        let partition = engine.partition("t", number).unwrap();
        engine.write(partition, vec![upsert(b"key", &number.to_le_bytes(), 1)], Order::Refuse).unwrap();
        if number % 100 == 0 {
            // Eight files, eight locks, and what one request has open besides.
            assert!(descriptors_below(folder.path()) <= 20);
        }
    }
    for number in (0..1_000u32).rev() {
        let partition = engine.partition("t", number).unwrap();
        let found = engine.read(partition, b"key").unwrap().unwrap();
        assert_eq!(found.value, number.to_le_bytes());
    }
    let stats = engine.stats();
    assert!(stats.open_partitions <= 8 && stats.open_files <= 8, "{stats:?}");
    assert_eq!(engine.drop_table("t").unwrap(), 1_000);
    assert_eq!(engine.partitions().unwrap(), []);
}

fn one_engine_a_store(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (open(&small(io, folder.path())), open(&small(io, folder.path())));
    let write = |engine: &Engine| {
        engine.write(engine.partition("t", 0).unwrap(), vec![upsert(b"k", b"v", 1)], Order::Refuse)
    };
    write(&first).unwrap();
    assert_eq!(write(&second).unwrap_err().status, Status::WrongState);
    first.close();
    write(&second).unwrap();
    second.close();
    let options = EngineOptions {
        store: Options { pages_per_file_shift: 7, ..small(io, folder.path()).store },
        ..small(io, folder.path())
    };
    assert_eq!(Engine::open(options).unwrap_err().status, Status::InvalidArgument);
}

fn damage_is_an_error_and_the_rest_is_served(io: Choice) {
    damaged(io, "40960", |page| page[100] ^= 1);
    // The last entry's restart point is one byte off, and the checksum is right.
    damaged(io, "data_0_main_0", |page| {
        let content = usize::from(u16::from_le_bytes([page[9], page[10]]));
        page[content - 4] ^= 1;
        seal(page, Kind::Data);
    });
}

/// All five entries of a page with `damage` are `CORRUPTED`, all others are there.
fn damaged(io: Choice, place: &str, damage: impl Fn(&mut [u8])) {
    let folder = tempfile::tempdir().unwrap();
    let options = small(io, folder.path());
    let engine = open(&options);
    fill(&engine, 1_000);
    engine.close();
    // Data pages come first in the file; each holds five entries.
    let path = folder.path().join("t.0/data_0_main_0");
    let mut bytes = std::fs::read(&path).unwrap();
    damage(&mut bytes[10 * 4096..11 * 4096]);
    std::fs::write(&path, bytes).unwrap();
    let engine = open(&options);
    let partition = engine.partition("t", 0).unwrap();
    let reads = (0..1_000).map(|i| engine.read(partition, format!("{i:06}").as_bytes()));
    let (mut damaged, mut found) = (0, 0);
    for read in reads {
        match read {
            Ok(Some(entry)) => found += usize::from(entry.value.len() == 700),
            Ok(None) => panic!("a key is gone"),
            Err(error) => {
                assert_eq!(error.status, Status::Corrupted, "{error}");
                assert!(error.message.contains("data_0_main_0") && error.message.contains(place), "{error}");
                damaged += 1;
            }
        }
    }
    assert_eq!((damaged, found), (5, 995));
}
