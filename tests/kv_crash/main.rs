//! Power fails at every point of a recorded sequence of writes and syncs. What was synced is there; of what was not,
//! any 512-byte sectors are. Afterwards the partition is what some commit left, never less than what was acknowledged,
//! and goes on from there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod damage;
mod disk;
mod log;

use disk::{Disk, Files, Random, after_failure};
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::names::FileName;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::scan::{Large, Range};
use rdma_engine::kv::sink::Sink;
use rdma_engine::kv::source::now;
use rdma_engine::kv::writer::Writer;
use rdma_engine::{Result, Status};
use std::collections::BTreeMap;
use std::sync::Arc;

const ALL: Range<'static> = Range { large: Large::Return, ..Range::ALL };
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn scan(writer: &Writer<&Disk>) -> Result<Model> {
    let entries = now(writer.tree().scan(&ALL))?.entries;
    Ok(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
}

fn open<'d>(options: &Arc<Options>, disk: &'d Disk) -> Result<Writer<&'d Disk>> {
    let manifest = disk.files.borrow().get(&FileName::main_manifest()).cloned();
    let writer = Writer::new(options.clone(), disk, manifest.as_deref())?;
    if manifest.is_some() {
        now(disk.cut(&FileName::main_manifest(), writer.manifest().tail))?;
    }
    Ok(writer)
}

fn batch(options: &Options, random: &mut Random, model: &mut Model) -> Batch {
    let mut ops = BTreeMap::new();
    for _ in 0..1 + random.next(60) {
        let key = format!("key{:03}", random.next(200)).into_bytes();
        let len = [10, 300, 2000, 20_000][random.next(4)];
        let value = vec![random.next(256) as u8; len];
        let action = match random.next(8) {
            0 | 1 => Action::Delete,
            2 => Action::UpsertLarge { value, metadata: None, expire_ms: 0 },
            _ => Action::Upsert { value, expire_ms: random.next(2) as u64 * 77 },
        };
        ops.insert(key, action);
    }
    for (key, action) in &ops {
        match action {
            Action::Delete => drop(model.remove(key)),
            Action::Upsert { value, .. } | Action::UpsertLarge { value, .. } => {
                model.insert(key.clone(), value.clone());
            }
        }
    }
    let ops = ops.into_iter().map(|(key, action)| Op { key, action, timestamp: 1 });
    Batch::new(ops.collect(), Order::Refuse, options).unwrap()
}

fn options(append: bool) -> Arc<Options> {
    Arc::new(Options {
        append,
        pages_per_file_shift: 4,
        segment_size: 4096,
        segments_per_file_shift: 3,
        manifest_limit: 24 << 10,
        ..Options::default()
    })
}

#[test]
fn power_fails_at_every_step() {
    for (append, seed) in [(false, 1), (true, 2), (false, 3), (true, 4)] {
        println!("seed {seed}");
        let options = options(append);
        let mut random = Random(seed);
        let disk = Disk::default();
        let mut writer = open(&options, &disk).unwrap();
        // What each commit left, and how many steps had been taken when it was acknowledged.
        let mut commits = vec![(0, Model::new())];
        for _ in 0..25 {
            let mut model = commits.last().unwrap().1.clone();
            let batch = batch(&options, &mut random, &mut model);
            now(writer.apply(&batch, 0)).unwrap();
            commits.push((disk.steps.borrow().len(), model));
        }
        let steps = disk.steps.take();
        let mut recovered = 0;
        for len in 0..=steps.len() {
            for _ in 0..3 {
                let disk = Disk::new(after_failure(Files::new(), &steps[..len], &mut random));
                let place = format!("seed {seed}, {len} of {} steps", steps.len());
                let mut writer = open(&options, &disk).unwrap_or_else(|error| panic!("{place}: {error}"));
                let found = scan(&writer).unwrap_or_else(|error| panic!("{place}: {error}"));
                let acknowledged = commits.iter().rposition(|(at, _)| *at <= len).unwrap();
                let allowed = commits[acknowledged..].iter().take(2);
                let mut model = allowed.map(|(_, model)| model).find(|model| **model == found).cloned();
                let model = model.as_mut().unwrap_or_else(|| panic!("{place}: no committed state"));
                let batch = batch(&options, &mut random, model);
                now(writer.apply(&batch, 0)).unwrap_or_else(|error| panic!("{place}: {error}"));
                assert!(scan(&open(&options, &disk).unwrap()).unwrap() == *model, "{place}: goes on wrong");
                recovered += 1;
            }
        }
        assert!(recovered > 300, "{recovered} recoveries");
    }
}

/// A full disk: the batch fails with the errno, the store is what it was, and goes on when there is room.
#[test]
fn a_full_disk_is_a_status() {
    for append in [false, true] {
        let options = options(append);
        let mut random = Random(7);
        let disk = Disk::default();
        let mut writer = open(&options, &disk).unwrap();
        let mut model = Model::new();
        for round in 0..60 {
            let mut next = model.clone();
            let batch = batch(&options, &mut random, &mut next);
            *disk.writes_left.borrow_mut() = Some(round % 12);
            let result = now(writer.apply(&batch, 0));
            *disk.writes_left.borrow_mut() = None;
            match result {
                Ok(_) => model = next,
                Err(error) => {
                    assert_eq!((error.status, error.os_errno), (Status::Io, 28), "{error}");
                    assert!(scan(&writer).unwrap() == model, "round {round}: readable as before");
                    if now(writer.apply(&batch, 0)).is_err_and(|error| error.status == Status::WrongState) {
                        writer = open(&options, &disk).unwrap();
                        now(writer.apply(&batch, 0)).unwrap();
                    }
                    model = next;
                }
            }
            assert!(scan(&writer).unwrap() == model, "round {round}");
            assert!(scan(&open(&options, &disk).unwrap()).unwrap() == model, "round {round}, opened again");
        }
    }
}
