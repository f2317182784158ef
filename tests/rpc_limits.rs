//! What a server does with more calls than it can take: limits, turns, deadlines, and calls that happen once.

mod common;

use common::calls::{ECHO, call_with, echo, pair, received, serve, serving};
use common::{Node, Pair, drive, roads, status};
use rdma_engine::Status;
use rdma_engine::engine::bytes::Bytes;
use rdma_engine::engine::call::{Call, Header, Once, Piece, Reply};
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::{ContextOptions, Mode};
use rdma_engine::engine::request::{Completion, Op, Request};
use rdma_engine::engine::session::Session;
use std::sync::Arc;
use std::time::Duration;

const HEADER: Header = Header { offset: 1, len: 2, flags: 3, reserved: 0 };

fn limited(options: &ContextOptions) -> ContextOptions {
    ContextOptions { max_calls: 8, max_call_bytes: 100_000, ..options.clone() }
}

#[test]
fn more_calls_than_allowed_are_refused_and_find_room_later() {
    for (road, address, options) in roads() {
        let mut pair = pair(&address, &limited(&options), Mode::Polled, Mode::Polled);
        let ours = pair.client.context.alloc(60_000, 0).unwrap();
        for (length, most) in [(8, 8), (60_000, 1), (30_000, 3)] {
            let pieces = [Piece::buffer(ours.id(), 0, length)];
            for i in 0..20 {
                let request = Request::call(pair.session.id(), 1, &HEADER, Bytes::pieces(&pieces));
                pair.client.submit(Request { user_data: i, ..request });
            }
            let mut calls = Vec::new();
            drive(&mut [&mut pair.client, &mut pair.server], "all but some are refused", |nodes| {
                serve(nodes[1], |call| calls.push(call));
                nodes[0].kept.len() + calls.len() == 20
            });
            assert_eq!(calls.len(), most, "{road}: {length} bytes");
            for refused in pair.client.kept.drain(..) {
                assert_eq!((status(&refused), refused.detail), (Status::QueueFull, 500), "{road}");
            }
            calls.into_iter().for_each(echo);
            drive(&mut [&mut pair.client, &mut pair.server], "the others' answers", |nodes| {
                nodes[0].kept.len() == most
            });
            assert!(pair.client.kept.iter().all(|done| status(done) == Status::Ok));
            for done in std::mem::take(&mut pair.client.kept) {
                common::calls::payload_of(&pair.client, &done);
            }
        }
        let counters = pair.server.context.stats().counters;
        assert_eq!((counters.calls_received, counters.calls_answered, counters.calls_refused), (12, 12, 48));
        pair.close();
    }
}

#[test]
fn a_caller_of_many_does_not_hold_up_a_caller_of_one() {
    for (road, address, options) in roads() {
        for mode in [Mode::Polled, Mode::Threaded] {
            let mut server = Node::with(&options, &serving(mode));
            let mut clients = [Node::new(&options, Mode::Threaded), Node::new(&options, Mode::Threaded)];
            let listener = Listener::open(&server.worker, &address, 7).unwrap();
            let sessions: Vec<_> = clients.iter().map(|n| n.dial(listener.address(), 1)).collect();
            let [greedy, modest] = &mut clients;
            drive(&mut [greedy, modest, &mut server], "two sessions", |nodes| {
                nodes[..2].iter().all(|n| n.answers(1) == 1)
            });
            for i in 0..500 {
                let request = Request::call(sessions[0].id(), 0, &HEADER, Bytes::default());
                clients[0].submit(Request { user_data: i, ..request });
            }
            let request = Request::call(sessions[1].id(), 1, &HEADER, Bytes::default());
            clients[1].submit(request);
            // Progress without taking: they all wait.
            let waiting = |server: &Node| {
                server.worker.poll(Some(Duration::ZERO), &mut []).unwrap();
                server.context.stats().counters.calls_received == 501
            };
            common::wait_for("all of them have come", || waiting(&server));
            let mut out = [Completion::default(); 64];
            let mut taken = Vec::new();
            common::wait_for("the first calls", || {
                let count = server.worker.poll(Some(Duration::ZERO), &mut out[..4]).unwrap();
                taken.extend(out[..count].iter().filter(|c| c.op == Op::CallReceived as u32).map(received));
                taken.len() >= 2
            });
            assert!(
                taken[..2].iter().any(|call| call.method() == 1),
                "{road}, {mode:?}: among the first two"
            );
            taken.into_iter().for_each(echo);
            let [greedy, modest] = &mut clients;
            drive(&mut [greedy, modest, &mut server], "every answer", |nodes| {
                serve(nodes[2], echo);
                nodes[1].answers(0) == 1 && (0..500).all(|i| nodes[0].answers(i) > 0)
            });
            clients.into_iter().for_each(Node::close);
            server.close();
        }
    }
}

