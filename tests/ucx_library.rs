//! Loading: version, file, settings, side effects; and what is left after a fork.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in tests a failure is the answer"
)]

mod ucx_support;

use rdma_engine::status::Status;
use rdma_engine::ucx::{Context, ContextConfig, Worker, library, settings};
use std::process::Command;
use ucx_support::{SHARED_MEMORY, context};

#[test]
fn says_what_it_loaded() {
    let library = library().unwrap();
    assert!(library.version() >= (1, 13, 0));
    assert!(library.path().is_absolute() && library.path().exists(), "{:?}", library.path());
    let name = library.path().file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("libucp"), "{name}");
}

/// In processes of their own: the environment is read once.
fn settings_with(name: &str, value: Option<&str>) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "print_settings", "--nocapture"]).env("UCX_TEST_PRINT", "1").env_remove(name);
    if let Some(value) = value {
        command.env(name, value);
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// Not a test: prints, when a test starts it.
#[test]
fn print_settings() {
    if std::env::var_os("UCX_TEST_PRINT").is_some() {
        for (name, value) in settings().unwrap() {
            println!("\nsetting {name}={value}");
        }
    }
}

#[test]
fn settings_are_those_in_effect() {
    let ours = settings_with("UCX_TCP_TX_SEG_SIZE", None);
    for line in ["TCP_TX_SEG_SIZE=256K", "TCP_RX_SEG_SIZE=256K", "POSIX_FIFO_SIZE=256", "POSIX_SEG_SIZE=8256"]
    {
        assert!(ours.contains(&format!("setting {line}\n")), "{line} is not in {ours}");
    }
    let users = settings_with("UCX_TCP_TX_SEG_SIZE", Some("16384"));
    assert!(users.contains("setting TCP_TX_SEG_SIZE=16K\n"), "{users}");
}

#[test]
fn missing_library_is_unsupported() {
    let missing = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "load_missing", "--nocapture"])
        .env("RDE_UCX_LIBRARY", "/nonexistent/libucp.so.0")
        .env("UCX_TEST_MISSING", "1")
        .output()
        .unwrap();
    assert!(missing.status.success(), "{missing:?}");
    assert!(String::from_utf8_lossy(&missing.stdout).contains("libucx0"), "{missing:?}");
}

/// Not a test: tries, when a test starts it.
#[test]
fn load_missing() {
    if std::env::var_os("UCX_TEST_MISSING").is_some() {
        let Err(error) = library() else { panic!("loaded from nowhere") };
        assert_eq!(error.status, Status::Unsupported);
        println!("{error}");
    }
}

/// Loading takes no signals.
#[test]
fn signals_stay_as_they_were() {
    let before = caught();
    let _context = context(SHARED_MEMORY);
    assert_eq!(caught(), before);
}

/// The signals of this process that have a handler.
fn caught() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("SigCgt")).unwrap().to_owned()
}

#[test]
fn unknown_transport_is_an_error() {
    let config = ContextConfig { tls: "no_such_transport".to_owned(), ..ContextConfig::default() };
    let Err(error) = Context::new(&config) else { panic!("opened a transport that does not exist") };
    assert!(error.status.is_error() && error.transport != 0, "{error}");
}

#[test]
#[allow(unsafe_code, reason = "fork is the subject")]
fn child_of_a_fork_is_refused() {
    let mut worker = Worker::<Vec<u8>>::new(context(SHARED_MEMORY)).unwrap();
    // SAFETY: the child only calls what refuses at once, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = |status: Option<Status>| status == Some(Status::WrongState);
        let all = refused(worker.progress().err().map(|e| e.status))
            && refused(worker.address().err().map(|e| e.status))
            && refused(worker.arm().err().map(|e| e.status))
            && refused(library().err().map(|e| e.status));
        drop(worker);
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(if all { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!((waited, status), (child, 0));
    worker.progress().unwrap();
}
