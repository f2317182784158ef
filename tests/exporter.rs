//! Needles over the wire: what an exporter serves is what a volume has, with the same verdicts, while volumes come, grow,
//! are vacuumed and go.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "the writer is shared with the tests of volumes")]

mod common;
#[path = "volume/writer.rs"]
mod writer;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::exported::Exported;
use common::{roads, wait_for};
use rdma_engine::Status;
use rdma_engine::engine::options::ContextOptions;
use rdma_engine::needles::batch::{self, Builder, Row};
use rdma_engine::needles::{ExporterOptions, METHOD, METHOD_BATCH, needle, read};
use rdma_engine::rpc::{Header, Replied};
use writer::{Format, Put, Writer};

struct Fixture(Exported);

impl Fixture {
    fn new(address: &str, options: &ContextOptions, dir: &Path) -> Fixture {
        Fixture(Exported::new(address, options, dir, &ExporterOptions::default()))
    }

    fn call(&self, file_id: &str, offset: u64, len: u64, flags: u32) -> Replied {
        self.0.call(METHOD, file_id.as_bytes(), Header { offset, len, flags, reserved: 0 })
    }

    /// One call for many: the service's status, rows, and the payload.
    fn batch(&self, builder: &Builder, room: u64) -> (Status, Vec<Row>, Vec<u8>) {
        let payload = builder.payload();
        let replied =
            self.raw_batch(&payload, Header { offset: room, len: builder.len() as u64, ..Header::default() });
        let (status, bytes) = (Status::from_i32(replied.status).unwrap(), replied.body.to_vec());
        let rows = match status {
            Status::Ok => batch::rows(replied.header.len, &bytes, bytes.len() as u64).unwrap(),
            _ => vec![],
        };
        (status, rows, bytes)
    }

    fn raw_batch(&self, payload: &[u8], header: Header) -> Replied {
        self.0.call(METHOD_BATCH, payload, header)
    }

    fn read(&self, file_id: &str) -> Result<Vec<u8>, Status> {
        let replied = self.call(file_id, 0, 0, 0);
        match Status::from_i32(replied.status) {
            Some(Status::Ok) => Ok(replied.body.to_vec()),
            status => Err(status.unwrap()),
        }
    }

    fn close(self) {
        self.0.close();
    }
}

fn data(id: u64, version: u64) -> Vec<u8> {
    let length = (id * 7919 + version * 104_729) % 30_000;
    (0..length).map(|i| (i * 31 + id + version) as u8).collect()
}

fn put(id: u64, version: u64) -> Put {
    Put { id, cookie: id as u32, data: data(id, version), append_at_ns: 1, ..Put::default() }
}

fn file_id(volume: u32, id: u64) -> String {
    format!("{volume},{id:02x}{:08x}", id as u32)
}

#[test]
fn needles_arrive_whole_in_parts_and_with_their_verdicts() {
    for (road, address, options) in roads() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), "photos_7", Format::default());
        (1..100).for_each(|id| writer.put(&put(id, 1)));
        writer.put(&Put { flags: 1, ..put(100, 1) });
        writer.put(&Put { flags: 0x80, ..put(101, 1) });
        writer.put(&Put { data: vec![], ..put(102, 1) });
        writer.put(&Put { last_modified: Some(1_700_000_000), ..put(103, 1) });
        writer.delete(5, 5);
        let fixture = Fixture::new(&address, &options, dir.path());
        for id in (1..100).chain([103]) {
            assert_eq!(fixture.read(&file_id(7, id)), Ok(data(id, 1)), "{road}: needle {id}");
        }
        assert_eq!(fixture.read(&file_id(7, 102)), Ok(vec![]));
        let with_time = fixture.call(&file_id(7, 103), 0, 0, 0).header;
        assert_eq!((with_time.offset, with_time.len), (data(103, 1).len() as u64, 1_700_000_000));
        let part = fixture.call(&file_id(7, 9), 100, 50, read::RANGE);
        assert_eq!(part.body.to_vec(), data(9, 1)[100..150], "{road}");
        assert_eq!(part.header.offset, data(9, 1).len() as u64);
        let deleted = fixture.call(&file_id(7, 5), 0, 0, 0);
        assert_eq!((deleted.status, deleted.body.to_vec()), (0, data(5, 1)));
        assert_eq!(deleted.header.flags & needle::DELETED, needle::DELETED);
        let status = |file: &str, offset, flags| {
            Status::from_i32(fixture.call(file, offset, 10, flags).status).unwrap()
        };
        assert_eq!(status(&file_id(7, 5), 0, read::LIVE), Status::Deleted);
        assert_eq!(status(&file_id(7, 9), 1 << 40, read::RANGE), Status::OutOfRange);
        assert_eq!(status(&file_id(7, 100), 1, read::RANGE), Status::Ineligible);
        assert_eq!(status(&file_id(7, 100), 0, 0), Status::Ok);
        assert_eq!(status(&file_id(7, 101), 0, 0), Status::Ineligible);
        assert_eq!(status(&file_id(7, 101), 0, read::STORED), Status::Ok);
        assert_eq!(status("7,0900000008", 0, 0), Status::CookieMismatch);
        assert_eq!(status(&file_id(7, 200), 0, 0), Status::NotFound);
        assert_eq!(status(&file_id(8, 1), 0, 0), Status::NotFound);
        assert_eq!(status("nonsense", 0, 0), Status::InvalidArgument);
        assert_eq!(status(&file_id(7, 9), 0, 1 << 30), Status::InvalidArgument);
        assert_eq!(status(&"7,".repeat(5000), 0, 0), Status::InvalidArgument);
        fixture.close();
    }
}

