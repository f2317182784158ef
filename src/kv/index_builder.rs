//! Packs separators and children into index pages.

use super::index_page::{FIRST, LEFTMOST};
use super::packer::finish;
use super::page::PageId;
use super::varint::{delta_code, put_varint, varint_len};

/// A child and the smallest key that it may hold.
pub type Child = (Vec<u8>, PageId);

/// Cuts `children` into runs that fit a page each, not less than one run, the last two evened out.
pub fn cut(children: &[Child], page_size: usize, interval: usize) -> Vec<&[Child]> {
    let mut runs: Vec<&[Child]> = Vec::new();
    let mut start = 0;
    while start < children.len() {
        let len = fitting(&children[start..], page_size, interval);
        runs.push(&children[start..start + len]);
        start += len;
    }
    // One child alone in the last page would make the next insertion split again.
    if let [.., full, last] = runs.as_mut_slice()
        && last.len() < full.len() / 4
    {
        let both = &children[children.len() - full.len() - last.len()..];
        let (left, right) = both.split_at(both.len() / 2);
        if fitting(right, page_size, interval) == right.len() {
            (*full, *last) = (left, right);
        }
    }
    runs
}

/// How many children from the first on fit a page; at least one.
fn fitting(children: &[Child], page_size: usize, interval: usize) -> usize {
    let mut len = FIRST + 2;
    let mut count = 0;
    for (i, child) in children.iter().enumerate() {
        if i > 0 {
            len += cost(children, i, interval, child);
            if len > page_size {
                break;
            }
        }
        count += 1;
    }
    count.max(1)
}

/// Bytes that a page of these children would take, whether it fits or not.
pub fn encoded_len(children: &[Child], interval: usize) -> usize {
    let costs = children.iter().enumerate().skip(1).map(|(i, child)| cost(children, i, interval, child));
    FIRST + 2 + costs.sum::<usize>()
}

fn cost(children: &[Child], i: usize, interval: usize, child: &Child) -> usize {
    let (restart, shared, delta) = against(children, i, interval, child);
    let unshared = child.0.len() - shared;
    2 * usize::from(restart)
        + varint_len(shared as u64)
        + varint_len(unshared as u64)
        + unshared
        + varint_len(delta_code(delta))
}

/// What child `i` (from 1 on) is coded against: whether it restarts, shared bytes, difference of ids.
fn against(children: &[Child], i: usize, interval: usize, child: &Child) -> (bool, usize, i64) {
    if (i - 1).is_multiple_of(interval) {
        return (true, 0, i64::from(child.1));
    }
    let previous = &children[i - 1];
    let shared = previous.0.iter().zip(&child.0).take_while(|(a, b)| a == b).count();
    (false, shared, i64::from(child.1) - i64::from(previous.1))
}

/// An index page without kind and checksum. The first child's separator is not stored.
pub fn encode(children: &[Child], page_size: usize, interval: usize) -> Vec<u8> {
    let mut page = vec![0; FIRST];
    let mut restarts: Vec<u16> = Vec::new();
    for (i, child) in children.iter().enumerate() {
        if i == 0 {
            page[LEFTMOST..FIRST].copy_from_slice(&child.1.to_le_bytes());
            continue;
        }
        let (restart, shared, delta) = against(children, i, interval, child);
        if restart {
            restarts.push(page.len() as u16);
        }
        put_varint(&mut page, shared as u64);
        put_varint(&mut page, (child.0.len() - shared) as u64);
        page.extend_from_slice(&child.0[shared..]);
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
            let children: Vec<Child> = children.into_iter().collect();
            let runs = cut(&children, 4096, interval);
            prop_assert_eq!(&runs.concat(), &children);
            for run in runs {
                let mut page = encode(run, 4096, interval);
                prop_assert_eq!(page.len(), 4096);
                seal(&mut page, Kind::Leaf);
                let index = IndexPage::parse(&page).unwrap();
                prop_assert_eq!(index.table(&run[0].0, None).unwrap(), run);
                for child in run {
                    prop_assert_eq!(index.child_of(&child.0), Ok(child.1));
                    prop_assert!(index.child_of(&[&child.0[..], &[0, 0]].concat()).is_ok());
                }
                prop_assert_eq!(index.child_of(b""), Ok(run[0].1));
            }
        }
    }

    #[test]
    fn the_longest_separators_still_fan_out() {
        let children: Vec<Child> = (0..9u8).map(|i| (vec![i; 2048], u32::from(i) << 20)).collect();
        let runs = cut(&children, 4096, 1);
        assert!(runs.iter().all(|run| !run.is_empty()));
        assert!(runs.len() < children.len(), "a page holds at least two children");
    }
}
