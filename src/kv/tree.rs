//! A partition's trees as of one moment, and how to find things in them.

use super::child_table::ChildTable;
use super::compress::Dictionary;
use super::cursor::Cursor;
use super::damage::{Decoded, corrupted};
use super::data_page::{DataPage, Entry};
use super::index_page::IndexPage;
use super::manifest::Manifest;
use super::names::FileName;
use super::options::Options;
use super::page::{NONE, PageId};
use super::source::{Place, Source};
use crate::status::Result;

/// Levels of index pages that a tree may have. A full page has at least two children, so 2^32 pages need fewer.
pub(super) const DEPTH: usize = 64;

/// One entry, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: Vec<u8>,
    /// The value, decompressed.
    pub value: Vec<u8>,
    /// The writer's timestamp.
    pub timestamp: u64,
    /// When it expires, unix milliseconds; 0 never. Reads return expired entries until they are cleaned.
    pub expire_ms: u64,
    /// For a very large value what its writer attached; the outer None says that it is none.
    pub large: Option<Option<Vec<u8>>>,
}

/// A partition's trees and how to reach their pages. Borrowed for as long as one request runs.
#[derive(Debug)]
pub struct Tree<'a, S> {
    /// Sizes and shifts.
    pub options: &'a Options,
    /// The mapping that this tree is seen through.
    pub manifest: &'a Manifest,
    /// The manifest's dictionary, prepared.
    pub dictionary: Option<&'a Dictionary>,
    /// Where pages come from.
    pub source: &'a S,
}

/// A page in memory, and where it came from.
#[derive(Debug)]
pub struct Loaded<B> {
    /// The page's bytes; their checksum was right.
    pub bytes: B,
    /// Its file page.
    pub file_page: u64,
}

/// How far a look-up gets over pages that are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// To the entry.
    Found {
        /// The writer's timestamp.
        timestamp: u64,
        /// When it expires, unix milliseconds; 0 never.
        expire_ms: u64,
    },
    /// To a data page that is not in memory.
    At(PageId),
}

/// Looks up `key` over the pages that `page` has by their file pages, and copies its value into `value`, which is empty. None
/// if that takes more than pages in memory: the key is absent, its value is elsewhere, an index page is missing, or something
/// is wrong. Whoever looks it up in full says which.
pub fn glance<B: AsRef<[u8]>>(
    manifest: &Manifest,
    key: &[u8],
    value: &mut Vec<u8>,
    page: impl Fn(u64) -> Option<B>,
) -> Option<Glance> {
    let mut id = manifest.root;
    for _ in 0..DEPTH {
        let index = page(manifest.mapping.get(id)?)?;
        let index = IndexPage::parse(index.as_ref()).ok()?;
        id = index.child_of(key).ok()?;
        if !index.is_leaf() {
            continue;
        }
        let Some(leaf) = page(manifest.mapping.get(id)?) else { return Some(Glance::At(id)) };
        let entry = DataPage::parse(leaf.as_ref()).ok()?.find(key).ok()??;
        if !entry.is_plain() {
            return None;
        }
        value.extend_from_slice(entry.content);
        return Some(Glance::Found { timestamp: entry.timestamp, expire_ms: entry.expire_ms });
    }
    None
}

impl<'a, S: Source> Tree<'a, S> {
    /// Reads a page and verifies its checksum.
    pub async fn load(&self, id: PageId) -> Result<Loaded<S::Bytes>> {
        let file_page = self.manifest.mapping.get(id).ok_or_else(|| {
            corrupted(self.manifest_name(), 0, format_args!("page {id} is linked to, and mapped to nothing"))
        })?;
        if file_page >= self.manifest.end {
            let what = format_args!("page {id} is mapped past the last page that was written");
            return Err(corrupted(self.manifest_name(), 0, what));
        }
        let bytes = self.source.page(&self.place(file_page)).await?;
        Ok(Loaded { bytes, file_page })
    }

    /// Says that a page will be loaded soon, and then replaced.
    pub fn expect_last(&self, id: PageId) {
        if let Some(file_page) = self.manifest.mapping.get(id).filter(|page| *page < self.manifest.end) {
            self.source.expect_last(&self.place(file_page));
        }
    }

    /// The same of several pages: those that lie together may be fetched together. For how many of the first there was
    /// room.
    pub fn expect_all(&self, ids: &[PageId]) -> usize {
        let pages = ids.iter().filter_map(|id| self.manifest.mapping.get(*id));
        let places = pages.filter(|page| *page < self.manifest.end).map(|page| self.place(page));
        let places: Vec<_> = places.collect();
        let missing = ids.len() - places.len();
        match self.source.expect_all(&places) {
            expected if expected == places.len() => expected + missing,
            expected => expected,
        }
    }

