//! A session: one conversation with a worker of a peer. Many share a link and an endpoint.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::control::Link;
use super::handle;
use super::info::{SessionInfo, SessionState};
use super::worker::{Order, Worker};
use crate::status::{Error, Result, Status};
use crate::telemetry::{Meter, Stats};

/// A conversation with a worker of a peer. Handles of it may be used from any thread; its completions arrive at the
/// worker it was opened on.
pub struct Session {
    id: AtomicU64,
    worker: Weak<Worker>,
    user_data: u64,
    accepted: bool,
    address: Box<str>,
    state: AtomicU8,
    /// Whether its close was ordered.
    closing: AtomicBool,
    /// Whether it holds one of the context's session slots.
    slot: AtomicBool,
    place: AtomicU64,
    link: OnceLock<Arc<Link>>,
    consumed: AtomicU32,
    used: AtomicU32,
    /// Whether the peer surely knows it.
    heard: AtomicBool,
    meter: Meter,
    made: Instant,
}

impl Session {
    /// Opens a session to `address` (`tcp://host:port`, `unix:///path`) on `worker`. Returns at once; the completion
    /// `SessionConnect` says how it went. To a peer that is already connected it costs no round trip.
    pub fn connect(worker: &Arc<Worker>, address: &str, user_data: u64) -> Result<Arc<Session>> {
        super::control::Address::parse(address)?;
        worker.context().take_session()?;
        let session = Session::create(worker, address, user_data, false)?;
        match worker.order(Order::Connect(session.clone())) {
            Status::Ok => Ok(session),
            refused => {
                session.finish(SessionState::Closed);
                Err(refused.into())
            }
        }
    }

    /// Makes the object and its handle; takes over a session slot of the context.
    pub(super) fn create(
        worker: &Arc<Worker>,
        address: &str,
        user_data: u64,
        accepted: bool,
    ) -> Result<Arc<Session>> {
        let session = Arc::new(Session {
            id: AtomicU64::new(0),
            worker: Arc::downgrade(worker),
            user_data,
            accepted,
            address: address.into(),
            state: AtomicU8::new(SessionState::Connecting as u8),
            closing: AtomicBool::new(false),
            slot: AtomicBool::new(true),
            place: AtomicU64::new(0),
            link: OnceLock::new(),
            consumed: AtomicU32::new(0),
            used: AtomicU32::new(0),
            heard: AtomicBool::new(accepted),
            meter: Meter::default(),
            made: Instant::now(),
        });
        let Some(id) = handle::SESSIONS.insert(session.clone()) else {
            worker.context().unreserve_sessions(1);
            return Err(Error::new(Status::LimitReached, "no handle is left for another session"));
        };
        session.id.store(id, Ordering::Release);
        Ok(session)
    }

    /// Its handle.
    pub fn id(&self) -> u64 {
        self.id.load(Ordering::Acquire)
    }

    /// What was given at connect, or to the listener that accepted it.
    pub fn user_data(&self) -> u64 {
        self.user_data
    }

    /// Time since it was asked for.
    pub(super) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// What log lines of it are under.
    pub(super) fn span(&self) -> tracing::Span {
        tracing::info_span!("session", id = self.id(), address = self.address())
    }

    /// The address that was dialled, or the peer's.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it stands.
    pub fn state(&self) -> SessionState {
        match self.state.load(Ordering::Acquire) {
            0 => SessionState::Connecting,
            1 => SessionState::Open,
            2 => SessionState::Closing,
            3 => SessionState::Closed,
            _ => SessionState::Lost,
        }
    }

    /// The link below it, once it has been open.
    pub fn link(&self) -> Option<&Arc<Link>> {
        self.link.get()
    }

    /// The worker it was opened on; `STALE_HANDLE` once that is gone.
    pub fn worker(&self) -> Result<Arc<Worker>> {
        self.worker.upgrade().ok_or_else(|| Error::new(Status::StaleHandle, "the session's worker is closed"))
    }

    /// Whether it belongs to `worker`.
    pub(super) fn belongs_to(&self, worker: &Worker) -> bool {
        std::ptr::eq(self.worker.as_ptr(), worker)
    }

