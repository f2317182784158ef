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
fn more_objects_than_places_are_held_at_once() {
    let table = Table::new(Kind::Session, 100);
    let ids: Vec<u64> = (0..30).map(|i| table.insert(Arc::new(i)).unwrap()).collect();
    let kept: Vec<_> = ids.iter().map(|id| Arc::downgrade(&table.get(*id).unwrap().arc())).collect();
    let held: Vec<_> = ids.iter().map(|id| table.get(*id).unwrap()).collect();
    for id in &ids {
        drop(table.remove(*id));
    }
    assert!(held.iter().enumerate().all(|(i, held)| **held == i));
    drop(held);
    assert!(kept.iter().all(|object| object.strong_count() == 0));
}

#[test]
fn an_object_outlives_its_table_until_its_last_use_ends() {
    let table = Table::new(Kind::Export, 10);
    let object = Arc::new(6);
    let id = table.insert(object.clone()).unwrap();
    table.insert(Arc::new(7)).unwrap();
    let held = table.get(id).unwrap();
    drop(table);
    assert_eq!((*held, Arc::strong_count(&object)), (6, 2));
    drop(held);
    assert_eq!(Arc::strong_count(&object), 1);
}

/// What is removed while another thread uses it is dropped when the last of the two is done, neither earlier nor by a
/// third event: nothing else happens here, and the thread that used it lives on.
#[test]
fn the_last_user_drops_the_object_at_once() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.store(1, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let rounds = if cfg!(miri) { 20 } else { 500 };
    let table = Table::<Counted>::new(Kind::Session, 4);
    let (current, meet) = (AtomicU64::new(0), std::sync::Barrier::new(3));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 1..=rounds {
                    meet.wait();
                    while let Some(held) = table.get(current.load(Ordering::Relaxed)) {
                        assert_eq!(held.0.load(Ordering::Relaxed), 0, "dropped while it was used");
                    }
                    meet.wait();
                    assert_eq!(DROPPED.load(Ordering::Relaxed), round);
                    meet.wait();
                }
            });
        }
        for _ in 0..rounds {
            current.store(table.insert(Arc::new(Counted(Arc::default()))).unwrap(), Ordering::Relaxed);
            meet.wait();
            drop(table.remove(current.load(Ordering::Relaxed)));
            meet.wait();
            meet.wait();
        }
    });
}

/// The destructor of a thread's own value still finds objects, and what a thread held when it ended is let go.
#[test]
fn a_thread_that_ends_looks_up_and_lets_go() {
    static TABLE: Table<AtomicUsize> = Table::new(Kind::Session, 4);
    struct Last(u64);
    impl Drop for Last {
        fn drop(&mut self) {
            TABLE.get(self.0).unwrap().fetch_add(1, Ordering::Relaxed);
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
        static HELD: std::cell::RefCell<Option<Ref<AtomicUsize>>> = const { std::cell::RefCell::new(None) };
    }
    let object = Arc::new(AtomicUsize::new(0));
    let id = TABLE.insert(object.clone()).unwrap();
    for hold_first in [true, false] {
        std::thread::spawn(move || {
            if hold_first {
                HELD.set(TABLE.get(id));
            }
            LAST.set(Some(Last(id)));
            HELD.set(TABLE.get(id));
        })
        .join()
        .unwrap();
    }
    drop(TABLE.remove(id));
    assert_eq!((object.load(Ordering::Relaxed), Arc::strong_count(&object)), (2, 1));
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
