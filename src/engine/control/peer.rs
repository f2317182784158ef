//! A link in the control thread: what is open on it, its messages, its liveness, its end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accept::ListenerEntry;
use super::command::{Answer, tell};
use super::conn::{Arrived, Conn, Filled};
use super::hello::Hello;
use super::link::{Credentials, Fabric, Link, LinkFacts};
use super::message::Message;
use super::notice::{Attach, KeyAsk, KeyGrant, Notice, Notices};
use super::reactor::{Core, Part, Timer, Token};
use super::wire::{broken, clip};
use crate::limits::{CONTROL_PENDING, REFUSAL_TEXT};
use crate::status::{Error, Result, Status};

/// Pings that stay without any answer before a peer is lost; one more third of the keepalive passes after the last.
const PINGS: u8 = 2;

/// Reads of one link before others have their turn.
const READS: usize = 8;

/// The peer's process, if the kernel and the hello say the same; it has not ended, for it was heard just now.
fn process_of(credentials: Option<Credentials>, hello: &Hello) -> Option<OwnedFd> {
    let known = credentials.filter(|known| known.pid == hello.pid)?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(known.pid).ok()?)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

/// A connection that is about to be a link.
pub(super) struct Arrival {
    pub conn: Conn,
    pub fabric: Fabric,
    /// Who waits for it, when we dialled it.
    pub dialled: Option<Vec<Answer>>,
    /// Who accepted it, when we did not.
    pub listener: Option<u32>,
    pub address: String,
    pub peer: Hello,
    pub credentials: Option<Credentials>,
    pub local_addr: Option<SocketAddr>,
    pub peer_addr: Option<SocketAddr>,
}

/// A link that is up.
pub(super) struct Peer {
    pub link: Arc<Link>,
    pub conn: Conn,
    pub timer: Timer,
    listener: Option<u32>,
    /// Who is told when it is lost.
    watchers: Vec<Arc<Notices>>,
    /// Paths, by our route.
    routes: HashMap<u32, Path>,
    /// Our open questions, by request.
    asked: HashMap<u32, Answer>,
    /// The peer's open attaches by request, with its routes.
    questions: HashMap<u32, u32>,
    last_request: u32,
    /// When anything was heard, and how many pings went out since.
    heard: Instant,
    pings: u8,
    pinged: Instant,
}

struct Path {
    inbox: Arc<Notices>,
    /// The peer's name for it.
    theirs: u32,
}

impl Peer {
    pub fn new(id: u32, arrival: Arrival, keepalive: Duration, streams: bool) -> Peer {
        let Arrival { conn, fabric, dialled, listener, address, peer, credentials, local_addr, peer_addr } =
            arrival;
        let process = process_of(credentials, &peer).map(Arc::new);
        let link = Arc::new(Link::new(LinkFacts {
            id,
            dialled: listener.is_none(),
            local: conn.road() == super::hello::Road::Unix,
            fabric,
            streams,
            address,
            peer,
            credentials,
            local_addr,
            peer_addr,
            keepalive,
            process,
        }));
        let now = Instant::now();
        let mut peer = Peer {
            link,
            conn,
            timer: Timer::default(),
            listener,
            watchers: Vec::new(),
            routes: HashMap::new(),
            asked: HashMap::new(),
            questions: HashMap::new(),
            last_request: 0,
            heard: now,
            pings: 0,
            pinged: now,
        };
        for answer in dialled.unwrap_or_default() {
            peer.share(answer);
        }
        peer
    }

    /// Hands the link to one more dial.
    pub fn share(&mut self, answer: Answer) {
        self.watch(&answer.inbox().clone());
        answer.link_up(&self.link);
    }

    fn watch(&mut self, inbox: &Arc<Notices>) {
        if !inbox.is_closed() && !self.watchers.iter().any(|known| Arc::ptr_eq(known, inbox)) {
            self.watchers.push(inbox.clone());
        }
    }

    pub fn send(&mut self, core: &Core, message: &Message, descriptors: Option<[OwnedFd; 2]>) -> Result<()> {
        core.shared.counters.messages_sent.add(1);
        self.conn.queue(message, descriptors)
    }

