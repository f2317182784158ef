//! Who does not belong: random bytes on the listening sockets, a peer with other UCX settings, a machine without UCX.

mod common;

use common::process::{Peer, hear, role, say};
use common::{Node, Pair, bytes_of, drive, status, unix_address, with_transports};
use rdma_engine::Status;
use rdma_engine::engine::context::Context;
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::{ContextOptions, Mode, transport};
use rdma_engine::engine::request::{Op, Request};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

/// Not a test: what a started peer does.
#[test]
fn peer() {
    let Some(role) = role() else { return };
    if role[0] == "without" {
        let error = Context::open(&ContextOptions::default()).err().unwrap();
        return say(&format!("{} {error}", error.status.name()));
    }
    // The reason is in the log.
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
    log.with_writer(std::io::stdout).init();
    let mut node = Node::new(&with_transports(transport::TCP), Mode::Threaded);
    let listener = Listener::open(&node.worker, "tcp://127.0.0.1:0", 1).unwrap();
    say(&format!("address {}", listener.address()));
    node.dial(&role[1], 5);
    drive(&mut [&mut node], "an end", |n| n[0].answers(5) == 1);
    say(&format!("connect {}", status(&node.take(|c| c.user_data == 5).unwrap()).name()));
    hear();
    node.close();
}

/// A small generator of noise; its seed is printed.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.next() % [1, 32, 1000, 100_000][(self.next() % 4) as usize] + 1;
        (0..length).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn random_bytes_on_the_listening_sockets_change_nothing_for_others() {
    let seed = u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    eprintln!("seed {seed}");
    let mut noise = Noise(seed);
    let options = ContextOptions::default();
    let mut pair = Pair::new("tcp://127.0.0.1:0", &options, Mode::Polled, Mode::Threaded);
    let tcp = pair.listener.address()["tcp://".len()..].to_string();
    let unix = unix_address();
    let second = Listener::open(&pair.server.worker, &unix, 8).unwrap();
    let theirs = pair.server.exported(50_000, |i| i as u8);
    let key = pair.server.context.export(&theirs, 0, 50_000, 3).unwrap();
    let region = pair.import(&key).unwrap();
    let ours = pair.client.context.alloc(50_000, 0).unwrap();
    let mut kept = Vec::new();
    for round in 0..200 {
        let bytes = noise.bytes();
        // They may close on us in the middle; that is their right.
        if round % 2 == 0 {
            let mut stream = TcpStream::connect(&tcp).unwrap();
            let _ = stream.write_all(&bytes);
            kept.push(Box::new(stream) as Box<dyn Read>);
        } else {
            let mut stream = UnixStream::connect(&unix["unix://".len()..]).unwrap();
            let _ = stream.write_all(&bytes);
            kept.push(Box::new(stream));
        }
        if noise.next().is_multiple_of(2) {
            kept.pop();
        }
        let (op, buffer) = (Op::Get as u16, ours.id());
        let get = Request { user_data: 3, op, buffer, length: 50_000, region, ..Request::default() };
        assert_eq!(status(&pair.run(get)), Status::Ok, "round {round}, seed {seed}");
        // A dial in between is served, on both sockets.
        if round % 40 == 0 {
            for address in [pair.listener.address(), second.address()] {
                let mut guest = Node::new(&options, Mode::Threaded);
                guest.dial(address, 5);
                drive(&mut [&mut guest], "a guest", |n| n[0].answers(5) == 1);
                assert_eq!(guest.kept[0].status, 0, "seed {seed}");
                guest.close();
            }
        }
    }
    assert!(bytes_of(&ours) == bytes_of(&theirs));
    drop(kept);
    pair.close();
}

#[test]
fn a_peer_with_other_segment_sizes_is_refused_and_told_which() {
    for setting in ["UCX_TCP_TX_SEG_SIZE", "UCX_TCP_RX_SEG_SIZE"] {
        let mut node = Node::new(&with_transports(transport::TCP), Mode::Threaded);
        let listener = Listener::open(&node.worker, "tcp://127.0.0.1:0", 1).unwrap();
        let mut peer = Peer::start("peer", &["other", listener.address()], &[(setting, "8K")]);
        let address = peer.expect("address ");
        let said = peer.line_with("SETTINGS_MISMATCH");
        assert!(said.contains(setting.trim_start_matches("UCX_")), "{said}");
        assert_eq!(peer.expect("connect "), "SETTINGS_MISMATCH");
        // The other way round.
        node.dial(&address, 9);
        drive(&mut [&mut node], "an end", |n| n[0].answers(9) == 1);
        assert_eq!(status(&node.take(|c| c.user_data == 9).unwrap()), Status::SettingsMismatch);
        assert!(node.kept.is_empty(), "no session came of it: {:?}", node.kept);
        assert!(peer.ends_well());
        // Who agrees is served.
        let mut peer = Peer::start("peer", &["same", listener.address()], &[]);
        assert_eq!(peer.expect("connect "), "OK");
        assert!(peer.ends_well());
        node.close();
    }
}

#[test]
fn without_ucx_a_program_starts_and_is_told_what_to_install() {
    let mut peer = Peer::start("peer", &["without"], &[("RDE_UCX_LIBRARY", "/nonexistent/libucp.so.0")]);
    let said = peer.expect("UNSUPPORTED ");
    assert!(said.contains("libucx0") && said.contains("/nonexistent/libucp.so.0"), "{said}");
    peer.reap();
}
