//! Peers that break the rules, and a control thread that breaks.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rdma_engine::Status;
use rdma_engine::engine::control::{Fabric, HostId, Message, Notice};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::support::*;

/// Reads to the end, however the connection ends.
fn drain(stream: &mut impl Read) -> Vec<u8> {
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut part) {
        all.extend_from_slice(&part[..count]);
    }
    all
}

#[test]
fn garbage_is_dropped_without_a_word() {
    let server = Side::new(config(1));
    let listener = server.listen("tcp://127.0.0.1:0");
    let mut seed = 0x0bad_5eed_u64;
    println!("seed {seed:#x}");
    for round in 0..50_u64 {
        let mut bytes: Vec<u8> = (0..1 + round * 37)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .collect();
        bytes[0] |= 0x80;
        let mut peer = raw(listener.address());
        // It may be cut off while it still writes.
        let _ = peer.0.write_all(&bytes);
        assert_eq!(drain(&mut peer.0), b"");
    }
    let mut peer = raw(listener.address());
    peer.0.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(drain(&mut peer.0), b"");
    // The right magic, and a length beyond the limit: nothing waits for it.
    let mut peer = raw(listener.address());
    peer.0.write_all(b"RDEC\xff\xff\xff\xff\x01\x00\x00\x00").unwrap();
    assert_eq!(drain(&mut peer.0), b"");
    assert_eq!(server.control.counters().garbage.value(), 52);
    assert!(Side::new(config(2)).dial(listener.address(), 1).is_up());
}

#[test]
fn a_handshake_that_stops_is_ended() {
    let mut quick = config(1);
    quick.handshake_timeout = Duration::from_millis(500);
    quick.max_handshakes = 3;
    let server = Side::new(quick);
    let listener = server.listen("tcp://127.0.0.1:0");
    // Nothing, a part of a header, and a hello without what follows, twice as many as may be in handshake.
    let mut peers: Vec<_> = (0..6).map(|_| raw(listener.address())).collect();
    for (i, peer) in peers.iter_mut().enumerate() {
        match i % 3 {
            0 => {}
            1 => peer.0.write_all(b"RDEC\x01").unwrap(),
            _ => peer.send(&Message::Hello(Box::new(stranger()))),
        }
    }
    // One of ours waits behind them, and gets its turn.
    assert!(Side::new(config(2)).dial(listener.address(), 1).is_up());
    for peer in &mut peers {
        let mut last = None;
        while let Some(message) = peer.receive() {
            last = Some(message);
        }
        assert!(matches!(last, Some(Message::Refused { status: Status::TimedOut, .. })), "{last:?}");
    }
    server.until("all ended", |control| {
        control.counters().handshakes_failed.value() == 6 && control.counters().handshakes.value() == 0
    });
}

/// With one place for handshakes, a TCP connection that keeps it must not keep its own local one out.
#[test]
fn a_local_handshake_does_not_wait_for_its_own_tcp_connection() {
    let mut narrow = config(1);
    narrow.max_handshakes = 1;
    let server = Side::new(narrow);
    let listener = server.listen("tcp://127.0.0.1:0");
    let mut clients: Vec<Side> = (2..12).map(|name| Side::new(config(name))).collect();
    for client in &clients {
        client.control.dial(listener.address(), &client.desk.inbox, 1);
    }
    for client in &mut clients {
        assert!(client.desk.link(1).local());
    }
}

#[test]
fn the_handshake_takes_nothing_else() {
    let mut local_only = config(1);
    local_only.fabrics = BOTH;
    let server = Side::new(local_only);
    let listener = server.listen("tcp://127.0.0.1:0");
    // Shared memory over TCP is not what was agreed.
    let mut peer = raw(listener.address());
    peer.send(&Message::Hello(Box::new(stranger())));
    assert!(matches!(peer.receive(), Some(Message::Welcome { local, .. }) if local.is_empty()));
    peer.send(&Message::Ready { fabric: Fabric::Shared });
    assert!(matches!(peer.receive(), Some(Message::Refused { status: Status::Protocol, .. })));
    // Neither is a message before the hello.
    let mut peer = raw(listener.address());
    peer.send(&Message::Ping);
    assert!(peer.receive().is_none());
    // Another major version is told so.
    let mut peer = raw(listener.address());
    let mut newer = stranger();
    newer.version = (2, 0);
    peer.send(&Message::Hello(Box::new(newer)));
    match peer.receive() {
        Some(Message::Refused { status: Status::Protocol, text }) => assert!(text.contains("2.0"), "{text}"),
        other => panic!("{other:?}"),
    }
    // The name of the local socket is told only to peers of this host.
    let mut near = stranger();
    near.fabrics = BOTH;
    near.host = HostId::of_this_machine();
    let mut peer = raw(listener.address());
    peer.send(&Message::Hello(Box::new(near)));
    assert!(matches!(peer.receive(), Some(Message::Welcome { local, .. }) if local.len() == 36));
}

