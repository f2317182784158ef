//! Listeners and sessions: how they begin, what they share, how they end, and that what was in flight ends once.

mod common;

use common::{Node, Pair, bytes_of, drive, fill_buffer, roads, status, unix_address, with_transports};
use rdma_engine::Status;
use rdma_engine::engine::handle;
use rdma_engine::engine::info::SessionState;
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::{ContextOptions, Mode, WorkerOptions, transport};
use rdma_engine::engine::request::{COMPLETION_EVENT, Op, Request};
use rdma_engine::engine::session::Session;
use rdma_engine::engine::worker::Worker;
use std::time::Duration;

const CONNECT: u32 = Op::SessionConnect as u32;
const ACCEPTED: u32 = Op::SessionAccepted as u32;
const CLOSED: u32 = Op::SessionClosed as u32;

#[test]
fn a_hundred_sessions_of_two_workers_share_one_link() {
    for (road, address, options) in roads() {
        let mut server = Node::new(&options, Mode::Threaded);
        let mut first = Node::new(&options, Mode::Polled);
        let worker = Worker::open(&first.context, &WorkerOptions::default()).unwrap();
        let mut second = Node { context: first.context.clone(), worker, kept: Vec::new() };
        let listener = Listener::open(&server.worker, &address, 7).unwrap();
        let sessions: Vec<_> =
            (0..100).map(|i| [&first, &second][i % 2].dial(listener.address(), i as u64)).collect();
        let all = &mut [&mut server, &mut first, &mut second];
        drive(all, "100 sessions", |n| n[0].kept.len() == 100 && n[1].kept.len() + n[2].kept.len() == 100);
        assert!(first.kept.iter().chain(&second.kept).all(|c| c.op == CONNECT && c.status == 0), "{road}");
        let link = sessions[0].link().unwrap().id();
        assert!(sessions.iter().all(|s| s.link().unwrap().id() == link), "{road}: one link");
        let accepted: Vec<u64> = server.kept.drain(..).map(|c| c.value).collect();
        let theirs = |id: u64| handle::SESSIONS.get(id).unwrap().arc().link().unwrap().id();
        assert!(accepted.iter().all(|id| theirs(*id) == theirs(accepted[0])), "{road}: one link there");
        assert_eq!(first.context.stats().counters.connects, 100);
        assert_eq!(server.context.stats().counters.accepts, 100);
        assert_eq!(first.context.info().unwrap().sessions, 100, "{road}");
        assert_eq!(server.context.info().unwrap().sessions, 100, "{road}: slots set aside are no sessions");
        // Every message comes out of the session that it was put into, and the answer goes back there.
        first.kept.clear();
        second.kept.clear();
        for (i, session) in sessions.iter().enumerate() {
            let data = (i as u64).to_le_bytes();
            [&first, &second][i % 2].submit(send(session.id(), 1000, &data));
        }
        let all = &mut [&mut server, &mut first, &mut second];
        drive(all, "100 messages", |n| n[0].kept.len() == 100);
        for message in server.kept.drain(..).collect::<Vec<_>>() {
            server.submit(send(message.value, 1001, &message.data[..8]));
        }
        drive(&mut [&mut server, &mut first, &mut second], "100 answers", |n| {
            n[1].kept.len() + n[2].kept.len() == 200
        });
        for answer in first.kept.iter().chain(&second.kept).filter(|c| c.op == Op::Message as u32) {
            assert_eq!(u64::from_le_bytes(answer.data[..8].try_into().unwrap()), answer.user_data, "{road}");
            assert_eq!(answer.value, sessions[answer.user_data as usize].id());
        }
        // One worker leaves; the other's sessions do not notice.
        first.worker.close().unwrap();
        drive(&mut [&mut server, &mut second], "50 ends", |n| count(n[0], CLOSED) == 50);
        assert!(server.kept.iter().filter(|c| c.op == CLOSED).all(|c| c.status == 0), "{road}: in order");
        server.kept.clear();
        second.kept.clear();
        for session in sessions.iter().skip(1).step_by(2) {
            assert_eq!(session.state(), SessionState::Open, "{road}");
            second.submit(send(session.id(), 1002, b"still here"));
        }
        drive(&mut [&mut server, &mut second], "50 messages", |n| {
            count(n[0], Op::Message as u32) == 50 && n[1].answers(1002) == 50
        });
        assert_eq!(server.context.info().unwrap().sessions, 50, "{road}");
        second.close();
        server.close();
    }
}

