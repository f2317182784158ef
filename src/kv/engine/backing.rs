//! What a partition is kept in: a directory, or memory.

use super::bytes::Bytes;
use super::files::Files;
use super::memory::Memory;
use crate::kv::names::FileName;
use crate::kv::sink::Sink;
use crate::kv::source::{Place, Source};
use crate::kv::tier::Remote;
use crate::kv::tier::ticket::Ticket;
use crate::status::{Error, Result};

/// A directory, or memory. Clones are the same one.
#[derive(Clone, Debug)]
pub enum Backing {
    /// A directory.
    Disk(Files),
    /// Memory.
    Memory(Memory),
}

macro_rules! either {
    ($self:ident, $it:ident => $do:expr) => {
        match $self {
            Backing::Disk($it) => $do,
            Backing::Memory($it) => $do,
        }
    };
}

impl Backing {
    /// Whether a second attempt may end otherwise: what a cache lacked or had damaged was fetched anew.
    async fn mends(&self, file: &FileName, error: &Error) -> Result<bool> {
        match self {
            Backing::Disk(files) => files.mends(file, error).await,
            Backing::Memory(_) => Ok(false),
        }
    }
}

impl Source for Backing {
    type Bytes = Bytes;

    async fn read(&self, file: &FileName, offset: u64, len: usize) -> Result<Bytes> {
        match either!(self, it => it.read(file, offset, len).await) {
            Err(error) if self.mends(file, &error).await? => {
                either!(self, it => it.read(file, offset, len).await)
            }
            result => result,
        }
    }

    fn describe(&self, file: &FileName) -> String {
        either!(self, it => it.describe(file))
    }

    async fn page(&self, place: &Place<'_>) -> Result<Bytes> {
        match either!(self, it => it.page(place).await) {
            Err(error) if self.mends(&place.file(), &error).await? => {
                either!(self, it => it.page(place).await)
            }
            result => result,
        }
    }

    fn expect(&self, place: &Place<'_>) {
        either!(self, it => it.expect(place));
    }

    fn expect_last(&self, place: &Place<'_>) {
        either!(self, it => it.expect_last(place));
    }

    fn expect_all(&self, places: &[Place<'_>]) -> usize {
        either!(self, it => it.expect_all(places))
    }
}

impl Sink for Backing {
    async fn write(&self, file: &FileName, offset: u64, bytes: &[u8]) -> Result<()> {
        either!(self, it => it.write(file, offset, bytes).await)
    }

    fn take_run(&self) -> Vec<u8> {
        either!(self, it => it.take_run())
    }

    fn give_run(&self, run: Vec<u8>) {
        either!(self, it => it.give_run(run));
    }

    fn forget(&self, pages: &[u64]) {
        either!(self, it => it.forget(pages));
    }

    async fn sync(&self, files: &[FileName]) -> Result<()> {
        either!(self, it => it.sync(files).await)
    }

    async fn replace(&self, file: &FileName, bytes: &[u8]) -> Result<()> {
        either!(self, it => it.replace(file, bytes).await)
    }

    async fn exists(&self, file: &FileName) -> Result<bool> {
        either!(self, it => it.exists(file).await)
    }

    async fn remove(&self, file: &FileName) -> Result<()> {
        either!(self, it => it.remove(file).await)
    }

    async fn cut(&self, file: &FileName, len: u64) -> Result<()> {
        either!(self, it => it.cut(file, len).await)
    }

    async fn names(&self) -> Result<Vec<FileName>> {
        either!(self, it => it.names().await)
    }

    async fn contents(&self, file: &FileName) -> Result<Option<Vec<u8>>> {
        either!(self, it => it.contents(file).await)
    }

    fn remote(&self) -> Option<&Remote> {
        either!(self, it => it.remote())
    }

    async fn answer<T>(&self, ticket: Ticket<T>) -> Result<T> {
        either!(self, it => it.answer(ticket).await)
    }
}
