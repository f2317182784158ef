//! Peers on one host send short frames by a ring and the others by UCX: order, bytes, ends.

mod common;

use std::time::Instant;

use common::{Node, PATIENCE, Pair, unix_address, with_transports};
use rdma_engine::Status;
use rdma_engine::engine::handle;
use rdma_engine::engine::options::{Mode, transport};
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

/// Message number `i` of a sender: mostly such as go by a ring, some that do not, a few by rendezvous.
fn message(i: u64, random: &mut Random) -> Vec<u8> {
    let length = match random.below(40) {
        0 => 20_000 + random.below(40_000),
        1..=3 => 200 + random.below(4_000),
        4..=9 => 25 + random.below(140),
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
        let send = Request {
            user_data: self.sent,
            op: Op::Send as u16,
            session: self.session,
            data: bytes.as_slice().into(),
            ..Request::default()
        };
        node.submit(send);
        self.sent += 1;
    }

    fn take(&mut self, node: &Node) {
        let mut out = [Completion::default(); 64];
        let taken = node.worker.poll(Some(std::time::Duration::ZERO), &mut out).unwrap();
        for c in &out[..taken] {
            assert_eq!(c.status, Status::Ok as i32, "{c:?}");
            if c.op == Op::Message as u32 && c.flags & COMPLETION_EVENT != 0 {
                let expected = message(self.came, &mut self.expecting);
                assert!(bytes_of(node, c) == expected, "message {} of {} bytes", self.came, expected.len());
                self.came += 1;
            } else {
                self.ended += 1;
            }
        }
    }
}

fn bytes_of(node: &Node, c: &Completion) -> Vec<u8> {
    if c.flags & COMPLETION_INLINE != 0 {
        return c.data[..c.length as usize].to_vec();
    }
    let buffer = handle::BUFFERS.get(c.value).unwrap().arc();
    let mut bytes = vec![0; c.length as usize];
    buffer.whole().unwrap().copy_to_slice(0, &mut bytes).unwrap();
    node.context.release_buffer(&buffer).unwrap();
    bytes
}

#[test]
fn messages_of_every_length_keep_their_order() {
    const MESSAGES: u64 = 3_000;
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    eprintln!("seed {seed}");
    for (client, server) in MODES {
        let options = with_transports(transport::ALL);
        let pair = Pair::new(&unix_address(), &options, client, server);
        let (there, back) = (seed, seed.rotate_left(17) | 1);
        let mut ends = [End::new(pair.session.id(), [there, back]), End::new(pair.accepted, [back, there])];
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
            assert!(Instant::now() < until, "{client:?} {server:?}: {:?}", ends.map(|e| (e.came, e.ended)));
        }
        pair.close();
    }
}

#[test]
fn what_was_sent_before_a_close_arrives_before_it() {
    for (client, server) in MODES {
        for messages in [1, 100, 300] {
            let options = with_transports(transport::ALL);
            let mut pair = Pair::new(&unix_address(), &options, client, server);
            // So that the peer is known to know the session.
            let hello = Request { op: Op::Send as u16, session: pair.accepted, ..Request::default() };
            pair.server.submit(hello);
            pair.wait_client(|c| c.op == Op::Message as u32);
            for i in 0..messages {
                let data = u64::to_le_bytes(i);
                pair.client.submit(Request {
                    user_data: 1,
                    op: Op::Send as u16,
                    session: pair.session.id(),
                    data: data.as_slice().into(),
                    ..Request::default()
                });
            }
            assert_eq!(pair.session.close(9), Status::Ok);
            pair.wait_client(|c| c.op == Op::SessionClosed as u32 && c.user_data == 9);
            let gone = pair.client.kept.iter().filter(|c| c.user_data == 1 && c.status == 0).count();
            let end = pair.wait_server(|c| c.op == Op::SessionClosed as u32);
            assert_eq!(end.status, Status::Ok as i32);
            let came: Vec<u64> =
                pair.server.kept.iter().filter(|c| c.op == Op::Message as u32).map(number).collect();
            // What waited for the window was canceled and did not leave; one that UCX had not ended may have.
            let name = format!("{client:?} {server:?} {messages}: {gone} {came:?}");
            assert!(came.iter().copied().eq(0..came.len() as u64) && came.len() >= gone, "{name}");
            pair.close();
        }
    }
}

fn number(c: &Completion) -> u64 {
    u64::from_le_bytes(c.data[..8].try_into().unwrap())
}
