#![no_main]
//! What arrives on the data path: frames, typed headers, short messages and short calls. No panic, and what is taken apart
//! lies within what came.

use libfuzzer_sys::fuzz_target;
use rdma_engine::engine::call::{Header, Once, short};
use rdma_engine::engine::frame::{Access, Frame, Kind, Operands, Short};
use rdma_engine::limits::COMPACT_FRAME;

fuzz_target!(|input: (u16, &[u8])| {
    let (separate, bytes) = input;
    if let Ok(parts) = Frame::decode(bytes, separate.into()) {
        assert_eq!(56 + parts.header.len() + parts.inline.len(), bytes.len());
        assert_eq!(parts.frame.payload.get(), parts.inline.len() as u64 + u64::from(separate));
        let _ = Operands::decode(parts.header);
        if let Ok((_, rest)) = Access::decode(parts.header) {
            assert_eq!(rest.len() + 40, parts.header.len());
        }
        if let Ok((header, rest)) = Header::split(parts.header) {
            assert_eq!(header.to_wire(), parts.header[..24]);
            if let Ok(once) = Once::from_wire(rest) {
                assert_eq!(once.to_wire(), rest);
            }
        }
    }
    if let Some((_, message)) = Short::decode(bytes) {
        assert_eq!(message.len() + 12, bytes.len());
    }
    if let Some(call) = short::decode(bytes) {
        assert!(call.payload.len() + 24 <= bytes.len());
        // What stands for it means the same.
        let mut again = [0; COMPACT_FRAME];
        if let Some(length) = short::encode(&mut again, call.kind, &call.frame, &call.header, call.payload) {
            let back = short::decode(&again[..length]).unwrap();
            assert_eq!((back.kind, back.header, back.payload), (call.kind, call.header, call.payload));
            assert_eq!(back.frame.deadline.get(), call.frame.deadline.get());
        }
        assert!(matches!(call.kind, Kind::Call | Kind::Reply | Kind::OneWay));
    }
});
