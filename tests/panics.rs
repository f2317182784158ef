//! A panic in each layer below the C ABI: what was asked for ends once with a status, the worker or the control thread
//! that met it is stopped, everything else goes on. (`ffi_contract` has the layer above.)
#![cfg(debug_assertions)]

mod common;

use common::{Node, Pair, drive, roads, status};
use parking_lot::{Mutex, MutexGuard};
use rdma_engine::engine::options::{ContextOptions, Mode, way};
use rdma_engine::engine::request::{Op, Request};
use rdma_engine::engine::session::Session;
use rdma_engine::{Status, fault};

/// The armed place is the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock()
}

/// A message that is too long for a ring.
fn long_message(session: u64) -> Request<'static> {
    Request { op: Op::Send as u16, session, data: (&[7u8; 1_000][..]).into(), ..Request::default() }
}

/// A client with a get in flight that nobody serves: the server's worker is polled, and nobody polls it any more.
fn waiting(address: &str, options: &ContextOptions, mode: Mode) -> Pair {
    let options = ContextOptions { ways: way::MESSAGE, ..options.clone() };
    let mut pair = Pair::new(address, &options, mode, Mode::Polled);
    // So that UCX needs nothing more of the server to send.
    pair.server.submit(long_message(pair.accepted));
    drive(&mut [&mut pair.client, &mut pair.server], "a message", |n| {
        n[0].kept.iter().any(|c| c.op == Op::Message as u32)
    });
    let theirs = pair.server.exported(100_000, |i| i as u8);
    let key = pair.server.context.export(&theirs, 0, 100_000, 3).unwrap();
    let region = pair.import(&key).unwrap();
    let ours = pair.client.context.alloc(100_000, 0).unwrap();
    let (session, op, buffer) = (pair.session.id(), Op::Get as u16, ours.id());
    let get = Request { user_data: 3, session, op, buffer, length: 100_000, region, ..Request::default() };
    pair.client.submit(get);
    pair
}

/// What every stopped worker owes: the get has ended once, nothing else is taken, and closing works.
fn is_stopped(mut pair: Pair, place: &str) {
    // A poll of a stopped worker is an error once there is nothing left to take.
    let mut ends = Vec::new();
    let error = loop {
        let mut out = [Default::default(); 8];
        match pair.client.worker.poll(None, &mut out) {
            Ok(taken) => ends.extend_from_slice(&out[..taken]),
            Err(error) => break error,
        }
    };
    assert_eq!(error.status, Status::Panic, "{place}");
    let gets: Vec<_> = ends.iter().filter(|c| c.user_data == 3).map(status).collect();
    assert_eq!(gets, [Status::Panic], "{place}");
    let flush = Request { session: pair.session.id(), op: Op::Flush as u16, ..Request::default() };
    assert_eq!(pair.client.worker.submit(&[flush]), (0, Status::Panic), "{place}");
    let refused = Session::connect(&pair.client.worker, pair.listener.address(), 1);
    assert_eq!(refused.err().unwrap().status, Status::Panic, "{place}");
    pair.client.worker.close().unwrap();
    // The same context goes on with another worker, and the same server with another session.
    drive(&mut [&mut pair.server], "the end at the server", |n| {
        n[0].kept.iter().any(|c| c.op == Op::SessionClosed as u32)
    });
    let worker =
        rdma_engine::engine::worker::Worker::open(&pair.client.context, &Default::default()).unwrap();
    let mut second = Node { context: pair.client.context.clone(), worker, kept: Vec::new() };
    second.dial(pair.listener.address(), 5);
    drive(&mut [&mut second, &mut pair.server], "another session", |n| n[0].answers(5) == 1);
    assert_eq!(status(&second.kept[0]), Status::Ok, "{place}");
    second.close();
    pair.server.close();
}

#[test]
fn in_a_round_of_a_worker() {
    let _alone = alone();
    for mode in [Mode::Polled, Mode::Threaded] {
        for (name, address, options) in roads() {
            let pair = waiting(&address, &options, mode);
            fault::arm("worker.progress");
            is_stopped(pair, &format!("{mode:?} over {name}"));
        }
    }
}

#[test]
fn in_a_callback_of_ucx() {
    let _alone = alone();
    for mode in [Mode::Polled, Mode::Threaded] {
        for (name, address, options) in roads() {
            let options = ContextOptions { streams: false, ..options };
            let pair = waiting(&address, &options, mode);
            // The server sends; it polls no more, so that only the client's callback can run.
            fault::arm("ucx.message");
            pair.server.worker.submit(&[long_message(pair.accepted)]);
            is_stopped(pair, &format!("{mode:?} over {name}"));
        }
    }
}

#[test]
fn in_the_control_thread() {
    let _alone = alone();
    for (name, address, options) in roads() {
        let pair = waiting(&address, &options, Mode::Threaded);
        fault::arm("control.command");
        let mut client = pair.client;
        // The question that it fails over is answered too.
        client.dial("tcp://127.0.0.1:1", 8);
        drive(&mut [&mut client], "all ends", |n| {
            n[0].answers(3) == 1
                && n[0].answers(8) == 1
                && n[0].kept.iter().any(|c| c.op == Op::SessionClosed as u32)
        });
        assert_ne!(status(&client.take(|c| c.user_data == 3).unwrap()), Status::Ok, "{name}");
        assert_eq!(status(&client.take(|c| c.user_data == 8).unwrap()), Status::Internal, "{name}");
        client.dial(pair.listener.address(), 6);
        drive(&mut [&mut client], "a refusal", |n| n[0].answers(6) == 1);
        // Stopped, or about to be.
        let end = status(&client.take(|c| c.user_data == 6).unwrap());
        assert!(matches!(end, Status::WrongState | Status::Internal), "{name}: {end:?}");
        client.close();
        // The peer has lost that session and takes others.
        let mut server = pair.server;
        let mut guest = Node::new(&options, Mode::Threaded);
        guest.dial(pair.listener.address(), 5);
        drive(&mut [&mut guest, &mut server], "a guest", |n| n[0].answers(5) == 1);
        assert_eq!(status(&guest.kept[0]), Status::Ok, "{name}");
        assert!(server.kept.iter().any(|c| c.op == Op::SessionClosed as u32), "{name}");
        guest.close();
        server.close();
    }
}
