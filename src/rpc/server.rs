//! A server: a listener, a worker of its own, and a thread that answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::methods::{Method, Methods};
use super::pool::{Job, Pool};
use crate::engine::call::Call;
use crate::engine::context::Context;
use crate::engine::handle;
use crate::engine::listener::Listener;
use crate::engine::options::{Mode, WorkerOptions};
use crate::engine::request::{COMPLETION_INLINE, Completion, Op};
use crate::engine::worker::Worker;
use crate::limits;
use crate::status::{Error, Result, Status};

/// Options of a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Threads for handlers that block.
    pub blocking_threads: usize,
    /// Their calls that may wait for one; more are refused with `QUEUE_FULL`.
    pub blocking_queue: usize,
    /// How long the server's thread spins at most before it sleeps: while handlers of the pool need every processor, it
    /// sleeps at once.
    pub spin: Duration,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions { blocking_threads: 4, blocking_queue: 1_024, spin: Duration::from_micros(50) }
    }
}

/// Serves methods at an address until it is closed or dropped.
pub struct Server {
    worker: Arc<Worker>,
    listener: Arc<Listener>,
    closing: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Binds `address` and serves `methods` in a thread of its own. Calls of other methods are answered
    /// `UNKNOWN_METHOD`.
    pub fn open(
        context: &Arc<Context>,
        address: &str,
        methods: Methods,
        options: &ServerOptions,
    ) -> Result<Server> {
        let spin = options.spin;
        let worker_options =
            WorkerOptions { mode: Mode::Polled, calls: true, spin, ..WorkerOptions::default() };
        let worker = Worker::open(context, &worker_options)?;
        let pool = Pool::new(options.blocking_threads, options.blocking_queue);
        let opened = pool.and_then(|pool| Ok((pool, Listener::open(&worker, address, 0)?)));
        let closing = Arc::new(AtomicBool::new(false));
        let started = opened.and_then(|(pool, listener)| {
            let methods = Arc::new(methods);
            let calls = Arc::new(Calls { context: context.clone(), pool });
            let serving = Serving { worker: worker.clone(), methods, calls, closing: closing.clone() };
            let thread = std::thread::Builder::new().name("rde-rpc".into()).spawn(move || serving.run());
            Ok((listener, thread.map_err(|error| Error::os("start the server's thread", &error))?))
        });
        match started {
            Ok((listener, thread)) => {
                Ok(Server { worker, listener, closing, thread: Mutex::new(Some(thread)) })
            }
            Err(error) => {
                let _ = worker.close();
                Err(error)
            }
        }
    }

    /// The address it is bound to, with the real port.
    pub fn address(&self) -> &str {
        self.listener.address()
    }

    /// Its worker, for its counters.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// Ends it: handlers that run end first, calls that wait end with their sessions. Harmless when repeated.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.worker.wake();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
            let _ = self.worker.close();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

struct Serving {
    worker: Arc<Worker>,
    methods: Arc<Methods>,
    calls: Arc<Calls>,
    closing: Arc<AtomicBool>,
}

impl Serving {
    fn run(self) {
        let mut out = [Completion::default(); 64];
        while !self.closing.load(Ordering::Acquire) {
            match self.worker.poll_sparing(None, &mut out, || self.calls.pool.presses()) {
                Ok(taken) => out[..taken].iter().for_each(|completion| self.serve(completion)),
                Err(error) => {
                    tracing::error!(%error, "a server's worker has ended");
                    return;
                }
            }
        }
    }

    fn serve(&self, completion: &Completion) {
        if completion.op == Op::Message as u32 && completion.flags & COMPLETION_INLINE == 0 {
            // Nobody asked for messages here.
            if let Some(buffer) = handle::BUFFERS.get(completion.value) {
                let _ = self.worker.context().release_buffer(&buffer.arc());
            }
        }
        if completion.op != Op::CallReceived as u32 {
            return self.note(completion);
        }
        // Else its session has ended.
        let Ok(call) = Call::take(completion.value) else { return };
        let Some(method) = self.methods.get(call.method()) else {
            return call.refuse(Status::UnknownMethod, Duration::ZERO);
        };
        self.calls.serve(method, call);
    }

    /// What is no call.
    fn note(&self, completion: &Completion) {
        let Some(lent) = self.methods.lent() else { return };
        if completion.op == Op::RegionImport as u32 {
            lent.imported(completion);
        } else if completion.op == Op::SessionClosed as u32 {
            lent.ended(completion.value);
        }
    }
}

/// Serves calls: in the thread at hand, later when they are prepared, or in the pool.
struct Calls {
    context: Arc<Context>,
    pool: Pool,
}

impl Calls {
    fn serve(self: &Arc<Self>, method: &Method, call: Call) {
        let Some(call) = method.run(&self.context, call, false) else { return };
        let (calls, again) = (self.clone(), method.clone());
        let resume = move |call| {
            if let Some(call) = again.run(&calls.context, call, false) {
                calls.block(&again, call);
            }
        };
        if let Some(call) = method.prepare(call, resume) {
            self.block(method, call);
        }
    }

    fn block(&self, method: &Method, call: Call) {
        let job = Job { context: self.context.clone(), method: method.clone(), call };
        if let Err(job) = self.pool.run(job) {
            job.call.refuse(Status::QueueFull, Duration::from_nanos(limits::RETRY_AFTER_NS));
        }
    }
}
