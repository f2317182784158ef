//! One thing at a time: what a read answers.

use std::os::unix::fs::FileExt;

use rdma_engine::Status;
use rdma_engine::volume::needle::Flags;
use rdma_engine::volume::{FileId, OpenOptions, ReadOptions, Volume};
use tempfile::tempdir;

use crate::writer::{Format, Put, Writer};

const ID: FileId = FileId { volume: 7, needle: 1, cookie: 0xc0 };
const ALL: ReadOptions = ReadOptions { read_deleted: true, stored: false, now_ns: None, wait: true };

fn put(needle: u64, data: &[u8]) -> Put {
    Put { id: needle, cookie: 0xc0, data: data.to_vec(), append_at_ns: 5, ..Put::default() }
}

fn status<T: std::fmt::Debug>(result: rdma_engine::Result<T>) -> Status {
    result.unwrap_err().status
}

fn read(volume: &Volume, id: FileId) -> rdma_engine::Result<Vec<u8>> {
    let mut buffer = vec![0; 1 << 16];
    let read = volume.read(id, &mut buffer, &ALL)?;
    buffer.truncate(read.length);
    Ok(buffer)
}

#[test]
fn metadata_and_every_buffer_size() {
    let dir = tempdir().unwrap();
    for format in [1, 2, 3].map(|version| Format { version, extra: 16, ..Format::default() }) {
        let mut writer = Writer::create(dir.path(), &format!("c_{}", format.version), format);
        let data: Vec<u8> = (0..3_000).map(|i| (i * 7) as u8).collect();
        let big = vec![b'x'; 60_000];
        let name = Some(b"n".repeat(255));
        writer.put(&Put { name, last_modified: Some(0xff_1234_5678), pairs: Some(big), ..put(1, &data) });
        let volume = Volume::open(dir.path(), "c", format.version.into()).unwrap();
        let id = FileId { volume: format.version.into(), ..ID };
        for length in [0, 1, 19, 20, 21, 2_999, 3_000, 3_001, 3_300, 63_600, 70_000] {
            let mut buffer = vec![0xee; length];
            let result = volume.read(id, &mut buffer, &ALL);
            if length < data.len() {
                assert_eq!(status(result), Status::Truncated, "{length}");
                continue;
            }
            let read = result.unwrap();
            assert_eq!(&buffer[..read.length], data, "{length}");
            if format.version > 1 {
                assert_eq!(read.needle.last_modified, Some(0xff_1234_5678));
                assert_eq!(read.needle.flags, Flags(0x2 | 0x8 | 0x20));
            }
            assert_eq!(read.needle.append_at_ns, if format.version == 3 { 5 } else { 0 });
        }
        let needle = volume.stat(id, &ALL).unwrap();
        assert_eq!((needle.data_length, needle.deleted), (3_000, false));
        assert_eq!(needle.checksum, crate::writer::crc32c(&data));
    }
}

#[test]
fn ranges() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "7", Format::default());
    let data: Vec<u8> = (0..=255).collect();
    writer.put(&put(1, &data));
    writer.put(&put(2, b""));
    let volume = Volume::open(dir.path(), "", 7).unwrap();
    for (offset, length) in
        [(0, 0), (0, 1), (0, 256), (0, 999), (1, 255), (1, 9_999), (100, 7), (255, 1), (255, 0)]
    {
        let mut buffer = vec![0; length];
        let read = volume.read_range(ID, offset, &mut buffer, &ALL).unwrap();
        let expected = &data[offset as usize..(offset as usize + length).min(256)];
        assert_eq!(&buffer[..read.length], expected, "{offset} {length}");
        assert_eq!(read.needle.data_length, 256);
    }
    for offset in [256, 257, u64::from(u32::MAX), u64::MAX] {
        assert_eq!(status(volume.read_range(ID, offset, &mut [0; 9], &ALL)), Status::OutOfRange, "{offset}");
    }
    let empty = FileId { needle: 2, ..ID };
    assert_eq!(volume.read_range(empty, 0, &mut [0; 9], &ALL).unwrap().length, 0);
    assert_eq!(status(volume.read_range(empty, 1, &mut [0; 9], &ALL)), Status::OutOfRange);
}

