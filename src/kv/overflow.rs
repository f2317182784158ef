//! Overflow pages: values too large for a data page, in groups of pages.
//!
//! An entry names the pages of the first group. The last page of a full group names the pages of the next.

use super::damage::{Damage, Decoded};
use super::page::{Kind, PageId, kind, seal};
use super::varint::Reader;

const VALUE_LEN: usize = 9;
const VALUE: usize = 11;

/// One page's share of a value, and the pages of the next group.
#[derive(Clone, Copy, Debug)]
pub struct OverflowPage<'a> {
    /// Bytes of the value.
    pub value: &'a [u8],
    /// The next group's page ids, 4 bytes each.
    pub pointers: &'a [u8],
}

impl<'a> OverflowPage<'a> {
    /// A page whose checksum was verified, or whose owner chose not to.
    pub fn parse(page: &'a [u8]) -> Decoded<OverflowPage<'a>> {
        if kind(page)? != Kind::Overflow {
            return Err(Damage::new(8, "not an overflow page where one belongs"));
        }
        let len = usize::from(Reader::new(page, VALUE_LEN).u16()?);
        let count_at = page.len() - 1;
        let pointers_at = count_at.checked_sub(4 * usize::from(page[count_at]));
        let value_end = VALUE + len;
        match pointers_at {
            Some(at) if at >= value_end => {
                Ok(OverflowPage { value: &page[VALUE..value_end], pointers: &page[at..count_at] })
            }
            _ => Err(Damage::new(VALUE_LEN, "an overflow page's lengths overlap")),
        }
    }
}

/// Page ids from the bytes of an entry or a page; `at` is where they begin.
pub fn pointers(bytes: &[u8], at: usize) -> Decoded<Vec<PageId>> {
    let (ids, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || ids.is_empty() {
        return Err(Damage::new(at, "page pointers are cut off"));
    }
    Ok(ids.iter().map(|id| u32::from_le_bytes(*id)).collect())
}

/// How values are cut into overflow pages.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Bytes of a page.
    pub page_size: usize,
    /// Pages of a full group, 1 to 128.
    pub group: usize,
}

impl Cut {
    /// Bytes of value in page `i` of a chain: a group's last page keeps room for the next group's ids.
    pub fn capacity(self, i: usize) -> usize {
        let whole = self.page_size - VALUE - 1;
        if i % self.group == self.group - 1 { whole - 4 * self.group } else { whole }
    }

    /// How many pages hold `len` bytes. At least one.
    pub fn pages(self, len: usize) -> usize {
        let plain = self.page_size - VALUE - 1;
        let of_group = plain * self.group - 4 * self.group;
        let full = len / of_group;
        let rest = (len % of_group).div_ceil(plain);
        // The rest may fit the group's pages but for the last one's pointers; `of_group` bounds it to the group.
        (full * self.group + rest).max(1)
    }

    /// The pages for `value`, sealed, one for each id in `ids`, of which there are `pages(value.len())`.
    pub fn encode<'v>(
        self,
        value: &'v [u8],
        ids: &'v [PageId],
    ) -> impl Iterator<Item = (PageId, Vec<u8>)> + 'v {
        let mut rest = value;
        ids.iter().enumerate().map(move |(i, id)| {
            let (part, after) = rest.split_at(rest.len().min(self.capacity(i)));
            rest = after;
            let next = &ids[i + 1..];
            let next =
                if i % self.group == self.group - 1 { &next[..next.len().min(self.group)] } else { &[] };
            (*id, self.page(part, next))
        })
    }

    fn page(self, value: &[u8], next: &[PageId]) -> Vec<u8> {
        let mut page = vec![0; self.page_size];
        page[VALUE_LEN..VALUE].copy_from_slice(&(value.len() as u16).to_le_bytes());
        page[VALUE..VALUE + value.len()].copy_from_slice(value);
        let count_at = self.page_size - 1;
        page[count_at] = next.len() as u8;
        let pointers_at = count_at - 4 * next.len();
        for (slot, id) in page[pointers_at..count_at].as_chunks_mut::<4>().0.iter_mut().zip(next) {
            *slot = id.to_le_bytes();
        }
        seal(&mut page, Kind::Overflow);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn round_trip(cut: Cut, len: usize) {
        let value: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
        let ids: Vec<PageId> = (100..100 + cut.pages(len) as u32).collect();
        let pages: HashMap<_, _> = cut.encode(&value, &ids).collect();
        let mut group: Vec<PageId> = ids[..ids.len().min(cut.group)].to_vec();
        let (mut back, mut used) = (Vec::new(), 0);
        while !group.is_empty() {
            let mut next = Vec::new();
            for id in &group {
                let page = OverflowPage::parse(&pages[id]).unwrap();
                back.extend_from_slice(page.value);
                used += 1;
                if !page.pointers.is_empty() {
                    next = pointers(page.pointers, 0).unwrap();
                }
            }
            group = next;
        }
        assert_eq!((back == value, used), (true, ids.len()), "{len} bytes, group {}", cut.group);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn values_come_back(len in 0usize..400_000, group in 1usize..=128) {
            round_trip(Cut { page_size: 4096, group }, len);
        }
    }

    #[test]
    fn edges_of_pages_and_groups() {
        for group in [1, 2, 16] {
            let cut = Cut { page_size: 4096, group };
            let (plain, of_group) = (4084, 4084 * group - 4 * group);
            for edge in [0, plain, of_group, of_group + plain, 2 * of_group] {
                for len in edge.saturating_sub(2)..=edge + 2 {
                    round_trip(cut, len);
                }
            }
        }
    }

    #[test]
    fn overlapping_lengths_are_damage() {
        let cut = Cut { page_size: 4096, group: 16 };
        let (_, mut page) = cut.encode(&[1; 4084], &[5]).next().unwrap();
        assert_eq!(OverflowPage::parse(&page).unwrap().value.len(), 4084);
        page[4095] = 1;
        assert!(OverflowPage::parse(&page).is_err());
        page[4095] = 0;
        page[VALUE_LEN + 1] = 0xff;
        assert!(OverflowPage::parse(&page).is_err());
    }
}
