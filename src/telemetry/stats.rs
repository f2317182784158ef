//! Counters and latency histograms as plain data: what `stats()` returns, in the layout the C ABI shows.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Buckets of a histogram of durations.
pub const BUCKETS: usize = 32;

/// Upper bound of a histogram's first bucket in nanoseconds; each further bound is twice the one before.
const FIRST_BOUND_NS: u64 = 16;

/// Counts of events since the object was opened; all only grow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Counters {
    /// Requests that were accepted.
    pub submitted: u64,
    /// Completions of requests, whatever their status.
    pub completed: u64,
    /// Completions with an error.
    pub failed: u64,
    /// Of the failed: deadlines that passed.
    pub timed_out: u64,
    /// Of the failed: cancelled, or closed under.
    pub canceled: u64,
    /// Requests that were not accepted because a queue was full.
    pub queue_full: u64,
    /// Gets that succeeded.
    pub gets: u64,
    /// Puts that succeeded.
    pub puts: u64,
    /// Flushes that succeeded.
    pub flushes: u64,
    /// Fetch-adds and compare-and-swaps that succeeded.
    pub atomics: u64,
    /// Messages that were sent.
    pub sends: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Bytes read by gets.
    pub get_bytes: u64,
    /// Bytes written by puts.
    pub put_bytes: u64,
    /// Bytes of the messages that were sent.
    pub send_bytes: u64,
    /// Bytes of the messages that arrived.
    pub message_bytes: u64,
    /// Gets and puts by the way they went: mapped, RMA, message.
    pub way_operations: [u64; 3],
    /// Their bytes: mapped, RMA, message.
    pub way_bytes: [u64; 3],
    /// Gets of peers that this side served with messages.
    pub served_gets: u64,
    /// Puts of peers that this side served with messages.
    pub served_puts: u64,
    /// Atomics of peers that this side served with messages.
    pub served_atomics: u64,
    /// Bytes moved by what was served.
    pub served_bytes: u64,
    /// Requests of peers that were refused: key, range, rights, or revoked.
    pub refused: u64,
    /// Sessions that were dialled and opened.
    pub connects: u64,
    /// Sessions that were accepted.
    pub accepts: u64,
    /// Dials that failed.
    pub connects_failed: u64,
    /// Peers that were turned away at the hello: limit, version, settings, or nonsense.
    pub hellos_refused: u64,
    /// Sessions that ended in order.
    pub sessions_closed: u64,
    /// Sessions that ended because their peer was lost.
    pub sessions_lost: u64,
    /// Keys that were exported.
    pub exports: u64,
    /// Keys that were revoked.
    pub revokes: u64,
    /// Keys of peers that were imported.
    pub imports: u64,
    /// Calls to poll.
    pub polls: u64,
    /// Times the worker went to sleep.
    pub sleeps: u64,
    /// Times the worker was woken from sleep by a submission or a wake.
    pub wakes: u64,
    /// Log messages that were dropped because their callback was busy with another of the same thread.
    pub logs_dropped: u64,
    /// Calls that were answered by the peer's service.
    pub calls: u64,
    /// Replies that nobody waited for.
    pub late_replies: u64,
    /// Calls of peers that were handed out.
    pub calls_received: u64,
    /// Calls of peers that were answered.
    pub calls_answered: u64,
    /// Calls of peers that were refused: limit, method, header, deadline, or released without an answer.
    pub calls_refused: u64,
    /// Calls of peers that were answered with a kept reply.
    pub calls_repeated: u64,
    /// Handlers of calls that panicked.
    pub handler_panics: u64,
    /// Peers that did not prove the shared secret.
    pub proofs_failed: u64,
    /// Zero; later counters take these places.
    pub reserved: [u64; 16],
}

/// Durations in power-of-two buckets: bucket 0 holds those below 16 ns, bucket `i` those below `16 << i` ns, the last
/// one everything from `16 << 30` ns (17 s) on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many durations fell in each bucket.
    pub buckets: [u64; BUCKETS],
    /// Sum of all durations, in nanoseconds.
    pub sum_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

/// What a context, a worker or a session counted. The histograms hold a sample of the operations. A C caller sets `struct_size` before it asks.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Size of this structure in bytes.
    pub struct_size: u32,
    /// Zero.
    pub flags: u32,
    /// Counts of events.
    pub counters: Counters,
    /// Gets, from submission to completion.
    pub get: Histogram,
    /// Puts, from submission to completion.
    pub put: Histogram,
    /// Messages, from submission to completion at the sender.
    pub message: Histogram,
    /// Connects, from the call to the completion.
    pub connect: Histogram,
}

const WORDS: usize = size_of::<Counters>() / 8;
const _: () = assert!(WORDS == 64 && size_of::<Histogram>() == 272 && size_of::<Stats>() == 1608);

impl Default for Counters {
    fn default() -> Counters {
        Counters::new_zeroed()
    }
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            struct_size: size_of::<Stats>() as u32,
            flags: 0,
            counters: Counters::default(),
            get: Histogram::default(),
            put: Histogram::default(),
            message: Histogram::default(),
            connect: Histogram::default(),
        }
    }
}

