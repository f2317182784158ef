//! The caller: a call goes out, and its reply, its deadline, a cancel or a loss ends it.

use std::sync::Arc;

use zerocopy::IntoBytes;

use super::Worker;
use super::core::Core;
use super::data::Data;
use super::fabric::{Endpoint, Started, Token};
use super::pending::{Outcome, Pending};
use super::work::{Local, Work, span};
use crate::engine::buffer::{Buffer, Span};
use crate::engine::call::short::{self, ShortCall};
use crate::engine::call::{HEADER, Header, ONCE, Once, Piece, Source, gather};
use crate::engine::frame::{Compact, FLAG_ONCE, FLAG_REFUSED, Frame, Kind};
use crate::engine::info::SessionState;
use crate::engine::pool::UNINITIALISED;
use crate::engine::request::{
    COMPLETION_CHECKSUM, COMPLETION_INLINE, Completion, INLINE_MESSAGE, Op, REQUEST_CHECKSUM, Request,
};
use crate::limits::COMPACT_FRAME;
use crate::status::Status;
use crate::telemetry::Count;

/// A call on its way: what goes out, and what has come back.
#[derive(Default)]
pub(in crate::engine) struct Outgoing {
    method: u32,
    header: Header,
    once: Option<Once>,
    timeout_us: u32,
    payload: Local,
    /// The service's status.
    status: i32,
    reply: Header,
    landed: Landed,
    /// Whether the reply's payload is to be counted, and what that gave.
    sum: Option<Option<u32>>,
}

impl Outgoing {
    /// Whether the reply's payload is to be counted while it is received.
    pub(super) fn wants_sum(&self) -> bool {
        self.sum.is_some()
    }

    /// The reply's payload has been counted.
    pub(super) fn counted(&mut self, sum: u32) {
        self.sum = Some(Some(sum));
    }
}

/// Where a reply's payload is.
#[derive(Default)]
enum Landed {
    /// There is none, or it is in the caller's buffer.
    #[default]
    There,
    Inline([u8; INLINE_MESSAGE]),
    Buffer(Arc<Buffer>),
}

impl Work {
    /// Checks the request of a call.
    pub(super) fn call(&mut self, worker: &Worker, request: &Request<'_>) -> Result<(), Status> {
        let (method, header, once) = request.call_parts().ok_or(Status::InvalidArgument)?;
        if request.buffer != 0 {
            self.local = Local::Span(span(request.buffer, request.buffer_offset, request.length)?);
        }
        let counted = request.flags & REQUEST_CHECKSUM != 0;
        let stray = request.buffer == 0 && (request.buffer_offset != 0 || request.length != 0 || counted);
        if stray || self.op == Op::OneWay && (request.buffer != 0 || once.is_some()) {
            return Err(Status::InvalidArgument);
        }
        let context = worker.context();
        let (payload, length) = match (request.data.get_pieces(), request.data.get()) {
            (Some(Some(pieces)), _) => gather(context, pieces)?,
            (None, Some(bytes)) => gather(context, &[Piece::bytes(bytes)])?,
            _ => return Err(Status::InvalidArgument),
        };
        if length > context.options().max_message {
            return Err(Status::OutOfRange);
        }
        self.length = length;
        let timeout_us = request.timeout_us;
        let (status, reply, landed) = (0, Header::default(), Landed::There);
        let sum = counted.then_some(None);
        self.call = Some(Box::new(Outgoing {
            method,
            header,
            once,
            timeout_us,
            payload,
            status,
            reply,
            landed,
            sum,
        }));
        Ok(())
    }
}

