//! The answer of work that another thread does: waited for by a thread, or by a task.

use crate::io::event::Event;
use crate::status::{Error, Result, Status};
use parking_lot::{Condvar, Mutex};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// An answer that will come.
#[derive(Debug)]
pub struct Ticket<T>(Arc<Shared<T>>);

/// Who answers. Dropping it without an answer is an answer too.
#[derive(Debug)]
pub struct Answerer<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    done: Condvar,
}

#[derive(Debug)]
struct State<T> {
    answer: Option<Result<T>>,
    answered: bool,
    waker: Option<Waker>,
    event: Option<Arc<Event>>,
}

/// A ticket and who answers it.
pub fn ticket<T>() -> (Ticket<T>, Answerer<T>) {
    let state = Mutex::new(State { answer: None, answered: false, waker: None, event: None });
    let shared = Arc::new(Shared { state, done: Condvar::new() });
    (Ticket(shared.clone()), Answerer(shared))
}

impl<T> Ticket<T> {
    /// Waits. What answers has deadlines of its own.
    pub fn wait(self) -> Result<T> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(answer) = state.answer.take() {
                return answer;
            }
            self.0.done.wait(&mut state);
        }
    }

    /// Rings too, for a thread that sleeps on an event while its tasks wait.
    pub fn ringing(self, event: &Arc<Event>) -> Ticket<T> {
        self.0.state.lock().event = Some(event.clone());
        self
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let mut state = self.0.state.lock();
        match state.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Answerer<T> {
    /// Answers.
    pub fn answer(self, answer: Result<T>) {
        self.0.put(answer);
    }
}

impl<T> Drop for Answerer<T> {
    fn drop(&mut self) {
        let lost = "the object storage tier's thread dropped a request: it was closed, or panicked";
        self.0.put(Err(Error::new(Status::Canceled, lost)));
    }
}

impl<T> Shared<T> {
    /// The first answer counts.
    fn put(&self, answer: Result<T>) {
        let (waker, event) = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.answered, true) {
                return;
            }
            state.answer = Some(answer);
            (state.waker.take(), state.event.take())
        };
        self.done.notify_all();
        waker.into_iter().for_each(Waker::wake);
        event.into_iter().for_each(|event| event.ring());
    }
}