#[test]
fn volumes_come_grow_and_go() {
    let (_, address, options) = roads().swap_remove(0);
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(&address, &options, dir.path());
    assert_eq!(fixture.read(&file_id(3, 1)), Err(Status::NotFound));
    let mut writer = Writer::create(dir.path(), "3", Format::default());
    writer.put(&put(1, 1));
    wait_for("the new volume", || fixture.read(&file_id(3, 1)) == Ok(data(1, 1)));
    // What was acknowledged is there at once.
    for version in 2..50 {
        writer.put(&put(1, version));
        assert_eq!(fixture.read(&file_id(3, 1)), Ok(data(1, version)));
    }
    writer.vacuum();
    assert_eq!(fixture.read(&file_id(3, 1)), Ok(data(1, 49)));
    for extension in ["dat", "idx"] {
        fs::rename(writer.path(extension), dir.path().join(format!("gone.{extension}"))).unwrap();
    }
    wait_for("the volume to be gone", || fixture.read(&file_id(3, 1)) == Err(Status::NotFound));
    wait_for("its files to be let go", || {
        fixture.0.exporter.volumes().is_empty() || {
            let _ = fixture.read(&file_id(3, 1));
            false
        }
    });
    for extension in ["dat", "idx"] {
        fs::rename(dir.path().join(format!("gone.{extension}")), writer.path(extension)).unwrap();
    }
    wait_for("the volume to be back", || fixture.read(&file_id(3, 1)) == Ok(data(1, 49)));
    fixture.close();
}

#[test]
fn the_first_folder_that_has_a_volume_serves_it() {
    let (_, address, options) = roads().swap_remove(0);
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let indexes = tempfile::tempdir().unwrap();
    Writer::create(first.path(), "1", Format::default()).put(&put(1, 1));
    for (base, version) in [("1", 2), ("2", 3)] {
        let mut writer = Writer::create(second.path(), base, Format::default());
        writer.put(&put(1, version));
        fs::rename(writer.path("idx"), indexes.path().join(format!("{base}.idx"))).unwrap();
    }
    let fixture = Fixture::new(&address, &options, first.path());
    assert_eq!(fixture.read(&file_id(2, 1)), Err(Status::NotFound));
    let add = |dir: &Path| fixture.0.exporter.add(dir.to_owned(), Some(indexes.path().to_owned()));
    assert_eq!(add(&second.path().join("none")).unwrap_err().status, Status::Io);
    add(second.path()).unwrap();
    assert_eq!(fixture.read(&file_id(2, 1)), Ok(data(1, 3)));
    assert_eq!(fixture.read(&file_id(1, 1)), Ok(data(1, 1)));
    let refused = (0..300).find_map(|_| add(second.path()).err());
    assert_eq!(refused.unwrap().status, Status::LimitReached);
    fixture.close();
}

/// What these bytes are.
fn what(got: &[u8]) -> String {
    let known = (1..=20).flat_map(|id| (0..400).map(move |version| (id, version)));
    let found: Vec<_> = known.filter(|(id, version)| data(*id, *version) == got).collect();
    format!("{} bytes, those of {found:?}", got.len())
}

