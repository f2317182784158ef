//! Calls between two contexts, on every road and with both kinds of worker: bytes, headers, places of the reply, and one
//! answer for each, whatever becomes of it.

mod common;

use common::calls::{ECHO, call, call_with, header_of, pair, payload_of, received, serve};
use common::{Pair, bytes_of, drive, fill_buffer, roads, status, wait_for};
use rdma_engine::Status;
use rdma_engine::crc32c;
use rdma_engine::engine::bytes::Bytes;
use rdma_engine::engine::call::{CALLS, Call, Header, Piece, Reply};
use rdma_engine::engine::options::Mode;
use rdma_engine::engine::request::{
    COMPLETION_CHECKSUM, COMPLETION_INLINE, Completion, Op, REQUEST_CHECKSUM, Request,
};
use std::time::Duration;

const MODES: [(Mode, Mode); 3] =
    [(Mode::Polled, Mode::Polled), (Mode::Polled, Mode::Threaded), (Mode::Threaded, Mode::Threaded)];

const HEADER: Header = Header { offset: 1 << 40, len: 77, flags: 5, reserved: 0 };
const PLUS_ONE: Header = Header { offset: (1 << 40) + 1, len: 78, flags: 6, reserved: 0 };

fn everywhere(test: impl Fn(&str, &mut Pair)) {
    for (client, server) in MODES {
        for (road, address, options) in roads() {
            let name = format!("{road}, client {client:?}, server {server:?}");
            eprintln!("{name}");
            let mut pair = pair(&address, &options, client, server);
            test(&name, &mut pair);
            pair.close();
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 255 + length) as u8).collect()
}

#[test]
fn every_length_arrives_and_comes_back() {
    everywhere(|name, pair| {
        for length in [0, 1, 8, 24, 25, 64, 65, 112, 113, 192, 193, 4096, 65_536] {
            let bytes = pattern(length);
            for header in [Header::default(), HEADER] {
                let request = Request::call(0, ECHO, &header, bytes.as_slice().into());
                let done = call(pair, Request { user_data: 5, ..request });
                assert_eq!((done.length, done.detail), (length as u64, ECHO as i32), "{name} {length}");
                let inline = header.is_zero() && (1..=24).contains(&length);
                assert_eq!(done.flags & COMPLETION_INLINE != 0, inline, "{name} {length}");
                if !inline {
                    let expected = if header.is_zero() { header } else { PLUS_ONE };
                    assert_eq!(header_of(&done), expected, "{name} {length}");
                }
                assert!(payload_of(&pair.client, &done) == bytes, "{name} {length}");
            }
        }
        let counters = pair.client.context.stats().counters;
        assert_eq!((counters.calls, counters.late_replies), (26, 0));
        assert_eq!(pair.server.context.stats().counters.calls_answered, 26);
    });
}

#[test]
fn pieces_of_buffers_and_bytes_arrive_in_order_and_replies_land_where_they_should() {
    everywhere(|name, pair| {
        let size = 3 << 20;
        let ours = pair.client.context.alloc(size, 0).unwrap();
        fill_buffer(&ours, |i| (i * 7 + i / 251) as u8);
        let source = bytes_of(&ours);
        let reply = pair.client.context.alloc(size + 100, 0).unwrap();
        let cuts = [(0, 10), (3, 50), (4096, 300_000), (100_000, 1 << 20)];
        for ((first, second), flags) in cuts.iter().flat_map(|cut| [(*cut, 0), (*cut, REQUEST_CHECKSUM)]) {
            fill_buffer(&reply, |_| 0xEE);
            let pieces = [
                Piece::bytes(b"path"),
                Piece::buffer(ours.id(), 17, first),
                Piece::bytes(&[]),
                Piece::buffer(ours.id(), 1 << 20, second),
                Piece::bytes(b"end"),
            ];
            let expected =
                [b"path", &source[17..17 + first], &source[1 << 20..(1 << 20) + second], b"end"].concat();
            let request = Request {
                user_data: 6,
                flags,
                buffer: reply.id(),
                buffer_offset: 50,
                length: size,
                ..Request::call(0, ECHO, &HEADER, Bytes::pieces(&pieces))
            };
            let done = call(pair, request);
            // A stream counts what is long and comes beside its frame.
            let counted = flags != 0 && name.starts_with("tcp,") && second >= 300_000;
            let sum = if counted { crc32c::crc(&expected) } else { 0 };
            let end = (done.length, done.value, done.flags & COMPLETION_CHECKSUM != 0);
            assert_eq!(end, (expected.len() as u64, sum.into(), counted), "{name} {first} {second}");
            assert_eq!(header_of(&done), PLUS_ONE);
            let landed = bytes_of(&reply);
            let end = 50 + expected.len();
            assert!(landed[50..end] == expected, "{name} {first} {second}");
            assert!(landed[..50].iter().chain(&landed[end..]).all(|b| *b == 0xEE), "{name}: only these");
        }
        // One byte too few.
        let request = Request {
            user_data: 7,
            buffer: reply.id(),
            length: 9,
            ..Request::call(0, ECHO, &HEADER, b"ten bytes!".as_slice().into())
        };
        let done = call_with(pair, request, common::calls::echo);
        assert_eq!((status(&done), done.length), (Status::Truncated, 10), "{name}");
        pair.client.context.release_buffer(&ours).unwrap();
        pair.client.context.release_buffer(&reply).unwrap();
    });
    wait_for("no call is left", || CALLS.is_empty());
}

