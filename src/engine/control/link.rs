//! [`Link`]: one control connection between two contexts, as workers see it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::hello::{Hello, SPOILS, STREAM};
use crate::status::{Error, Status};

/// What carries bytes between the two contexts of a link.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fabric {
    /// Same host: mapped memory, descriptors over a Unix socket.
    Shared = 0,
    /// UCX over a NIC or TCP.
    Network = 1,
}

impl Fabric {
    /// Its bit in [`Hello::fabrics`].
    pub const fn bit(self) -> u32 {
        1 << self as u8
    }

    /// Its name: `shared` or `network`.
    pub const fn name(self) -> &'static str {
        match self {
            Fabric::Shared => "shared",
            Fabric::Network => "network",
        }
    }

    /// The fabric with this number.
    pub fn from_u8(number: u8) -> Option<Fabric> {
        [Fabric::Shared, Fabric::Network].into_iter().find(|fabric| *fabric as u8 == number)
    }
}

/// Who is at the other end of a Unix socket, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Process; 0 when it is not visible from our pid namespace.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It works.
    Up,
    /// It is gone for good, with this status. `Canceled`: closed on purpose.
    Lost(Status),
}

/// What is known of a link when it comes up.
#[derive(Clone, Debug)]
pub(super) struct LinkFacts {
    pub id: u32,
    pub dialled: bool,
    pub local: bool,
    pub fabric: Fabric,
    /// Whether we want streams.
    pub streams: bool,
    pub address: String,
    pub peer: Hello,
    pub credentials: Option<Credentials>,
    pub local_addr: Option<SocketAddr>,
    pub peer_addr: Option<SocketAddr>,
    pub keepalive: Duration,
    pub process: Option<Arc<OwnedFd>>,
}

/// One control connection between two contexts. Any thread may read it at any time.
#[derive(Debug)]
pub struct Link {
    facts: LinkFacts,
    // 0 is up; else the status it was lost with.
    state: AtomicI32,
    error: OnceLock<Error>,
}

impl Link {
    pub(super) fn new(facts: LinkFacts) -> Link {
        Link { facts, state: AtomicI32::new(0), error: OnceLock::new() }
    }

    /// Names the link in its context; never 0, not reused while the link is up.
    pub fn id(&self) -> u32 {
        self.facts.id
    }

    /// Whether we made it (else a listener of ours accepted it).
    pub fn dialled(&self) -> bool {
        self.facts.dialled
    }

    /// Whether it is a Unix socket, so that descriptors can travel.
    pub fn local(&self) -> bool {
        self.facts.local
    }

    /// Whether frames of its paths may go by streams of ours: both sides want it, over TCP.
    pub fn streams(&self) -> bool {
        let wanted = self.facts.streams && self.facts.peer.fabrics & STREAM != 0;
        wanted && self.facts.fabric == Fabric::Network && !self.facts.local && self.facts.peer_addr.is_some()
    }

    /// Whether a payload on a stream may be a part of a file: the peer can be told that it was no good.
    pub fn takes_files(&self) -> bool {
        self.streams() && self.facts.peer.fabrics & SPOILS != 0
    }

    /// What carries the data.
    pub fn fabric(&self) -> Fabric {
        self.facts.fabric
    }

    /// The text it was dialled by; for an accepted link, the listener's address.
    pub fn address(&self) -> &str {
        &self.facts.address
    }

    /// What the peer said of itself. Nothing in it is proved.
    pub fn peer(&self) -> &Hello {
        &self.facts.peer
    }

    /// Who the kernel says the peer is; Unix sockets only.
    pub fn credentials(&self) -> Option<Credentials> {
        self.facts.credentials
    }

    /// A descriptor of the peer's process that becomes readable when it has ended; for a Unix socket to a process that is
    /// visible from here, on kernels that have them.
    pub fn process(&self) -> Option<&Arc<OwnedFd>> {
        self.facts.process.as_ref()
    }

    /// Our address on the network path to the peer (also of a local link that began as a TCP dial): a hint for
    /// picking the network device.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.facts.local_addr
    }

    /// The peer's address on that path.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.facts.peer_addr
    }

    /// Silence after which we call the peer lost.
    pub fn keepalive(&self) -> Duration {
        self.facts.keepalive
    }

    /// How it is now: one atomic load.
    pub fn state(&self) -> LinkState {
        match self.state.load(Ordering::Acquire) {
            0 => LinkState::Up,
            number => LinkState::Lost(Status::from_i32(number).unwrap_or(Status::ConnectionLost)),
        }
    }

    /// Whether it works: one atomic load.
    pub fn is_up(&self) -> bool {
        self.state.load(Ordering::Acquire) == 0
    }

    /// Why it was lost.
    pub fn error(&self) -> Option<&Error> {
        self.error.get()
    }

    pub(super) fn set_lost(&self, error: &Error) {
        // The first reason stays.
        if self.error.set(error.clone()).is_ok() {
            self.state.store(error.status as i32, Ordering::Release);
        }
    }
}
