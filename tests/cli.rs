//! The command against itself: `rde serve` and its clients, over a Unix socket and over TCP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

#[path = "common/command.rs"]
mod command;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use command::rde;
use rdma_engine::engine::context::Context;
use rdma_engine::engine::options::{ContextOptions, WorkerOptions};
use rdma_engine::engine::request::{Completion, Op, Request};
use rdma_engine::engine::session::Session;
use rdma_engine::engine::worker::Worker;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Nothing here waits longer; a hang is a failure, not a stuck build.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of its own for each test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rde-cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Bytes that differ from place to place, so that a get of the wrong offset shows.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let limit = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None if Instant::now() > limit => {
                let _ = child.kill();
                panic!("rde did not end within {PATIENCE:?}");
            }
            // Not for synchronisation: only to look again without burning a core.
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
    hello: Value,
}

impl Server {
    fn start(folder: &Folder, files: &[&Path]) -> Server {
        let socket = folder.0.join("rde.sock");
        let mut command = rde();
        command.args(["--json", "serve", "--listen", "tcp://127.0.0.1:0", "--scratch", "4MiB", "--listen"]);
        command.arg(format!("unix://{}", socket.display()));
        for file in files {
            command.arg("--file").arg(file);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let hello = serde_json::from_str(&line).expect("the server's first line is JSON");
        Server { child, lines, hello }
    }

    fn addresses(&self) -> Vec<String> {
        let list = self.hello["listening"].as_array().unwrap();
        list.iter().map(|address| address.as_str().unwrap().to_owned()).collect()
    }

    /// Ends it by a signal and returns what it said last.
    fn stop(mut self, with: Signal) -> Value {
        signal(&self.child, with);
        assert_eq!(wait(&mut self.child).code(), Some(0));
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("the server's last line is JSON")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait(&mut child);
    child.wait_with_output().unwrap()
}

/// The lines of JSON that a command printed; it must have succeeded.
fn json(command: &mut Command) -> Vec<Value> {
    let output = run(command.arg("--json"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn failure(command: &mut Command) -> (Option<i32>, String) {
    let output = run(command);
    assert!(!output.status.success());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn get_brings_the_same_bytes_on_every_address() {
    let folder = Folder::new();
    // Neither a multiple of the chunk nor of a page.
    let bytes = pattern(5_000_003);
    let (big, empty) = (folder.file("big.bin", &bytes), folder.file("empty.bin", &[]));
    let server = Server::start(&folder, &[&big, &empty]);
    let sum = server.hello["exports"][0]["sha256"].as_str().unwrap().to_owned();
    for (index, address) in server.addresses().iter().enumerate() {
        let out = folder.0.join(format!("out{index}"));
        let result =
            json(rde().args(["get", &format!("{address}/big.bin"), "--chunk", "64KiB", "-o"]).arg(&out));
        assert_eq!(result[0]["bytes"], 5_000_003);
        assert_eq!(result[0]["verified"], true);
        assert_eq!(result[0]["sha256"], sum.as_str());
        assert!(std::fs::read(&out).unwrap() == bytes, "the bytes differ");

        let out = folder.0.join(format!("none{index}"));
        json(rde().args(["get", &format!("{address}/empty.bin"), "-o"]).arg(&out));
        assert!(std::fs::read(&out).unwrap().is_empty());
    }
    let ended = server.stop(Signal::TERM);
    assert_eq!(ended["ended"]["sessions"], 4);
    assert!(!folder.names().iter().any(|name| name.contains("partial") || name.contains("sock")));
}

#[test]
fn list_and_a_wrong_name() {
    let folder = Folder::new();
    let file = folder.file("a.bin", &pattern(10));
    let server = Server::start(&folder, &[&file]);
    let address = &server.addresses()[0];
    let list = json(rde().args(["list", address]));
    assert_eq!(list[0]["entries"][0]["name"], "a.bin");
    assert_eq!(list[0]["entries"][0]["writable"], false);
    assert_eq!(list[0]["entries"][1]["name"], "scratch");
    assert_eq!(list[0]["entries"][1]["size"], 4 << 20);

    let out = folder.0.join("out");
    let (code, text) = failure(rde().args(["get", &format!("{address}/b.bin"), "-o"]).arg(&out));
    assert_eq!(code, Some(1));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("a.bin, scratch"), "{text}");
    assert_eq!(folder.names(), ["a.bin", "rde.sock"]);
}

#[test]
fn a_long_catalogue_is_listed_page_by_page() {
    let folder = Folder::new();
    let names: Vec<String> = (0..100).map(|i| format!("{i:03}-{}", "n".repeat(200))).collect();
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.file(name, name.as_bytes())).collect();
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let server = Server::start(&folder, &paths);
    let list = json(rde().args(["list", &server.addresses()[0]]));
    let entries = list[0]["entries"].as_array().unwrap();
    let listed: Vec<&str> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(listed[..100], names);
    assert_eq!(listed[100..], ["scratch"]);
}

#[test]
fn ping_counts_round_trips() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    for address in server.addresses() {
        // 8 B travel inside a completion, 4 KiB in a buffer.
        for size in ["0", "8", "4KiB"] {
            let lines = json(rde().args(["ping", &address, "-c", "5", "-i", "0us", "-s", size]));
            assert_eq!(lines.len(), 6);
            assert_eq!(lines[4]["sequence"], 5);
            let trips = &lines[5]["round_trip"];
            assert_eq!(trips["count"], 5);
            let of = |name: &str| trips[name].as_f64().unwrap();
            assert!(0.0 < of("min") && of("min") <= of("avg") && of("avg") <= of("max") * 1.001, "{trips}");
        }
    }
}

#[test]
fn perf_measures_what_it_was_told() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    for address in server.addresses() {
        for operation in ["get", "put", "message", "rpc"] {
            for progress in ["polled", "threaded"] {
                let mut command = rde();
                command.args(["perf", operation, &address, "--sizes", "8,16KiB", "--iterations", "200"]);
                let result =
                    &json(command.args(["--depth", "7", "--warm-up", "3", "--progress", progress]))[0];
                assert_eq!(result["operation"], operation);
                assert_eq!(result["progress"], progress);
                let rows = result["rows"].as_array().unwrap();
                assert_eq!(rows.len(), 2);
                for (row, size) in rows.iter().zip([8, 16_384]) {
                    assert_eq!(row["size"], size);
                    assert_eq!(row["latency"]["count"], 200);
                    assert_eq!(row["bandwidth"]["operations"], 200);
                    assert_eq!(row["bandwidth"]["in_flight"], 7);
                    assert!(row["latency"]["p50"].as_u64() <= row["latency"]["p99.9"].as_u64());
                }
            }
        }
    }
}

#[test]
fn perf_says_how_much_scratch_is_missing() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let (code, text) = failure(rde().args(["perf", "get", &server.addresses()[0], "--sizes", "8MiB"]));
    assert_eq!(code, Some(1));
    assert!(text.contains("--scratch 8388608"), "{text}");
}

#[test]
fn flags_beat_environment_beats_file() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let toml = folder.file("rde.toml", b"[ping]\ncount = 1\ninterval = \"0us\"\n");
    let as_json = folder.file("rde.json", br#"{"ping": {"count": 1, "interval": "0us"}}"#);
    let trips = |command: &mut Command| {
        let lines = json(command.args(["ping", &server.addresses()[0]]));
        lines.last().unwrap()["round_trip"]["count"].as_u64()
    };
    for file in [&toml, &as_json] {
        assert_eq!(trips(rde().arg("--config").arg(file)), Some(1));
        assert_eq!(trips(rde().env("RDE_CONFIG", file).env("RDE_COUNT", "2")), Some(2));
        let mut command = rde();
        let lines = json(command.arg("--config").arg(file).env("RDE_COUNT", "2").args([
            "ping",
            &server.addresses()[0],
            "--count",
            "3",
        ]));
        assert_eq!(lines.last().unwrap()["round_trip"]["count"], 3);
    }
    let wrong = folder.file("wrong.toml", b"[ping]\ncuont = 1\n");
    let (code, text) = failure(rde().arg("--config").arg(&wrong).args(["ping", "tcp://127.0.0.1:1"]));
    assert_eq!(code, Some(1));
    assert!(text.contains("line 2") && text.contains("cuont"), "{text}");
}

#[test]
fn mistakes_are_one_line_with_a_hint() {
    let (code, _) = failure(rde().arg("fly"));
    assert_eq!(code, Some(2));
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("tcp://127.0.0.1:{port}");
    let (code, text) = failure(rde().args(["ping", &address]));
    assert_eq!(code, Some(1));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("UNREACHABLE") && text.contains("rde serve"), "{text}");
    let (_, text) = failure(rde().args(["--json", "ping", &address]));
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(error["error"]["status"], "UNREACHABLE");
    let (_, text) = failure(rde().arg("serve"));
    assert!(text.contains("--listen"), "{text}");
    let (_, text) = failure(rde().args(["get", "tcp://127.0.0.1:1"]));
    assert!(text.contains("NAME"), "{text}");
}