fn count(node: &Node, op: u32) -> usize {
    node.kept.iter().filter(|c| c.op == op).count()
}

fn send(session: u64, user_data: u64, data: &[u8]) -> Request<'_> {
    Request { session, user_data, op: Op::Send as u16, data: data.into(), ..Request::default() }
}

#[test]
fn either_side_closes_and_the_other_is_told_once() {
    for (road, address, options) in roads() {
        for mode in [Mode::Polled, Mode::Threaded] {
            let mut pair = Pair::new(&address, &options, mode, mode);
            assert_eq!(pair.session.close(50), Status::Ok);
            let closed = pair.wait_client(|c| c.op == CLOSED);
            assert_eq!((status(&closed), closed.user_data, closed.flags), (Status::Ok, 50, 0), "{road}");
            let told = pair.wait_server(|c| c.op == CLOSED);
            assert_eq!((status(&told), told.user_data, told.value), (Status::Ok, 7, pair.accepted));
            assert_eq!(told.flags & COMPLETION_EVENT, COMPLETION_EVENT);
            assert_eq!(pair.session.state(), SessionState::Closed);
            // Closed is closed: nothing is accepted any more.
            assert!(matches!(pair.session.close(51), Status::WrongState | Status::StaleHandle));
            let late = send(pair.session.id(), 52, b"late");
            assert_eq!(pair.client.worker.submit(&[late]), (0, Status::StaleHandle), "{road}");
            assert_eq!(
                pair.server.worker.submit(&[send(pair.accepted, 1, b"late")]),
                (0, Status::StaleHandle)
            );
            // A new session over the same link, closed from the other side.
            let again = pair.client.dial(pair.listener.address(), 60);
            assert_eq!(status(&pair.wait_client(|c| c.op == CONNECT)), Status::Ok);
            let accepted = pair.wait_server(|c| c.op == ACCEPTED).value;
            assert_ne!(accepted, pair.accepted);
            let theirs = handle::SESSIONS.get(accepted).unwrap().arc();
            assert_eq!(theirs.close(70), Status::Ok);
            assert_eq!(pair.wait_server(|c| c.op == CLOSED).user_data, 70);
            let told = pair.wait_client(|c| c.op == CLOSED);
            assert_eq!((status(&told), told.user_data, told.value), (Status::Ok, 60, again.id()), "{road}");
            assert!(pair.client.kept.is_empty() && pair.server.kept.is_empty(), "{road}: nothing twice");
            pair.close();
        }
    }
}

