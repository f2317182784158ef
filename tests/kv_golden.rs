//! Every golden store, written by the C++ engine, reads as its `expected.txt` says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "cli")]

mod kv_support;

use kv_support::{golden, options};
use rdma_engine::Status;
use rdma_engine::kv::dump::dump;
use rdma_engine::kv::names::{FileName, Partition};
use rdma_engine::kv::scan::Range;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::survey;
use std::fs;
use std::path::Path;

fn open(folder: &Path) -> Store {
    Store::open(options(folder)).unwrap()
}

/// Compares by line, so that a failure names the line and not two megabytes.
fn assert_dump(folder: &Path, archive: Option<&str>, expected: &str) {
    let mut out = Vec::new();
    dump(&open(folder), archive, &mut out).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let out = String::from_utf8(out).unwrap();
    let expected = fs::read_to_string(folder.join(expected)).unwrap();
    for (i, (ours, theirs)) in out.lines().zip(expected.lines()).enumerate() {
        assert_eq!(ours, theirs, "{} line {}", folder.display(), i + 1);
    }
    assert_eq!(out.len(), expected.len(), "{}", folder.display());
}

#[test]
fn every_store_prints_what_is_expected() {
    let (_folder, root) = golden();
    for name in ["na", "ap", "na_zstd", "ap_zstd", "geo8k", "deep", "seg", "torn"] {
        assert_dump(&root.join(name), None, "expected.txt");
    }
}

#[test]
fn an_archive_prints_what_is_expected() {
    let (_folder, root) = golden();
    for name in ["snap1", "manifest_main_0_snap1"] {
        assert_dump(&root.join("ap"), Some(name), "expected_archive_t0.0_snap1.txt");
    }
    let error = dump(&open(&root.join("ap")), Some("snap2"), &mut Vec::new()).unwrap_err();
    assert_eq!(error.status, Status::NotFound);
}

#[test]
fn torn_manifests_show_what_was_before() {
    let (_folder, root) = golden();
    let store = root.join("torn");
    for (variant, expected) in [
        ("manifest_flip", "expected_before_last.txt"),
        ("manifest_cut", "expected_before_last.txt"),
        ("manifest_cut_padding", "expected_before_last.txt"),
        ("manifest_intact", "expected.txt"),
    ] {
        fs::copy(store.join(variant), store.join("store/t.0/manifest_main_0")).unwrap();
        assert_dump(&store, None, expected);
    }
}

/// Reads and floors of every key and of what lies between agree with the scan, and pages of a scan join up.
#[test]
fn reads_floors_and_pages_agree_with_the_scan() {
    let (_folder, root) = golden();
    for name in ["na", "deep", "geo8k", "ap"] {
        let store = open(&root.join(name));
        for partition in store.partitions() {
            let view = store.view(partition).unwrap().unwrap();
            let all = view.scan(&Range::ALL).unwrap().entries;
            for (i, entry) in all.iter().enumerate() {
                assert_eq!(view.read(&entry.key).unwrap().as_ref(), Some(entry));
                assert_eq!(view.floor(&entry.key).unwrap().as_ref(), Some(entry));
                let after = [&entry.key[..], &[0]].concat();
                let absent = all.get(i + 1).is_none_or(|next| next.key != after);
                if absent {
                    assert_eq!(view.read(&after).unwrap(), None);
                    assert_eq!(view.floor(&after).unwrap().as_ref(), Some(entry));
                }
            }
            if let Some(first) = all.first() {
                let below = &first.key[..first.key.len() - 1];
                assert_eq!(view.floor(below).unwrap(), None);
            }
            let limits = [(1, 0), (7, 0), (0, 1), (0, 5000), (50, 2000)];
            for ((max_entries, max_bytes), backward) in
                limits.into_iter().flat_map(|l| [(l, false), (l, true)])
            {
                let mut joined = Vec::new();
                let mut at: Option<Vec<u8>> = None;
                loop {
                    let (begin, end) = if backward { (None, at.as_deref()) } else { (at.as_deref(), None) };
                    let range = Range {
                        begin: begin.unwrap_or(&[]),
                        begin_inclusive: begin.is_none(),
                        end: end.unwrap_or(&[]),
                        max_entries,
                        max_bytes,
                        backward,
                        ..Range::ALL
                    };
                    let page = view.scan(&range).unwrap();
                    assert!(max_entries == 0 || page.entries.len() <= max_entries);
                    at = page.entries.last().map(|entry| entry.key.clone());
                    joined.extend(page.entries);
                    if !page.remaining {
                        break;
                    }
                }
                if backward {
                    joined.reverse();
                }
                assert!(
                    joined == all,
                    "{name} {partition} by {max_entries} entries, {max_bytes} bytes, backward: {backward}"
                );
            }
        }
    }
}

