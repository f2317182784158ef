#![no_main]
//! Manifests: as they are, and records with right checksums around payloads of a u16 length and its bytes each.

use libfuzzer_sys::fuzz_target;
use rdma_engine::kv::branch::Branches;
use rdma_engine::kv::manifest::Manifest;
use rdma_engine::kv::mapping::Mapping;
use rdma_engine::kv::record::Record;

fn sound(bytes: &[u8]) {
    let Ok(manifest) = Manifest::replay(bytes) else { return };
    assert!(manifest.tail as usize <= bytes.len());
    let again = Manifest::replay(&manifest.encode()).expect("what we write is read back");
    assert!((again.root, again.ttl_root, again.end) == (manifest.root, manifest.ttl_root, manifest.end));
    assert!(again.branches == manifest.branches && again.mapping.pages().eq(manifest.mapping.pages()));
}

fuzz_target!(|bytes: &[u8]| {
    sound(bytes);
    let _ = (Mapping::decode(bytes), Branches::decode(bytes));
    let (mut records, mut rest) = (Vec::new(), bytes);
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes(*len)).min(after.len());
        let (payload, after) = after.split_at(len);
        records.extend(Record::encode(len as u32, u32::MAX, payload));
        rest = after;
    }
    sound(&records);
});
