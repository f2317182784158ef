//! Branches go their own way; segments move together; pages that are nearly empty are joined.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod kv_checked;
mod kv_oracle;
mod kv_support;

use kv_checked::{ALL, Checked, partition, shape, upsert, value};
use kv_oracle::{Entries, decode};
use rdma_engine::Status;
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::options::Options;
use rdma_engine::kv::source::now;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::survey;
use rdma_engine::kv::writer::Writer;

fn options() -> Options {
    Options {
        append: true,
        segment_size: 4096,
        pages_per_file_shift: 3,
        segments_per_file_shift: 2,
        ..Options::default()
    }
}

fn entry(i: u64, seed: u64) -> Op {
    let key = format!("key{i:05}");
    match i % 20 {
        7 => Op {
            key: key.into(),
            action: Action::UpsertLarge { value: value(9000, i + seed), metadata: None, expire_ms: 0 },
            timestamp: seed,
        },
        8 => upsert(key, value(20_000, i + seed), seed, 0),
        _ => upsert(key, value(150, i + seed), seed, i % 2 * 5000),
    }
}

fn write(writer: &mut Writer, model: &mut Entries, range: std::ops::Range<u64>, seed: u64) {
    let ops: Vec<Op> = range.map(|i| entry(i, seed)).collect();
    for op in &ops {
        let (Action::Upsert { value, expire_ms } | Action::UpsertLarge { value, expire_ms, .. }) = &op.action
        else {
            panic!("only upserts")
        };
        model.insert(op.key.clone(), (value.clone(), op.timestamp, *expire_ms));
    }
    let batch = Batch::new(ops, Order::Refuse, writer.options()).unwrap();
    writer.write(&batch, 0).unwrap();
}

/// The branch as a reader and as the check find it.
fn assert_branch(checked: &Checked, name: &str, model: &Entries) {
    let store = Store::open((*checked.options).clone()).unwrap();
    let view = store.branch(&partition(), name).unwrap().unwrap();
    let found: Entries = view
        .scan(&ALL)
        .unwrap()
        .entries
        .into_iter()
        .map(|entry| (entry.key, (entry.value, entry.timestamp, entry.expire_ms)))
        .collect();
    assert!(found == *model, "branch {name}");
    let manifest = format!("manifest_{name}_0");
    let decoded = decode(&checked.folder.0.join("t.0"), &manifest, shape(&checked.options));
    assert!(decoded == *model, "branch {name}");
    for (state, report) in survey::check(&store, &partition(), |_| Ok(())).unwrap() {
        assert_eq!(report.problems, [""; 0], "{state}");
    }
}

#[test]
fn branches_go_their_own_way() {
    let mut checked = Checked::new(options());
    let mut main = Entries::new();
    write(checked.writer.as_mut().unwrap(), &mut main, 0..300, 1);
    let mut writer = checked.writer.take().unwrap();
    assert_eq!(now(writer.create_branch("Dev-1")).unwrap(), "dev-1");
    assert_eq!(now(writer.create_branch("dev-1")).unwrap_err().status, Status::AlreadyExists);
    for name in ["main", "a_b", "", "a/b"] {
        assert!(now(writer.create_branch(name)).is_err(), "{name:?}");
    }
    let mut dev = main.clone();
    drop(writer);
    let path = checked.folder.0.join("t.0");
    let open = |branch: &str| Writer::open_branch(checked.options.clone(), &path, branch);
    for round in 2..6 {
        let mut writer = open("main").unwrap();
        write(&mut writer, &mut main, round * 40..round * 60, round);
        now(writer.compact()).unwrap();
        now(writer.compact_segments()).unwrap();
        writer.collect_files().unwrap();
        drop(writer);
        assert_branch(&checked, "main", &main);
        assert_branch(&checked, "dev-1", &dev);
        let mut writer = open("dev-1").unwrap();
        write(&mut writer, &mut dev, 200 + round * 10..400, round + 100);
        if round == 4 {
            // A branch of a branch.
            now(writer.create_branch("twig")).unwrap();
            now(writer.archive("kept")).unwrap();
        }
        now(writer.compact()).unwrap();
        writer.collect_files().unwrap();
        drop(writer);
        assert_branch(&checked, "dev-1", &dev);
        assert_branch(&checked, "main", &main);
    }
    assert_eq!(open("none").unwrap_err().status, Status::NotFound);
    let mut twig = open("twig").unwrap();
    assert_eq!(twig.delete_branch("main").unwrap_err().status, Status::InvalidArgument);
    assert_eq!(twig.delete_branch("twig").unwrap_err().status, Status::InvalidArgument);
    twig.delete_branch("dev-1").unwrap();
    assert_eq!(twig.delete_branch("dev-1").unwrap_err().status, Status::NotFound);
    twig.collect_files().unwrap();
    let kept: Entries = now(twig.tree().scan(&ALL))
        .unwrap()
        .entries
        .into_iter()
        .map(|entry| (entry.key, (entry.value, entry.timestamp, entry.expire_ms)))
        .collect();
    drop(twig);
    // The name comes back and must not write over what the old one left to its branch and its archive.
    let mut writer = open("main").unwrap();
    now(writer.create_branch("dev-1")).unwrap();
    drop(writer);
    let mut dev = main.clone();
    let mut writer = open("dev-1").unwrap();
    write(&mut writer, &mut dev, 0..400, 500);
    drop(writer);
    assert_branch(&checked, "twig", &kept);
    assert_branch(&checked, "dev-1", &dev);
    assert_branch(&checked, "main", &main);
}

