//! A write log: what it holds counts before the pages, and whatever needs the pages finds all of it there.

use super::{open, small, upsert};
use rdma_engine::Status;
use rdma_engine::kv::batch::{Action, Op, Order};
use rdma_engine::kv::engine::{Answer, Choice, Engine, EngineOptions, Handle, Request};
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::store::Store;
use std::path::Path;

crate::both! {
    a_batch_goes_to_the_log_and_its_pages_are_written_at_close
    a_log_that_was_left_is_merged_by_who_writes_next
    a_log_that_was_left_is_read_without_one
    what_only_the_pages_can_say_is_asked_there
    what_needs_the_pages_merges_the_log
    very_large_values_go_to_the_pages
    a_dropped_partition_leaves_no_log
    many_partitions_share_the_limit
}

fn logged(io: Choice, path: &Path) -> EngineOptions {
    EngineOptions { log_bytes: 1 << 20, ..small(io, path) }
}

/// Numbers of the log files that there are.
fn logs(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder.join("t.0")).unwrap();
    names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().starts_with("log_")).count()
}

fn delete(key: &[u8], timestamp: u64) -> Op {
    Op { key: key.to_vec(), action: Action::Delete, timestamp }
}

fn write(engine: &Engine, partition: Handle, ops: Vec<Op>) -> u64 {
    engine.write(partition, ops, Order::Refuse).unwrap()
}

fn value(engine: &Engine, partition: Handle, key: &[u8]) -> Option<Vec<u8>> {
    engine.read(partition, key).unwrap().map(|found| found.value)
}

/// An engine's store as it is at this moment, in another place: what a kill would leave.
fn copied(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.path().join(entry.file_name());
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), target).unwrap();
            continue;
        }
        std::fs::create_dir(&target).unwrap();
        for file in std::fs::read_dir(entry.path()).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), target.join(file.file_name())).unwrap();
        }
    }
    to
}

