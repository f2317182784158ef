//! Writes the fuzz targets' first inputs: `cargo test --test volume -- --ignored write_corpus`.

use std::fs;
use std::path::Path;

use crate::writer::{Format, Put, Writer, record, row};

#[test]
#[ignore = "writes fuzz/corpus"]
fn write_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let save = |target: &str, name: &str, bytes: &[u8]| {
        let dir = corpus.join(target);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), bytes).unwrap();
    };
    save("volume_superblock", "v3", &[3, 1, 5, 2, 0, 7, 0, 4, 8, 1, 2, 3]);
    save("volume_superblock", "v1", &[1, 0, 0, 0, 0, 0, 0, 0]);
    for (name, text) in
        [("plain", "3,01637037d6"), ("delta", "3,01637037d6_2"), ("path", "/3/01637037d6/a.jpg")]
    {
        save("volume_file_id", name, text.as_bytes());
    }
    save(
        "volume_vif",
        "five",
        br#"{"files":[],"version":3,"bytesOffset":5,"datFileSize":"9","readOnly":true}"#,
    );
    save(
        "volume_vif",
        "tiered",
        br#"{"files":[{"backendType":"s3","fileSize":"8"}],"ecShardConfig":{"dataShards":10}}"#,
    );
    let full = Put {
        id: 1,
        cookie: 2,
        data: b"some data".to_vec(),
        name: Some(b"name.txt".to_vec()),
        mime: Some(b"text/plain".to_vec()),
        last_modified: Some(1_700_000_000),
        ttl: Some([3, 2]),
        pairs: Some(b"{\"a\":\"b\"}".to_vec()),
        flags: 0,
        append_at_ns: 1_700_000_000_000_000_000,
    };
    for version in 1..=3 {
        for masked in [false, true] {
            let format = Format { version, masked, ..Format::default() };
            let bytes = record(format, &full).1;
            save("volume_needle", &format!("v{version}{masked}"), &[&[version - 1], &bytes[..]].concat());
        }
    }
    save("volume_needle", "empty", &[&[2], &record(Format::default(), &Put::default()).1[..]].concat());
    for width in [16, 17] {
        let places =
            [(1, 8, 50), (2, 64, 0), (9, 800, 7), (2, 80, -1), (1 << 50, 8_000, 1 << 20), (4, 0, -1)];
        let rows: Vec<u8> = places.into_iter().flat_map(|(id, at, size)| row(width, id, at, size)).collect();
        save("volume_index", &format!("rows{width}"), &[&[width as u8, 128], &rows[..]].concat());
        let sorted: Vec<u8> = (0..20).flat_map(|id| row(width, id * 3, 8 + id * 64, 9)).collect();
        save("volume_sorted", &format!("rows{width}"), &[&9_u64.to_be_bytes(), &sorted[..]].concat());
    }
    for (row, version) in [(16, 3), (17, 2), (16, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), "1", Format { version, row, ..Format::default() });
        writer.put(&full);
        writer.put(&Put { id: 2, cookie: 3, ..Put::default() });
        writer.put(&Put { id: 1, data: b"newer".to_vec(), ttl: None, ..full.clone() });
        writer.delete(2, 3);
        let (dat, idx) = (fs::read(writer.path("dat")).unwrap(), fs::read(writer.path("idx")).unwrap());
        let lengths = [(dat.len() as u16).to_le_bytes(), (idx.len() as u16).to_le_bytes()].concat();
        let vif = format!(r#"{{"version":{version}}}"#);
        save("volume_open", &format!("v{version}"), &[&lengths, &dat[..], &idx, vif.as_bytes()].concat());
    }
}
