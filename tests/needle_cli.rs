//! `rde serve --volumes` and `rde cat`: needles of any length, parts, verdicts, tokens, and the shared secret.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![allow(dead_code, reason = "the writer is shared with the tests of volumes")]

#[path = "common/command.rs"]
mod command;
#[path = "volume/writer.rs"]
mod writer;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use command::rde;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use writer::{Format, Put, Writer};

struct Server {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    hello: Value,
}

impl Server {
    fn start(command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        Server { child, lines, hello: serde_json::from_str(&line).expect("the first line is JSON") }
    }

    /// Serves a folder's volumes on a port that is picked.
    fn volumes(dir: &Path) -> Server {
        let mut command = rde();
        command.args(["--json", "serve", "--volumes-listen", "tcp://127.0.0.1:0", "--volumes"]).arg(dir);
        Server::start(&mut command)
    }

    fn address(&self) -> String {
        self.hello["needles"].as_str().unwrap().to_owned()
    }

    fn stop(mut self) -> Value {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cat(server: &str, file_id: &str, arguments: &[&str]) -> Output {
    rde().args(["cat", file_id, "--server", server]).args(arguments).output().unwrap()
}

/// What it printed; it must have succeeded.
fn data_of(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The one line that a failure said; nothing went to the standard output.
fn failure(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), text.lines().count(), output.stdout.len()), (Some(1), 1, 0), "{text}");
    text
}

fn long(length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i >> 9) ^ (i * 31)) as u8).collect()
}

fn put(id: u64, data: Vec<u8>) -> Put {
    Put { id, cookie: 7, data, append_at_ns: 1, ..Put::default() }
}

#[test]
fn needles_of_any_length_parts_and_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), "photos_3", Format::default());
    writer.put(&put(1, b"hello, needle\n".to_vec()));
    writer.put(&put(2, vec![]));
    writer.put(&put(3, long(20 << 20)));
    writer.put(&Put { flags: 1, last_modified: Some(1_700_000_000), ..put(4, b"gzip, they say".to_vec()) });
    writer.put(&put(5, b"deleted".to_vec()));
    writer.delete(5, 7);
    let server = Server::volumes(dir.path());
    let at = server.address();
    assert_eq!(data_of(cat(&at, "3,0100000007", &[])), b"hello, needle\n");
    assert_eq!(data_of(cat(&at, "/3/0100000007/hello.txt", &["--offset", "7", "--length", "3"])), b"nee");
    assert_eq!(data_of(cat(&at, "3,0100000007", &["--offset", "7"])), b"needle\n");
    assert!(data_of(cat(&at, "3,0200000007", &[])).is_empty());
    // Longer than a message, whole and nearly whole.
    assert!(data_of(cat(&at, "3,0300000007", &[])) == long(20 << 20), "the bytes differ");
    assert!(data_of(cat(&at, "3,0300000007", &["--offset", "5"])) == long(20 << 20)[5..], "the bytes differ");
    assert_eq!(data_of(cat(&at, "3,0500000007", &[])), b"deleted");
    for (file_id, arguments, status) in [
        ("3,0100000008", &[][..], "COOKIE_MISMATCH"),
        ("3,0900000007", &[], "NOT_FOUND"),
        ("4,0100000007", &[], "NOT_FOUND"),
        ("nonsense", &[], "INVALID_ARGUMENT"),
        ("3,0500000007", &["--live"], "DELETED"),
        ("3,0100000007", &["--offset", "1KiB"], "OUT_OF_RANGE"),
        ("3,0400000007", &["--offset", "1"], "INELIGIBLE"),
        ("3,0100000007", &["--json"], "--output"),
    ] {
        let text = failure(&cat(&at, file_id, arguments));
        assert!(text.contains(status), "{file_id} {arguments:?}: {text}");
    }
    let out = dir.path().join("out");
    let named = ["--json", "-o", out.to_str().unwrap()];
    let result: Value = serde_json::from_slice(&data_of(cat(&at, "3,0400000007", &named))).unwrap();
    assert_eq!(
        (&result["bytes"], &result["data_length"], &result["compressed"]),
        (&14.into(), &14.into(), &true.into())
    );
    assert_eq!(result["last_modified"], 1_700_000_000);
    assert_eq!(std::fs::read(&out).unwrap(), b"gzip, they say");
    assert!(!cat(&at, "3,0900000007", &named).status.success());
    assert_eq!(std::fs::read(&out).unwrap(), b"gzip, they say", "a failure leaves the file alone");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "and nothing beside it");
    // What is appended is there at once.
    writer.put(&put(6, b"new".to_vec()));
    assert_eq!(data_of(cat(&at, "3,0600000007", &[])), b"new");
    assert!(server.stop()["ended"]["calls"].as_u64().unwrap() > 15);
}

