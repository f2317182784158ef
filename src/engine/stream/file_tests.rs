//! Payloads that are parts of files: whole ones, ones that end too early, ones that are cut while they are sent.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use super::tests::{bytes_of, filled, frame, number_of, pair, run};
use super::*;
use crate::crc32c;
use crate::engine::pool::Pool;
use crate::engine::random::Random;
use crate::limits::STREAM_PIECE;

fn file(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

/// What a payload is, and what becomes of it.
struct Plan {
    bytes: Vec<u8>,
    end: End,
    into: Option<Span>,
}

/// Offset and length of a part: around what is copied at its end, around a piece, and past the file's end.
fn part(random: &mut Random, size: u64) -> (u64, u64) {
    let length = match random.below(5) {
        0 => 1 + random.below(130),
        1 => STREAM_PIECE as u64 + random.below(130),
        2 => 2 * STREAM_PIECE as u64 + 63 + random.below(3),
        _ => 1 + random.below(300_000),
    };
    match random.below(3) {
        0 => (size - random.below(length + 1).min(size), length),
        _ => (random.below(size - length), length),
    }
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn parts_of_files_arrive_and_what_a_file_does_not_have_is_no_good() {
    const COUNT: usize = 300;
    let mut random = Random::seeded();
    let pool = Pool::new(1 << 30);
    let bytes: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 17) as u8).collect();
    let file = file(&bytes);
    let (mut a, mut b) = pair();
    let mut plans: Vec<Plan> = Vec::new();
    let (mut came, mut sent, mut ended) = (0, 0, 0);
    let mut into = [0; COMPACT_FRAME];
    run(&mut a, &mut b, |a, b| {
        while plans.len() < COUNT && plans.len() < ended + 8 {
            let number = plans.len() as u64;
            if random.below(3) == 0 {
                let length = 1 + random.below(200_000) as usize;
                a.post(frame(number, length).as_bytes(), vec![filled(&pool, length, number as u8)], number)
                    .unwrap();
                plans.push(Plan { bytes: vec![number as u8; length], end: End::Good, into: None });
                continue;
            }
            let (offset, length) = part(&mut random, bytes.len() as u64);
            let range = FileRange::new(file.clone(), offset, length);
            a.post_file(frame(number, length as usize).as_bytes(), range, number).unwrap();
            let there = bytes.get(offset as usize..(offset + length) as usize);
            let end = if there.is_some() { End::Good } else { End::Spoiled };
            plans.push(Plan {
                bytes: there.map_or(vec![0; length as usize], <[u8]>::to_vec),
                end,
                into: None,
            });
        }
        while let Some((length, payload)) = b.next(&mut into) {
            assert_eq!(number_of(&into[..length]), came as u64);
            let (plan, payload) = (&mut plans[came], payload.unwrap());
            assert_eq!(payload.length(), plan.bytes.len() as u64);
            came += 1;
            if random.below(6) == 0 {
                ended += 1;
                continue; // nobody wants it
            }
            let span = filled(&pool, plan.bytes.len(), 0);
            b.claim(&payload, span.clone(), came as u64 - 1, true).unwrap();
            plan.into = Some(span);
        }
        while let Some(end) = b.next_ended() {
            let plan = &mut plans[end.token as usize];
            let expected = match plan.end {
                End::Good => End::Counted(crc32c::crc(&plan.bytes)),
                other => other,
            };
            assert_eq!(end.end, expected, "payload {} of {} bytes", end.token, plan.bytes.len());
            let span = plan.into.take().unwrap();
            assert!(plan.end == End::Spoiled || bytes_of(&span) == plan.bytes, "payload {}", end.token);
            ended += 1;
        }
        while let Some(end) = a.next_ended() {
            assert_eq!(end.end, End::Good);
            sent += 1;
        }
        ended == COUNT && sent == COUNT
    });
    assert_eq!((a.take_failure(), b.take_failure()), (None, None));
    assert!(plans.iter().any(|plan| plan.end == End::Spoiled));
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn a_file_that_is_cut_while_it_is_sent_spoils_its_payload_and_no_other() {
    const LONG: usize = 24 << 20;
    let pool = Pool::new(1 << 30);
    let file = file(&vec![7; LONG]);
    let (mut a, mut b) = pair();
    let range = || FileRange::new(file.clone(), 0, LONG as u64);
    a.post_file(frame(0, LONG).as_bytes(), range(), 10).unwrap();
    a.post(frame(1, 5000).as_bytes(), vec![filled(&pool, 5000, 9)], 11).unwrap();
    a.post_file(frame(2, 1 << 20).as_bytes(), FileRange::new(file.clone(), 0, 1 << 20), 12).unwrap();
    let into = [filled(&pool, LONG, 0), filled(&pool, 5000, 0), filled(&pool, 1 << 20, 0)];
    let mut bytes = [0; COMPACT_FRAME];
    let mut claimed = 0;
    run(&mut a, &mut b, |_, b| {
        while let Some((length, payload)) = b.next(&mut bytes) {
            assert_eq!(number_of(&bytes[..length]), claimed);
            b.claim(&payload.unwrap(), into[claimed as usize].clone(), 20 + claimed, false).unwrap();
            claimed += 1;
        }
        claimed == 3
    });
    // Some of it is there, and not all can be: the socket holds less.
    let mut first = [0];
    run(&mut a, &mut b, |_, b| {
        assert!(b.next(&mut bytes).is_none());
        into[0].copy_to_slice(1 << 20, &mut first).unwrap();
        first == [7]
    });
    assert!(!b.has_ended());
    file.set_len(2 << 20).unwrap();
    let mut ends = Vec::new();
    run(&mut a, &mut b, |_, b| {
        assert!(b.next(&mut bytes).is_none());
        ends.extend(std::iter::from_fn(|| b.next_ended()).map(|ended| (ended.token, ended.end)));
        ends.len() == 3
    });
    assert_eq!(ends, [(20, End::Spoiled), (21, End::Good), (22, End::Good)]);
    assert!(
        bytes_of(&into[1]).iter().all(|byte| *byte == 9) && bytes_of(&into[2]).iter().all(|byte| *byte == 7)
    );
    assert_eq!((a.take_failure(), b.take_failure()), (None, None));
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn a_spoiled_payload_that_nobody_announced_breaks_the_link() {
    let (mut a, mut b) = pair();
    let mut word = Vec::new();
    wire::put_spoiled(&mut word);
    rustix::io::write(a.socket().unwrap(), &word).unwrap();
    let mut bytes = [0; COMPACT_FRAME];
    let mut failure = None;
    run(&mut a, &mut b, |_, b| {
        assert!(b.next(&mut bytes).is_none());
        failure = b.take_failure();
        failure.is_some()
    });
    assert_eq!(failure, Some(Status::Protocol));
}
