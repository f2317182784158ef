//! [`Conn`]: messages and descriptors over one non-blocking socket, with bounded buffers.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recv, recvmsg, send, sendmsg,
};

use super::Counters;
use super::hello::Road;
use super::message::{Decoded, Message};
use super::reactor::Token;
use super::wire::broken;
use crate::limits::CONTROL_MESSAGE;
use crate::status::{Error, Result, Status};

/// Descriptors taken with one read; the kernel closes what is beyond.
const DESCRIPTORS: usize = 4;

/// Descriptors that wait for their message.
const WAITING: usize = 16;

/// Descriptors that wait to be sent.
const DESCRIPTORS_OUT: usize = 256;

/// Input buffers above this are given back when empty: most links are quiet.
const KEEP: usize = 1 << 10;

/// One connection. Frames go out whole and in order; input is at most one message and what one read adds.
#[derive(Debug)]
pub(super) struct Conn {
    socket: OwnedFd,
    road: Road,
    input: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    output: VecDeque<Frame>,
    output_bytes: usize,
    max_output: usize,
    ended: bool,
    /// What epoll was told; kept by the reactor.
    pub interest: Option<Interest>,
}

/// What epoll was told about a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    pub token: Token,
    pub read: bool,
    pub write: bool,
}

#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Option<[OwnedFd; 2]>,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// Bytes; there may be more.
    Bytes(usize),
    /// Nothing for now.
    Empty,
    /// The peer will send no more.
    End,
}

/// A message that arrived.
#[derive(Debug)]
pub(super) struct Arrived {
    pub message: Message,
    pub descriptors: Option<[OwnedFd; 2]>,
}

impl Conn {
    pub fn new(socket: OwnedFd, road: Road, max_output: usize) -> Conn {
        Conn {
            socket,
            road,
            input: Vec::new(),
            descriptors: VecDeque::new(),
            output: VecDeque::new(),
            output_bytes: 0,
            max_output,
            ended: false,
            interest: None,
        }
    }

    /// The socket, and what came and is in no message yet. Epoll must have forgotten it.
    pub fn into_parts(self) -> (OwnedFd, Vec<u8>) {
        (self.socket, self.input)
    }

    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub fn road(&self) -> Road {
        self.road
    }

    /// Whether something waits until the socket is writable.
    pub fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Puts a message in line. `ConnectionLost` when the peer has not read for too long; nothing was added then.
    pub fn queue(&mut self, message: &Message, descriptors: Option<[OwnedFd; 2]>) -> Result<()> {
        let bytes = message.encode()?;
        let waiting = self.output.iter().filter(|frame| frame.descriptors.is_some()).count();
        if self.output_bytes + bytes.len() > self.max_output || waiting >= DESCRIPTORS_OUT {
            return Err(Error::new(Status::ConnectionLost, "the peer does not read its control connection"));
        }
        self.output_bytes += bytes.len();
        self.output.push_back(Frame { bytes, sent: 0, descriptors });
        Ok(())
    }

    /// Sends what the socket takes now.
    pub fn flush(&mut self, counters: &Counters) -> Result<()> {
        while let Some(frame) = self.output.front_mut() {
            let rest = &frame.bytes[frame.sent..];
            let sent = match &frame.descriptors {
                Some(descriptors) => send_with(&self.socket, rest, descriptors),
                None => send(&self.socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT),
            };
            match sent {
                Ok(count) => {
                    // They travelled with the first byte.
                    frame.descriptors = None;
                    frame.sent += count;
                    self.output_bytes -= count;
                    counters.bytes_sent.add(count as u64);
                    if frame.sent == frame.bytes.len() {
                        self.output.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(gone("send on a control connection", errno)),
            }
        }
        Ok(())
    }

    /// Reads once. Never call it while a whole message waits: take messages first.
    pub fn fill(&mut self, scratch: &mut [u8], counters: &Counters) -> Result<Filled> {
        if self.ended {
            return Ok(Filled::End);
        }
        let room = CONTROL_MESSAGE.saturating_sub(self.input.len()).min(scratch.len());
        let window = scratch.get_mut(..room).unwrap_or_default();
        let count = loop {
            let result = match self.road {
                Road::Tcp => recv(&self.socket, &mut *window, RecvFlags::DONTWAIT).map(|(_, count)| count),
                Road::Unix => recv_with(&self.socket, window, &mut self.descriptors, counters),
            };
            match result {
                Ok(count) => break count,
                Err(Errno::AGAIN) => return Ok(Filled::Empty),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(gone("receive on a control connection", errno)),
            }
        };
        if count == 0 {
            self.ended = true;
            return Ok(Filled::End);
        }
        counters.bytes_received.add(count as u64);
        self.input.extend_from_slice(&window[..count]);
        if self.descriptors.len() > WAITING {
            return Err(broken("the peer sends descriptors without messages"));
        }
        Ok(Filled::Bytes(count))
    }

    /// The next whole message, if it is there.
    pub fn next(&mut self, counters: &Counters) -> Result<Option<Arrived>> {
        loop {
            match Message::decode(&self.input)? {
                Decoded::Partial => {
                    self.settle(counters);
                    return Ok(None);
                }
                Decoded::Ignored { descriptor, bytes } => {
                    if descriptor {
                        self.take_descriptors()?;
                    }
                    self.input.drain(..bytes);
                }
                Decoded::Message { message, bytes } => {
                    let announced = message.has_descriptors();
                    let descriptors = if announced { Some(self.take_descriptors()?) } else { None };
                    self.input.drain(..bytes);
                    return Ok(Some(Arrived { message, descriptors }));
                }
            }
        }
    }

    /// Forgets input and output: only the end is of interest now.
    pub fn discard_input(&mut self) {
        self.input = Vec::new();
        self.descriptors.clear();
    }

    fn take_descriptors(&mut self) -> Result<[OwnedFd; 2]> {
        let pair = (self.descriptors.pop_front(), self.descriptors.pop_front());
        let (Some(first), Some(second)) = pair else {
            return Err(broken("a message announces descriptors that did not come"));
        };
        Ok([first, second])
    }

    /// No whole message is left. Without even a part of one, no message can claim the descriptors that wait.
    fn settle(&mut self, counters: &Counters) {
        let claimable = if self.input.is_empty() { 0 } else { 2 };
        if self.descriptors.len() > claimable {
            // Those that belong to the part came last.
            let extra = self.descriptors.len() - claimable;
            self.descriptors.drain(..extra);
            counters.descriptors_dropped.add(extra as u64);
        }
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = Vec::new();
        }
    }
}

fn send_with(socket: &OwnedFd, bytes: &[u8], descriptors: &[OwnedFd; 2]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptors.each_ref().map(AsFd::as_fd);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn recv_with(
    socket: &OwnedFd,
    window: &mut [u8],
    descriptors: &mut VecDeque<OwnedFd>,
    counters: &Counters,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(window)], &mut control, flags)?;
    if received.flags.contains(rustix::net::ReturnFlags::CTRUNC) {
        counters.descriptors_dropped.add(1);
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            descriptors.extend(list);
        }
    }
    Ok(received.bytes)
}

/// The kernel says that the connection is over.
fn gone(what: &str, errno: Errno) -> Error {
    let mut error = Error::os(what, &errno.into());
    error.status = Status::ConnectionLost;
    error
}