#[test]
fn sixteen_mebibytes_go_and_come_and_leave_no_memory_behind() {
    for (road, address, options) in roads() {
        let mut pair = pair(&address, &options, Mode::Polled, Mode::Polled);
        let size = options.max_message as usize;
        let ours = pair.client.context.alloc(size as u64, 0).unwrap();
        fill_buffer(&ours, |i| (i ^ i >> 9) as u8);
        let bytes = bytes_of(&ours);
        for _ in 0..3 {
            let pieces = [Piece::buffer(ours.id(), 0, size)];
            let request = Request { user_data: 1, ..Request::call(0, ECHO, &HEADER, Bytes::pieces(&pieces)) };
            let done = call(&mut pair, request);
            assert!(payload_of(&pair.client, &done) == bytes, "{road}");
        }
        let more = [Piece::buffer(ours.id(), 0, size), Piece::bytes(b"x")];
        let request = Request::call(pair.session.id(), ECHO, &HEADER, Bytes::pieces(&more));
        assert_eq!(pair.client.worker.submit(&[request]), (0, Status::OutOfRange));
        let spare = |used: u64| used <= 20 << 20;
        drive(&mut [&mut pair.client, &mut pair.server], "the server's memory is free", |nodes| {
            spare(nodes[1].context.info().unwrap().memory_used)
        });
        pair.close();
    }
}

#[test]
fn answers_come_from_any_thread_in_any_order_and_from_either_end() {
    everywhere(|name, pair| {
        const CALLS: u64 = 200;
        for i in 0..CALLS {
            let bytes = i.to_le_bytes();
            let request = Request::call(pair.session.id(), i as u32, &HEADER, bytes.as_slice().into());
            pair.client.submit(Request { user_data: 1000 + i, ..request });
        }
        let mut calls = Vec::new();
        drive(&mut [&mut pair.client, &mut pair.server], "every call", |nodes| {
            serve(nodes[1], |call| calls.push(call));
            calls.len() as u64 == CALLS
        });
        // Backwards, half of them from another thread.
        let other = calls.split_off(calls.len() / 2);
        let thread = std::thread::spawn(move || other.into_iter().rev().for_each(common::calls::echo));
        calls.into_iter().rev().for_each(common::calls::echo);
        drive(&mut [&mut pair.client, &mut pair.server], "every answer", |nodes| {
            (0..CALLS).all(|i| nodes[0].answers(1000 + i) == 1)
        });
        thread.join().unwrap();
        for i in 0..CALLS {
            let done = pair.client.take(|c| c.user_data == 1000 + i).unwrap();
            assert_eq!((done.detail, header_of(&done)), (i as i32, PLUS_ONE), "{name} {i}");
            assert_eq!(payload_of(&pair.client, &done), i.to_le_bytes(), "{name} {i}");
        }
        assert!(pair.client.kept.is_empty() && pair.server.kept.is_empty());
        // The other way round, over the same session.
        let request = Request::call(pair.accepted, 9, &HEADER, b"back".as_slice().into());
        pair.server.submit(Request { user_data: 1, ..request });
        drive(&mut [&mut pair.client, &mut pair.server], "the answer of the dialler", |nodes| {
            serve(nodes[0], common::calls::echo);
            nodes[1].answers(1) == 1
        });
        let done = pair.server.take(|c| c.user_data == 1).unwrap();
        assert_eq!((status(&done), done.detail), (Status::Ok, 9));
        assert_eq!(payload_of(&pair.server, &done), b"back");
    });
}