fn a_batch_goes_to_the_log_and_its_pages_are_written_at_close(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&logged(io, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    // The first batch makes the partition, by its pages.
    assert_eq!(write(&engine, partition, vec![upsert(b"a", b"1", 1), upsert(b"b", b"1", 1)]), 2);
    let before = engine.stats();
    assert_eq!((before.log_bytes, logs(folder.path())), (0, 0));
    assert_eq!(write(&engine, partition, vec![upsert(b"a", b"2", 2), delete(b"b", 2)]), 2);
    let after = engine.stats();
    assert_eq!((after.data_bytes, after.manifest_bytes), (before.data_bytes, before.manifest_bytes));
    assert_eq!((after.log_bytes, logs(folder.path())), (2 * 4096, 1), "its head and one record");
    assert_eq!((value(&engine, partition, b"a"), value(&engine, partition, b"b")), (Some(b"2".into()), None));
    // Nobody reads past a log.
    let store = Store::open(logged(io, folder.path()).store).unwrap();
    let name = Partition { table: "t".into(), number: 0 };
    let error = store.view(&name).unwrap_err();
    assert_eq!(error.status, Status::WrongState, "{error}");
    engine.close();
    assert_eq!(logs(folder.path()), 0);
    let view = store.view(&name).unwrap().unwrap();
    assert_eq!(view.read(b"a").unwrap().unwrap().value, b"2");
    assert_eq!(view.read(b"b").unwrap(), None);
}

fn a_log_that_was_left_is_merged_by_who_writes_next(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&logged(io, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    for round in 1..=3 {
        let ops = (0..100).map(|i| upsert(format!("{i:03}").as_bytes(), &[round; 700], round.into()));
        write(&engine, partition, ops.collect());
    }
    let left = copied(folder.path());
    assert_eq!(logs(left.path()), 1);
    let store = Store::open(logged(io, left.path()).store).unwrap();
    let name = Partition { table: "t".into(), number: 0 };
    drop(store.writer(&name).unwrap());
    assert_eq!(logs(left.path()), 0);
    let view = store.view(&name).unwrap().unwrap();
    assert_eq!(view.read(b"042").unwrap().unwrap().value, [3; 700]);
}

fn a_log_that_was_left_is_read_without_one(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&logged(io, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    write(&engine, partition, vec![upsert(b"a", b"1", 1), upsert(b"c", b"1", 1)]);
    write(&engine, partition, vec![upsert(b"a", b"2", 2), upsert(b"b", b"2", 2)]);
    let left = copied(folder.path());
    engine.close();
    let engine = open(&small(io, left.path()));
    let partition = engine.partition("t", 0).unwrap();
    let entries = engine.scan(partition, Default::default()).unwrap().entries;
    let entries: Vec<_> =
        entries.iter().map(|found| (found.key.as_slice(), found.value.as_slice())).collect();
    assert_eq!(entries, [(&b"a"[..], &b"2"[..]), (b"b", b"2"), (b"c", b"1")]);
    // A batch goes to the pages, after what was left.
    write(&engine, partition, vec![upsert(b"a", b"3", 2)]);
    assert_eq!((logs(left.path()), engine.stats().log_bytes), (0, 0));
    assert_eq!(value(&engine, partition, b"a"), Some(b"3".into()));
    assert_eq!(value(&engine, partition, b"b"), Some(b"2".into()));
}

/// Of a delete the pages keep nothing, not even when it was.
fn what_only_the_pages_can_say_is_asked_there(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&logged(io, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    write(&engine, partition, vec![upsert(b"a", b"old", 5), upsert(b"b", b"old", 9)]);
    // In the log: the first takes effect, the second is older than the pages'.
    write(&engine, partition, vec![delete(b"a", 7), delete(b"b", 7)]);
    assert_eq!(value(&engine, partition, b"a"), None);
    assert_eq!(value(&engine, partition, b"b"), Some(b"old".into()));
    assert_eq!(logs(folder.path()), 1);
    // Older than a delete in the log, and nobody knows whether that left anything.
    write(&engine, partition, vec![upsert(b"a", b"new", 6), upsert(b"b", b"new", 6)]);
    assert_eq!(logs(folder.path()), 0);
    assert_eq!(value(&engine, partition, b"a"), Some(b"new".into()), "as if there had been no log");
    assert_eq!(value(&engine, partition, b"b"), Some(b"old".into()));
    // Older than a value in the log: no effect, and no need to ask.
    assert_eq!(write(&engine, partition, vec![upsert(b"c", b"1", 5)]), 1);
    assert_eq!(write(&engine, partition, vec![upsert(b"c", b"0", 4)]), 0);
    assert_eq!((value(&engine, partition, b"c"), logs(folder.path())), (Some(b"1".into()), 1));
    engine.close();
    let engine = open(&small(io, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!(value(&engine, partition, b"c"), Some(b"1".into()));
}

fn what_needs_the_pages_merges_the_log(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = logged(io, folder.path());
    options.store.append = true;
    let engine = open(&options);
    let partition = engine.partition("t", 0).unwrap();
    let mut round = 0u64;
    let mut fill = || {
        round += 1;
        let ops = |round: u64| (b'a'..=b'e').map(|key| upsert(&[key], &round.to_be_bytes(), round)).collect();
        // After a drop the first one makes the partition anew.
        write(&engine, partition, ops(round));
        round += 1;
        write(&engine, partition, ops(round));
        assert_eq!(logs(folder.path()), 1);
        round.to_be_bytes()
    };
    let last = fill();
    engine.call(partition, Request::Archive { tag: "t1".into() }).unwrap();
    assert_eq!(logs(folder.path()), 0);
    let archive = engine.archive("t", 0, "t1").unwrap();
    assert_eq!(value(&engine, archive, b"e"), Some(last.into()));
    let last = fill();
    engine.create_branch(partition, "side").unwrap();
    let branch = engine.branch("t", 0, "side").unwrap();
    assert_eq!(value(&engine, branch, b"e"), Some(last.into()));
    assert_eq!(logs(folder.path()), 0);
    let last = fill();
    let gone = engine.call(partition, Request::Truncate { position: b"c".into() }).unwrap();
    assert_eq!((gone, logs(folder.path())), (Answer::Count(3), 0));
    assert_eq!(value(&engine, partition, b"b"), Some(last.into()));
    assert_eq!(value(&engine, partition, b"c"), None);
    // What does not need them leaves it.
    fill();
    engine.call(partition, Request::Compact).unwrap();
    engine.call(partition, Request::CleanExpired).unwrap();
    assert_eq!(logs(folder.path()), 1);
    let last = fill();
    engine.call(partition, Request::Reopen).unwrap();
    assert_eq!(value(&engine, partition, b"d"), Some(last.into()));
}

fn very_large_values_go_to_the_pages(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&logged(io, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    write(&engine, partition, vec![upsert(b"a", b"1", 1)]);
    write(&engine, partition, vec![upsert(b"b", b"2", 2)]);
    assert_eq!(logs(folder.path()), 1);
    let action = Action::UpsertLarge { value: vec![3; 30_000], metadata: None, expire_ms: 0 };
    write(&engine, partition, vec![Op { key: b"b".into(), action, timestamp: 3 }]);
    assert_eq!(logs(folder.path()), 0);
    assert_eq!(value(&engine, partition, b"b"), Some(vec![3; 30_000]));
    // A batch longer than any record.
    write(&engine, partition, vec![upsert(b"b", b"4", 4)]);
    let ops = (0..20u8).map(|i| upsert(&[b'c', i], &vec![i; 1 << 20], 5)).collect();
    write(&engine, partition, ops);
    assert_eq!((logs(folder.path()), value(&engine, partition, b"b")), (0, Some(b"4".into())));
    assert_eq!(value(&engine, partition, &[b'c', 19]), Some(vec![19; 1 << 20]));
}

fn a_dropped_partition_leaves_no_log(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&logged(io, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    for _ in 0..3 {
        write(&engine, partition, vec![upsert(b"a", b"1", 5)]);
        write(&engine, partition, vec![upsert(b"a", b"2", 5), upsert(b"b", b"2", 5)]);
        engine.call(partition, Request::Drop).unwrap();
        assert!(!folder.path().join("t.0").exists() || logs(folder.path()) == 0);
        assert_eq!(value(&engine, partition, b"a"), None);
    }
    // What follows is not older than anything.
    write(&engine, partition, vec![upsert(b"a", b"3", 1)]);
    assert_eq!(write(&engine, partition, vec![upsert(b"a", b"4", 1)]), 1);
    engine.close();
    let engine = open(&small(io, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!((value(&engine, partition, b"a"), value(&engine, partition, b"b")), (Some(b"4".into()), None));
}

/// More than the limit is never left for long, however many partitions share it.
fn many_partitions_share_the_limit(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let options = logged(io, folder.path());
    let engine = open(&options);
    let partitions: Vec<_> = (0..12).map(|number| engine.partition("t", number).unwrap()).collect();
    let held = || {
        let mut bytes = 0;
        for number in 0..12 {
            for file in std::fs::read_dir(folder.path().join(format!("t.{number}"))).unwrap() {
                // One may just have been merged.
                let Ok(file) = file.map(|file| (file.file_name(), file.metadata())) else { continue };
                if file.0.to_string_lossy().starts_with("log_") {
                    bytes += file.1.map_or(0, |data| data.len());
                }
            }
        }
        bytes
    };
    for round in 1..=40u64 {
        for (i, partition) in partitions.iter().enumerate() {
            let key = |j: u64| format!("{:02}", (i as u64 + j * round) % 40).into_bytes();
            let mut ops: Vec<_> = (0..5).map(|j| upsert(&key(j), &[round as u8; 900], round)).collect();
            ops.sort_by(|a, b| a.key.cmp(&b.key));
            ops.dedup_by(|a, b| a.key == b.key);
            write(&engine, *partition, ops);
            if round > 1 {
                let most = 2 * options.log_bytes as u64 + (64 << 10);
                assert!(held() <= most, "{} bytes of logs, {most} allowed", held());
            }
        }
    }
    let stats = engine.stats();
    assert!(stats.log_bytes > 2 * options.log_bytes as u64, "{} bytes: nothing was merged", stats.log_bytes);
    assert_eq!(stats.upkeep_failed, 0);
    for (i, partition) in partitions.iter().enumerate() {
        assert_eq!(value(&engine, *partition, format!("{i:02}").as_bytes()), Some(vec![40; 900]));
    }
    engine.close();
    assert_eq!(held(), 0);
}