    /// Takes what arrived; `Err` ends the link.
    pub fn receive(&mut self, core: &mut Core, listeners: &HashMap<u32, ListenerEntry>) -> Result<()> {
        let shared = core.shared.clone();
        self.take_all(core, listeners)?;
        for _ in 0..READS {
            match self.conn.fill(&mut core.scratch, &shared.counters)? {
                Filled::Bytes(_) => {
                    self.heard = Instant::now();
                    self.pings = 0;
                    self.take_all(core, listeners)?;
                }
                Filled::Empty => return Ok(()),
                Filled::End => {
                    return Err(Error::new(Status::ConnectionLost, "the peer's end of the link is gone"));
                }
            }
        }
        Ok(())
    }

    fn take_all(&mut self, core: &Core, listeners: &HashMap<u32, ListenerEntry>) -> Result<()> {
        let shared = core.shared.clone();
        while let Some(arrived) = self.conn.next(&shared.counters)? {
            shared.counters.messages_received.add(1);
            self.take(arrived, core, listeners)?;
        }
        Ok(())
    }

    /// When the silence must be looked at next.
    pub fn next_check(&self) -> Instant {
        self.heard.max(self.pinged) + self.link.keepalive() / 3
    }

    /// Looks at the silence: pings, or gives up. Counting pings instead of reading the clock gives a peer its chance
    /// also after our own process was stopped for a while.
    pub fn check(&mut self, core: &mut Core, listeners: &HashMap<u32, ListenerEntry>) -> Result<()> {
        self.receive(core, listeners)?;
        let now = Instant::now();
        if now < self.next_check() {
            return Ok(());
        }
        if self.pings >= PINGS {
            let bound = self.link.keepalive();
            return Err(Error::new(Status::ConnectionLost, format!("the peer was silent for {bound:?}")));
        }
        self.pings += 1;
        self.pinged = now;
        self.send(core, &Message::Ping, None)
    }

    fn take(&mut self, arrived: Arrived, core: &Core, listeners: &HashMap<u32, ListenerEntry>) -> Result<()> {
        let link = self.link.clone();
        match arrived.message {
            Message::Ping => self.send(core, &Message::Pong, None)?,
            Message::Pong => {}
            Message::Bye { failure, text } => return Err(farewell(failure, &text)),
            // What the acceptor found only after we took the link.
            Message::Refused { status, text } => {
                return Err(Error::new(status, format!("the peer refused: {text}")));
            }
            Message::Attach { request, ours } => self.on_attach(request, ours, core, listeners)?,
            Message::Attached { request, credits, ours } => self.on_attached(request, ours, credits, core)?,
            Message::AttachRefused { request, status, text } => {
                let answer = self.answered(request, false)?;
                answer.fail(Error::new(status, format!("the peer refused: {text}")));
            }
            Message::Detach { route, status } => {
                if let Some(path) = self.routes.remove(&route) {
                    tell(&path.inbox, Notice::Detached { link, route, status });
                }
            }
            // Routes that are not there were left by us while the message was on its way.
            Message::Credits { route, count } => {
                if let Some(path) = self.routes.get(&route) {
                    tell(&path.inbox, Notice::Credits { link, route, count });
                }
            }
            Message::Ring { route } => {
                if let (Some(path), Some(ends)) = (self.routes.get(&route), arrived.descriptors) {
                    tell(&path.inbox, Notice::Ring { route, ends });
                }
            }
            Message::CreditsWanted { route } => {
                if let Some(path) = self.routes.get(&route) {
                    tell(&path.inbox, Notice::CreditsWanted { link, route });
                }
            }
            Message::CreditsRefused { route, status } => {
                if let Some(path) = self.routes.get(&route) {
                    tell(&path.inbox, Notice::CreditsRefused { link, route, status });
                }
            }
            Message::KeyAsk { request, ask } => self.on_key_ask(request, &ask, core)?,
            Message::KeyGrant { request, length, rights, rma, .. } => {
                let answer = self.answered(request, true)?;
                if let Some(export_id) = answer.export_id().filter(|_| answer.inbox().is_closed()) {
                    // Its worker has closed: nobody will ever drop it.
                    return self.send(core, &Message::KeyDropped { export_id }, None);
                }
                answer.imported(KeyGrant { length, rights, mapping: arrived.descriptors, rma });
            }
            Message::KeyRefused { request, status } => {
                self.answered(request, true)?.fail(Error::new(status, "the peer refuses the key"));
            }
            Message::KeyDropped { export_id } => core.keys.dropped(&link, export_id),
            Message::KeyRevoked { export_id } => {
                for inbox in &self.watchers {
                    tell(inbox, Notice::Revoked { link: link.clone(), export_id });
                }
            }
            Message::Hello(_)
            | Message::Welcome { .. }
            | Message::Challenge { .. }
            | Message::Proof { .. }
            | Message::Stream { .. }
            | Message::Ready { .. } => {
                return Err(broken("a message of the handshake on a link"));
            }
        }
        Ok(())
    }

