//! A worker shared by threads that wait for answers: one of them makes progress for all, in turn.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::peers::{Peers, Plan};
use crate::engine::context::Context;
use crate::engine::handle;
use crate::engine::request::{COMPLETION_EVENT, COMPLETION_INLINE, Completion, Op, Request};
use crate::engine::session::Session;
use crate::engine::slots::Slots;
use crate::engine::worker::Worker;
use crate::status::{Error, Result, Status};

/// Marks a connect among user data; ids of calls leave the highest bits free.
const CONNECT: u64 = 1 << 63;

/// What became of a call so far.
enum Waiting {
    Pending,
    Done(Completion),
    /// Nobody waits for it any more.
    Dropped,
}

struct State {
    /// Whether a thread makes progress.
    leading: bool,
    calls: Slots<Waiting>,
    peers: Peers,
    /// Why no more progress is made.
    failed: Option<Error>,
}

pub(super) struct Hub {
    pub context: Arc<Context>,
    pub worker: Arc<Worker>,
    state: Mutex<State>,
    /// Something was dispatched, or the leader left.
    news: Condvar,
}

impl Hub {
    pub fn new(context: Arc<Context>, worker: Arc<Worker>, peers: Peers) -> Hub {
        let state = State { leading: false, calls: Slots::new(), peers, failed: None };
        Hub { context, worker, state: Mutex::new(state), news: Condvar::new() }
    }

    /// A session to an address: the one there is, or a new one. `UNREACHABLE` at once, or why else, while the address is
    /// known not to answer.
    pub fn session(&self, address: &str) -> Result<Arc<Session>> {
        self.wait(|state| match state.peers.plan(address, Instant::now()) {
            Plan::Use(session) => Some(Ok(session)),
            Plan::Wait => None,
            Plan::Dial => match Session::connect(&self.worker, address, CONNECT) {
                Ok(session) => {
                    state.peers.dialled(address, session.id());
                    None
                }
                Err(error) => Some(Err(error)),
            },
            Plan::Refuse(status, left) => {
                let why = status.message();
                let text = format!("{address}: {why}, a moment ago; it is not asked again for {left:?}");
                Some(Err(Error::new(status, text)))
            }
        })?
    }

    /// How long an address is known not to answer.
    pub fn not_before(&self, address: &str) -> Option<std::time::Duration> {
        match self.state.lock().peers.plan(address, Instant::now()) {
            Plan::Refuse(_, left) => Some(left),
            _ => None,
        }
    }

    /// Submits a call; its number.
    pub fn submit(&self, request: Request<'_>) -> Result<u64> {
        let id = self.state.lock().calls.insert(Waiting::Pending);
        match self.worker.submit(&[Request { user_data: id, ..request }]) {
            (1, _) => Ok(id),
            (_, status) => {
                self.state.lock().calls.remove(id);
                Err(status.into())
            }
        }
    }

    /// Waits for the end of a call.
    pub fn finish(&self, id: u64) -> Result<Completion> {
        self.wait(|state| {
            if let Some(Waiting::Done(_)) = state.calls.get(id)
                && let Some(Waiting::Done(completion)) = state.calls.remove(id)
            {
                return Some(completion);
            }
            None
        })
    }

    /// Nobody waits for a call any more: it is cancelled, and what still comes is let go.
    pub fn abandon(&self, id: u64) {
        let mut state = self.state.lock();
        match state.calls.get_mut(id) {
            Some(Waiting::Done(completion)) => {
                let completion = *completion;
                state.calls.remove(id);
                drop(state);
                self.let_go(&completion);
            }
            Some(waiting) => {
                *waiting = Waiting::Dropped;
                drop(state);
                let _ = self.worker.cancel(id);
            }
            None => {}
        }
    }

    /// Looks until there is something; makes progress, unless another thread does.
    fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> Result<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return Ok(found);
            }
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if state.leading {
                self.news.wait(&mut state);
                continue;
            }
            state.leading = true;
            drop(state);
            let mut out = [Completion::default(); 64];
            let polled = self.worker.poll(None, &mut out);
            state = self.state.lock();
            state.leading = false;
            match polled {
                Ok(taken) => out[..taken].iter().for_each(|completion| self.dispatch(&mut state, completion)),
                Err(error) => state.failed = Some(error),
            }
            self.news.notify_all();
        }
    }

    fn dispatch(&self, state: &mut State, completion: &Completion) {
        let status = Status::from_i32(completion.status).unwrap_or(Status::Internal);
        if completion.op == Op::SessionConnect as u32 {
            let session = handle::SESSIONS.get(completion.value).map(|session| session.arc());
            return state.peers.connected(completion.value, status, session, Instant::now());
        }
        if completion.flags & COMPLETION_EVENT != 0 {
            if completion.op == Op::SessionClosed as u32 {
                state.peers.ended(completion.value);
            }
            return self.let_go(completion);
        }
        match state.calls.get_mut(completion.user_data) {
            Some(Waiting::Dropped) => {
                state.calls.remove(completion.user_data);
                self.let_go(completion);
            }
            Some(waiting) => *waiting = Waiting::Done(*completion),
            None => {}
        }
    }

    /// Releases a buffer that came with a completion.
    fn let_go(&self, completion: &Completion) {
        let carries = completion.op == Op::Call as u32 || completion.op == Op::Message as u32;
        if carries
            && completion.flags & COMPLETION_INLINE == 0
            && let Some(buffer) = handle::BUFFERS.get(completion.value)
        {
            let _ = self.context.release_buffer(&buffer.arc());
        }
    }

    /// Ends every wait.
    pub fn close(&self) {
        self.state.lock().failed.get_or_insert_with(|| Status::Canceled.into());
        self.worker.wake();
        self.news.notify_all();
        let _ = self.worker.close();
    }
}
