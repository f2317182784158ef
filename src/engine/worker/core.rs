//! What the thread that makes progress owns: UCX workers, peers, operations in flight, completions not yet taken.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::channel::Peer;
use super::fabric::Fabrics;
use super::fair::{Fair, Queues};
use super::message::Incoming;
use super::patience::Patience;
use super::pending::{Outcome, Pending};
use super::timer::Timers;
use super::{Order, Worker, message_session};
use crate::engine::call::Inbound;
use crate::engine::context::Context;
use crate::engine::control::{Link, Notice};
use crate::engine::frame::Compact;
use crate::engine::handle;
use crate::engine::inbox::Inbox;
use crate::engine::options::Mode;
use crate::engine::region::Region;
use crate::engine::request::{COMPLETION_EVENT, Completion, Op};
use crate::engine::session::Session;
use crate::engine::slots::Slots;
use crate::limits;
use crate::status::{Result, Status};
use crate::telemetry::{Count, Meter};
use crate::ucx::Message;

/// Longest sleep: UCX 1.13 is known to miss a wake-up now and then.
const NAP: Duration = Duration::from_millis(100);

/// How long UCX has to let go of operations of a lost peer before they complete without.
pub(super) const GRACE: Duration = Duration::from_millis(50);

/// State of the thread that makes progress.
pub(super) struct Core {
    pub(super) worker: Weak<Worker>,
    pub(super) context: Arc<Context>,
    pub(super) meter: Arc<Meter>,
    pub(super) inbox: Arc<Inbox<Notice>>,
    pub(super) fabrics: Fabrics,
    pub(super) peers: Slots<Peer>,
    pub(super) ops: Slots<Pending>,
    pub(super) timers: Timers,
    /// Mapped copies that are done in steps, in turn.
    pub(super) copies: VecDeque<u64>,
    /// Rendezvous messages on their way into a buffer.
    pub(super) incoming: Slots<Incoming>,
    /// Channels with messages that found no memory.
    pub(super) starved: Vec<(u64, u32)>,
    pub(super) imports: std::collections::HashMap<(u32, u64), Weak<Region>>,
    /// Imports that the peer has not answered: by operation, what a grant that comes too late is given back with.
    pub(super) importing: std::collections::HashMap<u64, (Arc<Link>, u64)>,
    pub(super) rkeys: super::rma::Rkeys,
    /// This worker's number in its context; part of its routes.
    pub(super) number: u32,
    /// Where messages arrive, and short frames of rings.
    pub(super) message: Option<Box<Message>>,
    pub(super) short: Option<Box<[u8; limits::COMPACT_FRAME]>>,
    /// Where frames are put together.
    pub(super) compact: Compact,
    /// Inbound calls that nobody has taken.
    pub(super) calls: Queues,
    /// Whether one came since this was last asked.
    pub(super) called: bool,
    pub(super) serves_calls: bool,
    pub(super) one_ways: u32,
    /// How long who makes progress spins for more.
    pub(super) patience: Patience,
    /// Memory of calls that were answered, for others.
    #[allow(clippy::vec_box, reason = "they come as boxes and go as boxes")]
    pub(super) spare: Vec<Box<Inbound>>,
    /// The session that was used last.
    pub(super) recent: Option<Arc<Session>>,
    out: VecDeque<Completion>,
    pub(super) notices: Vec<Notice>,
    sampled: u32,
}

impl Core {
    pub fn new(
        context: Arc<Context>,
        inbox: Arc<Inbox<Notice>>,
        number: u32,
        meter: Arc<Meter>,
    ) -> Result<Core> {
        Ok(Core {
            worker: Weak::new(),
            fabrics: Fabrics::new(&inbox)?,
            context,
            meter,
            inbox,
            peers: Slots::new(),
            ops: Slots::new(),
            timers: Timers::new(),
            copies: VecDeque::new(),
            incoming: Slots::new(),
            starved: Vec::new(),
            imports: std::collections::HashMap::new(),
            importing: std::collections::HashMap::new(),
            rkeys: super::rma::Rkeys::new(),
            number,
            message: Some(Box::default()),
            short: Some(Box::new([0; limits::COMPACT_FRAME])),
            compact: Compact::default(),
            calls: Queues::Own(Fair::default()),
            called: false,
            serves_calls: false,
            one_ways: 0,
            patience: Patience::new(Duration::ZERO),
            spare: Vec::new(),
            recent: None,
            out: VecDeque::new(),
            notices: Vec::new(),
            sampled: 0,
        })
    }