impl Core {
    /// Sends a call that is short at once, without its becoming work first. For anything else, and anything wrong,
    /// `false`: the long way finds the words.
    pub(super) fn call_request(&mut self, worker: &Worker, request: &Request<'_>) -> bool {
        if request.op != Op::Call as u16 || request.flags & !REQUEST_CHECKSUM != 0 {
            return false;
        }
        let counted = request.flags & REQUEST_CHECKSUM != 0;
        let mut gathered = [0; COMPACT_FRAME];
        let data = short_bytes(request, &mut gathered);
        let (Some(data), Some((method, header, None))) = (data, request.call_parts()) else {
            return false;
        };
        let local = match request.buffer {
            0 if (request.buffer_offset, request.length, counted) == (0, 0, false) => Local::None,
            0 => return false,
            _ => match span(request.buffer, request.buffer_offset, request.length) {
                Ok(span) => Local::Span(span),
                Err(_) => return false,
            },
        };
        let Some(session) = self.recent(request.session).cloned() else { return false };
        if !short::fits(&header, data.len())
            || !session.belongs_to(worker)
            || session.state() != SessionState::Open
        {
            return false;
        }
        let (index, number) = session.place();
        let Some(peer) = self.peers.id_at(index).and_then(|id| self.peers.get(id)) else { return false };
        let Some(endpoint) = peer.open_endpoint() else { return false };
        let (fabric, id) = (peer.fabric, self.ops.next_id());
        let mut frame = Frame::new(Kind::Call, peer.route, number, id);
        frame.method = method.into();
        frame.deadline = (u64::from(request.timeout_us) * 1_000).into();
        if !self.compact.fill_call(Kind::Call, &frame, &header.to_wire(), data) {
            return false;
        }
        self.context.touch(&session);
        let heard = session.is_heard();
        let call = counted.then(|| Box::new(Outgoing { sum: Some(None), ..Outgoing::default() }));
        let pending = Pending { local, call, ..Pending::new(request.user_data, Op::Call, session) };
        self.track(pending, request.timeout_us);
        match self.send_compact(fabric, endpoint, Token::Op(id), heard) {
            Ok(Started::Done) => {}
            Ok(Started::Pending) => {
                if let Some(pending) = self.ops.get_mut(id) {
                    pending.held += 1;
                }
            }
            Err(status) => self.settle(id, Outcome::of(status)),
        }
        true
    }

    /// A short call or reply has come.
    pub(super) fn short_call(&mut self, fabric: u64, call: &ShortCall<'_>) {
        let Some(peer) = self.sender(fabric, call.frame.route.get()) else {
            return self.context.meter().add(Count::Refused, 1);
        };
        let (frame, header, payload) = (&call.frame, &call.header, call.payload);
        if call.kind != Kind::Reply {
            return self.call_came(fabric, peer, frame, call.kind, header, payload, Data::None);
        }
        if !self.answered_shortly(peer, call) {
            self.call_answered(fabric, peer, frame, header, payload, Data::None);
        }
    }

    /// Completes a call with a reply that needs no memory, if nothing else is to be done.
    fn answered_shortly(&mut self, peer: u64, call: &ShortCall<'_>) -> bool {
        let id = call.frame.request.get();
        let Some(pending) = self.ops.get(id) else { return false };
        let of_peer = pending.session.place().0 == peer as u32 && pending.op == Op::Call;
        let idle = pending.held == 0 && pending.outcome.is_none() && pending.call.is_none();
        let short = call.payload.len() <= INLINE_MESSAGE && call.header[20..] == [0; 4];
        let zero = call.header == [0; HEADER];
        let inline = zero && matches!(pending.local, Local::None);
        if !of_peer || !idle || !short || !(inline || call.payload.is_empty()) {
            return false;
        }
        let Some(pending) = self.ops.remove(id) else { return false };
        pending.session.hear();
        let length = call.payload.len() as u64;
        let latency = pending.started.map(|started| started.elapsed());
        pending.session.meter().ended(Op::Call, 0, length, Status::Ok, latency);
        self.meter.ended(Op::Call, 0, length, Status::Ok, latency);
        let mut completion = Completion::new(pending.user_data, Op::Call, Status::Ok);
        completion.length = length;
        completion.detail = call.frame.status.get().cast_signed();
        if length > 0 {
            completion.flags = COMPLETION_INLINE;
            completion.data[..call.payload.len()].copy_from_slice(call.payload);
        } else if let Ok(header) = Header::from_wire(call.header) {
            completion.data.copy_from_slice(header.as_bytes());
        }
        self.announce(completion);
        true
    }

    /// Sends a call.
    pub(super) fn issue_call(&mut self, id: u64) {
        let Some(pending) = self.ops.get_mut(id) else { return };
        let Some(call) = &mut pending.call else { return };
        let (index, number) = pending.session.place();
        let kind = if pending.op == Op::Call { Kind::Call } else { Kind::OneWay };
        let mut frame = Frame::new(kind, 0, number, id);
        frame.method = call.method.into();
        frame.deadline = (u64::from(call.timeout_us) * 1_000).into();
        let mut header = [0; HEADER + ONCE];
        header[..HEADER].copy_from_slice(&call.header.to_wire());
        let mut length = HEADER;
        if let Some(once) = call.once {
            header[HEADER..].copy_from_slice(&once.to_wire());
            frame.flags = FLAG_ONCE.into();
            length += ONCE;
        }
        let payload = std::mem::replace(&mut call.payload, Local::None);
        let heard = pending.session.is_heard();
        let sent = match self.peers.id_at(index) {
            Some(peer) => self.send_payload(peer, frame, &header[..length], &payload, Token::Op(id), heard),
            None => Err(Status::ConnectionLost),
        };
        let Some(pending) = self.ops.get_mut(id) else { return };
        pending.pinned |= is_pinned(&payload, length);
        match sent {
            Ok(Started::Pending) => pending.held += 1,
            Ok(Started::Done) if kind == Kind::OneWay => {
                let length = pending.length;
                self.settle(id, Outcome::moved(length));
            }
            Ok(Started::Done) => {}
            Err(status) => self.settle(id, Outcome::of(status)),
        }
    }

