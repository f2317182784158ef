//! What workers say to each other over a link: paths, credits, keys, descriptors.

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use rdma_engine::Status;
use rdma_engine::engine::control::{Link, Notice};

use crate::support::*;

#[test]
fn an_attach_is_answered_once() {
    for fabrics in [BOTH, NETWORK] {
        let (mut server, mut client, _, link) = pair("tcp://127.0.0.1:0", fabrics);
        // Addresses of the largest size travel whole.
        let large = vec![0x5a; rdma_engine::limits::WORKER_ADDRESS];
        client.control.attach(&link, &client.desk.inbox, attach(21, &large));
        match server.desk.next() {
            Notice::Attach { link, user_data: 77, request, peer, .. } => {
                assert_eq!(peer, attach(21, &large));
                server.control.refuse_attach(&link, request, Status::LimitReached, &"no room ".repeat(99));
                // A second answer changes nothing.
                server.control.accept_attach(&link, request, &server.desk.inbox, attach(9, b""), 1);
            }
            other => panic!("{other:?}"),
        }
        match client.desk.next() {
            Notice::AttachRefused { route: 21, error, .. } => {
                assert_eq!(error.status, Status::LimitReached);
                assert!(error.message.contains("no room"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        // The route is free again; one that is in use is not.
        join(&mut server, &mut client, &link, 11, 21);
        client.control.attach(&link, &client.desk.inbox, attach(20, b""));
        match client.desk.next() {
            Notice::AttachRefused { route: 20, error, .. } => assert_eq!(error.status, Status::AlreadyExists),
            other => panic!("{other:?}"),
        }
        let long = vec![0; rdma_engine::limits::WORKER_ADDRESS + 1];
        client.control.attach(&link, &client.desk.inbox, attach(22, &long));
        match client.desk.next() {
            Notice::AttachRefused { route: 22, error, .. } => {
                assert_eq!(error.status, Status::InvalidArgument)
            }
            other => panic!("{other:?}"),
        }
        assert!(client.desk.rest().is_empty() && server.desk.rest().is_empty());
    }
}

#[test]
fn nobody_listens_behind_a_closed_listener_or_a_dialled_link() {
    let mut server = Side::new(config(1));
    let listener = server.listen("tcp://127.0.0.1:0");
    let mut client = Side::new(config(2));
    let link = client.dial(listener.address(), 1);
    let accepted = join(&mut server, &mut client, &link, 10, 20);
    // The other way round: who dialled has no listener on this link.
    server.control.attach(&accepted, &server.desk.inbox, attach(30, b""));
    assert!(matches!(server.desk.next(), Notice::AttachRefused { route: 30, .. }));
    server.control.close_listener(&listener);
    let port = listener.address().strip_prefix("tcp://").unwrap();
    server.until("the listener is closed", |_| std::net::TcpStream::connect(port).is_err());
    client.control.attach(&link, &client.desk.inbox, attach(31, b""));
    match client.desk.next() {
        Notice::AttachRefused { route: 31, error, .. } => assert_eq!(error.status, Status::Unreachable),
        other => panic!("{other:?}"),
    }
    // The path that was there works on.
    client.control.ask_credits(&link, 20);
    assert!(matches!(server.desk.next(), Notice::CreditsWanted { route: 10, .. }));
}

#[test]
fn credits_reach_the_owner_of_the_route() {
    let (mut server, mut client, accepted, link) = pair("tcp://127.0.0.1:0", BOTH);
    // A second worker on each side, over the same link.
    let mut other = Desk::new();
    client.control.attach(&link, &other.inbox, attach(21, b"other"));
    let (_, request, _) = server.desk.attach();
    let mut second = Desk::new();
    server.control.accept_attach(&accepted, request, &second.inbox, attach(11, b"second"), 0);
    assert!(matches!(other.next(), Notice::Attached { route: 21, credits: 0, .. }));

    client.control.ask_credits(&link, 21);
    assert!(matches!(second.next(), Notice::CreditsWanted { route: 11, .. }));
    server.control.send_credits(&accepted, 11, 5);
    assert!(matches!(other.next(), Notice::Credits { route: 21, count: 5, .. }));
    server.control.refuse_credits(&accepted, 11, Status::LimitReached);
    assert!(matches!(other.next(), Notice::CreditsRefused { route: 21, status: Status::LimitReached, .. }));
    server.control.send_credits(&accepted, 10, 6);
    assert!(matches!(client.desk.next(), Notice::Credits { route: 20, count: 6, .. }));

    // A worker leaves: its peer hears of the path, and what was on its way to it is dropped.
    server.control.forget(&second.inbox);
    assert!(matches!(other.next(), Notice::Detached { route: 21, status: Status::Canceled, .. }));
    client.control.ask_credits(&link, 21);
    client.control.detach(&link, 20, Status::Canceled);
    assert!(matches!(server.desk.next(), Notice::Detached { route: 10, .. }));
    assert!(server.desk.rest().is_empty() && client.desk.rest().is_empty());
    assert!(second.rest().is_empty() && other.rest().is_empty());
    assert!(link.is_up());
}

fn imported(
    client: &mut Side,
    link: &Arc<Link>,
    export: u64,
) -> rdma_engine::Result<rdma_engine::engine::control::KeyGrant> {
    client.control.import(link, &client.desk.inbox, export, ask(export));
    match client.desk.next() {
        Notice::Imported { token, result } if token == export => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_brings_the_memory_itself() {
    let folder = Folder::new("memory");
    for address in ["tcp://127.0.0.1:0", &folder.address("s")] {
        let (server, mut client, accepted, link) = pair(address, BOTH);
        let fd = memfd(0);
        let mut ours = std::fs::File::from(fd.try_clone().unwrap());
        ours.write_all(&[1; 4096]).unwrap();
        *server.keys.memory.lock() = Some([fd, memfd(64)]);
        let grant = imported(&mut client, &link, 1).unwrap();
        assert_eq!((grant.length, grant.rights), (4096, 3));
        let [theirs, words] = grant.mapping.unwrap();
        assert_eq!(rustix::fs::fstat(&words).unwrap().st_size, 64);
        let flags = rustix::io::fcntl_getfd(&theirs).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let mut theirs = std::fs::File::from(theirs);
        theirs.seek(SeekFrom::Start(100)).unwrap();
        theirs.write_all(b"written by the peer").unwrap();
        let mut bytes = vec![0; 4096];
        ours.seek(SeekFrom::Start(0)).unwrap();
        ours.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes[100..119], b"written by the peer");
        assert!(bytes[..100].iter().chain(&bytes[119..]).all(|byte| *byte == 1));

        client.control.drop_key(&link, 1);
        client.control.close_link(&link);
        server.until("the link's end", |control| control.counters().links.value() == 0);
        assert_eq!(*server.keys.dropped.lock(), [(accepted.id(), 1)]);
    }
}

#[test]
fn descriptors_do_not_leave_the_host() {
    let (server, mut client, _, link) = pair("tcp://127.0.0.1:0", NETWORK);
    *server.keys.memory.lock() = Some([memfd(4096), memfd(64)]);
    let grant = imported(&mut client, &link, 1).unwrap();
    assert_eq!((grant.length, grant.mapping.is_none()), (4096, true));
    let grant = imported(&mut client, &link, 2).unwrap();
    assert_eq!(grant.rma, Some((0x1000, vec![7; 4096])));
}

#[test]
fn keys_are_refused_and_revoked() {
    let (server, mut client, accepted, link) = pair("tcp://127.0.0.1:0", BOTH);
    assert_eq!(imported(&mut client, &link, 9).unwrap_err().status, Status::Revoked);
    let mut wrong = ask(1);
    wrong.secret[3] ^= 1;
    client.control.import(&link, &client.desk.inbox, 5, wrong);
    match client.desk.next() {
        Notice::Imported { token: 5, result: Err(error) } => {
            assert_eq!(error.status, Status::PermissionDenied)
        }
        other => panic!("{other:?}"),
    }
    server.control.revoked(&accepted, 2);
    assert!(matches!(client.desk.next(), Notice::Revoked { export_id: 2, .. }));
    // Many at once, over one link, with a descriptor each: none is mixed up.
    *server.keys.memory.lock() = Some([memfd(12_345), memfd(54_321)]);
    for token in 0..200 {
        client.control.import(&link, &client.desk.inbox, token, ask(1 + token % 2));
    }
    for wanted in 0..200 {
        match client.desk.next() {
            Notice::Imported { token, result: Ok(grant) } => {
                assert_eq!(token, wanted);
                assert_eq!(grant.mapping.is_some(), token % 2 == 0);
                assert_eq!(grant.rma.is_some(), token % 2 == 1);
                if let Some(both) = grant.mapping {
                    let sizes = both.each_ref().map(|fd| rustix::fs::fstat(fd).unwrap().st_size);
                    assert_eq!(sizes, [12_345, 54_321]);
                }
            }
            other => panic!("{other:?}"),
        }
    }
}
