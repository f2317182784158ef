//! A real S3 server: SeaweedFS's gateway, killed and stopped in the middle of commits.
//!
//! `tests/tier.sh` finds or fetches the program. Everything listens on loopback.

use super::kv_support::Folder;
use super::proxy::Proxy;
use super::{check, noise, options, partition, upsert, write};
use rdma_engine::Status;
use rdma_engine::kv::batch::{Action, Op};
use rdma_engine::kv::options::Options;
use rdma_engine::kv::store::Store;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// gRPC listens this much above HTTP.
const GRPC_OFFSET: u16 = 10_000;
const KEY: &str = "tier-test";
const SECRET: &str = "tier-test-secret";

struct Weed {
    program: PathBuf,
    folder: Folder,
    ports: [u16; 4],
    child: Child,
}

impl Drop for Weed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // SeaweedFS makes it at a fixed place, and leaves it there.
        let grpc = self.ports[1] + GRPC_OFFSET;
        let _ = std::fs::remove_file(format!("/tmp/seaweedfs-volume-grpc-{grpc}.sock"));
    }
}

/// Ports that are free, and whose gRPC ports are.
fn free_ports() -> [u16; 4] {
    let mut held = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..1000 {
        let Ok(free) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else { continue };
        let port = free.local_addr().unwrap().port();
        if port > u16::MAX - GRPC_OFFSET {
            continue;
        }
        let Ok(grpc) = TcpListener::bind((Ipv4Addr::LOCALHOST, port + GRPC_OFFSET)) else { continue };
        held.push((free, grpc));
        ports.push(port);
        if ports.len() == 4 {
            return ports.try_into().unwrap();
        }
    }
    panic!("no free ports");
}

fn spawn(program: &Path, folder: &Path, ports: [u16; 4]) -> Child {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let config = format!(
        r#"{{"identities":[{{"name":"t","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],"actions":["Admin"]}}]}}"#
    );
    std::fs::write(folder.join("s3.json"), config).unwrap();
    let log = std::fs::File::options().create(true).append(true).open(folder.join("weed.log")).unwrap();
    let [master, volume, filer, s3] = ports;
    let mut command = Command::new(program);
    command.arg("server").arg(format!("-dir={}", data.display()));
    command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.peers=none", "-master.telemetry=false"]);
    command.args(["-master.volumeSizeLimitMB=64", "-volume.max=8", "-filer", "-s3"]);
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
    command.arg(format!("-s3.config={}", folder.join("s3.json").display()));
    for name in ["filer", "s3"] {
        command.arg(format!("-{name}.localSocket={}", folder.join(format!("{name}.sock")).display()));
    }
    for (name, port) in [("master", master), ("volume", volume), ("filer", filer), ("s3", s3)] {
        command.arg(format!("-{name}.port={port}"));
    }
    command.current_dir(folder).env("HOME", folder).env("TMPDIR", folder);
    command
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("RDE_WEED names a program that starts")
}

impl Weed {
    fn start() -> Weed {
        let program = PathBuf::from(std::env::var_os("RDE_WEED").expect("RDE_WEED names a weed program"));
        let (folder, ports) = (Folder::new(), free_ports());
        let child = spawn(&program, &folder.0, ports);
        let weed = Weed { program, folder, ports, child };
        weed.wait();
        weed
    }

    fn s3(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[3]).into()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Starts it again, over the same folder.
    fn restart(&mut self) {
        self.child.wait().unwrap();
        self.child = spawn(&self.program, &self.folder.0, self.ports);
        self.wait();
    }

