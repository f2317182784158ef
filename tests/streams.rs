//! Peers over TCP have a stream of the engine's own: order, bytes, ends, and peers without one.

mod common;

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::mixed::{MODES, Random, came, exchange, seed};
use common::{NoKeys, Node, PATIENCE, Pair, bytes_of, drive, fill_buffer, wait_for, with_transports};
use rdma_engine::Status;
use rdma_engine::engine::buffer::Buffer;
use rdma_engine::engine::control::{
    Attach, Control, ControlConfig, Fabric, Message, Notice, Notices, STREAM,
};
use rdma_engine::engine::frame::{Frame, Kind};
use rdma_engine::engine::inbox::Inbox;
use rdma_engine::engine::options::{ContextOptions, Mode, transport};
use rdma_engine::engine::request::{COMPLETION_EVENT, Completion, Op, Request};
use zerocopy::IntoBytes;

/// One test at a time: one of them counts the ports of the process.
static ALONE: Mutex<()> = Mutex::new(());

fn tcp(streams: bool) -> ContextOptions {
    ContextOptions { streams, ..with_transports(transport::TCP) }
}

#[test]
fn messages_of_every_length_keep_their_order() {
    let _alone = ALONE.lock().unwrap();
    let seed = seed();
    for address in ["tcp://127.0.0.1:0", "tcp://[::1]:0"] {
        for (client, server) in MODES {
            eprintln!("{address} {client:?} {server:?}");
            let pair = Pair::new(address, &tcp(true), client, server);
            exchange(&pair, seed, 2_000);
            pair.close();
        }
    }
}

/// Ports of this process that anybody may connect to.
fn open_ports() -> usize {
    let sockets: HashSet<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let listens = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[3] == "0A" && sockets.contains(&format!("socket:[{}]", fields[9]))
    };
    let tables =
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap());
    tables.iter().map(|table| table.lines().skip(1).filter(listens).count()).sum()
}

/// Gets, puts and a flush of seeded places and lengths, checked byte by byte.
fn move_bytes(pair: &mut Pair, random: &mut Random, rounds: u64) {
    const LENGTH: u64 = 4 << 20;
    let exported = pair.server.exported(LENGTH, |at| (at * 7) as u8);
    let key = pair.server.context.export(&exported, 0, LENGTH, 3).unwrap();
    let region = pair.import(&key).unwrap();
    let local: Arc<Buffer> = pair.client.context.alloc(LENGTH, 0).unwrap();
    let mut expected = bytes_of(&exported);
    for round in 0..rounds {
        let most = [64, 5_000, 300_000, LENGTH - 1][random.below(4) as usize];
        let length = 1 + random.below(most);
        let (from, to) = (random.below(LENGTH - length + 1), random.below(LENGTH - length + 1));
        let put = random.below(2) == 0;
        fill_buffer(&local, |at| (at as u64 ^ round) as u8);
        let end = pair.run(Request {
            user_data: round,
            op: if put { Op::Put } else { Op::Get } as u16,
            region,
            region_offset: from,
            buffer: local.id(),
            buffer_offset: to,
            length,
            ..Request::default()
        });
        assert_eq!((end.status, end.length), (Status::Ok as i32, length), "{end:?}");
        let (there, here) = (from as usize..(from + length) as usize, to as usize..(to + length) as usize);
        if put {
            expected[there].copy_from_slice(&bytes_of(&local)[here]);
            assert!(bytes_of(&exported) == expected, "put {round} of {length}");
        } else {
            assert!(bytes_of(&local)[here] == expected[there], "get {round} of {length}");
        }
    }
}

#[test]
fn gets_and_puts_of_every_length_with_streams_and_with_peers_that_have_none() {
    let _alone = ALONE.lock().unwrap();
    let seed = seed();
    let mut random = Random(seed);
    let before = open_ports();
    for (here, there) in [(true, true), (true, false), (false, true), (false, false)] {
        let (client, server) = (Node::new(&tcp(here), Mode::Polled), Node::new(&tcp(there), Mode::Threaded));
        let mut pair = Pair::of(client, server, "tcp://127.0.0.1:0");
        // With streams, nothing listens but what we were asked to listen on; UCX opens ports of its own.
        let ports = open_ports() - before;
        assert_eq!(ports == 1, here && there, "{ports} ports with {here} {there}");
        move_bytes(&mut pair, &mut random, 60);
        pair.close();
    }
}

