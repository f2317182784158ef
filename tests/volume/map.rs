//! The needle map against a `BTreeMap`, and its memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use rdma_engine::volume::map::{Loader, NeedleMap};
use rdma_engine::volume::row::Row;

use crate::writer::{Random, seed};

/// Makes the id of the needle with this index.
type Ids<'a> = &'a mut dyn FnMut(&mut Random, u64) -> u64;

/// Id to offset, size, deleted.
type Model = BTreeMap<u64, (u64, u32, bool)>;

fn model_of(rows: &[Row]) -> Model {
    let mut model = Model::new();
    for row in rows {
        if row.offset != 0 && row.size >= 0 {
            model.insert(row.id, (row.offset, row.size as u32, false));
        } else if let Some(held) = model.get_mut(&row.id) {
            held.2 = true;
        }
    }
    model
}

fn loaded(rows: &[Row]) -> NeedleMap {
    let mut loader = Loader::default();
    loader.extend(rows.iter().copied()).unwrap();
    loader.finish().unwrap()
}

fn settle(map: &mut NeedleMap) {
    while let Some(merge) = map.next_merge() {
        let result = merge.run().unwrap();
        map.merged(&merge, Arc::clone(&result));
        map.merged(&merge, result);
    }
}

fn agrees(map: &NeedleMap, model: &Model, probes: impl Iterator<Item = u64>) {
    for id in probes.chain(model.keys().copied()) {
        let got = map.get(id).map(|entry| (entry.offset, entry.size, entry.deleted));
        assert_eq!(got, model.get(&id).copied(), "id {id}");
    }
}

fn a_row() -> impl Strategy<Value = Row> {
    let id = prop_oneof![4 => 0..500_u64, 1 => any::<u64>(), 1 => u64::MAX - 3..=u64::MAX];
    let offset = prop_oneof![6 => 1..1_000_u64, 2 => 1..1_u64 << 40, 1 => Just(0), 1 => Just((1 << 40) - 1)];
    let size = prop_oneof![4 => 0..100_000_i32, 2 => 0..=i32::MAX, 3 => Just(-1), 1 => any::<i32>()];
    (id, offset, size).prop_map(|(id, offset, size)| Row { id, offset, size })
}

proptest! {
    #[test]
    fn any_rows_loaded_and_followed(rows in vec(a_row(), 0..3_000), cut in 0.0..1.0_f64) {
        let cut = (rows.len() as f64 * cut) as usize;
        let model = model_of(&rows);
        let mut map = loaded(&rows[..cut]);
        for (count, row) in rows[cut..].iter().enumerate() {
            map.apply(*row).unwrap();
            if count % 700 == 0 {
                settle(&mut map);
            }
        }
        agrees(&map, &model, 0..510);
        agrees(&loaded(&rows), &model, 0..510);
        settle(&mut map);
        agrees(&map, &model, 0..510);
    }
}

/// Rows as volume servers write them: rising ids, some changed or deleted later.
fn usual_rows(random: &mut Random, count: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut offset = 1;
    for id in 1..=count {
        let size = 1 + random.below(2 << 20) as i32;
        rows.push(Row { id: id * 2, offset, size });
        offset += u64::from(size as u32) / 8 + 5;
        if random.below(20) == 0 {
            let id = (1 + random.below(id)) * 2;
            let size = if random.below(2) == 0 { -1 } else { 77 };
            rows.push(Row { id, offset, size });
            offset += 15;
        }
    }
    rows
}

#[test]
fn many_rows_in_any_order() {
    let mut random = seed("many_rows_in_any_order");
    let mut rows = usual_rows(&mut random, 300_000);
    let model = model_of(&rows);
    agrees(&loaded(&rows), &model, 0..1_000);
    for at in 0..rows.len() - 100 {
        rows.swap(at, at + random.below(100) as usize);
    }
    agrees(&loaded(&rows), &model_of(&rows), 0..1_000);
    for at in (1..rows.len()).rev() {
        rows.swap(at, random.below(at as u64 + 1) as usize);
    }
    let model = model_of(&rows);
    let map = loaded(&rows);
    agrees(&map, &model, 0..1_000);
    let mut followed = NeedleMap::default();
    for row in &rows {
        followed.apply(*row).unwrap();
        settle(&mut followed);
    }
    agrees(&followed, &model, 0..1_000);
    assert!(followed.memory() <= 16 * model.len(), "{} bytes for {}", followed.memory(), model.len());
}

