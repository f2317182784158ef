use super::*;
use crate::engine::buffer::Mapping;
use crate::engine::pool::{EXPORTABLE, Pool, UNINITIALISED};
use std::os::fd::AsFd;

const READ: Rights = Rights::READ;
const WRITE: Rights = Rights::WRITE;
const ATOMIC: Rights = Rights::ATOMIC;

fn exports() -> Exports {
    Exports::new(*b"context of tests", 1_000)
}

fn all() -> Rights {
    READ | WRITE | ATOMIC
}

#[test]
#[cfg_attr(miri, ignore = "random numbers")]
fn a_key_gives_its_range_and_nothing_else() {
    let (pool, exports) = (Pool::new(1 << 20), exports());
    let buffer = pool.alloc(1000, 0).unwrap();
    let key = exports.export(&buffer, 100, 500, all()).unwrap();
    assert_eq!((key.length, key.context, key.mappable), (500, *b"context of tests", false));
    let span = exports.check(key.export, &key.secret, 8, 10, READ).unwrap();
    assert_eq!(span.address() as usize, buffer.address() as usize + 108);
    assert_eq!(span.len(), 10);
    assert!(exports.check(key.export, &key.secret, 500, 0, READ).unwrap().is_empty());
    for (offset, length) in [(0, 501), (500, 1), (501, 0), (u64::MAX, 1), (1, u64::MAX)] {
        assert_eq!(
            exports.check(key.export, &key.secret, offset, length, READ).err(),
            Some(Status::OutOfRange)
        );
    }
}

#[test]
#[cfg_attr(miri, ignore = "random numbers")]
fn rights_and_secrets_are_enforced() {
    let (pool, exports) = (Pool::new(1 << 20), exports());
    let buffer = pool.alloc(64, 0).unwrap();
    for bits in 1..8 {
        let granted = Rights::from_bits(bits).unwrap();
        let key = exports.export(&buffer, 0, 64, granted).unwrap();
        for right in [READ, WRITE, ATOMIC] {
            let seen = exports.check(key.export, &key.secret, 0, 8, right).err();
            assert_eq!(
                seen,
                (bits & right.bits() == 0).then_some(Status::PermissionDenied),
                "{bits} {right:?}"
            );
        }
        for bit in 0..128 {
            let mut wrong = key.secret;
            wrong.0[bit / 8] ^= 1 << (bit % 8);
            let seen = exports.check(key.export, &wrong, 0, 8, granted).err();
            assert_eq!(seen, Some(Status::PermissionDenied));
        }
    }
    assert!(
        Rights::from_bits(0).is_err() && Rights::from_bits(8).is_err() && Rights::from_bits(0x101).is_err()
    );
}

#[test]
#[cfg_attr(miri, ignore = "random numbers")]
fn what_cannot_be_exported_is_refused() {
    let (pool, exports) = (Pool::new(1 << 20), Exports::new([0; 16], 2));
    let buffer = pool.alloc(64, 0).unwrap();
    let refused = |buffer: &Arc<Buffer>, offset, length| {
        exports.export(buffer, offset, length, READ).unwrap_err().status
    };
    assert_eq!(refused(&buffer, 0, 0), Status::InvalidArgument);
    assert_eq!(refused(&buffer, 0, 65), Status::OutOfRange);
    assert_eq!(refused(&buffer, u64::MAX, 2), Status::OutOfRange);
    assert_eq!(refused(&pool.alloc(64, UNINITIALISED).unwrap(), 0, 64), Status::WrongState);
    let first = exports.export(&buffer, 0, 64, READ).unwrap();
    exports.export(&buffer, 0, 64, READ).unwrap();
    assert_eq!(refused(&buffer, 0, 64), Status::LimitReached);
    exports.revoke(first.export).unwrap();
    exports.export(&buffer, 0, 64, READ).unwrap();
    pool.release(&buffer).unwrap();
    assert!(exports.revoke_buffer(&buffer).iter().all(|(_, links)| links.is_empty()));
    assert_eq!(exports.len(), 0);
    assert_eq!(refused(&buffer, 0, 64), Status::WrongState);
}

