//! Which processor something last came from: who waits for more of it there keeps its maker from running.

#![allow(
    unsafe_code,
    reason = "asks the C library where a thread runs: rustix's way faults where there is no vDSO, as below valgrind"
)]

use std::sync::atomic::{AtomicUsize, Ordering};

/// A processor, or none yet.
#[derive(Debug)]
pub struct Processor(AtomicUsize);

impl Processor {
    /// None yet.
    pub fn unknown() -> Processor {
        Processor(AtomicUsize::new(usize::MAX))
    }

    /// Notes the one that this thread runs on.
    pub fn note(&self) {
        let Some(here) = here() else { return };
        // A line of memory that is only read stays with all who read it.
        if self.0.load(Ordering::Relaxed) != here {
            self.0.store(here, Ordering::Relaxed);
        }
    }

    /// Whether it is the one that this thread runs on.
    pub fn is_here(&self) -> bool {
        here() == Some(self.0.load(Ordering::Relaxed))
    }
}

/// The processor that this thread runs on, if that can be known; the C library knows without a system call.
fn here() -> Option<usize> {
    // SAFETY: it takes nothing and touches no memory of ours.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    #[test]
    fn it_is_where_it_was_noted() {
        let allowed = sched_getaffinity(None).unwrap();
        let processor = Processor::unknown();
        assert!(!processor.is_here());
        for here in (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)) {
            let mut one = CpuSet::new();
            one.set(here);
            sched_setaffinity(None, &one).unwrap();
            assert!(!processor.is_here(), "it was noted on another one, if at all");
            processor.note();
            assert!(processor.is_here());
        }
    }
}
