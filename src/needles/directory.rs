//! The volumes of a folder: opened when they are first asked for, found when they come, forgotten when they go.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::status::{Error, Result, Status};
use crate::volume::{OpenOptions, Volume};

/// How often the folder is looked through for a volume that is not known: whoever asks for made-up ones costs no more.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Folder and volumes. Any thread.
pub(super) struct Directory {
    dir: PathBuf,
    index_dir: Option<PathBuf>,
    open: RwLock<HashMap<u32, Arc<Volume>>>,
    /// Held while the folder is looked through or a volume opened: when that was, and the collections by volume.
    known: Mutex<(Option<Instant>, HashMap<u32, String>)>,
}

impl Directory {
    /// Errors: `Io` when there is no such folder.
    pub fn new(dir: PathBuf, index_dir: Option<PathBuf>) -> Result<Directory> {
        let directory = Directory { dir, index_dir, open: RwLock::default(), known: Mutex::default() };
        *directory.known.lock() = (Some(Instant::now()), directory.look()?);
        Ok(directory)
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
        if !known.1.contains_key(&id) && known.0.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            *known = (Some(Instant::now()), self.look()?);
        }
        let Some(collection) = known.1.get(&id) else {
            return Err(Error::new(Status::NotFound, format!("volume {id} is not in the folder")));
        };
        let options = OpenOptions { index_dir: self.index_dir.clone(), ..OpenOptions::default() };
        match Volume::open_with(&self.dir, collection, id, options) {
            Ok(volume) => {
                let volume = Arc::new(volume);
                self.open.write().insert(id, volume.clone());
                Ok(volume)
            }
            Err(error) => {
                known.1.remove(&id);
                Err(error)
            }
        }
    }

    /// Lets go of a volume whose files are gone; it is looked for again when it is asked for.
    pub fn forget(&self, volume: &Arc<Volume>) {
        let mut known = self.known.lock();
        known.1.remove(&volume.id());
        self.open.write().remove(&volume.id());
    }

    /// Volumes that are open.
    pub fn volumes(&self) -> Vec<Arc<Volume>> {
        self.open.read().values().cloned().collect()
    }

    fn look(&self) -> Result<HashMap<u32, String>> {
        let failed = |error| Error::os(&format!("look through {}", self.dir.display()), &error);
        let mut found = HashMap::new();
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some((collection, id)) = name.to_str().and_then(named) {
                found.insert(id, collection.to_owned());
            }
        }
        Ok(found)
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
