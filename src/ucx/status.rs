//! What UCX answers, as a value.

use crate::status::{Error, Status};
use std::fmt;

/// A `ucs_status_t` that is an error (negative).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UcsStatus(pub i8);

impl UcsStatus {
    /// The input or output failed.
    pub const IO_ERROR: UcsStatus = UcsStatus(-3);
    /// No memory.
    pub const NO_MEMORY: UcsStatus = UcsStatus(-4);
    /// An argument was refused.
    pub const INVALID_PARAM: UcsStatus = UcsStatus(-5);
    /// No transport leads to the peer.
    pub const UNREACHABLE: UcsStatus = UcsStatus(-6);
    /// The message was longer than its buffer.
    pub const MESSAGE_TRUNCATED: UcsStatus = UcsStatus(-9);
    /// The operation was cancelled; also how operations of a force-closed endpoint end.
    pub const CANCELED: UcsStatus = UcsStatus(-16);
    /// A shared memory segment could not be opened.
    pub const SHMEM_SEGMENT: UcsStatus = UcsStatus(-17);
    /// The transport cannot do this.
    pub const UNSUPPORTED: UcsStatus = UcsStatus(-22);
    /// The peer refused the connection.
    pub const REJECTED: UcsStatus = UcsStatus(-23);
    /// The connection is gone.
    pub const NOT_CONNECTED: UcsStatus = UcsStatus(-24);
    /// The connection was reset by the peer.
    pub const CONNECTION_RESET: UcsStatus = UcsStatus(-25);
    /// The endpoint stopped answering.
    pub const ENDPOINT_TIMEOUT: UcsStatus = UcsStatus(-80);

    /// UCX's number.
    pub fn code(self) -> i32 {
        i32::from(self.0)
    }

    /// The error in what a UCX call returned, if it is one.
    pub(crate) fn check(returned: ucx_sys::ucs_status_t) -> Result<(), UcsStatus> {
        if returned < 0 { Err(UcsStatus(returned)) } else { Ok(()) }
    }

    /// The library's status for it.
    pub fn status(self) -> Status {
        match self {
            Self::NO_MEMORY => Status::OutOfMemory,
            Self::INVALID_PARAM => Status::InvalidArgument,
            Self::UNREACHABLE | Self::SHMEM_SEGMENT => Status::Unreachable,
            Self::MESSAGE_TRUNCATED => Status::Truncated,
            Self::CANCELED => Status::Canceled,
            Self::UNSUPPORTED => Status::Unsupported,
            Self::REJECTED => Status::Unreachable,
            Self::NOT_CONNECTED | Self::CONNECTION_RESET | Self::ENDPOINT_TIMEOUT => Status::ConnectionLost,
            _ => Status::Transport,
        }
    }

    /// An error of the library that says what was being done.
    pub fn error(self, doing: &str) -> Error {
        let mut error = Error::new(self.status(), format!("UCX: {doing}: {self}"));
        error.transport = self.code();
        error
    }

    /// The same without an allocation, for paths where failures may come in thousands.
    pub(crate) fn plain(self) -> Error {
        let mut error = Error::from(self.status());
        error.transport = self.code();
        error
    }
}

impl fmt::Display for UcsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match super::library::loaded() {
            Some(library) => write!(f, "{} ({})", library.status_text(*self), self.0),
            None => write!(f, "status {}", self.0),
        }
    }
}

impl fmt::Debug for UcsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UcsStatus({self})")
    }
}
