#![no_main]
//! `.vif` files: no panic, and nothing but JSON objects and emptiness decodes.

use libfuzzer_sys::fuzz_target;
use rdma_engine::volume::vif::Vif;

fuzz_target!(|bytes: &[u8]| {
    if Vif::decode(bytes).is_ok() {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        assert!(first.is_none_or(|byte| *byte == b'{'));
    }
});
