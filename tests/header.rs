//! The C header is what the Rust sources say, exports what the library exports, documents every function, and compiles.
//!
//! `RDE_BLESS=1 cargo test --test header` (`make header`) writes `include/rdma_engine.h` and `abi/exports.txt`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it cannot go on")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sources of the header, in the order of its sections; the first eight bring types only.
const SOURCES: &[&str] = &[
    "src/status.rs",
    "src/telemetry/stats.rs",
    "src/ffi/handle.rs",
    "src/ffi/constants.rs",
    "src/ffi/types.rs",
    "src/ffi/call_types.rs",
    "src/ffi/volume_types.rs",
    "src/ffi/kv_types.rs",
    "src/ffi/library.rs",
    "src/ffi/context.rs",
    "src/ffi/worker.rs",
    "src/ffi/session.rs",
    "src/ffi/memory.rs",
    "src/ffi/operation.rs",
    "src/ffi/kv.rs",
    "src/ffi/call.rs",
    "src/ffi/telemetry.rs",
    "src/ffi/volume.rs",
    "src/ffi/exporter.rs",
    "src/ffi/needle.rs",
];

/// What each function's comment must have, in this order (the paragraph's first word, then a colon).
const DOC_SECTIONS: &[&str] =
    &["Parameters", "Completion", "Returns", "Threads", "Blocks", "On failure", "Since"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names of the functions that a source exports.
fn functions(source: &str) -> Vec<String> {
    let after = |line: &str| line.split_once("extern \"C\" fn ").map(|(_, rest)| rest.to_owned());
    let name = |rest: String| rest.split(['(', '<']).next().unwrap_or("").to_owned();
    source.lines().filter(|line| line.starts_with("pub ")).filter_map(after).map(name).collect()
}

fn exported() -> BTreeSet<String> {
    SOURCES.iter().flat_map(|path| functions(&read(path))).collect()
}

/// cbindgen's output, with a heading before each section.
fn generate() -> String {
    let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    let version = |text: &str| {
        text.replace("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR"))
            .replace("@MINOR@", env!("CARGO_PKG_VERSION_MINOR"))
            .replace("@PATCH@", env!("CARGO_PKG_VERSION_PATCH"))
    };
    config.after_includes = config.after_includes.map(|text| version(&text));
    let mut builder = cbindgen::Builder::new().with_config(config);
    for path in SOURCES {
        builder = builder.with_src(root().join(path));
    }
    let mut bytes = Vec::new();
    builder.generate().unwrap().write(&mut bytes);
    let mut header = short_comments(&String::from_utf8(bytes).unwrap());
    for path in SOURCES {
        let source = read(path);
        if let Some(first) = functions(&source).first() {
            let title = source.lines().next().unwrap().trim_start_matches("//! ").to_owned();
            insert_heading(&mut header, first, &title);
        }
    }
    header
}

/// Comments of one line on one line: the header is half as long.
fn short_comments(header: &str) -> String {
    let lines: Vec<&str> = header.lines().collect();
    let mut text = String::with_capacity(header.len());
    let mut at = 0;
    while at < lines.len() {
        let one = lines.get(at..at + 3).filter(|three| three[0].trim() == "/**" && three[2].trim() == "*/");
        if let Some([open, line, _]) = one {
            let indent = &open[..open.len() - 3];
            text.push_str(&format!("{indent}/** {} */\n", line.trim().trim_start_matches("* ")));
            at += 3;
        } else {
            text.push_str(lines[at]);
            text.push('\n');
            at += 1;
        }
    }
    text
}

fn insert_heading(header: &mut String, function: &str, title: &str) {
    let declaration = header.find(&format!(" {function}(")).or_else(|| header.find(&format!("*{function}(")));
    let declaration = declaration.unwrap_or_else(|| panic!("cbindgen dropped {function}"));
    let comment = header[..declaration].rfind("/*").unwrap();
    header.insert_str(comment, &format!("/* ---- {title} ---- */\n\n"));
}

