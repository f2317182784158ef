#![no_main]
//! Messages of the control connection: no panic, and what decodes encodes to what decodes to it.

use libfuzzer_sys::fuzz_target;
use rdma_engine::engine::control::{Decoded, Message};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Decoded::Message { message, bytes: used }) = Message::decode(bytes) {
        assert!(used <= bytes.len());
        let again = message.encode().unwrap();
        match Message::decode(&again) {
            Ok(Decoded::Message { message: same, bytes: all }) => {
                assert_eq!((same, all), (message, again.len()));
            }
            other => panic!("{other:?}"),
        }
    }
});