#[test]
fn no_wrong_byte_while_a_writer_appends_and_vacuums() {
    for (road, address, options) in roads() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), "1", Format::default());
        (1..=20).for_each(|id| writer.put(&put(id, 0)));
        let fixture = Fixture::new(&address, &options, dir.path());
        let versions: Vec<AtomicU64> = (0..=20).map(|_| AtomicU64::new(0)).collect();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..3u64)
                .map(|start| {
                    let (fixture, versions, stop) = (&fixture, &versions, &stop);
                    scope.spawn(move || {
                        let mut reads = 0;
                        while !stop.load(Ordering::Acquire) || reads < 20 {
                            let id = 1 + (start * 7 + reads) % 20;
                            let before = versions[id as usize].load(Ordering::Acquire);
                            let got = fixture.read(&file_id(1, id));
                            let after = versions[id as usize].load(Ordering::Acquire);
                            match got {
                                // The writer tells of a version after it has written it.
                                Ok(got) => assert!(
                                    (before..=after + 1).any(|version| data(id, version) == got),
                                    "{road}: needle {id} between {before} and {after}, not {}",
                                    what(&got)
                                ),
                                // "Try again" is an answer; wrong bytes are not.
                                Err(status) => {
                                    assert!(
                                        matches!(status, Status::Stale | Status::Busy),
                                        "{road}: {status:?}"
                                    )
                                }
                            }
                            reads += 1;
                        }
                    })
                })
                .collect();
            for round in 1..=300u64 {
                let id = 1 + round % 20;
                let version = versions[id as usize].load(Ordering::Acquire) + 1;
                writer.put(&put(id, version));
                versions[id as usize].store(version, Ordering::Release);
                if round % 30 == 0 {
                    writer.vacuum();
                }
            }
            stop.store(true, Ordering::Release);
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
        fixture.close();
    }
}

/// Where a row's data is.
fn data_of<'a>(row: &Row, bytes: &'a [u8]) -> &'a [u8] {
    &bytes[row.offset.get() as usize..][..row.length.get() as usize]
}

#[test]
fn a_batch_has_the_bytes_and_the_verdicts_of_single_reads() {
    for (road, address, options) in roads() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), "photos_7", Format::default());
        (1..60).for_each(|id| writer.put(&put(id, 1)));
        writer.put(&Put { flags: 1, ..put(100, 1) });
        writer.put(&Put { flags: 0x80, ..put(101, 1) });
        writer.put(&Put { data: vec![], ..put(102, 1) });
        writer.delete(5, 5);
        Writer::create(dir.path(), "8", Format { version: 2, ..Format::default() }).put(&put(1, 2));
        let fixture = Fixture::new(&address, &options, dir.path());
        let mut reads: Vec<(String, u64, u64, u32)> = (1..60).map(|id| (file_id(7, id), 0, 0, 0)).collect();
        let (gzip, manifest) = (file_id(7, 100), file_id(7, 101));
        reads.push((file_id(7, 9), 100, 50, read::RANGE));
        reads.push((file_id(7, 9), 1 << 40, 50, read::RANGE));
        reads.push((file_id(7, 5), 0, 0, read::LIVE));
        reads.push((gzip.clone(), 1, 2, read::RANGE));
        reads.push((gzip.clone(), 1, 2, read::RANGE | read::STORED));
        reads.push((gzip, 0, 0, 0));
        reads.push((manifest.clone(), 0, 0, 0));
        reads.push((manifest, 0, 0, read::STORED));
        reads
            .extend([file_id(7, 102), file_id(8, 1), file_id(9, 1), file_id(7, 200)].map(|id| (id, 0, 0, 0)));
        reads.extend(["7,0900000008", "", "nonsense", "7,0900000009?x"].map(|id| (id.to_owned(), 0, 0, 0)));
        reads.push((file_id(7, 9), 0, 0, 1 << 30));
        reads.push((file_id(7, 9), 7, 7, read::STAT));
        let mut builder = Builder::new();
        reads.iter().for_each(|(id, offset, len, flags)| assert!(builder.add(id, *offset, *len, *flags)));
        let (status, rows, bytes) = fixture.batch(&builder, 0);
        assert_eq!((status, rows.len()), (Status::Ok, reads.len()), "{road}");
        for (row, (id, offset, len, flags)) in rows.iter().zip(&reads) {
            let single = fixture.call(id, *offset, *len, *flags);
            let what = format!("{road}: {id} {offset} {len} {flags}");
            assert_eq!(row.status.get(), single.status, "{what}");
            assert_eq!(data_of(row, &bytes), single.body.to_vec(), "{what}");
            assert!(row.length.get() == 0 || row.offset.get() % 8 == 0, "{what}");
            if single.status == 0 {
                let header = (row.data_length.get(), row.last_modified.get(), row.flags.get());
                assert_eq!(header, (single.header.offset, single.header.len, single.header.flags), "{what}");
                let whole = fixture.call(id, 0, 0, read::STORED).body.to_vec();
                assert_eq!(
                    batch::check(row.data_length.get(), row.checksum.get(), &whole).ok(),
                    Some(()),
                    "{what}"
                );
            } else {
                assert_eq!(*row, Row { status: row.status, ..Row::default() }, "{what}");
            }
        }
        fixture.close();
    }
}

