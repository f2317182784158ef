//! Random, cut and flipped bytes: no panic, and never bytes that were not stored.

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;
use rdma_engine::Status;
use rdma_engine::volume::needle::{Layout, Meta, Record, Trailer};
use rdma_engine::volume::row::{Row, RowWidth};
use rdma_engine::volume::sorted;
use rdma_engine::volume::superblock::{Superblock, Version};
use rdma_engine::volume::vif::Vif;
use rdma_engine::volume::{FileId, ReadOptions, Volume};

use crate::writer::{Format, Put, Writer, record, seed};

const VERSIONS: [Version; 3] = [Version::V1, Version::V2, Version::V3];

proptest! {
    #[test]
    fn random_bytes_in_every_decoder(bytes in vec(any::<u8>(), 0..200), size in any::<u32>(), id in any::<u64>()) {
        let _ = Superblock::decode(&bytes);
        let _ = Vif::decode(&bytes);
        let _ = FileId::from_path(&String::from_utf8_lossy(&bytes));
        for version in VERSIONS {
            let _ = Record::decode(version, &bytes);
            let _ = Trailer::decode(version, &bytes);
            if let Ok(layout) = Layout::decode(version, size, &bytes) {
                prop_assert!(layout.trailer().end <= 16 + u64::from(size) + 12);
                prop_assert!(layout.data().end <= layout.trailer().start);
            }
        }
        let _ = Meta::decode(&bytes);
        for width in [RowWidth::Sixteen, RowWidth::Seventeen] {
            prop_assert_eq!(Row::decode_all(width, &bytes).count(), bytes.len() / width.bytes());
            let read = |at: u64, row: &mut [u8]| {
                let rest = bytes.get(at as usize..).unwrap_or_default();
                let got = rest.len().min(row.len());
                row[..got].copy_from_slice(&rest[..got]);
                Ok(got)
            };
            let _ = sorted::search(width, bytes.len() as u64, id, read);
        }
    }

    #[test]
    fn random_text_as_file_id(text in "[0-9a-f,_./+ ]{0,40}") {
        if let Ok(id) = text.parse::<FileId>() {
            prop_assert_eq!(id.to_string().parse::<FileId>().unwrap(), id);
        }
        let _ = FileId::from_path(&text);
    }

    #[test]
    fn damaged_records_give_the_data_or_an_error(
        version in 1..=3_u8,
        masked in any::<bool>(),
        data in vec(any::<u8>(), 0..300),
        name in proptest::option::of(vec(any::<u8>(), 0..20)),
        flips in vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let format = Format { version, masked, ..Format::default() };
        let put = Put { id: 1, cookie: 2, data, name, ttl: Some([1, 1]), last_modified: Some(3), ..Put::default() };
        let (size, bytes) = record(format, &put);
        let layout = VERSIONS[usize::from(version) - 1];
        let whole = Record::decode(layout, &bytes).unwrap();
        prop_assert_eq!(whole.data, &put.data[..]);
        let cut = &bytes[..cut.index(bytes.len())];
        if let Ok(record) = Record::decode(layout, cut) {
            prop_assert_eq!(record, whole, "only padding was cut");
        }
        let mut damaged = bytes.clone();
        for (at, mask) in flips {
            damaged[at.index(bytes.len())] ^= mask;
        }
        if let Ok(record) = Record::decode(layout, &damaged) {
            // The size is what the index vouches for.
            prop_assert!(record.header.size != size || record.data == put.data);
        }
    }
}

/// Whole volumes with damage anywhere: what is read must be something that was stored under that very id.
#[test]
fn damaged_volumes() {
    let mut random = seed("damaged_volumes");
    let dir = tempfile::tempdir().unwrap();
    let mut verdicts = std::collections::BTreeMap::<String, u32>::new();
    for round in 0..400_u32 {
        let format = Format {
            version: 1 + random.below(3) as u8,
            row: 16 + random.below(2) as usize,
            masked: random.below(2) == 0,
            extra: 0,
        };
        let mut writer = Writer::create(dir.path(), &round.to_string(), format);
        let mut stored: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 6];
        for _ in 0..20 {
            let id = random.below(6);
            let length = random.below(300) as usize;
            let data = random.bytes(length);
            stored[id as usize].push(data.clone());
            writer.put(&Put { id, cookie: 9, data, last_modified: Some(1), ..Put::default() });
        }
        writer.delete(5, 9);
        writer.write_vif(&format!(r#"{{"version":{},"bytesOffset":{}}}"#, format.version, format.row - 12));
        if random.below(2) == 0 {
            fs::remove_file(writer.path("vif")).unwrap();
        }
        if random.below(4) == 0 {
            writer.write_sdx();
            fs::remove_file(writer.path("idx")).unwrap();
        }
        let early = Volume::open(dir.path(), "", round);
        for extension in ["dat", "idx", "sdx", "vif"] {
            let Ok(mut bytes) = fs::read(writer.path(extension)) else { continue };
            for _ in 0..random.below(6) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
            if random.below(4) == 0 {
                bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            }
            fs::write(writer.path(extension), bytes).unwrap();
        }
        for volume in [early, Volume::open(dir.path(), "", round)].into_iter().flatten() {
            for needle in 0..7 {
                let mut buffer = vec![0; 400];
                let id = FileId { volume: round, needle, cookie: 9 };
                let verdict = match volume.read(id, &mut buffer, &ReadOptions::default()) {
                    Ok(read) => {
                        let data = buffer[..read.length].to_vec();
                        // A file that was once empty, and a tombstone, are told from each other by the index alone.
                        assert!(
                            data.is_empty() || stored[needle as usize].contains(&data),
                            "{round}: {needle}"
                        );
                        Status::Ok
                    }
                    Err(error) => error.status,
                };
                *verdicts.entry(verdict.name().to_owned()).or_default() += 1;
                let _ = volume.read_range(id, 3, &mut buffer, &ReadOptions::default());
            }
        }
    }
    println!("{verdicts:?}");
    assert!(verdicts["OK"] > 500 && verdicts["CORRUPTED"] > 100);
}
