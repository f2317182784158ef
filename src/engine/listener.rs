//! A listener: an address that peers dial, bound to one worker.

use std::sync::{Arc, OnceLock};

use super::control;
use super::handle;
use super::worker::Worker;
use crate::status::{Error, Result, Status};

/// An address that peers dial. Sessions that it accepts belong to its worker and arrive there as `SessionAccepted`.
pub struct Listener {
    id: OnceLock<u64>,
    worker: Arc<Worker>,
    bound: Arc<control::Listener>,
}

impl Listener {
    /// Listens on `address`: `tcp://host:port` (port 0 picks one), `unix:///path`. `user_data` comes back in
    /// `SessionAccepted`. Errors: `INVALID_ARGUMENT`, `ALREADY_EXISTS` when the address is in use, `IO`.
    pub fn open(worker: &Arc<Worker>, address: &str, user_data: u64) -> Result<Arc<Listener>> {
        if address.is_empty() || address.len() > crate::limits::ADDRESS_TEXT {
            return Err(Error::new(Status::InvalidArgument, "an address is 1 to 512 bytes long"));
        }
        let bound = worker.context().control().listen(address, worker.inbox(), user_data)?;
        let listener = Arc::new(Listener { id: OnceLock::new(), worker: worker.clone(), bound });
        match handle::LISTENERS.insert(listener.clone()) {
            Some(id) => {
                let _ = listener.id.set(id);
                Ok(listener)
            }
            None => {
                worker.context().control().close_listener(&listener.bound);
                Err(Error::new(Status::LimitReached, "no handle is left for another listener"))
            }
        }
    }

    /// Its handle.
    pub fn id(&self) -> u64 {
        self.id.get().copied().unwrap_or(0)
    }

    /// The address it is bound to, with the real port.
    pub fn address(&self) -> &str {
        self.bound.address()
    }

    /// Closes the listeners of a worker that closes: each holds its worker.
    pub(super) fn close_all(worker: &Worker) {
        for id in handle::LISTENERS.ids() {
            let listener = handle::LISTENERS.get(id).map(|listener| listener.arc());
            if let Some(listener) = listener.filter(|one| std::ptr::eq(Arc::as_ptr(&one.worker), worker)) {
                // Somebody else may have closed it meanwhile.
                let _ = listener.close();
            }
        }
    }

    /// Stops accepting. Sessions that were accepted stay. `STALE_HANDLE` when it is closed already.
    pub fn close(&self) -> Result<()> {
        if handle::LISTENERS.remove(self.id()).is_none() {
            return Err(Status::StaleHandle.into());
        }
        self.worker.context().control().close_listener(&self.bound);
        Ok(())
    }
}
