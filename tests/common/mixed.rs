//! Messages of seeded, mixed lengths both ways over one session: their order and their bytes.

use super::{Node, PATIENCE, Pair, bytes_of};
use rdma_engine::Status;
use rdma_engine::engine::handle;
use rdma_engine::engine::options::Mode;
use rdma_engine::engine::request::{COMPLETION_EVENT, COMPLETION_INLINE, Completion, Op, Request};
use std::time::{Duration, Instant};

pub const MODES: [(Mode, Mode); 3] =
    [(Mode::Polled, Mode::Polled), (Mode::Polled, Mode::Threaded), (Mode::Threaded, Mode::Threaded)];

/// The same numbers for the same seed, everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A new seed, printed.
pub fn seed() -> u64 {
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    eprintln!("seed {seed}");
    seed
}

/// Message number `i` of a sender: mostly such as a short frame carries, some longer, a few much longer.
fn message(i: u64, random: &mut Random) -> Vec<u8> {
    let length = match random.below(40) {
        0 => 20_000 + random.below(40_000),
        1..=4 => 200 + random.below(4_000),
        5..=11 => 25 + random.below(200),
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

/// The bytes of a message that came; its memory is given back.
pub fn came(node: &Node, c: &Completion) -> Vec<u8> {
    if c.flags & COMPLETION_INLINE != 0 {
        return c.data[..c.length as usize].to_vec();
    }
    let buffer = handle::BUFFERS.get(c.value).unwrap().arc();
    let bytes = bytes_of(&buffer);
    node.context.release_buffer(&buffer).unwrap();
    bytes
}

/// Exchanges `count` messages each way in bursts of seeded lengths, and sees that each arrives once, whole and in order.
pub fn exchange(pair: &Pair, seed: u64, count: u64) {
    let (there, back) = (seed, seed.rotate_left(17) | 1);
    let mut ends = [End::new(pair.session.id(), [there, back]), End::new(pair.accepted, [back, there])];
    let nodes = [&pair.client, &pair.server];
    let mut turns = Random(seed ^ 0x55);
    let until = Instant::now() + PATIENCE;
    while ends.iter().any(|end| end.came < count || end.ended < count) {
        for (end, node) in ends.iter_mut().zip(nodes) {
            for _ in 0..turns.below(300) {
                if end.sent < count {
                    end.send(node);
                }
            }
            end.take(node);
        }
        let state = ends.each_ref().map(|end| (end.came, end.ended));
        assert!(Instant::now() < until, "{state:?}");
    }
}
