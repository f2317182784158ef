//! Reads for others: what is in the page cache in the thread that took the call, what would wait for the disk in the pool.
//! Bytes go from the file into registered memory, are checked there, and are sent from there.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use rustix::fs::{Advice, fadvise};
use zerocopy::IntoBytes;

use super::ask::Ask;
use super::batch::{self, ROW, Row};
use super::directory::Directory;
use super::placed::{Put, Target};
use super::token::ReadKey;
use super::{FILE_ID, PLACE, needle, read};
use crate::engine::context::Context;
use crate::engine::draft::Draft;
use crate::engine::file::FileRange;
use crate::rpc::{Answer, Call, Header, Lent, Part};
use crate::status::{Error, Result, Status};
use crate::volume::{Location, Needle, Read, ReadOptions, View, Volume};

/// Bytes that are read in the thread that all callers share: a tenth of a millisecond. Longer reads go to the pool, several at a time.
pub(super) const AT_ONCE: u64 = 512 << 10;

/// Less is read and sent in less time than it takes to ask whether the page cache has it.
const FILE_LEAST: u64 = 64 << 10;

/// The data in an answer to a batch begin at multiples of this.
const ALIGN: usize = 8;

pub(super) struct Needles {
    pub context: Arc<Context>,
    pub directory: Arc<Directory>,
    pub key: Option<ReadKey>,
    /// Memory for answers.
    pub lent: Arc<Lent>,
}

/// A read of a batch with its place in a volume.
pub(super) struct Found {
    pub ask: Ask,
    volume: Arc<Volume>,
    pub location: Location,
}

/// How an answer for one gets to its caller.
enum Way {
    /// Read into registered memory, and checked there.
    Memory,
    /// To his place.
    Place(Target),
    /// From the page cache, if it has all of it, and he checks what is whole.
    File,
}

/// What a batch is going to answer to one of its reads.
enum Planned {
    Row(Row),
    /// With room for its data, in bytes.
    Read(Found, usize),
}

impl Needles {
    /// Answers a call for one needle. None: it would have to `wait` for the disk, and may not.
    pub fn one(&self, call: &Call, wait: bool) -> Option<Answer> {
        finished(self.read_one(call, wait))
    }

    /// Answers a call for many.
    pub fn many(&self, call: &Call, wait: bool) -> Option<Answer> {
        finished(self.read_many(call, wait))
    }

    /// What a call for one needle asks for, and where it wants it.
    pub(super) fn asked(&self, call: &Call) -> Result<(Ask, Option<Target>)> {
        let header = call.header();
        let payload = payload(call, FILE_ID + PLACE)?;
        let (text, target) = Target::split(&self.lent, call.session().id(), &payload, header.flags)?;
        let flags = header.flags & !(read::PLACED | read::UNCHECKED);
        Ok((Ask::new(text, header.offset, header.len, flags, self.key.as_ref())?, target))
    }

    fn read_one(&self, call: &Call, wait: bool) -> Result<Answer> {
        let (ask, target) = self.asked(call)?;
        let unchecked = call.header().flags & read::UNCHECKED != 0;
        let way = match target {
            Some(target) => Way::Place(target),
            None if unchecked && call.session().link().is_some_and(|link| link.takes_files()) => Way::File,
            None => Way::Memory,
        };
        let options = ask.options(wait);
        let volume = self.directory.volume(ask.id.volume, wait)?;
        let mut location = self.noticed(&volume, volume.locate(ask.id, &options))?;
        loop {
            match self.read_at(&location, &ask, &way, &options) {
                Err(error) => location = volume.retry(&location, error, &options)?,
                done => return done,
            }
        }
    }

    fn read_at(&self, location: &Location, ask: &Ask, way: &Way, options: &ReadOptions) -> Result<Answer> {
        let (room, longest) = (ask.room(location.size()), self.context.options().max_message);
        if matches!(way, Way::File)
            && room >= FILE_LEAST
            && let Some(answer) = cached(location, ask, options, longest)?
        {
            return Ok(answer);
        }
        if !options.wait && room > AT_ONCE {
            return Err(Status::NotReady.into());
        }
        if let Way::Place(target) = way
            && let Some(put) = target.read(0, ask, location, options)?
        {
            return Ok(Answer { status: 0, header: placed(&put), parts: vec![] });
        }
        if let Some(needle) = too_long(location, ask, options, longest)? {
            let header = header(&needle);
            return Ok(Answer { status: Status::Truncated as i32, header, parts: vec![] });
        }
        let mut draft = Draft::new(&self.context, room.min(longest))?;
        let Read { length, needle } = ask.read(location, draft.bytes(), options)?;
        let parts = match length {
            0 => vec![],
            _ => vec![Part::Draft { draft, length }],
        };
        Ok(Answer { status: 0, header: header(&needle), parts })
    }

