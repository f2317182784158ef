//! Reads values back from a log's files.

use super::record::{FIRST, Logged};
use super::{Hit, Log};
use crate::kv::damage::corrupted;
use crate::kv::names::FileName;
use crate::kv::sink::Sink;
use crate::kv::tree::Found;
use crate::status::Result;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Bytes between two entries that are read with them, so that both come with one read.
const GAP: u64 = 16 << 10;
/// Bytes that are read at once, unless an entry is longer.
const STRETCH: u64 = 128 << 10;
/// Reads under way.
const READS: usize = 6;

/// An entry to be read: its number among those that were asked for, its key, and where it is.
type Wanted<'h> = (usize, &'h [u8], &'h Hit);

/// Entries that one read brings.
struct Stretch<'h> {
    file: FileName,
    from: u64,
    until: u64,
    entries: Vec<Wanted<'h>>,
}

impl Hit {
    /// Whether it counts beside what the pages have of its key.
    pub fn counts(&self, found: Option<&Found>) -> bool {
        found.is_none_or(|found| self.slot.timestamp >= found.timestamp)
    }

    /// Whether it deletes its key.
    pub fn deletes(&self) -> bool {
        self.slot.deletes()
    }

    /// Bytes of its value.
    pub fn value_len(&self) -> usize {
        self.slot.value_len()
    }
}

impl<S: Sink> Log<S> {
    /// What there is of `key`, of which the pages have `found` and the log `hit`.
    pub async fn over(&self, key: &[u8], found: Option<Found>, hit: &Hit) -> Result<Option<Found>> {
        if !hit.counts(found.as_ref()) {
            return Ok(found);
        }
        let mut value = None;
        if !hit.deletes() {
            self.read(vec![(0, key, hit)], |_, logged| value = Some(entry(logged))).await?;
        }
        Ok(value)
    }

    /// Reads the entries that are wanted, in any order.
    pub(super) async fn read<'h>(
        &self,
        wanted: Vec<Wanted<'h>>,
        mut take: impl FnMut(usize, &Logged<'_>),
    ) -> Result<()> {
        let mut stretches = stretches(wanted).into_iter();
        let mut under_way = VecDeque::new();
        loop {
            while under_way.len() < READS {
                let Some(stretch) = stretches.next() else { break };
                under_way.push_back(Read::Going(Box::pin(self.stretch(stretch))));
            }
            let Some((stretch, bytes)) = first(&mut under_way).await.transpose()? else { return Ok(()) };
            for (i, key, hit) in stretch.entries {
                let at = hit.slot.at();
                let rest = bytes.as_ref().get((at - stretch.from) as usize..).unwrap_or_default();
                let place = || self.sink.describe(&stretch.file);
                let logged = Logged::read(rest).map_err(|damage| damage.in_file(place(), at))?;
                if logged.key != key || logged.value.is_none() {
                    return Err(corrupted(place(), at, "the write log has another entry here than it had"));
                }
                take(i, &logged);
            }
        }
    }

    async fn stretch<'h>(&self, stretch: Stretch<'h>) -> Result<(Stretch<'h>, S::Bytes)> {
        let len = (stretch.until - stretch.from) as usize;
        let bytes = self.sink.read(&stretch.file, stretch.from, len).await?;
        Ok((stretch, bytes))
    }
}

/// An entry as reads return it.
pub(super) fn entry(logged: &Logged<'_>) -> Found {
    let (key, value) = (logged.key.to_vec(), logged.value.unwrap_or_default().to_vec());
    Found { key, value, timestamp: logged.timestamp, expire_ms: logged.expire_ms, large: None }
}

/// What is wanted, in few reads of whole blocks.
fn stretches(mut wanted: Vec<Wanted<'_>>) -> Vec<Stretch<'_>> {
    wanted.sort_by_key(|(_, _, hit)| (hit.layer.head.number, hit.slot.at()));
    let mut stretches: Vec<Stretch<'_>> = Vec::new();
    for (i, key, hit) in wanted {
        let (at, end) = (hit.slot.at(), hit.slot.at() + hit.slot.size(key) as u64);
        let (from, until) = (at / FIRST * FIRST, end.next_multiple_of(FIRST));
        let file = hit.layer.file();
        match stretches.last_mut() {
            Some(last) if last.file == file && from <= last.until + GAP && until - last.from <= STRETCH => {
                last.until = last.until.max(until);
                last.entries.push((i, key, hit));
            }
            _ => stretches.push(Stretch { file, from, until, entries: vec![(i, key, hit)] }),
        }
    }
    stretches
}

/// A read under way, or its result.
enum Read<'f, T> {
    Going(Pin<Box<dyn Future<Output = T> + 'f>>),
    Done(T),
}

/// The result of the first read, while all go on; None if there is none.
async fn first<T>(reads: &mut VecDeque<Read<'_, T>>) -> Option<T> {
    poll_fn(|context| {
        for read in reads.iter_mut() {
            if let Read::Going(future) = read
                && let Poll::Ready(done) = future.as_mut().poll(context)
            {
                *read = Read::Done(done);
            }
        }
        match reads.pop_front() {
            Some(Read::Done(done)) => Poll::Ready(Some(done)),
            Some(going) => {
                reads.push_front(going);
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    })
    .await
}
