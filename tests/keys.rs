//! Keys are capabilities: range, rights, secret and revocation are enforced on every way a get or put may go.

mod common;

use common::{Pair, bytes_of, fill_buffer, region};
use rdma_engine::Status;
use rdma_engine::engine::options::{ContextOptions, Mode, transport, way};
use rdma_engine::engine::region::Way;
use rdma_engine::engine::request::{Op, Request};

/// Every way, with what makes it be taken.
fn ways() -> Vec<(&'static str, ContextOptions)> {
    let with = |transports, ways| ContextOptions { transports, ways, ..ContextOptions::default() };
    vec![
        ("mapped", with(transport::ALL, way::ALL)),
        ("rma over shared memory", with(transport::SHARED, way::RMA | way::MESSAGE)),
        ("rma over tcp", with(transport::TCP, way::RMA | way::MESSAGE)),
        ("messages over shared memory", with(transport::SHARED, way::MESSAGE)),
        ("messages over tcp", with(transport::TCP, way::MESSAGE)),
    ]
}

fn on_every_way(test: impl Fn(&str, &mut Pair)) {
    for (name, options) in ways() {
        eprintln!("{name}");
        // A threaded target: what UCX emulates needs its progress.
        let mut pair = Pair::new("tcp://127.0.0.1:0", &options, Mode::Polled, Mode::Threaded);
        test(name, &mut pair);
        pair.close();
    }
}

fn access(op: Op, buffer: u64, region: u64, offset: u64, length: u64) -> Request<'static> {
    let (buffer, length) = if matches!(op, Op::Get | Op::Put) { (buffer, length) } else { (0, 0) };
    Request {
        user_data: 1,
        op: op as u16,
        buffer,
        region,
        region_offset: offset,
        length,
        ..Request::default()
    }
}

fn status(pair: &mut Pair, request: Request<'_>) -> Status {
    Status::from_i32(pair.run(request).status).unwrap()
}

#[test]
fn the_way_is_the_one_that_the_options_ask_for() {
    on_every_way(|name, pair| {
        let theirs = pair.server.exported(8192, |_| 1);
        let key = pair.server.context.export(&theirs, 0, 8192, 3).unwrap();
        let handle = pair.import(&key).unwrap();
        let expected = match region(handle).way() {
            Way::Mapped(_) => "mapped",
            Way::Rma { .. } => "rma",
            Way::Message => "messages",
        };
        assert!(name.starts_with(expected), "{name}: {expected}");
        let ours = pair.client.context.alloc(8192, 0).unwrap();
        for _ in 0..3 {
            assert_eq!(status(pair, access(Op::Get, ours.id(), handle, 0, 8192)), Status::Ok);
        }
        assert_eq!(status(pair, access(Op::Put, ours.id(), handle, 0, 8192)), Status::Ok);
        let info = pair.session.info();
        let index = ["mapped", "rma", "messages"].iter().position(|way| *way == expected).unwrap();
        assert_eq!(info.operations[index], 4, "{name}: {info:?}");
        assert_eq!(info.bytes[index], 4 * 8192, "{name}");
        assert_eq!(info.operations.iter().sum::<u64>(), 4, "{name}: no other way was taken");
        let totals = pair.client.context.stats().counters;
        assert_eq!((totals.gets, totals.puts, totals.way_operations[index]), (3, 1, 4), "{name}");
    });
}

#[test]
fn the_range_ends_where_the_key_says() {
    on_every_way(|name, pair| {
        let theirs = pair.server.exported(8192, |i| i as u8);
        let ours = pair.client.context.alloc(8192, 0).unwrap();
        for (from, length) in [(0, 8192), (4096, 100), (0, 1)] {
            let key = pair.server.context.export(&theirs, from, length, 7).unwrap();
            let handle = pair.import(&key).unwrap();
            let before = bytes_of(&theirs);
            fill_buffer(&ours, |_| 0xEE);
            for op in [Op::Get, Op::Put] {
                let past =
                    [(length, 1), (0, length + 1), (length - 1, 2), (u64::MAX, 1), (u64::MAX - 7, 8192)];
                for (offset, size) in past.into_iter().filter(|(_, size)| *size <= 8192) {
                    let got = status(pair, access(op, ours.id(), handle, offset, size));
                    assert_eq!(got, Status::OutOfRange, "{name} {op:?} {offset}+{size} of {length}");
                }
            }
            let word = length.saturating_sub(7);
            assert_eq!(status(pair, access(Op::FetchAdd, 0, handle, word, 0)), Status::OutOfRange, "{name}");
            assert!(bytes_of(&theirs) == before, "{name}: nothing was written");
            assert!(bytes_of(&ours).iter().all(|byte| *byte == 0xEE), "{name}: nothing was read");
            assert_eq!(status(pair, access(Op::Get, ours.id(), handle, length - 1, 1)), Status::Ok);
            assert_eq!(bytes_of(&ours)[0], (from + length - 1) as u8, "{name}");
        }
    });
}

