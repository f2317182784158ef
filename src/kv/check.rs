//! Verifies a partition to the last byte that the format lets one verify: every page's checksum, the order of keys, the
//! links between pages, every chain and segment, and that each mapped page is reached exactly once.

use super::damage::{Damage, corrupted};
use super::data_page::{DataPage, Entry};
use super::index_page::IndexPage;
use super::page::{NONE, PageId};
use super::source::Source;
use super::tree::{DEPTH, Loaded, Tree};
use super::value::Codec;
use crate::status::{Error, Result};
use std::collections::HashSet;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Pages whose checksum was right.
    pub pages: u64,
    /// Entries read in full.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Entries that expire some day.
    pub expiring: u64,
    /// Segments of very large values. They have no checksum: only their being there is verified.
    pub segments: u64,
    /// What is wrong, with file and byte; at most [`MOST`] of them.
    pub problems: Vec<String>,
    /// How many things are wrong.
    pub wrong: u64,
    /// What a crash left at the end of a manifest or of a write log: nothing wrong, and overwritten or removed by the next commit.
    pub torn: Option<String>,
}

/// Problems that a report spells out.
pub const MOST: usize = 1000;

impl Report {
    /// Notes that something is wrong.
    pub fn add(&mut self, what: impl Into<String>) {
        self.wrong += 1;
        if self.problems.len() < MOST {
            self.problems.push(what.into());
        }
    }
}

/// Checks one state of a partition. `watch` hears after every page what was found so far, and may end it with an error.
pub async fn check<S: Source>(
    tree: &Tree<'_, S>,
    report: &mut Report,
    watch: impl FnMut(&Report) -> Result<()>,
) -> Result<()> {
    let mut check = Check {
        tree,
        report,
        watch,
        pages: HashSet::new(),
        segments: HashSet::new(),
        expiries: Sum::default(),
        whole: true,
    };
    let manifest = tree.manifest;
    check.mapping();
    check.walk(manifest.root, Which::Entries).await?;
    let expected = std::mem::take(&mut check.expiries);
    check.walk(manifest.ttl_root, Which::Expiries).await?;
    if check.whole
        && expected != check.expiries
        && let Err(error) = check.compare_expiries(expected).await
    {
        check.report.add(error.message);
    }
    check.unreached();
    Ok(())
}

/// Which of a partition's trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Entries,
    Expiries,
}

/// A set of keys as its size and a sum of hashes: equal sets without keeping them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    hashes: u64,
}

impl Sum {
    fn add(&mut self, key: &[u8]) {
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(twox_hash::XxHash3_64::oneshot(key));
    }
}

struct Check<'c, 'a, S, W> {
    tree: &'c Tree<'a, S>,
    report: &'c mut Report,
    watch: W,
    pages: HashSet<PageId>,
    segments: HashSet<u32>,
    expiries: Sum,
    /// Nothing was skipped: what was not reached is reached by nothing.
    whole: bool,
}

/// A page of a tree and the keys that it may hold.
#[derive(Clone)]
struct Child {
    id: PageId,
    from: Vec<u8>,
    until: Option<Vec<u8>>,
    /// Index pages above it.
    depth: usize,
    leaf: bool,
}

/// The data page before, if it was readable: its id and its link to the next.
type Before = Option<(PageId, PageId)>;

impl<S: Source, W: FnMut(&Report) -> Result<()>> Check<'_, '_, S, W> {
    /// No two pages may be at one place, none past the end.
    fn mapping(&mut self) {
        let manifest = self.tree.manifest;
        let segments = manifest.segments.as_ref();
        let tables = [
            (Some(&manifest.mapping), manifest.end, "page"),
            (segments.map(|known| &known.mapping), segments.map_or(0, |known| known.end), "segment"),
        ];
        for (mapping, end, what) in tables {
            let mut places = HashSet::new();
            for (id, place) in mapping.iter().flat_map(|mapping| mapping.pages()) {
                if place >= end {
                    self.manifest_problem(format!(
                        "{what} {id} is mapped past the last one that was written"
                    ));
                }
                if !places.insert(place) {
                    self.manifest_problem(format!("{what} {id} is mapped to where another one is, {place}"));
                }
            }
        }
    }

    fn manifest_problem(&mut self, what: String) {
        let error = corrupted(self.tree.manifest_name(), 0, what);
        self.report.add(error.message);
    }

    async fn walk(&mut self, root: PageId, which: Which) -> Result<()> {
        if root == NONE {
            return Ok(());
        }
        let mut stack = vec![Child { id: root, from: Vec::new(), until: None, depth: 0, leaf: false }];
        let mut before: Before = Some((NONE, NONE));
        let mut first = true;
        while let Some(child) = stack.pop() {
            let done = match (child.leaf, self.load(child.id).await) {
                (_, Err(error)) => Err(error),
                (true, Ok(page)) => {
                    let done = self.data(&child, &page, before, first, which).await;
                    (before, first) = (done.as_ref().ok().copied(), false);
                    done.map(drop)
                }
                (false, Ok(page)) => self.index(&child, &page).map(|mut children| {
                    children.reverse();
                    stack.extend(children);
                }),
            };
            if let Err(error) = done {
                self.whole = false;
                // What is below is unknown, and so are the neighbours of what is.
                (before, first) = (None, false);
                self.report.add(error.message);
            }
            (self.watch)(self.report)?;
        }
        if let Some((id, next)) = before
            && next != NONE
            && !first
        {
            self.manifest_problem(format!("page {id} is the last data page and links to page {next}"));
        }
        Ok(())
    }

    async fn load(&mut self, id: PageId) -> Result<Loaded<S::Bytes>> {
        if !self.pages.insert(id) {
            let what = format!("page {id} is referred to twice");
            return Err(corrupted(self.tree.manifest_name(), 0, what));
        }
        let page = self.tree.load(id).await?;
        self.report.pages += 1;
        Ok(page)
    }

