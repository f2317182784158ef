//! Stores with options of every kind: the second decoder reads what was written, where the description of the format
//! puts it, and text brings all of it into a store with other options and back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod kv_checked;
mod kv_oracle;
mod kv_support;

use kv_checked::shape;
use kv_oracle::{Entries, decode};
use kv_support::Folder;
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::dump::{State, dump_state, line, restorable};
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::restore::restore;
use rdma_engine::kv::source::now;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::survey;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Numbers that a seed decides.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// Bytes that compress somewhat.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let word = self.below(1 << 20).to_string().into_bytes();
        let mut state = self.below(1 << 30) as u64 | 1;
        let mut byte = |i: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            if state >> 61 == 0 { (state >> 40) as u8 } else { word[i % word.len()] }
        };
        (0..len).map(&mut byte).collect()
    }
}

fn options(random: &mut Random, folder: &Path) -> Options {
    let paths = 1 + random.below(3);
    Options {
        store_paths: (0..paths).map(|i| folder.join(format!("path{i}"))).collect(),
        weights: (0..paths).map(|i| random.below(4) as u32 + u32::from(i == 0)).collect(),
        page_size: random.of(&[4096, 4096, 8192, 12_288, 16_384, 32_768]),
        pages_per_file_shift: random.of(&[0, 1, 2, 3, 5, 18]),
        overflow_pointers: random.of(&[1, 2, 3, 16, 127, 128]),
        data_restart_interval: random.of(&[1, 2, 4, 16, 300]),
        index_restart_interval: random.of(&[1, 2, 3, 16, 300]),
        segment_size: random.of(&[4096, 8192, 262_144]),
        segments_per_file_shift: random.of(&[0, 1, 3, 7]),
        manifest_limit: random.of(&[0, 4096, 20_000, 8 << 20]),
        append: random.below(2) == 0,
        compression: random.below(2) == 0,
        ..Options::default()
    }
}

/// The lines of a file of options that say the same.
fn text(options: &Options) -> String {
    let paths: String =
        options.store_paths.iter().map(|path| format!("store_path={}\n", path.display())).collect();
    let weights: Vec<String> = options.weights.iter().map(u32::to_string).collect();
    format!(
        "{paths}weights={}\ndata_page_size={}\npages_per_file_shift={}\noverflow_pointers={}\n\
         data_page_restart_interval={}\nindex_page_restart_interval={}\nsegment_size={}\n\
         segments_per_file_shift={}\nmanifest_limit={}\ndata_append_mode={}\nenable_compression={}\n",
        weights.join(","),
        options.page_size,
        options.pages_per_file_shift,
        options.overflow_pointers,
        options.data_restart_interval,
        options.index_restart_interval,
        options.segment_size,
        options.segments_per_file_shift,
        options.manifest_limit,
        u8::from(options.append),
        u8::from(options.compression),
    )
}

/// Where the description puts a partition: path *i* has its weight's share of the numbers.
fn place(options: &Options, partition: &Partition) -> PathBuf {
    let (mut table, divisor) =
        (Vec::new(), (1..=4).rev().find(|n| options.weights.iter().all(|w| w % n == 0)));
    for (i, weight) in options.weights.iter().enumerate() {
        table.extend(std::iter::repeat_n(i, (weight / divisor.unwrap()) as usize));
    }
    options.store_paths[table[partition.number as usize % table.len()]].join(partition.to_string())
}

fn key(random: &mut Random, limit: usize) -> Vec<u8> {
    match random.below(12) {
        0 => vec![random.below(256) as u8],
        1 => [vec![b'x'; limit - 1], vec![random.below(256) as u8]].concat(),
        2 => [vec![random.below(3) as u8; random.below(limit - 2)], vec![0xff, random.below(256) as u8]]
            .concat(),
        3 => vec![0; 1 + random.below(9)],
        _ => format!("user/{:05}/field", random.below(700)).into_bytes(),
    }
}

fn op(random: &mut Random, options: &Options, timestamp: u64) -> Op {
    let key = key(random, options.page_size / 2);
    let page = options.page_size;
    let len = match random.below(20) {
        0 => 0,
        1 => random.of(&[99, 100]),
        // Just fits a page, or just not.
        2 | 3 => (page - key.len()).saturating_sub(20 + random.below(30)),
        4 => page * (1 + random.below(4)) - random.below(30),
        5 => random.below(12 * page),
        6 => (page - 12) * options.overflow_pointers.min(4),
        _ => random.below(400),
    };
    let expire_ms = random.of(&[0, 0, 0, 1, u64::MAX >> 1, u64::MAX, 1_900_000_000_000]);
    let value = random.bytes(len);
    let timestamp = random.of(&[timestamp, timestamp, timestamp, 0, i64::MAX as u64]);
    let action = match random.below(10) {
        0 => Action::Delete,
        1 => {
            let metadata = (random.below(2) == 0).then(|| vec![7; 1 + random.below(40)]);
            let value = random.bytes(len % (3 * options.segment_size));
            Action::UpsertLarge { value, metadata, expire_ms }
        }
        _ => Action::Upsert { value, expire_ms },
    };
    Op { key, action, timestamp }
}

