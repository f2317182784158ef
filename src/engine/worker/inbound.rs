//! The called: a call is checked and counted, waits its turn, and is answered exactly once.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zerocopy::IntoBytes;

use super::Worker;
use super::channel::Channel;
use super::core::Core;
use super::data::Data;
use super::fabric::{Started, Token};
use super::fair::Queues;
use super::message::Incoming;
use super::work::Local;
use crate::engine::buffer::Buffer;
use crate::engine::call::{Answer, CALLS, Call, Header, Inbound, Kept, Once, Payload, Verdict};
use crate::engine::context::Context;
use crate::engine::frame::{FLAG_ONCE, FLAG_REFUSED, Frame, Kind};
use crate::engine::info::SessionState;
use crate::engine::options::Mode;
use crate::engine::pool::UNINITIALISED;
use crate::engine::request::{COMPLETION_EVENT, COMPLETION_INLINE, Completion, INLINE_MESSAGE, Op};
use crate::engine::session::Session;
use crate::limits;
use crate::status::Status;
use crate::telemetry::Count;

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

/// Calls of one session that are not answered: their handles by request id.
#[derive(Default)]
pub(super) struct InFlight {
    calls: HashMap<u64, u64, BuildHasherDefault<IdHasher>>,
    bytes: u64,
}

/// Beside the handle of a call whose payload is still on its way; no handle has this bit.
const MOVING: u64 = 1 << 63;
/// The same, and nobody waits for its answer any more.
const UNWANTED: u64 = MOVING | 1 << 62;

impl InFlight {
    /// Forgets a call; whether it was there.
    fn remove(&mut self, call: &Inbound) -> bool {
        match self.calls.entry(call.request) {
            Entry::Occupied(place) if place.get() & !UNWANTED == call.seat.id() => place.remove(),
            _ => return false,
        };
        self.bytes = self.bytes.saturating_sub(call.length);
        true
    }
}

