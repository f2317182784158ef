//! Readers that are killed while an exporter writes needles into the memory that they lent: it goes on serving others, and
//! keeps nothing of the dead.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "the writer is shared with the tests of volumes")]

mod common;
#[path = "volume/writer.rs"]
mod writer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use common::process::{Peer, role, say};
use common::{roads, wait_for};
use rdma_engine::engine::buffer::Buffer;
use rdma_engine::engine::context::Context;
use rdma_engine::engine::key::Rights;
use rdma_engine::engine::options::ContextOptions;
use rdma_engine::engine::pool::EXPORTABLE;
use rdma_engine::needles::{Exporter, ExporterOptions, METHOD, METHOD_MEMORY, Place, needle, read};
use rdma_engine::rpc::{Client, ClientOptions, Header, Outgoing, Piece};
use writer::{Format, Put, Writer};
use zerocopy::IntoBytes;

const NEEDLES: u64 = 8;
const LENGTH: u64 = 1 << 20;
const IN_FLIGHT: u64 = 6;
const TIMEOUT: Duration = Duration::from_secs(30);

fn data(id: u64) -> Vec<u8> {
    (0..LENGTH).map(|i| (i * 31 + i / 251 + id) as u8).collect()
}

fn file_id(id: u64) -> String {
    format!("7,{id:02x}{:08x}", id as u32)
}

/// A client whose memory has a place for each read in flight.
struct Lender {
    client: Client,
    context: Arc<Context>,
    memory: Arc<Buffer>,
    number: u64,
    address: String,
}

impl Lender {
    fn new(options: &ContextOptions, address: &str) -> Lender {
        let context = Context::open(options).unwrap();
        let client = Client::open(&context, &ClientOptions::default()).unwrap();
        let memory = context.alloc(IN_FLIGHT * LENGTH, EXPORTABLE).unwrap();
        let rights = Rights::READ | Rights::WRITE;
        let key = context.export(&memory, 0, memory.len() as u64, rights.bits()).unwrap();
        let pieces = &[Piece::bytes(&key)];
        let header = Header::default();
        let lend = Outgoing { method: METHOD_MEMORY, header, pieces, timeout: TIMEOUT, reply: None };
        let number = client.call(address, &lend).unwrap().header.offset;
        Lender { client, context, memory, number, address: address.to_owned() }
    }

    /// Reads needles to the places, `reads` of them, so many at a time; `each` is called after each.
    fn read(&self, reads: u64, mut each: impl FnMut(u64, &[u8])) {
        let mut waiting = VecDeque::new();
        let mut bytes = vec![0; LENGTH as usize];
        for turn in 0..reads + IN_FLIGHT {
            if turn >= IN_FLIGHT {
                let (id, at, ticket): (u64, u64, rdma_engine::rpc::Ticket<'_>) = waiting.pop_front().unwrap();
                let replied = ticket.wait().unwrap();
                assert_eq!((replied.status, replied.header.flags & needle::PLACED), (0, needle::PLACED));
                self.memory.whole().unwrap().copy_to_slice(at, &mut bytes).unwrap();
                each(id, &bytes);
            }
            if turn < reads {
                let (id, at) = (1 + turn % NEEDLES, turn % IN_FLIGHT * LENGTH);
                let place = Place { memory: self.number.into(), offset: at.into(), length: LENGTH.into() };
                let payload = [file_id(id).as_bytes(), place.as_bytes()].concat();
                let pieces = &[Piece::bytes(&payload)];
                let header = Header { flags: read::PLACED | read::UNCHECKED, ..Header::default() };
                let call = Outgoing { method: METHOD, header, pieces, timeout: TIMEOUT, reply: None };
                waiting.push_back((id, at, self.client.start(&self.address, &call).unwrap()));
            }
        }
    }

    fn close(self) {
        self.client.close();
        drop((self.client, self.memory));
        self.context.close().unwrap();
    }
}

/// Not a test: a reader that reads until it is killed.
#[test]
fn reader() {
    let Some(role) = role() else { return };
    let options = roads().swap_remove(0).2;
    let lender = Lender::new(&options, &role[0]);
    let mut told = false;
    lender.read(u64::MAX / 2, |_, _| {
        if !std::mem::replace(&mut told, true) {
            say("reading");
        }
    });
}

/// Descriptors of this process, and mappings of memory files.
fn held() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter(|line| line.contains("memfd:")).count();
    (std::fs::read_dir("/proc/self/fd").unwrap().count(), mapped)
}

#[test]
fn readers_are_killed_while_their_memory_is_written() {
    let mut random = writer::seed("killed readers");
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "7", Format::default());
    for id in 1..=NEEDLES {
        writer.put(&Put { id, cookie: id as u32, data: data(id), append_at_ns: 1, ..Put::default() });
    }
    let (_, address, options) = roads().swap_remove(0);
    let context = Context::open(&options).unwrap();
    let exporter =
        Exporter::open(&context, &address, dir.path().to_owned(), &ExporterOptions::default()).unwrap();
    let survivor = Lender::new(&options, exporter.address());
    let right = |id: u64, bytes: &[u8]| assert!(bytes == data(id), "needle {id}");
    survivor.read(NEEDLES, right);
    let before = held();
    for round in 0..6 {
        let mut peer = Peer::start("reader", &[exporter.address()], &[]);
        peer.expect("reading");
        assert!(held().1 > before.1, "its memory is mapped");
        let goal = exporter.served() + 20 + random.below(200);
        wait_for("reads of the one that is killed", || exporter.served() >= goal);
        let gone = peer.kill();
        survivor.read(3 * NEEDLES, right);
        gone.join().unwrap();
        drop(peer);
        wait_for("the dead one's memory and descriptors to be let go", || held() == before);
        println!("round {round}: killed after {goal} calls");
    }
    survivor.read(NEEDLES, right);
    survivor.close();
    exporter.close();
    drop(exporter);
    context.close().unwrap();
}
