//! What the process that is killed does, step by step, and what each step leaves: both follow from a seed.

use super::logged;
use rdma_engine::Result;
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::scan::{Large, Range};
use rdma_engine::kv::source::now;
use rdma_engine::kv::store::{Store, View};
use rdma_engine::kv::writer::Writer;
use std::collections::BTreeMap;
use std::path::PathBuf;

const ALL: Range<'static> = Range { large: Large::Return, ..Range::ALL };

/// Keys and values.
pub type Model = BTreeMap<Vec<u8>, Vec<u8>>;

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

pub fn partition() -> Partition {
    Partition { table: "t".into(), number: 0 }
}

pub fn scan(view: &View) -> Result<Model> {
    let entries = view.scan(&ALL)?.entries;
    Ok(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
}

/// Where the steps happen, and which they are.
pub struct Plan {
    pub folder: PathBuf,
    pub append: bool,
    /// Whether an engine with a write log does them.
    pub log: bool,
    pub seed: u64,
}

/// What a step does.
pub enum Step {
    Write(Vec<Op>),
    Truncate(Vec<u8>),
    Compact,
    Archive,
}

impl Plan {
    pub fn to_text(&self, from: u64, to: u64) -> String {
        let (append, log) = (u8::from(self.append), u8::from(self.log));
        format!("{append} {log} {} {from} {to} {}", self.seed, self.folder.display())
    }

    pub fn from_text(text: &str) -> (Plan, u64, u64) {
        let mut fields = text.splitn(6, ' ');
        let mut number = || fields.next().unwrap().parse::<u64>().unwrap();
        let (append, log, seed, from, to) = (number() == 1, number() == 1, number(), number(), number());
        (Plan { folder: fields.next().unwrap().into(), append, log, seed }, from, to)
    }

    pub fn options(&self) -> Options {
        Options {
            store_paths: vec![self.folder.clone()],
            append: self.append,
            pages_per_file_shift: 4,
            segment_size: 4096,
            segments_per_file_shift: 2,
            manifest_limit: 16 << 10,
            ..Options::default()
        }
    }

    pub fn step(&self, number: u64) -> Step {
        let mut random = Random(self.seed.wrapping_mul(1000).wrapping_add(number));
        match random.below(8) {
            6 => Step::Compact,
            7 if self.append => Step::Archive,
            5 if number > 6 => Step::Truncate(format!("key{:03}", random.below(100)).into_bytes()),
            _ => {
                let mut ops = BTreeMap::new();
                for _ in 0..1 + random.below(20) {
                    let key = format!("key{:03}", random.below(100)).into_bytes();
                    let value = vec![random.below(256) as u8; [10, 700, 9000][random.below(3) as usize]];
                    let action = match random.below(6) {
                        0 => Action::Delete,
                        // No log takes one: most batches have none then.
                        1 if !self.log || number % 4 == 1 => {
                            Action::UpsertLarge { value, metadata: None, expire_ms: 0 }
                        }
                        _ => Action::Upsert { value, expire_ms: random.below(2) * 7_000_000_000_000 },
                    };
                    ops.insert(key.clone(), Op { key, action, timestamp: 1 });
                }
                // So that every step's content is its own.
                let action = Action::Upsert { value: number.to_string().into_bytes(), expire_ms: 0 };
                ops.insert(b"a".into(), Op { key: b"a".into(), action, timestamp: 1 });
                Step::Write(ops.into_values().collect())
            }
        }
    }

    /// What is there after `steps` steps.
    pub fn model(&self, steps: u64) -> Model {
        let mut model = Model::new();
        for number in 1..=steps {
            match self.step(number) {
                Step::Write(ops) => {
                    for op in ops {
                        match op.action {
                            Action::Delete => drop(model.remove(&op.key)),
                            Action::Upsert { value, .. } | Action::UpsertLarge { value, .. } => {
                                model.insert(op.key, value);
                            }
                        }
                    }
                }
                Step::Truncate(position) => drop(model.split_off(&position)),
                Step::Compact | Step::Archive => {}
            }
        }
        model
    }

    /// Does the steps after `from` up to `to`, and says which are done. After a failure everything must still be
    /// readable; then it ends.
    pub fn run(&self, from: u64, to: u64) {
        if self.log {
            return logged::run(self, from, to);
        }
        let opened = Store::create(self.options()).and_then(|store| store.writer(&partition()));
        let mut writer = match opened {
            Ok(writer) => writer,
            Err(error) => return println!("failed {} {}", from + 1, error.status.name()),
        };
        for number in from + 1..=to {
            match self.act(&mut writer, number) {
                Ok(()) => println!("done {number}"),
                Err(error) => {
                    let found = now(writer.tree().scan(&ALL)).unwrap().entries;
                    let found: Model = found.into_iter().map(|entry| (entry.key, entry.value)).collect();
                    assert!(found == self.model(number - 1) || found == self.model(number));
                    return println!("failed {number} {}", error.status.name());
                }
            }
        }
    }

    fn act(&self, writer: &mut Writer, number: u64) -> Result<()> {
        match self.step(number) {
            Step::Write(ops) => {
                let batch = Batch::new(ops, Order::Refuse, writer.options())?;
                writer.write(&batch, 0).map(drop)
            }
            Step::Truncate(position) => now(writer.truncate(&position)).map(drop),
            Step::Compact => {
                if self.append {
                    now(writer.compact())?;
                }
                now(writer.compact_segments())?;
                writer.collect_files().map(drop)
            }
            Step::Archive => {
                // A process before this one may have been killed after it.
                now(writer.forget_archive(&number.to_string()))?;
                now(writer.archive(&number.to_string()))?;
                writer.retain_archives(1).map(drop)
            }
        }
    }
}
