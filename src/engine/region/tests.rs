use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use super::*;
use crate::engine::export::Exports;
use crate::engine::pool::{EXPORTABLE, Pool};
use rustix::fs::{MemfdFlags, SealFlags};

const READ: Rights = Rights::READ;
const WRITE: Rights = Rights::WRITE;

struct Owner {
    pool: Pool,
    exports: Exports,
    buffer: Arc<Buffer>,
    key: Key,
}

fn owner(length: u64, rights: Rights) -> Owner {
    let (pool, exports) = (Pool::new(1 << 24), Exports::new([7; 16], 5_000));
    // Beyond the first page of the words.
    let other = pool.alloc(64, 0).unwrap();
    for _ in 0..600 {
        exports.export(&other, 0, 64, READ).unwrap();
    }
    let buffer = pool.alloc(length, EXPORTABLE).unwrap();
    let key = exports.export(&buffer, 0, length, rights).unwrap();
    Owner { pool, exports, buffer, key }
}

impl Owner {
    fn grant(&self) -> Grant {
        self.exports.grant_mapping(self.key.export, &self.key.secret, 1).unwrap().unwrap()
    }

    fn region(&self) -> Region {
        Region::new(self.key, Way::Mapped(MappedRegion::import(&self.key, &self.grant()).unwrap()))
    }
}

fn here(region: &Region, offset: u64, length: u64, right: Rights) -> Span {
    match region.check(offset, length, right).unwrap() {
        Place::Here(span) => span,
        other => panic!("{other:?}"),
    }
}

#[test]
#[cfg_attr(miri, ignore = "memory files")]
fn a_mapped_region_is_the_peers_memory() {
    let owner = owner(10_000, READ | WRITE);
    let region = owner.region();
    let ours = owner.buffer.whole().unwrap();
    here(&region, 9_000, 1_000, WRITE).copy_from_slice(0, &[6; 1_000]).unwrap();
    let mut seen = [0; 1_000];
    ours.copy_to_slice(9_000, &mut seen).unwrap();
    assert_eq!(seen, [6; 1_000]);
    ours.store(16, 77).unwrap();
    assert_eq!(region.mapped(16, 8, READ).unwrap().unwrap().fetch_add(16, 1), Ok(77));
    assert_eq!(ours.load(16), Ok(78));
}

