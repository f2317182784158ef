//! A peer that shakes hands as it should and then sends what it likes: frames cut short, lengths that lie, kinds and
//! versions that are none, requests twice, replies nobody asked for. The engine goes on, and others are served.

mod common;

use common::calls::{ECHO, call, echo, pair, serve};
use common::{NoKeys, Pair, drive, status, wait_for, with_transports};
use rdma_engine::Status;
use rdma_engine::engine::bytes::Bytes;
use rdma_engine::engine::call::{Header, Piece};
use rdma_engine::engine::control::{Attach, Control, ControlConfig, Fabric, Notice, Notices};
use rdma_engine::engine::frame::{Frame, Kind};
use rdma_engine::engine::inbox::Inbox;
use rdma_engine::engine::options::{Mode, transport};
use rdma_engine::engine::request::{Completion, Op, Request};
use rdma_engine::ucx::{self, ContextConfig, EndpointId, Protocol, Started};
use std::sync::Arc;
use std::time::Instant;
use zerocopy::IntoBytes;

/// The bad peer: the control connection of ours, UCX's own endpoint, and frames of its own.
struct Bad {
    control: Arc<Control>,
    inbox: Arc<Notices>,
    worker: ucx::Worker<Vec<u8>>,
    endpoint: EndpointId,
    /// The server's route.
    route: u32,
    lost: bool,
}

const CHANNEL: u32 = 0;
const OURS: u32 = 77;

