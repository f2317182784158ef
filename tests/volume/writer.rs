//! Writes SeaweedFS volumes, from the description of the format alone; shares no code with the reader.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What to store under an id.
#[derive(Clone, Debug, Default)]
pub struct Put {
    pub id: u64,
    pub cookie: u32,
    pub data: Vec<u8>,
    pub name: Option<Vec<u8>>,
    pub mime: Option<Vec<u8>>,
    pub last_modified: Option<u64>,
    pub ttl: Option<[u8; 2]>,
    pub pairs: Option<Vec<u8>>,
    /// Flags beside those that the fields above set.
    pub flags: u8,
    pub append_at_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub version: u8,
    /// 16 or 17.
    pub row: usize,
    pub masked: bool,
    pub extra: u16,
}

impl Default for Format {
    fn default() -> Format {
        Format { version: 3, row: 16, masked: false, extra: 0 }
    }
}

pub struct Writer {
    pub format: Format,
    pub base: PathBuf,
    pub length: u64,
    pub revision: u16,
    dat: File,
    idx: File,
    /// Id to offset and size of what lives.
    live: BTreeMap<u64, (u64, i32)>,
}

/// CRC-32C bit by bit, from its polynomial.
pub fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !data.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

pub fn record(format: Format, put: &Put) -> (i32, Vec<u8>) {
    let mut body = Vec::new();
    if format.version == 1 {
        body.extend_from_slice(&put.data);
    } else if !put.data.is_empty() {
        body.extend_from_slice(&(put.data.len() as u32).to_be_bytes());
        body.extend_from_slice(&put.data);
        let flag = |there: bool, bit: u8| if there { bit } else { 0 };
        body.push(
            put.flags
                | flag(put.name.is_some(), 2)
                | flag(put.mime.is_some(), 4)
                | flag(put.last_modified.is_some(), 8)
                | flag(put.ttl.is_some(), 16)
                | flag(put.pairs.is_some(), 32),
        );
        for text in [&put.name, &put.mime].into_iter().flatten() {
            body.push(text.len() as u8);
            body.extend_from_slice(text);
        }
        if let Some(seconds) = put.last_modified {
            body.extend_from_slice(&seconds.to_be_bytes()[3..]);
        }
        body.extend(put.ttl.into_iter().flatten());
        if let Some(pairs) = &put.pairs {
            body.extend_from_slice(&(pairs.len() as u16).to_be_bytes());
            body.extend_from_slice(pairs);
        }
    }
    let crc = crc32c(&put.data);
    let stored = if format.masked { crc.rotate_left(17).wrapping_add(0xa282_ead8) } else { crc };
    let mut out = Vec::new();
    out.extend_from_slice(&put.cookie.to_be_bytes());
    out.extend_from_slice(&put.id.to_be_bytes());
    out.extend_from_slice(&(body.len() as i32).to_be_bytes());
    out.extend_from_slice(&body);
    out.extend_from_slice(&stored.to_be_bytes());
    if format.version == 3 {
        out.extend_from_slice(&put.append_at_ns.to_be_bytes());
    }
    // 1 to 8 bytes of whatever was there.
    out.resize(out.len() + 8 - out.len() % 8, 0xa5);
    (body.len() as i32, out)
}

pub fn row(width: usize, id: u64, offset: u64, size: i32) -> Vec<u8> {
    assert_eq!(offset % 8, 0);
    let units = offset / 8;
    let mut out = id.to_be_bytes().to_vec();
    out.extend_from_slice(&(units as u32).to_be_bytes());
    if width == 17 {
        out.push((units >> 32) as u8);
    }
    out.extend_from_slice(&size.to_be_bytes());
    out
}

