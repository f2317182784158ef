//! Handles of inbound calls. Slots never move; a [`Seat`] serves one call after another, so that a call costs two short
//! locks and no allocation.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

use super::Inbound;
use crate::engine::handle::{self, Kind};
use crate::limits;

const CHUNK: usize = 1_024;
const CHUNKS: usize = limits::CALLS as usize / CHUNK;

/// No call is here.
const IDLE: u8 = 0;
/// A call waits for its answer.
const LIVE: u8 = 1;
/// The same, and nobody waits for the answer any more.
const CANCELED: u8 = 2;

#[derive(Default)]
struct Slot {
    mark: AtomicU8,
    body: Mutex<Body>,
}

#[derive(Default)]
struct Body {
    /// Of the call that is here, or will be next.
    generation: u32,
    /// The call, until somebody takes it to answer it.
    call: Option<Box<Inbound>>,
}

struct Vacancies {
    returned: Vec<u32>,
    fresh: u32,
}

/// Inbound calls by handle. Any thread.
pub struct Calls {
    chunks: [OnceLock<Box<[Slot]>>; CHUNKS],
    vacancies: Mutex<Vacancies>,
}

/// Every inbound call of the process.
pub static CALLS: Calls = Calls {
    chunks: [const { OnceLock::new() }; CHUNKS],
    vacancies: Mutex::new(Vacancies { returned: Vec::new(), fresh: 0 }),
};

/// A slot among [`CALLS`], for one call at a time; another may have it when this is dropped.
pub(in crate::engine) struct Seat {
    slot: &'static Slot,
    index: u32,
    generation: u32,
}

impl Seat {
    /// A free one; `None` when there are [`limits::CALLS`].
    pub fn claim() -> Option<Seat> {
        let mut vacancies = CALLS.vacancies.lock();
        let index = match vacancies.returned.pop() {
            Some(index) => index,
            None if vacancies.fresh < limits::CALLS => {
                vacancies.fresh += 1;
                vacancies.fresh - 1
            }
            None => return None,
        };
        drop(vacancies);
        let slot = CALLS.slot(index)?;
        Some(Seat { slot, index, generation: slot.body.lock().generation })
    }

    /// The handle of its call.
    pub fn id(&self) -> u64 {
        handle::pack(Kind::Call, self.generation, self.index)
    }

    /// A call sits down here.
    pub fn occupy(&self) {
        self.slot.mark.store(LIVE, Ordering::Relaxed);
    }

    /// Whether nobody waits for the answer to its call any more.
    pub fn is_canceled(&self) -> bool {
        self.slot.mark.load(Ordering::Acquire) == CANCELED
    }

    /// Its call is over and was taken out: the next one has another handle. `false` when there is none left.
    pub fn renew(&mut self) -> bool {
        self.slot.mark.store(IDLE, Ordering::Relaxed);
        self.generation += 1;
        self.generation < handle::GENERATIONS
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.slot.mark.store(IDLE, Ordering::Relaxed);
        let unused = {
            let mut body = self.slot.body.lock();
            // A call that was never handed out leaves its handle to the next: nobody knows it.
            body.generation = body.generation.max(self.generation);
            body.generation < handle::GENERATIONS
        };
        // A slot whose generations are used up is not used again.
        if unused {
            CALLS.vacancies.lock().returned.push(self.index);
        }
    }
}

impl Calls {
    /// Hands a call to its handle: a new one, or one that could not be answered.
    pub(in crate::engine) fn open(&self, call: Box<Inbound>) {
        let (slot, generation) = (call.seat.slot, call.seat.generation);
        let mut body = slot.body.lock();
        body.generation = generation;
        body.call = Some(call);
    }

    fn slot(&'static self, index: u32) -> Option<&'static Slot> {
        let chunk = self.chunks.get(index as usize / CHUNK)?;
        let slots = chunk.get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect());
        slots.get(index as usize % CHUNK)
    }

    /// The slot that a handle names.
    fn named(&self, id: u64) -> Option<&Slot> {
        let index = handle::index(id) as usize;
        self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    /// Looks at the call with this handle, if it waits for its answer.
    pub(in crate::engine) fn with<T>(&self, id: u64, look: impl FnOnce(&Inbound) -> T) -> Option<T> {
        let body = self.named(id)?.body.lock();
        if handle::pack(Kind::Call, body.generation, handle::index(id)) != id {
            return None;
        }
        body.call.as_deref().map(look)
    }

    /// Takes the call with this handle, to answer it: of several callers, one gets it.
    pub(in crate::engine) fn take(&self, id: u64) -> Option<Box<Inbound>> {
        let mut body = self.named(id)?.body.lock();
        if handle::pack(Kind::Call, body.generation, handle::index(id)) != id {
            return None;
        }
        let call = body.call.take()?;
        body.generation += 1;
        Some(call)
    }

    /// Marks the call with this handle, taken or not: nobody waits for its answer any more. Only who serves its session
    /// may: a seat is not used again while the call is known there.
    pub(in crate::engine) fn cancel(&self, id: u64) {
        if let Some(slot) = self.named(id) {
            slot.mark.store(CANCELED, Ordering::Release);
        }
    }

    /// Calls that wait for their answer, or for what comes of it. Counts slots: not for the data path.
    pub fn len(&self) -> usize {
        let slots = self.chunks.iter().filter_map(OnceLock::get).flatten();
        slots.filter(|slot| slot.mark.load(Ordering::Relaxed) != IDLE).count()
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