impl Bad {
    fn new(pair: &mut Pair) -> Bad {
        let library = ucx::library().unwrap();
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&common::unique().to_le_bytes());
        let mut config = ControlConfig::new(uuid);
        (config.settings, config.ucx_version) = (ucx::settings().unwrap(), library.version());
        config.fabrics = Fabric::Network.bit();
        let control = Control::start(config, Arc::new(NoKeys)).unwrap();
        let inbox: Arc<Notices> = Arc::new(Inbox::new().unwrap());
        let config =
            ContextConfig { tls: "tcp,self".into(), net_devices: "lo".into(), ..ContextConfig::default() };
        let context = ucx::Context::new(&config).unwrap();
        let mut worker = ucx::Worker::new(context).unwrap();
        control.dial(pair.listener.address(), &inbox, 1);
        let mut notices = Vec::new();
        let mut link = None;
        let mut found = None;
        let until = Instant::now() + common::PATIENCE;
        while found.is_none() {
            assert!(Instant::now() < until, "never attached");
            pair.server.poll();
            inbox.drain_into(&mut notices);
            for notice in notices.drain(..) {
                match notice {
                    Notice::LinkUp { link: up, .. } => {
                        let address = worker.address().unwrap();
                        control.attach(&up, &inbox, Attach { route: OURS, address });
                        link = Some(up);
                    }
                    Notice::Attached { peer, .. } => found = Some(peer),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(link.is_some());
        let peer = found.unwrap();
        let endpoint = worker.endpoint(&peer.address).unwrap();
        let mut bad = Bad { control, inbox, worker, endpoint, route: peer.route, lost: false };
        bad.send(Frame::new(Kind::SessionOpen, bad.route, CHANNEL, 0).as_bytes());
        bad
    }

    fn send(&mut self, bytes: &[u8]) {
        // A failure is the end of the endpoint, which is right too.
        if let Started::Pending = self.worker.send(self.endpoint, bytes, None, 0, Protocol::Auto) {
            let until = Instant::now() + common::PATIENCE;
            while self.worker.next_completed().is_none() && self.worker.next_failure().is_none() {
                let _ = self.worker.progress();
                assert!(Instant::now() < until, "never sent");
            }
        }
    }

    fn call(&self, request: u64, header: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut frame = Frame::new(Kind::Call, self.route, CHANNEL, request);
        frame.header = (header.len() as u32).into();
        frame.payload = (payload.len() as u64).into();
        frame.method = ECHO.into();
        [frame.as_bytes(), header, payload].concat()
    }

    /// Makes progress; whether the server has hung up.
    fn is_lost(&mut self) -> bool {
        let _ = self.worker.progress();
        while self.worker.next_message().is_some() {}
        let mut notices = Vec::new();
        self.inbox.drain_into(&mut notices);
        self.lost |= notices.iter().any(|notice| matches!(notice, Notice::LinkLost { .. }));
        self.lost
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        self.control.stop();
    }
}

fn fixture() -> Pair {
    pair("tcp://127.0.0.1:0", &with_transports(transport::TCP), Mode::Polled, Mode::Threaded)
}

/// The good client is served as before.
fn still_serves(pair: &mut Pair) {
    let request = Request::call(0, ECHO, &Header::default(), b"good".as_slice().into());
    let done = call(pair, Request { user_data: 5, ..request });
    assert_eq!(&done.data[..4], b"good");
}

#[test]
fn frames_that_are_none_are_dropped_and_counted() {
    let mut pair = fixture();
    let mut bad = Bad::new(&mut pair);
    let whole = bad.call(1, &[0; 24], b"payload");
    let mut sent = 0;
    // Every length but the right one; from 0 bytes on.
    for length in 1..whole.len() {
        bad.send(&whole[..length]);
        sent += 1;
    }
    // Lengths that lie, huge counts, unknown kinds and versions, another magic, another route.
    for (at, value) in
        [(40, 200), (47, 255), (48, 255), (51, 255), (3, 0), (3, 99), (2, 2), (0, b'X'), (16, 0xEE)]
    {
        let mut lie = whole.clone();
        lie[at] = value;
        bad.send(&lie);
        sent += 1;
    }
    let refused = |pair: &Pair| pair.server.context.stats().counters.refused;
    drive(&mut [&mut pair.server], "every one is counted", |n| {
        bad.is_lost();
        n[0].context.stats().counters.refused >= sent
    });
    assert_eq!(refused(&pair), sent);
    still_serves(&mut pair);
    assert!(!bad.is_lost());
    pair.close();
}

#[test]
fn calls_with_wrong_headers_are_answered_and_requests_twice_end_the_link() {
    let mut pair = fixture();
    let mut bad = Bad::new(&mut pair);
    let mut reserved = [0; 24];
    reserved[20] = 1;
    for (request, header) in [(1, &reserved[..]), (2, &[0; 23]), (3, &[0; 25]), (4, &[0; 32]), (5, &[])] {
        let frame = bad.call(request, header, b"payload");
        bad.send(&frame);
    }
    drive(&mut [&mut pair.server], "they are refused", |n| {
        bad.is_lost();
        n[0].context.stats().counters.calls_refused == 5
    });
    still_serves(&mut pair);
    assert!(!bad.is_lost());
    // The same request again while the first waits.
    let frame = bad.call(9, &[0; 24], b"first");
    bad.send(&frame);
    drive(&mut [&mut pair.server], "the first", |n| {
        n[0].kept.iter().any(|c| c.op == Op::CallReceived as u32)
    });
    bad.send(&frame);
    drive(&mut [&mut pair.server], "the link is cut", |_| bad.is_lost());
    still_serves(&mut pair);
    pair.close();
}

#[test]
fn replies_nobody_asked_for_come_to_nobody() {
    let mut pair = fixture();
    let mut bad = Bad::new(&mut pair);
    // A call of the server's own, to its good peer, whose id the bad one guesses.
    let request = Request::call(pair.accepted, 3, &Header::default(), Bytes::default());
    pair.server.submit(Request { user_data: 8, ..request });
    let mut sent = 0;
    for index in 0..8u64 {
        for generation in 1..8u64 {
            let mut frame = Frame::new(Kind::Reply, bad.route, CHANNEL, generation << 32 | index);
            frame.header = 24.into();
            frame.status = 666.into();
            bad.send(&[frame.as_bytes(), &[0; 24]].concat());
            // And the short form of the same.
            let mut short = vec![b'C', 1, Kind::Reply as u8, 0];
            short.extend_from_slice(&bad.route.to_le_bytes());
            short.extend_from_slice(&CHANNEL.to_le_bytes());
            short.extend_from_slice(&666u32.to_le_bytes());
            short.extend_from_slice(&(generation << 32 | index).to_le_bytes());
            bad.send(&short);
            sent += 2;
        }
    }
    drive(&mut [&mut pair.server], "they are counted", |n| {
        bad.is_lost();
        n[0].context.stats().counters.late_replies == sent
    });
    assert_eq!(pair.server.answers(8), 0, "its caller still waits");
    drive(&mut [&mut pair.client, &mut pair.server], "the right answer", |nodes| {
        serve(nodes[0], echo);
        nodes[1].answers(8) == 1
    });
    let done = pair.server.take(|c| c.user_data == 8).unwrap();
    assert_eq!((status(&done), done.detail), (Status::Ok, 3));
    // Cancels and ends of what is not there.
    for kind in [Kind::Cancel, Kind::Window, Kind::SessionClose, Kind::SessionClose] {
        let frame = Frame::new(kind, bad.route, 5, 1234);
        bad.send(frame.as_bytes());
    }
    still_serves(&mut pair);
    pair.close();
}

#[test]
fn a_flood_without_taking_answers_fills_no_memory() {
    let mut pair = fixture();
    let mut bad = Bad::new(&mut pair);
    let before = pair.server.context.info().unwrap().memory_used;
    let payload = vec![7; 100];
    for request in 0..5_000u64 {
        let frame = bad.call(request, &[0; 24], &payload);
        bad.send(&frame);
    }
    let counters = |pair: &Pair| pair.server.context.stats().counters;
    wait_for("all have come", || {
        bad.is_lost();
        counters(&pair).calls_received + counters(&pair).calls_refused == 5_000
    });
    assert_eq!(counters(&pair).calls_received, 1_024, "as many as a session may have");
    assert_eq!(pair.server.context.info().unwrap().memory_used, before);
    let mut out = [Completion::default(); 4];
    // The good one has its turn among them.
    let pieces = [Piece::bytes(b"good")];
    let request = Request::call(pair.session.id(), ECHO, &Header::default(), Bytes::pieces(&pieces));
    pair.client.submit(Request { user_data: 1, ..request });
    wait_for("it has come", || {
        pair.client.poll();
        counters(&pair).calls_received == 1_025
    });
    let taken = pair.server.worker.poll(Some(std::time::Duration::ZERO), &mut out[..3]).unwrap();
    let calls: Vec<_> = out[..taken].iter().filter(|c| c.op == Op::CallReceived as u32).collect();
    assert!(calls.iter().any(|c| c.length == 4), "{calls:?}");
    pair.close();
}