    /// Sends a frame with a payload that may be of several pieces. `heard`: the peer knows the session.
    pub(super) fn send_payload(
        &mut self,
        peer: u64,
        mut frame: Frame,
        header: &[u8],
        payload: &Local,
        token: Token,
        heard: bool,
    ) -> Result<Started, Status> {
        let Some(to) = self.peers.get(peer) else { return Err(Status::ConnectionLost) };
        let (fabric, endpoint) = (to.fabric, to.open_endpoint().ok_or(Status::ConnectionLost)?);
        frame.route = to.route.into();
        if let Local::File(file) = payload {
            self.compact.fill(frame, header, 0, file.len())?;
            return self.fabrics.send_file(fabric, self.compact.as_bytes(), file.clone(), token);
        }
        let Local::Gathered(spans) = payload else {
            let short = !matches!(payload, Local::Span(_));
            let kind = frame.kind().filter(|_| short).ok_or(Status::Internal);
            if kind.is_ok_and(|kind| self.compact.fill_call(kind, &frame, header, payload.bytes())) {
                return self.send_compact(fabric, endpoint, token, heard);
            }
            return self.send(peer, frame, header, payload, token);
        };
        let length = spans.iter().map(Span::len).sum::<usize>();
        if length <= Compact::room(header.len()) {
            let room = self.compact.fill(frame, header, length, 0)?;
            let mut at = 0;
            for span in spans {
                span.copy_to_slice(0, &mut room[at..at + span.len()])?;
                at += span.len();
            }
            return self.fabrics.send(fabric, endpoint, self.compact.as_bytes(), None, token);
        }
        self.compact.fill(frame, header, 0, length as u64)?;
        let (bytes, spans) = (self.compact.as_bytes(), spans.clone());
        self.fabrics.send_pieces(fabric, endpoint, bytes, spans, token)
    }

    /// Sends what was put together in one piece: by a ring if the peer has heard of the session, else UCX's shortest way
    /// if that is free.
    fn send_compact(
        &mut self,
        fabric: u64,
        endpoint: Endpoint,
        token: Token,
        heard: bool,
    ) -> Result<Started, Status> {
        let bytes = self.compact.as_bytes();
        if heard && self.fabrics.put_short(fabric, bytes) {
            return Ok(Started::Done);
        }
        match self.fabrics.send_short(fabric, endpoint, bytes, token) {
            Some(true) => Ok(Started::Done),
            Some(false) => Ok(Started::Pending),
            None => self.fabrics.send(fabric, endpoint, bytes, None, token),
        }
    }

    /// A reply has come. One that nobody waits for is dropped and counted.
    pub(super) fn call_answered(
        &mut self,
        fabric: u64,
        peer: u64,
        frame: &Frame,
        header: &[u8],
        inline: &[u8],
        data: Data,
    ) {
        let Some(id) = self.asked(peer, frame, &[Op::Call]) else {
            return self.bump(Count::LateReplies, 1);
        };
        if let Some(pending) = self.ops.get(id) {
            pending.session.hear();
        }
        if frame.flags.get() & FLAG_REFUSED != 0 {
            let status = frame.reply_status();
            let status = if status.is_error() { status } else { Status::Protocol };
            let detail = i32::try_from(frame.deadline.get().div_ceil(1_000)).unwrap_or(i32::MAX);
            return self.settle(id, Outcome { detail, ..Outcome::of(status) });
        }
        let length = (inline.len() as u64).saturating_add(data.len());
        let reply = match Header::split(header) {
            Ok((reply, [])) if length <= self.context.options().max_message => reply,
            _ => return self.settle(id, Outcome::of(Status::Protocol)),
        };
        let Some(pending) = self.ops.get_mut(id) else { return };
        let call = pending.call.get_or_insert_default();
        call.status = frame.status.get().cast_signed();
        call.reply = reply;
        pending.length = length;
        match self.reply_place(id, reply, length, inline, &data) {
            Ok(Some(span)) => self.land_reply(id, fabric, &span, inline, data),
            Ok(None) => self.settle(id, Outcome::moved(length)),
            Err(status) => self.settle(id, Outcome { length, ..Outcome::of(status) }),
        }
    }

