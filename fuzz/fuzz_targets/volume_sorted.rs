#![no_main]
//! Sorted indexes: whatever the file holds, a search ends and finds only what was asked for.

use libfuzzer_sys::fuzz_target;
use rdma_engine::volume::row::RowWidth;
use rdma_engine::volume::sorted;

fuzz_target!(|bytes: &[u8]| {
    let Some((id, bytes)) = bytes.split_first_chunk() else { return };
    let id = u64::from_be_bytes(*id);
    for width in [RowWidth::Sixteen, RowWidth::Seventeen] {
        let mut reads = 0;
        let found = sorted::search(width, bytes.len() as u64, id, |at, row| {
            reads += 1;
            row.copy_from_slice(&bytes[at as usize..][..row.len()]);
            Ok(row.len())
        });
        assert!(reads <= 64);
        assert!(found.unwrap().is_none_or(|row| row.id == id));
    }
});
