//! Control connections: one to each peer, run by one thread of the context.
//!
//! A [`Control`] listens, dials, shakes hands, watches whether peers live, carries what workers say to each other
//! (attach, credits, keys, descriptors) and tells them in their inboxes. UCX addresses, settings and remote keys are
//! opaque bytes here. `docs/wire.md` has the bytes.
//!
//! - [`Control`]: what a context and its workers call; any thread, never blocks unless it says so
//! - [`Notice`]: what a worker is told; [`KeyService`]: what is asked about exported memory
//! - `wire`, `hello`, `message`: the codec, pure
//! - `socket`, `listener`, `conn`: non-blocking sockets and messages over them
//! - `reactor`, `accept`, `dial`, `links`, `peer`, `stream`: the thread

mod accept;
mod address;
mod closing;
mod command;
mod config;
mod conn;
mod counters;
mod dial;
mod hello;
mod link;
mod links;
mod listener;
mod message;
mod notice;
mod peer;
mod proof;
mod proving;
mod reactor;
mod socket;
mod stream;
mod throttle;
mod wire;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

pub use address::Address;
pub use config::ControlConfig;
pub use counters::{Counter, Counters};
pub use hello::{Hello, HostId, STREAM};
pub use link::{Credentials, Fabric, Link, LinkState};

pub use message::{Decoded, Kind, Message, TICKET};
pub use notice::{Attach, KeyAsk, KeyGrant, KeyService, Notice, Notices};
pub use proof::SharedSecret;
pub use wire::{HEADER_BYTES, WIRE_MAJOR, WIRE_MINOR};

use crate::engine::inbox::Inbox;
use crate::status::{Error, Result, Status};
use command::{Answer, Command};

/// What the control thread and its callers share.
pub(crate) struct Shared {
    config: ControlConfig,
    commands: Inbox<Command>,
    counters: Counters,
    next_listener: AtomicU32,
}

