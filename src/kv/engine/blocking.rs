//! Requests in forms that block.

use super::request::{Answer, Request, Scan};
use super::{Engine, Handle};
use crate::kv::batch::{Op, Order};
use crate::kv::names::Partition as Name;
use crate::kv::scan::Scanned;
use crate::kv::tree::Found;
use crate::status::{Error, Result, Status};
use std::collections::BTreeSet;

fn other() -> Error {
    Error::new(Status::Internal, "a request was answered as another one; please report it")
}

impl Engine {
    /// The entry with exactly this key.
    pub fn read(&self, partition: Handle, key: &[u8]) -> Result<Option<Found>> {
        match self.call(partition, Request::Read { key: key.to_vec() })? {
            Answer::Found(found) => Ok(found),
            _ => Err(other()),
        }
    }

    /// The entry with the largest key that is at most `key`.
    pub fn floor(&self, partition: Handle, key: &[u8]) -> Result<Option<Found>> {
        match self.call(partition, Request::Floor { key: key.to_vec() })? {
            Answer::Found(found) => Ok(found),
            _ => Err(other()),
        }
    }

    /// The entries of a range.
    pub fn scan(&self, partition: Handle, scan: Scan) -> Result<Scanned> {
        match self.call(partition, Request::Scan(scan))? {
            Answer::Scanned(scanned) => Ok(scanned),
            _ => Err(other()),
        }
    }

    /// Applies a batch, all or none, and returns once it is safe: how many changes took effect.
    pub fn write(&self, partition: Handle, ops: Vec<Op>, order: Order) -> Result<u64> {
        match self.call(partition, Request::Write { ops, order })? {
            Answer::Count(count) => Ok(count),
            _ => Err(other()),
        }
    }

    /// Starts a branch from what a partition, or branch, is now, and returns its name in lower case. Append mode only.
    pub fn create_branch(&self, partition: Handle, name: &str) -> Result<String> {
        match self.call(partition, Request::CreateBranch { name: name.to_owned() })? {
            Answer::Names(names) => names.into_iter().next().ok_or_else(other),
            _ => Err(other()),
        }
    }

    /// Removes a branch of a partition, neither `main` nor the one whose handle this is.
    pub fn delete_branch(&self, partition: Handle, name: &str) -> Result<()> {
        self.call(partition, Request::DeleteBranch { name: name.to_owned() }).map(drop)
    }

    /// Names of a partition's branches, `main` among them, sorted.
    pub fn branches(&self, partition: Handle) -> Result<Vec<String>> {
        match self.call(partition, Request::Branches)? {
            Answer::Names(names) => Ok(names),
            _ => Err(other()),
        }
    }

    /// Tables and partitions that have a directory, or in memory those that were asked for.
    pub fn partitions(&self) -> Result<Vec<Name>> {
        let known =
            self.targets.read().targets.iter().map(|target| target.name.clone()).collect::<BTreeSet<_>>();
        match &self.store {
            Some(store) => store.now_there(),
            None => Ok(known.into_iter().collect()),
        }
    }

    /// Removes every partition of a table, and returns how many there were.
    pub fn drop_table(&self, table: &str) -> Result<u64> {
        let mut dropped = 0;
        for partition in self.partitions()?.into_iter().filter(|partition| partition.table == table) {
            let handle = self.partition(table, partition.number)?;
            self.call(handle, Request::Drop)?;
            dropped += 1;
        }
        Ok(dropped)
    }
}