/// Functions that a header declares.
fn declared(header: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut code = String::new();
    let mut rest = header;
    while let Some(start) = rest.find("/*") {
        code.push_str(&rest[..start]);
        rest = &rest[start..][rest[start..].find("*/").unwrap() + 2..];
    }
    code.push_str(rest);
    for (at, _) in code.match_indices("rde_") {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let name: String =
            code[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let call = code[at + name.len()..].starts_with('(');
        if call && !before.is_ascii_alphanumeric() && before != '_' {
            names.insert(name);
        }
    }
    names
}

fn same_or_bless(path: &str, fresh: &str) {
    if std::env::var_os("RDE_BLESS").is_some() {
        fs::create_dir_all(root().join(path).parent().unwrap()).unwrap();
        fs::write(root().join(path), fresh).unwrap();
    }
    let old = read(path);
    if let Some((number, (old, fresh))) =
        old.lines().zip(fresh.lines()).enumerate().find(|(_, (old, fresh))| old != fresh)
    {
        panic!("{path}:{}: `{old}` should be `{fresh}`: run `make header`", number + 1);
    }
    assert_eq!(old.len(), fresh.len(), "{path} is not what the sources say: run `make header`");
}

#[test]
fn header_and_export_list_are_what_the_sources_say() {
    let header = generate();
    let names = exported();
    assert!(names.len() >= 40, "{names:?}");
    assert_eq!(declared(&header), names, "cbindgen dropped or invented a function");
    same_or_bless("include/rdma_engine.h", &header);
    let list: String = names.iter().map(|name| format!("{name}\n")).collect();
    same_or_bless("abi/exports.txt", &list);
}

#[test]
fn library_exports_exactly_the_list() {
    let library = target().join("librdma_engine.so");
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let symbols: BTreeSet<&str> = text.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let list = read("abi/exports.txt");
    assert_eq!(symbols, list.lines().collect(), "{}", library.display());
}

/// The folder that cargo put the shared library of this build in: that of the test itself.
fn target() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

#[test]
fn library_has_its_soname() {
    let library = target().join("librdma_engine.so");
    let output = Command::new("objdump").arg("-p").arg(&library).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let soname = text.lines().find_map(|line| line.trim().strip_prefix("SONAME"));
    assert_eq!(soname.map(str::trim), Some("librdma_engine.so.0"));
}

#[test]
fn every_function_documents_itself_in_the_fixed_order() {
    for path in SOURCES {
        let source = read(path);
        let lines: Vec<&str> = source.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("extern \"C\" fn rde_")) {
            let docs: Vec<&str> = lines[..at]
                .iter()
                .rev()
                .take_while(|line| line.starts_with("///") || line.starts_with("#["))
                .filter_map(|line| line.strip_prefix("///").map(str::trim))
                .collect();
            let heads: Vec<&str> = docs
                .iter()
                .rev()
                .filter_map(|doc| DOC_SECTIONS.iter().find(|name| doc.starts_with(&format!("{name}: "))))
                .copied()
                .collect();
            assert_eq!(heads, DOC_SECTIONS, "{path}:{}: {line}", at + 1);
            assert!(docs.iter().all(|doc| !doc.contains("[`")), "{path}:{}: a Rust link in C docs", at + 1);
        }
    }
}

#[test]
fn every_exported_function_starts_with_the_guard() {
    let mut guarded = 0;
    for entry in fs::read_dir(root().join("src/ffi")).unwrap() {
        let path = entry.unwrap().path();
        let source = fs::read_to_string(&path).unwrap();
        // Not those of tests, and not types of callbacks, which have no `fn name`.
        let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (at, _) in source.match_indices("extern \"C\" fn rde_") {
            let body = &source[at..][source[at..].find(" {\n").unwrap() + 3..];
            let first = body.lines().map(str::trim).find(|line| !line.starts_with("const ")).unwrap();
            let name = source[at..].split('(').next().unwrap();
            let starts = ["guard(", "guard_close(", "guard_value("];
            assert!(starts.iter().any(|start| first.starts_with(start)), "{path:?}: {name}: {first}");
            guarded += 1;
        }
        assert_eq!(source.matches("no_mangle").count(), functions(source).len(), "{path:?}");
    }
    assert_eq!(guarded, exported().len());
}

