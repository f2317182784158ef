//! Calls and replies that fit one piece, in as few bytes as they need: between two cores every further cache line costs as
//! much as all the rest. They are taken apart into the frame and header that they stand for.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{HEADER, Header};
use crate::engine::frame::{Frame, Kind, VERSION};
use crate::limits::COMPACT_FRAME;

/// What precedes the header, if there is one: 24 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Lead {
    magic: u8,
    version: u8,
    kind: u8,
    flags: u8,
    route: U32,
    channel: U32,
    /// Of a call the method, of a reply the service's status.
    number: U32,
    request: U64,
}

const LEAD: usize = size_of::<Lead>();
const _: () = assert!(LEAD == 24);

/// First byte of a short call or reply; frames and short messages begin with others.
const MAGIC: u8 = b'C';
/// A header that is not zero follows.
const WITH_HEADER: u8 = 1 << 0;
/// Nanoseconds left follow, 8 bytes.
const WITH_DEADLINE: u8 = 1 << 1;

/// A short call or reply, taken apart.
pub struct ShortCall<'a> {
    /// The frame that it stands for.
    pub frame: Frame,
    /// What it is for.
    pub kind: Kind,
    /// The header; zero when it did not travel.
    pub header: [u8; HEADER],
    /// What came behind them.
    pub payload: &'a [u8],
}

/// Writes what a frame, its header and its payload say into `out`; how many bytes. `None` when it does not fit, or says
/// more than a short one can.
pub fn encode(
    out: &mut [u8; COMPACT_FRAME],
    kind: Kind,
    frame: &Frame,
    header: &[u8],
    payload: &[u8],
) -> Option<usize> {
    let header: &[u8; HEADER] = header.try_into().ok()?;
    if frame.flags.get() != 0 || !matches!(kind, Kind::Call | Kind::Reply | Kind::OneWay) {
        return None;
    }
    let (with_header, deadline) = (*header != [0; HEADER], frame.deadline.get());
    let mut length = LEAD;
    let mut flags = 0;
    if with_header {
        flags |= WITH_HEADER;
        length += HEADER;
    }
    if deadline != 0 {
        flags |= WITH_DEADLINE;
        length += 8;
    }
    let end = length + payload.len();
    if end > COMPACT_FRAME {
        return None;
    }
    let number = if kind == Kind::Reply { frame.status } else { frame.method };
    let (magic, version, kind) = (MAGIC, VERSION, kind as u8);
    let (route, channel, request) = (frame.route, frame.channel, frame.request);
    let lead = Lead { magic, version, kind, flags, route, channel, number, request };
    out[..LEAD].copy_from_slice(lead.as_bytes());
    if with_header {
        out[LEAD..LEAD + HEADER].copy_from_slice(header);
    }
    if deadline != 0 {
        out[length - 8..length].copy_from_slice(&deadline.to_le_bytes());
    }
    out[length..end].copy_from_slice(payload);
    Some(end)
}

/// Takes a short call or reply apart; `None` if it is none.
pub fn decode(bytes: &[u8]) -> Option<ShortCall<'_>> {
    let (lead, mut rest) = Lead::read_from_prefix(bytes).ok()?;
    if lead.magic != MAGIC || lead.version != VERSION || lead.flags & !(WITH_HEADER | WITH_DEADLINE) != 0 {
        return None;
    }
    let kind = [Kind::Call, Kind::Reply, Kind::OneWay].into_iter().find(|kind| *kind as u8 == lead.kind)?;
    let mut frame = Frame::new(kind, lead.route.get(), lead.channel.get(), lead.request.get());
    if kind == Kind::Reply {
        frame.status = lead.number;
    } else {
        frame.method = lead.number;
    }
    let mut header = [0; HEADER];
    if lead.flags & WITH_HEADER != 0 {
        let (came, tail) = rest.split_first_chunk()?;
        (header, rest) = (*came, tail);
    }
    if lead.flags & WITH_DEADLINE != 0 {
        let (came, tail) = rest.split_first_chunk()?;
        frame.deadline = u64::from_le_bytes(*came).into();
        rest = tail;
    }
    Some(ShortCall { frame, kind, header, payload: rest })
}

/// Whether a payload with this header fits; a deadline is reckoned in.
pub(in crate::engine) fn fits(header: &Header, length: usize) -> bool {
    LEAD + 8 + length + if header.is_zero() { 0 } else { HEADER } <= COMPACT_FRAME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind) -> Frame {
        let mut frame = Frame::new(kind, 0x0102_0304, 5, 0x1122_3344_5566_7788);
        frame.method = 6.into();
        frame
    }

    #[test]
    fn golden_bytes() {
        let mut out = [0; COMPACT_FRAME];
        let length = encode(&mut out, Kind::Call, &frame(Kind::Call), &[0; HEADER], b"hi").unwrap();
        let lead = [
            b'C', 1, 11, 0, 4, 3, 2, 1, 5, 0, 0, 0, 6, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22,
            0x11,
        ];
        assert_eq!(out[..length], [&lead[..], b"hi"].concat());
        let mut reply = frame(Kind::Reply);
        reply.status = 0xFFFF_FFFE_u32.into();
        reply.deadline = 9.into();
        let header = Header { offset: 1, ..Header::default() }.to_wire();
        let length = encode(&mut out, Kind::Reply, &reply, &header, b"").unwrap();
        assert_eq!((length, out[2], out[3], &out[12..16]), (56, 12, 3, &[0xFE, 0xFF, 0xFF, 0xFF][..]));
        assert_eq!((&out[24..48], &out[48..56]), (&header[..], &9u64.to_le_bytes()[..]));
    }

    #[test]
    fn what_goes_in_comes_out_and_every_truncation_is_refused() {
        for kind in [Kind::Call, Kind::Reply, Kind::OneWay] {
            for (with_header, deadline) in [(false, 0), (false, 7), (true, 0), (true, u64::MAX)] {
                for payload in [&b""[..], b"12345678", &[9; 100]] {
                    let mut frame = frame(kind);
                    frame.deadline = deadline.into();
                    let header = Header { len: u64::from(with_header), ..Header::default() }.to_wire();
                    let mut out = [0; COMPACT_FRAME];
                    let length = encode(&mut out, kind, &frame, &header, payload).unwrap();
                    let back = decode(&out[..length]).unwrap();
                    assert_eq!((back.kind, back.header, back.payload), (kind, header, payload));
                    assert_eq!(back.frame.request.get(), frame.request.get());
                    assert_eq!(back.frame.deadline.get(), deadline);
                    let fixed = length - payload.len();
                    assert!((0..fixed).all(|short| decode(&out[..short]).is_none()));
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_short_call_is_none() {
        let mut out = [0; COMPACT_FRAME];
        let good = frame(Kind::Call);
        assert!(encode(&mut out, Kind::Call, &good, &[0; HEADER + 8], b"").is_none());
        assert!(encode(&mut out, Kind::Get, &good, &[0; HEADER], b"").is_none());
        assert!(encode(&mut out, Kind::Call, &good, &[0; HEADER], &[0; 169]).is_none());
        let length = encode(&mut out, Kind::Call, &good, &[0; HEADER], &[0; 168]).unwrap();
        assert_eq!(length, COMPACT_FRAME);
        for (at, value) in [(0, b'S'), (1, 2), (2, 5), (2, 13), (2, 0), (3, 4)] {
            let mut bad = out;
            bad[at] = value;
            assert!(decode(&bad).is_none(), "byte {at}");
        }
    }
}
