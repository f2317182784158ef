//! What a store is opened with. Most of it shapes the bytes on disk and must never change for a store.

use super::ini::{memory, size};
use super::tier::cloud::Cloud;
use crate::status::{Error, Result, Status};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Unit that pages and manifest records are aligned to.
pub const ALIGNMENT: usize = 4096;

/// Longest file of options that is read, in bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// EloqStore's options that say nothing to this engine.
const UNUSED: &[&str] = &[
    "allow_reuse_local_caches",
    "archive_interval_secs",
    "buffer_pool_size",
    "chunk_size",
    "cloud_request_threads",
    "coroutine_stack_size",
    "direct_io_buffer_pool_size",
    "enable_data_page_cache",
    "fd_limit",
    "init_page_count",
    "io_queue_size",
    "max_archive_tasks",
    "max_global_request_batch",
    "max_inflight_write",
    "max_write_batch_pages",
    "max_write_concurrency",
    "non_page_io_batch_size",
    "reserve_space_ratio",
    "root_meta_cache_size",
    "segment_compact_yield_every",
    "skip_verify_checksum",
    "write_buffer_ratio",
    "write_buffer_size",
    "zstd_compression_level",
];

/// Options of a store, EloqStore's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Directories that hold partitions.
    pub store_paths: Vec<PathBuf>,
    /// Shares of the directories; empty for equal ones.
    pub weights: Vec<u32>,
    /// Shards.
    pub threads: usize,
    /// Bytes of a page: 4 to 32 KiB, a multiple of 4 KiB.
    pub page_size: usize,
    /// A data file holds `1 << pages_per_file_shift` pages.
    pub pages_per_file_shift: u32,
    /// Page pointers of an entry, and of a group's last page: 1 to 128.
    pub overflow_pointers: usize,
    /// Pages are only ever appended, and compaction reclaims files; otherwise file pages are reused.
    pub append: bool,
    /// Values are compressed.
    pub compression: bool,
    /// Entries of a data page between restart points.
    pub data_restart_interval: usize,
    /// Entries of an index page between restart points.
    pub index_restart_interval: usize,
    /// Bytes of a segment: a multiple of 4 KiB.
    pub segment_size: usize,
    /// A segment file holds `1 << segments_per_file_shift` segments.
    pub segments_per_file_shift: u32,
    /// Bytes of a manifest beyond which a new snapshot replaces it.
    pub manifest_limit: u64,
    /// Files may hold this many times what is live before they are compacted.
    pub file_amplify_factor: u64,
    /// Segment files likewise.
    pub segment_amplify_factor: u64,
    /// Archives that are kept when older ones are pruned.
    pub retained_archives: usize,
    /// Longest value that a reader accepts, in bytes: a bound on what damaged lengths can claim.
    pub value_limit: usize,
    /// The object store that keeps the files; off for a store that is on local disks alone.
    pub cloud: Cloud,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            store_paths: Vec::new(),
            weights: Vec::new(),
            threads: 1,
            page_size: 4096,
            pages_per_file_shift: 18,
            overflow_pointers: 16,
            append: false,
            compression: false,
            data_restart_interval: 16,
            index_restart_interval: 16,
            segment_size: 256 << 10,
            segments_per_file_shift: 7,
            manifest_limit: 8 << 20,
            file_amplify_factor: 2,
            segment_amplify_factor: 2,
            retained_archives: 100,
            value_limit: 1 << 30,
            cloud: Cloud::default(),
        }
    }
}

impl Options {
    /// From a file: EloqStore's ini format if it has sections, else lines of `name=value`. Store paths are relative to
    /// the file's folder. Checked.
    pub fn from_file(path: &Path) -> Result<Options> {
        let named = |error: Error| Error {
            message: format!("{}: {}", path.display(), error.message).into(),
            ..error
        };
        let failed = |error: std::io::Error| Error::os(&path.display().to_string(), &error);
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > LONGEST_FILE {
            return Err(named(invalid("the file is longer than 1 MiB".into())));
        }
        let base = path.parent().unwrap_or(Path::new(""));
        let text = text.trim_start_matches('\u{feff}');
        let parsed = match text.lines().any(|line| line.trim_start().starts_with('[')) {
            true => Options::from_ini(text, base),
            false => Options::from_lines(text, base),
        };
        parsed.map_err(named)
    }

    /// From lines of `name=value`; `store_path` may repeat and is relative to `base`. Checked. Names of EloqStore's
    /// that this engine has no use for are accepted, others too, with a warning in the log.
    pub fn from_lines(text: &str, base: &Path) -> Result<Options> {
        let mut options = Options::default();
        options.set_lines(text, base)?;
        options.check()?;
        Ok(options.over_objects())
    }

