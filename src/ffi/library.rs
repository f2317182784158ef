//! Library: version, statuses, log.
#![allow(unsafe_code, reason = "exported functions, and calls of the caller's log function")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::OnceLock;

use tracing::Level;
use tracing::level_filters::LevelFilter;

use super::argument::invalid;
use super::types::*;
use super::{guard, guard_value};
use crate::status::TABLE;
use crate::telemetry::log;

/// Number, name and message of each status as C strings.
fn statuses() -> &'static [(i32, CString, CString)] {
    static STATUSES: OnceLock<Vec<(i32, CString, CString)>> = OnceLock::new();
    STATUSES.get_or_init(|| {
        let text = |text: &str| CString::new(text).unwrap_or_default();
        TABLE.iter().map(|(status, name, message)| (*status as i32, text(name), text(message))).collect()
    })
}

/// Version of the ABI of the library that is loaded; compare it with RDE_ABI_VERSION.
///
/// Parameters: none.
/// Completion: none.
/// Returns: the version.
/// Threads: any, concurrently; also from a signal handler.
/// Blocks: never.
/// On failure: it does not fail.
/// Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn rde_abi_version() -> u32 {
    guard_value(RDE_ABI_VERSION, || RDE_ABI_VERSION)
}

/// Version of the library that is loaded, such as "0.1.0".
///
/// Parameters: none.
/// Completion: none.
/// Returns: static NUL-terminated text; never NULL.
/// Threads: any, concurrently; also from a signal handler.
/// Blocks: never.
/// On failure: it does not fail.
/// Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn rde_version_string() -> *const c_char {
    guard_value(c"".as_ptr(), || concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast())
}

/// Name of a status without its prefix, such as "CONNECTION_LOST".
///
/// Parameters: `status` in, any number.
/// Completion: none.
/// Returns: static NUL-terminated text; "UNKNOWN" for a number that is no status; never NULL.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: it does not fail.
/// Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn rde_status_name(status: i32) -> *const c_char {
    guard_value(c"UNKNOWN".as_ptr(), || {
        let row = statuses().iter().find(|row| row.0 == status);
        row.map_or(c"UNKNOWN", |row| row.1.as_c_str()).as_ptr()
    })
}

/// Meaning of a status in a few words.
///
/// Parameters: `status` in, any number.
/// Completion: none.
/// Returns: static NUL-terminated text; "unknown status" for a number that is no status; never NULL.
/// Threads: any, concurrently; not from a signal handler.
/// Blocks: never.
/// On failure: it does not fail.
/// Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn rde_status_message(status: i32) -> *const c_char {
    const UNKNOWN: &CStr = c"unknown status";
    guard_value(UNKNOWN.as_ptr(), || {
        let row = statuses().iter().find(|row| row.0 == status);
        row.map_or(UNKNOWN, |row| row.2.as_c_str()).as_ptr()
    })
}

/// Sends the library's log messages to a function, or nowhere. When it returns, the function before is not running and
/// never runs again.
///
/// Parameters: `callback` in, nullable (no messages); called until the next call of this function. `level` in: RDE_LOG_*;
/// messages at this level and graver ones. `user` in, handed to `callback`, never dereferenced.
/// Completion: none.
/// Returns: OK; INVALID_ARGUMENT: no such level; WRONG_STATE: called by the callback; ALREADY_EXISTS: the program, a Rust
/// one, has a tracing subscriber of its own, which gets the messages.
/// Threads: any; not from a signal handler, not from the callback.
/// Blocks: until running callbacks have returned.
/// On failure: the function before stays.
/// Since: 0.1
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rde_log_set(
    callback: rde_log_callback,
    level: u32,
    user: *mut c_void,
) -> rde_status {
    guard(0, std::ptr::null_mut(), || {
        let level = match level {
            RDE_LOG_OFF => LevelFilter::OFF,
            RDE_LOG_ERROR => LevelFilter::ERROR,
            RDE_LOG_WARN => LevelFilter::WARN,
            RDE_LOG_INFO => LevelFilter::INFO,
            RDE_LOG_DEBUG => LevelFilter::DEBUG,
            RDE_LOG_TRACE => LevelFilter::TRACE,
            _ => return Err(invalid(format!("level {level} is none of RDE_LOG_*"))),
        };
        log::set(callback.map(|callback| sink(callback, user)), level)
    })
}

/// A sink that calls a C function.
fn sink(
    callback: unsafe extern "C" fn(*mut c_void, u32, rde_bytes, rde_bytes),
    user: *mut c_void,
) -> log::Sink {
    // As a number: the pointer is only handed back, and a raw pointer is not Send.
    let user = user.expose_provenance();
    Box::new(move |level, module, text| {
        let level = match level {
            Level::ERROR => RDE_LOG_ERROR,
            Level::WARN => RDE_LOG_WARN,
            Level::INFO => RDE_LOG_INFO,
            Level::DEBUG => RDE_LOG_DEBUG,
            Level::TRACE => RDE_LOG_TRACE,
        };
        let bytes = |text: &str| rde_bytes { data: text.as_ptr().cast(), len: text.len() };
        let user = std::ptr::with_exposed_provenance_mut(user);
        // SAFETY: the caller vouches for its function until the next rde_log_set, which waits for this call.
        unsafe { callback(user, level, bytes(module), bytes(text)) };
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;

    fn text(pointer: *const c_char) -> &'static str {
        // SAFETY: static text with a NUL.
        unsafe { CStr::from_ptr(pointer) }.to_str().unwrap()
    }

    #[test]
    fn every_status_has_its_name_and_message_and_other_numbers_have_none() {
        for (status, name, message) in TABLE {
            let number = *status as i32;
            assert_eq!((text(rde_status_name(number)), text(rde_status_message(number))), (*name, *message));
        }
        for number in [i32::MIN, -1000, 2, i32::MAX] {
            assert_eq!(Status::from_i32(number), None);
            assert_eq!(
                (text(rde_status_name(number)), text(rde_status_message(number))),
                ("UNKNOWN", "unknown status")
            );
        }
        assert_eq!(text(rde_version_string()), env!("CARGO_PKG_VERSION"));
    }
}
