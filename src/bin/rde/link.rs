//! One context, one worker, and waiting for their completions: what every command stands on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdma_engine::engine::buffer::Buffer;
use rdma_engine::engine::context::Context;
use rdma_engine::engine::handle;
use rdma_engine::engine::info::way_name;
use rdma_engine::engine::options::{ContextOptions, Mode, SharedSecret, WorkerOptions, transport, way};
use rdma_engine::engine::region::Way;
use rdma_engine::engine::request::{COMPLETION_INLINE, Completion, Op, Request};
use rdma_engine::engine::session::Session;
use rdma_engine::engine::worker::Worker;
use rdma_engine::{Error, Result, Status};

use super::args::{Engine, Progress, Transport};
use super::catalogue::{ECHO, Message, overhead};
use super::secret;
use super::stop::Stop;

/// How often a wait looks whether a signal came.
const SLICE: Duration = Duration::from_millis(100);
/// Completions taken at a time.
const BATCH: usize = 64;

/// The engine as a command uses it, from one thread.
pub struct Link {
    /// The context.
    pub context: Arc<Context>,
    worker: Arc<Worker>,
    stop: Stop,
    taken: VecDeque<Completion>,
    last_id: u32,
    closed: bool,
}

/// A message that arrived, and from whom.
pub struct Arrived {
    /// The session it came on.
    pub session: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The context's options; `memory` is what the command itself is going to allocate.
fn options(engine: &Engine, memory: u64) -> Result<ContextOptions> {
    let defaults = ContextOptions::default();
    let mask = |list: &Vec<Transport>| {
        list.iter().fold(0, |mask, one| {
            mask | match one {
                Transport::Shared => transport::SHARED,
                Transport::Tcp => transport::TCP,
                Transport::Rdma => transport::RDMA,
            }
        })
    };
    let secret = secret::read(engine.secret_file.as_deref(), "RDE_SECRET")?;
    Ok(ContextOptions {
        name: engine.name.clone().unwrap_or_else(|| format!("rde {}", std::process::id())),
        transports: engine.transports.as_ref().map_or(defaults.transports, mask),
        devices: engine.devices.clone().unwrap_or_default(),
        // Size classes round up; messages need some memory too.
        memory_limit: engine
            .memory_limit
            .map_or(defaults.memory_limit.max(memory.saturating_mul(2).saturating_add(64 << 20)), |size| {
                size.0
            }),
        keepalive: engine.keepalive.map_or(defaults.keepalive, |span| span.0),
        connect_timeout: engine.connect_timeout.map_or(defaults.connect_timeout, |span| span.0),
        secret: secret.map(|secret| SharedSecret::new(&secret)).transpose()?,
        ..defaults
    })
}

impl Link {
    /// Opens the engine; `memory` is what the command is going to allocate, in bytes.
    pub fn open(engine: &Engine, memory: u64, stop: Stop) -> Result<Link> {
        Link::open_as(engine, memory, stop, false)
    }

    /// The same, and calls of peers arrive.
    pub fn open_called(engine: &Engine, memory: u64, stop: Stop) -> Result<Link> {
        Link::open_as(engine, memory, stop, true)
    }

    fn open_as(engine: &Engine, memory: u64, stop: Stop, calls: bool) -> Result<Link> {
        let context = Context::open(&options(engine, memory)?)?;
        let mode = match engine.progress {
            Some(Progress::Polled) => Mode::Polled,
            Some(Progress::Threaded) | None => Mode::Threaded,
        };
        let worker = match Worker::open(&context, &WorkerOptions { mode, calls, ..WorkerOptions::default() })
        {
            Ok(worker) => worker,
            Err(error) => {
                let _ = context.close();
                return Err(error);
            }
        };
        Ok(Link { context, worker, stop, taken: VecDeque::new(), last_id: 0, closed: false })
    }

    /// Closes worker and context; what is still in flight is cancelled by the engine.
    pub fn close(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        self.worker.close()?;
        self.context.close()
    }

    /// The worker, for listeners.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// Dials `address` and waits until the session is open.
    pub fn connect(&mut self, address: &str) -> Result<Arc<Session>> {
        let session = Session::connect(&self.worker, address, 0)?;
        let completion = self.wait(|completion| completion.op == Op::SessionConnect as u32)?;
        match ended(&completion) {
            Ok(_) => Ok(session),
            Err(error) => Err(Error { message: format!("{address}: {}", error.message).into(), ..error }),
        }
    }

