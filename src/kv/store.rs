//! A store on disk: its partitions, and what it was written with.

use super::branch::MAIN;
use super::compress::{Dictionary, LEVEL};
use super::layout;
use super::manifest::Manifest;
use super::names::{FileName, Partition};
use super::options::Options;
use super::placement::Placement;
use super::scan::{Range, Scanned};
use super::source::{Directory, Source, now};
use super::tier::Tier;
use super::tree::{Found, Tree};
use super::upkeep::drop_damaged;
use super::writer::Writer;
use crate::status::{Error, Result, Status};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Times that a manifest may be replaced while it is looked for.
const REPLACED: usize = 4;

/// A store's directories. Nothing is locked until a partition is opened to be written.
#[derive(Debug)]
pub struct Store {
    options: Arc<Options>,
    partitions: BTreeMap<Partition, PathBuf>,
    tier: Option<Arc<Tier>>,
}

impl Store {
    /// Opens or makes the store in `options.store_paths`, to write to it. A new store records its options.
    pub fn create(options: Options) -> Result<Store> {
        options.check()?;
        if options.cloud.is_on() {
            return Store::open(options);
        }
        for path in &options.store_paths {
            let made = std::fs::create_dir_all(path);
            let made = made.and_then(|()| match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => std::fs::File::open(parent)?.sync_all(),
                _ => Ok(()),
            });
            made.map_err(|error| Error::os(&path.display().to_string(), &error))?;
        }
        let store = Store::open(options)?;
        // Options of a store that others wrote are the user's word; they are not put on record as if they were known.
        if store.partitions.is_empty() {
            store.options.store_paths.iter().try_for_each(|path| layout::record(path, &store.options))?;
        }
        Ok(store)
    }

    /// The store in `options.store_paths`, to be read. Only directories named like partitions are looked at. Options
    /// that contradict the recorded ones are `INVALID_ARGUMENT`.
    pub fn open(options: Options) -> Result<Store> {
        options.check()?;
        if let Some(tier) = Tier::open(&options)? {
            return Store::over(options, tier);
        }
        if options.store_paths.is_empty() {
            return Err(Error::new(Status::InvalidArgument, "a store on disk needs at least one store path"));
        }
        options.store_paths.iter().try_for_each(|path| layout::compare(path, &options))?;
        let placement = placement(&options);
        let mut partitions: BTreeMap<Partition, PathBuf> = BTreeMap::new();
        for (i, path) in options.store_paths.iter().enumerate() {
            for partition in directories(path)? {
                let place = path.join(partition.to_string());
                // A partition that is on several paths counts where the weights put it.
                if placement.path(partition.number) == i || !partitions.contains_key(&partition) {
                    partitions.insert(partition, place);
                }
            }
        }
        Ok(Store { options: Arc::new(options), partitions, tier: None })
    }

    /// The store whose files are objects of `tier`, cached in `options.store_paths`. Blocks.
    pub fn over(options: Options, tier: Arc<Tier>) -> Result<Store> {
        let options = options.over_objects();
        let named = tier.partitions().wait()?.into_iter();
        let placed = named.map(|partition| place(&options, &partition).map(|path| (partition, path)));
        let partitions = placed.collect::<Result<_>>()?;
        Ok(Store { options: Arc::new(options), partitions, tier: Some(tier) })
    }

    /// The object storage tier, if there is one.
    pub fn tier(&self) -> Option<&Arc<Tier>> {
        self.tier.as_ref()
    }

    /// The files of a partition that is in `path`.
    fn source(&self, partition: &Partition, path: PathBuf) -> Directory {
        match &self.tier {
            Some(tier) => Directory::cache(path.clone(), tier.remote(partition, &path)),
            None => Directory::new(path),
        }
    }

    /// What the store was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The partitions that have a directory, by table and number.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.partitions.keys()
    }

    /// The writer of a partition, which is made if it is missing. Blocks.
    pub fn writer(&self, partition: &Partition) -> Result<Writer> {
        let path = self.directory(partition)?;
        layout::fits(&path, &self.options)?;
        Writer::open_in(self.options.clone(), self.source(partition, path), MAIN)
    }

    /// Opens a branch of a partition to write to it. One that is not `main` must be there.
    pub fn branch_writer(&self, partition: &Partition, branch: &str) -> Result<Writer> {
        let path = self.directory(partition)?;
        // Or its directory would be made for nothing.
        if branch != MAIN && self.tier.is_none() && !path.exists() {
            let what = format!("{} has no branch {branch}: it is not there", path.display());
            return Err(Error::new(Status::NotFound, what));
        }
        layout::fits(&path, &self.options)?;
        Writer::open_in(self.options.clone(), self.source(partition, path), branch)
    }

    /// Removes a partition; one that is not there is removed already. Views of it must be closed before.
    pub fn drop_partition(&mut self, partition: &Partition) -> Result<()> {
        if self.partitions.contains_key(partition) {
            self.erase(partition)?;
            self.refresh()?;
        }
        Ok(())
    }

    /// Damage is no reason to keep a partition.
    fn erase(&self, partition: &Partition) -> Result<()> {
        match self.writer(partition) {
            Ok(writer) => writer.drop_partition(),
            Err(error) if error.status == Status::Corrupted && self.tier.is_none() => {
                drop_damaged(&self.directory(partition)?)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes every partition of a table, and returns how many there were.
    pub fn drop_table(&mut self, table: &str) -> Result<usize> {
        let doomed = self.partitions.keys().filter(|partition| partition.table == table);
        let doomed: Vec<Partition> = doomed.cloned().collect();
        doomed.iter().try_for_each(|partition| self.erase(partition))?;
        self.refresh()?;
        Ok(doomed.len())
    }

    /// The partitions that there are now, by table and number.
    pub fn now_there(&self) -> Result<Vec<Partition>> {
        let options = (*self.options).clone();
        let now = match &self.tier {
            Some(tier) => Store::over(options, tier.clone())?,
            None => Store::open(options)?,
        };
        Ok(now.partitions.into_keys().collect())
    }

    /// Looks again which partitions there are.
    pub fn refresh(&mut self) -> Result<()> {
        let options = (*self.options).clone();
        *self = match &self.tier {
            Some(tier) => Store::over(options, tier.clone())?,
            None => Store::open(options)?,
        };
        Ok(())
    }

    /// A partition as its manifest has it; None if it has none.
    pub fn view(&self, partition: &Partition) -> Result<Option<View>> {
        self.branch(partition, MAIN)
    }

    /// A branch of a partition as its newest manifest has it; None if it has no such branch.
    pub fn branch(&self, partition: &Partition, name: &str) -> Result<Option<View>> {
        // Over an object store a writer may replace the newest one meanwhile; not again and again.
        let mut result = self.newest(partition, name);
        for _ in 0..REPLACED {
            match result {
                Err(error) if self.tier.is_some() && error.status == Status::Stale => {}
                result => return result,
            }
            result = self.newest(partition, name);
        }
        result
    }

    fn newest(&self, partition: &Partition, name: &str) -> Result<Option<View>> {
        if name == MAIN
            && let Some(log) = self.files(partition)?.iter().find(|file| matches!(file, FileName::Log { .. }))
        {
            let log = self.directory(partition)?.join(log.to_string());
            let what = format!(
                "{}: changes are in a write log and not in the pages yet: an engine has the partition open, or was killed, and then the next one to open it for writing merges the log: `rde kv compact` does",
                log.display()
            );
            return Err(Error::new(Status::WrongState, what));
        }
        self.paged(partition, name)
    }

    /// A branch of a partition as its pages are, whatever a write log holds beside them.
    pub(super) fn paged(&self, partition: &Partition, name: &str) -> Result<Option<View>> {
        let manifests = self.files(partition)?.into_iter().filter_map(|file| match &file {
            FileName::Manifest { branch, term } if branch == name => Some((*term, file)),
            _ => None,
        });
        let Some((_, newest)) = manifests.max() else { return Ok(None) };
        self.load(partition, &newest).map(Some)
    }

    /// A partition as an archive has it, by the archive's tag or file name; None if there is no such archive.
    pub fn archive(&self, partition: &Partition, name: &str) -> Result<Option<View>> {
        let files = self.files(partition)?.into_iter();
        let matching = files.filter(|file| match file {
            FileName::Archive { tag, .. } => tag == name || file.to_string() == name,
            _ => false,
        });
        let matching: Vec<FileName> = matching.collect();
        match matching.as_slice() {
            [] => Ok(None),
            [one] => self.load(partition, one).map(Some),
            _ => {
                let what = format!("several archives of {partition} are called {name}: give the file's name");
                Err(Error::new(Status::InvalidArgument, what))
            }
        }
    }

    /// Tags of a partition's archives.
    pub fn archives(&self, partition: &Partition) -> Result<Vec<String>> {
        let tags = self.files(partition)?.into_iter().filter_map(|file| match file {
            FileName::Archive { tag, .. } => Some(tag),
            _ => None,
        });
        let mut tags: Vec<String> = tags.collect();
        tags.sort();
        Ok(tags)
    }

    /// A partition's files; none if there is no such partition.
    pub fn files(&self, partition: &Partition) -> Result<Vec<FileName>> {
        match self.partitions.get(partition) {
            Some(path) => self.source(partition, path.clone()).list(),
            None => Ok(Vec::new()),
        }
    }

    /// A partition's files and their bytes.
    pub fn sizes(&self, partition: &Partition) -> Result<Vec<(FileName, u64)>> {
        match self.partitions.get(partition) {
            Some(path) => self.source(partition, path.clone()).sizes(),
            None => Ok(Vec::new()),
        }
    }

    /// A partition's files, to be read.
    pub(super) fn source_of(&self, partition: &Partition) -> Result<Directory> {
        Ok(self.source(partition, self.directory(partition)?))
    }

    /// Where a partition is, or would be.
    pub fn directory(&self, partition: &Partition) -> Result<PathBuf> {
        self.partitions.get(partition).cloned().map_or_else(|| place(&self.options, partition), Ok)
    }

    /// A partition as one of its manifests or archives has it.
    pub fn load(&self, partition: &Partition, manifest: &FileName) -> Result<View> {
        let path = self.directory(partition)?;
        layout::fits(&path, &self.options)?;
        View::load(self.options.clone(), self.source(partition, path), manifest)
    }
}

fn placement(options: &Options) -> Placement {
    let mut weights = options.weights.clone();
    weights.resize(options.store_paths.len(), 1);
    Placement::new(&weights)
}

/// Where a partition's directory is, or would be.
pub(super) fn place(options: &Options, partition: &Partition) -> Result<PathBuf> {
    match options.store_paths.get(placement(options).path(partition.number)) {
        Some(path) => Ok(path.join(partition.to_string())),
        None => Err(Error::new(Status::InvalidArgument, "a store on disk needs at least one store path")),
    }
}

/// The partitions in a store path.
fn directories(path: &Path) -> Result<Vec<Partition>> {
    let listing = listing(path)?;
    Ok(listing
        .iter()
        .filter(|(_, directory)| *directory)
        .filter_map(|(name, _)| Partition::parse(name))
        .collect())
}

/// Names in a directory, and which of them are directories. Names that are no UTF-8 are none of ours.
fn listing(path: &Path) -> Result<Vec<(String, bool)>> {
    let failed = |error: std::io::Error| Error::os(&format!("store_path {}", path.display()), &error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().into_string() {
            // A store path may link to its partitions.
            let directory = std::fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir());
            found.push((name, directory));
        }
    }
    Ok(found)
}

/// A partition at one moment: what its manifest or an archive said when it was loaded.
#[derive(Debug)]
pub struct View<S = Directory> {
    options: Arc<Options>,
    manifest: Manifest,
    dictionary: Option<Dictionary>,
    source: S,
    torn: Option<String>,
}

impl View<Directory> {
    /// Loads a manifest or an archive from a partition's directory.
    pub fn load(options: Arc<Options>, source: Directory, file: &FileName) -> Result<View> {
        let bytes = source.whole(file)?;
        View::new(options, source, &bytes, file)
    }
}

impl<S: Source> View<S> {
    /// A view of what `bytes`, the content of `file`, say.
    pub fn new(options: Arc<Options>, source: S, bytes: &[u8], file: &FileName) -> Result<View<S>> {
        let manifest = Manifest::replay(bytes).map_err(|damage| damage.in_file(source.describe(file), 0))?;
        let dictionary =
            (!manifest.dictionary.is_empty()).then(|| Dictionary::new(&manifest.dictionary, LEVEL));
        let tail = bytes.get(manifest.tail as usize..).unwrap_or_default();
        let torn = tail.iter().any(|byte| *byte != 0).then(|| {
            let (name, tail) = (source.describe(file), manifest.tail);
            format!(
                "{name}, byte {tail}: a record that was not finished; it is as if it had never been written"
            )
        });
        Ok(View { options, manifest, dictionary, source, torn })
    }

    /// What a crash left at the end of the manifest, if it did.
    pub fn torn(&self) -> Option<String> {
        self.torn.clone()
    }

    /// Its trees, for requests that wait.
    pub fn tree(&self) -> Tree<'_, S> {
        Tree {
            options: &self.options,
            manifest: &self.manifest,
            dictionary: self.dictionary.as_ref(),
            source: &self.source,
        }
    }

    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The entry with exactly this key. Blocks.
    pub fn read(&self, key: &[u8]) -> Result<Option<Found>> {
        now(self.tree().read(key))
    }

    /// The entry with the largest key that is at most `key`. Blocks.
    pub fn floor(&self, key: &[u8]) -> Result<Option<Found>> {
        now(self.tree().floor(key))
    }

    /// The entries of a range. Blocks.
    pub fn scan(&self, range: &Range<'_>) -> Result<Scanned> {
        now(self.tree().scan(range))
    }
}
