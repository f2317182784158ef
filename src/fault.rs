//! Places where tests make the library fail. Without the feature `fault-injection` they are nothing.

/// Panics here if a test asked for it.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn point(_name: &str) {}

#[cfg(feature = "fault-injection")]
pub use armed::{arm, point};

#[cfg(feature = "fault-injection")]
mod armed {
    use parking_lot::Mutex;

    static ARMED: Mutex<Option<&'static str>> = Mutex::new(None);

    /// Makes the next pass of the named place panic.
    pub fn arm(name: &'static str) {
        *ARMED.lock() = Some(name);
    }

    /// Panics here if a test asked for it.
    pub fn point(name: &str) {
        let mut armed = ARMED.lock();
        if *armed == Some(name) {
            *armed = None;
            drop(armed);
            #[allow(clippy::panic, reason = "what the feature is for")]
            {
                panic!("injected at {name}");
            }
        }
    }
}
