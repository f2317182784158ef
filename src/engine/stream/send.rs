//! The sending half: frames in their order, and the payloads that they announced, in pieces between them.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::socket::{self, Piece};
use super::wire::{Comes, Word};
use super::{Ended, wire};
use crate::engine::buffer::Span;
use crate::limits::{STREAM_OUTPUT, STREAM_PAYLOADS, STREAM_PIECE};
use crate::status::Status;

/// Bytes sent before others have their turn.
const TURN: usize = 2 << 20;

/// Shorter pieces are sent where they are, aligned or not.
const LONG: usize = 4 << 10;

/// Memory for frames that is kept when they have gone.
const KEEP: usize = 64 << 10;

/// A payload on its way.
struct Payload {
    spans: Vec<Span>,
    /// The span, and the place in it, where the next byte is.
    next: (usize, usize),
    rest: u64,
    token: u64,
}

impl Payload {
    fn advance(&mut self, mut count: usize) {
        self.rest -= count as u64;
        while let Some(span) = self.spans.get(self.next.0) {
            let here = span.len() - self.next.1;
            if count < here {
                self.next.1 += count;
                return;
            }
            count -= here;
            self.next = (self.next.0 + 1, 0);
        }
    }
}

/// What waits to be sent on one stream.
#[derive(Default)]
pub(super) struct Sender {
    /// Frames and heads that go first, and how many of their bytes have gone.
    ahead: Vec<u8>,
    gone: usize,
    /// Bytes of the oldest payload that go next.
    piece: usize,
    /// Frames that go behind those.
    behind: Vec<u8>,
    payloads: VecDeque<Payload>,
    /// Payloads that nobody has asked for yet, by number.
    offers: BTreeMap<u32, Payload>,
    next_offer: u32,
    /// All bytes that have gone; it wraps.
    total: usize,
}

impl Sender {
    /// Whether something waits.
    pub fn is_busy(&self) -> bool {
        self.gone < self.ahead.len() || !self.behind.is_empty() || !self.payloads.is_empty()
    }

    /// Where the next frame goes.
    fn out(&mut self) -> &mut Vec<u8> {
        if self.piece > 0 { &mut self.behind } else { &mut self.ahead }
    }

    /// Puts a frame in line, with a payload that goes in turn or is offered, or with none; `false` when too much waits
    /// already.
    pub fn post(&mut self, frame: &[u8], spans: Vec<Span>, token: u64, offer: bool) -> bool {
        let length: usize = spans.iter().map(Span::len).sum();
        let waiting = self.ahead.len() + self.behind.len();
        if waiting >= STREAM_OUTPUT || self.payloads.len() + self.offers.len() >= STREAM_PAYLOADS {
            return false;
        }
        let payload = Payload { spans, next: (0, 0), rest: length as u64, token };
        let comes = match (length, offer) {
            (0, _) => Comes::Never,
            (_, false) => Comes::InTurn,
            (_, true) => Comes::Asked,
        };
        wire::put_frame(self.out(), frame, comes);
        match comes {
            Comes::Never => {}
            Comes::InTurn => self.payloads.push_back(payload),
            Comes::Asked => {
                self.offers.insert(self.next_offer, payload);
                self.next_offer = self.next_offer.wrapping_add(1);
            }
        }
        true
    }

    /// Says something about an offer of the peer.
    pub fn say(&mut self, word: Word, number: u32) {
        wire::put_word(self.out(), word, number);
    }

    /// The peer wants an offer, or does not: then it counts as sent.
    pub fn answered(&mut self, number: u32, wanted: bool, ended: &mut VecDeque<Ended>) -> Result<(), Status> {
        let payload = self.offers.remove(&number).ok_or(Status::Protocol)?;
        if wanted {
            wire::put_word(self.out(), Word::Comes, number);
            self.payloads.push_back(payload);
        } else {
            ended.push_back(Ended { token: payload.token, received: false, good: true });
        }
        Ok(())
    }

    /// Sends what the socket takes now, within one turn; how many bytes that were.
    pub fn flush(&mut self, socket: &OwnedFd, ended: &mut VecDeque<Ended>) -> Result<usize, Errno> {
        let mut total = 0;
        while total < TURN {
            self.next_piece();
            if self.gone == self.ahead.len() && self.piece == 0 {
                break;
            }
            let (sent, asked) = match self.send(socket) {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            total += sent;
            self.advance(sent, ended);
            if sent < asked {
                break;
            }
        }
        Ok(total)
    }

    /// Opens a piece of the oldest payload, if none is open.
    fn next_piece(&mut self) {
        if let (0, Some(payload)) = (self.piece, self.payloads.front()) {
            self.piece = payload.rest.min(STREAM_PIECE as u64) as usize;
            if self.piece >= LONG {
                let place = self.total.wrapping_add(self.ahead.len() - self.gone);
                wire::put_padding(&mut self.ahead, place);
            }
            wire::put_piece(&mut self.ahead, self.piece);
        }
    }

    fn send(&self, socket: &OwnedFd) -> Result<(usize, usize), Errno> {
        socket::send(socket, |add| {
            add(Piece::Bytes(&self.ahead[self.gone..]));
            let Some(payload) = self.payloads.front().filter(|_| self.piece > 0) else { return };
            let (mut rest, (first, mut at)) = (self.piece, payload.next);
            for span in &payload.spans[first..] {
                let here = rest.min(span.len() - at);
                let room = add(Piece::Span(span, at, here));
                (rest, at) = (rest - here, 0);
                if rest == 0 || !room {
                    break;
                }
            }
            if rest == 0 {
                add(Piece::Bytes(&self.behind));
            }
        })
    }

    /// So many bytes have gone.
    fn advance(&mut self, count: usize, ended: &mut VecDeque<Ended>) {
        self.total = self.total.wrapping_add(count);
        let frames = count.min(self.ahead.len() - self.gone);
        self.gone += frames;
        if self.gone < self.ahead.len() {
            return;
        }
        let moved = (count - frames).min(self.piece);
        self.piece -= moved;
        if let Some(payload) = self.payloads.front_mut().filter(|_| moved > 0) {
            payload.advance(moved);
            if payload.rest == 0 {
                ended.push_back(Ended { token: payload.token, received: false, good: true });
                self.payloads.pop_front();
            }
        }
        if self.piece > 0 {
            return;
        }
        self.ahead.clear();
        self.ahead.shrink_to(KEEP);
        std::mem::swap(&mut self.ahead, &mut self.behind);
        self.gone = count - frames - moved;
    }

    /// The stream has ended: what waited will never go.
    pub fn end(&mut self, ended: &mut VecDeque<Ended>) {
        let offers = std::mem::take(&mut self.offers).into_values();
        for payload in self.payloads.drain(..).chain(offers) {
            ended.push_back(Ended { token: payload.token, received: false, good: false });
        }
        *self = Sender::default();
    }
}
