//! The initiator: starts what a request asks for, the way its region and session allow.

use std::sync::Arc;

use zerocopy::IntoBytes;

use super::core::Core;
use super::fabric::Token;
use super::fabric::{Endpoint, Started};
use super::mapped;
use super::pending::{Outcome, Pending};
use super::work::{Local, Work};
use crate::engine::control::KeyAsk;
use crate::engine::fabric::FabricKey;
use crate::engine::frame::{Access, Compact, Frame, Kind, Operands};
use crate::engine::info::SessionState;
use crate::engine::key::{Key, Rights};
use crate::engine::options::way;
use crate::engine::region::{Region, Way};
use crate::engine::request::Op;
use crate::engine::session::Session;
use crate::status::Status;

impl Core {
    /// Starts a checked request.
    pub(super) fn start(&mut self, work: Work) {
        let user_data = work.user_data;
        let op = work.op;
        let Some(session) = work.session.clone() else {
            return self.complete(user_data, op, Outcome::of(Status::Ok));
        };
        let refused = match session.state() {
            SessionState::Open => None,
            SessionState::Connecting => Some(Status::WrongState),
            SessionState::Closing | SessionState::Closed => Some(Status::Canceled),
            SessionState::Lost => Some(Status::ConnectionLost),
        };
        if let Some(status) = refused.or_else(|| foreign_region(&work, &session)) {
            return self.complete(user_data, op, Outcome::of(status));
        }
        self.context.touch(&session);
        if work.segments.is_some() { self.start_pieces(work, session) } else { self.start_one(work, session) }
    }

    fn start_one(&mut self, work: Work, session: Arc<Session>) {
        let timeout_us = work.timeout_us;
        let id = self.track(
            Pending {
                region: work.region,
                region_offset: work.region_offset,
                local: work.local,
                length: work.length,
                key: work.key,
                operand: work.operand,
                compare: work.compare,
                call: work.call,
                ..Pending::new(work.user_data, work.op, session)
            },
            timeout_us,
        );
        self.issue(id);
    }

    /// A vectored request: one operation for each segment, one completion for all.
    fn start_pieces(&mut self, work: Work, session: Arc<Session>) {
        let (Some(segments), Local::Span(whole)) = (work.segments, work.local) else { return };
        let mut parent = Pending::new(work.user_data, work.op, session.clone());
        parent.pieces = segments.len() as u32;
        let parent = self.track(parent, work.timeout_us);
        for segment in &segments {
            let local = whole.slice(segment.buffer_offset, segment.length);
            let piece = Pending {
                region: work.region.clone(),
                region_offset: segment.region_offset,
                local: local.map_or(Local::None, Local::Span),
                length: segment.length,
                parent: Some(parent),
                ..Pending::new(work.user_data, work.op, session.clone())
            };
            let id = self.track(piece, 0);
            self.issue(id);
        }
    }

    /// Sends a tracked operation on its way.
    pub(super) fn issue(&mut self, id: u64) {
        let Some(pending) = self.ops.get_mut(id) else { return };
        match pending.op {
            Op::Send => return self.issue_message(id),
            Op::Flush => return self.issue_flush(id),
            Op::RegionImport => return self.import(id),
            Op::Call | Op::OneWay => return self.issue_call(id),
            _ => {}
        }
        let Some(region) = pending.region.clone() else {
            return self.settle(id, Outcome::of(Status::Internal));
        };
        let right = match pending.op {
            Op::Get => Rights::READ,
            Op::Put => Rights::WRITE,
            _ => Rights::ATOMIC,
        };
        let length = if right == Rights::ATOMIC { 8 } else { pending.length };
        if let Err(status) = region.check(pending.region_offset, length, right) {
            return self.settle(id, Outcome::of(status));
        }
        match region.way() {
            Way::Mapped(_) => {
                pending.way = way::MAPPED;
                self.issue_mapped(id, &region)
            }
            // UCX emulates atomics where there is no RDMA device, and newer versions do it wrong.
            Way::Rma { .. } if right != Rights::ATOMIC || self.is_rdma(id) => self.issue_rma(id, &region),
            Way::Rma { .. } | Way::Message => self.issue_access(id, &region),
        }
    }

