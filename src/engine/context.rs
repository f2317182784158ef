//! A context: UCX, registered memory, exports, the control thread, and the limits that its workers share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::buffer::{Buffer, Span, UserMemory};
use super::call::{OnceSlots, OnceTable};
use super::control::{Control, ControlConfig, Fabric, Link, STREAM};
use super::export::Exports;
use super::fabric::{FabricKey, Fabrics, wants_streams};
use super::handle;
use super::info::ContextInfo;
use super::key::{Key, Rights};
use super::keys::Keys;
use super::options::{ContextOptions, transport, way};
use super::pool::{Pool, UNINITIALISED};
use super::session::Session;
use super::worker::Worker;
use crate::limits;
use crate::status::{Error, Result, Status};
use crate::telemetry::{Count, Meter, Stats};
use crate::ucx;

/// Everything that workers of one program share. Any thread may use it.
pub struct Context {
    id: OnceLock<u64>,
    options: ContextOptions,
    pool: Pool,
    exports: Arc<Exports>,
    fabrics: Arc<Fabrics>,
    keys: Arc<Keys>,
    once: OnceTable,
    once_slots: OnceSlots,
    control: Arc<Control>,
    workers: Mutex<Vec<Arc<Worker>>>,
    numbers: Mutex<Vec<bool>>,
    /// Slots in use, with those that are set aside.
    sessions: AtomicU32,
    /// Slots that peers were granted and have not used.
    granted: AtomicU32,
    meter: Meter,
    retired: Mutex<Stats>,
    opened: Instant,
}

impl Context {
    /// Opens a context: loads UCX, starts the control thread. The first one of a process sets UCX's environment, so
    /// open it before other threads read the environment.
    ///
    /// Errors: `UNSUPPORTED` without UCX, naming the package; `INVALID_ARGUMENT` for options out of their range.
    pub fn open(options: &ContextOptions) -> Result<Arc<Context>> {
        check(options)?;
        let library = ucx::library()?;
        let mut uuid = [0; 16];
        getrandom::fill(&mut uuid).map_err(|_| Error::new(Status::Io, "the kernel gave no random bytes"))?;
        let mut config = ControlConfig::new(uuid);
        config.name = options.name.clone();
        config.settings = ucx::settings()?;
        config.ucx_version = library.version();
        config.fabrics = fabric_bits(options.transports);
        if wants_streams(options) {
            config.fabrics |= STREAM;
        }
        config.secret = options.secret.clone();
        config.keepalive = options.keepalive;
        config.connect_timeout = options.connect_timeout;
        let exports = Arc::new(Exports::new(uuid, options.max_exports));
        let fabrics = Arc::new(Fabrics::default());
        let keys = Arc::new(Keys::new(exports.clone(), fabrics.clone(), options.ways));
        let context = Arc::new(Context {
            id: OnceLock::new(),
            options: options.clone(),
            pool: Pool::new(options.memory_limit),
            exports,
            fabrics,
            control: Control::start(config, keys.clone())?,
            keys,
            once: OnceTable::default(),
            once_slots: OnceSlots::default(),
            workers: Mutex::default(),
            numbers: Mutex::default(),
            sessions: AtomicU32::new(0),
            granted: AtomicU32::new(0),
            meter: Meter::default(),
            retired: Mutex::default(),
            opened: Instant::now(),
        });
        let id = handle::CONTEXTS.insert(context.clone());
        let id =
            id.ok_or_else(|| Error::new(Status::LimitReached, "no handle is left for another context"))?;
        let _ = context.id.set(id);
        Ok(context)
    }

    /// Ends the context. Its workers must be closed; buffers that are left are released.
    /// Blocks until the control thread has ended.
    pub fn close(&self) -> Result<()> {
        if !self.workers.lock().is_empty() {
            return Err(Error::new(Status::WrongState, "close the context's workers first"));
        }
        if handle::CONTEXTS.remove(self.id()).is_none() {
            return Err(Status::StaleHandle.into());
        }
        for buffer in handle::BUFFERS.ids().into_iter().filter_map(|id| handle::BUFFERS.get(id)) {
            if buffer.context() == self.id() {
                // Somebody else may have released it meanwhile.
                let _ = self.release_buffer(&buffer.arc());
            }
        }
        for region in handle::REGIONS.ids() {
            if handle::REGIONS.get(region).is_some_and(|region| region.context() == self.id()) {
                drop(handle::REGIONS.remove(region));
            }
        }
        self.control.stop();
        Ok(())
    }

    /// Its handle.
    pub fn id(&self) -> u64 {
        self.id.get().copied().unwrap_or(0)
    }

    /// What it was told.
    pub fn options(&self) -> &ContextOptions {
        &self.options
    }

