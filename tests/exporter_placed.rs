//! Answers that an exporter puts into memory that its caller lent: the same bytes and verdicts as without, and nothing
//! anywhere else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "the writer is shared with the tests of volumes")]

mod common;
#[path = "volume/writer.rs"]
mod writer;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::exported::{Exported, TIMEOUT};
use common::{roads, wait_for};
use rdma_engine::Status;
use rdma_engine::engine::buffer::Buffer;
use rdma_engine::engine::key::Rights;
use rdma_engine::engine::options::ContextOptions;
use rdma_engine::engine::pool::EXPORTABLE;
use rdma_engine::needles::batch::{self, Builder};
use rdma_engine::needles::{ExporterOptions, METHOD, METHOD_BATCH, METHOD_MEMORY, Place, needle, read};
use rdma_engine::rpc::{Client, ClientOptions, Header, Outgoing, Piece, Replied};
use writer::{Format, Put, Writer};
use zerocopy::IntoBytes;

const ROOM: u64 = 2 << 20;
const MARK: u8 = 0xA5;

struct Fixture {
    exported: Exported,
    memory: Arc<Buffer>,
}

impl Fixture {
    fn new(address: &str, options: &ContextOptions, dir: &Path) -> Fixture {
        let exported = Exported::new(address, options, dir, &ExporterOptions::default());
        let memory = exported.contexts[1].alloc(ROOM, EXPORTABLE).unwrap();
        Fixture { exported, memory }
    }

    fn call(&self, method: u32, payload: &[u8], header: Header) -> Replied {
        self.exported.call(method, payload, header)
    }

    fn lend(&self, key: &[u8]) -> Result<u64, Status> {
        let replied = self.call(METHOD_MEMORY, key, Header::default());
        match Status::from_i32(replied.status).unwrap() {
            Status::Ok => Ok(replied.header.offset),
            status => Err(status),
        }
    }

    fn key(&self, buffer: &Arc<Buffer>, rights: Rights) -> [u8; 64] {
        self.exported.contexts[1].export(buffer, 0, buffer.len() as u64, rights.bits()).unwrap()
    }

    fn lent(&self) -> u64 {
        self.lend(&self.key(&self.memory, both())).unwrap()
    }

    fn plain(&self, file_id: &str, offset: u64, len: u64, flags: u32) -> Replied {
        self.call(METHOD, file_id.as_bytes(), Header { offset, len, flags, reserved: 0 })
    }

    /// The same, to a place; the memory is marked before.
    fn placed(&self, file_id: &str, offset: u64, len: u64, flags: u32, place: &Place) -> Replied {
        self.mark();
        let payload = [file_id.as_bytes(), place.as_bytes()].concat();
        self.call(METHOD, &payload, Header { offset, len, flags: flags | read::PLACED, reserved: 0 })
    }

    fn mark(&self) {
        self.memory.whole().unwrap().copy_from_slice(0, &vec![MARK; ROOM as usize]).unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; ROOM as usize];
        self.memory.whole().unwrap().copy_to_slice(0, &mut bytes).unwrap();
        bytes
    }

    fn untouched(&self) -> bool {
        self.bytes().iter().all(|byte| *byte == MARK)
    }

    fn close(self) {
        let _ = self.exported.contexts[1].release_buffer(&self.memory);
        self.exported.close();
    }
}

fn both() -> Rights {
    Rights::READ | Rights::WRITE
}

fn place(memory: u64, offset: u64, length: u64) -> Place {
    Place { memory: memory.into(), offset: offset.into(), length: length.into() }
}

/// Lengths on both sides of what goes by a core's cache, and of a step.
fn data(id: u64) -> Vec<u8> {
    let length =
        [0, 1, 4096, 65_530, 65_536, 65_537, 200_000, 1 << 20, (1 << 20) + 1, 1_900_000][id as usize % 10];
    (0..length as u64).map(|i| (i * 31 + i / 251 + id) as u8).collect()
}

fn put(id: u64) -> Put {
    Put { id, cookie: id as u32, data: data(id), append_at_ns: 1, ..Put::default() }
}

fn file_id(id: u64) -> String {
    format!("7,{id:02x}{:08x}", id as u32)
}

fn volume(dir: &Path) -> Writer {
    let mut writer = Writer::create(dir, "7", Format::default());
    (1..20).for_each(|id| writer.put(&put(id)));
    writer.put(&Put { flags: 1, ..put(22) });
    writer.put(&Put { flags: 0x80, ..put(23) });
    writer.put(&Put { last_modified: Some(1_700_000_000), ..put(24) });
    writer.delete(5, 5);
    writer
}

