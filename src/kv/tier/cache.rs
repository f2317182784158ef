//! The local directories as a bounded cache: which files are there, which may go, which go first.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A cached file, shared with those that have it open.
#[derive(Debug, Default)]
pub struct Seat {
    used: AtomicU64,
    gone: AtomicBool,
}

impl Seat {
    /// Whether the file was evicted or replaced: who has it open should close it.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// Files in the local directories.
#[derive(Debug)]
pub struct Cache {
    limit: u64,
    clock: AtomicU64,
    evicted: AtomicU64,
    changes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<PathBuf, Entry>,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    bytes: u64,
    /// Not uploaded yet, or still being written.
    pinned: bool,
    /// Just fetched, for somebody who is about to open it.
    wanted: bool,
    seat: Arc<Seat>,
}

impl Cache {
    /// A cache of at most `limit` bytes.
    pub fn new(limit: u64) -> Cache {
        let (clock, evicted, changes) = (AtomicU64::new(1), AtomicU64::new(0), AtomicU64::new(0));
        Cache { limit, clock, evicted, changes, state: Mutex::default() }
    }

    /// Bytes of the files that are there.
    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// Files that were evicted so far.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Changes when a file has gone, evicted, removed or replaced.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Notes that a file is there, this long; `pinned` ones are not evicted.
    pub fn note(&self, path: &Path, bytes: u64, pinned: bool) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        let state = &mut *state;
        let entry = match state.files.get_mut(path) {
            Some(entry) => entry,
            None => state.files.entry(path.to_owned()).or_insert(Entry {
                bytes: 0,
                pinned,
                wanted: false,
                seat: Arc::default(),
            }),
        };
        state.bytes = state.bytes - entry.bytes + bytes;
        (entry.bytes, entry.pinned) = (bytes, pinned);
        entry.seat.used.store(now, Ordering::Relaxed);
    }

    /// A file is being written: it is there, and not to be evicted.
    pub fn writing(&self, path: &Path, end: u64) {
        let bytes = self.state.lock().files.get(path).map_or(0, |entry| entry.bytes);
        self.note(path, bytes.max(end), true);
    }

    /// A file was uploaded and will not be written to again.
    pub fn unpin(&self, path: &Path) {
        if let Some(entry) = self.state.lock().files.get_mut(path) {
            entry.pinned = false;
        }
    }

    /// Whether a file must stay.
    pub fn is_pinned(&self, path: &Path) -> bool {
        self.state.lock().files.get(path).is_some_and(|entry| entry.pinned)
    }

    /// A file was fetched for somebody, and stays until that one opens it.
    pub fn want(&self, path: &Path) {
        if let Some(entry) = self.state.lock().files.get_mut(path) {
            entry.wanted = true;
        }
    }

    /// The seat of a file that is being opened.
    pub fn seat(&self, path: &Path) -> Option<Arc<Seat>> {
        self.state.lock().files.get_mut(path).map(|entry| {
            entry.wanted = false;
            entry.seat.clone()
        })
    }

    /// Notes that a file is used.
    pub fn touch(&self, seat: &Seat) {
        seat.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Forgets a file that was removed, or that another replaces.
    pub fn forget(&self, path: &Path) {
        let mut state = self.state.lock();
        if let Some(entry) = state.files.remove(path) {
            state.bytes -= entry.bytes;
            entry.seat.gone.store(true, Ordering::Relaxed);
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether `more` bytes fit without evicting anything.
    pub fn has_room(&self, more: u64) -> bool {
        self.state.lock().bytes.saturating_add(more) <= self.limit
    }

    /// Evicts what was not used for longest until `more` bytes fit, or nothing is left that may go. Blocks.
    pub fn make_room(&self, more: u64) {
        let victims = self.victims(more);
        for path in victims {
            // One that cannot be removed is used again when it is asked for.
            let _ = std::fs::remove_file(&path);
        }
    }

    fn victims(&self, more: u64) -> Vec<PathBuf> {
        let mut state = self.state.lock();
        let mut excess = state.bytes.saturating_add(more).saturating_sub(self.limit);
        if excess == 0 {
            return Vec::new();
        }
        let candidates = state.files.iter().filter(|(_, entry)| !entry.pinned && !entry.wanted);
        let mut candidates: Vec<(u64, PathBuf)> =
            candidates.map(|(path, entry)| (entry.seat.used.load(Ordering::Relaxed), path.clone())).collect();
        candidates.sort_unstable();
        let mut victims = Vec::new();
        for (_, path) in candidates {
            if excess == 0 {
                break;
            }
            if let Some(entry) = state.files.remove(&path) {
                excess = excess.saturating_sub(entry.bytes);
                state.bytes -= entry.bytes;
                entry.seat.gone.store(true, Ordering::Relaxed);
                victims.push(path);
            }
        }
        self.evicted.fetch_add(victims.len() as u64, Ordering::Relaxed);
        self.changes.fetch_add(victims.len() as u64, Ordering::Relaxed);
        victims
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(i: u8) -> PathBuf {
        PathBuf::from(format!("/none/{i}"))
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let cache = Cache::new(30);
        (0..3).for_each(|i| cache.note(&name(i), 10, false));
        let seats: Vec<_> = (0..3).map(|i| cache.seat(&name(i)).unwrap()).collect();
        cache.touch(&seats[0]);
        assert_eq!(cache.victims(0), Vec::<PathBuf>::new());
        assert_eq!(cache.victims(15), [name(1), name(2)]);
        assert_eq!((cache.bytes(), cache.evicted()), (10, 2));
        assert!(!seats[0].is_gone() && seats[1].is_gone() && seats[2].is_gone());
    }

    proptest! {
        #[test]
        fn bytes_add_up_and_pinned_files_stay(
            steps in prop::collection::vec((0u8..12, 0u64..50, any::<bool>(), 0u8..4), 1..200)
        ) {
            let cache = Cache::new(100);
            let mut model: HashMap<u8, (u64, bool)> = HashMap::new();
            for (file, bytes, pinned, what) in steps {
                match what {
                    0 => {
                        cache.note(&name(file), bytes, pinned);
                        model.insert(file, (bytes, pinned));
                    }
                    1 => {
                        cache.forget(&name(file));
                        model.remove(&file);
                    }
                    2 => {
                        cache.unpin(&name(file));
                        model.entry(file).and_modify(|entry| entry.1 = false);
                    }
                    _ => {
                        for path in cache.victims(bytes) {
                            let file = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
                            let (_, pinned) = model.remove(&file).unwrap();
                            prop_assert!(!pinned);
                        }
                        let pinned = model.values().all(|entry| entry.1);
                        prop_assert!(pinned || cache.has_room(bytes));
                    }
                }
                prop_assert_eq!(cache.bytes(), model.values().map(|entry| entry.0).sum::<u64>());
            }
        }
    }
}
