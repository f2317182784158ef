//! Requests, as the tasks of a shard.

use super::ahead::{beside, read_ahead};
use super::backing::Backing;
use super::glance::Reading;
use super::lock::Guard;
use super::logged::{self, settle};
use super::partition::{Open, Partition, State, Which};
use super::queue::Reply;
use super::request::{Answer, Job, Request};
use super::shard::Shard;
use super::upkeep;
use crate::kv::batch::Batch;
use crate::kv::fork;
use crate::kv::log::Log;
use crate::kv::names::FileName;
use crate::kv::packed::{EntryRef, Packed};
use crate::kv::scan::{Range, Scanned};
use crate::kv::versions::Version;
use crate::kv::writer::Writer;
use crate::status::{Error, Result, Status};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A request on its way to its shard.
#[derive(Debug)]
pub struct Work {
    /// The handle's number.
    pub target: u32,
    /// What is asked.
    pub(super) job: Job,
    /// Whom to answer.
    pub(super) reply: Reply,
}

/// What a shard's tasks do.
pub enum Task {
    /// A request.
    Request(Work),
    /// The rest of a read.
    Reading(Reading),
    /// Upkeep of a partition.
    Upkeep(Rc<Partition>),
    /// All that write logs hold, into the pages.
    Settle,
}

/// A partition whose writer this task has.
pub struct Writing {
    /// The partition.
    pub partition: Rc<Partition>,
    /// What is open of it.
    pub open: Rc<Open>,
    guard: Guard<Writer<Backing>>,
    _turn: Guard<()>,
}

impl Writing {
    /// The writer.
    pub fn writer(&mut self) -> Result<&mut Writer<Backing>> {
        let gone = || Error::new(Status::Panic, "a write to this partition panicked: reopen it");
        self.guard.as_mut().ok_or_else(gone)
    }

    /// After a change: shows what was committed, or waits for the writes of what was not.
    pub async fn ended<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.open.settle().await;
        }
        let open = self.open.clone();
        let partition = self.partition.clone();
        open.publish(&partition, self.writer()?);
        result
    }

    /// Forgets an archive. Whoever reads it finishes; the next request does not find it.
    pub async fn forget_archive(&mut self, shard: &Shard, tag: &str) -> Result<()> {
        let _opening = self.partition.home.opening.lock().await;
        let writer = self.writer()?;
        writer.forget_archive(tag).await?;
        let own = writer.manifest().branches.name.clone();
        let is = |which: &Which| match which {
            Which::Archive(name) if name == tag => true,
            // Some call it by its file.
            Which::Archive(name) => matches!(FileName::parse(name),
                Some(FileName::Archive { branch, tag: known, .. }) if known == tag && branch == own),
            _ => false,
        };
        self.dismiss(shard, is).await;
        Ok(())
    }

    /// Removes a branch. Whoever reads it finishes; the next request does not find it.
    pub async fn delete_branch(&mut self, shard: &Shard, name: &str) -> Result<()> {
        let name = fork::branch_name(name)?;
        let _opening = self.partition.home.opening.lock().await;
        self.writer()?.remove_branch(&name).await?;
        self.dismiss(shard, |which| *which == Which::Branch(name.clone())).await;
        self.open.uncollected.set(true);
        Ok(())
    }

    async fn dismiss(&self, shard: &Shard, is: impl Fn(&Which) -> bool) {
        for member in self.partition.home.members().iter().filter(|member| is(&member.target.which)) {
            shard.dismiss(member).await;
        }
    }
}

/// Unix time in milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// Runs a task to its end.
pub async fn serve(shard: Rc<Shard>, task: Task) {
    match task {
        // The most frequent one needs no memory of its own.
        Task::Reading(reading) => {
            let (reply, result) = reading.end(&shard).await;
            shard.answer(reply, result);
        }
        Task::Request(Work { target, job, reply }) => {
            let writes = job.writes();
            let result = Box::pin(other(&shard, target, job)).await;
            shard.answer(reply, result);
            if writes {
                Box::pin(logged::relieve(&shard)).await;
            }
        }
        Task::Upkeep(partition) => Box::pin(upkeep::look_after(&shard, &partition)).await,
        Task::Settle => Box::pin(logged::settle_all(&shard)).await,
    }
}

/// What was last committed, and where its pages are; None if there is nothing.
async fn committed(shard: &Shard, target: u32) -> Result<Option<(Rc<Open>, Arc<Version>)>> {
    let partition = shard.partition(target)?;
    let Some(open) = shard.open(&partition, false).await? else { return missing(&partition) };
    let version = open.version.borrow().clone();
    Ok(version.map(|version| (open, version)))
}

/// The same; that there is no such partition is an error.
async fn present(shard: &Shard, target: u32) -> Result<(Rc<Open>, Arc<Version>)> {
    let none = || Error::new(Status::NotFound, "there is no such partition to scan");
    committed(shard, target).await?.ok_or_else(none)
}

