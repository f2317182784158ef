//! Every exported function, as a call of which only the handle is open.

use std::ptr::{null, null_mut};

use rde_status::InvalidArgument;
use rdma_engine::ffi::call::*;
use rdma_engine::ffi::context::*;
use rdma_engine::ffi::exporter::*;
use rdma_engine::ffi::kv::*;
use rdma_engine::ffi::kv_types::*;
use rdma_engine::ffi::memory::*;
use rdma_engine::ffi::operation::*;
use rdma_engine::ffi::session::*;
use rdma_engine::ffi::telemetry::*;
use rdma_engine::ffi::types::*;
use rdma_engine::ffi::volume::*;
use rdma_engine::ffi::volume_types::*;
use rdma_engine::ffi::worker::*;

pub const CONTEXT: usize = 0;
pub const WORKER: usize = 1;
pub const LISTENER: usize = 2;
pub const SESSION: usize = 3;
pub const BUFFER: usize = 4;
pub const REGION: usize = 5;
pub const VOLUME: usize = 6;
pub const EXPORTER: usize = 8;
pub const INCOMING: usize = 7;
pub const KV: usize = 9;

/// Functions whose first parameter is a handle: name, kind of handle, and a call with everything else in order.
pub type Call = (&'static str, usize, fn(u64) -> rde_status);

pub fn bytes(text: &str) -> rde_bytes {
    rde_bytes { data: text.as_ptr().cast(), len: text.len() }
}

/// A structure with nothing but its size.
pub fn sized<T: Copy>(zero: T) -> T {
    let mut value = zero;
    unsafe { (&raw mut value).cast::<u32>().write(size_of::<T>() as u32) };
    value
}

pub fn zeroed<T: Copy>() -> T {
    unsafe { std::mem::zeroed() }
}

pub fn address() -> rde_bytes {
    bytes("tcp://127.0.0.1:0")
}

pub const CALLS: &[Call] = &[
    ("rde_context_info", CONTEXT, |id| {
        let mut info = sized(zeroed::<rde_context_details>());
        unsafe { rde_context_info(rde_context { id }, &mut info, null_mut()) }
    }),
    ("rde_context_stats", CONTEXT, |id| {
        let mut stats = sized(zeroed::<rde_stats>());
        unsafe { rde_context_stats(rde_context { id }, &mut stats) }
    }),
    ("rde_context_metrics", CONTEXT, |id| {
        let mut len = 0;
        unsafe { rde_context_metrics(rde_context { id }, null_mut(), 0, &mut len) }
    }),
    ("rde_worker_open", CONTEXT, |id| {
        let mut worker = rde_worker::default();
        unsafe { rde_worker_open(rde_context { id }, null(), &mut worker, null_mut()) }
    }),
    ("rde_buffer_alloc", CONTEXT, |id| {
        let mut buffer = rde_buffer::default();
        unsafe { rde_buffer_alloc(rde_context { id }, 64, 0, &mut buffer, null_mut(), null_mut()) }
    }),
    ("rde_buffer_register", CONTEXT, |id| {
        let (mut buffer, mut memory) = (rde_buffer::default(), [0u64; 8]);
        let data = memory.as_mut_ptr().cast();
        unsafe { rde_buffer_register(rde_context { id }, data, 64, 0, &mut buffer, null_mut()) }
    }),
    ("rde_key_revoke", CONTEXT, |id| unsafe {
        rde_key_revoke(rde_context { id }, &rde_key { bytes: [0; 64] }, null_mut())
    }),
    ("rde_worker_submit", WORKER, |id| {
        let mut accepted = 0;
        unsafe { rde_worker_submit(rde_worker { id }, &zeroed(), 1, &mut accepted) }
    }),
    ("rde_worker_poll", WORKER, |id| {
        let (mut completion, mut count) = (zeroed::<rde_completion>(), 0);
        unsafe { rde_worker_poll(rde_worker { id }, 0, &mut completion, 1, &mut count) }
    }),
    ("rde_worker_event_fd", WORKER, |id| {
        let mut fd = -1;
        unsafe { rde_worker_event_fd(rde_worker { id }, &mut fd, null_mut()) }
    }),
    ("rde_worker_arm", WORKER, |id| unsafe { rde_worker_arm(rde_worker { id }) }),
    ("rde_worker_wake", WORKER, |id| unsafe { rde_worker_wake(rde_worker { id }) }),
    ("rde_worker_cancel", WORKER, |id| unsafe { rde_worker_cancel(rde_worker { id }, 1) }),
    ("rde_worker_stats", WORKER, |id| {
        let mut stats = sized(zeroed::<rde_stats>());
        unsafe { rde_worker_stats(rde_worker { id }, &mut stats) }
    }),
    ("rde_listener_open", WORKER, |id| {
        let mut listener = rde_listener::default();
        unsafe { rde_listener_open(rde_worker { id }, address(), 0, &mut listener, null_mut()) }
    }),
    ("rde_session_connect", WORKER, |id| {
        let mut session = rde_session::default();
        unsafe { rde_session_connect(rde_worker { id }, address(), 0, &mut session, null_mut()) }
    }),
    ("rde_listener_address", LISTENER, |id| {
        let mut len = 0;
        unsafe { rde_listener_address(rde_listener { id }, null_mut(), 0, &mut len) }
    }),
    ("rde_session_info", SESSION, |id| {
        let mut info = sized(zeroed::<rde_session_details>());
        unsafe { rde_session_info(rde_session { id }, &mut info, null_mut()) }
    }),
    ("rde_session_stats", SESSION, |id| {
        let mut stats = sized(zeroed::<rde_stats>());
        unsafe { rde_session_stats(rde_session { id }, &mut stats) }
    }),
    ("rde_get", SESSION, |id| unsafe {
        rde_get(rde_session { id }, rde_buffer { id: 1 }, 0, rde_region { id: 1 }, 0, 8, 0)
    }),
    ("rde_put", SESSION, |id| unsafe {
        rde_put(rde_session { id }, rde_buffer { id: 1 }, 0, rde_region { id: 1 }, 0, 8, 0)
    }),
    ("rde_flush", SESSION, |id| unsafe { rde_flush(rde_session { id }, 0) }),
    ("rde_fetch_add", SESSION, |id| unsafe {
        rde_fetch_add(rde_session { id }, rde_region { id: 1 }, 0, 1, 0)
    }),
    ("rde_compare_swap", SESSION, |id| unsafe {
        rde_compare_swap(rde_session { id }, rde_region { id: 1 }, 0, 1, 2, 0)
    }),
    ("rde_send", SESSION, |id| unsafe {
        rde_send(rde_session { id }, bytes("hello"), rde_buffer { id: 0 }, 0, 0, 0)
    }),
    ("rde_region_import", SESSION, |id| unsafe {
        rde_region_import(rde_session { id }, &rde_key { bytes: [0; 64] }, 0)
    }),
    ("rde_call", SESSION, |id| unsafe { rde_call(rde_session { id }, &sized(zeroed())) }),
    ("rde_call_info", INCOMING, |id| {
        let mut details = sized(zeroed::<rde_call_details>());
        unsafe { rde_call_info(rde_incoming_call { id }, &mut details, null_mut()) }
    }),
    ("rde_call_reply", INCOMING, |id| unsafe {
        rde_call_reply(rde_incoming_call { id }, 0, null(), null(), 0)
    }),
    ("rde_call_refuse", INCOMING, |id| unsafe {
        rde_call_refuse(rde_incoming_call { id }, InvalidArgument as i32, 0)
    }),
    ("rde_buffer_data", BUFFER, |id| {
        let mut data = null_mut();
        unsafe { rde_buffer_data(rde_buffer { id }, &mut data, null_mut()) }
    }),
    ("rde_buffer_export", BUFFER, |id| {
        let mut key = rde_key { bytes: [0; 64] };
        unsafe { rde_buffer_export(rde_buffer { id }, 0, 8, RDE_RIGHT_READ, &mut key, null_mut()) }
    }),
    ("rde_region_info", REGION, |id| {
        let mut info = sized(zeroed::<rde_region_details>());
        unsafe { rde_region_info(rde_region { id }, &mut info) }
    }),
    ("rde_exporter_open", CONTEXT, |id| {
        let mut exporter = rde_exporter::default();
        unsafe {
            rde_exporter_open(rde_context { id }, address(), bytes("/"), null(), &mut exporter, null_mut())
        }
    }),
    ("rde_exporter_address", EXPORTER, |id| {
        let mut len = 0;
        unsafe { rde_exporter_address(rde_exporter { id }, null_mut(), 0, &mut len) }
    }),
    ("rde_exporter_add", EXPORTER, |id| unsafe {
        rde_exporter_add(rde_exporter { id }, bytes("/"), bytes(""), null_mut())
    }),
    ("rde_volume_info", VOLUME, |id| {
        let mut info = sized(zeroed::<rde_volume_details>());
        unsafe { rde_volume_info(rde_volume { id }, &mut info, null_mut()) }
    }),
    ("rde_volume_refresh", VOLUME, |id| unsafe { rde_volume_refresh(rde_volume { id }, null_mut()) }),
    ("rde_volume_stat", VOLUME, |id| {
        let mut needle = sized(zeroed::<rde_needle>());
        unsafe { rde_volume_stat(rde_volume { id }, bytes("3,01637037d6"), 0, &mut needle, null_mut()) }
    }),
    ("rde_volume_read", VOLUME, |id| {
        let (mut len, file) = (0, bytes("3,01637037d6"));
        unsafe {
            rde_volume_read(rde_volume { id }, file, 0, 0, null_mut(), 0, &mut len, null_mut(), null_mut())
        }
    }),
    ("rde_kv_partition", KV, |id| {
        let mut out = 0;
        unsafe { rde_kv_partition(rde_kv { id }, bytes("t"), 0, &mut out, null_mut()) }
    }),
    ("rde_kv_archive", KV, |id| {
        let mut out = 0;
        unsafe { rde_kv_archive(rde_kv { id }, bytes("t"), 0, bytes("a"), &mut out, null_mut()) }
    }),
    ("rde_kv_branch", KV, |id| {
        let mut out = 0;
        unsafe { rde_kv_branch(rde_kv { id }, bytes("t"), 0, bytes("b"), &mut out, null_mut()) }
    }),
    ("rde_kv_branches", KV, |id| {
        let mut len = 0;
        unsafe { rde_kv_branches(rde_kv { id }, 0, null_mut(), 0, &mut len, null_mut()) }
    }),
    ("rde_kv_names", KV, |id| {
        let mut len = 0;
        unsafe { rde_kv_names(rde_kv { id }, 0, null_mut(), 0, &mut len, null_mut()) }
    }),
    ("rde_kv_submit", KV, |id| {
        let mut accepted = 0;
        unsafe { rde_kv_submit(rde_kv { id }, null(), 0, &mut accepted, null_mut()) }
    }),
    ("rde_kv_poll", KV, |id| {
        let mut count = 0;
        unsafe { rde_kv_poll(rde_kv { id }, 0, null_mut(), 0, &mut count) }
    }),
    ("rde_kv_call", KV, |id| {
        let (request, mut done) = (zeroed::<rde_kv_request>(), zeroed::<rde_completion>());
        unsafe { rde_kv_call(rde_kv { id }, &request, &mut done, null_mut()) }
    }),
    ("rde_kv_drop_table", KV, |id| {
        let mut count = 0;
        unsafe { rde_kv_drop_table(rde_kv { id }, bytes("t"), &mut count, null_mut()) }
    }),
    ("rde_kv_event_fd", KV, |id| {
        let mut fd = -1;
        unsafe { rde_kv_event_fd(rde_kv { id }, &mut fd, null_mut()) }
    }),
    ("rde_kv_arm", KV, |id| unsafe { rde_kv_arm(rde_kv { id }) }),
    ("rde_kv_info", KV, |id| {
        let mut info = sized(zeroed::<rde_kv_details>());
        unsafe { rde_kv_info(rde_kv { id }, &mut info, null_mut()) }
    }),
];

/// Functions that end an object: the zero handle is none, and OK.
pub const CLOSES: &[Call] = &[
    ("rde_context_close", CONTEXT, |id| unsafe { rde_context_close(rde_context { id }) }),
    ("rde_worker_close", WORKER, |id| unsafe { rde_worker_close(rde_worker { id }) }),
    ("rde_listener_close", LISTENER, |id| unsafe { rde_listener_close(rde_listener { id }) }),
    ("rde_session_close", SESSION, |id| unsafe { rde_session_close(rde_session { id }, 0) }),
    ("rde_buffer_release", BUFFER, |id| unsafe { rde_buffer_release(rde_buffer { id }) }),
    ("rde_kv_close", KV, |id| unsafe { rde_kv_close(rde_kv { id }) }),
    ("rde_call_release", INCOMING, |id| unsafe { rde_call_release(rde_incoming_call { id }) }),
    ("rde_region_release", REGION, |id| unsafe { rde_region_release(rde_region { id }) }),
    ("rde_exporter_close", EXPORTER, |id| unsafe { rde_exporter_close(rde_exporter { id }) }),
    ("rde_volume_close", VOLUME, |id| unsafe { rde_volume_close(rde_volume { id }) }),
];

/// Functions without a handle.
pub const FREE: &[&str] = &[
    "rde_needle_check",
    "rde_needles_decode",
    "rde_needles_encode",
    "rde_abi_version",
    "rde_version_string",
    "rde_status_name",
    "rde_status_message",
    "rde_log_set",
    "rde_context_open",
    "rde_volume_open",
    "rde_kv_open",
    "rde_call_prepare",
];
