use super::*;
use crate::engine::pool::{EXPORTABLE, Pool};

fn buffer(length: u64) -> Arc<Buffer> {
    Pool::new(1 << 24).alloc(length, 0).unwrap()
}

#[test]
fn bytes_go_in_and_out_where_they_belong() {
    let buffer = buffer(300);
    let span = buffer.span(100, 200).unwrap();
    span.copy_from_slice(0, &[7; 200]).unwrap();
    span.slice(8, 16).unwrap().copy_from_slice(4, &[9; 8]).unwrap();
    let mut all = [1; 300];
    buffer.whole().unwrap().copy_to_slice(0, &mut all).unwrap();
    assert_eq!(all[..100], [0; 100]);
    assert_eq!(all[100..112], [7; 12]);
    assert_eq!(all[112..120], [9; 8]);
    assert_eq!(all[120..], [7; 180]);
}

#[test]
fn nothing_passes_the_end() {
    let buffer = buffer(64);
    let span = buffer.span(0, 48).unwrap();
    let other = buffer.whole().unwrap();
    for (offset, length) in [(0, 49), (48, 1), (49, 0), (u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
        assert_eq!(span.slice(offset, length).err(), Some(Status::OutOfRange), "{offset} {length}");
        assert_eq!(span.copy_from(offset, &other, 0, length).err(), Some(Status::OutOfRange));
        assert_eq!(other.copy_from(0, &span, offset, length).err(), Some(Status::OutOfRange));
    }
    assert!(span.slice(48, 0).unwrap().is_empty());
    assert_eq!(span.copy_from_slice(41, &[1; 8]).err(), Some(Status::OutOfRange));
    assert_eq!(span.copy_to_slice(48, &mut [1]).err(), Some(Status::OutOfRange));
    assert_eq!(buffer.span(64, 1).err(), Some(Status::OutOfRange));
    for offset in [41, 48, u64::MAX] {
        assert_eq!(span.fetch_add(offset, 1), Err(Status::OutOfRange));
    }
    let mut all = [1; 64];
    other.copy_to_slice(0, &mut all).unwrap();
    assert_eq!(all, [0; 64]);
}

#[test]
fn overlapping_copies_move_the_bytes_as_they_were() {
    let buffer = buffer(64);
    let span = buffer.whole().unwrap();
    let start: Vec<u8> = (0..64).collect();
    for (from, to, length) in
        [(0, 1, 40), (1, 0, 40), (3, 11, 8), (8, 16, 8), (16, 16, 8), (0, 0, 64), (5, 60, 0)]
    {
        let mut expected = start.clone();
        span.copy_from_slice(0, &start).unwrap();
        span.copy_from(to as u64, &span, from as u64, length as u64).unwrap();
        expected.copy_within(from..from + length, to);
        let mut seen = vec![0; 64];
        span.copy_to_slice(0, &mut seen).unwrap();
        assert_eq!(seen, expected, "{from} {to} {length}");
    }
}

#[test]
fn words_are_atomic_and_aligned() {
    let span = buffer(64).whole().unwrap();
    assert_eq!(span.fetch_add(8, 5), Ok(0));
    assert_eq!(span.fetch_add(8, u64::MAX), Ok(5));
    assert_eq!(span.compare_swap(8, 4, 40), Ok(4));
    assert_eq!(span.compare_swap(8, 4, 41), Ok(40));
    assert_eq!(span.load(8), Ok(40));
    span.store(16, 3).unwrap();
    let mut word = [0; 8];
    span.copy_to_slice(16, &mut word).unwrap();
    assert_eq!(u64::from_ne_bytes(word), 3);
    for offset in [1, 4, 9] {
        assert_eq!(span.fetch_add(offset, 1), Err(Status::InvalidArgument));
        assert_eq!(span.compare_swap(offset, 0, 1), Err(Status::InvalidArgument));
    }
    let count = if cfg!(miri) { 50 } else { 10_000 };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..count).for_each(|_| assert!(span.fetch_add(0, 1).is_ok())));
        }
    });
    assert_eq!(span.load(0), Ok(4 * count));
}

#[test]
fn release_is_deferred_until_the_last_span_is_gone() {
    let pool = Pool::new(1 << 20);
    let buffer = pool.alloc(100, 0).unwrap();
    let span = buffer.whole().unwrap();
    span.copy_from_slice(0, &[5; 100]).unwrap();
    pool.release(&buffer).unwrap();
    assert_eq!(pool.release(&buffer).unwrap_err().status, Status::WrongState);
    assert_eq!(buffer.whole().err(), Some(Status::WrongState));
    drop(buffer);
    let others: Vec<_> = (0..50).map(|_| pool.alloc(100, 0).unwrap()).collect();
    assert!(others.iter().all(|other| other.address() != span.address()));
    let mut seen = [0; 100];
    span.copy_to_slice(0, &mut seen).unwrap();
    assert_eq!(seen, [5; 100]);
    let in_use = pool.statistics().in_use;
    drop(span);
    assert_eq!(pool.statistics().in_use, in_use - 128);
}

