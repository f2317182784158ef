//! The mapped way: the peer's memory is in our address space, a get is a load. Needs no worker's thread: short ones run
//! in the thread that submits, long ones in steps between other work.

use std::sync::Arc;
use std::time::Instant;

use super::Worker;
use super::core::Core;
use super::pending::{Outcome, Pending};
use super::work::Local;
use crate::engine::buffer::Span;
use crate::engine::handle;
use crate::engine::info::SessionState;
use crate::engine::key::Rights;
use crate::engine::options::Mode;
use crate::engine::region::{Region, Way};
use crate::engine::request::{Completion, Op, Request};
use crate::engine::session::Session;
use crate::status::Status;
use crate::telemetry::{SAMPLE, Tally};

/// Bytes copied in one piece; longer copies yield to other work in between and can be cancelled there.
pub(super) const STEP: u64 = 1 << 20;
/// Longest copy in the thread that submits to a threaded worker: about what crossing to the thread costs.
const SUBMITTER: u64 = 64 << 10;

/// Does one short operation on mapped memory.
pub(super) fn run(pending: &Pending, region: &Region) -> Outcome {
    let result = match (&pending.local, pending.op) {
        (Local::Span(local), Op::Get | Op::Put) => {
            copy(pending.op, local, 0, region, pending.region_offset, pending.length)
        }
        _ => atomic(pending.op, region, pending.region_offset, pending.operand, pending.compare),
    };
    result.unwrap_or_else(Outcome::of)
}

fn copy(op: Op, local: &Span, at: u64, region: &Region, offset: u64, length: u64) -> Result<Outcome, Status> {
    let right = if op == Op::Get { Rights::READ } else { Rights::WRITE };
    let remote = region.mapped(offset, length, right)?.ok_or(Status::Internal)?;
    if op == Op::Get {
        local.copy_from(at, remote, offset, length)?
    } else {
        remote.copy_from(offset, local, at, length)?
    }
    Ok(Outcome::moved(length))
}

fn atomic(op: Op, region: &Region, offset: u64, operand: u64, compare: u64) -> Result<Outcome, Status> {
    let remote = region.mapped(offset, 8, Rights::ATOMIC)?.ok_or(Status::Internal)?;
    let value = match op {
        Op::FetchAdd => remote.fetch_add(offset, operand)?,
        _ => remote.compare_swap(offset, compare, operand)?,
    };
    Ok(Outcome { value, ..Outcome::moved(8) })
}

/// The operations of one submit call that need no worker; handles are resolved once for a run of equal ones.
pub(super) struct Batch<'a> {
    worker: &'a Worker,
    limit: u64,
    session: Option<(u64, Arc<Session>)>,
    region: Option<(u64, Arc<Region>)>,
    buffer: Option<(u64, Span)>,
    tally: Tally,
}

impl<'a> Batch<'a> {
    pub fn new(worker: &'a Worker) -> Batch<'a> {
        let limit = if worker.mode() == Mode::Polled { STEP } else { SUBMITTER };
        Batch { worker, limit, session: None, region: None, buffer: None, tally: Tally::default() }
    }

    /// Does the request if it is a short one on mapped memory and nothing is wrong with it; else the long way takes
    /// it and finds the words for what is wrong.
    pub fn run(&mut self, request: &Request<'_>) -> Option<Completion> {
        let op = Op::requested(request.op)?;
        let moves = matches!(op, Op::Get | Op::Put);
        if !(moves && request.length <= self.limit || matches!(op, Op::FetchAdd | Op::CompareSwap)) {
            return None;
        }
        if request.flags != 0 || request.data.get() != Some(&[]) || !self.resolve(request, moves) {
            return None;
        }
        let (_, region) = self.region.as_ref()?;
        let sampled = self.tally.count().is_multiple_of(SAMPLE).then(Instant::now);
        let outcome = if moves {
            let (_, local) = self.buffer.as_ref()?;
            copy(op, local, request.buffer_offset, region, request.region_offset, request.length).ok()?
        } else {
            atomic(op, region, request.region_offset, request.operand, request.compare).ok()?
        };
        self.tally.add(op, outcome.length, sampled.map(|began| began.elapsed()));
        let mut completion = Completion::new(request.user_data, op, Status::Ok);
        completion.length = outcome.length;
        completion.value = outcome.value;
        Some(completion)
    }

    /// Resolves what the request names; `false` unless all of it is in order.
    fn resolve(&mut self, request: &Request<'_>, moves: bool) -> bool {
        if self.session.as_ref().is_none_or(|(id, _)| *id != request.session) {
            self.flush();
            let Some(session) = handle::SESSIONS.get(request.session) else { return false };
            if !session.belongs_to(self.worker) {
                return false;
            }
            self.worker.context().touch(&session);
            self.session = Some((request.session, session.arc()));
        }
        if self.region.as_ref().is_none_or(|(id, _)| *id != request.region) {
            let Some(region) = handle::REGIONS.get(request.region) else { return false };
            self.region = Some((request.region, region.arc()));
        }
        if moves && self.buffer.as_ref().is_none_or(|(id, _)| *id != request.buffer) {
            let Some(buffer) = handle::BUFFERS.get(request.buffer) else { return false };
            let Ok(whole) = buffer.arc().whole() else { return false };
            self.buffer = Some((request.buffer, whole));
        }
        let (Some((_, session)), Some((_, region))) = (&self.session, &self.region) else { return false };
        matches!(region.way(), Way::Mapped(_))
            && session.state() == SessionState::Open
            && session.link().is_some_and(|link| link.peer().uuid == region.key().context)
    }

    fn flush(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        if let Some((_, session)) = &self.session
            && tally.count() > 0
        {
            session.meter().direct(&tally);
            self.worker.meter().direct(&tally);
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Core {
    /// One step of the first long copy in turn.
    pub(super) fn step_copies(&mut self) -> bool {
        let Some(id) = self.copies.pop_front() else { return false };
        let Some(pending) = self.ops.get_mut(id) else { return true };
        let (Some(region), Local::Span(local)) = (pending.region.clone(), &pending.local) else {
            return true;
        };
        let step = STEP.min(pending.length - pending.done);
        let offset = pending.region_offset + pending.done;
        match copy(pending.op, local, pending.done, &region, offset, step) {
            Ok(_) if pending.done + step < pending.length => {
                pending.done += step;
                self.copies.push_back(id);
            }
            Ok(_) => {
                let length = pending.length;
                self.settle(id, Outcome::moved(length));
            }
            Err(status) => self.settle(id, Outcome::of(status)),
        }
        true
    }
}