#[test]
fn one_way_calls_arrive_and_nobody_answers() {
    everywhere(|name, pair| {
        for (i, length) in [0, 8, 300, 200_000].into_iter().enumerate() {
            let ours = pair.client.context.alloc(length.max(1) as u64, 0).unwrap();
            fill_buffer(&ours, |i| i as u8);
            let pieces = [Piece::buffer(ours.id(), 0, length)];
            let request = Request::call(0, 3, &HEADER, Bytes::pieces(&pieces));
            let op = Op::OneWay as u16;
            pair.client.submit(Request { user_data: 1, op, session: pair.session.id(), ..request });
            let mut calls = Vec::new();
            drive(&mut [&mut pair.client, &mut pair.server], "a one-way call", |nodes| {
                serve(nodes[1], |call| calls.push(call));
                !calls.is_empty() && nodes[0].answers(1) == 1
            });
            let done = pair.client.take(|c| c.user_data == 1).unwrap();
            assert_eq!((status(&done), done.op, done.length), (Status::Ok, Op::OneWay as u32, length as u64));
            let call = calls.pop().unwrap();
            assert!(call.is_one_way() && call.to_vec() == bytes_of(&ours)[..length], "{name} {length}");
            // Answered or not: nothing comes of it.
            if i % 2 == 0 {
                common::calls::echo(call)
            } else {
                drop(call)
            }
            pair.client.context.release_buffer(&ours).unwrap();
        }
        call(pair, Request { user_data: 2, ..Request::call(0, ECHO, &HEADER, Bytes::default()) });
        assert!(pair.client.kept.is_empty(), "{name}: {:?}", pair.client.kept);
        assert_eq!(pair.client.context.stats().counters.late_replies, 0);
    });
}

#[test]
fn one_way_calls_are_heard_before_the_end_of_their_session() {
    everywhere(|name, pair| {
        for i in 0..5 {
            let request = Request::call(pair.session.id(), i, &HEADER, b"farewell".as_slice().into());
            pair.client.submit(Request { user_data: 1, op: Op::OneWay as u16, ..request });
        }
        assert_eq!(pair.session.close(50), Status::Ok);
        pair.wait_client(|c| c.user_data == 50);
        let mut heard = Vec::new();
        drive(&mut [&mut pair.client, &mut pair.server], "the end", |nodes| {
            serve(nodes[1], |call| heard.push(call.method()));
            nodes[1].kept.iter().any(|c| c.op == Op::SessionClosed as u32)
        });
        heard.sort_unstable();
        assert_eq!(heard, [0, 1, 2, 3, 4], "{name}");
        pair.server.kept.clear();
    });
}

#[test]
fn what_is_wrong_with_a_call_is_said_before_it_goes() {
    let (_, address, options) = roads().swap_remove(0);
    let mut pair = pair(&address, &options, Mode::Polled, Mode::Polled);
    let session = pair.session.id();
    let submit = |request: Request<'_>| pair.client.worker.submit(&[Request { session, ..request }]);
    let good = Request::call(session, 1, &HEADER, Bytes::default());
    let long = vec![0; (64 << 10) + 1];
    let (halves, many) = (long.split_at(40_000), vec![Piece::bytes(b"x"); 65]);
    let two = [Piece::bytes(halves.0), Piece::bytes(halves.1)];
    let one_way = Op::OneWay as u16;
    for (what, bad, status) in [
        ("flags", Request { flags: 1, ..good }, Status::InvalidArgument),
        ("a checksum without a buffer", Request { flags: REQUEST_CHECKSUM, ..good }, Status::InvalidArgument),
        ("a place without a buffer", Request { length: 1, ..good }, Status::InvalidArgument),
        ("copied bytes", Request { data: long.as_slice().into(), ..good }, Status::InvalidArgument),
        ("copied pieces", Request { data: Bytes::pieces(&two), ..good }, Status::InvalidArgument),
        ("pieces", Request { data: Bytes::pieces(&many), ..good }, Status::InvalidArgument),
        ("an unknown flag of a call", Request { region: 2 << 48, ..good }, Status::InvalidArgument),
        ("a slot without its flag", Request { region: 1 << 32, ..good }, Status::InvalidArgument),
        ("a buffer that is none", Request { buffer: 77, ..good }, Status::StaleHandle),
        ("a one-way call's reply", Request { op: one_way, buffer: 77, ..good }, Status::StaleHandle),
    ] {
        assert_eq!(submit(bad), (0, status), "{what}");
    }
    let piece = [Piece::buffer(77, 0, 8)];
    assert_eq!(submit(Request { data: Bytes::pieces(&piece), ..good }), (0, Status::StaleHandle));
    let done = call(&mut pair, Request { user_data: 3, ..good });
    assert_eq!(header_of(&done), PLUS_ONE);
    pair.close();
}

/// Calls, and takes what the server was given.
fn given(pair: &mut Pair, user_data: u64, timeout_us: u32) -> Call {
    let request = Request::call(pair.session.id(), ECHO, &HEADER, b"payload".as_slice().into());
    pair.client.submit(Request { user_data, timeout_us, ..request });
    received(&pair.wait_server(|c| c.op == Op::CallReceived as u32))
}

