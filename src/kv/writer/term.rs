//! A writer over an object store: before its first change, and after a commit whose end is unknown, it takes a new term
//! and goes on from the newest manifest there is.

use super::super::branch::Branches;
use super::super::names::FileName;
use super::super::sink::Sink;
use super::super::space::{Room, after_file};
use super::{Manifest, Writer};
use crate::status::{Error, Result, Status};

impl<S: Sink> Writer<S> {
    /// Whether this can change the partition now; over an object store it is made so.
    pub async fn ready(&mut self) -> Result<()> {
        let spent = match self.sink.remote() {
            Some(remote) => self.unsure || remote.is_spent(),
            None => return self.certain(),
        };
        if spent {
            self.unsure = true;
            self.begin_term().await?;
            self.unsure = false;
        }
        Ok(())
    }

    /// An error if somebody else writes to the partition meanwhile.
    pub(in super::super) async fn still_ours(&self) -> Result<()> {
        match self.sink.remote() {
            Some(remote) => self.sink.answer(remote.verify()).await,
            None => Ok(()),
        }
    }

    /// Takes the next term and adopts the newest manifest of the branch. Its files are left alone from now on: the
    /// first commit goes to files, and a manifest, of the new term.
    async fn begin_term(&mut self) -> Result<()> {
        let branch = self.manifest.branches.name.clone();
        let Some(remote) = self.sink.remote() else { return Ok(()) };
        let term = self.sink.answer(remote.term(&branch)).await?;
        let newest = self.sink.names().await?.into_iter().filter_map(|file| match file {
            FileName::Manifest { branch: name, term } if name == branch => Some(term),
            _ => None,
        });
        let mut next = match newest.max() {
            None => Manifest { branches: Branches::new(&branch, term), ..Manifest::empty() },
            Some(newest) if newest >= term => {
                // Most often another writer was here, and nobody has noticed yet.
                self.still_ours().await?;
                let what = format!(
                    "{branch} has a manifest of term {newest}, and CURRENT_TERM says {term} is the newest"
                );
                return Err(Error::new(Status::Corrupted, what));
            }
            Some(newest) => {
                let file = FileName::Manifest { branch: branch.clone(), term: newest };
                let bytes = self.sink.contents(&file).await?;
                let gone = || Error::new(Status::Stale, format!("{} is gone", self.sink.describe(&file)));
                let bytes = bytes.ok_or_else(gone)?;
                Manifest::replay(&bytes).map_err(|damage| damage.in_file(self.sink.describe(&file), 0))?
            }
        };
        let mut room = Room::load(&next, &self.options);
        if next.tail > 0 {
            let (data, segments) = (self.options.pages_per_file_shift, self.options.segments_per_file_shift);
            let last = (next.end.saturating_sub(1) >> data, room.segment_end.saturating_sub(1) >> segments);
            // Until now the files that no range covers were the branch's own.
            next.branches.extend(last.0, last.1);
            next.branches.term = term;
            room.space.skip(after_file(last.0, data));
            room.segment_end = after_file(last.1, segments);
        }
        self.file = FileName::Manifest { branch, term };
        self.fresh = true;
        self.replace_state(next, room);
        Ok(())
    }
}
