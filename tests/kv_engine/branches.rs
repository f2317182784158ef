//! Branches through the engine: made, read, written, deleted, beside each other and upkeep.

use super::{Random, open, small, upsert};
use crate::kv_support::Folder;
use rdma_engine::Status;
use rdma_engine::kv::batch::{Action, Op, Order};
use rdma_engine::kv::engine::{Answer, Choice, Engine, Handle, Request, Scan};
use rdma_engine::kv::store::Store;
use rdma_engine::kv::survey;
use std::collections::BTreeMap;
use std::path::Path;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn append(io: Choice, path: &Path) -> rdma_engine::kv::engine::EngineOptions {
    let mut options = small(io, path);
    options.store.append = true;
    options.store.pages_per_file_shift = 3;
    options
}

fn write(engine: &Engine, handle: Handle, model: &mut Model, keys: std::ops::Range<usize>, seed: u64) {
    let entry =
        |i: usize| (format!("key{i:05}").into_bytes(), format!("{seed} {i} ").repeat(20).into_bytes());
    let ops: Vec<Op> = keys.map(entry).map(|(key, value)| upsert(&key, &value, seed)).collect();
    for op in &ops {
        let Action::Upsert { value, .. } = &op.action else { panic!() };
        model.insert(op.key.clone(), value.clone());
    }
    let count = ops.len() as u64;
    assert_eq!(engine.write(handle, ops, Order::Refuse).unwrap(), count);
}

fn assert_is(engine: &Engine, handle: Handle, model: &Model, what: &str) {
    let scanned = engine.scan(handle, Scan { max_bytes: 0, ..Scan::default() }).unwrap().entries;
    let found: Model = scanned.into_iter().map(|entry| (entry.key, entry.value)).collect();
    assert!(found == *model, "{what}");
}

fn status<T: std::fmt::Debug>(result: rdma_engine::Result<T>) -> Status {
    result.unwrap_err().status
}

/// Through a reader that opens the directory, which finds nothing wrong.
fn assert_on_disk(path: &Path, io: Choice, branch: &str, model: &Model) {
    let store = Store::open(append(io, path).store).unwrap();
    let partition = rdma_engine::kv::names::Partition { table: "t".into(), number: 3 };
    let view = store.branch(&partition, branch).unwrap().unwrap();
    let all = rdma_engine::kv::scan::Range::ALL;
    let found: Model =
        view.scan(&all).unwrap().entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
    assert!(found == *model, "{branch} on disk");
    for (state, report) in survey::check(&store, &partition, |_| Ok(())).unwrap() {
        assert_eq!(report.problems, [""; 0], "{state}");
    }
}

