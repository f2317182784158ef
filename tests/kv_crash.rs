//! Power fails at every point of a recorded sequence of writes and syncs. What was synced is there; of what was not,
//! any 512-byte sectors are. Afterwards the partition is what some commit left, never less than what was acknowledged,
//! and goes on from there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::names::FileName;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::scan::{Large, Range};
use rdma_engine::kv::sink::Sink;
use rdma_engine::kv::source::{Source, now};
use rdma_engine::kv::writer::Writer;
use rdma_engine::{Error, Result, Status};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const ALL: Range<'static> = Range { large: Large::Return, ..Range::ALL };
const SECTOR: usize = 512;

/// What a disk is asked to do.
#[derive(Clone)]
enum Step {
    Write(FileName, usize, Vec<u8>),
    Sync(Vec<FileName>),
    Replace(FileName, Vec<u8>),
}

type Files = HashMap<FileName, Vec<u8>>;

/// A disk in memory that remembers what it was asked.
#[derive(Default)]
struct Disk {
    files: RefCell<Files>,
    steps: RefCell<Vec<Step>>,
    /// Writes that succeed before one fails; None for any number.
    writes_left: RefCell<Option<usize>>,
}

fn write(files: &mut Files, file: &FileName, offset: usize, bytes: &[u8]) {
    let content = files.entry(file.clone()).or_default();
    content.resize(content.len().max(offset + bytes.len()), 0);
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Disk {
    fn may_write(&self) -> Result<()> {
        match &mut *self.writes_left.borrow_mut() {
            Some(0) => Err(Error::os("the disk", &std::io::Error::from_raw_os_error(28))),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Source for &Disk {
    type Bytes = Vec<u8>;

    async fn read(&self, file: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        let files = self.files.borrow();
        let bytes = files.get(file).and_then(|bytes| bytes.get(offset as usize..)?.get(..len));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| Error::new(Status::Corrupted, format!("{file} ends")))
    }

    fn describe(&self, file: &FileName) -> String {
        file.to_string()
    }
}

impl Sink for &Disk {
    async fn write(&self, file: &FileName, offset: u64, bytes: &[u8]) -> Result<()> {
        self.may_write()?;
        write(&mut self.files.borrow_mut(), file, offset as usize, bytes);
        self.steps.borrow_mut().push(Step::Write(file.clone(), offset as usize, bytes.to_vec()));
        Ok(())
    }

    async fn sync(&self, files: &[FileName]) -> Result<()> {
        self.steps.borrow_mut().push(Step::Sync(files.to_vec()));
        Ok(())
    }

    async fn replace(&self, file: &FileName, bytes: &[u8]) -> Result<()> {
        self.may_write()?;
        self.files.borrow_mut().insert(file.clone(), bytes.to_vec());
        self.steps.borrow_mut().push(Step::Replace(file.clone(), bytes.to_vec()));
        Ok(())
    }

    async fn exists(&self, file: &FileName) -> Result<bool> {
        Ok(self.files.borrow().contains_key(file))
    }

    async fn remove(&self, file: &FileName) -> Result<()> {
        self.files.borrow_mut().remove(file);
        Ok(())
    }

    async fn cut(&self, file: &FileName, len: u64) -> Result<()> {
        self.files.borrow_mut().get_mut(file).unwrap().truncate(len as usize);
        Ok(())
    }

    async fn names(&self) -> Result<Vec<FileName>> {
        Ok(self.files.borrow().keys().cloned().collect())
    }

    async fn contents(&self, file: &FileName) -> Result<Option<Vec<u8>>> {
        Ok(self.files.borrow().get(file).cloned())
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// What is on disk when power fails after `steps`: synced writes, and some sectors of the others.
fn after_failure(steps: &[Step], random: &mut Random) -> Files {
    let mut files = Files::new();
    // Replacing swaps between nothing and all of it, so that the step before last is a state of its own.
    for (i, step) in steps.iter().enumerate() {
        match step {
            Step::Replace(file, bytes) => drop(files.insert(file.clone(), bytes.clone())),
            Step::Sync(_) => {}
            Step::Write(file, offset, bytes) => {
                let safe =
                    steps[i..].iter().any(|later| matches!(later, Step::Sync(files) if files.contains(file)));
                if safe {
                    write(&mut files, file, *offset, bytes);
                    continue;
                }
                let all = random.next(4);
                for (j, sector) in bytes.chunks(SECTOR).enumerate() {
                    if all == 0 || (all != 1 && random.next(2) == 0) {
                        write(&mut files, file, offset + j * SECTOR, sector);
                    }
                }
            }
        }
    }
    files
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn scan(writer: &Writer<&Disk>) -> Result<Model> {
    let entries = now(writer.tree().scan(&ALL))?.entries;
    Ok(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
}

fn open<'d>(options: &Arc<Options>, disk: &'d Disk) -> Result<Writer<&'d Disk>> {
    let manifest = disk.files.borrow().get(&FileName::main_manifest()).cloned();
    let writer = Writer::new(options.clone(), disk, manifest.as_deref())?;
    if let Some(manifest) = disk.files.borrow_mut().get_mut(&FileName::main_manifest()) {
        manifest.truncate(writer.manifest().tail as usize);
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
                let disk = Disk {
                    files: RefCell::new(after_failure(&steps[..len], &mut random)),
                    ..Disk::default()
                };
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
