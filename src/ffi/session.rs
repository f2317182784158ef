//! Listeners and sessions: connections to peers.
#![allow(unsafe_code, reason = "exported functions")]

use std::ffi::c_char;

use super::argument::{char_array, output, output_struct, output_text, text};
use super::types::*;
use super::worker::checked;
use super::{guard, guard_close, handle};
use crate::engine::info::SessionInfo;
use crate::engine::listener::Listener;
use crate::engine::session::Session;
use crate::limits;

/// Listens at an address: "tcp://host:port" (port 0 picks one; IPv6 in brackets) or "unix:///path".
///
/// Parameters: `worker` in: gets the accepted sessions. `address` in, UTF-8, for the call. `user_data` in: of the events.
/// `out_listener` out. `error` out, nullable.
/// Completion: an event SESSION_ACCEPTED for each session: `user_data` is the listener's, `value` the session, whose later
/// events carry the listener's `user_data` too.
/// Returns: OK; INVALID_ARGUMENT: NULL, or an address that cannot be read; STALE_HANDLE; WRONG_STATE: the worker is
/// closing; ALREADY_EXISTS: the address is in use; NOT_FOUND: no such host, interface or folder; PERMISSION_DENIED;
/// UNSUPPORTED: the context's transports do not allow it; IO.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: while a host name is resolved; use numbers to avoid it.
/// On failure: `out_listener` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_listener_open(
    worker: rde_worker,
    address: rde_bytes,
    user_data: u64,
    out_listener: *mut rde_listener,
    error: *mut rde_error,
) -> rde_status {
    guard(worker.id, error, || {
        let out = output(out_listener, "out_listener")?;
        // SAFETY: forwarded from the caller.
        let address = unsafe { text(address, limits::ADDRESS_TEXT, "address") }?;
        let listener = Listener::open(&handle::worker(worker)?.arc(), address, user_data)?;
        out.set(rde_listener { id: listener.id() });
        Ok(())
    })
}

/// The address a listener is at, in the form to dial, with the port that was picked.
///
/// Parameters: `listener` in. `out_text` out, room for `capacity` bytes, NUL-terminated; nullable with a capacity of 0.
/// `out_len` out: its length without the NUL. RDE_ADDRESS_MAX + 1 bytes always suffice.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL; STALE_HANDLE; TRUNCATED: `capacity` must be over `*out_len`, which was written.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_text` is untouched, and so is `out_len` but for TRUNCATED.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_listener_address(
    listener: rde_listener,
    out_text: *mut c_char,
    capacity: usize,
    out_len: *mut usize,
) -> rde_status {
    guard(listener.id, std::ptr::null_mut(), || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_text(out_text, capacity, out_len) }?;
        out.set(handle::listener(listener)?.address())
    })
}

/// Stops listening. Sessions that were accepted stay.
///
/// Parameters: `listener` in; zero is OK and does nothing.
/// Completion: none; events of sessions accepted before may still follow.
/// Returns: OK; STALE_HANDLE: closed before.
/// Threads: any; not from a signal handler.
/// Blocks: until the address is free, which takes microseconds; a second at most.
/// On failure: nothing has changed.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_listener_close(listener: rde_listener) -> rde_status {
    guard_close(listener.id, || {
        if listener.id != 0 {
            handle::listener(listener)?.close()?;
        }
        Ok(())
    })
}

