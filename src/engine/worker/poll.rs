//! Polling: progress by whoever polls, or a wait for the worker's own thread, and completions taken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::fair::Queues;
use super::patience::Idle;
use super::{Order, Worker, message_session};
use crate::engine::handle;
use crate::engine::options::Mode;
use crate::engine::request::{COMPLETION_EVENT, Completion, Op};
use crate::limits;
use crate::status::{Error, Result, Status};
use crate::telemetry::Count;

/// Rounds of progress between two looks at the clock: a look costs as much as a round.
const CLOCK: u32 = 32;

impl Worker {
    /// Makes progress (polled) or waits for the worker's thread (threaded), and takes completions. `timeout` zero
    /// returns at once, `None` waits for ever or until `wake`. Returns how many were written.
    pub fn poll(&self, timeout: Option<Duration>, out: &mut [Completion]) -> Result<usize> {
        self.poll_sparing(timeout, out, || false)
    }

    /// The same; a poll that waits (polled) sleeps at once while `spare` says that others need its processor.
    pub fn poll_sparing(
        &self,
        timeout: Option<Duration>,
        out: &mut [Completion],
        spare: impl Fn() -> bool,
    ) -> Result<usize> {
        if out.len() > limits::BATCH {
            return Err(Error::new(Status::InvalidArgument, "poll for at most 65,536 completions at a time"));
        }
        match self.mode {
            Mode::Polled => self.poll_core(timeout, out, spare),
            Mode::Threaded => {
                self.meter.add(Count::Polls, 1);
                let taken = self.poll_delivered(timeout, out)?;
                self.account(&out[..taken]);
                Ok(taken)
            }
        }
    }

    fn poll_core(
        &self,
        timeout: Option<Duration>,
        out: &mut [Completion],
        spare: impl Fn() -> bool,
    ) -> Result<usize> {
        let mut core = self.core.lock();
        let mut waiting: Option<Option<Instant>> = None;
        let mut idle: Option<Idle> = None;
        let (mut rounds, mut watching) = (0u32, false);
        loop {
            let open = self.state_status().map_err(Error::from);
            match open.and_then(|()| self.round(&mut core, watching)) {
                // Who serves others is not idle, though nothing completes.
                Ok(true) => Idle::end(&mut idle, &mut core.patience),
                Ok(false) => {}
                Err(error) => {
                    // Of a poisoned worker the ends of its requests are left to take.
                    if error.status == Status::Panic {
                        core.fail_everything(self, Status::Panic);
                    }
                    let taken = core.take_completions(self, out);
                    return if taken > 0 { Ok(taken) } else { Err(error) };
                }
            }
            let mut taken = core.take_completions(self, out);
            taken += self.take_calls(&mut core.calls, &mut out[taken..]);
            if taken > 0 || timeout == Some(Duration::ZERO) || out.is_empty() {
                return Ok(taken);
            }
            watching = !watching;
            rounds += 1;
            // A peer that takes no more has time: it does not wait for us.
            let at_once = core.patience.spins() && core.is_clogged() || spare();
            if !at_once && !rounds.is_multiple_of(CLOCK) {
                continue;
            }
            let now = Instant::now();
            let until = *waiting.get_or_insert_with(|| timeout.and_then(|t| now.checked_add(t)));
            if until.is_some_and(|until| now >= until) || self.ready.take_wake() {
                return Ok(0);
            }
            if at_once || Idle::of(&mut idle, &mut core.patience, now).is_over(now) {
                core.sleep(self, until.map(|until| until - now))?;
            }
        }
    }

    fn poll_delivered(&self, timeout: Option<Duration>, out: &mut [Completion]) -> Result<usize> {
        let until = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut calls = Queues::Shared(self.calls.clone());
        loop {
            let mut taken = take(&mut self.delivered.lock(), out);
            taken += self.take_calls(&mut calls, &mut out[taken..]);
            if taken > 0 || timeout == Some(Duration::ZERO) || out.is_empty() {
                return Ok(taken);
            }
            if let Err(status) = self.state_status() {
                self.deliver_last();
                let taken = take(&mut self.delivered.lock(), out);
                return if taken > 0 { Ok(taken) } else { Err(status.into()) };
            }
            if self.ready.take_wake() {
                return Ok(0);
            }
            self.ready.arm();
            if !self.delivered.lock().is_empty() || !self.calls.is_empty() {
                continue;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(0);
            }
            self.ready.wait(left)?;
        }
    }

    /// What the user took no longer counts against the capacity; messages taken are told to their senders.
    fn account(&self, taken: &[Completion]) {
        let mut answers = 0;
        for completion in taken {
            if completion.op == Op::Message as u32 {
                self.message_taken(completion);
            }
            answers += i64::from(completion.flags & COMPLETION_EVENT == 0);
        }
        if answers > 0 {
            self.taken(answers, false);
        }
    }

    fn message_taken(&self, completion: &Completion) {
        let Some(session) = handle::SESSIONS.get(message_session(completion)) else { return };
        if session.message_taken() == limits::MESSAGE_WINDOW / 2 {
            // A full queue only delays the credits until the next message goes the other way.
            let _ = self.hand_over(Order::Window(session.arc()));
        }
    }
}

#[inline]
fn take(queue: &mut VecDeque<Completion>, out: &mut [Completion]) -> usize {
    if queue.is_empty() {
        return 0;
    }
    let count = queue.len().min(out.len());
    for (slot, completion) in out.iter_mut().zip(queue.drain(..count)) {
        *slot = completion;
    }
    count
}
