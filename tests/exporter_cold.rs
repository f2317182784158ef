//! Needles that are not in the page cache: read ahead by io_uring, or by threads where it is switched off; the same bytes and
//! verdicts either way, and every call ends once when the exporter closes meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "the writer is shared with the tests of volumes")]

mod common;
#[path = "volume/writer.rs"]
mod writer;

use std::fs::File;
use std::io::IoSliceMut;
use std::path::Path;
use std::thread;

use common::exported::{Exported, evict};
use common::roads;
use rdma_engine::Status;
use rdma_engine::engine::options::ContextOptions;
use rdma_engine::io::readahead::Readahead;
use rdma_engine::needles::batch::{self, Builder};
use rdma_engine::needles::{ExporterOptions, METHOD, METHOD_BATCH, read};
use rdma_engine::rpc::Header;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use writer::{Format, Put, Random, Writer};

const NEEDLES: u64 = 240;

/// A volume of needles of 0 B to 700 KiB, and an exporter that serves it.
struct Fixture {
    exported: Exported,
    file: File,
    /// Wanted, and the kernel has io_uring.
    reads_ahead: bool,
}

fn data(id: u64) -> Vec<u8> {
    let length = match id % 6 {
        0 => id,
        1 => 100_000 + id,
        2 if id % 8 == 2 => 700_000,
        _ => (id * 7919) % 9_000,
    };
    (0..length).map(|i| (i * 31 + i / 251 + id) as u8).collect()
}

fn file_id(id: u64) -> String {
    format!("7,{id:02x}{:08x}", id as u32)
}

impl Fixture {
    fn new(address: &str, options: &ContextOptions, dir: &Path, read_ahead: bool) -> Fixture {
        let mut writer = Writer::create(dir, "7", Format::default());
        for id in 1..=NEEDLES {
            let append_at_ns = 1;
            writer.put(&Put { id, cookie: id as u32, data: data(id), append_at_ns, ..Put::default() });
        }
        writer.delete(3, 3);
        let exporting = ExporterOptions { read_ahead, ..ExporterOptions::default() };
        let exported = Exported::new(address, options, dir, &exporting);
        let file = File::open(dir.join("7.dat")).unwrap();
        let reads_ahead = read_ahead && Readahead::new().is_ok();
        Fixture { exported, file, reads_ahead }
    }

