//! The needle map of a SeaweedFS volume: how long an index takes to load, and what a needle takes in memory.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rdma_engine::volume::Volume;
use serde_json::json;

use crate::Arguments;
use crate::measure::{Done, pin, print};

/// Rows of the index; each is a live needle of its own.
const ROWS: u64 = 10_000_000;
const LOADS: usize = 5;

/// A folder that goes with this.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the system's folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a volume with an index of as many rows, in the order of their ids as SeaweedFS gives them out, and a data file
/// that is as long as they say, with holes instead of records.
fn write(folder: &Path) -> Done {
    let mut index = BufWriter::with_capacity(1 << 20, File::create(folder.join("1.idx"))?);
    let (mut id, mut at, mut state) = (0u64, 8u64, 0x5eed_u64);
    for _ in 0..ROWS {
        // splitmix64: ids with gaps, needles of 1 KiB to 9 KiB.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        id += 1 + (mixed & 3);
        let size = (1 << 10) + (mixed >> 32 & 0x1fff) as u32;
        index.write_all(&id.to_be_bytes())?;
        index.write_all(&((at / 8) as u32).to_be_bytes())?;
        index.write_all(&size.to_be_bytes())?;
        at = (at + 16 + u64::from(size) + 12).next_multiple_of(8) + 8;
        at = if at < 32 << 30 { at } else { 8 };
    }
    index.flush()?;
    let data = File::create(folder.join("1.dat"))?;
    std::os::unix::fs::FileExt::write_all_at(&data, &[3, 0, 0, 0, 0, 0, 0, 0], 0)?;
    data.set_len(33 << 30)?;
    fs::write(folder.join("1.vif"), r#"{"version":3,"bytesOffset":4}"#)?;
    Ok(())
}

/// Rows a second of the best of some loads, and bytes a needle.
pub fn needle_map(_: &Arguments) -> Done {
    pin(0)?;
    let folder = Folder(std::env::temp_dir().join(format!("rde-bench-volume-{}", std::process::id())));
    fs::create_dir_all(&folder.0)?;
    write(&folder.0)?;
    let (mut rates, mut value) = (Vec::new(), 0.0);
    for _ in 0..LOADS {
        let began = Instant::now();
        let volume = Volume::open(&folder.0, "", 1)?;
        rates.push(ROWS as f64 / began.elapsed().as_secs_f64());
        let info = volume.info().ok_or("the volume is gone")?;
        if info.entries as u64 != ROWS {
            return Err(format!("{} entries of {ROWS} rows", info.entries).into());
        }
        value = info.map_bytes as f64 / info.entries as f64;
    }
    rates.sort_by(f64::total_cmp);
    print(json!({ "test": "needle-map", "ops_per_s": rates[LOADS / 2], "value": value }))
}