#[test]
fn verdicts() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "7", Format::default());
    let volume = Volume::open(dir.path(), "", 7).unwrap();
    assert_eq!(status(read(&volume, ID)), Status::NotFound, "an empty index");
    writer.put(&put(1, b"one"));
    assert_eq!(read(&volume, ID).unwrap(), b"one");
    assert_eq!(status(read(&volume, FileId { cookie: 1, ..ID })), Status::CookieMismatch);
    assert_eq!(status(read(&volume, FileId { volume: 8, ..ID })), Status::NotFound);
    assert_eq!(status(read(&volume, FileId { needle: 9, ..ID })), Status::NotFound);
    writer.put(&put(2, b""));
    let empty = FileId { needle: 2, ..ID };
    assert_eq!(read(&volume, empty).unwrap(), b"");
    assert_eq!(
        status(read(&volume, FileId { cookie: 1, ..empty })),
        Status::CookieMismatch,
        "stricter than HTTP"
    );
    writer.delete(1, 0xc0);
    writer.delete(2, 0xc0);
    writer.delete(3, 0xc0);
    let strict = ReadOptions { read_deleted: false, ..ALL };
    for id in [ID, empty] {
        assert_eq!(status(volume.read(id, &mut [0; 9], &strict)), Status::Deleted);
    }
    assert!(volume.read(ID, &mut [0; 9], &ALL).unwrap().needle.deleted);
    assert_eq!(status(read(&volume, empty)), Status::Deleted, "nothing is left of an empty one");
    assert_eq!(read(&volume, ID).unwrap(), b"one");
    assert_eq!(status(read(&volume, FileId { needle: 3, ..ID })), Status::NotFound, "never was");
    writer.delete(1, 0xc0);
    assert_eq!(read(&volume, ID).unwrap(), b"one", "deleted twice");
    writer.append_row(1, 0, -1);
    assert_eq!(read(&volume, ID).unwrap(), b"one", "deleted on a remote tier");
    writer.put(&put(1, b"again"));
    assert_eq!(volume.read(ID, &mut [0; 99], &strict).unwrap().length, 5);
    writer.vacuum();
    assert_eq!(read(&volume, ID).unwrap(), b"again");
    assert_eq!(status(read(&volume, empty)), Status::NotFound, "vacuumed away");
    assert_eq!(volume.info().unwrap().superblock.compaction_revision, 1);
}

#[test]
fn time_to_live() {
    let dir = tempdir().unwrap();
    for version in [2, 3] {
        let mut writer =
            Writer::create(dir.path(), &version.to_string(), Format { version, ..Format::default() });
        let start = 1_700_000_000_000_000_000;
        let short = Put { ttl: Some([2, 1]), append_at_ns: start, ..put(1, b"short") };
        writer.put(&Put { last_modified: Some(9), ..short.clone() });
        writer.put(&Put { id: 2, ..short.clone() });
        writer.put(&Put { id: 3, ttl: Some([0, 0]), last_modified: Some(9), ..short });
        let volume = Volume::open(dir.path(), "", version.into()).unwrap();
        let at = |needle, now| {
            let id = FileId { volume: version.into(), needle, ..ID };
            volume.stat(id, &ReadOptions { now_ns: Some(now), ..ALL }).err().map(|error| error.status)
        };
        let end = start + 120_000_000_000;
        // Version 2 has no append time, so everything with a time to live is over.
        assert_eq!(at(1, end - 1), if version == 2 { Some(Status::Expired) } else { None });
        assert_eq!(at(1, end), Some(Status::Expired));
        assert_eq!(at(2, end), None, "no modification time, no expiry");
        assert_eq!(at(3, end), None, "a time to live of nothing");
    }
}

