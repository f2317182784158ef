//! Two contexts of this process, connected.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod calls;
pub mod exported;
pub mod mixed;
pub mod netns;
pub mod process;
pub mod transfer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdma_engine::Status;
use rdma_engine::engine::buffer::Buffer;
use rdma_engine::engine::context::Context;
use rdma_engine::engine::control::{KeyAsk, KeyGrant, KeyService, Link};
use rdma_engine::engine::handle;
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::{ContextOptions, Mode, WorkerOptions, transport};
use rdma_engine::engine::request::{COMPLETION_EVENT, Completion, Op, Request};
use rdma_engine::engine::session::Session;
use rdma_engine::engine::worker::Worker;

/// Nothing here takes this long; a test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A context with one worker, and what it has completed and nobody has asked for.
pub struct Node {
    pub context: Arc<Context>,
    pub worker: Arc<Worker>,
    pub kept: Vec<Completion>,
}

impl Node {
    pub fn new(options: &ContextOptions, mode: Mode) -> Node {
        Node::with(options, &WorkerOptions { mode, ..WorkerOptions::default() })
    }

    pub fn with(options: &ContextOptions, worker: &WorkerOptions) -> Node {
        let context = Context::open(options).unwrap();
        let worker = Worker::open(&context, worker).unwrap();
        Node { context, worker, kept: Vec::new() }
    }

    /// What to know of a node that waits in vain.
    pub fn state(&self) -> String {
        let counters = self.context.stats().counters;
        let (refused, accepts, lost) = (counters.refused, counters.accepts, counters.sessions_lost);
        format!("kept {:?}, refused {refused}, accepts {accepts}, lost {lost}", self.kept)
    }

    /// How many completions of requests with this user data came and were not taken.
    pub fn answers(&self, user_data: u64) -> usize {
        self.kept.iter().filter(|c| c.user_data == user_data && c.flags & COMPLETION_EVENT == 0).count()
    }

    /// Connects to `address`, without waiting for it.
    pub fn dial(&self, address: &str, user_data: u64) -> Arc<Session> {
        Session::connect(&self.worker, address, user_data).unwrap()
    }

    /// Takes what there is.
    pub fn poll(&mut self) {
        let mut out = [Completion::default(); 64];
        let taken = self.worker.poll(Some(Duration::ZERO), &mut out).unwrap();
        self.kept.extend_from_slice(&out[..taken]);
    }

    /// Takes the first kept completion that `wanted` accepts.
    pub fn take(&mut self, wanted: impl Fn(&Completion) -> bool) -> Option<Completion> {
        let at = self.kept.iter().position(wanted)?;
        Some(self.kept.remove(at))
    }

    pub fn submit(&self, request: Request<'_>) {
        assert_eq!(self.worker.submit(&[request]), (1, Status::Ok));
    }

    /// An exportable buffer filled by a function of the offset.
    pub fn exported(&self, length: u64, fill: impl Fn(usize) -> u8) -> Arc<Buffer> {
        let buffer = self.context.alloc(length, 1).unwrap();
        fill_buffer(&buffer, fill);
        buffer
    }

    pub fn close(self) {
        self.worker.close().unwrap();
        self.context.close().unwrap();
    }
}

pub fn fill_buffer(buffer: &Arc<Buffer>, fill: impl Fn(usize) -> u8) {
    let bytes: Vec<u8> = (0..buffer.len()).map(fill).collect();
    buffer.whole().unwrap().copy_from_slice(0, &bytes).unwrap();
}

pub fn bytes_of(buffer: &Arc<Buffer>) -> Vec<u8> {
    let mut bytes = vec![0; buffer.len()];
    buffer.whole().unwrap().copy_to_slice(0, &mut bytes).unwrap();
    bytes
}

/// A client and a server with one session between them.
pub struct Pair {
    pub client: Node,
    pub server: Node,
    pub listener: Arc<Listener>,
    /// The client's end.
    pub session: Arc<Session>,
    /// The server's end: its handle.
    pub accepted: u64,
}

impl Pair {
    pub fn new(address: &str, options: &ContextOptions, client: Mode, server: Mode) -> Pair {
        Pair::of(Node::new(options, client), Node::new(options, server), address)
    }

    pub fn of(client: Node, server: Node, address: &str) -> Pair {
        let listener = Listener::open(&server.worker, address, 7).unwrap();
        let session = Session::connect(&client.worker, listener.address(), 42).unwrap();
        let mut pair = Pair { client, server, listener, session, accepted: 0 };
        let connected = pair.wait_client(|c| c.op == Op::SessionConnect as u32);
        assert_eq!((connected.status, connected.user_data), (Status::Ok as i32, 42));
        assert_eq!(connected.value, pair.session.id());
        let accepted = pair.wait_server(|c| c.op == Op::SessionAccepted as u32);
        assert_eq!((accepted.status, accepted.user_data), (Status::Ok as i32, 7));
        pair.accepted = accepted.value;
        pair
    }

