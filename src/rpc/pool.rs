//! Threads for handlers that block, with a bounded queue, and whether they need all processors.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::methods::Method;
use crate::engine::call::Call;
use crate::engine::context::Context;
use crate::status::{Error, Result};

/// A call whose handler may block.
pub(super) struct Job {
    pub context: Arc<Context>,
    pub method: Method,
    pub call: Call,
}

struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    capacity: usize,
    /// Jobs that were given and have not ended.
    jobs: AtomicUsize,
    /// Of this process, as far as its affinity and its control group go.
    processors: usize,
}

/// Threads that run jobs in the order in which they were given.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// `threads` threads, and room for `capacity` jobs that wait for one.
    pub fn new(threads: usize, capacity: usize) -> Result<Pool> {
        let queue = Mutex::new(Queue { jobs: VecDeque::new(), closed: false });
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (more, jobs) = (Condvar::new(), AtomicUsize::new(0));
        let shared = Arc::new(Shared { queue, more, capacity, jobs, processors });
        let mut pool = Pool { shared, threads: Vec::with_capacity(threads) };
        for _ in 0..threads {
            let shared = pool.shared.clone();
            let thread = std::thread::Builder::new().name("rde-rpc-job".into()).spawn(move || run(&shared));
            pool.threads.push(thread.map_err(|error| Error::os("start a thread for handlers", &error))?);
        }
        Ok(pool)
    }

    /// Gives a job to the first thread that is free; it comes back when there is no room for it. Any thread.
    pub fn run(&self, job: Job) -> std::result::Result<(), Job> {
        let mut queue = self.shared.queue.lock();
        if queue.closed || queue.jobs.len() >= self.shared.capacity {
            return Err(job);
        }
        queue.jobs.push_back(job);
        self.shared.jobs.fetch_add(1, Ordering::Relaxed);
        drop(queue);
        self.shared.more.notify_one();
        Ok(())
    }

    /// Whether it would take the processor that a thread needs only to look for work. Any thread.
    pub fn presses(&self) -> bool {
        presses(self.shared.jobs.load(Ordering::Relaxed), self.shared.processors)
    }
}

impl Drop for Pool {
    /// Waits for the jobs that run; those that wait are dropped.
    fn drop(&mut self) {
        let waiting = {
            let mut queue = self.shared.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.jobs)
        };
        drop(waiting);
        self.shared.more.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    loop {
        let job = {
            let mut queue = shared.queue.lock();
            loop {
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                if queue.closed {
                    return;
                }
                shared.more.wait(&mut queue);
            }
        };
        job.method.run(&job.context, job.call, true);
        shared.jobs.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether so many jobs leave no processor for a thread that has nothing to do.
fn presses(jobs: usize, processors: usize) -> bool {
    jobs > 0 && jobs + 1 >= processors
}

#[cfg(test)]
mod tests {
    use super::presses;

    #[test]
    fn jobs_press_when_they_and_one_more_take_every_processor() {
        let pressing = |processors| (0..5).map(|jobs| presses(jobs, processors)).collect::<Vec<_>>();
        for one_or_two in [1, 2] {
            assert_eq!(pressing(one_or_two), [false, true, true, true, true]);
        }
        assert_eq!(pressing(4), [false, false, false, true, true]);
        assert_eq!(pressing(64), [false; 5]);
    }
}
