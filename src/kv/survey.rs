//! A partition's directory as a whole: what is in it, and whether all of it is sound.

use super::branch::MAIN;
use super::check::{self, Report};
use super::damage::Damage;
use super::log::record;
use super::names::{FileName, Partition, superseded};
use super::source::{Directory, Source, now};
use super::store::Store;
use crate::status::Result;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What a partition's directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Where it is.
    pub directory: PathBuf,
    /// Data files and their bytes.
    pub data_files: u64,
    /// Bytes of the data files.
    pub data_bytes: u64,
    /// Segment files.
    pub segment_files: u64,
    /// Bytes of the segment files.
    pub segment_bytes: u64,
    /// Bytes of the main branch's manifest.
    pub manifest_bytes: u64,
    /// Bytes of the write log: changes that are not in the pages yet.
    pub log_bytes: u64,
    /// Pages in use.
    pub pages: u64,
    /// File pages that were ever used.
    pub file_pages: u64,
    /// Segments in use.
    pub segments: u64,
    /// Whether a dictionary compresses its values.
    pub dictionary: bool,
    /// Whether any of its entries expires some day.
    pub expires: bool,
    /// Names of its archives.
    pub archives: Vec<String>,
    /// Its branches, `main` among them.
    pub branches: Vec<String>,
    /// Data and segment files that no manifest and no archive refers to.
    pub unreferenced: Vec<String>,
}

/// What a partition's directory holds; as much of it as its manifests tell.
pub fn stat(store: &Store, partition: &Partition) -> Result<Stat> {
    let mut stat = Stat { directory: store.directory(partition)?, ..Stat::default() };
    let mut referenced: BTreeSet<FileName> = BTreeSet::new();
    let sizes = store.sizes(partition)?;
    let files: Vec<FileName> = sizes.iter().map(|(file, _)| file.clone()).collect();
    let old = superseded(&files);
    for (file, bytes) in sizes.iter().filter(|(file, _)| !old.contains(file)) {
        match file {
            FileName::Data { .. } => {
                (stat.data_files, stat.data_bytes) = (stat.data_files + 1, stat.data_bytes + bytes)
            }
            FileName::Segment { .. } => {
                (stat.segment_files, stat.segment_bytes) =
                    (stat.segment_files + 1, stat.segment_bytes + bytes);
            }
            FileName::Manifest { branch, .. } => stat.branches.push(branch.clone()),
            FileName::Archive { tag, .. } => stat.archives.push(tag.clone()),
            FileName::Log { .. } => stat.log_bytes += bytes,
        }
        if matches!(file, FileName::Manifest { branch, .. } if branch == MAIN) {
            stat.manifest_bytes = *bytes;
        }
        if matches!(file, FileName::Manifest { .. } | FileName::Archive { .. }) {
            store.load(partition, file)?.manifest().files(store.options(), &mut referenced);
        }
    }
    let main = store.paged(partition, MAIN)?;
    if let Some(manifest) = main.as_ref().map(|view| view.manifest()) {
        stat.pages = manifest.mapping.pages().count() as u64;
        stat.file_pages = manifest.end;
        stat.segments = manifest.segments.as_ref().map_or(0, |known| known.mapping.pages().count() as u64);
        stat.dictionary = !manifest.dictionary.is_empty();
        stat.expires = manifest.ttl_root != super::page::NONE;
    }
    stat.archives.sort();
    stat.branches.sort();
    let loose = files.iter().filter(|file| matches!(file, FileName::Data { .. } | FileName::Segment { .. }));
    let loose = loose.filter(|file| !referenced.contains(file)).map(ToString::to_string);
    stat.unreferenced = loose.collect();
    stat.unreferenced.sort();
    Ok(stat)
}

/// Checks every state of a partition: its branches and its archives. `watch` hears after every page what was found in
/// this state so far, and may end the check with an error.
pub fn check(
    store: &Store,
    partition: &Partition,
    mut watch: impl FnMut(&Report) -> Result<()>,
) -> Result<Vec<(FileName, Report)>> {
    let mut states = store.files(partition)?;
    let old = superseded(&states);
    states.retain(|file| !old.contains(file));
    let of_state = |file: &FileName| {
        matches!(file, FileName::Manifest { .. } | FileName::Archive { .. } | FileName::Log { .. })
    };
    states.retain(of_state);
    states.sort();
    let mut reports = Vec::new();
    for state in states {
        if let FileName::Log { number } = state {
            let report = check_log(&store.source_of(partition)?, number).unwrap_or_else(Report::from);
            reports.push((state, report));
            continue;
        }
        let report = match store.load(partition, &state) {
            Ok(view) => {
                let mut report = Report::default();
                if let Some(what) = view.torn() {
                    report.torn = Some(what);
                }
                now(check::check(&view.tree(), &mut report, &mut watch))?;
                report
            }
            Err(error) => Report::from(error),
        };
        reports.push((state, report));
    }
    Ok(reports)
}

/// Verifies a file of a write log.
fn check_log(source: &Directory, number: u64) -> Result<Report> {
    let file = FileName::Log { number };
    let bytes = source.whole(&file)?;
    let sound = |damage: Damage| damage.in_file(source.describe(&file), 0);
    let mut report = Report::default();
    let Some(head) = record::head(&bytes, number).map_err(sound)? else { return Ok(report) };
    let mut records = record::records(&bytes, head);
    for record in &mut records {
        for entry in record.entries() {
            let (_, logged) = entry.map_err(sound)?;
            report.entries += 1;
            report.bytes += (logged.key.len() + logged.value.map_or(0, <[u8]>::len)) as u64;
        }
    }
    let end = records.end();
    if record::torn(&bytes, head, end).map_err(sound)? {
        let name = source.describe(&file);
        report.torn = Some(format!(
            "{name}, byte {end}: a record that was not finished; it is as if it had never been written"
        ));
    }
    Ok(report)
}