/// Dials a peer. Operations go from the completion on; before it they end with WRONG_STATE.
///
/// Parameters: `worker` in: carries the session. `address` in: "tcp://host:port" or "unix:///path", UTF-8, for the call.
/// `user_data` in: of the completion and of the session's events. `out_session` out. `error` out, nullable.
/// Completion: SESSION_CONNECT, once: `value` is the session; its status is OK, or why there is none: UNREACHABLE,
/// TIMED_OUT, LIMIT_REACHED (ours or the peer's), SETTINGS_MISMATCH, PROTOCOL, CONNECTION_LOST, CANCELED. Later the events
/// MESSAGE and SESSION_CLOSED.
/// Returns: OK: dialling; INVALID_ARGUMENT: NULL, or an address that cannot be read; STALE_HANDLE; WRONG_STATE: the worker
/// is closing; QUEUE_FULL: poll first; LIMIT_REACHED: `max_sessions` are open; UNSUPPORTED: the context's transports do
/// not allow it.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_session` is untouched, and there is no completion.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_session_connect(
    worker: rde_worker,
    address: rde_bytes,
    user_data: u64,
    out_session: *mut rde_session,
    error: *mut rde_error,
) -> rde_status {
    guard(worker.id, error, || {
        let out = output(out_session, "out_session")?;
        // SAFETY: forwarded from the caller.
        let address = unsafe { text(address, limits::ADDRESS_TEXT, "address") }?;
        let session = Session::connect(&handle::worker(worker)?.arc(), address, user_data)?;
        out.set(rde_session { id: session.id() });
        Ok(())
    })
}

/// Closes a session. Its operations in flight end first, each with its completion: as usual, or with CANCELED.
///
/// Parameters: `session` in; zero is OK and does nothing. `user_data` in: of the completion.
/// Completion: SESSION_CLOSED, the last one of the session: `value` is the session.
/// Returns: OK: closing; STALE_HANDLE: closed before; WRONG_STATE: it is closing already.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: there is no completion.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rde_session_close(session: rde_session, user_data: u64) -> rde_status {
    guard_close(session.id, || {
        if session.id == 0 {
            return Ok(());
        }
        checked(handle::session(session)?.arc().close(user_data))
    })
}

/// What a session tells about itself: state, peer, transport, and which way its operations went.
///
/// Parameters: `session` in. `out_info` in and out: its `struct_size` is read, everything else is written. `error` out,
/// nullable.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: NULL, or a `struct_size` of 0; ABI_MISMATCH: a `struct_size` of no version;
/// STALE_HANDLE.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: `out_info` is untouched.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_session_info(
    session: rde_session,
    out_info: *mut rde_session_details,
    error: *mut rde_error,
) -> rde_status {
    guard(session.id, error, || {
        // SAFETY: forwarded from the caller.
        let out = unsafe { output_struct(out_info, "out_info") }?;
        out.set(info(&handle::session(session)?.info()));
        Ok(())
    })
}

fn info(info: &SessionInfo) -> rde_session_details {
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    rde_session_details {
        struct_size: size_of::<rde_session_details>() as u32,
        flags: flag(info.local, RDE_SESSION_LOCAL) | flag(info.accepted, RDE_SESSION_ACCEPTED),
        state: info.state as u32,
        peer_pid: info.peer_pid,
        way_operations: info.operations,
        way_bytes: info.bytes,
        transport: char_array(&info.transport),
        peer_name: char_array(&info.peer_name),
        address: char_array(&info.address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::info::SessionState;

    #[test]
    fn info_of_a_session_is_told_field_by_field() {
        let told = info(&SessionInfo {
            state: SessionState::Lost,
            local: false,
            accepted: true,
            address: "a".repeat(600),
            peer_name: "peer".into(),
            peer_pid: 9,
            transport: "posix".into(),
            operations: [1, 2, 3],
            bytes: [4, 5, 6],
        });
        assert_eq!((told.state, told.flags, told.peer_pid), (4, RDE_SESSION_ACCEPTED, 9));
        assert_eq!((told.way_operations, told.way_bytes), ([1, 2, 3], [4, 5, 6]));
        assert_eq!((told.peer_name[3], told.peer_name[4]), (b'r' as c_char, 0));
        assert_eq!((told.transport[4], told.transport[5]), (b'x' as c_char, 0));
        assert_eq!((told.address[510], told.address[511]), (b'a' as c_char, 0));
    }
}