    fn index(&self, child: &Child, page: &Loaded<S::Bytes>) -> Result<Vec<Child>> {
        if child.depth >= DEPTH {
            return Err(self.tree.too_deep(child.id));
        }
        let index = self.tree.sound(page, IndexPage::parse(page.bytes.as_ref()))?;
        let table = self.tree.sound(page, index.table(&child.from, child.until.as_deref()))?;
        let ends = table.iter().skip(1).map(|next| Some(next.0.to_vec())).chain([child.until.clone()]);
        let children = table.iter().zip(ends).map(|((from, id), until)| {
            let leaf = index.is_leaf();
            Child { id, from: from.to_vec(), until, depth: child.depth + 1, leaf }
        });
        Ok(children.collect())
    }

    /// A data page; returns what its successor has to fit to.
    async fn data(
        &mut self,
        child: &Child,
        page: &Loaded<S::Bytes>,
        before: Before,
        first: bool,
        which: Which,
    ) -> Result<(PageId, PageId)> {
        let tree = self.tree;
        let parsed = tree.sound(page, DataPage::parse(page.bytes.as_ref()))?;
        let previous = tree.sound(page, parsed.previous())?;
        let next = tree.sound(page, parsed.next())?;
        if let Some((id, link)) = before {
            if previous != id {
                self.problem(page, super::data_page::PREVIOUS, "the link to the page before is wrong");
            }
            if !first && link != child.id {
                self.problem(page, 0, "the page before links to another one");
            }
        }
        let mut entries = tree.sound(page, parsed.entries())?;
        while let Some(entry) = tree.sound(page, entries.step())? {
            let key = entries.key();
            if key < child.from.as_slice() || child.until.as_deref().is_some_and(|until| key >= until) {
                self.problem(page, entry.at, "a key is outside its page's range");
            }
            let sound = match which {
                Which::Entries => self.entry(page, key, &entry).await,
                Which::Expiries => self.expiry(page, key, &entry),
            };
            if let Err(error) = sound {
                self.whole = false;
                self.report.add(error.message);
            }
        }
        Ok((child.id, next))
    }

    fn problem(&mut self, page: &Loaded<S::Bytes>, at: usize, what: &'static str) {
        if let Err(error) = self.tree.sound::<(), _>(page, Err(Damage::new(at, what))) {
            self.report.add(error.message);
        }
    }

    async fn entry(&mut self, page: &Loaded<S::Bytes>, key: &[u8], entry: &Entry<'_>) -> Result<()> {
        let tree = self.tree;
        if entry.descriptor.overflow {
            for id in tree.chain(page, entry).await? {
                self.report.pages += 1;
                if !self.pages.insert(id) {
                    self.problem(page, entry.at, "a value shares an overflow page with another");
                }
            }
        }
        if entry.descriptor.codec == Codec::Large {
            for id in tree.large(page, entry)?.segments {
                self.report.segments += 1;
                if !self.segments.insert(id) {
                    self.problem(page, entry.at, "a very large value shares a segment with another");
                }
            }
        }
        let found = tree.found(page, key.to_vec(), entry, Vec::new()).await?;
        self.report.entries += 1;
        self.report.bytes += (key.len() + found.value.len()) as u64;
        if entry.expire_ms != 0 {
            self.report.expiring += 1;
            self.expiries.add(&[&entry.expire_ms.to_be_bytes(), key].concat());
        }
        Ok(())
    }

    fn expiry(&mut self, page: &Loaded<S::Bytes>, key: &[u8], entry: &Entry<'_>) -> Result<()> {
        let plain = entry.descriptor.code() == 0 && entry.timestamp == 0 && key.len() > 8;
        if !plain {
            self.problem(page, entry.at, "an expiry is none: it holds more than a time and a key");
        }
        self.expiries.add(key);
        Ok(())
    }

    /// The two trees contradict each other: says where.
    async fn compare_expiries(&mut self, expected: Sum) -> Result<()> {
        let tree = self.tree;
        let found = self.expiries;
        for key in tree.keys(tree.manifest.ttl_root, &[], usize::MAX, |_| false).await? {
            let Some((expire_ms, user)) = key.split_first_chunk() else { continue };
            let expire_ms = u64::from_be_bytes(*expire_ms);
            if tree.read(user).await?.is_none_or(|entry| entry.expire_ms != expire_ms) {
                let key = user.escape_ascii();
                self.manifest_problem(format!(
                    "the tree of expiries says that `{key}` expires at {expire_ms}, the entries do not"
                ));
            }
        }
        if found.count < expected.count {
            let missing = expected.count - found.count;
            self.manifest_problem(format!("{missing} entries expire and are not in the tree of expiries"));
        }
        Ok(())
    }

    fn unreached(&mut self) {
        if !self.whole {
            return;
        }
        let manifest = self.tree.manifest;
        let pages: Vec<u32> =
            manifest.mapping.pages().map(|(id, _)| id).filter(|id| !self.pages.contains(id)).collect();
        for id in pages {
            self.manifest_problem(format!("page {id} is mapped, and nothing refers to it"));
        }
        let segments = manifest.segments.iter().flat_map(|known| known.mapping.pages());
        let lost: Vec<u32> = segments.map(|(id, _)| id).filter(|id| !self.segments.contains(id)).collect();
        for id in lost {
            self.manifest_problem(format!("segment {id} is mapped, and nothing refers to it"));
        }
    }
}

impl From<Error> for Report {
    /// A report of one problem.
    fn from(error: Error) -> Report {
        let mut report = Report::default();
        report.add(error.message);
        report
    }
}
