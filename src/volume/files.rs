//! The files of a volume by name, and one opening of them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::status::{Error, Result, Status};
use crate::volume::index::Index;
use crate::volume::location::DataFile;
use crate::volume::read::read_at;
use crate::volume::superblock::{SUPERBLOCK_BYTES, Superblock};
use crate::volume::vif::{VIF_BYTES, Vif};

/// Longest collection name: it is a part of a file name.
const COLLECTION_BYTES: usize = 200;

/// How often an opening is tried again that was overtaken by a vacuum, a millisecond apart.
const OPEN_TRIES: u32 = 50;

/// Names the files of a volume.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    data: PathBuf,
    index: PathBuf,
}

impl Paths {
    /// `index_dir` is where `.idx` and `.sdx` are, if not in `dir`. Errors: `InvalidArgument` for a collection that is
    /// no part of a file name.
    pub(super) fn new(dir: &Path, index_dir: Option<&Path>, collection: &str, id: u32) -> Result<Paths> {
        if collection.len() > COLLECTION_BYTES || collection.contains(['/', '\0']) {
            return Err(Error::new(Status::InvalidArgument, "a collection name is a part of a file name"));
        }
        let base = if collection.is_empty() { id.to_string() } else { format!("{collection}_{id}") };
        Ok(Paths { data: dir.join(&base), index: index_dir.unwrap_or(dir).join(&base) })
    }

    fn data(&self, extension: &str) -> PathBuf {
        with_extension(&self.data, extension)
    }

    fn index(&self, extension: &str) -> PathBuf {
        with_extension(&self.index, extension)
    }

    /// A vacuum puts the new `.dat` in place first and the new `.idx` a moment later; between them they do not agree.
    pub(super) fn committing(&self) -> bool {
        self.index("cpx").exists() && !self.data("cpd").exists()
    }

    /// A vacuum is under way, or broke off.
    pub(super) fn compacting(&self) -> bool {
        self.index("cpx").exists() || self.data("cpd").exists()
    }

    fn erasure_coded(&self) -> bool {
        self.index("ecx").exists() || self.data("ecx").exists() || self.data("ec00").exists()
    }
}

fn with_extension(base: &Path, extension: &str) -> PathBuf {
    // Not Path::with_extension: a collection may have a dot in its name.
    let mut name = base.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// Tells one file from another, and one state of a small file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for Identity {
    fn from(data: &Metadata) -> Identity {
        Identity { device: data.dev(), inode: data.ino() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    identity: Identity,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let data = std::fs::metadata(path).ok()?;
        Some(Stamp {
            identity: (&data).into(),
            length: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
        })
    }
}

/// One opening of a volume's files. A vacuum replaces them; a new generation is opened then.
#[derive(Debug)]
pub(super) struct Generation {
    /// Counts openings, from 1.
    pub(super) number: u64,
    pub(super) data: Arc<DataFile>,
    pub(super) index: Index,
    data_identity: Identity,
    index_identity: Identity,
    vif: Mutex<Option<Stamp>>,
    info: Vif,
}

impl Generation {
    /// Opens the files and loads the index. Errors: `NotFound`, `Ineligible` (erasure-coded or tiered), `Corrupted`,
    /// `Unsupported`, `Stale` (an index that does not match its data), `Io`.
    pub(super) fn open(paths: &Paths, number: u64) -> Result<Generation> {
        let mut tries = 0;
        loop {
            tries += 1;
            // A vacuum that broke off for good is not waited for: every read is checked anyway.
            if !paths.committing() || tries >= OPEN_TRIES {
                let generation = Generation::open_once(paths, number);
                let same = generation.as_ref().is_ok_and(|generation| generation.is_current(paths));
                if same || tries >= OPEN_TRIES || (generation.is_err() && !paths.compacting()) {
                    return generation;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn open_once(paths: &Paths, number: u64) -> Result<Generation> {
        let vif = Stamp::of(&paths.data("vif"));
        let info = read_vif(&paths.data("vif"))?;
        if info.tiered {
            return Err(Error::new(Status::Ineligible, "the volume's data is in a remote tier: use HTTP"));
        }
        if paths.erasure_coded() {
            return Err(Error::new(Status::Ineligible, "the volume is erasure-coded: use HTTP"));
        }
        let (file, metadata) = open_file(&paths.data("dat"))?;
        let mut start = [0; SUPERBLOCK_BYTES];
        let got = read_at(file.as_fd(), 0, [&mut start], true)?;
        let superblock = Superblock::decode(&start[..got])?;
        let version = info.version.unwrap_or(superblock.version);
        let data = Arc::new(DataFile { file, superblock, version });
        let (sorted, (index_file, index_metadata)) = match open_file(&paths.index("idx")) {
            Err(error) if error.status == Status::NotFound => (true, open_file(&paths.index("sdx"))?),
            opened => (false, opened?),
        };
        let index_identity = Identity::from(&index_metadata);
        let index = Index::open(index_file, index_metadata.nlink(), sorted, info.row_width, &data)?;
        Ok(Generation {
            number,
            data,
            index,
            data_identity: (&metadata).into(),
            index_identity,
            vif: Mutex::new(vif),
            info,
        })
    }

    /// Whether the files of the volume are still these.
    pub(super) fn is_current(&self, paths: &Paths) -> bool {
        self.has_index(paths)
            && identity(paths.data("dat")) == Some(self.data_identity)
            && self.says_the_same(&paths.data("vif"))
            && !paths.erasure_coded()
    }

    /// Whether the volume's index is still this one.
    pub(super) fn has_index(&self, paths: &Paths) -> bool {
        let index = match identity(paths.index("idx")) {
            None if self.index.is_sorted() => identity(paths.index("sdx")),
            found => found,
        };
        index == Some(self.index_identity)
    }

    /// A `.vif` file is written anew at times without saying anything new, which is no reason to load the index again.
    fn says_the_same(&self, path: &Path) -> bool {
        let stamp = Stamp::of(path);
        let mut known = self.vif.lock();
        let same = *known == stamp || read_vif(path).is_ok_and(|info| info == self.info);
        if same {
            *known = stamp;
        }
        same
    }
}

fn identity(path: PathBuf) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|data| Identity::from(&data))
}

fn open_file(path: &Path) -> Result<(File, Metadata)> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Status::NotFound, format!("no such file: {}", path.display()))
        }
        _ => Error::os(&format!("opening {}", path.display()), &error),
    };
    // Non-blocking, because a pipe of that name would hang the open.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::new(Status::Unsupported, format!("not a regular file: {}", path.display())));
    }
    Ok((file, metadata))
}

fn read_vif(path: &Path) -> Result<Vif> {
    let (file, _) = match open_file(path) {
        Err(error) if error.status == Status::NotFound => return Ok(Vif::default()),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    let read = file.take(VIF_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::os(&format!("reading {}", path.display()), &error))?;
    if bytes.len() > VIF_BYTES {
        return Err(Error::new(Status::Corrupted, "the .vif file is longer than 1 MiB"));
    }
    Vif::decode(&bytes)
}
