//! Two streams over a connection of this host, without a worker above them.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::wire::{Comes, Word};
use super::*;
use crate::crc32c;
use crate::engine::frame::{Compact, Frame, Kind};
use crate::engine::pool::Pool;
use crate::engine::random::Random;
use crate::limits::STREAM_PIECE;

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (there, _) = listener.accept().unwrap();
    for end in [&here, &there] {
        end.set_nonblocking(true).unwrap();
    }
    (here, there)
}

pub(super) fn pair() -> (Stream, Stream) {
    let (here, there) = connection();
    (Stream::new(OwnedFd::from(here), Vec::new()), Stream::new(OwnedFd::from(there), Vec::new()))
}

pub(super) fn frame(number: u64, payload: usize) -> Compact {
    let mut compact = Compact::default();
    compact.fill(Frame::new(Kind::Put, 1, 2, number), &[], 0, payload as u64).unwrap();
    compact
}

pub(super) fn number_of(bytes: &[u8]) -> u64 {
    Frame::decode(bytes, Frame::announced(bytes).unwrap()).unwrap().frame.request.get()
}

pub(super) fn filled(pool: &Pool, length: usize, byte: u8) -> Span {
    let span = pool.alloc(length as u64, 0).unwrap().whole().unwrap();
    span.copy_from_slice(0, &vec![byte; length]).unwrap();
    span
}

pub(super) fn bytes_of(span: &Span) -> Vec<u8> {
    let mut bytes = vec![0; span.len()];
    span.copy_to_slice(0, &mut bytes).unwrap();
    bytes
}

/// Frame number `i`: what it carries, whether it is offered, and whether the receiver wants it.
fn plan(random: &mut Random) -> (Vec<usize>, bool, bool) {
    let length = match random.below(12) {
        0 => STREAM_PIECE + random.below(2 << 20) as usize,
        1 => STREAM_PIECE,
        2..=4 => 1 + random.below(100_000) as usize,
        5 => 1,
        _ => 0,
    };
    let cut = random.below(length as u64 + 1) as usize;
    (vec![cut, length - cut], random.below(3) == 0, random.below(5) > 0)
}

/// Whether the receiver wants the checksum of payload `number`.
fn is_counted(number: u64) -> bool {
    number.is_multiple_of(3)
}

/// One direction: what one end sends and the other expects.
struct Way {
    sending: Random,
    expecting: Random,
    sent: u64,
    gone: u64,
    payloads: u64,
    came: u64,
    claimed: VecDeque<(u64, Span)>,
}

impl Way {
    fn new(seed: u64) -> Way {
        let (sending, expecting) = (Random(seed), Random(seed));
        Way { sending, expecting, sent: 0, gone: 0, payloads: 0, came: 0, claimed: VecDeque::new() }
    }

    fn send(&mut self, pool: &Pool, stream: &mut Stream) {
        let (lengths, offered, _) = plan(&mut self.sending);
        let length = lengths.iter().sum();
        let spans: Vec<Span> = lengths
            .into_iter()
            .filter(|length| *length > 0)
            .map(|length| filled(pool, length, self.sent as u8))
            .collect();
        self.payloads += u64::from(length > 0);
        let bytes = frame(self.sent, length);
        if offered {
            stream.offer(bytes.as_bytes(), spans, self.sent).unwrap();
        } else {
            stream.post(bytes.as_bytes(), spans, self.sent).unwrap();
        }
        self.sent += 1;
    }

    fn take(&mut self, pool: &Pool, stream: &mut Stream) {
        let mut into = [0; COMPACT_FRAME];
        while let Some((length, payload)) = stream.next(&mut into) {
            let (lengths, _, wanted) = plan(&mut self.expecting);
            let announced: usize = lengths.iter().sum();
            assert_eq!(number_of(&into[..length]), self.came);
            assert_eq!(payload.as_ref().map_or(0, Payload::length), announced as u64);
            if let Some(payload) = payload.filter(|_| wanted) {
                let span = pool.alloc(announced as u64, 0).unwrap().whole().unwrap();
                stream.claim(&payload, span.clone(), self.came, is_counted(self.came)).unwrap();
                self.claimed.push_back((self.came, span));
            }
            self.came += 1;
        }
    }

