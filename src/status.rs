//! Every status of the library: number, name, message.
//!
//! Numbers are part of the ABI: explicit, never reused, never renumbered. The C header and Go's constants are
//! generated from this file. 0 is success, positive is not an error, negative is an error.

use std::borrow::Cow;
use std::fmt;

/// What a call or a completion ended with. 0 ok, > 0 not an error, < 0 error; numbers are never reused.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// Nothing to do now; drain the completions, or try later.
    NotReady = 1,
    /// An argument is NULL, out of its documented values, or inconsistent with another.
    InvalidArgument = -1,
    /// The handle was closed, was never created, or is of another kind.
    StaleHandle = -2,
    /// The object is in a state that does not allow this call.
    WrongState = -3,
    /// A bounded queue is full: poll for completions, then submit again.
    QueueFull = -4,
    /// The context's memory limit, or the system's memory, is exhausted.
    OutOfMemory = -5,
    /// An offset or a length goes past the end of the memory it names.
    OutOfRange = -6,
    /// What was named does not exist.
    NotFound = -7,
    /// What was to be created exists, or the address is in use.
    AlreadyExists = -8,
    /// The key does not grant this, or its secret is wrong.
    PermissionDenied = -9,
    /// Not available on this machine or in this build; the message says what is missing.
    Unsupported = -10,
    /// The output was too small; its needed length was returned.
    Truncated = -11,
    /// The key was revoked, or its buffer released.
    Revoked = -12,
    /// A limit that was configured is reached: sessions, memory windows or calls.
    LimitReached = -13,
    /// The deadline passed; the outcome of a write is unknown.
    TimedOut = -20,
    /// The request was cancelled, or its object closed, before it was done.
    Canceled = -21,
    /// Nobody answers at the address.
    Unreachable = -22,
    /// The peer died, was cut off, or stopped answering.
    ConnectionLost = -23,
    /// The operating system failed a call; see the errno.
    Io = -24,
    /// UCX failed a call; see the transport status.
    Transport = -25,
    /// The peer speaks another version of the protocol, or broke it.
    Protocol = -26,
    /// The peer's UCX settings differ from ours and would corrupt memory.
    SettingsMismatch = -27,
    /// The peer has no such method, or serves no calls.
    UnknownMethod = -28,
    /// The caller was built against another ABI version.
    AbiMismatch = -90,
    /// A defect of the library; please report it.
    Internal = -98,
    /// A defect of the library was contained; the object is poisoned: close it.
    Panic = -99,
    /// Bytes on disk fail their checksum or contradict each other.
    Corrupted = -30,
    /// It was there and was deleted.
    Deleted = -31,
    /// The file id's cookie is not the one that was stored.
    CookieMismatch = -32,
    /// Its time to live has passed.
    Expired = -33,
    /// This path cannot serve it (erasure-coded, tiered, encrypted, a part of compressed data): use HTTP.
    Ineligible = -35,
    /// The files changed underneath and do not agree at the moment: look it up again, or use HTTP.
    Stale = -36,
    /// The token is missing, wrong, expired, or for something else.
    Unauthorized = -37,
    /// Not now: being reloaded, or too much is under way; try again, or use HTTP.
    Busy = -38,
    /// Another writer has taken over the store that is written to: this one can only read, until it is opened again.
    ExpiredTerm = -39,
}

use Status::*;

