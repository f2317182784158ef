//! Every exported function with NULL, with the zero handle, with stale and forged handles, and with handles of another
//! kind: a clear status, and every object as it was.
#![allow(unsafe_code, reason = "calls the C ABI as C does")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "each call hands in NULL, or locals of the right size")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "tables of calls")]
#![allow(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

mod calls;

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use calls::*;
use rde_status::{InvalidArgument, Ok as OK, StaleHandle};
use rdma_engine::ffi::call::*;
use rdma_engine::ffi::context::*;
use rdma_engine::ffi::kv::*;
use rdma_engine::ffi::kv_types::*;
use rdma_engine::ffi::library::*;
use rdma_engine::ffi::memory::*;
use rdma_engine::ffi::operation::*;
use rdma_engine::ffi::session::*;
use rdma_engine::ffi::telemetry::*;
use rdma_engine::ffi::types::*;
use rdma_engine::ffi::worker::*;

/// One live object of each kind that needs no peer. Only one test has them at a time, so that a made-up handle cannot be
/// the live one of another test.
struct Live {
    ids: [(usize, u64); 5],
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Live {
    fn open() -> Live {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut context = rde_context::default();
        let mut error = zeroed::<rde_error>();
        let opened = unsafe { rde_context_open(null(), &mut context, &mut error) };
        assert_eq!(opened, OK, "{:?}", error.text());
        let mut worker = rde_worker::default();
        assert_eq!(
            unsafe { rde_worker_open(context, null(), &mut worker, &mut error) },
            OK,
            "{:?}",
            error.text()
        );
        let mut listener = rde_listener::default();
        let opened = unsafe { rde_listener_open(worker, address(), 0, &mut listener, &mut error) };
        assert_eq!(opened, OK, "{:?}", error.text());
        let mut buffer = rde_buffer::default();
        let opened = unsafe { rde_buffer_alloc(context, 4096, 0, &mut buffer, null_mut(), &mut error) };
        assert_eq!(opened, OK, "{:?}", error.text());
        let mut kv = rde_kv::default();
        let opened = unsafe { rde_kv_open(null(), &mut kv, &mut error) };
        assert_eq!(opened, OK, "{:?}", error.text());
        let ids = [
            (CONTEXT, context.id),
            (WORKER, worker.id),
            (LISTENER, listener.id),
            (BUFFER, buffer.id),
            (KV, kv.id),
        ];
        Live { ids, _alone: alone }
    }

    fn context(&self) -> rde_context {
        rde_context { id: self.ids[0].1 }
    }

    fn worker(&self) -> rde_worker {
        rde_worker { id: self.ids[1].1 }
    }

    fn listener(&self) -> rde_listener {
        rde_listener { id: self.ids[2].1 }
    }

    fn buffer(&self) -> rde_buffer {
        rde_buffer { id: self.ids[3].1 }
    }

    /// Closes everything, each with OK, and then again, each stale.
    fn close(&self) {
        for (kind, id) in self.ids.into_iter().rev() {
            let (name, _, close) = CLOSES.iter().find(|call| call.1 == kind).unwrap();
            assert_eq!(close(id), OK, "{name}");
            assert_eq!(close(id), StaleHandle, "a second {name}");
        }
    }
}

#[test]
fn table_has_every_exported_function() {
    let list = include_str!("../../abi/exports.txt");
    let tables: BTreeSet<&str> =
        CALLS.iter().chain(CLOSES).map(|call| call.0).chain(FREE.iter().copied()).collect();
    assert_eq!(tables, list.lines().collect());
}

#[test]
fn zero_handle_is_none() {
    for (name, _, call) in CALLS {
        assert_eq!(call(0), StaleHandle, "{name}");
    }
    for (name, _, close) in CLOSES {
        assert_eq!(close(0), OK, "{name}");
    }
}

#[test]
fn stale_and_forged_handles_are_refused() {
    let live = Live::open();
    let ids = live.ids;
    live.close();
    // splitmix64 from a fixed seed: made-up ids.
    let mut state = 0x5eed_u64;
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    };
    for (name, kind, call) in CALLS.iter().chain(CLOSES) {
        if let Some((_, id)) = ids.iter().find(|live| live.0 == *kind) {
            assert_eq!(call(*id), StaleHandle, "{name}: closed");
        }
        for id in [1, u64::MAX, u64::MAX >> 1, 1 << 63, 0xdead_beef] {
            assert_eq!(call(id), StaleHandle, "{name}: {id:#x}");
        }
        for _ in 0..1000 {
            let id = random();
            assert_eq!(call(id), StaleHandle, "{name}: {id:#x} from seed 0x5eed");
        }
    }
}

