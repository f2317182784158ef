use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::engine::random::Random;

const MIB: u64 = 1 << 20;

fn is_filled_with(buffer: &Arc<Buffer>, byte: u8) -> bool {
    let mut bytes = vec![!byte; buffer.len()];
    buffer.whole().unwrap().copy_to_slice(0, &mut bytes).unwrap();
    bytes.iter().all(|b| *b == byte)
}

fn fill(buffer: &Arc<Buffer>, byte: u8) {
    buffer.whole().unwrap().copy_from_slice(0, &vec![byte; buffer.len()]).unwrap();
}

#[test]
fn nonsense_is_refused() {
    let pool = Pool::new(MIB);
    for (length, flags) in [(0, 0), (0, EXPORTABLE), (1, 4), (1, u32::MAX), (1, EXPORTABLE | UNINITIALISED)] {
        assert_eq!(pool.alloc(length, flags).unwrap_err().status, Status::InvalidArgument);
    }
    for length in [u64::MAX, u64::MAX - 4096, i64::MAX as u64, MIB + 1, 1 << 46] {
        for flags in [0, UNINITIALISED, EXPORTABLE] {
            assert_eq!(pool.alloc(length, flags).unwrap_err().status, Status::OutOfMemory, "{length}");
        }
    }
    assert_eq!(pool.statistics(), Statistics { limit: MIB, ..Statistics::default() });
}

#[test]
#[cfg_attr(miri, ignore = "memory files")]
fn the_limit_is_exact_and_says_what_is_taken() {
    let page = PAGE as u64;
    for flags in [0, EXPORTABLE] {
        let pool = Pool::new(32 * MIB + page);
        let large = pool.alloc(32 * MIB, flags).unwrap();
        let last = pool.alloc(1, flags).unwrap();
        assert_eq!(pool.statistics().used, 32 * MIB + page);
        let error = pool.alloc(1, flags).unwrap_err();
        assert_eq!(error.status, Status::OutOfMemory);
        assert!(error.message.contains("33558528 bytes") || PAGE != 4096, "{}", error.message);
        drop(last);
        assert!(pool.alloc(page + 1, flags).is_err());
        drop(large);
        assert_eq!(pool.statistics().in_use, 0);
        drop(pool.alloc(32 * MIB + page, flags).unwrap());
    }
    assert!(Pool::new(0).alloc(1, 0).is_err());
    assert!(Pool::new(page).alloc(page, 0).is_ok());
}

#[test]
fn a_recycled_buffer_is_zero_and_an_uninitialised_one_is_not_exportable() {
    let pool = Pool::new(MIB);
    for length in [1, 64, 100, 5000, 20_000, 60_000] {
        let buffer = pool.alloc(length, 0).unwrap();
        let address = buffer.address();
        assert!(is_filled_with(&buffer, 0));
        fill(&buffer, 0xaa);
        drop(buffer);
        let again = pool.alloc(length, 0).unwrap();
        assert_eq!(again.address(), address);
        assert!(is_filled_with(&again, 0));
        assert!(again.is_initialised());
        drop(again);
        assert!(!pool.alloc(length, UNINITIALISED).unwrap().is_initialised());
    }
}

#[test]
fn memory_of_large_buffers_is_used_again_and_a_bounded_part_of_it_kept() {
    let pool = Pool::new(256 * MIB);
    let take = |count| (0..count).map(|_| pool.alloc(MIB + 1, UNINITIALISED).unwrap()).collect::<Vec<_>>();
    let addresses =
        |buffers: &[Arc<Buffer>]| buffers.iter().map(|b| b.address() as usize).collect::<BTreeSet<_>>();
    let buffers = take(8);
    let before = addresses(&buffers);
    drop(buffers);
    let again = take(8);
    assert_eq!(addresses(&again), before);
    drop(again);
    drop(take(40));
    assert_eq!(pool.statistics().used, crate::limits::EMPTY_CHUNKS as u64 * 2 * MIB);
    // Whoever needs all of it gets it.
    assert!(pool.alloc(256 * MIB, 0).is_ok());
}

