//! The links of the control thread: how they come up, what is asked of them, how they end.

use std::collections::HashMap;
use std::sync::Arc;

use super::accept::ListenerEntry;
use super::command::{Answer, Command, tell};
use super::dial::Slot;
use super::hello::STREAM;
use super::link::Link;
use super::message::Message;
use super::notice::Notice;
use super::peer::{Arrival, Peer};
use super::reactor::{Core, Reactor};
use super::wire::clip;
use crate::limits::REFUSAL_TEXT;
use crate::status::{Error, Result, Status};

impl Reactor {
    /// A connection becomes a link; who dialled it is told.
    pub(super) fn add_link(&mut self, arrival: Arrival) {
        let id = self.core.fresh_id(|id| self.links.contains_key(&id));
        if arrival.dialled.is_some() {
            self.by_address.insert(arrival.address.clone(), Slot::Link(id));
        }
        let counters = &self.core.shared.counters;
        counters.links.add(1);
        counters.links_opened.add(1);
        // This tells who dialled: whatever they may look at is as it should be.
        let config = &self.core.shared.config;
        let peer = Peer::new(id, arrival, config.keepalive, config.fabrics & STREAM != 0);
        self.links.insert(id, peer);
        // The peer may have sent more with its last word of the handshake.
        self.with_link(id, |peer, core, listeners| peer.receive(core, listeners));
        self.arm_check(id);
    }

    pub(super) fn share_link(&mut self, id: u32, answer: Answer) {
        if let Some(peer) = self.links.get_mut(&id) {
            peer.share(answer);
        }
    }

    /// Does `work` on a link, sends what came of it, and ends the link if that failed.
    pub(super) fn with_link(
        &mut self,
        id: u32,
        work: impl FnOnce(&mut Peer, &mut Core, &HashMap<u32, ListenerEntry>) -> Result<()>,
    ) {
        let Some(peer) = self.links.get_mut(&id) else { return };
        let shared = self.core.shared.clone();
        let mut done = work(peer, &mut self.core, &self.listeners);
        if done.is_ok() {
            done = peer.conn.flush(&shared.counters);
        }
        if done.is_ok() {
            let token = peer.token();
            done = self.core.watch(&mut peer.conn, token, true);
        }
        if let Err(error) = done {
            self.lose(id, error);
        }
    }

    pub(super) fn on_link(&mut self, id: u32) {
        self.with_link(id, |peer, core, listeners| peer.receive(core, listeners));
    }

    pub(super) fn on_link_timer(&mut self, id: u32) {
        if let Some(peer) = self.links.get_mut(&id) {
            peer.timer.fired();
            self.with_link(id, |peer, core, listeners| peer.check(core, listeners));
            self.arm_check(id);
        }
    }

    fn arm_check(&mut self, id: u32) {
        if let Some(peer) = self.links.get_mut(&id) {
            let (at, token) = (peer.next_check(), peer.token());
            self.core.arm(&mut peer.timer, token, at);
        }
    }

