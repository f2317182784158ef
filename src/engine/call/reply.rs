//! What a call is answered with, and payloads put together.

use std::time::Duration;

use super::piece::Source;
use super::{Header, Inbound, Kept, Piece};
use crate::engine::buffer::Span;
use crate::engine::context::Context;
use crate::engine::file::FileRange;
use crate::engine::handle;
use crate::engine::worker::{Local, SHORT, Short};
use crate::limits;
use crate::status::Status;

/// An answer of the service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reply<'a> {
    /// The service's status, in the caller's `Completion::detail`: 0, or an errno, or what they agreed on.
    pub status: i32,
    /// The service's header, in the caller's `Completion::data`.
    pub header: Header,
    /// Bytes, copied; and ranges of buffers, which are read until they are sent: release them, do not overwrite them.
    pub pieces: &'a [Piece<'a>],
    /// Instead of pieces: a part of a file, sent from the page cache, to callers whose link takes files.
    pub file: Option<&'a FileRange>,
}

impl Reply<'_> {
    /// The body, once everything is in order.
    pub(super) fn check(&self, context: &Context, call: &Inbound) -> Result<Local, Status> {
        if self.header.reserved != 0 {
            return Err(Status::InvalidArgument);
        }
        let (body, length) = match self.file {
            None => gather(context, self.pieces)?,
            Some(file) => (self.check_file(call, file)?, file.len()),
        };
        let longest =
            if call.once.is_some() { limits::KEPT_REPLY as u64 } else { context.options().max_message };
        if length > longest { Err(Status::OutOfRange) } else { Ok(body) }
    }

    fn check_file(&self, call: &Inbound, file: &FileRange) -> Result<Local, Status> {
        if !self.pieces.is_empty() || call.once.is_some() || file.is_empty() {
            return Err(Status::InvalidArgument);
        }
        if !call.session.link().is_some_and(|link| link.takes_files()) {
            return Err(Status::Unsupported);
        }
        Ok(Local::File(file.clone()))
    }
}

/// An answer on its way to the thread that sends it.
pub(in crate::engine) struct Answer {
    pub call: Box<Inbound>,
    /// The service's, or a [`Status`] of ours.
    pub status: i32,
    /// Whether the status is ours.
    pub refused: bool,
    /// Whether the service may have done something.
    pub ran: bool,
    pub retry_after: Duration,
    pub header: Header,
    pub body: Local,
}

impl Answer {
    pub(super) fn reply(call: Box<Inbound>, reply: &Reply<'_>, body: Local) -> Answer {
        let (status, header) = (reply.status, reply.header);
        Answer { call, status, refused: false, ran: true, retry_after: Duration::ZERO, header, body }
    }

    pub(super) fn refusal(call: Box<Inbound>, status: Status, ran: bool, retry_after: Duration) -> Answer {
        let status = if status.is_error() { status } else { Status::Internal };
        let (status, header, body) = (status as i32, Header::default(), Local::None);
        Answer { call, status, refused: true, ran, retry_after, header, body }
    }

    /// Of a call that happens once: notes what became of it.
    pub fn note(&self, context: &Context) {
        let (Some(once), Some(link)) = (self.call.once, self.call.session.link()) else { return };
        let client = link.peer().uuid;
        if !self.ran {
            return context.once().forget(client, once);
        }
        let body = match &self.body {
            Local::Span(span) => bytes_of(std::slice::from_ref(span)),
            Local::Gathered(spans) => bytes_of(spans),
            other => other.bytes().into(),
        };
        let (status, refused, header) = (self.status, self.refused, self.header);
        context.once().finish(client, once, Kept { status, refused, header, body });
    }
}

fn bytes_of(spans: &[Span]) -> Box<[u8]> {
    let mut bytes = vec![0; spans.iter().map(Span::len).sum()];
    let mut at = 0;
    for span in spans {
        // Within both by the sum.
        let _ = span.copy_to_slice(0, &mut bytes[at..at + span.len()]);
        at += span.len();
    }
    bytes.into()
}

/// A payload of pieces, and its length: short ones are copied, buffers are counted, not copied.
pub(in crate::engine) fn gather(context: &Context, pieces: &[Piece<'_>]) -> Result<(Local, u64), Status> {
    match pieces {
        [] => return Ok((Local::None, 0)),
        [piece] => {
            if let Some(Source::Bytes(bytes)) = piece.source()
                && bytes.len() <= SHORT
            {
                return Ok((Local::Inline(Short::new(bytes)), bytes.len() as u64));
            }
        }
        _ if pieces.len() > limits::PIECES => return Err(Status::InvalidArgument),
        _ => {}
    }
    let (mut total, mut copied) = (0u64, 0u64);
    for piece in pieces {
        let length = match piece.source().ok_or(Status::InvalidArgument)? {
            Source::Bytes(bytes) => {
                copied += bytes.len() as u64;
                if copied > limits::COPIED_MESSAGE as u64 {
                    return Err(Status::InvalidArgument);
                }
                bytes.len() as u64
            }
            Source::Buffer(_, _, length) => length,
        };
        total = total.checked_add(length).ok_or(Status::OutOfRange)?;
    }
    let body = match pieces {
        _ if total <= SHORT as u64 => Local::Inline(short(pieces)?),
        _ if copied == total => Local::Copied(concatenated(pieces)),
        [piece] => Local::Span(span(piece)?),
        many => Local::Gathered(spans(context, many)?),
    };
    Ok((body, total))
}

fn short(pieces: &[Piece<'_>]) -> Result<Short, Status> {
    let (mut bytes, mut at) = ([0; SHORT], 0);
    for piece in pieces {
        match piece.source() {
            Some(Source::Bytes(from)) => {
                bytes[at..at + from.len()].copy_from_slice(from);
                at += from.len();
            }
            _ => {
                let span = span(piece)?;
                span.copy_to_slice(0, &mut bytes[at..at + span.len()])?;
                at += span.len();
            }
        }
    }
    Ok(Short::new(&bytes[..at]))
}

fn concatenated(pieces: &[Piece<'_>]) -> Box<[u8]> {
    let mut bytes = Vec::new();
    for piece in pieces {
        if let Some(Source::Bytes(from)) = piece.source() {
            bytes.extend_from_slice(from);
        }
    }
    bytes.into()
}

fn span(piece: &Piece<'_>) -> Result<Span, Status> {
    match piece.source() {
        Some(Source::Buffer(buffer, offset, length)) => {
            handle::BUFFERS.get(buffer).ok_or(Status::StaleHandle)?.arc().span(offset, length)
        }
        _ => Err(Status::InvalidArgument),
    }
}

fn spans(context: &Context, pieces: &[Piece<'_>]) -> Result<Vec<Span>, Status> {
    let mut spans = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match piece.source() {
            Some(Source::Bytes([])) | Some(Source::Buffer(_, _, 0)) => {}
            Some(Source::Bytes(bytes)) => spans.push(context.span_of(bytes)?),
            _ => spans.push(span(piece)?),
        }
    }
    Ok(spans)
}
