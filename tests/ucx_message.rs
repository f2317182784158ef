//! Messages between two workers: bytes, exactly one end each, memory given back, closing, waking.

mod ucx_support;

use rdma_engine::status::Status;
use rdma_engine::ucx::{Close, Data, Kind, Message, Protocol, Started, Worker};
use std::collections::HashMap;
use ucx_support::{BOUND, Pair, SHARED_MEMORY, TCP, context, pattern};

const SIZES: &[usize] = &[0, 1, 63, 500, 4096, 8192, 65_536, 262_145, 1 << 20, 8 << 20];

/// Fetches what a message carries, as bytes.
fn data_of(pair: &mut Pair, message: Message) -> Vec<u8> {
    match message.data {
        Data::None => Vec::new(),
        Data::Eager(eager) => {
            let bytes = eager.to_vec();
            pair.b.release(eager);
            bytes
        }
        Data::Rendezvous(rendezvous) => {
            let length = rendezvous.len();
            let memory = vec![0xee; length + 7];
            match pair.b.receive(rendezvous, memory, 99) {
                Started::Done(memory) => memory.unwrap()[..length].to_vec(),
                Started::Pending => {
                    let done = pair.until("the receive", |pair| pair.b.next_completed());
                    assert_eq!((done.token, done.kind, done.length), (99, Kind::Receive, length));
                    done.status.unwrap();
                    let memory = done.payload.unwrap();
                    assert!(memory[length..].iter().all(|byte| *byte == 0xee));
                    memory[..length].to_vec()
                }
                Started::Failed(error, _) => panic!("{error}"),
            }
        }
    }
}

fn frames_and_payloads(tls: &str) {
    let mut pair = Pair::new(tls);
    for length in [1, 8, 64, 100, 128, 191, 192] {
        let frame = pattern(length, length as u64);
        let started = pair.a.send(pair.to_b, &frame, None, 5, Protocol::Auto);
        if let Started::Pending = started {
            let done = pair.completed_at_a();
            assert_eq!((done.token, done.status), (5, Ok(())));
        } else {
            assert!(matches!(started, Started::Done(None)), "{started:?}");
        }
        let message = pair.message_at_b();
        assert_eq!(message.frame(), frame);
        assert!(matches!(message.data, Data::None));
    }
    for protocol in [Protocol::Auto, Protocol::Eager, Protocol::Rendezvous] {
        for &size in SIZES {
            let frame = pattern(1 + size % 192, 3);
            let payload = pattern(size, size as u64);
            let expected = payload.clone();
            let address = payload.as_ptr();
            let token = size as u64 + 1;
            let started = pair.a.send(pair.to_b, &frame, Some(payload), token, protocol);
            let message = pair.message_at_b();
            assert_eq!(message.frame(), frame);
            let rendezvous = matches!(message.data, Data::Rendezvous(_));
            if protocol != Protocol::Auto {
                assert_eq!(rendezvous, protocol == Protocol::Rendezvous && size > 0, "{size}");
            }
            assert!(data_of(&mut pair, message) == expected, "{tls} {protocol:?} {size}: other bytes");
            let back = match started {
                Started::Done(back) => back,
                Started::Pending => {
                    let done = pair.completed_at_a();
                    assert_eq!((done.token, done.kind, done.length), (token, Kind::Send, size));
                    done.status.unwrap();
                    done.payload
                }
                Started::Failed(error, _) => panic!("{tls} {protocol:?} {size}: {error}"),
            };
            let back = back.unwrap();
            assert_eq!(back.as_ptr(), address, "other memory came back");
            assert!(pair.a.next_completed().is_none());
        }
    }
    assert_eq!((pair.a.in_flight(), pair.b.in_flight()), (0, 0));
}

#[test]
fn frames_and_payloads_over_shared_memory() {
    frames_and_payloads(SHARED_MEMORY);
}

#[test]
fn frames_and_payloads_over_tcp() {
    frames_and_payloads(TCP);
}

fn pieces(tls: &str) {
    let mut pair = Pair::new(tls);
    for protocol in [Protocol::Eager, Protocol::Rendezvous] {
        for (count, size) in [(1, 10), (3, 1000), (100, 777), (1024, 64), (16, 100_000)] {
            let pieces: Vec<_> = (0..count).map(|i| pattern(size + i % 3, i as u64)).collect();
            let expected = pieces.concat();
            let started = pair.a.send_pieces(pair.to_b, b"gather", pieces, 8, protocol);
            let message = pair.message_at_b();
            assert_eq!(message.frame(), b"gather");
            assert!(
                data_of(&mut pair, message) == expected,
                "{tls} {protocol:?} {count} x {size}: other bytes"
            );
            let back = match started {
                Started::Done(back) => back.unwrap(),
                Started::Pending => pair.completed_at_a().pieces,
                Started::Failed(error, _) => panic!("{tls} {protocol:?} {count} x {size}: {error}"),
            };
            assert_eq!(back.len(), count);
        }
    }
}

