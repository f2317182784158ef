//! What the engine does by itself.

use super::{open, small, upsert};
use rdma_engine::kv::batch::{Action, Op, Order};
use rdma_engine::kv::engine::{Answer, Choice, Engine, Handle, Request};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

crate::both! {
    what_expires_goes
    scheduled_archives_are_kept_up_to_a_number
    requests_of_upkeep
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what} did not happen");
        std::thread::yield_now();
    }
}

fn tags(engine: &Engine, partition: Handle) -> Vec<String> {
    match engine.call(partition, Request::Archives).unwrap() {
        Answer::Names(names) => names,
        other => panic!("{other:?}"),
    }
}

fn what_expires_goes(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = small(io, folder.path());
    options.upkeep_interval = Duration::from_millis(1);
    let engine = open(&options);
    let partition = engine.partition("t", 0).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let op = |i: u64, expire_ms| {
        let action = Action::Upsert { value: vec![1; 100], expire_ms };
        Op { key: format!("{i:05}").into_bytes(), action, timestamp: 1 }
    };
    let ops = (0..3_000).map(|i| op(i, if i % 3 == 0 { 0 } else { now + 200 + i % 50 })).collect();
    engine.write(partition, ops, Order::Refuse).unwrap();
    until("cleaning", || engine.read(partition, b"00001").unwrap().is_none());
    until("all of it", || engine.read(partition, b"02999").unwrap().is_none());
    until("the last step", || {
        let scanned = engine.scan(partition, Default::default()).unwrap();
        scanned.entries.len() == 1_000
    });
    assert!(engine.read(partition, b"00000").unwrap().is_some());
}

fn scheduled_archives_are_kept_up_to_a_number(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = small(io, folder.path());
    options.store.append = true;
    options.upkeep_interval = Duration::from_millis(1);
    options.archive_interval = Duration::from_millis(1);
    options.archives_kept = 3;
    let engine = open(&options);
    let partition = engine.partition("t", 0).unwrap();
    engine.write(partition, vec![upsert(b"first", b"1", 1)], Order::Refuse).unwrap();
    engine.call(partition, Request::Archive { tag: "named".into() }).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut round = 1;
    until("ten archives", || {
        round += 1;
        engine.write(partition, vec![upsert(b"key", &[round as u8; 300], round)], Order::Refuse).unwrap();
        seen.extend(tags(&engine, partition));
        seen.len() > 10
    });
    // The one that is being made comes before the oldest goes.
    until("retention", || tags(&engine, partition).len() <= 4);
    let kept = tags(&engine, partition);
    assert!(kept.contains(&"named".to_owned()) && kept.len() >= 3, "{kept:?}");
    let archive = engine.archive("t", 0, "named").unwrap();
    assert_eq!(engine.read(archive, b"first").unwrap().unwrap().value, b"1");
    assert!(engine.read(archive, b"key").unwrap().is_none());
    assert_eq!(engine.stats().upkeep_failed, 0);
}

fn requests_of_upkeep(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = small(io, folder.path());
    options.store.append = true;
    let engine = open(&options);
    let partition = engine.partition("t", 0).unwrap();
    let files = || {
        let entries = std::fs::read_dir(folder.path().join("t.0")).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("data_"))
            .count()
    };
    for round in 1..=20 {
        let ops =
            (0..200).map(|i| upsert(format!("{i:05}").as_bytes(), &[round as u8; 700], round)).collect();
        engine.write(partition, ops, Order::Refuse).unwrap();
    }
    let before = files();
    assert!(before >= 10);
    engine.call(partition, Request::Archive { tag: "a".into() }).unwrap();
    let error = engine.call(partition, Request::Archive { tag: "a".into() }).unwrap_err();
    assert_eq!(error.status, rdma_engine::Status::AlreadyExists);
    engine.call(partition, Request::Compact).unwrap();
    assert!(files() < before / 2, "{before} files before, {} after", files());
    let archive = engine.archive("t", 0, "a").unwrap();
    assert_eq!(engine.scan(archive, Default::default()).unwrap().entries.len(), 200);
    assert_eq!(tags(&engine, partition), ["a"]);
    engine.call(partition, Request::ForgetArchive { tag: "a".into() }).unwrap();
    assert_eq!(tags(&engine, partition), [""; 0]);
    assert_eq!(engine.scan(partition, Default::default()).unwrap().entries.len(), 200);
}