#[test]
fn segments_move_together() {
    for append in [false, true] {
        let mut checked = Checked::new(Options { append, ..options() });
        let large = |i: u64, seed: u64| Op {
            key: format!("key{i:05}").into(),
            action: Action::UpsertLarge { value: value(4096, seed + i), metadata: None, expire_ms: 0 },
            timestamp: seed,
        };
        checked.write((0..400).map(|i| large(i, 1)).collect(), 0);
        checked.write((0..400).filter(|i| i % 4 != 0).map(|i| large(i, 2)).collect(), 0);
        checked.write(
            (0..400)
                .filter(|i| i % 8 != 0)
                .map(|i| Op { key: format!("key{i:05}").into(), action: Action::Delete, timestamp: 3 })
                .collect(),
            0,
        );
        let files = |checked: &Checked| {
            let names = std::fs::read_dir(checked.folder.0.join("t.0")).unwrap();
            names
                .filter(|name| name.as_ref().unwrap().file_name().to_str().unwrap().starts_with("segment"))
                .count()
        };
        let writer = checked.writer.as_mut().unwrap();
        let moved = now(writer.compact_segments()).unwrap();
        assert_eq!(moved, 50);
        assert_eq!(now(writer.compact_segments()).unwrap(), 0, "what is together stays");
        writer.collect_files().unwrap();
        assert!(files(&checked) <= 14, "{} files", files(&checked));
        checked.check_live();
        checked.check_disk();
        checked.reopen();
        checked.write((0..100).map(|i| large(i, 9)).collect(), 0);
        checked.check_disk();
    }
}

#[test]
fn nearly_empty_pages_are_joined() {
    for (append, key_len) in [(false, 8), (true, 8), (false, 400)] {
        let mut checked = Checked::new(Options { append, ..Options::default() });
        let key = |i: u64| format!("{:a>key_len$}{i:06}", "").into_bytes();
        checked.write((0..20_000).map(|i| upsert(key(i), value(60, i), 1, i % 2 * 9000)).collect(), 0);
        let pages = |checked: &Checked| checked.writer.as_ref().unwrap().manifest().mapping.pages().count();
        let full = pages(&checked);
        let mut random = 7u64;
        for _ in 0..30 {
            // Each round deletes a fifth of what is left, here and there.
            let keys: Vec<Vec<u8>> = checked.model.keys().cloned().collect();
            let doomed = keys.into_iter().filter(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33).is_multiple_of(5)
            });
            checked.write(doomed.map(|key| Op { key, action: Action::Delete, timestamp: 2 }).collect(), 0);
        }
        checked.check_disk();
        let left = checked.model.len();
        assert!(left < 100, "{left} entries");
        assert!(pages(&checked) <= 16, "{} pages of {full} for {left} entries", pages(&checked));
        checked.write((0..20_000).map(|i| upsert(key(i), value(60, i), 3, i % 2 * 9000)).collect(), 0);
        checked.check_disk();
        checked.check_live();
    }
}

#[test]
fn a_writer_is_opened_again() {
    let mut checked = Checked::new(options());
    checked.write((0..50).map(|i| entry(i, 1)).collect(), 0);
    checked.writer = Some(checked.writer.take().unwrap().reopen().unwrap());
    checked.check_live();
    checked.write((20..90).map(|i| entry(i, 2)).collect(), 0);
    checked.check_disk();
}

/// The first very large value of a branch goes to a file of its own, also when the branch that it came from has none.
#[test]
fn a_branch_has_the_first_very_large_value() {
    let mut checked = Checked::new(options());
    let mut main = Entries::new();
    write(checked.writer.as_mut().unwrap(), &mut main, 0..5, 1);
    now(checked.writer.as_mut().unwrap().create_branch("dev")).unwrap();
    checked.writer = None;
    let (mut dev, store) = (main.clone(), Store::open((*checked.options).clone()).unwrap());
    for seed in 2..5 {
        write(&mut store.branch_writer(&partition(), "dev").unwrap(), &mut dev, 0..30, seed);
        assert_branch(&checked, "dev", &dev);
    }
    write(&mut store.writer(&partition()).unwrap(), &mut main, 0..30, 9);
    assert_branch(&checked, "main", &main);
    assert_branch(&checked, "dev", &dev);
}