    pub fn bind(&mut self, worker: &Arc<Worker>, spin: Duration) {
        self.worker = Arc::downgrade(worker);
        if worker.mode == Mode::Threaded {
            self.calls = Queues::Shared(worker.calls.clone());
        }
        self.serves_calls = worker.serves_calls;
        self.patience = Patience::new(spin);
    }

    /// Whether it cannot go on.
    pub fn is_defect(&self) -> bool {
        self.fabrics.defect
    }

    /// Whether the next operation's latency is to be measured.
    pub(super) fn sampling(&mut self) -> bool {
        self.sampled = self.sampled.wrapping_add(1);
        self.sampled.is_multiple_of(crate::telemetry::SAMPLE)
    }

    /// Registers an operation in flight.
    pub(super) fn track(&mut self, mut pending: Pending, timeout_us: u32) -> u64 {
        if self.sampling() {
            pending.started = Some(Instant::now());
        }
        let id = self.ops.insert(pending);
        if timeout_us > 0 {
            let live = |id| Timers::peer(id).is_some() || self.ops.get(id).is_some();
            self.timers.compact(self.ops.len(), live);
            self.timers.add(id, Duration::from_micros(timeout_us.into()));
        }
        id
    }

    /// Gives an operation its outcome, unless it has one; it completes when UCX holds nothing of it.
    pub(super) fn settle(&mut self, id: u64, outcome: Outcome) {
        if let Some(pending) = self.ops.get_mut(id) {
            pending.outcome.get_or_insert(outcome);
            self.try_finish(id);
        }
    }

    /// Completes an operation that has ended.
    pub(super) fn try_finish(&mut self, id: u64) {
        if !self.ops.get(id).is_some_and(Pending::finished) {
            return;
        }
        let Some(pending) = self.ops.remove(id) else { return };
        let Some(outcome) = pending.outcome else { return };
        self.count(&pending, &outcome);
        if let Some(epoch) = pending.epoch {
            self.put_ended(&pending.session, epoch);
        }
        match pending.parent {
            Some(parent) => self.piece_ended(parent, outcome),
            None => match pending.call {
                Some(call) => self.complete_call(pending.user_data, pending.op, outcome, *call),
                None => self.complete(pending.user_data, pending.op, outcome),
            },
        }
    }

    fn piece_ended(&mut self, parent: u64, outcome: Outcome) {
        let Some(whole) = self.ops.get_mut(parent) else { return };
        whole.pieces -= 1;
        whole.done += outcome.length;
        if outcome.status != Status::Ok {
            whole.outcome.get_or_insert(outcome);
        }
        if whole.pieces == 0 {
            let done = whole.done;
            let end = whole.outcome.get_or_insert(Outcome::moved(done));
            end.length = done;
            self.try_finish(parent);
        }
    }

    /// Counts something of the worker's.
    pub(super) fn bump(&self, count: Count, by: u64) {
        self.meter.bump(count, by);
    }

    fn count(&self, pending: &Pending, outcome: &Outcome) {
        if pending.pieces > 0 {
            return;
        }
        let latency = pending.started.map(|started| started.elapsed());
        let ended = (pending.op, pending.way, outcome.length, outcome.status);
        pending.session.meter().ended(ended.0, ended.1, ended.2, ended.3, latency);
        self.meter.ended(ended.0, ended.1, ended.2, ended.3, latency);
    }

    /// The one completion of a request.
    pub(super) fn complete(&mut self, user_data: u64, op: Op, outcome: Outcome) {
        let mut completion = Completion::new(user_data, op, outcome.status);
        completion.length = outcome.length;
        completion.value = outcome.value;
        completion.detail = outcome.detail;
        self.out.push_back(completion);
    }