#[test]
fn what_is_in_flight_when_a_session_closes_ends_once() {
    const SIZE: u64 = 8 << 20;
    for by_server in [false, true] {
        for (client, server) in [(Mode::Polled, Mode::Polled), (Mode::Threaded, Mode::Threaded)] {
            let options = with_transports(transport::TCP);
            let mut pair = Pair::new("tcp://127.0.0.1:0", &options, client, server);
            let theirs = pair.server.exported(SIZE, |i| i as u8);
            let key = pair.server.context.export(&theirs, 0, SIZE, 3).unwrap();
            let region = pair.import(&key).unwrap();
            let ours = pair.client.context.alloc(SIZE, 0).unwrap();
            for i in 0..30 {
                let op = [Op::Get, Op::Put, Op::Send][i % 3];
                pair.client.submit(Request {
                    user_data: 100 + i as u64,
                    session: pair.session.id(),
                    op: op as u16,
                    buffer: ours.id(),
                    length: SIZE,
                    region: if op == Op::Send { 0 } else { region },
                    ..Request::default()
                });
            }
            drive(&mut [&mut pair.server, &mut pair.client], "one end", |n| !n[1].kept.is_empty());
            let accepted = handle::SESSIONS.get(pair.accepted).unwrap().arc();
            let closed = if by_server { accepted.close(9) } else { pair.session.close(9) };
            assert_eq!(closed, Status::Ok);
            drive(&mut [&mut pair.server, &mut pair.client], "30 ends and the session's", |n| {
                let ended = (100..130).filter(|i| n[1].answers(*i) > 0).count();
                ended == 30 && count(n[0], CLOSED) == 1 && count(n[1], CLOSED) == 1
            });
            // The link still works, and what comes after shows that nothing late came before.
            pair.session = pair.client.dial(pair.listener.address(), 5);
            pair.wait_client(|c| c.op == CONNECT && c.user_data == 5);
            let mut codes = std::collections::BTreeMap::new();
            for i in 100..130 {
                assert_eq!(pair.client.answers(i), 1, "operation {i} ends once");
                let end = pair.client.take(|c| c.user_data == i).unwrap();
                assert!(matches!(status(&end), Status::Ok | Status::Canceled), "{end:?}");
                *codes.entry(status(&end).name()).or_insert(0) += 1;
            }
            eprintln!("closed by the server: {by_server}, {client:?}: {codes:?}");
            let get =
                Request { op: Op::Get as u16, buffer: ours.id(), length: SIZE, region, ..Request::default() };
            assert_eq!(status(&pair.run(Request { user_data: 8, ..get })), Status::Ok);
            assert!(bytes_of(&ours) == bytes_of(&theirs));
            pair.close();
        }
    }
}

#[test]
fn a_new_session_after_the_listener_came_back_is_a_whole_one() {
    for (road, address, options) in roads() {
        let mut pair = Pair::new(&address, &options, Mode::Polled, Mode::Threaded);
        let address = pair.listener.address().to_string();
        for round in 0..3 {
            pair.listener.close().unwrap();
            assert_eq!(pair.listener.close().unwrap_err().status, Status::StaleHandle);
            pair.server.worker.close().unwrap();
            let end = pair.wait_client_alone(|c| c.op == CLOSED);
            assert_eq!(status(&end), Status::Ok, "{road}: its owner closed it");
            // Nobody listens now. A session that was opened before that was known here ends at once.
            loop {
                pair.client.dial(&address, 90);
                let end = pair.wait_client_alone(|c| c.op == CONNECT);
                if status(&end) == Status::Unreachable {
                    break;
                }
                assert_eq!(status(&end), Status::Ok, "{road} {round}");
                pair.wait_client_alone(|c| c.op == CLOSED && c.value == end.value);
            }
            pair.server.worker = Worker::open(&pair.server.context, &WorkerOptions::default()).unwrap();
            pair.listener = Listener::open(&pair.server.worker, &address, 7).unwrap();
            pair.session = pair.client.dial(&address, 91);
            let connected = pair.wait_client(|c| c.op == CONNECT);
            assert_eq!(
                (status(&connected), connected.value),
                (Status::Ok, pair.session.id()),
                "{road} {round}"
            );
            pair.wait_server(|c| c.op == ACCEPTED);
            let theirs = pair.server.exported(100_000, |i| (i + round) as u8);
            let key = pair.server.context.export(&theirs, 0, 100_000, 1).unwrap();
            let region = pair.import(&key).unwrap();
            let ours = pair.client.context.alloc(100_000, 0).unwrap();
            let (op, buffer) = (Op::Get as u16, ours.id());
            let get = Request { user_data: 3, op, buffer, length: 100_000, region, ..Request::default() };
            assert_eq!(status(&pair.run(get)), Status::Ok, "{road} {round}");
            assert!(bytes_of(&ours) == bytes_of(&theirs), "{road} {round}");
        }
        pair.close();
    }
}

