use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;

use super::*;

const MANY: u64 = if cfg!(miri) { 300 } else { 100_000 };

#[test]
fn an_id_resolves_until_it_is_removed_and_never_again() {
    let table = Table::new(Kind::Session, 10);
    let first = table.insert(Arc::new(7)).unwrap();
    assert_eq!(*table.get(first).unwrap(), 7);
    assert!(!table.was_removed(first));
    assert_eq!(*table.remove(first).unwrap(), 7);
    assert!(table.get(first).is_none());
    assert!(table.remove(first).is_none());
    assert!(table.was_removed(first));
    let second = table.insert(Arc::new(8)).unwrap();
    assert_eq!(index(first), index(second));
    assert_ne!(first, second);
    assert!(table.get(first).is_none());
    assert_eq!(table.ids(), [second]);
}

#[test]
fn zero_forged_and_foreign_ids_name_nothing() {
    let table = Table::new(Kind::Buffer, 10);
    let id = table.insert(Arc::new(())).unwrap();
    let foreign = Table::<()>::new(Kind::Region, 10);
    let region = foreign.insert(Arc::new(())).unwrap();
    for forged in (0..64).map(|bit| id ^ 1 << bit).chain([0, u64::MAX, INDEX_MASK, region]) {
        assert!(table.get(forged).is_none(), "{forged:#x}");
        assert!(table.remove(forged).is_none(), "{forged:#x}");
        assert!(!table.was_removed(forged), "{forged:#x}");
    }
    assert!(table.get(id).is_some());
}

#[test]
fn a_full_table_refuses_and_takes_again_after_a_removal() {
    let table = Table::new(Kind::Session, 1_000);
    let ids: Vec<u64> = (0..1_000).map(|i| table.insert(Arc::new(i)).unwrap()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 1_000);
    assert!(table.insert(Arc::new(0)).is_none());
    for (i, id) in ids.iter().enumerate() {
        assert_eq!(*table.get(*id).unwrap(), i);
    }
    table.remove(ids[500]).unwrap();
    assert_eq!(table.len(), 999);
    assert!(table.insert(Arc::new(0)).is_some());
    assert!(table.insert(Arc::new(0)).is_none());
}

#[test]
fn a_slot_retires_with_its_last_generation() {
    let table = Table::new(Kind::Call, 2);
    let first = table.insert(Arc::new(1)).unwrap();
    table.remove(first).unwrap();
    table.slot(0).unwrap().generation.store(GENERATION_MASK as u32, Ordering::Relaxed);
    let last = table.insert(Arc::new(2)).unwrap();
    assert_eq!(index(last), 0);
    table.remove(last).unwrap();
    assert!(table.was_removed(last));
    assert_eq!(index(table.insert(Arc::new(3)).unwrap()), 1);
    assert!(table.insert(Arc::new(4)).is_none());
}

#[test]
fn zero_does_not_name_an_object_on_its_way_in_or_out() {
    let table = Table::new(Kind::Session, 1);
    let id = table.insert(Arc::new(())).unwrap();
    assert_eq!(index(id), index(0));
    table.slot(0).unwrap().id.store(0, Ordering::Relaxed);
    assert!(table.get(0).is_none() && table.remove(0).is_none());
}

#[test]
fn a_reference_outlives_removal_and_the_last_one_drops_the_object() {
    let table = Table::new(Kind::Session, 1);
    let value = Arc::new(5);
    let id = table.insert(value.clone()).unwrap();
    let held = table.get(id).unwrap();
    drop(table.remove(id));
    assert_eq!(*held, 5);
    let kept = held.arc();
    drop(held);
    assert_eq!(*kept, 5);
    drop(kept);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn an_object_knows_its_id() {
    let table = Table::new(Kind::Worker, 4);
    let (id, value) = table.insert_with(Arc::new).unwrap();
    assert_eq!(*value, id);
    assert_eq!(*table.get(id).unwrap(), id);
}

/// Threads insert, look up and remove their own and each other's ids: no look-up ever answers another object, and
/// every object is removed exactly once.
#[test]
fn threads_never_see_a_foreign_object() {
    let table = Table::<u64>::new(Kind::Session, 64);
    let board: Vec<AtomicU64> = (0..16).map(|_| AtomicU64::new(0)).collect();
    let (inserted, removed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (table, board, inserted, removed) = (&table, &board, &inserted, &removed);
            scope.spawn(move || {
                for i in 0..MANY / 4 {
                    let (id, _) = table.insert_with(Arc::new).unwrap();
                    inserted.fetch_add(1, Ordering::Relaxed);
                    let place = &board[((i * 7 + thread) % 16) as usize];
                    let previous = place.swap(id, Ordering::AcqRel);
                    let other = board[((i * 5 + thread * 3) % 16) as usize].load(Ordering::Acquire);
                    for seen in [id, other, previous] {
                        if let Some(value) = table.get(seen) {
                            assert_eq!(*value, seen);
                        }
                    }
                    for gone in [previous, previous] {
                        if let Some(value) = table.remove(gone) {
                            assert_eq!(*value, gone);
                            removed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let left = table.ids();
    assert_eq!(inserted.load(Ordering::Relaxed), removed.load(Ordering::Relaxed) + left.len());
    assert_eq!(table.len(), left.len());
}

/// Run by `cargo test --release -- --ignored --nocapture look_up_costs`: CPU time of this thread for one look-up.
#[test]
#[ignore = "a measurement"]
fn look_up_costs() {
    let table = Table::new(Kind::Session, 4096);
    let ids: Vec<u64> = (0..1024u64).map(|i| table.insert(Arc::new(i)).unwrap()).collect();
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (rounds, mut sum) = (20_000u64, 0);
    let start = cpu();
    for _ in 0..rounds {
        for id in &ids {
            sum += *table.get(std::hint::black_box(*id)).unwrap();
        }
    }
    let spent = cpu() - start;
    let ns = spent.tv_sec as f64 * 1e9 + spent.tv_nsec as f64;
    println!("look-up: {:.2} ns ({sum})", ns / (rounds * 1024) as f64);
}
