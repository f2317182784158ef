//! A peer that is killed or stopped in the middle of a gigabyte, as target and as initiator, on every road: what was
//! pending ends once, the process goes on, and the next session is a whole one.

mod common;

use common::process::role;
use common::transfer::{Road, SIZE, Transfer, fill, is_all, play};
use common::{Node, drive, status, unix_address};
use parking_lot::{Mutex, MutexGuard};
use rdma_engine::Status;
use rdma_engine::engine::handle;
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::{Mode, transport, way};
use rdma_engine::engine::request::{Op, Request};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Far beyond what is promised: here it is only shown that an end comes at all; how soon is printed.
const BOUND: Duration = Duration::from_secs(2);

/// Not a test: what a started peer does.
#[test]
fn peer() {
    if let Some(role) = role() {
        play(&role);
    }
}

/// Two gigabytes at a time are enough.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock()
}

fn ways() -> Vec<Road> {
    let tcp = "tcp://127.0.0.1:0".to_string();
    let road = |name, address, transports, ways| Road { name, address, transports, ways, keepalive_ms: 3000 };
    vec![
        road("mapped", unix_address(), transport::ALL, way::ALL),
        road("messages over shared memory", unix_address(), transport::ALL, way::MESSAGE),
        road("tcp", tcp, transport::TCP, way::ALL),
    ]
}

#[test]
fn a_target_is_killed() {
    let _alone = alone();
    for (road, op, mode) in ways().into_iter().flat_map(|road| {
        [(Op::Get, Mode::Polled), (Op::Put, Mode::Threaded)].map(|(op, mode)| (road.clone(), op, mode))
    }) {
        let (mut peer, address, key) = road.target("peer");
        let mut node = Node::new(&road.options(), mode);
        if op == Op::Put {
            peer.tell("watch");
        }
        let mut transfer = Transfer::begin(&mut node, &address, &key, op);
        if op == Op::Get {
            transfer.until_under_way(&mut node);
        } else {
            let mut moving = false;
            let reader = std::thread::spawn(move || {
                peer.expect("moving");
                peer
            });
            drive(&mut [&mut node], "the put moves", |_| {
                std::mem::replace(&mut moving, reader.is_finished())
            });
            peer = reader.join().unwrap();
        }
        let began = Instant::now();
        let gone = peer.kill();
        let took = transfer.until_ended(&mut node) - began;
        let gone = gone.join().unwrap() - began;
        let (good, lost) = transfer.ends(&mut node);
        println!(
            "{}, {op:?}, target killed: {took:?} to the last end, the process was gone after {gone:?}; \
             {good} ok, {lost} lost",
            road.name
        );
        // Mapped memory needs nobody: all may be done before the death is noticed.
        assert!(lost > 0 || road.name == "mapped", "it was killed in the middle");
        assert!(took < BOUND, "{took:?}");
        peer.reap();
        node.context.release_buffer(&transfer.buffer).unwrap();
        // A new peer on the same address.
        let again = Road { address: address.clone(), ..road.clone() };
        let (peer, same, key) = again.target("peer");
        assert_eq!(same, address);
        one_get(&mut node, &address, &key);
        assert_eq!(node.context.stats().counters.sessions_lost, 1);
        peer.reap();
        drive(&mut [&mut node], "the second loss", |n| !n[0].kept.is_empty());
        node.close();
    }
}

/// A whole session: connect, import, get and compare.
fn one_get(node: &mut Node, address: &str, key: &[u8]) {
    let session = node.dial(address, 1);
    drive(&mut [node], "a session", |n| n[0].answers(1) == 1);
    assert_eq!(status(&node.take(|c| c.user_data == 1).unwrap()), Status::Ok);
    let ask = Request { user_data: 2, session: session.id(), ..Request::default() };
    node.submit(Request { op: Op::RegionImport as u16, data: key.into(), ..ask });
    drive(&mut [node], "a region", |n| n[0].answers(2) == 1);
    let region = node.take(|c| c.user_data == 2).unwrap().value;
    let buffer = node.context.alloc(8 << 20, 0).unwrap();
    let length = 8 << 20;
    node.submit(Request {
        op: Op::Get as u16,
        buffer: buffer.id(),
        length,
        region,
        region_offset: 4096,
        ..ask
    });
    drive(&mut [node], "a get", |n| n[0].answers(2) == 1);
    assert_eq!(status(&node.take(|c| c.user_data == 2).unwrap()), Status::Ok);
    assert!(common::bytes_of(&buffer).iter().all(|byte| *byte == 0x5A));
    handle::REGIONS.remove(region).unwrap();
    node.context.release_buffer(&buffer).unwrap();
}

