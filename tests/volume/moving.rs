//! What happens to the files while they are read.

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rdma_engine::Status;
use rdma_engine::volume::{FileId, OpenOptions, ReadOptions, Volume};
use tempfile::tempdir;

use crate::writer::{Format, Put, Random, Writer, row, seed};

const ALL: ReadOptions = ReadOptions { read_deleted: true, stored: false, now_ns: None, wait: true };

fn id(needle: u64) -> FileId {
    FileId { volume: 1, needle, cookie: needle as u32 }
}

/// Content that tells which version of which needle it is, in every byte.
fn put(needle: u64, version: u64) -> Put {
    let length = 16 + Random(needle * 1_000_003 + version).below(9_000) as usize;
    let mut data = needle.to_be_bytes().to_vec();
    data.extend_from_slice(&version.to_be_bytes());
    data.extend(Random(needle ^ version << 32).bytes(length - 16));
    Put { id: needle, cookie: needle as u32, data, append_at_ns: 1, ..Put::default() }
}

fn version_of(data: &[u8], needle: u64) -> u64 {
    let version = u64::from_be_bytes(data[8..16].try_into().unwrap());
    assert_eq!(data, put(needle, version).data, "needle {needle} has the bytes of one of its versions");
    version
}

/// Reads needles as they are acknowledged, until told to stop: each must be there, as new as it was acknowledged.
fn follow(volume: &Volume, acknowledged: &[AtomicU64], stop: &AtomicBool, mut random: Random) -> u64 {
    let mut buffer = vec![0; 10_000];
    let mut reads = 0;
    while !stop.load(Ordering::Acquire) {
        let needle = random.below(acknowledged.len() as u64);
        let least = acknowledged[needle as usize].load(Ordering::Acquire);
        if least == 0 {
            continue;
        }
        let read = volume.read(id(needle), &mut buffer, &ALL).unwrap();
        assert!(version_of(&buffer[..read.length], needle) >= least);
        reads += 1;
    }
    reads
}

fn grow_under_readers(row: usize, vacuums: bool) {
    let mut random = seed("grow_under_readers");
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "1", Format { row, ..Format::default() });
    let volume = Volume::open(dir.path(), "", 1).unwrap();
    let acknowledged: Vec<AtomicU64> = (0..600).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|seed| {
                let (volume, acknowledged, stop) = (&volume, &acknowledged, &stop);
                scope.spawn(move || follow(volume, acknowledged, stop, Random(seed)))
            })
            .collect();
        for version in 1..=4_000_u64 {
            let needle = random.below(600);
            writer.put(&put(needle, version));
            acknowledged[needle as usize].store(version, Ordering::Release);
            if version % 5 == 0 {
                // Read your own writes at once, from the thread that made them.
                let mut buffer = vec![0; 10_000];
                let read = volume.read(id(needle), &mut buffer, &ALL).unwrap();
                assert_eq!(version_of(&buffer[..read.length], needle), version);
            }
            if vacuums && version % 250 == 0 {
                writer.vacuum();
            }
        }
        stop.store(true, Ordering::Release);
        let reads: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        println!("{reads} reads, generation {}", volume.info().unwrap().generation);
    });
    volume.refresh().unwrap();
    assert_eq!(volume.info().unwrap().generation > 1, vacuums);
}

#[test]
fn growth_under_readers() {
    grow_under_readers(16, false);
    grow_under_readers(17, false);
}

#[test]
fn vacuums_under_readers() {
    grow_under_readers(16, true);
    grow_under_readers(17, true);
}

fn read(volume: &Volume, needle: u64) -> Result<Vec<u8>, Status> {
    let mut buffer = vec![0; 10_000];
    let read = volume.read(id(needle), &mut buffer, &ALL).map_err(|error| error.status)?;
    buffer.truncate(read.length);
    Ok(buffer)
}