fn superblock(format: Format, revision: u16) -> Vec<u8> {
    let mut out = vec![format.version, 0, 0, 0];
    out.extend_from_slice(&revision.to_be_bytes());
    out.extend_from_slice(&format.extra.to_be_bytes());
    if format.version > 1 {
        out.resize(8 + usize::from(format.extra), 0x5a);
    }
    // Records start at multiples of 8.
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

impl Writer {
    pub fn create(dir: &Path, base: &str, format: Format) -> Writer {
        let base = dir.join(base);
        let first = superblock(format, 0);
        let open = |extension: &str| {
            let options = OpenOptions::new().read(true).write(true).create_new(true).to_owned();
            options.open(base.with_extension(extension)).unwrap()
        };
        let (dat, idx) = (open("dat"), open("idx"));
        dat.write_all_at(&first, 0).unwrap();
        Writer {
            format,
            base: base.clone(),
            length: first.len() as u64,
            revision: 0,
            dat,
            idx,
            live: BTreeMap::new(),
        }
    }

    pub fn path(&self, extension: &str) -> PathBuf {
        self.base.with_extension(extension)
    }

    pub fn write_vif(&self, text: &str) {
        fs::write(self.path("vif"), text).unwrap();
    }

    /// Appends a record and returns its place, without a row.
    pub fn append(&mut self, put: &Put) -> (u64, i32) {
        let (size, bytes) = record(self.format, put);
        let offset = self.length;
        self.dat.write_all_at(&bytes, offset).unwrap();
        self.length += bytes.len() as u64;
        (offset, size)
    }

    pub fn append_row(&mut self, id: u64, offset: u64, size: i32) {
        let row = row(self.format.row, id, offset, size);
        (&self.idx).write_all(&row).unwrap();
        if size >= 0 {
            self.live.insert(id, (offset, size));
        } else {
            self.live.remove(&id);
        }
    }

    pub fn put(&mut self, put: &Put) {
        let (offset, size) = self.append(put);
        self.append_row(put.id, offset, size);
    }

    pub fn delete(&mut self, id: u64, cookie: u32) {
        let (offset, _) = self.append(&Put { id, cookie, ..Put::default() });
        self.append_row(id, offset, -1);
    }

    /// Writes what lives to the files of a vacuum.
    pub fn vacuum_prepare(&mut self) {
        self.revision += 1;
        let mut dat = superblock(self.format, self.revision);
        let mut idx = Vec::new();
        let old = fs::read(self.path("dat")).unwrap();
        let trailer = if self.format.version == 3 { 12 } else { 4 };
        for (id, place) in &mut self.live {
            let length = 16 + place.1 as usize + trailer;
            let length = length + 8 - length % 8;
            let from = place.0 as usize;
            place.0 = dat.len() as u64;
            dat.extend_from_slice(&old[from..from + length]);
            idx.extend_from_slice(&row(self.format.row, *id, place.0, place.1));
        }
        fs::write(self.path("cpd"), &dat).unwrap();
        fs::write(self.path("cpx"), &idx).unwrap();
        self.length = dat.len() as u64;
    }

    pub fn vacuum_commit_dat(&mut self) {
        fs::rename(self.path("cpd"), self.path("dat")).unwrap();
    }

    pub fn vacuum_commit_idx(&mut self) {
        fs::rename(self.path("cpx"), self.path("idx")).unwrap();
        self.dat = OpenOptions::new().read(true).write(true).open(self.path("dat")).unwrap();
        self.idx = OpenOptions::new().append(true).open(self.path("idx")).unwrap();
    }

    pub fn vacuum(&mut self) {
        self.vacuum_prepare();
        self.vacuum_commit_dat();
        self.vacuum_commit_idx();
    }

    /// Writes the sorted index of what the `.idx` file says, deletions included.
    pub fn write_sdx(&self) {
        let idx = fs::read(self.path("idx")).unwrap();
        let mut rows = BTreeMap::new();
        for row in idx.chunks_exact(self.format.row) {
            rows.insert(row[..8].to_vec(), row.to_vec());
        }
        fs::write(self.path("sdx"), rows.into_values().flatten().collect::<Vec<u8>>()).unwrap();
    }
}

/// Random numbers for what proptest does not drive: splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// The seed of a test's random numbers: `RDE_TEST_SEED`, or a fixed one; printed, so that a failure can be repeated.
pub fn seed(test: &str) -> Random {
    let seed = std::env::var("RDE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed);
    println!("{test}: RDE_TEST_SEED={seed}");
    Random(seed)
}