    /// Carries out a command about a link. On one that is lost its answer is the loss.
    pub(super) fn on_link_command(&mut self, command: Command) {
        match command {
            Command::Attach { link, ours, answer } => match self.alive(&link) {
                Ok(id) => self.with_link(id, |peer, core, _| peer.attach(core, ours, answer)),
                Err(error) => answer.fail(error),
            },
            Command::Import { link, ask, answer } => match self.alive(&link) {
                Ok(id) => self.with_link(id, |peer, core, _| peer.import(core, ask, answer)),
                Err(error) => answer.fail(error),
            },
            Command::AcceptAttach { link, request, inbox, ours, credits } => {
                self.on(&link, |peer, core| peer.accept(core, request, inbox, ours, credits));
            }
            Command::RefuseAttach { link, request, status, text } => {
                self.on(&link, |peer, core| peer.refuse(core, request, status, &text));
            }
            Command::Detach { link, route, status } => {
                self.on(&link, |peer, core| peer.detach(core, route, status));
            }
            Command::SendCredits { link, route, count } => {
                self.on(&link, |peer, core| {
                    peer.send_on(core, route, |route| Message::Credits { route, count })
                });
            }
            Command::OfferRing { link, route, ends } => {
                self.on(&link, |peer, core| peer.offer_ring(core, route, ends));
            }
            Command::ExpectStream { link, route, inbox, ticket } if self.alive(&link).is_ok() => {
                self.expect_stream(link, route, inbox, ticket);
            }
            Command::OpenStream { link, route, inbox, ticket } => match self.alive(&link) {
                Ok(_) => self.open_stream(link, route, inbox, &ticket),
                Err(error) => tell(&inbox, Notice::StreamFailed { link, route, error }),
            },
            Command::AskCredits { link, route } => {
                self.on(&link, |peer, core| {
                    peer.send_on(core, route, |route| Message::CreditsWanted { route })
                });
            }
            Command::RefuseCredits { link, route, status } => self.on(&link, |peer, core| {
                peer.send_on(core, route, |route| Message::CreditsRefused { route, status })
            }),
            Command::DropKey { link, export_id } => {
                self.on(&link, |peer, core| peer.send(core, &Message::KeyDropped { export_id }, None));
            }
            Command::Revoked { link, export_id } => {
                self.on(&link, |peer, core| peer.send(core, &Message::KeyRevoked { export_id }, None));
            }
            Command::CloseLink { link } => {
                if let Ok(id) = self.alive(&link) {
                    self.lose(id, Error::new(Status::Canceled, "the link was closed on this side"));
                }
            }
            Command::BreakLink { link, status, text } => {
                if let Ok(id) = self.alive(&link) {
                    let status = if status.is_error() { status } else { Status::ConnectionLost };
                    self.lose(id, Error::new(status, text));
                }
            }
            // The rest is not about links.
            _ => {}
        }
    }

    fn on(&mut self, link: &Arc<Link>, work: impl FnOnce(&mut Peer, &mut Core) -> Result<()>) {
        if let Ok(id) = self.alive(link) {
            self.with_link(id, |peer, core, _| work(peer, core));
        }
    }

    /// The link's id while it is up; else why it is not.
    fn alive(&self, link: &Arc<Link>) -> Result<u32> {
        match self.links.get(&link.id()) {
            Some(peer) if Arc::ptr_eq(&peer.link, link) => Ok(link.id()),
            _ => Err(Error::new(Status::ConnectionLost, "the link is lost; connect again")),
        }
    }

    /// The link ends: the peer is told if it can be, then everybody here.
    pub(super) fn lose(&mut self, id: u32, error: Error) {
        let Some(mut peer) = self.links.remove(&id) else { return };
        let token = peer.token();
        self.core.disarm(&mut peer.timer, token);
        if self.by_address.get(peer.link.address()) == Some(&Slot::Link(id)) {
            self.by_address.remove(peer.link.address());
        }
        self.streams.forget(&peer.link);
        let clean = error.status == Status::Canceled;
        tracing::debug!(link = id, %error, "link ended");
        let counters = &self.core.shared.counters;
        counters.links.subtract(1);
        if !clean {
            counters.links_lost.add(1);
        }
        peer.tell_lost(&error);
        let failure = (!clean).then_some(error.status);
        let bye = Message::Bye { failure, text: clip(&error.message, REFUSAL_TEXT).to_owned() };
        let Peer { link, mut conn, .. } = peer;
        if clean {
            if conn.queue(&bye, None).is_ok() {
                self.close_softly(conn);
            }
        } else {
            // Perhaps it is only slow: then it learns why. What it does not take at once is dropped.
            let _ = conn.queue(&bye, None).and_then(|()| conn.flush(&self.core.shared.counters));
        }
        // Last: it is the only foreign code here.
        let keys = self.core.keys.clone();
        keys.link_lost(&link);
    }
}
