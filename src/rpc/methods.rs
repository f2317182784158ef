//! Handlers by method.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::lent::Lent;
use crate::engine::call::Call;
use crate::engine::context::Context;
use crate::status::Status;

type Answering = dyn Fn(&Call) -> Answer + Send + Sync;
type Either = dyn Fn(&Call, bool) -> Option<Answer> + Send + Sync;
type Owning = dyn Fn(Call) + Send + Sync;
type Preparing = dyn Fn(Call, Resume) -> Option<Call> + Send + Sync;

/// Has a call served that was prepared: in the thread that calls it if that takes microseconds, else in the server's pool.
pub type Resume = Box<dyn FnOnce(Call) + Send>;

#[derive(Clone)]
enum Handler {
    Answering(Arc<Answering>),
    Either(Arc<Either>),
    Owning(Arc<Owning>),
}

#[derive(Clone)]
pub(super) struct Method {
    handler: Handler,
    prepare: Option<Arc<Preparing>>,
    pub blocking: bool,
}

/// What a server serves. The last handler of a method counts.
#[derive(Clone, Default)]
pub struct Methods {
    by_id: HashMap<u32, Method>,
    lent: Option<Arc<Lent>>,
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

    /// Answers a method in the server's thread when that takes microseconds, else in a thread of its pool: the handler is
    /// first called with `false`, and may answer `None` so as to be called again with `true`, when it may block and must
    /// answer. A call that it does not answer then is answered `INTERNAL`.
    #[must_use]
    pub fn on_either(
        self,
        method: u32,
        handler: impl Fn(&Call, bool) -> Option<Answer> + Send + Sync + 'static,
    ) -> Methods {
        self.with(method, Handler::Either(Arc::new(handler)), false)
    }

    /// Before calls of a method that [`Methods::on_either`] added go to the pool, a function may take them, see to it that the
    /// handler need not block, and then have them served. It runs in the server's thread and gives back what it leaves to the
    /// pool.
    #[must_use]
    pub fn preparing(
        mut self,
        method: u32,
        prepare: impl Fn(Call, Resume) -> Option<Call> + Send + Sync + 'static,
    ) -> Methods {
        if let Some(method) = self.by_id.get_mut(&method) {
            method.prepare = Some(Arc::new(prepare));
        }
        self
    }

    /// Gives the calls of a method to a function, which answers them when it pleases, from any thread.
    #[must_use]
    pub fn take(self, method: u32, handler: impl Fn(Call) + Send + Sync + 'static) -> Methods {
        self.with(method, Handler::Owning(Arc::new(handler)), false)
    }

    /// Takes memory that callers lend by calls of a method: see [`Lent`].
    #[must_use]
    pub fn lending(mut self, method: u32, lent: &Arc<Lent>) -> Methods {
        self.lent = Some(lent.clone());
        let lent = lent.clone();
        self.take(method, move |call| lent.take(call))
    }

    /// What callers lend.
    pub(super) fn lent(&self) -> Option<&Lent> {
        self.lent.as_deref()
    }

    fn with(mut self, method: u32, handler: Handler, blocking: bool) -> Methods {
        self.by_id.insert(method, Method { handler, prepare: None, blocking });
        self
    }

    pub(super) fn get(&self, method: u32) -> Option<&Method> {
        self.by_id.get(&method)
    }
}

impl Method {
    /// Has a call prepared that the handler would block for; what comes back is for the pool.
    pub fn prepare(&self, call: Call, resume: impl FnOnce(Call) + Send + 'static) -> Option<Call> {
        match &self.prepare {
            None => Some(call),
            // A call that is dropped by a panic is answered `INTERNAL`.
            Some(prepare) => match catch_unwind(AssertUnwindSafe(|| prepare(call, Box::new(resume)))) {
                Ok(left) => left,
                Err(payload) => {
                    std::mem::forget(payload);
                    None
                }
            },
        }
    }

    /// Runs the handler and sends its answer: exactly one, whatever the handler does. Unless it may `wait`, the call of a
    /// handler that would comes back, for the pool.
    pub fn run(&self, context: &Context, call: Call, wait: bool) -> Option<Call> {
        if self.blocking && !wait {
            return Some(call);
        }
        if call.deadline().is_some_and(|at| at <= Instant::now()) {
            call.refuse(Status::TimedOut, Duration::ZERO);
            return None;
        }
        let answered = match &self.handler {
            Handler::Answering(handler) => catch_unwind(AssertUnwindSafe(|| Some(handler(&call)))),
            Handler::Either(handler) => catch_unwind(AssertUnwindSafe(|| handler(&call, wait))),
            // A call that is dropped by a panic is answered `INTERNAL`.
            Handler::Owning(handler) => {
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| handler(call))) {
                    panicked(context, payload);
                }
                return None;
            }
        };
        match answered {
            Ok(Some(answer)) => answer.send(call),
            Ok(None) if !wait => return Some(call),
            Ok(None) => call.fail(Status::Internal),
            Err(payload) => {
                panicked(context, payload);
                call.fail(Status::Internal);
            }
        }
        None
    }
}

fn panicked(context: &Context, payload: Box<dyn Any + Send>) {
    // Dropping it could panic again.
    std::mem::forget(payload);
    context.note_handler_panic();
}
