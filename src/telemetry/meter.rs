//! Live counters. The thread that makes a worker's progress counts with plain stores; what other threads count as well
//! has counters of its own, so that no update is lost.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Counters, Histogram, Stats};
use crate::engine::options::way;
use crate::engine::request::Op;
use crate::status::Status;

/// One operation in this many has its latency measured: reading the clock costs more than a mapped get.
pub const SAMPLE: u32 = 64;

/// Words of [`Counters`] that are in use, by their place there.
#[derive(Clone, Copy)]
#[repr(usize)]
#[allow(missing_docs, reason = "the fields of Counters, one for one")]
pub enum Count {
    Submitted,
    Completed,
    Failed,
    TimedOut,
    Canceled,
    QueueFull,
    Gets,
    Puts,
    Flushes,
    Atomics,
    Sends,
    Messages,
    GetBytes,
    PutBytes,
    SendBytes,
    MessageBytes,
    WayOperations,
    WayBytes = 19,
    ServedGets = 22,
    ServedPuts,
    ServedAtomics,
    ServedBytes,
    Refused,
    Connects,
    Accepts,
    ConnectsFailed,
    HellosRefused,
    SessionsClosed,
    SessionsLost,
    Exports,
    Revokes,
    Imports,
    Polls,
    Sleeps,
    Wakes,
    LogsDropped,
    Calls,
    LateReplies,
    CallsReceived,
    CallsAnswered,
    CallsRefused,
    CallsRepeated,
    HandlerPanics,
    ProofsFailed,
}

const WORDS: usize = Count::ProofsFailed as usize + 1;
const _: () = assert!(std::mem::offset_of!(Counters, logs_dropped) == Count::LogsDropped as usize * 8);
const _: () = assert!(std::mem::offset_of!(Counters, proofs_failed) == Count::ProofsFailed as usize * 8);
const _: () = assert!(std::mem::offset_of!(Counters, served_gets) == Count::ServedGets as usize * 8);
const _: () = assert!(std::mem::offset_of!(Counters, way_bytes) == Count::WayBytes as usize * 8);
const _: () = assert!(std::mem::offset_of!(Counters, message_bytes) == Count::MessageBytes as usize * 8);

/// What the submitting threads did themselves, in one call.
#[derive(Default)]
pub struct Tally {
    gets: u64,
    puts: u64,
    atomics: u64,
    get_bytes: u64,
    put_bytes: u64,
    sampled: Option<(Op, Duration)>,
}

impl Tally {
    /// Notes one operation that went well.
    pub fn add(&mut self, op: Op, bytes: u64, latency: Option<Duration>) {
        match op {
            Op::Get => (self.gets, self.get_bytes) = (self.gets + 1, self.get_bytes + bytes),
            Op::Put => (self.puts, self.put_bytes) = (self.puts + 1, self.put_bytes + bytes),
            _ => self.atomics += 1,
        }
        if let Some(latency) = latency {
            self.sampled = Some((op, latency));
        }
    }

    /// Operations noted.
    pub fn count(&self) -> u32 {
        (self.gets + self.puts + self.atomics) as u32
    }
}

/// Counters and histograms of a context, a worker or a session.
#[derive(Default)]
pub struct Meter {
    words: Words,
    direct: [AtomicU64; 6],
    latency: OnceLock<Box<[Latency; 4]>>,
}

struct Words([AtomicU64; WORDS]);

