//! A second decoder of the format, written from its description alone and sharing nothing with `src/kv`.
//!
//! It trusts what it reads and panics on anything odd, which is what a test wants; it also insists on what a reader
//! can do without: links between leaves, tight restart intervals, a tree of expiries that matches the entries, every
//! mapped page reachable exactly once.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

const NONE: u32 = u32::MAX;

/// What the store was written with.
#[derive(Clone, Copy)]
pub struct Shape {
    pub page_size: usize,
    pub pages_per_file_shift: u32,
    pub overflow_pointers: usize,
    pub data_restart: usize,
    pub index_restart: usize,
    pub segment_size: usize,
    pub segments_per_file_shift: u32,
}

impl Shape {
    /// From the lines of an `options.txt`.
    pub fn parse(text: &str) -> Shape {
        let get = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
            line.parse::<usize>().unwrap()
        };
        Shape {
            page_size: get("data_page_size"),
            pages_per_file_shift: get("pages_per_file_shift") as u32,
            overflow_pointers: get("overflow_pointers"),
            data_restart: get("data_page_restart_interval"),
            index_restart: get("index_page_restart_interval"),
            segment_size: get("segment_size"),
            segments_per_file_shift: get("segments_per_file_shift") as u32,
        }
    }
}

/// An entry: value, timestamp, expiry.
pub type Entries = BTreeMap<Vec<u8>, (Vec<u8>, u64, u64)>;

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn le(&mut self, n: usize) -> u64 {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn var(&mut self) -> u64 {
        let end = self.0.iter().position(|byte| byte & 0x80 == 0).unwrap();
        let value =
            self.0[..=end].iter().rev().fold(0u128, |value, byte| value << 7 | u128::from(byte & 0x7f));
        self.0 = &self.0[end + 1..];
        u64::try_from(value).unwrap()
    }

    fn signed(&mut self) -> i64 {
        let coded = self.var();
        if coded % 2 == 1 { -((coded / 2) as i64) } else { (coded / 2) as i64 }
    }

    fn bytes(&mut self, n: u64) -> Vec<u8> {
        let (head, tail) = self.0.split_at(n as usize);
        self.0 = tail;
        head.to_vec()
    }
}

struct Store<'a> {
    shape: Shape,
    folder: &'a Path,
    map: HashMap<u32, u64>,
    segments: HashMap<u32, u64>,
    dictionary: Vec<u8>,
    used: BTreeSet<u32>,
    used_segments: BTreeSet<u32>,
    files: HashMap<String, Vec<u8>>,
    owners: Owners,
}

/// The entries of a partition, from its manifest (or an archive's) name.
pub fn decode(folder: &Path, manifest: &str, shape: Shape) -> Entries {
    let bytes = fs::read(folder.join(manifest)).unwrap();
    let mut store = Store {
        shape,
        folder,
        map: HashMap::new(),
        segments: HashMap::new(),
        dictionary: Vec::new(),
        used: BTreeSet::new(),
        used_segments: BTreeSet::new(),
        files: HashMap::new(),
        owners: Owners::default(),
    };
    let (root, ttl_root) = store.replay(&bytes);
    let entries = store.tree(root);
    let expiries = store.tree(ttl_root);
    let expected: BTreeSet<Vec<u8>> = entries
        .iter()
        .filter(|(_, (_, _, expire))| *expire != 0)
        .map(|(key, (_, _, expire))| [&expire.to_be_bytes()[..], key].concat())
        .collect();
    assert_eq!(expiries.keys().cloned().collect::<BTreeSet<_>>(), expected, "the tree of expiries");
    assert!(expiries.values().all(|(value, ts, expire)| value.is_empty() && *ts == 0 && *expire == 0));
    let mapped: BTreeSet<u32> = store.map.keys().copied().collect();
    assert_eq!(mapped, store.used, "mapped pages and reachable pages");
    let places: BTreeSet<u64> = store.map.values().copied().collect();
    assert_eq!(places.len(), store.map.len(), "two pages in one place");
    assert_eq!(store.segments.keys().copied().collect::<BTreeSet<_>>(), store.used_segments, "segments");
    entries
}