    /// Until its S3 gateway answers and a bucket can be written to. Nothing tells when, so it is asked again and again.
    fn wait(&self) {
        let start = Instant::now();
        while !self.is_up() {
            let log = std::fs::read_to_string(self.folder.0.join("weed.log")).unwrap_or_default();
            let end = log.len().saturating_sub(4000);
            assert!(start.elapsed() < PATIENCE, "weed does not come up:\n{}", &log[end..]);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_up(&self) -> bool {
        // A folder of the filer's is a bucket, and a file needs a volume.
        let filer = self.ports[2];
        let answers =
            |port, method: &str, path: &str, body: &str| ask(port, method, path, body).unwrap_or_default();
        let made = answers(filer, "POST", "/buckets/bucket/", "");
        (made.contains(" 201 ") || made.contains(" 409 "))
            && answers(filer, "PUT", "/buckets/bucket/up", "up").contains(" 201 ")
            && answers(self.ports[3], "GET", "/", "").starts_with("HTTP/1.1 ")
    }
}

fn ask(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let len = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.take(64 << 10).read_to_string(&mut answer)?;
    Ok(answer)
}

fn over(local: &Path, server: SocketAddr) -> Options {
    below(local, server, "some/prefix")
}

fn below(local: &Path, server: SocketAddr, prefix: &str) -> Options {
    let mut options = options(
        local,
        &format!(
            "cloud_store_path=bucket/{prefix}\ncloud_endpoint=http://{server}\ncloud_retries=1\ncloud_access_key={KEY}\n\
            cloud_secret_key={SECRET}\n"
        ),
    );
    options.cloud.timeout = Duration::from_secs(2);
    options
}

/// A commit: one key that tells which, and more that have to agree with it. Some 30 KB.
fn commit(number: u64) -> Vec<Op> {
    let mut ops: Vec<_> = (0..20).map(|i| upsert(&format!("k{i:02}"), &noise(number, 1000))).collect();
    ops.push(upsert("n", &number.to_le_bytes()));
    // And one that stays.
    ops.push(upsert(&format!("s{number:06}"), &number.to_le_bytes()));
    ops
}

/// Which commit is there, whole; every commit of `acknowledged` must be.
fn seen(store: &Store, acknowledged: &[u64]) -> u64 {
    check(store);
    let view = store.view(&partition()).unwrap().unwrap();
    let number = view.read(b"n").unwrap().unwrap().value;
    let number = u64::from_le_bytes(number.try_into().unwrap());
    for i in 0..20 {
        let value = view.read(format!("k{i:02}").as_bytes()).unwrap().unwrap().value;
        assert!(value == noise(number, 1000), "key {i} is not of commit {number}");
    }
    for number in acknowledged {
        let found = view.read(format!("s{number:06}").as_bytes()).unwrap();
        assert!(found.is_some(), "commit {number} was acknowledged and is gone");
    }
    number
}

#[test]
#[ignore = "needs a SeaweedFS program in RDE_WEED: tests/tier.sh"]
fn weed_is_killed_and_stopped_in_the_middle_of_commits() {
    let mut weed = Weed::start();
    let proxy = Proxy::start(weed.s3());
    let folder = Folder::new();
    let store = Store::create(over(&folder.0.join("a"), proxy.address)).unwrap();
    let mut writer = store.writer(&partition()).unwrap();
    let (mut number, mut acknowledged) = (0, Vec::new());
    let mut next = |writer: &mut rdma_engine::kv::writer::Writer| {
        number += 1;
        let written = write(writer, commit(number));
        if written.is_ok() {
            acknowledged.push(number);
        }
        (number, written.map_err(|error| error.status), acknowledged.clone())
    };
    for _ in 0..3 {
        assert_eq!(next(&mut writer).1, Ok(22));
    }
    let seed = std::env::var("RDE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x7137u64);
    println!("RDE_TEST_SEED={seed}");
    let places = noise(seed, 16);
    for (round, place) in places.iter().enumerate().take(6) {
        // Somewhere in the next two commits: a data file and a manifest each, and their heads.
        let at = u64::from(*place) * 400;
        let (pid, kill) = (weed.pid(), round % 2 == 0);
        proxy.after(at, move || kill_process(pid, if kill { Signal::KILL } else { Signal::STOP }).unwrap());
        let started = Instant::now();
        let failed = loop {
            let (number, written, _) = next(&mut writer);
            match written {
                Err(status) => break (number, status),
                Ok(_) => assert!(!proxy.is_done() || started.elapsed() < PATIENCE, "nothing fails"),
            }
        };
        println!("round {round}: after {at} bytes commit {} failed: {:?}", failed.0, failed.1);
        assert!(matches!(failed.1, Status::TimedOut | Status::Unreachable), "{failed:?}");
        // What was read before is still read.
        let known = rdma_engine::kv::source::now(writer.tree().read(b"n")).unwrap();
        assert!(known.is_some());
        if kill {
            weed.restart();
        } else {
            // Requests that were given up are done now, late.
            kill_process(pid, Signal::CONT).unwrap();
        }
        let resumed = Instant::now();
        let (number, acknowledged) = loop {
            let (number, written, acknowledged) = next(&mut writer);
            match written {
                Ok(_) => break (number, acknowledged),
                Err(status) => assert!(resumed.elapsed() < PATIENCE, "writing does not go on: {status:?}"),
            }
        };
        let other = Store::open(over(&folder.0.join(format!("r{round}")), weed.s3())).unwrap();
        assert_eq!(seen(&other, &acknowledged), number);
    }
    let store = Store::open(over(&folder.0.join("last"), weed.s3())).unwrap();
    println!("{} of {} commits were acknowledged", acknowledged.len(), number);
    seen(&store, &acknowledged);
}

#[test]
#[ignore = "needs a SeaweedFS program in RDE_WEED: tests/tier.sh"]
fn weed_keeps_an_old_writer_out() {
    let weed = Weed::start();
    let folder = Folder::new();
    let open = |name: &str| Store::create(over(&folder.0.join(name), weed.s3())).unwrap();
    let (a, b) = (open("a"), open("b"));
    let (mut first, mut second) = (a.writer(&partition()).unwrap(), b.writer(&partition()).unwrap());
    write(&mut first, commit(1)).unwrap();
    write(&mut second, commit(2)).unwrap();
    let error = write(&mut first, commit(3)).unwrap_err();
    assert_eq!(error.status, Status::ExpiredTerm, "{error}");
    drop((first, second));
    seen(&open("c"), &[1, 2]);
    let mut wrong = over(&folder.0.join("e"), weed.s3());
    wrong.cloud.secret_key = "not this".into();
    let error = Store::open(wrong).unwrap_err();
    assert_eq!(error.status, Status::Unauthorized, "{error}");
}

#[test]
#[ignore = "needs a SeaweedFS program in RDE_WEED: tests/tier.sh"]
fn weed_takes_long_files_in_parts() {
    let weed = Weed::start();
    let folder = Folder::new();
    let open = |name: &str| {
        let mut options = below(&folder.0.join(name), weed.s3(), "large");
        (options.segment_size, options.segments_per_file_shift) = (1 << 20, 5);
        Store::create(options).unwrap()
    };
    let store = open("a");
    let mut writer = store.writer(&partition()).unwrap();
    let action = Action::UpsertLarge { value: noise(5, 37 << 20), metadata: None, expire_ms: 0 };
    write(&mut writer, vec![Op { key: b"large".to_vec(), action, timestamp: 1 }]).unwrap();
    rdma_engine::kv::source::now(writer.archive("kept")).unwrap();
    let there = open("b");
    check(&there);
    let found = there.view(&partition()).unwrap().unwrap().read(b"large").unwrap().unwrap();
    assert!(found.value == noise(5, 37 << 20));
    assert_eq!(there.archives(&partition()).unwrap(), ["kept"]);
}
