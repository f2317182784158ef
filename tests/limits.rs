//! Limits are kept exactly, say so, and give way again: sessions at either side, queues, memory, idle time.

mod common;

use common::{Node, Pair, drive, roads, status, with_transports};
use rdma_engine::Status;
use rdma_engine::engine::handle;
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::{ContextOptions, Mode, WorkerOptions, transport};
use rdma_engine::engine::request::{Op, Request};
use rdma_engine::engine::session::Session;
use std::time::Duration;

const CONNECT: u32 = Op::SessionConnect as u32;
const CLOSED: u32 = Op::SessionClosed as u32;

#[test]
fn the_client_refuses_the_session_past_its_limit_at_once() {
    let options = ContextOptions { max_sessions: 5, ..ContextOptions::default() };
    let mut server = Node::new(&ContextOptions::default(), Mode::Threaded);
    let mut client = Node::new(&options, Mode::Polled);
    let listener = Listener::open(&server.worker, "tcp://127.0.0.1:0", 7).unwrap();
    let sessions: Vec<_> = (0..5).map(|i| client.dial(listener.address(), i)).collect();
    let refused = Session::connect(&client.worker, listener.address(), 9).err().unwrap();
    assert_eq!(refused.status, Status::LimitReached, "{refused}");
    assert!(refused.message.contains("max_sessions"), "{refused}");
    drive(&mut [&mut client, &mut server], "5 sessions", |n| n[0].kept.len() == 5);
    assert!(client.kept.drain(..).all(|c| c.status == 0));
    assert_eq!(sessions[2].close(20), Status::Ok);
    drive(&mut [&mut client, &mut server], "one closed", |n| n[0].answers(20) == 1);
    client.dial(listener.address(), 30);
    drive(&mut [&mut client, &mut server], "one more", |n| n[0].answers(30) == 1);
    assert_eq!(client.take(|c| c.user_data == 30).map(|c| c.status), Some(0));
    assert_eq!(client.context.info().unwrap().sessions, 5);
    // A dial that fails gives its place back.
    assert_eq!(sessions[0].close(21), Status::Ok);
    for i in 0..20 {
        client.dial("unix:///tmp/rde-nobody-is-here.sock", 40 + i);
        drive(&mut [&mut client, &mut server], "failed", |n| n[0].answers(40 + i) == 1);
    }
    client.close();
    server.close();
}

#[test]
fn the_server_takes_exactly_as_many_sessions_as_it_allows() {
    for (road, address, options) in roads() {
        for limit in [1, 7, 64] {
            let allowed = ContextOptions { max_sessions: limit, ..options.clone() };
            let mut server = Node::new(&allowed, Mode::Threaded);
            let mut client = Node::new(&options, Mode::Polled);
            let listener = Listener::open(&server.worker, &address, 7).unwrap();
            let all = u64::from(limit) + 10;
            let mut sessions: Vec<_> = (0..all).map(|i| client.dial(listener.address(), i)).collect();
            drive(&mut [&mut client, &mut server], road, |n| n[0].kept.len() as u64 == all);
            let good = client.kept.iter().filter(|c| status(c) == Status::Ok).count();
            let over = client.kept.iter().filter(|c| status(c) == Status::LimitReached).count();
            assert_eq!((good, over), (limit as usize, 10), "{road}: {:?}", client.kept);
            drive(&mut [&mut client, &mut server], "events", |n| n[1].kept.len() == limit as usize);
            assert_eq!(server.context.info().unwrap().sessions, limit);
            client.kept.clear();
            for round in 0..3 {
                let open = sessions.iter().find(|s| handle::SESSIONS.get(s.id()).is_some()).unwrap();
                assert_eq!(open.close(500), Status::Ok);
                drive(&mut [&mut client, &mut server], "closed", |n| n[0].answers(500) == 1);
                client.kept.clear();
                sessions.push(client.dial(listener.address(), 501));
                client.dial(listener.address(), 502);
                drive(&mut [&mut client, &mut server], "one in its place", |n| n[0].kept.len() == 2);
                let (one, two) = (client.take(|c| c.user_data == 501), client.take(|c| c.user_data == 502));
                let found = (status(&one.unwrap()), status(&two.unwrap()));
                assert_eq!(found, (Status::Ok, Status::LimitReached), "{road} {limit} {round}");
            }
            client.close();
            server.close();
        }
    }
}

#[test]
fn ten_thousand_sessions_and_one() {
    let many = ContextOptions { max_sessions: 10_001, ..ContextOptions::default() };
    let mut server = Node::new(&many, Mode::Threaded);
    let mut client = Node::new(&ContextOptions::default(), Mode::Polled);
    let listener = Listener::open(&server.worker, "tcp://127.0.0.1:0", 7).unwrap();
    let sessions: Vec<_> = (0..10_000).map(|i| client.dial(listener.address(), i)).collect();
    let refused = Session::connect(&client.worker, listener.address(), 10_000).err().unwrap();
    assert_eq!(refused.status, Status::LimitReached);
    drive(&mut [&mut client, &mut server], "10,000", |n| {
        n[0].kept.len() == 10_000 && n[1].kept.len() == 10_000
    });
    assert!(client.kept.drain(..).all(|c| c.op == CONNECT && c.status == 0));
    server.kept.clear();
    // The last one works like the first.
    for session in [&sessions[0], &sessions[9_999]] {
        let data = session.user_data().to_le_bytes();
        let (session, op) = (session.id(), Op::Send as u16);
        client.submit(Request {
            session,
            op,
            user_data: 1,
            data: data.as_slice().into(),
            ..Request::default()
        });
    }
    drive(&mut [&mut client, &mut server], "2 messages", |n| n[1].kept.len() == 2);
    assert_eq!(server.kept[1].data[..8], 9_999u64.to_le_bytes());
    server.kept.clear();
    client.kept.clear();
    for session in &sessions {
        assert_eq!(session.close(3), Status::Ok);
    }
    drive(&mut [&mut client, &mut server], "all closed", |n| {
        n[0].kept.len() == 10_000 && n[1].kept.len() == 10_000
    });
    assert_eq!((client.context.info().unwrap().sessions, server.context.info().unwrap().sessions), (0, 0));
    client.close();
    server.close();
}