/// Each moment of a vacuum: an open reader, one that opens then, and the exporter that held a location over it.
#[test]
fn every_moment_of_a_vacuum() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "1", Format::default());
    for needle in 1..=20 {
        writer.put(&put(needle, 1));
        writer.put(&put(needle, 2));
    }
    writer.delete(7, 7);
    let volume = Volume::open(dir.path(), "", 1).unwrap();
    let held = volume.locate(id(3), &ALL).unwrap();
    let all = |volume: &Volume, except: u64| {
        for needle in (1..=20).filter(|needle| *needle != except) {
            assert_eq!(read(volume, needle).as_deref(), Ok(&put(needle, 2).data[..]), "{needle}");
        }
    };
    all(&volume, 0);
    writer.vacuum_prepare();
    volume.refresh().unwrap();
    all(&volume, 0);
    writer.vacuum_commit_dat();
    // The new .dat with the old .idx: who has both old files open goes on with them.
    volume.refresh().unwrap();
    all(&volume, 0);
    // Who opens now cannot read rightly, and must not read wrongly.
    let between = Volume::open(dir.path(), "", 1).unwrap();
    for needle in 1..=20 {
        match read(&between, needle) {
            Ok(data) => assert_eq!(data, put(needle, 2).data),
            Err(status) => assert_eq!(status, Status::Stale, "{needle}"),
        }
    }
    writer.vacuum_commit_idx();
    all(&volume, 7);
    all(&between, 7);
    assert_eq!(read(&volume, 7), Err(Status::NotFound));
    assert_eq!(volume.info().unwrap().generation, 2);
    // The held location reads its old file still, and says which generation it is of.
    let mut buffer = vec![0; 10_000];
    let length = held.read(&mut buffer, &ALL).unwrap().length;
    assert_eq!(buffer[..length], put(3, 2).data);
    assert_eq!(held.generation(), 1);
}

#[test]
fn gone_and_back() {
    let (dir, elsewhere) = (tempdir().unwrap(), tempdir().unwrap());
    let mut writer = Writer::create(dir.path(), "1", Format::default());
    writer.put(&put(1, 1));
    let volume = Volume::open(dir.path(), "", 1).unwrap();
    let moved = |from: &std::path::Path, to: &std::path::Path| {
        for name in ["1.dat", "1.idx"] {
            fs::rename(from.join(name), to.join(name)).unwrap();
        }
    };
    moved(dir.path(), elsewhere.path());
    assert_eq!(volume.refresh().unwrap_err().status, Status::NotFound);
    assert_eq!(read(&volume, 1), Err(Status::NotFound));
    assert_eq!(volume.info(), None, "no file is held open");
    moved(elsewhere.path(), dir.path());
    assert_eq!(read(&volume, 1).unwrap(), put(1, 1).data);
    // Deleted and made anew under the same number.
    for extension in ["dat", "idx"] {
        fs::remove_file(writer.path(extension)).unwrap();
    }
    let mut writer = Writer::create(dir.path(), "1", Format::default());
    writer.put(&put(2, 1));
    assert_eq!(read(&volume, 1), Err(Status::NotFound));
    assert_eq!(read(&volume, 2).unwrap(), put(2, 1).data);
}

#[test]
fn reload_can_be_left_to_another_thread() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "1", Format::default());
    writer.put(&put(1, 1));
    let options = OpenOptions { reload_on_read: false, ..OpenOptions::default() };
    let volume = Volume::open_with(dir.path(), "", 1, options).unwrap();
    writer.vacuum();
    assert_eq!(read(&volume, 1), Err(Status::Busy));
    volume.refresh().unwrap();
    assert_eq!(read(&volume, 1).unwrap(), put(1, 1).data);
}

/// Another name for a file, as a backup makes, is no vacuum.
#[test]
fn hard_links_do_not_confuse() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "1", Format::default());
    writer.put(&put(1, 1));
    let volume = Volume::open(dir.path(), "", 1).unwrap();
    fs::hard_link(writer.path("idx"), dir.path().join("backup")).unwrap();
    writer.put(&put(1, 2));
    assert_eq!(read(&volume, 1).unwrap(), put(1, 2).data);
    assert_eq!(volume.info().unwrap().generation, 1);
    writer.vacuum();
    assert_eq!(read(&volume, 1).unwrap(), put(1, 2).data);
    assert_eq!(volume.info().unwrap().generation, 2);
}