    fn on_attach(
        &mut self,
        request: u32,
        theirs: Attach,
        core: &Core,
        listeners: &HashMap<u32, ListenerEntry>,
    ) -> Result<()> {
        let refused =
            |status: Status, text: &str| Message::AttachRefused { request, status, text: text.to_owned() };
        // A listener that was closed and opened again on the same address takes over the links of the old one.
        let same = |entry: &&ListenerEntry| entry.address() == self.link.address();
        let entry = self.listener.and_then(|id| match listeners.get(&id) {
            Some(entry) => Some((id, entry)),
            None => listeners.iter().find(|(_, entry)| same(entry)).map(|(id, entry)| (*id, entry)),
        });
        let Some((listener, entry)) = entry else {
            return self.send(core, &refused(Status::Unreachable, "the listener is closed"), None);
        };
        if self.questions.len() >= CONTROL_PENDING {
            return self.send(
                core,
                &refused(Status::LimitReached, "too many attaches wait for an answer"),
                None,
            );
        }
        if self.questions.insert(request, theirs.route).is_some() {
            return Err(broken("an attach with the number of one that is open"));
        }
        let (inbox, user_data) = (entry.inbox.clone(), entry.user_data);
        self.watch(&inbox);
        tell(&inbox, Notice::Attach { link: self.link.clone(), listener, user_data, request, peer: theirs });
        Ok(())
    }

    fn on_attached(&mut self, request: u32, theirs: Attach, credits: u32, core: &Core) -> Result<()> {
        let answer = self.answered(request, false)?;
        let Some(route) = answer.route() else { return Err(broken("an answer to another question")) };
        let inbox = answer.inbox().clone();
        if inbox.is_closed() {
            let gone = Message::Detach { route: theirs.route, status: Status::Canceled };
            return self.send(core, &gone, None);
        }
        self.routes.insert(route, Path { inbox, theirs: theirs.route });
        answer.attached(theirs, credits);
        Ok(())
    }

    fn on_key_ask(&mut self, request: u32, ask: &KeyAsk, core: &Core) -> Result<()> {
        let KeyGrant { length, rights, mapping, rma } = match core.keys.grant(&self.link, ask) {
            Ok(grant) => grant,
            Err(status) => return self.send(core, &Message::KeyRefused { request, status }, None),
        };
        let mapping = mapping.filter(|_| self.link.local());
        let message = Message::KeyGrant { request, length, rights, descriptor: mapping.is_some(), rma };
        self.send(core, &message, mapping)
    }

    /// The question that `request` answers.
    fn answered(&mut self, request: u32, import: bool) -> Result<Answer> {
        match self.asked.remove(&request) {
            Some(answer) if answer.is_import() == import => Ok(answer),
            Some(answer) => {
                answer.fail(broken("the peer answered another question"));
                Err(broken("the peer answered another question"))
            }
            None => Err(broken("an answer to a question that is not open")),
        }
    }

    /// Keeps `answer` under a new request number; refuses it when too many are open.
    fn ask(&mut self, answer: Answer) -> Option<u32> {
        if self.asked.len() >= CONTROL_PENDING {
            answer.fail(Error::new(
                Status::LimitReached,
                "too many questions are open on the link; wait for answers",
            ));
            return None;
        }
        loop {
            self.last_request = self.last_request.wrapping_add(1);
            if !self.asked.contains_key(&self.last_request) {
                self.asked.insert(self.last_request, answer);
                return Some(self.last_request);
            }
        }
    }
}

/// What workers ask of a link.
impl Peer {
    pub fn attach(&mut self, core: &Core, ours: Attach, answer: Answer) -> Result<()> {
        let taken = self.routes.contains_key(&ours.route)
            || self.asked.values().any(|other| other.route() == Some(ours.route));
        if taken {
            answer.fail(Error::new(Status::AlreadyExists, "the route is in use on this link"));
            return Ok(());
        }
        if ours.address.len() > self.longest_address() {
            answer.fail(Error::new(
                Status::InvalidArgument,
                "the worker's address is longer than the peer takes",
            ));
            return Ok(());
        }
        self.watch(&answer.inbox().clone());
        let Some(request) = self.ask(answer) else { return Ok(()) };
        self.send(core, &Message::Attach { request, ours }, None)
    }