#[test]
fn handles_of_another_kind_are_refused_and_live_on() {
    let live = Live::open();
    for (name, kind, call) in CALLS.iter().chain(CLOSES) {
        for (other, id) in live.ids.iter().filter(|object| object.0 != *kind) {
            assert_eq!(call(*id), StaleHandle, "{name} with a handle of kind {other}");
        }
    }
    live.close();
}

#[test]
fn flipped_bits_of_a_live_handle_do_not_reach_it() {
    let live = Live::open();
    for (kind, id) in live.ids {
        for bit in 0..64 {
            for (name, _, call) in CALLS.iter().filter(|call| call.1 == kind) {
                assert_eq!(call(id ^ 1 << bit), StaleHandle, "{name} with bit {bit} of {id:#x} flipped");
            }
        }
    }
    live.close();
}

#[test]
fn null_is_refused_before_anything_happens() {
    let live = Live::open();
    let (context, worker, listener, buffer) = (live.context(), live.worker(), live.listener(), live.buffer());
    let none = rde_session { id: 0 };
    let missing = rde_bytes { data: null(), len: 1 };
    let (mut count, mut len, mut session, mut made) =
        (7u32, 7usize, rde_session { id: 7 }, rde_listener { id: 7 });
    let mut out = rde_buffer { id: 7 };
    let mut completion = zeroed::<rde_completion>();
    let mut request = zeroed::<rde_request>();
    let e = null_mut::<rde_error>();
    #[rustfmt::skip]
    let refused = unsafe {
        [
            ("rde_context_open", rde_context_open(null(), null_mut(), e)),
            ("rde_context_info", rde_context_info(context, null_mut(), e)),
            ("rde_context_stats", rde_context_stats(context, null_mut())),
            ("rde_context_metrics", rde_context_metrics(context, null_mut(), 0, null_mut())),
            ("rde_context_metrics text", rde_context_metrics(context, null_mut(), 8, &mut len)),
            ("rde_worker_open", rde_worker_open(context, null(), null_mut(), e)),
            ("rde_worker_submit accepted", rde_worker_submit(worker, &zeroed(), 1, null_mut())),
            ("rde_worker_submit requests", rde_worker_submit(worker, null(), 1, &mut count)),
            ("rde_worker_poll count", rde_worker_poll(worker, 0, &mut completion, 1, null_mut())),
            ("rde_worker_poll completions", rde_worker_poll(worker, 0, null_mut(), 1, &mut count)),
            ("rde_worker_event_fd", rde_worker_event_fd(worker, null_mut(), e)),
            ("rde_worker_stats", rde_worker_stats(worker, null_mut())),
            ("rde_listener_open", rde_listener_open(worker, address(), 0, null_mut(), e)),
            ("rde_listener_open address", rde_listener_open(worker, missing, 0, &mut made, e)),
            ("rde_listener_address", rde_listener_address(listener, null_mut(), 0, null_mut())),
            ("rde_session_connect", rde_session_connect(worker, address(), 0, null_mut(), e)),
            ("rde_session_connect address", rde_session_connect(worker, missing, 0, &mut session, e)),
            ("rde_session_info", rde_session_info(none, null_mut(), e)),
            ("rde_session_stats", rde_session_stats(none, null_mut())),
            ("rde_buffer_alloc", rde_buffer_alloc(context, 8, 0, null_mut(), null_mut(), e)),
            ("rde_buffer_register", rde_buffer_register(context, null_mut(), 8, 0, &mut out, e)),
            ("rde_buffer_register out", rde_buffer_register(context, (&raw mut len).cast(), 8, 0, null_mut(), e)),
            ("rde_buffer_data", rde_buffer_data(buffer, null_mut(), null_mut())),
            ("rde_buffer_export", rde_buffer_export(buffer, 0, 8, 1, null_mut(), e)),
            ("rde_key_revoke", rde_key_revoke(context, null(), e)),
            ("rde_region_import", rde_region_import(none, null(), 0)),
            ("rde_region_info", rde_region_info(rde_region { id: 0 }, null_mut())),
            ("rde_call", rde_call(none, null())),
            ("rde_call_prepare", rde_call_prepare(none, null(), &mut request)),
            ("rde_call_prepare out", rde_call_prepare(none, &sized(zeroed()), null_mut())),
            ("rde_call_info", rde_call_info(rde_incoming_call { id: 0 }, null_mut(), e)),
            ("rde_call_reply pieces", rde_call_reply(rde_incoming_call { id: 0 }, 0, null(), null(), 1)),
            ("rde_send", rde_send(none, missing, rde_buffer { id: 0 }, 0, 0, 0)),
        ]
    };
    for (name, status) in refused {
        assert_eq!(status, InvalidArgument, "{name} with NULL");
    }
    assert_eq!((count, len, session.id, made.id, out.id), (7, 7, 7, 7, 7), "an output was touched");
    assert_eq!(unsafe { rde_log_set(None, 9, null_mut::<c_void>()) }, InvalidArgument);
    live.close();
}

