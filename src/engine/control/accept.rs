//! The accepting side: listeners, and the handshake of accepted connections.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::conn::{Conn, Filled, Interest};
use super::hello::{Agreement, Hello, Road};
use super::link::{Credentials, Fabric};
use super::listener::Sockets;
use super::message::{Message, TICKET};
use super::notice::Notices;
use super::peer::Arrival;
use super::proof::{self, NONCE, Said, Side};
use super::reactor::{Core, Part, Reactor, Timer, Token};
use super::throttle::Source;
use super::{socket, wire};
use crate::status::{Error, Result, Status};

/// Connections taken from one listener before others have their turn.
const ACCEPTS: usize = 32;

/// How long a listener rests when the process has no descriptors left.
const REST: Duration = Duration::from_millis(100);

/// A listener in the control thread.
pub(super) struct ListenerEntry {
    pub inbox: Arc<Notices>,
    pub user_data: u64,
    sockets: Sockets,
    /// Whether epoll does not watch the main socket, and the local one.
    paused: [bool; 2],
    timer: Timer,
}

/// An accepted connection that is not a link yet.
pub(super) struct Handshake {
    conn: Conn,
    listener: u32,
    /// Whether it came over the abstract socket.
    local: bool,
    stage: Stage,
    timer: Timer,
}

/// What a handshake waits for.
enum Stage {
    Hello,
    Proof { hello: Box<Hello>, nonce: [u8; NONCE] },
    Ready { hello: Box<Hello>, agreement: Agreement },
}

/// What a handshake must know of the rest.
struct Host {
    /// The name of the listener's abstract socket.
    local: Option<Vec<u8>>,
    links: usize,
    welcomed: Vec<[u8; 16]>,
    /// Whether who connected may try a secret now.
    allowed: bool,
}

/// Why a handshake ends without a link.
enum Failure {
    /// Tell the peer.
    Refuse(Error),
    /// It does not know the secret: tell it, and remember where it came from.
    Unproved(Error),
    /// It does not speak our protocol, or broke it: not a word.
    Drop(Error),
    /// The peer refused us, with this.
    Refused(Error),
    /// It left, which is its right.
    Gone,
    /// It is no link: it brings the frames of a path.
    Stream([u8; TICKET]),
}

impl Reactor {
    pub(super) fn add_listener(&mut self, id: u32, sockets: Sockets, inbox: Arc<Notices>, user_data: u64) {
        let entry = ListenerEntry { inbox, user_data, sockets, paused: [true; 2], timer: Timer::default() };
        self.listeners.insert(id, entry);
        self.resume_listener(id);
    }

    pub(super) fn remove_listener(&mut self, id: u32) {
        if let Some(mut entry) = self.listeners.remove(&id) {
            self.core.disarm(&mut entry.timer, Token::new(Part::Listener, id));
        }
    }

    /// Accepts again after a rest.
    pub(super) fn resume_listener(&mut self, id: u32) {
        if let Some(entry) = self.listeners.get_mut(&id) {
            entry.timer.fired();
            self.resume_listeners();
        }
    }

    /// Takes connections; more than `max_handshakes` at once wait in the kernel.
    pub(super) fn accept(&mut self, id: u32, local: bool) {
        for _ in 0..ACCEPTS {
            let full = self.is_full(local);
            let Some(entry) = self.listeners.get_mut(&id) else { return };
            if full {
                let _ = entry.watch(&self.core, id, local, false);
                return;
            }
            let Some((listening, road)) = entry.sockets.of(local) else { return };
            match accept_with(listening, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => self.begin_handshake(id, socket, road, local),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                Err(errno) => {
                    // Out of descriptors or memory, mostly: level-triggered epoll would spin on it.
                    tracing::warn!(%errno, "cannot accept control connections");
                    self.core.shared.counters.accept_exhausted.add(1);
                    let _ = entry.watch(&self.core, id, local, false);
                    let at = Instant::now() + REST;
                    self.core.arm(&mut entry.timer, Token::new(Part::Listener, id), at);
                    return;
                }
            }
        }
    }

    /// Whether no more handshakes may begin. Local ones count for themselves: the TCP connection that waits for its
    /// local one must not keep it out.
    fn is_full(&self, local: bool) -> bool {
        let most = self.core.shared.config.max_handshakes as usize;
        self.handshakes.values().filter(|handshake| handshake.local == local).count() >= most
    }

