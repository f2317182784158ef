//! Slots of this side for calls that happen once. A slot belongs to one address, where its last sequence is remembered.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::Once;
use crate::limits;

#[derive(Default)]
struct Slots {
    used: u16,
    free: HashMap<String, Vec<Once>>,
}

/// The slots of a context. Any thread.
#[derive(Default)]
pub struct OnceSlots(Mutex<Slots>);

impl OnceSlots {
    /// A slot for one call to `address`: the `Once` of that call. `None`: there are [`limits::ONCE_SLOTS`], and those of
    /// the address are in use.
    pub fn take(&self, address: &str) -> Option<Once> {
        let mut slots = self.0.lock();
        if let Some(free) = slots.free.get_mut(address).and_then(Vec::pop) {
            return Some(free);
        }
        let slot = slots.used;
        (slot < limits::ONCE_SLOTS).then(|| {
            slots.used += 1;
            Once { slot, sequence: 1 }
        })
    }

    /// Gives a slot back after its call was answered. One of which nobody knows whether its call ran is never given back:
    /// its next number is not known either.
    pub fn put(&self, address: &str, once: Once) {
        let next = Once { sequence: once.sequence.checked_add(1).unwrap_or(1), ..once };
        self.restart(address, next);
    }

    /// Gives a slot back with the number of its next call.
    pub fn restart(&self, address: &str, next: Once) {
        let mut slots = self.0.lock();
        if let Some(free) = slots.free.get_mut(address) {
            return free.push(next);
        }
        slots.free.insert(address.to_owned(), vec![next]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stays_with_its_address_and_counts_on() {
        let slots = OnceSlots::default();
        assert_eq!(slots.take("a"), Some(Once { slot: 0, sequence: 1 }));
        slots.put("a", Once { slot: 0, sequence: 1 });
        assert_eq!(slots.take("b"), Some(Once { slot: 1, sequence: 1 }));
        assert_eq!(slots.take("a"), Some(Once { slot: 0, sequence: 2 }));
        slots.put("a", Once { slot: 0, sequence: u32::MAX });
        assert_eq!(slots.take("a"), Some(Once { slot: 0, sequence: 1 }), "0 is no number");
        for slot in 2..limits::ONCE_SLOTS {
            assert_eq!(slots.take("c"), Some(Once { slot, sequence: 1 }));
        }
        assert_eq!(slots.take("c"), None);
        slots.restart("c", Once { slot: 9, sequence: 5 });
        assert_eq!((slots.take("b"), slots.take("c")), (None, Some(Once { slot: 9, sequence: 5 })));
    }
}
