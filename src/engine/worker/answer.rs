//! What comes back: frames from peers are handed to whoever they are for, replies and UCX's own endings settle the
//! operations they belong to.

use std::sync::Arc;

use super::core::Core;
use super::data::Data;
use super::fabric::{Ended, Endpoint, Started, Token, lost_status};
use super::pending::Outcome;
use super::work::Local;
use crate::engine::call::short;
use crate::engine::control::KeyGrant;
use crate::engine::frame::{Frame, Kind, Operands, Parts, Short};
use crate::engine::import;
use crate::engine::key::Key;
use crate::engine::options::way;
use crate::engine::region::Region;
use crate::engine::request::Op;
use crate::status::{Error, Status};
use crate::telemetry::Count;
use crate::ucx::{EndpointId, Message, UcsStatus};

impl Core {
    /// A frame has arrived. What is not for anybody, or breaks the protocol, is dropped; its sender is cut off when we
    /// can tell who it is.
    pub(super) fn receive(&mut self, fabric: u64, message: &mut Message) {
        let data = Data::from(std::mem::replace(&mut message.data, crate::ucx::Data::None));
        let bytes = message.frame();
        if matches!(data, Data::None) && self.receive_short(fabric, bytes) {
            return;
        }
        if !self.receive_frame(fabric, bytes, data) {
            self.context.meter().add(Count::Refused, 1);
        }
    }

    /// A frame that is not short has come; `false` for what is none.
    pub(super) fn receive_frame(&mut self, fabric: u64, bytes: &[u8], data: Data) -> bool {
        let Ok(parts) = Frame::decode(bytes, data.len()) else { return false };
        self.take_frame(fabric, parts, data);
        true
    }

    fn take_frame(&mut self, fabric: u64, parts: Parts<'_>, data: Data) {
        let Parts { frame, kind, header, inline } = parts;
        let Some(peer) = self.sender(fabric, frame.route.get()) else {
            return self.context.meter().add(Count::Refused, 1);
        };
        let channel = frame.channel.get();
        if frame.credits.get() > 0 {
            self.window_opened(peer, channel, frame.credits.get());
        }
        match kind {
            Kind::SessionOpen => self.session_opened(peer, channel),
            Kind::SessionClose => self.session_ended(peer, channel, frame.reply_status()),
            Kind::Window => {}
            Kind::Message => self.message_came(fabric, peer, channel, inline, data),
            Kind::Get | Kind::Put | Kind::Atomic => {
                self.serve(fabric, peer, &frame, kind, header, inline, data)
            }
            Kind::GetReply => self.get_answered(fabric, peer, &frame, inline, data),
            Kind::PutReply => self.put_answered(peer, &frame),
            Kind::AtomicReply => self.atomic_answered(peer, &frame, header),
            Kind::Call | Kind::OneWay => self.call_came(fabric, peer, &frame, kind, header, inline, data),
            Kind::Reply => self.call_answered(fabric, peer, &frame, header, inline, data),
            Kind::Cancel => self.call_canceled(peer, channel, frame.request.get()),
        }
    }

    /// A short message, call or reply has come; `false` for anything else.
    #[inline]
    pub(super) fn receive_short(&mut self, fabric: u64, bytes: &[u8]) -> bool {
        if let Some((short, message)) = Short::decode(bytes) {
            self.short_message(fabric, &short, message);
        } else if let Some(call) = short::decode(bytes) {
            self.short_call(fabric, &call);
        } else {
            return false;
        }
        true
    }

    /// The peer that a route of ours names, if its frames come over this fabric.
    pub(super) fn sender(&mut self, fabric: u64, route: u32) -> Option<u64> {
        let mut peer = self.peer_of(route);
        if peer.is_none() {
            // The notice that a worker attached may be in the inbox while its first frame is here.
            self.take_notices();
            peer = self.peer_of(route);
        }
        peer.filter(|id| self.peers.get(*id).is_some_and(|peer| peer.fabric == fabric))
    }

    fn short_message(&mut self, fabric: u64, short: &Short, message: &[u8]) {
        let Some(peer) = self.sender(fabric, short.route.get()) else {
            return self.context.meter().add(Count::Refused, 1);
        };
        if self.short_message_came(peer, short, message) {
            return;
        }
        if short.credits.get() > 0 {
            self.window_opened(peer, short.channel.get(), u32::from(short.credits.get()));
        }
        self.message_came(fabric, peer, short.channel.get(), message, Data::None);
    }

    /// The operation that a reply is for, if it still waits and was asked of this peer.
    pub(super) fn asked(&mut self, peer: u64, frame: &Frame, ops: &[Op]) -> Option<u64> {
        let id = frame.request.get();
        let pending = self.ops.get(id)?;
        let of_peer = pending.session.place().0 == peer as u32;
        (of_peer && pending.outcome.is_none() && ops.contains(&pending.op)).then_some(id)
    }

    fn get_answered(&mut self, fabric: u64, peer: u64, frame: &Frame, inline: &[u8], data: Data) {
        let Some(id) = self.asked(peer, frame, &[Op::Get]) else { return };
        let status = frame.reply_status();
        if status != Status::Ok {
            return self.settle(id, Outcome::of(status));
        }
        let Some(pending) = self.ops.get_mut(id) else { return };
        let Local::Span(span) = &pending.local else { return };
        let length = pending.length;
        if (inline.len() as u64).saturating_add(data.len()) != length {
            return self.settle(id, Outcome::of(Status::Protocol));
        }
        let bytes = match &data {
            Data::Rendezvous(_) => {
                let span = span.clone();
                return self.get_by_rendezvous(id, fabric, data, span);
            }
            Data::Eager(eager) => eager,
            Data::None => inline,
        };
        let copied = span.copy_from_slice(0, bytes);
        self.settle(id, copied.map_or_else(Outcome::of, |()| Outcome::moved(length)));
    }

