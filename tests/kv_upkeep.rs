//! Truncate, drop, cleaning of expired entries, archives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod kv_checked;
mod kv_oracle;
mod kv_support;

use kv_checked::{ALL, Checked, partition, upsert, value};
use rdma_engine::Status;
use rdma_engine::kv::batch::{Action, Op};
use rdma_engine::kv::data_page::{NEXT, PREVIOUS};
use rdma_engine::kv::options::Options;
use rdma_engine::kv::packer::{Cell, encode, set_link};
use rdma_engine::kv::page::{Kind, NONE, seal};
use rdma_engine::kv::source::now;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::value::{Codec, Descriptor};

fn entry(i: u64) -> Op {
    let expire_ms = if i.is_multiple_of(3) { 1000 + i } else { 0 };
    let key = format!("key{i:05}");
    match i % 50 {
        7 => Op {
            key: key.into(),
            action: Action::UpsertLarge { value: value(9000, i), metadata: None, expire_ms },
            timestamp: i,
        },
        8 => upsert(key, value(30_000, i), i, expire_ms),
        _ => upsert(key, value(150, i), i, expire_ms),
    }
}

fn filled(append: bool) -> Checked {
    let options = Options {
        append,
        segment_size: 4096,
        pages_per_file_shift: 5,
        segments_per_file_shift: 3,
        ..Options::default()
    };
    let mut checked = Checked::new(options);
    checked.write((0..2000).map(entry).collect(), 0);
    checked.check_disk();
    checked
}

#[test]
fn truncate_takes_the_tail() {
    for append in [false, true] {
        let mut checked = filled(append);
        for from in [1999u64, 1500, 1008, 3] {
            let key = format!("key{from:05}").into_bytes();
            let gone = now(checked.writer.as_mut().unwrap().truncate(&key)).unwrap();
            assert_eq!(gone as usize, checked.model.split_off(&key).len());
            checked.check_disk();
        }
        assert_eq!(now(checked.writer.as_mut().unwrap().truncate(b"z")).unwrap(), 0);
        checked.check_disk();
    }
}

#[test]
fn truncate_from_the_start_empties_and_frees() {
    let mut checked = filled(false);
    let end = checked.writer.as_ref().unwrap().manifest().end;
    now(checked.writer.as_mut().unwrap().truncate(&[])).unwrap();
    checked.model.clear();
    checked.check_disk();
    checked.write((0..2000).map(entry).collect(), 0);
    checked.check_disk();
    assert_eq!(checked.writer.as_ref().unwrap().manifest().end, end, "file pages are used again");
    let mut new = Checked::new(Options::default());
    now(new.writer.as_mut().unwrap().truncate(&[])).unwrap();
    new.check_disk();
}

#[test]
fn what_expired_is_cleaned() {
    let mut checked = filled(true);
    for now_ms in [999, 1000, 1500, 9999] {
        let cleaned = now(checked.writer.as_mut().unwrap().clean_expired(now_ms)).unwrap();
        let before = checked.model.len();
        checked.model.retain(|_, (_, _, expire_ms)| *expire_ms == 0 || *expire_ms > now_ms);
        assert_eq!(cleaned as usize, before - checked.model.len());
        checked.check_disk();
    }
    assert_eq!(checked.writer.as_ref().unwrap().manifest().ttl_root, u32::MAX);
}

#[test]
fn archives_keep_what_was() {
    let mut checked = filled(true);
    let before = now(checked.writer.as_ref().unwrap().tree().scan(&ALL)).unwrap();
    let writer = checked.writer.as_mut().unwrap();
    now(writer.archive("one")).unwrap();
    assert_eq!(now(writer.archive("one")).unwrap_err().status, Status::AlreadyExists);
    for tag in ["", "a/b", "x.tmp", "a b", "../x"] {
        assert_eq!(now(writer.archive(tag)).unwrap_err().status, Status::InvalidArgument, "{tag:?}");
    }
    checked.write((0..2000).map(|i| upsert(format!("key{i:05}"), value(40, i), 5000, 0)).collect(), 0);
    checked.write((0..1000).map(|i| upsert(format!("other{i}"), value(400, i), 1, 0)).collect(), 0);
    let store = Store::open((*checked.options).clone()).unwrap();
    assert_eq!(store.archives(&partition()).unwrap(), ["one"]);
    assert!(store.archive(&partition(), "one").unwrap().unwrap().scan(&ALL).unwrap() == before);
    assert!(store.archive(&partition(), "two").unwrap().is_none());
    now(checked.writer.as_mut().unwrap().forget_archive("one")).unwrap();
    now(checked.writer.as_mut().unwrap().forget_archive("one")).unwrap();
    assert!(store.archives(&partition()).unwrap().is_empty());
    checked.check_disk();
    let error = now(filled(false).writer.as_mut().unwrap().archive("one")).unwrap_err();
    assert_eq!(error.status, Status::Unsupported);
}