#[test]
fn messages_that_make_no_sense_end_the_link() {
    for bad in [
        Message::Ready { fabric: Fabric::Network },
        Message::KeyRefused { request: 5, status: Status::Revoked },
        Message::Attached { request: 5, credits: 1, ours: attach(1, b"") },
    ] {
        let mut server = Side::new(config(1));
        let listener = server.listen("tcp://127.0.0.1:0");
        let mut peer = raw(listener.address());
        peer.shake();
        peer.send(&Message::Attach { request: 1, ours: attach(1, b"") });
        let (link, ..) = server.desk.attach();
        // One that may be skipped, and messages about what is not there, do no harm.
        peer.0.write_all(b"RDEC\x03\x00\x00\x00\xe7\x03\x01\x00abc").unwrap();
        peer.send(&Message::Credits { route: 99, count: 1 });
        peer.send(&Message::Detach { route: 99, status: Status::Canceled });
        peer.send(&Message::Ping);
        assert_eq!(peer.receive(), Some(Message::Pong));
        peer.send(&bad);
        assert_eq!(server.desk.lost(&link).status, Status::Protocol);
        assert!(matches!(peer.receive(), Some(Message::Bye { failure: Some(Status::Protocol), .. })));
        assert!(peer.receive().is_none());
    }
}

#[test]
fn a_peer_that_does_not_read_is_cut_off() {
    let mut server = Side::new(config(1));
    let listener = server.listen("tcp://127.0.0.1:0");
    let mut peer = raw(listener.address());
    peer.shake();
    peer.send(&Message::Attach { request: 1, ours: attach(1, b"") });
    let (link, ..) = server.desk.attach();
    // Each question of 44 bytes is answered by more than 4 KiB; nobody reads.
    let asks = Message::KeyAsk { request: 1, ask: ask(2) }.encode().unwrap().repeat(64);
    peer.0.set_write_timeout(Some(PATIENCE)).unwrap();
    while peer.0.write_all(&asks).is_ok() {}
    let error = server.desk.lost(&link);
    assert_eq!(error.status, Status::ConnectionLost);
    assert!(server.desk.rest().is_empty());
    assert_eq!(server.control.counters().links.value(), 0);
}

