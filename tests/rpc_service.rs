//! The Rust server and client: handlers of every kind, one answer for each call whatever they do, connections that are
//! shared, remade and given up on.

mod common;

use common::{roads, wait_for};
use parking_lot::Mutex;
use rdma_engine::Status;
use rdma_engine::engine::context::Context;
use rdma_engine::engine::options::ContextOptions;
use rdma_engine::rpc::{
    Answer, Call, Client, ClientOptions, Header, Methods, Outgoing, Part, Piece, Server, ServerOptions,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ECHO: u32 = 1;
const SLOW: u32 = 2;
const PANIC: u32 = 3;
const LATER: u32 = 4;
const LATER_PANIC: u32 = 5;
const COUNT: u32 = 6;
const BIG: u32 = 7;
const TIMEOUT: Duration = Duration::from_secs(20);

fn echo(call: &Call) -> Answer {
    let mut header = call.header();
    header.len = call.len() as u64;
    let part = match call.bytes() {
        Some(bytes) => Part::Bytes(bytes.to_vec()),
        None => Part::Buffer { buffer: call.span().unwrap().buffer().clone(), offset: 0, length: call.len() },
    };
    Answer { status: -3, header, parts: vec![part] }
}

struct Fixture {
    context: Arc<Context>,
    server: Server,
    later: Arc<Mutex<Vec<Call>>>,
    counted: Arc<AtomicU64>,
    gate: Arc<AtomicU32>,
}

impl Fixture {
    fn new(address: &str, options: &ContextOptions, server: &ServerOptions) -> Fixture {
        let context = Context::open(options).unwrap();
        let later = Arc::new(Mutex::new(Vec::new()));
        let counted = Arc::new(AtomicU64::new(0));
        let gate = Arc::new(AtomicU32::new(0));
        let (kept, count, open) = (later.clone(), counted.clone(), gate.clone());
        let methods = Methods::new()
            .on(ECHO, echo)
            .on_blocking(SLOW, move |_| {
                wait_for("the gate", || open.load(Ordering::Acquire) > 0);
                Answer::bytes("slow")
            })
            .on(PANIC, |_| panic!("a handler's defect"))
            .take(LATER, move |call| kept.lock().push(call))
            .take(LATER_PANIC, |_call| panic!("with a call in hand"))
            .on(COUNT, move |call| {
                assert!(call.is_once());
                Answer::bytes((count.fetch_add(1, Ordering::Relaxed) + 1).to_le_bytes())
            })
            .on(BIG, |_| Answer::bytes(vec![1; 70_000]));
        let server = Server::open(&context, address, methods, server).unwrap();
        Fixture { context, server, later, counted, gate }
    }

    fn close(self) {
        self.later.lock().clear();
        self.server.close();
        self.context.close().unwrap();
    }
}

fn client(options: &ContextOptions) -> (Arc<Context>, Client) {
    let context = Context::open(options).unwrap();
    let client = Client::open(&context, &ClientOptions::default()).unwrap();
    (context, client)
}

fn to(method: u32) -> Outgoing<'static> {
    Outgoing { method, timeout: TIMEOUT, ..Outgoing::default() }
}

