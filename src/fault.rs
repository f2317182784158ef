//! Places where tests make the library fail. In builds without debug assertions, such as a release, they are nothing.

/// Panics here if a test asked for it.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str) {}

#[cfg(debug_assertions)]
pub use armed::{arm, point};

#[cfg(debug_assertions)]
mod armed {
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::Mutex;

    /// Whether a place is armed: a pass of one that is not takes no lock.
    static ANY: AtomicBool = AtomicBool::new(false);
    static ARMED: Mutex<Option<&'static str>> = Mutex::new(None);

    /// Makes the next pass of the named place panic.
    pub fn arm(name: &'static str) {
        *ARMED.lock() = Some(name);
        ANY.store(true, Ordering::Release);
    }

    /// Panics here if a test asked for it.
    pub fn point(name: &str) {
        if !ANY.load(Ordering::Acquire) {
            return;
        }
        let mut armed = ARMED.lock();
        if *armed == Some(name) {
            *armed = None;
            ANY.store(false, Ordering::Release);
            drop(armed);
            #[allow(clippy::panic, reason = "what it is for")]
            {
                panic!("injected at {name}");
            }
        }
    }
}