impl Default for Words {
    fn default() -> Words {
        Words(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

#[derive(Default)]
struct Latency {
    buckets: [AtomicU64; super::stats::BUCKETS],
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Meter {
    /// Counts, from any thread.
    pub fn add(&self, count: Count, by: u64) {
        self.words.0[count as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// Counts, from the one thread that makes progress.
    pub fn bump(&self, count: Count, by: u64) {
        self.bump_at(count as usize, by);
    }

    fn bump_at(&self, index: usize, by: u64) {
        let word = &self.words.0[index];
        word.store(word.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// Counts an operation that has ended, from the thread that makes progress.
    #[inline]
    pub fn ended(&self, op: Op, one_way: u32, bytes: u64, status: Status, latency: Option<Duration>) {
        self.bump(Count::Completed, 1);
        if status != Status::Ok {
            return self.failed(status);
        }
        let moved = match op {
            Op::Get => Some((Count::Gets, Count::GetBytes)),
            Op::Put => Some((Count::Puts, Count::PutBytes)),
            Op::Send => Some((Count::Sends, Count::SendBytes)),
            Op::Flush => return self.bump(Count::Flushes, 1),
            Op::FetchAdd | Op::CompareSwap => return self.bump(Count::Atomics, 1),
            Op::Call => return self.bump(Count::Calls, 1),
            Op::RegionImport => return self.bump(Count::Imports, 1),
            _ => None,
        };
        let Some((count, total)) = moved else { return };
        self.bump(count, 1);
        self.bump(total, bytes);
        if op != Op::Send {
            let index = one_way.trailing_zeros() as usize % 3;
            self.bump_at(Count::WayOperations as usize + index, 1);
            self.bump_at(Count::WayBytes as usize + index, bytes);
        }
        if let Some(latency) = latency {
            self.sample(op, latency);
        }
    }

    fn failed(&self, status: Status) {
        self.bump(Count::Failed, 1);
        match status {
            Status::TimedOut => self.bump(Count::TimedOut, 1),
            Status::Canceled => self.bump(Count::Canceled, 1),
            _ => {}
        }
    }

    /// Counts what submitting threads did on mapped memory.
    pub fn direct(&self, tally: &Tally) {
        let counts = [tally.gets, tally.puts, tally.atomics, tally.get_bytes, tally.put_bytes];
        for (word, by) in self.direct.iter().zip(counts) {
            if by > 0 {
                word.fetch_add(by, Ordering::Relaxed);
            }
        }
        if let Some((op, latency)) = tally.sampled {
            self.sample(op, latency);
        }
    }

    /// Counts what was handed to the thread that makes progress.
    pub fn handed_over(&self, requests: u64) {
        self.direct[5].fetch_add(requests, Ordering::Relaxed);
    }

    /// Notes a latency.
    pub fn sample(&self, op: Op, latency: Duration) {
        let which = match op {
            Op::Get => 0,
            Op::Put => 1,
            Op::Send => 2,
            Op::SessionConnect => 3,
            _ => return,
        };
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let histogram = &self.latency.get_or_init(Default::default)[which];
        histogram.buckets[Histogram::bucket(latency_ns)].fetch_add(1, Ordering::Relaxed);
        histogram.sum_ns.fetch_add(latency_ns, Ordering::Relaxed);
        histogram.max_ns.fetch_max(latency_ns, Ordering::Relaxed);
    }

    /// What was counted until now. Counters that change meanwhile may be of slightly different moments.
    pub fn snapshot(&self) -> Stats {
        let mut words = [0u64; size_of::<Counters>() / 8];
        for (word, live) in words.iter_mut().zip(&self.words.0) {
            *word = live.load(Ordering::Relaxed);
        }
        let [gets, puts, atomics, get_bytes, put_bytes, handed] =
            std::array::from_fn(|i| self.direct[i].load(Ordering::Relaxed));
        let mapped = way::MAPPED.trailing_zeros() as usize;
        let done = gets + puts + atomics;
        let direct = [
            (Count::Submitted as usize, done + handed),
            (Count::Completed as usize, done),
            (Count::Gets as usize, gets),
            (Count::Puts as usize, puts),
            (Count::Atomics as usize, atomics),
            (Count::GetBytes as usize, get_bytes),
            (Count::PutBytes as usize, put_bytes),
            (Count::WayOperations as usize + mapped, gets + puts),
            (Count::WayBytes as usize + mapped, get_bytes + put_bytes),
        ];
        for (index, by) in direct {
            words[index] += by;
        }
        let mut stats = Stats { counters: zerocopy::transmute!(words), ..Stats::default() };
        if let Some(latency) = self.latency.get() {
            let of = |i: usize| latency[i].snapshot();
            (stats.get, stats.put, stats.message, stats.connect) = (of(0), of(1), of(2), of(3));
        }
        stats
    }
}

impl Latency {
    fn snapshot(&self) -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed)),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
            max_ns: self.max_ns.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_counting_add_up() {
        let meter = Meter::default();
        let latency = Some(Duration::from_nanos(100));
        meter.ended(Op::Get, way::MESSAGE, 10, Status::Ok, latency);
        meter.ended(Op::Put, way::RMA, 20, Status::Ok, None);
        meter.ended(Op::Get, way::MESSAGE, 0, Status::TimedOut, None);
        let mut tally = Tally::default();
        tally.add(Op::Get, 5, latency);
        tally.add(Op::FetchAdd, 8, None);
        meter.direct(&tally);
        let counters = meter.snapshot().counters;
        assert_eq!((counters.gets, counters.get_bytes, counters.atomics), (2, 15, 1));
        assert_eq!(counters.way_operations, [1, 1, 1]);
        assert_eq!(counters.way_bytes, [5, 20, 10]);
        assert_eq!((counters.completed, counters.failed, counters.timed_out), (5, 1, 1));
        assert_eq!(meter.snapshot().get.count(), 2);
    }

    #[test]
    fn a_meter_of_a_session_is_small() {
        assert!(size_of::<Meter>() <= 512, "{}", size_of::<Meter>());
    }
}
