//! A file that is being fetched: it has its name when it is whole, and is gone otherwise.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rdma_engine::{Error, Result};

/// A file that is removed unless it was finished.
pub struct Partial {
    path: PathBuf,
    file: File,
    finished: bool,
}

impl Partial {
    /// Beside `output`, so that the rename at the end stays on one disk.
    pub fn create(output: &Path) -> Result<Partial> {
        let name = output.file_name().and_then(|name| name.to_str()).unwrap_or("rde");
        let path = output.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| Error::os(&format!("cannot create {}", path.display()), &error))?;
        Ok(Partial { path, file, finished: false })
    }

    /// Appends to it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let what = || format!("cannot write {}", self.path.display());
        self.file.write_all(bytes).map_err(|error| Error::os(&what(), &error))
    }

    /// It is whole: it gets its name.
    pub fn finish(mut self, output: &Path) -> Result<()> {
        let done = self.file.sync_all().and_then(|()| std::fs::rename(&self.path, output));
        self.finished = done.is_ok();
        done.map_err(|error| Error::os(&format!("cannot write {}", output.display()), &error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