    /// Closes a session and waits, for at most a second, until the peer knows.
    pub fn disconnect(&mut self, session: &Arc<Session>) {
        if session.close(0) == Status::Ok {
            let limit = Instant::now() + Duration::from_secs(1);
            while Instant::now() < limit {
                match self.next(Duration::from_millis(50)) {
                    Ok(Some(completion)) if completion.op == Op::SessionClosed as u32 => return,
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        }
    }

    /// Submits one request; a full queue is waited out.
    pub fn submit(&mut self, request: &Request<'_>) -> Result<()> {
        loop {
            match self.worker.submit(std::slice::from_ref(request)) {
                (1, _) => return Ok(()),
                (_, Status::QueueFull) => {
                    self.stop.check()?;
                    self.take(Duration::from_millis(1))?;
                }
                (_, Status::StaleHandle) => return Err(self.why_stale()),
                (_, status) => return Err(status.into()),
            }
        }
    }

    /// A handle is stale when its session has ended; the completion that says why is there or about to come.
    fn why_stale(&mut self) -> Error {
        let until = Instant::now() + SLICE;
        while Instant::now() < until {
            match self.next(SLICE) {
                Ok(Some(completion)) => {
                    if let Err(why) = lost(&completion) {
                        return why;
                    }
                }
                Ok(None) => {}
                Err(error) => return error,
            }
        }
        Status::StaleHandle.into()
    }

    /// Submits as many as are accepted; the others are to be submitted again after a poll.
    pub fn submit_some(&self, requests: &[Request<'_>]) -> Result<usize> {
        match self.worker.submit(requests) {
            (accepted, Status::Ok | Status::QueueFull) => Ok(accepted as usize),
            (_, status) => Err(status.into()),
        }
    }

    /// Sends a message; its bytes are copied.
    pub fn send(&mut self, session: u64, user_data: u64, bytes: &[u8]) -> Result<()> {
        let data = bytes.into();
        self.submit(&Request { user_data, session, op: Op::Send as u16, data, ..Request::default() })
    }

    /// Like `send`, but a full queue fails: a server neither waits for a slow peer nor piles up answers.
    pub fn try_send(&self, session: u64, bytes: &[u8]) -> Result<()> {
        let data = bytes.into();
        let request = Request { session, op: Op::Send as u16, data, ..Request::default() };
        match self.worker.submit(std::slice::from_ref(&request)) {
            (1, _) => Ok(()),
            (_, status) => Err(status.into()),
        }
    }

    /// The next completion, or `None` when `timeout` has passed. A signal ends the wait with `Canceled`.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Completion>> {
        if self.taken.is_empty() {
            self.stop.check()?;
            self.take(timeout.min(SLICE))?;
        }
        Ok(self.taken.pop_front())
    }

    /// Waits for the completion that `wanted` accepts. Others are dropped, except the loss of a session, which fails.
    pub fn wait(&mut self, wanted: impl Fn(&Completion) -> bool) -> Result<Completion> {
        loop {
            if let Some(completion) = self.next(SLICE)? {
                if wanted(&completion) {
                    return Ok(completion);
                }
                lost(&completion)?;
            }
        }
    }

    /// Like `next`, for a measuring loop: takes what is there into `out`, waiting at most a slice.
    pub fn poll(&mut self, out: &mut [Completion]) -> Result<usize> {
        let mut count = 0;
        while count < out.len()
            && let Some(completion) = self.taken.pop_front()
        {
            out[count] = completion;
            count += 1;
        }
        if count == 0 {
            count = self.worker.poll(Some(SLICE), out)?;
            if count == 0 {
                self.stop.check()?;
            }
        }
        Ok(count)
    }

    /// Gives a buffer back; that it is gone already harms nobody.
    pub fn release(&self, buffer: &Arc<Buffer>) {
        if let Err(error) = self.context.release_buffer(buffer) {
            tracing::debug!(%error, "a buffer was released before");
        }
    }

    fn take(&mut self, timeout: Duration) -> Result<()> {
        let mut out = [Completion::default(); BATCH];
        let count = self.worker.poll(Some(timeout), &mut out)?;
        self.taken.extend(&out[..count]);
        Ok(())
    }

    /// The message of a `Message` completion; the buffer that held it goes back to the engine.
    pub fn arrived(&self, completion: &Completion) -> Result<Arrived> {
        let length = usize::try_from(completion.length).unwrap_or(usize::MAX);
        if completion.flags & COMPLETION_INLINE != 0 {
            let bytes = completion.data.get(..length).ok_or(Status::Internal)?.to_vec();
            return Ok(Arrived { session: completion.value, bytes });
        }
        let mut session = [0; 8];
        session.copy_from_slice(&completion.data[..8]);
        let buffer = handle::BUFFERS.get(completion.value).ok_or(Status::StaleHandle)?.arc();
        let copied = if length > ECHO + overhead() {
            Err(Error::new(Status::Protocol, "the peer sent a message longer than any of ours"))
        } else {
            let mut bytes = vec![0; length];
            read(&buffer, 0, &mut bytes).map(|()| bytes)
        };
        self.release(&buffer);
        Ok(Arrived { session: u64::from_le_bytes(session), bytes: copied? })
    }

    /// Sends a request of the catalogue and waits for its answer, at most `timeout`.
    pub fn ask(&mut self, session: &Session, message: &Message, timeout: Duration) -> Result<Message> {
        self.last_id = self.last_id.wrapping_add(1);
        let id = self.last_id;
        self.send(session.id(), 0, &message.encode(id))?;
        let limit = Instant::now() + timeout;
        while Instant::now() < limit {
            let Some(completion) = self.next(SLICE)? else { continue };
            lost(&completion)?;
            if completion.op == Op::Send as u32 {
                ended(&completion)?;
            } else if completion.op == Op::Message as u32
                && let (answered, answer) = Message::decode(&self.arrived(&completion)?.bytes)?
                && answered == id
            {
                return match answer {
                    Message::Refused(status) => Err(status.into()),
                    answer => Ok(answer),
                };
            }
        }
        Err(Error::new(Status::TimedOut, "the peer did not answer; is it an `rde serve`?"))
    }

    /// Makes a region of a key that the peer gave.
    pub fn import(&mut self, session: &Session, key: &[u8]) -> Result<u64> {
        let data = key.into();
        let op = Op::RegionImport as u16;
        self.submit(&Request { session: session.id(), op, data, ..Request::default() })?;
        let completion = self.wait(|completion| completion.op == u32::from(op))?;
        ended(&completion).map(|completion| completion.value)
    }
}

/// After an error too, the engine's thread must have ended before the process runs UCX's destructors.
impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "the engine did not close in order");
        }
    }
}

