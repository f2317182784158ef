//! Changes pages so that their checksums match.

use super::{ALL, Random, Truth};
use crate::kv_support::memory::Memory;
use rdma_engine::Result;
use rdma_engine::kv::manifest::Manifest;
use rdma_engine::kv::names::FileName;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::page::{self, Kind, PageId};
use rdma_engine::kv::store::View;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// A page of the partition: what it is, and the keys whose reads touch it.
pub struct Page {
    pub id: PageId,
    pub file: FileName,
    pub offset: usize,
    pub kind: u8,
    pub keys: BTreeSet<Vec<u8>>,
}

/// A partition, what is right in it, and its pages.
pub struct Subject {
    pub options: Arc<Options>,
    pub memory: Memory,
    pub manifest: Manifest,
    pub truth: Truth,
    pub pages: Vec<Page>,
}

pub fn manifest_name() -> FileName {
    FileName::main_manifest()
}

impl Subject {
    pub fn load(folder: &Path, options: Arc<Options>) -> Subject {
        let mut memory = Memory::default();
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            let name = FileName::parse(file.file_name().to_str().unwrap()).unwrap();
            memory.files.insert(name, std::fs::read(file.path()).unwrap());
        }
        let manifest = Manifest::replay(&memory.files[&manifest_name()]).unwrap();
        let mut subject = Subject { options, memory, manifest, truth: Truth::new(), pages: Vec::new() };
        let entries = subject.view().unwrap().scan(&ALL).unwrap().entries;
        subject.truth = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let mut readers: BTreeMap<(FileName, u64), BTreeSet<Vec<u8>>> = BTreeMap::new();
        for (key, entry) in &subject.truth {
            subject.memory.touched.take();
            assert_eq!(subject.view().unwrap().read(key).unwrap().as_ref(), Some(entry));
            for place in subject.memory.touched.take() {
                readers.entry(place).or_default().insert(key.clone());
            }
        }
        for (id, place) in subject.manifest.mapping.pages() {
            let (file, offset) = subject.options.page_place(place);
            let file = FileName::Data { id: file, branch: "main".into(), term: 0 };
            let kind = subject.memory.files[&file][offset as usize + 8];
            let keys = readers.get(&(file.clone(), offset)).cloned().unwrap_or_default();
            subject.pages.push(Page { id, file, offset: offset as usize, kind, keys });
        }
        subject
    }

    pub fn view(&self) -> Result<View<&Memory>> {
        View::new(self.options.clone(), &self.memory, &self.memory.files[&manifest_name()], &manifest_name())
    }

    pub fn bytes(&self, page: &Page) -> Vec<u8> {
        self.memory.files[&page.file][page.offset..page.offset + self.options.page_size].to_vec()
    }

    /// The page with something changed, sealed again; None if nothing is different.
    pub fn lie(&self, page: &Page, random: &mut Random) -> Option<Vec<u8>> {
        let truth = self.bytes(page);
        let mut lie = truth.clone();
        let size = lie.len();
        let content = usize::from(u16::from_le_bytes([lie[9], lie[10]])).clamp(19, size);
        match random.below(8) {
            0 | 1 => {
                for _ in 0..1 + random.below(3) {
                    lie[8 + random.below(content - 8)] = random.below(256) as u8;
                }
            }
            2 => lie[8 + random.below(16)] ^= 1 << random.below(8),
            3 => {
                // Restart points, or an overflow page's pointers.
                let end = if page.kind == 3 { size } else { content };
                lie[end - 1 - random.below(40.min(end - 19))] ^= 1 << random.below(8);
            }
            4 => {
                let at = 8 + random.below(content - 12);
                let id = self.pages[random.below(self.pages.len())].id;
                lie[at..at + 4].copy_from_slice(&id.to_le_bytes());
            }
            5 => {
                // Links and the leftmost child.
                let id = self.pages[random.below(self.pages.len())].id;
                let at = 11 + 4 * random.below(2);
                lie[at..at + 4].copy_from_slice(&id.to_le_bytes());
            }
            6 => {
                let same: Vec<&Page> = self.pages.iter().filter(|other| other.kind == page.kind).collect();
                lie = self.bytes(same[random.below(same.len())]);
            }
            _ if page.kind <= 1 => without_last(&mut lie, content),
            _ => {
                let at = 8 + random.below(content - 8);
                lie[at] = lie[at].wrapping_add(1);
            }
        }
        let kind = [Kind::Inner, Kind::Leaf, Kind::Data, Kind::Overflow].get(usize::from(lie[8])).copied();
        page::seal(&mut lie, kind?);
        (lie != truth).then_some(lie)
    }

    pub fn put(&mut self, page: usize, bytes: &[u8]) {
        let (page, size) = (&self.pages[page], self.options.page_size);
        let file = self.memory.files.get_mut(&page.file).unwrap();
        file[page.offset..page.offset + size].copy_from_slice(bytes);
    }
}

/// Leaves the last child out of an index page whose separators are all restart points.
fn without_last(page: &mut Vec<u8>, content: usize) {
    let word = |page: &[u8], at: usize| usize::from(u16::from_le_bytes([page[at], page[at + 1]]));
    let count = word(page, content - 2);
    if count < 2 {
        return;
    }
    let array = content - 2 - 2 * count;
    let last = word(page, array + 2 * (count - 1));
    let (size, restarts) = (page.len(), page[array..array + 2 * (count - 1)].to_vec());
    page.truncate(last);
    page.extend(restarts);
    page.extend((count as u16 - 1).to_le_bytes());
    let len = page.len() as u16;
    page[9..11].copy_from_slice(&len.to_le_bytes());
    page.resize(size, 0);
}