#[test]
#[cfg_attr(miri, ignore = "random numbers")]
fn a_revoked_key_stays_revoked() {
    let (pool, exports) = (Pool::new(1 << 20), exports());
    let buffer = pool.alloc(64, 0).unwrap();
    let keys: Vec<Key> = (0..10).map(|_| exports.export(&buffer, 0, 64, all()).unwrap()).collect();
    let check = |key: &Key| exports.check(key.export, &key.secret, 0, 8, READ).err();
    let before = exports.check(keys[0].export, &keys[0].secret, 0, 8, WRITE).unwrap();
    exports.revoke(keys[0].export).unwrap();
    assert_eq!(check(&keys[0]), Some(Status::Revoked));
    assert_eq!(exports.revoke(keys[0].export), Err(Status::Revoked));
    before.copy_from_slice(0, &[1; 8]).unwrap();
    let reused = exports.export(&buffer, 0, 64, all()).unwrap();
    assert_eq!(index(reused.export), index(keys[0].export));
    assert_eq!((check(&keys[0]), check(&reused)), (Some(Status::Revoked), None));
    assert_eq!(
        exports.check(keys[0].export + (5 << 28), &keys[0].secret, 0, 8, READ).err(),
        Some(Status::NotFound)
    );
    assert_eq!(exports.check(0, &keys[0].secret, 0, 8, READ).err(), Some(Status::NotFound));
    assert_eq!(exports.revoke(u64::MAX), Err(Status::NotFound));
    let other = pool.alloc(64, 0).unwrap();
    let kept = exports.export(&other, 0, 64, READ).unwrap();
    assert!(exports.revoke_buffer(&buffer).iter().all(|(_, links)| links.is_empty()));
    assert!(keys.iter().all(|key| check(key) == Some(Status::Revoked)));
    assert_eq!((check(&kept), exports.len()), (None, 1));
}

#[test]
#[cfg_attr(miri, ignore = "random numbers")]
fn a_hundred_thousand_exports_of_one_buffer() {
    let (pool, exports) = (Pool::new(1 << 20), Exports::new([0; 16], 100_000));
    let buffer = pool.alloc(64, 0).unwrap();
    let keys: Vec<Key> = (0..100_000).map(|_| exports.export(&buffer, 0, 64, READ).unwrap()).collect();
    assert!(keys.iter().all(|key| exports.check(key.export, &key.secret, 0, 64, READ).is_ok()));
    exports.revoke_buffer(&buffer);
    assert!(exports.is_empty());
    assert_eq!(Arc::strong_count(&buffer), 1);
    exports.export(&buffer, 0, 64, READ).unwrap();
    exports.export(&pool.alloc(64, 0).unwrap(), 0, 64, READ).unwrap();
    assert_eq!((exports.len(), exports.revoke_all(), exports.len()), (2, vec![], 0));
}

/// Threads check while the key is revoked: none that begins after the revocation has returned succeeds.
#[test]
#[cfg_attr(miri, ignore = "random numbers")]
fn no_check_succeeds_after_revoke_has_returned() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (pool, exports) = (Pool::new(1 << 20), exports());
    let buffer = pool.alloc(64, 0).unwrap();
    for _ in 0..200 {
        let key = exports.export(&buffer, 0, 64, READ).unwrap();
        let revoked = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let ended = revoked.load(Ordering::SeqCst);
                        let seen = exports.check(key.export, &key.secret, 0, 8, READ).err();
                        if ended {
                            break assert_eq!(seen, Some(Status::Revoked));
                        }
                    }
                });
            }
            exports.revoke(key.export).unwrap();
            revoked.store(true, Ordering::SeqCst);
        });
    }
    assert_eq!(Arc::strong_count(&buffer), 1);
}

#[test]
#[cfg_attr(miri, ignore = "memory files")]
fn only_what_a_mapping_can_enforce_is_mapped() {
    let (pool, exports) = (Pool::new(1 << 24), exports());
    let mapped = |buffer: &Arc<Buffer>, offset, length, rights| {
        let key = exports.export(buffer, offset, length, rights).unwrap();
        let granted = exports.grant_mapping(key.export, &key.secret, 1).unwrap().is_some();
        assert!(!granted || key.mappable);
        granted
    };
    let exportable = || pool.alloc(5000, EXPORTABLE).unwrap();
    for (rights, expected) in [(READ, true), (READ | WRITE, true), (all(), true)] {
        assert_eq!(mapped(&exportable(), 0, 5000, rights), expected, "{rights:?}");
    }
    for rights in [WRITE, ATOMIC, READ | ATOMIC, WRITE | ATOMIC] {
        assert!(!mapped(&exportable(), 0, 5000, rights), "{rights:?}");
    }
    assert!(!mapped(&exportable(), 0, 4999, READ) && !mapped(&exportable(), 1, 4999, READ));
    assert!(!mapped(&pool.alloc(5000, 0).unwrap(), 0, 5000, READ));
    let (read_first, write_first) = (exportable(), exportable());
    assert!(mapped(&read_first, 0, 5000, READ));
    assert!(!mapped(&read_first, 0, 5000, READ | WRITE));
    assert!(mapped(&read_first, 0, 5000, READ));
    assert!(mapped(&write_first, 0, 5000, READ | WRITE));
    assert!(!mapped(&write_first, 0, 5000, READ));
    assert!(mapped(&write_first, 0, 5000, all()));
}

