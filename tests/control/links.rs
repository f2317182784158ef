//! How links come up, are shared, are refused, and end on purpose.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::sync::Arc;

use rdma_engine::Status;
use rdma_engine::engine::control::{Fabric, HostId, LinkState, Notice};

use crate::support::*;

#[test]
fn every_road_leads_to_the_fabric_it_should() {
    let folder = Folder::new("roads");
    let unix = folder.address("s");
    for (address, fabrics, local, fabric) in [
        ("tcp://127.0.0.1:0", BOTH, true, Fabric::Shared),
        ("tcp://[::1]:0", BOTH, true, Fabric::Shared),
        ("tcp://127.0.0.1:0", NETWORK, false, Fabric::Network),
        ("tcp://[::1]:0", NETWORK, false, Fabric::Network),
        ("tcp://localhost:0", NETWORK, false, Fabric::Network),
        (&unix, BOTH, true, Fabric::Shared),
        (&unix, SHARED, true, Fabric::Shared),
        (&unix, NETWORK, true, Fabric::Network),
    ] {
        let (server, client, accepted, link) = pair(address, fabrics);
        for (side, peer, seen) in [(&client, &server, &link), (&server, &client, &accepted)] {
            assert_eq!((seen.local(), seen.fabric()), (local, fabric), "{address} {fabrics}");
            assert_eq!(seen.peer().uuid, peer.control.config().uuid);
            assert_eq!(seen.peer().pid, std::process::id());
            assert_eq!(seen.credentials().map(|peer| peer.pid), local.then(std::process::id));
            assert_eq!(side.control.counters().links.value(), 1);
            assert!(seen.is_up());
        }
        assert!(link.dialled() && !accepted.dialled());
        if address.starts_with("tcp") {
            // The network's addresses are known to who dialled, also of a local link.
            assert!(link.peer_addr().is_some() && link.local_addr().is_some());
        }
    }
}

#[test]
fn a_name_is_dialled_through_the_resolver() {
    let server = Side::new(config(1));
    let listener = server.listen("tcp://127.0.0.1:0");
    let port = listener.address().rsplit_once(':').unwrap().1;
    let mut client = Side::new(config(2));
    // ::1 may come first and refuses; the next address is tried.
    let link = client.dial(&format!("tcp://localhost:{port}"), 5);
    assert_eq!(link.address(), format!("tcp://localhost:{port}"));
    let error = client.dial_fails("tcp://no-such-host.invalid:1");
    assert_eq!(error.status, Status::Unreachable);
    assert!(error.message.contains("no-such-host.invalid"), "{error}");
}

#[test]
fn many_dials_share_one_link() {
    let server = Side::new(config(1));
    let listener = server.listen("tcp://127.0.0.1:0");
    let client = Side::new(config(2));
    let mut desks = [Desk::new(), Desk::new()];
    const EACH: u64 = 500;
    for token in 0..EACH {
        for desk in &desks {
            client.control.dial(listener.address(), &desk.inbox, token);
        }
    }
    let mut links = Vec::new();
    for desk in &mut desks {
        let first = desk.link(0);
        for token in 1..EACH {
            assert!(Arc::ptr_eq(&desk.link(token), &first));
        }
        links.push(first);
    }
    assert!(Arc::ptr_eq(&links[0], &links[1]));
    server.until("one link accepted", |control| control.counters().links_opened.value() == 1);
    // Each of the two is told of the end, once.
    client.control.close_link(&links[0]);
    for desk in &mut desks {
        assert_eq!(desk.lost(&links[0]).status, Status::Canceled);
        assert!(desk.rest().is_empty());
    }
    // A lost link is not handed out again.
    client.control.dial(listener.address(), &desks[0].inbox, 9);
    let again = desks[0].link(9);
    assert!(again.is_up() && again.id() != links[0].id());
    assert_eq!(links[0].state(), LinkState::Lost(Status::Canceled));
    assert_eq!(client.control.counters().links_opened.value(), 2);
}