    /// An event: something that no request asked for.
    pub(super) fn announce(&mut self, completion: Completion) {
        self.out.push_back(completion);
    }

    pub fn has_completions(&self) -> bool {
        !self.out.is_empty() || !self.calls.is_empty()
    }

    /// What the user takes no longer counts against the capacity; messages taken are told to their senders.
    pub fn take_completions(&mut self, worker: &Worker, out: &mut [Completion]) -> usize {
        self.bump(Count::Polls, 1);
        let (mut taken, mut answers) = (0, 0);
        while taken < out.len()
            && let Some(completion) = self.out.pop_front()
        {
            out[taken] = completion;
            taken += 1;
            if completion.op == Op::Message as u32 {
                self.message_taken(&completion);
            }
            answers += i64::from(completion.flags & COMPLETION_EVENT == 0);
        }
        if answers > 0 {
            worker.taken(answers, true);
        }
        self.fabrics.flush();
        taken
    }

    fn message_taken(&mut self, completion: &Completion) {
        let Some(session) = self.recent(message_session(completion)) else { return };
        if session.message_taken_by_owner() == limits::MESSAGE_WINDOW / 2 {
            let session = session.clone();
            self.grant_window(&session);
        }
    }

    /// A session by its handle; one that is used again and again is found without the table's locked operations.
    #[inline]
    pub(super) fn recent(&mut self, id: u64) -> Option<&Arc<Session>> {
        match &self.recent {
            Some(recent) if recent.id() == id && !recent.is_over() => {}
            _ => self.recent = Some(handle::SESSIONS.get(id)?.arc()),
        }
        self.recent.as_ref()
    }

    pub fn drain_completions(&mut self) -> Vec<Completion> {
        self.out.drain(..).collect()
    }

    /// Completions that were announced and never taken, of sessions that have ended since: dropped in pairs, so that
    /// a listener whose owner never polls does not grow.
    pub(super) fn forget_unseen(&mut self, session: &Arc<Session>) -> bool {
        let id = session.id();
        let is_accept = |c: &Completion| c.op == Op::SessionAccepted as u32 && c.value == id;
        let Some(at) = self.out.iter().position(is_accept) else { return false };
        self.out.remove(at);
        true
    }

    /// Ends an operation early. What UCX still holds of the user's memory is waited for, a frame of ours is not.
    pub(super) fn abort(&mut self, id: u64, status: Status) {
        self.recall(id);
        for piece in self.ops.ids(|piece| piece.parent == Some(id)) {
            self.abort(piece, status);
        }
        if let Some(pending) = self.ops.get_mut(id).filter(|pending| !pending.pinned) {
            pending.held = 0;
        }
        self.settle(id, Outcome::of(status));
    }

    /// Ends an operation whose peer is lost. A peer that was stopped can keep UCX from letting go; then the operation
    /// completes after [`GRACE`], and its memory stays with UCX until the peer's process ends or the worker closes.
    pub(super) fn lose(&mut self, id: u64, status: Status) {
        for piece in self.ops.ids(|piece| piece.parent == Some(id)) {
            self.lose(piece, status);
        }
        self.settle(id, Outcome::of(status));
        if let Some(pending) = self.ops.get_mut(id) {
            pending.lost = true;
            self.timers.add(id, GRACE);
        }
    }

    /// What UCX holds of an operation of a lost peer is given up; but memory that it may still write to is not given
    /// back to the user before it has let go.
    fn give_up(&mut self, id: u64) {
        let abandoned = self.fabrics.has_abandoned();
        if let Some(pending) = self.ops.get_mut(id).filter(|pending| !(pending.receiving && abandoned)) {
            pending.held = 0;
            self.try_finish(id);
        }
    }