    fn read_many(&self, call: &Call, wait: bool) -> Result<Answer> {
        let asked = call.header();
        if asked.flags & !(read::PLACED | read::UNCHECKED) != 0 {
            return Err(Error::new(Status::InvalidArgument, "a batch has no such flags; its reads have"));
        }
        let payload = payload(call, batch::PAYLOAD + PLACE)?;
        let (payload, target) = Target::split(&self.lent, call.session().id(), &payload, asked.flags)?;
        let reads = batch::reads(asked.len, payload)?;
        if let Some(target) = target.filter(|target| target.len() >= ROW as u64) {
            return self.place_many(&reads, &target, wait);
        }
        let longest = self.context.options().max_message;
        let longest = if asked.offset == 0 { longest } else { longest.min(asked.offset) };
        if longest < ROW as u64 {
            return Err(Error::new(
                Status::InvalidArgument,
                "an answer of that length has no room for a row",
            ));
        }
        let (plan, bytes) = self.plan(&reads, longest, wait)?;
        let mut draft = Draft::new(&self.context, bytes as u64)?;
        let length = fill(&plan, draft.bytes(), wait)?;
        let header = Header { len: plan.len() as u64, ..Header::default() };
        Ok(Answer { status: 0, header, parts: vec![Part::Draft { draft, length }] })
    }

    /// The same to a place of the caller's: the same bytes, from its start on.
    fn place_many(&self, reads: &[(batch::Entry, &[u8])], target: &Target, wait: bool) -> Result<Answer> {
        let (plan, _) = self.plan(reads, target.len(), wait)?;
        let mut rows = Vec::with_capacity(plan.len());
        let mut at = plan.len() * ROW;
        for planned in &plan {
            rows.push(match planned {
                Planned::Row(row) => *row,
                Planned::Read(found, _) => match found.place(target, at as u64, wait) {
                    Ok(put) => {
                        let start = at;
                        at = (start + put.length as usize).next_multiple_of(ALIGN);
                        placed_row(&put, start)
                    }
                    Err(error) if error.status == Status::NotReady => return Err(error),
                    Err(error) => failed(&error),
                },
            });
        }
        target.put(0, rows.as_bytes())?;
        let (offset, len) = (target.len().min(at as u64), plan.len() as u64);
        let header = Header { offset, len, flags: needle::PLACED, ..Header::default() };
        Ok(Answer { status: 0, header, parts: vec![] })
    }

    /// Looks up as many of the first reads as fit into `longest` bytes; also the bytes that they take at most.
    fn plan(
        &self,
        reads: &[(batch::Entry, &[u8])],
        longest: u64,
        wait: bool,
    ) -> Result<(Vec<Planned>, usize)> {
        let (mut plan, mut views) = (Vec::with_capacity(reads.len()), Vec::new());
        let (mut bytes, mut data) = (0, 0);
        for (entry, text) in reads {
            let planned = match self.find(entry, text, &mut views, wait) {
                Ok(found) => first_or_none(found, longest - bytes, plan.is_empty(), wait)?,
                Err(error) if error.status == Status::NotReady => return Err(error),
                Err(error) => Some(Planned::Row(failed(&error))),
            };
            let Some(planned) = planned else { break };
            let room = planned.room() as u64;
            let end = bytes + ROW as u64 + room;
            if end > longest {
                break;
            }
            (bytes, data) = (end, data + room);
            plan.push(planned);
        }
        if !wait && data > AT_ONCE {
            return Err(Status::NotReady.into());
        }
        if wait && plan.len() > 1 {
            plan.iter().for_each(Planned::announce);
        }
        Ok((plan, usize::try_from(bytes).unwrap_or(usize::MAX)))
    }