    /// Listeners that paused because places were taken go on if there are free ones; those that rest go on by their
    /// timer.
    fn resume_listeners(&mut self) {
        for local in [false, true] {
            if self.is_full(local) {
                continue;
            }
            for (id, entry) in &mut self.listeners {
                let waits = entry.paused[usize::from(local)] && !entry.timer.is_armed();
                if waits && entry.watch(&self.core, *id, local, true).is_err() {
                    let at = Instant::now() + REST;
                    self.core.arm(&mut entry.timer, Token::new(Part::Listener, *id), at);
                }
            }
        }
    }

    fn begin_handshake(&mut self, listener: u32, socket: OwnedFd, road: Road, local: bool) {
        let config = &self.core.shared.config;
        self.core.shared.counters.accepted.add(1);
        let tune = || {
            socket::restore_congestion(&socket)?;
            socket::tune_tcp(&socket, config.keepalive)
        };
        if road == Road::Tcp && tune().is_err() {
            return;
        }
        let timeout = config.handshake_timeout;
        let conn = Conn::new(socket, road, config.max_output);
        let id = self.core.fresh_id(|id| self.handshakes.contains_key(&id));
        let token = Token::new(Part::Handshake, id);
        let mut handshake = Handshake { conn, listener, local, stage: Stage::Hello, timer: Timer::default() };
        if self.core.watch(&mut handshake.conn, token, true).is_ok() {
            self.core.arm(&mut handshake.timer, token, Instant::now() + timeout);
            self.handshakes.insert(id, handshake);
            self.core.shared.counters.handshakes.add(1);
        }
    }

    pub(super) fn on_handshake(&mut self, id: u32) {
        let Some(handshake) = self.handshakes.get(&id) else { return };
        let local = self.listeners.get(&handshake.listener).and_then(|entry| entry.sockets.local_name());
        let (welcomed, source) = (self.welcomed(handshake), handshake.source());
        let allowed = self.throttle.allows(source, Instant::now());
        let host = Host { local, links: self.links.len(), welcomed, allowed };
        let Some(handshake) = self.handshakes.get_mut(&id) else { return };
        match handshake.advance(&mut self.core, id, &host) {
            Ok(None) => {}
            Ok(Some(fabric)) => self.finish_handshake(id, fabric),
            Err(failure) => self.fail_handshake(id, failure),
        }
    }

    /// The peers that were welcomed and will be links, while `handshake` still has to be.
    fn welcomed(&self, handshake: &Handshake) -> Vec<[u8; 16]> {
        match handshake.stage {
            Stage::Hello | Stage::Proof { .. } => {
                self.handshakes.values().filter_map(Handshake::uuid).collect()
            }
            Stage::Ready { .. } => Vec::new(),
        }
    }

    pub(super) fn on_handshake_timer(&mut self, id: u32) {
        if let Some(handshake) = self.handshakes.get_mut(&id) {
            handshake.timer.fired();
            let error = Error::new(Status::TimedOut, "the handshake took too long");
            self.fail_handshake(id, Failure::Refuse(error));
        }
    }

    fn take_handshake(&mut self, id: u32) -> Option<Handshake> {
        let mut handshake = self.handshakes.remove(&id)?;
        self.core.disarm(&mut handshake.timer, Token::new(Part::Handshake, id));
        self.core.shared.counters.handshakes.subtract(1);
        self.resume_listeners();
        Some(handshake)
    }

    fn finish_handshake(&mut self, id: u32, fabric: Fabric) {
        let Some(handshake) = self.take_handshake(id) else { return };
        let Stage::Ready { hello, .. } = handshake.stage else { return };
        let conn = handshake.conn;
        if self.links.len() >= self.core.shared.config.max_links as usize {
            self.core.shared.counters.handshakes_failed.add(1);
            return self.refuse(conn, &too_many());
        }
        let address = self.listeners.get(&handshake.listener).map(|entry| entry.sockets.address().to_owned());
        let (local_addr, peer_addr) = addresses_of(&conn);
        self.add_link(Arrival {
            credentials: credentials_of(&conn),
            conn,
            fabric,
            dialled: None,
            listener: Some(handshake.listener),
            address: address.unwrap_or_default(),
            peer: *hello,
            local_addr,
            peer_addr,
        });
    }

