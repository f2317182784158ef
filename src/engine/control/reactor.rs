//! The control thread: one epoll set, timers, commands; hands events to `accept`, `dial` and `peer`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::accept::{Handshake, ListenerEntry};
use super::closing::Closing;
use super::command::Command;
use super::conn::{Conn, Interest};
use super::dial::{Dial, Slot};
use super::hello::Hello;
use super::peer::Peer;
use super::stream::Streams;
use super::throttle::Throttle;
use super::{KeyService, Shared};
use crate::limits::CONTROL_MESSAGE;
use crate::status::{Error, Result, Status};

/// Events taken with one wait.
const EVENTS: usize = 64;

/// Names what an event or a timer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    pub part: Part,
    pub id: u32,
}

/// The kinds of [`Token`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Commands,
    Listener,
    LocalListener,
    Handshake,
    Dial,
    Link,
    Closing,
    Stream,
}

impl Part {
    const ALL: [Part; 8] = [
        Part::Commands,
        Part::Listener,
        Part::LocalListener,
        Part::Handshake,
        Part::Dial,
        Part::Link,
        Part::Closing,
        Part::Stream,
    ];
}

impl Token {
    pub fn new(part: Part, id: u32) -> Token {
        Token { part, id }
    }

    fn to_u64(self) -> u64 {
        u64::from(self.part as u8) << 32 | u64::from(self.id)
    }

    fn from_u64(value: u64) -> Option<Token> {
        let part = *Part::ALL.get((value >> 32) as usize)?;
        Some(Token { part, id: value as u32 })
    }
}

/// A timer's place; whoever has one disarms it before going away.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Instant>);

/// What every part of the thread needs.
pub(super) struct Core {
    pub shared: Arc<Shared>,
    pub keys: Arc<dyn KeyService>,
    pub hello: Hello,
    pub scratch: Vec<u8>,
    epoll: OwnedFd,
    timers: BTreeSet<(Instant, Token)>,
    last_id: u32,
}

impl Core {
    /// An id that `used` does not have; never 0.
    pub fn fresh_id(&mut self, used: impl Fn(u32) -> bool) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if self.last_id != 0 && !used(self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Sets `timer` for `token` to go off at `at`, instead of what it was.
    pub fn arm(&mut self, timer: &mut Timer, token: Token, at: Instant) {
        self.disarm(timer, token);
        timer.0 = Some(at);
        self.timers.insert((at, token));
    }

    pub fn disarm(&mut self, timer: &mut Timer, token: Token) {
        if let Some(at) = timer.0.take() {
            self.timers.remove(&(at, token));
        }
    }

    /// Makes epoll watch `conn` as `token`: input if `read`, and room for output while there is some.
    pub fn watch(&mut self, conn: &mut Conn, token: Token, read: bool) -> Result<()> {
        let wanted = Interest { token, read, write: conn.wants_write() };
        if conn.interest != Some(wanted) {
            self.watch_socket(conn.socket(), wanted, conn.interest.is_some())?;
            conn.interest = Some(wanted);
        }
        Ok(())
    }

    /// Makes epoll watch a socket that is not (or no longer) a [`Conn`]'s.
    pub fn watch_socket(&self, socket: &OwnedFd, wanted: Interest, known: bool) -> Result<()> {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN | epoll::EventFlags::RDHUP, wanted.read);
        flags.set(epoll::EventFlags::OUT, wanted.write);
        let data = epoll::EventData::new_u64(wanted.token.to_u64());
        let done = if known {
            epoll::modify(&self.epoll, socket, data, flags)
        } else {
            epoll::add(&self.epoll, socket, data, flags)
        };
        done.map_err(|errno| Error::os("epoll", &errno.into()))
    }

    /// Makes epoll forget `conn`; closing its socket does so too.
    pub fn unwatch(&self, conn: &mut Conn) {
        if conn.interest.take().is_some() {
            let _ = epoll::delete(&self.epoll, conn.socket());
        }
    }