#[test]
fn a_key_grants_its_rights_and_no_others() {
    on_every_way(|name, pair| {
        let ours = pair.client.context.alloc(64, 0).unwrap();
        for rights in 1..8u32 {
            let theirs = pair.server.exported(64, |_| 0);
            let key = pair.server.context.export(&theirs, 0, 64, rights).unwrap();
            let handle = pair.import(&key).unwrap();
            for (op, bit) in [(Op::Get, 1), (Op::Put, 2), (Op::FetchAdd, 4), (Op::CompareSwap, 4)] {
                let expected = if rights & bit != 0 { Status::Ok } else { Status::PermissionDenied };
                let got = status(pair, access(op, ours.id(), handle, 8, 8));
                assert_eq!(got, expected, "{name}, rights {rights}, {op:?}");
            }
        }
    });
}

#[test]
fn a_key_with_any_bit_changed_is_refused() {
    let mut pair = Pair::new("tcp://127.0.0.1:0", &ContextOptions::default(), Mode::Polled, Mode::Threaded);
    let theirs = pair.server.exported(4096, |_| 0);
    let key = pair.server.context.export(&theirs, 0, 4096, 3).unwrap();
    for bit in 0..key.len() * 8 {
        let mut bad = key;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(pair.import(&bad), Err(Status::InvalidArgument), "bit {bit}");
    }
    assert_eq!(pair.import(&[0x5A; 64]), Err(Status::InvalidArgument));
    pair.import(&key).unwrap();
    pair.close();
}

#[test]
fn a_key_with_a_guessed_secret_is_refused_by_its_owner() {
    on_every_way(|name, pair| {
        let theirs = pair.server.exported(4096, |_| 0);
        let key = pair.server.context.export(&theirs, 0, 4096, 3).unwrap();
        let mut forged = rdma_engine::engine::key::Key::decode(&key).unwrap();
        forged.secret.0[3] ^= 1;
        // Sound in itself: the checksum is that of the forgery.
        assert_eq!(pair.import(&forged.encode()), Err(Status::PermissionDenied), "{name}");
        forged.export = forged.export.wrapping_add(1);
        let unknown = pair.import(&forged.encode()).unwrap_err();
        assert!(matches!(unknown, Status::NotFound | Status::PermissionDenied), "{name}: {unknown:?}");
    });
}

#[test]
fn a_key_of_another_context_is_refused() {
    let options = ContextOptions::default();
    let mut pair = Pair::new("tcp://127.0.0.1:0", &options, Mode::Polled, Mode::Threaded);
    let ours = pair.client.exported(4096, |_| 0);
    let key = pair.client.context.export(&ours, 0, 4096, 3).unwrap();
    assert_eq!(pair.import(&key), Err(Status::PermissionDenied));
    pair.close();
}