/// Random allocations and releases of every size: no two buffers overlap, nobody's bytes change, the limit holds.
#[test]
fn buffers_keep_their_bytes_whatever_happens_to_others() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let (limit, rounds) = if cfg!(miri) { (4 * MIB, 60) } else { (48 * MIB, 6_000) };
    let pool = Pool::new(limit);
    let mut live: Vec<(Arc<Buffer>, u8)> = Vec::new();
    let mut ranges = BTreeMap::new();
    let mut refused = 0;
    for round in 0..rounds {
        if random.below(5) < 2 && !live.is_empty() {
            let (buffer, byte) = live.swap_remove(random.below(live.len() as u64) as usize);
            assert!(is_filled_with(&buffer, byte), "round {round}");
            ranges.remove(&(buffer.address() as usize));
        } else {
            let bits = random.below(if cfg!(miri) { 14 } else { 22 });
            let length = 1 + random.below(1 << bits);
            let flags = if random.below(20) == 0 && !cfg!(miri) { EXPORTABLE } else { 0 };
            let Ok(buffer) = pool.alloc(length, flags) else {
                refused += 1;
                continue;
            };
            assert!(is_filled_with(&buffer, 0), "round {round}");
            let start = buffer.address() as usize;
            let unit = if length >= PAGE as u64 { 4096 } else { 64 };
            assert_eq!(start % unit, 0, "round {round}: {length}");
            let before = ranges.range(..start).next_back().is_none_or(|(_, end)| *end <= start);
            let behind = ranges.range(start..).next().is_none_or(|(next, _)| *next >= start + buffer.len());
            assert!(before && behind, "round {round}");
            ranges.insert(start, start + buffer.len());
            let byte = 1 + random.below(255) as u8;
            fill(&buffer, byte);
            live.push((buffer, byte));
        }
        let seen = pool.statistics();
        let asked: u64 = live.iter().map(|(buffer, _)| buffer.len() as u64).sum();
        assert!(
            seen.used <= limit && seen.in_use <= seen.used && asked <= seen.in_use,
            "round {round}: {seen:?}"
        );
    }
    assert!(cfg!(miri) || refused > 0, "the limit was never reached");
    live.clear();
    assert_eq!(pool.statistics().in_use, 0);
    pool.slab.trim();
    assert_eq!(pool.statistics().used, 0);
}

#[test]
fn threads_share_a_pool() {
    let pool = Pool::new(if cfg!(miri) { 4 * MIB } else { 64 * MIB });
    let rounds = if cfg!(miri) { 20 } else { 5_000 };
    let (sender, receiver) = std::sync::mpsc::channel::<(Arc<Buffer>, u8)>();
    std::thread::scope(|scope| {
        for thread in 1..4u64 {
            let (pool, sender) = (&pool, sender.clone());
            scope.spawn(move || {
                let mut random = Random(thread * 0x9e37_79b9);
                for _ in 0..rounds {
                    let Ok(buffer) = pool.alloc(1 + random.below(3_000), 0) else { continue };
                    assert!(is_filled_with(&buffer, 0));
                    fill(&buffer, thread as u8);
                    if random.below(2) == 0 {
                        sender.send((buffer, thread as u8)).unwrap();
                    } else {
                        assert!(is_filled_with(&buffer, thread as u8));
                    }
                }
            });
        }
        drop(sender);
        for (buffer, byte) in receiver {
            assert!(is_filled_with(&buffer, byte));
        }
    });
    assert_eq!(pool.statistics().in_use, 0);
}

#[test]
fn buffers_outlive_their_pool() {
    let pool = Pool::new(MIB);
    let buffer = pool.alloc(100, 0).unwrap();
    drop(pool);
    fill(&buffer, 9);
    assert!(is_filled_with(&buffer, 9));
}

/// Run by `cargo test --release -- --ignored --nocapture an_allocation_costs`: CPU time of this thread.
#[test]
#[ignore = "a measurement"]
fn an_allocation_costs() {
    let pool = Pool::new(64 * MIB);
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    for (length, flags) in
        [(64, 0), (64, UNINITIALISED), (4096, 0), (4096, UNINITIALISED), (65_536, UNINITIALISED)]
    {
        let rounds = 2_000_000;
        let start = cpu();
        for _ in 0..rounds {
            drop(std::hint::black_box(pool.alloc(std::hint::black_box(length), flags)));
        }
        let spent = cpu() - start;
        let ns = (spent.tv_sec as f64 * 1e9 + spent.tv_nsec as f64) / f64::from(rounds);
        println!("alloc and free of {length} bytes, flags {flags}: {ns:.1} ns");
    }
}
