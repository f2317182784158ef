#![no_main]
//! File ids and paths: what parses prints as something that parses to the same.

use libfuzzer_sys::fuzz_target;
use rdma_engine::volume::FileId;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for id in [text.parse(), FileId::from_path(text)].into_iter().flatten() {
        let id: FileId = id;
        assert_eq!(id.to_string().parse::<FileId>().unwrap(), id);
        assert_eq!(FileId::from_path(&format!("/{id}.jpg")).unwrap(), id);
    }
});
