//! The dialling side: from an address to a link. Dials to one address share what comes of it.

use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::accept::{addresses_of, credentials_of, too_many};
use super::command::{Answer, Command};
use super::conn::{Conn, Filled, Interest};
use super::hello::{Hello, Road};
use super::link::Fabric;
use super::message::Message;
use super::peer::Arrival;
use super::proving::{Proved, Proving};
use super::reactor::{Core, Part, Reactor, Timer, Token};
use super::socket::{self, Connecting, Target};
use super::{Address, Shared, wire};
use crate::status::{Error, Result, Status};

/// Threads that resolve host names at once: each may hang for as long as the system's resolver does.
const RESOLVERS: usize = 4;

/// Addresses of one host name that are tried.
const CANDIDATES: usize = 8;

/// When to try a Unix socket again whose backlog is full.
const BUSY: Duration = Duration::from_millis(5);

/// What later dials to the same address may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Dial(u32),
    Link(u32),
}

/// A dial in progress.
pub(super) struct Dial {
    address: String,
    answers: Vec<Answer>,
    deadline: Instant,
    timer: Timer,
    candidates: VecDeque<Target>,
    step: Step,
    /// The TCP connection that is kept while the peer's local socket is tried.
    kept: Option<Kept>,
    /// How far the proof of the shared secret is, on the connection that is greeted.
    pub(super) proving: Proving,
    last: Option<Error>,
}

enum Step {
    Idle,
    /// The peer's backlog is full; again when the timer goes off.
    Busy(Target),
    Connecting(OwnedFd),
    Greeting(Box<Conn>),
}

struct Kept {
    conn: Conn,
    hello: Box<Hello>,
    network: Result<()>,
    until: Instant,
}

/// What a dial came to.
enum Outcome {
    /// It goes on.
    Wait,
    Up(Box<Arrival>),
    Failed(Error),
}

impl Reactor {
    pub(super) fn dial(&mut self, address: &str, answer: Answer) {
        let parsed = match Address::parse(address) {
            Ok(parsed) => parsed,
            Err(error) => return answer.fail(error),
        };
        let key = parsed.to_string();
        match self.by_address.get(&key) {
            Some(Slot::Link(id)) if self.links.contains_key(id) => return self.share_link(*id, answer),
            Some(Slot::Dial(id)) => {
                if let Some(dial) = self.dials.get_mut(id) {
                    dial.answers.push(answer);
                    return;
                }
            }
            _ => {}
        }
        if self.links.len() + self.dials.len() >= self.core.shared.config.max_links as usize {
            self.core.shared.counters.dials_failed.add(1);
            return answer.fail(too_many());
        }
        self.start_dial(key, parsed, answer);
    }

    fn start_dial(&mut self, key: String, address: Address, answer: Answer) {
        let id = self.core.fresh_id(|id| self.dials.contains_key(&id));
        let mut dial = Dial {
            address: key.clone(),
            answers: vec![answer],
            deadline: Instant::now() + self.core.shared.config.connect_timeout,
            timer: Timer::default(),
            candidates: VecDeque::new(),
            step: Step::Idle,
            kept: None,
            proving: Proving::default(),
            last: None,
        };
        let named = match &address {
            Address::Tcp(addr) => {
                dial.candidates.push_back(Target::Tcp(*addr));
                false
            }
            Address::Unix(path) => {
                dial.candidates.extend(Target::path(path).ok());
                false
            }
            Address::Name(..) => true,
        };
        dial.arm(&mut self.core, id);
        self.by_address.insert(key, Slot::Dial(id));
        self.dials.insert(id, dial);
        if named {
            self.unresolved.push_back(id);
            self.resolve_next();
        } else {
            self.step_dial(id, Dial::connect_next);
        }
    }

    /// Starts resolver threads for the dials that wait for one.
    fn resolve_next(&mut self) {
        while self.resolvers < RESOLVERS {
            let Some(id) = self.unresolved.pop_front() else { return };
            let Some(dial) = self.dials.get(&id) else { continue };
            let Ok(Address::Name(host, port)) = Address::parse(&dial.address) else { continue };
            let shared = self.core.shared.clone();
            let spawned = std::thread::Builder::new()
                .name("rde-resolve".to_owned())
                .spawn(move || resolve(&shared, id, &host, port));
            match spawned {
                Ok(_) => self.resolvers += 1,
                Err(error) => self.fail_dial(id, Error::os("start a resolver thread", &error)),
            }
        }
    }