#[test]
fn gathered_pieces() {
    pieces(SHARED_MEMORY);
    pieces(TCP);
}

/// Thousands in flight: each ends once, each arrives once, each brings its memory back.
fn thousands(tls: &str) {
    const COUNT: u64 = 6_000;
    let mut pair = Pair::new(tls);
    let size = |token: u64| (token * 2_654_435_761 % 12_000) as usize;
    let mut ended = vec![0_u32; COUNT as usize];
    for token in 0..COUNT {
        let protocol = if token % 7 == 0 { Protocol::Rendezvous } else { Protocol::Auto };
        let payload = pattern(size(token), token);
        match pair.a.send(pair.to_b, &token.to_le_bytes(), Some(payload), token, protocol) {
            Started::Done(Some(_)) => ended[token as usize] += 1,
            Started::Pending => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(pair.a.in_flight() > 100, "nothing was in flight");
    let mut arrived = vec![0_u32; COUNT as usize];
    let mut fetching: HashMap<u64, u64> = HashMap::new();
    let check =
        |token: u64, bytes: &[u8]| assert!(bytes == pattern(size(token), token), "{token}: other bytes");
    pair.until("every message and every end", |pair| {
        while let Some(message) = pair.b.next_message() {
            let token = u64::from_le_bytes(message.frame().try_into().unwrap());
            arrived[token as usize] += 1;
            match message.data {
                Data::None => check(token, &[]),
                Data::Eager(eager) => check(token, &eager),
                Data::Rendezvous(rendezvous) => match pair.b.receive(rendezvous, vec![0; size(token)], token)
                {
                    Started::Done(bytes) => check(token, &bytes.unwrap()),
                    Started::Pending => assert_eq!(fetching.insert(token, token), None),
                    Started::Failed(error, _) => panic!("{error}"),
                },
            }
        }
        while let Some(done) = pair.b.next_completed() {
            assert!(fetching.remove(&done.token).is_some());
            check(done.token, &done.payload.unwrap());
        }
        while let Some(done) = pair.a.next_completed() {
            done.status.unwrap();
            assert!(done.payload.is_some());
            ended[done.token as usize] += 1;
        }
        let all = ended.iter().sum::<u32>() == COUNT as u32 && arrived.iter().sum::<u32>() == COUNT as u32;
        (all && fetching.is_empty()).then_some(())
    });
    assert!(ended.iter().all(|n| *n == 1) && arrived.iter().all(|n| *n == 1));
    assert_eq!(pair.a.in_flight(), 0);
}

#[test]
fn thousands_in_flight_over_shared_memory() {
    thousands(SHARED_MEMORY);
}

#[test]
fn thousands_in_flight_over_tcp() {
    thousands(TCP);
}

fn graceful_close_delivers(tls: &str) {
    let mut pair = Pair::new(tls);
    const COUNT: u64 = 500;
    let mut pending = 0;
    for token in 0..COUNT {
        let payload = pattern(3_000, token);
        match pair.a.send(pair.to_b, &token.to_le_bytes(), Some(payload), token, Protocol::Eager) {
            Started::Done(_) => {}
            Started::Pending => pending += 1,
            Started::Failed(error, _) => panic!("{error}"),
        }
    }
    pair.a.close(pair.to_b, Close::Graceful, 1_000).unwrap();
    let error = pair.a.close(pair.to_b, Close::Graceful, 1_001).unwrap_err();
    assert!(matches!(error.status, Status::WrongState | Status::StaleHandle), "{error}");
    let refused = pair.a.send(pair.to_b, b"late", None, 1, Protocol::Auto);
    assert!(matches!(refused, Started::Failed(_, None)), "{refused:?}");
    let mut arrived = 0;
    let (mut ended, mut closed) = (0, false);
    pair.until("every message and the close", |pair| {
        while pair.b.next_message().is_some() {
            arrived += 1;
        }
        while let Some(done) = pair.a.next_completed() {
            assert!(!closed, "something ended after the close");
            done.status.unwrap();
            match done.kind {
                Kind::Close => closed = done.token == 1_000,
                _ => ended += 1,
            }
        }
        (closed && arrived == COUNT).then_some(())
    });
    assert_eq!(ended, pending);
    let stale = pair.a.close(pair.to_b, Close::Force, 3).unwrap_err();
    assert_eq!(stale.status, Status::StaleHandle);
}

#[test]
fn graceful_close_delivers_what_was_sent() {
    graceful_close_delivers(SHARED_MEMORY);
    graceful_close_delivers(TCP);
}

/// Rendezvous that nobody fetches never end by themselves: only force ends them, each once, with their memory.
fn force_close(tls: &str, gracefully_first: bool) {
    let mut pair = Pair::new(tls);
    const COUNT: u64 = 50;
    for token in 0..COUNT {
        let payload = pattern(100_000, token);
        let started = pair.a.send(pair.to_b, b"never fetched", Some(payload), token, Protocol::Rendezvous);
        assert!(matches!(started, Started::Pending), "{started:?}");
    }
    let held = pair.message_at_b();
    assert!(matches!(held.data, Data::Rendezvous(_)));
    if gracefully_first {
        pair.a.close(pair.to_b, Close::Graceful, 500).unwrap();
        for _ in 0..1_000 {
            pair.a.progress().unwrap();
            pair.b.progress().unwrap();
            assert!(pair.a.next_completed().is_none(), "a graceful close must wait for what is in flight");
        }
    }
    pair.a.close(pair.to_b, Close::Force, 501).unwrap();
    let ended = pair.close_of_a(501);
    let mut tokens: Vec<_> = ended.iter().map(|done| done.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..COUNT).collect::<Vec<_>>());
    for done in ended {
        assert!(done.status.is_err() && done.payload.is_some_and(|p| p == pattern(100_000, done.token)));
    }
    assert_eq!(pair.a.in_flight(), 0);
    drop(held);
}

#[test]
fn force_close_ends_everything() {
    force_close(SHARED_MEMORY, false);
    force_close(TCP, false);
}

#[test]
fn force_follows_a_graceful_close() {
    force_close(SHARED_MEMORY, true);
    force_close(TCP, true);
}

fn discard(tls: &str) {
    let mut pair = Pair::new(tls);
    for dropped in [false, true] {
        let started = pair.a.send(pair.to_b, b"unwanted", Some(pattern(1 << 20, 1)), 4, Protocol::Rendezvous);
        assert!(matches!(started, Started::Pending));
        match pair.message_at_b().data {
            Data::Rendezvous(rendezvous) if dropped => drop(rendezvous),
            Data::Rendezvous(rendezvous) => pair.b.discard(rendezvous),
            _ => panic!("not a rendezvous"),
        }
        let done = pair.completed_at_a();
        assert_eq!((done.token, done.status), (4, Ok(())));
        assert!(done.payload.is_some());
    }
    // Too short a memory is refused, and the sender is not left waiting.
    pair.a.send(pair.to_b, b"long", Some(pattern(1 << 20, 1)), 5, Protocol::Rendezvous);
    let Data::Rendezvous(rendezvous) = pair.message_at_b().data else { panic!("not a rendezvous") };
    let refused = pair.b.receive(rendezvous, vec![0; 100], 6);
    assert!(
        matches!(refused, Started::Failed(ref error, Some(_)) if error.status == Status::OutOfRange),
        "{refused:?}"
    );
    assert_eq!(pair.completed_at_a().token, 5);
}

#[test]
fn discarded_rendezvous_end_at_the_sender() {
    discard(SHARED_MEMORY);
    discard(TCP);
}

#[test]
fn data_outlives_its_worker() {
    for tls in [SHARED_MEMORY, TCP] {
        let mut pair = Pair::new(tls);
        let bytes = pattern(5_000, 7);
        pair.a.send(pair.to_b, b"kept", Some(bytes.clone()), 1, Protocol::Eager);
        let Data::Eager(eager) = pair.message_at_b().data else { panic!("not eager") };
        drop(pair);
        let elsewhere = std::thread::spawn(move || eager.to_vec()).join().unwrap();
        assert!(elsewhere == bytes);
    }
}

/// A worker that is dropped in the middle of everything.
#[test]
fn dropping_a_busy_worker_ends() {
    for tls in [SHARED_MEMORY, TCP] {
        let mut pair = Pair::new(tls);
        for token in 0..200 {
            let protocol = if token % 2 == 0 { Protocol::Rendezvous } else { Protocol::Eager };
            pair.a.send(pair.to_b, b"x", Some(pattern(50_000, token)), token, protocol);
        }
        pair.message_at_b();
        drop(pair.a);
        drop(pair.b);
    }
}

fn wake(tls: &str) {
    let mut pair = Pair::new(tls);
    // The first message sets connections up.
    pair.a.send(pair.to_b, b"hello", None, 0, Protocol::Auto);
    pair.message_at_b();
    let fd = pair.b.event_fd().unwrap();
    let (mut a, mut b, to_b) = (pair.a, pair.b, pair.to_b);
    let start = std::time::Instant::now();
    while !b.arm().unwrap() {
        a.progress().unwrap();
        b.progress().unwrap();
        assert!(start.elapsed() < BOUND);
    }
    let sender = std::thread::spawn(move || {
        a.send(to_b, b"wake up", None, 1, Protocol::Auto);
        for _ in 0..1000 {
            a.progress().unwrap();
        }
        a
    });
    assert!(readable(fd), "no event for a message");
    let message = loop {
        b.progress().unwrap();
        if let Some(message) = b.next_message() {
            break message;
        }
        assert!(start.elapsed() < BOUND);
    };
    assert_eq!(message.frame(), b"wake up");
    let mut a = sender.join().unwrap();
    while !b.arm().unwrap() {
        a.progress().unwrap();
        b.progress().unwrap();
        assert!(start.elapsed() < BOUND);
    }
    let signal = b.signal().unwrap();
    std::thread::spawn(move || signal.wake()).join().unwrap();
    assert!(readable(fd), "no event for a signal");
}

fn readable(fd: i32) -> bool {
    let file = std::fs::File::open(format!("/proc/self/fdinfo/{fd}")).is_ok();
    assert!(file, "the event descriptor is not open");
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    poll_once(&mut poll, BOUND.as_millis() as i32)
}

#[allow(unsafe_code, reason = "the descriptor belongs to UCX, so there is no owned one to lend")]
fn poll_once(poll: &mut libc::pollfd, milliseconds: i32) -> bool {
    // SAFETY: one entry.
    unsafe { libc::poll(poll, 1, milliseconds) == 1 }
}

#[test]
fn arming_wakes_on_a_message_and_on_a_signal() {
    wake(SHARED_MEMORY);
    wake(TCP);
}

#[test]
fn arguments_are_checked() {
    let mut pair = Pair::new(SHARED_MEMORY);
    for frame in [&[][..], &[0; 193][..]] {
        let refused = pair.a.send(pair.to_b, frame, Some(vec![1]), 0, Protocol::Auto);
        assert!(
            matches!(refused, Started::Failed(ref e, Some(_)) if e.status == Status::InvalidArgument),
            "{refused:?}"
        );
    }
    let refused = pair.a.send_pieces(pair.to_b, b"f", Vec::new(), 0, Protocol::Auto);
    assert!(matches!(refused, Started::Failed(ref e, Some(_)) if e.status == Status::InvalidArgument));
    assert_eq!(pair.a.endpoint(&[]).unwrap_err().status, Status::Protocol);
    assert_eq!(pair.a.endpoint(&vec![1; 1 << 20]).unwrap_err().status, Status::Protocol);
    assert_eq!(pair.a.in_flight(), 0);
}

#[test]
fn context_says_what_it_opened() {
    let shared = context(SHARED_MEMORY);
    let transports = shared.transports().unwrap();
    assert!(
        transports.contains(&"posix".to_owned()) && !transports.contains(&"tcp".to_owned()),
        "{transports:?}"
    );
    let tcp = context(TCP);
    assert!(tcp.transports().unwrap().contains(&"tcp".to_owned()));
    assert!(tcp.devices().unwrap().contains(&"lo".to_owned()), "{:?}", tcp.devices());
    assert!(Worker::<Vec<u8>>::new(tcp).unwrap().address().unwrap().len() > 10);
}

/// A thousand messages before the receiver takes one: nothing is lost and nothing is reordered.
#[test]
fn messages_keep_their_order() {
    for tls in [SHARED_MEMORY, TCP] {
        let mut pair = Pair::new(tls);
        const COUNT: u64 = 20_000;
        let (mut sent, mut next) = (0_u64, 0_u64);
        pair.until("all messages in order", |pair| {
            while sent < COUNT && sent < next + 8_000 {
                match pair.a.send(pair.to_b, &sent.to_le_bytes(), None, sent, Protocol::Auto) {
                    Started::Failed(error, _) => panic!("{error}"),
                    _ => sent += 1,
                }
            }
            while pair.a.next_completed().is_some() {}
            for _ in 0..700 {
                let Some(message) = pair.b.next_message() else { break };
                assert_eq!(message.frame(), next.to_le_bytes());
                next += 1;
            }
            (next == COUNT).then_some(())
        });
    }
}