/// Whether a call that happens once may run; then it is noted as running.
fn admit_once(context: &Context, session: &Session, once: Option<Once>) -> Result<(), Refusal> {
    let (Some(once), Some(link)) = (once, session.link()) else { return Ok(()) };
    match context.once().begin(link.peer().uuid, once) {
        Verdict::Run => Ok(()),
        Verdict::Repeat(kept) => Err(Refusal::Repeat(kept)),
        Verdict::Refuse(status) => Err(Refusal::Status(status)),
    }
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
            core.answer(answer);
            return core.fabrics.flush();
        }
        // Of a closed worker the answer is dropped, and the call with it.
        let _ = self.answers.push(answer);
    }

    /// Takes inbound calls, in turn; those whose deadline has passed are answered here.
    pub(super) fn take_calls(&self, calls: &mut Queues, out: &mut [Completion]) -> usize {
        if calls.is_empty() || out.is_empty() {
            return 0;
        }
        let mut late = Vec::new();
        let taken = calls.with(|fair| fair.take(out, &mut late));
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
        let length = (inline.len() as u64).saturating_add(data.len());
        let one_way = kind == Kind::OneWay;
        let mut call = match self.admit(peer, frame, header, length, one_way) {
            Ok(call) => call,
            Err(Refusal::Status(status)) => return self.refuse_frame(peer, frame, one_way, status),
            Err(Refusal::Repeat(kept)) => return self.repeat(peer, frame, kept),
        };
        if data.len() == 0 && inline.len() <= limits::CALL_INLINE {
            call.payload.fill(inline);
            return self.hand_out_call(call);
        }
        if let Data::Eager(eager) = &data
            && eager.len() <= INLINE_MESSAGE
        {
            call.payload.fill(eager);
            return self.hand_out_call(call);
        }
        self.land_call(call, fabric, inline, data);
    }

    /// Checks a call against everything but memory, and counts it.
    fn admit(
        &mut self,
        peer: u64,
        frame: &Frame,
        header: &[u8],
        length: u64,
        one_way: bool,
    ) -> Result<Box<Inbound>, Refusal> {
        let options = self.context.options();
        let to = self.peers.get_mut(peer).ok_or(Status::Canceled)?;
        let busy = to.serving >= limits::SERVING;
        let channel = to.channels.get(frame.channel.get()).ok_or(Status::Canceled)?;
        let (header, rest) = Header::split(header)?;
        let once = match frame.flags.get() {
            0 if rest.is_empty() => None,
            FLAG_ONCE if !one_way => Some(Once::from_wire(rest)?),
            _ => return Err(Status::Protocol.into()),
        };
        if !self.serves_calls {
            return Err(Status::UnknownMethod.into());
        }
        let InFlight { calls, bytes } = &mut channel.inbound;
        let mut request = frame.request.get();
        if one_way {
            // Counted under numbers that no peer's call has.
            self.one_ways = self.one_ways.wrapping_add(1);
            request = u64::from(self.one_ways) | 1 << 63;
        } else if calls.contains_key(&request) {
            self.break_peer(peer, Status::Protocol);
            return Err(Status::Protocol.into());
        }
        if length > options.max_message {
            return Err(Status::OutOfRange.into());
        }
        let total = bytes.saturating_add(length);
        let heavy = total > options.max_call_bytes && total > length;
        if calls.len() >= options.max_calls as usize || heavy || busy {
            return Err(Status::QueueFull.into());
        }
        let mut call = match self.spare.pop() {
            Some(call) => call,
            None => Inbound::new(channel.session.clone()).ok_or(Status::QueueFull)?,
        };
        if let Err(refusal) = admit_once(&self.context, &channel.session, once) {
            self.spare.push(call);
            return Err(refusal);
        }
        if !Arc::ptr_eq(&call.session, &channel.session) {
            call.session = channel.session.clone();
        }
        (call.peer, call.channel, call.request) = (peer, frame.channel.get(), request);
        (call.method, call.header, call.once) = (frame.method.get(), header, once);
        (call.one_way, call.length) = (one_way, length);
        let left = frame.deadline.get();
        call.deadline = if left > 0 { Instant::now().checked_add(Duration::from_nanos(left)) } else { None };
        call.session.hear();
        call.seat.occupy();
        calls.insert(request, call.seat.id());
        *bytes = total;
        self.context.touch(&call.session);
        Ok(call)
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
        let sent = self.send_payload(peer, frame, &kept.header.to_wire(), &body, Token::Frame, false);
        if let Err(status) = sent {
            self.refuse_frame(peer, asked, false, status);
        }
    }

    /// Gives a payload memory, and hands the call out when it is there.
    fn land_call(&mut self, call: Box<Inbound>, fabric: u64, inline: &[u8], data: Data) {
        let buffer = match self.context.alloc(call.length, UNINITIALISED) {
            Ok(buffer) => buffer,
            Err(_) => return self.refuse_call(call, Status::QueueFull),
        };
        let span = match buffer.whole() {
            Ok(span) => span,
            Err(status) => return self.refuse_call(call, status),
        };
        let bytes = match &data {
            Data::Rendezvous(_) => {
                self.mark(&call, MOVING);
                let id = self.incoming.insert(Incoming::Call(call, buffer));
                match self.fabrics.receive(fabric, data, span, Token::Incoming(id), false) {
                    Ok(Started::Pending) => {}
                    Ok(Started::Done) => self.incoming_done(id, true),
                    Err(_) => self.incoming_done(id, false),
                }
                return;
            }
            Data::Eager(eager) => eager,
            Data::None => inline,
        };
        match span.copy_from_slice(0, bytes) {
            Ok(()) => self.call_moved(call, buffer, true),
            Err(status) => self.refuse_call(call, status),
        }
    }

    /// UCX has moved a call's payload, or failed to.
    pub(super) fn call_moved(&mut self, mut call: Box<Inbound>, buffer: Arc<Buffer>, moved: bool) {
        // From here on the call releases it.
        call.payload = Payload::Buffer(buffer);
        // Else canceled meanwhile, or its session is gone.
        if moved && self.place(&call).is_some_and(|place| place & UNWANTED != UNWANTED) {
            self.mark(&call, 0);
            return self.hand_out_call(call);
        }
        self.drop_call(call);
    }

    /// What is noted of a call that is not answered.
    fn place(&mut self, call: &Inbound) -> Option<u64> {
        let channel = self.peers.get_mut(call.peer)?.channels.get(call.channel)?;
        channel.inbound.calls.get(&call.request).copied().filter(|place| place & !UNWANTED == call.seat.id())
    }

    fn mark(&mut self, call: &Inbound, bits: u64) {
        let channel = self.peers.get_mut(call.peer).and_then(|to| to.channels.get(call.channel));
        if let Some(place) = channel.and_then(|channel| channel.inbound.calls.get_mut(&call.request)) {
            *place = call.seat.id() | bits;
        }
    }

    /// Forgets a call that has ended; whether its caller was there to be answered.
    fn forget_call(&mut self, call: &Inbound) -> bool {
        let channel = self.peers.get_mut(call.peer).and_then(|to| to.channels.get(call.channel));
        channel.is_some_and(|channel| channel.inbound.remove(call))
    }

    /// Ends a call that nobody has taken.
    fn drop_call(&mut self, call: Box<Inbound>) {
        self.forget_call(&call);
        self.forget_once(&call.session, call.once);
        self.recycle(call);
    }

    fn refuse_call(&mut self, call: Box<Inbound>, status: Status) {
        let frame = Frame::new(Kind::Call, 0, call.channel, call.request);
        let (peer, one_way) = (call.peer, call.one_way);
        self.drop_call(call);
        self.refuse_frame(peer, &frame, one_way, status);
    }

    /// Keeps a call's memory for another one, unless its session has ended: that would stay with it.
    fn recycle(&mut self, mut call: Box<Inbound>) {
        let open = call.session.state() == SessionState::Open;
        if call.renew() && open && self.spare.len() < limits::SPARE_CALLS {
            self.spare.push(call);
        }
    }

    /// The call is whole: it waits for its turn.
    fn hand_out_call(&mut self, call: Box<Inbound>) {
        let mut event = Completion::new(call.session.user_data(), Op::CallReceived, Status::Ok);
        event.flags = COMPLETION_EVENT;
        event.length = call.length;
        event.detail = call.method.cast_signed();
        event.value = call.seat.id();
        match call.payload.bytes() {
            Some(bytes) if call.header.is_zero() && bytes.len() <= INLINE_MESSAGE && !bytes.is_empty() => {
                event.flags |= COMPLETION_INLINE;
                event.data[..bytes.len()].copy_from_slice(bytes);
            }
            _ => event.data.copy_from_slice(call.header.as_bytes()),
        }
        let (session, deadline) = (call.session.id(), call.deadline);
        CALLS.open(call);
        self.calls.with(|fair| fair.push(session, event, deadline));
        self.called = true;
        self.bump(Count::CallsReceived, 1);
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
        let waited = self.forget_call(&answer.call);
        self.bump(if answer.refused { Count::CallsRefused } else { Count::CallsAnswered }, 1);
        if waited && !answer.call.one_way && !answer.call.seat.is_canceled() {
            self.send_answer(&answer);
        }
        self.recycle(answer.call);
    }

    fn send_answer(&mut self, answer: &Answer) {
        let Answer { call, status, refused, retry_after, header, body, .. } = answer;
        let mut frame = Frame::new(Kind::Reply, 0, call.channel, call.request);
        frame.status = status.cast_unsigned().into();
        if *refused {
            frame.flags = FLAG_REFUSED.into();
            frame.deadline = (retry_after.as_nanos() as u64).into();
            return self.send_frame(call.peer, frame, &[]);
        }
        let sent =
            self.send_payload(call.peer, frame, &header.to_wire(), body, Token::Served(call.peer), true);
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
        let Some(place) = channel.inbound.calls.get_mut(&request) else { return };
        if *place & MOVING != 0 {
            *place |= UNWANTED;
            return;
        }
        let (handle, session) = (*place, channel.session.clone());
        if !self.calls.with(|fair| fair.remove_one(session.id(), handle)) {
            self.announce_cancel(&session, handle);
        } else if let Some(call) = CALLS.take(handle) {
            self.drop_call(call);
        }
    }

    fn announce_cancel(&mut self, session: &Arc<Session>, handle: u64) {
        CALLS.cancel(handle);
        let mut event = Completion::new(session.user_data(), Op::CallCanceled, Status::Ok);
        event.flags = COMPLETION_EVENT;
        event.value = handle;
        self.announce(event);
    }

    /// A session has ended: its calls are dropped, or their takers are told that nobody waits.
    pub(super) fn end_calls(&mut self, channel: &Channel) {
        // They would keep the session.
        self.spare.retain(|call| !Arc::ptr_eq(&call.session, &channel.session));
        let mut ended = HashSet::new();
        for event in self.calls.with(|fair| fair.remove(channel.session.id())) {
            // What was told and not asked is heard, also when its teller has left.
            if CALLS.with(event.value, |call| call.one_way) == Some(true) {
                self.announce(event);
            } else if let Some(call) = CALLS.take(event.value) {
                self.forget_once(&call.session, call.once);
            }
            ended.insert(event.value);
        }
        for handle in channel.inbound.calls.values() {
            if handle & MOVING == 0 && !ended.contains(handle) {
                self.announce_cancel(&channel.session, *handle);
            }
        }
    }
}