#[test]
fn compressed_and_manifest() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "7", Format::default());
    writer.put(&Put { flags: 0x01, ..put(1, b"not really gzip") });
    writer.put(&Put { flags: 0x80, ..put(2, b"{}") });
    let volume = Volume::open(dir.path(), "", 7).unwrap();
    let mut buffer = [0; 15];
    let whole = volume.read(ID, &mut buffer, &ALL).unwrap();
    assert!(whole.needle.flags.has(Flags::COMPRESSED));
    assert_eq!(&buffer, b"not really gzip");
    assert_eq!(volume.read_range(ID, 0, &mut [0; 99], &ALL).unwrap().length, 15, "the whole of it");
    assert_eq!(status(volume.read_range(ID, 0, &mut [0; 14], &ALL)), Status::Ineligible);
    assert_eq!(status(volume.read_range(ID, 1, &mut [0; 99], &ALL)), Status::Ineligible);
    let past = volume.read_range(ID, 9_999, &mut [0; 1], &ALL);
    assert_eq!(status(past), Status::Ineligible, "past the stored data, perhaps not past the clear data");
    let stored = ReadOptions { stored: true, ..ALL };
    assert_eq!(status(volume.read_range(ID, 15, &mut buffer, &stored)), Status::OutOfRange);
    assert_eq!(volume.read_range(ID, 4, &mut buffer, &stored).unwrap().length, 11);
    let manifest = FileId { needle: 2, ..ID };
    assert_eq!(status(volume.read(manifest, &mut buffer, &ALL)), Status::Ineligible);
    assert_eq!(volume.read(manifest, &mut buffer, &stored).unwrap().length, 2);
}

#[test]
fn not_eligible_volumes() {
    let dir = tempdir().unwrap();
    let open = || Volume::open(dir.path(), "", 7);
    assert_eq!(status(open()), Status::NotFound);
    let mut writer = Writer::create(dir.path(), "7", Format::default());
    writer.put(&put(1, b"one"));
    let volume = open().unwrap();
    writer.write_vif(r#"{"files":[{"backendType":"s3"}],"version":3}"#);
    assert_eq!(status(open()), Status::Ineligible, "tiered");
    assert_eq!(status(volume.refresh()), Status::Ineligible);
    assert_eq!(status(read(&volume, ID)), Status::Ineligible);
    writer.write_vif(r#"{"version":3,"bytesOffset":4}"#);
    assert_eq!(read(&volume, ID).unwrap(), b"one", "came back");
    std::fs::write(writer.path("ecx"), b"").unwrap();
    assert_eq!(status(open()), Status::Ineligible, "erasure-coded");
    assert_eq!(status(volume.refresh()), Status::Ineligible);
    for bad in ["a/b", "..\0"] {
        assert_eq!(status(Volume::open(dir.path(), bad, 7)), Status::InvalidArgument);
    }
}

#[test]
fn the_whole_chain_without_our_io() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "7", Format { masked: true, ..Format::default() });
    writer.put(&put(1, b"straight into a slab"));
    let volume = Volume::open(dir.path(), "", 7).unwrap();
    let location = volume.locate(ID, &ALL).unwrap();
    let mut slab = vec![0; location.length() as usize];
    let file = std::fs::File::from(location.file().try_clone_to_owned().unwrap());
    file.read_exact_at(&mut slab, location.offset()).unwrap();
    let (needle, range) = location.verify(&slab, &ALL).unwrap();
    assert_eq!(&slab[range.clone()], b"straight into a slab");
    assert_eq!(needle.data_length, 20);
    for cut in 0..slab.len() {
        assert_eq!(status(location.verify(&slab[..cut], &ALL)), Status::Stale, "{cut}");
    }
    for at in range {
        slab[at] ^= 0x10;
        assert_eq!(status(location.verify(&slab, &ALL)), Status::Corrupted, "{at}");
        slab[at] ^= 0x10;
    }
}

#[test]
fn index_elsewhere_and_a_dotted_collection() {
    let (dir, index_dir) = (tempdir().unwrap(), tempdir().unwrap());
    let mut writer = Writer::create(dir.path(), "a", Format::default());
    writer.put(&put(1, b"one"));
    std::fs::rename(writer.path("dat"), dir.path().join("x.y_7.dat")).unwrap();
    std::fs::rename(writer.path("idx"), index_dir.path().join("x.y_7.idx")).unwrap();
    let options = OpenOptions { index_dir: Some(index_dir.path().into()), ..OpenOptions::default() };
    let volume = Volume::open_with(dir.path(), "x.y", 7, options).unwrap();
    assert_eq!(read(&volume, ID).unwrap(), b"one");
}

