//! [`Counters`]: what the control thread has done, for telemetry.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that anybody may read while the control thread adds to it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }
}

/// What happened since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Links that are up now.
    pub links: Counter,
    /// Links that came up.
    pub links_opened: Counter,
    /// Links that were lost other than by a close on purpose.
    pub links_lost: Counter,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Accepted connections in handshake now.
    pub handshakes: Counter,
    /// Accepted connections that did not become a link: refused, broken, too slow.
    pub handshakes_failed: Counter,
    /// Of those, ones that did not speak our protocol at all.
    pub garbage: Counter,
    /// Of those, ones that did not prove the shared secret, or asked for one.
    pub proofs_failed: Counter,
    /// Dials that failed.
    pub dials_failed: Counter,
    /// Bytes received.
    pub bytes_received: Counter,
    /// Bytes sent.
    pub bytes_sent: Counter,
    /// Messages received on links.
    pub messages_received: Counter,
    /// Messages sent on links.
    pub messages_sent: Counter,
    /// Descriptors that came without a message that announced them, and were closed.
    pub descriptors_dropped: Counter,
    /// Times that the process ran out of descriptors in accept.
    pub accept_exhausted: Counter,
}
