//! The reader beside a real SeaweedFS: every byte and every verdict as over HTTP. It needs a `weed` program (see
//! `build-weed.sh` beside this file): `RDE_WEED=/path/to/weed cargo test --test seaweedfs -- --ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod http;
mod server;

use std::collections::HashMap;
use std::path::Path;

use rdma_engine::volume::needle::Flags;
use rdma_engine::volume::{FileId, ReadOptions, Volume};
use rdma_engine::{Result, Status};
use server::Server;

/// Lengths of files in bytes: around every boundary of the format and of the server's own buffers.
const LENGTHS: [usize; 16] = [
    0,
    1,
    7,
    8,
    9,
    255,
    256,
    4_095,
    4_096,
    65_537,
    100_000,
    1 << 20,
    (1 << 20) + 1,
    3 << 20,
    (4 << 20) + 5,
    8 << 20,
];

const FILES: usize = 320;

/// One uploaded file.
struct Stored {
    id: FileId,
    data: Vec<u8>,
    deleted: bool,
    ttl: bool,
}

/// The volumes of a folder, opened as they are asked for.
struct Reader<'a> {
    dir: &'a Path,
    volumes: HashMap<u32, Volume>,
}

impl Reader<'_> {
    fn volume(&mut self, id: u32) -> &Volume {
        self.volumes.entry(id).or_insert_with(|| Volume::open(self.dir, "", id).unwrap())
    }

    fn read(&mut self, id: FileId, options: &ReadOptions) -> Result<(Vec<u8>, Flags)> {
        let volume = self.volume(id.volume);
        let length = volume.stat(id, options)?.data_length as usize;
        let mut buffer = vec![0; length];
        let read = volume.read(id, &mut buffer, options)?;
        assert_eq!(read.length, length);
        Ok((buffer, read.needle.flags))
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Noise, which nobody compresses, or text, which a server does if the name says that it is text.
    fn data(&mut self, length: usize, text: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(length + 8);
        while out.len() < length {
            let word = self.next();
            if text {
                out.extend_from_slice(&[b'a' + (word % 3) as u8; 8])
            } else {
                out.extend(word.to_le_bytes())
            }
        }
        out.truncate(length);
        out
    }
}

fn assign(server: &Server, ttl: bool) -> FileId {
    let path = if ttl { "/dir/assign?ttl=1d" } else { "/dir/assign" };
    let answer = http::get(server.master, path).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    json["fid"].as_str().unwrap_or_else(|| panic!("no file id: {json}")).parse().unwrap()
}

