//! The engine's own carrier over TCP: one connection between two workers, with all their frames in one order. A payload
//! goes from registered memory to registered memory without a copy of ours: its frame announces it, whoever takes the
//! frame says where the bytes go ([`Stream::claim`]) or drops it, and then they come.
//!
//! Nothing here waits, and nothing here knows what a frame means.

mod receive;
mod send;
mod socket;
pub mod wire;

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

pub(super) use self::receive::Payload;
use self::receive::{Pulled, Receiver};
use self::send::{Body, Sender};
use super::buffer::Span;
use super::file::FileRange;
use crate::limits::COMPACT_FRAME;
use crate::status::Status;

/// Bytes received before others have their turn.
const TURN: usize = 1 << 20;

/// Bytes of a long piece that a sleeper is woken for.
const WAKE: usize = 256 << 10;

/// The end of something: nothing of it is used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Who asked for it.
    pub token: u64,
    /// Whether a payload has come; else one has gone.
    pub received: bool,
    /// How.
    pub end: End,
}

/// How a payload has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of it has come or gone.
    Good,
    /// All of it has come, and this is its CRC-32C.
    Counted(u32),
    /// The stream has ended before.
    Lost,
    /// Its sender could not get all of it. The stream goes on.
    Spoiled,
}

/// What a sleeper waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    /// Something to read.
    pub read: bool,
    /// Room to write.
    pub write: bool,
}

/// One connection.
pub(super) struct Stream {
    /// `None`: it has ended.
    socket: Option<OwnedFd>,
    sender: Sender,
    receiver: Receiver,
    ended: VecDeque<Ended>,
    /// Why it ended, until somebody has asked.
    failure: Option<Status>,
    /// Bytes that may be received in this turn.
    turn: usize,
    /// Whether a read in this turn said that there is no more.
    dry: bool,
    /// Whether bytes moved in this turn.
    moved: bool,
    /// What was last asked for.
    interest: Interest,
    /// Bytes that end a sleep.
    wake: usize,
}

impl Stream {
    /// A stream over a connected, non-blocking socket, of which `came` was read already.
    pub fn new(socket: OwnedFd, came: Vec<u8>) -> Stream {
        Stream {
            socket: Some(socket),
            sender: Sender::default(),
            receiver: Receiver::new(came),
            ended: VecDeque::new(),
            failure: None,
            turn: 0,
            dry: false,
            moved: false,
            interest: Interest { read: true, write: false },
            wake: 1,
        }
    }

    /// For epoll; `None` when it has ended.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// What to wait for before it can go on; unless `always`, only if that has changed since this was last asked. `asleep`: a
    /// sleeper asks, who reads without asking epoll when he is awake.
    pub fn interest(&mut self, always: bool, asleep: bool) -> Option<(BorrowedFd<'_>, Interest)> {
        let interest = Interest { read: !self.receiver.is_stuck(), write: self.sender.is_busy() };
        self.wake_at(if asleep { self.receiver.comes_first().clamp(1, WAKE) } else { 1 });
        let changed = std::mem::replace(&mut self.interest, interest) != interest;
        Some((self.socket.as_ref()?.as_fd(), interest)).filter(|_| changed || always)
    }

    /// Nothing can be done with the first bytes of a long piece alone: a sleeper waits for many of them.
    fn wake_at(&mut self, bytes: usize) {
        if let Some(socket) = self.socket.as_ref().filter(|_| bytes != self.wake) {
            socket::wake_at(socket, bytes);
            self.wake = bytes;
        }
    }

    /// Puts a frame in line, with the bytes of `spans` as its payload; [`Stream::flush`] sends it. With a payload, an
    /// [`Ended`] with `token` follows. `ConnectionLost`; `QueueFull` when too much waits already.
    pub fn post(&mut self, frame: &[u8], spans: Vec<Span>, token: u64) -> Result<(), Status> {
        self.put(frame, spans, token, false)
    }

    /// The same, but the payload goes only when the peer asks for it: for what it may not have memory for.
    pub fn offer(&mut self, frame: &[u8], spans: Vec<Span>, token: u64) -> Result<(), Status> {
        self.put(frame, spans, token, true)
    }