    /// Makes epoll forget a socket that goes elsewhere.
    pub fn unwatch_socket(&self, socket: &OwnedFd) {
        let _ = epoll::delete(&self.epoll, socket);
    }

    fn wait(&self, events: &mut Vec<epoll::Event>) -> rustix::io::Result<()> {
        let timeout = self.timers.first().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let timeout = if self.shared.commands.is_empty() { timeout } else { Some(Duration::ZERO) };

        let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// The control thread's state.
pub(super) struct Reactor {
    pub core: Core,
    pub listeners: HashMap<u32, ListenerEntry>,
    pub handshakes: HashMap<u32, Handshake>,
    pub dials: HashMap<u32, Dial>,
    pub links: HashMap<u32, Peer>,
    pub closing: HashMap<u32, Closing>,
    pub streams: Streams,
    /// Wrong secrets by where they came from.
    pub throttle: Throttle,
    /// What a dial to an address may share.
    pub by_address: HashMap<String, Slot>,
    /// Resolver threads that run, and the dials that wait for one.
    pub resolvers: usize,
    pub unresolved: VecDeque<u32>,
    commands: VecDeque<Command>,
    stopping: bool,
}

/// Starts the thread.
pub(super) fn spawn(shared: Arc<Shared>, keys: Arc<dyn KeyService>) -> Result<JoinHandle<()>> {
    let failed = |what: &str, errno: Errno| Error::os(what, &errno.into());
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|errno| failed("epoll_create", errno))?;
    let data = epoll::EventData::new_u64(Token::new(Part::Commands, 0).to_u64());
    epoll::add(&epoll, shared.commands.fd().as_fd(), data, epoll::EventFlags::IN)
        .map_err(|errno| failed("epoll", errno))?;
    let hello = Hello::of(&shared.config);
    let core = Core {
        shared,
        keys,
        hello,
        scratch: vec![0; CONTROL_MESSAGE],
        epoll,
        timers: BTreeSet::new(),
        last_id: 0,
    };
    let mut reactor = Reactor {
        core,
        listeners: HashMap::new(),
        handshakes: HashMap::new(),
        dials: HashMap::new(),
        links: HashMap::new(),
        closing: HashMap::new(),
        streams: Streams::default(),
        throttle: Throttle::default(),
        by_address: HashMap::new(),
        resolvers: 0,
        unresolved: VecDeque::new(),
        commands: VecDeque::new(),
        stopping: false,
    };
    std::thread::Builder::new()
        .name("rde-control".to_owned())
        .spawn(move || reactor.run())
        .map_err(|error| Error::os("start the control thread", &error))
}

impl Reactor {
    /// Runs until it is stopped; whatever happens, every link is lost and every question answered at the end.
    fn run(&mut self) {
        let _span = tracing::info_span!("control", context = self.core.shared.config.name).entered();
        let end = match catch_unwind(AssertUnwindSafe(|| self.serve())) {
            Ok(Ok(())) => Error::new(Status::Canceled, "the context closes"),
            Ok(Err(error)) => Error { status: Status::Internal, ..error },
            Err(_) => Error::new(Status::Internal, "a defect of the library stopped the control thread"),
        };
        if end.status == Status::Internal {
            tracing::error!(error = %end, "the control thread has failed");
        }
        // Contained as well: this calls the key service.
        let _ = catch_unwind(AssertUnwindSafe(|| self.end(&end)));
        let left = self.core.shared.commands.close();
        for command in self.commands.drain(..).chain(left) {
            command.refuse(&end);
        }
    }