/// What a hostile peer of the same user may try with a read-only grant.
#[test]
#[cfg_attr(miri, ignore = "memory files")]
fn a_read_only_grant_cannot_be_made_writable() {
    let (pool, exports) = (Pool::new(1 << 24), exports());
    let buffer = pool.alloc(5000, EXPORTABLE).unwrap();
    let whole = buffer.whole().unwrap();
    whole.copy_from_slice(0, b"before").unwrap();
    let key = exports.export(&buffer, 0, 5000, READ).unwrap();
    let grant = exports.grant_mapping(key.export, &key.secret, 1).unwrap().unwrap();
    let peer = |fd: &OwnedFd, writable| Mapping::import(fd.as_fd(), 0, 4096, writable);
    for fd in [&grant.memory, &grant.words] {
        assert_eq!(peer(fd, true).err().unwrap().status, Status::Io);
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd));
        let reopened = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        assert!(peer(&reopened.try_clone().unwrap().into(), true).is_err());
        assert!(rustix::io::pwrite(&reopened, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&reopened, 0).is_err());
        let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        assert!(rustix::fs::fallocate(&reopened, hole, 0, 4096).is_err());
        assert!(rustix::fs::fcntl_add_seals(&reopened, rustix::fs::SealFlags::WRITE).is_err());
    }
    let peers = Arc::new(
        Buffer::new(Arc::new(peer(&grant.memory, false).unwrap()), 0, 4096, Home::Foreign, false).unwrap(),
    );
    let peers = peers.whole().unwrap();
    let read = |expected: &[u8; 6]| {
        let mut seen = [0; 6];
        peers.copy_to_slice(0, &mut seen).unwrap();
        assert_eq!(&seen, expected);
    };
    read(b"before");
    whole.copy_from_slice(0, b"after.").unwrap();
    read(b"after.");
    assert_eq!(peers.copy_from_slice(0, b"x").err(), Some(Status::PermissionDenied));
    assert_eq!(peers.fetch_add(0, 1).err(), Some(Status::PermissionDenied));
}

#[test]
#[cfg_attr(miri, ignore = "memory files")]
fn memory_that_a_peer_has_mapped_is_retired_until_nobody_holds_it() {
    let (pool, exports) = (Pool::new(1 << 24), exports());
    let buffer = pool.alloc(100_000, EXPORTABLE).unwrap();
    let charged = 100_000u64.next_multiple_of(PAGE as u64);
    let (first, second) =
        (exports.export(&buffer, 0, 100_000, READ), exports.export(&buffer, 0, 100_000, READ));
    let (first, second) = (first.unwrap(), second.unwrap());
    let grant = |key: &Key, link| exports.grant_mapping(key.export, &key.secret, link).unwrap().unwrap();
    for (key, link) in [(&first, 7), (&first, 7), (&first, 9), (&second, 9)] {
        grant(key, link);
    }
    pool.release(&buffer).unwrap();
    let mut told = exports.revoke_buffer(&buffer);
    told.sort_unstable();
    assert_eq!(told, [(first.export, vec![7, 9]), (second.export, vec![9])]);
    assert_eq!(exports.grant_mapping(first.export, &first.secret, 1).err().unwrap().status, Status::Revoked);
    let seen = |used, retired| {
        let statistics = pool.statistics();
        assert_eq!((statistics.used, statistics.retired, statistics.in_use), (used, retired, used - retired));
    };
    seen(charged, 0);
    drop(buffer);
    seen(charged, charged);
    assert!(pool.alloc((1 << 24) - 4096, 0).is_err());
    exports.drop_mapping(first.export, 7);
    exports.link_lost(9);
    exports.drop_mapping(first.export, 8);
    exports.drop_mapping(second.export, 9);
    seen(charged, charged);
    exports.drop_mapping(first.export, 7);
    seen(0, 0);
    exports.drop_mapping(first.export, 7);
    assert!(pool.alloc((1 << 24) - 4096, 0).is_ok());
}

#[test]
#[cfg_attr(miri, ignore = "memory files")]
fn a_grant_needs_the_secret() {
    let (pool, exports) = (Pool::new(1 << 24), exports());
    let buffer = pool.alloc(64, EXPORTABLE).unwrap();
    let key = exports.export(&buffer, 0, 64, READ).unwrap();
    let refused = |export, secret| exports.grant_mapping(export, secret, 1).err().unwrap().status;
    assert_eq!(refused(key.export, &Secret([0; 16])), Status::PermissionDenied);
    assert_eq!(refused(key.export ^ 1, &key.secret), Status::NotFound);
}

/// Run by `cargo test --release -- --ignored --nocapture a_check_costs`: CPU time of this thread.
#[test]
#[ignore = "a measurement"]
fn a_check_costs() {
    let (pool, exports) = (Pool::new(1 << 24), Exports::new([0; 16], 100_000));
    let buffer = pool.alloc(1 << 20, 0).unwrap();
    let keys: Vec<Key> = (0..1_000).map(|_| exports.export(&buffer, 0, 1 << 20, READ).unwrap()).collect();
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let start = cpu();
    let rounds = 5_000;
    for _ in 0..rounds {
        for key in &keys {
            drop(std::hint::black_box(exports.check(key.export, &key.secret, 64, 4096, READ)));
        }
    }
    let spent = cpu() - start;
    let ns = (spent.tv_sec as f64 * 1e9 + spent.tv_nsec as f64) / f64::from(rounds * 1_000);
    println!("check: {ns:.1} ns");
}
