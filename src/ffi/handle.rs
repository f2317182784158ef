//! Handles: one distinct structure for each kind of object, and their way to the object.

use super::kv_types::rde_kv;
use crate::engine::buffer::Buffer;
use crate::engine::context::Context;
use crate::engine::handle::{BUFFERS, CONTEXTS, Kind, LISTENERS, REGIONS, Ref, SESSIONS, Table, WORKERS};
use crate::engine::listener::Listener;
use crate::engine::region::Region;
use crate::engine::session::Session;
use crate::engine::worker::Worker;
use crate::kv::port::Port;
use crate::needles::Exporter;
use crate::status::{Error, Result, Status};
use crate::volume::Volume;

/// The library with its devices, its registered memory and its limits. Opened first, closed last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_context {
    /// 0 is none.
    pub id: u64,
}

/// Makes progress and holds a queue of completions.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_worker {
    /// 0 is none.
    pub id: u64,
}

/// Accepts sessions at an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_listener {
    /// 0 is none.
    pub id: u64,
}

/// A connection to a peer. Sessions to one peer share what lies below.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_session {
    /// 0 is none.
    pub id: u64,
}

/// Local registered memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_buffer {
    /// 0 is none.
    pub id: u64,
}

/// Memory of a peer that its key lets us touch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_region {
    /// 0 is none.
    pub id: u64,
}

/// A SeaweedFS volume on this machine's disk.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_volume {
    /// 0 is none.
    pub id: u64,
}

/// Every key-value store that is open.
pub(super) static STORES: Table<Port> = Table::new(Kind::Kv, 1 << 16);
/// A peer's call that waits for its answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_incoming_call {
    /// 0 is none.
    pub id: u64,
}

/// Serves the needles of a folder of SeaweedFS volumes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct rde_exporter {
    /// 0 is none.
    pub id: u64,
}

/// An exporter in its table.
pub(super) struct Serving(pub Exporter);

/// Every open exporter.
pub(super) static EXPORTERS: Table<Serving> = Table::new(Kind::Exporter, 1 << 16);

/// Every open volume. The engine knows nothing of them.
pub(super) static VOLUMES: Table<Volume> = Table::new(Kind::Volume, 1 << 16);

fn stale(kind: &'static str) -> Error {
    Error::new(Status::StaleHandle, format!("this {kind} is closed, was never opened, or is something else"))
}

/// The object behind a handle, held for the call: no reference count is touched.
macro_rules! resolve {
    ($name:ident, $handle:ident, $object:ident, $table:ident, $kind:literal) => {
        #[doc = concat!("The ", $kind, " behind a handle, or `STALE_HANDLE`.")]
        pub(super) fn $name(handle: $handle) -> Result<Ref<$object>> {
            $table.get(handle.id).ok_or_else(|| stale($kind))
        }
    };
}

resolve!(context, rde_context, Context, CONTEXTS, "context");
resolve!(worker, rde_worker, Worker, WORKERS, "worker");
resolve!(listener, rde_listener, Listener, LISTENERS, "listener");
resolve!(session, rde_session, Session, SESSIONS, "session");
resolve!(buffer, rde_buffer, Buffer, BUFFERS, "buffer");
resolve!(kv, rde_kv, Port, STORES, "store");
resolve!(region, rde_region, Region, REGIONS, "region");
resolve!(volume, rde_volume, Volume, VOLUMES, "volume");
resolve!(exporter, rde_exporter, Serving, EXPORTERS, "exporter");
