//! The local directory: bounded, refilled, mended.

use super::kv_support::Folder;
use super::{dump, noise, over_folder, partition, upsert, write};
use rdma_engine::kv::store::Store;
use std::path::Path;

fn bytes_in(folder: &Path) -> u64 {
    let Ok(listing) = std::fs::read_dir(folder) else { return 0 };
    let bytes = listing.map(|entry| {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => bytes_in(&entry.path()),
            false if entry.file_name().to_str().unwrap().starts_with("CURRENT_TERM") => 0,
            false => entry.metadata().unwrap().len(),
        }
    });
    bytes.sum()
}

/// Forty files of 32 KiB and more, the objects of a store in `objects`.
fn fill(local: &Path, objects: &Path) -> String {
    let store = Store::create(over_folder(local, objects)).unwrap();
    let mut writer = store.writer(&partition()).unwrap();
    for round in 0..40 {
        let ops = (0..20).map(|i| upsert(&format!("{:04}", round * 20 + i), &noise(round * 20 + i, 1000)));
        write(&mut writer, ops.collect()).unwrap();
    }
    drop(writer);
    let mut store = store;
    store.refresh().unwrap();
    dump(&store)
}

#[test]
fn the_limit_holds_while_everything_is_read() {
    const LIMIT: u64 = 200 << 10;
    let (folder, objects) = (Folder::new(), Folder::new());
    let expected = fill(&folder.0.join("a"), &objects.0);
    assert!(bytes_in(&objects.0) > 4 * LIMIT);
    let mut options = over_folder(&folder.0.join("b"), &objects.0);
    options.cloud.local_space = LIMIT;
    let store = Store::open(options).unwrap();
    let tier = store.tier().unwrap().clone();
    let view = store.view(&partition()).unwrap().unwrap();
    for pass in 0..2 {
        for i in (0..800u64).step_by(7) {
            let found = view.read(format!("{i:04}").as_bytes()).unwrap().unwrap();
            assert!(found.value == noise(i, 1000), "pass {pass}, key {i}");
            assert!(tier.stats().cached_bytes <= LIMIT);
            assert!(bytes_in(&folder.0.join("b")) <= LIMIT);
        }
    }
    let stats = tier.stats();
    assert!(stats.evicted > 0 && stats.fetched > stats.evicted, "{stats:?}");
    assert_eq!(dump(&store), expected);
}

#[test]
fn what_is_not_uploaded_stays_whatever_the_limit() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let mut options = over_folder(&folder.0.join("a"), &objects.0);
    options.cloud.local_space = 1;
    let mut store = Store::create(options).unwrap();
    let mut writer = store.writer(&partition()).unwrap();
    for round in 0..30 {
        // More than a file, whose first part is a file's rest.
        let ops = (0..40).map(|i| upsert(&format!("{:04}", round * 20 + i), &noise(round + i, 1000)));
        write(&mut writer, ops.collect()).unwrap();
        // Only what is being written is still there.
        let names: Vec<_> = std::fs::read_dir(folder.0.join("a/local/t.0")).unwrap().collect();
        assert_eq!(names.len(), 2, "the newest data file and the manifest: {names:?}");
    }
    drop(writer);
    store.refresh().unwrap();
    let here = dump(&store);
    assert_eq!(here.lines().count(), 620);
    let other = Store::open(over_folder(&folder.0.join("b"), &objects.0)).unwrap();
    assert_eq!(dump(&other), here);
}

#[test]
fn a_damaged_or_short_cached_file_is_fetched_again() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let expected = fill(&folder.0.join("a"), &objects.0);
    let cached = folder.0.join("a/local/t.0");
    for (i, entry) in std::fs::read_dir(&cached).unwrap().enumerate() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        match i % 2 {
            0 => bytes.truncate(bytes.len() / 2),
            _ => bytes.iter_mut().step_by(997).for_each(|byte| *byte ^= 1),
        }
        std::fs::write(&path, bytes).unwrap();
    }
    std::fs::write(cached.join("data_9_main_1.fetched.tmp"), "what a crash left").unwrap();
    let store = Store::open(over_folder(&folder.0.join("a"), &objects.0)).unwrap();
    assert_eq!(dump(&store), expected);
    assert!(store.tier().unwrap().stats().fetched > 10);
    assert!(!cached.join("data_9_main_1.fetched.tmp").exists());
    // What is damaged there too is damage.
    let victim = std::fs::read_dir(objects.0.join("t.0")).unwrap().map(|entry| entry.unwrap().path());
    for path in victim.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("data_")) {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().step_by(997).for_each(|byte| *byte ^= 1);
        std::fs::write(&path, bytes).unwrap();
    }
    let store = Store::open(over_folder(&folder.0.join("c"), &objects.0)).unwrap();
    let error = store.view(&partition()).unwrap().unwrap().read(b"0000").unwrap_err();
    assert_eq!(error.status, rdma_engine::Status::Corrupted, "{error}");
}

#[test]
fn a_reader_follows_a_writer() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let writing = Store::create(over_folder(&folder.0.join("a"), &objects.0)).unwrap();
    let mut reading = Store::open(over_folder(&folder.0.join("b"), &objects.0)).unwrap();
    let mut writer = writing.writer(&partition()).unwrap();
    for round in 0..30u64 {
        write(&mut writer, vec![upsert("k", &noise(round, 500))]).unwrap();
        if round % 10 == 9 {
            rdma_engine::kv::source::now(writer.compact()).unwrap();
            writer.collect_files().unwrap();
        }
        // The last file has grown since it was cached.
        reading.refresh().unwrap();
        let view = reading.view(&partition()).unwrap().unwrap();
        assert!(view.read(b"k").unwrap().unwrap().value == noise(round, 500), "round {round}");
    }
}

#[test]
fn prewarm_fills_the_cache_and_no_more() {
    let (folder, objects) = (Folder::new(), Folder::new());
    let expected = fill(&folder.0.join("a"), &objects.0);
    let store = Store::open(over_folder(&folder.0.join("b"), &objects.0)).unwrap();
    let tier = store.tier().unwrap();
    let fetched = tier.prewarm().wait().unwrap();
    assert!(fetched > 10);
    assert_eq!(tier.prewarm().wait().unwrap(), 0, "all of it is there");
    assert_eq!(dump(&store), expected);
    assert_eq!(tier.stats().fetched, fetched, "nothing was missing");
    let mut options = over_folder(&folder.0.join("c"), &objects.0);
    options.cloud.local_space = 150 << 10;
    let store = Store::open(options).unwrap();
    let tier = store.tier().unwrap();
    assert!((1..fetched).contains(&tier.prewarm().wait().unwrap()));
    assert_eq!(tier.stats().evicted, 0);
    assert!(tier.stats().cached_bytes <= 150 << 10);
}
