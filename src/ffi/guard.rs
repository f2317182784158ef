//! The panic guard around the body of every exported function, and the marks it leaves.
#![allow(unsafe_code, reason = "writes the caller's rde_error")]

use std::any::Any;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::types::{rde_error, rde_status};
use crate::status::{Error, Result, Status};

/// Objects in whose calls a panic was caught; an entry leaves when the object is closed.
static POISONED: Mutex<Option<HashSet<u64>>> = Mutex::new(None);
/// Their number, so that a call on a healthy object costs one load.
static POISONED_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Runs the body of an exported function on the object `receiver` (0 when it has none), and turns what comes out into a
/// status and, on failure, into `error` (nullable). A caught panic poisons the object: every later call but its close
/// answers `WRONG_STATE`.
pub(super) fn guard(receiver: u64, error: *mut rde_error, body: impl FnOnce() -> Result<()>) -> rde_status {
    if POISONED_COUNT.load(Ordering::Relaxed) != 0 && is_poisoned(receiver) {
        let poisoned = "a defect of the library was contained in this object: close it";
        return report(error, Error::new(Status::WrongState, poisoned));
    }
    match run(body) {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(failure)) => report(error, failure),
        Err(text) => {
            poison(receiver);
            report(error, Error::new(Status::Panic, format!("a defect of the library was contained: {text}")))
        }
    }
}

/// [`guard`] of a function that ends the object: it runs on a poisoned one too, and takes its mark away.
pub(super) fn guard_close(receiver: u64, body: impl FnOnce() -> Result<()>) -> rde_status {
    match run(body) {
        Ok(Ok(())) => {
            heal(receiver);
            Status::Ok
        }
        Ok(Err(failure)) => failure.status,
        Err(_) => Status::Panic,
    }
}

/// [`guard`] of a function that returns a plain value: `fallback` when it panics.
pub(super) fn guard_value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    run(body).unwrap_or(fallback)
}

fn run<T>(body: impl FnOnce() -> T) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(|| {
        #[cfg(any(test, debug_assertions))]
        fault::check();
        body()
    }))
    .map_err(|payload| {
        let text = text_of(payload.as_ref());
        // Dropping a foreign payload could panic again, outside of any guard.
        std::mem::forget(payload);
        text
    })
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

fn report(error: *mut rde_error, failure: Error) -> rde_status {
    if !error.is_null() {
        // SAFETY: not NULL, and the caller promises that it points to an rde_error.
        unsafe { error.write_unaligned(rde_error::from(&failure)) };
    }
    failure.status
}

fn is_poisoned(id: u64) -> bool {
    POISONED.lock().as_ref().is_some_and(|ids| ids.contains(&id))
}

fn poison(id: u64) {
    if id != 0 && POISONED.lock().get_or_insert_default().insert(id) {
        POISONED_COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

fn heal(id: u64) {
    if POISONED_COUNT.load(Ordering::Relaxed) != 0
        && POISONED.lock().as_mut().is_some_and(|ids| ids.remove(&id))
    {
        POISONED_COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A panic that a test asks for.
#[cfg(any(test, debug_assertions))]
pub mod fault {
    use std::cell::Cell;

    thread_local! {
        static PANIC: Cell<bool> = const { Cell::new(false) };
    }

    /// Makes the next guarded call of this thread panic inside its guard.
    pub fn panic_next() {
        PANIC.set(true);
    }

    #[allow(clippy::panic, reason = "it is what was asked for")]
    pub(super) fn check() {
        if PANIC.replace(false) {
            panic!("injected");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_fills_the_error_and_success_leaves_it() {
        let mut error = rde_error::from(&Error::from(Status::Internal));
        assert_eq!(guard(0, &mut error, || Ok(())), Status::Ok);
        assert_eq!(error.status, Status::Internal as i32);
        let failure =
            Error { status: Status::Io, os_errno: 5, transport: -3, message: "é".repeat(200).into() };
        assert_eq!(guard(0, &mut error, || Err(failure)), Status::Io);
        assert_eq!((error.status, error.os_errno, error.transport_status), (Status::Io as i32, 5, -3));
        // 239 bytes fit, and half a character is never left.
        assert_eq!((error.message_len, error.text().unwrap()), (238, "é".repeat(119).as_str()));
        assert_eq!(error.message[238..], [0, 0]);
        assert_eq!(guard(0, std::ptr::null_mut(), || Err(Status::NotFound.into())), Status::NotFound);
    }

    #[test]
    fn panic_poisons_its_object_until_that_is_closed() {
        let (sick, healthy) = (u64::MAX, u64::MAX - 1);
        let mut error = rde_error::from(&Error::from(Status::Ok));
        fault::panic_next();
        assert_eq!(guard(sick, &mut error, || Ok(())), Status::Panic);
        assert!(error.text().unwrap().ends_with(": injected"));
        assert_eq!(guard(sick, &mut error, || Ok(())), Status::WrongState);
        assert_eq!(guard(healthy, &mut error, || Ok(())), Status::Ok);
        assert_eq!(guard_close(sick, || Err(Status::WrongState.into())), Status::WrongState);
        assert_eq!(guard(sick, &mut error, || Ok(())), Status::WrongState);
        assert_eq!(guard_close(sick, || Ok(())), Status::Ok);
        assert_eq!(guard(sick, &mut error, || Ok(())), Status::Ok);
    }

    #[test]
    fn panic_without_an_object_or_a_status_is_contained() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropping the payload of a panic");
            }
        }
        assert_eq!(guard(0, std::ptr::null_mut(), || std::panic::panic_any(Bomb)), Status::Panic);
        assert_eq!(guard(0, std::ptr::null_mut(), || Ok(())), Status::Ok);
        assert_eq!(guard_value(7, || -> i32 { panic!("formatted {}", 1) }), 7);
        assert_eq!(guard_close(0, || panic!("closing")), Status::Panic);
    }
}