#[test]
#[cfg_attr(miri, ignore = "memory files")]
fn range_right_and_revocation_are_checked_on_every_way() {
    let owner = owner(1_000, READ);
    let rma = Way::Rma { remote_address: 1 << 40, rkey: vec![1, 2] };
    let regions = [owner.region(), Region::new(owner.key, rma), Region::new(owner.key, Way::Message)];
    for region in &regions {
        let refused = |offset, length, right| {
            let seen = region.check(offset, length, right).err();
            assert_eq!(region.mapped(offset, length, right).err(), seen);
            seen
        };
        assert_eq!(refused(0, 1_000, READ), None);
        assert_eq!(refused(1_000, 0, READ), None);
        for (offset, length) in [(0, 1_001), (1_000, 1), (1_001, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(refused(offset, length, READ), Some(Status::OutOfRange), "{offset} {length}");
        }
        assert_eq!(refused(0, 8, WRITE), Some(Status::PermissionDenied));
        assert_eq!(refused(0, 8, Rights::ATOMIC), Some(Status::PermissionDenied));
        region.set_revoked();
        assert!(region.is_revoked());
        assert_eq!(refused(0, 8, READ), Some(Status::Revoked));
        assert_eq!(refused(0, 0, READ), Some(Status::Revoked));
    }
    let far = Way::Rma { remote_address: u64::MAX - 5, rkey: Vec::new() };
    assert_eq!(Region::new(owner.key, far).check(10, 1, READ).err(), Some(Status::OutOfRange));
    let near = Region::new(owner.key, Way::Rma { remote_address: 1 << 40, rkey: Vec::new() });
    assert!(matches!(near.check(10, 1, READ), Ok(Place::Remote(address)) if address == (1 << 40) + 10));
}

#[test]
#[cfg_attr(miri, ignore = "memory files")]
fn an_importer_sees_a_revocation_at_once_and_only_its_own() {
    let owner = owner(1_000, READ);
    let other_key = owner.exports.export(&owner.buffer, 0, 1_000, READ).unwrap();
    let grant = owner.exports.grant_mapping(other_key.export, &other_key.secret, 1).unwrap().unwrap();
    let other = Region::new(other_key, Way::Mapped(MappedRegion::import(&other_key, &grant).unwrap()));
    let region = owner.region();
    let span = here(&region, 0, 8, READ);
    assert_eq!(owner.exports.revoke(owner.key.export), Ok(vec![1]));
    assert_eq!(region.check(0, 8, READ).err(), Some(Status::Revoked));
    assert!(other.check(0, 8, READ).is_ok());
    // A new export in the same place does not bring the old one back.
    let reused = owner.exports.export(&owner.buffer, 0, 1_000, READ).unwrap();
    assert_eq!(index(reused.export), index(owner.key.export));
    owner.exports.grant_mapping(reused.export, &reused.secret, 1).unwrap().unwrap();
    assert!(region.is_revoked() && !other.is_revoked());
    owner.pool.release(&owner.buffer).unwrap();
    owner.exports.revoke_buffer(&owner.buffer);
    let Owner { pool, buffer, .. } = owner;
    drop(buffer);
    assert!(other.is_revoked());
    // The owner has unmapped it; what an importer has mapped is still there.
    assert_eq!(span.load(0), Ok(0));
    assert!(pool.statistics().retired > 0);
}

/// Descriptors that a hostile peer may pass: none ends in SIGBUS.
#[test]
#[cfg_attr(miri, ignore = "memory files")]
fn a_descriptor_that_could_hurt_is_refused() {
    let owner = owner(10_000, READ);
    let refused = |memory: OwnedFd, words: OwnedFd| {
        let grant = Grant { memory, words, length: 10_000, rights: READ };
        MappedRegion::import(&owner.key, &grant).err().map(|error| error.status)
    };
    let memfd = |length, seals| {
        let fd =
            rustix::fs::memfd_create(c"hostile", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, length).unwrap();
        rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
        fd
    };
    let good = || owner.grant();
    let bad = || {
        let path = std::env::temp_dir().join(format!("rde-region-{}", std::process::id()));
        std::fs::write(&path, vec![0; 20_000]).unwrap();
        let file: OwnedFd = std::fs::File::open(&path).unwrap().into();
        std::fs::remove_file(&path).unwrap();
        let null: OwnedFd = std::fs::File::open("/dev/zero").unwrap().into();
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        let (shrinks, short) = (memfd(1 << 20, SealFlags::GROW), memfd(9_999, SealFlags::SHRINK));
        [file, null, pipe, shrinks, short, memfd(0, SealFlags::SHRINK)]
    };
    for (i, fd) in bad().into_iter().enumerate() {
        assert_eq!(refused(fd, good().words), Some(Status::Protocol), "memory {i}");
    }
    // The word of export 600 lies in the second page.
    for (i, fd) in bad().into_iter().enumerate().filter(|(i, _)| *i != 4) {
        assert_eq!(refused(good().memory, fd), Some(Status::Protocol), "words {i}");
    }
    assert_eq!(refused(good().memory, memfd(PAGE as u64, SealFlags::SHRINK)), Some(Status::Protocol));
    assert_eq!(refused(good().memory, good().words), None);
    for (length, rights) in [(9_999, READ), (20_000, READ), (10_000, READ | WRITE)] {
        let grant = Grant { length, rights, ..good() };
        assert_eq!(MappedRegion::import(&owner.key, &grant).err().unwrap().status, Status::Protocol);
    }
    let zeros = memfd(1 << 20, SealFlags::SHRINK);
    let grant = Grant { memory: good().memory, words: zeros, length: 10_000, rights: READ };
    let dead = Region::new(owner.key, Way::Mapped(MappedRegion::import(&owner.key, &grant).unwrap()));
    assert!(dead.is_revoked());
}

/// The other process of the test below: imports what its environment names, then answers each line it reads.
#[test]
#[ignore = "a child of another test"]
fn importer() {
    let Ok(key) = std::env::var("RDE_TEST_KEY") else { return };
    let inherited = |name| {
        let path = format!("/proc/self/fd/{}", std::env::var(name).unwrap());
        OwnedFd::from(std::fs::File::open(path).unwrap())
    };
    let bytes: Vec<u8> = key.split(',').map(|byte| byte.parse().unwrap()).collect();
    let key = Key::decode(&bytes).unwrap();
    let (memory, words) = (inherited("RDE_TEST_MEMORY"), inherited("RDE_TEST_WORDS"));
    let grant = Grant { memory, words, length: key.length, rights: key.rights };
    let region = Region::new(key, Way::Mapped(MappedRegion::import(&key, &grant).unwrap()));
    for line in std::io::stdin().lines() {
        let offset = line.unwrap().parse().unwrap();
        match region.mapped(offset, 8, READ) {
            Ok(Some(span)) => println!("\nanswer {}", span.load(offset).unwrap()),
            other => println!("\nanswer {:?}", other.err()),
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "processes")]
fn another_process_reads_our_memory_until_it_is_revoked() {
    let owner = owner(10_000, READ);
    let ours = owner.buffer.whole().unwrap();
    let grant = owner.grant();
    // Duplicates that are inherited, unlike the ones we have.
    let (memory, words) = (rustix::io::dup(&grant.memory).unwrap(), rustix::io::dup(&grant.words).unwrap());
    let key: Vec<String> = owner.key.encode().iter().map(u8::to_string).collect();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["engine::region::tests::importer", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env("RDE_TEST_MEMORY", memory.as_raw_fd().to_string())
        .env("RDE_TEST_WORDS", words.as_raw_fd().to_string())
        .env("RDE_TEST_KEY", key.join(","))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = BufReader::new(from).lines();
    let mut ask = |offset: u64| {
        writeln!(to, "{offset}").unwrap();
        let answer = |line: std::io::Result<String>| Some(line.unwrap().strip_prefix("answer ")?.to_owned());
        lines.by_ref().find_map(answer).unwrap()
    };
    ours.store(80, 4711).unwrap();
    assert_eq!(ask(80), "4711");
    ours.store(80, 4712).unwrap();
    assert_eq!(ask(80), "4712");
    assert_eq!(ask(9_993), "Some(OutOfRange)");
    owner.exports.revoke(owner.key.export).unwrap();
    assert_eq!(ask(80), "Some(Revoked)");
    drop(to);
    assert!(child.wait().unwrap().success());
}

/// Run by `cargo test --release -- --ignored --nocapture a_mapped_get_costs`: CPU time of this thread.
#[test]
#[ignore = "a measurement"]
fn a_mapped_get_costs() {
    let owner = owner(1 << 20, READ);
    let region = owner.region();
    let local = owner.pool.alloc(4096, 0).unwrap().whole().unwrap();
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    for length in [8, 4096] {
        let rounds = 5_000_000u64;
        let start = cpu();
        for i in 0..rounds {
            let offset = (i % 200) * 4096;
            let Ok(Some(memory)) = region.mapped(offset, length, READ) else { panic!("not mapped") };
            local.copy_from(0, memory, offset, length).unwrap();
        }
        let spent = cpu() - start;
        let ns = (spent.tv_sec as f64 * 1e9 + spent.tv_nsec as f64) / rounds as f64;
        println!("mapped get of {length} bytes: {ns:.1} ns");
    }
}