#[test]
fn lengths_and_bits_without_sense_are_refused() {
    let live = Live::open();
    let (context, worker, buffer) = (live.context(), live.worker(), live.buffer());
    let (mut out, mut data, mut count) = (rde_buffer { id: 7 }, null_mut(), 7u32);
    let mut key = rde_key { bytes: [7; 64] };
    let e = null_mut::<rde_error>();
    let mut words = [0u64; 32];
    let odd = words.as_mut_ptr().wrapping_byte_add(4);
    let many = 65_537;
    let odd_call = |change: fn(&mut rde_call_arguments)| {
        let mut arguments: rde_call_arguments = sized(zeroed());
        change(&mut arguments);
        unsafe { rde_call(rde_session { id: 0 }, &arguments) }
    };
    #[rustfmt::skip]
    let refused = unsafe {
        [
            ("call flag", odd_call(|a| a.flags = 4)),
            ("call reserved", odd_call(|a| a.reserved = 1)),
            ("call header", odd_call(|a| a.header.reserved = 1)),
            ("call slot", odd_call(|a| a.slot = 1)),
            ("call pieces", odd_call(|a| a.piece_count = 1)),
            ("refuse with no error", rde_call_refuse(rde_incoming_call { id: 0 }, 0, 0)),
            ("refuse with nothing", rde_call_refuse(rde_incoming_call { id: 0 }, -12_345, 0)),
            ("alloc 0", rde_buffer_alloc(context, 0, 0, &mut out, &mut data, e)),
            ("alloc flag", rde_buffer_alloc(context, 8, 4, &mut out, &mut data, e)),
            ("register 0", rde_buffer_register(context, words.as_mut_ptr().cast(), 0, 0, &mut out, e)),
            ("register past the end", rde_buffer_register(context, words.as_mut_ptr().cast(), u64::MAX, 0, &mut out, e)),
            ("export 0", rde_buffer_export(buffer, 0, 0, 1, &mut key, e)),
            ("export no rights", rde_buffer_export(buffer, 0, 8, 0, &mut key, e)),
            ("export unknown rights", rde_buffer_export(buffer, 0, 8, 9, &mut key, e)),
            ("submit unaligned", rde_worker_submit(worker, odd.cast(), 1, &mut count)),
            ("submit too many", rde_worker_submit(worker, words.as_ptr().cast(), many, &mut count)),
            ("poll unaligned", rde_worker_poll(worker, 0, odd.cast(), 1, &mut count)),
            ("send both", rde_send(rde_session { id: 0 }, bytes("a"), buffer, 0, 1, 0)),
            ("send long", rde_send(rde_session { id: 0 }, rde_bytes { data: words.as_ptr().cast(), len: 1 << 40 }, rde_buffer { id: 0 }, 0, 0, 0)),
        ]
    };
    for (name, status) in refused {
        assert_eq!(status, InvalidArgument, "{name}");
    }
    for (offset, length) in [(0, 4097), (4096, 1), (u64::MAX, 8), (8, u64::MAX), (1 << 63, 1 << 63)] {
        let status = unsafe { rde_buffer_export(buffer, offset, length, 1, &mut key, e) };
        assert_eq!(status, rde_status::OutOfRange, "export of {length} at {offset}");
    }
    assert_eq!((out.id, data, count, key.bytes), (7, null_mut(), 7, [7; 64]), "an output was touched");
    live.close();
}

