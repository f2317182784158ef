//! Calls whose bytes are not in the page cache: they are read ahead, many at a time, and the calls are served when they are
//! there.

use super::ask::Ask;
use super::batch;
use super::placed::Target;
use super::serve::{AT_ONCE, Needles, payload};
use super::{METHOD, PLACE, read};
use crate::io::readahead::{Queue, Range};
use crate::rpc::{Call, Resume};
use crate::status::{Error, Result, Status};
use crate::volume::Location;

/// Bytes of a record that are read in one piece even if a part is wanted: what is between costs less than another read.
const TOGETHER: u64 = 64 << 10;

/// Bytes before a record's end that have all that follows the data: most needles' metadata is below 300 bytes.
const TAIL: u64 = 1 << 10;

impl Needles {
    /// Has a call's bytes read ahead, and served then; it comes back when they are not what it waits for.
    pub fn prepare(&self, ahead: &Queue, call: Call, resume: Resume) -> Option<Call> {
        let needed = match call.method() {
            METHOD => self.needed_by_one(&call),
            _ => self.needed_by_many(&call),
        };
        match needed {
            Ok(ranges) if !ranges.is_empty() => {
                // Whoever drops what was to be run drops the call, which answers it.
                if let Err(then) = ahead.put(ranges, Box::new(move || resume(call))) {
                    then();
                }
                None
            }
            _ => Some(call),
        }
    }

    fn needed_by_one(&self, call: &Call) -> Result<Vec<Range>> {
        let (ask, _) = self.asked(call)?;
        let location = self.directory.volume(ask.id.volume, false)?.locate(ask.id, &ask.options(false))?;
        let mut ranges = Vec::new();
        match ask.room(location.size()) <= AT_ONCE {
            true => needed(&location, &ask, &mut ranges)?,
            false => return Err(Status::NotReady.into()),
        }
        Ok(ranges)
    }

    fn needed_by_many(&self, call: &Call) -> Result<Vec<Range>> {
        let asked = call.header();
        let payload = payload(call, batch::PAYLOAD + PLACE)?;
        let (payload, _) = Target::split(&self.lent, call.session().id(), &payload, asked.flags)?;
        let (mut ranges, mut views, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (entry, text) in batch::reads(asked.len, payload)? {
            match self.find(&entry, text, &mut views, false) {
                Ok(found) => {
                    bytes += found.ask.room(found.location.size());
                    needed(&found.location, &found.ask, &mut ranges)?;
                }
                Err(error) if error.status == Status::NotReady => return Err(error),
                // Its row says so.
                Err(_) => {}
            }
        }
        if bytes > AT_ONCE { Err(Status::NotReady.into()) } else { Ok(ranges) }
    }
}

/// The ranges of its file that a read looks at.
fn needed(location: &Location, ask: &Ask, ranges: &mut Vec<Range>) -> Result<()> {
    let file = || location.file().try_clone_to_owned().map_err(|error| Error::os("dup", &error));
    let (start, length) = (location.offset(), location.length());
    if ask.flags & (read::STAT | read::RANGE) == 0 || length <= TOGETHER {
        ranges.push(Range { file: file()?, offset: start, length });
        return Ok(());
    }
    let front = location.front_length() as u64;
    ranges.push(Range { file: file()?, offset: start, length: front });
    ranges.push(Range { file: file()?, offset: start + length.saturating_sub(TAIL), length: TAIL });
    if ask.flags & read::STAT == 0 {
        let length = ask.room(location.size()).min(length.saturating_sub(ask.offset));
        ranges.push(Range { file: file()?, offset: start.saturating_add(front + ask.offset), length });
    }
    Ok(())
}