#[test]
fn an_answer_has_as_many_of_the_first_reads_as_fit() {
    let (_, address, options) = roads().swap_remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "1", Format::default());
    (1..=100).for_each(|id| writer.put(&put(id, 1)));
    let fixture = Fixture::new(&address, &options, dir.path());
    for room in [64, 65, 1_000, 40_000, 100_000, 1 << 20] {
        let (mut next, mut calls) = (1, 0);
        while next <= 100 {
            let mut builder = Builder::new();
            (next..=100).for_each(|id| assert!(builder.add(&file_id(1, id), 0, 0, 0)));
            let (status, rows, bytes) = fixture.batch(&builder, room);
            assert_eq!(status, Status::Ok);
            assert!(!rows.is_empty() && bytes.len() as u64 <= room, "{room}: {} bytes", bytes.len());
            for (row, id) in rows.iter().zip(next..) {
                let data = data(id, 1);
                assert_eq!(row.data_length.get(), data.len() as u64);
                if row.status.get() == Status::Truncated as i32 {
                    assert!(data.len() as u64 + 64 > room && row.length.get() == 0, "{room}: needle {id}");
                } else {
                    assert_eq!(
                        (row.status.get(), data_of(row, &bytes)),
                        (0, &data[..]),
                        "{room}: needle {id}"
                    );
                }
            }
            (next, calls) = (next + rows.len() as u64, calls + 1);
        }
        assert!(room < 1 << 20 || calls <= 2, "{calls} calls");
    }
    // What is no batch is refused as a whole.
    let mut builder = Builder::new();
    assert!(builder.add(&file_id(1, 1), 0, 0, 0));
    let payload = builder.payload();
    let refused = |payload: &[u8], header: Header| fixture.raw_batch(payload, header).status;
    let header = Header { len: 1, ..Header::default() };
    assert_eq!(refused(&payload, header), 0);
    for (payload, header) in [
        (&payload[..], Header { len: 0, ..header }),
        (&payload[..], Header { len: 2, ..header }),
        (&payload[..], Header { len: u64::MAX, ..header }),
        (&payload[..], Header { flags: 1, ..header }),
        (&payload[..], Header { offset: 63, ..header }),
        (&payload[1..], header),
        (&[&payload[..], &[0; 70_000]].concat()[..65_536], header),
    ] {
        assert_eq!(refused(payload, header), Status::InvalidArgument as i32, "{header:?}");
    }
    fixture.close();
}

/// What is not in the page cache is read all the same, and a call that has some of both.
#[test]
fn needles_that_wait_for_the_disk() {
    let (_, address, options) = roads().swap_remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "1", Format::default());
    (1..=100).for_each(|id| writer.put(&put(id, 1)));
    let fixture = Fixture::new(&address, &options, dir.path());
    let dat = fs::File::open(writer.path("dat")).unwrap();
    for round in 0..20u64 {
        dat.sync_all().unwrap();
        rustix::fs::fadvise(&dat, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let id = 1 + round * 5;
        assert_eq!(fixture.read(&file_id(1, id)), Ok(data(id, 1)));
        let mut builder = Builder::new();
        (1..=100).for_each(|id| assert!(builder.add(&file_id(1, id), 0, 0, 0)));
        let (_, rows, bytes) = fixture.batch(&builder, 0);
        assert_eq!(rows.len(), 100);
        for (row, id) in rows.iter().zip(1..) {
            assert_eq!((row.status.get(), data_of(row, &bytes)), (0, &data(id, 1)[..]), "needle {id}");
        }
    }
    fixture.close();
}
