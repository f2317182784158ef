//! The disk: both back-ends move the same bytes, fail with the kernel's errors, and never let go of memory too early.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/both.rs"]
#[macro_use]
mod both;

use rdma_engine::Status;
use rdma_engine::io::buffer::Buffer;
use rdma_engine::io::disk::{Backend, Choice, Disk, Options};
use rdma_engine::io::file::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

both! {
    random_reads_and_writes_agree_with_a_model
    a_read_past_the_end_is_short
    errors_are_the_kernels
    more_operations_than_allowed_are_refused
    memory_of_abandoned_operations_comes_back
    calls_run_elsewhere_and_their_panics_stay_there
    another_thread_wakes_it
    files_beyond_the_table_work_too
}

fn disk(choice: Choice) -> Rc<Disk> {
    let options =
        Options { choice, depth: 8, files: 4, buffers: 64, buffer_size: 8192, ..Options::default() };
    let disk = Disk::open(&options).unwrap();
    assert_eq!(matches!(disk.backend(), Backend::Ring { .. }), choice == Choice::Ring);
    disk
}

/// A file for direct I/O where its file system has that.
fn open(disk: &Rc<Disk>, path: &Path) -> Rc<File> {
    let mut options = std::fs::File::options();
    options.read(true).write(true).create(true);
    match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        Ok(file) => disk.file(OwnedFd::from(file), true),
        Err(_) => disk.file(OwnedFd::from(options.open(path).unwrap()), false),
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

fn random_reads_and_writes_agree_with_a_model(choice: Choice) {
    const PAGES: usize = 64;
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(choice);
    let file = open(&disk, &folder.path().join("file"));
    let mut model = vec![0u8; PAGES * 4096];
    let mut random = Random(7);
    let all = disk.write(&file, 0, Buffer::heap(model.len()).unwrap(), model.len()).unwrap();
    assert_eq!(disk.block_on(all).unwrap().result.unwrap(), model.len());
    for round in 0..100u8 {
        // Many at once, each in its own place; more than the kernel gets at a time.
        let mut places: Vec<usize> = (0..PAGES / 2).collect();
        let mut under_way = Vec::new();
        for _ in 0..24 {
            let at = places.swap_remove(random.below(places.len())) * 8192;
            let len = 4096 * (1 + random.below(2));
            let mut buffer = match random.below(3) {
                0 => Buffer::heap(8192).unwrap(),
                _ => disk.pool().take().unwrap(),
            };
            if random.below(2) == 0 {
                buffer.fill(round);
                model[at..at + len].fill(round);
                under_way.push((at, len, true, disk.write(&file, at as u64, buffer, len).unwrap()));
            } else {
                buffer.fill(!round);
                under_way.push((at, len, false, disk.read(&file, at as u64, buffer, len).unwrap()));
            }
        }
        for (at, len, write, operation) in under_way {
            let ended = disk.block_on(operation).unwrap();
            assert_eq!(ended.result.unwrap(), len);
            let buffer = ended.buffer.unwrap();
            assert!(write || buffer[..len] == model[at..at + len], "round {round}, byte {at}");
        }
        assert!(disk.block_on(disk.sync(&file).unwrap()).unwrap().result.is_ok());
    }
    assert!(std::fs::read(folder.path().join("file")).unwrap() == model);
    assert_eq!((disk.pool().used(), disk.operations()), (0, 0));
}

fn a_read_past_the_end_is_short(choice: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(choice);
    let path = folder.path().join("file");
    std::fs::write(&path, vec![5; 5000]).unwrap();
    let file = open(&disk, &path);
    let read = disk.block_on(disk.read(&file, 0, disk.pool().take().unwrap(), 8192).unwrap()).unwrap();
    assert_eq!(read.result.unwrap(), 5000);
    assert!(read.buffer.unwrap()[..5000].iter().all(|byte| *byte == 5));
    let read = disk.block_on(disk.read(&file, 8192, disk.pool().take().unwrap(), 8192).unwrap()).unwrap();
    assert_eq!(read.result.unwrap(), 0);
}

fn errors_are_the_kernels(choice: Choice) {
    let disk = disk(choice);
    let full =
        disk.file(OwnedFd::from(std::fs::File::options().write(true).open("/dev/full").unwrap()), false);
    let write = disk.block_on(disk.write(&full, 0, disk.pool().take().unwrap(), 4096).unwrap()).unwrap();
    assert_eq!(write.result.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert!(write.buffer.is_some(), "the memory comes back with the error");
    let folder = disk.file(OwnedFd::from(std::fs::File::open("/").unwrap()), false);
    let read = disk.block_on(disk.read(&folder, 0, disk.pool().take().unwrap(), 4096).unwrap()).unwrap();
    assert_eq!(read.result.unwrap_err().raw_os_error(), Some(libc::EISDIR));
    let (reader, _writer) = std::io::pipe().unwrap();
    let pipe = disk.file(OwnedFd::from(reader), false);
    assert!(disk.block_on(disk.sync(&pipe).unwrap()).unwrap().result.is_err());
}

fn more_operations_than_allowed_are_refused(choice: Choice) {
    let disk = Disk::open(&Options { choice, operations: 3, ..Options::default() }).unwrap();
    let file = disk.file(OwnedFd::from(std::fs::File::open("/dev/zero").unwrap()), false);
    let read = || disk.read(&file, 0, disk.pool().take().unwrap(), 4096);
    let three: Vec<_> = (0..3).map(|_| read().unwrap()).collect();
    assert_eq!(read().unwrap_err().status, Status::QueueFull);
    assert_eq!(disk.pool().used(), 3, "the refused one gave its memory back");
    for operation in three {
        assert_eq!(disk.block_on(operation).unwrap().result.unwrap(), 4096);
    }
    assert!(read().is_ok());
    let error = disk.read(&file, 0, disk.pool().take().unwrap(), 4097).unwrap_err();
    assert_eq!(error.status, Status::OutOfRange);
}

fn memory_of_abandoned_operations_comes_back(choice: Choice) {
    let disk = disk(choice);
    // Nothing is ever written to this pipe: its reads wait until its other end closes.
    let (reader, writer) = std::io::pipe().unwrap();
    let pipe = disk.file(OwnedFd::from(reader), false);
    let reads: Vec<_> = (0..20).map(|_| disk.read(&pipe, 0, disk.pool().take().unwrap(), 4096)).collect();
    disk.turn(None).unwrap();
    drop(reads);
    disk.turn(None).unwrap();
    if choice == Choice::Ring {
        assert!(disk.pool().used() > 0, "the kernel may still write to it");
    }
    drop(writer);
    while disk.operations() > 0 {
        disk.turn(Some(Duration::from_secs(1))).unwrap();
    }
    assert_eq!(disk.pool().used(), 0);
}

fn calls_run_elsewhere_and_their_panics_stay_there(choice: Choice) {
    let disk = disk(choice);
    let here = std::thread::current().id();
    let there = disk.block_on(disk.call(|| std::thread::current().id())).unwrap().unwrap();
    assert_ne!(here, there);
    let error = disk.block_on(disk.call(|| assert_eq!(1, 2))).unwrap().unwrap_err();
    assert_eq!(error.status, Status::Panic);
    static RAN: AtomicUsize = AtomicUsize::new(0);
    let calls = (0..100).map(|_| disk.call(|| RAN.fetch_add(1, Ordering::SeqCst)));
    let before = RAN.load(Ordering::SeqCst);
    for call in calls {
        disk.block_on(call).unwrap().unwrap();
    }
    assert!(RAN.load(Ordering::SeqCst) >= before + 100);
}

fn another_thread_wakes_it(choice: Choice) {
    let disk = disk(choice);
    static ROUNDS: AtomicUsize = AtomicUsize::new(0);
    let (event, start) = (disk.event().clone(), ROUNDS.load(Ordering::SeqCst));
    let other = std::thread::spawn(move || {
        for _ in 0..1000 {
            ROUNDS.fetch_add(1, Ordering::SeqCst);
            event.ring();
        }
    });
    // A ring that is missed would sleep for an hour.
    let mut seen = start;
    while seen < start + 1000 {
        disk.event().arm();
        let now = ROUNDS.load(Ordering::SeqCst);
        if now == seen {
            disk.turn(Some(Duration::from_secs(3600))).unwrap();
        }
        seen = now;
    }
    other.join().unwrap();
}

fn files_beyond_the_table_work_too(choice: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(choice);
    for round in 0..3 {
        let files: Vec<_> = (0..10).map(|i| open(&disk, &folder.path().join(format!("{i}")))).collect();
        for (i, file) in files.iter().enumerate() {
            let mut buffer = disk.pool().take().unwrap();
            buffer.fill((round * 16 + i) as u8);
            let write = disk.write(file, 0, buffer, 4096).unwrap();
            assert_eq!(disk.block_on(write).unwrap().result.unwrap(), 4096);
        }
        drop(files);
        for i in 0..10 {
            let bytes = std::fs::read(folder.path().join(format!("{i}"))).unwrap();
            assert_eq!(bytes, vec![(round * 16 + i) as u8; 4096]);
        }
    }
}
