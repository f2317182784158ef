//! From a file straight into memory of a [`Span`], which a peer may have, too: no slice of it is made.
#![allow(unsafe_code, reason = "the kernel writes to it by address")]

use std::os::fd::{AsRawFd, BorrowedFd};

use super::Span;
use crate::status::{Error, Result, Status};

impl Span {
    /// Fills it from a file, from `at` on, in bytes; how many there were before the file's end. Unless it may `wait`, only
    /// from the page cache: `NotReady` when that has not all of it, or the file system does not say. Memory that its owner
    /// took away is an error of the kernel's, not a signal. Errors: `PermissionDenied` for memory that is read-only; `Io`.
    pub fn read_file(&self, file: BorrowedFd<'_>, at: u64, wait: bool) -> Result<usize> {
        if !self.is_writable() {
            return Err(Status::PermissionDenied.into());
        }
        let flags = if wait { 0 } else { libc::RWF_NOWAIT };
        let mut done = 0;
        while done < self.len() {
            let rest = self.slice(done as u64, (self.len() - done) as u64)?;
            let vector = libc::iovec { iov_base: rest.address().cast(), iov_len: rest.len() };
            let from = i64::try_from(at + done as u64).map_err(|_| Status::OutOfRange)?;
            // SAFETY: mapped and writable memory of this length, which `rest` keeps; the kernel checks the descriptor.
            let got = unsafe { libc::preadv2(file.as_raw_fd(), &raw const vector, 1, from, flags) };
            match usize::try_from(got) {
                Ok(0) => break,
                Ok(got) => done += got,
                Err(_) => match std::io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::EINTR) => {}
                    error
                        if !wait && matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EOPNOTSUPP)) =>
                    {
                        return Err(Status::NotReady.into());
                    }
                    error => return Err(Error::os("reading a file into a peer's memory", &error)),
                },
            }
        }
        Ok(done)
    }
}
