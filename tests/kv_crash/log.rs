//! The same for a partition with a write log: power fails while batches go to it, while it is merged into the pages, and again
//! while what is left is merged.

use super::disk::{Disk, Files, Random, after_failure};
use super::{ALL, open, options};
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::log::{Appended, Log};
use rdma_engine::kv::options::Options;
use rdma_engine::kv::source::now;
use rdma_engine::kv::writer::Writer;
use rdma_engine::{Result, Status};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Values, and when they were written.
pub type Model = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

pub fn batch(options: &Options, random: &mut Random, model: &mut Model) -> Batch {
    let mut ops = BTreeMap::new();
    for _ in 0..1 + random.next(30) {
        let key = format!("key{:03}", random.next(60)).into_bytes();
        let value = vec![random.next(256) as u8; [10, 300, 2000, 20_000][random.next(4)]];
        let action = match random.next(4) {
            0 => Action::Delete,
            _ => Action::Upsert { value, expire_ms: 0 },
        };
        // Some are older than what is there.
        let timestamp = [1, 3, 5, 5, 7, 7, 7, 9][random.next(8)];
        ops.insert(key.clone(), Op { key, action, timestamp });
    }
    for (key, op) in &ops {
        let newer = model.get(key).is_none_or(|(_, timestamp)| *timestamp <= op.timestamp);
        match &op.action {
            Action::Upsert { value, .. } if newer => {
                model.insert(key.clone(), (value.clone(), op.timestamp));
            }
            Action::Delete if newer => drop(model.remove(key)),
            _ => {}
        }
    }
    Batch::new(ops.into_values().collect(), Order::Refuse, options).unwrap()
}

/// A partition and its log.
pub struct Side<'d> {
    pub writer: Writer<&'d Disk>,
    pub log: Log<&'d Disk>,
}

impl<'d> Side<'d> {
    pub fn open(options: &Arc<Options>, disk: &'d Disk) -> Result<Side<'d>> {
        Ok(Side { writer: open(options, disk)?, log: now(Log::open(disk))? })
    }

    /// What log and pages hold together.
    pub fn read(&self) -> Result<Model> {
        let tree = self.writer.tree();
        let scanned = match self.log.overlay(&ALL) {
            Some(overlay) => now(overlay.scan(&tree, &self.log, &ALL)),
            None => now(tree.scan(&ALL)),
        };
        let entries = scanned?.entries.into_iter();
        Ok(entries.map(|entry| (entry.key, (entry.value, entry.timestamp))).collect())
    }

    fn content(&self) -> Model {
        self.read().unwrap()
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        if now(self.log.append(batch, 0))? == Appended::Refused {
            self.merge(|_| {})?;
            now(self.writer.apply(batch, 0))?;
        }
        Ok(())
    }

    fn merge(&mut self, meanwhile: impl FnOnce(&mut Self)) -> Result<()> {
        let layers = self.log.freeze();
        meanwhile(self);
        let Side { writer, log } = self;
        now(log.merge(&layers, async |batch| writer.apply(batch, 0).await.map(drop)))?;
        self.log.forget(&layers);
        now(self.log.remove(layers))
    }
}

/// A disk after commits, each with how many steps it had taken and what it left. The first makes the partition.
fn written(options: &Arc<Options>, random: &mut Random, disk: &Disk) -> Vec<(usize, Model)> {
    let mut side = Side::open(options, disk).unwrap();
    let mut commits = vec![(0, Model::new())];
    let mut commit = |side: &mut Side<'_>, write: &dyn Fn(&mut Side<'_>, &Batch) -> bool| {
        let mut model = commits.last().unwrap().1.clone();
        let batch = batch(options, random, &mut model);
        if write(side, &batch) {
            assert!(side.content() == model);
            commits.push((disk.steps.borrow().len(), model));
        }
    };
    commit(&mut side, &|side, batch| now(side.writer.apply(batch, 0)).is_ok());
    for round in 0..30 {
        commit(&mut side, &|side, batch| side.write(batch).is_ok());
        if round % 8 == 7 {
            // What comes while the log is merged goes to another file, if it is one for the log.
            side.merge(|side| {
                commit(side, &|side, batch| now(side.log.append(batch, 0)).unwrap() != Appended::Refused);
            })
            .unwrap();
        }
    }
    assert!(commits.len() > 31, "nothing was written meanwhile");
    commits
}

