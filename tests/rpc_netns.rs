//! Calls over a link that is cut for a second, for five, and for ever, between two hosts made of network namespaces: an
//! outage below the keepalive costs only time, a longer one ends what is pending once, and what happens once happens once.

mod common;

use common::calls::serving;
use common::netns::Network;
use common::{Node, drive, status};
use rdma_engine::Status;
use rdma_engine::engine::call::{Call, Header};
use rdma_engine::engine::context::Context;
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::{ContextOptions, Mode, transport};
use rdma_engine::engine::request::{Op, Request};
use rdma_engine::rpc::{Answer, Client, ClientOptions, Methods, Outgoing, Server, ServerOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn options(keepalive: Duration) -> ContextOptions {
    ContextOptions { transports: transport::TCP, keepalive, ..ContextOptions::default() }
}

const PENDING: u64 = 500;

/// Calls on their way from one end to the other; half of them are in the server's hands.
fn scene(network: &Network, keepalive: Duration) -> (Node, Node, Vec<Call>) {
    let options = options(keepalive);
    let address = format!("tcp://{}:0", network.address(1));
    let (mut server, listener) = network.at(1, || {
        let server = Node::with(&options, &serving(Mode::Threaded));
        let listener = Listener::open(&server.worker, &address, 7).unwrap();
        (server, listener)
    });
    let mut client = network.at(0, || Node::new(&options, Mode::Threaded));
    let session = client.dial(listener.address(), 1);
    drive(&mut [&mut client], "a session", |n| n[0].answers(1) == 1);
    assert_eq!(status(&client.take(|c| c.user_data == 1).unwrap()), Status::Ok);
    let mut calls = Vec::new();
    let submit = |first: u64, client: &Node| {
        for i in first..first + PENDING / 2 {
            let bytes = vec![i as u8; if i % 5 == 0 { 20_000 } else { 8 }];
            let header = Header { offset: i, ..Header::default() };
            let request = Request::call(session.id(), 1, &header, bytes.as_slice().into());
            client.submit(Request { user_data: 100 + i, ..request });
        }
    };
    submit(0, &client);
    drive(&mut [&mut server], "the first half", |n| {
        while let Some(event) = n[0].take(|c| c.op == Op::CallReceived as u32) {
            calls.push(common::calls::received(&event));
        }
        calls.len() as u64 == PENDING / 2
    });
    network.cut();
    submit(PENDING / 2, &client);
    (client, server, calls)
}

#[test]
#[ignore = "makes network namespaces: as root, with --include-ignored"]
fn calls_outlive_an_outage_below_the_keepalive() {
    for seconds in [1, 5] {
        let network = Network::new();
        let (mut client, mut server, calls) = scene(&network, Duration::from_secs(30));
        calls.into_iter().for_each(common::calls::echo);
        // The outage itself, not a wait for something.
        std::thread::sleep(Duration::from_secs(seconds));
        assert!(client.kept.is_empty());
        network.mend();
        let began = Instant::now();
        drive(&mut [&mut client, &mut server], "every answer", |nodes| {
            common::calls::serve(nodes[1], common::calls::echo);
            nodes[0].kept.len() as u64 == PENDING
        });
        println!("{seconds} s: every answer {:?} after the link was back", began.elapsed());
        for done in std::mem::take(&mut client.kept) {
            assert_eq!(status(&done), Status::Ok);
            let i = done.user_data - 100;
            let length = if i % 5 == 0 { 20_000 } else { 8 };
            assert_eq!(common::calls::payload_of(&client, &done), vec![i as u8; length]);
        }
        assert_eq!(client.context.stats().counters.sessions_lost, 0);
        client.close();
        server.close();
    }
}

#[test]
#[ignore = "makes network namespaces: as root, with --include-ignored"]
fn a_link_cut_for_ever_ends_every_call_once() {
    let network = Network::new();
    let (mut client, mut server, calls) = scene(&network, Duration::from_secs(1));
    let began = Instant::now();
    drive(&mut [&mut client], "every end", |n| n[0].kept.len() as u64 > PENDING);
    assert!(client.kept.iter().any(|c| c.op == Op::SessionClosed as u32));
    println!("cut for ever: the last end after {:?}", began.elapsed());
    assert!((100..100 + PENDING).all(|i| client.answers(i) == 1), "each once");
    assert!(client.kept.iter().all(|c| status(c) == Status::ConnectionLost));
    drive(&mut [&mut server], "the server hears of it", |n| {
        n[0].kept.iter().filter(|c| c.op == Op::CallCanceled as u32).count() as u64 == PENDING / 2
    });
    assert!(calls.iter().all(Call::is_canceled));
    calls.into_iter().for_each(common::calls::echo);
    client.close();
    server.close();
}

#[test]
#[ignore = "makes network namespaces: as root, with --include-ignored"]
fn what_happens_once_does_so_over_outages_that_end_sessions() {
    const ADD: u32 = 1;
    let network = Network::new();
    let options = options(Duration::from_millis(500));
    let counted = Arc::new(AtomicU64::new(0));
    let adding = counted.clone();
    let methods = Methods::new()
        .on(ADD, move |_| Answer::bytes((adding.fetch_add(1, Ordering::Relaxed) + 1).to_le_bytes()));
    let address = format!("tcp://{}:0", network.address(1));
    let server = network.at(1, || {
        let context = Context::open(&options).unwrap();
        Server::open(&context, &address, methods, &ServerOptions::default()).unwrap()
    });
    let client =
        network.at(0, || Client::open(&Context::open(&options).unwrap(), &ClientOptions::default()).unwrap());
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let calls = || {
        let call = Outgoing { method: ADD, timeout: Duration::from_secs(60), ..Outgoing::default() };
        while !stop.load(Ordering::Relaxed) {
            client.call_once(server.address(), &call).unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // What opens the client's devices is the first dial, in the thread that calls.
            scope.spawn(|| network.at(0, calls));
        }
        for outage in [1_000, 100, 2_000, 50, 1_500] {
            let before = done.load(Ordering::Relaxed);
            common::wait_for("some calls", || done.load(Ordering::Relaxed) > before + 100);
            network.cut();
            // The outage itself, not a wait for something.
            std::thread::sleep(Duration::from_millis(outage));
            network.mend();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (done, counted) = (done.load(Ordering::Relaxed), counted.load(Ordering::Relaxed));
    let counters = server.worker().context().stats().counters;
    println!("{done} calls, {} sessions lost, {} repeated", counters.sessions_lost, counters.calls_repeated);
    assert_eq!(counted, done, "each ran once");
    assert!(counters.sessions_lost > 0);
}