/// There is no such partition, which is an answer; that there is no such archive or branch is not.
fn missing<T>(partition: &Partition) -> Result<Option<T>> {
    let name = &partition.target.name;
    let what = match &partition.target.which {
        Which::Main => return Ok(None),
        Which::Archive(tag) => format!("{name} has no archive {tag}"),
        Which::Branch(branch) => format!("{name} has no branch {branch}"),
    };
    Err(Error::new(Status::NotFound, what))
}

async fn read(shard: &Shard, target: u32, key: Vec<u8>, room: Vec<u8>) -> Result<Answer> {
    let Some((open, version)) = committed(shard, target).await? else { return Ok(Answer::Found(None)) };
    let tree = version.tree(&shard.store, &open.backing);
    let Some((log, hit)) = open.log.as_ref().zip(open.logged(&key)) else {
        return tree.read_into(key, room).await.map(Answer::Found);
    };
    let found = tree.read_into(key.clone(), room).await?;
    log.over(&key, found, &hit).await.map(Answer::Found)
}

/// The entries of a range, of log and pages.
async fn scan(
    shard: &Shard,
    (open, version): &(Rc<Open>, Arc<Version>),
    range: &Range<'_>,
) -> Result<Scanned> {
    let tree = version.tree(&shard.store, &open.backing);
    match open.log.as_ref().and_then(|log| Some((log, log.overlay(range)?))) {
        Some((log, overlay)) => overlay.scan(&tree, log, range).await,
        None => tree.scan(range).await,
    }
}

async fn other(shard: &Rc<Shard>, target: u32, job: Job) -> Result<Answer> {
    let request = match job {
        Job::Write(batch) => return write(shard, target, &batch).await,
        Job::Read { key, value } => return read(shard, target, key, value).await,
        Job::Other(request) => request,
    };
    match request {
        Request::Read { key } => read(shard, target, key, Vec::new()).await,
        Request::Floor { key } => {
            let Some((open, version)) = committed(shard, target).await? else {
                return Ok(Answer::Found(None));
            };
            // Nothing is before an empty key, which as a range's end would be none.
            if key.is_empty() || open.log.as_ref().is_none_or(Log::is_empty) {
                return version.tree(&shard.store, &open.backing).floor(&key).await.map(Answer::Found);
            }
            let range = Range::last_until(&key);
            let scanned = scan(shard, &(open, version), &range).await?;
            Ok(Answer::Found(scanned.entries.into_iter().next()))
        }
        Request::Scan(asked) => {
            let state = present(shard, target).await?;
            scan(shard, &state, &asked.range()).await.map(Answer::Scanned)
        }
        Request::ScanPacked(asked) => {
            let state = present(shard, target).await?;
            let (open, version) = &state;
            if open.log.as_ref().is_none_or(Log::is_empty) {
                let tree = version.tree(&shard.store, &open.backing);
                let (entries, remaining) = tree.scan_packed(&asked.range()).await?;
                return Ok(Answer::Packed { entries, remaining });
            }
            let scanned = scan(shard, &state, &asked.range()).await?;
            let mut entries = Packed::default();
            scanned.entries.iter().for_each(|found| entries.push(&EntryRef::from(found)));
            Ok(Answer::Packed { entries, remaining: scanned.remaining })
        }
        Request::Archives => {
            let partition = shard.partition(target)?;
            match shard.open(&partition, false).await? {
                Some(open) => open.archives(None).await.map(Answer::Names),
                None => missing(&partition).map(|none| Answer::Names(none.unwrap_or_default())),
            }
        }
        Request::Branches => {
            let partition = shard.partition(target)?;
            match shard.open(&partition, false).await? {
                Some(open) => open.branches().await.map(Answer::Names),
                None => missing(&partition).map(|none| Answer::Names(none.unwrap_or_default())),
            }
        }
        Request::Reopen => {
            let partition = shard.partition(target)?;
            shard.reopen(&partition).await.map(|()| Answer::Done)
        }
        Request::Drop => erase(shard, target).await,
        other => change(shard, target, other).await,
    }
}

/// The partition's writer, once it is this task's turn; None if there is no partition and `make` asks for none.
pub async fn writing(shard: &Shard, target: u32, make: bool) -> Result<Option<Writing>> {
    let partition = shard.partition(target)?;
    let turn = partition.home.turn.lock().await;
    loop {
        let Some(open) = shard.open(&partition, make).await? else { return missing(&partition) };
        let Some(writer) = &open.writer else {
            let what = "this is an archive, or of another term: it can only be read";
            return Err(Error::new(Status::Unsupported, what));
        };
        let guard = writer.lock().await;
        // Whoever had it before may have dropped or closed the partition.
        let current = partition.open().is_some_and(|current| Rc::ptr_eq(&current, &open));
        if current {
            return Ok(Some(Writing { partition, open, guard, _turn: turn }));
        }
    }
}