fn fixture(dir: &Path) -> Fixture {
    let (_, address, options) = roads().swap_remove(1);
    Fixture::new(&address, &options, dir)
}

#[test]
fn placed_answers_are_those_without_a_place() {
    for (road, address, options) in roads().into_iter().take(2) {
        let dir = tempfile::tempdir().unwrap();
        let _writer = volume(dir.path());
        let fixture = Fixture::new(&address, &options, dir.path());
        let number = fixture.lent();
        let mut reads: Vec<(String, u64, u64, u32)> = Vec::new();
        for id in [1, 2, 3, 4, 5, 6, 7, 8, 10, 22, 23, 24, 99] {
            for flags in [0, read::LIVE, read::STORED, read::STAT] {
                reads.push((file_id(id), 0, 0, flags));
            }
            for (offset, len) in
                [(0, 10), (0, 100_000), (7, 70_000), (65_536, 1 << 30), (0, 1 << 30), (1 << 21, 5)]
            {
                reads.push((file_id(id), offset, len, read::RANGE));
            }
        }
        reads.push(("7,0300000004".into(), 0, 0, 0));
        reads.push(("7,0800000009".into(), 0, 0, 0));
        reads.push(("8,0300000003".into(), 0, 0, 0));
        for (id, offset, len, flags) in &reads {
            for unchecked in [0, read::UNCHECKED] {
                let what = format!("{road}: {id} {offset} {len} {flags} {unchecked}");
                let plain = fixture.plain(id, *offset, *len, *flags);
                let here = place(number, 4096, ROOM - 8192);
                let placed = fixture.placed(id, *offset, *len, flags | unchecked, &here);
                assert_eq!(placed.status, plain.status, "{what}");
                assert!(placed.body.is_empty(), "{what}");
                if plain.status != 0 {
                    assert!(fixture.untouched(), "{what}");
                    continue;
                }
                let (bytes, data) = (fixture.bytes(), plain.body.to_vec());
                assert!(placed.header.flags & needle::PLACED != 0, "{what}");
                assert_eq!(placed.header.offset as u32 as u64, plain.header.offset, "{what}");
                assert_eq!(placed.header.len, plain.header.len, "{what}");
                let own = needle::PLACED | needle::UNCHECKED;
                assert_eq!(placed.header.flags & !own, plain.header.flags, "{what}");
                assert!(bytes[4096..4096 + data.len()] == data, "{what}");
                let around = bytes[..4096].iter().chain(&bytes[4096 + data.len()..]);
                assert!(around.into_iter().all(|byte| *byte == MARK), "{what}");
                let sum = (placed.header.offset >> 32) as u32;
                if placed.header.flags & needle::UNCHECKED != 0 {
                    assert!(unchecked != 0 && data.len() as u64 == plain.header.offset, "{what}");
                    assert!(batch::check(data.len() as u64, sum, &data).is_ok(), "{what}");
                } else {
                    assert_eq!(sum, 0, "{what}");
                }
            }
        }
        fixture.close();
    }
}

#[test]
fn a_batch_at_its_place_is_the_same_answer() {
    let dir = tempfile::tempdir().unwrap();
    let _writer = volume(dir.path());
    let fixture = fixture(dir.path());
    let number = fixture.lent();
    for (room, unchecked) in
        [(ROOM, 0), (ROOM, read::UNCHECKED), (500_000, 0), (70_000, 0), (64, 0), (5000, 0)]
    {
        let mut builder = Builder::new();
        for id in [1, 2, 3, 99, 4, 22, 6, 7, 2, 2, 1] {
            assert!(builder.add(&file_id(id), 0, 0, 0));
        }
        assert!(builder.add("7,0300000004", 0, 0, 0) && builder.add(&file_id(7), 100, 70_000, read::RANGE));
        let header = Header { offset: room, len: builder.len() as u64, ..Header::default() };
        let plain = fixture.call(METHOD_BATCH, &builder.payload(), header);
        fixture.mark();
        let payload = [&builder.payload(), place(number, 64, room - 64).as_bytes()].concat();
        let offset = if room == 64 { 63 } else { room - 64 };
        let header = Header { offset, flags: read::PLACED | unchecked, ..header };
        let placed = fixture.call(METHOD_BATCH, &payload, header);
        if room == 64 {
            assert_eq!(placed.status, Status::InvalidArgument as i32, "no room for a row");
            assert!(fixture.untouched());
            continue;
        }
        assert_eq!((placed.status, placed.body.len()), (0, 0));
        let flags = placed.header.flags;
        assert_eq!(flags, needle::PLACED);
        let bytes = fixture.bytes();
        let end = 64 + placed.header.offset as usize;
        assert!(end <= room as usize && bytes[..64].iter().chain(&bytes[end..]).all(|byte| *byte == MARK));
        let answer = &bytes[64..end];
        let rows = batch::rows(placed.header.len, answer, answer.len() as u64).unwrap();
        let theirs = plain.body.to_vec();
        let theirs_rows = batch::rows(plain.header.len, &theirs, theirs.len() as u64).unwrap();
        assert!(rows.len() >= theirs_rows.len() - 1 && !rows.is_empty(), "{room}: {} rows", rows.len());
        for (row, their) in rows.iter().zip(&theirs_rows) {
            let at = |row: &batch::Row, all: &[u8]| {
                all[row.offset.get() as usize..][..row.length.get() as usize].to_vec()
            };
            assert_eq!((row.status, row.data_length), (their.status, their.data_length), "{room}");
            assert!(at(row, answer) == at(their, &theirs), "{room}");
            if row.flags.get() & needle::UNCHECKED != 0 {
                assert!(unchecked != 0);
                batch::check(row.data_length.get(), row.checksum.get(), &at(row, answer)).unwrap();
            }
        }
    }
    fixture.close();
}

