//! A process that writes a partition is killed, or its disk fails, at every call that changes the disk and at 500
//! random ones. Afterwards the partition is what a step left, never less than what was acknowledged, whole, and goes
//! on from there. A library loaded before libc does the harm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../kv_support/mod.rs"]
mod kv_support;
mod logged;
mod steps;

use kv_support::Folder;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::survey;
use std::path::{Path, PathBuf};
use std::process::Command;
use steps::{Model, Plan, partition, scan};

/// Appending, and by an engine with a write log.
const WAYS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];
/// Steps that a child does before it ends.
const STEPS: u64 = 12;

fn shim(folder: &Path) -> PathBuf {
    let library = folder.join("shim.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv_faults/shim.c");
    let cc = std::env::var_os("CC").unwrap_or("cc".into());
    let mut cc = Command::new(cc);
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([source, "-ldl"]);
    assert!(cc.status().expect("a C compiler").success());
    library
}

/// What a child said before it ended.
#[derive(Debug)]
struct Said {
    /// The last step that it acknowledged.
    done: u64,
    /// The step that failed, with a status.
    failed: Option<(u64, String)>,
    killed: bool,
    /// Calls that change the disk.
    calls: u64,
}

/// Runs steps `from..to` in a process of its own.
fn run(shim: &Path, plan: &Plan, from: u64, to: u64, at: u64, action: &str) -> Said {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env("LD_PRELOAD", shim)
        .env("RDE_SHIM_AT", at.to_string())
        .env("RDE_SHIM_DO", action)
        .env("RDE_STEPS", plan.to_text(from, to))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut said = Said { done: from, failed: None, killed: output.status.code().is_none(), calls: 0 };
    for line in text.lines() {
        // The test harness prints without line ends of its own.
        if let Some((_, step)) = line.split_once("done ") {
            said.done = step.parse().unwrap();
        }
        if let Some((_, rest)) = line.split_once("failed ") {
            let (step, status) = rest.split_once(' ').unwrap();
            said.failed = Some((step.parse().unwrap(), status.to_owned()));
        }
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    if let Some((_, rest)) = stderr.split_once("shim: ") {
        said.calls = rest.split(' ').next().unwrap().parse().unwrap();
    }
    assert!(said.killed || output.status.success(), "{text}\n{stderr}");
    said
}

/// The step that the partition is at; panics unless it is `at_least` or the one after.
fn state(plan: &Plan, at_least: u64, place: &str) -> u64 {
    let store = Store::open(plan.options()).unwrap_or_else(|error| panic!("{place}: {error}"));
    if plan.log {
        // Who opens it to write merges what the log holds.
        let writer = store.writer(&partition());
        drop(writer.unwrap_or_else(|error| panic!("{place}: {error}")));
    }
    let found = match store.view(&partition()).unwrap_or_else(|error| panic!("{place}: {error}")) {
        Some(view) => scan(&view).unwrap_or_else(|error| panic!("{place}: {error}")),
        None => Model::new(),
    };
    for (state, report) in survey::check(&store, &partition(), |_| Ok(())).unwrap() {
        assert_eq!(report.problems, [""; 0], "{place}: {state}");
    }
    // Steps that leave the content as it was look like the one before: the later one is the same state.
    let state = [at_least + 1, at_least].into_iter().find(|step| plan.model(*step) == found);
    state.unwrap_or_else(|| panic!("{place}: {} entries are no state of step {at_least}", found.len()))
}

#[test]
fn killed_at_every_call() {
    let folder = Folder::in_memory();
    let shim = shim(&folder.0);
    for (append, log) in WAYS {
        let plan = |name: String| Plan { folder: folder.0.join(name), append, log, seed: 1 };
        let whole = plan(format!("{append}-{log}-whole"));
        let calls = run(&shim, &whole, 0, STEPS, 0, "").calls;
        assert!(calls > 4 * STEPS, "{calls} calls that change the disk");
        assert_eq!(state(&whole, STEPS - 1, "whole"), STEPS);
        for at in 1..=calls {
            for action in ["kill", "half"] {
                let place = format!("append {append}, log {log}, {action} at {at}");
                let plan = plan(place.clone());
                let said = run(&shim, &plan, 0, STEPS, at, action);
                assert!(said.killed || action == "half", "{place}: {said:?}");
                let reached = state(&plan, said.done.min(STEPS - 1), &place);
                let rest = run(&shim, &plan, reached, STEPS + 2, 9999, "kill");
                assert_eq!((rest.done, rest.failed), (STEPS + 2, None), "{place}");
                assert_eq!(state(&plan, STEPS + 1, &place), STEPS + 2);
                std::fs::remove_dir_all(&plan.folder).unwrap();
            }
        }
    }
}

/// 500 processes; those of one partition go on where the ones before were killed.
#[test]
fn killed_at_random() {
    let seed = std::env::var("RDE_SEED").map_or(20_261_121, |seed| seed.parse().unwrap());
    println!("seed {seed}, set RDE_SEED for another");
    let folder = Folder::in_memory();
    let shim = shim(&folder.0);
    let mut random = steps::Random(seed);
    let mut killed = 0;
    for life in 0..20 {
        let (append, log) = WAYS[life as usize % WAYS.len()];
        let plan = Plan { folder: folder.0.join(life.to_string()), append, log, seed: seed + life };
        let mut at = 0;
        for turn in 0..25 {
            let action = ["kill", "half"][random.below(2) as usize];
            let place = format!("seed {seed}, life {life}, turn {turn}");
            let said = run(&shim, &plan, at, at + 6, 1 + random.below(60), action);
            assert_eq!(said.failed, None, "{place}");
            killed += u64::from(said.killed);
            at = if said.killed { state(&plan, said.done, &place) } else { at + 6 };
        }
        std::fs::remove_dir_all(&plan.folder).unwrap();
    }
    assert!(killed > 250, "only {killed} of 500 processes were killed");
}

#[test]
fn a_failing_disk_is_a_status() {
    let folder = Folder::in_memory();
    let shim = shim(&folder.0);
    for ((append, log), action) in WAYS
        .into_iter()
        .flat_map(|way| ["eio-write", "enospc", "eio-sync", "eio"].map(|action| (way, action)))
    {
        let plan = |name: String| Plan { folder: folder.0.join(name), append, log, seed: 2 };
        let calls = run(&shim, &plan("whole".into()), 0, STEPS, 0, action).calls;
        std::fs::remove_dir_all(folder.0.join("whole")).unwrap();
        let mut failures = 0;
        for at in 1..=calls {
            let place = format!("append {append}, log {log}, {action} at {at}");
            let plan = plan(place.clone());
            let said = run(&shim, &plan, 0, STEPS, at, action);
            assert!(!said.killed, "{place}");
            let reached = state(&plan, said.done.min(STEPS - 1), &place);
            let Some((step, status)) = said.failed else {
                // What failed was done without.
                assert_eq!((said.done, reached), (STEPS, STEPS), "{place}");
                std::fs::remove_dir_all(&plan.folder).unwrap();
                continue;
            };
            failures += 1;
            assert_eq!((status.as_str(), step), ("IO", said.done + 1), "{place}");
            let rest = run(&shim, &plan, reached, STEPS, 9999, "kill");
            assert_eq!((rest.done, rest.failed), (STEPS, None), "{place}");
            assert_eq!(state(&plan, STEPS - 1, &place), STEPS);
            std::fs::remove_dir_all(&plan.folder).unwrap();
        }
        assert!(failures > 10, "append {append}, log {log}, {action}: {failures} failures");
    }
}

#[test]
fn short_writes_are_continued() {
    let folder = Folder::in_memory();
    let shim = shim(&folder.0);
    for at in 1..80 {
        let (append, log) = WAYS[at as usize % WAYS.len()];
        let plan = Plan { folder: folder.0.join(at.to_string()), append, log, seed: 3 };
        let said = run(&shim, &plan, 0, STEPS, at, "short");
        assert_eq!((said.done, said.failed), (STEPS, None), "short at {at}");
        assert_eq!(state(&plan, STEPS - 1, "short"), STEPS);
        std::fs::remove_dir_all(&plan.folder).unwrap();
    }
}

/// The process that the others start. Alone it has nothing to do.
#[test]
#[ignore = "run by the other tests in a process of its own"]
fn child() {
    let Ok(text) = std::env::var("RDE_STEPS") else { return };
    let (plan, from, to) = Plan::from_text(&text);
    plan.run(from, to);
}
