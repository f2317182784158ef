//! What a stream is made of: frames, and between them pieces of the payloads that frames have announced.
//! `docs/wire.md` has the offsets. Decoding trusts nothing.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::engine::frame::Frame;
use crate::limits::{COMPACT_FRAME, STREAM_PIECE};
use crate::status::Status;

/// A frame that is all there is.
const ALONE: u16 = 0;
/// A frame whose payload comes in pieces, behind those of the payloads that were announced before.
const ANNOUNCES: u16 = 1;
/// A piece of the oldest payload that is not complete.
const PIECE: u16 = 2;
/// Bytes that mean nothing.
const PADDING: u16 = 3;
/// A frame whose payload comes when it is asked for. Offers are numbered from 0 on, each direction for itself.
const OFFERS: u16 = 4;
/// Asks for the payload of an offer; its number.
const FETCH: u16 = 5;
/// The payload of an offer is not wanted; its number.
const REFUSE: u16 = 6;
/// The payload of an offer comes behind those that were announced before; its number.
const COMES: u16 = 7;

/// The oldest payload that is not complete is no good: its last bytes do not come.
const SPOILED: u16 = 8;

/// Where pieces begin: copies from and to the kernel's pages take twice as long when they are not aligned alike.
pub(super) const ALIGNMENT: usize = 64;

/// Precedes every part: 8 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Head {
    kind: U16,
    /// Bytes of the frame or of padding; 0 of a piece.
    frame: U16,
    /// Bytes of the piece, or the number of an offer; 0 of a frame.
    piece: U32,
}

/// Bytes of a head.
pub(super) const HEAD: usize = size_of::<Head>();
const _: () = assert!(HEAD == 8);

/// One part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A frame.
    Frame(&'a [u8]),
    /// A frame, and how many bytes of payload will come for it; not 0.
    Announcing(&'a [u8], u64),
    /// So many bytes of payload follow; 1 to [`STREAM_PIECE`].
    Piece(usize),
    /// Nothing.
    Padding,
    /// A frame, and how many bytes of payload may be asked for; not 0.
    Offering(&'a [u8], u64),
    /// The offer with this number is wanted.
    Fetch(u32),
    /// It is not.
    Refuse(u32),
    /// Its payload comes.
    Comes(u32),
    /// The rest of the oldest payload does not, and what came of it is no good.
    Spoiled,
}

/// The part at the beginning of `bytes` and how long it is (of a piece, its head alone); `None` when it is not all
/// there. `Protocol` for what is none.
pub fn decode(bytes: &[u8]) -> Result<Option<(Part<'_>, usize)>, Status> {
    let Ok((head, rest)) = Head::read_from_prefix(bytes) else { return Ok(None) };
    let (frame, piece) = (usize::from(head.frame.get()), head.piece.get() as usize);
    match head.kind.get() {
        ALONE | ANNOUNCES | OFFERS if (1..=COMPACT_FRAME).contains(&frame) && piece == 0 => {}
        PIECE if frame == 0 && (1..=STREAM_PIECE).contains(&piece) => {
            return Ok(Some((Part::Piece(piece), HEAD)));
        }
        FETCH if frame == 0 => return Ok(Some((Part::Fetch(head.piece.get()), HEAD))),
        REFUSE if frame == 0 => return Ok(Some((Part::Refuse(head.piece.get()), HEAD))),
        COMES if frame == 0 => return Ok(Some((Part::Comes(head.piece.get()), HEAD))),
        SPOILED if frame == 0 && piece == 0 => return Ok(Some((Part::Spoiled, HEAD))),
        PADDING if frame < ALIGNMENT && piece == 0 => {}
        _ => return Err(Status::Protocol),
    }
    let Some(bytes) = rest.get(..frame) else { return Ok(None) };
    let part = if head.kind.get() == PADDING {
        Part::Padding
    } else if head.kind.get() == ALONE {
        Part::Frame(bytes)
    } else {
        match Frame::announced(bytes) {
            Some(length) if length > 0 && head.kind.get() == OFFERS => Part::Offering(bytes, length),
            Some(length) if length > 0 => Part::Announcing(bytes, length),
            _ => return Err(Status::Protocol),
        }
    };
    Ok(Some((part, HEAD + frame)))
}

/// How the payload of a frame comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comes {
    /// There is none.
    Never,
    /// Behind those before it.
    InTurn,
    /// When it is asked for.
    Asked,
}

/// What is said about an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Fetch,
    Refuse,
    Comes,
}

/// Appends a word about an offer.
pub(super) fn put_word(out: &mut Vec<u8>, word: Word, number: u32) {
    let kind = match word {
        Word::Fetch => FETCH,
        Word::Refuse => REFUSE,
        Word::Comes => COMES,
    };
    let head = Head { kind: kind.into(), frame: 0.into(), piece: number.into() };
    out.extend_from_slice(head.as_bytes());
}

