//! A context: UCX, registered memory, exports, the control thread, and the limits that its workers share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::buffer::{Buffer, Span};
use super::control::{Control, ControlConfig, Fabric, KeyAsk, KeyGrant, KeyService, Link};
use super::export::{Exports, Key};
use super::fabric::FabricKey;
use super::handle;
use super::info::ContextInfo;
use super::options::{ContextOptions, transport, way};
use super::slab::Pool;
use super::worker::Worker;
use crate::limits;
use crate::status::{Error, Result, Status};
use crate::telemetry::{Meter, Stats};
use crate::ucx;

/// Everything that workers of one program share. Any thread may use it.
pub struct Context {
    id: OnceLock<u64>,
    options: ContextOptions,
    uuid: [u8; 16],
    pool: Arc<Pool>,
    exports: Arc<Exports>,
    control: OnceLock<Arc<Control>>,
    fabrics: Mutex<HashMap<FabricKey, Arc<ucx::Context>>>,
    mapped: Mutex<HashMap<(u64, FabricKey), Arc<ucx::Memory<Span>>>>,
    link_fabrics: Mutex<HashMap<u32, FabricKey>>,
    workers: Mutex<Vec<Arc<Worker>>>,
    numbers: Mutex<Vec<bool>>,
    sessions: AtomicU32,
    meter: Meter,
    opened: Instant,
    ticks: AtomicU32,
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
        let pool = Pool::new(options.memory_limit);
        let context = Arc::new(Context {
            id: OnceLock::new(),
            exports: Exports::new(&pool, uuid, options.max_exports),
            options: options.clone(),
            uuid,
            pool,
            control: OnceLock::new(),
            fabrics: Mutex::new(HashMap::new()),
            mapped: Mutex::new(HashMap::new()),
            link_fabrics: Mutex::new(HashMap::new()),
            workers: Mutex::new(Vec::new()),
            numbers: Mutex::new(Vec::new()),
            sessions: AtomicU32::new(0),
            meter: Meter::default(),
            opened: Instant::now(),
            ticks: AtomicU32::new(0),
        });
        let mut config = ControlConfig::new(uuid);
        config.name = options.name.clone();
        config.settings = ucx::settings()?;
        config.ucx_version = library.version();
        config.fabrics = fabrics(options.transports);
        config.keepalive = options.keepalive;
        config.connect_timeout = options.connect_timeout;
        let keys = Arc::new(Keys(Arc::downgrade(&context)));
        let _ = context.control.set(Control::start(config, keys)?);
        let id = handle::CONTEXTS.insert(context.clone());
        let id = id.ok_or_else(|| Error::new(Status::LimitReached, "no handle is left for another context"))?;
        let _ = context.id.set(id);
        Ok(context)
    }

    /// Ends the context. Its workers must be closed; buffers and regions that are left go when their last user does.
    /// Blocks until the control thread has ended.
    pub fn close(&self) -> Result<()> {
        if !self.workers.lock().is_empty() {
            return Err(Error::new(Status::WrongState, "close the context's workers first"));
        }
        if handle::CONTEXTS.remove(self.id()).is_none() {
            return Err(Status::StaleHandle.into());
        }
        self.control().stop();
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
        let memory = self.pool.stats();
        let (mut transports, mut devices) = (Vec::new(), Vec::new());
        for context in self.fabrics.lock().values() {
            transports.extend(context.transports()?);
            devices.extend(context.devices()?);
        }
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
            memory_used: memory.used,
            memory_retired: memory.retired,
            memory_huge: memory.huge,
            max_sessions: self.options.max_sessions,
            sessions: self.sessions.load(Ordering::Relaxed),
        })
    }

    /// The counters of the context: its own and its workers'.
    pub fn stats(&self) -> Stats {
        let mut stats = self.meter.snapshot();
        for worker in self.workers.lock().iter() {
            stats.merge(&worker.stats());
        }
        stats
    }

    /// The counters as Prometheus text.
    pub fn metrics(&self) -> String {
        crate::telemetry::prometheus(&self.options.name, &self.stats())
    }

    /// Registered memory of at least `length` bytes; `flags`: `buffer::EXPORTABLE`.
    pub fn alloc(&self, length: u64, flags: u32) -> Result<Arc<Buffer>> {
        self.pool.alloc(length, flags)
    }

    /// Takes a buffer's handle and keys back; its memory goes when the last operation on it has ended.
    pub fn release_buffer(&self, buffer: &Arc<Buffer>) {
        self.tell_revoked(self.exports.revoke_buffer(buffer));
        handle::BUFFERS.remove(buffer.id());
    }

    /// Makes a key for a piece of a buffer.
    pub fn export(&self, buffer: &Arc<Buffer>, offset: u64, length: u64, rights: u32) -> Result<[u8; limits::KEY_BYTES]> {
        Ok(self.exports.export(buffer, offset, length, rights)?.encode())
    }

    /// Takes a key back: nobody gets anything by it once this has returned.
    pub fn revoke(&self, key: &[u8]) -> Result<()> {
        let key = Key::decode(key)?;
        self.tell_revoked(self.exports.revoke(&key)?);
        Ok(())
    }

    fn tell_revoked(&self, revoked: Vec<super::export::Revoked>) {
        for one in revoked {
            self.mapped.lock().retain(|(export, _), _| *export != one.export);
            for link in one.links {
                self.control().revoked_on(link, one.export);
            }
        }
    }

    pub(super) fn control(&self) -> &Arc<Control> {
        // Set before anybody can have the context.
        self.control.get_or_init(|| unreachable_control())
    }
}