    pub(super) fn get_by_rendezvous(
        &mut self,
        id: u64,
        fabric: u64,
        data: Data,
        span: crate::engine::buffer::Span,
    ) {
        let call = self.ops.get(id).and_then(|pending| pending.call.as_ref());
        let counted = call.is_some_and(|call| call.wants_sum());
        let started = self.fabrics.receive(fabric, data, span, Token::Op(id), counted);
        let Some(pending) = self.ops.get_mut(id) else { return };
        pending.pinned = true;
        match started {
            Ok(Started::Pending) => {
                pending.held += 1;
                pending.receiving = true;
            }
            Ok(Started::Done) => {
                let length = pending.length;
                self.settle(id, Outcome::moved(length));
            }
            Err(status) => self.settle(id, Outcome::of(status)),
        }
    }

    fn put_answered(&mut self, peer: u64, frame: &Frame) {
        let Some(id) = self.asked(peer, frame, &[Op::Put]) else { return };
        let length = self.ops.get(id).map_or(0, |pending| pending.length);
        let outcome = match frame.reply_status() {
            Status::Ok => Outcome::moved(length),
            status => Outcome::of(status),
        };
        self.settle(id, outcome);
    }

    fn atomic_answered(&mut self, peer: u64, frame: &Frame, header: &[u8]) {
        let Some(id) = self.asked(peer, frame, &[Op::FetchAdd, Op::CompareSwap]) else { return };
        let outcome = match (frame.reply_status(), Operands::decode(header)) {
            (Status::Ok, Ok(operands)) => Outcome { value: operands.operand.get(), ..Outcome::moved(8) },
            (Status::Ok, Err(status)) | (status, _) => Outcome::of(status),
        };
        self.settle(id, outcome);
    }

    /// UCX has let go of an operation.
    pub(super) fn ucx_completed(&mut self, ended: Ended) {
        match ended.token {
            Token::Op(id) | Token::Flushed(id) => self.op_let_go(id, &ended),
            Token::Incoming(id) => self.incoming_done(id, ended.status.is_ok()),
            Token::Served(peer) => self.served(peer),
            Token::Frame => {}
        }
    }

    fn op_let_go(&mut self, id: u64, ended: &Ended) {
        let Some(pending) = self.ops.get_mut(id) else { return };
        pending.held = pending.held.saturating_sub(1);
        let received = ended.kind == crate::ucx::Kind::Receive;
        if let (Some(call), Some(sum)) = (&mut pending.call, ended.sum) {
            call.counted(sum);
        }
        let end = match &ended.status {
            Err(status) => Some(lost(status)),
            Ok(()) if pending.way == way::RMA => {
                Some(Outcome { value: ended.value, ..Outcome::moved(pending.length) })
            }
            Ok(()) if received || matches!(pending.op, Op::Send | Op::OneWay) => {
                Some(Outcome::moved(pending.length))
            }
            // The frame is on its way; the reply is the end.
            Ok(()) => None,
        };
        match end {
            Some(outcome) => self.settle(id, outcome),
            None => self.try_finish(id),
        }
    }

    /// UCX gave an endpoint up.
    pub(super) fn endpoint_failed(&mut self, fabric: u64, endpoint: EndpointId, status: UcsStatus) {
        tracing::debug!(?status, "endpoint failed");
        if self.fabrics.bury(fabric, endpoint) {
            return;
        }
        let of =
            self.peers.ids(|peer| peer.fabric == fabric && peer.endpoint == Some(Endpoint::Ucx(endpoint)));
        for id in of {
            self.suspect(id);
        }
    }

    /// The peer has answered what a key grants.
    pub(super) fn imported(&mut self, id: u64, result: Result<KeyGrant, Error>) {
        let asked = self.importing.remove(&id);
        let Some(pending) = self.ops.get(id) else {
            if let (Some((link, export)), Ok(_)) = (asked, result) {
                self.context.control().drop_key(&link, export);
            }
            return;
        };
        let Some(link) = pending.session.link().cloned() else { return };
        let Some(key) = pending.key.as_ref().and_then(|key| Key::decode(&key[..]).ok()) else { return };
        let region = result.and_then(|grant| import::region(key, &link, grant, &self.context));
        match region {
            Ok(region) => {
                self.imports.retain(|_, known| known.strong_count() > 0);
                self.imports.insert((link.id(), region.export()), Arc::downgrade(&region));
                self.hand_out(id, region);
            }
            Err(error) => {
                let detail = error.os_errno;
                self.settle(id, Outcome { detail, ..Outcome::of(error.status) });
            }
        }
    }

    /// Gives the user a handle of a region.
    pub(super) fn hand_out(&mut self, id: u64, region: Arc<Region>) {
        let length = region.len();
        let outcome = match crate::engine::handle::REGIONS.insert(region) {
            Some(handle) => Outcome { value: handle, ..Outcome::moved(length) },
            None => Outcome::of(Status::LimitReached),
        };
        self.settle(id, outcome);
    }

    /// A peer took a key back.
    pub(super) fn revoked(&mut self, link: u32, export: u64) {
        if let Some(region) = self.imports.get(&(link, export)).and_then(std::sync::Weak::upgrade) {
            region.set_revoked();
        }
    }
}

/// What a failure of UCX means: its operations fail when the peer does.
fn lost(status: &UcsStatus) -> Outcome {
    Outcome { detail: status.code(), ..Outcome::of(lost_status(status.status())) }
}
