//! Packs separators and children into index pages.

use super::child_table::ChildTable;
use super::index_page::{FIRST, LEFTMOST};
use super::packer::{common, finish};
use super::varint::{delta_code, put_varint, varint_len};
use std::ops::Range;

/// Cuts `children` into runs that fit a page each, not less than one run, the last two evened out.
pub fn cut(children: &ChildTable, page_size: usize, interval: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    while start < children.len() {
        let len = fitting(children, start, page_size, interval);
        runs.push(start..start + len);
        start += len;
    }
    // One child alone in the last page would make the next insertion split again.
    if let [.., full, last] = runs.as_mut_slice()
        && last.len() < full.len() / 4
    {
        let middle = full.start + (full.len() + last.len()) / 2;
        if fitting(children, middle, page_size, interval) == children.len() - middle {
            (full.end, last.start) = (middle, middle);
        }
    }
    runs
}

/// How many children from `start` on fit a page; at least one.
fn fitting(children: &ChildTable, start: usize, page_size: usize, interval: usize) -> usize {
    let mut len = FIRST + 2;
    let mut count = 0;
    for i in start..children.len() {
        if i > start {
            len += cost(children, start, i, interval);
            if len > page_size {
                break;
            }
        }
        count += 1;
    }
    count.max(1)
}

/// Bytes that a page of these children would take, whether it fits or not.
pub fn encoded_len(children: &ChildTable, interval: usize) -> usize {
    FIRST + 2 + (1..children.len()).map(|i| cost(children, 0, i, interval)).sum::<usize>()
}

fn cost(children: &ChildTable, start: usize, i: usize, interval: usize) -> usize {
    let (restart, shared, delta) = against(children, start, i, interval);
    let unshared = children.key(i).len() - shared;
    2 * usize::from(restart)
        + varint_len(shared as u64)
        + varint_len(unshared as u64)
        + unshared
        + varint_len(delta_code(delta))
}

/// What child `i` of a page that begins with child `start` is coded against: whether it restarts, shared bytes,
/// difference of ids.
fn against(children: &ChildTable, start: usize, i: usize, interval: usize) -> (bool, usize, i64) {
    if (i - start - 1).is_multiple_of(interval) {
        return (true, 0, i64::from(children.id(i)));
    }
    let shared = common(children.key(i - 1), children.key(i));
    (false, shared, i64::from(children.id(i)) - i64::from(children.id(i - 1)))
}

/// An index page without kind and checksum. The first child's separator is not stored.
pub fn encode(children: &ChildTable, run: Range<usize>, page_size: usize, interval: usize) -> Vec<u8> {
    let mut page = Vec::with_capacity(page_size);
    page.resize(FIRST, 0);
    let mut restarts: Vec<u16> = Vec::new();
    for i in run.clone() {
        let (key, id) = (children.key(i), children.id(i));
        if i == run.start {
            page[LEFTMOST..FIRST].copy_from_slice(&id.to_le_bytes());
            continue;
        }
        let (restart, shared, delta) = against(children, run.start, i, interval);
        if restart {
            restarts.push(page.len() as u16);
        }
        put_varint(&mut page, shared as u64);
        put_varint(&mut page, (key.len() - shared) as u64);
        page.extend_from_slice(&key[shared..]);
        put_varint(&mut page, delta_code(delta));
    }
    finish(page, &restarts, page_size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::index_page::IndexPage;
    use crate::kv::page::{Kind, seal};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn pages_hold_what_was_cut(
            children in prop::collection::btree_map(
                prop::collection::vec(0u8..5, 1..60), 0u32..1 << 30, 1..400),
            interval in 1usize..20,
        ) {
            let children: ChildTable = children.into_iter().collect();
            let runs = cut(&children, 4096, interval);
            prop_assert_eq!(runs.iter().cloned().flatten().collect::<Vec<_>>(), (0..children.len()).collect::<Vec<_>>());
            for run in runs {
                let mut page = encode(&children, run.clone(), 4096, interval);
                prop_assert_eq!(page.len(), 4096);
                seal(&mut page, Kind::Leaf);
                let index = IndexPage::parse(&page).unwrap();
                let mut expected = ChildTable::default();
                expected.extend(&children, run.clone());
                prop_assert_eq!(index.table(children.key(run.start), None).unwrap(), expected);
                for i in run.clone() {
                    prop_assert_eq!(index.child_of(children.key(i)), Ok(children.id(i)));
                    prop_assert!(index.child_of(&[children.key(i), &[0, 0]].concat()).is_ok());
                }
                prop_assert_eq!(index.child_of(b""), Ok(children.id(run.start)));
            }
        }
    }

    #[test]
    fn the_longest_separators_still_fan_out() {
        let children: ChildTable = (0..9u8).map(|i| (vec![i; 2048], u32::from(i) << 20)).collect();
        let runs = cut(&children, 4096, 1);
        assert!(runs.iter().all(|run| !run.is_empty()));
        assert!(runs.len() < children.len(), "a page holds at least two children");
    }
}
