//! A partition's trees as of one moment, and how to find things in them.

use super::compress::{self, Dictionary};
use super::damage::{Damage, Decoded, corrupted};
use super::data_page::{DataPage, Entry};
use super::index_page::IndexPage;
use super::manifest::Manifest;
use super::names::FileName;
use super::options::Options;
use super::overflow::{self, OverflowPage};
use super::page::{self, NONE, PageId};
use super::source::Source;
use super::value::{Codec, LargeValue};
use crate::status::Result;

/// Levels of index pages that a tree may have. A full page has at least two children, so 2^32 pages need fewer.
const DEPTH: usize = 64;

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

    fn manifest_name(&self) -> String {
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

    fn too_deep(&self, root: PageId) -> crate::status::Error {
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

    /// The whole of an entry: its value fetched, joined and decompressed.
    pub async fn found(&self, leaf: &Loaded<S::Bytes>, key: &[u8], entry: &Entry<'_>) -> Result<Found> {
        let mut large = None;
        let value = match entry.descriptor.codec {
            Codec::Large => {
                let decoded = LargeValue::decode(entry.content, self.options.segment_size, entry.at);
                let decoded = self.sound(leaf, decoded)?;
                large = Some(decoded.metadata.map(<[u8]>::to_vec));
                self.segments(leaf, entry, &decoded).await?
            }
            codec => {
                let joined = match entry.descriptor.overflow {
                    true => Some(self.overflow(leaf, entry).await?),
                    false => None,
                };
                match (codec, joined) {
                    (Codec::Raw, joined) => joined.unwrap_or_else(|| entry.content.to_vec()),
                    (codec, joined) => {
                        let stored = joined.as_deref().unwrap_or(entry.content);
                        let value =
                            compress::decode(codec, stored, self.dictionary, self.options.value_limit);
                        self.sound(leaf, value.map_err(|damage| Damage::new(entry.at, damage.what)))?
                    }
                }
            }
        };
        Ok(Found { key: key.to_vec(), value, timestamp: entry.timestamp, expire_ms: entry.expire_ms, large })
    }

    async fn overflow(&self, leaf: &Loaded<S::Bytes>, entry: &Entry<'_>) -> Result<Vec<u8>> {
        let mut group = self.sound(leaf, overflow::pointers(entry.content, entry.at))?;
        let mut value = Vec::new();
        // A chain that meets itself would never end; no chain has more pages than the partition.
        let mut left = self.manifest.mapping.len();
        while !group.is_empty() {
            let mut next = Vec::new();
            for (i, id) in group.iter().enumerate() {
                let page = self.load(*id).await?;
                let parsed = self.sound(&page, OverflowPage::parse(page.bytes.as_ref()))?;
                let links = !parsed.pointers.is_empty();
                if left == 0 || (links && i + 1 != group.len()) {
                    return self.sound(&page, Err(Damage::new(0, "an overflow chain is tangled")));
                }
                left -= 1;
                if value.len() + parsed.value.len() > self.options.value_limit {
                    return self.sound(&page, Err(Damage::new(0, "a value is longer than the limit allows")));
                }
                value.extend_from_slice(parsed.value);
                if links {
                    next = self.sound(&page, overflow::pointers(parsed.pointers, 0))?;
                }
            }
            group = next;
        }
        Ok(value)
    }

    async fn segments(
        &self,
        leaf: &Loaded<S::Bytes>,
        entry: &Entry<'_>,
        large: &LargeValue<'_>,
    ) -> Result<Vec<u8>> {
        if large.len > self.options.value_limit {
            let damage = Damage::new(entry.at, "a value is longer than the limit allows");
            return self.sound(leaf, Err(damage));
        }
        let mut value = Vec::new();
        for id in &large.segments {
            let place = self.manifest.segments.as_ref().and_then(|segments| segments.mapping.get(*id));
            let place =
                self.sound(leaf, place.ok_or(Damage::new(entry.at, "a segment is mapped to nothing")))?;
            let (file, offset) = self.options.segment_place(place);
            let (branch, term) = self.manifest.branches.segment_owner(file);
            let file = FileName::Segment { id: file, branch: branch.into(), term };
            let len = (large.len - value.len()).min(self.options.segment_size);
            value.extend_from_slice(self.source.read(&file, offset, len).await?.as_ref());
        }
        Ok(value)
    }
}

/// A place in a tree: one data page, and the index pages above it.
pub struct Cursor<'t, 'a, S: Source> {
    tree: &'t Tree<'a, S>,
    root: PageId,
    path: Vec<Level>,
    /// The data page that the cursor is at; None before the first, after the last, and in an empty tree.
    pub leaf: Option<Loaded<S::Bytes>>,
}

/// An index page on the way: its children with their separators, and the one that was taken.
struct Level {
    children: Vec<(Vec<u8>, PageId)>,
    at: usize,
    leaf: bool,
}

impl<'t, 'a, S: Source> Cursor<'t, 'a, S> {
    /// A cursor that is nowhere yet.
    pub fn new(tree: &'t Tree<'a, S>, root: PageId) -> Cursor<'t, 'a, S> {
        Cursor { tree, root, path: Vec::new(), leaf: None }
    }

    /// To the data page whose range holds `key`.
    pub async fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.path.clear();
        self.leaf = None;
        if self.root == NONE {
            return Ok(());
        }
        let root = self.level(self.root, &[], None).await?;
        self.path.push(root);
        self.descend(|children| children.partition_point(|child| child.0.as_slice() <= key).saturating_sub(1))
            .await
    }

    /// To the data page after this one; nowhere after the last.
    pub async fn forward(&mut self) -> Result<()> {
        self.leaf = None;
        while let Some(last) = self.path.last_mut() {
            if last.at + 1 < last.children.len() {
                last.at += 1;
                return self.enter(|_| 0).await;
            }
            self.path.pop();
        }
        Ok(())
    }

    /// To the data page before this one; nowhere before the first.
    pub async fn back(&mut self) -> Result<()> {
        self.leaf = None;
        while let Some(last) = self.path.last_mut() {
            if last.at > 0 {
                last.at -= 1;
                return self.enter(|children| children.len() - 1).await;
            }
            self.path.pop();
        }
        Ok(())
    }

    async fn descend(&mut self, pick: impl Fn(&[(Vec<u8>, PageId)]) -> usize) -> Result<()> {
        if let Some(last) = self.path.last_mut() {
            last.at = pick(&last.children);
        }
        self.enter(pick).await
    }

    /// Goes down from the child that the last level is at.
    async fn enter(&mut self, pick: impl Fn(&[(Vec<u8>, PageId)]) -> usize) -> Result<()> {
        while let Some(last) = self.path.last() {
            let (from, id) = last.children[last.at].clone();
            if last.leaf {
                self.leaf = Some(self.tree.load(id).await?);
                return Ok(());
            }
            if self.path.len() >= DEPTH {
                return Err(self.tree.too_deep(self.root));
            }
            let until = self.path.iter().rev().find_map(|level| level.children.get(level.at + 1));
            let until = until.map(|child| child.0.clone());
            let mut level = self.level(id, &from, until.as_deref()).await?;
            level.at = pick(&level.children);
            self.path.push(level);
        }
        Ok(())
    }

    async fn level(&self, id: PageId, from: &[u8], until: Option<&[u8]>) -> Result<Level> {
        let page = self.tree.load(id).await?;
        let index = self.tree.sound(&page, IndexPage::parse(page.bytes.as_ref()))?;
        let children = self.tree.sound(&page, index.table(from, until))?;
        Ok(Level { children, at: 0, leaf: index.is_leaf() })
    }
}
