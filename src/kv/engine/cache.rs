//! Pages in memory, with their number bounded.
//!
//! CLOCK: a hand goes round and evicts what was not used since it last came by. Index pages are passed over more often
//! than data pages, because every read needs several of them. A page that somebody holds is not evicted.

use crate::io::buffer::Buffer;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::rc::Rc;

/// A page: its partition's number in the shard, and its file page.
pub type Key = (u32, u64);

/// Times that the hand passes over a page which is used.
const INDEX_CREDIT: u8 = 3;
const DATA_CREDIT: u8 = 1;

/// Hashes keys that nobody outside chooses.
#[derive(Debug, Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        let wide = u128::from(self.0 ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = wide as u64 ^ (wide >> 64) as u64;
    }
}

/// A map whose keys are hashed cheaply.
pub type Mixed<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Verified pages.
#[derive(Debug)]
pub struct Cache {
    frames: Vec<Frame>,
    free: Vec<u32>,
    places: Mixed<Key, u32>,
    hand: usize,
    limit: usize,
    /// Of data pages that were turned away of late: a piece of the hash of each, where the rest of the hash says.
    turned_away: Vec<u16>,
}

#[derive(Debug)]
struct Frame {
    key: Key,
    page: Option<Rc<Buffer>>,
    credit: u8,
    most: u8,
}

impl Cache {
    /// At most `limit` pages.
    pub fn new(limit: usize) -> Cache {
        let turned_away = vec![0; limit.next_power_of_two()];
        Cache { frames: Vec::new(), free: Vec::new(), places: Mixed::default(), hand: 0, limit, turned_away }
    }

    /// Pages in it.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The page, if it is here.
    pub fn get(&mut self, key: Key) -> Option<Rc<Buffer>> {
        let frame = &mut self.frames[*self.places.get(&key)? as usize];
        frame.credit = frame.most;
        frame.page.clone()
    }

    /// Whether a page can be added without another one going.
    pub fn has_room(&self) -> bool {
        self.len() < self.limit
    }

    /// Whether the page is here.
    pub fn has(&self, key: Key) -> bool {
        self.places.contains_key(&key)
    }

    /// Whether a data page that was read is worth another one's place: it was turned away not long ago, about as many
    /// pages as there are places. What is read once stays out, and the memory it was read into is used again while it
    /// is warm.
    pub fn admits(&mut self, key: Key) -> bool {
        if self.has_room() || self.has(key) {
            return true;
        }
        let hash = self.places.hasher().hash_one(key);
        let place = hash as usize & (self.turned_away.len() - 1);
        // An empty place is 0.
        let piece = (hash >> 48) as u16 | 1;
        let again = self.turned_away[place] == piece;
        self.turned_away[place] = if again { 0 } else { piece };
        again
    }

    /// Keeps a page, in the place of another if it must be, or not at all if all are held.
    pub fn insert(&mut self, key: Key, page: Rc<Buffer>, index: bool) {
        let most = if index { INDEX_CREDIT } else { DATA_CREDIT };
        let frame = Frame { key, page: Some(page), credit: most, most };
        if let Some(place) = self.places.get(&key) {
            self.frames[*place as usize] = frame;
            return;
        }
        if self.len() >= self.limit && !self.evict() {
            return;
        }
        let place = match self.free.pop() {
            Some(place) => {
                self.frames[place as usize] = frame;
                place
            }
            None => {
                self.frames.push(frame);
                self.frames.len() as u32 - 1
            }
        };
        self.places.insert(key, place);
    }

    /// Forgets a page.
    pub fn remove(&mut self, key: Key) {
        if let Some(place) = self.places.remove(&key) {
            self.frames[place as usize].page = None;
            self.free.push(place);
        }
    }

    /// Forgets the pages of a partition.
    pub fn remove_partition(&mut self, partition: u32) {
        let keys: Vec<Key> = self.places.keys().filter(|key| key.0 == partition).copied().collect();
        keys.into_iter().for_each(|key| self.remove(key));
    }

    /// Makes room for one page; false if all are held or there are none.
    pub fn evict(&mut self) -> bool {
        for _ in 0..self.frames.len() * (usize::from(INDEX_CREDIT) + 1) {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.frames.len();
            let frame = &mut self.frames[at];
            let Some(page) = &frame.page else { continue };
            if Rc::strong_count(page) > 1 {
                continue;
            }
            if frame.credit > 0 {
                frame.credit -= 1;
                continue;
            }
            let key = frame.key;
            self.remove(key);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Rc<Buffer> {
        Rc::new(Buffer::heap(4096).unwrap())
    }

    #[test]
    fn the_limit_holds_and_used_index_pages_stay() {
        let mut cache = Cache::new(10);
        for id in 0..5 {
            cache.insert((0, id), page(), true);
        }
        for id in 100..1000 {
            cache.insert((0, id), page(), false);
            assert!(cache.len() <= 10);
            for index in 0..5 {
                assert!(cache.get((0, index)).is_some(), "index page {index} went for data page {id}");
            }
        }
        cache.remove_partition(0);
        assert_eq!(cache.len(), 0);
        assert!(!cache.evict());
    }

    #[test]
    fn a_data_page_takes_a_place_when_it_comes_again() {
        let mut cache = Cache::new(64);
        let comes = |cache: &mut Cache, id| {
            let admitted = cache.admits((0, id));
            if admitted {
                cache.insert((0, id), page(), false);
            }
            admitted
        };
        assert!((0..64).all(|id| comes(&mut cache, id)), "there is room");
        assert!(comes(&mut cache, 5), "it is here");
        assert!(!comes(&mut cache, 100) && comes(&mut cache, 100) && cache.has((0, 100)));
        // Pages that come once leave those that are here, and are forgotten.
        assert!(!comes(&mut cache, 200));
        let admitted = (1000..11_000).filter(|id| comes(&mut cache, *id)).count();
        assert!(admitted < 10, "{admitted} of 10,000 were taken for others");
        assert!(!comes(&mut cache, 200) && cache.len() == 64);
    }

    #[test]
    fn what_is_held_is_not_evicted() {
        let mut cache = Cache::new(2);
        let held = [page(), page()];
        cache.insert((0, 0), held[0].clone(), false);
        cache.insert((0, 1), held[1].clone(), false);
        cache.insert((0, 2), page(), false);
        assert!(cache.has((0, 0)) && cache.has((0, 1)) && !cache.has((0, 2)));
        drop(held);
        cache.insert((0, 2), page(), false);
        assert!(cache.has((0, 2)) && cache.len() == 2);
    }
}
