//! The writer, or the object store, fails at every request in turn: a new opener sees what some commit left, never less
//! than what was acknowledged, and no commit in parts.

use super::faulty::{Fate, Faulty};
use super::kv_support::Folder;
use super::{check, noise, over, partition, quick, upsert, write};
use object_store::memory::InMemory;
use rdma_engine::Status;
use rdma_engine::kv::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const COMMITS: u64 = 8;

/// A commit: one key that tells which, and many that have to agree with it.
fn commit(number: u64) -> Vec<rdma_engine::kv::batch::Op> {
    let mut ops: Vec<_> = (0..12).map(|i| upsert(&format!("k{i:02}"), &noise(number, 400))).collect();
    ops.push(upsert("n", &number.to_le_bytes()));
    ops
}

/// Which commit is there; 0 for none.
fn seen(mut store: Store) -> u64 {
    store.refresh().unwrap();
    check(&store);
    let Some(view) = store.view(&partition()).unwrap() else { return 0 };
    let Some(found) = view.read(b"n").unwrap() else { return 0 };
    let number = u64::from_le_bytes(found.value.try_into().unwrap());
    for i in 0..12 {
        let value = view.read(format!("k{i:02}").as_bytes()).unwrap().unwrap().value;
        assert!(value == noise(number, 400), "key {i} is not of commit {number}");
    }
    number
}

/// Fails the `at`-th request and, if `dies`, all after it. Returns how many requests there were.
fn one(at: usize, fate: &Fate, dies: bool) -> usize {
    let (folder, objects) = (Folder::new(), Arc::new(InMemory::new()));
    let faulty = Faulty::new(objects.clone());
    let store = over(&quick(&folder.0.join("a")), faulty.clone()).unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let (count, told) = (requests.clone(), fate.clone());
    faulty.judge(move |_, _| match count.fetch_add(1, Ordering::Relaxed) {
        n if n == at => told.clone(),
        n if n > at && dies => Fate::Fail,
        _ => Fate::Go,
    });
    let mut acknowledged = 0;
    let mut tried = 0;
    let writer = store.writer(&partition());
    if let Ok(mut writer) = writer {
        for number in 1..=COMMITS {
            let written = write(&mut writer, commit(number));
            tried = number;
            match written {
                Ok(_) => acknowledged = number,
                Err(error) => assert!(error.status == Status::Unreachable, "request {at}: {error}"),
            }
            // What it read before it still reads.
            if let Ok(Some(found)) = rdma_engine::kv::source::now(writer.tree().read(b"n")) {
                assert!(u64::from_le_bytes(found.value.try_into().unwrap()) >= acknowledged);
            }
            if dies && requests.load(Ordering::Relaxed) > at {
                break;
            }
        }
    }
    let total = requests.load(Ordering::Relaxed);
    drop(store);
    let there = seen(over(&quick(&folder.0.join("b")), objects.clone()).unwrap());
    assert!(
        (acknowledged..=tried).contains(&there),
        "request {at}: {acknowledged} was acknowledged, {there} is there"
    );
    // Whoever comes next goes on, over the cache that the failed writer left.
    let next = over(&quick(&folder.0.join("a")), objects).unwrap();
    write(&mut next.writer(&partition()).unwrap(), commit(COMMITS + 1)).unwrap();
    assert_eq!(seen(next), COMMITS + 1);
    total
}

fn every_request(fate: &Fate, dies: bool) {
    let mut at = 0;
    while one(at, fate, dies) > at {
        at += 1;
    }
    println!("failed at each of {at} requests");
    assert!(at > COMMITS as usize * 3, "a commit takes a data file, a manifest and the term");
}

#[test]
fn a_writer_dies_before_each_request() {
    every_request(&Fate::Fail, true);
}

#[test]
fn a_writer_dies_after_each_request() {
    every_request(&Fate::DoneButFails, true);
}

#[test]
fn one_request_fails_and_is_repeated() {
    every_request(&Fate::Fail, false);
}

#[test]
fn one_request_is_done_and_says_that_it_failed() {
    every_request(&Fate::DoneButFails, false);
}

#[test]
fn a_commit_is_data_then_manifest_then_term() {
    let (folder, objects) = (Folder::new(), Arc::new(InMemory::new()));
    let faulty = Faulty::new(objects);
    let store = over(&quick(&folder.0), faulty.clone()).unwrap();
    let mut writer = store.writer(&partition()).unwrap();
    write(&mut writer, commit(1)).unwrap();
    faulty.log.lock().unwrap().clear();
    write(&mut writer, commit(2)).unwrap();
    let log = faulty.log.lock().unwrap().clone();
    let data = log.iter().take_while(|entry| entry.starts_with("put prefix/t.0/data_")).count();
    assert!(data > 0, "{log:?}");
    assert_eq!(log[data..], ["put prefix/t.0/manifest_main_1", "get prefix/CURRENT_TERM_main_0"], "{log:?}");
}

/// A late request of a term that has ended changes nothing: every term has names of its own.
#[test]
fn after_an_unanswered_upload_other_names_are_used() {
    let (folder, objects) = (Folder::new(), Arc::new(InMemory::new()));
    let faulty = Faulty::new(objects);
    let store = over(&quick(&folder.0), faulty.clone()).unwrap();
    let mut writer = store.writer(&partition()).unwrap();
    write(&mut writer, commit(1)).unwrap();
    let mut once = true;
    faulty.judge(move |what, key| {
        match what == "put" && key.contains("manifest") && std::mem::take(&mut once) {
            true => Fate::DoneButFails,
            false => Fate::Go,
        }
    });
    // The second attempt succeeds; the first may still be under way.
    write(&mut writer, commit(2)).unwrap();
    faulty.log.lock().unwrap().clear();
    write(&mut writer, commit(3)).unwrap();
    let log = faulty.log.lock().unwrap().clone();
    let puts: Vec<&String> = log.iter().filter(|entry| entry.starts_with("put")).collect();
    assert!(puts.iter().all(|put| put.ends_with("_main_2") || put.contains("CURRENT_TERM")), "{puts:?}");
    assert_eq!(seen(store), 3);
}
