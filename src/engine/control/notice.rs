//! What the control thread tells a worker ([`Notice`]), and what it asks the owner of the keys ([`KeyService`]).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Link;
use crate::engine::inbox::Inbox;
use crate::status::{Error, Result, Status};

/// Where a worker finds its notices.
pub type Notices = Inbox<Notice>;

/// One side of a worker-to-worker path over a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Names this side's end of the path. Its owner picks it; unique among its owner's routes on the link.
    pub route: u32,
    /// The worker's UCX address, opaque; at most [`crate::limits::WORKER_ADDRESS`] bytes, may be empty.
    pub address: Vec<u8>,
}

/// A request for the memory behind an exported key. All of it comes from the key's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyAsk {
    /// Which export.
    pub export_id: u64,
    /// The capability's secret.
    pub secret: [u8; 16],
    /// Ways of transfer the asker can use, a bit mask of the engine's; bit meanings are not the control's business.
    pub ways: u8,
    /// The fabric the asker would like, as [`super::Fabric`] numbers it; a hint.
    pub fabric: u8,
}

impl std::fmt::Debug for KeyAsk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of logs.
        f.debug_struct("KeyAsk")
            .field("export_id", &self.export_id)
            .field("ways", &self.ways)
            .finish_non_exhaustive()
    }
}

/// What a key gives.
#[derive(Debug)]
pub struct KeyGrant {
    /// Bytes that may be touched.
    pub length: u64,
    /// Rights, a bit mask of the engine's.
    pub rights: u32,
    /// The memory to map, and the words that say whether it may still be used. They travel on local links only and
    /// are left out elsewhere. Who imports must check their sizes and seals before mapping: the peer made them.
    pub mapping: Option<[OwnedFd; 2]>,
    /// Address and UCX remote key (at most [`crate::limits::REMOTE_KEY`] bytes), for one-sided access.
    pub rma: Option<(u64, Vec<u8>)>,
}

/// The owner of exported memory. Called by the control thread: it must not block, nor wait for a worker.
pub trait KeyService: Send + Sync {
    /// A peer asks for an export. Checks the secret; remembers that `link` holds it.
    fn grant(&self, link: &Arc<Link>, ask: &KeyAsk) -> std::result::Result<KeyGrant, Status>;

    /// The peer no longer uses the export.
    fn dropped(&self, link: &Arc<Link>, export_id: u64);

    /// The link is lost: the peer behind it holds nothing any more. Called once for each link that was up.
    fn link_lost(&self, link: &Arc<Link>);
}

/// What the control thread tells a worker. Every dial, attach and import is answered exactly once.
#[derive(Debug)]
pub enum Notice {
    /// Answers a dial: the link is up. The inbox will be told when it is lost.
    LinkUp {
        /// The dial's.
        token: u64,
        /// Perhaps shared with other dials to the same address.
        link: Arc<Link>,
    },
    /// Answers a dial: no link.
    DialFailed {
        /// The dial's.
        token: u64,
        /// `Unreachable`, `TimedOut`, `Protocol`, `SettingsMismatch`, `LimitReached`, `PermissionDenied`,
        /// `InvalidArgument` (not an address), `Canceled` (the control stops) …
        error: Error,
    },
    /// The link is gone: once to each inbox that dialled it, attached to it or was asked to attach. What was pending
    /// on it has been answered before this. `Canceled` when it was closed on purpose, by either side.
    LinkLost {
        /// The link; its state says the same.
        link: Arc<Link>,
        /// Why.
        error: Error,
    },
    /// To the listener's inbox: a peer's worker wants a path. Answer with `accept_attach` or `refuse_attach`.
    Attach {
        /// Where it came from.
        link: Arc<Link>,
        /// [`super::Listener::id`] of the listener that accepted the link.
        listener: u32,
        /// The listener's.
        user_data: u64,
        /// Names the question in the answer; unique on the link while it is open.
        request: u32,
        /// The peer's side.
        peer: Attach,
    },
    /// The peer reads short frames of the path from memory that both map.
    Ring {
        /// Our route.
        route: u32,
        /// Memory and bell, not checked.
        ends: [OwnedFd; 2],
    },
    /// The path's frames come and go by this socket.
    Stream {
        /// The link.
        link: Arc<Link>,
        /// Our route.
        route: u32,
        /// Connected, non-blocking.
        socket: OwnedFd,
        /// What came behind its first words.
        input: Vec<u8>,
    },
    /// The path has no stream.
    StreamFailed {
        /// The link.
        link: Arc<Link>,
        /// Our route.
        route: u32,
        /// Why.
        error: Error,
    },
    /// Answers an attach: the path is there.
    Attached {
        /// The link.
        link: Arc<Link>,
        /// Our route, as given to `attach`.
        route: u32,
        /// The peer's side.
        peer: Attach,
        /// Sessions that may be opened at once without asking.
        credits: u32,
    },
    /// Answers an attach: no path.
    AttachRefused {
        /// The link.
        link: Arc<Link>,
        /// Our route, as given to `attach`.
        route: u32,
        /// Why; `ConnectionLost` when the link is.
        error: Error,
    },
    /// The peer's worker left the path; the link stays. The route is free again.
    Detached {
        /// The link.
        link: Arc<Link>,
        /// Our route.
        route: u32,
        /// Why.
        status: Status,
    },
    /// The peer lets us open `count` more sessions on the path.
    Credits {
        /// The link.
        link: Arc<Link>,
        /// Our route.
        route: u32,
        /// How many more.
        count: u32,
    },
    /// The peer would open more sessions on the path. Answer with `send_credits` or `refuse_credits`.
    CreditsWanted {
        /// The link.
        link: Arc<Link>,
        /// Our route.
        route: u32,
    },
    /// The peer gives no more sessions on the path.
    CreditsRefused {
        /// The link.
        link: Arc<Link>,
        /// Our route.
        route: u32,
        /// Why: `LimitReached`, mostly.
        status: Status,
    },
    /// Answers an import.
    Imported {
        /// The import's.
        token: u64,
        /// The memory, or why not: the peer's status, or `ConnectionLost`.
        result: Result<KeyGrant>,
    },
    /// The peer revoked an export: whatever was imported from it is void.
    Revoked {
        /// The link.
        link: Arc<Link>,
        /// Which export of the peer.
        export_id: u64,
    },
}