#[test]
fn a_canceled_get_writes_nothing_after_its_completion() {
    const LENGTH: u64 = 8 << 20;
    let _alone = ALONE.lock().unwrap();
    let mut random = Random(seed());
    let mut pair = Pair::new("tcp://127.0.0.1:0", &tcp(true), Mode::Polled, Mode::Threaded);
    let exported = pair.server.exported(LENGTH, |at| (at * 7) as u8);
    let key = pair.server.context.export(&exported, 0, LENGTH, 3).unwrap();
    let region = pair.import(&key).unwrap();
    let local = pair.client.context.alloc(LENGTH, 0).unwrap();
    let whole = bytes_of(&exported);
    let get = |user_data| Request {
        user_data,
        op: Op::Get as u16,
        region,
        buffer: local.id(),
        length: LENGTH,
        ..Request::default()
    };
    let mut canceled = 0;
    for round in 0..30 {
        pair.client.submit(Request { session: pair.session.id(), ..get(round) });
        // Before it has gone, while it is on its way, or when it is there.
        for _ in 0..random.below(400) {
            pair.client.poll();
        }
        assert_eq!(pair.client.worker.cancel(round), Status::Ok);
        let end = pair.wait_client(|c| c.user_data == round && c.flags & COMPLETION_EVENT == 0);
        fill_buffer(&local, |at| at as u8 ^ 0x5A);
        if end.status == Status::Canceled as i32 {
            canceled += 1;
        } else {
            assert_eq!(end.status, Status::Ok as i32);
        }
        // Behind it on the stream: what was to come has come.
        let small = Request { buffer_offset: LENGTH - 1, region_offset: 5, length: 1, ..get(1_000) };
        assert_eq!(pair.run(small).status, Status::Ok as i32);
        let bytes = bytes_of(&local);
        let kept = bytes[..bytes.len() - 1].iter().enumerate().all(|(at, byte)| *byte == at as u8 ^ 0x5A);
        assert!(kept && bytes[bytes.len() - 1] == whole[5], "round {round}");
    }
    eprintln!("{canceled} of 30 were canceled");
    assert_eq!(pair.run(get(2_000)).status, Status::Ok as i32);
    assert!(bytes_of(&local) == whole);
    pair.close();
}

#[test]
fn a_worker_with_many_streams_hears_all_of_them_awake_and_asleep() {
    const ROUNDS: u64 = 40;
    let _alone = ALONE.lock().unwrap();
    let mut random = Random(seed());
    for mode in [Mode::Polled, Mode::Threaded] {
        let mut pair = Pair::new("tcp://127.0.0.1:0", &tcp(true), Mode::Polled, mode);
        let mut clients: Vec<(Node, u64)> = Vec::new();
        for count in 2..8u64 {
            let mut client = Node::new(&tcp(true), Mode::Polled);
            let session = client.dial(pair.listener.address(), count);
            drive(&mut [&mut client, &mut pair.server], "a session", |nodes| nodes[0].answers(count) == 1);
            clients.push((client, session.id()));
            for round in 0..ROUNDS {
                let at = random.below(clients.len() as u64) as usize;
                let (client, session) = &mut clients[at];
                let (number, size) = (count << 32 | round, 8 + random.below(3_000) as usize);
                let mut data = number.to_le_bytes().to_vec();
                data.resize(size, round as u8);
                let data = data.as_slice().into();
                client.submit(Request { op: Op::Send as u16, session: *session, data, ..Request::default() });
                // The server waits, and falls asleep when there is nothing; a long message needs its sender, too.
                let until = Instant::now() + PATIENCE;
                let event = loop {
                    assert!(Instant::now() < until, "{count} streams, round {round}");
                    client.poll();
                    let mut out = [Completion::default(); 16];
                    let pause = Duration::from_micros(random.below(3_000));
                    let taken = pair.server.worker.poll(Some(pause), &mut out).unwrap();
                    pair.server.kept.extend_from_slice(&out[..taken]);
                    if let Some(event) = pair.server.take(|c| c.op == Op::Message as u32) {
                        break event;
                    }
                };
                let bytes = came(&pair.server, &event);
                assert_eq!((bytes.len(), &bytes[..8]), (size, &number.to_le_bytes()[..]));
            }
        }
        clients.into_iter().for_each(|(client, _)| client.close());
        pair.close();
    }
}

