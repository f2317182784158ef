//! Batches and compaction over pages that lie.

use super::liar::Subject;
use super::{ALL, ENTRIES, Random, corrupted, key, partition, upsert, written};
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::source::now;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::survey;
use rdma_engine::kv::tree::Found;
use rdma_engine::kv::writer::Writer;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::Path;

type Files = HashMap<OsString, Vec<u8>>;

fn files(folder: &Path) -> Files {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name(), std::fs::read(entry.path()).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(read).collect()
}

/// Puts the folder back as it was.
fn restore(folder: &Path, before: &Files) {
    for (name, bytes) in files(folder) {
        if before.get(&name).is_none_or(|before| *before != bytes) {
            std::fs::remove_file(folder.join(&name)).unwrap();
        }
    }
    for (name, bytes) in before {
        if !folder.join(name).exists() {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

/// Changes near the page that lies, and elsewhere.
fn batch(subject: &Subject, page: usize, random: &mut Random) -> Vec<Op> {
    let number = |key: &Vec<u8>| std::str::from_utf8(&key[250..]).unwrap().parse::<u64>().unwrap();
    let own: Vec<u64> = subject.pages[page].keys.iter().map(number).collect();
    let mut numbers: BTreeSet<u64> = BTreeSet::new();
    numbers.extend(
        (0..if own.is_empty() { 0 } else { 6 })
            .map(|_| own[random.below(own.len())] + random.below(2) as u64),
    );
    numbers.extend((0..8).map(|_| random.below(2 * ENTRIES as usize) as u64));
    let op = |i: u64| match i % 3 {
        0 => Op { key: key(i), action: Action::Delete, timestamp: 9 },
        _ => upsert(i, 9),
    };
    numbers.into_iter().map(op).collect()
}

fn compare(subject: &Subject, page: usize, changed: &HashMap<Vec<u8>, Option<Found>>, place: &str) {
    let page = &subject.pages[page];
    let store = Store::open((*subject.options).clone()).unwrap();
    let view = store.view(&partition());
    if corrupted(&view, place) {
        return;
    }
    let view = view.unwrap().unwrap();
    for i in 0..2 * ENTRIES {
        let key = key(i);
        let right = changed.get(&key).unwrap_or(&subject.truth.get(&key).cloned()).clone();
        // What is absent and next to a key of the page belongs to the page too.
        let own = page.keys.contains(&key)
            || [i.saturating_sub(1), i + 1].iter().any(|i| page.keys.contains(&super::key(*i)));
        let read = view.read(&key);
        if !corrupted(&read, place) && read.unwrap() != right {
            assert!(own, "{place}: key {i} of another page is answered wrongly");
        }
    }
    let scanned = view.scan(&ALL);
    if !corrupted(&scanned, place) && page.kind <= 1 {
        for entry in scanned.unwrap().entries {
            let right =
                changed.get(&entry.key).cloned().unwrap_or_else(|| subject.truth.get(&entry.key).cloned());
            // A delete that took its key for absent has left it.
            let before = page.keys.contains(&entry.key).then(|| subject.truth.get(&entry.key)).flatten();
            assert!(
                right.as_ref() == Some(&entry) || before == Some(&entry),
                "{place}: a scan makes something up"
            );
        }
    }
    // It says something, and does not fall.
    survey::check(&store, &partition(), |_| Ok(())).unwrap();
}

#[test]
fn batches_are_right_elsewhere_or_refused() {
    let mut random = Random(0x11e7);
    println!("seed {:#x}", random.0);
    let (mut refused, mut done) = (0, 0);
    for append in [false, true] {
        let (folder, options) = written(append);
        let path = folder.0.join("t.0");
        let mut subject = Subject::load(&path, options.clone());
        let before = files(&path);
        for n in 0..80 {
            let i = random.below(subject.pages.len());
            let truth = subject.bytes(&subject.pages[i]);
            let Some(lie) = subject.lie(&subject.pages[i], &mut random) else { continue };
            subject.put(i, &lie);
            let page = &subject.pages[i];
            let place = format!("append {append}, lie {n}: page {} of kind {}", page.id, page.kind);
            std::fs::write(path.join(page.file.to_string()), &subject.memory.files[&page.file]).unwrap();
            let ops = batch(&subject, i, &mut random);
            let mut changed = HashMap::new();
            {
                let mut writer = Writer::open(options.clone(), &path).unwrap();
                let batch = Batch::new(ops.clone(), Order::Refuse, &options).unwrap();
                let written = writer.write(&batch, 0);
                if corrupted(&written, &place) {
                    refused += 1;
                } else {
                    done += 1;
                    changed = ops.iter().map(|op| (op.key.clone(), after(op))).collect();
                }
                if append {
                    corrupted(&now(writer.compact()), &place);
                }
            }
            compare(&subject, i, &changed, &place);
            subject.put(i, &truth);
            restore(&path, &before);
        }
    }
    println!("{refused} refused, {done} done");
    assert!(refused > 30 && done > 30, "{refused} refused, {done} done");
}

fn after(op: &Op) -> Option<Found> {
    let (value, expire_ms, large) = match &op.action {
        Action::Delete => return None,
        Action::Upsert { value, expire_ms } => (value, *expire_ms, None),
        Action::UpsertLarge { value, expire_ms, metadata } => (value, *expire_ms, Some(metadata.clone())),
    };
    Some(Found { key: op.key.clone(), value: value.clone(), timestamp: op.timestamp, expire_ms, large })
}