#[test]
fn listeners_of_every_kind_and_those_that_cannot_be() {
    let options = ContextOptions::default();
    let mut node = Node::new(&options, Mode::Threaded);
    let mut other = Node::new(&options, Mode::Polled);
    let unix = unix_address();
    for address in ["tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://localhost:0", unix.as_str()] {
        let listener = Listener::open(&node.worker, address, 1).unwrap();
        assert!(!listener.address().ends_with(":0"), "a real port: {}", listener.address());
        let taken = Listener::open(&other.worker, listener.address(), 2).err().unwrap();
        assert_eq!(taken.status, Status::AlreadyExists, "{address}: {taken}");
        let session = other.dial(listener.address(), 3);
        drive(&mut [&mut node, &mut other], address, |n| count(n[1], CONNECT) == 1);
        assert_eq!(other.take(|c| c.op == CONNECT).map(|c| c.status), Some(0), "{address}");
        other.submit(send(session.id(), 4, b"hello"));
        drive(&mut [&mut node, &mut other], address, |n| count(n[0], Op::Message as u32) == 1);
        node.kept.clear();
    }
    assert!(!std::path::Path::new(&unix[7..]).exists() || node.worker.close().is_ok());
    for bad in ["", "tcp://", "tcp://1.2.3.4", "udp://1.2.3.4:5", "unix://relative", "tcp://::1:80", "x"] {
        let error = Listener::open(&other.worker, bad, 0).err().unwrap();
        assert_eq!(error.status, Status::InvalidArgument, "{bad}: {error}");
        let error = Session::connect(&other.worker, bad, 77).err().unwrap();
        assert_eq!(error.status, Status::InvalidArgument, "{bad}: {error}");
    }
    let elsewhere = Listener::open(&other.worker, "tcp://192.0.2.1:7", 0).err().unwrap();
    assert!(elsewhere.status.is_error() && elsewhere.os_errno != 0, "{elsewhere}");
    for nobody in ["tcp://127.0.0.1:1", "tcp://[::1]:1", "unix:///tmp/rde-nobody-listens-here.sock"] {
        let session = other.dial(nobody, 78);
        drive(&mut [&mut other], nobody, |n| n[0].answers(78) == 1);
        let end = other.take(|c| c.user_data == 78).unwrap();
        assert_eq!((status(&end), end.value), (Status::Unreachable, session.id()), "{nobody}");
        assert!(handle::SESSIONS.get(session.id()).is_none(), "its handle is stale");
    }
    assert_eq!(other.context.stats().counters.connects_failed, 3);
    let _ = node.worker.close();
    node.context.close().unwrap();
    other.close();
}