#[test]
fn a_call_whose_deadline_passed_is_not_handed_out() {
    for (road, address, options) in roads() {
        let mut pair = pair(&address, &options, Mode::Threaded, Mode::Polled);
        let request = Request::call(pair.session.id(), 1, &HEADER, Bytes::default());
        pair.client.submit(Request { user_data: 1, timeout_us: 2_000, ..request });
        common::wait_for("it has come", || {
            pair.server.worker.poll(Some(Duration::ZERO), &mut []).unwrap();
            pair.server.context.stats().counters.calls_received == 1
        });
        drive(&mut [&mut pair.client], "it timed out", |n| n[0].answers(1) == 1);
        assert_eq!(status(&pair.client.kept[0]), Status::TimedOut);
        (0..100).for_each(|_| pair.server.poll());
        assert!(pair.server.kept.is_empty(), "{road}: {:?}", pair.server.kept);
        pair.close();
    }
}

fn once(slot: u16, sequence: u32) -> Request<'static> {
    let request = Request::call(0, ECHO, &HEADER, b"once".as_slice().into());
    Request { user_data: 9, ..request.once(Once { slot, sequence }) }
}

/// A new session of the same client.
fn again(pair: &mut Pair, listener: &Listener) -> Arc<Session> {
    assert_eq!(pair.session.close(50), Status::Ok);
    pair.wait_client(|c| c.op == Op::SessionClosed as u32);
    pair.session = pair.client.dial(listener.address(), 51);
    pair.wait_client(|c| c.user_data == 51);
    pair.session.clone()
}

#[test]
fn a_call_that_happens_once_runs_once_also_over_another_session() {
    for (road, address, options) in roads() {
        let mut pair = pair(&address, &options, Mode::Polled, Mode::Polled);
        let listener = pair.listener.clone();
        let mut ran = 0;
        let mut count = |call: Call| {
            ran += 1;
            let text = format!("ran {ran}");
            let pieces = [Piece::bytes(text.as_bytes()), Piece::bytes(&[b'.'; 200])];
            assert!(call.is_once());
            assert!(call.reply(&Reply { status: 7, header: HEADER, pieces: &pieces, file: None }).is_ok());
        };
        let mut first = None;
        for round in 0..4 {
            let done = call_with(&mut pair, once(3, 1), &mut count);
            assert_eq!((status(&done), done.detail), (Status::Ok, 7), "{road} {round}");
            assert_eq!(common::calls::header_of(&done), HEADER);
            let bytes = common::calls::payload_of(&pair.client, &done);
            assert_eq!(bytes, *first.get_or_insert(bytes.clone()), "{road} {round}: the same answer");
            again(&mut pair, &listener);
        }
        assert_eq!(ran, 1, "{road}");
        let next = call_with(&mut pair, once(3, 2), echo);
        assert_eq!(status(&next), Status::Ok);
        for (slot, sequence, expected) in
            [(3, 1, Status::WrongState), (3, 4, Status::WrongState), (4, 2, Status::Expired)]
        {
            let done = call_with(&mut pair, once(slot, sequence), |_| panic!("it must not run"));
            assert_eq!(status(&done), expected, "{road} {slot} {sequence}");
        }
        assert_eq!(pair.server.context.stats().counters.calls_repeated, 3);
        pair.close();
    }
}

#[test]
fn a_repetition_waits_for_the_first_and_what_did_not_run_may_run() {
    for (road, address, options) in roads() {
        let mut pair = pair(&address, &options, Mode::Polled, Mode::Polled);
        let listener = pair.listener.clone();
        pair.client.submit(Request { user_data: 8, session: pair.session.id(), ..once(0, 1) });
        let first = received(&pair.wait_server(|c| c.op == Op::CallReceived as u32));
        again(&mut pair, &listener);
        let busy = call_with(&mut pair, once(0, 1), |_| panic!("it runs already"));
        assert_eq!((status(&busy), busy.detail), (Status::Busy, 500), "{road}");
        // Too long to be kept: still to be answered.
        let long = [0; 1025];
        let pieces = [Piece::bytes(&long)];
        let (why, first) = first.reply(&Reply { pieces: &pieces, ..Reply::default() }).err().unwrap();
        assert_eq!(why, Status::OutOfRange);
        echo(first);
        let done = call_with(&mut pair, once(0, 1), |_| panic!("it has run"));
        assert_eq!(status(&done), Status::Ok, "{road}");
        // Refused: the service has not done it, so it may come again.
        let refused = call_with(&mut pair, once(0, 2), |c| c.refuse(Status::Busy, Duration::from_micros(9)));
        assert_eq!((status(&refused), refused.detail), (Status::Busy, 9));
        assert_eq!(status(&call_with(&mut pair, once(0, 2), echo)), Status::Ok, "{road}");
        // Given up: nobody knows what was done, so it does not run again.
        for _ in 0..2 {
            let done = call_with(&mut pair, once(0, 3), drop);
            assert_eq!(status(&done), Status::Canceled, "{road}");
        }
        assert_eq!(status(&call_with(&mut pair, once(0, 4), echo)), Status::Ok, "{road}");
        pair.close();
    }
}
