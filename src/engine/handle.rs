//! Handles: generational 64-bit ids, and the tables that resolve them.
//!
//! An id is `kind (8 bits) | generation (28) | index (28)`. Its kind is never 0, so an id is never 0. A slot whose
//! generations are used up is not used again, so an id never names two things in the life of a process.
//!
//! Look-up takes no lock and does not touch memory that other threads' look-ups write, whatever the number of threads
//! (`hazard`). `sharded-slab` panics beyond a fixed number of threads, which a Go program can reach; `arc-swap` takes a
//! second locked instruction for each look-up, `haphazard` and `crossbeam-epoch` drop objects at some later time, and a
//! buffer's memory must be free when its last user is done.
#![allow(unsafe_code, reason = "objects are used without a count while they are announced as in use")]

use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use hazard::Object;

mod hazard;

const INDEX_BITS: u32 = 28;
const GENERATION_BITS: u32 = 28;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;

/// Slots of the first chunk; each next chunk is twice as large.
const FIRST_CHUNK_BITS: u32 = 8;
const CHUNKS: usize = (INDEX_BITS - FIRST_CHUNK_BITS + 1) as usize;

/// What a handle names.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A library context.
    Context = 1,
    /// A worker.
    Worker = 2,
    /// A listener.
    Listener = 3,
    /// A session.
    Session = 4,
    /// A local buffer.
    Buffer = 5,
    /// A peer's memory.
    Region = 6,
    /// An inbound call.
    Call = 7,
    /// An open remote file.
    File = 8,
    /// A volume.
    Volume = 9,
    /// A key-value store.
    Kv = 10,
    /// An export of a buffer; its id travels in keys.
    Export = 11,
    /// An exporter of needles.
    Exporter = 12,
}

/// The slot index that an id names. Two ids alive at once in one table have different ones.
pub fn index(id: u64) -> u32 {
    (id & INDEX_MASK) as u32
}

/// How often a slot can be used.
pub(super) const GENERATIONS: u32 = GENERATION_MASK as u32;

pub(super) fn pack(kind: Kind, generation: u32, index: u32) -> u64 {
    (kind as u64) << (INDEX_BITS + GENERATION_BITS) | u64::from(generation) << INDEX_BITS | u64::from(index)
}

struct Slot<T> {
    /// The id of what lives here; 0 if nothing does. Set after `value`, cleared before it.
    id: AtomicU64,
    /// The generation of the next id. Written only by who owns the vacant slot.
    generation: AtomicU32,
    /// A counted reference, made of an [`Arc`]; null if nothing lives here.
    value: AtomicPtr<T>,
}

#[derive(Default)]
struct Vacancies {
    /// Indexes that were used and are free again.
    returned: Vec<u32>,
    /// Indexes below this one were handed out at least once.
    fresh: u32,
}

/// Objects of one kind by id. Every method may be called from any thread.
pub struct Table<T: Send + Sync + 'static> {
    kind: Kind,
    capacity: u32,
    vacancies: Mutex<Vacancies>,
    chunks: [OnceLock<Box<[Slot<T>]>>; CHUNKS],
}

/// An object that was looked up. It stays alive while this exists, also when it is removed meanwhile.
///
/// Meant to be short-lived; use [`Ref::arc`] to keep the object, also to take it to another thread.
pub struct Ref<T> {
    object: NonNull<T>,
    _hold: Hold<T>,
}