    /// Ends the session: its operations end with `CANCELED`, then the completion `SessionClosed` comes.
    /// `WRONG_STATE` when it is already closing; `STALE_HANDLE` when its worker is closed.
    pub fn close(self: &Arc<Session>, user_data: u64) -> Status {
        let Some(worker) = self.worker.upgrade() else { return Status::StaleHandle };
        if matches!(self.state(), SessionState::Closing | SessionState::Closed) {
            return Status::WrongState;
        }
        // Of several callers one orders it: its completion is the last of the session.
        if self.closing.swap(true, Ordering::AcqRel) {
            return Status::WrongState;
        }
        let status = worker.order(Order::Close(self.clone(), user_data));
        if status != Status::Ok {
            self.closing.store(false, Ordering::Release);
        }
        status
    }

    /// What it tells about itself.
    pub fn info(&self) -> SessionInfo {
        let link = self.link.get();
        let stats = self.stats();
        SessionInfo {
            state: self.state(),
            local: link.is_some_and(|link| link.local()),
            accepted: self.accepted,
            address: self.address.to_string(),
            peer_name: link.map(|link| link.peer().name.clone()).unwrap_or_default(),
            peer_pid: link.map_or(0, |link| link.peer().pid),
            transport: link.map(|link| link.fabric().name().to_string()).unwrap_or_default(),
            operations: stats.counters.way_operations,
            bytes: stats.counters.way_bytes,
        }
    }

    /// Its counters.
    pub fn stats(&self) -> Stats {
        self.meter.snapshot()
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// `(peer, channel)` within the worker, while open.
    pub(super) fn place(&self) -> (u32, u32) {
        let place = self.place.load(Ordering::Acquire);
        ((place >> 32) as u32, place as u32)
    }

    pub(super) fn opened(&self, link: &Arc<Link>, route: u32, channel: u32) {
        let _ = self.link.set(link.clone());
        self.place.store(u64::from(route) << 32 | u64::from(channel), Ordering::Release);
        self.state.store(SessionState::Open as u8, Ordering::Release);
    }

    pub(super) fn closing(&self) {
        self.state.store(SessionState::Closing as u8, Ordering::Release);
    }

    /// The end: the handle becomes stale and its slot goes back, once.
    pub(super) fn finish(&self, state: SessionState) {
        self.state.store(state as u8, Ordering::Release);
        handle::SESSIONS.remove(self.id());
        if self.give_slot()
            && let Some(worker) = self.worker.upgrade()
        {
            worker.context().unreserve_sessions(1);
        }
    }

    /// Gives the session's slot to the caller, once.
    pub(super) fn give_slot(&self) -> bool {
        self.slot.swap(false, Ordering::AcqRel)
    }

    /// Notes that the user took a message; returns how many were taken since the peer was last told.
    pub(super) fn message_taken(&self) -> u32 {
        self.consumed.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The same, by who holds the core of a polled worker and is alone in counting.
    pub(super) fn message_taken_by_owner(&self) -> u32 {
        let consumed = self.consumed.load(Ordering::Relaxed) + 1;
        self.consumed.store(consumed, Ordering::Relaxed);
        consumed
    }

    /// Messages taken that the peer was not told of.
    pub(super) fn consumed(&self) -> u32 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// The peer was told, by who is alone in counting.
    pub(super) fn forget_consumed(&self) {
        self.consumed.store(0, Ordering::Relaxed);
    }

    /// Something of the peer's came over it.
    pub(super) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether the peer surely knows it: frames that overtake its opening would find nobody.
    pub(super) fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Whether its handle is stale.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state(), SessionState::Closed | SessionState::Lost)
    }

    /// Messages taken since this was last asked.
    pub(super) fn take_consumed(&self) -> u32 {
        if self.consumed.load(Ordering::Relaxed) == 0 { 0 } else { self.consumed.swap(0, Ordering::Relaxed) }
    }

    /// Coarse time of the last operation, for expiry.
    pub(super) fn touch(&self, now: u32) {
        self.used.store(now, Ordering::Relaxed);
    }

    pub(super) fn last_used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }
}
