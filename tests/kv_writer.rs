//! What the writer writes, the reader and the second decoder read back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod kv_checked;
mod kv_oracle;
mod kv_support;

use kv_checked::{Checked, partition, upsert, value};
use proptest::prelude::*;
use rdma_engine::Status;
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::options::Options;
use rdma_engine::kv::scan::Range;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::writer::Writer;

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0u16..400).prop_map(|i| format!("key{i:05}").into_bytes()),
        2 => prop::collection::vec(0u8..3, 1..20),
        1 => (0u8..20).prop_map(|i| [vec![b'q'; 1900], vec![i]].concat()),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let len =
        prop_oneof![6 => 0usize..300, 3 => 300usize..3000, 1 => 3900usize..4200, 1 => 4000usize..150_000];
    let action = prop_oneof![
        4 => (len, any::<u64>(), prop_oneof![3 => Just(0), 1 => 1u64..3000])
            .prop_map(|(len, seed, expire_ms)| Action::Upsert { value: value(len, seed), expire_ms }),
        1 => (0usize..40_000, any::<u64>(), any::<Option<u64>>()).prop_map(|(len, seed, metadata)| {
            let metadata = metadata.map(|metadata| metadata.to_be_bytes().to_vec());
            Action::UpsertLarge { value: value(len, seed), metadata, expire_ms: seed % 2 * 77 }
        }),
        1 => Just(Action::Delete),
    ];
    (any_key(), action, prop_oneof![0u64..10, any::<u64>()]).prop_map(|(key, action, timestamp)| Op {
        key,
        action,
        timestamp: timestamp.min(i64::MAX as u64),
    })
}