    pub(super) fn cancel(&mut self, user_data: u64) {
        for id in self.ops.ids(|op| op.user_data == user_data && op.parent.is_none()) {
            self.abort(id, Status::Canceled);
        }
        self.cancel_connects(user_data);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(id) = self.timers.pop(now) {
            if let Some(peer) = Timers::peer(id) {
                self.condemn(peer);
                continue;
            }
            match self.ops.get(id) {
                Some(pending) if pending.lost => self.give_up(id),
                Some(_) => self.abort(id, Status::TimedOut),
                None => {}
            }
        }
        self.expire_sessions(now);
    }

    /// Gets UCX and the inbox ready to wake a sleeper. `false`: there is work, do it first.
    pub fn arm(&mut self, worker: &Worker) -> Result<bool> {
        self.inbox.waker().prepare_sleep();
        if !self.inbox.is_empty()
            || !worker.orders.is_empty()
            || !worker.answers.is_empty()
            || !self.copies.is_empty()
        {
            self.inbox.waker().finish_sleep();
            return Ok(false);
        }
        self.fabrics.arm()
    }

    /// The same for somebody else's sleep on [`Core::event_fd`], which ends when the next deadline is due.
    pub fn arm_for_others(&mut self, worker: &Worker) -> Result<bool> {
        // The last sleep is over, whatever ended it.
        self.inbox.waker().finish_sleep();
        Ok(self.arm(worker)? && {
            self.fabrics.ring_in(Some(self.nap(None)))?;
            true
        })
    }

    /// How long a sleep may last.
    fn nap(&self, limit: Option<Duration>) -> Duration {
        let timer = self.timers.next().map(|at| at.saturating_duration_since(Instant::now()));
        [limit, timer].into_iter().flatten().fold(NAP, Duration::min)
    }

    /// Sleeps until something may have happened, at most `limit`.
    pub fn sleep(&mut self, worker: &Worker, limit: Option<Duration>) -> Result<()> {
        if !self.arm(worker)? {
            return Ok(());
        }
        self.fabrics.ring_in(None)?;
        self.bump(Count::Sleeps, 1);
        let slept = self.fabrics.wait(Some(self.nap(limit)));
        self.fabrics.disarm();
        self.inbox.waker().finish_sleep();
        slept
    }

    /// Whether all that there is to do is to wait for a peer that takes what was sent.
    pub fn is_clogged(&self) -> bool {
        self.fabrics.is_clogged()
    }

    /// What somebody else's epoll may wait on.
    pub fn event_fd(&self) -> Result<OwnedFd> {
        self.fabrics.duplicate()
    }

    /// Everything that is still in flight ends with `status`, whatever UCX says; used when nothing else can run.
    pub fn fail_everything(&mut self, worker: &Worker, status: Status) {
        while let Some(order) = worker.orders.pop() {
            match order {
                Order::Work(work) => self.complete(work.user_data, work.op, Outcome::of(status)),
                Order::Connect(session) => {
                    self.complete(session.user_data(), Op::SessionConnect, Outcome::of(status))
                }
                Order::Close(_, user_data) => {
                    self.complete(user_data, Op::SessionClosed, Outcome::of(status))
                }
                Order::Cancel(_) | Order::Window(_) => {}
            }
        }
        for id in self.ops.ids(|_| true) {
            if let Some(pending) = self.ops.remove(id)
                && pending.parent.is_none()
            {
                self.complete(pending.user_data, pending.op, Outcome::of(status));
            }
        }
        let waiting = self
            .peers
            .ids(|_| true)
            .into_iter()
            .filter_map(|id| self.peers.get_mut(id).map(|p| std::mem::take(&mut p.waiting)));
        for session in waiting.flatten().collect::<Vec<_>>() {
            self.complete(session.user_data(), Op::SessionConnect, Outcome::of(status));
        }
    }

    /// The end of the worker: sessions told, endpoints closed, everything drained within a bound.
    pub fn shut(&mut self, worker: &Worker) {
        self.close_peers();
        let until = Instant::now() + Duration::from_secs(1);
        while !self.ops.is_empty() && Instant::now() < until {
            self.take_orders(worker);
            self.progress_fabrics();
        }
        self.fabrics.shut();
        self.recent = None;
        self.spare.clear();
        self.out.clear();
    }
}