#[test]
fn open_attaches_are_bounded() {
    let mut server = Side::new(config(1));
    let listener = server.listen("tcp://127.0.0.1:0");
    let mut peer = raw(listener.address());
    peer.shake();
    let most = rdma_engine::limits::CONTROL_PENDING as u32;
    for request in 0..most + 10 {
        peer.send(&Message::Attach { request, ours: attach(request, b"") });
    }
    for request in most..most + 10 {
        match peer.receive() {
            Some(Message::AttachRefused { request: got, status, .. }) => {
                assert_eq!((got, status), (request, Status::LimitReached));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.desk.rest().len(), most as usize);
}

#[test]
fn unannounced_descriptors_are_closed() {
    let folder = Folder::new("descriptors");
    let mut server = Side::new(config(1));
    server.listen(&folder.address("s"));
    let mut peer = Raw(UnixStream::connect(folder.0.join("s")).unwrap());
    peer.0.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.shake();
    let (mut reader, writer) = std::io::pipe().unwrap();
    // Three with a ping: none is announced.
    let ping = Message::Ping.encode().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [writer.as_fd(), writer.as_fd(), writer.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(&peer.0, &[IoSlice::new(&ping)], &mut control, SendFlags::empty()).unwrap();
    assert_eq!(peer.receive(), Some(Message::Pong));
    drop(writer);
    // The end comes only when every copy is closed.
    assert_eq!(drain(&mut reader), b"");
    assert_eq!(server.control.counters().descriptors_dropped.value(), 3);
    // One that is announced and does not come is a lie.
    peer.send(&Message::Attach { request: 1, ours: attach(1, b"") });
    let (link, ..) = server.desk.attach();
    let lie = Message::KeyGrant { request: 1, length: 1, rights: 1, descriptor: true, rma: None };
    peer.send(&lie);
    assert_eq!(server.desk.lost(&link).status, Status::Protocol);
}

/// A server that welcomes and then never answers: what is pending is answered by the loss, before the loss.
#[test]
fn pending_questions_are_answered_when_the_link_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let mut client = Side::new(config(1));
    client.control.dial(&address, &client.desk.inbox, 1);
    let mut peer = Raw(listener.accept().unwrap().0);
    assert!(matches!(peer.receive(), Some(Message::Hello(_))));
    peer.send(&Message::Welcome { hello: Box::new(stranger()), local: Vec::new() });
    assert_eq!(peer.receive(), Some(Message::Ready { fabric: Fabric::Network }));
    let link = client.desk.link(1);
    for i in 0..100 {
        client.control.import(&link, &client.desk.inbox, i, ask(1));
        client.control.attach(&link, &client.desk.inbox, attach(i as u32, b""));
    }
    for _ in 0..200 {
        assert!(matches!(peer.receive(), Some(Message::KeyAsk { .. } | Message::Attach { .. })));
    }
    drop(peer);
    let (mut imports, mut attaches) = (vec![0; 100], vec![0; 100]);
    for _ in 0..200 {
        match client.desk.next() {
            Notice::Imported { token, result: Err(error) } if error.status == Status::ConnectionLost => {
                imports[token as usize] += 1;
            }
            Notice::AttachRefused { route, error, .. } if error.status == Status::ConnectionLost => {
                attaches[route as usize] += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(imports.iter().chain(&attaches).all(|count| *count == 1));
    assert_eq!(client.desk.lost(&link).status, Status::ConnectionLost);
    // Later ones too, at once.
    client.control.import(&link, &client.desk.inbox, 7, ask(1));
    assert!(matches!(client.desk.next(), Notice::Imported { token: 7, result: Err(_) }));
    client.control.send_credits(&link, 1, 1);
    assert!(client.desk.rest().is_empty());
}

/// The peer's local socket does not answer: the link stays on TCP, if the network is allowed.
#[test]
fn without_the_local_socket_the_link_stays_on_tcp() {
    for (fabrics, stays) in [(BOTH, true), (SHARED, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let mut here = config(1);
        here.fabrics = fabrics;
        let mut client = Side::new(here);
        client.control.dial(&address, &client.desk.inbox, 1);
        let mut peer = Raw(listener.accept().unwrap().0);
        assert!(matches!(peer.receive(), Some(Message::Hello(_))));
        let mut hello = stranger();
        hello.fabrics = BOTH;
        hello.host = HostId::of_this_machine();
        peer.send(&Message::Welcome { hello: Box::new(hello), local: b"rde-nobody-listens-here".to_vec() });
        if stays {
            assert_eq!(peer.receive(), Some(Message::Ready { fabric: Fabric::Network }));
            let link = client.desk.link(1);
            assert_eq!((link.fabric(), link.local()), (Fabric::Network, false));
        } else {
            assert_eq!(client.desk.failure(1).status, Status::Unreachable);
        }
    }
}

#[test]
fn a_panic_in_the_thread_is_contained() {
    for by_keys in [false, true] {
        let (mut server, mut client, accepted, link) = pair("tcp://127.0.0.1:0", BOTH);
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", silent.local_addr().unwrap());
        server.control.dial(&address, &server.desk.inbox, 8);
        // Accepted: the dial is under way when the panic comes.
        let _held = silent.accept().unwrap();
        if by_keys {
            client.control.import(&link, &client.desk.inbox, 3, ask(3));
        } else {
            #[cfg(debug_assertions)]
            server.control.inject_panic();
            #[cfg(not(debug_assertions))]
            continue;
        }
        let mut answers = [server.desk.next(), server.desk.next()];
        answers.sort_by_key(|notice| matches!(notice, Notice::LinkLost { .. }));
        assert!(
            matches!(&answers[0], Notice::DialFailed { token: 8, error } if error.status == Status::Internal)
        );
        assert!(matches!(&answers[1], Notice::LinkLost { error, .. } if error.status == Status::Internal));
        assert!(!accepted.is_up());
        if by_keys {
            assert!(matches!(client.desk.next(), Notice::Imported { token: 3, result: Err(_) }));
        }
        assert_eq!(client.desk.lost(&link).status, Status::ConnectionLost);
        server.control.dial(&address, &server.desk.inbox, 9);
        assert!(server.desk.failure(9).status.is_error());
        server.control.stop();
        assert!(server.desk.rest().is_empty() && client.desk.rest().is_empty());
        assert_eq!(*server.keys.lost.lock(), [accepted.id()]);
    }
}

#[test]
fn a_server_that_hangs_up_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Side::new(config(1));
    client.control.dial(&format!("tcp://{}", listener.local_addr().unwrap()), &client.desk.inbox, 1);
    drop(listener.accept().unwrap());
    assert_eq!(client.desk.failure(1).status, Status::Unreachable);
    // One that speaks something else breaks the protocol.
    client.control.dial(&format!("tcp://{}", listener.local_addr().unwrap()), &client.desk.inbox, 2);
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"SSH-2.0-x\r\n").unwrap();
    assert_eq!(client.desk.failure(2).status, Status::Protocol);
}
