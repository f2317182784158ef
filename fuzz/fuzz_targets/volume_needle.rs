#![no_main]
//! Needle records: the first byte chooses the version, the rest is the record, and pieces of one.

use libfuzzer_sys::fuzz_target;
use rdma_engine::volume::checksum;
use rdma_engine::volume::needle::{Header, Layout, Meta, Record, Trailer};
use rdma_engine::volume::superblock::Version;

fuzz_target!(|bytes: &[u8]| {
    let Some((version, bytes)) = bytes.split_first() else { return };
    let version = [Version::V1, Version::V2, Version::V3][usize::from(version % 3)];
    let _ = (Meta::decode(bytes), Trailer::decode(version, bytes));
    if let Some(header) = Header::decode(bytes)
        && let Ok(size) = u32::try_from(header.size)
        && let Ok(layout) = Layout::decode(version, size, bytes)
    {
        assert!(layout.data().end <= layout.meta().end && layout.meta().end <= layout.trailer().start);
    }
    if let Ok(record) = Record::decode(version, bytes)
        && record.header.size != 0
    {
        assert!(checksum::matches(record.trailer.checksum, checksum::crc(record.data)));
        assert!(bytes.windows(record.data.len().max(1)).any(|window| record.data.is_empty() || window == record.data));
    }
});