#[test]
fn power_fails_at_every_step_of_a_log() {
    for (append, seed) in [(false, 1), (true, 2)] {
        println!("seed {seed}");
        let (options, mut random, disk) = (options(append), Random(seed), Disk::default());
        let commits = written(&options, &mut random, &disk);
        let steps = disk.steps.take();
        let (mut merged, mut again) = (0, 0);
        for len in 0..=steps.len() {
            let place = format!("seed {seed}, {len} of {} steps", steps.len());
            let files = after_failure(Files::new(), &steps[..len], &mut random);
            let disk = Disk::new(files.clone());
            let side = Side::open(&options, &disk).unwrap_or_else(|error| panic!("{place}: {error}"));
            let acknowledged = commits.iter().rposition(|(at, _)| *at <= len).unwrap();
            let mut allowed = commits[acknowledged..].iter().take(2).map(|(_, model)| model);
            let found = side.content();
            assert!(allowed.any(|model| *model == found), "{place}: no committed state");
            let left = !side.log.is_empty();
            drop(side);
            // The next one to write merges what is left, and may meet the same fate.
            disk.steps.take();
            let mut writer = open(&options, &disk).unwrap();
            now(writer.merge_log(&disk)).unwrap_or_else(|error| panic!("{place}: {error}"));
            let steps = disk.steps.take();
            let side = Side::open(&options, &disk).unwrap();
            assert!(side.log.is_empty() && side.content() == found, "{place}: merged wrong");
            merged += usize::from(left);
            for _ in 0..usize::from(left) * 3 {
                let at = random.next(steps.len() + 1);
                let disk = Disk::new(after_failure(files.clone(), &steps[..at], &mut random));
                let mut side = Side::open(&options, &disk).unwrap_or_else(|error| panic!("{place}: {error}"));
                assert!(side.content() == found, "{place}, again after {at} of {} steps", steps.len());
                let mut model = found.clone();
                let batch = batch(&options, &mut random, &mut model);
                side.write(&batch).unwrap_or_else(|error| panic!("{place}: {error}"));
                drop(side);
                assert!(Side::open(&options, &disk).unwrap().content() == model, "{place}: goes on wrong");
                again += 1;
            }
        }
        assert!(merged > 50 && again > 150, "{merged} logs were left, {again} failures while one was merged");
    }
}

/// A full disk: the batch fails with the errno and is nowhere, and the log goes on when there is room.
#[test]
fn a_full_disk_is_a_status_of_a_log() {
    let (options, mut random, disk) = (options(false), Random(9), Disk::default());
    let mut model = written(&options, &mut random, &disk).pop().unwrap().1;
    let mut side = Side::open(&options, &disk).unwrap();
    let mut failed = 0;
    for round in 0..60 {
        let mut next = model.clone();
        let batch = batch(&options, &mut random, &mut next);
        *disk.writes_left.borrow_mut() = Some(round % 3);
        let appended = now(side.log.append(&batch, 0));
        *disk.writes_left.borrow_mut() = None;
        match appended {
            Ok(Appended::Safe(_)) => model = next,
            Ok(Appended::Refused) => {}
            Err(error) => {
                assert_eq!((error.status, error.os_errno), (Status::Io, 28), "{error}");
                failed += 1;
            }
        }
        assert!(side.content() == model, "round {round}");
        assert!(Side::open(&options, &disk).unwrap().content() == model, "round {round}, opened again");
        if round % 16 == 15 {
            side.merge(|_| {}).unwrap();
            assert!(side.content() == model, "round {round}, merged");
        }
    }
    assert!(failed > 10, "{failed}");
}

/// What cannot be undone may have happened or not, which only opening the log again tells. Until then nothing is written.
#[test]
fn what_is_not_known_is_not_written_over() {
    let (options, mut random) = (options(false), Random(11));
    for round in 0..20 {
        let disk = Disk::default();
        let model = written(&options, &mut random, &disk).pop().unwrap().1;
        let mut side = Side::open(&options, &disk).unwrap();
        let mut next = model.clone();
        let long = (0..20).map(|i| Op {
            key: format!("long{i}").into_bytes(),
            action: Action::Upsert { value: vec![round; 20_000], expire_ms: 0 },
            timestamp: 9,
        });
        let long = Batch::new(long.collect(), Order::Sort, &options).unwrap();
        next.extend(long.ops().iter().map(|op| (op.key.clone(), (op.action.value().to_vec(), op.timestamp))));
        // The head of a file may have to be written first; the rest takes several writes.
        *disk.writes_left.borrow_mut() = Some(1 + random.next(3));
        disk.uncut.set(true);
        assert_eq!(now(side.log.append(&long, 0)).unwrap_err().status, Status::Io);
        *disk.writes_left.borrow_mut() = None;
        disk.uncut.set(false);
        assert!(side.content() == model, "readable as before");
        let refused = side.write(&long).unwrap_err();
        assert_eq!(refused.status, Status::WrongState, "{refused}");
        assert_eq!(side.merge(|_| {}).unwrap_err().status, Status::WrongState);
        drop(side);
        let mut side = Side::open(&options, &disk).unwrap();
        let found = side.content();
        assert!(found == model || found == next, "round {round}");
        side.write(&long).unwrap();
        side.merge(|_| {}).unwrap();
        assert!(side.content() == next && Side::open(&options, &disk).unwrap().content() == next);
    }
}

