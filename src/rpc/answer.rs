//! What a handler answers, and what a caller gets.

use std::sync::Arc;

use crate::engine::buffer::{Buffer, Span};
use crate::engine::call::{Call, Header, Piece, Reply};
use crate::engine::context::Context;
use crate::engine::draft::Draft;
use crate::engine::file::FileRange;
use crate::engine::handle;
use crate::engine::request::{COMPLETION_INLINE, Completion};
use crate::status::{Error, Result, Status};
use zerocopy::FromBytes;

/// A part of an answer's payload.
#[derive(Debug)]
pub enum Part {
    /// Bytes; all of an answer's together at most 64 KiB.
    Bytes(Vec<u8>),
    /// A range of a registered buffer, which is read until it is sent and not written to before.
    Buffer {
        /// The buffer.
        buffer: Arc<Buffer>,
        /// Where the part begins, in bytes.
        offset: u64,
        /// Bytes.
        length: usize,
    },
    /// The beginning of memory that was filled for this answer, and goes with it.
    Draft {
        /// The memory.
        draft: Draft,
        /// Bytes.
        length: usize,
    },
    /// A part of a file, which is all of the payload: for callers whose link takes files.
    File(FileRange),
}

/// What a handler answers.
#[derive(Debug, Default)]
pub struct Answer {
    /// The service's status: 0, or an errno, or what both sides agreed on.
    pub status: i32,
    /// The service's header.
    pub header: Header,
    /// The payload.
    pub parts: Vec<Part>,
}

impl Answer {
    /// Bytes and nothing else.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Answer {
        Answer { parts: vec![Part::Bytes(bytes.into())], ..Answer::default() }
    }

    /// A status and nothing else.
    pub fn status(status: i32) -> Answer {
        Answer { status, ..Answer::default() }
    }

    /// The same with a header.
    #[must_use]
    pub fn with_header(mut self, header: Header) -> Answer {
        self.header = header;
        self
    }

    /// Answers a call with it; a call that cannot be answered so is answered with why.
    pub(super) fn send(&self, call: Call) {
        let piece = |part: &'_ Part| match part {
            Part::Bytes(_) | Part::File(_) => None,
            Part::Buffer { buffer, offset, length } => Some(Piece::buffer(buffer.id(), *offset, *length)),
            Part::Draft { draft, length } => Some(Piece::buffer(draft.id(), 0, *length)),
        };
        let file = self.parts.iter().find_map(|part| match part {
            Part::File(file) => Some(file),
            _ => None,
        });
        let pieces: Vec<Piece<'_>> = self
            .parts
            .iter()
            .filter(|part| !matches!(part, Part::File(_)))
            .map(|part| match part {
                Part::Bytes(bytes) => Piece::bytes(bytes),
                other => piece(other).unwrap_or_default(),
            })
            .collect();
        let reply = Reply { status: self.status, header: self.header, pieces: &pieces, file };
        if let Err((status, call)) = call.reply(&reply) {
            tracing::warn!(method = call.method(), ?status, "an answer cannot be sent");
            call.fail(status);
        }
    }
}

/// What came back: the payload of a reply, released when this is dropped.
pub struct Body {
    context: Arc<Context>,
    bytes: Place,
}

#[derive(Debug)]
enum Place {
    Inline([u8; 24], usize),
    Buffer(Arc<Buffer>),
    /// In the caller's own buffer: so many bytes.
    Own(usize),
}

impl Body {
    /// Takes over what a completion brings.
    pub(super) fn of(context: &Arc<Context>, completion: &Completion, own: bool) -> Result<(Header, Body)> {
        let length = completion.length as usize;
        let mut header = Header::default();
        let bytes = if completion.flags & COMPLETION_INLINE != 0 {
            Place::Inline(completion.data, length.min(completion.data.len()))
        } else {
            header = Header::read_from_bytes(&completion.data).map_err(|_| Error::from(Status::Internal))?;
            match handle::BUFFERS.get(completion.value) {
                Some(buffer) => Place::Buffer(buffer.arc()),
                None => Place::Own(if own { length } else { 0 }),
            }
        };
        Ok((header, Body { context: context.clone(), bytes }))
    }

    /// Bytes of the payload.
    pub fn len(&self) -> usize {
        match &self.bytes {
            Place::Inline(_, length) | Place::Own(length) => *length,
            Place::Buffer(buffer) => buffer.len(),
        }
    }

    /// Whether there is no payload.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registered memory that has it, unless it is short or in the caller's own buffer.
    pub fn span(&self) -> Option<Span> {
        match &self.bytes {
            Place::Buffer(buffer) => buffer.whole().ok(),
            Place::Inline(..) | Place::Own(_) => None,
        }
    }

    /// A copy of it; empty when it is in the caller's own buffer.
    pub fn to_vec(&self) -> Vec<u8> {
        match &self.bytes {
            Place::Inline(bytes, length) => bytes[..*length].to_vec(),
            Place::Own(_) => Vec::new(),
            Place::Buffer(buffer) => {
                let mut bytes = vec![0; buffer.len()];
                if let Ok(span) = buffer.whole() {
                    // As long as each other.
                    let _ = span.copy_to_slice(0, &mut bytes);
                }
                bytes
            }
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Body").field(&self.bytes).finish()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Place::Buffer(buffer) = &self.bytes {
            // A closed context has released it.
            let _ = self.context.release_buffer(buffer);
        }
    }
}
