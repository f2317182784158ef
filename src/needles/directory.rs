//! The volumes of folders: opened when they are first asked for, found when they come, forgotten when they go.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::limits;
use crate::status::{Error, Result, Status};
use crate::volume::{OpenOptions, Volume};

/// How often the folders are looked through for a volume that is not known: whoever asks for made-up ones costs no more.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where volumes are.
#[derive(Clone)]
struct Folder {
    dir: PathBuf,
    /// None: beside the data.
    index_dir: Option<PathBuf>,
}

/// What was found when the folders were last looked through.
#[derive(Default)]
struct Known {
    folders: Vec<Folder>,
    looked: Option<Instant>,
    /// Folder and collection of each volume; the first folder that has it.
    volumes: HashMap<u32, (Folder, String)>,
}

/// Folders and their volumes. Any thread.
#[derive(Default)]
pub(super) struct Directory {
    open: RwLock<HashMap<u32, Arc<Volume>>>,
    /// Held while folders are looked through or a volume opened.
    known: Mutex<Known>,
}

impl Directory {
    /// Errors: `Io` when there is no such folder.
    pub fn new(dir: PathBuf, index_dir: Option<PathBuf>) -> Result<Directory> {
        let directory = Directory::default();
        directory.add(dir, index_dir)?;
        Ok(directory)
    }

    /// Takes another folder. Errors: `LimitReached`; `Io` when there is no such folder.
    pub fn add(&self, dir: PathBuf, index_dir: Option<PathBuf>) -> Result<()> {
        let mut known = self.known.lock();
        if known.folders.len() >= limits::EXPORTER_FOLDERS {
            return Err(Error::new(Status::LimitReached, "an exporter has too many folders"));
        }
        let folder = Folder { dir, index_dir };
        look(std::slice::from_ref(&folder))?;
        known.folders.push(folder);
        known.volumes = look(&known.folders)?;
        known.looked = Some(Instant::now());
        Ok(())
    }

    /// A volume, opened if it is not; unless it may `wait`, `NotReady` then. Errors: `NotFound`, and those of
    /// [`Volume::open`].
    pub fn volume(&self, id: u32, wait: bool) -> Result<Arc<Volume>> {
        if let Some(volume) = self.open.read().get(&id) {
            return Ok(volume.clone());
        }
        if !wait {
            return Err(Status::NotReady.into());
        }
        let mut known = self.known.lock();
        if let Some(volume) = self.open.read().get(&id) {
            return Ok(volume.clone());
        }
        if !known.volumes.contains_key(&id) && known.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            known.looked = Some(Instant::now());
            known.volumes = look(&known.folders)?;
        }
        let Some((folder, collection)) = known.volumes.get(&id) else {
            return Err(Error::new(Status::NotFound, format!("volume {id} is in none of the folders")));
        };
        let options = OpenOptions { index_dir: folder.index_dir.clone(), ..OpenOptions::default() };
        match Volume::open_with(&folder.dir, collection, id, options) {
            Ok(volume) => {
                let volume = Arc::new(volume);
                self.open.write().insert(id, volume.clone());
                Ok(volume)
            }
            Err(error) => {
                known.volumes.remove(&id);
                Err(error)
            }
        }
    }

    /// Lets go of a volume whose files are gone; it is looked for again when it is asked for.
    pub fn forget(&self, volume: &Arc<Volume>) {
        let mut known = self.known.lock();
        known.volumes.remove(&volume.id());
        self.open.write().remove(&volume.id());
    }

    /// Volumes that are open.
    pub fn volumes(&self) -> Vec<Arc<Volume>> {
        self.open.read().values().cloned().collect()
    }
}

/// Every volume of the folders. A folder that is gone for now hides those of no other.
fn look(folders: &[Folder]) -> Result<HashMap<u32, (Folder, String)>> {
    let mut found = HashMap::new();
    let mut failed = None;
    for folder in folders.iter().rev() {
        match std::fs::read_dir(&folder.dir).and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>())
        {
            Ok(entries) => found.extend(entries.iter().filter_map(|entry| {
                let name = entry.file_name();
                let (collection, id) = named(name.to_str()?)?;
                Some((id, (folder.clone(), collection.to_owned())))
            })),
            Err(error) => failed = Some(Error::os(&format!("look through {}", folder.dir.display()), &error)),
        }
    }
    match failed {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// Collection and volume of a file: `photos_7.dat`, `7.dat`; also of erasure-coded ones, to say so.
fn named(name: &str) -> Option<(&str, u32)> {
    let base = name.strip_suffix(".dat").or_else(|| name.strip_suffix(".ecx"))?;
    let (collection, id) = base.rsplit_once('_').unwrap_or(("", base));
    let digits = id.bytes().all(|digit| digit.is_ascii_digit());
    Some((collection, id.parse().ok().filter(|_| digits)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_volumes() {
        assert_eq!(named("7.dat"), Some(("", 7)));
        assert_eq!(named("my_photos_12.dat"), Some(("my_photos", 12)));
        assert_eq!(named("3.ecx"), Some(("", 3)));
        for other in ["7.idx", "7.dat.bak", ".dat", "photos_.dat", "photos.dat", "+7.dat", "4294967296.dat"] {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