    fn landed(&mut self, token: u64, end: End) {
        // Offers come when they were asked for, so not in the order of all frames.
        let at = self.claimed.iter().position(|(number, _)| *number == token).unwrap();
        let (number, span) = self.claimed.remove(at).unwrap();
        let bytes = bytes_of(&span);
        assert!(bytes.iter().all(|byte| *byte == number as u8), "payload {number} of {}", bytes.len());
        let expected = if is_counted(token) { End::Counted(crc32c::crc(&bytes)) } else { End::Good };
        assert_eq!(end, expected, "payload {number} of {}", bytes.len());
    }
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn frames_and_payloads_of_every_length_arrive_in_order_both_ways() {
    const FRAMES: u64 = 800;
    let mut random = Random::seeded();
    let pool = Pool::new(1 << 30);
    let (mut a, mut b) = pair();
    let mut ways = [Way::new(random.below(u64::MAX) | 1), Way::new(random.below(u64::MAX) | 1)];
    let until = Instant::now() + Duration::from_secs(60);
    let done = |way: &Way| way.came == FRAMES && way.gone == way.payloads && way.claimed.is_empty();
    while !ways.iter().all(done) {
        assert!(Instant::now() < until, "{:?}", ways.each_ref().map(|way| (way.sent, way.came, way.gone)));
        for here in [0, 1] {
            let (stream, there) = if here == 0 { (&mut a, 1) } else { (&mut b, 0) };
            for _ in 0..random.below(9) {
                if ways[here].sent < FRAMES && ways[here].payloads - ways[here].gone < 20 {
                    ways[here].send(&pool, stream);
                }
            }
            stream.begin_turn(true);
            ways[there].take(&pool, stream);
            while let Some(ended) = stream.next_ended() {
                if ended.received {
                    ways[there].landed(ended.token, ended.end);
                } else {
                    assert_eq!(ended.end, End::Good);
                    ways[here].gone += 1;
                }
            }
            stream.flush();
        }
    }
    assert_eq!((a.take_failure(), b.take_failure()), (None, None));
}

/// Turns of both ends until `done`, a bounded number of them.
pub(super) fn run(a: &mut Stream, b: &mut Stream, mut done: impl FnMut(&mut Stream, &mut Stream) -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done(a, b) {
        assert!(Instant::now() < until, "it never came");
        a.begin_turn(true);
        b.begin_turn(true);
    }
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn a_short_frame_does_not_wait_for_a_long_payload_before_it() {
    let pool = Pool::new(1 << 30);
    let (mut a, mut b) = pair();
    let (from, into) = (filled(&pool, 64 << 20, 7), filled(&pool, 64 << 20, 0));
    a.post(frame(0, 64 << 20).as_bytes(), vec![from], 10).unwrap();
    let (mut bytes, mut second) = ([0; COMPACT_FRAME], false);
    run(&mut a, &mut b, |a, b| {
        while let Some((length, payload)) = b.next(&mut bytes) {
            match number_of(&bytes[..length]) {
                0 => {
                    b.claim(&payload.unwrap(), into.clone(), 20, false).unwrap();
                    a.post(frame(1, 0).as_bytes(), Vec::new(), 0).unwrap();
                }
                _ => second = true,
            }
        }
        second
    });
    assert!(!b.has_ended(), "the long one was there first");
    run(&mut a, &mut b, |_, b| b.next(&mut bytes).is_none() && b.has_ended());
    assert_eq!(b.next_ended(), Some(Ended { token: 20, received: true, end: End::Good }));
    assert!(bytes_of(&into).iter().all(|byte| *byte == 7));
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn a_payload_without_a_place_holds_what_is_behind_it_until_it_has_one() {
    let pool = Pool::new(1 << 30);
    let (mut a, mut b) = pair();
    for (number, length) in [(0, 300_000), (1, 0), (2, 100_000)] {
        let spans = if length > 0 { vec![filled(&pool, length, 9)] } else { Vec::new() };
        a.post(frame(number, length).as_bytes(), spans, number).unwrap();
    }
    let (mut bytes, mut held) = ([0; COMPACT_FRAME], Vec::new());
    run(&mut a, &mut b, |_, b| {
        while let Some((length, payload)) = b.next(&mut bytes) {
            held.push((number_of(&bytes[..length]), payload));
        }
        held.len() == 3
    });
    for _ in 0..100 {
        b.begin_turn(true);
        assert!(b.next(&mut bytes).is_none() && !b.has_ended());
    }
    assert_eq!(b.interest(false, false).unwrap().1, Interest { read: false, write: false });
    // The first is refused, the last finds its place.
    let into = filled(&pool, 100_000, 0);
    let (_, last) = held.pop().unwrap();
    b.claim(&last.unwrap(), into.clone(), 30, false).unwrap();
    held.clear();
    run(&mut a, &mut b, |_, b| b.next(&mut bytes).is_none() && b.has_ended());
    assert_eq!(b.next_ended(), Some(Ended { token: 30, received: true, end: End::Good }));
    assert!(bytes_of(&into).iter().all(|byte| *byte == 9));
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn an_offer_holds_nothing_up_until_somebody_has_a_place_for_it() {
    let pool = Pool::new(1 << 30);
    let (mut a, mut b) = pair();
    for number in [0, 1] {
        let span = filled(&pool, 3 << 20, number as u8 + 5);
        a.offer(frame(number, 3 << 20).as_bytes(), vec![span], number).unwrap();
    }
    a.post(frame(2, 100_000).as_bytes(), vec![filled(&pool, 100_000, 9)], 2).unwrap();
    let (mut bytes, mut held, behind) = ([0; COMPACT_FRAME], Vec::new(), filled(&pool, 100_000, 0));
    run(&mut a, &mut b, |_, b| {
        while let Some((length, payload)) = b.next(&mut bytes) {
            match number_of(&bytes[..length]) {
                2 => b.claim(&payload.unwrap(), behind.clone(), 20, false).unwrap(),
                _ => held.push(payload.unwrap()),
            }
        }
        b.has_ended()
    });
    assert_eq!(b.next_ended(), Some(Ended { token: 20, received: true, end: End::Good }));
    assert!(bytes_of(&behind).iter().all(|byte| *byte == 9));
    // The second is wanted, the first is not: for its sender it has gone.
    let into = filled(&pool, 3 << 20, 0);
    b.claim(&held[1], into.clone(), 30, false).unwrap();
    held.clear();
    let mut gone = Vec::new();
    run(&mut a, &mut b, |a, b| {
        while a.next(&mut bytes).is_some() || b.next(&mut bytes).is_some() {}
        while let Some(ended) = a.next_ended() {
            gone.push((ended.token, ended.end == End::Good));
        }
        b.has_ended() && gone.len() == 3
    });
    assert_eq!(b.next_ended(), Some(Ended { token: 30, received: true, end: End::Good }));
    assert!(bytes_of(&into).iter().all(|byte| *byte == 6));
    gone.sort_unstable();
    assert_eq!(gone, [(0, true), (1, true), (2, true)]);
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn the_end_ends_what_was_under_way_on_both_sides() {
    let pool = Pool::new(1 << 30);
    let (mut a, mut b) = pair();
    let into = filled(&pool, 64 << 20, 0);
    a.post(frame(0, 64 << 20).as_bytes(), vec![filled(&pool, 64 << 20, 1)], 10).unwrap();
    let mut bytes = [0; COMPACT_FRAME];
    run(&mut a, &mut b, |_, b| match b.next(&mut bytes) {
        Some((_, payload)) => b.claim(&payload.unwrap(), into.clone(), 20, false).is_ok(),
        None => false,
    });
    a.close();
    assert_eq!(a.next_ended(), Some(Ended { token: 10, received: false, end: End::Lost }));
    assert_eq!(a.post(frame(1, 0).as_bytes(), Vec::new(), 0), Err(Status::ConnectionLost));
    let mut failure = None;
    run(&mut a, &mut b, |_, b| {
        while b.next(&mut bytes).is_some() {}
        failure = b.take_failure();
        failure.is_some()
    });
    assert_eq!(failure, Some(Status::ConnectionLost));
    assert_eq!(b.next_ended(), Some(Ended { token: 20, received: true, end: End::Lost }));
    assert!(b.socket().is_none() && a.take_failure().is_none());
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn bytes_that_are_none_of_ours_end_the_stream() {
    let announcing = |length: u64| {
        let mut out = Vec::new();
        wire::put_frame(&mut out, frame(0, length as usize).as_bytes(), Comes::InTurn);
        out
    };
    let mut more_than_announced = announcing(10);
    wire::put_piece(&mut more_than_announced, 11);
    let mut unannounced = Vec::new();
    wire::put_piece(&mut unannounced, 1);
    let word = |word| {
        let mut out = Vec::new();
        wire::put_word(&mut out, word, 0);
        out
    };
    let mut unasked = Vec::new();
    wire::put_frame(&mut unasked, frame(0, 5).as_bytes(), Comes::Asked);
    unasked.extend(word(Word::Comes));
    let lies = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 8],
        vec![0xFF; 64],
        more_than_announced,
        unannounced,
        unasked,
        word(Word::Fetch),
        word(Word::Refuse),
        word(Word::Comes),
    ];
    for lie in lies {
        let (mut hostile, there) = connection();
        let mut stream = Stream::new(OwnedFd::from(there), Vec::new());
        hostile.write_all(&lie).unwrap();
        let (mut bytes, mut failure) = ([0; COMPACT_FRAME], None);
        let until = Instant::now() + Duration::from_secs(20);
        while failure.is_none() {
            assert!(Instant::now() < until, "{lie:?}");
            stream.begin_turn(true);
            while stream.next(&mut bytes).is_some() {}
            failure = stream.take_failure();
        }
        assert_eq!(failure, Some(Status::Protocol), "{lie:?}");
        assert!(stream.next(&mut bytes).is_none() && stream.socket().is_none());
    }
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn what_waits_is_bounded() {
    let pool = Pool::new(1 << 20);
    let (mut a, _b) = pair();
    let short = frame(0, 0);
    let posted = (0..).take_while(|_| a.post(short.as_bytes(), Vec::new(), 0).is_ok()).count();
    let most = crate::limits::STREAM_OUTPUT / short.as_bytes().len();
    assert!(posted > most / 2 && posted <= most, "{posted}");
    assert_eq!(a.post(short.as_bytes(), Vec::new(), 0), Err(Status::QueueFull));
    // What came before us is read first.
    let mut came = Vec::new();
    wire::put_frame(&mut came, frame(5, 3).as_bytes(), Comes::InTurn);
    wire::put_piece(&mut came, 3);
    came.extend_from_slice(b"abc");
    let (_here, there) = connection();
    let mut stream = Stream::new(OwnedFd::from(there), came);
    let (mut bytes, into) = ([0; COMPACT_FRAME], filled(&pool, 3, 0));
    stream.begin_turn(false);
    let (length, payload) = stream.next(&mut bytes).unwrap();
    assert_eq!(number_of(&bytes[..length]), 5);
    stream.claim(&payload.unwrap(), into.clone(), 1, true).unwrap();
    assert!(stream.next(&mut bytes).is_none());
    let end = End::Counted(crc32c::crc(b"abc"));
    assert_eq!(stream.next_ended(), Some(Ended { token: 1, received: true, end }));
    assert_eq!(bytes_of(&into), b"abc");
}
