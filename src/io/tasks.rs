//! An executor for one thread that turns a disk: bounded, tasks in places that are used again.

use crossbeam_queue::ArrayQueue;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// Tasks of one kind of future, in places that are used again.
pub struct Tasks<F> {
    places: Vec<Place<F>>,
    free: Vec<u32>,
    ready: Arc<ArrayQueue<u32>>,
    limit: usize,
}

struct Place<F> {
    future: Pin<Box<Option<F>>>,
    waker: Waker,
    queued: Arc<Ready>,
}

/// Puts its task into the queue of those that can go on, once.
struct Ready {
    queue: Arc<ArrayQueue<u32>>,
    place: u32,
    queued: AtomicBool,
}

impl Wake for Ready {
    fn wake(self: Arc<Ready>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Ready>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            // There is room for every place, and each is in the queue at most once.
            let _ = self.queue.push(self.place);
        }
    }
}

impl<F: Future<Output = ()>> Tasks<F> {
    /// At most `limit` tasks at a time.
    pub fn new(limit: usize) -> Tasks<F> {
        let ready = Arc::new(ArrayQueue::new(limit.max(1)));
        Tasks { places: Vec::new(), free: Vec::new(), ready, limit }
    }

    /// Tasks that are not done.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Tasks that may still be started.
    pub fn room(&self) -> usize {
        self.limit - self.len()
    }

    /// Whether a task can go on.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Starts a task and runs it until it waits. Not without room.
    pub fn start(&mut self, future: F) {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = self.places.len() as u32;
                let queued = Ready { queue: self.ready.clone(), place, queued: AtomicBool::new(false) };
                let queued = Arc::new(queued);
                let waker = Waker::from(queued.clone());
                self.places.push(Place { future: Box::pin(None), waker, queued });
                place
            }
        };
        self.places[place as usize].future.set(Some(future));
        self.poll(place);
    }

    /// Runs tasks that can go on, at most `most`; returns how many it ran.
    pub fn run(&mut self, most: usize) -> usize {
        for ran in 0..most {
            let Some(place) = self.ready.pop() else { return ran };
            self.places[place as usize].queued.queued.store(false, Ordering::Release);
            self.poll(place);
        }
        most
    }

    fn poll(&mut self, place: u32) {
        let task = &mut self.places[place as usize];
        let Some(future) = task.future.as_mut().as_pin_mut() else { return };
        let mut context = Context::from_waker(&task.waker);
        // A panicking task ends; what it owned says so when it is dropped.
        let over = catch_unwind(AssertUnwindSafe(|| future.poll(&mut context).is_ready()));
        if over.unwrap_or(true) {
            let dropped = catch_unwind(AssertUnwindSafe(|| task.future.set(None)));
            if dropped.is_err() {
                tracing::error!("a task panicked while it was dropped");
            }
            self.free.push(place);
        }
    }
}

/// Lets the other tasks run once.
pub async fn rest() {
    let mut rested = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut rested, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn tasks_rest_end_and_leave_their_places() {
        let done = Rc::new(Cell::new(0));
        let mut tasks = Tasks::new(3);
        for round in 0..4 {
            while tasks.room() > 0 {
                let done = done.clone();
                tasks.start(async move {
                    for _ in 0..round {
                        rest().await;
                    }
                    done.set(done.get() + 1);
                });
                if round == 0 {
                    break;
                }
            }
            while tasks.len() > 0 {
                assert!(tasks.run(2) > 0);
            }
        }
        assert_eq!((done.get(), tasks.places.len()), (10, 3));
    }

    #[test]
    fn a_panic_ends_its_task_alone() {
        let mut tasks = Tasks::new(2);
        for panics in [true, false] {
            tasks.start(async move {
                rest().await;
                assert!(!panics, "meant to");
            });
        }
        assert_eq!(tasks.run(10), 2);
        assert_eq!(tasks.len(), 0);
    }
}