#[test]
fn an_initiator_is_killed() {
    let _alone = alone();
    for (road, op) in ways().into_iter().flat_map(|road| [Op::Get, Op::Put].map(|op| (road.clone(), op))) {
        let mut node = Node::new(&road.options(), Mode::Threaded);
        let listener = Listener::open(&node.worker, &road.address, 7).unwrap();
        let road = Road { address: listener.address().into(), ..road };
        let mine = node.context.alloc(SIZE, 1).unwrap();
        fill(&mine, 0xA5);
        let key = node.context.export(&mine, 0, SIZE, 3).unwrap();
        for round in 0..2 {
            let mut peer = road.initiator("peer", op, &key);
            drive(&mut [&mut node], "accepted", |n| !n[0].kept.is_empty());
            let session = node.take(|c| c.op == Op::SessionAccepted as u32).unwrap().value;
            // Messages to it that cannot all be taken, so that this side has something pending too.
            let buffer = node.context.alloc(8 << 20, 0).unwrap();
            for i in 0..20 {
                let send = Request { user_data: 200 + i, session, op: Op::Send as u16, ..Request::default() };
                node.submit(Request { buffer: buffer.id(), length: 8 << 20, ..send });
            }
            peer.expect("moving");
            let began = Instant::now();
            let gone = peer.kill();
            drive(&mut [&mut node], "the end", |n| {
                let closed = n[0].kept.iter().any(|c| c.op == Op::SessionClosed as u32);
                closed && (200..220).all(|i| n[0].answers(i) > 0)
            });
            let took = began.elapsed();
            let gone = gone.join().unwrap() - began;
            assert!((200..220).all(|i| node.answers(i) == 1), "each once");
            let lost = node.kept.iter().filter(|c| status(c) == Status::ConnectionLost).count();
            println!(
                "{}, {op:?}, initiator killed: {took:?} (process gone after {gone:?}), {lost} lost, round {round}",
                road.name
            );
            assert!(lost > 0, "the session: {:?}", node.kept);
            assert!(took < BOUND, "{took:?}");
            assert_eq!(node.kept.len(), 21, "{:?}", node.kept);
            node.kept.clear();
            node.context.release_buffer(&buffer).unwrap();
            peer.reap();
        }
        node.context.release_buffer(&mine).unwrap();
        drop(mine);
        common::wait_for("nobody holds it any more", || {
            let info = node.context.info().unwrap();
            info.memory_retired == 0 && info.sessions == 0 && info.memory_used == 0
        });
        node.close();
    }
}

#[test]
fn a_target_is_stopped_and_goes_on_later() {
    let _alone = alone();
    for (road, op) in ways().into_iter().flat_map(|road| [Op::Get, Op::Put].map(|op| (road.clone(), op))) {
        let road = Road { keepalive_ms: 500, ..road };
        let (mut peer, address, key) = road.target("peer");
        let mut node = Node::new(&road.options(), Mode::Threaded);
        if op == Op::Put {
            peer.tell("watch");
        }
        let mut transfer = Transfer::begin(&mut node, &address, &key, op);
        if op == Op::Get {
            transfer.until_under_way(&mut node)
        } else {
            drop(peer.expect("moving"))
        }
        peer.signal(Signal::STOP);
        let began = Instant::now();
        let took = transfer.until_ended(&mut node) - began;
        let (good, lost) = transfer.ends(&mut node);
        println!("{}, {op:?}, target stopped: {took:?} to the last end, {good} ok, {lost} lost", road.name);
        // Mapped memory needs nobody: then all may be done before the silence is noticed.
        assert!(lost > 0 || road.name == "mapped", "it was stopped in the middle");
        assert!(took < 4 * BOUND, "{took:?}");
        // What comes late must not touch memory that is ours again.
        fill(&transfer.buffer, 0x33);
        peer.signal(Signal::CONT);
        peer.tell("go on");
        assert_eq!(peer.expect("ended "), "CONNECTION_LOST", "{}", road.name);
        assert!(is_all(&transfer.buffer, 0x33), "{}: a late byte", road.name);
        assert!(peer.ends_well(), "{}: it goes on and ends as it should", road.name);
        node.close();
    }
}
