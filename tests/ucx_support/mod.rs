//! Two workers of one process, and driving them.
#![allow(dead_code, reason = "each test binary uses a part")]

use rdma_engine::ucx::{Completed, Context, ContextConfig, EndpointId, Kind, Message, Worker};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const SHARED_MEMORY: &str = "posix,cma,self";
pub const TCP: &str = "tcp,self";

/// Longest wait for something that must happen.
pub const BOUND: Duration = Duration::from_secs(60);

pub fn config(tls: &str) -> ContextConfig {
    let net_devices = if tls.contains("tcp") { "lo".to_owned() } else { String::new() };
    ContextConfig { tls: tls.to_owned(), net_devices, rma: true, ..ContextConfig::default() }
}

pub fn context(tls: &str) -> Arc<Context> {
    Context::new(&config(tls)).unwrap_or_else(|error| panic!("{tls}: {error}"))
}

/// `a` and `b`, each with an endpoint to the other.
pub struct Pair {
    pub a: Worker<Vec<u8>>,
    pub b: Worker<Vec<u8>>,
    pub to_b: EndpointId,
    pub to_a: EndpointId,
}

impl Pair {
    pub fn new(tls: &str) -> Pair {
        let mut a = Worker::new(context(tls)).unwrap();
        let mut b = Worker::new(context(tls)).unwrap();
        let to_b = a.endpoint(&b.address().unwrap()).unwrap();
        let to_a = b.endpoint(&a.address().unwrap()).unwrap();
        Pair { a, b, to_b, to_a }
    }

    /// Progresses both until `done` gives something.
    pub fn until<R>(&mut self, what: &str, mut done: impl FnMut(&mut Pair) -> Option<R>) -> R {
        let start = Instant::now();
        loop {
            self.a.progress().unwrap();
            self.b.progress().unwrap();
            if let Some(result) = done(self) {
                return result;
            }
            assert!(start.elapsed() < BOUND, "{what}: not within {BOUND:?}");
        }
    }

    pub fn message_at_b(&mut self) -> Message {
        self.until("a message at b", |pair| pair.b.next_message())
    }

    pub fn completed_at_a(&mut self) -> Completed<Vec<u8>> {
        self.until("a completion at a", |pair| pair.a.next_completed())
    }

    pub fn close_of_a(&mut self, token: u64) -> Vec<Completed<Vec<u8>>> {
        let mut before = Vec::new();
        self.until("the close of a's endpoint", |pair| {
            while let Some(done) = pair.a.next_completed() {
                if done.kind == Kind::Close {
                    assert_eq!(done.token, token);
                    return Some(());
                }
                before.push(done);
            }
            None
        });
        before
    }
}

/// Bytes that depend on a seed: any shift or mix-up shows.
pub fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