    /// Looks one read of a batch up; a volume is looked at once for all of them.
    pub(super) fn find(
        &self,
        entry: &batch::Entry,
        text: &[u8],
        views: &mut Vec<(Arc<Volume>, View)>,
        wait: bool,
    ) -> Result<Found> {
        let (offset, len) = (entry.offset.get(), entry.len.get());
        let ask = Ask::new(text, offset, len, entry.flags.get(), self.key.as_ref())?;
        let at = match views.iter().position(|(volume, _)| volume.id() == ask.id.volume) {
            Some(at) => at,
            None => {
                let volume = self.directory.volume(ask.id.volume, wait)?;
                let view = self.noticed(&volume, volume.view_as(wait))?;
                views.push((volume, view));
                views.len() - 1
            }
        };
        let (volume, view) = &views[at];
        Ok(Found { location: view.locate(ask.id, &ask.options(wait))?, ask, volume: volume.clone() })
    }

    /// Lets go of a volume whose files turn out to be gone.
    fn noticed<T>(&self, volume: &Arc<Volume>, result: Result<T>) -> Result<T> {
        if result.as_ref().is_err_and(|error| error.status == Status::NotFound) && volume.info().is_none() {
            self.directory.forget(volume);
        }
        result
    }
}

/// A call's payload, of at most so many bytes.
pub(super) fn payload(call: &Call, longest: usize) -> Result<Cow<'_, [u8]>> {
    if call.len() > longest {
        return Err(Error::new(Status::InvalidArgument, format!("a payload is at most {longest} bytes")));
    }
    Ok(call.bytes().map_or_else(|| Cow::Owned(call.to_vec()), Cow::Borrowed))
}

fn finished(result: Result<Answer>) -> Option<Answer> {
    match result {
        Ok(answer) => Some(answer),
        Err(error) if error.status == Status::NotReady => None,
        Err(error) => Some(Answer::status(told(&error) as i32)),
    }
}

/// What a peer is told of an error.
fn told(error: &Error) -> Status {
    tracing::debug!(%error, "a needle was not served");
    // A peer can try again; that this side is short of memory is not its fault.
    if error.status == Status::OutOfMemory { Status::Busy } else { error.status }
}

fn failed(error: &Error) -> Row {
    Row { status: (told(error) as i32).into(), ..Row::default() }
}

fn flags(needle: &Needle) -> u32 {
    u32::from(needle.flags.0) | if needle.deleted { needle::DELETED } else { 0 }
}

fn header(needle: &Needle) -> Header {
    Header {
        offset: needle.data_length.into(),
        len: needle.last_modified.unwrap_or(0),
        flags: flags(needle),
        reserved: 0,
    }
}

/// An answer that goes from the page cache as it is. None: that has not all of it, or it is too long or has no data.
fn cached(location: &Location, ask: &Ask, options: &ReadOptions, longest: u64) -> Result<Option<Answer>> {
    let needle = location.stat(options)?;
    let range = ask.range(&needle, options)?;
    let length = u64::from(range.end - range.start);
    let file = FileRange::new(location.kept_file(), location.data_at() + u64::from(range.start), length);
    if length > longest || !file.is_cached() {
        return Ok(None);
    }
    let mut header = header(&needle);
    if range.len() == needle.data_length as usize {
        header.flags |= needle::UNCHECKED;
        header.offset |= u64::from(needle.checksum) << 32;
    }
    Ok(Some(Answer { status: 0, header, parts: vec![Part::File(file)] }))
}

/// The header of an answer whose data is at its place.
fn placed(put: &Put) -> Header {
    let mut header = header(&put.needle);
    header.flags |= needle::PLACED;
    header
}

fn placed_row(put: &Put, start: usize) -> Row {
    row(Status::Ok, &put.needle, start..start + put.length as usize)
}

fn row(status: Status, needle: &Needle, data: Range<usize>) -> Row {
    Row {
        status: (status as i32).into(),
        flags: flags(needle).into(),
        data_length: u64::from(needle.data_length).into(),
        last_modified: needle.last_modified.unwrap_or(0).into(),
        append_at_ns: needle.append_at_ns.into(),
        generation: needle.generation.into(),
        checksum: needle.checksum.into(),
        reserved: 0.into(),
        offset: (data.start as u64).into(),
        length: (data.len() as u64).into(),
    }
}

/// The needle, when what is asked of it is longer than `longest` bytes. A record is longer than its data: where that could
/// make the difference, it is looked at.
fn too_long(location: &Location, ask: &Ask, options: &ReadOptions, longest: u64) -> Result<Option<Needle>> {
    if ask.room(location.size()) <= longest {
        return Ok(None);
    }
    let needle = location.stat(options)?;
    if ask.flags & read::RANGE != 0 {
        needle.range(ask.offset, usize::try_from(ask.len).unwrap_or(usize::MAX), options)?;
    }
    Ok((ask.room(needle.data_length) > longest).then_some(needle))
}

