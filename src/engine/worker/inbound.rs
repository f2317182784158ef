//! The called: a call is checked and counted, waits its turn, and is answered exactly once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zerocopy::IntoBytes;

use super::Worker;
use super::channel::Channel;
use super::core::Core;
use super::fabric::{Started, Token};
use super::message::Incoming;
use super::work::Local;
use crate::engine::buffer::Buffer;
use crate::engine::call::{Answer, CALLS, Call, Header, Inbound, Kept, Once, Payload, Verdict};
use crate::engine::frame::{FLAG_ONCE, FLAG_REFUSED, Frame, Kind};
use crate::engine::options::Mode;
use crate::engine::pool::UNINITIALISED;
use crate::engine::request::{COMPLETION_EVENT, COMPLETION_INLINE, Completion, INLINE_MESSAGE, Op};
use crate::engine::session::Session;
use crate::limits;
use crate::status::Status;
use crate::telemetry::Count;
use crate::ucx::Data;

/// Request ids of peers: they choose them, but no more than a session's calls in flight.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = (self.0 ^ id).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// Calls of one session that are not answered: their places among [`CALLS`] by request id.
#[derive(Default)]
pub(super) struct InFlight {
    calls: HashMap<u64, u32, BuildHasherDefault<IdHasher>>,
    bytes: u64,
}

/// The place of a call whose payload is still on its way.
const MOVING: u32 = u32::MAX;
/// The same, and nobody waits for its answer any more.
const UNWANTED: u32 = u32::MAX - 1;

impl InFlight {
    /// Forgets a call; whether it was there.
    fn remove(&mut self, request: u64, index: u32, bytes: u64) -> bool {
        if self.calls.get(&request) != Some(&index) {
            return false;
        }
        self.calls.remove(&request);
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

/// A call that was admitted and has no payload yet.
pub(super) struct Came {
    session: Arc<Session>,
    pub peer: u64,
    channel: u32,
    request: u64,
    one_way: bool,
    method: u32,
    header: Header,
    deadline: Option<Instant>,
    once: Option<Once>,
}

/// Why a call is not admitted.
enum Refusal {
    Status(Status),
    /// It has run before.
    Repeat(Kept),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal::Status(status)
    }
}

impl Worker {
    /// Sends an answer: at once if nobody makes progress now, else whoever does sends it.
    pub(in crate::engine) fn answer(&self, answer: Answer) {
        answer.note(&self.context);
        if self.mode == Mode::Polled
            && let Some(mut core) = self.core.try_lock()
        {
            return core.answer(answer);
        }
        // Of a closed worker the answer is dropped, and the call with it.
        let _ = self.answers.push(answer);
    }

    /// Takes inbound calls, in turn; those whose deadline has passed are answered here.
    pub(super) fn take_calls(&self, out: &mut [Completion]) -> usize {
        let mut late = Vec::new();
        let taken = self.calls.take(out, &mut late);
        for call in late {
            if let Ok(call) = Call::take(call) {
                call.refuse(Status::TimedOut, Duration::ZERO);
            }
        }
        taken
    }
}

impl Core {
    /// A call has arrived.
    #[allow(clippy::too_many_arguments, reason = "the parts of one frame, taken apart once")]
    pub(super) fn call_came(
        &mut self,
        fabric: u64,
        peer: u64,
        frame: &Frame,
        kind: Kind,
        header: &[u8],
        inline: &[u8],
        data: Data,
    ) {
        let length = (inline.len() + data.len()) as u64;
        let one_way = kind == Kind::OneWay;
        let number = frame.channel.get();
        let admitted = self.admit(peer, frame, header, length, one_way);
        let came = match admitted {
            Ok(came) => came,
            Err(Refusal::Status(status)) => return self.refuse_frame(peer, frame, one_way, status),
            Err(Refusal::Repeat(kept)) => return self.repeat(peer, frame, kept),
        };
        let once = came.once.map(|once| (came.session.clone(), once));
        if data.len() == 0 && inline.len() <= limits::CALL_INLINE {
            return self.hand_out_call(came, Payload::of(inline));
        }
        if let Data::Eager(eager) = &data
            && eager.len() <= INLINE_MESSAGE
        {
            return self.hand_out_call(came, Payload::of(eager));
        }
        if let Err(status) = self.land_call(came, fabric, inline, data) {
            self.forget_call(peer, number, frame.request.get(), MOVING, length);
            if let Some((session, once)) = once {
                self.forget_once(&session, Some(once));
            }
            self.refuse_frame(peer, frame, one_way, status);
        }
    }

