//! Sessions, gets, puts, atomics and messages between two contexts, on every road and with both kinds of worker.

mod common;

use common::{Pair, bytes_of, fill_buffer, region, roads};
use rdma_engine::Status;
use rdma_engine::engine::options::Mode;
use rdma_engine::engine::region::Way;
use rdma_engine::engine::request::{COMPLETION_INLINE, Op, REQUEST_VECTORED, Request, Segment};
use zerocopy::IntoBytes;

const MODES: [(Mode, Mode); 3] =
    [(Mode::Polled, Mode::Polled), (Mode::Polled, Mode::Threaded), (Mode::Threaded, Mode::Threaded)];

fn everywhere(test: impl Fn(&str, &mut Pair)) {
    for (client, server) in MODES {
        for (road, address, options) in roads() {
            let name = format!("{road}, client {client:?}, server {server:?}");
            eprintln!("{name}");
            let mut pair = Pair::new(&address, &options, client, server);
            test(&name, &mut pair);
            pair.close();
        }
    }
}

#[test]
fn get_and_put_move_exactly_the_bytes_asked_for() {
    everywhere(|name, pair| {
        let length = 3 << 20;
        let theirs = pair.server.exported(length, |i| (i * 7 + i / 251) as u8);
        let key = pair.server.context.export(&theirs, 0, length, 3).unwrap();
        let handle = pair.import(&key).unwrap();
        assert_eq!(matches!(region(handle).way(), Way::Mapped(_)), !name.starts_with("tcp,"), "{name}");
        let ours = pair.client.context.alloc(length, 0).unwrap();
        for (offset, size) in [(0, 0), (5, 1), (8, 8), (100, 64), (4096, 4096), (77, 200_000), (0, length)] {
            fill_buffer(&ours, |_| 0xEE);
            let get = Request {
                user_data: 1,
                op: Op::Get as u16,
                buffer: ours.id(),
                buffer_offset: 3.min(length - size),
                length: size,
                region: handle,
                region_offset: offset,
                ..Request::default()
            };
            let done = pair.run(get);
            assert_eq!((done.status, done.length), (Status::Ok as i32, size), "{name} get {size}");
            let (mine, source) = (bytes_of(&ours), bytes_of(&theirs));
            let at = 3.min(length - size) as usize;
            let (offset, end) = (offset as usize, at + size as usize);
            assert!(mine[at..end] == source[offset..offset + size as usize], "{name} get {size}");
            assert!(
                mine[..at].iter().chain(&mine[end..]).all(|b| *b == 0xEE),
                "{name} get {size}: only these"
            );
        }
        for (offset, size) in [(0, 0), (5, 1), (8, 8), (1000, 100), (4096, 4096), (77, 200_000), (0, length)]
        {
            let before = bytes_of(&theirs);
            fill_buffer(&ours, |i| (i as u64 ^ size) as u8);
            let put = Request {
                user_data: 2,
                op: Op::Put as u16,
                buffer: ours.id(),
                length: size,
                region: handle,
                region_offset: offset,
                ..Request::default()
            };
            assert_eq!(pair.run(put).status, Status::Ok as i32, "{name} put {size}");
            let flushed = pair.run(Request { user_data: 3, op: Op::Flush as u16, ..Request::default() });
            assert_eq!(flushed.status, Status::Ok as i32);
            let (after, mine) = (bytes_of(&theirs), bytes_of(&ours));
            let (offset, end) = (offset as usize, (offset + size) as usize);
            assert!(after[offset..end] == mine[..size as usize], "{name} put {size}");
            assert!(
                after[..offset] == before[..offset] && after[end..] == before[end..],
                "{name} put {size}: only these"
            );
        }
    });
}

#[test]
fn vectored_get_and_put_scatter_and_gather() {
    everywhere(|name, pair| {
        let theirs = pair.server.exported(1 << 20, |i| (i / 3) as u8);
        let key = pair.server.context.export(&theirs, 0, 1 << 20, 3).unwrap();
        let handle = pair.import(&key).unwrap();
        let ours = pair.client.context.alloc(1 << 20, 0).unwrap();
        fill_buffer(&ours, |_| 1);
        let segments: Vec<Segment> = (0..50)
            .map(|i| Segment { buffer_offset: i * 20_000, region_offset: (49 - i) * 20_000, length: i * 300 })
            .collect();
        let request = |op: Op| Request {
            user_data: 5,
            op: op as u16,
            flags: REQUEST_VECTORED,
            buffer: ours.id(),
            region: handle,
            data: segments.as_bytes().into(),
            ..Request::default()
        };
        let done = pair.run(request(Op::Get));
        assert_eq!((done.status, done.length), (Status::Ok as i32, (0..50).map(|i| i * 300).sum()), "{name}");
        let (mine, source) = (bytes_of(&ours), bytes_of(&theirs));
        for s in &segments {
            let (b, r, l) = (s.buffer_offset as usize, s.region_offset as usize, s.length as usize);
            assert!(mine[b..b + l] == source[r..r + l], "{name}");
            assert!(mine[b + l..b + 20_000].iter().all(|byte| *byte == 1), "{name}");
        }
        fill_buffer(&ours, |i| !(i as u8));
        assert_eq!(pair.run(request(Op::Put)).status, Status::Ok as i32);
        let (mine, after) = (bytes_of(&ours), bytes_of(&theirs));
        for s in &segments {
            let (b, r, l) = (s.buffer_offset as usize, s.region_offset as usize, s.length as usize);
            assert!(after[r..r + l] == mine[b..b + l], "{name}");
        }
    });
}

