#![no_main]
//! What arrives on a stream: its parts lie within what came and stay within their limits, and one after the other ends.

use libfuzzer_sys::fuzz_target;
use rdma_engine::engine::stream::wire::{Part, decode};
use rdma_engine::limits::{COMPACT_FRAME, STREAM_PIECE};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((part, used))) = decode(rest) {
        assert!((8..=rest.len()).contains(&used));
        match part {
            Part::Frame(frame) => assert!(frame.len() <= COMPACT_FRAME && frame.len() + 8 == used),
            Part::Announcing(frame, length) | Part::Offering(frame, length) => {
                assert!(frame.len() <= COMPACT_FRAME && frame.len() + 8 == used && length > 0);
            }
            Part::Padding => assert!(used < 72),
            Part::Fetch(_) | Part::Refuse(_) | Part::Comes(_) | Part::Spoiled => assert!(used == 8),
            Part::Piece(length) => assert!((1..=STREAM_PIECE).contains(&length) && used == 8),
        }
        // The same, wherever the bytes end behind it; nothing, when they end before.
        assert!(decode(&rest[..used]) == decode(rest));
        assert!(matches!(decode(&rest[..used - 1]), Ok(None)));
        rest = &rest[used..];
    }
});
