//! Handles of inbound calls. Slots never move and are used again at once: a call costs two short locks and no
//! allocation.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Inbound;
use crate::engine::handle::{self, Kind};
use crate::limits;

const CHUNK: usize = 1_024;
const CHUNKS: usize = limits::CALLS as usize / CHUNK;

#[derive(Default)]
struct Slot {
    canceled: AtomicBool,
    body: Mutex<Body>,
}

#[derive(Default)]
struct Body {
    generation: u32,
    /// The call, until somebody takes it to answer it.
    call: Option<Inbound>,
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

impl Calls {
    /// Puts a call in; its handle. `None`, and the call is dropped, when there are [`limits::CALLS`].
    pub(in crate::engine) fn open(&self, make: impl FnOnce(u32) -> Inbound) -> Option<(u64, u32)> {
        let index = self.claim()?;
        let (chunk, at) = place(index);
        let slots = self.chunks[chunk].get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect());
        let slot = &slots[at];
        slot.canceled.store(false, Ordering::Relaxed);
        let mut body = slot.body.lock();
        body.call = Some(make(index));
        Some((handle::pack(Kind::Call, body.generation, index), index))
    }

    fn claim(&self) -> Option<u32> {
        let mut vacancies = self.vacancies.lock();
        if let Some(index) = vacancies.returned.pop() {
            return Some(index);
        }
        let index = vacancies.fresh;
        (index < limits::CALLS).then(|| {
            vacancies.fresh += 1;
            index
        })
    }

    fn slot(&self, index: u32) -> Option<&Slot> {
        let (chunk, at) = place(index);
        self.chunks.get(chunk)?.get()?.get(at)
    }

    /// Looks at the call with this handle, if it waits for its answer.
    pub(in crate::engine) fn with<T>(&self, id: u64, look: impl FnOnce(&Inbound) -> T) -> Option<T> {
        let index = handle::index(id);
        let body = self.slot(index)?.body.lock();
        if handle::pack(Kind::Call, body.generation, index) != id {
            return None;
        }
        body.call.as_ref().map(look)
    }

    /// Takes the call with this handle, to answer it: of several callers, one gets it.
    pub(in crate::engine) fn take(&self, id: u64) -> Option<Inbound> {
        let index = handle::index(id);
        let mut body = self.slot(index)?.body.lock();
        if handle::pack(Kind::Call, body.generation, index) != id {
            return None;
        }
        body.call.take()
    }

    /// Puts a call back that could not be answered; its handle works again.
    pub(in crate::engine) fn put_back(&self, call: Inbound) {
        if let Some(slot) = self.slot(call.index) {
            slot.body.lock().call = Some(call);
        }
    }

    /// Marks the call at an index: nobody waits for its answer any more.
    pub(in crate::engine) fn cancel(&self, index: u32) {
        if let Some(slot) = self.slot(index) {
            slot.canceled.store(true, Ordering::Release);
        }
    }

    /// The handle of the call at an index.
    pub(in crate::engine) fn id_at(&self, index: u32) -> u64 {
        self.slot(index).map_or(0, |slot| handle::pack(Kind::Call, slot.body.lock().generation, index))
    }

    /// Whether the call at an index was marked.
    pub(in crate::engine) fn is_canceled(&self, index: u32) -> bool {
        self.slot(index).is_some_and(|slot| slot.canceled.load(Ordering::Acquire))
    }

    /// The slot is free for another call. A slot whose generations are used up is not used again.
    pub(super) fn close(&self, index: u32) {
        let Some(slot) = self.slot(index) else { return };
        let generation = {
            let mut body = slot.body.lock();
            body.generation += 1;
            body.generation
        };
        if generation < handle::GENERATIONS {
            self.vacancies.lock().returned.push(index);
        }
    }

    /// Calls that wait for their answer, or for what comes of it.
    pub fn len(&self) -> usize {
        let vacancies = self.vacancies.lock();
        vacancies.fresh as usize - vacancies.returned.len()
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn place(index: u32) -> (usize, usize) {
    (index as usize / CHUNK, index as usize % CHUNK)
}