impl Histogram {
    /// The bucket of a duration.
    pub fn bucket(ns: u64) -> usize {
        let bits = u64::BITS - (ns / FIRST_BOUND_NS).leading_zeros();
        (bits as usize).min(BUCKETS - 1)
    }

    /// Where bucket `index` ends, exclusive, in nanoseconds; the last one ends nowhere.
    pub fn bound_ns(index: usize) -> Option<u64> {
        (index < BUCKETS - 1).then(|| FIRST_BOUND_NS << index)
    }

    /// Counts one duration.
    pub fn add(&mut self, ns: u64) {
        self.buckets[Histogram::bucket(ns)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds what another histogram counted.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// The duration that `share` (0 to 1) of all durations do not exceed, in nanoseconds: interpolated within its
    /// bucket, so right to a factor of two. 0 when nothing was counted.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let count = self.count();
        if count == 0 {
            return 0;
        }
        let rank = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut below = 0;
        for (index, &here) in self.buckets.iter().enumerate() {
            if below + here >= rank {
                let low = if index == 0 { 0 } else { FIRST_BOUND_NS << (index - 1) };
                let high = Histogram::bound_ns(index).map_or(self.max_ns, |bound| bound.min(self.max_ns));
                let part = (rank - below) as f64 / here as f64;
                return low.saturating_add((high.saturating_sub(low) as f64 * part) as u64).min(high);
            }
            below += here;
        }
        self.max_ns
    }
}

impl Counters {
    fn words(&self) -> &[u64; WORDS] {
        zerocopy::transmute_ref!(self)
    }

    /// Adds what another object counted.
    pub fn merge(&mut self, other: &Counters) {
        let mine: &mut [u64; WORDS] = zerocopy::transmute_mut!(self);
        for (mine, theirs) in mine.iter_mut().zip(other.words()) {
            *mine = mine.saturating_add(*theirs);
        }
    }
}

impl Stats {
    /// Adds what another object counted.
    pub fn merge(&mut self, other: &Stats) {
        self.counters.merge(&other.counters);
        self.get.merge(&other.get);
        self.put.merge(&other.put);
        self.message.merge(&other.message);
        self.connect.merge(&other.connect);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_exactly_the_durations_below_their_bound() {
        assert_eq!(Histogram::bucket(0), 0);
        for index in 0..BUCKETS - 1 {
            let bound = Histogram::bound_ns(index).unwrap();
            assert_eq!(Histogram::bucket(bound - 1), index);
            assert_eq!(Histogram::bucket(bound), index + 1);
        }
        assert_eq!(Histogram::bound_ns(BUCKETS - 1), None);
        assert_eq!(Histogram::bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_stay_in_the_bucket_of_the_ranked_duration() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_ns(0.5), 0);
        let mut durations: Vec<u64> = (0..1000u64).map(|i| (i * i * 7) % 1_000_003).collect();
        durations.iter().for_each(|ns| histogram.add(*ns));
        durations.sort_unstable();
        for share in [0.0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = ((share * 1000.0_f64).ceil() as usize).clamp(1, 1000);
            let (exact, found) = (durations[rank - 1], histogram.quantile_ns(share));
            let bucket = Histogram::bucket(exact);
            assert!(found <= Histogram::bound_ns(bucket).unwrap(), "{share}: {found} for {exact}");
            assert!(bucket == 0 || found >= Histogram::bound_ns(bucket - 1).unwrap(), "{share}: {found}");
        }
        assert_eq!(histogram.quantile_ns(1.0), *durations.last().unwrap());
        assert_eq!(histogram.count(), 1000);
    }

    #[test]
    fn the_last_bucket_and_full_counters_do_not_overflow() {
        let mut histogram = Histogram::default();
        histogram.add(u64::MAX);
        histogram.add(u64::MAX);
        assert_eq!((histogram.sum_ns, histogram.buckets[BUCKETS - 1]), (u64::MAX, 2));
        assert_eq!(histogram.quantile_ns(1.0), u64::MAX);
        let mut counters = Counters { gets: u64::MAX, ..Counters::default() };
        counters.merge(&Counters { gets: 1, logs_dropped: 2, ..Counters::default() });
        assert_eq!((counters.gets, counters.logs_dropped, counters.submitted), (u64::MAX, 2, 0));
    }

    #[test]
    fn merging_two_is_counting_both_in_one() {
        let (mut left, mut right, mut both) = (Stats::default(), Stats::default(), Stats::default());
        for ns in 0..500u64 {
            let ns = ns * ns * 31;
            let side = if ns % 2 == 0 { &mut left } else { &mut right };
            side.get.add(ns);
            side.counters.gets += 1;
            side.counters.way_bytes[2] += ns;
            both.get.add(ns);
            both.counters.gets += 1;
            both.counters.way_bytes[2] += ns;
        }
        left.merge(&right);
        assert_eq!(left, both);
    }
}