#[test]
fn nothing_goes_by_a_revoked_key() {
    on_every_way(|name, pair| {
        let theirs = pair.server.exported(4096, |i| i as u8);
        let ours = pair.client.context.alloc(4096, 0).unwrap();
        let context = pair.server.context.clone();
        let early = context.export(&theirs, 0, 4096, 7).unwrap();
        context.revoke(&early).unwrap();
        assert_eq!(context.revoke(&early).unwrap_err().status, Status::Revoked, "{name}");
        let refused = pair.import(&early).unwrap_err();
        assert!(matches!(refused, Status::Revoked | Status::NotFound), "{name}: {refused:?}");

        let key = context.export(&theirs, 0, 4096, 7).unwrap();
        let handle = pair.import(&key).unwrap();
        assert_eq!(status(pair, access(Op::Get, ours.id(), handle, 0, 4096)), Status::Ok);
        context.revoke(&key).unwrap();
        let before = bytes_of(&theirs);
        if name.starts_with("rma") {
            // The initiator's engine learns of it by a notice; the NIC would enforce it at once.
            while !region(handle).is_revoked() {
                pair.client.poll();
            }
        }
        fill_buffer(&ours, |_| 0xEE);
        for op in [Op::Get, Op::Put, Op::FetchAdd, Op::CompareSwap] {
            let got = status(pair, access(op, ours.id(), handle, 0, 8));
            assert_eq!(got, Status::Revoked, "{name} {op:?}");
        }
        assert!(bytes_of(&theirs) == before && bytes_of(&ours).iter().all(|b| *b == 0xEE), "{name}");

        let other = pair.server.exported(4096, |_| 7);
        let key = context.export(&other, 0, 4096, 7).unwrap();
        let handle = pair.import(&key).unwrap();
        context.release_buffer(&other).unwrap();
        assert_eq!(context.release_buffer(&other).unwrap_err().status, Status::StaleHandle);
        if name.starts_with("rma") {
            while !region(handle).is_revoked() {
                pair.client.poll();
            }
        }
        assert_eq!(
            status(pair, access(Op::Get, ours.id(), handle, 0, 8)),
            Status::Revoked,
            "{name}: released"
        );
    });
}

#[test]
fn releasing_buffers_under_operations_breaks_nothing() {
    on_every_way(|name, pair| {
        let length = 4 << 20;
        let theirs = pair.server.exported(length, |i| (i / 5) as u8);
        let key = pair.server.context.export(&theirs, 0, length, 3).unwrap();
        let handle = pair.import(&key).unwrap();
        for round in 0..8u64 {
            let ours = pair.client.context.alloc(length, 0).unwrap();
            let span = ours.whole().unwrap();
            let get = Request { user_data: 50 + round, ..access(Op::Get, ours.id(), handle, 0, length) };
            pair.client.submit(Request { session: pair.session.id(), ..get });
            pair.client.context.release_buffer(&ours).unwrap();
            let refused = pair.client.worker.submit(&[Request { session: pair.session.id(), ..get }]);
            assert_eq!(refused, (0, Status::StaleHandle), "{name}: the handle is gone at once");
            let done = pair.wait_client(|c| c.user_data == 50 + round);
            assert_eq!((done.status, done.length), (Status::Ok as i32, length), "{name}");
            let mut got = vec![0; length as usize];
            span.copy_to_slice(0, &mut got).unwrap();
            assert!(got == bytes_of(&theirs), "{name}: the memory lived until the end");
        }
        let ours = pair.client.context.alloc(length, 0).unwrap();
        for round in 0..8u64 {
            let get = Request { user_data: 90 + round, ..access(Op::Get, ours.id(), handle, 0, length) };
            pair.client.submit(Request { session: pair.session.id(), ..get });
        }
        pair.server.context.release_buffer(&theirs).unwrap();
        for round in 0..8u64 {
            let done = pair.wait_client(|c| c.user_data == 90 + round);
            let ended = Status::from_i32(done.status).unwrap();
            assert!(matches!(ended, Status::Ok | Status::Revoked), "{name}: {ended:?}");
        }
    });
}

#[test]
fn a_released_region_is_a_stale_handle() {
    let mut pair = Pair::new("tcp://127.0.0.1:0", &ContextOptions::default(), Mode::Polled, Mode::Threaded);
    let theirs = pair.server.exported(4096, |_| 0);
    let key = pair.server.context.export(&theirs, 0, 4096, 3).unwrap();
    let (first, second) = (pair.import(&key).unwrap(), pair.import(&key).unwrap());
    assert_ne!(first, second, "two handles");
    assert!(
        std::sync::Arc::ptr_eq(&region(first), &region(second)),
        "of one mapping: the second cost nothing"
    );
    let ours = pair.client.context.alloc(4096, 0).unwrap();
    rdma_engine::engine::handle::REGIONS.remove(first).unwrap();
    let get = Request { session: pair.session.id(), ..access(Op::Get, ours.id(), first, 0, 8) };
    assert_eq!(pair.client.worker.submit(&[get]), (0, Status::StaleHandle));
    assert_eq!(
        status(&mut pair, access(Op::Get, ours.id(), second, 0, 8)),
        Status::Ok,
        "the other one works"
    );
    pair.close();
}
