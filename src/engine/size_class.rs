//! Size classes of small buffers: powers of two with quarter steps, from 64 bytes to 64 KiB.

/// Bytes of a leaf, the unit that chunks are divided into.
pub const LEAF: usize = 64 << 10;

/// The largest size that has a class; larger buffers take leaves.
pub const LARGEST: usize = 56 << 10;

/// Smallest class, and the alignment below 4 KiB: a cache line.
const LINE: u32 = 64;

/// Classes from here on are multiples of it, and aligned to it.
const PAGE: u32 = 4096;

/// One size of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// Bytes of a block.
    pub bytes: u32,
    /// Leaves of a run.
    pub leaves: u32,
    /// Blocks of a run.
    pub blocks: u16,
}

/// How many classes there are.
pub const CLASSES: usize = count();

/// Every class, smallest first.
pub const TABLE: [SizeClass; CLASSES] = table();

/// The class for a length, if one is large enough.
pub fn of(length: usize) -> Option<(usize, SizeClass)> {
    if length > LARGEST {
        return None;
    }
    let class = TABLE.partition_point(|class| (class.bytes as usize) < length);
    Some((class, TABLE[class]))
}

const fn next(bytes: u32) -> u32 {
    let quarter = (1 << bytes.ilog2()) / 4;
    let unit = if bytes >= PAGE { PAGE } else { LINE };
    bytes + if quarter > unit { quarter } else { unit }
}

const fn count() -> usize {
    let (mut bytes, mut count) = (LINE, 0);
    while bytes as usize <= LARGEST {
        bytes = next(bytes);
        count += 1;
    }
    count
}

const fn table() -> [SizeClass; CLASSES] {
    let mut table = [SizeClass { bytes: 0, leaves: 0, blocks: 0 }; CLASSES];
    let (mut bytes, mut class) = (LINE, 0);
    while class < CLASSES {
        let leaves = fitting(bytes);
        table[class] = SizeClass { bytes, leaves, blocks: (leaves * LEAF as u32 / bytes) as u16 };
        bytes = next(bytes);
        class += 1;
    }
    table
}

/// Leaves of a run: the fewest, up to 4, that waste at most an eighth; else those that waste least.
const fn fitting(bytes: u32) -> u32 {
    let (mut leaves, mut best, mut least) = (1, 1, u32::MAX);
    while leaves <= 4 {
        let waste = (leaves * LEAF as u32 % bytes) * 64 / leaves;
        if waste < least {
            (best, least) = (leaves, waste);
        }
        if waste <= LEAF as u32 * 64 / 8 {
            return leaves;
        }
        leaves += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_ascend_are_aligned_and_waste_little() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].bytes < pair[1].bytes);
            assert!(
                pair[1].bytes - pair[0].bytes
                    <= (pair[0].bytes / 4).max(if pair[0].bytes < PAGE { LINE } else { PAGE })
            );
        }
        for class in TABLE {
            assert_eq!(class.bytes % if class.bytes < PAGE { LINE } else { PAGE }, 0);
            let run = class.leaves as usize * LEAF;
            let used = usize::from(class.blocks) * class.bytes as usize;
            assert!(used <= run && run - used <= run / 8, "{class:?}");
        }
        assert_eq!(TABLE[CLASSES - 1].bytes as usize, LARGEST);
    }

    #[test]
    fn a_length_gets_the_smallest_class_that_holds_it() {
        for length in 1..=LARGEST {
            let (class, size) = of(length).unwrap();
            assert!(size.bytes as usize >= length);
            assert!(class == 0 || (TABLE[class - 1].bytes as usize) < length);
        }
        assert!(of(LARGEST + 1).is_none());
    }
}
