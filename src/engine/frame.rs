//! The frame that precedes everything on the data path, and the typed headers behind it; `docs/wire.md` has the
//! offsets. Little-endian. Decoding trusts nothing: every length is checked against what arrived.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::call::short;
use crate::status::Status;

/// First two bytes of every frame: `RD`.
pub const MAGIC: u16 = u16::from_le_bytes(*b"RD");
/// Version of the frame; another one is refused.
pub const VERSION: u8 = 1;

/// What a frame is for. Values are part of the wire format.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The dialler opened a session on this channel.
    SessionOpen = 1,
    /// The sender ended the session; `status` says why.
    SessionClose = 2,
    /// Credits only.
    Window = 3,
    /// One message.
    Message = 4,
    /// Asks for bytes of an exported buffer; [`Access`] follows.
    Get = 5,
    /// The bytes, or a status.
    GetReply = 6,
    /// Bytes for an exported buffer; [`Access`] follows.
    Put = 7,
    /// How the put went.
    PutReply = 8,
    /// Fetch-add or compare-swap; [`Access`] and [`Operands`] follow.
    Atomic = 9,
    /// The value before, in [`Operands::operand`], or a status.
    AtomicReply = 10,
    /// Calls a method; a [`Header`](crate::engine::call::Header) follows, and an
    /// [`Once`](crate::engine::call::Once) if the flag says so.
    Call = 11,
    /// The answer to a call.
    Reply = 12,
    /// The caller does not wait for an answer any more.
    Cancel = 13,
    /// A call that nobody answers.
    OneWay = 14,
}

impl Kind {
    fn from_u8(number: u8) -> Option<Kind> {
        use Kind::*;
        const KINDS: [Kind; 14] = [
            SessionOpen,
            SessionClose,
            Window,
            Message,
            Get,
            GetReply,
            Put,
            PutReply,
            Atomic,
            AtomicReply,
            Call,
            Reply,
            Cancel,
            OneWay,
        ];
        KINDS.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// `Frame::flags` of a call: it happens once; an `Once` follows its header.
pub const FLAG_ONCE: u32 = 1 << 0;

/// `Frame::flags` of a reply: `status` is the engine's, not the service's; `deadline` is when to try again.
pub const FLAG_REFUSED: u32 = 1 << 1;

/// The frame: 56 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Frame {
    magic: U16,
    version: u8,
    kind: u8,
    /// Kind-specific bits.
    pub flags: U32,
    /// Matches a reply to its request; the sender's.
    pub request: U64,
    /// The receiver's route, as told when the workers were attached.
    pub route: U32,
    /// The session's channel on that route.
    pub channel: U32,
    /// Atomics: 0 fetch-add, 1 compare-swap. Calls: the method.
    pub method: U32,
    /// Replies: a `Status`.
    pub status: U32,
    /// Nanoseconds the request has left; 0 is no deadline.
    pub deadline: U64,
    /// Bytes of payload.
    pub payload: U64,
    /// Bytes of typed header.
    pub header: U32,
    /// Messages of the channel that the sender has consumed since it last said so.
    pub credits: U32,
}

/// What precedes a short message: 12 bytes, so that with 8 bytes of payload it shares one cache line with UCX's own
/// headers. Between two cores each further line costs as much as all the rest.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Short {
    magic: u8,
    version: u8,
    /// Messages of the channel that the sender has consumed since it last said so.
    pub credits: U16,
    /// The receiver's route.
    pub route: U32,
    /// The session's channel on that route.
    pub channel: U32,
}

const _: () = assert!(size_of::<Short>() == 12);

impl Short {
    /// First byte of a short message; a [`Frame`] begins with another.
    pub const MAGIC: u8 = b'S';

    /// A header to `(route, channel)`.
    pub fn new(route: u32, channel: u32, credits: u16) -> Short {
        Short {
            magic: Short::MAGIC,
            version: VERSION,
            credits: credits.into(),
            route: route.into(),
            channel: channel.into(),
        }
    }

    /// The header and the message behind it, if this is a short message.
    pub fn decode(bytes: &[u8]) -> Option<(Short, &[u8])> {
        let (short, message) = Short::read_from_prefix(bytes).ok()?;
        (short.magic == Short::MAGIC && short.version == VERSION).then_some((short, message))
    }
}