/// A call with a deadline that the server has in hand before that has passed: a later one if it must be.
fn given_in_time(pair: &mut Pair, user_data: u64) -> Call {
    let mut timeout_us = 20_000;
    loop {
        let request = Request::call(pair.session.id(), ECHO, &HEADER, b"payload".as_slice().into());
        pair.client.submit(Request { user_data, timeout_us, ..request });
        let mut came = None;
        drive(&mut [&mut pair.client, &mut pair.server], "the call, or its end", |nodes| {
            came = nodes[1].take(|c| c.op == Op::CallReceived as u32);
            came.is_some() || nodes[0].answers(user_data) > 0
        });
        match came {
            Some(event) => return received(&event),
            None => pair.client.kept.clear(),
        }
        timeout_us *= 2;
    }
}

fn answer_to(pair: &mut Pair, user_data: u64) -> Completion {
    pair.wait_client(|c| c.user_data == user_data && c.op == Op::Call as u32)
}

#[test]
fn every_end_of_a_call_is_one_answer() {
    everywhere(|name, pair| {
        // Released without an answer.
        let call = given(pair, 1, 0);
        drop(call);
        assert_eq!(status(&answer_to(pair, 1)), Status::Canceled, "{name}");
        // Refused, and when to try again.
        given(pair, 2, 0).refuse(Status::QueueFull, Duration::from_micros(1234));
        let done = answer_to(pair, 2);
        assert_eq!((status(&done), done.detail), (Status::QueueFull, 1234), "{name}");
        // A reply that cannot be sent leaves the call to be answered.
        let call = given(pair, 3, 0);
        let piece = [Piece::buffer(77, 0, 8)];
        let (why, call) = call.reply(&Reply { pieces: &piece, ..Reply::default() }).err().unwrap();
        assert_eq!(why, Status::StaleHandle);
        let header = Header { reserved: 1, ..HEADER };
        let (why, call) = call.reply(&Reply { header, ..Reply::default() }).err().unwrap();
        assert_eq!(why, Status::InvalidArgument);
        assert!(call.reply(&Reply { status: -7, ..Reply::default() }).is_ok());
        let done = answer_to(pair, 3);
        assert_eq!((status(&done), done.detail, done.length), (Status::Ok, -7, 0), "{name}");
        // Nobody serves calls.
        let counters = pair.server.context.stats().counters;
        assert_eq!((counters.calls_received, counters.calls_answered, counters.calls_refused), (3, 1, 2));
        assert!(pair.client.kept.is_empty() && pair.server.kept.is_empty());
    });
}

#[test]
fn a_worker_that_serves_no_calls_says_so() {
    for (road, address, options) in roads() {
        let mut pair = Pair::new(&address, &options, Mode::Polled, Mode::Threaded);
        let request = Request::call(pair.session.id(), 1, &HEADER, b"anybody?".as_slice().into());
        pair.client.submit(Request { user_data: 4, ..request });
        assert_eq!(status(&answer_to(&mut pair, 4)), Status::UnknownMethod, "{road}");
        assert!(pair.server.kept.is_empty());
        pair.close();
    }
}

#[test]
fn a_timeout_and_a_cancel_reach_the_server_and_late_answers_nobody() {
    everywhere(|name, pair| {
        for (user_data, timeout_us) in [(1, 20_000), (2, 0)] {
            let call =
                if timeout_us > 0 { given_in_time(pair, user_data) } else { given(pair, user_data, 0) };
            assert_eq!(call.deadline().is_some(), timeout_us > 0);
            assert!(timeout_us > 0 || !call.is_canceled());
            if timeout_us == 0 {
                assert_eq!(pair.client.worker.cancel(user_data), Status::Ok);
            }
            let expected = if timeout_us > 0 { Status::TimedOut } else { Status::Canceled };
            assert_eq!(status(&answer_to(pair, user_data)), expected, "{name}");
            let told = pair.wait_server(|c| c.op == Op::CallCanceled as u32);
            assert_eq!(told.flags & 2, 2);
            assert!(call.is_canceled(), "{name}");
            common::calls::echo(call);
        }
        // What was answered into nothing comes to nobody.
        let done = call(pair, Request { user_data: 3, ..Request::call(0, 9, &HEADER, Bytes::default()) });
        assert_eq!(done.detail, 9);
        assert!(pair.client.kept.is_empty(), "{name}: {:?}", pair.client.kept);
        assert!(pair.server.kept.is_empty(), "{name}: {:?}", pair.server.kept);
    });
}

#[test]
fn calls_end_with_their_session_on_both_sides() {
    everywhere(|name, pair| {
        let call = given(pair, 1, 0);
        assert_eq!(pair.session.close(50), Status::Ok);
        assert_eq!(status(&answer_to(pair, 1)), Status::Canceled, "{name}");
        let told = pair.wait_server(|c| c.op == Op::CallCanceled as u32);
        assert_ne!(told.value, 0);
        pair.wait_server(|c| c.op == Op::SessionClosed as u32);
        assert!(call.is_canceled());
        common::calls::echo(call);
    });
}