    /// Checks a call against everything but memory, and counts it.
    fn admit(
        &mut self,
        peer: u64,
        frame: &Frame,
        header: &[u8],
        length: u64,
        one_way: bool,
    ) -> Result<Came, Refusal> {
        let (number, request) = (frame.channel.get(), frame.request.get());
        let options = self.context.options();
        let (most, most_bytes) = (options.max_calls as usize, options.max_call_bytes);
        let longest = options.max_message;
        let to = self.peers.get_mut(peer).ok_or(Status::Canceled)?;
        let busy = to.serving >= limits::SERVING;
        let channel = to.channels.get(number).ok_or(Status::Canceled)?;
        let (header, rest) = Header::split(header)?;
        let once = match frame.flags.get() {
            0 if rest.is_empty() => None,
            FLAG_ONCE if !one_way => Some(Once::from_wire(rest)?),
            _ => return Err(Status::Protocol.into()),
        };
        if !self.serves_calls {
            return Err(Status::UnknownMethod.into());
        }
        if channel.inbound.calls.contains_key(&request) && !one_way {
            self.break_peer(peer, Status::Protocol);
            return Err(Status::Protocol.into());
        }
        if length > longest {
            return Err(Status::OutOfRange.into());
        }
        let bytes = channel.inbound.bytes.saturating_add(length);
        if channel.inbound.calls.len() >= most || (bytes > most_bytes && bytes > length) || busy {
            return Err(Status::QueueFull.into());
        }
        let session = channel.session.clone();
        self.admit_once(&session, once)?;
        let request = if one_way { self.one_way_id() } else { request };
        let channel = self.peers.get_mut(peer).and_then(|to| to.channels.get(number));
        let channel = channel.ok_or(Status::Canceled)?;
        channel.inbound.calls.insert(request, MOVING);
        channel.inbound.bytes += length;
        self.context.touch(&session);
        let left = frame.deadline.get();
        let deadline = if left > 0 { Instant::now().checked_add(Duration::from_nanos(left)) } else { None };
        let (method, channel) = (frame.method.get(), number);
        Ok(Came { session, peer, channel, request, one_way, method, header, deadline, once })
    }

    /// Whether a call that happens once may run; then it is noted as running.
    fn admit_once(&self, session: &Session, once: Option<Once>) -> Result<(), Refusal> {
        let (Some(once), Some(link)) = (once, session.link()) else { return Ok(()) };
        match self.context.once().begin(link.peer().uuid, once) {
            Verdict::Run => Ok(()),
            Verdict::Repeat(kept) => Err(Refusal::Repeat(kept)),
            Verdict::Refuse(status) => Err(Refusal::Status(status)),
        }
    }

    fn forget_once(&self, session: &Session, once: Option<Once>) {
        if let (Some(once), Some(link)) = (once, session.link()) {
            self.context.once().forget(link.peer().uuid, once);
        }
    }

    /// Answers a call that has run before, as then.
    fn repeat(&mut self, peer: u64, asked: &Frame, kept: Kept) {
        self.bump(Count::CallsRepeated, 1);
        let mut frame = Frame::new(Kind::Reply, 0, asked.channel.get(), asked.request.get());
        frame.status = kept.status.cast_unsigned().into();
        if kept.refused {
            frame.flags = FLAG_REFUSED.into();
            return self.send_frame(peer, frame, &[]);
        }
        let body = Local::Copied(kept.body);
        let sent = self.send_payload(peer, frame, &kept.header.to_wire(), &body, Token::Frame);
        if let Err(status) = sent {
            self.refuse_frame(peer, asked, false, status);
        }
    }