    pub(super) fn on_resolved(&mut self, id: u32, result: Result<Vec<SocketAddr>>) {
        self.resolvers = self.resolvers.saturating_sub(1);
        match (self.dials.get_mut(&id), result) {
            (Some(dial), Ok(list)) => {
                dial.candidates.extend(list.into_iter().take(CANDIDATES).map(Target::Tcp));
                self.step_dial(id, Dial::connect_next);
            }
            (Some(_), Err(error)) => self.fail_dial(id, error),
            // It timed out meanwhile.
            (None, _) => {}
        }
        self.resolve_next();
    }

    pub(super) fn on_dial(&mut self, id: u32) {
        self.step_dial(id, Dial::advance);
    }

    pub(super) fn on_dial_timer(&mut self, id: u32, now: Instant) {
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.timer.fired();
            self.step_dial(id, |dial, core, id| dial.on_time(core, id, now));
        }
    }

    fn step_dial(&mut self, id: u32, step: impl FnOnce(&mut Dial, &mut Core, u32) -> Outcome) {
        let Some(dial) = self.dials.get_mut(&id) else { return };
        match step(dial, &mut self.core, id) {
            Outcome::Wait => dial.arm(&mut self.core, id),
            Outcome::Failed(error) => self.fail_dial(id, error),
            Outcome::Up(arrival) => {
                let Some(dial) = self.take_dial(id) else { return };
                self.add_link(Arrival { dialled: Some(dial.answers), ..*arrival });
            }
        }
    }

    pub(super) fn fail_dial(&mut self, id: u32, error: Error) {
        let Some(dial) = self.take_dial(id) else { return };
        self.core.shared.counters.dials_failed.add(1);
        let whole = Error { message: format!("{}: {}", dial.address, error.message).into(), ..error };
        for answer in dial.answers {
            answer.fail(whole.clone());
        }
    }

    fn take_dial(&mut self, id: u32) -> Option<Dial> {
        let mut dial = self.dials.remove(&id)?;
        self.core.disarm(&mut dial.timer, Token::new(Part::Dial, id));
        if self.by_address.get(&dial.address) == Some(&Slot::Dial(id)) {
            self.by_address.remove(&dial.address);
        }
        Some(dial)
    }
}

impl Dial {
    fn arm(&mut self, core: &mut Core, id: u32) {
        let mut at = self.deadline;
        if let Some(kept) = &self.kept {
            at = at.min(kept.until);
        }
        if matches!(self.step, Step::Busy(_)) {
            at = at.min(Instant::now() + BUSY);
        }
        core.arm(&mut self.timer, Token::new(Part::Dial, id), at);
    }

    /// Connects to the next candidate that lets us.
    fn connect_next(&mut self, core: &mut Core, id: u32) -> Outcome {
        while let Some(target) = self.candidates.pop_front() {
            match socket::start_connect(&target, false) {
                Ok(Connecting::Done(socket)) => return self.greet(socket, core, id, false),
                Ok(Connecting::Pending(socket)) => {
                    let wanted = Interest { token: Token::new(Part::Dial, id), read: false, write: true };
                    if let Err(error) = core.watch_socket(&socket, wanted, false) {
                        return Outcome::Failed(error);
                    }
                    self.step = Step::Connecting(socket);
                    return Outcome::Wait;
                }
                Ok(Connecting::Busy) => {
                    self.step = Step::Busy(target);
                    return Outcome::Wait;
                }
                Err(errno) => self.last = Some(unreachable(errno)),
            }
        }
        self.step = Step::Idle;
        let nobody = || Error::new(Status::Unreachable, "the address leads nowhere");
        let error = self.last.take().unwrap_or_else(nobody);
        self.fall_back(core, error)
    }

    /// What is possible without the candidate that failed with `error`.
    fn fall_back(&mut self, core: &mut Core, error: Error) -> Outcome {
        let Some(kept) = self.kept.take() else { return Outcome::Failed(error) };
        self.step = Step::Idle;
        match kept.network {
            Ok(()) => {
                tracing::debug!(%error, "the peer's local socket does not answer; staying on TCP");
                self.choose(kept.conn, *kept.hello, Fabric::Network, core)
            }
            Err(network) => Outcome::Failed(Error {
                message: format!("the peer's local socket failed ({error}), and {}", network.message).into(),
                ..network
            }),
        }
    }