/// A frame taken apart.
pub struct Parts<'a> {
    /// The frame itself.
    pub frame: Frame,
    /// What it is for.
    pub kind: Kind,
    /// Its typed header.
    pub header: &'a [u8],
    /// Payload that came in the same piece.
    pub inline: &'a [u8],
}

/// Which exported bytes a get, put or atomic touches: 40 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Access {
    /// The export's id.
    pub export: U64,
    /// The key's secret.
    pub secret: [u8; 16],
    /// Offset within the key's range.
    pub offset: U64,
    /// Length in bytes.
    pub length: U64,
}

/// Operands of an atomic, and its answer: 16 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Operands {
    /// What to add or to store; in the reply the value before.
    pub operand: U64,
    /// What must be there.
    pub compare: U64,
}

/// Bytes of a frame.
pub const FRAME: usize = size_of::<Frame>();
const _: () = assert!(FRAME == 56);
const _: () = assert!(size_of::<Access>() == 40);
const _: () = assert!(size_of::<Operands>() == 16);

impl Frame {
    /// A frame of `kind` to `(route, channel)`; everything else zero.
    pub fn new(kind: Kind, route: u32, channel: u32, request: u64) -> Frame {
        Frame {
            magic: MAGIC.into(),
            version: VERSION,
            kind: kind as u8,
            flags: 0.into(),
            request: request.into(),
            route: route.into(),
            channel: channel.into(),
            method: 0.into(),
            status: 0.into(),
            deadline: 0.into(),
            payload: 0.into(),
            header: 0.into(),
            credits: 0.into(),
        }
    }

    /// What it is for.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_u8(self.kind)
    }

    /// Sets the status of a reply.
    pub fn with_status(mut self, status: Status) -> Frame {
        self.status = (status as i32 as u32).into();
        self
    }

    /// The status of a reply; a number we do not know is a broken protocol.
    pub fn reply_status(&self) -> Status {
        Status::from_i32(self.status.get() as i32).unwrap_or(Status::Protocol)
    }

    /// The bytes of payload that a frame says it has; `None` for what is no frame.
    pub fn announced(bytes: &[u8]) -> Option<u64> {
        let (frame, _) = Frame::read_from_prefix(bytes).ok()?;
        (frame.magic.get() == MAGIC && frame.version == VERSION).then(|| frame.payload.get())
    }

    /// Whether a frame of ours is a message.
    pub fn is_message(bytes: &[u8]) -> bool {
        bytes.get(3) == Some(&(Kind::Message as u8))
    }

    /// Takes a frame apart: itself, its kind, its typed header, and the payload that came in the same piece.
    /// `separate` is how many bytes of payload came or will come beside it.
    pub fn decode(bytes: &[u8], separate: u64) -> Result<Parts<'_>, Status> {
        let (frame, rest) = Frame::read_from_prefix(bytes).map_err(|_| Status::Protocol)?;
        if frame.magic.get() != MAGIC || frame.version != VERSION {
            return Err(Status::Protocol);
        }
        let kind = Kind::from_u8(frame.kind).ok_or(Status::Protocol)?;
        let header = frame.header.get() as usize;
        if header > rest.len() {
            return Err(Status::Protocol);
        }
        let (header, inline) = rest.split_at(header);
        let beside = (inline.len() as u64).checked_add(separate);
        if beside != Some(frame.payload.get()) || (separate > 0 && !inline.is_empty()) {
            return Err(Status::Protocol);
        }
        Ok(Parts { frame, kind, header, inline })
    }
}

impl Access {
    /// Reads the typed header of a get, put or atomic.
    pub fn decode(header: &[u8]) -> Result<(Access, &[u8]), Status> {
        Access::read_from_prefix(header).map_err(|_| Status::Protocol)
    }
}

impl Operands {
    /// Reads operands; nothing may follow them.
    pub fn decode(header: &[u8]) -> Result<Operands, Status> {
        Operands::read_from_bytes(header).map_err(|_| Status::Protocol)
    }
}

/// A frame with its typed header and inline payload in one piece. Made once and filled again and again: clearing it
/// would cost as much as filling it.
pub struct Compact {
    bytes: [u8; crate::limits::COMPACT_FRAME],
    len: usize,
}

impl Default for Compact {
    fn default() -> Compact {
        Compact { bytes: [0; crate::limits::COMPACT_FRAME], len: 0 }
    }
}

