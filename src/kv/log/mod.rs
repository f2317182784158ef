//! A write log before a partition's pages: a batch is safe once it is in the log, and its pages are written later, together with
//! those of many others. What the log holds counts before what the pages hold.
//!
//! [`record`] is what stands in its files, [`pending`] what is kept of them in memory, [`values`] reads them back,
//! [`overlay`] reads a range of log and pages together. A log's files are merged into the pages oldest first, and go.

pub mod overlay;
pub mod pending;
pub mod record;
pub mod values;

use super::batch::{Action, Batch, Op};
use super::damage::{Damage, corrupted};
use super::names::FileName;
use super::options::ALIGNMENT;
use super::sink::Sink;
use crate::status::{Error, Result, Status};
use pending::{Key, Meeting, Pending, Slot, merged};
use record::{FIRST, Head, Logged};
use std::cell::{Cell, Ref, RefCell};
use std::ops::Bound;
use std::rc::Rc;

/// Bytes of a log's file, after which the next one is begun.
const FILE: u64 = 64 << 20;
/// Files that it may have however short they are.
const FILES: u64 = 64;
/// Bytes of a record at most; longer batches go to the pages at once.
pub const RECORD: usize = 16 << 20;
/// Bytes that are written at once: a shard has memory for so many.
const PIECE: usize = 128 << 10;
/// Keys and bytes that are merged in one commit.
const KEYS: usize = 1 << 14;
const BYTES: usize = 1 << 20;