fn they_go_their_own_way(io: Choice) {
    let folder = Folder::new();
    let engine = open(&append(io, &folder.0));
    let main = engine.partition("t", 3).unwrap();
    let dev = engine.branch("t", 3, "Dev-1").unwrap();
    assert_eq!(engine.branch("t", 3, "main").unwrap(), main);
    assert_eq!(engine.branch("t", 3, "dev-1").unwrap(), dev);
    for name in ["", "a_b", "a/b", "ä", ".."] {
        assert_eq!(status(engine.branch("t", 3, name)), Status::InvalidArgument, "{name:?}");
    }
    // Neither the branch nor its partition is there, and asking makes neither.
    assert_eq!(status(engine.read(dev, b"key00001")), Status::NotFound);
    assert_eq!(status(engine.write(dev, vec![upsert(b"k", b"v", 1)], Order::Refuse)), Status::NotFound);
    assert_eq!(status(engine.create_branch(main, "dev-1")), Status::NotFound);
    assert_eq!(engine.branches(main).unwrap(), [""; 0]);
    assert_eq!(status(engine.branches(dev)), Status::NotFound);
    assert!(!folder.0.join("t.3").exists());
    let (mut in_main, mut in_dev) = (Model::new(), Model::new());
    write(&engine, main, &mut in_main, 0..300, 1);
    assert_eq!(engine.create_branch(main, "Dev-1").unwrap(), "dev-1");
    assert_eq!(status(engine.create_branch(main, "dev-1")), Status::AlreadyExists);
    assert_eq!(status(engine.create_branch(main, "a b")), Status::InvalidArgument);
    in_dev.clone_from(&in_main);
    for round in 2..8u64 {
        let at = round as usize * 30;
        write(&engine, main, &mut in_main, at..at + 80, round);
        assert_is(&engine, dev, &in_dev, "dev");
        write(&engine, dev, &mut in_dev, 50..50 + at, round + 100);
        for handle in [main, dev] {
            engine.call(handle, Request::Compact).unwrap();
            engine.call(handle, Request::Collect).unwrap();
        }
        assert_is(&engine, main, &in_main, "main");
        assert_is(&engine, dev, &in_dev, "dev");
    }
    let twig = engine.branch("t", 3, "twig").unwrap();
    engine.create_branch(dev, "twig").unwrap();
    let mut in_twig = in_dev.clone();
    write(&engine, twig, &mut in_twig, 0..40, 500);
    assert_eq!(engine.branches(twig).unwrap(), ["dev-1", "main", "twig"]);
    assert_eq!(status(engine.delete_branch(twig, "twig")), Status::InvalidArgument);
    assert_eq!(status(engine.delete_branch(twig, "main")), Status::InvalidArgument);
    assert_eq!(status(engine.delete_branch(main, "none")), Status::NotFound);
    assert_eq!(status(engine.call(dev, Request::Drop)), Status::InvalidArgument);
    engine.delete_branch(main, "DEV-1").unwrap();
    assert_eq!(status(engine.read(dev, b"key00001")), Status::NotFound);
    assert_eq!(status(engine.write(dev, vec![upsert(b"k", b"v", 1)], Order::Refuse)), Status::NotFound);
    engine.call(main, Request::Collect).unwrap();
    assert_is(&engine, twig, &in_twig, "twig");
    // The name comes back, and with it nothing of what it was.
    engine.create_branch(main, "dev-1").unwrap();
    in_dev.clone_from(&in_main);
    assert_is(&engine, dev, &in_dev, "dev again");
    write(&engine, dev, &mut in_dev, 10..90, 900);
    engine.call(dev, Request::Compact).unwrap();
    assert_is(&engine, twig, &in_twig, "twig");
    engine.close();
    assert_on_disk(&folder.0, io, "main", &in_main);
    assert_on_disk(&folder.0, io, "dev-1", &in_dev);
    assert_on_disk(&folder.0, io, "twig", &in_twig);
    // Opened again, they are there, and go with their partition.
    let engine = open(&append(io, &folder.0));
    let [main, dev] = ["main", "dev-1"].map(|name| engine.branch("t", 3, name).unwrap());
    assert_is(&engine, dev, &in_dev, "dev opened again");
    assert_is(&engine, main, &in_main, "main opened again");
    engine.call(main, Request::Drop).unwrap();
    assert!(!folder.0.join("t.3").exists());
    assert_eq!(status(engine.read(dev, b"key00001")), Status::NotFound);
}

/// Readers of one branch keep the files that they need, while the others compact, collect and go.
fn collection_leaves_what_others_read(io: Choice) {
    let folder = Folder::new();
    let engine = open(&append(io, &folder.0));
    let mut random = Random(0xb4a);
    println!("seed {:#x}", random.0);
    let names = ["main", "a", "b"];
    let handles = names.map(|name| engine.branch("t", 3, name).unwrap());
    let mut models: [Model; 3] = Default::default();
    write(&engine, handles[0], &mut models[0], 0..400, 1);
    for i in [1, 2] {
        engine.create_branch(handles[0], names[i]).unwrap();
        models[i] = models[0].clone();
    }
    for round in 2..40u64 {
        let at = random.below(3);
        let from = random.below(300);
        // One in each place at once, none of which waits for what the others do.
        std::thread::scope(|scope| {
            let readers: Vec<_> = handles.iter().zip(&models).enumerate().filter(|(i, _)| *i != at).collect();
            for (_, (handle, model)) in readers {
                let engine = &engine;
                scope.spawn(move || {
                    for _ in 0..3 {
                        assert_is(engine, *handle, model, "beside writes");
                    }
                });
            }
            let before = engine.read(handles[at], b"key00000").unwrap();
            assert!(before.is_some());
            let keys = from..from + 100;
            let ops = keys.map(|i| upsert(format!("key{i:05}").as_bytes(), &vec![round as u8; 300], round));
            engine.write(handles[at], ops.collect(), Order::Refuse).unwrap();
            engine.call(handles[at], Request::Compact).unwrap();
        });
        for i in from..from + 100 {
            models[at].insert(format!("key{i:05}").into_bytes(), vec![round as u8; 300]);
        }
        if round % 9 == 0 {
            engine.delete_branch(handles[0], "b").unwrap();
            engine.call(handles[0], Request::Compact).unwrap();
            engine.create_branch(handles[1], "b").unwrap();
            models[2] = models[1].clone();
        }
    }
    for (handle, model) in handles.iter().zip(&models) {
        assert_is(&engine, *handle, model, "in the end");
    }
    engine.close();
    for (name, model) in names.iter().zip(&models) {
        assert_on_disk(&folder.0, io, name, model);
    }
}