#[test]
fn sorted_index_of_a_read_only_volume() {
    let dir = tempdir().unwrap();
    for row in [16, 17] {
        let number = row as u32;
        let mut writer = Writer::create(dir.path(), &row.to_string(), Format { row, ..Format::default() });
        for needle in [5, 3, 9, 1] {
            writer.put(&put(needle, &[needle as u8; 9]));
        }
        writer.delete(3, 0xc0);
        writer.write_sdx();
        std::fs::remove_file(writer.path("idx")).unwrap();
        let volume = Volume::open(dir.path(), "", number).unwrap();
        for needle in 0..12 {
            let id = FileId { volume: number, needle, ..ID };
            match needle {
                1 | 5 | 9 => assert_eq!(read(&volume, id).unwrap(), [needle as u8; 9]),
                3 => assert_eq!(status(read(&volume, id)), Status::Deleted),
                _ => assert_eq!(status(read(&volume, id)), Status::NotFound),
            }
        }
    }
}

/// A volume that outgrew 4-byte offsets: the 33rd bit of the offset is missing from the row.
#[test]
fn records_beyond_32_gib() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "7", Format::default());
    writer.put(&put(1, b"below"));
    writer.length = (8 << 32) + 4_096;
    writer.put(&put(2, b"above"));
    let volume = Volume::open(dir.path(), "", 7).unwrap();
    assert_eq!(read(&volume, ID).unwrap(), b"below");
    assert_eq!(read(&volume, FileId { needle: 2, ..ID }).unwrap(), b"above");
    let part = &mut [0; 2];
    assert_eq!(volume.read_range(FileId { needle: 2, ..ID }, 3, part, &ALL).unwrap().length, 2);
    assert_eq!(part, b"ve");
}

#[test]
fn five_byte_offsets_beyond_32_gib() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "7", Format { row: 17, ..Format::default() });
    writer.length = (8 << 32) * 3 + 4_096;
    writer.put(&put(1, b"far"));
    let volume = Volume::open(dir.path(), "", 7).unwrap();
    assert_eq!(read(&volume, ID).unwrap(), b"far");
    assert_eq!(volume.locate(ID, &ALL).unwrap().offset(), (8 << 32) * 3 + 4_096);
}

#[test]
fn width_is_learnt_from_the_records() {
    let dir = tempdir().unwrap();
    for (number, row) in [(1, 16), (2, 17)] {
        let mut writer = Writer::create(dir.path(), &number.to_string(), Format { row, ..Format::default() });
        let volume = Volume::open(dir.path(), "", number).unwrap();
        // Empty files and deletions look alike in both widths.
        writer.put(&put(1, b""));
        let id = FileId { volume: number, ..ID };
        assert_eq!(read(&volume, id).unwrap(), b"", "{row}");
        writer.delete(1, 0xc0);
        writer.put(&put(2, b"two"));
        for volume in [volume, Volume::open(dir.path(), "", number).unwrap()] {
            assert_eq!(read(&volume, FileId { needle: 2, ..id }).unwrap(), b"two", "{row}");
            assert_eq!(status(volume.stat(id, &ALL)), Status::Deleted);
        }
    }
}

/// Read calls of this thread so far; None where the kernel does not count them.
fn read_calls() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("syscr: "))?.parse().ok()
}

#[test]
fn one_system_call_reads_a_needle() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "7", Format::default());
    let lengths = [1, 100, 4_096, 1 << 20];
    for (needle, length) in (1..).zip(lengths) {
        let name = Some(b"name".to_vec());
        writer.put(&Put { name, last_modified: Some(1), ..put(needle, &vec![7; length]) });
    }
    let volume = Volume::open(dir.path(), "", 7).unwrap();
    let Some(before) = read_calls() else { return };
    let own = read_calls().unwrap() - before;
    for (needle, length) in (1..).zip(lengths) {
        // A buffer of just the data's length, and a larger one, into which the tail goes too.
        for room in [length, length + 5, length + 9_000] {
            let mut buffer = vec![0; room];
            let before = read_calls().unwrap();
            let read = volume.read(FileId { needle, ..ID }, &mut buffer, &ALL).unwrap();
            let calls = read_calls().unwrap() - before - own;
            assert_eq!((read.length, calls), (length, 1), "{room}");
            let before = read_calls().unwrap();
            volume.read_range(FileId { needle, ..ID }, 0, &mut buffer, &ALL).unwrap();
            assert_eq!(read_calls().unwrap() - before - own, 1, "{room}");
        }
        if length > 1 {
            let before = read_calls().unwrap();
            volume.read_range(FileId { needle, ..ID }, 1, &mut [0; 50], &ALL).unwrap();
            assert_eq!(read_calls().unwrap() - before - own, 3, "front, tail, data");
        }
    }
}