    /// What it found and is bound by.
    pub fn info(&self) -> Result<ContextInfo> {
        let library = ucx::library()?;
        let memory = self.pool.statistics();
        let (mut transports, mut devices): (Vec<_>, Vec<_>) =
            self.fabrics.resources(&self.options)?.into_iter().unzip();
        for names in [&mut transports, &mut devices] {
            names.sort();
            names.dedup();
        }
        Ok(ContextInfo {
            ucx_version: library.version(),
            ucx_path: library.path().display().to_string(),
            transports: transports.join(","),
            devices: devices.join(","),
            memory_limit: memory.limit,
            memory_used: memory.in_use,
            memory_retired: memory.retired,
            memory_huge: memory.huge + memory.advised,
            max_sessions: self.options.max_sessions,
            sessions: self
                .sessions
                .load(Ordering::Acquire)
                .saturating_sub(self.granted.load(Ordering::Acquire)),
        })
    }

    /// The counters of the context: its own, its workers' and those of workers that were closed.
    pub fn stats(&self) -> Stats {
        let mut stats = self.meter.snapshot();
        stats.merge(&self.retired.lock());
        stats.counters.proofs_failed += self.control.counters().proofs_failed.value();
        for worker in self.workers.lock().iter() {
            stats.merge(&worker.stats());
        }
        stats
    }

    /// The counters as Prometheus text: of the context and of each worker.
    pub fn metrics(&self) -> String {
        {
            let stats = self.stats();
            let labels = [("context", self.options.name.as_str())];
            crate::telemetry::prometheus::render(&[crate::telemetry::prometheus::Source {
                labels: &labels,
                stats: &stats,
            }])
        }
    }

    /// Counts a panic in a handler of calls.
    pub fn note_handler_panic(&self) {
        self.meter.add(Count::HandlerPanics, 1);
    }

    /// Numbers of slots for calls that happen once: each of its context is of one peer for ever.
    pub fn once_slots(&self) -> &OnceSlots {
        &self.once_slots
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Registered memory of at least `length` bytes; `flags`: `pool::EXPORTABLE`, `pool::UNINITIALISED`. It has a
    /// handle and lives until [`Context::release_buffer`] and the end of the last operation on it.
    pub fn alloc(&self, length: u64, flags: u32) -> Result<Arc<Buffer>> {
        self.name(self.pool.alloc(length, flags)?)
    }

    /// A buffer over memory of the user's, which must stay until the buffer is released and every operation on it has
    /// completed. It is never exported to be mapped.
    pub fn register(&self, memory: UserMemory) -> Result<Arc<Buffer>> {
        self.name(self.pool.register(memory)?)
    }

    fn name(&self, buffer: Arc<Buffer>) -> Result<Arc<Buffer>> {
        match handle::BUFFERS.insert(buffer.clone()) {
            Some(id) => {
                buffer.set_id(id, self.id());
                Ok(buffer)
            }
            None => {
                self.pool.release(&buffer)?;
                Err(Error::new(Status::LimitReached, "no handle is left for another buffer"))
            }
        }
    }

    /// Takes a buffer's handle and its keys back; its memory goes when the last operation on it has ended.
    /// `STALE_HANDLE` the second time.
    pub fn release_buffer(&self, buffer: &Arc<Buffer>) -> Result<()> {
        handle::BUFFERS.remove(buffer.id()).ok_or(Status::StaleHandle)?;
        self.pool.release(buffer)?;
        for (export, links) in self.exports.revoke_buffer(buffer) {
            self.tell_revoked(export, &links);
        }
        Ok(())
    }

    /// Makes a key for `length` bytes of a buffer from `offset` on. It works until it is revoked.
    pub fn export(
        &self,
        buffer: &Arc<Buffer>,
        offset: u64,
        length: u64,
        rights: u32,
    ) -> Result<[u8; limits::KEY_BYTES]> {
        let key = self.exports.export(buffer, offset, length, Rights::from_bits(rights)?)?;
        self.meter.add(Count::Exports, 1);
        Ok(key.encode())
    }

    /// Takes a key back: nobody gets anything by it once this has returned. `PERMISSION_DENIED` for a key of another
    /// context, `REVOKED` the second time.
    pub fn revoke(&self, key: &[u8]) -> Result<()> {
        let key = Key::decode(key)?;
        key.check_context(&self.control.config().uuid)?;
        self.exports.open(key.export, &key.secret)?;
        let links = self.exports.revoke(key.export)?;
        self.meter.add(Count::Revokes, 1);
        self.tell_revoked(key.export, &links);
        Ok(())
    }

    fn tell_revoked(&self, export: u64, mapped: &[u32]) {
        let remote = self.keys.forget(export);
        for link in mapped.iter().chain(&remote) {
            if let Some(link) = self.keys.link(*link) {
                self.control.revoked(&link, export);
            }
        }
    }

    /// Bytes that UCX sends without a buffer of the user's.
    pub(super) fn span_of(&self, bytes: &[u8]) -> std::result::Result<Span, Status> {
        let buffer = self.pool.alloc(bytes.len() as u64, UNINITIALISED).map_err(|error| error.status)?;
        let span = buffer.whole()?;
        span.copy_from_slice(0, bytes)?;
        Ok(span)
    }

    pub(super) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Calls of peers that happen once.
    pub(super) fn once(&self) -> &OnceTable {
        &self.once
    }

    pub(super) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// The UCX context of a fabric.
    pub(super) fn fabric(&self, key: &FabricKey) -> Result<Arc<ucx::Context>> {
        self.fabrics.get(key)
    }

    pub(super) fn link_fabric(&self, link: &Arc<Link>, key: FabricKey) {
        self.keys.attached(link, key);
    }

    /// Ways that a key may go over a link, as this side wants them.
    pub(super) fn ways(&self, link: &Link) -> u8 {
        let mut ways = self.options.ways;
        if !link.local() {
            ways &= !way::MAPPED;
        }
        ways as u8
    }

    /// Milliseconds since the context was opened.
    pub(super) fn ticks(&self) -> u32 {
        self.opened.elapsed().as_millis() as u32
    }

    /// Notes that a session was used, if idle ones expire.
    pub(super) fn touch(&self, session: &Session) {
        if !self.options.idle_timeout.is_zero() {
            session.touch(self.ticks());
        }
    }

    /// Takes one session's slot.
    pub(super) fn take_session(&self) -> Result<()> {
        if self.sessions.fetch_add(1, Ordering::AcqRel) >= self.options.max_sessions {
            self.sessions.fetch_sub(1, Ordering::AcqRel);
            let text =
                format!("{} sessions are open, as many as max_sessions allows", self.options.max_sessions);
            return Err(Error::new(Status::LimitReached, text));
        }
        Ok(())
    }

    /// Sets slots aside for a peer: at most `most` and a quarter of what is left, so that others find some too.
    pub(super) fn reserve_sessions(&self, most: u32) -> u32 {
        let mut granted = 0;
        let taken = self.sessions.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            let left = self.options.max_sessions.saturating_sub(used);
            granted = most.min(left.div_ceil(4));
            (granted > 0).then_some(used + granted)
        });
        if taken.is_err() {
            return 0;
        }
        self.granted_back(granted);
        granted
    }

    /// Granted slots have become sessions.
    pub(super) fn granted_used(&self, count: u32) {
        self.granted.fetch_sub(count, Ordering::AcqRel);
    }

    /// Slots of sessions that ended are the peer's again.
    pub(super) fn granted_back(&self, count: u32) {
        self.granted.fetch_add(count, Ordering::AcqRel);
    }

    /// Slots that a peer never used are free.
    pub(super) fn unreserve_granted(&self, count: u32) {
        self.granted_used(count);
        self.unreserve_sessions(count);
    }

    pub(super) fn unreserve_sessions(&self, count: u32) {
        self.sessions.fetch_sub(count, Ordering::AcqRel);
    }

    /// A number for a new worker.
    pub(super) fn number_worker(&self) -> Result<u32> {
        let mut numbers = self.numbers.lock();
        let free = numbers.iter().position(|taken| !taken).unwrap_or(numbers.len());
        if free >= limits::WORKERS as usize {
            return Err(Error::new(Status::LimitReached, "a context has at most 1,024 workers"));
        }
        if free == numbers.len() {
            numbers.push(true);
        }
        numbers[free] = true;
        Ok(free as u32)
    }

    pub(super) fn adopt(&self, worker: &Arc<Worker>) {
        self.workers.lock().push(worker.clone());
    }

    pub(super) fn forget(&self, worker: &Worker, number: u32) {
        self.workers.lock().retain(|one| !std::ptr::eq(Arc::as_ptr(one), worker));
        self.retired.lock().merge(&worker.stats());
        if let Some(taken) = self.numbers.lock().get_mut(number as usize) {
            *taken = false;
        }
    }
}

