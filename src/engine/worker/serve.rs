//! The target: gets, puts and atomics that arrive as messages are checked against the exports, then done.

use zerocopy::IntoBytes;

use super::core::Core;
use super::data::Data;
use super::fabric::{Started, Token};
use super::message::Incoming;
use super::work::Local;
use crate::engine::buffer::Span;
use crate::engine::frame::{Access, Frame, Kind, Operands};
use crate::engine::key::{Rights, Secret};
use crate::limits;
use crate::status::Status;

impl Core {
    /// Serves one access and answers it exactly once.
    #[allow(clippy::too_many_arguments, reason = "the parts of one frame, taken apart once")]
    pub(super) fn serve(
        &mut self,
        fabric: u64,
        peer: u64,
        frame: &Frame,
        kind: Kind,
        header: &[u8],
        inline: &[u8],
        data: Data,
    ) {
        let number = frame.channel.get();
        let Some(to) = self.peers.get_mut(peer) else { return };
        let Some(channel) = to.channels.get(number) else {
            let reply = match kind {
                Kind::Get => Kind::GetReply,
                Kind::Put => Kind::PutReply,
                _ => Kind::AtomicReply,
            };
            return self.reply(peer, frame, reply, Status::Canceled);
        };
        channel.session.touch(self.context.ticks());
        match kind {
            Kind::Get => self.serve_get(peer, frame, header),
            Kind::Put => self.serve_put(fabric, peer, frame, header, inline, data),
            _ => self.serve_atomic(peer, frame, header),
        }
    }

    fn serve_get(&mut self, peer: u64, frame: &Frame, header: &[u8]) {
        let span = match self.granted(header, Rights::READ) {
            Ok((span, _)) => span,
            Err(status) => return self.reply(peer, frame, Kind::GetReply, status),
        };
        let busy = self.peers.get(peer).is_none_or(|to| to.serving >= limits::SERVING);
        if busy {
            return self.reply(peer, frame, Kind::GetReply, Status::QueueFull);
        }
        let answer = Frame::new(Kind::GetReply, 0, frame.channel.get(), frame.request.get());
        let sent = self.send(peer, answer, &[], &Local::Span(span), Token::Served(peer));
        match (sent, self.peers.get_mut(peer)) {
            (Ok(Started::Pending), Some(to)) => to.serving += 1,
            (Err(status), Some(_)) => self.reply(peer, frame, Kind::GetReply, status),
            _ => {}
        }
    }

    pub(super) fn served(&mut self, peer: u64) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.serving = peer.serving.saturating_sub(1);
        }
    }

    fn serve_put(&mut self, fabric: u64, peer: u64, frame: &Frame, header: &[u8], inline: &[u8], data: Data) {
        let landed = self.granted(header, Rights::WRITE).and_then(|(span, access)| {
            let came = inline.len() as u64 + data.len();
            if came != access.length.get() { Err(Status::Protocol) } else { Ok(span) }
        });
        let span = match landed {
            Ok(span) => span,
            Err(status) => return self.reply(peer, frame, Kind::PutReply, status),
        };
        let bytes = match &data {
            Data::Rendezvous(_) => return self.put_by_rendezvous(fabric, peer, frame, data, span),
            Data::Eager(eager) => eager,
            Data::None => inline,
        };
        let status = span.copy_from_slice(0, bytes).err().unwrap_or(Status::Ok);
        self.reply(peer, frame, Kind::PutReply, status);
    }

    fn put_by_rendezvous(&mut self, fabric: u64, peer: u64, frame: &Frame, data: Data, span: Span) {
        let id = self.incoming.insert(Incoming::Put { peer, frame: *frame });
        let status = match self.fabrics.receive(fabric, data, span, Token::Incoming(id), false) {
            Ok(Started::Pending) => return,
            Ok(Started::Done) => Status::Ok,
            Err(status) => status,
        };
        self.incoming.remove(id);
        self.reply(peer, frame, Kind::PutReply, status);
    }

    fn serve_atomic(&mut self, peer: u64, frame: &Frame, header: &[u8]) {
        let done = self.granted(header, Rights::ATOMIC).and_then(|(span, _)| {
            let (_, rest) = Access::decode(header)?;
            let operands = Operands::decode(rest)?;
            match frame.method.get() {
                0 => span.fetch_add(0, operands.operand.get()),
                1 => span.compare_swap(0, operands.compare.get(), operands.operand.get()),
                _ => Err(Status::Protocol),
            }
        });
        match done {
            Ok(before) => {
                let operands = Operands { operand: before.into(), compare: 0.into() };
                let answer = Frame::new(Kind::AtomicReply, 0, frame.channel.get(), frame.request.get());
                self.send_frame(peer, answer, operands.as_bytes());
            }
            Err(status) => self.reply(peer, frame, Kind::AtomicReply, status),
        }
    }

    /// The memory that a key opens, if it grants this.
    fn granted(&self, header: &[u8], right: Rights) -> Result<(Span, Access), Status> {
        let (access, _) = Access::decode(header)?;
        let length = if right == Rights::ATOMIC { 8 } else { access.length.get() };
        let exports = self.context.exports();
        let span =
            exports.check(access.export.get(), &Secret(access.secret), access.offset.get(), length, right)?;
        Ok((span, access))
    }

    /// A reply without bytes.
    pub(super) fn reply(&mut self, peer: u64, frame: &Frame, kind: Kind, status: Status) {
        let answer = Frame::new(kind, 0, frame.channel.get(), frame.request.get()).with_status(status);
        self.send_frame(peer, answer, &[]);
    }
}