/// A peer that shakes hands as it should and is told a ticket. Its control, its inbox, the ticket.
fn stranger(pair: &mut Pair) -> (Arc<Control>, Arc<Notices>, Vec<u8>, u32) {
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&common::unique().to_le_bytes());
    let mut config = ControlConfig::new(uuid);
    config.settings = rdma_engine::ucx::settings().unwrap();
    config.fabrics = Fabric::Network.bit() | STREAM;
    let control = Control::start(config, Arc::new(NoKeys)).unwrap();
    let inbox: Arc<Notices> = Arc::new(Inbox::new().unwrap());
    control.dial(pair.listener.address(), &inbox, 1);
    let (mut notices, until) = (Vec::new(), Instant::now() + PATIENCE);
    loop {
        assert!(Instant::now() < until, "never attached");
        pair.server.poll();
        inbox.drain_into(&mut notices);
        for notice in notices.drain(..) {
            match notice {
                Notice::LinkUp { link, .. } => {
                    control.attach(&link, &inbox, Attach { route: 77, address: Vec::new() });
                }
                Notice::Attached { peer, .. } => return (control, inbox, peer.address, peer.route),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Connects to the listener and shows a ticket.
fn show(pair: &Pair, ticket: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(&pair.listener.address()["tcp://".len()..]).unwrap();
    let message = Message::Stream { ticket: ticket.try_into().unwrap() };
    stream.write_all(&message.encode().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The part of a stream that is one frame.
fn part(kind: u16, frame: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(frame.len() as u16).to_le_bytes(), &[0; 4], frame].concat()
}

fn still_serves(pair: &mut Pair) {
    let message =
        Request { user_data: 5, op: Op::Send as u16, data: b"good".as_slice().into(), ..Request::default() };
    assert_eq!(pair.run(message).status, Status::Ok as i32);
    let came = pair.wait_server(|c| c.op == Op::Message as u32);
    assert_eq!(&came.data[..4], b"good");
}

#[test]
fn a_stream_that_lies_loses_its_link_and_nobody_elses() {
    let _alone = ALONE.lock().unwrap();
    let mut pair = Pair::new("tcp://127.0.0.1:0", &tcp(true), Mode::Polled, Mode::Threaded);
    let open = |route| part(0, Frame::new(Kind::SessionOpen, route, 0, 0).as_bytes());
    let huge = |route| {
        let mut frame = Frame::new(Kind::Message, route, 0, 0);
        frame.payload = u64::MAX.into();
        part(1, frame.as_bytes())
    };
    let lies: [&dyn Fn(u32) -> Vec<u8>; 5] = [
        &|_| b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        &|_| part(0, &[7; 100]),
        &|route| [open(route), part(7, b"x")].concat(),
        &|route| [open(route), open(route)].concat(),
        &|route| [open(route), huge(route)].concat(),
    ];
    for (number, lie) in lies.iter().enumerate() {
        let (control, inbox, ticket, route) = stranger(&mut pair);
        let mut stream = show(&pair, &ticket);
        stream.write_all(&lie(route)).unwrap();
        let mut lost = Vec::new();
        wait_for("the end of the link", || {
            inbox.drain_into(&mut lost);
            lost.iter().any(|notice| matches!(notice, Notice::LinkLost { .. }))
        });
        // The stream goes with it: what comes last is its end.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        still_serves(&mut pair);
        // A ticket is good once.
        let mut again = show(&pair, &ticket);
        assert!(matches!(again.read(&mut [0; 16]), Ok(0) | Err(_)), "lie {number}");
        control.stop();
    }
    pair.close();
}

#[test]
fn a_ticket_that_nobody_was_told_opens_nothing() {
    let _alone = ALONE.lock().unwrap();
    let mut pair = Pair::new("tcp://127.0.0.1:0", &tcp(true), Mode::Polled, Mode::Threaded);
    for _ in 0..3 {
        let mut stream = show(&pair, &[7; 32]);
        let answer = stream.read(&mut [0; 16]);
        assert!(
            matches!(answer, Ok(0)) || answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
        );
    }
    still_serves(&mut pair);
    pair.close();
}
