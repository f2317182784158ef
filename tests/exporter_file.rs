//! Needles that an exporter sends from the page cache, over TCP to readers that check them: the same bytes and verdicts as
//! those that it read and checked itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "the writer is shared with the tests of volumes")]

mod common;
#[path = "volume/writer.rs"]
mod writer;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use common::exported::{Exported, evict};
use common::roads;
use rdma_engine::Status;
use rdma_engine::engine::file::FileRange;
use rdma_engine::engine::options::ContextOptions;
use rdma_engine::needles::{ExporterOptions, METHOD, batch, needle, read};
use rdma_engine::rpc::{Header, Replied};
use writer::{Format, Put, Writer};

const LENGTHS: [usize; 6] = [100, 65_000, 66_000, 300_001, 1 << 20, 3_000_000];

fn data(id: u64) -> Vec<u8> {
    (0..LENGTHS[id as usize] as u64).map(|i| (i * 31 + i / 251 + id) as u8).collect()
}

fn file_id(id: u64) -> String {
    format!("7,{:02x}{:08x}", id + 1, id as u32 + 1)
}

fn volume(dir: &Path) -> Writer {
    let mut writer = Writer::create(dir, "7", Format::default());
    for id in 0..LENGTHS.len() as u64 {
        writer.put(&Put {
            id: id + 1,
            cookie: id as u32 + 1,
            data: data(id),
            append_at_ns: 1,
            ..Put::default()
        });
    }
    writer
}

struct Fixture(Exported);

impl Fixture {
    fn new(address: &str, options: &ContextOptions, dir: &Path) -> Fixture {
        Fixture(Exported::new(address, options, dir, &ExporterOptions::default()))
    }

    fn read(&self, id: u64, part: Option<(u64, u64)>, flags: u32) -> Replied {
        let (offset, len) = part.unwrap_or_default();
        let flags = flags | if part.is_some() { read::RANGE } else { 0 };
        self.0.call(METHOD, file_id(id).as_bytes(), Header { offset, len, flags, reserved: 0 })
    }

    fn close(self) {
        self.0.close();
    }
}

/// Whether the page cache has a file, as far as the kernel says.
fn is_cached(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    FileRange::new(Arc::new(file), 0, length).is_cached()
}

/// Reads a needle whole and in parts, as one who checks it and as one who does not: were the bytes left to be checked?
fn same_bytes(fixture: &Fixture, id: u64, what: &str) -> bool {
    let data = data(id);
    let replied = fixture.read(id, None, read::UNCHECKED);
    assert_eq!(replied.status, 0, "{what}");
    assert!(replied.body.to_vec() == data, "{what}");
    let (length, sum) = (replied.header.offset as u32 as u64, (replied.header.offset >> 32) as u32);
    assert_eq!(length, data.len() as u64, "{what}");
    let unchecked = replied.header.flags & needle::UNCHECKED != 0;
    if unchecked {
        batch::check(length, sum, &replied.body.to_vec()).unwrap();
    } else {
        assert_eq!(sum, 0, "{what}");
    }
    let plain = fixture.read(id, None, 0);
    assert!(plain.body.to_vec() == data && plain.header.flags & needle::UNCHECKED == 0, "{what}");
    let end = data.len() as u64;
    for (offset, len) in [(0, end), (0, 70_000), (7, 70_000), (1, 1 << 30), (end - 1, 9), (end / 2, end / 3)]
    {
        let replied = fixture.read(id, Some((offset, len)), read::UNCHECKED);
        assert_eq!(replied.status, 0, "{what} {offset} {len}");
        let range = offset as usize..(offset + len).min(end) as usize;
        assert!(replied.body.to_vec() == data[range], "{what} {offset} {len}");
        assert_eq!(replied.header.offset as u32 as u64, end, "{what} {offset} {len}");
    }
    let past = fixture.read(id, Some((end, 70_000)), read::UNCHECKED);
    assert_eq!((past.status, past.body.len()), (Status::OutOfRange as i32, 0), "{what}");
    unchecked
}

#[test]
fn from_the_page_cache_and_from_the_disk_the_same_bytes() {
    for (road, address, options) in roads() {
        let dir = tempfile::tempdir().unwrap();
        let writer = volume(dir.path());
        let path = writer.path("dat");
        let fixture = Fixture::new(&address, &options, dir.path());
        for id in 0..LENGTHS.len() as u64 {
            let what = format!("{road}, {} bytes", LENGTHS[id as usize]);
            fs::read(&path).unwrap();
            // The kernel may take pages away at any time, so what was cached need not be; but not the other way round.
            let cached = is_cached(&path);
            let unchecked = same_bytes(&fixture, id, &what);
            let eligible = road == "tcp" && LENGTHS[id as usize] > 65_536;
            assert!(!unchecked || eligible, "{what}");
            if cached && is_cached(&path) && eligible {
                assert!(unchecked, "{what}");
            }
            evict(&File::open(&path).unwrap());
            same_bytes(&fixture, id, &format!("{what}, evicted"));
        }
        fixture.close();
    }
}

#[test]
fn damaged_data_is_said_or_left_to_be_found() {
    for (road, address, options) in roads() {
        let dir = tempfile::tempdir().unwrap();
        let path = volume(dir.path()).path("dat");
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(64).position(|w| w == &data(4)[..64]).unwrap();
        bytes[at + 500_000] ^= 4;
        fs::write(&path, bytes).unwrap();
        let fixture = Fixture::new(&address, &options, dir.path());
        let replied = fixture.read(4, None, read::UNCHECKED);
        if replied.status == 0 {
            assert!(replied.header.flags & needle::UNCHECKED != 0, "{road}");
            let sum = (replied.header.offset >> 32) as u32;
            assert!(batch::check(1 << 20, sum, &replied.body.to_vec()).is_err(), "{road}");
        } else {
            assert_eq!(replied.status, Status::Corrupted as i32, "{road}");
        }
        assert_eq!(fixture.read(4, None, 0).status, Status::Corrupted as i32, "{road}");
        fixture.close();
    }
}

#[test]
fn a_file_that_was_cut_gives_no_bytes() {
    for (road, address, options) in roads() {
        let dir = tempfile::tempdir().unwrap();
        let path = volume(dir.path()).path("dat");
        let fixture = Fixture::new(&address, &options, dir.path());
        assert!(fixture.read(5, None, read::UNCHECKED).body.to_vec() == data(5));
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 2_000_000).unwrap();
        for part in [None, Some((100, 70_000)), Some((0, 1 << 30))] {
            for flags in [0, read::UNCHECKED] {
                let replied = fixture.read(5, part, flags);
                assert!(replied.status < 0 && replied.body.is_empty(), "{road}: {part:?} {flags}");
            }
        }
        assert!(fixture.read(3, None, read::UNCHECKED).body.to_vec() == data(3), "{road}");
        fixture.close();
    }
}
