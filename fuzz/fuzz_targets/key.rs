#![no_main]
//! Exported keys, which come from a peer's program: no panic, and what decodes encodes to itself.

use libfuzzer_sys::fuzz_target;
use rdma_engine::engine::key::Key;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = Key::decode(bytes) {
        assert_eq!(Key::decode(&key.encode()).unwrap(), key);
    }
});
