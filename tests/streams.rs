//! Peers over TCP have a stream of the engine's own: order, bytes, ends, and peers without one.

mod common;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Node, PATIENCE, Pair, bytes_of, fill_buffer, with_transports};
use rdma_engine::Status;
use rdma_engine::engine::buffer::Buffer;
use rdma_engine::engine::handle;
use rdma_engine::engine::options::{ContextOptions, Mode, transport};
use rdma_engine::engine::request::{COMPLETION_EVENT, COMPLETION_INLINE, Completion, Op, Request};

const MODES: [(Mode, Mode); 3] =
    [(Mode::Polled, Mode::Polled), (Mode::Polled, Mode::Threaded), (Mode::Threaded, Mode::Threaded)];

/// The same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// One test at a time: one of them counts the ports of the process.
static ALONE: Mutex<()> = Mutex::new(());

fn seed() -> u64 {
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    eprintln!("seed {seed}");
    seed
}

/// Message number `i` of a sender.
fn message(i: u64, random: &mut Random) -> Vec<u8> {
    let length = match random.below(40) {
        0 => 20_000 + random.below(40_000),
        1..=5 => 200 + random.below(4_000),
        6..=12 => 25 + random.below(200),
        _ => random.below(17),
    };
    let mut bytes = i.to_le_bytes().to_vec();
    bytes.extend((0..length).map(|at| (at ^ i) as u8));
    bytes
}

/// One end: what it sends and what it expects.
struct End {
    session: u64,
    sending: Random,
    expecting: Random,
    sent: u64,
    ended: u64,
    came: u64,
}

impl End {
    fn new(session: u64, seeds: [u64; 2]) -> End {
        End { session, sending: Random(seeds[0]), expecting: Random(seeds[1]), sent: 0, ended: 0, came: 0 }
    }

    fn send(&mut self, node: &Node) {
        let bytes = message(self.sent, &mut self.sending);
        node.submit(Request {
            user_data: self.sent,
            op: Op::Send as u16,
            session: self.session,
            data: bytes.as_slice().into(),
            ..Request::default()
        });
        self.sent += 1;
    }

    fn take(&mut self, node: &Node) {
        let mut out = [Completion::default(); 64];
        let taken = node.worker.poll(Some(Duration::ZERO), &mut out).unwrap();
        for c in &out[..taken] {
            assert_eq!(c.status, Status::Ok as i32, "{c:?}");
            if c.op == Op::Message as u32 && c.flags & COMPLETION_EVENT != 0 {
                let expected = message(self.came, &mut self.expecting);
                assert!(came(node, c) == expected, "message {} of {} bytes", self.came, expected.len());
                self.came += 1;
            } else {
                self.ended += 1;
            }
        }
    }
}

fn came(node: &Node, c: &Completion) -> Vec<u8> {
    if c.flags & COMPLETION_INLINE != 0 {
        return c.data[..c.length as usize].to_vec();
    }
    let buffer = handle::BUFFERS.get(c.value).unwrap().arc();
    let bytes = bytes_of(&buffer);
    node.context.release_buffer(&buffer).unwrap();
    bytes
}

fn tcp(streams: bool) -> ContextOptions {
    ContextOptions { streams, ..with_transports(transport::TCP) }
}

#[test]
fn messages_of_every_length_keep_their_order() {
    const MESSAGES: u64 = 2_000;
    let _alone = ALONE.lock().unwrap();
    let seed = seed();
    for address in ["tcp://127.0.0.1:0", "tcp://[::1]:0"] {
        for (client, server) in MODES {
            let pair = Pair::new(address, &tcp(true), client, server);
            let (there, back) = (seed, seed.rotate_left(17) | 1);
            let seeds = [[there, back], [back, there]];
            let mut ends = [End::new(pair.session.id(), seeds[0]), End::new(pair.accepted, seeds[1])];
            let nodes = [&pair.client, &pair.server];
            let mut turns = Random(seed ^ 0x55);
            let until = Instant::now() + PATIENCE;
            while ends.iter().any(|end| end.came < MESSAGES || end.ended < MESSAGES) {
                for (end, node) in ends.iter_mut().zip(nodes) {
                    for _ in 0..turns.below(300) {
                        if end.sent < MESSAGES {
                            end.send(node);
                        }
                    }
                    end.take(node);
                }
                let state = ends.each_ref().map(|end| (end.came, end.ended));
                assert!(Instant::now() < until, "{client:?} {server:?}: {state:?}");
            }
            pair.close();
        }
    }
}

/// Ports of this process that anybody may connect to.
fn open_ports() -> usize {
    let sockets: HashSet<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let listens = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[3] == "0A" && sockets.contains(&format!("socket:[{}]", fields[9]))
    };
    let tables =
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap());
    tables.iter().map(|table| table.lines().skip(1).filter(listens).count()).sum()
}

/// Gets, puts and a flush of seeded places and lengths, checked byte by byte.
fn move_bytes(pair: &mut Pair, random: &mut Random, rounds: u64) {
    const LENGTH: u64 = 4 << 20;
    let exported = pair.server.exported(LENGTH, |at| (at * 7) as u8);
    let key = pair.server.context.export(&exported, 0, LENGTH, 3).unwrap();
    let region = pair.import(&key).unwrap();
    let local: Arc<Buffer> = pair.client.context.alloc(LENGTH, 0).unwrap();
    let mut expected = bytes_of(&exported);
    for round in 0..rounds {
        let most = [64, 5_000, 300_000, LENGTH - 1][random.below(4) as usize];
        let length = 1 + random.below(most);
        let (from, to) = (random.below(LENGTH - length + 1), random.below(LENGTH - length + 1));
        let put = random.below(2) == 0;
        fill_buffer(&local, |at| (at as u64 ^ round) as u8);
        let end = pair.run(Request {
            user_data: round,
            op: if put { Op::Put } else { Op::Get } as u16,
            region,
            region_offset: from,
            buffer: local.id(),
            buffer_offset: to,
            length,
            ..Request::default()
        });
        assert_eq!((end.status, end.length), (Status::Ok as i32, length), "{end:?}");
        let (there, here) = (from as usize..(from + length) as usize, to as usize..(to + length) as usize);
        if put {
            expected[there].copy_from_slice(&bytes_of(&local)[here]);
            assert!(bytes_of(&exported) == expected, "put {round} of {length}");
        } else {
            assert!(bytes_of(&local)[here] == expected[there], "get {round} of {length}");
        }
    }
}

#[test]
fn gets_and_puts_of_every_length_with_streams_and_with_peers_that_have_none() {
    let _alone = ALONE.lock().unwrap();
    let seed = seed();
    let mut random = Random(seed);
    let before = open_ports();
    for (here, there) in [(true, true), (true, false), (false, true), (false, false)] {
        let (client, server) = (Node::new(&tcp(here), Mode::Polled), Node::new(&tcp(there), Mode::Threaded));
        let mut pair = Pair::of(client, server, "tcp://127.0.0.1:0");
        // With streams, nothing listens but what we were asked to listen on; UCX opens ports of its own.
        let ports = open_ports() - before;
        assert_eq!(ports == 1, here && there, "{ports} ports with {here} {there}");
        move_bytes(&mut pair, &mut random, 60);
        pair.close();
    }
}