#[test]
fn a_place_that_is_too_short_gets_nothing_and_the_answer_comes_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let _writer = volume(dir.path());
    let fixture = fixture(dir.path());
    let number = fixture.lent();
    for id in [2, 6, 7] {
        let data = data(id);
        let exact = fixture.placed(&file_id(id), 0, 0, 0, &place(number, 9, data.len() as u64));
        assert!(exact.header.flags & needle::PLACED != 0 && fixture.bytes()[9..9 + data.len()] == data);
        let short = fixture.placed(&file_id(id), 0, 0, 0, &place(number, 9, data.len() as u64 - 1));
        assert_eq!((short.status, short.header.flags & needle::PLACED), (0, 0));
        assert!(short.body.to_vec() == data && fixture.untouched(), "needle {id}");
    }
    fixture.close();
}

#[test]
fn what_is_not_lent_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let _writer = volume(dir.path());
    let fixture = fixture(dir.path());
    let good = fixture.key(&fixture.memory, both());
    let private = fixture.exported.contexts[1].alloc(4096, 0).unwrap();
    let read_only = fixture.exported.contexts[1].alloc(4096, EXPORTABLE).unwrap();
    let theirs = fixture.exported.contexts[0].alloc(4096, EXPORTABLE).unwrap();
    let foreign = fixture.exported.contexts[0].export(&theirs, 0, 4096, both().bits()).unwrap();
    let mut forged = good;
    forged[20] ^= 1;
    let sum = crc_fast::crc32_iscsi(&forged[..60]);
    forged[60..].copy_from_slice(&sum.to_le_bytes());
    for (key, status) in [
        (&[7; 64][..], Status::InvalidArgument),
        (&good[..63], Status::InvalidArgument),
        (&forged[..], Status::PermissionDenied),
        (&foreign[..], Status::PermissionDenied),
        (&fixture.key(&private, both())[..], Status::Unsupported),
        (&fixture.key(&read_only, Rights::READ)[..], Status::PermissionDenied),
    ] {
        assert_eq!(fixture.lend(key), Err(status));
    }
    let number = fixture.lend(&good).unwrap();
    let (id, data) = (file_id(7), data(7));
    // A number that nobody gave out: the answer comes as to everyone.
    for other in [0, number + 1, 65, u64::MAX] {
        let replied = fixture.placed(&id, 0, 0, 0, &place(other, 0, ROOM));
        assert!(replied.status == 0 && replied.body.to_vec() == data && fixture.untouched(), "{other}");
    }
    for (offset, length) in [(1, ROOM), (ROOM, 1), (u64::MAX, 2), (0, u64::MAX), (ROOM + 1, 0)] {
        let replied = fixture.placed(&id, 0, 0, 0, &place(number, offset, length));
        assert_eq!(replied.status, Status::OutOfRange as i32, "{offset} {length}");
        assert!(fixture.untouched());
    }
    let cut = Header { flags: read::PLACED, ..Header::default() };
    assert_eq!(fixture.call(METHOD, &[1; 23], cut).status, Status::InvalidArgument as i32);
    // Another session does not see it.
    let other = Client::open(&fixture.exported.contexts[1], &ClientOptions::default()).unwrap();
    let payload = [id.as_bytes(), place(number, 0, ROOM).as_bytes()].concat();
    let call = Outgoing {
        method: METHOD,
        header: cut,
        pieces: &[Piece::bytes(&payload)],
        timeout: TIMEOUT,
        reply: None,
    };
    fixture.mark();
    let replied = other.call(fixture.exported.exporter.address(), &call).unwrap();
    assert!(replied.body.to_vec() == data && fixture.untouched());
    drop(replied);
    other.close();
    // Taken back by its number, and once only.
    let back = Header { offset: number, ..Header::default() };
    assert_eq!(fixture.call(METHOD_MEMORY, &[], back).status, 0);
    assert_eq!(fixture.call(METHOD_MEMORY, &[], back).status, Status::NotFound as i32);
    let replied = fixture.placed(&id, 0, 0, 0, &place(number, 0, ROOM));
    assert!(replied.body.to_vec() == data && fixture.untouched());
    // Lent again, and revoked.
    let number = fixture.lend(&good).unwrap();
    let placed = fixture.placed(&id, 0, 0, 0, &place(number, 0, ROOM));
    assert!(placed.header.flags & needle::PLACED != 0);
    fixture.exported.contexts[1].revoke(&good).unwrap();
    let replied = fixture.placed(&id, 0, 0, 0, &place(number, 0, ROOM));
    assert!(replied.status == 0 && replied.body.to_vec() == data && fixture.untouched());
    assert_eq!(fixture.lend(&good), Err(Status::Revoked));
    for buffer in [private, read_only] {
        fixture.exported.contexts[1].release_buffer(&buffer).unwrap();
    }
    drop(replied);
    drop(placed);
    fixture.close();
}