    /// Connected: says hello. `known` when epoll watches the socket already.
    fn greet(&mut self, socket: OwnedFd, core: &mut Core, id: u32, known: bool) -> Outcome {
        let token = Token::new(Part::Dial, id);
        let config = &core.shared.config;
        let local = self.kept.is_some() || self.address.starts_with("unix://");
        let road = if local { Road::Unix } else { Road::Tcp };
        if road == Road::Tcp
            && let Err(errno) = socket::tune_tcp(&socket, config.keepalive)
        {
            return Outcome::Failed(Error::os("set up a TCP socket", &errno.into()));
        }
        let mut conn = Conn::new(socket, road, config.max_output);
        conn.interest = known.then_some(Interest { token, read: false, write: true });
        let hello = Message::Hello(Box::new(core.hello.clone()));
        if let Err(error) = conn.queue(&hello, None) {
            return Outcome::Failed(error);
        }
        self.proving = Proving::default();
        self.step = Step::Greeting(Box::new(conn));
        self.advance(core, id)
    }

    /// Goes on after an event.
    fn advance(&mut self, core: &mut Core, id: u32) -> Outcome {
        match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Connecting(socket) => match socket::connect_result(&socket) {
                Ok(()) => self.greet(socket, core, id, true),
                Err(errno) => {
                    self.last = Some(unreachable(errno));
                    self.connect_next(core, id)
                }
            },
            Step::Greeting(mut conn) => match converse(&mut conn, core) {
                Ok(Some(message)) => self.answered(*conn, message, core, id),
                Ok(None) => {
                    let watched = core.watch(&mut conn, Token::new(Part::Dial, id), true);
                    self.step = Step::Greeting(conn);
                    watched.map_or_else(Outcome::Failed, |()| Outcome::Wait)
                }
                Err(error) => {
                    self.last = Some(error);
                    drop(conn);
                    self.connect_next(core, id)
                }
            },
            step => {
                self.step = step;
                Outcome::Wait
            }
        }
    }

    /// The peer answered our hello.
    fn answered(&mut self, mut conn: Conn, message: Message, core: &mut Core, id: u32) -> Outcome {
        match self.proving.take(&message, core) {
            Ok(Proved::Wait(answer)) => {
                if let Some(Err(error)) = answer.map(|answer| conn.queue(&answer, None)) {
                    return Outcome::Failed(error);
                }
                self.step = Step::Greeting(Box::new(conn));
                return self.advance(core, id);
            }
            Ok(Proved::Enough) => {}
            Err(error) => return decline(conn, error, core),
        }
        match message {
            Message::Welcome { hello, local } => match core.hello.agree(&hello, conn.road()) {
                Ok(agreement) if self.kept.is_some() => {
                    let same = self.kept.as_ref().is_some_and(|kept| kept.hello.uuid == hello.uuid);
                    if same && agreement.shared {
                        return self.choose(conn, *hello, Fabric::Shared, core);
                    }
                    self.fall_back(core, wire::broken("somebody else answers at the peer's local socket"))
                }
                Ok(agreement) if agreement.shared && conn.road() == Road::Unix => {
                    self.choose(conn, *hello, Fabric::Shared, core)
                }
                Ok(agreement) if agreement.shared && !local.is_empty() => self.try_local(
                    Kept { conn, hello, network: agreement.network, until: self.deadline },
                    &local,
                    core,
                    id,
                ),
                Ok(agreement) => match agreement.network {
                    Ok(()) => self.choose(conn, *hello, Fabric::Network, core),
                    Err(error) => decline(conn, error, core),
                },
                Err(error) => decline(conn, error, core),
            },
            Message::Refused { status, text } => {
                let error = Error::new(status, format!("the peer refused: {text}"));
                self.fall_back(core, error)
            }
            _ => Outcome::Failed(wire::broken("the peer answers a hello with something else")),
        }
    }

    /// The peer is on this host: its abstract socket carries descriptors, TCP does not.
    fn try_local(&mut self, mut kept: Kept, name: &[u8], core: &mut Core, id: u32) -> Outcome {
        let Ok(target) = Target::local(name) else {
            return Outcome::Failed(wire::broken("the name of the peer's local socket is none"));
        };
        kept.until = self.deadline.min(Instant::now() + core.shared.config.local_timeout);
        // Whatever it says meanwhile waits in the kernel.
        core.unwatch(&mut kept.conn);
        self.kept = Some(kept);
        self.candidates.clear();
        self.candidates.push_back(target);
        self.connect_next(core, id)
    }

    /// Takes `conn` as the link.
    fn choose(&mut self, mut conn: Conn, hello: Hello, fabric: Fabric, core: &mut Core) -> Outcome {
        if let Err(error) = conn.queue(&Message::Ready { fabric }, None) {
            return Outcome::Failed(error);
        }
        if let Err(error) = conn.flush(&core.shared.counters) {
            return Outcome::Failed(error);
        }
        // The network's addresses, also when the link is the local socket.
        let (local_addr, peer_addr) = addresses_of(self.kept.as_ref().map_or(&conn, |kept| &kept.conn));
        Outcome::Up(Box::new(Arrival {
            credentials: credentials_of(&conn),
            conn,
            fabric,
            dialled: None,
            listener: None,
            address: self.address.clone(),
            peer: hello,
            local_addr,
            peer_addr,
        }))
    }

    fn on_time(&mut self, core: &mut Core, id: u32, now: Instant) -> Outcome {
        if now >= self.deadline || self.kept.as_ref().is_some_and(|kept| now >= kept.until) {
            return self.fall_back(core, self.too_late());
        }
        match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Busy(target) => {
                self.candidates.push_front(target);
                self.connect_next(core, id)
            }
            step => {
                self.step = step;
                Outcome::Wait
            }
        }
    }

    fn too_late(&self) -> Error {
        let what = match self.step {
            Step::Idle => "the host name was not resolved in time",
            Step::Busy(_) => "the peer does not accept connections",
            Step::Connecting(_) => "nobody answered in time",
            Step::Greeting(_) => "the peer did not answer the hello in time",
        };
        Error::new(Status::TimedOut, what)
    }
}