fn fabric_bits(transports: u32) -> u32 {
    let shared = if transports & transport::SHARED != 0 { Fabric::Shared.bit() } else { 0 };
    let network =
        if transports & (transport::TCP | transport::RDMA) != 0 { Fabric::Network.bit() } else { 0 };
    shared | network
}

fn check(options: &ContextOptions) -> Result<()> {
    let wrong = |text: &'static str| Err(Error::new(Status::InvalidArgument, text));
    if options.name.len() > 64 {
        return wrong("a context's name has at most 64 bytes");
    }
    if options.transports == 0 || options.transports & !transport::ALL != 0 {
        return wrong("transports: name at least one, and none that is unknown");
    }
    if options.ways == 0 || options.ways & !way::ALL != 0 {
        return wrong("ways: name at least one, and none that is unknown");
    }
    if options.devices.len() > 255 || options.devices.contains('\0') {
        return wrong("devices: at most 255 bytes, no NUL");
    }
    if options.max_sessions == 0 || options.max_sessions > 1 << 20 {
        return wrong("max_sessions lies between 1 and 1,048,576");
    }
    if options.max_exports == 0 || options.max_exports > 1 << 24 {
        return wrong("max_exports lies between 1 and 16,777,216");
    }
    if options.max_calls == 0 || options.max_calls > limits::CALLS || options.max_call_bytes == 0 {
        return wrong("max_calls lies between 1 and 262,144, max_call_bytes is not 0");
    }
    let bounds = Duration::from_millis(10)..=Duration::from_secs(3600);
    if !bounds.contains(&options.keepalive) || !bounds.contains(&options.connect_timeout) {
        return wrong("keepalive and connect_timeout lie between 10 ms and an hour");
    }
    Ok(())
}
