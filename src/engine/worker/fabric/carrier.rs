//! What carries the frames of a fabric, and sending by it: a UCX worker or a stream.

use super::{Fabric, Fabrics, Started, Token, started};
use crate::engine::buffer::Span;
use crate::engine::file::FileRange;
use crate::engine::frame::Frame;
use crate::engine::stream::Stream;
use crate::engine::worker::data::{Data, Rendezvous};
use crate::status::Status;
use crate::ucx::{self, EndpointId, Protocol};

/// Where frames to a peer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine::worker) enum Endpoint {
    /// By UCX.
    Ucx(EndpointId),
    /// By the fabric's stream: it has one peer.
    Stream,
}

/// What carries the frames of a fabric.
pub(super) enum Carrier {
    Ucx(Box<ucx::Worker<Span>>),
    Stream(Box<Stream>),
}

impl Fabric {
    pub(super) fn ucx(&self) -> Option<&ucx::Worker<Span>> {
        match &self.carrier {
            Carrier::Ucx(worker) => Some(worker),
            Carrier::Stream(_) => None,
        }
    }

    #[inline]
    pub(super) fn ucx_mut(&mut self) -> Option<&mut ucx::Worker<Span>> {
        match &mut self.carrier {
            Carrier::Ucx(worker) => Some(worker),
            Carrier::Stream(_) => None,
        }
    }

    pub(super) fn stream(&self) -> Option<&Stream> {
        match &self.carrier {
            Carrier::Stream(stream) => Some(stream),
            Carrier::Ucx(_) => None,
        }
    }

    #[inline]
    pub(super) fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.carrier {
            Carrier::Stream(stream) => Some(stream),
            Carrier::Ucx(_) => None,
        }
    }

    /// Whether something may still be used of what its peer's operations named.
    pub(super) fn is_in_use(&self) -> bool {
        match &self.carrier {
            Carrier::Ucx(worker) => worker.in_flight() > 0,
            Carrier::Stream(stream) => stream.has_ended(),
        }
    }
}

impl Fabrics {
    /// Sends a frame alone; see [`ucx::Worker::send_short`].
    #[inline]
    pub fn send_short(
        &mut self,
        fabric: u64,
        endpoint: Endpoint,
        frame: &[u8],
        token: Token,
    ) -> Option<bool> {
        match (&mut self.list.get_mut(fabric)?.carrier, endpoint) {
            (Carrier::Ucx(worker), Endpoint::Ucx(id)) => worker.send_short(id, frame, token.pack()),
            (Carrier::Stream(stream), _) => {
                self.streams.touch(fabric);
                stream.post(frame, Vec::new(), 0).ok().map(|()| true)
            }
            _ => None,
        }
    }

    /// Sends a frame by the peer's ring; `false` when there is none, or no room in it.
    #[inline]
    pub fn put_short(&mut self, fabric: u64, frame: &[u8]) -> bool {
        let writer = self.list.get_mut(fabric).and_then(|of| of.writer.as_mut());
        writer.is_some_and(|writer| writer.put(frame))
    }

    /// Sends a frame, with bytes beside it or without.
    pub fn send(
        &mut self,
        fabric: u64,
        endpoint: Endpoint,
        frame: &[u8],
        span: Option<Span>,
        token: Token,
    ) -> std::result::Result<Started, Status> {
        match (&mut self.list.get_mut(fabric).ok_or(Status::ConnectionLost)?.carrier, endpoint) {
            (Carrier::Ucx(worker), Endpoint::Ucx(id)) => {
                started(worker.send(id, frame, span, token.pack(), Protocol::Auto))
            }
            (Carrier::Stream(stream), _) => {
                self.streams.touch(fabric);
                post(stream, frame, span.into_iter().collect(), token)
            }
            _ => Err(Status::Internal),
        }
    }

    /// Sends a frame, with bytes beside it that lie in several places.
    pub fn send_pieces(
        &mut self,
        fabric: u64,
        endpoint: Endpoint,
        frame: &[u8],
        spans: Vec<Span>,
        token: Token,
    ) -> std::result::Result<Started, Status> {
        match (&mut self.list.get_mut(fabric).ok_or(Status::ConnectionLost)?.carrier, endpoint) {
            (Carrier::Ucx(worker), Endpoint::Ucx(id)) => {
                started(worker.send_pieces(id, frame, spans, token.pack(), Protocol::Auto))
            }
            (Carrier::Stream(stream), _) => {
                self.streams.touch(fabric);
                post(stream, frame, spans, token)
            }
            _ => Err(Status::Internal),
        }
    }

    /// Sends a frame with a part of a file beside it. `Unsupported` unless the peer has a stream.
    pub fn send_file(
        &mut self,
        fabric: u64,
        frame: &[u8],
        file: FileRange,
        token: Token,
    ) -> std::result::Result<Started, Status> {
        let of = self.list.get_mut(fabric).ok_or(Status::ConnectionLost)?;
        let stream = of.stream_mut().ok_or(Status::Unsupported)?;
        stream.post_file(frame, file, token.pack())?;
        self.streams.touch(fabric);
        Ok(Started::Pending)
    }

    /// Fetches what a sender holds; a stream tells its checksum if it is to be `counted`.
    pub fn receive(
        &mut self,
        fabric: u64,
        data: Data,
        into: Span,
        token: Token,
        counted: bool,
    ) -> std::result::Result<Started, Status> {
        let Data::Rendezvous(held) = data else { return Err(Status::Internal) };
        match (&mut self.list.get_mut(fabric).ok_or(Status::ConnectionLost)?.carrier, held) {
            (Carrier::Ucx(worker), Rendezvous::Ucx(held)) => {
                started(worker.receive(held, into, token.pack()))
            }
            (Carrier::Stream(stream), Rendezvous::Stream(payload)) => {
                self.streams.touch(fabric);
                stream.claim(&payload, into, token.pack(), counted).map(|()| Started::Pending)
            }
            _ => Err(Status::ConnectionLost),
        }
    }
}

/// Puts a frame on a stream; a message may have to wait for memory, and nothing else should wait with it. A peer that takes so little that not even our answers find room is cut off.
fn post(
    stream: &mut Stream,
    frame: &[u8],
    spans: Vec<Span>,
    token: Token,
) -> std::result::Result<Started, Status> {
    let long = !spans.is_empty();
    let posted = if Frame::is_message(frame) {
        stream.offer(frame, spans, token.pack())
    } else {
        stream.post(frame, spans, token.pack())
    };
    if posted == Err(Status::QueueFull) && token == Token::Frame {
        stream.give_up();
    }
    posted.map(|()| if long { Started::Pending } else { Started::Done })
}
