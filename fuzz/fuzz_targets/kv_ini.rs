#![no_main]
//! Files of options, ini and plain: what is accepted is sound, and changes nothing on disk.

use libfuzzer_sys::fuzz_target;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::placement::Placement;
use std::path::Path;

fuzz_target!(|text: &str| {
    for options in [Options::from_ini(text, Path::new("/base")), Options::from_lines(text, Path::new("/base"))] {
        let Ok(options) = options else { continue };
        assert!(options.check().is_ok());
        let _ = (options.page_place(u64::MAX >> 8), options.segment_place(u64::MAX >> 8));
        let path = Placement::new(&options.weights).path(u32::MAX);
        assert!(options.weights.is_empty() || path < options.weights.len());
    }
});
