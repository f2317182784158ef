//! A source without a disk that says what was read.

use rdma_engine::kv::names::FileName;
use rdma_engine::kv::source::Source;
use rdma_engine::{Error, Result, Status};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

/// A partition's files in memory, and which pages were read.
#[derive(Default)]
pub struct Memory {
    pub files: HashMap<FileName, Vec<u8>>,
    pub touched: RefCell<BTreeSet<(FileName, u64)>>,
}

impl Source for &Memory {
    type Bytes = Vec<u8>;

    async fn read(&self, file: &FileName, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.touched.borrow_mut().insert((file.clone(), offset));
        let bytes = self.files.get(file).and_then(|bytes| bytes.get(offset as usize..)?.get(..len));
        bytes
            .map(<[u8]>::to_vec)
            .ok_or_else(|| Error::new(Status::Corrupted, format!("{file}, byte 0: ends")))
    }

    fn describe(&self, file: &FileName) -> String {
        file.to_string()
    }
}