fn any_options() -> impl Strategy<Value = Options> {
    let counts = (1usize..20, 1usize..20, 1usize..40, 2u32..6);
    (any::<bool>(), any::<bool>(), any::<bool>(), counts, prop_oneof![Just(12_288u64), Just(8 << 20)])
        .prop_map(|(append, compression, large, (data, index, pointers, shift), manifest_limit)| Options {
            append,
            compression,
            page_size: if large { 8192 } else { 4096 },
            data_restart_interval: data,
            index_restart_interval: index,
            overflow_pointers: pointers,
            pages_per_file_shift: shift,
            manifest_limit,
            segment_size: 4096 * data.div_ceil(4),
            segments_per_file_shift: shift,
            ..Options::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn batches_come_back(
        options in any_options(),
        batches in prop::collection::vec((prop::collection::vec(any_op(), 0..120), any::<bool>()), 1..12),
    ) {
        let mut checked = Checked::new(options);
        for (ops, reopen) in batches {
            checked.write(ops, 0);
            checked.check_live();
            if reopen {
                checked.reopen();
                checked.check_disk();
            }
        }
        checked.check_disk();
    }
}

#[test]
fn deleting_everything_leaves_nothing() {
    for append in [false, true] {
        let mut checked = Checked::new(Options { append, pages_per_file_shift: 4, ..Options::default() });
        let keys: Vec<String> = (0..3000).map(|i| format!("key{i:06}")).collect();
        for round in 0..3 {
            checked
                .write(keys.iter().map(|key| upsert(key.as_str(), value(200, round), round, 0)).collect(), 0);
            checked.check_disk();
            // From the middle outwards, so that pages go at both ends and between.
            for part in [1000..2000, 0..1000, 2500..3000, 2000..2500] {
                let gone =
                    |key: &String| Op { key: key.as_str().into(), action: Action::Delete, timestamp: round };
                checked.write(keys[part].iter().map(gone).collect(), 0);
                checked.check_disk();
            }
            assert_eq!(checked.writer.as_ref().unwrap().manifest().root, u32::MAX);
            let mapped = checked.writer.as_ref().unwrap().manifest().mapping.pages().count();
            assert_eq!(mapped, 0, "pages leak");
        }
    }
}

/// One page splits, one further on goes, and the page between them is rewritten only for its links.
#[test]
fn links_hold_around_pages_that_nothing_else_touches() {
    let key = |i: usize| format!("key{i:04}");
    let base: Vec<Op> = (0..90).map(|i| upsert(key(i), value(380, i as u64), 1, 0)).collect();
    for split in (0..40).step_by(3) {
        for gap in [8, 12, 16, 24] {
            let mut checked = Checked::new(Options::default());
            checked.write(base.clone(), 0);
            let mut ops: Vec<Op> =
                (0..9).map(|i| upsert(format!("{}+{i}", key(split)), value(390, i), 1, 0)).collect();
            let gone = split + gap..split + gap + 25;
            ops.extend(gone.map(|i| Op { key: key(i).into(), action: Action::Delete, timestamp: 1 }));
            checked.write(ops, 0);
            checked.check_disk();
        }
    }
}

#[test]
fn file_pages_are_reused_without_append_mode() {
    let mut checked = Checked::new(Options::default());
    let ops = |round| {
        (0..2000u32).map(|i| upsert(i.to_be_bytes(), value(300, round), round, 0)).collect::<Vec<_>>()
    };
    checked.write(ops(0), 0);
    let live = checked.writer.as_ref().unwrap().manifest().mapping.pages().count() as u64;
    for round in 1..10 {
        checked.write(ops(round), 0);
        checked.reopen();
    }
    checked.check_disk();
    let end = checked.writer.as_ref().unwrap().manifest().end;
    assert!(end <= 2 * live + 8, "{live} live pages, {end} used");
}

#[test]
fn older_timestamps_do_nothing_and_deletes_leave_no_trace() {
    let mut checked = Checked::new(Options::default());
    checked.write(vec![upsert("k", b"new".to_vec(), 10, 0)], 0);
    let tail = checked.writer.as_ref().unwrap().manifest().tail;
    checked.write(vec![upsert("k", b"old".to_vec(), 9, 0)], 0);
    checked.write(vec![Op { key: b"absent".to_vec(), action: Action::Delete, timestamp: 99 }], 0);
    assert_eq!(
        checked.writer.as_ref().unwrap().manifest().tail,
        tail,
        "nothing changed, so nothing is written"
    );
    checked.write(vec![Op { key: b"k".to_vec(), action: Action::Delete, timestamp: 10 }], 0);
    checked.write(vec![upsert("k", b"older".to_vec(), 1, 0)], 0);
    checked.check_disk();
    assert_eq!(checked.model[&b"k"[..]].0, b"older");
}

#[test]
fn very_large_values_bring_their_metadata() {
    let mut checked =
        Checked::new(Options { segment_size: 8192, segments_per_file_shift: 2, ..Options::default() });
    let large = |key: &str, len: usize, metadata: Option<&str>| {
        let metadata = metadata.map(|metadata| metadata.as_bytes().to_vec());
        let action = Action::UpsertLarge { value: value(len, 3), metadata, expire_ms: 0 };
        Op { key: key.into(), action, timestamp: 1 }
    };
    checked.write(vec![large("a", 100_000, Some("m")), large("b", 8192, None), large("c", 0, Some(""))], 0);
    checked.check_disk();
    let view = Store::open((*checked.options).clone()).unwrap().view(&partition()).unwrap().unwrap();
    let metadata = |key: &[u8]| view.read(key).unwrap().unwrap().large.unwrap();
    assert_eq!(
        [metadata(b"a"), metadata(b"b"), metadata(b"c")],
        [Some(b"m".to_vec()), None, Some(Vec::new())]
    );
    assert_eq!(view.scan(&Range::ALL).unwrap_err().status, Status::Unsupported);
    checked
        .write(vec![large("a", 5, None), Op { key: b"b".to_vec(), action: Action::Delete, timestamp: 1 }], 0);
    checked.reopen();
    checked.write(vec![large("d", 50_000, None), upsert("a", vec![1], 2, 0)], 0);
    checked.check_disk();
    let too_many = large("e", 9 << 20, None);
    assert!(Batch::new(vec![too_many], Order::Refuse, &checked.options).is_err());
}

#[test]
fn expired_entries_go_when_their_page_is_rewritten() {
    let mut checked = Checked::new(Options::default());
    checked.write(
        vec![upsert("a", vec![1], 1, 500), upsert("b", vec![2], 1, 2000), upsert("c", vec![3], 1, 0)],
        100,
    );
    checked.check_disk();
    checked.write(vec![upsert("d", vec![4; 9000], 1, 900), upsert("e", vec![5], 1, 999)], 950);
    // `a` was on the page, `d` had expired before it came.
    checked.model.remove(&b"a"[..]);
    assert_eq!(checked.model.len(), 3);
    checked.check_disk();
    // Another expiry for a key that has one: the tree of expiries follows.
    checked.write(
        vec![upsert("b", vec![6], 2, 3000), upsert("c", vec![7], 2, 2000), upsert("e", vec![8], 2, 0)],
        960,
    );
    checked.check_disk();
}

#[test]
fn a_dictionary_is_trained_and_kept() {
    let options = Options { compression: true, ..Options::default() };
    let mut checked = Checked::new(options);
    let record = |i: u32| {
        format!("{{\"user\":{i},\"name\":\"name of user {i}\",\"tags\":[\"alpha\",\"beta\"]}}").repeat(6)
    };
    let ops =
        |from: u32, to| (from..to).map(|i| upsert(i.to_be_bytes(), record(i).into_bytes(), 1, 0)).collect();
    checked.write(ops(0, 1000), 0);
    assert!(checked.writer.as_ref().unwrap().manifest().dictionary.is_empty());
    checked.write(ops(1000, 6000), 0);
    let dictionary = checked.writer.as_ref().unwrap().manifest().dictionary.clone();
    assert_eq!(dictionary.len(), 16384);
    checked.reopen();
    checked.write(ops(500, 2000), 0);
    checked.write(vec![upsert("huge", b"0123456789".repeat(1_100_000), 1, 0)], 0);
    assert_eq!(checked.writer.as_ref().unwrap().manifest().dictionary, dictionary);
    checked.check_disk();
    let pages = checked.writer.as_ref().unwrap().manifest().mapping.pages().count();
    assert!(pages < 400, "{pages} pages for 8 MB that compress well");
}

#[test]
fn a_torn_manifest_is_continued_at_its_last_good_record() {
    let mut checked = Checked::new(Options::default());
    for i in 0..5u64 {
        checked.write(vec![upsert(format!("k{i}"), value(100, i), 1, 0)], 0);
    }
    checked.writer = None;
    let manifest = checked.folder.0.join("t.0/manifest_main_0");
    let mut bytes = std::fs::read(&manifest).unwrap();
    let last = bytes.len() - 4096;
    bytes[last + 30] ^= 1;
    bytes.extend([7; 5000]);
    std::fs::write(&manifest, bytes).unwrap();
    checked.model.remove(&b"k4"[..]);
    checked.reopen();
    checked.check_live();
    checked.write(vec![upsert("after", value(100, 9), 1, 0)], 0);
    checked.check_disk();
}

#[test]
fn one_writer_at_a_time() {
    let checked = Checked::new(Options::default());
    let error = Writer::open(checked.options.clone(), &checked.folder.0.join("t.0")).unwrap_err();
    assert_eq!(error.status, Status::WrongState);
}