/// Numbers of the log files that there are, ascending.
pub async fn numbers(sink: &impl Sink) -> Result<Vec<u64>> {
    let numbers = sink.names().await?.into_iter().filter_map(|file| match file {
        FileName::Log { number } => Some(number),
        _ => None,
    });
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// One file of a log.
#[derive(Debug)]
pub struct Layer {
    head: Head,
    /// Where the next record begins.
    end: Cell<u64>,
    pending: RefCell<Pending>,
}

impl Layer {
    fn file(&self) -> FileName {
        FileName::Log { number: self.head.number }
    }

    /// Bytes of its file.
    pub fn bytes(&self) -> u64 {
        self.end.get()
    }
}

/// The last change of a key, as a log has it. Its file stays as long as this does.
#[derive(Clone, Debug)]
pub struct Hit {
    layer: Rc<Layer>,
    slot: Slot,
}

/// The log of a partition. One task appends at a time, and one merges.
#[derive(Debug)]
pub struct Log<S> {
    sink: S,
    /// Oldest first.
    layers: RefCell<Vec<Rc<Layer>>>,
    /// Number of the next file.
    next: Cell<u64>,
    /// Whether the newest file takes more.
    open: Cell<bool>,
    /// An append, or removing a file, failed half-way: what is on disk is unknown until the log is opened again.
    unsure: Cell<bool>,
    /// Files that were forgotten and are not removed yet.
    leaving: Cell<usize>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is safe. So many of its changes are not older than others in the log.
    Safe(u64),
    /// It is none for a log: it goes to the pages once all that is here has been merged.
    Refused,
}

impl<S: Sink> Log<S> {
    /// The log whose files `sink` has; an empty one if there are none.
    pub async fn open(sink: S) -> Result<Log<S>> {
        let numbers = numbers(&sink).await?;
        Log::of(sink, numbers).await
    }

    /// The log whose files in `sink` have these numbers.
    pub async fn of(sink: S, numbers: Vec<u64>) -> Result<Log<S>> {
        let log = Log {
            sink,
            layers: RefCell::default(),
            next: Cell::new(numbers.first().copied().unwrap_or(0)),
            open: Cell::new(false),
            unsure: Cell::new(false),
            leaving: Cell::new(0),
        };
        for number in &numbers {
            log.replay(*number, Some(number) == numbers.last()).await?;
        }
        Ok(log)
    }

    /// Takes in a file that an earlier process has left.
    async fn replay(&self, number: u64, last: bool) -> Result<()> {
        let file = FileName::Log { number };
        let bytes = self.sink.contents(&file).await?.unwrap_or_default();
        let sound = |damage: Damage| damage.in_file(self.sink.describe(&file), 0);
        let Some(head) = record::head(&bytes, number).map_err(sound)? else {
            return self.sink.remove(&file).await;
        };
        // The oldest goes first, and the last of a file is whole before the next is begun.
        if number != self.next.get() {
            let missing = FileName::Log { number: self.next.get() };
            return Err(corrupted(
                self.sink.describe(&missing),
                0,
                "it is missing, and later changes are there",
            ));
        }
        let layer = Layer { head, end: Cell::new(FIRST), pending: RefCell::default() };
        let layer = Rc::new(layer);
        let mut records = record::records(&bytes, head);
        for record in &mut records {
            for entry in record.entries() {
                let (at, logged) = entry.map_err(sound)?;
                // Whatever others hold of its key: those that did not count were not written.
                self.note(&layer, logged.key, Slot::new(at, &logged), at)?;
            }
        }
        let end = records.end();
        layer.end.set(end);
        if record::torn(&bytes, head, end).map_err(sound)? {
            if !last {
                return Err(corrupted(
                    self.sink.describe(&file),
                    end,
                    "a record of the write log is damaged, and another file follows it",
                ));
            }
            // Or it would be taken for damage once another file follows.
            self.sink.cut(&file, end).await?;
            self.sink.sync(std::slice::from_ref(&file)).await?;
        }
        self.layers.borrow_mut().push(layer);
        self.next.set(number + 1);
        Ok(())
    }

    fn note(&self, layer: &Layer, key: &[u8], slot: Option<Slot>, at: u64) -> Result<()> {
        let slot = slot
            .ok_or_else(|| corrupted(self.sink.describe(&layer.file()), at, "the write log is too long"))?;
        layer.pending.borrow_mut().put(key, slot);
        Ok(())
    }

    /// What a change comes to beside those that are here.
    fn meeting(&self, key: &[u8], timestamp: u64, deletes: bool) -> Meeting {
        self.get(key).map_or(Meeting::Counts, |hit| hit.slot.meets(timestamp, deletes))
    }

    /// There is a log, and no manifest of the partition that it belongs to.
    pub fn without_manifest(&self) -> Error {
        let manifest = self.sink.describe(&FileName::main_manifest());
        corrupted(manifest, 0, "it is missing, and there is a write log")
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.layers.borrow().is_empty()
    }

    /// Whether the pages have everything, and no file is left of what they have.
    pub fn is_settled(&self) -> bool {
        self.is_empty() && self.leaving.get() == 0
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.layers.borrow().iter().map(|layer| layer.bytes()).sum()
    }

    /// Bytes of memory that it takes, about.
    pub fn memory(&self) -> usize {
        self.layers.borrow().iter().map(|layer| layer.pending.borrow().memory()).sum()
    }

    /// The last change of a key that is here.
    pub fn get(&self, key: &[u8]) -> Option<Hit> {
        self.layers.borrow().iter().rev().find_map(|layer| {
            let slot = layer.pending.borrow().get(key)?;
            Some(Hit { layer: layer.clone(), slot })
        })
    }

    /// Adds a batch, all or nothing, and returns once it is safe. Who calls has the turn to append.
    pub async fn append(&self, batch: &Batch, now_ms: u64) -> Result<Appended> {
        self.certain()?;
        let ops = batch.ops();
        let size: usize = ops.iter().map(|op| record::size(op.key.len(), op.action.value().len())).sum();
        let taken = |op: &Op| !matches!(op.action, Action::UpsertLarge { .. });
        if size > RECORD || !ops.iter().all(taken) || self.is_scattered() {
            return Ok(Appended::Refused);
        }
        let mut counted = Vec::with_capacity(ops.len());
        for op in ops {
            let deletes = Logged::of(op, now_ms).is_none_or(|logged| logged.value.is_none());
            match self.meeting(&op.key, op.timestamp, deletes) {
                Meeting::Unclear => return Ok(Appended::Refused),
                // Nobody may find it again once what it is older than has been merged.
                Meeting::Stale => {}
                Meeting::Counts => counted.push(op),
            }
        }
        if counted.is_empty() {
            return Ok(Appended::Safe(0));
        }
        let layer = self.newest().await?;
        let at = layer.end.get();
        let (mut bytes, mut slots) = (self.sink.take_run(), Vec::with_capacity(counted.len()));
        bytes.reserve_exact((size + record::HEAD).next_multiple_of(ALIGNMENT));
        let place = |at, logged: &Logged<'_>| slots.push(Slot::new(at, logged));
        let encoded = layer.head.record(&mut bytes, at, (&counted, now_ms), place);
        encoded.ok_or_else(|| Error::new(Status::Internal, "a batch is none for a log; please report it"))?;
        let written = self.write(&layer, at, &bytes).await;
        let end = at + bytes.len() as u64;
        self.sink.give_run(bytes);
        written?;
        layer.end.set(end);
        for (op, slot) in counted.iter().zip(slots) {
            self.note(&layer, &op.key, slot, at)?;
        }
        Ok(Appended::Safe(counted.len() as u64))
    }

    async fn write(&self, layer: &Layer, at: u64, bytes: &[u8]) -> Result<()> {
        let files = [layer.file()];
        let mut written = Ok(());
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            written = self.sink.write(&files[0], at + (i * PIECE) as u64, piece).await;
            if written.is_err() {
                break;
            }
        }
        // Writes may be under way also when one has failed.
        let synced = self.sink.sync(&files).await;
        let Err(error) = written.and(synced) else { return Ok(()) };
        // It was not acknowledged, and must not come back after others were.
        let cut = async {
            self.sink.cut(&files[0], at).await?;
            self.sink.sync(&files).await
        };
        self.unsure.set(cut.await.is_err());
        Err(error)
    }

    /// The file that takes the next record.
    async fn newest(&self) -> Result<Rc<Layer>> {
        let newest =
            self.layers.borrow().last().filter(|last| self.open.get() && last.bytes() < FILE).cloned();
        if let Some(layer) = newest {
            return Ok(layer);
        }
        let number = self.next.get();
        let salt = getrandom::u64()
            .map_err(|error| Error::new(Status::Io, format!("no random numbers: {error}")))?;
        let layer = Layer { head: Head { number, salt }, end: Cell::new(FIRST), pending: RefCell::default() };
        let file = layer.file();
        let made = match self.sink.write(&file, 0, &layer.head.encode()).await {
            Ok(()) => self.sink.sync(std::slice::from_ref(&file)).await,
            failed => failed,
        };
        if let Err(error) = made {
            // The next one has its number.
            self.unsure.set(self.sink.remove(&file).await.is_err());
            return Err(error);
        }
        self.next.set(number + 1);
        let layer = Rc::new(layer);
        self.layers.borrow_mut().push(layer.clone());
        self.open.set(true);
        Ok(layer)
    }

    /// Whether it is in more files than its length is worth: merging it has failed again and again.
    fn is_scattered(&self) -> bool {
        self.layers.borrow().len() as u64 > FILES + 2 * self.bytes() / FILE
    }

    fn certain(&self) -> Result<()> {
        match self.unsure.get() {
            true => Err(Error::new(
                Status::WrongState,
                "a write to the log failed: open the partition again to write to it",
            )),
            false => Ok(()),
        }
    }

    /// The files that there are, oldest first, to be merged: later changes go to other ones. Who calls has the turn to append.
    pub fn freeze(&self) -> Vec<Rc<Layer>> {
        self.open.set(false);
        self.layers.borrow().clone()
    }

    /// What was frozen could not be merged: the newest file takes more again, if it is still that.
    pub fn thaw(&self, layers: &[Rc<Layer>]) {
        let last = self.layers.borrow().last().cloned();
        if last.as_ref().zip(layers.last()).is_some_and(|(last, frozen)| Rc::ptr_eq(last, frozen)) {
            self.open.set(true);
        }
    }

    /// Hands `take` all changes of `layers` in the order of their keys, some at a time, to put them into the pages.
    pub async fn merge(
        &self,
        layers: &[Rc<Layer>],
        mut take: impl AsyncFnMut(&Batch) -> Result<()>,
    ) -> Result<()> {
        let mut after = Vec::new();
        while let Some(batch) = self.changes(layers, &after).await? {
            take(&batch).await?;
            if let Some(last) = batch.ops().last() {
                after.clone_from(&last.key);
            }
        }
        Ok(())
    }

    /// The next changes of `layers`, of keys after `after` (empty: all); None if there are no more.
    async fn changes(&self, layers: &[Rc<Layer>], after: &[u8]) -> Result<Option<Batch>> {
        self.certain()?;
        let mut hits: Vec<(Key, Hit)> = Vec::new();
        {
            let from = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
            let pendings: Vec<Ref<'_, Pending>> = layers.iter().map(|layer| layer.pending.borrow()).collect();
            let pendings: Vec<&Pending> = pendings.iter().map(|pending| &**pending).collect();
            let mut bytes = 0;
            for (key, i, slot) in merged(&pendings, (from, Bound::Unbounded), false) {
                bytes += slot.size(key);
                if !hits.is_empty() && (hits.len() >= KEYS || bytes > BYTES) {
                    break;
                }
                hits.push((key.clone(), Hit { layer: layers[i].clone(), slot }));
            }
        }
        if hits.is_empty() {
            return Ok(None);
        }
        let mut actions = vec![Action::Delete; hits.len()];
        let live = hits.iter().enumerate().filter(|(_, (_, hit))| !hit.slot.deletes());
        let wanted = live.map(|(i, (key, hit))| (i, key.as_slice(), hit)).collect();
        self.read(wanted, |i, logged| {
            let value = logged.value.unwrap_or_default().to_vec();
            actions[i] = Action::Upsert { value, expire_ms: logged.expire_ms };
        })
        .await?;
        let ops = hits.into_iter().zip(actions).map(|((key, hit), action)| Op {
            key: key.into_vec(),
            action,
            timestamp: hit.slot.timestamp,
        });
        Ok(Some(Batch::of_known(ops.collect())))
    }

    /// The pages have all that `layers`, the oldest ones, hold: nobody finds them here any more.
    pub fn forget(&self, layers: &[Rc<Layer>]) {
        self.leaving.set(layers.len());
        self.layers.borrow_mut().retain(|layer| !layers.iter().any(|gone| Rc::ptr_eq(gone, layer)));
    }

    /// Whether somebody may still read what was forgotten.
    pub fn is_read(layers: &[Rc<Layer>]) -> bool {
        layers.iter().any(|layer| Rc::strong_count(layer) > 1)
    }

    /// Removes the files of what was forgotten, oldest first.
    pub async fn remove(&self, layers: Vec<Rc<Layer>>) -> Result<()> {
        for layer in layers {
            let removed = self.sink.remove(&layer.file()).await;
            // What is merged later must not meet it again.
            self.unsure.set(self.unsure.get() || removed.is_err());
            removed?;
            self.leaving.set(self.leaving.get().saturating_sub(1));
        }
        Ok(())
    }
}
