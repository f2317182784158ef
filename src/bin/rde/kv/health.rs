//! What is in a store, and whether it is sound: `rde kv stat` and `check`.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget};
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::survey;
use rdma_engine::{Error, Result, Status};
use serde_json::json;

use super::Kvs;
use crate::units::Size;

/// Prints what each partition's directory holds.
pub fn stat(kvs: &Kvs<'_>, named: &[Partition]) -> Result<()> {
    let store = kvs.open()?;
    for partition in kvs.chosen(&store, named)? {
        let stat = survey::stat(&store, &partition)?;
        let value = json!({
            "partition": partition.to_string(),
            "directory": stat.directory,
            "data_files": stat.data_files,
            "data_bytes": stat.data_bytes,
            "segment_files": stat.segment_files,
            "segment_bytes": stat.segment_bytes,
            "manifest_bytes": stat.manifest_bytes,
            "log_bytes": stat.log_bytes,
            "pages": stat.pages,
            "file_pages": stat.file_pages,
            "segments": stat.segments,
            "dictionary": stat.dictionary,
            "expires": stat.expires,
            "archives": stat.archives,
            "branches": stat.branches,
            "unreferenced": stat.unreferenced,
        });
        let mut text = format!(
            "{partition}  {} pages ({}) in {} files of {}, manifest {}",
            stat.pages,
            Size(stat.pages * store.options().page_size as u64),
            stat.data_files,
            Size(stat.data_bytes),
            Size(stat.manifest_bytes),
        );
        if stat.segment_files > 0 {
            let (segments, files, bytes) = (stat.segments, stat.segment_files, Size(stat.segment_bytes));
            text += &format!(", {segments} segments in {files} files of {bytes}");
        }
        if stat.log_bytes > 0 {
            text += &format!(", {} in a write log", Size(stat.log_bytes));
        }
        text += if stat.dictionary { ", compressed" } else { "" };
        text += if stat.expires { ", entries expire" } else { "" };
        for (what, names) in
            [("archives", &stat.archives), ("branches", &stat.branches), ("unreferenced", &stat.unreferenced)]
        {
            if !names.is_empty() && names.as_slice() != ["main"] {
                text += &format!("\n  {what}: {}", names.join(" "));
            }
        }
        kvs.run.print(&value, &text)?;
    }
    Ok(())
}

/// Verifies partitions; a store with anything wrong is `CORRUPTED`.
pub fn check(kvs: &Kvs<'_>, named: &[Partition]) -> Result<()> {
    let store = kvs.open()?;
    let hidden = kvs.run.json || !io::stderr().is_terminal();
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(None, target);
    let (mut wrong, mut states) = (0, 0);
    let chosen = kvs.chosen(&store, named)?;
    if chosen.is_empty() {
        let paths: Vec<String> =
            store.options().store_paths.iter().map(|path| path.display().to_string()).collect();
        let text = format!("nothing to check: there are no partitions in {}", paths.join(", "));
        return kvs.run.print(&json!({"partitions": 0, "store_paths": paths}), &text);
    }
    for partition in chosen {
        bar.set_message(partition.to_string());
        let checked = survey::check(&store, &partition, |report| {
            bar.set_position(report.pages);
            kvs.go_on()
        });
        let checked = checked?;
        if checked.is_empty() {
            bar.suspend(|| without_manifest(kvs, &store, &partition))?;
        }
        for (state, report) in checked {
            wrong += report.wrong;
            states += 1;
            let value = json!({
                "partition": partition.to_string(),
                "state": state.to_string(),
                "pages": report.pages,
                "entries": report.entries,
                "bytes": report.bytes,
                "expiring": report.expiring,
                "segments": report.segments,
                "wrong": report.wrong,
                "problems": report.problems,
                "torn": report.torn,
            });
            let verdict = match report.wrong {
                0 => "sound".to_owned(),
                1 => "1 thing is wrong".to_owned(),
                count => format!("{count} things are wrong"),
            };
            let mut text = format!(
                "{partition} {state}: {} entries in {} pages, {verdict}",
                report.entries, report.pages
            );
            for line in report.torn.iter().chain(&report.problems) {
                text += &format!("\n  {line}");
            }
            bar.suspend(|| kvs.run.print(&value, &text))?;
        }
    }
    bar.finish_and_clear();
    match wrong {
        0 => Ok(()),
        1 => Err(Error::new(Status::Corrupted, "1 thing is wrong; it is listed above")),
        _ => {
            let what =
                format!("{wrong} things are wrong in {states} states of partitions; they are listed above");
            Err(Error::new(Status::Corrupted, what))
        }
    }
}

/// A directory without any manifest: what a drop leaves that was not finished, or a manifest was lost.
fn without_manifest(kvs: &Kvs<'_>, store: &Store, partition: &Partition) -> Result<()> {
    let files: Vec<String> = store.files(partition)?.iter().map(ToString::to_string).collect();
    let value = json!({"partition": partition.to_string(), "state": null, "unreferenced": files});
    let text = match files.is_empty() {
        true => format!("{partition}: there is no manifest: it is empty"),
        false => format!("{partition}: there is no manifest, and nothing refers to {}", files.join(" ")),
    };
    kvs.run.print(&value, &text)
}