/// What is older than something in the log leaves nothing that a later replay could take for more, once that has been merged.
#[test]
fn what_did_not_count_is_not_replayed() {
    let options = options(false);
    let upsert = |value: &[u8]| Action::Upsert { value: value.into(), expire_ms: 0 };
    let one = |action, timestamp| {
        Batch::new(vec![Op { key: b"k".into(), action, timestamp }], Order::Refuse, &options).unwrap()
    };
    let entry = |value: &[u8], timestamp| Model::from([(b"k".to_vec(), (value.to_vec(), timestamp))]);
    for (first, expected) in [(upsert(b"first"), entry(b"first", 10)), (Action::Delete, entry(b"last", 3))] {
        for removed in [false, true] {
            let disk = Disk::default();
            let mut side = Side::open(&options, &disk).unwrap();
            now(side.writer.apply(&one(upsert(b"zeroth"), 0), 0)).unwrap();
            side.write(&one(first.clone(), 10)).unwrap();
            let layers = side.log.freeze();
            assert_eq!(now(side.log.append(&one(Action::Delete, 5), 0)).unwrap(), Appended::Safe(0));
            let Side { writer, log } = &mut side;
            now(log.merge(&layers, async |batch| writer.apply(batch, 0).await.map(drop))).unwrap();
            side.log.forget(&layers);
            if removed {
                now(side.log.remove(layers)).unwrap();
            }
            // The pages have all that came before, and are asked.
            assert_eq!(now(side.log.append(&one(upsert(b"last"), 3), 0)).unwrap(), Appended::Safe(1));
            assert!(side.content() == expected);
            drop(side);
            let mut side = Side::open(&options, &disk).unwrap();
            assert!(side.content() == expected, "removed {removed}");
            side.merge(|_| {}).unwrap();
            assert!(side.content() == expected, "removed {removed}, merged");
        }
    }
}

#[test]
fn damage_before_another_file_is_not_taken_for_an_end() {
    let (options, mut random, disk) = (options(false), Random(3), Disk::default());
    let mut model = Model::new();
    let mut side = Side::open(&options, &disk).unwrap();
    let first = batch(&options, &mut random, &mut model);
    now(side.writer.apply(&first, 0)).unwrap();
    for _ in 0..3 {
        let batch = batch(&options, &mut random, &mut model);
        side.write(&batch).unwrap();
        side.log.freeze();
    }
    drop(side);
    let name = |number| rdma_engine::kv::names::FileName::Log { number };
    let mut files: Vec<u64> =
        (0..100).filter(|number| disk.files.borrow().contains_key(&name(*number))).collect();
    assert!(files.len() >= 3, "{files:?}");
    // The last record of a file that another follows was whole.
    let whole = disk.files.borrow()[&name(files[0])].clone();
    let last = whole.len() - 1 - whole.iter().rev().position(|byte| *byte != 0).unwrap();
    disk.files.borrow_mut().get_mut(&name(files[0])).unwrap()[last] ^= 1;
    let error = Side::open(&options, &disk).err().unwrap();
    assert_eq!(error.status, Status::Corrupted);
    assert!(error.message.contains(&format!("log_{}, byte 4096: a record", files[0])), "{error}");
    disk.files.borrow_mut().insert(name(files[0]), whole);
    assert!(Side::open(&options, &disk).unwrap().content() == model);
    let between = files.remove(1);
    disk.files.borrow_mut().remove(&name(between));
    let error = Side::open(&options, &disk).err().unwrap();
    assert_eq!(error.status, Status::Corrupted);
    assert!(error.message.contains(&format!("log_{between}, byte 0: it is missing")), "{error}");
}
