//! The sending half: frames in their order, and the payloads that they announced, in pieces between them.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::socket::{self, Piece};
use super::wire::{Comes, Word};
use super::{End, Ended, wire};
use crate::engine::buffer::Span;
use crate::engine::file::FileRange;
use crate::limits::{STREAM_OUTPUT, STREAM_PAYLOADS, STREAM_PIECE};
use crate::status::Status;

/// Bytes sent before others have their turn.
const TURN: usize = 2 << 20;

/// Shorter pieces are sent where they are, aligned or not.
const LONG: usize = 4 << 10;

/// What goes in the place of bytes that a file turned out not to have.
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// Memory for frames that is kept when they have gone.
const KEEP: usize = 64 << 10;

/// Bytes at the end of a part of a file that are copied: once they are there, all of it was, and only then they go.
const FILE_END: usize = 64;

/// What a payload is made of.
pub(super) enum Body {
    Spans(Vec<Span>),
    File(FileRange),
}

impl From<Vec<Span>> for Body {
    fn from(spans: Vec<Span>) -> Body {
        Body::Spans(spans)
    }
}

impl Body {
    fn len(&self) -> u64 {
        match self {
            Body::Spans(spans) => spans.iter().map(|span| span.len() as u64).sum(),
            Body::File(file) => file.len(),
        }
    }
}

/// A payload on its way.
struct Payload {
    body: Body,
    /// The span, and the place in it, where the next byte is.
    next: (usize, usize),
    rest: u64,
    token: u64,
    /// The file has ended too early: zeros go in its place, and then the word that it is no good.
    spoiled: bool,
}

impl Payload {
    fn advance(&mut self, mut count: usize) {
        self.rest -= count as u64;
        let spans = match &mut self.body {
            Body::Spans(spans) => spans,
            Body::File(file) => return file.advance(count as u64),
        };
        while let Some(span) = spans.get(self.next.0) {
            let here = span.len() - self.next.1;
            if count < here {
                self.next.1 += count;
                return;
            }
            count -= here;
            self.next = (self.next.0 + 1, 0);
        }
    }

    /// Bytes of the next piece; 0: what is left is no piece, see [`Payload::end_file`].
    fn piece(&self) -> usize {
        let longest = match &self.body {
            Body::Spans(_) => self.rest,
            Body::File(_) if self.spoiled => 0,
            Body::File(_) => self.rest.saturating_sub(FILE_END as u64),
        };
        longest.min(STREAM_PIECE as u64) as usize
    }

    /// Appends the end of a file, by copy, or the word that there is none.
    fn end_file(&self, out: &mut Vec<u8>) {
        let (mut end, length) = ([0; FILE_END], self.rest as usize);
        match &self.body {
            Body::File(file) if !self.spoiled && file.read(&mut end[..length]) == length => {
                wire::put_piece(out, length);
                out.extend_from_slice(&end[..length]);
            }
            _ => wire::put_spoiled(out),
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
    pub fn post(&mut self, frame: &[u8], body: Body, token: u64, offer: bool) -> bool {
        let length = body.len();
        let waiting = self.ahead.len() + self.behind.len();
        if waiting >= STREAM_OUTPUT || self.payloads.len() + self.offers.len() >= STREAM_PAYLOADS {
            return false;
        }
        let payload = Payload { body, next: (0, 0), rest: length, token, spoiled: false };
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
            ended.push_back(Ended { token: payload.token, received: false, end: End::Good });
        }
        Ok(())
    }

    /// Sends what the socket takes now, within one turn; how many bytes that were.
    pub fn flush(&mut self, socket: &OwnedFd, ended: &mut VecDeque<Ended>) -> Result<usize, Errno> {
        let mut total = 0;
        while total < TURN {
            self.next_piece(ended);
            if self.gone == self.ahead.len() && self.piece == 0 {
                break;
            }
            let (sent, asked) = match self.send(socket) {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            if sent == 0 && asked > 0 {
                self.spoil();
                continue;
            }
            total += sent;
            self.advance(sent, ended);
            if sent < asked {
                break;
            }
        }
        Ok(total)
    }

    /// Opens a piece of the oldest payload, if none is open. Ends of files go with what is ahead.
    fn next_piece(&mut self, ended: &mut VecDeque<Ended>) {
        while let (0, Some(payload)) = (self.piece, self.payloads.front()) {
            self.piece = payload.piece();
            if self.piece == 0 {
                payload.end_file(&mut self.ahead);
                ended.push_back(Ended { token: payload.token, received: false, end: End::Good });
                self.payloads.pop_front();
                continue;
            }
            if self.piece >= LONG && matches!(payload.body, Body::Spans(_)) {
                let place = self.total.wrapping_add(self.ahead.len() - self.gone);
                wire::put_padding(&mut self.ahead, place);
            }
            wire::put_piece(&mut self.ahead, self.piece);
        }
    }

    /// The oldest payload's file has no more bytes. What was announced of its piece goes all the same.
    fn spoil(&mut self) {
        if let Some(payload) = self.payloads.front_mut() {
            payload.spoiled = true;
        }
    }

    /// Sends once: how many bytes went, and how many there were. Nothing of something: a file has ended.
    fn send(&self, socket: &OwnedFd) -> Result<(usize, usize), Errno> {
        let open = self.payloads.front().filter(|_| self.piece > 0);
        match open.map(|payload| (&payload.body, payload)) {
            Some((Body::File(file), payload)) => self.send_file(socket, file, payload.spoiled),
            Some((Body::Spans(spans), payload)) => self.send_spans(socket, spans, payload.next),
            None => self.send_spans(socket, &[], (0, 0)),
        }
    }

    fn send_file(&self, socket: &OwnedFd, file: &FileRange, spoiled: bool) -> Result<(usize, usize), Errno> {
        let ahead = &self.ahead[self.gone..];
        if !ahead.is_empty() {
            return socket::send(socket, true, |add| {
                add(Piece::Bytes(ahead));
            });
        }
        if spoiled {
            return socket::send(socket, true, |add| {
                add(Piece::Bytes(&ZEROS[..self.piece.min(ZEROS.len())]));
            });
        }
        match file.send(socket.as_fd(), self.piece) {
            // A disk that cannot be read, or an end that the next call says.
            Err(errno) if !matches!(errno, Errno::AGAIN | Errno::INTR | Errno::PIPE | Errno::CONNRESET) => {
                Ok((0, self.piece))
            }
            sent => sent.map(|sent| (sent, self.piece)),
        }
    }

    fn send_spans(
        &self,
        socket: &OwnedFd,
        spans: &[Span],
        (first, mut at): (usize, usize),
    ) -> Result<(usize, usize), Errno> {
        socket::send(socket, false, |add| {
            add(Piece::Bytes(&self.ahead[self.gone..]));
            if spans.is_empty() {
                return;
            }
            let mut rest = self.piece;
            for span in &spans[first..] {
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
                ended.push_back(Ended { token: payload.token, received: false, end: End::Good });
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
            ended.push_back(Ended { token: payload.token, received: false, end: End::Lost });
        }
        *self = Sender::default();
    }
}
