//! Processes killed in the middle of a thousand calls, and 64 clients with 10,000 calls each under a plan of delays, calls
//! given up and sessions that end: one completion for each call, its own reply or none, and counters that add up.

mod common;

use common::calls::{received, serving};
use common::process::{Peer, hear, role, say};
use common::{Node, drive, roads, status, unix_address, wait_for};
use rdma_engine::Status;
use rdma_engine::engine::call::{CALLS, Call, Header, Once, Piece, Reply};
use rdma_engine::engine::handle;
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::{ContextOptions, Mode, WorkerOptions, transport};
use rdma_engine::engine::request::{Completion, Op, Request};
use rdma_engine::engine::session::Session;
use std::collections::HashMap;
use std::sync::Arc;

const CALLS_IN_FLIGHT: u64 = 1_000;

fn options(transports: &str) -> ContextOptions {
    ContextOptions { transports: transports.parse().unwrap(), ..ContextOptions::default() }
}

fn submit_calls(node: &Node, session: &Session) {
    for i in 0..CALLS_IN_FLIGHT {
        let bytes = vec![i as u8; if i % 10 == 0 { 3_000 } else { 8 }];
        let header = Header { offset: i, ..Header::default() };
        let request = Request::call(session.id(), 1, &header, bytes.as_slice().into());
        node.submit(Request { user_data: 100 + i, ..request });
    }
}

/// Not a test: what a started peer does.
#[test]
fn peer() {
    let Some(role) = role() else { return };
    let mut node = Node::with(&options(&role[2]), &serving(Mode::Threaded));
    if role[0] == "caller" {
        let session = node.dial(&role[1], 1);
        drive(&mut [&mut node], "a session", |n| n[0].answers(1) == 1);
        submit_calls(&node, &session);
        drive(&mut [&mut node], "the end of the test", |_| false);
    }
    let listener = Listener::open(&node.worker, &role[1], 1).unwrap();
    say(&format!("address {}", listener.address()));
    let mut calls = Vec::new();
    drive(&mut [&mut node], "a thousand calls", |n| {
        let more = |c: &Completion| c.op == Op::CallReceived as u32;
        while let Some(event) = n[0].take(more) {
            calls.push(received(&event));
        }
        calls.len() as u64 == CALLS_IN_FLIGHT
    });
    say("full");
    hear();
}

