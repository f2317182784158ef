//! Keeping a store in order: `rde kv archive`, `compact`, `clean`, `truncate`, `drop` and `branch`.

use rdma_engine::kv::fork::branch_name;
use rdma_engine::kv::names::{FileName, Partition};
use rdma_engine::kv::source::now;
use rdma_engine::kv::store::Store;
use rdma_engine::kv::survey;
use rdma_engine::{Error, Result, Status};
use serde_json::{Value, json};

use super::args::{Archive, Branch, Drop, SomeOf, Truncate};
use super::{Kvs, now_ms, now_us};

/// Archives of partitions.
pub fn archive(kvs: &Kvs<'_>, archive: &Archive) -> Result<()> {
    let store = kvs.open()?;
    match archive {
        Archive::Create { partition, name, retain, on } => {
            kvs.chosen(&store, std::slice::from_ref(partition))?;
            let name = name.clone().unwrap_or_else(|| now_us().to_string());
            let mut writer = kvs.writer(&store, partition, on.branch.as_ref())?;
            now(writer.archive(&name))?;
            let forgotten = match retain {
                Some(keep) => writer.retain_archives(*keep)?,
                None => Vec::new(),
            };
            let value = json!({"partition": partition.to_string(), "archive": name, "forgotten": forgotten});
            let mut text = format!("{partition} is kept as {name}");
            if !forgotten.is_empty() {
                text += &format!("; forgotten: {}", forgotten.join(" "));
            }
            kvs.run.print(&value, &text)
        }
        Archive::Delete { partition, name, on } => {
            let mut writer = kvs.writer(&store, partition, on.branch.as_ref())?;
            if !writer.archive_tags()?.contains(name) {
                let what = format!("{partition} has no archive {name}");
                return Err(Error::new(Status::NotFound, what));
            }
            now(writer.forget_archive(name))?;
            let value = json!({"partition": partition.to_string(), "archive": name});
            kvs.run.print(&value, &format!("{name} is forgotten"))
        }
        Archive::List(some) => list(kvs, &some.partitions, "archives"),
    }
}

/// Prints names that `stat` found, a line a partition.
fn list(kvs: &Kvs<'_>, named: &[Partition], what: &str) -> Result<()> {
    let store = kvs.open()?;
    for partition in kvs.chosen(&store, named)? {
        let stat = survey::stat(&store, &partition)?;
        let names = if what == "archives" { stat.archives } else { stat.branches };
        let value = json!({"partition": partition.to_string(), what: names});
        kvs.run.print(&value, &format!("{partition} {}", names.join(" ")))?;
    }
    Ok(())
}

/// Gives space back.
pub fn compact(kvs: &Kvs<'_>, of: &SomeOf) -> Result<()> {
    let store = kvs.open()?;
    for partition in of_branch(kvs, &store, of)? {
        kvs.go_on()?;
        let mut writer = kvs.writer(&store, &partition, of.on.branch.as_ref())?;
        let pages = if store.options().append { now(writer.compact())? } else { 0 };
        let segments = now(writer.compact_segments())?;
        let removed = writer.collect_files()?;
        let value = json!({
            "partition": partition.to_string(),
            "pages_moved": pages,
            "segments_moved": segments,
            "files_removed": removed,
        });
        let text =
            format!("{partition}: {pages} pages and {segments} segments moved, {removed} files removed");
        kvs.run.print(&value, &text)?;
    }
    Ok(())
}

/// Deletes what has expired.
pub fn clean(kvs: &Kvs<'_>, of: &SomeOf) -> Result<()> {
    let store = kvs.open()?;
    for partition in of_branch(kvs, &store, of)? {
        kvs.go_on()?;
        let cleaned = now(kvs.writer(&store, &partition, of.on.branch.as_ref())?.clean_expired(now_ms()))?;
        let value = json!({"partition": partition.to_string(), "cleaned": cleaned});
        kvs.run.print(&value, &format!("{partition}: {cleaned} entries had expired"))?;
    }
    Ok(())
}

/// The partitions that were named, or all that have the branch.
fn of_branch(kvs: &Kvs<'_>, store: &Store, of: &SomeOf) -> Result<Vec<Partition>> {
    let chosen = kvs.chosen(store, &of.some.partitions)?;
    let Some(name) = of.on.branch.as_ref().filter(|_| of.some.partitions.is_empty()) else {
        return Ok(chosen);
    };
    let name = branch_name(name)?;
    let mut having = Vec::new();
    for partition in chosen {
        let files = store.files(&partition)?;
        if files.iter().any(|file| matches!(file, FileName::Manifest { branch, .. } if *branch == name)) {
            having.push(partition);
        }
    }
    match having.is_empty() {
        true => Err(Error::new(Status::NotFound, format!("no partition has a branch {name}"))),
        false => Ok(having),
    }
}

/// Deletes the end of a partition, or all of it.
pub fn truncate(kvs: &Kvs<'_>, truncate: &Truncate) -> Result<()> {
    let position = truncate.position.as_deref().map(|text| kvs.bytes(text)).transpose()?.unwrap_or_default();
    let partition = &truncate.partition;
    let store = kvs.open()?;
    kvs.chosen(&store, std::slice::from_ref(partition))?;
    let deleted = now(kvs.writer(&store, partition, truncate.on.branch.as_ref())?.truncate(&position))?;
    let (known, text) = match position.is_empty() {
        true => (Value::Null, format!("{partition} is empty")),
        false => (json!(deleted), format!("{deleted} entries are deleted")),
    };
    kvs.run.print(&json!({"partition": partition.to_string(), "deleted": known}), &text)
}

/// Removes partitions.
pub fn drop(kvs: &Kvs<'_>, drop: &Drop) -> Result<()> {
    let mut store = kvs.open()?;
    let dropped = match (&drop.partition, &drop.table) {
        (Some(partition), _) => {
            kvs.chosen(&store, std::slice::from_ref(partition))?;
            store.drop_partition(partition)?;
            1
        }
        (None, table) => store.drop_table(table.as_deref().unwrap_or_default())?,
    };
    kvs.run.print(&json!({"dropped": dropped}), &format!("{dropped} partitions are gone"))
}

/// Branches of partitions.
pub fn branch(kvs: &Kvs<'_>, branch: &Branch) -> Result<()> {
    let store = kvs.open()?;
    let (partition, name, verb) = match branch {
        Branch::Create { partition, name, from } => {
            kvs.chosen(&store, std::slice::from_ref(partition))?;
            let mut writer = kvs.writer(&store, partition, from.as_ref())?;
            (partition, now(writer.create_branch(name))?, "is there")
        }
        Branch::Delete { partition, name } => {
            kvs.chosen(&store, std::slice::from_ref(partition))?;
            store.writer(partition)?.delete_branch(name)?;
            (partition, name.to_ascii_lowercase(), "is gone")
        }
        Branch::List(some) => return list(kvs, &some.partitions, "branches"),
    };
    let value = json!({"partition": partition.to_string(), "branch": name});
    kvs.run.print(&value, &format!("branch {name} of {partition} {verb}"))
}