/// The control connections of one context. Every method may be called from any thread; those that only ask return at
/// once, and what comes of it arrives in an inbox.
pub struct Control {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How long closing a listener waits for its sockets to be closed.
const CLOSING: Duration = Duration::from_secs(1);

/// A bound address. It accepts until [`Control::close_listener`] or the end of the control.
#[derive(Debug)]
pub struct Listener {
    id: u32,
    address: String,
}

impl Listener {
    /// Names it in its context.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The address it is bound to, with the real port: what others dial.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Control {
    /// Starts the control thread. `keys` is asked in that thread and must not block it.
    pub fn start(config: ControlConfig, keys: Arc<dyn KeyService>) -> Result<Arc<Control>> {
        config.check()?;
        let shared = Arc::new(Shared {
            config,
            commands: Inbox::new()?,
            counters: Counters::default(),
            next_listener: AtomicU32::new(1),
        });
        let thread = reactor::spawn(shared.clone(), keys)?;
        Ok(Arc::new(Control { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// Closes every link and listener, answers what is pending with `Canceled`, and waits for the thread. Calls after
    /// it are answered at once with `WrongState`. Harmless when repeated.
    pub fn stop(&self) {
        self.ask(Command::Stop);
        let Some(thread) = self.thread.lock().take() else { return };
        // The last reference may be dropped by the key service, in the control thread itself.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }

    /// The options it was started with.
    pub fn config(&self) -> &ControlConfig {
        &self.shared.config
    }

    /// What it has done so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Binds `address` (`tcp://host:port`, port 0 picks one, `tcp://[::1]:port`, `unix:///path`) in the calling
    /// thread, and accepts links on it. Attaches that arrive over them go to `inbox` with `user_data`.
    ///
    /// The socket file of a dead process is replaced; ours is removed on close. A TCP listener also opens an abstract
    /// Unix socket with a secret name when [`Fabric::Shared`] is allowed. A host name (not a literal address) is
    /// resolved here and may block.
    ///
    /// Errors: `InvalidArgument` (not an address), `AlreadyExists` (in use; the message names it),
    /// `PermissionDenied`, `Io`, `WrongState` (stopped).
    pub fn listen(&self, address: &str, inbox: &Arc<Notices>, user_data: u64) -> Result<Arc<Listener>> {
        let address = Address::parse(address)?;
        let sockets = listener::Sockets::bind(&address, &self.shared.config)?;
        let id = self.shared.next_listener.fetch_add(1, Ordering::Relaxed);
        let listener = Arc::new(Listener { id, address: sockets.address().to_owned() });
        let command = Command::Listen { id, sockets, inbox: inbox.clone(), user_data };
        match self.shared.commands.push(command) {
            Ok(()) => Ok(listener),
            Err(_) => Err(Error::new(Status::WrongState, "the context's control thread has stopped")),
        }
    }

    /// Stops accepting on the listener and removes its socket file. Links that it accepted stay; attaches over them
    /// are refused from now on. When it returns the address is free, unless the control thread takes longer than
    /// [`CLOSING`].
    pub fn close_listener(&self, listener: &Listener) {
        let (closed, wait) = mpsc::channel();
        self.ask(Command::CloseListener { id: listener.id, closed });
        if !self.is_own_thread() {
            let _ = wait.recv_timeout(CLOSING);
        }
    }

    fn is_own_thread(&self) -> bool {
        let thread = self.thread.lock();
        thread.as_ref().is_some_and(|thread| thread.thread().id() == std::thread::current().id())
    }

    /// Asks for a link to `address`. Answered by [`Notice::LinkUp`] or [`Notice::DialFailed`] with `token`, within
    /// the connect timeout. Dials to the same text share one link; a lost link is never handed out.
    pub fn dial(&self, address: &str, inbox: &Arc<Notices>, token: u64) {
        self.ask(Command::Dial { address: address.to_owned(), answer: Answer::to_dial(inbox, token) });
    }

    /// Asks the peer's listener for a path to a worker. `ours.route` must not be in use on this link by another
    /// inbox. Answered by [`Notice::Attached`] or [`Notice::AttachRefused`] with our route. Only over links that we
    /// dialled: on others nobody listens.
    pub fn attach(&self, link: &Arc<Link>, inbox: &Arc<Notices>, ours: Attach) {
        let answer = Answer::to_attach(inbox, link, ours.route);
        self.ask(Command::Attach { link: link.clone(), ours, answer });
    }

    /// Answers [`Notice::Attach`]: the path is there, and `credits` sessions may be opened at once. Notices about
    /// `ours.route` go to `inbox` from now on.
    pub fn accept_attach(
        &self,
        link: &Arc<Link>,
        request: u32,
        inbox: &Arc<Notices>,
        ours: Attach,
        credits: u32,
    ) {
        self.ask(Command::AcceptAttach { link: link.clone(), request, inbox: inbox.clone(), ours, credits });
    }

    /// Answers [`Notice::Attach`]: no. Of `text` the peer sees the first 240 bytes.
    pub fn refuse_attach(&self, link: &Arc<Link>, request: u32, status: Status, text: &str) {
        self.ask(Command::RefuseAttach { link: link.clone(), request, status, text: text.to_owned() });
    }

    /// Ends our side of a path; the peer gets [`Notice::Detached`], we get no more notices about the route.
    pub fn detach(&self, link: &Arc<Link>, route: u32, status: Status) {
        self.ask(Command::Detach { link: link.clone(), route, status });
    }

    /// Lets the peer open `count` more sessions on the path whose our side is `route`.
    pub fn send_credits(&self, link: &Arc<Link>, route: u32, count: u32) {
        self.ask(Command::SendCredits { link: link.clone(), route, count });
    }

    /// Tells the peer that we read short frames of the path whose our side is `route` from a ring too.
    pub fn offer_ring(&self, link: &Arc<Link>, route: u32, ends: [OwnedFd; 2]) {
        self.ask(Command::OfferRing { link: link.clone(), route, ends });
    }

    /// Hands the socket that comes to our listeners with this ticket to `inbox`, as [`Notice::Stream`] of `route`, once;
    /// until the link is lost.
    pub fn expect_stream(&self, link: &Arc<Link>, inbox: &Arc<Notices>, route: u32, ticket: [u8; TICKET]) {
        self.ask(Command::ExpectStream { link: link.clone(), route, inbox: inbox.clone(), ticket });
    }

    /// Connects to where the link was dialled and shows the ticket. Answered by [`Notice::Stream`] or
    /// [`Notice::StreamFailed`], unless the control stops first.
    pub fn open_stream(&self, link: &Arc<Link>, inbox: &Arc<Notices>, route: u32, ticket: [u8; TICKET]) {
        self.ask(Command::OpenStream { link: link.clone(), route, inbox: inbox.clone(), ticket });
    }

    /// Asks for more sessions on the path whose our side is `route`. Answered by [`Notice::Credits`] or
    /// [`Notice::CreditsRefused`], unless the path or the link ends first.
    pub fn ask_credits(&self, link: &Arc<Link>, route: u32) {
        self.ask(Command::AskCredits { link: link.clone(), route });
    }

    /// Answers [`Notice::CreditsWanted`]: no.
    pub fn refuse_credits(&self, link: &Arc<Link>, route: u32, status: Status) {
        self.ask(Command::RefuseCredits { link: link.clone(), route, status });
    }

    /// Asks the peer for the memory behind a key. Answered by [`Notice::Imported`] with `token`.
    pub fn import(&self, link: &Arc<Link>, inbox: &Arc<Notices>, token: u64, ask: KeyAsk) {
        self.ask(Command::Import {
            link: link.clone(),
            ask,
            answer: Answer::to_import(inbox, token, ask.export_id),
        });
    }

    /// Tells the peer that we no longer use an export of its.
    pub fn drop_key(&self, link: &Arc<Link>, export_id: u64) {
        self.ask(Command::DropKey { link: link.clone(), export_id });
    }

    /// Tells the peer that our export is void; its inboxes get [`Notice::Revoked`].
    pub fn revoked(&self, link: &Arc<Link>, export_id: u64) {
        self.ask(Command::Revoked { link: link.clone(), export_id });
    }

    /// Closes a link: what was asked to be sent is sent first. Both sides see it lost with `Canceled`.
    pub fn close_link(&self, link: &Arc<Link>) {
        self.ask(Command::CloseLink { link: link.clone() });
    }

    /// Gives a link up because its data path failed: lost with `status` here, with `ConnectionLost` at the peer.
    pub fn break_link(&self, link: &Arc<Link>, status: Status, text: &str) {
        self.ask(Command::BreakLink { link: link.clone(), status, text: text.to_owned() });
    }

    /// Forgets an inbox, for a worker that closes: its paths are detached, its listeners closed, and nothing more is
    /// pushed into it after what was being pushed.
    pub fn forget(&self, inbox: &Arc<Notices>) {
        let _ = inbox.close();
        self.ask(Command::Forget { inbox: inbox.clone() });
    }

    /// Makes the control thread panic, so that tests can see it contained.
    #[cfg(any(test, debug_assertions))]
    pub fn inject_panic(&self) {
        self.ask(Command::Panic);
    }

    fn ask(&self, command: Command) {
        if let Err(command) = self.shared.commands.push(command) {
            command.refuse(&Error::new(Status::WrongState, "the context's control thread has stopped"));
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("name", &self.shared.config.name).finish_non_exhaustive()
    }
}
