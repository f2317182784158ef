//! A peer that dies, in a process of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in tests a failure is the answer"
)]

mod ucx_support;

use rdma_engine::ucx::{Close, Kind, Protocol, Started, Worker, leaked};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use ucx_support::{BOUND, SHARED_MEMORY, TCP, config, pattern};

/// Names the transports, and makes this process the peer.
const PEER: &str = "UCX_TEST_PEER_TLS";

fn worker(tls: &str) -> Worker<Vec<u8>> {
    let mut config = config(tls);
    config.keepalive = Some(std::time::Duration::from_millis(100));
    Worker::new(rdma_engine::ucx::Context::new(&config).unwrap()).unwrap()
}

/// Not a test: the peer, when a test starts it. Prints its address and takes messages until it is killed.
#[test]
fn peer_process() {
    let Ok(tls) = std::env::var(PEER) else { return };
    let mut worker = worker(&tls);
    let address: String = worker.address().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("\naddress {address}");
    std::io::stdout().flush().unwrap();
    let mut held = Vec::new();
    let start = Instant::now();
    while start.elapsed() < 4 * BOUND {
        worker.progress().unwrap();
        while let Some(message) = worker.next_message() {
            if held.is_empty() {
                println!("\ngot one");
                std::io::stdout().flush().unwrap();
            }
            held.push(message);
        }
    }
}

struct Peer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Peer {
    fn start(tls: &str) -> Peer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "peer_process", "--nocapture", "--test-threads=1"])
            .env(PEER, tls)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Peer { child, lines }
    }

    fn line(&mut self, prefix: &str) -> String {
        loop {
            let line = self.lines.next().expect("the peer ended").unwrap();
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.to_owned();
            }
        }
    }

    fn address(&mut self) -> Vec<u8> {
        let text = self.line("address ");
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn killed(tls: &str) {
    let mut peer = Peer::start(tls);
    let mut worker = worker(tls);
    let endpoint = worker.endpoint(&peer.address()).unwrap();
    const COUNT: u64 = 40;
    let mut ended = vec![0; COUNT as usize];
    let send = |worker: &mut Worker<Vec<u8>>, token: u64| {
        let payload = pattern(200_000, token);
        worker.send(endpoint, b"never fetched", Some(payload), token, Protocol::Rendezvous)
    };
    for token in 0..COUNT / 2 {
        let started = send(&mut worker, token);
        assert!(matches!(started, Started::Pending), "{started:?}");
    }
    // The peer has at least one of them, so the connection is made.
    let reader = std::thread::spawn(move || {
        peer.line("got one");
        peer
    });
    while !reader.is_finished() {
        worker.progress().unwrap();
    }
    let mut peer = reader.join().unwrap();
    peer.child.kill().unwrap();
    peer.child.wait().unwrap();
    for token in COUNT / 2..COUNT {
        // The transport may have noticed the death already.
        match send(&mut worker, token) {
            Started::Pending => {}
            Started::Failed(_, Some(_)) => ended[token as usize] += 1,
            other => panic!("{other:?}"),
        }
    }
    let start = Instant::now();
    let (failed, status) = loop {
        worker.progress().unwrap();
        if let Some(failure) = worker.next_failure() {
            break failure;
        }
        assert!(start.elapsed() < BOUND, "{tls}: the death was not noticed");
    };
    assert_eq!(failed, endpoint);
    eprintln!("{tls}: {status} after {:?}", start.elapsed());
    let refused = worker.send(endpoint, b"late", Some(vec![1]), 7, Protocol::Auto);
    assert!(
        matches!(refused, Started::Failed(ref e, Some(_)) if e.status == rdma_engine::Status::ConnectionLost),
        "{refused:?}"
    );
    worker.close(endpoint, Close::Graceful, 1_000).unwrap();
    let mut closed = false;
    while !closed {
        worker.progress().unwrap();
        while let Some(done) = worker.next_completed() {
            match done.kind {
                Kind::Close => closed = done.token == 1_000,
                _ => {
                    assert!(done.status.is_err());
                    assert!(done.payload.is_some_and(|p| p == pattern(200_000, done.token)));
                    ended[done.token as usize] += 1;
                }
            }
        }
        assert!(start.elapsed() < BOUND, "{tls}: not everything ended");
    }
    assert!(ended.iter().all(|n| *n == 1), "{ended:?}");
    assert_eq!(worker.in_flight(), 0);
    assert!(worker.next_failure().is_none());
    drop(worker);
    assert_eq!(leaked(), 0);
}

#[test]
fn killed_peer_over_shared_memory() {
    killed(SHARED_MEMORY);
}

#[test]
fn killed_peer_over_tcp() {
    killed(TCP);
}

/// A worker address of a process that is gone: an error at once or a failure soon, and an endpoint that can be closed.
fn gone(tls: &str) {
    let mut peer = Peer::start(tls);
    let address = peer.address();
    drop(peer);
    let mut worker = worker(tls);
    let Ok(endpoint) = worker.endpoint(&address) else { return };
    let mut sent = worker.send(endpoint, b"anyone", Some(pattern(100_000, 1)), 1, Protocol::Rendezvous);
    let start = Instant::now();
    while let Started::Pending = sent {
        worker.progress().unwrap();
        if worker.next_failure().is_some() {
            break;
        }
        if let Some(done) = worker.next_completed() {
            assert!(done.status.is_err());
            sent = Started::Done(None);
        }
        assert!(start.elapsed() < BOUND, "{tls}: nothing was noticed");
    }
    worker.close(endpoint, Close::Force, 2).unwrap();
    while !worker.next_completed().is_some_and(|done| done.kind == Kind::Close) {
        worker.progress().unwrap();
        assert!(start.elapsed() < BOUND, "{tls}: not closed");
    }
    assert_eq!(worker.in_flight(), 0);
}

#[test]
fn address_of_a_dead_process() {
    gone(SHARED_MEMORY);
    gone(TCP);
}