fn apply(model: &mut Entries, batch: &Batch) {
    for op in batch.ops() {
        if model.get(&op.key).is_some_and(|(_, timestamp, _)| *timestamp > op.timestamp) {
            continue;
        }
        match &op.action {
            Action::Upsert { value, expire_ms } | Action::UpsertLarge { value, expire_ms, .. } => {
                model.insert(op.key.clone(), (value.clone(), op.timestamp, *expire_ms));
            }
            Action::Delete => drop(model.remove(&op.key)),
        }
    }
}

/// A store as text: as it is compared, and as it is restored.
fn texts(options: &Options) -> (String, Vec<u8>) {
    let store = Store::open(options.clone()).unwrap();
    let (mut shown, mut whole) = (Vec::new(), Vec::new());
    dump_state(&store, State::Now, |_| true, line, &mut shown).unwrap();
    dump_state(&store, State::Now, |_| true, restorable, &mut whole).unwrap();
    for partition in store.partitions() {
        for (state, report) in survey::check(&store, partition, |_| Ok(())).unwrap() {
            assert_eq!(report.problems, [""; 0], "{partition} {state}");
        }
    }
    (String::from_utf8(shown).unwrap(), whole)
}

fn only_what_eloqstore_tolerates(options: &Options) {
    for path in &options.store_paths {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert!(entry.file_type().unwrap().is_dir() || name.starts_with("CURRENT_TERM_"), "{name}");
        }
    }
}

fn one_store(seed: u64) {
    let mut random = Random(seed);
    let folder = Folder::in_memory();
    let options = options(&mut random, &folder.0);
    println!("seed {seed}: {}", text(&options).replace('\n', " "));
    assert_eq!(Options::from_lines(&text(&options), &folder.0).unwrap(), options);
    let names = ["t", "a.b.c", ".hidden", "UPPER", "-dash", "ünï", "x_y", "data_0_main_0", "with space", "0"];
    let partitions: Vec<Partition> = (0..3)
        .map(|_| Partition {
            table: random.of(&names).into(),
            number: random.of(&[0, 1, 2, 7, 4095, u32::MAX]),
        })
        .collect();
    let store = Store::create(options.clone()).unwrap();
    let mut models: BTreeMap<Partition, Entries> = BTreeMap::new();
    let mut archived: Vec<(Partition, String, Entries)> = Vec::new();
    for round in 1..8u64 {
        for partition in &partitions {
            let model = models.entry(partition.clone()).or_default();
            let mut writer = store.writer(partition).unwrap();
            let most = random.of(&[1, 10, 100]);
            let mut ops: Vec<Op> = (0..most).map(|_| op(&mut random, &options, round)).collect();
            if options.compression && seed.is_multiple_of(4) && round == 3 {
                // Enough for a dictionary.
                ops.extend((0..4000).map(|i| {
                    let value = format!("{{\"id\":{i},\"name\":\"user {i}\",\"kind\":\"some\"}}")
                        .repeat(10)
                        .into_bytes();
                    Op {
                        key: format!("dict{i:05}").into(),
                        action: Action::Upsert { value, expire_ms: 0 },
                        timestamp: 1,
                    }
                }));
            }
            let batch = Batch::new(ops, Order::Sort, &options).unwrap();
            writer.write(&batch, 0).unwrap();
            apply(model, &batch);
            match random.below(6) {
                0 if !model.is_empty() => {
                    let at = model.keys().nth(random.below(model.len())).unwrap().clone();
                    now(writer.truncate(&at)).unwrap();
                    model.split_off(&at);
                }
                1 => {
                    now(writer.clean_expired(5)).unwrap();
                    model.retain(|_, (_, _, expire_ms)| *expire_ms == 0 || *expire_ms > 5);
                }
                2 if random.below(4) == 0 => {
                    now(writer.truncate(b"")).unwrap();
                    model.clear();
                }
                3 if options.append => {
                    now(writer.compact()).unwrap();
                    now(writer.compact_segments()).unwrap();
                    writer.collect_files().unwrap();
                }
                4 if options.append => {
                    let tag = format!("a{round}");
                    if now(writer.archive(&tag)).is_ok() {
                        archived.push((partition.clone(), format!("manifest_main_0_{tag}"), model.clone()));
                    }
                }
                _ => {}
            }
        }
    }
    only_what_eloqstore_tolerates(&options);
    for (partition, model) in &models {
        let decoded = decode(&place(&options, partition), "manifest_main_0", shape(&options));
        assert!(decoded == *model, "seed {seed}, {partition}");
    }
    for (partition, manifest, model) in &archived {
        assert!(
            decode(&place(&options, partition), manifest, shape(&options)) == *model,
            "seed {seed}, {manifest}"
        );
    }
    // Into a store with other options, and from there into one with these.
    let (shown, whole) = texts(&options);
    let other = Options {
        segment_size: options.segment_size.max(65_536),
        page_size: options.page_size,
        ..self::options(&mut random, &folder.0.join("other"))
    };
    restore(other.clone(), &whole[..]).unwrap();
    let (shown_there, whole_there) = texts(&other);
    assert!(shown_there == shown && whole_there == whole, "seed {seed}: as text, with other options");
    let again = Options {
        store_paths: (0..options.store_paths.len()).map(|i| folder.0.join(format!("again{i}"))).collect(),
        ..options
    };
    restore(again.clone(), &whole_there[..]).unwrap();
    assert!(texts(&again) == (shown, whole), "seed {seed}: as text, with the same options");
}

#[test]
fn options_of_every_kind() {
    (1..=6).for_each(one_store);
}