    fn is_rdma(&self, id: u64) -> bool {
        let place = self.ops.get(id).map(|pending| pending.session.place().0);
        let peer = place.and_then(|index| self.peers.id_at(index)).and_then(|id| self.peers.get(id));
        peer.is_some_and(|peer| self.fabrics.key(peer.fabric).is_some_and(FabricKey::has_rdma))
    }

    fn issue_mapped(&mut self, id: u64, region: &Arc<Region>) {
        let Some(pending) = self.ops.get_mut(id) else { return };
        if matches!(pending.op, Op::Get | Op::Put) && pending.length > mapped::STEP {
            return self.copies.push_back(id);
        }
        let outcome = mapped::run(pending, region);
        self.settle(id, outcome);
    }

    /// Get, put or atomic by messages: the peer's engine checks and moves.
    fn issue_access(&mut self, id: u64, region: &Arc<Region>) {
        let Some(pending) = self.ops.get_mut(id) else { return };
        let atomic = matches!(pending.op, Op::FetchAdd | Op::CompareSwap);
        let key = region.key();
        let access = Access {
            export: key.export.into(),
            secret: key.secret.0,
            offset: pending.region_offset.into(),
            length: (if atomic { 8 } else { pending.length }).into(),
        };
        let (peer, channel) = pending.session.place();
        let kind = match pending.op {
            Op::Get => Kind::Get,
            Op::Put => Kind::Put,
            _ => Kind::Atomic,
        };
        let mut frame = Frame::new(kind, 0, channel, id);
        frame.method = u32::from(pending.op == Op::CompareSwap).into();
        if !atomic {
            let payload = if kind == Kind::Put {
                std::mem::replace(&mut pending.local, Local::None)
            } else {
                Local::None
            };
            if kind == Kind::Put {
                self.note_put(id);
            }
            return self.send_op(id, peer, frame, access.as_bytes(), &payload);
        }
        let operands = Operands { operand: pending.operand.into(), compare: pending.compare.into() };
        let mut header = [0; size_of::<Access>() + size_of::<Operands>()];
        header[..size_of::<Access>()].copy_from_slice(access.as_bytes());
        header[size_of::<Access>()..].copy_from_slice(operands.as_bytes());
        self.send_op(id, peer, frame, &header, &Local::None)
    }

    /// Sends an operation's frame; what UCX holds is counted, a failure is its outcome.
    pub(super) fn send_op(&mut self, id: u64, peer: u32, frame: Frame, header: &[u8], payload: &Local) {
        let started = match self.peers.id_at(peer) {
            Some(peer) => self.send(peer, frame, header, payload, Token::Op(id)),
            None => Err(Status::ConnectionLost),
        };
        let Some(pending) = self.ops.get_mut(id) else { return };
        pending.pinned |= matches!(payload, Local::Span(span) if span.len() > Compact::room(header.len()));
        match started {
            Ok(Started::Done) => {
                if pending.op == Op::Send {
                    let length = pending.length;
                    self.settle(id, Outcome::moved(length));
                }
            }
            Ok(Started::Pending) => pending.held += 1,
            Err(status) => self.settle(id, Outcome::of(status)),
        }
    }

    /// Sends a frame to a peer. Short payloads ride in the frame, so that UCX takes its shortest path.
    pub(super) fn send(
        &mut self,
        peer: u64,
        mut frame: Frame,
        header: &[u8],
        payload: &Local,
        token: Token,
    ) -> Result<Started, Status> {
        let Some(to) = self.peers.get_mut(peer) else { return Err(Status::ConnectionLost) };
        let endpoint = to.open_endpoint().ok_or(Status::ConnectionLost)?;
        frame.route = to.route.into();
        let fabric = to.fabric;
        let room = Compact::room(header.len());
        let span = match payload {
            Local::Span(span) if span.len() <= room => {
                span.copy_to_slice(0, self.compact.fill(frame, header, span.len(), 0)?)?;
                None
            }
            Local::Span(span) => Some(span.clone()),
            Local::Copied(bytes) if bytes.len() > room => Some(self.context.span_of(bytes)?),
            short => {
                let bytes = short.bytes();
                self.compact.fill(frame, header, bytes.len(), 0)?.copy_from_slice(bytes);
                None
            }
        };
        if let Some(span) = &span {
            self.compact.fill(frame, header, 0, span.len() as u64)?;
        }
        self.fabrics.send(fabric, endpoint, self.compact.as_bytes(), span, token)
    }