#[test]
fn the_exporter_beside_a_volume_server_is_found_by_its_port() {
    let dir = tempfile::tempdir().unwrap();
    Writer::create(dir.path(), "3", Format::default()).put(&put(1, b"found".to_vec()));
    let server = Server::volumes(dir.path());
    let port: u16 = server.address().rsplit_once(':').unwrap().1.parse().unwrap();
    // Any HTTP port will do, for nobody asks it.
    let (http, offset) = if port > 20_000 { (port - 20_000, None) } else { (port - 1, Some("1")) };
    let mut command = rde();
    command.args(["cat", "3,0100000007", "--server", &format!("127.0.0.1:{http}")]);
    if let Some(offset) = offset {
        command.args(["--port-offset", offset]);
    }
    assert_eq!(data_of(command.output().unwrap()), b"found");
    let text = failure(&cat("127.0.0.1", "3,0100000007", &[]));
    assert!(text.contains("HOST:PORT"), "{text}");
}

#[test]
fn secrets_and_keys_come_from_files_or_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    Writer::create(dir.path(), "3", Format::default()).put(&put(1, b"secret".to_vec()));
    let (secret, other) =
        (file("secret", "a shared secret, long\n"), file("other", "another secret, long\n"));
    let key = file("key", "read key\n");
    // Made by another program, for 3,0100000007 until 2100.
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDAsImZpZCI6IjMsMDEwMDAwMDAwNyJ9.\
                 rSoH_kRJcPyNj0LKKMFxd1Rt3sqianwrgTQKQejBtQE";
    let mut command = rde();
    command.args([
        "--json",
        "serve",
        "--volumes-listen",
        "tcp://127.0.0.1:0",
        "--listen",
        "tcp://127.0.0.1:0",
    ]);
    command
        .arg("--volumes")
        .arg(dir.path())
        .arg("--read-key-file")
        .arg(&key)
        .arg("--secret-file")
        .arg(&secret);
    let server = Server::start(&mut command);
    let at = server.address();
    let read = |change: &dyn Fn(&mut Command)| {
        let mut command = rde();
        command.args(["cat", "3,0100000007", "--server", &at]);
        change(&mut command);
        command.output().unwrap()
    };
    let with = |command: &mut Command| {
        command.arg("--secret-file").arg(&secret);
    };
    assert_eq!(
        data_of(read(&|c| {
            with(c);
            c.args(["--token", token]);
        })),
        b"secret"
    );
    assert_eq!(
        data_of(read(&|c| {
            c.env("RDE_SECRET", "a shared secret, long").env("RDE_TOKEN", token);
        })),
        b"secret"
    );
    let in_file = file("token", &format!("{token}\n"));
    assert_eq!(
        data_of(read(&|c| {
            with(c);
            c.arg("--token-file").arg(&in_file);
        })),
        b"secret"
    );
    assert!(failure(&read(&with)).contains("UNAUTHORIZED"));
    assert!(
        failure(&read(&|c| {
            with(c);
            c.args(["--token", "a.b.c"]);
        }))
        .contains("UNAUTHORIZED")
    );
    for stranger in [None, Some(&other)] {
        let output = read(&|c| {
            c.args(["--token", token]);
            if let Some(other) = stranger {
                c.arg("--secret-file").arg(other);
            }
        });
        let text = failure(&output);
        assert!(text.contains("--secret-file") && !text.contains("jwt"), "{text}");
    }
    // The secret is for every command.
    let address = server.hello["listening"][0].as_str().unwrap();
    assert!(
        rde()
            .args(["ping", address, "-c", "1"])
            .env("RDE_SECRET_FILE", &secret)
            .output()
            .unwrap()
            .status
            .success()
    );
    assert!(failure(&rde().args(["list", address]).output().unwrap()).contains("RDE_SECRET"));
    let short = file("short", "short");
    assert!(
        failure(&read(&|c| {
            c.arg("--secret-file").arg(&short);
        }))
        .contains("16 to 1,024")
    );
    assert!(
        failure(&rde().args(["serve", "--volumes"]).arg(dir.path()).output().unwrap())
            .contains("--volumes-listen")
    );
    assert!(
        failure(
            &rde().args(["serve", "--listen", "tcp://127.0.0.1:0", "--index-dir", "x"]).output().unwrap()
        )
        .contains("--volumes")
    );
}
