//! Keeping a store in order: `rde kv archive`, `compact`, `clean`, `truncate`, `drop` and `branch`.

use rdma_engine::kv::names::Partition;
use rdma_engine::kv::source::now;
use rdma_engine::kv::survey;
use rdma_engine::{Error, Result, Status};
use serde_json::{Value, json};

use super::args::{Archive, Branch, Drop, Truncate};
use super::{Kvs, now_ms, now_us};

/// Archives of partitions.
pub fn archive(kvs: &Kvs<'_>, archive: &Archive) -> Result<()> {
    let store = kvs.open()?;
    match archive {
        Archive::Create { partition, name, retain } => {
            kvs.chosen(&store, std::slice::from_ref(partition))?;
            let name = name.clone().unwrap_or_else(|| now_us().to_string());
            let mut writer = store.writer(partition)?;
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
        Archive::Delete { partition, name } => {
            if store.archive(partition, name)?.is_none() {
                let what = format!("{partition} has no archive {name}");
                return Err(Error::new(Status::NotFound, what));
            }
            now(store.writer(partition)?.forget_archive(name))?;
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
pub fn compact(kvs: &Kvs<'_>, named: &[Partition]) -> Result<()> {
    let store = kvs.open()?;
    for partition in kvs.chosen(&store, named)? {
        kvs.go_on()?;
        let mut writer = store.writer(&partition)?;
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
pub fn clean(kvs: &Kvs<'_>, named: &[Partition]) -> Result<()> {
    let store = kvs.open()?;
    for partition in kvs.chosen(&store, named)? {
        kvs.go_on()?;
        let cleaned = now(store.writer(&partition)?.clean_expired(now_ms()))?;
        let value = json!({"partition": partition.to_string(), "cleaned": cleaned});
        kvs.run.print(&value, &format!("{partition}: {cleaned} entries had expired"))?;
    }
    Ok(())
}

/// Deletes the end of a partition, or all of it.
pub fn truncate(kvs: &Kvs<'_>, truncate: &Truncate) -> Result<()> {
    let position = truncate.position.as_deref().map(|text| kvs.bytes(text)).transpose()?.unwrap_or_default();
    let partition = &truncate.partition;
    let store = kvs.open()?;
    kvs.chosen(&store, std::slice::from_ref(partition))?;
    let deleted = now(store.writer(partition)?.truncate(&position))?;
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
        Branch::Create { partition, name } => {
            kvs.chosen(&store, std::slice::from_ref(partition))?;
            (partition, now(store.writer(partition)?.create_branch(name))?, "is there")
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
