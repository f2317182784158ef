//! A gigabyte on its way between this process and a peer's, in all directions: for tests that stop it there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdma_engine::engine::buffer::Buffer;
use rdma_engine::engine::handle;
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::{ContextOptions, Mode};
use rdma_engine::engine::request::{Op, Request};
use rdma_engine::engine::session::Session;

use super::process::{Peer, from_hex, hear, say, to_hex};
use super::{Node, drive, status, wait_for};

/// What is moved.
pub const SIZE: u64 = 1 << 30;
/// How much of it has arrived when it counts as under way.
const UNDER_WAY: u64 = 64 << 20;
/// Smaller ones that wait behind the large one.
pub const BEHIND: u64 = 8;
/// User data of the first operation; the others follow.
pub const FIRST: u64 = 100;

const OLD: u8 = 0x5A;
const NEW: u8 = 0xA5;

/// How two processes are connected.
#[derive(Clone, Debug)]
pub struct Road {
    pub name: &'static str,
    pub address: String,
    pub transports: u32,
    pub ways: u32,
    pub keepalive_ms: u64,
}

impl Road {
    pub fn options(&self) -> ContextOptions {
        ContextOptions {
            transports: self.transports,
            ways: self.ways,
            // Room for the gigabyte and little else: messages to us wait for memory.
            memory_limit: SIZE + (96 << 20),
            keepalive: Duration::from_millis(self.keepalive_ms),
            ..ContextOptions::default()
        }
    }

    fn args(&self) -> Vec<String> {
        let numbers = [self.transports.to_string(), self.ways.to_string(), self.keepalive_ms.to_string()];
        [vec![self.address.clone()], numbers.to_vec()].concat()
    }

    fn of(args: &[String]) -> Road {
        let number = |at: usize| args[at].parse::<u64>().unwrap();
        let (address, transports, ways) = (args[0].clone(), number(1) as u32, number(2) as u32);
        Road { name: "", address, transports, ways, keepalive_ms: number(3) }
    }

    /// Starts a process that exports a gigabyte; its address and key.
    pub fn target(&self, entry: &str) -> (Peer, String, Vec<u8>) {
        let mut peer = Peer::start(entry, &role("target", &self.args(), &[]), &[]);
        let (address, key) = (peer.expect("address "), from_hex(&peer.expect("key ")));
        (peer, address, key)
    }

    /// Starts a process that moves our gigabyte.
    pub fn initiator(&self, entry: &str, op: Op, key: &[u8]) -> Peer {
        let (op, key) = ((op as u16).to_string(), to_hex(key));
        Peer::start(entry, &role("initiator", &self.args(), &[&op, &key]), &[])
    }
}

fn role<'a>(name: &'a str, args: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    [&[name][..], &args.iter().map(String::as_str).collect::<Vec<_>>(), more].concat()
}

/// A gigabyte with the same byte everywhere.
fn gigabyte(node: &Node, flags: u32, byte: u8) -> Arc<Buffer> {
    let buffer = node.context.alloc(SIZE, flags).unwrap();
    fill(&buffer, byte);
    buffer
}

pub fn fill(buffer: &Arc<Buffer>, byte: u8) {
    let (whole, chunk) = (buffer.whole().unwrap(), vec![byte; 1 << 20]);
    (0..SIZE).step_by(chunk.len()).for_each(|at| whole.copy_from_slice(at, &chunk).unwrap());
}

/// Whether every byte is the same as this.
pub fn is_all(buffer: &Arc<Buffer>, byte: u8) -> bool {
    let (whole, mut chunk) = (buffer.whole().unwrap(), vec![0; 1 << 20]);
    (0..SIZE).step_by(1 << 20).all(|at| {
        whole.copy_to_slice(at, &mut chunk).unwrap();
        chunk.iter().all(|one| *one == byte)
    })
}

fn is_under_way(buffer: &Arc<Buffer>) -> bool {
    let mut byte = [0];
    buffer.whole().unwrap().copy_to_slice(UNDER_WAY, &mut byte).unwrap();
    byte[0] == NEW
}

