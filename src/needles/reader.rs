//! The reader's side: needles of any length from an exporter, over a client's sessions. One that is longer than a message
//! comes in parts and is held against its checksum here.

use std::collections::VecDeque;
use std::time::Duration;

use super::batch::{self, Builder, Row};
use super::{METHOD, METHOD_BATCH, read};
use crate::rpc::{Client, Header, Outgoing, Piece, Replied, Ticket};
use crate::status::{Error, Result, Status};
use crate::volume::checksum::{self, Sum};

/// Bytes of one part.
const PART: u64 = 4 << 20;

/// Parts on their way at a time.
const IN_FLIGHT: usize = 4;

/// What to read, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeedleRead<'a> {
    /// Such as `3,01637037d6`; also as in a URL.
    pub file_id: &'a str,
    /// What SeaweedFS gave out for this file id; empty: nothing.
    pub token: &'a str,
    /// [`read`] flags `LIVE` and `STORED`.
    pub flags: u32,
    /// Offset and length in bytes of a part, which goes as far as the data does; None: all of it.
    pub part: Option<(u64, u64)>,
}

/// What is known of a needle that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeedleInfo {
    /// Bytes of all stored data.
    pub data_length: u64,
    /// Unix seconds; 0 unknown.
    pub last_modified: u64,
    /// Bits 0–7 as SeaweedFS stores them, [`needle`](super::needle) flags.
    pub flags: u32,
}

/// Reads from one exporter. Any thread.
pub struct Reader<'a> {
    client: &'a Client,
    address: &'a str,
    timeout: Duration,
}

impl<'a> Reader<'a> {
    /// A reader of the exporter at `address`. Each call waits for `timeout` at most; zero is for ever.
    pub fn new(client: &'a Client, address: &'a str, timeout: Duration) -> Reader<'a> {
        Reader { client, address, timeout }
    }

    /// What is known of a needle, without its data. Errors: those of the exporter and of [`Client::call`].
    pub fn stat(&self, wanted: &NeedleRead<'_>) -> Result<Row> {
        let mut builder = Builder::new();
        let flags = wanted.flags & !read::RANGE | read::STAT;
        if !builder.add(&batch::text(wanted.file_id, wanted.token), 0, 0, flags) {
            return Err(Error::new(Status::InvalidArgument, "too long a file id"));
        }
        let (payload, header) = (builder.payload(), Header { len: 1, ..Header::default() });
        let replied =
            self.client.call(self.address, &self.call(METHOD_BATCH, header, &[Piece::bytes(&payload)]))?;
        answered(&replied)?;
        let bytes = replied.body.to_vec();
        let row = batch::rows(replied.header.len, &bytes, bytes.len() as u64)?[0];
        status(row.status.get())?;
        Ok(row)
    }

    /// Reads a needle or a part of it and gives its data to `sink`, in order. Long data is given out before all of it was
    /// checked: it is good when this returns so. Errors: those of the exporter, of [`Client::call`] and of `sink`; `Stale`:
    /// it was overwritten meanwhile, read it again.
    pub fn read(
        &self,
        wanted: &NeedleRead<'_>,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<NeedleInfo> {
        let range = if wanted.part.is_some() { read::RANGE } else { 0 };
        let (offset, len) = wanted.part.unwrap_or_default();
        let header = Header { offset, len, flags: wanted.flags | range, reserved: 0 };
        let text = batch::text(wanted.file_id, wanted.token);
        let replied =
            self.client.call(self.address, &self.call(METHOD, header, &[Piece::bytes(text.as_bytes())]))?;
        if replied.status == Status::Truncated as i32 {
            return self.read_long(wanted, &text, sink);
        }
        answered(&replied)?;
        sink(&replied.body.to_vec())?;
        let Header { offset: data_length, len: last_modified, flags, .. } = replied.header;
        Ok(NeedleInfo { data_length, last_modified, flags })
    }

    fn read_long(
        &self,
        wanted: &NeedleRead<'_>,
        text: &str,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<NeedleInfo> {
        let known = self.stat(wanted)?;
        let all = known.data_length.get();
        let (start, length) = wanted.part.unwrap_or((0, all));
        let end = start.saturating_add(length).min(all);
        let mut sum = Sum::new();
        let flags = wanted.flags | read::STORED | read::RANGE;
        self.read_parts(text, flags, &known, start..end, &mut |bytes| {
            sum.add(bytes);
            sink(bytes)
        })?;
        let same = match end - start == all {
            true => checksum::matches(known.checksum.get(), sum.value()),
            // Of a part no checksum is known: it is of this needle if that is there before and after.
            false => Row { generation: known.generation, ..self.stat(wanted)? } == known,
        };
        if !same {
            return Err(overwritten());
        }
        let (last_modified, flags) = (known.last_modified.get(), known.flags.get());
        Ok(NeedleInfo { data_length: all, last_modified, flags })
    }

    fn read_parts(
        &self,
        text: &str,
        flags: u32,
        known: &Row,
        range: std::ops::Range<u64>,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let pieces = &[Piece::bytes(text.as_bytes())];
        let (mut at, mut step) = (range.start, PART);
        let mut next = at;
        let mut tickets: VecDeque<(Ticket<'_>, u64)> = VecDeque::new();
        while at < range.end {
            while tickets.len() < IN_FLIGHT && next < range.end {
                let len = step.min(range.end - next);
                let header = Header { offset: next, len, flags, reserved: 0 };
                tickets
                    .push_back((self.client.start(self.address, &self.call(METHOD, header, pieces))?, len));
                next += len;
            }
            let Some((ticket, len)) = tickets.pop_front() else { return Err(Status::Internal.into()) };
            let replied = ticket.wait()?;
            if replied.status == Status::Truncated as i32 && len > 1 {
                // The exporter's messages are shorter than that.
                tickets.clear();
                (step, next) = (len / 2, at);
                continue;
            }
            let alike = (replied.header.offset, replied.header.len)
                == (known.data_length.get(), known.last_modified.get());
            if replied.status == Status::OutOfRange as i32 || replied.status == 0 && !alike {
                return Err(overwritten());
            }
            answered(&replied)?;
            let bytes = replied.body.to_vec();
            if bytes.len() as u64 != len {
                return Err(overwritten());
            }
            sink(&bytes)?;
            at += len;
        }
        Ok(())
    }

    fn call<'b>(&self, method: u32, header: Header, pieces: &'b [Piece<'b>]) -> Outgoing<'b> {
        Outgoing { method, header, pieces, timeout: self.timeout, reply: None }
    }
}

fn overwritten() -> Error {
    Error::new(Status::Stale, "the needle was overwritten while it was read: read it again")
}

/// The exporter's own status as an error.
fn answered(replied: &Replied) -> Result<()> {
    status(replied.status)
}

fn status(number: i32) -> Result<()> {
    match Status::from_i32(number) {
        Some(Status::Ok) => Ok(()),
        Some(status) => Err(status.into()),
        None => Err(Error::new(Status::Protocol, format!("the exporter answered with status {number}"))),
    }
}
