//! Bytes between a socket and registered memory, which others may change meanwhile: no slice of it is ever made.
#![allow(unsafe_code, reason = "reads and writes registered memory by address")]

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;

use crate::engine::buffer::Span;

/// Pieces of memory that go out with one call.
pub(super) const GATHER: usize = 16;

/// What one call sends.
pub(super) struct Batch {
    list: [libc::iovec; GATHER],
    count: usize,
    length: usize,
}

impl Batch {
    pub fn new() -> Batch {
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Batch { list: [none; GATHER], count: 0, length: 0 }
    }

    /// Bytes in it.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether one more piece fits.
    pub fn has_room(&self) -> bool {
        self.count < GATHER
    }

    fn add(&mut self, address: *mut u8, length: usize) {
        if length > 0 && self.has_room() {
            self.list[self.count] = libc::iovec { iov_base: address.cast(), iov_len: length };
            self.count += 1;
            self.length += length;
        }
    }
}

/// Sends what `fill` puts into a batch: bytes and spans that live until this returns. How many bytes the kernel took,
/// and how many there were. `more` follows at once, so that a short packet need not go yet.
pub(super) fn send<'a>(
    socket: &OwnedFd,
    more: bool,
    fill: impl FnOnce(&mut dyn FnMut(Piece<'a>) -> bool),
) -> Result<(usize, usize), Errno> {
    let mut batch = Batch::new();
    fill(&mut |piece| {
        match piece {
            Piece::Bytes(bytes) => batch.add(bytes.as_ptr().cast_mut(), bytes.len()),
            Piece::Span(span, at, length) => {
                let length = length.min(span.len().saturating_sub(at));
                batch.add(span.address().wrapping_add(at), length);
            }
        }
        batch.has_room()
    });
    // SAFETY: an all-zero msghdr is valid: numbers and NULL.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = batch.list.as_mut_ptr();
    message.msg_iovlen = batch.count as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    // SAFETY: the pieces live for 'a, and the kernel only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) };
    Ok((counted(sent)?, batch.length()))
}

/// A piece of what is sent.
pub(super) enum Piece<'a> {
    Bytes(&'a [u8]),
    /// So many bytes of a span from an offset on.
    Span(&'a Span, usize, usize),
}

/// Receives up to `length` bytes into a span from `at` on. 0: the peer sends no more.
pub(super) fn receive(socket: &OwnedFd, into: &Span, at: usize, length: usize) -> Result<usize, Errno> {
    if !into.is_writable() {
        return Err(Errno::FAULT);
    }
    let length = length.min(into.len().saturating_sub(at));
    let address = into.address().wrapping_add(at);
    // SAFETY: within the span, which is writable and lives until this returns.
    let came = unsafe { libc::recv(socket.as_raw_fd(), address.cast(), length, libc::MSG_DONTWAIT) };
    counted(came)
}

/// Has a sleeper woken when so many bytes have come, at least 1. A hint: without it he wakes more often.
pub(super) fn wake_at(socket: &OwnedFd, bytes: usize) {
    let value = libc::c_int::try_from(bytes.max(1)).unwrap_or(libc::c_int::MAX);
    let (pointer, length) = (&raw const value, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: an int that lives until this returns.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, pointer.cast(), length)
    };
}

fn counted(result: isize) -> Result<usize, Errno> {
    usize::try_from(result)
        .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