#[test]
fn calls_of_every_length_are_answered_by_their_handler() {
    for (road, address, options) in roads() {
        let fixture = Fixture::new(&address, &options, &ServerOptions::default());
        let (context, client) = client(&options);
        let address = fixture.server.address();
        for length in [0, 1, 24, 100, 1000, 60_000] {
            let bytes = vec![length as u8; length];
            let header = Header { offset: 9, flags: 1, ..Header::default() };
            let call = Outgoing { header, pieces: &[Piece::bytes(&bytes)], ..to(ECHO) };
            let replied = client.call(address, &call).unwrap();
            assert_eq!(replied.status, -3);
            assert_eq!((replied.header.offset, replied.header.len), (9, length as u64), "{road} {length}");
            assert_eq!((replied.body.len(), replied.body.to_vec()), (length, bytes), "{road} {length}");
        }
        let size = 5 << 20;
        let (from, into) = (context.alloc(size, 0).unwrap(), context.alloc(size, 0).unwrap());
        common::fill_buffer(&from, |i| (i * 3) as u8);
        let pieces = [Piece::buffer(from.id(), 0, size as usize)];
        let call = Outgoing { pieces: &pieces, reply: Some((into.id(), 0, size)), ..to(ECHO) };
        let replied = client.call(address, &call).unwrap();
        assert_eq!(replied.body.len() as u64, size);
        assert!(common::bytes_of(&into) == common::bytes_of(&from), "{road}");
        assert_eq!(context.stats().counters.accepts + context.stats().counters.connects, 1, "one session");
        client.close();
        context.close().unwrap();
        fixture.close();
    }
}

#[test]
fn every_path_of_a_server_answers_once() {
    for (road, address, options) in roads() {
        let fixture = Fixture::new(&address, &options, &ServerOptions::default());
        let (context, client) = client(&options);
        let address = fixture.server.address();
        for (method, status) in [
            (99, Status::UnknownMethod),
            (PANIC, Status::Internal),
            (LATER_PANIC, Status::Internal),
            (BIG, Status::InvalidArgument),
        ] {
            assert_eq!(client.call(address, &to(method)).unwrap_err().status, status, "{road} {method}");
        }
        // Still there.
        assert_eq!(client.call(address, &to(ECHO)).unwrap().status, -3);
        // Answered later, in the other order, and one given up.
        let tickets: Vec<_> = (0..3).map(|_| client.start(address, &to(LATER)).unwrap()).collect();
        wait_for("three calls", || fixture.later.lock().len() == 3);
        let calls = std::mem::take(&mut *fixture.later.lock());
        std::thread::spawn(move || {
            for (i, call) in calls.into_iter().enumerate().rev() {
                if i == 1 { drop(call) } else { common::calls::echo(call) }
            }
        });
        let ends: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait().map(|r| r.status)).collect();
        let statuses: Vec<_> = ends.iter().map(|end| end.as_ref().map_err(|e| e.status).copied()).collect();
        assert_eq!(statuses, [Ok(4), Err(Status::Canceled), Ok(4)], "{road}");
        // Nobody waits: the server hears of it.
        drop(client.start(address, &to(LATER)).unwrap());
        client.call(address, &to(ECHO)).unwrap();
        wait_for("it was told", || fixture.later.lock().iter().all(Call::is_canceled));
        client.notify(address, &to(LATER)).unwrap();
        wait_for("a one-way call", || fixture.later.lock().iter().any(Call::is_one_way));
        assert_eq!(fixture.context.stats().counters.handler_panics, 2);
        client.close();
        context.close().unwrap();
        fixture.close();
    }
}

#[test]
fn handlers_that_block_hold_up_nobody_and_too_many_are_refused() {
    let (_, address, options) = roads().swap_remove(0);
    let few = ServerOptions { blocking_threads: 2, blocking_queue: 3, ..ServerOptions::default() };
    let fixture = Fixture::new(&address, &options, &few);
    let (context, client) = client(&options);
    let address = fixture.server.address();
    let tickets: Vec<_> = (0..10).map(|_| client.start(address, &to(SLOW)).unwrap()).collect();
    // One server thread: when this is answered, the ten have been dealt with.
    assert_eq!(client.call(address, &to(ECHO)).unwrap().status, -3);
    let refused = fixture.context.stats().counters.calls_refused;
    // Between 3 and 5 are in hand, by how far the two threads were.
    assert!((5..=7).contains(&refused), "{refused}");
    fixture.gate.store(1, Ordering::Release);
    let (good, bad): (Vec<_>, Vec<_>) = tickets.into_iter().map(|t| t.wait()).partition(Result::is_ok);
    assert_eq!((good.len() as u64, bad.len() as u64), (10 - refused, refused));
    assert!(good.into_iter().all(|answer| answer.unwrap().body.to_vec() == b"slow"));
    assert!(bad.into_iter().all(|error| error.unwrap_err().status == Status::QueueFull));
    client.close();
    context.close().unwrap();
    fixture.close();
}