    /// Memory for a reply's payload; `None` when it needs none, or is in its completion already.
    fn reply_place(
        &mut self,
        id: u64,
        reply: Header,
        length: u64,
        inline: &[u8],
        data: &Data,
    ) -> Result<Option<Span>, Status> {
        let pending = self.ops.get_mut(id).ok_or(Status::Internal)?;
        let call = pending.call.as_mut().ok_or(Status::Internal)?;
        if let Local::Span(span) = &pending.local {
            let place = span.slice(0, length).map_err(|_| Status::Truncated)?;
            return Ok((length > 0).then_some(place));
        }
        let bytes = match data {
            Data::Eager(eager) => eager,
            _ => inline,
        };
        if length as usize <= INLINE_MESSAGE && reply.is_zero() && bytes.len() as u64 == length && length > 0
        {
            let mut short = [0; INLINE_MESSAGE];
            short[..bytes.len()].copy_from_slice(bytes);
            call.landed = Landed::Inline(short);
            return Ok(None);
        }
        if length == 0 {
            return Ok(None);
        }
        let buffer = self.context.alloc(length, UNINITIALISED).map_err(|error| error.status)?;
        let span = buffer.whole()?;
        call.landed = Landed::Buffer(buffer);
        Ok(Some(span))
    }

    fn land_reply(&mut self, id: u64, fabric: u64, span: &Span, inline: &[u8], data: Data) {
        let bytes = match &data {
            Data::Rendezvous(_) => return self.get_by_rendezvous(id, fabric, data, span.clone()),
            Data::Eager(eager) => eager,
            Data::None => inline,
        };
        let copied = span.copy_from_slice(0, bytes);
        let length = bytes.len() as u64;
        self.settle(id, copied.map_or_else(Outcome::of, |()| Outcome::moved(length)));
    }

    /// The one completion of a call.
    pub(super) fn complete_call(&mut self, user_data: u64, op: Op, outcome: Outcome, call: Outgoing) {
        let mut completion = Completion::new(user_data, op, outcome.status);
        completion.length = outcome.length;
        completion.detail = outcome.detail;
        let good = outcome.status == Status::Ok;
        if good && op == Op::Call {
            completion.detail = call.status;
            completion.data.copy_from_slice(call.reply.as_bytes());
        }
        match call.landed {
            Landed::Inline(bytes) if good => {
                completion.flags |= COMPLETION_INLINE;
                completion.data = bytes;
            }
            Landed::Buffer(buffer) if good => completion.value = buffer.id(),
            Landed::Buffer(buffer) => drop(self.context.release_buffer(&buffer)),
            Landed::There if good && let Some(Some(sum)) = call.sum => {
                completion.flags |= COMPLETION_CHECKSUM;
                completion.value = sum.into();
            }
            _ => {}
        }
        self.announce(completion);
    }

    /// Tells the peer that nobody waits for the answer to a call any more.
    pub(super) fn recall(&mut self, id: u64) {
        let Some(pending) = self.ops.get(id).filter(|op| op.op == Op::Call && op.outcome.is_none()) else {
            return;
        };
        let (index, number) = pending.session.place();
        let Some(peer) = self.peers.id_at(index) else { return };
        let open = self.peers.get_mut(peer).is_some_and(|peer| peer.channels.get(number).is_some());
        if open {
            self.send_frame(peer, Frame::new(Kind::Cancel, 0, number, id), &[]);
        }
    }
}

/// A call's payload, if it is a short one of bytes that are copied; several pieces are put together in `gathered`.
fn short_bytes<'a>(request: &Request<'a>, gathered: &'a mut [u8; COMPACT_FRAME]) -> Option<&'a [u8]> {
    let Some(pieces) = request.data.get_pieces() else { return request.data.get() };
    let bytes = |piece: &Piece<'a>| match piece.source()? {
        Source::Bytes(bytes) => Some(bytes),
        Source::Buffer(..) => None,
    };
    if let [piece] = pieces? {
        return bytes(piece);
    }
    let mut length = 0;
    for piece in pieces? {
        let bytes = bytes(piece)?;
        gathered.get_mut(length..length + bytes.len())?.copy_from_slice(bytes);
        length += bytes.len();
    }
    Some(&gathered[..length])
}

/// Whether UCX reads the payload where it is.
fn is_pinned(payload: &Local, header: usize) -> bool {
    match payload {
        Local::Span(span) => span.len() > Compact::room(header),
        Local::Gathered(spans) => spans.iter().map(Span::len).sum::<usize>() > Compact::room(header),
        Local::None | Local::Inline(_) | Local::Copied(_) | Local::File(_) => false,
    }
}
