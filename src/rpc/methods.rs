//! Handlers by method.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Answer;
use crate::engine::call::Call;
use crate::engine::context::Context;
use crate::status::Status;

type Answering = dyn Fn(&Call) -> Answer + Send + Sync;
type Owning = dyn Fn(Call) + Send + Sync;

#[derive(Clone)]
enum Handler {
    Answering(Arc<Answering>),
    Owning(Arc<Owning>),
}

#[derive(Clone)]
pub(super) struct Method {
    handler: Handler,
    pub blocking: bool,
}

/// What a server serves. The last handler of a method counts.
#[derive(Clone, Default)]
pub struct Methods {
    by_id: HashMap<u32, Method>,
}

impl Methods {
    /// Nothing.
    pub fn new() -> Methods {
        Methods::default()
    }

    /// Answers a method with what a function returns. It runs in the server's thread, between others: microseconds.
    /// When it panics, the caller gets `INTERNAL`.
    #[must_use]
    pub fn on(self, method: u32, handler: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Methods {
        self.with(method, Handler::Answering(Arc::new(handler)), false)
    }

    /// The same in a thread of the server's pool: it may block.
    #[must_use]
    pub fn on_blocking(
        self,
        method: u32,
        handler: impl Fn(&Call) -> Answer + Send + Sync + 'static,
    ) -> Methods {
        self.with(method, Handler::Answering(Arc::new(handler)), true)
    }

    /// Gives the calls of a method to a function, which answers them when it pleases, from any thread.
    #[must_use]
    pub fn take(self, method: u32, handler: impl Fn(Call) + Send + Sync + 'static) -> Methods {
        self.with(method, Handler::Owning(Arc::new(handler)), false)
    }

    fn with(mut self, method: u32, handler: Handler, blocking: bool) -> Methods {
        self.by_id.insert(method, Method { handler, blocking });
        self
    }

    pub(super) fn get(&self, method: u32) -> Option<&Method> {
        self.by_id.get(&method)
    }
}

impl Method {
    /// Runs the handler and sends its answer: exactly one, whatever the handler does.
    pub fn run(&self, context: &Context, call: Call) {
        if call.deadline().is_some_and(|at| at <= Instant::now()) {
            return call.refuse(Status::TimedOut, Duration::ZERO);
        }
        let panicked = match &self.handler {
            Handler::Answering(handler) => {
                match catch_unwind(AssertUnwindSafe(|| handler(&call))) {
                    Ok(answer) => {
                        answer.send(call);
                        false
                    }
                    Err(payload) => {
                        // Dropping it could panic again.
                        std::mem::forget(payload);
                        call.fail(Status::Internal);
                        true
                    }
                }
            }
            // A call that is dropped by a panic is answered `INTERNAL`.
            Handler::Owning(handler) => match catch_unwind(AssertUnwindSafe(|| handler(call))) {
                Ok(()) => false,
                Err(payload) => {
                    std::mem::forget(payload);
                    true
                }
            },
        };
        if panicked {
            context.note_handler_panic();
        }
    }
}
