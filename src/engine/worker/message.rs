//! Messages: sent within the peer's window, delivered in their order, in the completion when short, else in a buffer
//! of the engine's that then belongs to the receiver.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::Worker;
use super::channel::Arriving;
use super::core::Core;
use super::data::Data;
use super::fabric::{Started, Token};
use super::pending::{Outcome, Pending};
use super::work::Local;
use crate::engine::buffer::Buffer;
use crate::engine::call::Inbound;
use crate::engine::frame::{Compact, Frame, Kind, Short};
use crate::engine::handle;
use crate::engine::info::SessionState;
use crate::engine::pool::UNINITIALISED;
use crate::engine::request::{COMPLETION_EVENT, COMPLETION_INLINE, Completion, INLINE_MESSAGE, Op, Request};
use crate::engine::session::Session;
use crate::limits;
use crate::status::Status;
use crate::telemetry::Count;

/// A payload that has arrived and has no memory of ours yet.
pub(super) enum Held {
    /// Came in the frame.
    Inline(Box<[u8]>),
    /// Came beside it, or waits at the sender.
    Beside(u64, Data),
}

impl Held {
    fn len(&self) -> u64 {
        match self {
            Held::Inline(bytes) => bytes.len() as u64,
            Held::Beside(_, data) => data.len(),
        }
    }
}

/// Bytes that UCX is moving to us.
pub(super) enum Incoming {
    /// A message, into a buffer of its own.
    Message { buffer: Arc<Buffer>, peer: u64, channel: u32 },
    /// A put, into an exported buffer; its frame is answered when the bytes are there.
    Put { peer: u64, frame: Frame },
    /// The payload of a call, into a buffer of its own.
    Call(Box<Inbound>, Arc<Buffer>),
}

impl Core {
    /// Does a request that is a short message if UCX takes it at once: it never becomes an operation in flight. For
    /// anything else, and anything wrong, `false`: the long way finds the words.
    pub(super) fn send_request(&mut self, worker: &Worker, request: &Request<'_>) -> bool {
        let plain = request.op == Op::Send as u16 && request.flags == 0 && request.buffer == 0;
        if !plain || request.timeout_us != 0 {
            return false;
        }
        let Some(data) = request.data.get() else { return false };
        let consistent = request.length == 0 || request.length == data.len() as u64;
        if !consistent || data.len() > Compact::room(0) {
            return false;
        }
        if self.recent(request.session).is_none() {
            return false;
        }
        // Taken out and put back: cheaper than another reference.
        let Some(session) = self.recent.take() else { return false };
        let sent = session.belongs_to(worker)
            && session.state() == SessionState::Open
            && self.send_now(request.user_data, data, &session);
        self.recent = Some(session);
        sent
    }