#[test]
fn versions_are_those_of_the_package() {
    let header = read("include/rdma_engine.h");
    let value = |name: &str| {
        let line = header.lines().find_map(|line| line.strip_prefix(&format!("#define {name} ")));
        line.unwrap_or_else(|| panic!("{name} is missing")).to_owned()
    };
    assert_eq!(value("RDE_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MAJOR"));
    assert_eq!(value("RDE_VERSION_MINOR"), env!("CARGO_PKG_VERSION_MINOR"));
    assert_eq!(value("RDE_VERSION_PATCH"), env!("CARGO_PKG_VERSION_PATCH"));
    assert_eq!(value("RDE_VERSION"), format!("\"{}\"", env!("CARGO_PKG_VERSION")));
    assert_eq!(value("RDE_ABI_VERSION"), rdma_engine::ffi::types::RDE_ABI_VERSION.to_string());
}

/// gcc, and clang where it is installed; `CC` and `CXX` name others.
fn compilers() -> Vec<[String; 2]> {
    if let (Ok(c), Ok(cxx)) = (std::env::var("CC"), std::env::var("CXX")) {
        return vec![[c, cxx]];
    }
    let runs =
        |name: &str| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success());
    assert!(runs("cc") && runs("c++"), "a C and a C++ compiler are needed (apt-get install build-essential)");
    let mut pairs = vec![["cc".into(), "c++".into()]];
    if runs("clang") && runs("clang++") {
        pairs.push(["clang".into(), "clang++".into()]);
    }
    pairs
}

fn compiles(compiler: &str, standard: &str, language: &str, file: &Path) {
    let output = Command::new(compiler)
        .args([standard, "-x", language, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"])
        .arg(root().join("include"))
        .arg(file)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {standard} {}:\n{errors}", file.display());
    println!("{compiler} {standard} {}", file.display());
}

#[test]
fn header_and_c_tests_compile_without_a_warning() {
    let mut c: Vec<PathBuf> = files("tests/c", "c");
    c.push(root().join("include/rdma_engine.h"));
    let mut cxx: Vec<PathBuf> = files("tests/cpp", "cc");
    cxx.push(root().join("include/rdma_engine.h"));
    cxx.push(root().join("include/rdma_engine.hpp"));
    assert!(c.len() > 10 && cxx.len() > 2);
    for [cc, cxx_compiler] in compilers() {
        c.iter().for_each(|file| compiles(&cc, "-std=c11", "c", file));
        cxx.iter().for_each(|file| compiles(&cxx_compiler, "-std=c++17", "c++", file));
    }
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == extension)).collect()
}

/// A status's name as Go writes it: `CONNECTION_LOST` is `ConnectionLost`, and initialisms stay in capitals.
fn go_name(name: &str) -> String {
    let word = |word: &str| match word {
        "OK" | "IO" | "ABI" => word.to_owned(),
        _ => word[..1].to_owned() + &word[1..].to_lowercase(),
    };
    name.split('_').map(word).collect()
}

#[test]
fn go_has_the_statuses() {
    let mut text = String::from(
        "// Code generated from src/status.rs by `make header`. DO NOT EDIT.\n\npackage rdmaengine\n\nconst (\n",
    );
    for (status, name, message) in rdma_engine::status::TABLE {
        let (go, number) = (go_name(name), *status as i32);
        text.push_str(&format!("\t// Status{go}: {message}.\n\tStatus{go} Status = {number}\n"));
    }
    text.push_str(")\n\nvar statusTable = map[Status]struct{ name, text string }{\n");
    let width = rdma_engine::status::TABLE.iter().map(|row| go_name(row.1).len()).max().unwrap();
    for (_, name, message) in rdma_engine::status::TABLE {
        let go = go_name(name);
        text.push_str(&format!("\tStatus{go}:{:1$} {{{name:?}, {message:?}}},\n", "", width - go.len()));
    }
    text.push_str("}\n");
    same_or_bless("go/zz_status.go", &text);
}