    /// Sets what lines of `name=value` say, as in [`Options::from_lines`]. Not checked as a whole.
    pub fn set_lines(&mut self, text: &str, base: &Path) -> Result<()> {
        let lines = text.lines().map(|line| line.split_once(" #").map_or(line, |(line, _)| line).trim());
        let (mut file_size, mut shift) = (None, false);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
            let (name, value) = line.split_once('=').ok_or_else(|| invalid(format!("`{line}`: no `=`")))?;
            let (name, value) = (name.trim(), value.trim());
            shift |= name == "pages_per_file_shift";
            match name {
                "data_file_size" => file_size = Some(size(name, value)?),
                _ => self.set(name, value, base)?,
            }
        }
        // EloqStore's ini files say the same so.
        match file_size {
            Some(bytes) if !shift => self.set_file_size(bytes),
            _ => Ok(()),
        }
    }

    /// Sets how many pages a data file of this many bytes holds, rounded down to a power of two.
    pub(super) fn set_file_size(&mut self, bytes: u64) -> Result<()> {
        let pages = bytes / (self.page_size as u64).max(1);
        let shift = pages.checked_ilog2();
        self.pages_per_file_shift =
            shift.ok_or_else(|| invalid("data_file_size must be at least one page".into()))?;
        Ok(())
    }

    /// Sets one option by the name that golden `options.txt` files use.
    fn set(&mut self, name: &str, value: &str, base: &Path) -> Result<()> {
        match name {
            "store_path" => self.store_paths.push(base.join(value)),
            "weights" => {
                let parts = value.split(',').map(str::trim).filter(|_| !value.is_empty());
                self.weights = parts.map(|part| number(name, part)).collect::<Result<_>>()?;
            }
            "num_threads" => self.threads = number(name, value)?,
            "data_page_size" => self.page_size = memory(name, value)?,
            "pages_per_file_shift" => self.pages_per_file_shift = number(name, value)?,
            "overflow_pointers" => self.overflow_pointers = number(name, value)?,
            "data_append_mode" => self.append = flag(name, value)?,
            "enable_compression" => self.compression = flag(name, value)?,
            "data_page_restart_interval" => self.data_restart_interval = number(name, value)?,
            "index_page_restart_interval" => self.index_restart_interval = number(name, value)?,
            "segment_size" => self.segment_size = memory(name, value)?,
            "segments_per_file_shift" => self.segments_per_file_shift = number(name, value)?,
            "manifest_limit" => self.manifest_limit = size(name, value)?,
            "file_amplify_factor" => self.file_amplify_factor = number(name, value)?,
            "segment_file_amplify_factor" => self.segment_amplify_factor = number(name, value)?,
            "num_retained_archives" => self.retained_archives = number(name, value)?,
            _ if self.cloud.set(name, value, base)? => {}
            _ if UNUSED.contains(&name) => {}
            _ => tracing::warn!("`{name}={value}`: not an option of the key-value store; ignored"),
        }
        Ok(())
    }

    /// With what an object store demands: an object cannot be changed in place, so pages are only ever appended.
    pub fn over_objects(mut self) -> Options {
        self.append |= self.cloud.is_on();
        self
    }

    /// Whether every value is one that a store can have.
    pub fn check(&self) -> Result<()> {
        self.cloud.check()?;
        let aligned = |size: usize| size > 0 && size.is_multiple_of(ALIGNMENT);
        let sound = [
            (self.threads > 0, "num_threads must be at least 1"),
            (
                aligned(self.page_size) && self.page_size <= 32 << 10,
                "data_page_size must be a multiple of 4096, up to 32768",
            ),
            (self.pages_per_file_shift < 32, "pages_per_file_shift must be below 32"),
            ((1..=128).contains(&self.overflow_pointers), "overflow_pointers must be 1 to 128"),
            (self.file_amplify_factor > 0, "file_amplify_factor must be at least 1"),
            (self.segment_amplify_factor > 0, "segment_file_amplify_factor must be at least 1"),
            (self.data_restart_interval > 0, "data_page_restart_interval must be at least 1"),
            (self.index_restart_interval > 0, "index_page_restart_interval must be at least 1"),
            (
                aligned(self.segment_size) && self.segment_size <= 1 << 30,
                "segment_size must be a multiple of 4096, up to 1 GiB",
            ),
            (self.segments_per_file_shift < 32, "segments_per_file_shift must be below 32"),
            (
                self.weights.is_empty() || self.weights.len() == self.store_paths.len(),
                "weights must be as many as store paths",
            ),
            (self.store_paths.len() <= usize::from(u16::MAX), "too many store paths"),
        ];
        match sound.iter().find(|(ok, _)| !ok) {
            Some((_, what)) => Err(invalid((*what).to_owned())),
            None => Ok(()),
        }
    }

    /// The options that decide where bytes are: opening a store with others would misread it. Name and value.
    pub fn layout(&self) -> [(&'static str, u64); 6] {
        [
            ("data_page_size", self.page_size as u64),
            ("pages_per_file_shift", u64::from(self.pages_per_file_shift)),
            ("overflow_pointers", self.overflow_pointers as u64),
            ("data_append_mode", u64::from(self.append)),
            ("segment_size", self.segment_size as u64),
            ("segments_per_file_shift", u64::from(self.segments_per_file_shift)),
        ]
    }

    /// Where in which data file a file page lies: file number, offset in bytes.
    pub fn page_place(&self, file_page: u64) -> (u64, u64) {
        let index = file_page & ((1 << self.pages_per_file_shift) - 1);
        (file_page >> self.pages_per_file_shift, index * self.page_size as u64)
    }

    /// Where in which segment file a file segment lies: file number, offset in bytes.
    pub fn segment_place(&self, file_segment: u64) -> (u64, u64) {
        let index = file_segment & ((1 << self.segments_per_file_shift) - 1);
        (file_segment >> self.segments_per_file_shift, index * self.segment_size as u64)
    }

    /// Longest key that a page can hold and a batch may have, in bytes.
    pub fn key_limit(&self) -> usize {
        self.page_size / 2
    }
}