/// What keeps an object alive.
enum Hold<T> {
    Announced(#[expect(dead_code, reason = "ends when dropped")] hazard::Use),
    Counted(#[expect(dead_code, reason = "ends when dropped")] Arc<T>),
}

impl<T: Send + Sync + 'static> Table<T> {
    /// An empty table for at most `capacity` objects (at most 2²⁸). Allocates nothing.
    pub const fn new(kind: Kind, capacity: u32) -> Table<T> {
        let most = 1 << INDEX_BITS;
        Table {
            kind,
            capacity: if capacity < most { capacity } else { most },
            vacancies: Mutex::new(Vacancies { returned: Vec::new(), fresh: 0 }),
            chunks: [const { OnceLock::new() }; CHUNKS],
        }
    }

    /// Puts an object into the table. `None` when the table is full; the object is dropped then.
    pub fn insert(&self, value: Arc<T>) -> Option<u64> {
        self.insert_with(|_| value).map(|(id, _)| id)
    }

    /// Puts an object that knows its own id into the table. `None` when the table is full; `make` is not called then.
    ///
    /// The id resolves from when this returns, not within `make`.
    pub fn insert_with(&self, make: impl FnOnce(u64) -> Arc<T>) -> Option<(u64, Arc<T>)> {
        let index = self.claim()?;
        let slot = self.slot_or_grow(index);
        let id = pack(self.kind, slot.generation.load(Ordering::Relaxed), index);
        let value = make(id);
        slot.value.store(Arc::into_raw(value.clone()).cast_mut(), Ordering::Release);
        slot.id.store(id, Ordering::Release);
        Some((id, value))
    }

    /// The object with this id. `None` for 0 and for ids that are stale, forged or of another kind.
    #[inline]
    pub fn get(&self, id: u64) -> Option<Ref<T>> {
        let slot = self.slot(index(id))?;
        // An id of 0 is on its way in or out.
        if id == 0 || slot.id.load(Ordering::Acquire) != id {
            return None;
        }
        let object = NonNull::new(slot.value.load(Ordering::Acquire))?;
        let Some(announced) = hazard::announce(object.as_ptr().cast()) else {
            return slot.counted(id, object);
        };
        // An id is never alive twice: it was all the time, so the value in between was its own.
        (slot.id.load(Ordering::SeqCst) == id).then_some(Ref { object, _hold: Hold::Announced(announced) })
    }

    /// Takes the object with this id out. Of several callers with one id, exactly one gets it. Waits for nobody:
    /// who looked it up before keeps it alive until done.
    pub fn remove(&self, id: u64) -> Option<Arc<T>> {
        if id == 0 {
            return None;
        }
        let index = index(id);
        let slot = self.slot(index)?;
        slot.id.compare_exchange(id, 0, Ordering::SeqCst, Ordering::Relaxed).ok()?;
        // Before the value goes, so that `was_removed` never sees neither of the two.
        let next = slot.generation.load(Ordering::Relaxed) + 1;
        let reusable = u64::from(next) <= GENERATION_MASK;
        if reusable {
            slot.generation.store(next, Ordering::Release);
        }
        let value = slot.take()?;
        hazard::retire(&(value.clone() as Object));
        if reusable {
            self.vacancies.lock().returned.push(index);
        }
        Some(value)
    }

    /// Whether this id was handed out once and is not alive any more.
    pub fn was_removed(&self, id: u64) -> bool {
        let generation = (id >> INDEX_BITS & GENERATION_MASK) as u32;
        let Some(slot) = self.slot(index(id)) else { return false };
        if pack(self.kind, generation, index(id)) != id || slot.id.load(Ordering::Acquire) == id {
            return false;
        }
        // On its way out the id is gone already and the value is still there.
        let leaving = !slot.value.load(Ordering::Acquire).is_null();
        let now = slot.generation.load(Ordering::Acquire);
        generation < now || generation == now && (leaving || u64::from(generation) == GENERATION_MASK)
    }

    /// How many objects are in the table, or on their way in or out.
    pub fn len(&self) -> usize {
        let vacancies = self.vacancies.lock();
        vacancies.fresh as usize - vacancies.returned.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids that are alive now. Others may come and go while it is made.
    pub fn ids(&self) -> Vec<u64> {
        let fresh = self.vacancies.lock().fresh;
        let id_of = |index| self.slot(index).map(|slot| slot.id.load(Ordering::Acquire));
        (0..fresh).filter_map(id_of).filter(|id| *id != 0).collect()
    }

    fn claim(&self) -> Option<u32> {
        let mut vacancies = self.vacancies.lock();
        if let Some(index) = vacancies.returned.pop() {
            return Some(index);
        }
        let index = vacancies.fresh;
        if index >= self.capacity {
            return None;
        }
        vacancies.fresh += 1;
        Some(index)
    }

    #[inline]
    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let (chunk, offset) = place(index);
        self.chunks[chunk].get()?.get(offset)
    }

    fn slot_or_grow(&self, index: u32) -> &Slot<T> {
        let (chunk, offset) = place(index);
        let vacant = || Slot {
            id: AtomicU64::new(0),
            generation: AtomicU32::new(0),
            value: AtomicPtr::new(ptr::null_mut()),
        };
        let slots = || (0..1usize << (chunk as u32 + FIRST_CHUNK_BITS)).map(|_| vacant()).collect();
        &self.chunks[chunk].get_or_init(slots)[offset]
    }
}

/// The chunk of an index, and its place there.
#[inline]
fn place(index: u32) -> (usize, usize) {
    let shifted = index + (1 << FIRST_CHUNK_BITS);
    let bits = shifted.ilog2();
    ((bits - FIRST_CHUNK_BITS) as usize, (shifted - (1 << bits)) as usize)
}

impl<T: Send + Sync + 'static> Drop for Table<T> {
    fn drop(&mut self) {
        for slot in self.chunks.iter().filter_map(OnceLock::get).flatten() {
            slot.id.store(0, Ordering::SeqCst);
            if let Some(value) = slot.take() {
                hazard::retire(&(value as Object));
            }
        }
    }
}

