//! A write log: what it holds counts before the pages, and whatever needs the pages finds all of it there.

use super::{open, small, upsert};
use rdma_engine::Status;
use rdma_engine::kv::batch::{Action, Op, Order};
use rdma_engine::kv::engine::{Answer, Choice, Engine, EngineOptions, Handle, Request, Scan};
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::store::Store;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

crate::both! {
    a_batch_goes_to_the_log_and_its_pages_are_written_at_close
    a_log_that_was_left_is_merged_by_who_writes_next
    a_log_that_was_left_is_read_without_one
    a_log_that_nothing_is_added_to_is_merged_by_upkeep
    what_only_the_pages_can_say_is_asked_there
    what_needs_the_pages_merges_the_log
    very_large_values_go_to_the_pages
    a_dropped_partition_leaves_no_log
    many_partitions_share_the_limit
    what_cannot_be_merged_concerns_nobody_else
    who_reopens_it_loses_nothing
    scheduled_archives_have_what_is_in_the_log
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

fn a_log_that_nothing_is_added_to_is_merged_by_upkeep(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&logged(io, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    for round in 1..=2 {
        write(&engine, partition, vec![upsert(b"a", &[round], round.into())]);
    }
    let left = copied(folder.path());
    let mut options = logged(io, left.path());
    options.upkeep_interval = Duration::from_millis(1);
    let engine = open(&options);
    let partition = engine.partition("t", 0).unwrap();
    assert_eq!(value(&engine, partition, b"a"), Some(vec![2]));
    let start = Instant::now();
    while logs(left.path()) > 0 {
        assert!(start.elapsed() < Duration::from_secs(120), "nobody merged it");
        std::thread::yield_now();
    }
    assert_eq!(value(&engine, partition, b"a"), Some(vec![2]));
    assert_eq!(engine.stats().upkeep_failed, 0);
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
    fill();
    engine.call(partition, Request::CleanExpired).unwrap();
    assert_eq!(logs(folder.path()), 0);
    // What does not need them leaves it.
    fill();
    engine.call(partition, Request::Compact).unwrap();
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
    // One that the log deletes is none that a scan would have to refuse, nor does a floor find it.
    assert_eq!(engine.scan(partition, Scan::default()).unwrap_err().status, Status::Unsupported);
    write(&engine, partition, vec![delete(b"b", 4)]);
    assert_eq!(logs(folder.path()), 1);
    assert_eq!(engine.scan(partition, Scan::default()).unwrap().entries.len(), 1);
    assert_eq!(engine.floor(partition, b"c").unwrap().unwrap().key, b"a");
    assert_eq!(engine.floor(partition, b"").unwrap(), None);
    // A batch longer than any record.
    write(&engine, partition, vec![upsert(b"b", b"4", 5)]);
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

/// A partition whose pages are damaged cannot take what its log holds. Its own writes end with an error when the log has its share;
/// those of others go on, and the log is not in more and more files.
fn what_cannot_be_merged_concerns_nobody_else(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&logged(io, folder.path()));
    let (bad, good) = (engine.partition("t", 0).unwrap(), engine.partition("t", 1).unwrap());
    let key = |i: u32| i.to_be_bytes();
    write(&engine, bad, (0..2_000).map(|i| upsert(&key(i), &[7; 200], 1)).collect());
    write(&engine, good, vec![upsert(b"a", b"1", 1)]);
    for file in std::fs::read_dir(folder.path().join("t.0")).unwrap().map(|file| file.unwrap().path()) {
        if file.file_name().unwrap().to_string_lossy().starts_with("data_") {
            std::fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap();
        }
    }
    let mut written = 0;
    let error = (0..4_000).find_map(|i| {
        let result = engine.write(bad, vec![upsert(&key(i), &[1; 1_000], 2)], Order::Refuse);
        written += u32::from(result.is_ok());
        result.err()
    });
    assert_eq!(error.unwrap().status, Status::Corrupted);
    assert!(written > 100, "{written}");
    // More than all logs together may have.
    for i in 0..2_000 {
        write(&engine, good, vec![upsert(&key(i), &[2; 1_000], 2)]);
        if i % 50 == 0 {
            engine.write(bad, vec![upsert(&key(i), &[3; 1_000], 3)], Order::Refuse).unwrap_err();
        }
    }
    assert!((1..100).contains(&logs(folder.path())), "{} files", logs(folder.path()));
    // What was acknowledged is there, from the log.
    assert_eq!(value(&engine, good, &key(1_999)), Some(vec![2; 1_000]));
    let log = std::fs::read(folder.path().join("t.0/log_0")).unwrap();
    assert!(log.windows(1_000).any(|bytes| bytes == [1; 1_000]));
}

/// Several who reopen a partition at once, beside a writer that reads what it wrote.
fn who_reopens_it_loses_nothing(io: Choice) {
    for log_bytes in [0, 1 << 20] {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(&EngineOptions { log_bytes, ..small(io, folder.path()) });
        let partition = engine.partition("t", 0).unwrap();
        write(&engine, partition, vec![upsert(b"k", b"0", 1)]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        engine.call(partition, Request::Reopen).unwrap();
                    }
                });
            }
            let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for round in 2..150u64 {
                    let bytes = [&round.to_be_bytes()[..], &[7; 3000]].concat();
                    write(&engine, partition, vec![upsert(b"k", &bytes, round)]);
                    assert_eq!(value(&engine, partition, b"k"), Some(bytes), "round {round}");
                }
            }));
            stop.store(true, Ordering::Relaxed);
            written.unwrap();
        });
    }
}

fn scheduled_archives_have_what_is_in_the_log(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = logged(io, folder.path());
    options.store.append = true;
    options.upkeep_interval = Duration::from_millis(1);
    options.archive_interval = Duration::from_millis(1);
    let engine = open(&options);
    let partition = engine.partition("t", 0).unwrap();
    write(&engine, partition, vec![upsert(b"k", b"0", 1)]);
    let start = Instant::now();
    let archived = |wanted: &[u8]| {
        loop {
            assert!(start.elapsed() < Duration::from_secs(120), "nothing was archived");
            let Answer::Names(tags) = engine.call(partition, Request::Archives).unwrap() else { panic!() };
            let Some(tag) = tags.iter().max_by_key(|tag| tag.parse::<u64>().unwrap()) else { continue };
            let Ok(archive) = engine.archive("t", 0, tag) else { continue };
            if engine.read(archive, b"k").is_ok_and(|found| found.is_some_and(|found| found.value == wanted))
            {
                return;
            }
        }
    };
    archived(b"0");
    // The pages do not change by these.
    for round in 2..5u64 {
        let bytes = round.to_string().into_bytes();
        write(&engine, partition, vec![upsert(b"k", &bytes, round)]);
        archived(&bytes);
    }
}
