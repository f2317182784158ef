//! A lock among the tasks of one thread, given out in the order in which it was asked for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Something that one task has at a time. It may be taken out for good.
#[derive(Debug)]
pub struct Lock<T> {
    value: RefCell<Option<T>>,
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
    next: Cell<u64>,
    held: Cell<bool>,
}

/// The lock, held until this is dropped.
#[derive(Debug)]
pub struct Guard<T> {
    lock: Rc<Lock<T>>,
    value: Option<T>,
}

/// A place in the queue, left when it is dropped.
struct Turn<'l, T> {
    lock: &'l Lock<T>,
    number: u64,
}

impl<T> Lock<T> {
    /// A lock on `value`.
    pub fn new(value: T) -> Rc<Lock<T>> {
        let value = RefCell::new(Some(value));
        Rc::new(Lock { value, waiting: RefCell::default(), next: Cell::new(0), held: Cell::new(false) })
    }

    /// Waits for its turn. The guard has no value when an earlier one took it or panicked with it.
    pub async fn lock(self: &Rc<Lock<T>>) -> Guard<T> {
        let number = self.next.replace(self.next.get() + 1);
        self.waiting.borrow_mut().push_back((number, None));
        let turn = Turn { lock: self, number };
        poll_fn(|context| {
            let mut waiting = turn.lock.waiting.borrow_mut();
            if !turn.lock.held.get() && waiting.front().is_some_and(|front| front.0 == turn.number) {
                return Poll::Ready(());
            }
            if let Some(own) = waiting.iter_mut().find(|waiting| waiting.0 == turn.number) {
                own.1 = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
        self.held.set(true);
        drop(turn);
        let value = self.value.borrow_mut().take();
        Guard { lock: self.clone(), value }
    }

    /// Whether nobody has it or waits for it.
    pub fn is_free(&self) -> bool {
        !self.held.get() && self.waiting.borrow().is_empty()
    }

    fn wake_next(&self) {
        if !self.held.get()
            && let Some((_, Some(waker))) = self.waiting.borrow().front()
        {
            waker.wake_by_ref();
        }
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.lock.waiting.borrow_mut().retain(|waiting| waiting.0 != self.number);
        self.lock.wake_next();
    }
}

impl<T> Guard<T> {
    /// Takes the value out for good.
    pub fn take(&mut self) -> Option<T> {
        self.value.take()
    }
}

impl<T> Deref for Guard<T> {
    type Target = Option<T>;

    fn deref(&self) -> &Option<T> {
        &self.value
    }
}

impl<T> DerefMut for Guard<T> {
    fn deref_mut(&mut self) -> &mut Option<T> {
        &mut self.value
    }
}

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        // What a panic has left half changed is not handed on.
        if !std::thread::panicking() {
            *self.lock.value.borrow_mut() = self.value.take();
        }
        self.lock.held.set(false);
        self.lock.wake_next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::tasks::{Tasks, rest};

    #[test]
    fn one_at_a_time_in_order() {
        let lock = Lock::new(Vec::new());
        let mut tasks = Tasks::new(8);
        for number in 0..8 {
            let lock = lock.clone();
            tasks.start(async move {
                let mut guard = lock.lock().await;
                let before = guard.as_ref().map_or(0, Vec::len);
                rest().await;
                let list = guard.as_mut().unwrap();
                assert_eq!(list.len(), before, "somebody else was in");
                list.push(number);
            });
        }
        while tasks.len() > 0 {
            assert!(tasks.run(1) > 0, "everybody waits");
        }
        assert_eq!(lock.value.borrow().as_deref(), Some(&[0, 1, 2, 3, 4, 5, 6, 7][..]));
        assert!(lock.is_free());
    }

    #[test]
    fn who_gives_up_is_passed_over() {
        let lock = Lock::new(());
        let mut first = Box::pin(lock.lock());
        let mut context = std::task::Context::from_waker(Waker::noop());
        let Poll::Ready(held) = std::future::Future::poll(first.as_mut(), &mut context) else { panic!() };
        let mut second = Box::pin(lock.lock());
        assert!(std::future::Future::poll(second.as_mut(), &mut context).is_pending());
        let mut third = Box::pin(lock.lock());
        assert!(std::future::Future::poll(third.as_mut(), &mut context).is_pending());
        drop(second);
        drop(held);
        assert!(std::future::Future::poll(third.as_mut(), &mut context).is_ready());
    }
}