fn record(bytes: &[u8]) -> (u32, u32, &[u8], usize) {
    let mut header = Bytes(bytes);
    let sum = header.le(8);
    let (root, ttl_root, len) = (header.le(4) as u32, header.le(4) as u32, header.le(4) as usize);
    let mut expected = 0u64;
    for chunk in bytes[8..20 + len].chunks(1024 * 1024) {
        expected = (expected.rotate_left(1) ^ xxh3_64(chunk)).wrapping_mul(0x9e3779b97f4a7c15);
    }
    assert_eq!(sum, expected, "record checksum");
    (root, ttl_root, &bytes[20..20 + len], (20 + len).div_ceil(4096) * 4096)
}

impl Store<'_> {
    fn replay(&mut self, bytes: &[u8]) -> (u32, u32) {
        let (mut root, mut ttl_root, payload, mut at) = record(bytes);
        let mut reader = Bytes(payload);
        let mut end = reader.var();
        let len = reader.var();
        self.dictionary = reader.bytes(len);
        let len = reader.le(4);
        let values = reader.bytes(len);
        let mut values = Bytes(&values);
        for id in 0.. {
            if values.0.is_empty() {
                break;
            }
            let value = values.var();
            assert!([1, 2, 7].contains(&(value & 7)));
            put(&mut self.map, id, value);
        }
        let len = reader.le(4);
        self.owners = Owners::parse(&reader.bytes(len));
        if !reader.0.is_empty() {
            reader.var();
            let len = reader.le(4);
            let values = reader.bytes(len);
            let mut values = Bytes(&values);
            for id in 0.. {
                if values.0.is_empty() {
                    break;
                }
                put(&mut self.segments, id, values.var());
            }
        }
        assert!(reader.0.is_empty());
        while at < bytes.len() {
            let (new_root, new_ttl_root, payload, len) = record(&bytes[at..]);
            (root, ttl_root, at) = (new_root, new_ttl_root, at + len);
            let mut reader = Bytes(payload);
            for section in 0..3 {
                let len = reader.le(4);
                let body = reader.bytes(len);
                if section == 1 {
                    self.owners = Owners::parse(&body);
                    continue;
                }
                let mut pairs = Bytes(&body);
                while !pairs.0.is_empty() {
                    let (id, value) = (pairs.var() as u32, pairs.var());
                    if section == 0 {
                        end = end.max(if value & 7 == 1 { (value >> 3) + 1 } else { 0 });
                    }
                    put(if section == 0 { &mut self.map } else { &mut self.segments }, id, value);
                }
            }
            assert!(reader.0.is_empty());
        }
        assert!(self.map.values().all(|place| *place < end));
        (root, ttl_root)
    }

    fn page(&mut self, id: u32) -> Vec<u8> {
        assert!(self.used.insert(id), "page {id} is reached twice");
        let place = self.map[&id];
        let (file, index) =
            (place >> self.shape.pages_per_file_shift, place % (1 << self.shape.pages_per_file_shift));
        let folder = self.folder;
        let name = self.owners.data(file);
        let bytes = self.files.entry(name).or_insert_with_key(|name| fs::read(folder.join(name)).unwrap());
        let at = index as usize * self.shape.page_size;
        let page = bytes[at..at + self.shape.page_size].to_vec();
        assert_eq!(Bytes(&page).le(8), xxh3_64(&page[8..]), "page {id}'s checksum");
        page
    }

    fn tree(&mut self, root: u32) -> Entries {
        let mut entries = Entries::new();
        let mut leaves = Vec::new();
        if root != NONE {
            assert!(matches!(self.page_kind(root), 0 | 1), "a root is an index page");
            self.walk(root, &[], None, &mut entries, &mut leaves);
        }
        for (i, (id, previous, next)) in leaves.iter().enumerate() {
            assert_eq!(*previous, if i == 0 { NONE } else { leaves[i - 1].0 }, "leaf {id}'s link back");
            assert_eq!(*next, leaves.get(i + 1).map_or(NONE, |leaf| leaf.0), "leaf {id}'s link on");
        }
        entries
    }

    fn page_kind(&mut self, id: u32) -> u8 {
        let kind = self.page(id)[8];
        self.used.remove(&id);
        kind
    }

    fn walk(
        &mut self,
        id: u32,
        from: &[u8],
        until: Option<&[u8]>,
        entries: &mut Entries,
        leaves: &mut Vec<(u32, u32, u32)>,
    ) {
        let page = self.page(id);
        let len = usize::from(u16::from_le_bytes([page[9], page[10]]));
        let count = usize::from(u16::from_le_bytes([page[len - 2], page[len - 1]]));
        let array = &page[len - 2 - 2 * count..len - 2];
        let restarts: Vec<usize> =
            array.chunks(2).map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]]))).collect();
        let body = &page[..len - 2 - 2 * count];
        if page[8] == 2 {
            let mut links = Bytes(&page[11..19]);
            leaves.push((id, links.le(4) as u32, links.le(4) as u32));
            self.leaf(body, &restarts, from, until, entries);
            return;
        }
        assert!(page[8] <= 1);
        let mut children = vec![(from.to_vec(), Bytes(&page[11..]).le(4) as u32)];
        let (mut at, mut since, mut key, mut child) = (15, 0, Vec::new(), 0i64);
        while at < body.len() {
            let restart = restarts.contains(&at);
            since = if restart { 0 } else { since + 1 };
            assert!(since < self.shape.index_restart, "a restart point at least every so many separators");
            let mut reader = Bytes(&body[at..]);
            let (shared, rest) = (reader.var() as usize, reader.var());
            assert!(!restart || shared == 0);
            key.truncate(shared);
            key.extend(reader.bytes(rest));
            child = reader.signed() + if restart { 0 } else { child };
            assert!(key > children.last().unwrap().0 && until.is_none_or(|until| key.as_slice() < until));
            children.push((key.clone(), u32::try_from(child).unwrap()));
            at = body.len() - reader.0.len();
        }
        for (i, (separator, child)) in children.iter().enumerate() {
            let until = children.get(i + 1).map(|next| next.0.as_slice()).or(until);
            let kind = self.page_kind(*child);
            assert_eq!(page[8] == 1, kind == 2, "kinds of parent and child");
            self.walk(*child, separator, until, entries, leaves);
        }
    }

    fn leaf(
        &mut self,
        body: &[u8],
        restarts: &[usize],
        from: &[u8],
        until: Option<&[u8]>,
        entries: &mut Entries,
    ) {
        let (mut at, mut since, mut key, mut ts) = (19, 0, Vec::new(), 0i64);
        assert!(at < body.len(), "an empty leaf");
        while at < body.len() {
            let restart = restarts.contains(&at);
            since = if restart { 0 } else { since + 1 };
            // Not exactly: the C++ engine moves whole intervals between pages when it evens them out.
            assert!(since < self.shape.data_restart, "a restart point at least every so many entries");
            let mut reader = Bytes(&body[at..]);
            let (shared, rest, descriptor) = (reader.var() as usize, reader.var(), reader.var());
            assert!(!restart || shared == 0);
            let before = key.clone();
            key.truncate(shared);
            key.extend(reader.bytes(rest));
            let content = reader.bytes(descriptor >> 4);
            let expire = if descriptor & 2 != 0 { reader.var() } else { 0 };
            ts = reader.signed() + if restart { 0 } else { ts };
            assert!(
                ts >= 0
                    && key > before
                    && key.as_slice() >= from
                    && until.is_none_or(|until| key.as_slice() < until)
            );
            let value = self.value(descriptor, content);
            assert!(entries.insert(key.clone(), (value, ts as u64, expire)).is_none());
            at = body.len() - reader.0.len();
        }
    }

    fn value(&mut self, descriptor: u64, content: Vec<u8>) -> Vec<u8> {
        let stored = if descriptor & 1 == 1 { self.chain(&content) } else { content };
        if descriptor >> 2 & 3 == 0 {
            return stored;
        }
        let mut reader = Bytes(&stored);
        if descriptor >> 2 & 3 == 3 {
            return self.large(reader);
        }
        let len = reader.var() as usize;
        let dictionary = if descriptor >> 2 & 3 == 1 { self.dictionary.clone() } else { Vec::new() };
        let mut zstd = zstd::bulk::Decompressor::with_dictionary(&dictionary).unwrap();
        let value = zstd.decompress(reader.0, len).unwrap();
        assert_eq!(value.len(), len);
        value
    }

    fn chain(&mut self, pointers: &[u8]) -> Vec<u8> {
        let mut value = Vec::new();
        let mut group: Vec<u32> = pointers.chunks(4).map(|id| Bytes(id).le(4) as u32).collect();
        let limit = self.shape.overflow_pointers;
        while !group.is_empty() {
            assert!(group.len() <= limit);
            let mut next = Vec::new();
            for (i, id) in group.iter().enumerate() {
                let page = self.page(*id);
                assert_eq!(page[8], 3);
                let len = usize::from(u16::from_le_bytes([page[9], page[10]]));
                let count = usize::from(page[page.len() - 1]);
                let room = page.len() - 12 - if i + 1 == limit { 4 * limit } else { 0 };
                assert!(len <= room && (count == 0 || i + 1 == limit));
                value.extend(&page[11..11 + len]);
                let ids = &page[page.len() - 1 - 4 * count..page.len() - 1];
                next = ids.chunks(4).map(|id| Bytes(id).le(4) as u32).collect();
                assert!(i + 1 == group.len() || len == room, "only the last page may be partly full");
            }
            group = next;
        }
        value
    }

    fn large(&mut self, mut reader: Bytes<'_>) -> Vec<u8> {
        let word = reader.le(4);
        let len = (word & 0x7fff_ffff) as usize;
        let mut value = Vec::new();
        for _ in 0..len.div_ceil(self.shape.segment_size) {
            let id = reader.le(4) as u32;
            assert!(self.used_segments.insert(id));
            let place = self.segments[&id];
            let shift = self.shape.segments_per_file_shift;
            let file = fs::read(self.folder.join(self.owners.segment(place >> shift))).unwrap();
            let at = (place % (1 << shift)) as usize * self.shape.segment_size;
            value.extend(&file[at..at + (len - value.len()).min(self.shape.segment_size)]);
        }
        value
    }
}

