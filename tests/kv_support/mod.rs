//! Golden stores for tests: unpacked from the archive into a folder of their own.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod memory;

use rdma_engine::kv::options::Options;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is removed with all it holds.
pub struct Folder(pub PathBuf);

impl Folder {
    /// A new, empty one.
    pub fn new() -> Folder {
        Folder::under(std::env::temp_dir())
    }

    /// A new, empty one, in memory if that can be: for tests that sync a lot and never lose power.
    pub fn in_memory() -> Folder {
        let memory = PathBuf::from("/dev/shm");
        Folder::under(if memory.is_dir() { memory } else { std::env::temp_dir() })
    }

    fn under(parent: PathBuf) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rde-kv-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Every golden store, unpacked. The archive must be there: a test that ran without it would prove nothing.
pub fn golden() -> (Folder, PathBuf) {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden");
    let place = std::env::var_os("RDE_GOLDEN").map_or(beside, PathBuf::from);
    let archive = place.join("eloqstore-a.tar.gz");
    assert!(
        archive.is_file(),
        "{} is missing: the golden stores belong in ../shared/golden beside the checkout, or where RDE_GOLDEN says",
        archive.display()
    );
    let folder = Folder::new();
    let unpacked =
        Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(&folder.0).status().expect("tar runs");
    assert!(unpacked.success(), "tar could not unpack {}", archive.display());
    let root = folder.0.join("eloq-golden-a");
    (folder, root)
}

/// The options of a golden store.
pub fn options(folder: &Path) -> Options {
    let text = std::fs::read_to_string(folder.join("options.txt")).unwrap();
    Options::from_lines(&text, folder).unwrap()
}
