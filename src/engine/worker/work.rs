//! A request after its arguments were checked and its handles resolved: what crosses to the worker.

use std::sync::Arc;

use crate::engine::buffer::Span;
use crate::engine::file::FileRange;
use crate::engine::handle;
use crate::engine::region::Region;
use crate::engine::request::{Op, REQUEST_CHECKSUM, REQUEST_VECTORED, Request, Segment};
use crate::engine::session::Session;
use crate::limits;
use crate::status::Status;
use zerocopy::FromBytes;

/// Local memory of an operation.
#[derive(Default)]
pub(in crate::engine) enum Local {
    /// None.
    #[default]
    None,
    /// Registered memory; a counted reference, so that releasing the buffer waits for the operation.
    Span(Span),
    /// A short message, copied at submit.
    Inline(Short),
    /// A longer message without a buffer, copied at submit.
    Copied(Box<[u8]>),
    /// Several pieces that go out as one payload.
    Gathered(Vec<Span>),
    /// A part of a file, sent from the page cache.
    File(FileRange),
}

impl Local {
    /// Bytes that were copied at submit.
    pub(in crate::engine) fn bytes(&self) -> &[u8] {
        match self {
            Local::Inline(short) => short.as_slice(),
            Local::Copied(bytes) => bytes,
            Local::None | Local::Span(_) | Local::Gathered(_) | Local::File(_) => &[],
        }
    }
}

/// Bytes of a short message.
pub(in crate::engine) struct Short {
    bytes: [u8; SHORT],
    len: u8,
}

/// Longest message kept without an allocation.
pub(in crate::engine) const SHORT: usize = 64;

impl Short {
    pub(in crate::engine) fn new(data: &[u8]) -> Short {
        let mut bytes = [0; SHORT];
        bytes[..data.len()].copy_from_slice(data);
        Short { bytes, len: data.len() as u8 }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A checked request.
pub(in crate::engine) struct Work {
    pub user_data: u64,
    pub op: Op,
    pub timeout_us: u32,
    pub session: Option<Arc<Session>>,
    pub region: Option<Arc<Region>>,
    pub region_offset: u64,
    pub local: Local,
    pub length: u64,
    pub segments: Option<Box<[Segment]>>,
    pub key: Option<Box<[u8; limits::KEY_BYTES]>>,
    pub operand: u64,
    pub compare: u64,
    pub call: Option<Box<super::call::Outgoing>>,
}

impl Work {
    /// Checks a request and resolves its handles. What it refuses was not accepted: there is no completion.
    pub fn prepare(worker: &super::Worker, request: &Request<'_>) -> Result<Work, Status> {
        let op = Op::requested(request.op).ok_or(Status::InvalidArgument)?;
        let is_call = matches!(op, Op::Call | Op::OneWay);
        let data = if is_call { Some(&[][..]) } else { request.data.get() };
        let data = data.ok_or(Status::InvalidArgument)?;
        let vectored = request.flags & REQUEST_VECTORED != 0;
        let known = match op {
            Op::Get | Op::Put => REQUEST_VECTORED,
            Op::Call => REQUEST_CHECKSUM,
            _ => 0,
        };
        if request.flags & !known != 0 {
            return Err(Status::InvalidArgument);
        }
        let mut work = Work {
            user_data: request.user_data,
            op,
            timeout_us: request.timeout_us,
            session: None,
            region: None,
            region_offset: request.region_offset,
            local: Local::None,
            length: request.length,
            segments: None,
            key: None,
            operand: request.operand,
            compare: request.compare,
            call: None,
        };
        if op == Op::Nop {
            return Ok(work);
        }
        let session = handle::SESSIONS.get(request.session).ok_or(Status::StaleHandle)?;
        if !session.belongs_to(worker) {
            return Err(Status::InvalidArgument);
        }
        match op {
            Op::Get | Op::Put => work.one_sided(request, vectored, data)?,
            Op::FetchAdd | Op::CompareSwap => work.region = Some(region(request.region)?),
            Op::Send => work.message(worker, request, data)?,
            Op::Call | Op::OneWay => work.call(worker, request)?,
            Op::RegionImport => {
                let key = <[u8; limits::KEY_BYTES]>::try_from(data).map_err(|_| Status::InvalidArgument)?;
                work.key = Some(Box::new(key));
            }
            _ => {}
        }
        work.session = Some(session.arc());
        Ok(work)
    }

    fn one_sided(&mut self, request: &Request<'_>, vectored: bool, data: &[u8]) -> Result<(), Status> {
        self.region = Some(region(request.region)?);
        if !vectored {
            if !data.is_empty() {
                return Err(Status::InvalidArgument);
            }
            self.local = Local::Span(span(request.buffer, request.buffer_offset, request.length)?);
            return Ok(());
        }
        let segments = segments(data)?;
        let whole = handle::BUFFERS.get(request.buffer).ok_or(Status::StaleHandle)?.arc().whole()?;
        let mut length = 0u64;
        for segment in &segments {
            whole.slice(segment.buffer_offset, segment.length)?;
            length = length.checked_add(segment.length).ok_or(Status::OutOfRange)?;
        }
        self.length = length;
        self.local = Local::Span(whole);
        self.segments = Some(segments);
        Ok(())
    }

    fn message(&mut self, worker: &super::Worker, request: &Request<'_>, data: &[u8]) -> Result<(), Status> {
        if request.buffer != 0 {
            if !data.is_empty() {
                return Err(Status::InvalidArgument);
            }
            self.local = Local::Span(span(request.buffer, request.buffer_offset, request.length)?);
        } else {
            if request.length != data.len() as u64 && request.length != 0 {
                return Err(Status::InvalidArgument);
            }
            self.length = data.len() as u64;
            self.local = if data.len() <= SHORT {
                Local::Inline(Short::new(data))
            } else if data.len() <= limits::COPIED_MESSAGE {
                Local::Copied(data.into())
            } else {
                return Err(Status::InvalidArgument);
            };
        }
        if self.length > worker.context().options().max_message { Err(Status::OutOfRange) } else { Ok(()) }
    }
}

fn region(id: u64) -> Result<Arc<Region>, Status> {
    Ok(handle::REGIONS.get(id).ok_or(Status::StaleHandle)?.arc())
}

pub(super) fn span(buffer: u64, offset: u64, length: u64) -> Result<Span, Status> {
    handle::BUFFERS.get(buffer).ok_or(Status::StaleHandle)?.arc().span(offset, length)
}

fn segments(data: &[u8]) -> Result<Box<[Segment]>, Status> {
    if data.is_empty() || data.len() > limits::SEGMENTS * size_of::<Segment>() {
        return Err(Status::InvalidArgument);
    }
    let mut segments = Vec::with_capacity(data.len() / size_of::<Segment>());
    let mut rest = data;
    while !rest.is_empty() {
        let (segment, tail) = Segment::read_from_prefix(rest).map_err(|_| Status::InvalidArgument)?;
        segments.push(segment);
        rest = tail;
    }
    Ok(segments.into())
}
