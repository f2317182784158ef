//! A link that is cut between two hosts, made of network namespaces: within the keepalive bound everything that is
//! pending has ended, once; an outage that is shorter costs nothing but time.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::netns::Network;
use common::transfer::{SIZE, Transfer, fill, is_all};
use common::{Node, drive, status};
use rdma_engine::Status;
use rdma_engine::engine::buffer::Buffer;
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::{ContextOptions, Mode, transport};
use rdma_engine::engine::request::Op;

fn options(keepalive_ms: u64) -> ContextOptions {
    ContextOptions {
        transports: transport::TCP,
        memory_limit: SIZE + (96 << 20),
        keepalive: Duration::from_millis(keepalive_ms),
        ..ContextOptions::default()
    }
}

/// A server at one end of a network that exports a gigabyte, and a client at the other.
struct Scene {
    network: Network,
    server: Node,
    client: Node,
    listener: Arc<Listener>,
    theirs: Arc<Buffer>,
    key: Vec<u8>,
}

fn scene(keepalive_ms: u64, byte: u8) -> Scene {
    let network = Network::new();
    let options = options(keepalive_ms);
    let address = format!("tcp://{}:0", network.address(1));
    let (server, listener) = network.at(1, || {
        let server = Node::new(&options, Mode::Threaded);
        let listener = Listener::open(&server.worker, &address, 7).unwrap();
        (server, listener)
    });
    let client = network.at(0, || Node::new(&options, Mode::Threaded));
    let theirs = server.context.alloc(SIZE, 1).unwrap();
    fill(&theirs, byte);
    let key = server.context.export(&theirs, 0, SIZE, 3).unwrap();
    Scene { network, server, client, listener, theirs, key: key.to_vec() }
}

/// Waits until a part of a transfer has moved.
fn until_under_way(transfer: &mut Transfer, scene: &mut Scene, op: Op) {
    if op == Op::Get {
        return transfer.until_under_way(&mut scene.client);
    }
    let theirs = scene.theirs.clone();
    drive(&mut [&mut scene.client], "the put moves", |_| {
        let mut byte = [0];
        theirs.whole().unwrap().copy_to_slice(64 << 20, &mut byte).unwrap();
        byte[0] == 0xA5
    });
}

#[test]
#[ignore = "makes network namespaces: as root, with --include-ignored"]
fn a_cut_link_ends_everything_within_the_keepalive() {
    const KEEPALIVE: u64 = 1000;
    for op in [Op::Get, Op::Put] {
        let mut scene = scene(KEEPALIVE, 0x5A);
        let mut transfer = Transfer::begin(&mut scene.client, scene.listener.address(), &scene.key, op);
        until_under_way(&mut transfer, &mut scene, op);
        let cut = Instant::now();
        scene.network.cut();
        let took = transfer.until_ended(&mut scene.client) - cut;
        drive(&mut [&mut scene.server], "the server's end", |n| {
            n[0].kept.iter().any(|c| c.op == Op::SessionClosed as u32)
        });
        let there = cut.elapsed();
        let (good, lost) = transfer.ends(&mut scene.client);
        println!(
            "{op:?}: {took:?} to the client's last end, {there:?} to the server's; {good} ok, {lost} lost"
        );
        assert!(lost > 0, "it was cut in the middle");
        let closed = scene.server.kept.iter().find(|c| c.op == Op::SessionClosed as u32).unwrap();
        assert_eq!(status(closed), Status::ConnectionLost);
        // Far beyond the bound; the printed figures are the measure.
        assert!(took < Duration::from_millis(10 * KEEPALIVE), "{took:?}");
        // What comes late, when the link works again, touches nothing.
        fill(&transfer.buffer, 0x33);
        scene.network.mend();
        scene.client.dial(scene.listener.address(), 9);
        drive(&mut [&mut scene.client], "a new session", |n| n[0].answers(9) == 1);
        assert_eq!(status(&scene.client.take(|c| c.user_data == 9).unwrap()), Status::Ok);
        assert!(is_all(&transfer.buffer, 0x33), "a late byte");
        assert_eq!(scene.client.context.stats().counters.sessions_lost, 1);
        scene.client.close();
        scene.server.close();
    }
}

#[test]
#[ignore = "makes network namespaces: as root, with --include-ignored"]
fn a_dial_to_a_host_that_is_cut_off_ends() {
    let mut scene = scene(500, 0);
    scene.network.cut();
    scene.client.dial(scene.listener.address(), 9);
    drive(&mut [&mut scene.client], "an end", |n| n[0].answers(9) == 1);
    let end = status(&scene.client.take(|c| c.user_data == 9).unwrap());
    assert!(matches!(end, Status::Unreachable | Status::TimedOut), "{end:?}");
    scene.client.close();
    scene.server.close();
}

#[test]
#[ignore = "makes network namespaces: as root, with --include-ignored"]
fn an_outage_below_the_keepalive_costs_only_time() {
    let mut scene = scene(10_000, 0xC3);
    let mut transfer = Transfer::begin(&mut scene.client, scene.listener.address(), &scene.key, Op::Get);
    until_under_way(&mut transfer, &mut scene, Op::Get);
    scene.network.cut();
    // The outage itself, not a wait for something.
    std::thread::sleep(Duration::from_secs(1));
    scene.network.mend();
    drive(&mut [&mut scene.client], "every end", |n| (100..=108).all(|i| n[0].answers(i) > 0));
    assert!((100..=108).all(|i| scene.client.answers(i) == 1), "each once");
    assert!(scene.client.kept.iter().all(|c| c.status == 0), "{:?}", scene.client.kept);
    assert!(is_all(&transfer.buffer, 0xC3));
    scene.client.close();
    scene.server.close();
}