/// Copies from a buffer.
pub fn read(buffer: &Arc<Buffer>, offset: u64, into: &mut [u8]) -> Result<()> {
    Ok(buffer.whole()?.copy_to_slice(offset, into)?)
}

/// Copies into a buffer.
pub fn write(buffer: &Arc<Buffer>, offset: u64, from: &[u8]) -> Result<()> {
    Ok(buffer.whole()?.copy_from_slice(offset, from)?)
}

/// A region's length in bytes, and the way that operations on it go.
pub fn region(id: u64) -> Result<(u64, &'static str)> {
    let region = handle::REGIONS.get(id).ok_or(Status::StaleHandle)?;
    let way = match region.way() {
        Way::Mapped(_) => way::MAPPED,
        Way::Rma { .. } => way::RMA,
        Way::Message => way::MESSAGE,
    };
    Ok((region.len(), way_name(way)))
}

/// Releases a region; 0 is none.
pub fn release_region(id: u64) {
    drop(handle::REGIONS.remove(id));
}

/// The completion if it went well, else its error.
pub fn ended(completion: &Completion) -> Result<&Completion> {
    match Status::from_i32(completion.status) {
        Some(status) if !status.is_error() => Ok(completion),
        Some(status) => Err(status.into()),
        None => Err(Error::new(Status::Internal, format!("unknown status {}", completion.status))),
    }
}

/// Fails when the completion says that a session has ended: a client has only one.
pub fn lost(completion: &Completion) -> Result<()> {
    if completion.op != Op::SessionClosed as u32 {
        return Ok(());
    }
    ended(completion)?;
    Err(Error::new(Status::ConnectionLost, "the peer closed the session"))
}
