//! SIGINT and SIGTERM: the first asks to end, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rdma_engine::{Error, Result, Status};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether the user wants us to end.
#[derive(Clone)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Watches both signals from now on.
    pub fn watch() -> Result<Stop> {
        let which = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order counts: the second signal finds the flag that the first has set.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))
                .and_then(|_| flag::register(signal, Arc::clone(&again)))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&which), signal as usize))
                .map_err(|error| Error::os("cannot watch for signals", &error))?;
        }
        Ok(Stop(which))
    }

    /// The signal that came, or 0.
    pub fn signal(&self) -> u8 {
        u8::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Fails with `Canceled` once a signal came.
    pub fn check(&self) -> Result<()> {
        match self.signal() {
            0 => Ok(()),
            _ => Err(Error::new(Status::Canceled, "interrupted")),
        }
    }
}