impl Compact {
    /// Puts `frame` and `header` in and leaves room for `inline` bytes of payload, which is returned; the lengths are
    /// filled in. `separate` bytes of payload go beside the piece.
    pub fn fill(
        &mut self,
        mut frame: Frame,
        header: &[u8],
        inline: usize,
        separate: u64,
    ) -> Result<&mut [u8], Status> {
        frame.header = (header.len() as u32).into();
        frame.payload = (inline as u64 + separate).into();
        let begin = FRAME + header.len();
        self.len = begin + inline;
        if self.len > self.bytes.len() {
            return Err(Status::Internal);
        }
        self.bytes[..FRAME].copy_from_slice(frame.as_bytes());
        self.bytes[FRAME..begin].copy_from_slice(header);
        Ok(&mut self.bytes[begin..self.len])
    }

    /// Puts a short message together.
    pub fn fill_short(&mut self, short: Short, message: &[u8]) -> Result<(), Status> {
        self.len = size_of::<Short>() + message.len();
        if self.len > self.bytes.len() {
            return Err(Status::Internal);
        }
        self.bytes[..size_of::<Short>()].copy_from_slice(short.as_bytes());
        self.bytes[size_of::<Short>()..self.len].copy_from_slice(message);
        Ok(())
    }

    /// Puts a short call or reply together; `false` when it must go as a whole frame.
    pub fn fill_call(&mut self, kind: Kind, frame: &Frame, header: &[u8], payload: &[u8]) -> bool {
        match short::encode(&mut self.bytes, kind, frame, header, payload) {
            Some(len) => {
                self.len = len;
                true
            }
            None => false,
        }
    }

    /// What goes on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Inline payload that fits behind a header of `header` bytes.
    pub const fn room(header: usize) -> usize {
        crate::limits::COMPACT_FRAME - FRAME - header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let mut frame = Frame::new(Kind::Get, 0x0102_0304, 5, 0x1122_3344_5566_7788);
        frame.deadline = 9.into();
        frame.credits = 7.into();
        let access = Access { export: 1.into(), secret: [0xAB; 16], offset: 2.into(), length: 3.into() };
        let mut compact = Compact::default();
        compact.fill(frame, access.as_bytes(), 0, 0).unwrap();
        let hex: String = compact.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "5244",
                "01",
                "05",
                "00000000",
                "8877665544332211",
                "04030201",
                "05000000",
                "00000000",
                "00000000",
                "0900000000000000",
                "0000000000000000",
                "28000000",
                "07000000",
                "0100000000000000",
                "abababababababababababababababab",
                "0200000000000000",
                "0300000000000000"
            )
        );
    }

    #[test]
    fn golden_bytes_of_a_short_message() {
        let mut compact = Compact::default();
        compact.fill_short(Short::new(0x0102_0304, 5, 6), b"hi").unwrap();
        assert_eq!(compact.as_bytes(), [b'S', 1, 6, 0, 4, 3, 2, 1, 5, 0, 0, 0, b'h', b'i']);
        let (short, message) = Short::decode(compact.as_bytes()).unwrap();
        assert_eq!(
            (short.route.get(), short.channel.get(), short.credits.get(), message),
            (0x0102_0304, 5, 6, &b"hi"[..])
        );
        for len in 0..12 {
            assert!(Short::decode(&compact.as_bytes()[..len]).is_none());
        }
        assert!(Frame::decode(compact.as_bytes(), 0).is_err());
    }

    #[test]
    fn every_truncation_and_lie_is_refused() {
        let frame = Frame::new(Kind::Message, 1, 2, 3);
        let mut good = Compact::default();
        good.fill(frame, b"header", 7, 0).unwrap().copy_from_slice(b"payload");
        let parts = Frame::decode(good.as_bytes(), 0).unwrap();
        assert_eq!(
            (parts.kind, parts.header, parts.inline),
            (Kind::Message, &b"header"[..], &b"payload"[..])
        );
        for len in 0..good.as_bytes().len() {
            assert!(Frame::decode(&good.as_bytes()[..len], 0).is_err(), "{len}");
        }
        assert!(Frame::decode(good.as_bytes(), 1).is_err());
        for (at, value) in [(0, 0), (2, 9), (3, 99), (48, 200), (51, 255), (40, 8), (47, 255)] {
            let mut bad = good.as_bytes().to_vec();
            bad[at] = value;
            assert!(Frame::decode(&bad, 0).is_err(), "byte {at}");
        }
    }
}