    fn fail_handshake(&mut self, id: u32, failure: Failure) {
        let Some(handshake) = self.take_handshake(id) else { return };
        let counters = &self.core.shared.counters;
        if let Failure::Unproved(_) | Failure::Refused(Error { status: Status::Unauthorized, .. }) = &failure
        {
            counters.proofs_failed.add(1);
        }
        match failure {
            Failure::Unproved(error) => {
                counters.handshakes_failed.add(1);
                tracing::warn!(%error, "a peer does not know the shared secret");
                self.throttle.wrong(handshake.source(), Instant::now());
                self.refuse(handshake.conn, &error);
            }
            Failure::Gone => {}
            Failure::Stream(ticket) => self.take_stream(handshake.conn, &ticket),
            Failure::Refused(error) => {
                counters.handshakes_failed.add(1);
                tracing::debug!(%error, "the peer refused our welcome");
            }
            Failure::Drop(error) => {
                counters.handshakes_failed.add(1);
                counters.garbage.add(1);
                tracing::debug!(%error, "dropped a control connection that does not speak the protocol");
            }
            Failure::Refuse(error) => {
                counters.handshakes_failed.add(1);
                tracing::debug!(%error, "refused a control connection");
                self.refuse(handshake.conn, &error);
            }
        }
    }

    /// Says why, then closes.
    pub(super) fn refuse(&mut self, mut conn: Conn, error: &Error) {
        if conn.queue(&Message::refused(error), None).is_ok() {
            self.close_softly(conn);
        }
    }
}

impl ListenerEntry {
    /// The address it is bound to.
    pub fn address(&self) -> &str {
        self.sockets.address()
    }

    /// Makes epoll watch one of the sockets, or not.
    fn watch(&mut self, core: &Core, id: u32, local: bool, on: bool) -> Result<()> {
        let part = if local { Part::LocalListener } else { Part::Listener };
        if let Some((socket, _)) = self.sockets.of(local) {
            let wanted = Interest { token: Token::new(part, id), read: on, write: false };
            // Added the first time, modified later: which it is, epoll knows.
            core.watch_socket(socket, wanted, true).or_else(|_| core.watch_socket(socket, wanted, false))?;
        }
        self.paused[usize::from(local)] = !on;
        Ok(())
    }
}

impl Handshake {
    fn uuid(&self) -> Option<[u8; 16]> {
        match &self.stage {
            Stage::Hello | Stage::Proof { .. } => None,
            Stage::Ready { hello, .. } => Some(hello.uuid),
        }
    }

    /// Takes what arrived. `Some` when the peer is ready.
    fn advance(
        &mut self,
        core: &mut Core,
        id: u32,
        host: &Host,
    ) -> std::result::Result<Option<Fabric>, Failure> {
        let shared = core.shared.clone();
        loop {
            while let Some(arrived) = self.conn.next(&shared.counters).map_err(Failure::Drop)? {
                if let Some(fabric) = self.take(arrived.message, core, host)? {
                    return Ok(Some(fabric));
                }
            }
            match self.conn.fill(&mut core.scratch, &shared.counters) {
                Ok(Filled::Bytes(_)) => {}
                Ok(Filled::Empty) => break,
                // It may just look, and it may take another road after our welcome.
                Ok(Filled::End) | Err(_) => return Err(Failure::Gone),
            }
        }
        self.conn.flush(&shared.counters).map_err(|_| Failure::Gone)?;
        core.watch(&mut self.conn, Token::new(Part::Handshake, id), true).map_err(Failure::Refuse)?;
        Ok(None)
    }