    fn longest_address(&self) -> usize {
        (self.link.peer().max_address as usize).min(crate::limits::WORKER_ADDRESS)
    }

    pub fn import(&mut self, core: &Core, ask: KeyAsk, answer: Answer) -> Result<()> {
        self.watch(&answer.inbox().clone());
        let Some(request) = self.ask(answer) else { return Ok(()) };
        self.send(core, &Message::KeyAsk { request, ask }, None)
    }

    pub fn accept(
        &mut self,
        core: &Core,
        request: u32,
        inbox: Arc<Notices>,
        ours: Attach,
        credits: u32,
    ) -> Result<()> {
        let Some(theirs) = self.questions.remove(&request) else { return Ok(()) };
        let foreign = self.routes.get(&ours.route).is_some_and(|path| !Arc::ptr_eq(&path.inbox, &inbox));
        if foreign || ours.address.len() > self.longest_address() {
            tracing::error!(
                route = ours.route,
                "an attach was accepted with a route in use or a long address"
            );
            let text = "the acceptor's route or address is wrong".to_owned();
            return self.send(
                core,
                &Message::AttachRefused { request, status: Status::Internal, text },
                None,
            );
        }
        self.watch(&inbox);
        self.routes.insert(ours.route, Path { inbox, theirs });
        self.send(core, &Message::Attached { request, credits, ours }, None)
    }

    pub fn refuse(&mut self, core: &Core, request: u32, status: Status, text: &str) -> Result<()> {
        if self.questions.remove(&request).is_none() {
            return Ok(());
        }
        let text = clip(text, REFUSAL_TEXT).to_owned();
        self.send(core, &Message::AttachRefused { request, status, text }, None)
    }

    pub fn detach(&mut self, core: &Core, route: u32, status: Status) -> Result<()> {
        match self.routes.remove(&route) {
            Some(path) => self.send(core, &Message::Detach { route: path.theirs, status }, None),
            None => Ok(()),
        }
    }

    /// Sends what `message` makes of the peer's name for our `route`; nothing when the path has ended.
    pub fn send_on(&mut self, core: &Core, route: u32, message: impl FnOnce(u32) -> Message) -> Result<()> {
        match self.routes.get(&route).map(|path| path.theirs) {
            Some(theirs) => self.send(core, &message(theirs), None),
            None => Ok(()),
        }
    }

    /// Sends the ends of a ring for a path, unless it has ended.
    pub fn offer_ring(&mut self, core: &Core, route: u32, ends: [OwnedFd; 2]) -> Result<()> {
        match self.routes.get(&route).map(|path| path.theirs) {
            Some(route) if self.link.local() => self.send(core, &Message::Ring { route }, Some(ends)),
            _ => Ok(()),
        }
    }

    /// Ends every path of an inbox whose worker closes, and tells it nothing more.
    pub fn forget(&mut self, core: &Core, inbox: &Arc<Notices>) -> Result<()> {
        self.watchers.retain(|known| !Arc::ptr_eq(known, inbox));
        let routes: Vec<u32> = self
            .routes
            .iter()
            .filter(|(_, path)| Arc::ptr_eq(&path.inbox, inbox))
            .map(|(route, _)| *route)
            .collect();
        routes.into_iter().try_for_each(|route| self.detach(core, route, Status::Canceled))
    }

    /// Everybody who waits or watches hears that the link is gone: first the questions, then the link.
    pub fn tell_lost(&mut self, error: &Error) {
        self.link.set_lost(error);
        for (_, answer) in self.asked.drain() {
            answer.fail(error.clone());
        }
        for inbox in self.watchers.drain(..) {
            tell(&inbox, Notice::LinkLost { link: self.link.clone(), error: error.clone() });
        }
    }

    pub fn token(&self) -> Token {
        Token::new(Part::Link, self.link.id())
    }
}

/// What the peer's goodbye means for us.
fn farewell(failure: Option<Status>, text: &str) -> Error {
    match failure {
        None => Error::new(Status::Canceled, "the peer closed the link"),
        Some(status) => {
            let message = format!("the peer gave the link up: {text} ({})", status.name());
            Error::new(Status::ConnectionLost, message)
        }
    }
}
