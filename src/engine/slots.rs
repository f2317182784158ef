//! A generational slab with an owner: an index is reused, an id is not.

/// Ids are `generation << 32 | index`. A generation has 29 bits and is never 0, so neither is an id.
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

const GENERATIONS: u32 = (1 << 29) - 1;

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots::new()
    }
}

impl<T> Slots<T> {
    /// An empty slab.
    pub fn new() -> Slots<T> {
        Slots { slots: Vec::new(), free: Vec::new(), len: 0 }
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a value in and names it.
    pub fn insert(&mut self, value: T) -> u64 {
        self.len += 1;
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return id(slot.generation, index);
        }
        self.slots.push(Slot { generation: 1, value: Some(value) });
        id(1, (self.slots.len() - 1) as u32)
    }

    /// The id that the next `insert` will give.
    pub fn next_id(&self) -> u64 {
        match self.free.last() {
            Some(index) => id(self.slots[*index as usize].generation, *index),
            None => id(1, self.slots.len() as u32),
        }
    }

    /// The value with this id.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let slot = self.slots.get_mut(id as u32 as usize)?;
        if slot.generation != (id >> 32) as u32 { None } else { slot.value.as_mut() }
    }

    /// The value with this id.
    pub fn get(&self, id: u64) -> Option<&T> {
        let slot = self.slots.get(id as u32 as usize)?;
        if slot.generation != (id >> 32) as u32 { None } else { slot.value.as_ref() }
    }

    /// Takes the value with this id out; the id never comes back.
    pub fn remove(&mut self, id: u64) -> Option<T> {
        let slot = self.slots.get_mut(id as u32 as usize)?;
        if slot.generation != (id >> 32) as u32 {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = if slot.generation == GENERATIONS { 1 } else { slot.generation + 1 };
        self.free.push(id as u32);
        self.len -= 1;
        Some(value)
    }

    /// The id of the value that is at an index now.
    pub fn id_at(&self, index: u32) -> Option<u64> {
        let slot = self.slots.get(index as usize)?;
        slot.value.as_ref().map(|_| id(slot.generation, index))
    }

    /// Indices that were ever in use: the bound of [`Slots::id_at`].
    pub fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether `wanted` holds for some value.
    pub fn any(&self, wanted: impl Fn(&T) -> bool) -> bool {
        self.slots.iter().any(|slot| slot.value.as_ref().is_some_and(&wanted))
    }

    /// All values.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }

    /// Ids of the values for which `wanted` holds.
    pub fn ids(&self, wanted: impl Fn(&T) -> bool) -> Vec<u64> {
        let with_index = self.slots.iter().enumerate();
        let found = with_index.filter(|(_, slot)| slot.value.as_ref().is_some_and(&wanted));
        found.map(|(index, slot)| id(slot.generation, index as u32)).collect()
    }
}

fn id(generation: u32, index: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_id_is_the_one_that_insert_gives() {
        let mut slots = Slots::new();
        for i in 0..100 {
            let next = slots.next_id();
            assert_eq!(slots.insert(i), next);
            if i % 3 == 0 {
                slots.remove(next);
            }
        }
    }

    #[test]
    fn an_old_id_is_stale() {
        let mut slots = Slots::new();
        let a = slots.insert('a');
        assert_eq!(slots.remove(a), Some('a'));
        let next = slots.next_id();
        let b = slots.insert('b');
        assert_eq!(next, b);
        assert_eq!(a as u32, b as u32, "the index is reused");
        assert_ne!(a, b);
        assert_eq!(slots.get(a), None);
        assert_eq!(slots.get_mut(a), None);
        assert_eq!(slots.remove(a), None);
        assert_eq!((slots.get(b), slots.len()), (Some(&'b'), 1));
        assert_eq!(slots.ids(|c| *c == 'b'), vec![b]);
    }
}