#[test]
fn ranges_have_the_ends_that_were_asked_for() {
    let (_folder, root) = golden();
    let view = open(&root.join("na")).view(&Partition::parse("t0.0").unwrap()).unwrap().unwrap();
    let all = view.scan(&Range::ALL).unwrap().entries;
    let (from, to) = (all[100].key.clone(), all[300].key.clone());
    for (begin_inclusive, end_inclusive) in [(true, false), (false, false), (true, true), (false, true)] {
        let range = Range { begin: &from, end: &to, begin_inclusive, end_inclusive, ..Range::ALL };
        let expected = &all[100 + usize::from(!begin_inclusive)..300 + usize::from(end_inclusive)];
        assert!(view.scan(&range).unwrap().entries == expected);
        let mut backward = view.scan(&Range { backward: true, ..range }).unwrap().entries;
        backward.reverse();
        assert!(backward == expected);
    }
    let backwards = Range { begin: &to, end: &from, ..Range::ALL };
    assert!(view.scan(&backwards).unwrap().entries.is_empty());
}

#[test]
fn very_large_values_are_refused_by_scans_and_read_alone() {
    let (_folder, root) = golden();
    let view = open(&root.join("seg")).view(&Partition::parse("kv.0").unwrap()).unwrap().unwrap();
    assert_eq!(view.scan(&Range::ALL).unwrap_err().status, Status::Unsupported);
    let found = view.read(b"L-3").unwrap().unwrap();
    assert_eq!((found.value.len(), found.large), (41000, Some(Some(b"meta:L-3".to_vec()))));
    assert_eq!(view.read(b"L-1").unwrap().unwrap().value.len(), 8192);
    let around = Range { begin: b"M", ..Range::ALL };
    assert_eq!(view.scan(&around).unwrap().entries.len(), 100);
}

#[test]
fn absent_partitions_have_no_view() {
    let (_folder, root) = golden();
    let store = open(&root.join("na"));
    assert!(store.view(&Partition::parse("t0.99").unwrap()).unwrap().is_none());
    let empty = store.view(&Partition::parse("t0.2").unwrap()).unwrap().unwrap();
    assert_eq!(empty.scan(&Range::ALL).unwrap().entries.len(), 0);
    assert_eq!(empty.floor(b"x").unwrap(), None);
}

/// The check agrees that nothing is wrong with any of them, and finds every byte that is flipped in a page.
#[test]
fn nothing_is_wrong_with_golden_stores() {
    let (_folder, root) = golden();
    for name in ["na", "ap", "na_zstd", "ap_zstd", "geo8k", "deep", "seg", "torn"] {
        let store = open(&root.join(name));
        let expected = fs::read_to_string(root.join(name).join("expected.txt")).unwrap().lines().count();
        let mut entries = 0;
        for partition in store.partitions() {
            for (state, report) in survey::check(&store, partition, |_| Ok(())).unwrap() {
                assert_eq!(report.problems, [""; 0], "{name} {partition} {state}");
                assert!(report.torn.is_none());
                entries += if state == FileName::main_manifest() { report.entries as usize } else { 0 };
            }
        }
        assert_eq!(entries, expected, "{name}");
    }
}
