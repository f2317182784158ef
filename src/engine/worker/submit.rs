//! How requests come in: from any thread, counted against the room for completions; straight to UCX when whoever submits
//! may make progress, else over a bounded queue.

use std::sync::atomic::Ordering;

use super::core::Core;
use super::work::Work;
use super::{Order, Worker, mapped};
use crate::engine::options::Mode;
use crate::engine::request::Request;
use crate::limits;
use crate::status::Status;
use crate::telemetry::Count;

impl Worker {
    /// Submits requests in order. Returns how many were accepted and, when not all, why the next one was not: each
    /// accepted one ends in exactly one completion, a refused one in none.
    pub fn submit(&self, requests: &[Request<'_>]) -> (u32, Status) {
        if requests.len() > limits::BATCH {
            return (0, Status::InvalidArgument);
        }
        self.guarded(|| self.submit_all(requests)).unwrap_or((0, Status::Panic))
    }

    fn submit_all(&self, requests: &[Request<'_>]) -> (u32, Status) {
        let mut core = if self.mode == Mode::Polled { self.core.try_lock() } else { None };
        if let Some(core) = &mut core {
            core.take_orders(self);
        }
        // The shortest way of all: one short message or call.
        if let ([request], Some(core)) = (requests, &mut core) {
            if let Err(status) = self.state_status().and_then(|()| self.reserve(true)) {
                return (0, status);
            }
            if core.send_request(self, request) || core.call_request(self, request) {
                core.bump(Count::Submitted, 1);
                core.fabrics.flush();
                return (1, Status::Ok);
            }
            self.taken(1, true);
        }
        let mut batch = None;
        let mut finished = Vec::new();
        let mut refused = Status::Ok;
        let (mut accepted, mut queued) = (0, 0);
        for request in requests {
            if let Err(status) = self.state_status().and_then(|()| self.reserve(core.is_some())) {
                refused = status;
                break;
            }
            if core
                .as_mut()
                .is_some_and(|core| core.send_request(self, request) || core.call_request(self, request))
            {
                (accepted, queued) = (accepted + 1, queued + 1);
                continue;
            }
            match (batch.get_or_insert_with(|| mapped::Batch::new(self)).run(request), &mut core) {
                (Some(completion), Some(core)) => core.announce(completion),
                (Some(completion), None) => finished.push(completion),
                (None, core) => {
                    if let Err(status) = self.submit_slow(request, core.as_deref_mut()) {
                        self.taken(1, core.is_some());
                        refused = status;
                        break;
                    }
                    queued += 1;
                }
            }
            accepted += 1;
        }
        if queued > 0 {
            // What ran at once is counted where it ran.
            match &core {
                Some(core) => core.bump(Count::Submitted, queued),
                None => self.meter.handed_over(queued),
            }
        }
        if let Some(core) = &mut core {
            core.fabrics.flush();
        }
        self.deliver(finished);
        (accepted, refused)
    }

    fn submit_slow(&self, request: &Request<'_>, core: Option<&mut Core>) -> std::result::Result<(), Status> {
        let work = Work::prepare(self, request)?;
        match core {
            Some(core) => {
                core.obey(Order::Work(work));
                Ok(())
            }
            None => self.push(Order::Work(work)),
        }
    }

    /// Hands an order that ends in a completion to the worker.
    pub(in crate::engine) fn order(&self, order: Order) -> Status {
        let result = self.state_status().and_then(|()| self.reserve(false));
        let result = result.and_then(|()| self.hand_over(order).inspect_err(|_| self.taken(1, false)));
        result.err().unwrap_or(Status::Ok)
    }

    /// Hands an order to the worker: at once if nobody makes progress now, else through the queue.
    pub(super) fn hand_over(&self, order: Order) -> std::result::Result<(), Status> {
        if self.mode == Mode::Polled
            && let Some(mut core) = self.core.try_lock()
        {
            core.take_orders(self);
            core.obey(order);
            core.fabrics.flush();
            return Ok(());
        }
        self.push(order)
    }

    fn push(&self, order: Order) -> std::result::Result<(), Status> {
        self.orders.push(order).map_err(|_| Status::QueueFull)?;
        self.inbox.waker().wake();
        Ok(())
    }

    /// Completes every request with this user data that has not ended with `CANCELED`, or with its own outcome if
    /// it is too far gone. Unknown numbers do nothing.
    pub fn cancel(&self, user_data: u64) -> Status {
        let done = self.state_status().and_then(|()| self.hand_over(Order::Cancel(user_data)));
        done.err().unwrap_or(Status::Ok)
    }

    /// Room for one more completion. `owner`: whoever asks holds the core. As many threads that ask at the same time may
    /// each get one more than there is.
    fn reserve(&self, owner: bool) -> std::result::Result<(), Status> {
        let [owned, shared] = self.outstanding.each_ref().map(|count| count.load(Ordering::Relaxed));
        if owned + shared >= i64::from(self.capacity) {
            self.meter.add(Count::QueueFull, 1);
            return Err(Status::QueueFull);
        }
        self.taken(-1, owner);
        Ok(())
    }

    /// So many completions were taken, or will not come.
    pub(super) fn taken(&self, count: i64, owner: bool) {
        let [owned, shared] = &self.outstanding;
        if owner {
            owned.store(owned.load(Ordering::Relaxed) - count, Ordering::Relaxed);
        } else {
            shared.fetch_sub(count, Ordering::Relaxed);
        }
    }
}
