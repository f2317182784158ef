use super::*;

const MIB: u64 = 1 << 20;

fn slab(limit: u64) -> (Arc<Account>, Arc<Slab>) {
    let account = Account::new(limit);
    (account.clone(), Slab::new(account))
}

#[test]
fn adjacent_leaves_are_found_where_they_are() {
    assert_eq!(adjacent(0b1011_0111, 1), Some(0));
    assert_eq!(adjacent(0b1011_0110, 2), Some(1));
    assert_eq!(adjacent(0b1011_0111, 3), Some(0));
    assert_eq!(adjacent(0b1011_0111, 4), None);
    assert_eq!(adjacent(u32::MAX, 32), Some(0));
    assert_eq!(adjacent(u32::MAX - 1, 32), None);
    assert_eq!(adjacent(0, 1), None);
}

#[test]
fn blocks_of_a_run_do_not_overlap_and_fill_it() {
    let (_, slab) = slab(MIB);
    for (class, size) in size_class::TABLE.iter().enumerate().filter(|(_, size)| size.leaves == 1) {
        if cfg!(miri) && class % 8 != 7 {
            continue;
        }
        let mut places = std::collections::BTreeSet::new();
        let mut taken = Vec::new();
        for _ in 0..size.blocks {
            let block = slab.take(size.bytes as usize).unwrap().unwrap();
            places.insert(block.mapping.address() as usize + block.offset);
            taken.push(block);
        }
        let places: Vec<usize> = places.into_iter().collect();
        assert_eq!(places.len(), usize::from(size.blocks));
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] == size.bytes as usize));
        assert_eq!(slab.statistics().in_use, u64::from(size.blocks) * u64::from(size.bytes));
    }
    assert_eq!(slab.statistics().in_use, 0);
}

#[test]
fn everything_given_back_goes_back_to_the_system() {
    let (account, slab) = slab(64 * MIB);
    let count = if cfg!(miri) { 3 } else { 40 };
    let taken: Vec<_> = (0..count)
        .flat_map(|_| {
            [64, 5000, 40_000, 56_000, 100_000, 1 << 20].map(|length| slab.take(length).unwrap().unwrap())
        })
        .collect();
    assert!(account.charged() >= slab.statistics().in_use);
    assert_eq!(account.charged(), slab.statistics().mapped);
    drop(taken);
    assert_eq!(slab.statistics().in_use, 0);
    assert!(account.charged() > 0);
    slab.trim();
    assert_eq!(slab.statistics(), SlabStatistics::default());
    assert_eq!(account.charged(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn room_kept_by_one_size_is_given_to_another_at_the_limit() {
    let (account, slab) = slab(2 * MIB);
    let small: Vec<_> = std::iter::from_fn(|| slab.take(64).unwrap().ok()).take(32_768).collect();
    assert_eq!(small.len(), 32_768);
    assert_eq!(account.charged(), 2 * MIB);
    assert!(slab.take(4096).unwrap().is_err());
    drop(small);
    let large: Vec<_> = std::iter::from_fn(|| slab.take(4096).unwrap().ok()).collect();
    assert_eq!(large.len(), 512);
}

#[test]
fn what_was_never_handed_out_is_clean_and_what_was_is_not() {
    let (_, slab) = slab(32 * MIB);
    let first = slab.take(64).unwrap().unwrap();
    assert!(first.clean);
    drop(first);
    assert!(!slab.take(64).unwrap().unwrap().clean);
    let leaves = slab.take(128 << 10).unwrap().unwrap();
    assert!(leaves.clean);
    drop(leaves);
    assert!(!slab.take(128 << 10).unwrap().unwrap().clean);
    let other = slab.take(8192).unwrap().unwrap();
    assert!(!other.clean, "its leaf was part of the one before");
}
