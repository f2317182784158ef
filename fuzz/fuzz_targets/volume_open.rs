#![no_main]
//! A whole volume: the input is cut into `.dat`, `.idx` and `.vif` by two lengths; every needle that the index could
//! name is read, whole and in part.

use std::fs;

use libfuzzer_sys::fuzz_target;
use rdma_engine::volume::row::{Row, RowWidth};
use rdma_engine::volume::{FileId, ReadOptions, Volume};

fuzz_target!(|bytes: &[u8]| {
    let [dat, dat_high, idx, idx_high, bytes @ ..] = bytes else { return };
    let (dat, bytes) = bytes.split_at(bytes.len().min(u16::from_le_bytes([*dat, *dat_high]).into()));
    let (idx, vif) = bytes.split_at(bytes.len().min(u16::from_le_bytes([*idx, *idx_high]).into()));
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for (name, content) in [("1.dat", dat), ("1.idx", idx), ("1.vif", vif)] {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let Ok(volume) = Volume::open(dir.path(), "", 1) else { return };
    let options = ReadOptions { stored: true, now_ns: Some(0), ..ReadOptions::default() };
    let mut buffer = vec![0; 1 << 16];
    for width in [RowWidth::Sixteen, RowWidth::Seventeen] {
        for row in Row::decode_all(width, idx).take(64) {
            // The cookie is wherever the row says that the record is.
            let at = usize::try_from(row.offset * 8).unwrap_or(usize::MAX);
            let cookie = dat.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
            let id = FileId { volume: 1, needle: row.id, cookie: u32::from_be_bytes(cookie) };
            if let Ok(read) = volume.read(id, &mut buffer, &options) {
                let data = &buffer[..read.length];
                assert!(data.is_empty() || dat.windows(data.len()).any(|window| window == data));
            }
            let _ = volume.read_range(id, 1, &mut buffer[..9], &options);
        }
    }
});