/// Sends and receives; the first message that arrives is the answer.
fn converse(conn: &mut Conn, core: &mut Core) -> Result<Option<Message>> {
    let shared: Arc<Shared> = core.shared.clone();
    let left = |error: Error| Error::new(Status::Unreachable, format!("the peer hung up: {}", error.message));
    // A refusal may wait to be read although we cannot send any more.
    let sent = conn.flush(&shared.counters);
    loop {
        if let Some(arrived) = conn.next(&shared.counters)? {
            return Ok(Some(arrived.message));
        }
        match conn.fill(&mut core.scratch, &shared.counters).map_err(left)? {
            Filled::Bytes(_) => {}
            Filled::Empty => break,
            Filled::End => {
                return Err(Error::new(Status::Unreachable, "the peer hung up during the handshake"));
            }
        }
    }
    sent.map_err(left)?;
    Ok(None)
}

/// Tells the peer why we do not stay, as far as the socket takes it at once.
fn decline(mut conn: Conn, error: Error, core: &Core) -> Outcome {
    if conn.queue(&Message::refused(&error), None).is_ok() {
        let _ = conn.flush(&core.shared.counters);
    }
    Outcome::Failed(error)
}

fn unreachable(errno: Errno) -> Error {
    let (status, what) = match errno {
        Errno::CONNREFUSED => (Status::Unreachable, "nobody listens there"),
        Errno::NOENT => (Status::Unreachable, "there is no such socket file"),
        Errno::ACCESS | Errno::PERM => (Status::PermissionDenied, "not permitted to connect"),
        Errno::TIMEDOUT => (Status::TimedOut, "nobody answered"),
        _ => (Status::Unreachable, "cannot be reached"),
    };
    let os_errno = errno.raw_os_error();
    Error { status, os_errno, transport: 0, message: format!("{what} ({errno})").into() }
}

fn resolve(shared: &Shared, dial: u32, host: &str, port: u16) {
    let result = match (host, port).to_socket_addrs() {
        Ok(list) => Ok(list.take(CANDIDATES).collect()),
        Err(error) => {
            Err(Error::new(Status::Unreachable, format!("host name '{host}' is not known ({error})")))
        }
    };
    // A control that ended meanwhile needs no answer.
    let _ = shared.commands.push(Command::Resolved { dial, result });
}
