//! Threads for handlers that block, with a bounded queue.

use std::collections::VecDeque;
use std::sync::Arc;
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
        let shared = Arc::new(Shared { queue, more: Condvar::new(), capacity });
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
        drop(queue);
        self.shared.more.notify_one();
        Ok(())
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
    }
}
