#![no_main]
//! Index rows: loaded at once and followed row by row, the map must say what a `BTreeMap` says. The first byte chooses
//! the width of the rows, the second how many are loaded before the rest is followed.

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use rdma_engine::volume::map::{Loader, NeedleMap};
use rdma_engine::volume::row::{Row, RowWidth};

fn load(rows: &[Row]) -> NeedleMap {
    let mut loader = Loader::default();
    loader.extend(rows.iter().copied()).unwrap();
    loader.finish().unwrap()
}

fuzz_target!(|bytes: &[u8]| {
    let [width, cut, bytes @ ..] = bytes else { return };
    let width = if width % 2 == 0 { RowWidth::Sixteen } else { RowWidth::Seventeen };
    let rows: Vec<Row> = Row::decode_all(width, bytes).collect();
    let mut model = BTreeMap::new();
    for row in &rows {
        if row.offset != 0 && row.size >= 0 {
            model.insert(row.id, (row.offset, row.size as u32, false));
        } else if let Some((_, _, deleted)) = model.get_mut(&row.id) {
            *deleted = true;
        }
    }
    let cut = usize::from(*cut) * rows.len() / 255;
    let mut followed = load(&rows[..cut]);
    for row in &rows[cut..] {
        followed.apply(*row).unwrap();
        while let Some(merge) = followed.next_merge() {
            let result = merge.run().unwrap();
            followed.merged(&merge, result);
        }
    }
    for map in [load(&rows), followed] {
        for row in &rows {
            let got = map.get(row.id).map(|entry| (entry.offset, entry.size, entry.deleted));
            assert_eq!(got, model.get(&row.id).copied());
            let near = row.id.wrapping_add(1);
            assert_eq!(map.get(near).is_some(), model.contains_key(&near));
        }
    }
});