#[test]
fn cancelled_and_late_operations_end_once_and_their_replies_change_nothing() {
    for (road, address, mut options) in roads() {
        options.ways = 4; // messages
        for (what, timeout_us) in [("cancel", 0), ("timeout", 20_000)] {
            // The server makes no progress unless it is polled.
            let mut pair = Pair::new(&address, &options, Mode::Polled, Mode::Polled);
            let theirs = pair.server.exported(1 << 20, |_| 0x11);
            let key = pair.server.context.export(&theirs, 0, 1 << 20, 7).unwrap();
            let region = pair.import(&key).unwrap();
            let ours = pair.client.context.alloc(1 << 20, 0).unwrap();
            fill_buffer(&ours, |_| 0xEE);
            let ops = [(Op::Get, 8), (Op::Get, 4096), (Op::Get, 1 << 20), (Op::FetchAdd, 0), (Op::Put, 64)];
            for (i, (op, length)) in ops.into_iter().enumerate() {
                let (session, buffer) = (pair.session.id(), if length == 0 { 0 } else { ours.id() });
                let user_data = 200 + i as u64;
                let asked =
                    Request { user_data, session, op: op as u16, timeout_us, buffer, ..Request::default() };
                pair.client.submit(Request { length, region, operand: 1, ..asked });
            }
            (0..200).for_each(|_| pair.client.poll());
            if timeout_us == 0 {
                assert!(pair.client.kept.is_empty(), "{road}: {:?}", pair.client.kept);
                (200..205).for_each(|i| assert_eq!(pair.client.worker.cancel(i), Status::Ok));
                assert_eq!(pair.client.worker.cancel(999), Status::Ok, "nobody's");
            }
            drive(&mut [&mut pair.client], what, |n| (200..205).all(|i| n[0].answers(i) == 1));
            let expected = if timeout_us == 0 { Status::Canceled } else { Status::TimedOut };
            assert!(pair.client.kept.iter().all(|c| status(c) == expected), "{road}: {:?}", pair.client.kept);
            pair.client.kept.clear();
            // Replies come in order: when this one is here, the late ones have been.
            let mark = Request { user_data: 300, op: Op::FetchAdd as u16, region, ..Request::default() };
            assert_eq!(status(&pair.run(Request { region_offset: 8, ..mark })), Status::Ok);
            assert!(bytes_of(&ours).iter().all(|byte| *byte == 0xEE), "{road} {what}: a late reply wrote");
            assert!(pair.client.kept.is_empty(), "{road} {what}: a second end {:?}", pair.client.kept);
            pair.close();
        }
    }
}

#[test]
fn a_worker_that_closes_takes_its_listeners_along() {
    let node = Node::new(&ContextOptions::default(), Mode::Threaded);
    let listener = Listener::open(&node.worker, "tcp://127.0.0.1:0", 0).unwrap();
    let address = listener.address().to_owned();
    let (id, worker) = (listener.id(), std::sync::Arc::downgrade(&node.worker));
    drop(listener);
    node.worker.close().unwrap();
    assert!(handle::LISTENERS.get(id).is_none(), "its handle is stale");
    let context = node.context.clone();
    drop(node);
    assert!(worker.upgrade().is_none(), "nothing holds the worker any more");
    let other = Worker::open(&context, &WorkerOptions::default()).unwrap();
    Listener::open(&other, &address, 0).unwrap();
    other.close().unwrap();
    context.close().unwrap();
}

#[test]
fn a_context_that_closes_takes_its_regions_along() {
    for (road, address, options) in roads() {
        let mut pair = Pair::new(&address, &options, Mode::Threaded, Mode::Threaded);
        let buffer = pair.server.exported(4096, |_| 0);
        let key = pair.server.context.export(&buffer, 0, 4096, 1).unwrap();
        let region = pair.import(&key).unwrap();
        assert!(handle::REGIONS.get(region).is_some(), "{road}");
        let client = pair.client.context.clone();
        pair.client.worker.close().unwrap();
        client.close().unwrap();
        assert!(handle::REGIONS.get(region).is_none(), "{road}: its handle is stale");
    }
}

#[test]
fn what_workers_do_is_counted() {
    let pair = Pair::new(&unix_address(), &ContextOptions::default(), Mode::Polled, Mode::Threaded);
    let before = pair.client.worker.stats();
    assert_eq!((before.counters.connects, before.connect.buckets.iter().sum::<u64>()), (1, 1));
    assert!(before.connect.max_ns > 0 && before.connect.max_ns == before.connect.sum_ns);
    let mut out = [Default::default(); 1];
    for _ in 0..5 {
        assert_eq!(pair.client.worker.poll(Some(Duration::ZERO), &mut out).unwrap(), 0);
    }
    // A poll that waits sleeps once its spin is over.
    assert_eq!(pair.client.worker.poll(Some(Duration::from_millis(20)), &mut out).unwrap(), 0);
    pair.client.worker.wake();
    let after = pair.client.worker.stats().counters;
    assert_eq!(after.wakes, 1);
    assert!(after.polls >= before.counters.polls + 6, "{} polls", after.polls);
    assert!(after.sleeps > before.counters.sleeps, "{} sleeps", after.sleeps);
    pair.close();
}
