//! Two writers of one store: the one that came later writes, the other one is told so.

use super::kv_support::Folder;
use super::{check, over, over_folder, partition, quick, upsert, write};
use object_store::memory::InMemory;
use rdma_engine::Status;
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::store::Store;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

#[test]
fn a_later_writer_fences_out_an_earlier_one() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let open = |name: &str| Store::create(over_folder(&folder.0.join(name), &objects.0)).unwrap();
    let (a, b) = (open("a"), open("b"));
    let mut first = a.writer(&partition()).unwrap();
    write(&mut first, vec![upsert("a", b"1")]).unwrap();
    // Opening alone takes nothing over: one that only reads disturbs nobody.
    let mut second = b.writer(&partition()).unwrap();
    write(&mut first, vec![upsert("b", b"1")]).unwrap();
    write(&mut second, vec![upsert("c", b"2")]).unwrap();
    for _ in 0..2 {
        let error = write(&mut first, vec![upsert("d", b"1")]).unwrap_err();
        assert_eq!(error.status, Status::ExpiredTerm, "{error}");
    }
    let error = first.collect_files().unwrap_err();
    assert_eq!(error.status, Status::ExpiredTerm, "{error}");
    // It still reads what it knew.
    let known = rdma_engine::kv::source::now(first.tree().read(b"b")).unwrap();
    assert_eq!(known.unwrap().value, b"1");
    write(&mut second, vec![upsert("e", b"2")]).unwrap();
    drop((first, second));
    let view = open("c").view(&partition()).unwrap().unwrap();
    for (key, there) in [("a", true), ("b", true), ("c", true), ("d", false), ("e", true)] {
        assert_eq!(view.read(key.as_bytes()).unwrap().is_some(), there, "{key}");
    }
    // The first one's machine may write again, once it opens the store again.
    drop(a);
    let a = open("a");
    write(&mut a.writer(&partition()).unwrap(), vec![upsert("d", b"3")]).unwrap();
    let error = write(&mut b.writer(&partition()).unwrap(), vec![upsert("e", b"3")]).unwrap_err();
    assert_eq!(error.status, Status::ExpiredTerm);
}

#[test]
fn a_writer_is_fenced_out_of_every_partition() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let open = |name: &str| Store::create(over_folder(&folder.0.join(name), &objects.0)).unwrap();
    let (a, b) = (open("a"), open("b"));
    let named = |number| Partition { table: "t".into(), number };
    for number in 0..3 {
        write(&mut a.writer(&named(number)).unwrap(), vec![upsert("k", b"1")]).unwrap();
    }
    // One term for all, until one of them is written to by a second writer.
    assert!((0..3).all(|number| objects.0.join(format!("t.{number}/manifest_main_1")).is_file()));
    write(&mut b.writer(&named(3)).unwrap(), vec![upsert("k", b"2")]).unwrap();
    write(&mut b.writer(&named(4)).unwrap(), vec![upsert("k", b"2")]).unwrap();
    for number in [3, 5, 0] {
        let error = write(&mut a.writer(&named(number)).unwrap(), vec![upsert("k", b"3")]).unwrap_err();
        assert_eq!(error.status, Status::ExpiredTerm, "partition {number}: {error}");
    }
}

#[test]
fn a_term_that_is_not_newer_is_refused() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let with_term = |name: &str, term: u64| {
        let mut options = over_folder(&folder.0.join(name), &objects.0);
        options.cloud.term = term;
        let store = Store::create(options).unwrap();
        let written = write(&mut store.writer(&partition()).unwrap(), vec![upsert("k", name.as_bytes())]);
        written.map_err(|error| error.status)
    };
    assert_eq!(with_term("a", 7), Ok(1));
    assert!(objects.0.join("t.0/manifest_main_7").is_file());
    assert_eq!(with_term("b", 7), Err(Status::ExpiredTerm));
    assert_eq!(with_term("c", 3), Err(Status::ExpiredTerm));
    assert_eq!(with_term("d", 9), Ok(1));
    assert_eq!(with_term("e", 0), Ok(1));
    assert_eq!(std::fs::read_to_string(objects.0.join("CURRENT_TERM_main_0")).unwrap(), "10");
}

/// Writers that take the store from each other again and again lose nothing that was acknowledged.
fn fight(open: impl Fn(&str) -> Store + Sync) {
    const WRITERS: usize = 3;
    const TURNS: usize = 6;
    let acknowledged: Vec<BTreeSet<String>> = std::thread::scope(|scope| {
        let fighters = (0..WRITERS).map(|number| {
            let open = &open;
            scope.spawn(move || {
                let mut done = BTreeSet::new();
                for turn in 0..TURNS {
                    let store = open(&format!("w{number}"));
                    let mut writer = store.writer(&partition()).unwrap();
                    for commit in 0..5 {
                        let key = format!("{number}-{turn}-{commit}");
                        // Both or neither.
                        let ops =
                            vec![upsert(&key, key.as_bytes()), upsert(&format!("{key}+"), key.as_bytes())];
                        match write(&mut writer, ops) {
                            Ok(_) => assert!(done.insert(key)),
                            Err(error) => {
                                assert!(
                                    matches!(
                                        error.status,
                                        Status::ExpiredTerm | Status::Busy | Status::Stale
                                    ),
                                    "{error}"
                                );
                                break;
                            }
                        }
                    }
                }
                done
            })
        });
        fighters.collect::<Vec<_>>().into_iter().map(|fighter| fighter.join().unwrap()).collect()
    });
    let store = open("last");
    check(&store);
    let view = store.view(&partition()).unwrap().unwrap();
    let mut there = 0;
    for (number, acknowledged) in acknowledged.iter().enumerate() {
        for turn in 0..TURNS {
            for commit in 0..5 {
                let key = format!("{number}-{turn}-{commit}");
                let found = [key.clone(), format!("{key}+")].map(|key| view.read(key.as_bytes()).unwrap());
                assert_eq!(found[0].is_some(), found[1].is_some(), "{key} is half there");
                assert!(found[0].is_some() || !acknowledged.contains(&key), "{key} was acknowledged");
                there += usize::from(found[0].is_some());
            }
        }
    }
    let count: usize = acknowledged.iter().map(BTreeSet::len).sum();
    println!("{count} commits acknowledged, {there} there");
    assert!(count > 0);
}

#[test]
fn fighting_writers_lose_nothing_over_a_folder() {
    let (folder, objects) = (Folder::new(), Folder::new());
    fight(|name| Store::create(over_folder(&folder.0.join(name), &objects.0)).unwrap());
}

#[test]
fn fighting_writers_lose_nothing_over_conditional_puts() {
    let (folder, objects) = (Folder::new(), Arc::new(InMemory::new()));
    let path: &Path = &folder.0;
    fight(|name| over(&quick(&path.join(name)), objects.clone()).unwrap());
}