#[test]
fn an_attachment_is_made_once_and_dropped_with_its_mapping() {
    let pool = Pool::new(1 << 24);
    let buffer = pool.alloc(3 << 20, 0).unwrap();
    let mapping = buffer.mapping().clone();
    let failed = mapping.attachment(|_, _| Err::<u32, _>(Status::Transport.into()));
    assert_eq!(failed.unwrap_err().status, Status::Transport);
    let made = mapping.attachment(|address, length| Ok((address as usize, length))).unwrap();
    assert_eq!(*made, (mapping.address() as usize, 3 << 20));
    let again = mapping.attachment(|_, _| -> Result<(usize, usize), _> { panic!("made twice") }).unwrap();
    assert!(Arc::ptr_eq(&made, &again));
    assert_eq!(mapping.attachment(|_, _| Ok(1u8)).unwrap_err().status, Status::Internal);
    let weak = Arc::downgrade(&made);
    drop((made, again, mapping));
    assert!(weak.upgrade().is_some());
    drop(buffer);
    assert!(weak.upgrade().is_none());
}

#[test]
#[cfg_attr(miri, ignore = "memory files")]
fn only_buffers_with_a_memory_file_are_exportable() {
    let pool = Pool::new(1 << 24);
    assert!(pool.alloc(1, EXPORTABLE).unwrap().is_exportable());
    assert!(!pool.alloc(1, 0).unwrap().is_exportable());
    assert!(!pool.alloc(3 << 20, 0).unwrap().is_exportable());
}

#[test]
#[cfg_attr(miri, ignore = "system calls")]
fn large_mappings_are_aligned_to_huge_pages() {
    for length in [HUGE_PAGE, HUGE_PAGE + PAGE, 3 * HUGE_PAGE] {
        let mapping = Mapping::anonymous(length).unwrap();
        assert_eq!(mapping.address() as usize % HUGE_PAGE, 0);
        assert_eq!(mapping.len(), length);
    }
    assert_eq!(
        Mapping::anonymous(isize::MAX as usize / PAGE * PAGE).err().unwrap().status,
        Status::OutOfMemory
    );
}

#[test]
fn user_memory_needs_an_address_and_a_length() {
    let mut bytes = [0u8; 4];
    let refused = [(std::ptr::null_mut(), 4), (bytes.as_mut_ptr(), 0), (bytes.as_mut_ptr(), u64::MAX)];
    for (address, length) in refused {
        // SAFETY: what is refused is never used.
        let memory = unsafe { UserMemory::new(address, length) };
        assert_eq!(memory.err().map(|error| error.status), Some(Status::InvalidArgument));
    }
}

#[test]
fn the_same_user_memory_shares_its_mapping_until_it_is_released() {
    let mut bytes = vec![3u8; 4096];
    let address = bytes.as_mut_ptr();
    // SAFETY: `bytes` outlives every buffer of this test.
    let register =
        |pool: &Pool, length| pool.register(unsafe { UserMemory::new(address, length) }.unwrap()).unwrap();
    let pool = Pool::new(0);
    let (first, second, part) = (register(&pool, 4096), register(&pool, 4096), register(&pool, 100));
    assert!(Arc::ptr_eq(first.mapping(), second.mapping()));
    assert!(!Arc::ptr_eq(first.mapping(), part.mapping()));
    assert!(!first.is_exportable());
    let span = first.whole().unwrap();
    span.copy_from_slice(4, &[8; 4]).unwrap();
    let mut seen = [0; 9];
    part.whole().unwrap().copy_to_slice(0, &mut seen).unwrap();
    assert_eq!(seen, [3, 3, 3, 3, 8, 8, 8, 8, 3]);
    pool.release(&first).unwrap();
    // The second still works, but its pages are not taken for granted any more.
    let third = register(&pool, 4096);
    assert!(!Arc::ptr_eq(third.mapping(), second.mapping()));
    pool.release(&second).unwrap();
    assert!(Arc::ptr_eq(register(&pool, 4096).mapping(), third.mapping()));
    assert_eq!(pool.statistics(), crate::engine::pool::Statistics::default());
}

#[test]
fn user_memory_is_registered_anew_after_its_release_although_it_is_in_use() {
    let mut bytes = vec![0u8; 64];
    let address = bytes.as_mut_ptr();
    // SAFETY: `bytes` outlives every buffer of this test.
    let memory = || unsafe { UserMemory::new(address, 64) }.unwrap();
    let pool = Pool::new(0);
    let first = pool.register(memory()).unwrap();
    let span = first.whole().unwrap();
    pool.release(&first).unwrap();
    let second = pool.register(memory()).unwrap();
    assert!(!Arc::ptr_eq(first.mapping(), second.mapping()));
    drop(first);
    span.copy_from_slice(0, &[1; 64]).unwrap();
    pool.release(&second).unwrap();
}
