//! Sessions and the peers below them: dialling, attaching, credits, opening, accepting, closing.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use super::channel::{Channel, Peer, Stage};
use super::core::Core;
use super::pending::Outcome;
use crate::engine::control::{Attach, Link, Notice};
use crate::engine::fabric::FabricKey;
use crate::engine::frame::{Frame, Kind};
use crate::engine::info::SessionState;
use crate::engine::request::{COMPLETION_EVENT, Completion, Op};
use crate::engine::session::Session;
use crate::limits;
use crate::status::{Error, Status};
use crate::telemetry::Count;

impl Core {
    /// Opens a session: at once over a peer that is up, else when it is.
    pub(super) fn connect(&mut self, session: Arc<Session>) {
        let known = self.peers.ids(|peer| {
            peer.accepted.is_none() && peer.stage != Stage::Down && peer.address == session.address()
        });
        let id = match known.first() {
            Some(id) => *id,
            None => {
                let peer = Peer::new(Stage::Dialling, session.address().to_string());
                let id = self.peers.insert(peer);
                self.context.control().dial(session.address(), &self.inbox, id);
                id
            }
        };
        if let Some(peer) = self.peers.get_mut(id) {
            peer.waiting.push_back(session);
        }
        self.open_waiting(id);
    }

    /// Opens sessions that wait, as far as credits go.
    pub(super) fn open_waiting(&mut self, id: u64) {
        // Only the dialler opens sessions.
        let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.accepted.is_none()) else { return };
        let (Some(_), Some(link)) = (peer.open_endpoint(), peer.link.clone()) else { return };
        let mut opened = Vec::new();
        while peer.credits > 0
            && let Some(session) = peer.waiting.pop_front()
        {
            peer.credits -= 1;
            let channel = peer.channels.open(Channel::new(session.clone()));
            session.opened(&link, id as u32, channel);
            opened.push((session, channel));
        }
        let low = !peer.waiting.is_empty() || peer.credits < limits::FIRST_CREDITS / 2;
        if low && !peer.asked {
            peer.asked = true;
            self.context.control().ask_credits(&link, self.route_of(id));
        }
        for (session, channel) in opened {
            self.context.touch(&session);
            self.send_frame(id, Frame::new(Kind::SessionOpen, 0, channel, 0), &[]);
            self.connected(&session, Outcome { value: session.id(), ..Outcome::of(Status::Ok) });
        }
        self.sweep_if_wanted();
    }

    fn connected(&mut self, session: &Arc<Session>, outcome: Outcome) {
        let count = if outcome.status == Status::Ok { Count::Connects } else { Count::ConnectsFailed };
        session.meter().bump(count, 1);
        self.bump(count, 1);
        if outcome.status == Status::Ok {
            // Of the worker only: a session connects once, and histograms are large.
            self.meter.sample(Op::SessionConnect, session.age());
            session.span().in_scope(|| tracing::debug!("open"));
        }
        self.complete(session.user_data(), Op::SessionConnect, outcome);
    }

    fn connect_failed(&mut self, session: &Arc<Session>, error: &Error) {
        session.finish(SessionState::Closed);
        let detail = if error.os_errno != 0 { error.os_errno } else { error.transport };
        let _span = session.span().entered();
        match error.status {
            // What a status alone does not tell: which setting, what was said instead.
            Status::SettingsMismatch | Status::Protocol => {
                tracing::warn!(%error, "connect failed");
            }
            _ => tracing::debug!(%error, "connect failed"),
        }
        self.connected(session, Outcome { detail, value: session.id(), ..Outcome::of(error.status) });
    }

    pub(super) fn cancel_connects(&mut self, user_data: u64) {
        let error = Error::from(Status::Canceled);
        for id in self.peers.ids(|peer| peer.waiting.iter().any(|s| s.user_data() == user_data)) {
            let Some(peer) = self.peers.get_mut(id) else { continue };
            let (cancelled, stay) =
                peer.waiting.drain(..).partition::<Vec<_>, _>(|s| s.user_data() == user_data);
            peer.waiting.extend(stay);
            for session in cancelled {
                self.connect_failed(&session, &error);
            }
        }
    }

    /// Does what the control thread reports.
    pub(super) fn heed(&mut self, notice: Notice) {
        match notice {
            Notice::LinkUp { token, link } => self.link_up(token, link),
            Notice::DialFailed { token, error } => self.peer_failed(token, &error),
            Notice::Attach { link, user_data, request, peer, .. } => {
                self.attach_asked(&link, user_data, request, &peer);
            }
            Notice::Attached { route, peer, credits, .. } => self.attached(route, &peer, credits),
            Notice::AttachRefused { route, error, .. } => {
                if let Some(id) = self.peer_of(route) {
                    self.peer_failed(id, &error);
                }
            }
            Notice::Detached { route, status, .. } => {
                self.last_words();
                if let Some(id) = self.peer_of(route) {
                    self.drop_peer(id, if status == Status::Ok { Status::Canceled } else { status });
                }
            }
            Notice::Ring { route, ends } => self.join_ring(route, ends),
            Notice::Stream { link, route, socket, input } => self.stream_came(&link, route, socket, input),
            Notice::StreamFailed { link, route, error } => self.stream_refused(&link, route, &error),
            Notice::CreditsWanted { link, route } => self.credits_wanted(&link, route),
            Notice::Credits { route, count, .. } => self.credits_came(route, count),
            Notice::CreditsRefused { route, status, .. } => self.credits_refused(route, status),
            Notice::Imported { token, result } => self.imported(token, result),
            Notice::Revoked { link, export_id } => self.revoked(link.id(), export_id),
            Notice::LinkLost { link, error } => self.link_lost(&link, &error),
        }
    }

    fn link_up(&mut self, token: u64, link: Arc<Link>) {
        if link.streams() {
            return self.ask_stream(token, &link);
        }
        let result = self.fabric_for(&link).and_then(|fabric| Ok((fabric, self.fabrics.address(fabric)?)));
        let (fabric, address) = match result {
            Ok(found) => found,
            Err(error) => return self.peer_failed(token, &error),
        };
        let Some(peer) = self.peers.get_mut(token) else { return };
        peer.stage = Stage::Attaching;
        peer.fabric = fabric;
        peer.link = Some(link.clone());
        let ours = Attach { route: self.route_of(token), address };
        self.context.control().attach(&link, &self.inbox, ours);
    }

    /// The UCX worker for a link's fabric, made when it is first needed.
    fn fabric_for(&mut self, link: &Arc<Link>) -> crate::status::Result<u64> {
        let key = FabricKey::of(link, self.context.options())?;
        let fabric = self.fabrics.open(&self.context, &key)?;
        self.context.link_fabric(link, key);
        Ok(fabric)
    }

    fn attached(&mut self, route: u32, theirs: &Attach, credits: u32) {
        let Some(id) = self.peer_of(route) else { return };
        let Some(peer) = self.peers.get_mut(id) else { return };
        if let Some(link) = peer.link.clone().filter(|link| link.streams()) {
            return self.dial_stream(id, &link, theirs, credits);
        }
        match self.fabrics.connect(peer.fabric, &theirs.address) {
            Ok(endpoint) => {
                peer.endpoint = Some(endpoint);
                peer.route = theirs.route;
                peer.credits = credits;
                peer.stage = Stage::Up;
                self.offer_ring(id);
                self.open_waiting(id);
            }
            Err(error) => {
                self.break_link(id, error.status, "no UCX endpoint");
                self.peer_failed(id, &error);
            }
        }
    }

    /// Tells a peer on this host that its short frames may come by a ring. Without one all goes by UCX.
    fn offer_ring(&mut self, id: u64) {
        let Some(peer) = self.peers.get(id) else { return };
        let Some(link) = peer.link.clone().filter(|link| link.local()) else { return };
        if !self.fabrics.is_own(peer.fabric) {
            return;
        }
        match self.fabrics.open_ring(peer.fabric) {
            Ok(ends) => self.context.control().offer_ring(&link, self.route_of(id), ends),
            Err(error) => tracing::warn!(%error, "no ring for a peer on this host"),
        }
    }

    fn join_ring(&mut self, route: u32, ends: [OwnedFd; 2]) {
        let Some(peer) = self.peer_of(route).and_then(|id| self.peers.get(id)) else { return };
        if self.fabrics.is_own(peer.fabric)
            && let Err(error) = self.fabrics.join_ring(peer.fabric, ends)
        {
            tracing::warn!(%error, "a peer's ring is not used");
        }
    }

    pub(super) fn break_link(&mut self, id: u64, status: Status, text: &str) {
        if let Some(link) = self.peers.get(id).and_then(|peer| peer.link.clone()) {
            self.context.control().break_link(&link, status, text);
        }
    }

    /// The peer cannot be reached: every session that waits for it fails.
    pub(super) fn peer_failed(&mut self, id: u64, error: &Error) {
        let Some(mut peer) = self.remove_peer(id) else { return };
        for session in peer.waiting.drain(..) {
            self.connect_failed(&session, error);
        }
    }

    fn attach_asked(&mut self, link: &Arc<Link>, user_data: u64, request: u32, theirs: &Attach) {
        if theirs.address.is_empty() {
            return self.stream_asked(link, user_data, request, theirs.route);
        }
        let mut peer = Peer::new(Stage::Up, link.address().to_string());
        peer.accepted = Some(user_data);
        peer.route = theirs.route;
        peer.link = Some(link.clone());
        let id = self.peers.insert(peer);
        let made = self.fabric_for(link).and_then(|fabric| {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.fabric = fabric;
            }
            Ok((self.fabrics.connect(fabric, &theirs.address)?, self.fabrics.address(fabric)?))
        });
        let control = self.context.control();
        match made {
            Ok((endpoint, address)) => {
                let granted = self.context.reserve_sessions(limits::FIRST_CREDITS);
                let ours = Attach { route: self.route_of(id), address };
                control.accept_attach(link, request, &self.inbox, ours, granted);
                if let Some(peer) = self.peers.get_mut(id) {
                    peer.endpoint = Some(endpoint);
                    peer.granted = granted;
                }
                self.offer_ring(id);
            }
            Err(error) => {
                tracing::warn!(%error, "a peer could not be attached");
                control.refuse_attach(link, request, error.status, &error.message);
                self.remove_peer(id);
            }
        }
    }

    fn credits_wanted(&mut self, link: &Arc<Link>, route: u32) {
        let Some(id) = self.peer_of(route) else { return };
        if self.peers.get(id).is_none_or(|peer| peer.accepted.is_none()) {
            return self.context.control().refuse_credits(link, route, Status::Protocol);
        }
        let granted = self.context.reserve_sessions(limits::SESSION_CREDITS);
        let control = self.context.control();
        if granted == 0 {
            return control.refuse_credits(link, route, Status::LimitReached);
        }
        control.send_credits(link, route, granted);
        if let Some(peer) = self.peers.get_mut(id) {
            peer.granted += granted;
        }
    }

    fn credits_came(&mut self, route: u32, count: u32) {
        let Some(id) = self.peer_of(route) else { return };
        if let Some(peer) = self.peers.get_mut(id) {
            peer.asked = false;
            peer.credits = peer.credits.saturating_add(count);
        }
        self.open_waiting(id);
    }

    fn credits_refused(&mut self, route: u32, status: Status) {
        let Some(id) = self.peer_of(route) else { return };
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.asked = false;
        let error = Error::new(status, "the peer has no room for another session");
        for session in std::mem::take(&mut peer.waiting) {
            self.connect_failed(&session, &error);
        }
    }

    /// What a peer's frames to us carry: `worker << 22 | generation << 16 | index`, unique in the context.
    pub(super) fn route_of(&self, id: u64) -> u32 {
        self.number << 22 | ((id >> 32) as u32 & 0x3F) << 16 | (id as u32 & 0xFFFF)
    }

    /// The peer that a route of ours names.
    pub(super) fn peer_of(&self, route: u32) -> Option<u64> {
        let id = self.peers.id_at(route & 0xFFFF)?;
        (self.route_of(id) == route).then_some(id)
    }

    /// A dialler opened a session.
    pub(super) fn session_opened(&mut self, id: u64, number: u32) {
        let limit = self.context.options().max_sessions;
        let (Some(worker), Some(peer)) = (self.worker.upgrade(), self.peers.get_mut(id)) else { return };
        let (Some(user_data), Some(link)) = (peer.accepted, peer.link.clone()) else { return };
        if peer.granted == 0 {
            return self.break_peer(id, Status::Protocol);
        }
        // The slot that was granted becomes the session's.
        peer.granted -= 1;
        self.context.granted_used(1);
        let session = match Session::create(&worker, link.address(), user_data, true) {
            Ok(session) => session,
            Err(_) => return self.break_peer(id, Status::LimitReached),
        };
        if !peer.channels.open_at(number, limit, Channel::new(session.clone())) {
            session.finish(SessionState::Closed);
            return self.break_peer(id, Status::Protocol);
        }
        session.opened(&link, id as u32, number);
        self.context.touch(&session);
        let mut event = Completion::new(user_data, Op::SessionAccepted, Status::Ok);
        event.value = session.id();
        event.flags = COMPLETION_EVENT;
        self.announce(event);
        self.bump(Count::Accepts, 1);
        self.sweep_if_wanted();
    }

    /// The user closes a session.
    pub(super) fn close_session(&mut self, session: &Arc<Session>, user_data: u64) {
        let waiting = self.peers.ids(|peer| peer.waiting.iter().any(|s| Arc::ptr_eq(s, session)));
        for id in waiting {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.waiting.retain(|s| !Arc::ptr_eq(s, session));
            }
            self.connect_failed(session, &Status::Canceled.into());
        }
        if session.state() == SessionState::Open {
            let (peer, channel) = session.place();
            session.closing();
            if let Some(id) = self.peers.id_at(peer) {
                let frame = Frame::new(Kind::SessionClose, 0, channel, 0).with_status(Status::Ok);
                self.send_frame(id, frame, &[]);
                self.end_channel(id, channel, Status::Canceled);
            }
        }
        let known = crate::engine::handle::SESSIONS.get(session.id()).is_some();
        session.finish(SessionState::Closed);
        let status = if known { Status::Ok } else { Status::StaleHandle };
        let outcome = Outcome { value: session.id(), ..Outcome::of(status) };
        self.complete(user_data, Op::SessionClosed, outcome);
    }

    /// The peer ended a session.
    pub(super) fn session_ended(&mut self, id: u64, channel: u32, status: Status) {
        let status = if status == Status::Ok { Status::Canceled } else { status };
        if let Some(session) = self.end_channel(id, channel, status) {
            let reason = if status == Status::Canceled { Status::Ok } else { status };
            self.announce_end(&session, SessionState::Closed, reason);
        }
    }

    pub(super) fn announce_end(&mut self, session: &Arc<Session>, state: SessionState, status: Status) {
        session.span().in_scope(|| tracing::debug!(?state, %status, "ended"));
        session.finish(state);
        let count = if state == SessionState::Lost { Count::SessionsLost } else { Count::SessionsClosed };
        self.bump(count, 1);
        if self.forget_unseen(session) {
            return;
        }
        let mut event = Completion::new(session.user_data(), Op::SessionClosed, status);
        event.value = session.id();
        event.flags = COMPLETION_EVENT;
        self.announce(event);
    }

    /// Takes a channel away; its operations end with `status`, what UCX holds of them is waited for.
    pub(super) fn end_channel(&mut self, id: u64, number: u32, status: Status) -> Option<Arc<Session>> {
        let peer = self.peers.get_mut(id)?;
        let lost = peer.stage == Stage::Down;
        let dialled = peer.accepted.is_none();
        let channel = peer.channels.close(number, dialled)?;
        if dialled {
            peer.credits += 1;
        } else {
            // The dialler may open another one in its place.
            let slots = u32::from(channel.session.give_slot());
            peer.granted += slots;
            self.context.granted_back(slots);
        }
        let session = channel.session.clone();
        self.end_calls(&channel);
        self.drop_arriving(channel.arriving);
        for op in self.ops.ids(|op| op.parent.is_none() && Arc::ptr_eq(&op.session, &session)) {
            if lost { self.lose(op, status) } else { self.abort(op, status) }
        }
        self.open_waiting(id);
        Some(session)
    }

    /// Ends sessions that were idle for too long.
    pub(super) fn expire_sessions(&mut self, now: Instant) {
        let idle = self.context.options().idle_timeout;
        if idle.is_zero() || !self.timers.take_sweep(now) {
            return;
        }
        let ticks = self.context.ticks();
        let limit = (idle.as_millis() as u32).max(1);
        let mut expired = Vec::new();
        for id in self.peers.ids(|peer| peer.stage == Stage::Up) {
            let Some(peer) = self.peers.get_mut(id) else { continue };
            let link = peer.link.as_ref().filter(|_| peer.accepted.is_some());
            if link.is_some_and(|link| self.context.exports().is_mapped_by(link.id())) {
                continue;
            }
            let old =
                peer.channels.iter().filter(|(_, c)| ticks.wrapping_sub(c.session.last_used()) >= limit);
            expired.extend(old.map(|(number, channel)| (id, number, channel.session.clone())));
        }
        for (id, number, session) in expired {
            if self.ops.ids(|op| Arc::ptr_eq(&op.session, &session)).is_empty() {
                let frame = Frame::new(Kind::SessionClose, 0, number, 0).with_status(Status::TimedOut);
                self.send_frame(id, frame, &[]);
                self.end_channel(id, number, Status::TimedOut);
                self.announce_end(&session, SessionState::Closed, Status::TimedOut);
            }
        }
    }

    fn sweep_if_wanted(&mut self) {
        if !self.context.options().idle_timeout.is_zero() {
            self.timers.sweep();
        }
    }

    /// The worker closes: peers are told, everything in flight ends with `CANCELED`.
    pub(super) fn close_peers(&mut self) {
        for id in self.peers.ids(|_| true) {
            let Some(peer) = self.peers.get_mut(id) else { continue };
            let numbers: Vec<u32> = peer.channels.iter().map(|(number, _)| number).collect();
            for number in numbers {
                let frame = Frame::new(Kind::SessionClose, 0, number, 0).with_status(Status::Ok);
                self.send_frame(id, frame, &[]);
            }
        }
        self.progress_fabrics();
        self.context.control().forget(&self.inbox);
        for id in self.peers.ids(|_| true) {
            self.drop_peer(id, Status::Canceled);
        }
    }
}
