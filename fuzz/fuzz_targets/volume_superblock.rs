#![no_main]
//! Superblocks: no panic; what decodes says what its bytes say.

use libfuzzer_sys::fuzz_target;
use rdma_engine::volume::superblock::Superblock;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(block) = Superblock::decode(bytes) {
        assert_eq!(block.version as u8, bytes[0]);
        assert!(block.first_needle() >= 8 && block.first_needle() <= 8 + 65_535);
    }
});