    /// Has the kernel forget the volume's data; whether it has.
    fn evict(&self) -> bool {
        evict(&self.file);
        let mut byte = [0];
        preadv2(&self.file, &mut [IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::NOWAIT) == Err(Errno::AGAIN)
    }

    fn read(&self, id: u64, offset: u64, len: u64, flags: u32) -> (Status, Vec<u8>) {
        let header = Header { offset, len, flags, reserved: 0 };
        let replied = self.exported.call(METHOD, file_id(id).as_bytes(), header);
        (Status::from_i32(replied.status).unwrap(), replied.body.to_vec())
    }

    fn close(self) {
        self.exported.close();
    }
}

/// For each road, with reading ahead and without.
fn each(test: impl Fn(&str, &Fixture)) {
    for read_ahead in [true, false] {
        for (road, address, options) in roads() {
            let dir = tempfile::tempdir().unwrap();
            let fixture = Fixture::new(&address, &options, dir.path(), read_ahead);
            test(&format!("{road}, reading ahead: {read_ahead}"), &fixture);
            assert!(read_ahead || fixture.exported.exporter.read_ahead() == 0);
            fixture.close();
        }
    }
}

#[test]
fn cold_needles_arrive_one_by_one_in_parts_and_at_once() {
    each(|road, fixture| {
        let mut random = writer::seed("cold needles");
        fixture.read(1, 0, 0, 0);
        let (before, mut cold) = (fixture.exported.exporter.read_ahead(), 0);
        for _ in 0..40 {
            let id = 1 + random.below(NEEDLES);
            let want = data(id);
            // Of the longest the pool takes care, cold or not.
            cold += u64::from(fixture.evict() && want.len() < 500_000);
            assert_eq!(fixture.read(id, 0, 0, 0), (Status::Ok, want.clone()), "{road}: needle {id}");
            let (offset, len) = (random.below(want.len() as u64 + 1), random.below(200_000));
            let end = (offset + len).min(want.len() as u64) as usize;
            let part = want.get(offset as usize..end).filter(|_| offset < want.len() as u64);
            fixture.evict();
            match fixture.read(id, offset, len, read::RANGE) {
                (Status::Ok, got) => assert_eq!(Some(&got[..]), part.or(Some(&[])), "{road}: needle {id}"),
                (status, _) => assert_eq!((status, part), (Status::OutOfRange, None), "{road}: needle {id}"),
            }
            fixture.evict();
            assert_eq!(fixture.read(id, 0, 0, read::STAT), (Status::Ok, vec![]), "{road}: needle {id}");
        }
        let ahead = fixture.exported.exporter.read_ahead() - before;
        assert!(ahead > 0 || cold == 0 || !fixture.reads_ahead, "{road}: nothing of {cold} was read ahead");
        fixture.evict();
        let cookie = fixture.exported.call(METHOD, b"7,0900000008", Header::default());
        assert_eq!(Status::from_i32(cookie.status), Some(Status::CookieMismatch), "{road}");
        fixture.evict();
        assert_eq!(fixture.read(3, 0, 0, read::LIVE).0, Status::Deleted, "{road}");
    });
}

#[test]
fn reading_ahead_is_what_cold_reads_use() {
    let (_, address, options) = roads().swap_remove(0);
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(&address, &options, dir.path(), true);
    fixture.read(1, 0, 0, 0);
    let before = fixture.exported.exporter.read_ahead();
    // What is in memory does not take the detour.
    fixture.read(1, 0, 0, 0);
    assert_eq!(fixture.exported.exporter.read_ahead(), before);
    if fixture.evict() && fixture.reads_ahead {
        fixture.read(1, 0, 0, 0);
        assert_eq!(fixture.exported.exporter.read_ahead(), before + 1);
    } else {
        eprintln!("not shown: no io_uring here, or a file system that keeps everything in memory");
    }
    fixture.close();
}

#[test]
fn many_readers_and_batches_while_the_cache_is_emptied() {
    each(|road, fixture| {
        let seeds: Vec<u64> = {
            let mut random = writer::seed("many readers");
            (0..6).map(|_| random.next()).collect()
        };
        thread::scope(|scope| {
            for seed in seeds {
                scope.spawn(move || {
                    let mut random = Random(seed);
                    for round in 0..40 {
                        if round % 4 == 0 {
                            fixture.evict();
                        }
                        let ids: Vec<u64> = (0..12).map(|_| 1 + random.below(NEEDLES)).collect();
                        if round % 2 == 0 {
                            let id = ids[0];
                            assert_eq!(fixture.read(id, 0, 0, 0), (Status::Ok, data(id)), "{road}: {id}");
                            continue;
                        }
                        let mut builder = Builder::new();
                        ids.iter().for_each(|id| assert!(builder.add(&file_id(*id), 0, 0, 0)));
                        let header = Header { len: ids.len() as u64, ..Header::default() };
                        let replied = fixture.exported.call(METHOD_BATCH, &builder.payload(), header);
                        let bytes = replied.body.to_vec();
                        let rows = batch::rows(replied.header.len, &bytes, bytes.len() as u64).unwrap();
                        assert!(!rows.is_empty(), "{road}");
                        for (row, id) in rows.iter().zip(&ids) {
                            let at = row.offset.get() as usize;
                            let got = &bytes[at..at + row.length.get() as usize];
                            assert_eq!((row.status.get(), got), (0, &data(*id)[..]), "{road}: needle {id}");
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn calls_that_wait_for_the_disk_end_when_the_exporter_closes() {
    for (road, address, options) in roads() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::new(&address, &options, dir.path(), true);
        fixture.read(1, 0, 0, 0);
        fixture.evict();
        let ended = thread::scope(|scope| {
            let fixture = &fixture;
            let readers: Vec<_> = (0..8u64)
                .map(|reader| {
                    scope.spawn(move || {
                        let mut good = 0u64;
                        // Until the exporter is gone.
                        for id in (1..=NEEDLES).cycle().skip(reader as usize * 30) {
                            let call =
                                fixture.exported.try_call(METHOD, file_id(id).as_bytes(), Header::default());
                            match call.map(|replied| (replied.status, replied.body.to_vec())) {
                                Ok((0, got)) => assert_eq!(got, data(id)),
                                _ => return good,
                            }
                            good += 1;
                        }
                        good
                    })
                })
                .collect();
            common::wait_for("some reads", || fixture.exported.exporter.served() > 40);
            fixture.evict();
            fixture.exported.exporter.close();
            readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
        });
        assert!(ended > 30, "{road}: {ended} reads");
        assert_eq!(fixture.exported.exporter.read_ahead(), 0, "{road}: the thread has ended");
        fixture.close();
    }
}