    /// One-way calls are counted under numbers that no peer's call has.
    fn one_way_id(&mut self) -> u64 {
        self.one_ways = self.one_ways.wrapping_add(1);
        u64::from(self.one_ways) | 1 << 63
    }

    /// Gives a payload memory, and hands the call out when it is there.
    fn land_call(&mut self, came: Came, fabric: u64, inline: &[u8], data: Data) -> Result<(), Status> {
        let length = (inline.len() + data.len()) as u64;
        let buffer = self.context.alloc(length, UNINITIALISED).map_err(|_| Status::QueueFull)?;
        let span = buffer.whole()?;
        let bytes = match &data {
            Data::Rendezvous(_) => {
                let id = self.incoming.insert(Incoming::Call(Box::new(came), buffer));
                match self.fabrics.receive(fabric, data, span, Token::Incoming(id)) {
                    Ok(Started::Pending) => {}
                    Ok(Started::Done) => self.incoming_done(id, true),
                    Err(_) => self.incoming_done(id, false),
                }
                return Ok(());
            }
            Data::Eager(eager) => eager,
            Data::None => inline,
        };
        span.copy_from_slice(0, bytes)?;
        self.hand_out_call(came, Payload::Buffer(buffer));
        Ok(())
    }

    /// UCX has moved a call's payload, or failed to.
    pub(super) fn call_moved(&mut self, came: Came, buffer: Arc<Buffer>, moved: bool) {
        if moved {
            return self.hand_out_call(came, Payload::Buffer(buffer));
        }
        let length = buffer.len() as u64;
        let _ = self.context.release_buffer(&buffer);
        self.forget_once(&came.session, came.once);
        for place in [MOVING, UNWANTED] {
            self.forget_call(came.peer, came.channel, came.request, place, length);
        }
    }

    fn forget_call(&mut self, peer: u64, number: u32, request: u64, index: u32, length: u64) -> bool {
        let channel = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(number));
        channel.is_some_and(|channel| channel.inbound.remove(request, index, length))
    }