/// A number in decimal, in the target's range.
pub(super) fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| invalid(format!("{name}={value}: not a number in range")))
}

/// `0`, `1`, `false` or `true`.
pub(super) fn flag(name: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(invalid(format!("{name}={value}: neither true nor false"))),
    }
}

/// An error about options.
pub(super) fn invalid(what: String) -> Error {
    Error::new(Status::InvalidArgument, format!("options of the key-value store: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_set_options_and_paths_are_relative() {
        let text = "store_path=disk0\nstore_path=/disk1\nweights=1,3\ndata_page_size=8192\n\n# c\ndata_append_mode=1\n";
        let options = Options::from_lines(text, Path::new("/base")).unwrap();
        assert_eq!(options.store_paths, [Path::new("/base/disk0"), Path::new("/disk1")]);
        assert_eq!(
            (options.weights.as_slice(), options.page_size, options.append),
            (&[1, 3][..], 8192, true)
        );
        assert_eq!(options.page_place((3 << 18) + 5), (3, 5 * 8192));
        let windows = "; c\r\nstore_path = a b \r\nweights=\r\nbuffer_pool_size=1GB\r\nno_such=1\r\n\
            segment_size=8KB # c\r\nsegment_size=16384\r\n";
        let options = Options::from_lines(windows, Path::new("/base")).unwrap();
        assert_eq!(options.store_paths, [Path::new("/base/a b")]);
        assert_eq!((options.segment_size, options.weights.len()), (16384, 0));
        let shift =
            |text| Options::from_lines(text, Path::new("")).map(|options| options.pages_per_file_shift);
        assert_eq!(shift("data_file_size=1000KB\ndata_page_size=8192\n").unwrap(), 6);
        assert_eq!(shift("pages_per_file_shift=3\ndata_file_size=8MB\n").unwrap(), 3);
        assert!(shift("data_file_size=1KB\n").is_err());
    }

    #[test]
    fn files_of_either_kind_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("options");
        std::fs::write(&file, "\u{feff}store_path=s\ndata_page_size=8192\n").unwrap();
        let options = Options::from_file(&file).unwrap();
        assert_eq!((options.page_size, options.store_paths), (8192, vec![folder.path().join("s")]));
        std::fs::write(&file, "[run]\n[permanent]\nstore_path=s\ndata_page_size=8KB\n").unwrap();
        assert_eq!(Options::from_file(&file).unwrap().page_size, 8192);
        std::fs::write(&file, "data_page_size=1\n").unwrap();
        let error = Options::from_file(&file).unwrap_err();
        assert!(error.message.contains("options: ") && error.status == Status::InvalidArgument, "{error}");
        std::fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
        assert!(Options::from_file(&file).is_err());
        assert_eq!(Options::from_file(folder.path()).unwrap_err().status, Status::Io);
    }

    #[test]
    fn wrong_options_are_refused_with_a_reason() {
        for (text, part) in [
            ("data_page_size=4097", "data_page_size"),
            ("data_page_size=65536", "data_page_size"),
            ("data_page_size=0", "data_page_size"),
            ("overflow_pointers=0", "overflow_pointers"),
            ("overflow_pointers=129", "overflow_pointers"),
            ("num_threads=-1", "num_threads"),
            ("pages_per_file_shift=64", "pages_per_file_shift"),
            ("segment_size=100", "segment_size"),
            ("data_append_mode=2", "data_append_mode"),
            ("store_path=a\nweights=1,2", "weights"),
            ("weights=1,x", "weights"),
            ("manifest_limit=8PB", "manifest_limit"),
            ("nonsense", "nonsense"),
        ] {
            let error = Options::from_lines(text, Path::new("")).unwrap_err();
            assert_eq!(error.status, Status::InvalidArgument);
            assert!(error.message.contains(part), "{text}: {error}");
        }
    }
}