#[test]
fn wrong_struct_sizes_are_refused_and_nothing_is_written() {
    let live = Live::open();
    for (size, status) in
        [(0, InvalidArgument), (3, rde_status::AbiMismatch), (u32::MAX, rde_status::AbiMismatch)]
    {
        let mut stats = zeroed::<rde_stats>();
        stats.struct_size = size;
        stats.counters.submitted = 7;
        assert_eq!(unsafe { rde_context_stats(live.context(), &mut stats) }, status);
        assert_eq!((stats.struct_size, stats.counters.submitted), (size, 7));
        let mut options = zeroed::<rde_context_options>();
        options.struct_size = size;
        let (mut context, mut error) = (rde_context { id: 7 }, zeroed::<rde_error>());
        assert_eq!(unsafe { rde_context_open(&options, &mut context, &mut error) }, status);
        assert_eq!((context.id, error.status), (7, status as i32));
        assert!(error.text().unwrap().contains("struct_size"), "{:?}", error.text());
    }
    let mut options = sized(zeroed::<rde_worker_options>());
    options.reserved[3] = 1;
    let (mut worker, mut error) = (rde_worker { id: 7 }, zeroed::<rde_error>());
    let status = unsafe { rde_worker_open(live.context(), &options, &mut worker, &mut error) };
    assert_eq!((status, worker.id), (InvalidArgument, 7));
    live.close();
}

#[test]
fn nothing_to_submit_and_no_room_are_not_errors() {
    let live = Live::open();
    let mut count = 7;
    assert_eq!(unsafe { rde_worker_submit(live.worker(), null(), 0, &mut count) }, OK);
    assert_eq!(count, 0);
    count = 7;
    assert_eq!(unsafe { rde_worker_poll(live.worker(), 0, null_mut(), 0, &mut count) }, OK);
    assert_eq!(count, 0);
    live.close();
}

#[cfg(debug_assertions)]
#[test]
fn panic_in_any_function_is_contained_and_poisons_its_object_alone() {
    use rde_status::{Panic, WrongState};
    use rdma_engine::ffi::fault;
    for (name, kind, call) in CALLS.iter().filter(|call| call.1 < SESSION || call.1 == BUFFER) {
        let live = Live::open();
        let (_, id) = *live.ids.iter().find(|object| object.0 == *kind).unwrap();
        fault::panic_next();
        assert_eq!(call(id), Panic, "{name}");
        assert_eq!(call(id), WrongState, "{name}: poisoned");
        for (other, id) in live.ids.into_iter().filter(|object| object.0 != *kind) {
            let (healthy, _, call) = CALLS.iter().find(|call| call.1 == other).unwrap();
            assert_ne!(call(id), WrongState, "{healthy} after a panic in {name}");
        }
        live.close();
    }
    for (name, kind, close) in CLOSES.iter().filter(|call| call.1 < SESSION || call.1 == BUFFER) {
        let live = Live::open();
        let (_, id) = *live.ids.iter().find(|object| object.0 == *kind).unwrap();
        fault::panic_next();
        assert_eq!(close(id), Panic, "{name}");
        live.close();
    }
}