    /// The call is whole: it waits for its turn.
    fn hand_out_call(&mut self, came: Came, payload: Payload) {
        let Came { session, peer, channel, request, one_way, method, header, deadline, once } = came;
        let length = payload.len() as u64;
        let mut event = Completion::new(session.user_data(), Op::CallReceived, Status::Ok);
        event.flags = COMPLETION_EVENT;
        event.length = length;
        event.detail = method.cast_signed();
        match payload.bytes() {
            Some(bytes) if header.is_zero() && bytes.len() <= INLINE_MESSAGE && !bytes.is_empty() => {
                event.flags |= COMPLETION_INLINE;
                event.data[..bytes.len()].copy_from_slice(bytes);
            }
            _ => event.data.copy_from_slice(header.as_bytes()),
        }
        let to = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(channel));
        let place = to.and_then(|to| to.inbound.calls.get_mut(&request)).filter(|place| **place == MOVING);
        // Else canceled while its payload was on its way, or its session is gone.
        let Some(place) = place else {
            self.forget_call(peer, channel, request, UNWANTED, length);
            self.forget_once(&session, once);
            if let Payload::Buffer(buffer) = &payload {
                let _ = self.context.release_buffer(buffer);
            }
            return;
        };
        let (id, of) = (session.id(), session.clone());
        let make = |index| Inbound {
            index,
            session,
            peer,
            channel,
            request,
            one_way,
            method,
            header,
            deadline,
            once,
            payload,
        };
        match CALLS.open(make) {
            Some((handle, index)) => {
                *place = index;
                event.value = handle;
                self.calls.push(id, event, deadline);
                self.called = true;
                self.bump(Count::CallsReceived, 1);
            }
            None => {
                self.forget_call(peer, channel, request, MOVING, length);
                self.forget_once(&of, once);
                let frame = Frame::new(Kind::Call, 0, channel, request);
                self.refuse_frame(peer, &frame, one_way, Status::QueueFull);
            }
        }
    }

    /// Answers a call that was not handed out.
    fn refuse_frame(&mut self, peer: u64, frame: &Frame, one_way: bool, status: Status) {
        self.bump(Count::CallsRefused, 1);
        if !one_way {
            let mut answer = Frame::new(Kind::Reply, 0, frame.channel.get(), frame.request.get());
            answer.flags = FLAG_REFUSED.into();
            if matches!(status, Status::QueueFull | Status::Busy) {
                answer.deadline = limits::RETRY_AFTER_NS.into();
            }
            self.send_frame(peer, answer.with_status(status), &[]);
        }
    }

    /// Answers that other threads gave.
    pub(super) fn take_answers(&mut self, worker: &Worker) -> bool {
        if worker.answers.is_empty() {
            return false;
        }
        let mut answers = Vec::new();
        worker.answers.drain_into(&mut answers);
        for answer in answers {
            self.answer(answer);
        }
        true
    }

    /// Sends an answer, unless nobody waits for it any more.
    pub(super) fn answer(&mut self, answer: Answer) {
        let Answer { call, status, refused, retry_after, header, body, .. } = answer;
        let waited =
            self.forget_call(call.peer, call.channel, call.request, call.index, call.payload.len() as u64);
        self.bump(if refused { Count::CallsRefused } else { Count::CallsAnswered }, 1);
        if !waited || call.one_way || CALLS.is_canceled(call.index) {
            return;
        }
        let mut frame = Frame::new(Kind::Reply, 0, call.channel, call.request);
        frame.status = status.cast_unsigned().into();
        if refused {
            frame.flags = FLAG_REFUSED.into();
            frame.deadline = (retry_after.as_nanos() as u64).into();
            return self.send_frame(call.peer, frame, &[]);
        }
        let sent = self.send_payload(call.peer, frame, &header.to_wire(), &body, Token::Served(call.peer));
        match (sent, self.peers.get_mut(call.peer)) {
            (Ok(Started::Pending), Some(to)) => to.serving += 1,
            (Err(status), Some(_)) => {
                let asked = Frame::new(Kind::Call, 0, call.channel, call.request);
                self.refuse_frame(call.peer, &asked, false, status);
            }
            _ => {}
        }
    }

    /// The caller does not wait any more: a call that nobody took is dropped, of another its taker is told.
    pub(super) fn call_canceled(&mut self, peer: u64, number: u32, request: u64) {
        let Some(channel) = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(number)) else {
            return;
        };
        let Some(index) = channel.inbound.calls.get(&request).copied() else { return };
        let session = channel.session.clone();
        if index >= UNWANTED {
            channel.inbound.calls.insert(request, UNWANTED);
            return;
        }
        let handle = CALLS.id_at(index);
        if self.calls.remove_one(session.id(), handle) {
            if let Some(call) = CALLS.take(handle) {
                self.forget_call(peer, number, request, index, call.payload.len() as u64);
                self.forget_once(&session, call.once);
            }
            return;
        }
        self.announce_cancel(&session, index);
    }

    fn announce_cancel(&mut self, session: &Arc<Session>, index: u32) {
        CALLS.cancel(index);
        let mut event = Completion::new(session.user_data(), Op::CallCanceled, Status::Ok);
        event.flags = COMPLETION_EVENT;
        event.value = CALLS.id_at(index);
        self.announce(event);
    }

    /// A session has ended: its calls are dropped, or their takers are told that nobody waits.
    pub(super) fn end_calls(&mut self, channel: &Channel) {
        if channel.inbound.calls.is_empty() {
            return;
        }
        let mut dropped = Vec::new();
        for event in self.calls.remove(channel.session.id()) {
            if let Some(call) = CALLS.take(event.value) {
                dropped.push(call.index);
                self.forget_once(&call.session, call.once);
            }
        }
        for index in channel.inbound.calls.values().copied() {
            if index < UNWANTED && !dropped.contains(&index) {
                self.announce_cancel(&channel.session, index);
            }
        }
    }
}