/// Every status, in the order of its declaration, with its message.
pub const TABLE: &[(Status, &str, &str)] = &[
    (Ok, "OK", "done"),
    (NotReady, "NOT_READY", "nothing to do now"),
    (InvalidArgument, "INVALID_ARGUMENT", "invalid argument"),
    (StaleHandle, "STALE_HANDLE", "the handle is closed or was never created"),
    (WrongState, "WRONG_STATE", "the object's state does not allow this"),
    (QueueFull, "QUEUE_FULL", "a queue is full: poll, then submit again"),
    (OutOfMemory, "OUT_OF_MEMORY", "out of memory, or over the context's memory limit"),
    (OutOfRange, "OUT_OF_RANGE", "offset or length past the end"),
    (NotFound, "NOT_FOUND", "not found"),
    (AlreadyExists, "ALREADY_EXISTS", "already exists, or address in use"),
    (PermissionDenied, "PERMISSION_DENIED", "the key does not grant this"),
    (Unsupported, "UNSUPPORTED", "not available on this machine"),
    (Truncated, "TRUNCATED", "the output is too small"),
    (Revoked, "REVOKED", "the key was revoked"),
    (LimitReached, "LIMIT_REACHED", "a configured limit is reached"),
    (TimedOut, "TIMED_OUT", "timed out"),
    (Canceled, "CANCELED", "cancelled"),
    (Unreachable, "UNREACHABLE", "nobody answers at the address"),
    (ConnectionLost, "CONNECTION_LOST", "the peer died or was cut off"),
    (Io, "IO", "the operating system reported an error"),
    (Transport, "TRANSPORT", "UCX reported an error"),
    (Protocol, "PROTOCOL", "the peer broke the protocol or speaks another version"),
    (SettingsMismatch, "SETTINGS_MISMATCH", "the peer's UCX settings differ from ours"),
    (UnknownMethod, "UNKNOWN_METHOD", "the peer serves no such method"),
    (AbiMismatch, "ABI_MISMATCH", "built against another ABI version"),
    (Internal, "INTERNAL", "a defect of the library"),
    (Panic, "PANIC", "a defect of the library was contained: close the object"),
    (Corrupted, "CORRUPTED", "stored data is damaged"),
    (Deleted, "DELETED", "it was deleted"),
    (CookieMismatch, "COOKIE_MISMATCH", "the cookie is not the stored one"),
    (Expired, "EXPIRED", "its time to live has passed"),
    (Ineligible, "INELIGIBLE", "this path cannot serve it: use HTTP"),
    (Stale, "STALE", "the files changed underneath: look it up again"),
    (Unauthorized, "UNAUTHORIZED", "the token does not allow this"),
    (Busy, "BUSY", "busy: try again, or use HTTP"),
    (ExpiredTerm, "EXPIRED_TERM", "another writer has taken over"),
];

impl Status {
    /// The status with this number, if there is one.
    pub fn from_i32(number: i32) -> Option<Status> {
        TABLE.iter().map(|row| row.0).find(|status| *status as i32 == number)
    }

    /// Its name without a prefix: `CONNECTION_LOST`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What it means, in a few lower-case words.
    pub fn message(self) -> &'static str {
        self.row().2
    }

    /// Whether it is an error (negative).
    pub fn is_error(self) -> bool {
        (self as i32) < 0
    }

    fn row(self) -> &'static (Status, &'static str, &'static str) {
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Status {}

/// A failed call: its status, what the system or UCX said, and what to do about it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message} ({})", status.name())]
pub struct Error {
    /// The class of the failure.
    pub status: Status,
    /// `errno` when the operating system failed, else 0.
    pub os_errno: i32,
    /// `ucs_status_t` when UCX failed, else 0.
    pub transport: i32,
    /// What happened and what to do, for a person.
    pub message: Cow<'static, str>,
}

/// Result of a control call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with a message of its own.
    pub fn new(status: Status, message: impl Into<Cow<'static, str>>) -> Error {
        Error { status, os_errno: 0, transport: 0, message: message.into() }
    }

    /// A failure of the operating system while doing `what`.
    pub fn os(what: &str, error: &std::io::Error) -> Error {
        let os_errno = error.raw_os_error().unwrap_or(0);
        Error { status: Io, os_errno, transport: 0, message: format!("{what}: {error}").into() }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        Error::new(status, status.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_distinct() {
        for (i, a) in TABLE.iter().enumerate() {
            for b in &TABLE[i + 1..] {
                assert_ne!(a.0 as i32, b.0 as i32);
                assert_ne!(a.1, b.1);
            }
        }
    }

    #[test]
    fn table_holds_every_variant_under_its_own_name() {
        for (status, name, message) in TABLE {
            let camel: String =
                name.split('_').map(|word| word[..1].to_owned() + &word[1..].to_lowercase()).collect();
            assert_eq!(format!("{status:?}"), camel);
            assert!(!message.is_empty());
            assert_eq!(Status::from_i32(*status as i32), Some(*status));
        }
        let source = include_str!("status.rs");
        let body = source.split("pub enum Status {").nth(1).and_then(|s| s.split("\n}").next()).unwrap();
        let variants = body.lines().filter(|line| line.contains(" = ")).count();
        assert_eq!(variants, TABLE.len());
    }
}