#[test]
fn a_close_is_told_from_a_break() {
    let (mut server, mut client, accepted, link) = pair("tcp://127.0.0.1:0", NETWORK);
    client.control.close_link(&link);
    assert_eq!(client.desk.lost(&link).status, Status::Canceled);
    let error = server.desk.lost(&accepted);
    assert_eq!((error.status, &*error.message), (Status::Canceled, "the peer closed the link"));
    assert_eq!(server.control.counters().links_lost.value(), 0);

    let (mut server, mut client, accepted, link) = pair("tcp://127.0.0.1:0", BOTH);
    client.control.break_link(&link, Status::Transport, "the endpoint failed");
    assert_eq!(client.desk.lost(&link).status, Status::Transport);
    let error = server.desk.lost(&accepted);
    assert_eq!(error.status, Status::ConnectionLost);
    assert!(error.message.contains("the endpoint failed (TRANSPORT)"), "{error}");
    assert_eq!(server.control.counters().links_lost.value(), 1);
    // The keys' owner is told last.
    server.until("keys lost", |_| *server.keys.lost.lock() == [accepted.id()]);
    client.until("keys lost", |_| *client.keys.lost.lock() == [link.id()]);
}

#[test]
fn stopping_closes_and_answers_everything_once() {
    let (mut server, mut client, accepted, link) = pair("tcp://127.0.0.1:0", BOTH);
    client.control.import(&link, &client.desk.inbox, 3, ask(9));
    assert!(matches!(client.desk.next(), Notice::Imported { token: 3, result: Err(_) }));
    client.control.stop();
    client.control.stop();
    assert_eq!(client.desk.lost(&link).status, Status::Canceled);
    assert_eq!(server.desk.lost(&accepted).status, Status::Canceled);
    // Afterwards every question is answered at once.
    client.control.dial("tcp://127.0.0.1:1", &client.desk.inbox, 4);
    assert_eq!(client.desk.failure(4).status, Status::WrongState);
    client.control.attach(&link, &client.desk.inbox, attach(1, b""));
    assert!(matches!(client.desk.next(), Notice::AttachRefused { route: 1, .. }));
    client.control.import(&link, &client.desk.inbox, 5, ask(1));
    assert!(matches!(client.desk.next(), Notice::Imported { token: 5, result: Err(_) }));
    assert_eq!(
        client.control.listen("tcp://127.0.0.1:0", &client.desk.inbox, 0).unwrap_err().status,
        Status::WrongState
    );
    assert!(client.desk.rest().is_empty());
}

#[test]
fn peers_that_do_not_fit_are_refused_with_the_reason() {
    let far = HostId([9; 24]);
    let mut server_config = config(1);
    server_config.settings = vec![("TCP_TX_SEG_SIZE".into(), "256K".into())];
    server_config.ucx_version = (1, 13, 1);
    let server = Side::new(server_config);
    let listener = server.listen("tcp://127.0.0.1:0");
    let folder = Folder::new("refused");
    let unix = server.listen(&folder.address("s"));

    let mut other = config(2);
    other.host = far;
    other.settings = vec![("TCP_TX_SEG_SIZE".into(), "8K".into())];
    let error = Side::new(other.clone()).dial_fails(listener.address());
    assert_eq!(error.status, Status::SettingsMismatch);
    assert!(error.message.contains("TCP_TX_SEG_SIZE is '256K' here, '8K' at the peer"), "{error}");
    assert!(error.message.starts_with(listener.address()), "{error}");

    // The same settings do not matter where memory is shared.
    other.host = HostId::of_this_machine();
    assert_eq!(Side::new(other.clone()).dial(listener.address(), 1).fabric(), Fabric::Shared);
    assert_eq!(Side::new(other.clone()).dial(unix.address(), 1).fabric(), Fabric::Shared);

    other.settings = server.control.config().settings.clone();
    other.ucx_version = (1, 16, 0);
    let error = Side::new(other.clone()).dial_fails(listener.address());
    assert_eq!(error.status, Status::SettingsMismatch);
    assert!(error.message.contains("1.16.0"), "{error}");

    other.ucx_version = (1, 15, 0);
    other.fabrics = SHARED;
    other.host = far;
    let error = Side::new(other).dial_fails(listener.address());
    assert_eq!(error.status, Status::Unreachable);
    assert!(error.message.contains("no way in common"), "{error}");
    server.until("three refusals counted", |control| control.counters().handshakes_failed.value() == 3);
}

