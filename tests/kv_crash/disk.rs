//! A disk in memory that remembers what it was asked, and what is left of that when power fails.

use rdma_engine::kv::names::FileName;
use rdma_engine::kv::sink::Sink;
use rdma_engine::kv::source::Source;
use rdma_engine::{Error, Result, Status};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

const SECTOR: usize = 512;

/// What a disk is asked to do.
#[derive(Clone)]
pub enum Step {
    Write(FileName, usize, Vec<u8>),
    Sync(Vec<FileName>),
    Replace(FileName, Vec<u8>),
    Remove(FileName),
    Cut(FileName, usize),
}

pub type Files = HashMap<FileName, Vec<u8>>;

/// A disk in memory that remembers what it was asked.
#[derive(Default)]
pub struct Disk {
    pub files: RefCell<Files>,
    pub steps: RefCell<Vec<Step>>,
    /// Writes that succeed before one fails; None for any number.
    pub writes_left: RefCell<Option<usize>>,
    /// Files cannot be cut.
    pub uncut: Cell<bool>,
}

fn write(files: &mut Files, file: &FileName, offset: usize, bytes: &[u8]) {
    let content = files.entry(file.clone()).or_default();
    content.resize(content.len().max(offset + bytes.len()), 0);
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Disk {
    pub fn new(files: Files) -> Disk {
        Disk { files: RefCell::new(files), ..Disk::default() }
    }

    fn may_write(&self) -> Result<()> {
        match &mut *self.writes_left.borrow_mut() {
            Some(0) => Err(Error::os("the disk", &std::io::Error::from_raw_os_error(28))),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Source for &Disk {
    type Bytes = Vec<u8>;

    async fn read(&self, file: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        let files = self.files.borrow();
        let bytes = files.get(file).and_then(|bytes| bytes.get(offset as usize..)?.get(..len));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| Error::new(Status::Corrupted, format!("{file} ends")))
    }

    fn describe(&self, file: &FileName) -> String {
        file.to_string()
    }
}

impl Sink for &Disk {
    async fn write(&self, file: &FileName, offset: u64, bytes: &[u8]) -> Result<()> {
        self.may_write()?;
        write(&mut self.files.borrow_mut(), file, offset as usize, bytes);
        self.steps.borrow_mut().push(Step::Write(file.clone(), offset as usize, bytes.to_vec()));
        Ok(())
    }

    async fn sync(&self, files: &[FileName]) -> Result<()> {
        self.steps.borrow_mut().push(Step::Sync(files.to_vec()));
        Ok(())
    }

    async fn replace(&self, file: &FileName, bytes: &[u8]) -> Result<()> {
        self.may_write()?;
        self.files.borrow_mut().insert(file.clone(), bytes.to_vec());
        self.steps.borrow_mut().push(Step::Replace(file.clone(), bytes.to_vec()));
        Ok(())
    }

    async fn exists(&self, file: &FileName) -> Result<bool> {
        Ok(self.files.borrow().contains_key(file))
    }

    async fn remove(&self, file: &FileName) -> Result<()> {
        self.files.borrow_mut().remove(file);
        self.steps.borrow_mut().push(Step::Remove(file.clone()));
        Ok(())
    }

    async fn cut(&self, file: &FileName, len: u64) -> Result<()> {
        if self.uncut.get() {
            return Err(Error::new(Status::Io, format!("{file} cannot be cut")));
        }
        self.files.borrow_mut().get_mut(file).unwrap().truncate(len as usize);
        self.steps.borrow_mut().push(Step::Cut(file.clone(), len as usize));
        Ok(())
    }

    async fn names(&self) -> Result<Vec<FileName>> {
        Ok(self.files.borrow().keys().cloned().collect())
    }

    async fn contents(&self, file: &FileName) -> Result<Option<Vec<u8>>> {
        Ok(self.files.borrow().get(file).cloned())
    }
}

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// What is on a disk that had `files` when power fails after `steps`: synced writes, and some sectors of the others.
pub fn after_failure(mut files: Files, steps: &[Step], random: &mut Random) -> Files {
    // Replacing swaps between nothing and all of it, so that the step before last is a state of its own.
    for (i, step) in steps.iter().enumerate() {
        match step {
            Step::Replace(file, bytes) => drop(files.insert(file.clone(), bytes.clone())),
            Step::Sync(_) => {}
            Step::Remove(file) => drop(files.remove(file)),
            Step::Cut(file, len) => drop(files.get_mut(file).map(|bytes| bytes.truncate(*len))),
            Step::Write(file, offset, bytes) => {
                let safe =
                    steps[i..].iter().any(|later| matches!(later, Step::Sync(files) if files.contains(file)));
                if safe {
                    write(&mut files, file, *offset, bytes);
                    continue;
                }
                let all = random.next(4);
                for (j, sector) in bytes.chunks(SECTOR).enumerate() {
                    if all == 0 || (all != 1 && random.next(2) == 0) {
                        write(&mut files, file, offset + j * SECTOR, sector);
                    }
                }
            }
        }
    }
    files
}