/// What a started process does: see [`Road::target`] and [`Road::initiator`].
pub fn play(role: &[String]) {
    let road = Road::of(&role[1..]);
    let mut node = Node::new(&road.options(), Mode::Threaded);
    match role[0].as_str() {
        "target" => {
            let mine = gigabyte(&node, 1, OLD);
            let listener = Listener::open(&node.worker, &road.address, 1).unwrap();
            let key = node.context.export(&mine, 0, SIZE, 3).unwrap();
            say(&format!("address {}", listener.address()));
            say(&format!("key {}", to_hex(&key)));
            if hear() == "watch" {
                wait_for("a put", || is_under_way(&mine));
                say("moving");
                hear();
            }
        }
        _ => {
            let op = if role[5] == "1" { Op::Get } else { Op::Put };
            let mut transfer = Transfer::begin(&mut node, &road.address, &from_hex(&role[6]), op);
            if op == Op::Get {
                transfer.until_under_way(&mut node);
            }
            say("moving");
            hear();
        }
    }
    // Whoever is still here tells how its session ended.
    drive(&mut [&mut node], "the session's end", |n| {
        n[0].kept.iter().any(|c| c.op == Op::SessionClosed as u32)
    });
    let end = node.take(|c| c.op == Op::SessionClosed as u32).unwrap();
    say(&format!("ended {}", status(&end).name()));
    hear();
    node.close();
}

/// One large operation and some behind it, from our side.
pub struct Transfer {
    pub session: Arc<Session>,
    pub buffer: Arc<Buffer>,
}

impl Transfer {
    /// Connects, imports and submits.
    pub fn begin(node: &mut Node, address: &str, key: &[u8], op: Op) -> Transfer {
        let buffer = gigabyte(node, 0, if op == Op::Get { 0 } else { NEW });
        let session = node.dial(address, 1);
        drive(&mut [node], "a session", |n| n[0].answers(1) == 1);
        assert_eq!(node.take(|c| c.user_data == 1).map(|c| c.status), Some(0));
        let import =
            Request { user_data: 2, op: Op::RegionImport as u16, data: key.into(), ..Request::default() };
        node.submit(Request { session: session.id(), ..import });
        drive(&mut [node], "a region", |n| n[0].answers(2) == 1);
        let imported = node.take(|c| c.user_data == 2).unwrap();
        assert_eq!(imported.status, 0, "{imported:?}");
        for i in 0..=BEHIND {
            let length = if i == 0 { SIZE } else { 64 << 20 };
            let request = Request { session: session.id(), region: imported.value, ..Request::default() };
            let (op, buffer) = (op as u16, buffer.id());
            node.submit(Request { user_data: FIRST + i, op, buffer, length, ..request });
        }
        Transfer { session, buffer }
    }

    /// Of a get: until a part of it is here.
    pub fn until_under_way(&mut self, node: &mut Node) {
        drive(&mut [node], "the first part", |_| {
            let mut byte = [0];
            self.buffer.whole().unwrap().copy_to_slice(UNDER_WAY, &mut byte).unwrap();
            byte[0] != 0
        });
    }

    /// Polls until every operation and the session have ended; says when.
    pub fn until_ended(&self, node: &mut Node) -> Instant {
        drive(&mut [node], "every end", |n| {
            let ended = (FIRST..=FIRST + BEHIND).all(|i| n[0].answers(i) > 0);
            ended && n[0].kept.iter().any(|c| c.op == Op::SessionClosed as u32)
        });
        Instant::now()
    }

    /// Takes the ends: each once, good or lost; how many of each.
    pub fn ends(&self, node: &mut Node) -> (usize, usize) {
        let mut found = (0, 0);
        for i in FIRST..=FIRST + BEHIND {
            assert_eq!(node.answers(i), 1, "operation {i} ends once");
            match status(&node.take(|c| c.user_data == i).unwrap()).name() {
                "OK" => found.0 += 1,
                "CONNECTION_LOST" => found.1 += 1,
                other => panic!("operation {i} ended with {other}"),
            }
        }
        let end = node.take(|c| c.op == Op::SessionClosed as u32).unwrap();
        assert_eq!((status(&end).name(), end.value), ("CONNECTION_LOST", self.session.id()));
        assert!(node.kept.is_empty(), "nothing else: {:?}", node.kept);
        assert!(handle::SESSIONS.get(self.session.id()).is_none());
        found
    }
}
