//! Stores as a whole: wrong options, values of every size.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod kv_support;

use kv_support::{Folder, golden, options};
use rdma_engine::Status;
use rdma_engine::kv::batch::{Action, Batch, Op, Order};
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::restore::restore;
use rdma_engine::kv::scan::{Large, Range};
use rdma_engine::kv::store::Store;

const ALL: Range<'static> = Range { large: Large::Return, ..Range::ALL };

fn in_folder(folder: &Folder) -> Options {
    Options { store_paths: vec![folder.0.join("store")], ..Options::default() }
}

fn every_change(options: &Options) -> Vec<Options> {
    let changed = |change: &dyn Fn(&mut Options)| {
        let mut options = options.clone();
        change(&mut options);
        options
    };
    vec![
        changed(&|options| options.page_size *= 2),
        changed(&|options| options.pages_per_file_shift += 1),
        changed(&|options| options.pages_per_file_shift -= 1),
        changed(&|options| options.overflow_pointers += 1),
        changed(&|options| options.overflow_pointers -= 1),
        changed(&|options| options.segment_size *= 2),
        changed(&|options| options.segments_per_file_shift += 1),
        changed(&|options| options.segments_per_file_shift -= 1),
    ]
}

#[test]
fn a_store_that_we_made_refuses_other_options() {
    let folder = Folder::new();
    let right = in_folder(&folder);
    restore(right.clone(), &b"t.0 6b 76 1 0\n"[..]).unwrap();
    let mut wrong = every_change(&right);
    wrong.push(Options { append: true, ..right.clone() });
    for wrong in wrong {
        let error = Store::open(wrong.clone()).unwrap_err();
        assert_eq!(error.status, Status::InvalidArgument, "{error}");
        assert!(error.message.contains("was written with"), "{error}");
        assert!(restore(wrong, &b"t.0 6b 76 1 0\n"[..]).is_err());
    }
    let harmless = Options { data_restart_interval: 3, manifest_limit: 1, threads: 7, ..right };
    assert_eq!(restore(harmless, &b"t.0 6b 77 1 0\n"[..]).unwrap().applied, 1);
}

/// EloqStore's stores have no record: other options are noticed as far as the bytes allow, and never misread.
#[test]
fn other_options_never_misread_golden_stores() {
    let (_folder, root) = golden();
    for name in ["na", "ap", "geo8k", "seg", "deep"] {
        let right = options(&root.join(name));
        let store = Store::open(right.clone()).unwrap();
        for wrong in every_change(&right) {
            let wrong = Store::open(wrong).unwrap();
            for partition in store.partitions() {
                let expected = store.view(partition).unwrap().unwrap().scan(&ALL).unwrap();
                match wrong.view(partition).and_then(|view| view.unwrap().scan(&ALL)) {
                    Ok(found) => {
                        assert!(found == expected, "{name} {partition} {:?}", wrong.options().layout())
                    }
                    Err(error) => {
                        assert!(
                            matches!(error.status, Status::InvalidArgument | Status::Corrupted),
                            "{error}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn values_of_0_bytes_to_64_mebibytes() {
    for compression in [false, true] {
        let folder = Folder::new();
        let store = Store::create(Options { compression, ..in_folder(&folder) }).unwrap();
        let sizes = [0, 1, 99, 100, 4000, 4040, 4084, 4096, 65_536, 1 << 20, (10 << 20) + 1, 64 << 20];
        let value = |size: usize| (0..size).map(|i| (i / 7 * 31 % 256) as u8).collect::<Vec<u8>>();
        let ops = sizes.iter().map(|size| Op {
            key: (*size as u32).to_be_bytes().to_vec(),
            action: Action::Upsert { value: value(*size), expire_ms: 0 },
            timestamp: 1,
        });
        let batch = Batch::new(ops.collect(), Order::Refuse, store.options()).unwrap();
        let partition = Partition { table: "t".into(), number: 0 };
        assert_eq!(store.writer(&partition).unwrap().write(&batch, 0).unwrap(), sizes.len() as u64);
        let view = Store::open(store.options().clone()).unwrap().view(&partition).unwrap().unwrap();
        for size in sizes {
            let found = view.read(&(size as u32).to_be_bytes()).unwrap().unwrap();
            assert!(found.value == value(size), "{size} bytes");
        }
    }
}

#[test]
fn many_that_make_a_store_at_once_all_have_it() {
    for _ in 0..20 {
        let folder = Folder::new();
        let options = in_folder(&folder);
        let barrier = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let (options, barrier) = (options.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    Store::create(options).unwrap();
                });
            }
        });
        let there: Vec<_> =
            std::fs::read_dir(folder.0.join("store")).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(there.len(), 1, "{there:?}");
    }
}