    fn place(&self, file_page: u64) -> Place<'a> {
        let (id, offset) = self.options.page_place(file_page);
        let (branch, term) = self.manifest.branches.owner(id);
        Place { file_page, id, offset, len: self.options.page_size, branch, term }
    }

    /// What was decoded from a page, or an error that names its place.
    pub fn sound<T, B>(&self, loaded: &Loaded<B>, decoded: Decoded<T>) -> Result<T> {
        decoded.map_err(|damage| {
            let place = self.place(loaded.file_page);
            damage.in_file(self.source.describe(&place.file()), place.offset)
        })
    }

    pub(super) fn manifest_name(&self) -> String {
        let (branch, term) = (self.manifest.branches.name.clone(), self.manifest.branches.term);
        self.source.describe(&FileName::Manifest { branch, term })
    }

    /// The data page whose range holds `key`; None in an empty tree.
    async fn leaf(&self, root: PageId, key: &[u8]) -> Result<Option<Loaded<S::Bytes>>> {
        let mut id = root;
        if id == NONE {
            return Ok(None);
        }
        for _ in 0..DEPTH {
            let index = self.load(id).await?;
            let parsed = self.sound(&index, IndexPage::parse(index.bytes.as_ref()))?;
            id = self.sound(&index, parsed.child_of(key))?;
            if parsed.is_leaf() {
                return self.load(id).await.map(Some);
            }
        }
        Err(self.too_deep(root))
    }

    /// The data pages of the lowest index page on the way to `key`, in `table`, and where their range ends; None in an empty
    /// tree.
    pub async fn leaves_around(
        &self,
        root: PageId,
        key: &[u8],
        table: &mut ChildTable,
    ) -> Result<Option<Option<Vec<u8>>>> {
        let (mut id, mut from, mut until) = (root, Vec::new(), None);
        if id == NONE {
            return Ok(None);
        }
        for _ in 0..DEPTH {
            let index = self.load(id).await?;
            let parsed = self.sound(&index, IndexPage::parse(index.bytes.as_ref()))?;
            if parsed.is_leaf() {
                self.sound(&index, parsed.table_into(&from, until.as_deref(), table))?;
                return Ok(Some(until));
            }
            let found = self.sound(&index, parsed.surrounded(key))?;
            (id, from, until) = (found.child, found.from.unwrap_or(from), found.until.or(until));
        }
        Err(self.too_deep(root))
    }

    pub(super) fn too_deep(&self, root: PageId) -> crate::status::Error {
        let what = format_args!("the tree of page {root} is deeper than {DEPTH} levels");
        corrupted(self.manifest_name(), 0, what)
    }

    /// The entry with exactly this key.
    pub async fn read(&self, key: &[u8]) -> Result<Option<Found>> {
        self.read_into(key.to_vec(), Vec::new()).await
    }

    /// The same; the key, and `room` for the value, become part of what is found.
    pub async fn read_into(&self, key: Vec<u8>, room: Vec<u8>) -> Result<Option<Found>> {
        match self.leaf(self.manifest.root, &key).await? {
            Some(leaf) => self.read_in(leaf, key, room).await,
            None => Ok(None),
        }
    }

    /// The same from a data page on that an index page has for the key.
    pub async fn read_at(&self, leaf: PageId, key: Vec<u8>, room: Vec<u8>) -> Result<Option<Found>> {
        self.read_in(self.load(leaf).await?, key, room).await
    }

    async fn read_in(&self, leaf: Loaded<S::Bytes>, key: Vec<u8>, room: Vec<u8>) -> Result<Option<Found>> {
        let page = self.sound(&leaf, DataPage::parse(leaf.bytes.as_ref()))?;
        match self.sound(&leaf, page.find(&key))? {
            Some(entry) => self.found(&leaf, key, &entry, room).await.map(Some),
            None => self.confirm_absent(&leaf, &key).await.map(|()| None),
        }
    }

    /// The entry with the largest key that is at most `key`.
    pub async fn floor(&self, key: &[u8]) -> Result<Option<Found>> {
        let mut cursor = Cursor::new(self, self.manifest.root);
        cursor.seek(key).await?;
        loop {
            let Some(leaf) = &cursor.leaf else { return Ok(None) };
            let page = self.sound(leaf, DataPage::parse(leaf.bytes.as_ref()))?;
            self.sound(leaf, cursor.bounds().hold(&page))?;
            let mut entries = self.sound(leaf, page.entries_near(key))?;
            let mut best: Option<(Vec<u8>, Entry<'_>)> = None;
            while let Some(entry) = self.sound(leaf, entries.step())? {
                if entries.key() > key {
                    break;
                }
                best = Some((entries.key().to_vec(), entry));
            }
            if let Some((key, entry)) = best {
                return self.found(leaf, key, &entry, Vec::new()).await.map(Some);
            }
            cursor.back().await?;
        }
    }
}
