//! Paths whose frames go by a stream: asked for and answered over the control connection, then dialled and handed over.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::channel::{Peer, Stage};
use super::core::Core;
use crate::engine::control::{Attach, Link, TICKET};
use crate::engine::fabric::FabricKey;
use crate::limits;
use crate::status::{Error, Status};

impl Core {
    /// Asks the worker that a link leads to for a path by a stream: an attach without an address.
    pub(super) fn ask_stream(&mut self, id: u64, link: &Arc<Link>) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.stage = Stage::Attaching;
        peer.link = Some(link.clone());
        self.context.link_fabric(link, FabricKey::stream());
        let ours = Attach { route: self.route_of(id), address: Vec::new() };
        self.context.control().attach(link, &self.inbox, ours);
    }

    /// A peer asks for that: it is told a ticket, and whoever shows it brings the stream.
    pub(super) fn stream_asked(&mut self, link: &Arc<Link>, user_data: u64, request: u32, theirs: u32) {
        let control = self.context.control();
        let mut ticket = [0; TICKET];
        let refused = if !link.streams() {
            Some(Error::new(Status::Protocol, "a stream that was not agreed on"))
        } else if getrandom::fill(&mut ticket).is_err() {
            Some(Error::new(Status::Io, "the kernel gave no random bytes"))
        } else {
            None
        };
        if let Some(error) = refused {
            return control.refuse_attach(link, request, error.status, &error.message);
        }
        let mut peer = Peer::new(Stage::Up, link.address().to_string());
        peer.accepted = Some(user_data);
        peer.route = theirs;
        peer.link = Some(link.clone());
        peer.granted = self.context.reserve_sessions(limits::FIRST_CREDITS);
        let granted = peer.granted;
        let id = self.peers.insert(peer);
        let route = self.route_of(id);
        self.context.link_fabric(link, FabricKey::stream());
        let control = self.context.control();
        control.expect_stream(link, &self.inbox, route, ticket);
        let ours = Attach { route, address: ticket.to_vec() };
        control.accept_attach(link, request, &self.inbox, ours, granted);
    }

    /// The peer has told us the ticket.
    pub(super) fn dial_stream(&mut self, id: u64, link: &Arc<Link>, theirs: &Attach, credits: u32) {
        let Ok(ticket) = <[u8; TICKET]>::try_from(&theirs.address[..]) else {
            let error = Error::new(Status::Protocol, "the peer gave no ticket for a stream");
            self.break_link(id, error.status, &error.message);
            return self.peer_failed(id, &error);
        };
        let route = self.route_of(id);
        if let Some(peer) = self.peers.get_mut(id) {
            peer.route = theirs.route;
            peer.credits = credits;
        }
        self.context.control().open_stream(link, &self.inbox, route, ticket);
    }

    /// The peer that waits for a stream on this route.
    fn waits_for_stream(&self, link: &Arc<Link>, route: u32) -> Option<u64> {
        let id = self.peer_of(route)?;
        let peer = self.peers.get(id)?;
        let of_link = peer.link.as_ref().is_some_and(|known| Arc::ptr_eq(known, link));
        (of_link && peer.stage != Stage::Down && peer.endpoint.is_none()).then_some(id)
    }

    /// The stream is there.
    pub(super) fn stream_came(&mut self, link: &Arc<Link>, route: u32, socket: OwnedFd, input: Vec<u8>) {
        let Some(id) = self.waits_for_stream(link, route) else { return };
        match self.fabrics.open_stream(socket, input) {
            Ok((fabric, endpoint)) => {
                let Some(peer) = self.peers.get_mut(id) else { return };
                peer.fabric = fabric;
                peer.endpoint = Some(endpoint);
                peer.stage = Stage::Up;
                self.open_waiting(id);
            }
            Err(error) => self.stream_refused(link, route, &error),
        }
    }

    /// There will be none.
    pub(super) fn stream_refused(&mut self, link: &Arc<Link>, route: u32, error: &Error) {
        let Some(id) = self.waits_for_stream(link, route) else { return };
        self.context.control().detach(link, route, error.status);
        self.drop_peer_for(id, error);
    }
}
