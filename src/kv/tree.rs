//! A partition's trees as of one moment, and how to find things in them.

use super::compress::Dictionary;
use super::cursor::Cursor;
use super::damage::{Decoded, corrupted};
use super::data_page::{DataPage, Entry};
use super::index_page::IndexPage;
use super::manifest::Manifest;
use super::names::FileName;
use super::options::Options;
use super::page::{self, NONE, PageId};
use super::source::Source;
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
    /// Its file.
    pub file: FileName,
    /// Its offset there.
    pub offset: u64,
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
        let (file, offset) = self.options.page_place(file_page);
        let (branch, term) = self.manifest.branches.owner(file);
        let file = FileName::Data { id: file, branch: branch.into(), term };
        let bytes = self.source.read(&file, offset, self.options.page_size).await?;
        let loaded = Loaded { bytes, file, offset };
        self.sound(&loaded, page::verify(loaded.bytes.as_ref()))?;
        Ok(loaded)
    }

    /// What was decoded from a page, or an error that names its place.
    pub fn sound<T, B>(&self, loaded: &Loaded<B>, decoded: Decoded<T>) -> Result<T> {
        decoded.map_err(|damage| damage.in_file(self.source.describe(&loaded.file), loaded.offset))
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

    pub(super) fn too_deep(&self, root: PageId) -> crate::status::Error {
        let what = format_args!("the tree of page {root} is deeper than {DEPTH} levels");
        corrupted(self.manifest_name(), 0, what)
    }

    /// The entry with exactly this key.
    pub async fn read(&self, key: &[u8]) -> Result<Option<Found>> {
        let Some(leaf) = self.leaf(self.manifest.root, key).await? else { return Ok(None) };
        let page = self.sound(&leaf, DataPage::parse(leaf.bytes.as_ref()))?;
        match self.sound(&leaf, page.find(key))? {
            Some(entry) => self.found(&leaf, key, &entry).await.map(Some),
            None => Ok(None),
        }
    }

    /// The entry with the largest key that is at most `key`.
    pub async fn floor(&self, key: &[u8]) -> Result<Option<Found>> {
        let mut cursor = Cursor::new(self, self.manifest.root);
        cursor.seek(key).await?;
        loop {
            let Some(leaf) = &cursor.leaf else { return Ok(None) };
            let page = self.sound(leaf, DataPage::parse(leaf.bytes.as_ref()))?;
            let mut entries = self.sound(leaf, page.entries_near(key))?;
            let mut best: Option<(Vec<u8>, Entry<'_>)> = None;
            while let Some(entry) = self.sound(leaf, entries.step())? {
                if entries.key() > key {
                    break;
                }
                best = Some((entries.key().to_vec(), entry));
            }
            if let Some((key, entry)) = best {
                return self.found(leaf, &key, &entry).await.map(Some);
            }
            cursor.back().await?;
        }
    }
}
