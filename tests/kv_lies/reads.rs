//! Point reads, floors and scans over pages that lie.

use super::liar::{Page, Subject, manifest_name};
use super::{ALL, ENTRIES, Random, corrupted, key, written};
use rdma_engine::kv::mapping::Slot;
use rdma_engine::kv::scan::Range;
use rdma_engine::kv::tree::Found;

/// Lies a page.
const LIES: usize = 6;

impl Subject {
    /// Keys to ask for: some of the page's, some others.
    fn asked(&self, page: &Page, random: &mut Random) -> Vec<u64> {
        let number = |key: &Vec<u8>| std::str::from_utf8(&key[250..]).unwrap().parse().unwrap();
        let own: Vec<u64> = page.keys.iter().map(number).collect();
        let mut asked: Vec<u64> = (0..own.len().min(12)).map(|_| own[random.below(own.len())]).collect();
        asked.extend((0..8).map(|_| 2 * random.below(ENTRIES as usize) as u64));
        // Between two keys, there is nothing.
        asked.extend(asked.clone().iter().map(|i| i + 1));
        asked
    }

    /// Point reads and floors with a page that lies.
    fn check_points(&self, page: &Page, random: &mut Random, place: &str) {
        let view = self.view().unwrap();
        for i in self.asked(page, random) {
            let key = key(i);
            let right = self.truth.get(&key);
            let near = [i.saturating_sub(1), i, i + 1];
            let own = near.iter().any(|i| page.keys.contains(&super::key(*i)));
            let place = format!("{place}, key {i}");
            let read = view.read(&key);
            if !corrupted(&read, &place) && read.as_ref().unwrap().as_ref() != right {
                assert!(own, "{place}: another page's key is answered wrongly");
                let missed = read.unwrap().is_none();
                assert!(page.kind >= 2 || missed, "{place}: an index page has changed a value");
            }
            let floor = view.floor(&key);
            let right = self.truth.range(..=key).next_back().map(|(_, entry)| entry);
            if !corrupted(&floor, &place) && floor.as_ref().unwrap().as_ref() != right {
                assert!(own, "{place}: another page's key has another floor");
                let known = floor.unwrap().is_none_or(|found| self.truth.get(&found.key) == Some(&found));
                assert!(page.kind >= 2 || known, "{place}: an index page has changed a floor's value");
            }
        }
    }

    /// A scan is whole but for what stands in the page that lies.
    fn check_scans(&self, page: &Page, place: &str) {
        for backward in [false, true] {
            let scanned = self.view().unwrap().scan(&Range { backward, ..ALL });
            if corrupted(&scanned, place) {
                continue;
            }
            let mut found = scanned.unwrap().entries;
            if backward {
                found.reverse();
            }
            let own = |found: &Found| match (page.kind, page.keys.first(), page.keys.last()) {
                (2 | 3, Some(first), Some(last)) => {
                    // What it makes up lies between its neighbours' keys.
                    let before = self.truth.range(..first.clone()).next_back().map(|(key, _)| key);
                    let after = self.truth.range(last.clone()..).nth(1).map(|(key, _)| key);
                    before.is_none_or(|before| *before < found.key)
                        && after.is_none_or(|after| found.key < *after)
                }
                _ => false,
            };
            let others: Vec<&Found> = found.iter().filter(|found| !own(found)).collect();
            let right: Vec<&Found> = self.truth.values().filter(|found| !own(found)).collect();
            assert!(others == right, "{place}: a scan is not whole");
        }
    }
}

#[test]
fn what_other_pages_say_stays_right() {
    let mut random = Random(0x11e5);
    println!("seed {:#x}", random.0);
    let (folder, options) = written(false);
    let mut subject = Subject::load(&folder.0.join("t.0"), options);
    let kinds = |kind: u8| subject.pages.iter().filter(|page| page.kind == kind).count();
    assert!(
        kinds(0) >= 1 && kinds(1) >= 4 && kinds(2) >= 40 && kinds(3) >= 40,
        "a tree with all kinds of pages"
    );
    let mut lies = 0;
    for i in 0..subject.pages.len() {
        let truth = subject.bytes(&subject.pages[i]);
        // There are few index pages, and they do most.
        for n in 0..if subject.pages[i].kind <= 1 { 6 * LIES } else { LIES } {
            let Some(lie) = subject.lie(&subject.pages[i], &mut random) else { continue };
            subject.put(i, &lie);
            let page = &subject.pages[i];
            let place = format!("page {} of kind {}, lie {n}", page.id, page.kind);
            subject.check_points(page, &mut random, &place);
            if page.kind <= 1 || n % 6 == 0 {
                subject.check_scans(page, &place);
            }
            subject.put(i, &truth);
            lies += 1;
        }
    }
    assert!(lies > 1_000, "{lies} lies");
}

/// The mapping has a page where another one is, or two trade places.
#[test]
fn a_mapping_that_lies_is_seen() {
    let mut random = Random(0x11e6);
    println!("seed {:#x}", random.0);
    let (folder, options) = written(false);
    let mut subject = Subject::load(&folder.0.join("t.0"), options);
    let whole = subject.memory.files[&manifest_name()].clone();
    for n in 0..100 {
        let [a, b] = [0, 1].map(|_| random.below(subject.pages.len()));
        let (a, b) = (&subject.pages[a], &subject.pages[b]);
        let mut lie = subject.manifest.clone();
        let at = |page: &Page| subject.manifest.mapping.get(page.id).unwrap();
        lie.mapping.set(a.id, Slot::at(at(b)));
        let traded = n % 2 == 0;
        if traded {
            lie.mapping.set(b.id, Slot::at(at(a)));
        }
        let place = format!("lie {n}: pages {} and {} of kinds {} and {}", a.id, b.id, a.kind, b.kind);
        let overflow = a.kind == 3 && b.kind == 3;
        let mut suspects = a.keys.clone();
        suspects.extend(b.keys.iter().cloned());
        let different = a.id != b.id;
        subject.memory.files.insert(manifest_name(), lie.encode());
        match subject.view() {
            Err(error) => assert!(!traded && corrupted(&Err::<(), _>(error), &place)),
            Ok(view) => {
                assert!(traded || !different, "{place}: two pages are in one place");
                for i in 0..ENTRIES {
                    let key = key(2 * i);
                    let read = view.read(&key);
                    if !corrupted(&read, &place) && read.unwrap().as_ref() != subject.truth.get(&key) {
                        // Nothing says whose an overflow page is.
                        assert!(overflow && suspects.contains(&key), "{place}, key {i}: a wrong answer");
                    }
                }
                let scanned = view.scan(&ALL);
                if !corrupted(&scanned, &place) && !overflow {
                    let found = scanned.unwrap().entries;
                    assert!(found.iter().eq(subject.truth.values()), "{place}: a scan is not whole");
                }
            }
        }
        subject.memory.files.insert(manifest_name(), whole.clone());
    }
}
