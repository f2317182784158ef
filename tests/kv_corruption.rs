//! Golden stores with a byte flipped or a file cut: `CORRUPTED` or the right answer, never a wrong one, a panic, a
//! hang or unbounded memory.
//!
//! The stores are held in memory. For a damaged page the keys whose reads touch it are read, and every so often
//! everything is scanned. Content of segments is left out: the format has no checksum for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod kv_support;

use kv_support::memory::Memory;

use kv_support::{golden, options};
use rdma_engine::kv::manifest::Manifest;
use rdma_engine::kv::names::{FileName, Partition};
use rdma_engine::kv::options::Options;
use rdma_engine::kv::page::{self, Kind};
use rdma_engine::kv::record::Record;
use rdma_engine::kv::scan::{Large, Range, Scanned};
use rdma_engine::kv::store::View;
use rdma_engine::kv::tree::Found;
use rdma_engine::{Result, Status};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

const ALL: Range<'static> = Range { large: Large::Return, ..Range::ALL };
/// Address space of the test, in bytes: what a length that nobody checked would exceed.
const MEMORY: u64 = 3 << 30;

/// A partition, what is right in it, and who depends on which page.
struct Subject {
    name: String,
    options: Arc<Options>,
    memory: Memory,
    entries: Vec<Found>,
    /// For each place the entries whose reads touch it.
    dependents: HashMap<(FileName, u64), Vec<usize>>,
    /// Where the manifest's records begin, and what was right before each; an error where its files are gone.
    records: Vec<usize>,
    before: Vec<std::result::Result<Vec<Found>, ()>>,
}

fn manifest_name() -> FileName {
    FileName::main_manifest()
}

impl Subject {
    fn load(name: &str, options: Options, folder: &Path) -> Subject {
        let mut memory = Memory::default();
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            if let Some(name) = FileName::parse(file.file_name().to_str().unwrap()) {
                memory.files.insert(name, std::fs::read(file.path()).unwrap());
            }
        }
        let mut subject = Subject {
            name: name.into(),
            options: Arc::new(options),
            memory,
            entries: Vec::new(),
            dependents: HashMap::new(),
            records: Vec::new(),
            before: Vec::new(),
        };
        subject.entries = subject.view().unwrap().scan(&ALL).unwrap().entries;
        for (i, entry) in subject.entries.iter().enumerate() {
            subject.memory.touched.borrow_mut().clear();
            assert_eq!(subject.view().unwrap().read(&entry.key).unwrap().as_ref(), Some(entry));
            for place in subject.memory.touched.take() {
                subject.dependents.entry(place).or_default().push(i);
            }
        }
        subject.history();
        subject
    }

    fn history(&mut self) {
        let whole = self.memory.files[&manifest_name()].clone();
        let mut at = 0;
        while let Some(record) = Record::read(&whole, at) {
            self.records.push(at);
            self.memory.files.insert(manifest_name(), whole[..at].to_vec());
            self.before.push(self.view().and_then(|view| view.scan(&ALL)).map(|s| s.entries).map_err(|_| ()));
            at = record.next;
        }
        assert_eq!(at, whole.len());
        self.memory.files.insert(manifest_name(), whole);
    }

    fn view(&self) -> Result<View<&Memory>> {
        View::new(self.options.clone(), &self.memory, &self.memory.files[&manifest_name()], &manifest_name())
    }

    fn with<T>(&mut self, file: &FileName, bytes: Vec<u8>, check: impl FnOnce(&Subject) -> T) -> T {
        let before = self.memory.files.insert(file.clone(), bytes).unwrap();
        let result = check(self);
        self.memory.files.insert(file.clone(), before);
        result
    }

    fn at(&self, file: &FileName, place: impl std::fmt::Display) -> String {
        format!("{} {file} {place}", self.name)
    }
}

/// `CORRUPTED` with the file's name, or what is right.
fn right_or_corrupted<T: PartialEq>(result: &Result<T>, right: &T, file: &FileName, place: &str) {
    match result {
        Ok(found) => assert!(found == right, "{place}: a wrong answer"),
        Err(error) => {
            assert_eq!(error.status, Status::Corrupted, "{place}: {error}");
            assert!(error.message.contains(&file.to_string()), "{place}: {error} names another file");
        }
    }
}

