//! A context with one worker, and the loop that waits for completions.

use std::sync::Arc;
use std::time::Duration;

use rdma_engine::Status;
use rdma_engine::engine::context::Context;
use rdma_engine::engine::options::{ContextOptions, Mode, WorkerOptions, transport, way};
use rdma_engine::engine::request::{Completion, Op, Request};
use rdma_engine::engine::session::Session;
use rdma_engine::engine::worker::Worker;

use crate::Arguments;
use crate::measure::Done;

/// A context with one worker.
pub struct Node {
    pub context: Arc<Context>,
    pub worker: Arc<Worker>,
}

impl Node {
    pub fn new(arguments: &Arguments, mode: Mode) -> Done<Node> {
        let mut options = ContextOptions { max_sessions: 200_000, ..ContextOptions::default() };
        if arguments.transport == "tcp" {
            options.transports = transport::TCP;
        }
        options.ways = match arguments.way.as_str() {
            "mapped" => way::MAPPED,
            "rma" => way::RMA | way::MESSAGE,
            "message" => way::MESSAGE,
            _ => way::ALL,
        };
        let context = Context::open(&options)?;
        let capacity = 1 << 18;
        let options =
            WorkerOptions { mode, completion_capacity: capacity, calls: true, ..WorkerOptions::default() };
        let worker = Worker::open(&context, &options)?;
        Ok(Node { context, worker })
    }

    /// Connects and waits until the session is open.
    pub fn connect(&self, address: &str) -> Done<Arc<Session>> {
        let session = Session::connect(&self.worker, address, 0)?;
        let connected = self.wait(Op::SessionConnect)?;
        check(&connected)?;
        Ok(session)
    }

    /// Waits for the next completion of a kind; others are dropped.
    pub fn wait(&self, op: Op) -> Done<Completion> {
        let mut out = [Completion::default(); 1];
        loop {
            let taken = self.worker.poll(Some(Duration::ZERO), &mut out)?;
            if taken == 1 && out[0].op == op as u32 {
                return Ok(out[0]);
            }
        }
    }

    /// Submits one request and waits for its end.
    pub fn run(&self, request: Request<'_>, op: Op) -> Done<Completion> {
        let (1, Status::Ok) = self.worker.submit(&[request]) else { return Err("not accepted".into()) };
        let done = self.wait(op)?;
        check(&done)?;
        Ok(done)
    }

    /// Submits a window of requests, refilling it as they end, until every one has ended.
    pub fn run_all(&self, requests: &[Request<'_>], window: usize, out: &mut [Completion]) -> Done {
        let (mut sent, mut ended) = (0, 0);
        while ended < requests.len() {
            let room = window - (sent - ended);
            let until = requests.len().min(sent + room);
            if until > sent {
                let (accepted, status) = self.worker.submit(&requests[sent..until]);
                if status != Status::Ok {
                    return Err(status.message().into());
                }
                sent += accepted as usize;
            }
            let taken = self.worker.poll(Some(Duration::ZERO), out)?;
            for completion in &out[..taken] {
                check(completion)?;
            }
            ended += taken;
        }
        Ok(())
    }
}

/// An error unless the completion is a good one.
pub fn check(completion: &Completion) -> Done {
    if completion.status == Status::Ok as i32 { Ok(()) } else { Err(format!("{completion:?}").into()) }
}