fn put(map: &mut HashMap<u32, u64>, id: u32, value: u64) {
    if value & 7 == 1 {
        map.insert(id, value >> 3);
    } else {
        map.remove(&id);
    }
}

/// Who owns which files: the branch that wrote, and ranges of others, ascending.
#[derive(Clone, Debug, Default)]
struct Owners {
    own: (String, u64),
    ranges: Vec<(String, u64, u64, u64)>,
}

impl Owners {
    fn parse(bytes: &[u8]) -> Owners {
        let mut reader = Bytes(bytes);
        let name = |reader: &mut Bytes<'_>| {
            let len = reader.le(4);
            let name = String::from_utf8(reader.bytes(len)).unwrap();
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(!name.is_empty() && name.chars().all(plain), "a branch is called {name}");
            name
        };
        let own = (name(&mut reader), reader.le(8));
        let ranges: Vec<_> = (0..reader.le(8))
            .map(|_| (name(&mut reader), reader.le(8), reader.le(8), reader.le(8)))
            .collect();
        assert!(reader.0.is_empty());
        assert!(ranges.windows(2).all(|pair| pair[0].2 < pair[1].2 && pair[0].3 <= pair[1].3), "{ranges:?}");
        Owners { own, ranges }
    }

    /// `data_<id>_<branch>_<term>` of who owns it.
    fn data(&self, id: u64) -> String {
        let owner = self.ranges.iter().find(|range| range.2 >= id).map(|range| (&range.0, range.1));
        let (branch, term) = owner.unwrap_or((&self.own.0, self.own.1));
        format!("data_{id}_{branch}_{term}")
    }

    fn segment(&self, id: u64) -> String {
        let owner = self.ranges.iter().find(|range| range.3 >= id).map(|range| (&range.0, range.1));
        let (branch, term) = owner.unwrap_or((&self.own.0, self.own.1));
        format!("segment_{id}_{branch}_{term}")
    }
}