/// Appends that the oldest payload is no good.
pub(super) fn put_spoiled(out: &mut Vec<u8>) {
    let head = Head { kind: SPOILED.into(), frame: 0.into(), piece: 0.into() };
    out.extend_from_slice(head.as_bytes());
}

/// Appends a frame of 1 to [`COMPACT_FRAME`] bytes.
pub(super) fn put_frame(out: &mut Vec<u8>, frame: &[u8], payload: Comes) {
    let kind = match payload {
        Comes::Never => ALONE,
        Comes::InTurn => ANNOUNCES,
        Comes::Asked => OFFERS,
    };
    let head = Head { kind: kind.into(), frame: (frame.len() as u16).into(), piece: 0.into() };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(frame);
}

/// Appends what makes the bytes of a piece begin at a multiple of [`ALIGNMENT`]: `place` is where `out` ends.
pub(super) fn put_padding(out: &mut Vec<u8>, place: usize) {
    let mut missing = (place + HEAD).wrapping_neg() % ALIGNMENT;
    if missing == 0 {
        return;
    }
    if missing < HEAD {
        missing += ALIGNMENT;
    }
    let length = missing - HEAD;
    let head = Head { kind: PADDING.into(), frame: (length as u16).into(), piece: 0.into() };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(&[0; ALIGNMENT][..length]);
}

/// Appends the head of a piece of 1 to [`STREAM_PIECE`] bytes.
pub(super) fn put_piece(out: &mut Vec<u8>, length: usize) {
    let head = Head { kind: PIECE.into(), frame: 0.into(), piece: (length as u32).into() };
    out.extend_from_slice(head.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::frame::{Compact, Kind};

    #[test]
    fn golden_bytes() {
        let mut out = Vec::new();
        put_frame(&mut out, b"ab", Comes::Never);
        put_piece(&mut out, 0x01_0203);
        assert_eq!(out, [0, 0, 2, 0, 0, 0, 0, 0, b'a', b'b', 2, 0, 0, 0, 3, 2, 1, 0]);
        assert_eq!(decode(&out), Ok(Some((Part::Frame(b"ab"), 10))));
        assert_eq!(decode(&out[10..]), Ok(Some((Part::Piece(0x01_0203), 8))));
        let mut compact = Compact::default();
        compact.fill(Frame::new(Kind::Put, 1, 2, 3), b"header", 0, 5 << 30).unwrap();
        let mut out = Vec::new();
        put_frame(&mut out, compact.as_bytes(), Comes::InTurn);
        assert_eq!(out[..8], [1, 0, 62, 0, 0, 0, 0, 0]);
        assert_eq!(decode(&out), Ok(Some((Part::Announcing(compact.as_bytes(), 5 << 30), 70))));
        for len in 0..out.len() {
            assert_eq!(decode(&out[..len]), Ok(None), "{len}");
        }
        let mut out = Vec::new();
        put_spoiled(&mut out);
        assert_eq!(out, [8, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode(&out), Ok(Some((Part::Spoiled, 8))));
    }

    #[test]
    fn pieces_begin_aligned() {
        for place in 0..200 {
            let mut out = vec![0; place];
            put_padding(&mut out, place);
            let padding = out.len() - place;
            assert!((out.len() + HEAD).is_multiple_of(ALIGNMENT), "{place}");
            if padding > 0 {
                assert_eq!(decode(&out[place..]), Ok(Some((Part::Padding, padding))), "{place}");
            }
        }
    }

    #[test]
    fn lies_are_refused() {
        let heads: [[u8; 8]; 12] = [
            [0, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 193, 0, 0, 0, 0, 0],
            [0, 0, 1, 0, 1, 0, 0, 0],
            [1, 0, 1, 1, 0, 0, 0, 0],
            [2, 0, 1, 0, 1, 0, 0, 0],
            [2, 0, 0, 0, 0, 0, 0, 0],
            [2, 0, 0, 0, 1, 0, 16, 0],
            [3, 0, 64, 0, 0, 0, 0, 0],
            [5, 0, 1, 0, 0, 0, 0, 0],
            [8, 0, 1, 0, 0, 0, 0, 0],
            [8, 0, 0, 0, 1, 0, 0, 0],
            [9, 0, 0, 0, 0, 0, 0, 0],
        ];
        for head in heads {
            assert_eq!(decode(&head), Err(Status::Protocol), "{head:?}");
        }
        // What announces a payload is a frame, and its payload is not empty.
        let mut out = Vec::new();
        put_frame(&mut out, b"no frame of ours", Comes::InTurn);
        assert_eq!(decode(&out), Err(Status::Protocol));
        let mut compact = Compact::default();
        compact.fill(Frame::new(Kind::Put, 1, 2, 3), &[], 0, 0).unwrap();
        out.clear();
        put_frame(&mut out, compact.as_bytes(), Comes::InTurn);
        assert_eq!(decode(&out), Err(Status::Protocol));
    }
}