#[test]
fn a_peer_that_is_not_there_is_asked_once_and_found_again_later() {
    let (_, _, options) = roads().swap_remove(2);
    let probe = Fixture::new("tcp://127.0.0.1:0", &options, &ServerOptions::default());
    let address = probe.server.address().to_owned();
    let (context, client) = client(&options);
    client.call(&address, &to(ECHO)).unwrap();
    probe.close();
    // Lost, dialled again, and refused.
    wait_for("the loss", || client.call(&address, &to(ECHO)).is_err_and(|e| e.status == Status::Unreachable));
    let failed = context.stats().counters.connects_failed;
    let cached = (0..100).filter(|_| client.call(&address, &to(ECHO)).is_err()).count();
    assert_eq!(cached, 100);
    assert!(context.stats().counters.connects_failed <= failed + 2, "most were not dialled");
    let again = Fixture::new(&address, &options, &ServerOptions::default());
    wait_for("it is found again", || client.call(&address, &to(ECHO)).is_ok());
    client.close();
    context.close().unwrap();
    again.close();
}

#[test]
fn a_call_that_happens_once_survives_the_server_that_hangs_up() {
    for (road, address, options) in roads() {
        let fixture = Fixture::new(&address, &options, &ServerOptions::default());
        let (context, client) = client(&options);
        let address = fixture.server.address();
        for expected in 1..=3u64 {
            let replied = client.call_once(address, &to(COUNT)).unwrap();
            assert_eq!(replied.body.to_vec(), expected.to_le_bytes(), "{road}");
        }
        // From several threads at once: as many slots as threads.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| drop(client.call_once(address, &to(COUNT)).unwrap())));
            }
        });
        assert_eq!(fixture.counted.load(Ordering::Relaxed), 203, "{road}");
        // What cannot be kept fails, and fails the same way again: it has run.
        assert_eq!(client.call_once(address, &to(PANIC)).unwrap_err().status, Status::Internal);
        assert_eq!(client.call_once(address, &to(99)).unwrap_err().status, Status::UnknownMethod);
        assert!(client.call_once(address, &to(COUNT)).is_ok());
        // A server that has forgotten everything.
        let bound = address.to_owned();
        fixture.close();
        let again = Fixture::new(&bound, &options, &ServerOptions::default());
        // Once the loss is known: what is sent into a dying server may have happened.
        wait_for("another session", || client.call(&bound, &to(ECHO)).is_ok());
        let replied = client.call_once(&bound, &to(COUNT)).unwrap();
        assert_eq!(replied.body.to_vec(), 1u64.to_le_bytes(), "{road}");
        client.close();
        context.close().unwrap();
        again.close();
    }
}

#[test]
fn threads_share_a_client_and_everyone_gets_his_own_answer() {
    for (road, address, options) in roads() {
        let fixture = Fixture::new(&address, &options, &ServerOptions::default());
        let (context, client) = client(&options);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (client, address) = (&client, fixture.server.address());
                scope.spawn(move || {
                    for i in 0..500u64 {
                        let bytes = [thread.to_le_bytes(), i.to_le_bytes()].concat();
                        let call = Outgoing { pieces: &[Piece::bytes(&bytes)], ..to(ECHO) };
                        let replied = client.call(address, &call).unwrap();
                        assert_eq!(replied.body.to_vec(), bytes);
                    }
                });
            }
        });
        println!("{road}: 4,000 calls of 8 threads in {:?}", began.elapsed());
        assert_eq!(context.stats().counters.calls, 4_000);
        client.close();
        context.close().unwrap();
        fixture.close();
    }
}
