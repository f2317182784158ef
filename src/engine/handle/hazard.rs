//! Hazard pointers: what each thread uses at the moment without a counted reference.
//!
//! A look-up announces the object's address in its thread's record, then looks again whether the id is alive; a removal
//! takes the id back, then reads all records: one of the two sees the other. Who removes what is announced leaves a counted
//! reference with that record, and its owner drops it when done. The end of a use is a plain store and load: the remover
//! makes up for the barrier between them with `membarrier`, which it needs only when another thread is just using the object.

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, compiler_fence, fence};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

/// How many objects one thread uses at once this way; more than a call nests. With `owing` it fills a cache line.
pub(super) const USES: usize = 7;

/// What an object is to who does not know its type.
pub(super) type Object = Arc<dyn Any + Send + Sync>;

/// What one thread uses. Records are never freed; a thread that starts takes one that an ended thread left.
#[repr(align(64))]
struct Record {
    /// Addresses of objects; null are free. Only the owner announces.
    uses: [AtomicPtr<()>; USES],
    /// Whether something is owed.
    owing: AtomicBool,
    /// Whether `membarrier` does not run here, so that the end of a use needs a fence.
    fenced: bool,
    /// Objects that were removed while they were announced here: at most one for each use.
    owed: Mutex<Vec<Object>>,
}

struct Records {
    all: Vec<&'static Record>,
    vacant: Vec<&'static Record>,
}

static RECORDS: RwLock<Records> = RwLock::new(Records { all: Vec::new(), vacant: Vec::new() });

/// The record for threads that have none any more or no place left in theirs. The lock makes its holder the owner.
static SPARE: Mutex<Option<&'static Record>> = Mutex::new(None);

thread_local! {
    static MINE: Cell<Option<&'static Record>> = const { Cell::new(None) };
    static LEASE: Lease = Lease(Record::take());
}

/// Gives the record back when its thread ends.
struct Lease(&'static Record);

impl Drop for Lease {
    fn drop(&mut self) {
        MINE.set(None);
        // Uses that outlive their thread's record keep it from having two owners.
        if self.0.uses.iter().all(|place| place.load(Ordering::Relaxed).is_null()) {
            RECORDS.write().vacant.push(self.0);
        }
    }
}

/// An announced use; ends when dropped, in the thread that began it.
pub(super) struct Use {
    record: &'static Record,
    place: usize,
    of_one_thread: PhantomData<*const ()>,
}

impl Drop for Use {
    #[inline]
    fn drop(&mut self) {
        self.record.end(self.place);
        self.record.pay();
    }
}

/// Announces a use of the object at this address. Only afterwards may the caller look whether it is alive, `SeqCst`; if it
/// is, it stays so until the use ends. `None`: see [`counted`].
#[inline]
pub(super) fn announce(address: *mut ()) -> Option<Use> {
    let record = match MINE.get() {
        Some(record) => record,
        None => mine()?,
    };
    let place = record.begin(address)?;
    Some(Use { record, place, of_one_thread: PhantomData })
}

/// As [`announce`], for the time that `take` runs: it takes a counted reference if the object is alive.
#[cold]
pub(super) fn counted<T>(address: *mut (), take: impl FnOnce() -> Option<Arc<T>>) -> Option<Arc<T>> {
    let mut spare = SPARE.lock();
    let record = *spare.get_or_insert_with(Record::take);
    let place = record.begin(address)?;
    let taken = take();
    record.end(place);
    drop(spare);
    record.pay();
    taken
}

/// Sees to it that an object stays alive for those who use it. Its id was taken back before, `SeqCst`.
pub(super) fn retire(object: &Object) {
    let address = Arc::as_ptr(object).cast::<()>();
    // A list of its own: what follows may drop objects, which must not happen with the lock held.
    let users: Vec<_> =
        RECORDS.read().all.iter().copied().filter(|record| record.announces(address)).collect();
    for record in users {
        record.owe(object.clone());
        if MINE.get().is_none_or(|mine| !ptr::eq(mine, record)) {
            // Either the owner sees that something is owed when its use ends, or the end is seen here.
            record.meet();
            record.pay();
        }
    }
}

#[cold]
fn mine() -> Option<&'static Record> {
    let record = LEASE.try_with(|lease| lease.0).ok()?;
    MINE.set(Some(record));
    Some(record)
}

impl Record {
    fn take() -> &'static Record {
        let mut records = RECORDS.write();
        if let Some(record) = records.vacant.pop() {
            return record;
        }
        let record: &'static Record = Box::leak(Box::new(Record {
            uses: [const { AtomicPtr::new(ptr::null_mut()) }; USES],
            owing: AtomicBool::new(false),
            fenced: !has_membarrier(),
            owed: Mutex::new(Vec::new()),
        }));
        records.all.push(record);
        record
    }

    #[inline]
    fn begin(&self, address: *mut ()) -> Option<usize> {
        let place = self.uses.iter().position(|place| place.load(Ordering::Relaxed).is_null())?;
        self.uses[place].swap(address, Ordering::SeqCst);
        Some(place)
    }

    #[inline]
    fn end(&self, place: usize) {
        self.uses[place].store(ptr::null_mut(), Ordering::Release);
    }

    /// Drops what is owed and not in use any more. Comes after `end`.
    #[inline]
    fn pay(&self) {
        if self.fenced {
            fence(Ordering::SeqCst);
        } else {
            compiler_fence(Ordering::SeqCst);
        }
        if self.owing.load(Ordering::Relaxed) {
            self.settle();
        }
    }

    #[cold]
    fn settle(&self) {
        let mut owed = self.owed.lock();
        let over: Vec<Object> =
            owed.extract_if(.., |object| !self.announces(Arc::as_ptr(object).cast())).collect();
        self.owing.store(!owed.is_empty(), Ordering::Relaxed);
        // Dropping an object may look up and remove others.
        drop(owed);
        drop(over);
    }

    fn owe(&self, object: Object) {
        let mut owed = self.owed.lock();
        owed.push(object);
        self.owing.store(true, Ordering::Relaxed);
    }

    fn announces(&self, address: *const ()) -> bool {
        self.uses.iter().any(|place| place.load(Ordering::SeqCst).cast_const() == address)
    }

    /// The barrier of every thread that runs, for those that went without.
    fn meet(&self) {
        if self.fenced || membarrier(MembarrierCommand::PrivateExpedited).is_err() {
            fence(Ordering::SeqCst);
        }
    }
}

/// Whether the kernel lends its barrier. Sandboxes and Miri may not.
fn has_membarrier() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        !cfg!(miri)
            && membarrier_query().contains(MembarrierQuery::PRIVATE_EXPEDITED)
            && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
    })
}