    /// Polls both until the client has what is wanted.
    pub fn wait_client(&mut self, wanted: impl Fn(&Completion) -> bool) -> Completion {
        let until = Instant::now() + PATIENCE;
        loop {
            self.server.poll();
            self.client.poll();
            if let Some(found) = self.client.take(&wanted) {
                return found;
            }
            assert!(Instant::now() < until, "never came; the client has {:?}", self.client.kept);
        }
    }

    /// Polls the client until it has what is wanted; the server's worker may be closed.
    pub fn wait_client_alone(&mut self, wanted: impl Fn(&Completion) -> bool) -> Completion {
        let mut found = None;
        drive(&mut [&mut self.client], "a completion at the client", |nodes| {
            found = nodes[0].take(&wanted);
            found.is_some()
        });
        found.unwrap()
    }

    /// Polls both until the server has what is wanted.
    pub fn wait_server(&mut self, wanted: impl Fn(&Completion) -> bool) -> Completion {
        let until = Instant::now() + PATIENCE;
        loop {
            self.client.poll();
            self.server.poll();
            if let Some(found) = self.server.take(&wanted) {
                return found;
            }
            assert!(Instant::now() < until, "never came; the server has {:?}", self.server.kept);
        }
    }

    /// Submits to the client and waits for the answer.
    pub fn run(&mut self, request: Request<'_>) -> Completion {
        let user_data = request.user_data;
        self.client.submit(Request { session: self.session.id(), ..request });
        self.wait_client(|c| c.user_data == user_data && c.flags & 2 == 0)
    }

    /// Imports a key at the client; the region's handle or the status.
    pub fn import(&mut self, key: &[u8]) -> Result<u64, Status> {
        let done = self.run(Request {
            user_data: 900,
            op: Op::RegionImport as u16,
            data: key.into(),
            ..Request::default()
        });
        match Status::from_i32(done.status) {
            Some(Status::Ok) => Ok(done.value),
            Some(status) => Err(status),
            None => panic!("a status that is none: {done:?}"),
        }
    }

    pub fn close(self) {
        self.client.close();
        self.server.close();
    }
}

pub fn with_transports(transports: u32) -> ContextOptions {
    ContextOptions { transports, ..ContextOptions::default() }
}

/// Address and options of each way a test should be tried.
pub fn roads() -> Vec<(&'static str, String, ContextOptions)> {
    vec![
        ("unix", unix_address(), patient(transport::ALL)),
        ("tcp to the same host", "tcp://127.0.0.1:0".into(), patient(transport::ALL)),
        ("tcp", "tcp://127.0.0.1:0".into(), patient(transport::TCP)),
    ]
}

/// On a machine with much to do a thread may not run for seconds, which is no loss of a peer here.
fn patient(transports: u32) -> ContextOptions {
    ContextOptions { keepalive: Duration::from_secs(60), ..with_transports(transports) }
}

/// The status of a completion.
pub fn status(completion: &Completion) -> Status {
    Status::from_i32(completion.status).unwrap()
}

/// A path for a Unix socket that nobody else uses, as an address.
pub fn unix_address() -> String {
    format!("unix:///tmp/rde-test-{}-{}.sock", std::process::id(), unique())
}

/// Polls all nodes until `done` holds.
pub fn drive(nodes: &mut [&mut Node], what: &str, mut done: impl FnMut(&mut [&mut Node]) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done(nodes) {
        nodes.iter_mut().for_each(|node| node.poll());
        assert!(
            Instant::now() < until,
            "never: {what}; {:?}",
            nodes.iter().map(|node| node.state()).collect::<Vec<_>>()
        );
    }
}

/// Waits until `done` holds, which somebody else brings about.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::yield_now();
    }
}

pub fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

pub fn region(handle: u64) -> Arc<rdma_engine::engine::region::Region> {
    handle::REGIONS.get(handle).unwrap().arc()
}

/// A control connection that grants nothing.
pub struct NoKeys;

impl KeyService for NoKeys {
    fn grant(&self, _: &Arc<Link>, _: &KeyAsk) -> Result<KeyGrant, Status> {
        Err(Status::NotFound)
    }
    fn dropped(&self, _: &Arc<Link>, _: u64) {}
    fn link_lost(&self, _: &Arc<Link>) {}
}