fn store(server: &Server, id: FileId, ttl: bool, text: bool, data: &[u8]) {
    let query = if ttl { "?ttl=1d" } else { "" };
    let name = if text { "words.txt" } else { "noise.bin" };
    let answer = http::upload(server.volume, &format!("/{id}{query}"), name, data).unwrap();
    assert!(
        matches!(answer.status, 201 | 204),
        "{id}: {} {:?}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
}

/// Uploads, overwrites and deletes; reads every file right after its acknowledgement.
fn fill(server: &Server, reader: &mut Reader<'_>, random: &mut Random) -> Vec<Stored> {
    let mut files = Vec::new();
    let all = ReadOptions::default();
    for at in 0..FILES {
        let (ttl, text) = (at % 16 == 3, at % 5 == 1);
        let id = assign(server, ttl);
        let mut data = random.data(LENGTHS[at % LENGTHS.len()], text);
        store(server, id, ttl, text, &data);
        if at % 7 == 2 {
            data = random.data(LENGTHS[(at + 3) % LENGTHS.len()], text);
            store(server, id, ttl, text, &data);
        }
        let (read, flags) = reader.read(id, &all).unwrap();
        assert!(flags.has(Flags::COMPRESSED) || read == data, "{id}: read at once");
        let deleted = at % 6 == 5;
        if deleted {
            let answer = http::request(server.volume, "DELETE", &format!("/{id}"), &[], &[]).unwrap();
            assert!(matches!(answer.status, 200 | 202), "{id}: {}", answer.status);
        }
        files.push(Stored { id, data, deleted, ttl });
    }
    files
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    read: usize,
    compressed: usize,
    refused: usize,
    ranges: usize,
}

/// Compares every file, its ranges, its verdicts.
fn compare(server: &Server, reader: &mut Reader<'_>, files: &[Stored]) -> Tally {
    let mut tally = Tally::default();
    for file in files {
        for read_deleted in [false, true] {
            let path = format!("/{}{}", file.id, if read_deleted { "?readDeleted=true" } else { "" });
            let headers = [("Accept-Encoding", "gzip")];
            let answer = http::request(server.volume, "GET", &path, &headers, &[]).unwrap();
            let options = ReadOptions { read_deleted, ..ReadOptions::default() };
            match (answer.status, reader.read(file.id, &options)) {
                (200, Ok((data, flags))) => {
                    let gzip = answer.header("content-encoding") == Some("gzip");
                    assert_eq!(flags.has(Flags::COMPRESSED), gzip, "{path}");
                    assert!(data == answer.body, "{path}: {} and {} bytes", data.len(), answer.body.len());
                    assert!(gzip || data == file.data, "{path}: not what was uploaded");
                    tally.read += 1;
                    tally.compressed += usize::from(gzip);
                }
                (404, Err(error)) => {
                    assert!(matches!(error.status, Status::NotFound | Status::Deleted), "{path}: {error}");
                    assert!(file.deleted, "{path}: {error}");
                    tally.refused += 1;
                }
                // An empty file has nothing that a deletion could mark, so HTTP may still answer for it.
                (200, Err(error)) if file.deleted && file.data.is_empty() => {
                    assert_eq!(error.status, Status::Deleted, "{path}");
                    tally.refused += 1;
                }
                (status, read) => {
                    panic!("{path}: HTTP says {status}, the reader {:?}", read.map(|read| read.0.len()))
                }
            }
        }
        if !file.deleted && !file.data.is_empty() {
            tally.ranges += compare_ranges(server, reader, file);
            let wrong = FileId { cookie: file.id.cookie ^ 1, ..file.id };
            assert_eq!(http::get(server.volume, &format!("/{wrong}")).unwrap().status, 404);
            assert_eq!(
                reader.read(wrong, &ReadOptions::default()).unwrap_err().status,
                Status::CookieMismatch
            );
        }
        if file.ttl && !file.deleted && !file.data.is_empty() {
            let later = ReadOptions { now_ns: Some(u64::MAX), ..ReadOptions::default() };
            assert_eq!(reader.read(file.id, &later).unwrap_err().status, Status::Expired, "{}", file.id);
        }
    }
    tally
}

fn compare_ranges(server: &Server, reader: &mut Reader<'_>, file: &Stored) -> usize {
    let (length, mut compared) = (file.data.len(), 0);
    for (start, part) in
        [(0, length), (0, 1), (length - 1, 1), (length / 3, length / 2), (length / 2, length)]
    {
        if part == 0 {
            continue;
        }
        let range = format!("bytes={start}-{}", start + part - 1);
        let headers = [("Range", range.as_str()), ("Accept-Encoding", "identity")];
        let answer = http::request(server.volume, "GET", &format!("/{}", file.id), &headers, &[]).unwrap();
        let mut buffer = vec![0; part];
        match reader.volume(file.id.volume).read_range(
            file.id,
            start as u64,
            &mut buffer,
            &ReadOptions::default(),
        ) {
            Ok(read) if !read.needle.flags.has(Flags::COMPRESSED) => {
                assert!(matches!(answer.status, 200 | 206), "{}: {range}: {}", file.id, answer.status);
                assert!(buffer[..read.length] == answer.body, "{}: {range}", file.id);
                compared += 1;
            }
            Ok(_) => {}
            Err(error) => assert_eq!(error.status, Status::Ineligible, "{}: {range}: {error}", file.id),
        }
    }
    compared
}

#[test]
#[ignore = "needs a SeaweedFS program in RDE_WEED"]
fn same_bytes_and_verdicts_as_http() {
    let weed = std::env::var_os("RDE_WEED").expect("RDE_WEED names a weed program");
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(Path::new(&weed), dir.path());
    let data = server.data();
    let mut reader = Reader { dir: &data, volumes: HashMap::new() };
    let seed = std::env::var("RDE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed);
    println!("RDE_TEST_SEED={seed}");
    let files = fill(&server, &mut reader, &mut Random(seed));
    let tally = compare(&server, &mut reader, &files);
    println!("as written: {tally:?}");
    assert!(tally.read > FILES && tally.refused > 0 && tally.ranges > FILES && tally.compressed > 0);
    let answer = http::get(server.master, "/vol/vacuum?garbageThreshold=0.0001").unwrap();
    assert_eq!(answer.status, 200);
    println!("vacuumed: {:?}", compare(&server, &mut reader, &files));
    let generations = reader.volumes.values().filter_map(|volume| volume.info()).map(|info| info.generation);
    assert!(generations.max() > Some(1), "the vacuum replaced no volume");
    server.restart();
    println!("restarted: {:?}", compare(&server, &mut reader, &files));
    reader.volumes.clear();
    println!("opened anew: {:?}", compare(&server, &mut reader, &files));
}
