//! `rde kv` as its users run it: on golden stores, on stores of its own, on damaged ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod kv_oracle;
mod kv_support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kv_support::{Folder, golden, options};
use rdma_engine::kv::batch::{Action, Op, Order};
use rdma_engine::kv::dump::{State, dump_state, restorable};
use rdma_engine::kv::engine::{Engine, EngineOptions};
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::store::Store;
use serde_json::Value;

fn rde(options: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rde"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RDE_")) {
        command.env_remove(name);
    }
    command.args(["kv", "--options"]).arg(options);
    command
}

/// Runs `rde kv ARGUMENTS` with `input`; what it printed, and whether it succeeded.
fn run(options: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = rde(options);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A command that fails early reads no more.
    let _ = writer.join().unwrap();
    output
}

fn ok(options: &Path, arguments: &[&str], input: &[u8]) -> String {
    let output = run(options, arguments, input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    assert_eq!(stderr, "", "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(options: &Path, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["--json"], arguments].concat();
    ok(options, &arguments, b"").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn fails(options: &Path, arguments: &[&str], input: &[u8], part: &str) {
    let output = run(options, arguments, input);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
    assert!(stderr.contains(part) && stderr.starts_with("rde: ") && stderr.lines().count() == 1, "{stderr}");
}

/// A file of options in a folder of its own.
fn store(more: &str) -> (Folder, PathBuf) {
    let folder = Folder::new();
    let file = folder.0.join("options.txt");
    std::fs::write(&file, format!("store_path=store\n{more}")).unwrap();
    (folder, file)
}

#[test]
fn golden_stores_are_dumped_and_restored() {
    let (_folder, root) = golden();
    for name in ["na", "ap", "na_zstd", "ap_zstd", "geo8k", "deep", "seg", "torn"] {
        let folder = root.join(name);
        let expected = std::fs::read_to_string(folder.join("expected.txt")).unwrap();
        let file = folder.join("options.txt");
        assert!(ok(&file, &["dump"], b"") == expected, "{name}");
        assert_eq!(json(&file, &["dump"]).len(), expected.lines().count());
        ok(&file, &["check"], b"");

        let mut lines = Vec::new();
        let from = Store::open(options(&folder)).unwrap();
        dump_state(&from, State::Now, |_| true, restorable, &mut lines).unwrap();
        // Backwards, with the line ends of another system, and twice.
        let lines = String::from_utf8(lines).unwrap();
        let mut backwards = String::from("\r\n");
        lines.lines().rev().chain(lines.lines()).for_each(|line| backwards += &format!("{line}\r\n"));
        let again = Folder::new();
        let text = std::fs::read_to_string(&file).unwrap().replace('\n', "\r\n");
        std::fs::write(again.0.join("o.txt"), format!("# ours\r\n{text}; no more\r\n")).unwrap();
        let file = again.0.join("o.txt");
        ok(&file, &["restore"], backwards.as_bytes());
        assert!(ok(&file, &["dump"], b"") == expected, "{name}, restored");
        ok(&file, &["check"], b"");
    }
    let ap = root.join("ap/options.txt");
    let expected = std::fs::read_to_string(root.join("ap/expected_archive_t0.0_snap1.txt")).unwrap();
    for archive in ["snap1", "manifest_main_0_snap1"] {
        assert!(ok(&ap, &["dump", "--archive", archive], b"") == expected);
    }
    fails(&ap, &["dump", "--archive", "snap2"], b"", "no partition has an archive snap2");
    assert_eq!(json(&ap, &["archive", "list", "t0.0"])[0]["archives"], serde_json::json!(["snap1"]));
}

#[test]
fn mistakes_are_told() {
    let (_folder, file) = store("");
    fails(&file, &["dump"], b"", "store");
    fails(&file, &["restore"], b"t.0 6b 76 1 0\nt.0 6b zz 1 0\n", "line 2: key and value must be hex");
    fails(&file, &["get", "t.0", "none"], b"", "no partition t.0");
    ok(&file, &["restore"], b"t.0 6b 76 1 0\n");
    fails(&file, &["get", "t.0", "none"], b"", "t.0 has no key `none`");
    fails(&file, &["--hex", "get", "t.0", "6"], b"", "not hex");
    fails(&file, &["check", "t.9"], b"", "no partition t.9");
    fails(&file, &["archive", "create", "t.0"], b"", "append mode");
    fails(&file, &["branch", "create", "t.0", "b"], b"", "append mode");
    fails(&file, &["put", "t.0", "", "v"], b"", "a key has 0 bytes");
    fails(&file, &["put", "t.0", &"k".repeat(2049), "v"], b"", "a key has 2049 bytes");
    fails(Path::new("none.txt"), &["dump"], b"", "none.txt");
    std::fs::write(&file, "store_path=store\ndata_page_size=8192\n").unwrap();
    fails(&file, &["get", "t.0", "k"], b"", "data_page_size");
    let output = run(&file, &["get", "nonsense", "k"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("write TABLE.NUMBER"));
    std::fs::write(&file, "store_path=store\nno_such_option=1\n").unwrap();
    let output = run(&file, &["get", "t.0", "k"], b"");
    assert!(output.status.success() && output.stdout == b"v");
    assert!(String::from_utf8(output.stderr).unwrap().contains("no_such_option"));
}

#[test]
fn entries_are_put_read_scanned_and_deleted() {
    let (_folder, file) = store("data_append_mode=1\n");
    assert_eq!(ok(&file, &["put", "t.0", "k1", "v1"], b""), "written\n");
    assert_eq!(json(&file, &["put", "t.0", "k2", "v2", "--timestamp", "5"])[0]["applied"], 1);
    assert_eq!(json(&file, &["put", "t.0", "k2", "v0", "--timestamp", "4"])[0]["applied"], 0);
    ok(&file, &["--hex", "put", "t.0", "ff00", "00ff"], b"");
    ok(&file, &["put", "t.0", "k3", "later", "--ttl", "1m"], b"");
    ok(&file, &["put", "t.0", "k4", "large", "--large"], b"");
    assert_eq!(ok(&file, &["get", "t.0", "k2"], b""), "v2");
    assert_eq!(ok(&file, &["get", "t.0", "k29", "--floor"], b""), "v2");
    let found = &json(&file, &["get", "t.0", "k3"])[0];
    assert_eq!((found["value"].as_str(), found["length"].as_u64()), (Some("later"), Some(5)));
    assert!(found["expire_ms"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(
        ok(&file, &["scan", "t.0"], b""),
        "k1\tv1\nk2\tv2\nk3\tlater\nk4\tlarge\n\\xff\\x00\t\\x00\\xff\n"
    );
    assert_eq!(ok(&file, &["scan", "t.0", "-k", "-r", "-n", "2"], b""), "\\xff\\x00\nk4\n");
    assert_eq!(ok(&file, &["scan", "t.0", "-k", "--begin", "k2", "--end", "k4", "-r"], b""), "k3\nk2\n");
    assert_eq!(ok(&file, &["--hex", "scan", "t.0", "--begin", "6c"], b""), "ff00\t00ff\n");
    assert_eq!(json(&file, &["scan", "t.0", "-n1"])[0]["key"], "k1");
    assert_eq!(json(&file, &["delete", "t.0", "k1", "k2", "absent"])[0]["applied"], 3);
    assert_eq!(ok(&file, &["scan", "t.0", "--keys"], b""), "k3\nk4\n\\xff\\x00\n");
    let lines = ok(&file, &["scan", "t.0", "--lines"], b"");
    assert!(lines.lines().nth(1).unwrap().starts_with("LARGE t.0 6b34 6c61726765 "), "{lines}");
    let (_folder, copy) = store("data_append_mode=1\n");
    ok(&copy, &["restore"], lines.as_bytes());
    assert_eq!(ok(&copy, &["dump"], b""), ok(&file, &["dump"], b""));
    ok(&copy, &["check"], b"");
}

#[test]
fn stores_are_loaded_kept_and_cleaned_up() {
    let (folder, file) = store("data_append_mode=1\npages_per_file_shift=4\n");
    let loaded =
        &json(&file, &["load", "--generate", "2000", "--partitions", "3", "--value-size", "1000"])[0];
    assert_eq!((loaded["entries"].as_u64(), loaded["applied"].as_u64()), (Some(2000), Some(2000)));
    let before = ok(&file, &["dump"], b"");
    assert_eq!(before.lines().count(), 2000);
    ok(&file, &["archive", "create", "load.0", "a"], b"");
    ok(&file, &["branch", "create", "load.0", "Dev"], b"");
    fails(&file, &["branch", "create", "load.0", "dev"], b"", "there is a branch dev");
    ok(&file, &["--hex", "truncate", "load.0", "0000000000000010"], b"");
    ok(&file, &["truncate", "load.1"], b"");
    ok(&file, &["compact"], b"");
    ok(&file, &["check"], b"");
    let of_first = |text: &str| text.lines().filter(|line| line.starts_with("load.0 ")).count();
    assert_eq!(of_first(&ok(&file, &["dump"], b"")), 16);
    let first: String = before
        .lines()
        .filter(|line| line.starts_with("load.0 "))
        .fold(String::new(), |text, line| text + line + "\n");
    assert!(ok(&file, &["dump", "--archive", "a"], b"") == first);
    assert!(ok(&file, &["dump", "--branch", "dev"], b"") == first);
    let stat = json(&file, &["stat", "load.0"]);
    assert_eq!(stat[0]["branches"], serde_json::json!(["dev", "main"]));
    assert_eq!(
        (stat[0]["archives"][0].as_str(), stat[0]["unreferenced"].as_array().unwrap().len()),
        (Some("a"), 0)
    );
    ok(&file, &["archive", "delete", "load.0", "a"], b"");
    fails(&file, &["archive", "delete", "load.0", "a"], b"", "no archive a");
    ok(&file, &["branch", "delete", "load.0", "dev"], b"");
    let removed = json(&file, &["compact", "load.0"])[0]["files_removed"].as_u64().unwrap();
    assert!(removed > 3, "{removed} files removed");
    for (i, retain) in [(0, "3"), (1, "3"), (2, "3"), (3, "2")] {
        ok(&file, &["archive", "create", "load.0", &format!("n{i}"), "--retain", retain], b"");
    }
    assert_eq!(json(&file, &["archive", "list", "load.0"])[0]["archives"], serde_json::json!(["n2", "n3"]));
    assert_eq!(json(&file, &["clean"]).len(), 3);
    assert_eq!(json(&file, &["drop", "load.2"])[0]["dropped"], 1);
    assert_eq!(json(&file, &["drop", "--table", "load"])[0]["dropped"], 2);
    assert!(!folder.0.join("store/load.2").exists());
    assert_eq!(ok(&file, &["dump"], b""), "");

    let lines = folder.0.join("lines");
    std::fs::write(&lines, "t.0 6b 76 1 0\n").unwrap();
    ok(&file, &["load", lines.to_str().unwrap()], b"");
    assert_eq!(ok(&file, &["get", "t.0", "k"], b""), "v");
}

/// Every command, on what is no store or no whole one: one line that says what is wrong, and exit code 1.
#[test]
fn what_is_no_store_is_told() {
    let (folder, file) = store("data_append_mode=1\n");
    let reading: [&[&str]; 7] = [
        &["dump"],
        &["get", "t.0", "k"],
        &["scan", "t.0"],
        &["stat"],
        &["check"],
        &["archive", "list"],
        &["branch", "list"],
    ];
    let changing: [&[&str]; 8] = [
        &["delete", "t.0", "k"],
        &["compact"],
        &["clean"],
        &["truncate", "t.0"],
        &["drop", "t.0"],
        &["drop", "--table", "t"],
        &["archive", "create", "t.0", "a"],
        &["branch", "create", "t.0", "b"],
    ];
    for arguments in reading.iter().chain(&changing) {
        fails(&file, arguments, b"", "store_path");
    }
    assert!(!folder.0.join("store").exists());
    std::fs::write(folder.0.join("store"), "a file").unwrap();
    for arguments in reading.iter().chain(&changing).chain([&["put", "t.0", "k", "v"][..]].iter()) {
        fails(&file, arguments, b"", "store: ");
    }
    std::fs::remove_file(folder.0.join("store")).unwrap();
    std::fs::create_dir_all(folder.0.join("store/else")).unwrap();
    assert!(ok(&file, &["check"], b"").starts_with("nothing to check: there are no partitions in "));
    assert_eq!(ok(&file, &["dump"], b""), "");

    ok(&file, &["put", "t.0", "k", "v"], b"");
    ok(&file, &["put", "t.0", "l", "w"], b"");
    let directory = folder.0.join("store/t.0");
    let (manifest, data) = (directory.join("manifest_main_0"), directory.join("data_0_main_0"));
    let good = [&manifest, &data].map(|file| std::fs::read(file).unwrap());
    let entries: [&[&str]; 4] = [&["dump"], &["get", "t.0", "k"], &["scan", "t.0"], &["delete", "t.0", "k"]];
    // A manifest that was emptied, data that ends early, data that is gone.
    std::fs::write(&manifest, "").unwrap();
    for arguments in entries.iter().chain([&["put", "t.0", "k", "v"][..], &["stat"], &["compact"]].iter()) {
        fails(&file, arguments, b"", "manifest_main_0, byte 0: the manifest's snapshot is damaged");
    }
    std::fs::write(&manifest, &good[0]).unwrap();
    std::fs::write(&data, &good[1][..100]).unwrap();
    for arguments in entries {
        fails(&file, arguments, b"", ": the file ends before this page does");
    }
    std::fs::remove_file(&data).unwrap();
    for arguments in entries {
        fails(&file, arguments, b"", "data_0_main_0, byte 0: the manifest names this file and it is missing");
    }
    std::fs::write(&data, &good[1]).unwrap();
    std::fs::remove_file(&manifest).unwrap();
    let said = ok(&file, &["check"], b"");
    assert_eq!(said, "t.0: there is no manifest, and nothing refers to data_0_main_0\n");
    // Damage is no reason to keep a partition, but an archive is.
    std::fs::write(&manifest, &good[0]).unwrap();
    ok(&file, &["archive", "create", "t.0", "kept"], b"");
    std::fs::write(&manifest, "damaged").unwrap();
    ok(&file, &["drop", "t.0"], b"");
    assert_eq!(ok(&file, &["dump", "--archive", "kept"], b"").lines().count(), 2);
    std::fs::write(&manifest, "damaged").unwrap();
    std::fs::remove_file(directory.join("manifest_main_0_kept")).unwrap();
    ok(&file, &["drop", "--table", "t"], b"");
    assert!(!directory.exists());
}

/// Every command that reads or writes entries does so on a branch too.
#[test]
fn branches_are_read_and_written() {
    let (folder, file) = store("data_append_mode=1\npages_per_file_shift=2\n");
    let dev = ["--branch", "Dev"];
    let on_dev = |arguments: &[&str]| ok(&file, &[arguments, &dev].concat(), b"");
    for (arguments, part) in [
        (&["get", "t.0", "k"][..], "No such file"),
        (&["put", "t.0", "k", "v"], "has no branch dev"),
        (&["get", "t.0", "k"], "no partition t.0"),
        (&["compact"], "no partition has a branch dev"),
    ] {
        fails(&file, &[arguments, &dev].concat(), b"", part);
    }
    assert!(!folder.0.join("store/t.0").exists(), "a branch of nothing has made a partition");
    for i in 0..20 {
        ok(&file, &["put", "t.0", &format!("k{i:02}"), &"v".repeat(900), "--timestamp", "1"], b"");
    }
    fails(&file, &["get", "t.0", "k01", "--branch", "dev"], b"", "t.0 has no branch dev");
    fails(&file, &["put", "t.0", "k01", "v", "--branch", "dev"], b"", "no branch dev");
    fails(&file, &["clean", "--branch", "dev"], b"", "no partition has a branch dev");
    fails(&file, &["get", "t.0", "k01", "--branch", "a b"], b"", "cannot name a branch");
    let main = ok(&file, &["dump"], b"");
    ok(&file, &["branch", "create", "t.0", "dev"], b"");
    on_dev(&["put", "t.0", "k01", "other"]);
    on_dev(&["delete", "t.0", "k02", "k03"]);
    on_dev(&["truncate", "t.0", "k10"]);
    assert_eq!(on_dev(&["get", "t.0", "k01"]), "other");
    assert_eq!(on_dev(&["scan", "t.0", "--keys"]), "k00\nk01\nk04\nk05\nk06\nk07\nk08\nk09\n");
    on_dev(&["archive", "create", "t.0", "kept"]);
    ok(&file, &["branch", "create", "t.0", "twig", "--from", "dev"], b"");
    on_dev(&["put", "t.0", "k01", "later"]);
    on_dev(&["clean"]);
    on_dev(&["compact"]);
    ok(&file, &["compact"], b"");
    assert_eq!(ok(&file, &["get", "t.0", "k01", "--branch", "twig"], b""), "other");
    assert_eq!(on_dev(&["get", "t.0", "k01"]), "later");
    assert_eq!(ok(&file, &["dump"], b""), main);
    assert_eq!(on_dev(&["dump"]).lines().count(), 8);
    assert_eq!(ok(&file, &["dump", "--archive", "kept"], b""), ok(&file, &["dump", "--branch", "twig"], b""));
    fails(&file, &["archive", "delete", "t.0", "kept"], b"", "no archive kept");
    on_dev(&["archive", "delete", "t.0", "kept"]);
    fails(&file, &["dump", "--archive", "kept"], b"", "no partition has an archive kept");
    let states: Vec<String> = ok(&file, &["check"], b"").lines().map(str::to_owned).collect();
    assert!(states.len() == 3 && states.iter().all(|line| line.contains("sound")), "{states:?}");
}

/// Every kind of damage is found, and said with file and byte.
#[test]
fn check_says_what_is_wrong_and_where() {
    let (folder, file) = store("data_append_mode=1\n");
    ok(&file, &["load", "--generate", "3000", "--value-size", "100"], b"");
    ok(&file, &["put", "load.0", "zz", "--file", file.to_str().unwrap(), "--large"], b"");
    ok(&file, &["check"], b"");
    let directory = folder.0.join("store/load.0");
    let data = directory.join("data_0_main_0");
    let good = std::fs::read(&data).unwrap();
    let check = |part: &str| {
        let output = run(&file, &["--json", "check"], b"");
        assert_eq!(output.status.code(), Some(1));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems: Vec<String> = serde_json::from_value(report["problems"].clone()).unwrap();
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
    };
    let mut bad = good.clone();
    bad[5 * 4096 + 100] ^= 1;
    std::fs::write(&data, &bad).unwrap();
    check("data_0_main_0, byte 20480: the page's checksum is wrong");
    std::fs::write(&data, &good[..good.len() - 4096]).unwrap();
    check(": the file ends before this page does");
    std::fs::write(&data, &good).unwrap();
    let manifest = directory.join("manifest_main_0");
    let record = std::fs::read(&manifest).unwrap();
    let mut torn = record.clone();
    torn.extend_from_slice(&[7; 100]);
    std::fs::write(&manifest, &torn).unwrap();
    let sound = &json(&file, &["check"])[0];
    assert!(sound["torn"].as_str().unwrap().contains("manifest_main_0, byte"), "{sound}");
    let mut bad = record.clone();
    bad[30] ^= 1;
    std::fs::write(&manifest, &bad).unwrap();
    check("manifest_main_0, byte 0: the manifest's snapshot is damaged");
    std::fs::write(&manifest, &record).unwrap();
    std::fs::remove_file(directory.join("segment_0_main_0")).unwrap();
    check("segment_0_main_0, byte 0: the manifest names this file and it is missing");
}

/// What a killed engine leaves in a write log is shown, nobody reads past it, and the first command that writes merges it.
#[test]
fn a_write_log_that_was_left_is_merged() {
    let (folder, file) = store("");
    let upsert = |key: &str, value: &str| Op {
        key: key.into(),
        action: Action::Upsert { value: value.into(), expire_ms: 0 },
        timestamp: 1,
    };
    {
        let store = Options::from_file(&file).unwrap();
        let options = EngineOptions { store, log_bytes: 1 << 20, ..EngineOptions::default() };
        let engine = Engine::open(options).unwrap();
        let partition = engine.partition("t", 0).unwrap();
        for (key, value) in [("a", "old"), ("a", "new"), ("b", "new")] {
            engine.write(partition, vec![upsert(key, value)], Order::Refuse).unwrap();
        }
        let directory = folder.0.join("store/t.0");
        let kept = folder.0.join("kept");
        std::fs::create_dir(&kept).unwrap();
        let copy = |from: &Path, to: &Path| {
            for name in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name()) {
                std::fs::copy(from.join(&name), to.join(&name)).unwrap();
            }
        };
        copy(&directory, &kept);
        engine.close();
        std::fs::remove_dir_all(&directory).unwrap();
        std::fs::create_dir(&directory).unwrap();
        copy(&kept, &directory);
    }
    for arguments in [&["get", "t.0", "a"][..], &["scan", "t.0"], &["dump"]] {
        fails(&file, arguments, b"", "log_0: changes are in a write log and not in the pages yet");
    }
    assert!(ok(&file, &["stat"], b"").contains("12 KiB in a write log"), "{}", ok(&file, &["stat"], b""));
    assert_eq!(json(&file, &["stat"])[0]["log_bytes"], 3 * 4096);
    let checked = ok(&file, &["check"], b"");
    assert!(checked.contains("log_0: 2 entries"), "{checked}");
    // Damage is found before anything is merged, and an end that was not finished is none.
    let log = folder.0.join("store/t.0/log_0");
    let good = std::fs::read(&log).unwrap();
    let mut bad = good.clone();
    bad[4096 + 30] ^= 1;
    std::fs::write(&log, &bad).unwrap();
    for arguments in [&["check"][..], &["compact"], &["put", "t.0", "c", "v"]] {
        let output = run(&file, arguments, b"");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(
            output.status.code() == Some(1) && said.contains("log_0, byte 4096"),
            "{arguments:?}: {said}"
        );
    }
    std::fs::write(&log, [&good[..], &[7; 5000]].concat()).unwrap();
    let torn = json(&file, &["check"]).into_iter().find(|report| report["state"] == "log_0").unwrap();
    assert!(
        torn["torn"].as_str().unwrap().contains("log_0, byte 12288: a record that was not finished"),
        "{torn}"
    );
    ok(&file, &["compact"], b"");
    assert!(!log.exists());
    assert_eq!(
        (ok(&file, &["get", "t.0", "a"], b""), ok(&file, &["get", "t.0", "b"], b"")),
        ("new".into(), "new".into())
    );
    assert!(!ok(&file, &["stat"], b"").contains("write log"));
    ok(&file, &["check"], b"");
}

/// A reader that goes away ends the output quietly.
#[test]
fn a_closed_pipe_is_no_error() {
    let (_folder, root) = golden();
    let mut command = rde(&root.join("na/options.txt"));
    let mut child = command.arg("dump").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn another_process_holds_the_partition() {
    let (_folder, file) = store("");
    ok(&file, &["put", "t.0", "k", "v"], b"");
    let store = Store::open(Options::from_file(&file).unwrap()).unwrap();
    let writer = store.writer(&Partition { table: "t".into(), number: 0 }).unwrap();
    for arguments in [&["put", "t.0", "k", "w"][..], &["compact"], &["drop", "t.0"], &["truncate", "t.0"]] {
        fails(&file, arguments, b"", "is open in another process");
    }
    // Who only reads is not in the way.
    assert_eq!(ok(&file, &["get", "t.0", "k"], b""), "v");
    ok(&file, &["put", "t.1", "k", "v"], b"");
    drop(writer);
    ok(&file, &["put", "t.0", "k", "w"], b"");
}

/// Files may not grow beyond 400 KiB: what was committed before is there, whole, and more fits once there is room.
#[test]
fn a_disk_without_room_is_told_and_leaves_what_was() {
    for append in ["0", "1"] {
        let (_folder, file) = store(&format!("data_append_mode={append}\n"));
        ok(&file, &["load", "--generate", "200", "--value-size", "1000"], b"");
        let before = ok(&file, &["dump"], b"");
        let script = "trap '' XFSZ; ulimit -f 400; exec \"$0\" kv --options \"$1\" load --generate 2000 --value-size 1000 --seed 2";
        let output =
            Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_rde")]).arg(&file).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && stderr.contains("data_0_main_0"), "{stderr}");
        assert!(ok(&file, &["dump"], b"") == before);
        ok(&file, &["check"], b"");
        ok(&file, &["load", "--generate", "2000", "--value-size", "1000", "--seed", "2"], b"");
        ok(&file, &["check"], b"");
        assert_eq!(ok(&file, &["dump"], b"").lines().count(), 2000);
    }
}
