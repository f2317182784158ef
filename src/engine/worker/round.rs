//! A round of progress: what other threads want, what the control thread tells, what rings and UCX brought, what is due.

use super::core::Core;
use super::data::{Data, Rendezvous};
use super::{Order, Worker};
use crate::status::Status;
use crate::telemetry::Count;

/// Orders taken in one round, so that a busy submitter does not starve progress.
const ROUND: usize = 256;
/// Looks at UCX between two whole rounds, while somebody waits.
const WATCH: u32 = 16;

impl Core {
    /// One round: orders, notices, UCX, timers. Returns whether anything happened.
    pub fn progress(&mut self, worker: &Worker) -> bool {
        crate::fault::point("worker.progress");
        let mut busy = self.take_orders(worker);
        busy |= self.take_notices();
        busy |= self.take_answers(worker);
        busy |= self.progress_fabrics();
        busy |= self.step_copies();
        if !self.starved.is_empty() {
            self.feed_starved();
        }
        if let Some(now) = self.timers.due() {
            self.expire(now);
            busy = true;
        }
        busy
    }

    /// Takes what other threads submitted.
    pub fn take_orders(&mut self, worker: &Worker) -> bool {
        if worker.orders.is_empty() {
            return false;
        }
        for taken in 0..ROUND {
            match worker.orders.pop() {
                Some(order) => self.obey(order),
                None => return taken > 0,
            }
        }
        true
    }

    /// Does what an order says.
    pub fn obey(&mut self, order: Order) {
        match order {
            Order::Work(work) => self.start(work),
            Order::Connect(session) => self.connect(session),
            Order::Close(session, user_data) => self.close_session(&session, user_data),
            Order::Cancel(user_data) => self.cancel(user_data),
            Order::Window(session) => self.grant_window(&session),
        }
    }

    #[inline]
    pub(super) fn take_notices(&mut self) -> bool {
        !self.inbox.is_empty() && self.heed_all()
    }

    fn heed_all(&mut self) -> bool {
        let mut notices = std::mem::take(&mut self.notices);
        self.inbox.drain_into(&mut notices);
        for notice in notices.drain(..) {
            self.heed(notice);
        }
        self.notices = notices;
        true
    }

    /// Watches UCX alone for a moment: what comes while somebody waits is seen sooner than between whole rounds.
    pub fn watch_fabrics(&mut self) -> bool {
        (0..WATCH).any(|_| self.progress_fabrics())
    }

    pub(super) fn progress_fabrics(&mut self) -> bool {
        let mut busy = false;
        if self.fabrics.has_leaving() {
            self.sweep_fabrics();
        }
        self.fabrics.look();
        for place in 0..self.fabrics.places() {
            let Some(fabric) = self.fabrics.at(place) else { continue };
            if self.fabrics.is_stream(fabric) {
                busy |= self.progress_stream(fabric);
                continue;
            }
            let news = self.fabrics.progress(fabric);
            // Before what UCX brought: a frame of the ring that was sent first is seen first.
            busy |= self.take_shorts(fabric);
            if !news {
                continue;
            }
            busy = true;
            // Taken out and put back: what arrives is moved once.
            if let Some(mut message) = self.message.take() {
                while self.fabrics.next_message(fabric, &mut message) {
                    self.receive(fabric, &mut message);
                }
                self.message = Some(message);
            }
            if !self.fabrics.has_ends(fabric) {
                continue;
            }
            while let Some(completed) = self.fabrics.next_completed(fabric) {
                self.ucx_completed(completed);
            }
            while let Some((endpoint, status)) = self.fabrics.next_failure(fabric) {
                self.endpoint_failed(fabric, endpoint, status);
            }
        }
        busy
    }

    /// A turn of a stream: what waits is sent, what came is taken, what that makes us say is sent.
    fn progress_stream(&mut self, fabric: u64) -> bool {
        self.fabrics.begin_turn(fabric);
        let mut busy = false;
        while let Some(mut frame) = self.short.take() {
            let came = self.fabrics.next_streamed(fabric, &mut frame);
            let known = match came {
                None => {
                    self.short = Some(frame);
                    break;
                }
                Some((length, None)) => {
                    let bytes = &frame[..length];
                    self.receive_short(fabric, bytes) || self.receive_frame(fabric, bytes, Data::None)
                }
                Some((length, Some(payload))) => {
                    let data = Data::Rendezvous(Rendezvous::Stream(payload));
                    self.receive_frame(fabric, &frame[..length], data)
                }
            };
            self.short = Some(frame);
            busy = true;
            if !known {
                self.context.meter().add(Count::Refused, 1);
                self.stream_failed(fabric, Status::Protocol);
                break;
            }
        }
        while let Some(ended) = self.fabrics.next_stream_end(fabric) {
            self.ucx_completed(ended);
            busy = true;
        }
        if let Some(status) = self.fabrics.stream_failure(fabric) {
            self.stream_failed(fabric, status);
        }
        self.fabrics.flush();
        self.fabrics.end_turn(fabric) || busy
    }

    /// A stream has ended, or brought what is none of ours.
    fn stream_failed(&mut self, fabric: u64, status: Status) {
        for id in self.peers.ids(|peer| peer.fabric == fabric) {
            tracing::debug!(%status, "stream failed");
            match status {
                Status::Protocol => self.break_peer(id, status),
                _ => self.suspect(id),
            }
        }
    }

    /// Takes what came by the ring of a peer on this host.
    #[inline]
    fn take_shorts(&mut self, fabric: u64) -> bool {
        let mut taken = 0;
        while taken < ROUND
            && let Some(mut short) = self.short.take()
        {
            let length = self.fabrics.next_short(fabric, &mut short);
            let known = length.is_none_or(|length| self.receive_short(fabric, &short[..length]));
            self.short = Some(short);
            if !known {
                self.context.meter().add(Count::Refused, 1);
            }
            if length.is_none() {
                break;
            }
            taken += 1;
        }
        taken > 0
    }
}