#[test]
fn atomics_return_the_value_before() {
    everywhere(|name, pair| {
        let theirs = pair.server.exported(4096, |_| 0);
        let key = pair.server.context.export(&theirs, 0, 4096, 7).unwrap();
        let handle = pair.import(&key).unwrap();
        let atomic = |op: Op, operand, compare| Request {
            user_data: 6,
            op: op as u16,
            region: handle,
            region_offset: 64,
            operand,
            compare,
            ..Request::default()
        };
        assert_eq!(pair.run(atomic(Op::FetchAdd, 40, 0)).value, 0, "{name}");
        assert_eq!(pair.run(atomic(Op::FetchAdd, 2, 0)).value, 40);
        assert_eq!(pair.run(atomic(Op::CompareSwap, 99, 41)).value, 42);
        assert_eq!(pair.run(atomic(Op::CompareSwap, 99, 42)).value, 42);
        assert_eq!(bytes_of(&theirs)[64..72], 99u64.to_le_bytes());
        let odd = Request { region_offset: 3, ..atomic(Op::FetchAdd, 1, 0) };
        assert_eq!(pair.run(odd).status, Status::InvalidArgument as i32, "{name}: misaligned");
    });
}

#[test]
fn messages_arrive_once_in_order_and_whole() {
    everywhere(|name, pair| {
        let sizes = [0usize, 1, 24, 25, 64, 65, 136, 137, 200, 5000, 60_000];
        let big = pair.client.context.alloc(2 << 20, 0).unwrap();
        fill_buffer(&big, |i| (i % 253) as u8);
        for round in 0..200u64 {
            let size = sizes[round as usize % sizes.len()];
            let data: Vec<u8> = (0..size).map(|i| (i as u64 + round) as u8).collect();
            let send = Request {
                op: Op::Send as u16,
                user_data: 100 + round,
                data: data.as_slice().into(),
                ..Request::default()
            };
            pair.client.submit(Request { session: pair.session.id(), ..send });
        }
        let whole = Request {
            op: Op::Send as u16,
            user_data: 300,
            buffer: big.id(),
            length: 2 << 20,
            ..Request::default()
        };
        pair.client.submit(Request { session: pair.session.id(), ..whole });
        for round in 0..200u64 {
            let size = sizes[round as usize % sizes.len()];
            let message = pair.wait_server(|c| c.op == Op::Message as u32);
            assert_eq!((message.length, message.user_data), (size as u64, 7), "{name} round {round}");
            let expected: Vec<u8> = (0..size).map(|i| (i as u64 + round) as u8).collect();
            if message.flags & COMPLETION_INLINE != 0 {
                assert!(size <= 24);
                assert_eq!(message.data[..size], expected[..]);
                assert_eq!(message.value, pair.accepted);
            } else {
                let buffer = rdma_engine::engine::handle::BUFFERS.get(message.value).unwrap().arc();
                assert!(bytes_of(&buffer) == expected, "{name} round {round}");
                assert_eq!(message.data[..8], pair.accepted.to_le_bytes());
                pair.server.context.release_buffer(&buffer).unwrap();
            }
        }
        let message = pair.wait_server(|c| c.op == Op::Message as u32);
        let buffer = rdma_engine::engine::handle::BUFFERS.get(message.value).unwrap().arc();
        assert!(bytes_of(&buffer) == bytes_of(&big), "{name}");
        for round in 0..=200u64 {
            assert_eq!(pair.wait_client(|c| c.user_data == 100 + round).status, Status::Ok as i32);
        }
        // The other way, over the accepted end.
        pair.server.submit(Request {
            op: Op::Send as u16,
            user_data: 1,
            session: pair.accepted,
            data: b"back".as_slice().into(),
            ..Request::default()
        });
        let message = pair.wait_client(|c| c.op == Op::Message as u32);
        assert_eq!((message.user_data, &message.data[..4]), (42, b"back".as_slice()), "{name}");
    });
}