fn scan(view: Result<View<&Memory>>) -> Result<Vec<Found>> {
    view.and_then(|view| view.scan(&ALL)).map(|Scanned { entries, .. }| entries)
}

fn check_data(subject: &Subject, file: &FileName, offset: usize, everything: bool, place: &str) {
    let page = (offset - offset % subject.options.page_size) as u64;
    let dependents = subject.dependents.get(&(file.clone(), page));
    let view = subject.view().unwrap();
    for i in dependents.into_iter().flatten().take(2) {
        let entry = &subject.entries[*i];
        let Err(error) = view.read(&entry.key) else { panic!("{place}: not seen") };
        right_or_corrupted(&Err(error), &Some(entry.clone()), file, place);
        right_or_corrupted(&view.floor(&entry.key), &Some(entry.clone()), file, place);
    }
    if everything {
        right_or_corrupted(&scan(Ok(view)), &subject.entries, file, place);
    }
}

fn check_manifest(subject: &Subject, offset: usize, place: &str) {
    let file = manifest_name();
    let last = subject.records.len() - 1;
    let result = scan(subject.view());
    match (&result, &subject.before[last]) {
        // A torn last record is as if it had never been written; its state's files may be gone since.
        (Ok(found), Ok(before)) if offset >= subject.records[last] && found == before => {}
        (Err(error), _) if offset >= subject.records[last] => {
            assert_eq!(error.status, Status::Corrupted, "{place}")
        }
        _ => right_or_corrupted(&result, &subject.entries, &file, place),
    }
}

/// Cut at `len`: what the records that are left say.
fn check_cut_manifest(subject: &Subject, len: usize, place: &str) {
    let whole = subject.records.iter().skip(1).filter(|start| **start <= len).count();
    match (scan(subject.view()), whole) {
        (Err(error), _) => assert_eq!(error.status, Status::Corrupted, "{place}"),
        (Ok(_), 0) if len < *subject.records.get(1).unwrap_or(&usize::MAX) => panic!("{place}: no snapshot"),
        (Ok(found), whole) => {
            assert!(subject.before.get(whole) == Some(&Ok(found)), "{place}: a wrong answer")
        }
    }
}

fn subjects(root: &Path) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for name in ["na", "ap", "na_zstd", "ap_zstd", "geo8k", "deep", "seg", "torn"] {
        let options = options(&root.join(name));
        for path in &options.store_paths {
            let mut folders: Vec<_> =
                std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            folders.sort();
            for folder in folders {
                let partition = folder.file_name().and_then(|name| Partition::parse(name.to_str()?)).unwrap();
                subjects.push(Subject::load(&format!("{name} {partition}"), options.clone(), &folder));
            }
        }
    }
    subjects
}

/// Every `step`th byte of every file, with an offset that no page size divides.
fn places(
    files: &HashMap<FileName, Vec<u8>>,
    pick: fn(&FileName) -> bool,
    step: usize,
) -> Vec<(FileName, usize)> {
    let mut names: Vec<_> = files.keys().filter(|name| pick(name)).cloned().collect();
    names.sort();
    names.iter().flat_map(|name| (0..files[name].len()).step_by(step).map(|at| (name.clone(), at))).collect()
}

fn is_data(name: &FileName) -> bool {
    matches!(name, FileName::Data { .. })
}

fn is_manifest(name: &FileName) -> bool {
    *name == manifest_name()
}

fn bounded() {
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) }).unwrap();
}

#[test]
fn flipped_bytes_are_seen() {
    bounded();
    let (_folder, root) = golden();
    let mut count = 0usize;
    for mut subject in subjects(&root) {
        let heavy = subject.entries.iter().map(|entry| entry.value.len()).sum::<usize>() > 4 << 20;
        for (file, at) in places(&subject.memory.files, is_data, 173) {
            let mut bytes = subject.memory.files[&file].clone();
            bytes[at] ^= 1 << (at % 8);
            let place = subject.at(&file, format_args!("flipped at {at}"));
            let everything = count.is_multiple_of(if heavy { 509 } else { 67 });
            subject.with(&file, bytes, |subject| check_data(subject, &file, at, everything, &place));
            count += 1;
        }
        for (file, at) in places(&subject.memory.files, is_manifest, if heavy { 997 } else { 61 }) {
            let mut bytes = subject.memory.files[&file].clone();
            bytes[at] ^= 1 << (at % 8);
            let place = subject.at(&file, format_args!("flipped at {at}"));
            subject.with(&file, bytes, |subject| check_manifest(subject, at, &place));
            count += 1;
        }
    }
    assert!(count >= 20_000, "{count} places");
}