#[test]
fn addresses_where_nobody_answers() {
    let folder = Folder::new("nobody");
    let mut client = Side::new(config(1));
    let closed = {
        let server = Side::new(config(2));
        server.listen("tcp://127.0.0.1:0").address().to_owned()
    };
    let error = client.dial_fails(&closed);
    assert_eq!(error.status, Status::Unreachable);
    assert!(error.message.contains("nobody listens there"), "{error}");
    assert_eq!(client.dial_fails(&folder.address("none")).status, Status::Unreachable);
    assert_eq!(client.dial_fails("gopher:x").status, Status::InvalidArgument);
    // Somebody listens and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut short = config(3);
    short.connect_timeout = std::time::Duration::from_millis(300);
    let error = Side::new(short).dial_fails(&format!("tcp://{}", silent.local_addr().unwrap()));
    assert_eq!(error.status, Status::TimedOut);
    assert!(error.message.contains("hello"), "{error}");
}

#[test]
fn links_are_bounded() {
    let mut bounded = config(1);
    bounded.max_links = 1;
    let server = Side::new(bounded);
    let listener = server.listen("tcp://127.0.0.1:0");
    let mut first = Side::new(config(2));
    // Its TCP connection and its local one are one link, also while both exist.
    let link = first.dial(listener.address(), 1);
    assert!(link.local());
    server.until("the link", |control| control.counters().links.value() == 1);
    let mut second = Side::new(config(3));
    assert_eq!(second.dial_fails(listener.address()).status, Status::LimitReached);
    first.control.close_link(&link);
    server.until("no link", |control| control.counters().links.value() == 0);
    assert!(second.dial(listener.address(), 2).is_up());
}

#[test]
fn a_tcp_address_in_use_is_named() {
    let server = Side::new(config(1));
    let listener = server.listen("tcp://127.0.0.1:0");
    let error = server.control.listen(listener.address(), &server.desk.inbox, 0).unwrap_err();
    assert_eq!(error.status, Status::AlreadyExists);
    assert!(error.message.contains(listener.address()), "{error}");
    server.control.close_listener(&listener);
    // The port is free once the control thread has closed it.
    let end = std::time::Instant::now() + PATIENCE;
    while let Err(error) = server.control.listen(listener.address(), &server.desk.inbox, 0) {
        assert!(std::time::Instant::now() < end, "{error}");
    }
    for bad in ["tcp://203.0.113.1:0", "unix:///nowhere/at/all/s"] {
        assert_eq!(
            server.control.listen(bad, &server.desk.inbox, 0).unwrap_err().status,
            Status::NotFound,
            "{bad}"
        );
    }
}

#[test]
fn a_socket_file_is_private_replaced_when_dead_and_removed() {
    let folder = Folder::new("file");
    let (address, path) = (folder.address("s"), folder.0.join("s"));
    // A file that a process left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Side::new(config(1));
    let listener = server.listen(&address);
    let meta = std::fs::symlink_metadata(&path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    // One that lives is not touched, and works on.
    let error = server.control.listen(&address, &server.desk.inbox, 0).unwrap_err();
    assert_eq!(error.status, Status::AlreadyExists);
    assert!(error.message.contains(&address), "{error}");
    assert!(Side::new(config(2)).dial(listener.address(), 1).is_up());
    server.control.stop();
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0, "nothing is left in the folder");
    // What is no socket is nobody's to remove.
    std::fs::write(&path, b"precious").unwrap();
    let other = Side::new(config(3));
    assert_eq!(
        other.control.listen(&address, &other.desk.inbox, 0).unwrap_err().status,
        Status::AlreadyExists
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_file_that_was_replaced_is_not_removed() {
    let folder = Folder::new("replaced");
    let path = folder.0.join("s");
    let server = Side::new(config(1));
    server.listen(&folder.address("s"));
    std::fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    server.control.stop();
    assert!(path.exists());
}