/// An archive is found as soon as it is there, also by who looked before, and gone once it is forgotten.
fn archives_come_and_go(io: Choice) {
    let folder = Folder::new();
    let engine = open(&append(io, &folder.0));
    let (main, kept) = (engine.partition("t", 3).unwrap(), engine.archive("t", 3, "kept").unwrap());
    let mut model = Model::new();
    write(&engine, main, &mut model, 0..50, 1);
    assert_eq!(status(engine.read(kept, b"key00001")), Status::NotFound);
    engine.call(main, Request::Archive { tag: "kept".into() }).unwrap();
    assert_is(&engine, kept, &model, "the archive");
    let dev = engine.branch("t", 3, "dev").unwrap();
    engine.create_branch(main, "dev").unwrap();
    engine.call(dev, Request::Archive { tag: "kept".into() }).unwrap();
    // Of two that are called so, the one that is open already is meant, or the file's name says which.
    assert_is(&engine, kept, &model, "the archive of main");
    let other = engine.archive("t", 3, "manifest_dev_0_kept").unwrap();
    assert_is(&engine, other, &model, "the archive of dev");
    engine.call(main, Request::ForgetArchive { tag: "kept".into() }).unwrap();
    engine.call(dev, Request::ForgetArchive { tag: "kept".into() }).unwrap();
    assert_eq!(status(engine.read(kept, b"key00001")), Status::NotFound);
    assert_eq!(engine.call(main, Request::Archives).unwrap(), Answer::Names(Vec::new()));
}

both!(they_go_their_own_way collection_leaves_what_others_read archives_come_and_go);

#[test]
fn in_memory_they_are_the_same() {
    let folder = Folder::new();
    let mut options = append(Choice::Threads, &folder.0);
    options.store.store_paths.clear();
    let engine = Engine::open(options).unwrap();
    let [main, dev] = ["main", "dev"].map(|name| engine.branch("t", 3, name).unwrap());
    let (mut in_main, mut in_dev) = (Model::new(), Model::new());
    assert_eq!(status(engine.read(dev, b"k")), Status::NotFound);
    assert_eq!(status(engine.create_branch(main, "dev")), Status::NotFound);
    write(&engine, main, &mut in_main, 0..200, 1);
    engine.call(main, Request::Archive { tag: "kept".into() }).unwrap();
    let kept = in_main.clone();
    engine.create_branch(main, "dev").unwrap();
    in_dev.clone_from(&in_main);
    write(&engine, dev, &mut in_dev, 50..90, 2);
    write(&engine, main, &mut in_main, 10..60, 3);
    for handle in [main, dev] {
        engine.call(handle, Request::Compact).unwrap();
    }
    assert_is(&engine, main, &in_main, "main");
    assert_is(&engine, dev, &in_dev, "dev");
    assert_is(&engine, engine.archive("t", 3, "kept").unwrap(), &kept, "the archive");
    assert_eq!(engine.branches(main).unwrap(), ["dev", "main"]);
    engine.call(main, Request::Drop).unwrap();
    assert_eq!(status(engine.read(dev, b"key00001")), Status::NotFound);
    write(&engine, main, &mut Model::new(), 0..3, 1);
}