impl<T> Slot<T> {
    /// What lives here, for the one who took its id back.
    fn take(&self) -> Option<Arc<T>> {
        let value = self.value.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: `insert_with` made it of an `Arc`, whose count is given to who takes it out, once.
        (!value.is_null()).then(|| unsafe { Arc::from_raw(value) })
    }

    /// A look-up by a thread that has no place to announce it.
    #[cold]
    fn counted(&self, id: u64, object: NonNull<T>) -> Option<Ref<T>> {
        let take = || (self.id.load(Ordering::SeqCst) == id).then(|| count(object));
        let counted = hazard::counted(object.as_ptr().cast(), take)?;
        Some(Ref { object, _hold: Hold::Counted(counted) })
    }
}

/// A counted reference to an object that something keeps alive.
fn count<T>(object: NonNull<T>) -> Arc<T> {
    // SAFETY: It was made of an `Arc`, and is announced by the caller, so that its count is not 0.
    unsafe { Arc::increment_strong_count(object.as_ptr()) };
    // SAFETY: This is the count that was just added.
    unsafe { Arc::from_raw(object.as_ptr()) }
}

impl<T> Ref<T> {
    /// A counted reference, to keep the object beyond this look-up.
    pub fn arc(&self) -> Arc<T> {
        count(self.object)
    }
}

impl<T> Deref for Ref<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: It was alive when the use was announced, and stays so until the use ends.
        unsafe { self.object.as_ref() }
    }
}

/// Every context of the process.
pub static CONTEXTS: Table<super::context::Context> = Table::new(Kind::Context, 1 << 16);
/// Every worker.
pub static WORKERS: Table<super::worker::Worker> = Table::new(Kind::Worker, 1 << 16);
/// Every listener.
pub static LISTENERS: Table<super::listener::Listener> = Table::new(Kind::Listener, 1 << 16);
/// Every session.
pub static SESSIONS: Table<super::session::Session> = Table::new(Kind::Session, 1 << 24);
/// Every buffer that has a handle.
pub static BUFFERS: Table<super::buffer::Buffer> = Table::new(Kind::Buffer, 1 << 26);
/// Every region.
pub static REGIONS: Table<super::region::Region> = Table::new(Kind::Region, 1 << 24);

#[cfg(test)]
mod tests;
