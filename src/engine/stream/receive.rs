//! The receiving half: frames as they come, and payloads straight to where they belong.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};

use super::send::Sender;
use super::wire::{self, Part, Word};
use super::{End, Ended, socket};
use crate::crc32c::Sum;
use crate::engine::buffer::Span;
use crate::limits::{COMPACT_FRAME, STREAM_INPUT, STREAM_PAYLOADS};
use crate::status::Status;

/// Reads of what nobody wants when a stream is closed.
const LAST_READS: u32 = 256;

/// A payload that a frame has announced. Dropping it is refusing it: its bytes are read and forgotten.
pub(in crate::engine) struct Payload {
    number: u64,
    length: u64,
    /// Whether it comes only when it is claimed; the number is the offer's then.
    offered: bool,
    /// Shared with the receiver, which sees that it was dropped.
    _wanted: Arc<()>,
}

impl Payload {
    /// Bytes that were announced.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// Where the bytes of an announced payload go.
enum To {
    /// Nobody has said yet.
    Open(Arc<()>),
    Span {
        span: Span,
        at: usize,
        token: u64,
        /// Of what has come, if somebody wants it.
        sum: Option<Box<Sum>>,
    },
}

/// A payload of which not all has come.
struct Incoming {
    rest: u64,
    to: To,
}

impl Incoming {
    /// Whether its bytes must stay where they are, because nobody has said where they go.
    fn is_stuck(&self) -> bool {
        matches!(&self.to, To::Open(wanted) if Arc::strong_count(wanted) > 1)
    }
}

/// What one read brought.
pub(super) enum Pulled {
    /// So many bytes, and whether there may be more.
    Bytes(usize, bool),
    /// Nothing for now.
    Nothing,
}

/// What has come on one stream and is not all taken.
pub(super) struct Receiver {
    input: Vec<u8>,
    begin: usize,
    end: usize,
    incoming: VecDeque<Incoming>,
    /// The number of the oldest of them.
    first: u64,
    /// Bytes of the oldest that come next.
    piece: usize,
    /// Payloads that come when we ask for them, by number.
    offers: BTreeMap<u32, Incoming>,
    next_offer: u32,
}

impl Receiver {
    /// `came` is what was read before.
    pub fn new(mut came: Vec<u8>) -> Receiver {
        let end = came.len();
        came.resize(end.max(STREAM_INPUT), 0);
        Receiver {
            input: came,
            begin: 0,
            end,
            incoming: VecDeque::new(),
            first: 0,
            piece: 0,
            offers: BTreeMap::new(),
            next_offer: 0,
        }
    }

    /// Whether what comes next has no place to go yet.
    pub fn is_stuck(&self) -> bool {
        self.piece > 0 && self.incoming.front().is_some_and(Incoming::is_stuck)
    }

    /// Bytes of a payload that come before anything else; 0 when it may be a frame that comes next.
    pub fn comes_first(&self) -> usize {
        if self.begin == self.end { self.piece } else { 0 }
    }

    /// Copies the next frame into `into`, if it has come: its length, and the payload that it announces.
    #[inline]
    pub fn take(
        &mut self,
        into: &mut [u8; COMPACT_FRAME],
        sender: &mut Sender,
        ended: &mut VecDeque<Ended>,
    ) -> Result<Option<(usize, Option<Payload>)>, Status> {
        loop {
            if self.piece > 0 && !self.absorb(ended) {
                return Ok(None);
            }
            let Some((part, used)) = wire::decode(&self.input[self.begin..self.end])? else {
                return Ok(None);
            };
            self.begin += used;
            let (frame, announced, offered) = match part {
                Part::Frame(frame) => (frame, 0, false),
                Part::Announcing(frame, length) => (frame, length, false),
                Part::Offering(frame, length) => (frame, length, true),
                Part::Padding => continue,
                Part::Piece(length) => {
                    self.open_piece(length)?;
                    continue;
                }
                Part::Fetch(number) => {
                    sender.answered(number, true, ended)?;
                    continue;
                }
                Part::Refuse(number) => {
                    sender.answered(number, false, ended)?;
                    continue;
                }
                Part::Comes(number) => {
                    self.comes(number)?;
                    continue;
                }
                Part::Spoiled => {
                    self.spoiled(ended)?;
                    continue;
                }
            };
            into[..frame.len()].copy_from_slice(frame);
            let length = frame.len();
            let payload = if announced > 0 { Some(self.announce(announced, offered)?) } else { None };
            return Ok(Some((length, payload)));
        }
    }

    fn open_piece(&mut self, length: usize) -> Result<(), Status> {
        match self.incoming.front() {
            Some(front) if front.rest >= length as u64 => self.piece = length,
            _ => return Err(Status::Protocol),
        }
        Ok(())
    }

    fn announce(&mut self, length: u64, offered: bool) -> Result<Payload, Status> {
        if self.incoming.len() + self.offers.len() >= STREAM_PAYLOADS {
            return Err(Status::Protocol);
        }
        let wanted = Arc::new(());
        let incoming = Incoming { rest: length, to: To::Open(wanted.clone()) };
        let number = if offered {
            let number = self.next_offer;
            self.next_offer = number.wrapping_add(1);
            self.offers.insert(number, incoming);
            u64::from(number)
        } else {
            self.incoming.push_back(incoming);
            self.first + self.incoming.len() as u64 - 1
        };
        Ok(Payload { number, length, offered, _wanted: wanted })
    }

    /// The payload of an offer that we asked for comes behind those that were announced.
    fn comes(&mut self, number: u32) -> Result<(), Status> {
        match self.offers.remove(&number) {
            Some(incoming) if matches!(incoming.to, To::Span { .. }) => {
                self.incoming.push_back(incoming);
                Ok(())
            }
            _ => Err(Status::Protocol),
        }
    }

