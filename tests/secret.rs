//! A shared secret: who knows it is served, who does not is told so and counted, and nothing happens before.

mod common;

use common::{Node, drive, roads, status, wait_for};
use rdma_engine::Status;
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::{ContextOptions, Mode, SharedSecret};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn with_secret(options: &ContextOptions, secret: Option<&str>) -> ContextOptions {
    let secret = secret.map(|text| SharedSecret::new(text.as_bytes()).unwrap());
    ContextOptions { secret, ..options.clone() }
}

const GOOD: Option<&str> = Some("correct horse battery staple");
const OTHER: Option<&str> = Some("correct horse battery stapls");

/// How a connect ends between contexts with these secrets.
fn connect(
    address: &str,
    options: &ContextOptions,
    client: Option<&str>,
    server: Option<&str>,
) -> (Status, u64) {
    let server = Node::new(&with_secret(options, server), Mode::Threaded);
    let mut client = Node::new(&with_secret(options, client), Mode::Polled);
    let listener = Listener::open(&server.worker, address, 7).unwrap();
    client.dial(listener.address(), 1);
    drive(&mut [&mut client], "an end of the connect", |n| n[0].answers(1) == 1);
    let end = status(&client.take(|c| c.user_data == 1).unwrap());
    if end == Status::Ok {
        drive(&mut [&mut client], "accepted", |_| server.context.stats().counters.accepts == 1);
    } else {
        assert_eq!(server.context.stats().counters.accepts, 0, "nothing is served");
        assert_eq!(client.context.stats().counters.connects, 0);
    }
    let failed = server.context.stats().counters.proofs_failed;
    client.close();
    server.close();
    (end, failed)
}

#[test]
fn only_who_knows_the_secret_is_served_on_every_road() {
    for (road, address, options) in roads() {
        let ends = |client, server| connect(&address, &options, client, server);
        assert_eq!(ends(GOOD, GOOD), (Status::Ok, 0), "{road}");
        assert_eq!(ends(OTHER, GOOD), (Status::PermissionDenied, 1), "{road}: another secret");
        assert_eq!(ends(None, GOOD).0, Status::Unauthorized, "{road}: none");
        assert_eq!(ends(GOOD, None).0, Status::Unauthorized, "{road}: none where one is expected");
    }
}

#[test]
fn what_comes_before_the_proof_is_dropped() {
    let (_, _, options) = roads().swap_remove(2);
    let server = Node::new(&with_secret(&options, GOOD), Mode::Threaded);
    let listener = Listener::open(&server.worker, "tcp://127.0.0.1:0", 7).unwrap();
    let address = listener.address()["tcp://".len()..].to_owned();
    let frame = |kind: u16, body: &[u8]| {
        [&b"RDEC"[..], &(body.len() as u32).to_le_bytes(), &kind.to_le_bytes(), &[0, 0], body].concat()
    };
    // Ready, Attach, KeyAsk and Proof without a hello before them, and a garbled hello.
    for first in
        [frame(6, &[1]), frame(10, &[0; 10]), frame(17, &[0; 32]), frame(5, &[0; 64]), frame(1, &[9; 90])]
    {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&first).unwrap();
        let mut said = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut said);
        let kind = said.get(8..10).map(|kind| u16::from_le_bytes([kind[0], kind[1]]));
        assert!(matches!(kind, None | Some(3)), "closed, or refused: {said:?}");
    }
    assert_eq!(server.context.stats().counters.accepts, 0);
    server.close();
}

#[test]
fn wrong_secrets_from_one_place_are_slowed_down_and_the_right_one_works_again() {
    let (_, _, options) = roads().swap_remove(2);
    let mut server = Node::new(&with_secret(&options, GOOD), Mode::Threaded);
    let listener = Listener::open(&server.worker, "tcp://127.0.0.1:0", 7).unwrap();
    let mut wrong = Node::new(&with_secret(&options, OTHER), Mode::Polled);
    let mut right = Node::new(&with_secret(&options, GOOD), Mode::Polled);
    let mut attempt = |node: &mut Node, user_data: u64| {
        node.dial(listener.address(), user_data);
        drive(&mut [node, &mut server], "an end", |n| n[0].answers(user_data) == 1);
        status(&node.take(|c| c.user_data == user_data).unwrap())
    };
    for i in 0..30 {
        assert_eq!(attempt(&mut wrong, i), Status::PermissionDenied);
    }
    // The limit is of the place: for a moment the right one waits too, and then works.
    wait_for("the right secret works", || attempt(&mut right, 99) == Status::Ok);
    let tried = server.context.stats().counters.proofs_failed;
    assert!((10..30).contains(&tried), "{tried} of 30 were looked at");
    for node in [wrong, right, server] {
        node.close();
    }
}