#[test]
fn rows_without_records_and_half_rows() {
    let dir = tempdir().unwrap();
    for width in [16, 17] {
        let mut writer =
            Writer::create(dir.path(), &format!("w{width}_1"), Format { row: width, ..Format::default() });
        writer.put(&put(1, 1));
        let volume = Volume::open(dir.path(), &format!("w{width}"), 1).unwrap();
        // A row ahead of its record.
        let next = put(2, 1);
        let (offset, size) = (writer.length, crate::writer::record(writer.format, &next).0);
        writer.append_row(2, offset, size);
        assert_eq!(read(&volume, 2), Err(Status::Stale));
        let dat = fs::OpenOptions::new().write(true).open(writer.path("dat")).unwrap();
        dat.set_len(offset + 8_000).unwrap();
        assert_eq!(read(&volume, 2), Err(Status::Stale), "a hole");
        assert_eq!(writer.append(&next).0, offset);
        assert_eq!(read(&volume, 2).unwrap(), next.data);
        // A row that comes in two pieces.
        let (offset, size) = writer.append(&put(3, 1));
        let bytes = row(width, 3, offset, size);
        let mut idx = fs::OpenOptions::new().append(true).open(writer.path("idx")).unwrap();
        for byte in &bytes[..width - 1] {
            idx.write_all(&[*byte]).unwrap();
            assert_eq!(read(&volume, 3), Err(Status::NotFound));
        }
        let half = Volume::open(dir.path(), &format!("w{width}"), 1).unwrap();
        idx.write_all(&bytes[width - 1..]).unwrap();
        for volume in [&volume, &half] {
            assert_eq!(read(volume, 3).unwrap(), put(3, 1).data);
        }
        assert_eq!(volume.info().unwrap().generation, 1);
        // Cut off: the row went, and so did its needle.
        idx.set_len(3 * width as u64 - 1).unwrap();
        assert_eq!(read(&volume, 3), Err(Status::NotFound));
        assert_eq!(read(&volume, 2).unwrap(), next.data);
        assert_eq!(volume.info().unwrap().generation, 2);
    }
}

#[test]
fn an_index_written_anew_in_place() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "1", Format::default());
    writer.put(&put(1, 1));
    writer.put(&put(2, 1));
    let volume = Volume::open(dir.path(), "", 1).unwrap();
    assert_eq!(read(&volume, 2).unwrap(), put(2, 1).data);
    let (offset, size) = writer.append(&put(3, 1));
    let rows: Vec<u8> = (3..9).flat_map(|needle| row(16, needle, offset, size)).collect();
    // Longer than before, without having been shorter when anybody looked.
    fs::write(writer.path("idx"), rows).unwrap();
    assert_eq!(read(&volume, 3).unwrap(), put(3, 1).data);
    assert_eq!(read(&volume, 1), Err(Status::NotFound));
}

#[test]
fn a_flipped_bit_is_corrupted() {
    let dir = tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "1", Format::default());
    writer.put(&put(1, 1));
    let volume = Volume::open(dir.path(), "", 1).unwrap();
    let mut bytes = fs::read(writer.path("dat")).unwrap();
    for at in [8 + 8, 8 + 14, 8 + 17, 8 + 20, 8 + 30] {
        bytes[at] ^= 4;
        fs::write(writer.path("dat"), &bytes).unwrap();
        assert_eq!(read(&volume, 1), Err(Status::Corrupted), "{at}");
        bytes[at] ^= 4;
    }
    fs::write(writer.path("dat"), &bytes).unwrap();
    assert_eq!(read(&volume, 1).unwrap(), put(1, 1).data);
}