#[test]
fn a_full_queue_says_so_and_drains() {
    for mode in [Mode::Polled, Mode::Threaded] {
        let worker = WorkerOptions { mode, completion_capacity: 8, ..WorkerOptions::default() };
        let mut node = Node::with(&ContextOptions::default(), &worker);
        let requests: Vec<_> = (0..20).map(|i| Request { user_data: i, ..Request::default() }).collect();
        for round in 0..3 {
            assert_eq!(node.worker.submit(&requests), (8, Status::QueueFull), "{mode:?} {round}");
            assert_eq!(node.worker.submit(&requests), (0, Status::QueueFull));
            let refused = Session::connect(&node.worker, "tcp://127.0.0.1:1", 1).err().unwrap();
            assert_eq!(refused.status, Status::QueueFull, "a connect needs room too");
            drive(&mut [&mut node], "8 ends", |n| n[0].kept.len() == 8);
            let mut seen: Vec<u64> = node.kept.drain(..).map(|c| c.user_data).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..8).collect::<Vec<u64>>(), "each once");
        }
        assert_eq!(node.context.stats().counters.queue_full, 9);
        assert_eq!(node.context.info().unwrap().sessions, 0, "refused connects hold no slot");
        let options = WorkerOptions { completion_capacity: 0, ..worker };
        let bad = rdma_engine::engine::worker::Worker::open(&node.context, &options).err().unwrap();
        assert_eq!(bad.status, Status::InvalidArgument);
        node.close();
    }
}

#[test]
fn memory_has_a_limit_that_is_kept() {
    let options = ContextOptions { memory_limit: 8 << 20, ..ContextOptions::default() };
    let node = Node::new(&options, Mode::Polled);
    for flags in [0, 1, 2] {
        let mut held = Vec::new();
        let refused = loop {
            match node.context.alloc(1 << 20, flags) {
                Ok(buffer) => held.push(buffer),
                Err(error) => break error,
            }
            assert!(held.len() <= 8, "the limit is 8 MiB");
        };
        assert_eq!(refused.status, Status::OutOfMemory, "{refused}");
        assert!(held.len() >= 4, "{flags}: most of the limit is usable: {}", held.len());
        for buffer in held {
            node.context.release_buffer(&buffer).unwrap();
            assert_eq!(node.context.release_buffer(&buffer).unwrap_err().status, Status::StaleHandle);
        }
        assert_eq!(node.context.info().unwrap().memory_used, 0, "flags {flags}");
    }
    for (length, flags, expected) in [
        (0, 0, Status::InvalidArgument),
        (1, 8, Status::InvalidArgument),
        (u64::MAX, 0, Status::OutOfMemory),
        (u64::MAX - 4000, 1, Status::OutOfMemory),
        (8 << 30, 1, Status::OutOfMemory),
    ] {
        assert_eq!(node.context.alloc(length, flags).unwrap_err().status, expected, "{length} {flags}");
    }
    node.close();
}

#[test]
fn idle_sessions_expire_and_busy_ones_do_not() {
    for transports in [transport::ALL, transport::TCP] {
        let mut options = with_transports(transports);
        options.idle_timeout = Duration::from_millis(400);
        let mut pair = Pair::new("tcp://127.0.0.1:0", &options, Mode::Polled, Mode::Threaded);
        let theirs = pair.server.exported(4096, |i| i as u8);
        let key = pair.server.context.export(&theirs, 0, 4096, 1).unwrap();
        let region = pair.import(&key).unwrap();
        let ours = pair.client.context.alloc(4096, 0).unwrap();
        let idle = pair.client.dial(pair.listener.address(), 60);
        let get = Request {
            user_data: 4,
            op: Op::Get as u16,
            buffer: ours.id(),
            length: 4096,
            ..Request::default()
        };
        // Until the idle one has gone at both ends, and for as long again.
        let mut rounds = 0;
        let expired = loop {
            assert_eq!(status(&pair.run(Request { region, ..get })), Status::Ok, "{transports}: busy");
            pair.client.take(|c| c.op == CONNECT);
            rounds += 1;
            if let Some(end) = pair.client.take(|c| c.op == CLOSED) {
                break end;
            }
        };
        assert_eq!((status(&expired), expired.value), (Status::TimedOut, idle.id()), "{transports}");
        let told = pair.wait_server(|c| c.op == CLOSED);
        assert_eq!(status(&told), Status::TimedOut);
        for _ in 0..rounds {
            assert_eq!(status(&pair.run(Request { region, ..get })), Status::Ok, "{transports}: still busy");
        }
        assert!(pair.client.kept.is_empty() && pair.server.take(|c| c.op == CLOSED).is_none());
        // Now nobody does anything.
        let end = pair.wait_client(|c| c.op == CLOSED);
        assert_eq!((status(&end), end.value), (Status::TimedOut, pair.session.id()));
        let late = Request { session: pair.session.id(), region, ..get };
        assert_eq!(pair.client.worker.submit(&[late]), (0, Status::StaleHandle));
        pair.close();
    }
}