#[test]
fn memory_that_was_lent_is_bounded_and_goes_with_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let _writer = volume(dir.path());
    let fixture = fixture(dir.path());
    let context = &fixture.exported.contexts[1];
    let buffers: Vec<_> = (0..65).map(|_| context.alloc(4096, EXPORTABLE).unwrap()).collect();
    for (i, buffer) in buffers.iter().enumerate() {
        let expected = if i < 64 { Ok(i as u64 + 1) } else { Err(Status::LimitReached) };
        assert_eq!(fixture.lend(&fixture.key(buffer, both())), expected);
    }
    // A place whose buffer was released is free again.
    context.release_buffer(&buffers[10]).unwrap();
    assert_eq!(fixture.lend(&fixture.key(&buffers[64], both())), Ok(11));
    for (i, buffer) in buffers.iter().enumerate().filter(|(i, _)| *i != 10) {
        context.release_buffer(buffer).unwrap_or_else(|error| panic!("{i}: {error}"));
    }
    drop(buffers);
    assert!(context.info().unwrap().memory_retired > 0, "the exporter has it mapped");
    fixture.exported.client.close();
    wait_for("the exporter to let go", || context.info().unwrap().memory_retired == 0);
    fixture.close();
}

#[test]
fn over_the_network_nothing_is_lent() {
    let (_, address, options) = roads().swap_remove(2);
    let dir = tempfile::tempdir().unwrap();
    let _writer = volume(dir.path());
    let fixture = Fixture::new(&address, &options, dir.path());
    assert_eq!(fixture.lend(&fixture.key(&fixture.memory, both())), Err(Status::Unsupported));
    let replied = fixture.placed(&file_id(7), 0, 0, 0, &place(1, 0, ROOM));
    assert!(replied.body.to_vec() == data(7) && fixture.untouched());
    drop(replied);
    fixture.close();
}

#[test]
fn damaged_data_is_never_said_to_be_good() {
    let dir = tempfile::tempdir().unwrap();
    let writer = volume(dir.path());
    let path = writer.path("dat");
    let mut bytes = fs::read(&path).unwrap();
    for id in [2, 7] {
        let record = data(id);
        let at = bytes.windows(64.min(record.len())).position(|w| w == &record[..w.len()]).unwrap();
        bytes[at + record.len() / 2] ^= 4;
    }
    fs::write(&path, bytes).unwrap();
    let fixture = fixture(dir.path());
    let number = fixture.lent();
    for id in [2, 7] {
        let here = place(number, 0, ROOM);
        assert_eq!(fixture.plain(&file_id(id), 0, 0, 0).status, Status::Corrupted as i32);
        assert_eq!(fixture.placed(&file_id(id), 0, 0, 0, &here).status, Status::Corrupted as i32, "{id}");
        let left = fixture.placed(&file_id(id), 0, 0, read::UNCHECKED, &here);
        assert_eq!(left.status, Status::Corrupted as i32, "{id}");
        assert!(id == 7 || fixture.untouched());
    }
    fixture.close();
}