    /// The rest of the oldest payload does not come.
    fn spoiled(&mut self, ended: &mut VecDeque<Ended>) -> Result<(), Status> {
        let spoiled = self.incoming.pop_front().ok_or(Status::Protocol)?;
        self.first += 1;
        if let To::Span { token, .. } = spoiled.to {
            ended.push_back(Ended { token, received: true, end: End::Spoiled });
        }
        Ok(())
    }

    /// Offers that were dropped are refused.
    pub fn refuse_dropped(&mut self, sender: &mut Sender) {
        self.offers.retain(|number, offer| {
            let dropped = matches!(&offer.to, To::Open(wanted) if Arc::strong_count(wanted) == 1);
            if dropped {
                sender.say(Word::Refuse, *number);
            }
            !dropped
        });
    }

    /// Has an announced payload written into `into`, which is as long; `token` names its end; `counted`: it tells its checksum.
    pub fn claim(
        &mut self,
        payload: &Payload,
        into: Span,
        token: u64,
        counted: bool,
        sender: &mut Sender,
    ) -> Result<(), Status> {
        if into.len() as u64 != payload.length || !into.is_writable() {
            return Err(Status::Internal);
        }
        let incoming = if payload.offered {
            self.offers.get_mut(&(payload.number as u32))
        } else {
            let index = payload.number.checked_sub(self.first).ok_or(Status::ConnectionLost)?;
            self.incoming.get_mut(index as usize)
        };
        match incoming {
            Some(incoming) if matches!(incoming.to, To::Open(_)) => {
                let sum = counted.then(Box::default);
                incoming.to = To::Span { span: into, at: 0, token, sum };
                if payload.offered {
                    sender.say(Word::Fetch, payload.number as u32);
                }
                Ok(())
            }
            _ => Err(Status::ConnectionLost),
        }
    }

    /// Moves what has come of the piece to where it belongs; whether the piece is complete.
    fn absorb(&mut self, ended: &mut VecDeque<Ended>) -> bool {
        let here = self.piece.min(self.end - self.begin);
        let Some(front) = self.incoming.front_mut().filter(|front| here > 0 && !front.is_stuck()) else {
            return false;
        };
        if let To::Span { span, at, .. } = &front.to {
            // It is as long as the payload and writable, so this cannot fail.
            let _ = span.copy_from_slice(*at as u64, &self.input[self.begin..self.begin + here]);
        }
        self.begin += here;
        self.moved(here, ended);
        self.piece == 0
    }

    /// So many bytes of the piece are where they belong.
    fn moved(&mut self, count: usize, ended: &mut VecDeque<Ended>) {
        self.piece -= count;
        let Some(front) = self.incoming.front_mut() else { return };
        front.rest -= count as u64;
        if let To::Span { span, at, sum, .. } = &mut front.to {
            if let Some(sum) = sum {
                // They are in this core's cache now.
                let _ = span.count(*at, count, sum);
            }
            *at += count;
        }
        if front.rest > 0 {
            return;
        }
        self.first += 1;
        if let Some(Incoming { to: To::Span { token, sum, .. }, .. }) = self.incoming.pop_front() {
            let end = sum.map_or(End::Good, |sum| End::Counted(sum.value()));
            ended.push_back(Ended { token, received: true, end });
        }
    }

    /// Reads once: a payload's bytes to where they belong, anything else into the input. `Ok(Bytes(0, _))`: the end.
    pub fn pull(&mut self, socket: &OwnedFd, ended: &mut VecDeque<Ended>) -> Result<Pulled, Errno> {
        if self.piece > 0 && self.begin == self.end {
            return self.pull_payload(socket, ended);
        }
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.begin > 0 {
            self.input.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        if self.end == self.input.len() {
            // Full of a payload that has no place to go yet.
            return Ok(Pulled::Nothing);
        }
        let room = self.input.len() - self.end;
        let count = recv(socket, &mut self.input[self.end..], RecvFlags::DONTWAIT)?.1;
        self.end += count;
        Ok(Pulled::Bytes(count, count == room))
    }

    fn pull_payload(&mut self, socket: &OwnedFd, ended: &mut VecDeque<Ended>) -> Result<Pulled, Errno> {
        let Some(front) = self.incoming.front() else { return Ok(Pulled::Nothing) };
        let count = match &front.to {
            _ if front.is_stuck() => return Ok(Pulled::Nothing),
            To::Span { span, at, .. } => socket::receive(socket, span, *at, self.piece)?,
            To::Open(_) => {
                let room = self.piece.min(self.input.len());
                recv(socket, &mut self.input[..room], RecvFlags::DONTWAIT)?.1
            }
        };
        self.moved(count, ended);
        Ok(Pulled::Bytes(count, count > 0 && self.piece == 0))
    }

    /// Says goodbye: a socket that is closed with bytes unread takes what we said last away from the peer.
    pub fn part(&mut self, socket: &OwnedFd) {
        if shutdown(socket, Shutdown::Write).is_err() {
            return;
        }
        for _ in 0..LAST_READS {
            match recv(socket, &mut self.input[..], RecvFlags::DONTWAIT) {
                Ok((_, 1..)) => {}
                _ => return,
            }
        }
    }

    /// The stream has ended: what was to come will not.
    pub fn end(&mut self, ended: &mut VecDeque<Ended>) {
        self.first += self.incoming.len() as u64;
        let offers = std::mem::take(&mut self.offers).into_values();
        for incoming in self.incoming.drain(..).chain(offers) {
            if let To::Span { token, .. } = incoming.to {
                ended.push_back(Ended { token, received: true, end: End::Lost });
            }
        }
        (self.piece, self.begin, self.end) = (0, 0, 0);
    }
}