    fn send_now(&mut self, user_data: u64, data: &[u8], session: &Arc<Session>) -> bool {
        let (index, number) = session.place();
        let Some(peer) = self.peers.id_at(index) else { return false };
        let Some(to) = self.peers.get_mut(peer) else { return false };
        let Some(endpoint) = to.open_endpoint() else { return false };
        let (fabric, route) = (to.fabric, to.route);
        let Some(channel) = to.channels.get(number) else { return false };
        if channel.window == 0 || !channel.blocked.is_empty() {
            return false;
        }
        let straight = channel.is_straight();
        let id = self.ops.next_id();
        let began = self.sampling().then(Instant::now);
        let short = Short::new(route, number, session.consumed() as u16);
        if self.compact.fill_short(short, data).is_err() {
            return false;
        }
        let by_ring = straight && self.fabrics.put_short(fabric, self.compact.as_bytes());
        let sent = match by_ring {
            true => Some(true),
            false => self.fabrics.send_short(fabric, endpoint, self.compact.as_bytes(), Token::Op(id)),
        };
        // Nothing has happened then, and the long way finds the words.
        let Some(gone) = sent else { return false };
        if let Some(channel) = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(number)) {
            channel.window -= 1;
            channel.detour |= !by_ring;
        }
        session.forget_consumed();
        self.context.touch(session);
        let length = data.len() as u64;
        if gone {
            let latency = began.map(|began| began.elapsed());
            session.meter().ended(Op::Send, 0, length, Status::Ok, latency);
            self.meter.ended(Op::Send, 0, length, Status::Ok, latency);
            self.complete(user_data, Op::Send, Outcome::moved(length));
        } else {
            let pending = Pending::new(user_data, Op::Send, session.clone());
            self.ops.insert(Pending { length, held: 1, started: began, ..pending });
        }
        true
    }

    /// Sends a message, or parks it until the peer has taken earlier ones.
    pub(super) fn issue_message(&mut self, id: u64) {
        let Some(pending) = self.ops.get_mut(id) else { return };
        let (index, number) = pending.session.place();
        let Some(peer) = self.peers.id_at(index).and_then(|id| self.peers.get_mut(id)) else {
            return self.settle(id, Outcome::of(Status::ConnectionLost));
        };
        let (fabric, route, up) = (peer.fabric, peer.route, peer.open_endpoint().is_some());
        let Some(channel) = peer.channels.get(number) else {
            return self.settle(id, Outcome::of(Status::ConnectionLost));
        };
        if channel.window == 0 {
            return channel.blocked.push_back(id);
        }
        let straight = up && channel.is_straight();
        channel.window -= 1;
        let credits = pending.session.take_consumed();
        if let (Local::Inline(message), true) = (&pending.local, straight) {
            let short = Short::new(route, number, credits as u16);
            let filled = self.compact.fill_short(short, message.as_slice()).is_ok();
            if filled && self.fabrics.put_short(fabric, self.compact.as_bytes()) {
                let length = message.as_slice().len() as u64;
                return self.settle(id, Outcome::moved(length));
            }
        }
        channel.detour = true;
        let mut frame = Frame::new(Kind::Message, 0, number, id);
        frame.credits = credits.into();
        let payload = std::mem::replace(&mut pending.local, Local::None);
        self.send_op(id, index, frame, &[], &payload);
    }

    /// The peer has taken messages: parked ones may go.
    pub(super) fn window_opened(&mut self, peer: u64, number: u32, credits: u32) {
        if let Some(channel) = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(number)) {
            channel.session.hear();
            channel.window = channel.window.saturating_add(credits).min(limits::MESSAGE_WINDOW);
        }
        while let Some(id) = self.next_blocked(peer, number) {
            self.issue_message(id);
        }
    }

    fn next_blocked(&mut self, peer: u64, number: u32) -> Option<u64> {
        let channel = self.peers.get_mut(peer)?.channels.get(number)?;
        if channel.window == 0 { None } else { channel.blocked.pop_front() }
    }

    /// Tells the peer that messages were taken, without waiting for one to go its way.
    pub(super) fn grant_window(&mut self, session: &Arc<Session>) {
        let (index, number) = session.place();
        let credits = session.take_consumed();
        if let (true, Some(peer)) = (credits > 0, self.peers.id_at(index)) {
            let mut frame = Frame::new(Kind::Window, 0, number, 0);
            frame.credits = credits.into();
            self.send_frame(peer, frame, &[]);
        }
    }

    /// A message that fits into its completion and came alone; `false` if something is before it.
    pub(super) fn short_message_came(&mut self, peer: u64, short: &Short, message: &[u8]) -> bool {
        let number = short.channel.get();
        let channel = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(number));
        let Some(channel) = channel.filter(|c| c.arriving.is_empty() && c.blocked.is_empty()) else {
            return false;
        };
        if message.len() > INLINE_MESSAGE {
            return false;
        }
        channel.session.hear();
        let credits = u32::from(short.credits.get());
        channel.window = channel.window.saturating_add(credits).min(limits::MESSAGE_WINDOW);
        self.context.touch(&channel.session);
        let event = inline_event(&channel.session, message);
        self.announce_message(event);
        true
    }

    /// A message has arrived.
    pub(super) fn message_came(&mut self, fabric: u64, peer: u64, number: u32, inline: &[u8], data: Data) {
        let length = (inline.len() as u64).saturating_add(data.len());
        if length > self.context.options().max_message {
            drop(data);
            return self.break_peer(peer, Status::Protocol);
        }
        let Some(channel) = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(number)) else {
            return drop(data);
        };
        if channel.arriving.len() >= limits::MESSAGE_WINDOW as usize {
            drop(data);
            return self.break_peer(peer, Status::Protocol);
        }
        channel.session.hear();
        self.context.touch(&channel.session);
        if length as usize <= INLINE_MESSAGE {
            let event = match data {
                Data::None => inline_event(&channel.session, inline),
                Data::Eager(eager) => inline_event(&channel.session, &eager),
                // Nobody sends so few bytes this way.
                Data::Rendezvous(_) => return self.break_peer(peer, Status::Protocol),
            };
            return self.arrived(peer, number, Arriving::Ready(event));
        }
        let session = channel.session.clone();
        let held = if inline.is_empty() { Held::Beside(fabric, data) } else { Held::Inline(inline.into()) };
        match self.land(peer, number, &session, held) {
            Ok(arriving) => self.arrived(peer, number, arriving),
            Err(held) => self.arrived(peer, number, Arriving::Held(held)),
        }
    }

    /// Gives a payload memory; gives it back when there is none now.
    fn land(
        &mut self,
        peer: u64,
        channel: u32,
        session: &Arc<Session>,
        held: Held,
    ) -> Result<Arriving, Held> {
        let length = held.len();
        let Ok(buffer) = self.context.alloc(length, UNINITIALISED) else { return Err(held) };
        let Ok(span) = buffer.whole() else { return Err(held) };
        match held {
            Held::Inline(bytes) => {
                let _ = span.copy_from_slice(0, &bytes);
            }
            Held::Beside(fabric, data) => {
                if let Data::Eager(eager) = data {
                    let _ = span.copy_from_slice(0, &eager);
                } else {
                    let id = self.incoming.insert(Incoming::Message { buffer, peer, channel });
                    match self.fabrics.receive(fabric, data, span, Token::Incoming(id), false) {
                        Ok(Started::Pending) => return Ok(Arriving::Moving(id)),
                        Ok(Started::Done) => {}
                        Err(_) => self.break_peer(peer, Status::ConnectionLost),
                    }
                    let Some(Incoming::Message { buffer, .. }) = self.incoming.remove(id) else {
                        return Ok(Arriving::Moving(id));
                    };
                    return Ok(Arriving::Ready(buffer_event(session, &buffer)));
                }
            }
        }
        Ok(Arriving::Ready(buffer_event(session, &buffer)))
    }

    /// UCX has moved the bytes, or failed to.
    pub(super) fn incoming_done(&mut self, id: u64, moved: bool) {
        match self.incoming.remove(id) {
            Some(Incoming::Message { buffer, peer, channel }) => {
                self.message_moved(id, &buffer, peer, channel, moved)
            }
            Some(Incoming::Put { peer, frame }) => {
                let status = if moved { Status::Ok } else { Status::ConnectionLost };
                self.reply(peer, &frame, Kind::PutReply, status);
            }
            Some(Incoming::Call(call, buffer)) => self.call_moved(call, buffer, moved),
            None => {}
        }
    }

    fn message_moved(&mut self, id: u64, buffer: &Arc<Buffer>, peer: u64, number: u32, moved: bool) {
        let channel = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(number));
        let (Some(channel), true) = (channel, moved) else {
            let _ = self.context.release_buffer(buffer);
            return;
        };
        let event = buffer_event(&channel.session, buffer);
        for arriving in &mut channel.arriving {
            if matches!(arriving, Arriving::Moving(moving) if *moving == id) {
                *arriving = Arriving::Ready(event);
                break;
            }
        }
        self.deliver_arrived(peer, number);
    }

    fn arrived(&mut self, peer: u64, number: u32, arriving: Arriving) {
        let Some(channel) = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(number)) else {
            return;
        };
        match arriving {
            Arriving::Ready(event) if channel.arriving.is_empty() => self.announce_message(event),
            other => {
                if matches!(other, Arriving::Held(_)) {
                    self.starved.push((peer, number));
                }
                channel.arriving.push_back(other);
                self.deliver_arrived(peer, number);
            }
        }
    }

    fn deliver_arrived(&mut self, peer: u64, number: u32) {
        while let Some(channel) = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(number))
            && matches!(channel.arriving.front(), Some(Arriving::Ready(_)))
            && let Some(Arriving::Ready(event)) = channel.arriving.pop_front()
        {
            self.announce_message(event);
        }
    }

    fn announce_message(&mut self, event: Completion) {
        self.bump(Count::Messages, 1);
        self.bump(Count::MessageBytes, event.length);
        self.announce(event);
    }

    /// Tries again to find memory for messages that had none.
    pub(super) fn feed_starved(&mut self) {
        for (peer, number) in std::mem::take(&mut self.starved) {
            let Some(channel) = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(number)) else {
                continue;
            };
            let session = channel.session.clone();
            let waiting = std::mem::take(&mut channel.arriving);
            let mut fed = VecDeque::with_capacity(waiting.len());
            let mut hungry = false;
            for arriving in waiting {
                fed.push_back(match arriving {
                    Arriving::Held(held) if !hungry => match self.land(peer, number, &session, held) {
                        Ok(landed) => landed,
                        Err(held) => {
                            hungry = true;
                            Arriving::Held(held)
                        }
                    },
                    other => other,
                });
            }
            if let Some(channel) = self.peers.get_mut(peer).and_then(|peer| peer.channels.get(number)) {
                channel.arriving = fed;
            } else {
                self.drop_arriving(fed);
            }
            if hungry {
                self.starved.push((peer, number));
            }
            self.deliver_arrived(peer, number);
        }
    }

    /// Lets go of messages that nobody will take.
    pub(super) fn drop_arriving(&mut self, arriving: VecDeque<Arriving>) {
        for one in arriving {
            match one {
                Arriving::Held(Held::Beside(_, data)) => drop(data),
                Arriving::Ready(event) if event.flags & COMPLETION_INLINE == 0 => {
                    let buffer = handle::BUFFERS.get(event.value).map(|buffer| buffer.arc());
                    if let Some(buffer) = buffer {
                        let _ = self.context.release_buffer(&buffer);
                    }
                }
                _ => {}
            }
        }
    }
}

fn event(session: &Session, length: u64) -> Completion {
    let mut event = Completion::new(session.user_data(), Op::Message, Status::Ok);
    event.flags = COMPLETION_EVENT;
    event.length = length;
    event
}

/// At most [`INLINE_MESSAGE`] bytes.
fn inline_event(session: &Session, message: &[u8]) -> Completion {
    let mut event = event(session, message.len() as u64);
    event.flags |= COMPLETION_INLINE;
    event.value = session.id();
    event.data[..message.len()].copy_from_slice(message);
    event
}

fn buffer_event(session: &Session, buffer: &Buffer) -> Completion {
    let mut event = event(session, buffer.len() as u64);
    event.value = buffer.id();
    event.data[..8].copy_from_slice(&session.id().to_le_bytes());
    event
}