/// What to do with a read that was found, when there are `left` bytes for it. None: it does not fit behind others.
fn first_or_none(found: Found, left: u64, first: bool, wait: bool) -> Result<Option<Planned>> {
    let room = found.ask.room(found.location.size()).next_multiple_of(ALIGN as u64);
    let left = left.saturating_sub(ROW as u64);
    if room <= left {
        return Ok(Some(Planned::Read(found, room as usize)));
    }
    if !first {
        return Ok(None);
    }
    if !wait {
        return Err(Status::NotReady.into());
    }
    let options = found.ask.options(wait);
    Ok(Some(match too_long(&found.location, &found.ask, &options, left) {
        Ok(None) => Planned::Read(found, left as usize),
        Ok(Some(needle)) => Planned::Row(row(Status::Truncated, &needle, 0..0)),
        Err(error) => Planned::Row(failed(&error)),
    }))
}

/// Reads what was planned, behind the rows; how many bytes of `answer` are used.
fn fill(plan: &[Planned], answer: &mut [u8], wait: bool) -> Result<usize> {
    let (table, data) = answer.split_at_mut(plan.len() * ROW);
    let (table_length, mut at) = (table.len(), 0);
    for (planned, place) in plan.iter().zip(table.chunks_exact_mut(ROW)) {
        let row = match planned {
            Planned::Row(row) => *row,
            Planned::Read(found, room) => match found.read(&mut data[at..at + room], wait) {
                Ok(Read { length, needle }) => {
                    let start = table_length + at;
                    let end = (at + length).next_multiple_of(ALIGN).min(data.len());
                    // What was there before is nobody's business.
                    data[at + length..end].fill(0);
                    at = end;
                    row(Status::Ok, &needle, start..start + length)
                }
                Err(error) if error.status == Status::NotReady => return Err(error),
                Err(error) => failed(&error),
            },
        };
        place.copy_from_slice(row.as_bytes());
    }
    Ok(table_length + at)
}

impl Planned {
    /// Bytes for its data.
    fn room(&self) -> usize {
        match self {
            Planned::Row(_) => 0,
            Planned::Read(_, room) => *room,
        }
    }

    /// Tells the kernel of a read that is to come, so that the disk works on all of a batch at once.
    fn announce(&self) {
        if let Planned::Read(Found { location, ask, .. }, room) = self
            && let Some(length) = std::num::NonZero::new(*room as u64 + location.front_length() as u64)
        {
            let start = location.offset() + if ask.flags & read::RANGE == 0 { 0 } else { ask.offset };
            // A hint: without it the read only takes longer.
            let _ = fadvise(location.file(), start, Some(length), Advice::WillNeed);
        }
    }
}

impl Found {
    fn read(&self, buffer: &mut [u8], wait: bool) -> Result<Read> {
        self.attempt(wait, |location, options| self.ask.read(location, buffer, options))
    }

    fn place(&self, target: &Target, at: u64, wait: bool) -> Result<Put> {
        self.attempt(wait, |location, options| {
            target.read(at, &self.ask, location, options)?.ok_or(Status::Truncated.into())
        })
    }

    fn attempt<T>(
        &self,
        wait: bool,
        mut read: impl FnMut(&Location, &ReadOptions) -> Result<T>,
    ) -> Result<T> {
        let options = self.ask.options(wait);
        let mut other = None;
        loop {
            let location = other.as_ref().unwrap_or(&self.location);
            match read(location, &options) {
                Err(error) if error.status == Status::Truncated => {
                    return Err(Error::new(Status::Stale, "a longer one has taken its place"));
                }
                Err(error) => other = Some(self.volume.retry(location, error, &options)?),
                done => return done,
            }
        }
    }
}

impl Ask {
    /// Does it, into a buffer that has room for it.
    pub(super) fn read(&self, location: &Location, buffer: &mut [u8], options: &ReadOptions) -> Result<Read> {
        match self.flags & (read::STAT | read::RANGE) {
            0 => location.read(buffer, options),
            read::RANGE => {
                let room = usize::try_from(self.len).unwrap_or(usize::MAX).min(buffer.len());
                location.read_range(self.offset, &mut buffer[..room], options)
            }
            _ => Ok(Read { length: 0, needle: location.stat(options)? }),
        }
    }
}
