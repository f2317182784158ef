//! Which of several weighted store paths holds a partition.

/// Slots that weights are scaled down to when their sum exceeds it.
const SLOTS: u64 = 4096;

/// A table of path numbers; partition `p` lives on path `table[p % table.len()]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    table: Vec<u16>,
}

impl Placement {
    /// For paths with these weights. A path of weight 0 holds nothing, unless all are 0: then all are equal.
    pub fn new(weights: &[u32]) -> Placement {
        let mut weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight)).collect();
        if weights.iter().all(|weight| *weight == 0) {
            weights.fill(1);
        }
        let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
        weights.iter_mut().for_each(|weight| *weight /= divisor);
        let sum: u64 = weights.iter().sum();
        if sum > SLOTS {
            let scale = sum.div_ceil(SLOTS);
            weights
                .iter_mut()
                .filter(|weight| **weight > 0)
                .for_each(|weight| *weight = (*weight / scale).max(1));
        }
        let slots = (0u16..).zip(&weights);
        Placement { table: slots.flat_map(|(path, weight)| (0..*weight).map(move |_| path)).collect() }
    }

    /// The path of a partition, by its number; the table's name plays no part. 0 without paths.
    pub fn path(&self, partition: u32) -> usize {
        let slot = partition as usize % self.table.len().max(1);
        self.table.get(slot).map_or(0, |path| usize::from(*path))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_reduced_and_repeat() {
        let placement = Placement::new(&[2, 6]);
        assert_eq!(placement, Placement::new(&[1, 3]));
        let paths: Vec<usize> = (0..9).map(|partition| placement.path(partition)).collect();
        assert_eq!(paths, [0, 1, 1, 1, 0, 1, 1, 1, 0]);
        assert_eq!(Placement::new(&[0, 0]), Placement::new(&[1, 1]));
        assert_eq!(Placement::new(&[5]).path(u32::MAX), 0);
        assert_eq!(Placement::new(&[]).path(3), 0);
    }

    #[test]
    fn huge_weights_stay_small_tables() {
        let placement = Placement::new(&[u32::MAX, u32::MAX - 1, 1]);
        assert!(placement.table.len() as u64 <= SLOTS + 3);
        assert!(placement.table.contains(&2));
    }
}
