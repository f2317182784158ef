//! How peers are lost: the control connection ends, a worker detaches, UCX fails, the protocol is broken. Sessions end,
//! operations complete, and what UCX had for the peer goes.

use std::sync::Arc;

use super::channel::{Peer, Stage};
use super::core::{Core, GRACE};
use super::fabric::Leaving;
use super::message::Incoming;
use crate::engine::control::Link;
use crate::engine::info::SessionState;
use crate::status::{Error, Status};

/// Rounds of progress for what a leaving peer has sent.
const LAST_WORDS: u32 = 64;

impl Core {
    /// What a peer sent before it left on purpose has mostly arrived, and is taken before it is let go.
    pub(super) fn last_words(&mut self) {
        for _ in 0..LAST_WORDS {
            if !self.progress_fabrics() {
                break;
            }
        }
    }

    /// A link is gone: endpoints are closed by force, operations end, sessions are lost.
    pub(super) fn link_lost(&mut self, link: &Arc<Link>, error: &Error) {
        let on_link = |peer: &Peer| peer.link.as_ref().is_some_and(|l| l.id() == link.id());
        for id in self.peers.ids(on_link) {
            if error.status == Status::Canceled {
                self.last_words();
            }
            self.drop_peer(id, error.status);
        }
        self.imports.retain(|(of, _), _| *of != link.id());
    }

    /// Ends a peer: endpoint closed by force, sessions lost.
    pub(super) fn drop_peer(&mut self, id: u64, status: Status) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.stage = Stage::Down;
        if let Some(endpoint) = peer.endpoint.take() {
            let fabric = peer.fabric;
            match status {
                Status::ConnectionLost => self.fabrics.abandon(fabric, endpoint),
                _ => self.fabrics.disconnect(fabric, endpoint),
            }
        }
        self.leave_fabric(id);
        let Some(peer) = self.peers.get_mut(id) else { return };
        let numbers: Vec<u32> = peer.channels.iter().map(|(number, _)| number).collect();
        for number in numbers {
            if let Some(session) = self.end_channel(id, number, status) {
                match status {
                    // The owner of the peer's worker closed it.
                    Status::Canceled => self.announce_end(&session, SessionState::Closed, Status::Ok),
                    _ => self.announce_end(&session, SessionState::Lost, status),
                }
            }
        }
        let granted = self.peers.get(id).map_or(0, |peer| peer.granted);
        self.context.unreserve_granted(granted);
        self.peer_failed(id, &status.into());
    }

    /// Ends a peer that never came up: who waits for it hears why.
    pub(super) fn drop_peer_for(&mut self, id: u64, error: &Error) {
        let granted = self.peers.get(id).map_or(0, |peer| peer.granted);
        self.context.unreserve_granted(granted);
        self.peer_failed(id, error);
    }

    /// UCX gave up a peer's endpoint: its worker has closed, or its process is gone. The control connection says which,
    /// mostly at once; who waits for it longer than a moment is lost. The link may carry other workers, and stays.
    pub(super) fn suspect(&mut self, id: u64) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.stage = Stage::Down;
        if let Some(endpoint) = peer.endpoint.take() {
            let fabric = peer.fabric;
            self.fabrics.disconnect(fabric, endpoint);
        }
        self.timers.add_peer(id, GRACE);
    }

    /// A suspect about whom nothing was heard.
    pub(super) fn condemn(&mut self, id: u64) {
        let Some(peer) = self.peers.get(id).filter(|peer| peer.stage == Stage::Down) else { return };
        if let Some(link) = peer.link.clone() {
            self.context.control().detach(&link, self.route_of(id), Status::ConnectionLost);
        }
        self.drop_peer(id, Status::ConnectionLost);
    }

    /// A peer broke the protocol, or cannot be served: the link goes with it.
    pub(super) fn break_peer(&mut self, id: u64, status: Status) {
        self.break_link(id, status, "the data path failed");
        self.drop_peer(id, status);
    }

    /// Forgets a peer, with its fabric if that was its own.
    pub(super) fn remove_peer(&mut self, id: u64) -> Option<Peer> {
        self.leave_fabric(id);
        self.peers.remove(id)
    }

    /// Lets a peer's own fabric go. Until then UCX may hold memory of operations that have ended with the peer.
    fn leave_fabric(&mut self, id: u64) {
        let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.fabric != 0) else { return };
        let fabric = std::mem::take(&mut peer.fabric);
        let process = peer.link.as_ref().and_then(|link| link.process().cloned());
        if !self.fabrics.is_own(fabric) {
            return;
        }
        let ops = self.ops.ids(|op| !op.lost && op.session.place().0 == id as u32);
        let incoming = self.incoming.ids(|one| match one {
            Incoming::Message { peer, .. } | Incoming::Put { peer, .. } => *peer == id,
            Incoming::Call(came, _) => came.peer == id,
        });
        self.fabrics.leave(Leaving { fabric, process, ops, incoming });
    }

    /// Completes what only waited for UCX to let go, where UCX has gone.
    pub(super) fn sweep_fabrics(&mut self) {
        for gone in self.fabrics.sweep() {
            for id in gone.ops {
                if let Some(pending) = self.ops.get_mut(id) {
                    pending.held = 0;
                    self.try_finish(id);
                }
            }
            gone.incoming.into_iter().for_each(|id| self.incoming_done(id, false));
            self.rkeys.retain(|(fabric, ..), _| *fabric != gone.fabric);
        }
    }
}
