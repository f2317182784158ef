//! Whether a store is opened with the options that it was written with.
//!
//! EloqStore records nothing. We do, in a file that it tolerates: in a store path it accepts directories and files
//! whose names begin with `CURRENT_TERM`.

use super::names::FileName;
use super::options::Options;
use crate::status::{Error, Result, Status};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file in a store path that records options.
pub const RECORD: &str = "CURRENT_TERM_rde-options_0";
/// Longest record that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// What is on record of a store's options.
pub fn text(options: &Options) -> String {
    let mut text = String::new();
    for (name, value) in options.layout() {
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

/// Records the options of a new store in one of its paths. Others may do the same just now.
pub fn record(path: &Path, options: &Options) -> Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let text = text(options);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (file, temporary) =
        (path.join(RECORD), path.join(format!("{RECORD}.tmp-{}-{number}", std::process::id())));
    let written = File::create(&temporary).and_then(|mut out| {
        out.write_all(text.as_bytes())?;
        out.sync_data()?;
        std::fs::rename(&temporary, &file)?;
        File::open(path)?.sync_all()
    });
    written.map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        Error::os(&file.display().to_string(), &error)
    })
}

/// Compares the options with what a store path has on record, if it has.
pub fn compare(path: &Path, options: &Options) -> Result<()> {
    let file = path.join(RECORD);
    let failed = |error: std::io::Error| Error::os(&file.display().to_string(), &error);
    let text = match std::fs::metadata(&file) {
        Ok(metadata) if metadata.len() <= LONGEST => std::fs::read_to_string(&file).map_err(failed)?,
        Ok(_) => {
            return Err(Error::new(Status::Corrupted, format!("{}: too long for options", file.display())));
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    agrees(&text, options, &path.display().to_string())
}

/// Compares the options with what is on record in `place`.
pub fn agrees(text: &str, options: &Options, place: &str) -> Result<()> {
    for (name, ours) in options.layout() {
        let recorded = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let Some(recorded) = recorded else { continue };
        if recorded.trim() != ours.to_string() {
            let what = format!(
                "the store in {place} was written with {name}={recorded}, not {ours}: open it with what {RECORD} says"
            );
            return Err(Error::new(Status::InvalidArgument, what));
        }
    }
    Ok(())
}

/// Whether a partition's files are not longer than the options allow; a missing directory is empty.
pub fn fits(directory: &Path, options: &Options) -> Result<()> {
    let listing = match std::fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::os(&directory.display().to_string(), &error)),
    };
    for entry in listing {
        let entry = entry.map_err(|error| Error::os(&directory.display().to_string(), &error))?;
        let (limit, which) = match entry.file_name().to_str().and_then(FileName::parse) {
            Some(FileName::Data { .. }) => (
                (options.page_size as u64) << options.pages_per_file_shift,
                "pages_per_file_shift or data_page_size",
            ),
            Some(FileName::Segment { .. }) => (
                (options.segment_size as u64) << options.segments_per_file_shift,
                "segments_per_file_shift or segment_size",
            ),
            _ => continue,
        };
        if entry.metadata().is_ok_and(|metadata| metadata.len() > limit) {
            let what = format!(
                "{} is longer than the options allow: the store was written with a larger {which}",
                entry.path().display()
            );
            return Err(Error::new(Status::InvalidArgument, what));
        }
    }
    Ok(())
}