    /// Sends a frame that nobody waits for; a failure shows at the endpoint.
    pub(super) fn send_frame(&mut self, peer: u64, frame: Frame, header: &[u8]) {
        let _ = self.send(peer, frame, header, &Local::None, Token::Frame);
    }

    fn note_put(&mut self, id: u64) {
        let Some(pending) = self.ops.get_mut(id) else { return };
        let (peer, channel) = pending.session.place();
        let Some(peer) = self.peers.id_at(peer).and_then(|id| self.peers.get_mut(id)) else { return };
        if let Some(channel) = peer.channels.get(channel) {
            pending.epoch = Some(channel.flushes.put());
        }
    }

    /// A put has ended: flushes that waited for it end too.
    pub(super) fn put_ended(&mut self, session: &Arc<Session>, epoch: u64) {
        let (peer, channel) = session.place();
        let Some(peer) = self.peers.id_at(peer).and_then(|id| self.peers.get_mut(id)) else { return };
        let Some(channel) = peer.channels.get(channel) else { return };
        for flush in channel.flushes.ended(epoch) {
            self.settle(flush, Outcome::of(Status::Ok));
        }
    }

    /// A flush ends when the puts before it have: replies say so, and UCX for what it moves by itself.
    fn issue_flush(&mut self, id: u64) {
        let Some(pending) = self.ops.get_mut(id) else { return };
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let (index, number) = pending.session.place();
        let Some(peer) = self.peers.id_at(index).and_then(|id| self.peers.get_mut(id)) else {
            return self.settle(id, Outcome::of(Status::ConnectionLost));
        };
        let (fabric, endpoint) = (peer.fabric, peer.open_endpoint());
        let quiet = peer.channels.get(number).is_some_and(|channel| channel.flushes.flush(id));
        if let (true, Some(Endpoint::Ucx(endpoint))) =
            (self.fabrics.key(fabric).is_some_and(|key| key.rma), endpoint)
        {
            self.flush_rma(id, fabric, endpoint);
        }
        if quiet {
            self.settle(id, Outcome::of(Status::Ok));
        }
    }

    /// Asks the peer for what a key grants.
    fn import(&mut self, id: u64) {
        let Some(pending) = self.ops.get(id) else { return };
        let decoded =
            pending.key.as_ref().ok_or(Status::InvalidArgument.into()).and_then(|key| Key::decode(&key[..]));
        let Some(link) = pending.session.link().cloned() else {
            return self.settle(id, Outcome::of(Status::WrongState));
        };
        let key = match decoded.and_then(|key| key.check_context(&link.peer().uuid).map(|()| key)) {
            Ok(key) => key,
            Err(error) => return self.settle(id, Outcome::of(error.status)),
        };
        let known = self.imports.get(&(link.id(), key.export)).and_then(std::sync::Weak::upgrade);
        if let Some(region) = known
            && region.key() == &key
            && !region.is_revoked()
        {
            return self.hand_out(id, region);
        }
        let ask = KeyAsk {
            export_id: key.export,
            secret: key.secret.0,
            ways: self.context.ways(&link),
            fabric: link.fabric() as u8,
        };
        self.importing.insert(id, (link.clone(), key.export));
        self.context.control().import(&link, &self.inbox, id, ask);
    }
}

fn foreign_region(work: &Work, session: &Session) -> Option<Status> {
    let region = work.region.as_ref()?;
    let same = session.link().is_some_and(|link| link.peer().uuid == region.key().context);
    (!same).then_some(Status::InvalidArgument)
}
