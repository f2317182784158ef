//! A client: calls to any number of peers, from any number of threads.

use std::sync::Arc;
use std::time::Duration;

use super::answer::Body;
use super::hub::Hub;
use super::peers::Peers;
use crate::engine::bytes::Bytes;
use crate::engine::call::{Header, Once, Piece};
use crate::engine::context::Context;
use crate::engine::options::{Mode, WorkerOptions};
use crate::engine::request::{Completion, Op, Request};
use crate::engine::worker::Worker;
use crate::status::{Error, Result, Status};

/// Options of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long a peer that did not answer is not dialled again; twice as long after each failure.
    pub shortest_backoff: Duration,
    /// At most so long.
    pub longest_backoff: Duration,
    /// How long a waiting thread spins before it sleeps.
    pub spin: Duration,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            shortest_backoff: Duration::from_millis(50),
            longest_backoff: Duration::from_secs(5),
            spin: Duration::from_micros(50),
        }
    }
}

/// What to call, with what, and how long to wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// The service's number of what is called.
    pub method: u32,
    /// The service's header.
    pub header: Header,
    /// The payload: bytes are copied now, buffers must stay until the answer.
    pub pieces: &'a [Piece<'a>],
    /// After so long the call ends with `TIMED_OUT`, here and at the peer; zero is never. Dialling takes its own time.
    pub timeout: Duration,
    /// Where the answer's payload goes: handle, offset and length of a buffer. Else the engine finds it a place.
    pub reply: Option<(u64, u64, u64)>,
}

/// What the peer answered.
#[derive(Debug)]
pub struct Replied {
    /// The service's status.
    pub status: i32,
    /// The service's header.
    pub header: Header,
    /// The payload.
    pub body: Body,
}

/// Connections to peers, made when they are first called, shared by all threads, made again when they are lost.
pub struct Client {
    pub(super) hub: Hub,
}

impl Client {
    /// A client with a worker of its own in `context`.
    pub fn open(context: &Arc<Context>, options: &ClientOptions) -> Result<Client> {
        let worker_options =
            WorkerOptions { mode: Mode::Polled, spin: options.spin, ..WorkerOptions::default() };
        let worker = Worker::open(context, &worker_options)?;
        let peers = Peers::new(options.shortest_backoff, options.longest_backoff);
        Ok(Client { hub: Hub::new(context.clone(), worker, peers) })
    }

    /// Its worker, for its counters.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.hub.worker
    }

    /// Calls and waits. Statuses of the engine are errors; the service's own is in the answer. A call that ended with
    /// `CONNECTION_LOST` or `TIMED_OUT` may have happened.
    pub fn call(&self, address: &str, call: &Outgoing<'_>) -> Result<Replied> {
        self.start(address, call)?.wait()
    }

    /// Sends a call; the ticket waits for the answer. Dialling is waited for here.
    pub fn start(&self, address: &str, call: &Outgoing<'_>) -> Result<Ticket<'_>> {
        let session = self.hub.session(address)?;
        let id = self.hub.submit(request(session.id(), call, None)?)?;
        Ok(Ticket { client: self, id: Some(id), own: call.reply.is_some() })
    }

    /// Sends a call that nobody answers, and waits until it has left.
    pub fn notify(&self, address: &str, call: &Outgoing<'_>) -> Result<()> {
        let session = self.hub.session(address)?;
        let request = Request { op: Op::OneWay as u16, ..request(session.id(), call, None)? };
        let done = self.hub.finish(self.hub.submit(request)?)?;
        failure(&done).map_or(Ok(()), Err)
    }

    /// Ends its sessions; calls that wait end with an error.
    pub fn close(&self) {
        self.hub.close();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

/// A call on its way. Dropping it cancels the call.
pub struct Ticket<'a> {
    client: &'a Client,
    id: Option<u64>,
    own: bool,
}

impl Ticket<'_> {
    /// Waits for the answer.
    pub fn wait(mut self) -> Result<Replied> {
        let Some(id) = self.id.take() else { return Err(Status::Internal.into()) };
        let done = self.client.hub.finish(id)?;
        self.client.replied(&done, self.own)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.client.hub.abandon(id);
        }
    }
}

impl Client {
    pub(super) fn replied(&self, done: &Completion, own: bool) -> Result<Replied> {
        if let Some(error) = failure(done) {
            return Err(error);
        }
        let (header, body) = Body::of(&self.hub.context, done, own)?;
        Ok(Replied { status: done.detail, header, body })
    }
}

pub(super) fn request<'a>(session: u64, call: &Outgoing<'a>, once: Option<Once>) -> Result<Request<'a>> {
    if call.header.reserved != 0 {
        return Err(Error::new(Status::InvalidArgument, "header.reserved is not zero"));
    }
    let timeout_us = u32::try_from(call.timeout.as_micros().max(u128::from(!call.timeout.is_zero())));
    let timeout_us =
        timeout_us.map_err(|_| Error::new(Status::InvalidArgument, "a timeout is at most 71 minutes"))?;
    let (buffer, buffer_offset, length) = call.reply.unwrap_or_default();
    let request = Request {
        timeout_us,
        buffer,
        buffer_offset,
        length,
        ..Request::call(session, call.method, &call.header, Bytes::pieces(call.pieces))
    };
    Ok(once.map_or(request, |once| request.once(once)))
}

/// Why a call failed, if it did.
pub(super) fn failure(done: &Completion) -> Option<Error> {
    let status = Status::from_i32(done.status).unwrap_or(Status::Internal);
    match status {
        Status::Ok => None,
        Status::QueueFull | Status::Busy => {
            let text = format!("the peer has too much to do; try again after {} µs", done.detail);
            Some(Error::new(status, text))
        }
        _ => Some(status.into()),
    }
}