#[test]
fn sixteen_bytes_a_needle() {
    let mut random = seed("sixteen_bytes_a_needle");
    let count = 200_000;
    let spread = |random: &mut Random, ids: Ids<'_>, far: u64, size: u64| {
        let row = |index| Row {
            id: ids(random, index),
            offset: 1 + random.below(far),
            size: random.below(size) as i32,
        };
        let rows: Vec<Row> = (0..count).map(row).collect();
        let model = model_of(&rows);
        let map = loaded(&rows);
        agrees(&map, &model, 0..100);
        (map.memory() as f64 / model.len() as f64, model.len())
    };
    let cases: [(&str, Ids<'_>, u64, u64); 4] = [
        ("rising ids, 32 GiB", &mut |_, index| index, 1 << 32, 8 << 20),
        (
            "ids of a clock (millisecond, node, sequence)",
            &mut |random, index| (1_700_000_000_000 + index * 3) << 22 | random.below(1 << 12),
            1 << 32,
            8 << 20,
        ),
        ("random 64-bit ids, 32 GiB", &mut |random, _| random.next(), 1 << 32, 1 << 30),
        ("random 48-bit ids, 8 TiB", &mut |random, _| random.next() >> 16, 1 << 40, 1 << 31),
    ];
    for (name, ids, far, size) in cases {
        let (bytes, needles) = spread(&mut random, ids, far, size);
        println!("{name}: {bytes:.2} bytes each of {needles}");
        assert!(bytes <= 16.0, "{name}: {bytes}");
    }
    let rows = usual_rows(&mut random, count);
    let map = loaded(&rows);
    println!("as servers write them: {:.2} bytes each", map.memory() as f64 / map.entries() as f64);
    assert!(map.memory() <= 16 * map.entries());
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Not a test of speed, but the measurement of it: `cargo test --release -- --ignored --nocapture load_ten_million`.
#[test]
#[ignore = "measures; needs a release build"]
fn load_ten_million() {
    let mut random = seed("load_ten_million");
    let dir = tempfile::tempdir().unwrap();
    for (name, row) in [("rising", 16), ("rising", 17), ("jumbled", 16), ("shuffled", 16)] {
        let mut rows = usual_rows(&mut random, 10_000_000);
        if name == "jumbled" {
            // As many writers at once make it.
            for at in 0..rows.len() - 1_000 {
                rows.swap(at, at + random.below(1_000) as usize);
            }
        }
        if name == "shuffled" {
            for at in (1..rows.len()).rev() {
                rows.swap(at, random.below(at as u64 + 1) as usize);
            }
        }
        let bytes: Vec<u8> = rows
            .iter()
            .flat_map(|entry| crate::writer::row(row, entry.id, entry.offset * 8, entry.size))
            .collect();
        std::fs::write(dir.path().join("1.idx"), &bytes).unwrap();
        std::fs::write(dir.path().join("1.dat"), [3, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        std::fs::write(dir.path().join("1.vif"), format!(r#"{{"bytesOffset":{}}}"#, row - 12)).unwrap();
        for _ in 0..3 {
            let (start, cpu) = (std::time::Instant::now(), cpu_seconds());
            let volume = rdma_engine::volume::Volume::open(dir.path(), "", 1).unwrap();
            let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
            let info = volume.info().unwrap();
            let bytes_each = info.map_bytes as f64 / info.entries as f64;
            let rate = rows.len() as f64 / cpu / 1e6;
            println!(
                "{name} rows of {row}: {} in {seconds:.3} s, {cpu:.3} s of CPU: {rate:.1} M/s, {bytes_each:.2} B each",
                rows.len()
            );
        }
        let volume = rdma_engine::volume::Volume::open(dir.path(), "", 1).unwrap();
        let options = rdma_engine::volume::ReadOptions::default();
        let start = cpu_seconds();
        let looks = 1_000_000;
        for _ in 0..looks {
            let needle = random.below(10_000_000) * 2;
            let id = rdma_engine::volume::FileId { volume: 1, needle, cookie: 0 };
            std::hint::black_box(volume.locate(id, &options).is_ok());
        }
        println!("a look-up with its fstat: {:.0} ns", (cpu_seconds() - start) * 1e9 / f64::from(looks));
    }
}