async fn write(shard: &Rc<Shard>, target: u32, batch: &Batch) -> Result<Answer> {
    let partition = shard.partition(target)?;
    match logged::write(shard, &partition, batch).await? {
        Ok(count) => Ok(Answer::Count(count)),
        Err(_quiet) => apply(shard, target, batch).await.map(Answer::Count),
    }
}

/// Writes a batch to a partition's pages; the partition is made if it is missing.
pub async fn apply(shard: &Shard, target: u32, batch: &Batch) -> Result<u64> {
    let Some(mut writing) = writing(shard, target, true).await? else { return Ok(0) };
    let open = writing.open.clone();
    let writer = writing.writer()?;
    let result = match (&open.backing, writer.manifest().tail) {
        (Backing::Disk(files), 1..) => {
            let version = writer.version();
            let ahead = read_ahead(&version, &shard.store, files, batch.ops());
            beside(writer.apply(batch, now_ms()), ahead).await
        }
        _ => writer.apply(batch, now_ms()).await,
    };
    writing.ended(result).await
}

/// Requests that change a partition which is there.
async fn change(shard: &Rc<Shard>, target: u32, request: Request) -> Result<Answer> {
    let _quiet = match request {
        Request::Truncate { .. }
        | Request::Archive { .. }
        | Request::CreateBranch { .. }
        | Request::CleanExpired => Some(settle(shard, &shard.partition(target)?).await?),
        _ => None,
    };
    let Some(mut writing) = writing(shard, target, false).await? else {
        return Ok(match request {
            Request::Archive { .. } => {
                return Err(Error::new(Status::NotFound, "there is no such partition to archive"));
            }
            Request::CreateBranch { .. } | Request::DeleteBranch { .. } => {
                return Err(Error::new(Status::NotFound, "there is no such partition to have a branch"));
            }
            Request::ForgetArchive { .. } => Answer::Done,
            _ => Answer::Count(0),
        });
    };
    match request {
        Request::Truncate { position } => {
            let result = writing.writer()?.truncate(&position).await;
            writing.ended(result).await.map(Answer::Count)
        }
        Request::Archive { tag } => writing.writer()?.archive(&tag).await.map(|()| Answer::Done),
        Request::ForgetArchive { tag } => writing.forget_archive(shard, &tag).await.map(|()| Answer::Done),
        // In memory there is every partition, but nothing in it.
        Request::CreateBranch { .. } if writing.writer()?.manifest().tail == 0 => {
            Err(Error::new(Status::NotFound, "there is no such partition to have a branch"))
        }
        Request::CreateBranch { name } => {
            writing.writer()?.create_branch(&name).await.map(|name| Answer::Names(vec![name]))
        }
        Request::DeleteBranch { name } => writing.delete_branch(shard, &name).await.map(|()| Answer::Done),
        Request::Collect => {
            let held = writing.partition.home.held();
            writing.writer()?.collect_beside(&held).await.map(Answer::Count)
        }
        Request::CleanExpired => {
            drop(writing);
            upkeep::clean(shard, target).await.map(Answer::Count)
        }
        Request::Compact => {
            drop(writing);
            upkeep::compact(shard, target).await.map(Answer::Count)
        }
        _ => Err(Error::new(Status::Internal, "a request went the wrong way; please report it")),
    }
}

/// Removes a partition. Requests that read it are let finish; those that come now see nothing.
async fn erase(shard: &Rc<Shard>, target: u32) -> Result<Answer> {
    if shard.partition(target)?.target.which != Which::Main {
        let what = "a partition is dropped by its own handle; a branch is deleted, an archive forgotten";
        return Err(Error::new(Status::InvalidArgument, what));
    }
    let _quiet = settle(shard, &shard.partition(target)?).await?;
    let Some(mut writing) = writing(shard, target, false).await? else { return Ok(Answer::Done) };
    let (open, partition) = (writing.open.clone(), writing.partition.clone());
    let writer = writing.guard.take();
    let mut writer =
        writer.ok_or(Error::new(Status::Panic, "a write to this partition panicked: reopen it"))?;
    let opening = partition.home.opening.lock().await;
    // Its branches go with it, its archives stay.
    let branches = partition.home.members().into_iter();
    for branch in branches.filter(|member| matches!(member.target.which, Which::Branch(_))) {
        let open = branch.open();
        shard.dismiss(&branch).await;
        if let Some(open) = open {
            open.drained(None).await;
        }
    }
    *open.version.borrow_mut() = None;
    open.drained(Some(&mut writer)).await;
    let erased = writer.erase().await.map(|()| Answer::Done);
    shard.forget(&partition, State::Closed);
    let lock = partition.lock.borrow_mut().take();
    if let Some(path) = partition.target.path.clone() {
        // With an archive or foreign files left, it stays.
        let _ = shard.pages.disk().call(move || std::fs::remove_dir(path)).await?;
    }
    drop(lock);
    drop(opening);
    erased
}
