//! Peers in another process: killed, stopped, continued, out of descriptors.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rdma_engine::Status;
use rdma_engine::engine::control::Notice;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::support::*;

const ROLE: &str = "RDE_TEST_CONTROL_CHILD";

/// A child that listens; killed with the value.
struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Peer {
    fn start(role: &str) -> Peer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "children::child", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut peer = Peer { child, input, output, address: String::new() };
        peer.address = peer.read("address ");
        peer
    }

    /// The rest of the next line that begins with `prefix`; the test harness prints lines of its own.
    fn read(&mut self, prefix: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the child ended before '{prefix}'");
            if let Some(at) = line.find(prefix) {
                return line[at + prefix.len()..].trim().to_owned();
            }
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test of its own: what a child does. Without a role there is nothing to do.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (address, role) = role.split_once(' ').unwrap();
    let mut here = config(50);
    if role == "impatient" {
        here.keepalive = Duration::from_millis(500);
    }
    let mut side = Side::new(here);
    let listener = side.listen(address);
    println!("address {}", listener.address());
    if role == "poor" {
        return be_poor(&side);
    }
    // Serves until it is killed, or its parent is gone and every link with it.
    loop {
        match side.desk.next() {
            Notice::Attach { link, request, .. } => {
                side.control.accept_attach(&link, request, &side.desk.inbox, attach(request, b"child"), 1);
            }
            Notice::CreditsWanted { link, route } => side.control.send_credits(&link, route, 1),
            Notice::LinkLost { error, .. } => println!("lost {}", error.status.name()),
            _ => {}
        }
    }
}

/// Takes away its own descriptors until it is told to have them back.
fn be_poor(side: &Side) {
    let before = getrlimit(Resource::Nofile);
    // The limit is on the number, and the first three are in use.
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: before.maximum }).unwrap();
    println!("poor");
    side.until("no descriptor is left", |control| control.counters().accept_exhausted.value() >= 2);
    println!("exhausted");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    setrlimit(Resource::Nofile, before).unwrap();
    println!("rich");
    let _ = std::io::stdin().read_line(&mut line);
}

fn attached(client: &mut Side, address: &str) -> std::sync::Arc<rdma_engine::engine::control::Link> {
    let link = client.dial(address, 1);
    client.control.attach(&link, &client.desk.inbox, attach(20, b"parent"));
    assert!(matches!(client.desk.next(), Notice::Attached { route: 20, .. }));
    link
}

/// With a keepalive of an hour only the kernel's word can tell so soon.
#[test]
fn a_killed_peer_is_lost_at_once() {
    let folder = Folder::new("killed");
    for (address, fabrics) in
        [("tcp://127.0.0.1:0", BOTH), ("tcp://127.0.0.1:0", NETWORK), (&folder.address("s"), BOTH)]
    {
        let mut peer = Peer::start(&format!("{address} serve"));
        let mut here = config(1);
        here.fabrics = fabrics;
        let mut client = Side::new(here);
        let link = attached(&mut client, &peer.address);
        assert_eq!(link.peer().pid, peer.child.id());
        assert_eq!(link.credentials().map(|peer| peer.pid), link.local().then(|| peer.child.id()));
        peer.child.kill().unwrap();
        assert_eq!(client.desk.lost(&link).status, Status::ConnectionLost);
        assert!(client.desk.rest().is_empty());
        // Once the process is gone, so is its listener: a new child takes the address, and a dial makes a new link.
        peer.child.wait().unwrap();
        if address.starts_with("unix") {
            let again = Peer::start(&format!("{address} serve"));
            assert!(attached(&mut client, &again.address).is_up());
        }
    }
}

#[test]
fn a_stopped_peer_is_lost_within_the_keepalive() {
    for fabrics in [BOTH, NETWORK] {
        let peer = Peer::start("tcp://127.0.0.1:0 serve");
        let mut here = config(1);
        here.fabrics = fabrics;
        here.keepalive = Duration::from_millis(600);
        let mut client = Side::new(here);
        let link = attached(&mut client, &peer.address);
        peer.signal(Signal::STOP);
        let error = client.desk.lost(&link);
        assert_eq!(error.status, Status::ConnectionLost);
        assert!(error.message.contains("silent for 600ms"), "{error}");
        peer.signal(Signal::CONT);
    }
}

/// A peer that was stopped for longer than its own keepalive does not blame us for it.
#[test]
fn a_peer_that_was_stopped_reads_before_it_judges() {
    let mut peer = Peer::start("tcp://127.0.0.1:0 impatient");
    let mut patient = Side::new(config(1));
    let link = attached(&mut patient, &peer.address);
    let mut clock_config = config(2);
    clock_config.keepalive = Duration::from_millis(1_500);
    let mut clock = Side::new(clock_config);
    let timed = attached(&mut clock, &peer.address);
    peer.signal(Signal::STOP);
    // Our side of the clock says when it has been stopped for long: three times its keepalive.
    assert_eq!(clock.desk.lost(&timed).status, Status::ConnectionLost);
    peer.signal(Signal::CONT);
    // The clock's link is gone, and told apart; ours lives, however long we look.
    assert_eq!(peer.read("lost "), "CONNECTION_LOST");
    for _ in 0..20 {
        patient.control.ask_credits(&link, 20);
        assert!(matches!(patient.desk.next(), Notice::Credits { route: 20, count: 1, .. }));
    }
    assert!(link.is_up());
}

#[test]
fn quiet_links_stay_up() {
    let (mut server, mut client) = (config(1), config(2));
    server.keepalive = Duration::from_millis(1_000);
    client.keepalive = Duration::from_millis(1_200);
    let (server, client, accepted, link) = pair_of("tcp://127.0.0.1:0", server, client);
    // For longer than the keepalive nobody says anything but pings.
    let before = client.control.counters().messages_received.value();
    client.until("eight pings", |control| control.counters().messages_received.value() >= before + 8);
    assert!(link.is_up() && accepted.is_up());
    assert_eq!(server.control.counters().links_lost.value(), 0);
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let mut peer = Peer::start("tcp://127.0.0.1:0 poor");
    peer.read("poor");
    let mut here = config(1);
    here.fabrics = NETWORK;
    let mut client = Side::new(here);
    let address = peer.address.clone();
    client.control.dial(&address, &client.desk.inbox, 1);
    peer.read("exhausted");
    peer.say("have them back");
    peer.read("rich");
    assert!(client.desk.link(1).is_up());
}