#[test]
fn signals_end_a_server_and_a_ping_in_order() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let mut command = rde();
    command.args(["--json", "ping", &server.addresses()[0], "-c", "0", "-i", "1ms"]);
    let mut ping = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(ping.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    signal(&ping, Signal::INT);
    let last = lines.map(|line| line.unwrap()).last().unwrap();
    assert_eq!(wait(&mut ping).code(), Some(0));
    assert!(serde_json::from_str::<Value>(&last).unwrap()["round_trip"]["count"].as_u64() >= Some(1));
    assert_eq!(server.stop(Signal::INT)["ended"]["sessions"], 1);
}

#[test]
fn a_killed_server_ends_its_ping_with_an_error() {
    for which in 0..2 {
        let folder = Folder::new();
        let mut server = Server::start(&folder, &[]);
        let mut command = rde();
        command.args(["ping", &server.addresses()[which], "-c", "0", "-i", "1ms"]);
        let mut ping = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(ping.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        lines.for_each(drop);
        assert_eq!(wait(&mut ping).code(), Some(1));
        let text = std::io::read_to_string(ping.stderr.take().unwrap()).unwrap();
        assert!(text.contains("CONNECTION_LOST"), "{text}");
    }
}

#[test]
fn a_peer_that_talks_nonsense_is_shown_the_door() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let address = &server.addresses()[0];
    let context = Context::open(&ContextOptions::default()).unwrap();
    let worker = Worker::open(&context, &WorkerOptions::default()).unwrap();
    let session = Session::connect(&worker, address, 1).unwrap();
    let nonsense = pattern(100);
    let mut seen = Vec::new();
    let limit = Instant::now() + PATIENCE;
    while !seen.contains(&(Op::SessionClosed as u32)) {
        assert!(Instant::now() < limit, "the server kept the session; seen: {seen:?}");
        let mut out = [Completion::default(); 8];
        let count = worker.poll(Some(Duration::from_millis(100)), &mut out).unwrap();
        for completion in &out[..count] {
            seen.push(completion.op);
            if completion.op == Op::SessionConnect as u32 {
                let request = Request {
                    session: session.id(),
                    op: Op::Send as u16,
                    data: nonsense[..].into(),
                    ..Request::default()
                };
                assert_eq!(worker.submit(&[request]).0, 1);
            }
        }
    }
    worker.close().unwrap();
    context.close().unwrap();
    // And the server goes on.
    assert_eq!(json(rde().args(["list", address])).len(), 1);
}
