//! `rde kv` over object storage, and EloqStore's own files as objects.

use super::kv_support::{Folder, golden, options};
use super::{check, over_folder, partition, upsert, write};
use rdma_engine::kv::dump::{State, dump_state, restorable};
use rdma_engine::kv::options::Options;
use rdma_engine::kv::store::Store;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `rde kv ARGUMENTS`; what it printed.
fn rde(options: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rde"));
    command.args(["kv", "--options"]).arg(options).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_command_works_on_objects() {
    let (_golden, root) = golden();
    let store = Store::open(options(&root.join("ap"))).unwrap();
    let mut lines = Vec::new();
    dump_state(&store, State::Now, |_| true, restorable, &mut lines).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    let expected = std::fs::read_to_string(root.join("ap/expected.txt")).unwrap();
    let folder = Folder::new();
    let options = |machine: &str| {
        let file = folder.0.join(format!("{machine}.txt"));
        let text = format!(
            "store_path={machine}\npages_per_file_shift=4\ncloud_provider=local\ncloud_store_path=objects\n"
        );
        std::fs::write(&file, text).unwrap();
        file
    };
    let (a, b) = (options("a"), options("b"));
    rde(&a, &["restore"], &lines);
    assert_eq!(rde(&a, &["dump"], ""), expected);
    assert_eq!(rde(&b, &["dump"], ""), expected);
    assert!(folder.0.join("objects/t0.0").is_dir() || folder.0.join("objects/t.0").is_dir());
    rde(&b, &["check"], "");
    let (name, key) = lines.split_once(' ').unwrap();
    let key = key.split(' ').next().unwrap();
    rde(&a, &["archive", "create", name, "kept"], "");
    rde(&a, &["branch", "create", name, "dev"], "");
    rde(&b, &["--hex", "delete", name, key], "");
    assert_ne!(rde(&a, &["dump"], ""), expected);
    let of = |text: &str| text.lines().filter(|line| line.starts_with(&format!("{name} "))).count();
    assert_eq!(of(&rde(&a, &["dump", "--archive", "kept"], "")), of(&expected));
    assert_eq!(of(&rde(&b, &["dump", "--branch", "dev"], "")), of(&expected));
    rde(&a, &["load", "--generate", "500", "--partitions", "2"], "");
    assert!(rde(&b, &["stat"], "").contains("load.1"));
    rde(&b, &["drop", "--table", "load"], "");
    rde(&a, &["branch", "delete", name, "dev"], "");
    rde(&a, &["compact"], "");
    rde(&b, &["check"], "");
    assert!(!rde(&b, &["stat"], "").contains("load.1"));
}

/// What the C++ engine wrote locally, put into a bucket: names and bytes are the same there.
#[test]
fn the_files_of_eloqstore_are_objects() {
    let (_golden, root) = golden();
    let (folder, objects) = (Folder::new(), Folder::new());
    let mut options: Options = options(&root.join("ap"));
    let store = options.store_paths[0].clone();
    let copied = Command::new("cp").arg("-r").arg(format!("{}/.", store.display())).arg(&objects.0).status();
    assert!(copied.unwrap().success());
    options.cloud = over_folder(&folder.0, &objects.0).cloud;
    options.store_paths = vec![folder.0.join("a")];
    let expected = std::fs::read_to_string(root.join("ap/expected.txt")).unwrap();
    let tiered = Store::open(options.clone()).unwrap();
    assert_eq!(super::dump(&tiered), expected);
    check(&tiered);
    // And written on.
    let name = tiered.partitions().next().unwrap().clone();
    write(&mut tiered.writer(&name).unwrap(), vec![upsert("zzz-new", b"value")]).unwrap();
    write(&mut tiered.writer(&partition()).unwrap(), vec![upsert("k", b"value")]).unwrap();
    drop(tiered);
    options.store_paths = vec![folder.0.join("b")];
    let tiered = Store::open(options).unwrap();
    check(&tiered);
    let lines = super::dump(&tiered);
    assert_eq!(lines.lines().filter(|line| !expected.contains(*line)).count(), 2);
    assert_eq!(lines.lines().count(), expected.lines().count() + 2);
}