#[test]
fn cut_files_are_seen() {
    let (_folder, root) = golden();
    for mut subject in subjects(&root) {
        let heavy = subject.entries.iter().map(|entry| entry.value.len()).sum::<usize>() > 4 << 20;
        let segments = |name: &FileName| is_data(name) || matches!(name, FileName::Segment { .. });
        for (i, (file, at)) in places(&subject.memory.files, segments, 1511).into_iter().enumerate() {
            let bytes = subject.memory.files[&file][..at].to_vec();
            let place = subject.at(&file, format_args!("cut at {at}"));
            let everything = i.is_multiple_of(if heavy { 61 } else { 7 });
            subject.with(&file, bytes, |subject| match is_data(&file) {
                true => check_data(subject, &file, at, everything, &place),
                false => right_or_corrupted(&scan(subject.view()), &subject.entries, &file, &place),
            });
        }
        for (file, at) in places(&subject.memory.files, is_manifest, if heavy { 1999 } else { 311 }) {
            let bytes = subject.memory.files[&file][..at].to_vec();
            let place = subject.at(&file, format_args!("cut at {at}"));
            subject.with(&file, bytes, |subject| check_cut_manifest(subject, at, &place));
        }
    }
}

/// Damage with a checksum to match, as only malice or a defect makes it: no answer is right, but there is one.
#[test]
fn resealed_damage_ends_in_an_answer() {
    bounded();
    let (_folder, root) = golden();
    let mut state = 0x5eed_u64;
    println!("seed {state:#x}");
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for mut subject in subjects(&root) {
        let heavy = subject.entries.iter().map(|entry| entry.value.len()).sum::<usize>() > 4 << 20;
        let page_size = subject.options.page_size;
        let referenced: Vec<(FileName, u64)> = {
            let mut places: Vec<_> =
                subject.dependents.keys().filter(|(file, _)| is_data(file)).cloned().collect();
            places.sort();
            places
        };
        for (file, offset) in referenced {
            for _ in 0..if heavy { 8 } else { 24 } {
                let mut bytes = subject.memory.files[&file].clone();
                let page = &mut bytes[offset as usize..offset as usize + page_size];
                // Half of the flips hit the header and the first entries, where they do most.
                let at = 8 + random() % if random() % 2 == 0 { 60 } else { page_size - 8 };
                page[at] = random() as u8;
                let kind =
                    [Kind::Inner, Kind::Leaf, Kind::Data, Kind::Overflow].get(usize::from(page[8])).copied();
                page::seal(page, kind.unwrap_or(Kind::Data));
                subject.with(&file, bytes, |subject| {
                    let dependents = subject.dependents.get(&(file.clone(), offset));
                    let view = subject.view().unwrap();
                    for i in dependents.into_iter().flatten().take(3) {
                        let _ = view.read(&subject.entries[*i].key);
                        let _ = view.floor(&subject.entries[*i].key);
                    }
                    if !heavy && at.is_multiple_of(5) {
                        let _ = view.scan(&ALL);
                    }
                });
            }
        }
        let manifest = subject.memory.files[&manifest_name()].clone();
        for _ in 0..if heavy { 50 } else { 400 } {
            let start = subject.records[random() % subject.records.len()];
            let record = Record::read(&manifest, start).unwrap();
            let mut payload = record.payload.to_vec();
            let at = random() % payload.len();
            payload[at] = random() as u8;
            let mut bytes = manifest.clone();
            bytes.splice(start..record.next, Record::encode(record.root, record.ttl_root, &payload));
            let _ = Manifest::replay(&bytes);
            subject.with(&manifest_name(), bytes, |subject| {
                if let Ok(view) = subject.view()
                    && !heavy
                {
                    let _ = view.scan(&ALL);
                }
            });
        }
    }
}
