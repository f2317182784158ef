//! Reads whose pages are in memory are answered at once, without a task.

use super::backing::Backing;
use super::bytes::Bytes;
use super::partition::{Open, State};
use super::queue::Reply;
use super::request::{Answer, Job};
use super::serve::{Task, Work};
use super::shard::Shard;
use crate::kv::page::PageId;
use crate::kv::tree::{Found, Glance, glance};
use crate::kv::versions::Version;
use crate::status::Result;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

/// A read that has come to a data page which is not in memory.
#[derive(Debug)]
pub struct Reading {
    open: Rc<Open>,
    version: Arc<Version>,
    leaf: PageId,
    key: Vec<u8>,
    value: Vec<u8>,
    /// Whom to answer.
    pub(super) reply: Reply,
}

impl Reading {
    /// Goes on to its end.
    pub async fn end(self, shard: &Shard) -> (Reply, Result<Answer>) {
        let Reading { open, version, leaf, key, value, reply } = self;
        let found = version.tree(&shard.store, &open.backing).read_at(leaf, key, value).await;
        (reply, found.map(Answer::Found))
    }
}

/// Answers a read whose pages are in memory; what is to be done about any other request.
pub fn answer(shard: &Shard, work: Work) -> Option<Task> {
    // A panic ends its request alone, as in a task.
    catch_unwind(AssertUnwindSafe(|| attempt(shard, work))).unwrap_or(None)
}

fn attempt(shard: &Shard, work: Work) -> Option<Task> {
    let Work { target, job: Job::Read { key, mut value }, reply } = work else {
        return Some(Task::Request(work));
    };
    value.clear();
    let (timestamp, expire_ms) = match look(shard, target, &key, &mut value) {
        Some(Seen::Entry(timestamp, expire_ms)) => (timestamp, expire_ms),
        Some(Seen::Leaf(open, version, leaf)) => {
            return Some(Task::Reading(Reading { open, version, leaf, key, value, reply }));
        }
        None => return Some(Task::Request(Work { target, job: Job::Read { key, value }, reply })),
    };
    let found = Found { key, value, timestamp, expire_ms, large: None };
    shard.answer(reply, Ok(Answer::Found(Some(found))));
    None
}

/// What a look at pages in memory has shown.
enum Seen {
    Entry(u64, u64),
    Leaf(Rc<Open>, Arc<Version>, PageId),
}

fn look(shard: &Shard, target: u32, key: &[u8], value: &mut Vec<u8>) -> Option<Seen> {
    let partitions = shard.partitions.borrow();
    let partition = partitions.get(&target)?;
    let state = partition.state.borrow();
    let State::Open(open) = &*state else { return None };
    let Backing::Disk(files) = &open.backing else { return None };
    if open.logged(key).is_some() {
        return None;
    }
    let version = open.version.borrow();
    let version = version.as_ref()?;
    shard.use_now(partition);
    let (number, len) = (files.partition(), shard.store.page_size);
    let pages = |file_page| files.pages().at_hand((number, file_page)).map(|page| Bytes::Disk(page, 0, len));
    Some(match glance(&version.manifest, key, value, pages)? {
        Glance::Found { timestamp, expire_ms } => Seen::Entry(timestamp, expire_ms),
        Glance::At(leaf) => Seen::Leaf(open.clone(), version.clone(), leaf),
    })
}