    fn take(
        &mut self,
        message: Message,
        core: &Core,
        host: &Host,
    ) -> std::result::Result<Option<Fabric>, Failure> {
        match (&self.stage, message) {
            (Stage::Hello, Message::Hello(hello)) if core.shared.config.secret.is_some() => {
                if !host.allowed {
                    let text = "too many wrong secrets came from there; try again in a second";
                    return Err(Failure::Refuse(Error::new(Status::PermissionDenied, text)));
                }
                core.hello.agree(&hello, self.conn.road()).map_err(Failure::Refuse)?;
                let nonce = proof::nonce().map_err(Failure::Refuse)?;
                self.conn.queue(&Message::Challenge { nonce }, None).map_err(Failure::Refuse)?;
                self.stage = Stage::Proof { hello, nonce };
                Ok(None)
            }
            (Stage::Proof { hello, nonce }, Message::Proof { nonce: answer, proof }) => {
                let (hello, challenge) = (hello.clone(), *nonce);
                let answered = check_proof(core, &hello, &challenge, &answer, &proof)?;
                self.conn.queue(&answered, None).map_err(Failure::Refuse)?;
                self.welcome(hello, core, host)
            }
            // It has no secret to prove.
            (Stage::Proof { .. }, Message::Refused { status, text }) => {
                Err(Failure::Refused(Error::new(status, text)))
            }
            (Stage::Hello, Message::Hello(hello)) => self.welcome(hello, core, host),
            (Stage::Hello, Message::Stream { ticket }) if self.conn.road() == Road::Tcp => {
                Err(Failure::Stream(ticket))
            }
            (Stage::Ready { agreement, .. }, Message::Ready { fabric }) => {
                check_fabric(fabric, agreement, self.conn.road()).map_err(Failure::Refuse)?;
                Ok(Some(fabric))
            }
            // The peer found, by its own reckoning, that we do not fit.
            (Stage::Ready { .. }, Message::Refused { status, text }) => {
                Err(Failure::Refused(Error::new(status, text)))
            }
            _ => Err(Failure::Drop(wire::broken("a message that does not belong into a handshake"))),
        }
    }

    /// Who comes from there shares its limit of wrong tries.
    fn source(&self) -> Source {
        let (_, peer) = addresses_of(&self.conn);
        peer.map_or(Source::Local, |peer| Source::Network(peer.ip()))
    }

    fn welcome(
        &mut self,
        hello: Box<Hello>,
        core: &Core,
        host: &Host,
    ) -> std::result::Result<Option<Fabric>, Failure> {
        if !host.has_room(&hello.uuid, core.shared.config.max_links) {
            return Err(Failure::Refuse(too_many()));
        }
        let agreement = core.hello.agree(&hello, self.conn.road()).map_err(Failure::Refuse)?;
        let offered = self.conn.road() == Road::Tcp && agreement.shared;
        let local = host.local.clone().filter(|_| offered).unwrap_or_default();
        let welcome = Message::Welcome { hello: Box::new(core.hello.clone()), local };
        self.conn.queue(&welcome, None).map_err(Failure::Refuse)?;
        self.stage = Stage::Ready { hello, agreement };
        Ok(None)
    }
}

/// Our own proof, if the peer's is right.
fn check_proof(
    core: &Core,
    hello: &Hello,
    challenge: &[u8; NONCE],
    answer: &[u8; NONCE],
    proof: &[u8; NONCE],
) -> std::result::Result<Message, Failure> {
    let secret =
        core.shared.config.secret.as_ref().ok_or_else(|| Failure::Refuse(Status::Internal.into()))?;
    let said = Said { challenge, answer, dialler: hello, acceptor: None };
    proof::verify(secret, Side::Dialler, &said, proof).map_err(Failure::Unproved)?;
    let said = Said { acceptor: Some(&core.hello), ..said };
    let proof = proof::prove(secret, Side::Acceptor, &said).map_err(Failure::Refuse)?;
    Ok(Message::Proof { nonce: *challenge, proof })
}

impl Host {
    /// Whether one more link is allowed. Welcomed peers count; the same one does not, because its TCP connection makes
    /// room for its local one.
    fn has_room(&self, uuid: &[u8; 16], most: u32) -> bool {
        self.links + self.welcomed.iter().filter(|other| *other != uuid).count() < most as usize
    }
}

/// What the peer chose must be what we agreed to.
fn check_fabric(fabric: Fabric, agreement: &Agreement, road: Road) -> Result<()> {
    match fabric {
        Fabric::Shared if agreement.shared && road == Road::Unix => Ok(()),
        Fabric::Shared => Err(wire::broken("shared memory needs a Unix socket that both sides allow")),
        Fabric::Network => agreement.network.clone(),
    }
}

pub(super) fn too_many() -> Error {
    Error::new(Status::LimitReached, "the context has as many links as it may have")
}

pub(super) fn addresses_of(conn: &Conn) -> (Option<SocketAddr>, Option<SocketAddr>) {
    match conn.road() {
        Road::Tcp => socket::addresses(conn.socket()),
        Road::Unix => (None, None),
    }
}

pub(super) fn credentials_of(conn: &Conn) -> Option<Credentials> {
    match conn.road() {
        Road::Tcp => None,
        Road::Unix => socket::credentials(conn.socket()),
    }
}