#[test]
fn a_dropped_partition_is_gone_but_for_its_archives() {
    let mut checked = filled(true);
    let store = Store::open((*checked.options).clone()).unwrap();
    let before = store.view(&partition()).unwrap().unwrap().scan(&ALL).unwrap();
    now(checked.writer.as_mut().unwrap().archive("kept")).unwrap();
    checked.writer.take().unwrap().drop_partition().unwrap();
    assert!(store.view(&partition()).unwrap().is_none());
    assert!(store.archive(&partition(), "kept").unwrap().unwrap().scan(&ALL).unwrap() == before);
    // Writing again must not overwrite what the archive needs.
    checked.reopen();
    checked.model.clear();
    checked.write((0..3000).map(|i| upsert(format!("new{i}"), value(300, i), 1, 0)).collect(), 0);
    checked.write((0..300).map(entry).collect(), 0);
    checked.check_disk();
    assert!(store.archive(&partition(), "kept").unwrap().unwrap().scan(&ALL).unwrap() == before);
    now(checked.writer.as_mut().unwrap().forget_archive("kept")).unwrap();
    checked.writer.take().unwrap().drop_partition().unwrap();
    assert!(!checked.folder.0.join("t.0").exists());
    checked.model.clear();
    checked.reopen();
    checked.check_disk();
    checked.write(vec![entry(1)], 0);
    checked.check_disk();
}

#[test]
fn compaction_and_collection_give_space_back() {
    let mut checked = filled(true);
    let bytes = |checked: &Checked| -> u64 {
        let files = std::fs::read_dir(checked.folder.0.join("t.0")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    let first = bytes(&checked);
    now(checked.writer.as_mut().unwrap().archive("kept")).unwrap();
    let kept = checked.model.clone();
    for round in 0..12u64 {
        // A few long values stay where they are each time, so that their files are nearly empty at last.
        let ops = (0..2000).filter(|i| i % 50 != 8 || (i / 50) % 12 >= round);
        let ops = ops.map(|i| Op { timestamp: 9000 + round, ..entry(i) });
        checked.write(ops.collect(), 0);
    }
    let grown = bytes(&checked);
    assert!(checked.writer.as_ref().unwrap().is_sparse());
    assert!(now(checked.writer.as_mut().unwrap().compact()).unwrap() > 0);
    checked.check_disk();
    assert!(checked.writer.as_mut().unwrap().collect_files().unwrap() > 0);
    checked.check_disk();
    assert!(!checked.writer.as_ref().unwrap().is_sparse());
    let store = Store::open((*checked.options).clone()).unwrap();
    let archived = store.archive(&partition(), "kept").unwrap().unwrap().scan(&ALL).unwrap().entries;
    assert!(archived.len() == kept.len() && archived.iter().all(|entry| kept[&entry.key].0 == entry.value));
    now(checked.writer.as_mut().unwrap().forget_archive("kept")).unwrap();
    checked.writer.as_mut().unwrap().collect_files().unwrap();
    let small = bytes(&checked);
    assert!(small < 4 * first && small < grown / 2, "{first} bytes at first, {grown} grown, {small} now");
    checked.reopen();
    checked.check_disk();
    checked.write((0..2000).map(|i| Op { timestamp: 10_000, ..entry(i) }).collect(), 0);
    checked.check_disk();
    assert_eq!(
        now(filled(false).writer.as_mut().unwrap().compact()).unwrap_err().status,
        Status::Unsupported
    );
}

/// A manifest that cannot be read may need any file.
#[test]
fn nothing_is_collected_beside_a_damaged_archive() {
    let mut checked = filled(true);
    now(checked.writer.as_mut().unwrap().archive("kept")).unwrap();
    now(checked.writer.as_mut().unwrap().truncate(&[])).unwrap();
    let archive = checked.folder.0.join("t.0/manifest_main_0_kept");
    let sound = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &sound[..100]).unwrap();
    assert_eq!(checked.writer.as_mut().unwrap().collect_files().unwrap_err().status, Status::Corrupted);
    checked.model.clear();
    // Opened beside it, a writer leaves every file alone.
    checked.reopen();
    checked.write((0..500).map(entry).collect(), 0);
    checked.check_disk();
    std::fs::write(&archive, &sound).unwrap();
    let store = Store::open((*checked.options).clone()).unwrap();
    assert_eq!(store.archive(&partition(), "kept").unwrap().unwrap().scan(&ALL).unwrap().entries.len(), 2000);
}

/// EloqStore checks the length of keys in debug builds only: a longer one is read, kept, and deleted.
#[test]
fn keys_longer_than_ours_are_lived_with() {
    let mut checked = Checked::new(Options::default());
    checked.write(vec![upsert("a", b"1".to_vec(), 1, 0)], 0);
    let long = vec![b'k'; 3000];
    let cell = |key: &[u8]| Cell {
        key: key.to_vec().into(),
        descriptor: Descriptor { len: 1, overflow: false, expires: false, codec: Codec::Raw },
        content: b"1".to_vec().into(),
        expire_ms: 0,
        timestamp: 1,
    };
    let mut page = encode(&[cell(b"a"), cell(&long)], 4096, 16);
    set_link(&mut page, PREVIOUS, NONE);
    set_link(&mut page, NEXT, NONE);
    seal(&mut page, Kind::Data);
    checked.writer = None;
    let file = checked.folder.0.join("t.0/data_0_main_0");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = (0..bytes.len()).step_by(4096).find(|at| bytes[at + 8] == Kind::Data as u8).unwrap();
    bytes[at..at + 4096].copy_from_slice(&page);
    std::fs::write(&file, bytes).unwrap();
    checked.model.insert(long.clone(), (b"1".to_vec(), 1, 0));
    checked.reopen();
    checked.check_disk();
    checked.write(vec![upsert("b", b"2".to_vec(), 1, 0)], 0);
    checked.check_disk();
    assert_eq!(now(checked.writer.as_mut().unwrap().truncate(b"k")).unwrap(), 1);
    checked.model.remove(&long);
    checked.check_disk();
}
