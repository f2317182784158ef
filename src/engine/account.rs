//! The memory limit of a context: what is charged, by whom, and what is retired.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::status::{Error, Result, Status};

/// A limit in bytes, and what is charged to it.
pub struct Account {
    limit: u64,
    charged: AtomicU64,
    retired: AtomicU64,
}

/// Bytes charged to an [`Account`] until this is dropped.
pub struct Charge {
    account: Arc<Account>,
    bytes: u64,
    retired: AtomicBool,
}

impl Account {
    /// An account with nothing charged.
    pub fn new(limit: u64) -> Arc<Account> {
        Arc::new(Account { limit, charged: AtomicU64::new(0), retired: AtomicU64::new(0) })
    }

    /// Charges `bytes`, or `OutOfMemory` when the limit does not allow all of them.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge> {
        let bytes = bytes as u64;
        let fits = |charged: u64| charged.checked_add(bytes).filter(|sum| *sum <= self.limit);
        match self.charged.fetch_update(Ordering::AcqRel, Ordering::Relaxed, fits) {
            Ok(_) => Ok(Charge { account: self.clone(), bytes, retired: AtomicBool::new(false) }),
            Err(charged) => Err(self.exhausted(bytes, charged)),
        }
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes charged, with the retired ones; never above the limit.
    pub fn charged(&self) -> u64 {
        self.charged.load(Ordering::Acquire)
    }

    /// Bytes that were given back while peers still had them mapped.
    pub fn retired(&self) -> u64 {
        self.retired.load(Ordering::Acquire)
    }

    fn exhausted(&self, asked: u64, charged: u64) -> Error {
        let (limit, retired) = (self.limit, self.retired());
        let message = format!(
            "the memory limit of {limit} bytes does not allow {asked} more: {charged} are taken, {retired} of them \
             retired until peers unmap them; release buffers or raise the limit"
        );
        Error::new(Status::OutOfMemory, message)
    }
}

impl Charge {
    /// Counts the bytes as retired from now on: their owner is done with them, somebody else is not.
    pub fn retire(&self) {
        if !self.retired.swap(true, Ordering::AcqRel) {
            self.account.retired.fetch_add(self.bytes, Ordering::AcqRel);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if *self.retired.get_mut() {
            self.account.retired.fetch_sub(self.bytes, Ordering::AcqRel);
        }
        self.account.charged.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