    /// Puts a frame in line with a part of a file as its payload. Of a file that turns out to be shorter the receiver hears
    /// that what came is no good. For peers that know of such payloads.
    pub fn post_file(&mut self, frame: &[u8], file: FileRange, token: u64) -> Result<(), Status> {
        self.put(frame, Body::File(file), token, false)
    }

    fn put(&mut self, frame: &[u8], body: impl Into<Body>, token: u64, offer: bool) -> Result<(), Status> {
        if self.socket.is_none() {
            return Err(Status::ConnectionLost);
        }
        if self.sender.post(frame, body.into(), token, offer) { Ok(()) } else { Err(Status::QueueFull) }
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) {
        if !self.sender.is_busy() {
            return;
        }
        let Some(socket) = &self.socket else { return };
        match self.sender.flush(socket, &mut self.ended) {
            Ok(count) => self.moved |= count > 0,
            // What the peer said last may still be there to be read; then comes the end.
            Err(_) => self.sender.end(&mut self.ended),
        }
    }

    /// A new turn of receiving; `ready`: there may be something to read.
    pub fn begin_turn(&mut self, ready: bool) {
        (self.turn, self.dry, self.moved) = (TURN, !ready, false);
        self.receiver.refuse_dropped(&mut self.sender);
        self.flush();
    }

    /// Whether something waits to be sent.
    pub fn is_busy(&self) -> bool {
        self.sender.is_busy()
    }

    /// Whether bytes moved in this turn.
    pub fn has_moved(&self) -> bool {
        self.moved
    }

    /// Copies the next frame that came into `into`: its length, and the payload that it announces.
    #[inline]
    pub fn next(&mut self, into: &mut [u8; COMPACT_FRAME]) -> Option<(usize, Option<Payload>)> {
        while self.socket.is_some() {
            match self.receiver.take(into, &mut self.sender, &mut self.ended) {
                Ok(Some(taken)) => return Some(taken),
                Ok(None) if self.dry || self.turn == 0 => return None,
                Ok(None) => self.pull(),
                Err(status) => self.fail(status),
            }
        }
        None
    }

    fn pull(&mut self) {
        let Some(socket) = &self.socket else { return };
        match self.receiver.pull(socket, &mut self.ended) {
            Ok(Pulled::Bytes(0, _)) => self.fail(Status::ConnectionLost),
            Ok(Pulled::Bytes(count, more)) => {
                self.moved = true;
                self.turn = self.turn.saturating_sub(count);
                self.dry = !more;
            }
            Ok(Pulled::Nothing) | Err(Errno::AGAIN) => self.dry = true,
            Err(Errno::INTR) => {}
            Err(_) => self.fail(Status::ConnectionLost),
        }
    }

    /// Has a payload written into `into`, which is as long; an [`Ended`] with `token` follows. `counted`: with its checksum.
    pub fn claim(&mut self, payload: &Payload, into: Span, token: u64, counted: bool) -> Result<(), Status> {
        if self.socket.is_none() {
            return Err(Status::ConnectionLost);
        }
        self.receiver.claim(payload, into, token, counted, &mut self.sender)
    }

    /// The next thing that has ended.
    #[inline]
    pub fn next_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    /// Whether something has ended that was not taken.
    #[inline]
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Why the stream ended, once: `ConnectionLost`, or `Protocol` for bytes that are none of ours.
    pub fn take_failure(&mut self) -> Option<Status> {
        self.failure.take()
    }

    /// Ends the stream because its peer does not read.
    pub fn give_up(&mut self) {
        self.fail(Status::ConnectionLost);
    }

    fn fail(&mut self, status: Status) {
        self.failure = Some(status);
        self.close();
    }

    /// Ends the stream; what was under way ends with it.
    pub fn close(&mut self) {
        self.flush();
        if let Some(socket) = self.socket.take() {
            self.receiver.part(&socket);
        }
        self.sender.end(&mut self.ended);
        self.receiver.end(&mut self.ended);
    }
}