    fn serve(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut batch = Vec::new();
        let shared = self.core.shared.clone();
        while !self.stopping {
            shared.commands.waker().prepare_sleep();
            self.core.wait(&mut events).map_err(|errno| Error::os("epoll_wait", &errno.into()))?;
            shared.commands.waker().finish_sleep();
            // Before the sockets: who was told of a listener may use it at once.
            shared.commands.drain_into(&mut batch);
            self.commands.extend(batch.drain(..));
            while let Some(command) = self.commands.pop_front() {
                self.on_command(command);
            }
            for event in &events {
                let data = event.data;
                if let Some(token) = Token::from_u64(data.u64()) {
                    self.on_event(token);
                }
            }
            // After the sockets: what a peer sent while we were stopped counts before its silence does.
            self.on_timers();
        }
        Ok(())
    }

    fn on_event(&mut self, token: Token) {
        match token.part {
            Part::Commands => {}
            Part::Listener => self.accept(token.id, false),
            Part::LocalListener => self.accept(token.id, true),
            Part::Handshake => self.on_handshake(token.id),
            Part::Dial => self.on_dial(token.id),
            Part::Link => self.on_link(token.id),
            Part::Closing => self.on_closing(token.id),
            Part::Stream => self.on_stream(token.id),
        }
    }

    fn on_timers(&mut self) {
        let now = Instant::now();
        while let Some((at, token)) = self.core.timers.first().copied() {
            if at > now {
                return;
            }
            self.core.timers.pop_first();
            match token.part {
                Part::Commands | Part::LocalListener => {}
                Part::Listener => self.resume_listener(token.id),
                Part::Handshake => self.on_handshake_timer(token.id),
                Part::Dial => self.on_dial_timer(token.id, now),
                Part::Link => self.on_link_timer(token.id),
                Part::Closing => drop(self.closing.remove(&token.id)),
                Part::Stream => self.on_stream_timer(token.id),
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        crate::fault::point("control.command");
        match command {
            Command::Listen { id, sockets, inbox, user_data } => {
                self.add_listener(id, sockets, inbox, user_data)
            }
            Command::CloseListener { id, closed } => {
                self.remove_listener(id);
                drop(closed);
            }
            Command::Dial { address, answer } => self.dial(&address, answer),
            Command::Resolved { dial, result } => self.on_resolved(dial, result),
            Command::Forget { inbox } => self.forget(&inbox),
            Command::Stop => self.stopping = true,
            #[cfg(any(test, debug_assertions))]
            #[allow(clippy::panic, reason = "the fault that tests inject")]
            Command::Panic => panic!("injected into the control thread"),
            command => self.on_link_command(command),
        }
    }

    fn forget(&mut self, inbox: &Arc<super::Notices>) {
        let closed: Vec<u32> = self
            .listeners
            .iter()
            .filter(|(_, entry)| Arc::ptr_eq(&entry.inbox, inbox))
            .map(|(id, _)| *id)
            .collect();
        for id in closed {
            self.remove_listener(id);
        }
        let links: Vec<u32> = self.links.keys().copied().collect();
        for id in links {
            self.with_link(id, |peer, core, _| peer.forget(core, inbox));
        }
    }

    /// Ends everything: links are closed in order when the end is in order, else just lost.
    fn end(&mut self, error: &Error) {
        self.listeners.clear();
        self.handshakes.clear();
        self.core.shared.counters.handshakes.subtract(self.core.shared.counters.handshakes.value());
        let dials: Vec<u32> = self.dials.keys().copied().collect();
        for id in dials {
            self.fail_dial(id, error.clone());
        }
        let links: Vec<u32> = self.links.keys().copied().collect();
        for id in links {
            // Each on its own: a key service that panics for one must not keep the others from being told.
            let _ = catch_unwind(AssertUnwindSafe(|| self.lose(id, error.clone())));
        }
        self.closing.clear();
    }
}

impl Timer {
    /// It went off: nothing is left to disarm.
    pub fn fired(&mut self) {
        self.0 = None;
    }

    /// Whether it will go off.
    pub fn is_armed(&self) -> bool {
        self.0.is_some()
    }
}