fn two_roads() -> [(&'static str, String, u32); 2] {
    [("unix", unix_address(), transport::ALL), ("tcp", "tcp://127.0.0.1:0".into(), transport::TCP)]
}

#[test]
fn a_client_is_killed_with_a_thousand_calls_in_flight() {
    for (road, address, transports) in two_roads() {
        let text = transports.to_string();
        let mut node = Node::with(&options(&text), &serving(Mode::Threaded));
        let listener = Listener::open(&node.worker, &address, 7).unwrap();
        for round in 0..2 {
            let peer = Peer::start("peer", &["caller", listener.address(), &text], &[]);
            let mut calls = Vec::new();
            drive(&mut [&mut node], "a thousand calls", |n| {
                while let Some(event) = n[0].take(|c| c.op == Op::CallReceived as u32) {
                    calls.push(received(&event));
                }
                calls.len() as u64 == CALLS_IN_FLIGHT
            });
            peer.reap();
            drive(&mut [&mut node], "the loss", |n| {
                n[0].kept.iter().any(|c| c.op == Op::SessionClosed as u32)
            });
            let told = node.kept.iter().filter(|c| c.op == Op::CallCanceled as u32).count();
            assert_eq!(told as u64, CALLS_IN_FLIGHT, "{road} {round}: each taker is told");
            let end = node.take(|c| c.op == Op::SessionClosed as u32).unwrap();
            assert_eq!(status(&end), Status::ConnectionLost, "{road} {round}");
            assert!(calls.iter().all(Call::is_canceled));
            // Answered or given up: nobody hears it.
            calls
                .into_iter()
                .enumerate()
                .for_each(|(i, call)| if i % 2 == 0 { common::calls::echo(call) } else { drop(call) });
            node.kept.clear();
        }
        wait_for("nothing is left of them", || {
            CALLS.is_empty() && node.context.info().unwrap().sessions == 0
        });
        wait_for("their memory", || node.context.info().unwrap().memory_used == 0);
        node.close();
    }
}

#[test]
fn a_server_is_killed_with_a_thousand_calls_in_flight() {
    for (road, address, transports) in two_roads() {
        let text = transports.to_string();
        let mut node = Node::new(&options(&text), Mode::Threaded);
        let mut address = address;
        for round in 0..2 {
            let mut peer = Peer::start("peer", &["server", &address, &text], &[]);
            address = peer.expect("address ");
            let session = node.dial(&address, 1);
            drive(&mut [&mut node], "a session", |n| n[0].answers(1) == 1);
            assert_eq!(status(&node.take(|c| c.user_data == 1).unwrap()), Status::Ok, "{road} {round}");
            submit_calls(&node, &session);
            peer.expect("full");
            peer.reap();
            drive(&mut [&mut node], "every end", |n| {
                let closed = n[0].kept.iter().any(|c| c.op == Op::SessionClosed as u32);
                closed && n[0].kept.len() as u64 > CALLS_IN_FLIGHT
            });
            let mut ends: Vec<u64> = Vec::new();
            for done in node.kept.drain(..).filter(|c| c.op == Op::Call as u32) {
                assert_eq!(status(&done), Status::ConnectionLost, "{road} {round}");
                ends.push(done.user_data);
            }
            ends.sort_unstable();
            assert!(ends.iter().copied().eq(100..100 + CALLS_IN_FLIGHT), "{road} {round}: each once");
        }
        node.close();
    }
}

const CLIENTS: usize = 64;
const EACH: u64 = 10_000;
/// Calls of one client in flight.
const WINDOW: usize = 24;
const SLOTS: u16 = 4;
const CONNECT: u64 = u64::MAX;
const CLOSE: u64 = u64::MAX - 1;

/// The plan: the same for the same seed.
struct Plan(u64);

impl Plan {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

struct Client {
    index: u64,
    node: Node,
    session: Option<Arc<Session>>,
    open: bool,
    started: u64,
    ended: u64,
    /// Calls in flight: what was sent, and the slot of one that happens once.
    flying: HashMap<u64, (usize, Option<Once>)>,
    /// Slots that are free, with their next sequence, and calls that must be made again.
    free: Vec<Once>,
    again: Vec<(u64, Once)>,
    good: u64,
    once_done: u64,
}

fn payload(client: u64, call: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![(client ^ call) as u8; length];
    bytes[..8].copy_from_slice(&client.to_le_bytes());
    bytes[8..16].copy_from_slice(&call.to_le_bytes());
    bytes
}

impl Client {
    fn new(index: u64, options: &ContextOptions) -> Client {
        let free = (0..SLOTS).map(|slot| Once { slot, sequence: 1 }).collect();
        Client {
            index,
            node: Node::new(options, Mode::Polled),
            session: None,
            open: false,
            started: 0,
            ended: 0,
            flying: HashMap::new(),
            free,
            again: Vec::new(),
            good: 0,
            once_done: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.ended == EACH
    }

    fn submit(&mut self, call: u64, length: usize, once: Option<Once>) {
        let Some(session) = &self.session else { return };
        let bytes = payload(self.index, call, length);
        let pieces = [Piece::bytes(&bytes)];
        let data = rdma_engine::engine::bytes::Bytes::pieces(&pieces);
        let request = Request::call(session.id(), once.is_some() as u32, &Header::default(), data);
        let request = Request { user_data: call, ..once.map_or(request, |once| request.once(once)) };
        self.node.submit(request);
        self.flying.insert(call, (length, once));
    }

    /// Fills the window, now and then ends the session, and takes what came.
    fn round(&mut self, plan: &mut Plan, address: &str) {
        if self.session.is_none() {
            self.session = Some(self.node.dial(address, CONNECT));
        }
        while self.open && self.flying.len() < WINDOW {
            if let Some((call, once)) = self.again.pop() {
                self.submit(call, 16, Some(once));
                continue;
            }
            if self.started == EACH {
                break;
            }
            self.started += 1;
            let once = if plan.one_in(16) { self.free.pop() } else { None };
            let length = if once.is_some() {
                16
            } else {
                [16, 16, 16, 16, 40, 200, 3_000, 16][plan.next() as usize % 8]
            };
            self.submit(self.started, length, once);
        }
        if self.open && plan.one_in(4_000) {
            self.open = false;
            // Refused when the server was first.
            let _ = self.session.as_ref().map(|session| session.close(CLOSE));
        }
        self.node.poll();
        for done in std::mem::take(&mut self.node.kept) {
            self.took(&done);
        }
    }

    fn took(&mut self, done: &Completion) {
        match (done.op, done.user_data) {
            (op, CONNECT) if op == Op::SessionConnect as u32 => {
                assert_eq!(status(done), Status::Ok);
                self.open = true;
            }
            // Both ends may close one session: the second end is of one that is gone.
            (op, _) if op == Op::SessionClosed as u32 => {
                if self.session.as_ref().is_some_and(|session| session.id() == done.value) {
                    (self.session, self.open) = (None, false);
                }
            }
            (op, call) if op == Op::Call as u32 => self.call_ended(call, done),
            other => panic!("client {}: {other:?}", self.index),
        }
    }

    fn call_ended(&mut self, call: u64, done: &Completion) {
        let Some((length, once)) = self.flying.remove(&call) else {
            panic!("client {}: call {call} ended twice, or never began", self.index)
        };
        let end = status(done);
        if let Some(once) = once {
            match end {
                Status::Ok => {
                    self.once_done += 1;
                    self.free.push(Once { sequence: once.sequence + 1, ..once });
                }
                Status::Canceled | Status::Busy | Status::QueueFull => return self.again.push((call, once)),
                other => panic!("client {}: a call that happens once ended with {other:?}", self.index),
            }
        }
        if end == Status::Ok {
            let bytes = common::calls::payload_of(&self.node, done);
            assert!(bytes == payload(self.index, call, length), "client {}: another's reply", self.index);
            self.good += 1;
        } else {
            assert!(matches!(end, Status::Canceled | Status::QueueFull), "client {}: {end:?}", self.index);
        }
        self.ended += 1;
    }
}

#[derive(Default)]
struct Served {
    later: Vec<Call>,
    once: u64,
}

impl Served {
    fn answer(call: Call) {
        let bytes = call.to_vec();
        assert!(call.reply(&Reply { pieces: &[Piece::bytes(&bytes)], ..Reply::default() }).is_ok());
    }

    /// Answers, delays or gives up, as the plan says; now and then ends a session.
    fn round(&mut self, node: &mut Node, plan: &mut Plan) {
        node.poll();
        for event in std::mem::take(&mut node.kept) {
            if event.op == Op::SessionAccepted as u32 && plan.one_in(16) {
                let session = handle::SESSIONS.get(event.value).map(|session| session.arc());
                // It may have ended by itself.
                session.map(|session| session.close(CLOSE));
            }
            if event.op != Op::CallReceived as u32 {
                continue;
            }
            let Ok(call) = Call::take(event.value) else { continue };
            self.once += u64::from(call.is_once());
            match plan.next() % 32 {
                0..4 => self.later.push(call),
                4 if !call.is_once() => drop(call),
                _ => Served::answer(call),
            }
        }
        while self.later.len() > 200 || (!self.later.is_empty() && plan.one_in(3)) {
            let at = plan.next() as usize % self.later.len();
            Served::answer(self.later.swap_remove(at));
        }
    }
}

#[test]
fn sixty_four_clients_follow_a_plan_of_faults() {
    let seed = std::env::var("RDE_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or(u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    println!("RDE_SEED={seed}");
    let mut plan = Plan(seed);
    let (_, address, options) = roads().swap_remove(2);
    let options = ContextOptions { memory_limit: 256 << 20, ..options };
    let worker = WorkerOptions { completion_capacity: 65_536, ..serving(Mode::Polled) };
    let mut server = Node::with(&options, &worker);
    let listener = Listener::open(&server.worker, &address, 7).unwrap();
    let mut clients: Vec<Client> = (0..CLIENTS as u64).map(|i| Client::new(i, &options)).collect();
    let mut served = Served::default();
    let began = std::time::Instant::now();
    while !clients.iter().all(Client::is_done) {
        for client in &mut clients {
            if !client.is_done() {
                client.round(&mut plan, listener.address());
            }
            served.round(&mut server, &mut plan);
        }
        let standing =
            || clients.iter().filter(|c| !c.is_done()).map(|c| (c.index, c.started, c.ended, c.open));
        let late = began.elapsed() > 6 * common::PATIENCE;
        assert!(!late, "seed {seed}: it stands still: {:?}", standing().collect::<Vec<_>>());
    }
    let took = began.elapsed();
    let total = |count: fn(&Client) -> u64| clients.iter().map(count).sum::<u64>();
    let (good, once) = (total(|c| c.good), total(|c| c.once_done));
    println!("{} calls in {took:?}: {good} answered, {once} of them once", CLIENTS as u64 * EACH);
    assert!(clients.iter().all(|c| c.flying.is_empty() && c.again.is_empty()), "seed {seed}");
    assert_eq!(served.once, once, "seed {seed}: each ran once");
    assert!(good > CLIENTS as u64 * EACH / 2 && once > 0, "seed {seed}");
    let repeated = server.context.stats().counters.calls_repeated;
    println!("{repeated} repetitions were answered from what was kept");
    drop(served);
    clients.into_iter().for_each(|client| client.node.close());
    server.close();
}
