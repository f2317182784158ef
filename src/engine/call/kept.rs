//! Calls that happen once: what each client called last in each of its slots, and what it was answered. The rules are those
//! of sessions in NFSv4.1, and outlive connections: a client is a context, not a link to it.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::{Header, Once};
use crate::limits;
use crate::status::Status;

/// An answer that is given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Kept {
    pub status: i32,
    pub refused: bool,
    pub header: Header,
    pub body: Box<[u8]>,
}

/// What is to be done with a call that happens once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Verdict {
    /// It is new: run it, then `finish` or `forget` it.
    Run,
    /// It has run, with this answer.
    Repeat(Kept),
    /// It must not run now.
    Refuse(Status),
}

#[derive(Default)]
enum State {
    /// Nothing is known but the number.
    #[default]
    Idle,
    Running,
    Done(Kept),
}

#[derive(Default)]
struct Slot {
    sequence: u32,
    state: State,
}

#[derive(Default)]
struct Client {
    slots: Vec<Slot>,
    running: u32,
    bytes: usize,
    /// When it last called, by the table's own count.
    used: u64,
}

#[derive(Default)]
struct Clients {
    by_uuid: HashMap<[u8; 16], Client>,
    bytes: usize,
    count: u64,
}

/// The clients of one context. Any thread.
#[derive(Default)]
pub(in crate::engine) struct OnceTable(Mutex<Clients>);

impl OnceTable {
    /// A call has come.
    pub fn begin(&self, client: [u8; 16], once: Once) -> Verdict {
        let mut clients = self.0.lock();
        clients.count += 1;
        let count = clients.count;
        if !clients.by_uuid.contains_key(&client) {
            clients.make_room(limits::ONCE_CLIENTS - 1, limits::KEPT_BYTES);
            if clients.by_uuid.len() >= limits::ONCE_CLIENTS {
                return Verdict::Refuse(Status::Busy);
            }
        }
        let known = clients.by_uuid.entry(client).or_default();
        known.used = count;
        let index = usize::from(once.slot);
        if known.slots.len() <= index {
            known.slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut known.slots[index];
        let next = slot.sequence.checked_add(1).unwrap_or(1);
        match &slot.state {
            _ if once.sequence != slot.sequence && once.sequence != next => {
                let unknown = slot.sequence == 0;
                Verdict::Refuse(if unknown { Status::Expired } else { Status::WrongState })
            }
            State::Running => Verdict::Refuse(Status::Busy),
            State::Done(kept) if once.sequence == slot.sequence => Verdict::Repeat(kept.clone()),
            State::Idle if once.sequence == slot.sequence => Verdict::Refuse(Status::Protocol),
            _ => {
                let freed = slot.start(once.sequence);
                known.running += 1;
                known.bytes -= freed;
                clients.bytes -= freed;
                Verdict::Run
            }
        }
    }

    /// A call has run: its answer is kept until the slot's next one.
    pub fn finish(&self, client: [u8; 16], once: Once, kept: Kept) {
        let mut clients = self.0.lock();
        let bytes = kept.body.len();
        let Some(known) = clients.by_uuid.get_mut(&client) else { return };
        let Some(slot) = known.running_slot(once) else { return };
        slot.state = State::Done(kept);
        known.running -= 1;
        known.bytes += bytes;
        clients.bytes += bytes;
        clients.make_room(limits::ONCE_CLIENTS, limits::KEPT_BYTES);
    }

    /// A call has not run: it may come again.
    pub fn forget(&self, client: [u8; 16], once: Once) {
        let mut clients = self.0.lock();
        let Some(known) = clients.by_uuid.get_mut(&client) else { return };
        let Some(slot) = known.running_slot(once) else { return };
        slot.sequence = slot.sequence.saturating_sub(1);
        slot.state = State::Idle;
        known.running -= 1;
    }
}

impl Slot {
    /// Starts a call; returns the bytes of the answer that nobody will ask for again.
    fn start(&mut self, sequence: u32) -> usize {
        self.sequence = sequence;
        match std::mem::replace(&mut self.state, State::Running) {
            State::Done(kept) => kept.body.len(),
            State::Idle | State::Running => 0,
        }
    }
}

impl Client {
    fn running_slot(&mut self, once: Once) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::from(once.slot))?;
        (slot.sequence == once.sequence && matches!(slot.state, State::Running)).then_some(slot)
    }
}

impl Clients {
    /// Forgets clients that were silent for longest, but none whose calls run.
    fn make_room(&mut self, most: usize, most_bytes: usize) {
        while self.by_uuid.len() > most || self.bytes > most_bytes {
            let idle = self.by_uuid.iter().filter(|(_, client)| client.running == 0);
            let Some(oldest) = idle.min_by_key(|(_, client)| client.used).map(|(uuid, _)| *uuid) else {
                return;
            };
            if let Some(client) = self.by_uuid.remove(&oldest) {
                self.bytes -= client.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 16] = [1; 16];
    const B: [u8; 16] = [2; 16];

    fn kept(status: i32, bytes: usize) -> Kept {
        Kept { status, refused: false, header: Header::default(), body: vec![7; bytes].into() }
    }

    fn once(slot: u16, sequence: u32) -> Once {
        Once { slot, sequence }
    }

    #[test]
    fn a_call_runs_once_and_is_answered_again_until_the_next() {
        let table = OnceTable::default();
        assert_eq!(table.begin(A, once(0, 1)), Verdict::Run);
        assert_eq!(table.begin(A, once(0, 1)), Verdict::Refuse(Status::Busy));
        assert_eq!(table.begin(A, once(0, 2)), Verdict::Refuse(Status::Busy));
        table.finish(A, once(0, 1), kept(5, 3));
        assert_eq!(table.begin(A, once(0, 1)), Verdict::Repeat(kept(5, 3)));
        assert_eq!(table.begin(A, once(0, 1)), Verdict::Repeat(kept(5, 3)));
        assert_eq!(table.begin(A, once(0, 3)), Verdict::Refuse(Status::WrongState));
        assert_eq!(table.begin(A, once(0, 2)), Verdict::Run);
        table.finish(A, once(0, 2), kept(6, 0));
        assert_eq!(table.begin(A, once(0, 1)), Verdict::Refuse(Status::WrongState), "superseded");
        assert_eq!(table.begin(A, once(0, 2)), Verdict::Repeat(kept(6, 0)));
        // Other slots and clients are others.
        assert_eq!(table.begin(A, once(1, 1)), Verdict::Run);
        assert_eq!(table.begin(B, once(0, 1)), Verdict::Run);
        assert_eq!(table.begin(B, once(1, 9)), Verdict::Refuse(Status::Expired), "nothing is known of it");
        assert_eq!(table.begin(B, once(1, 1)), Verdict::Run, "and it can begin anew");
    }

    #[test]
    fn what_has_not_run_may_run() {
        let table = OnceTable::default();
        for sequence in 1..4 {
            assert_eq!(table.begin(A, once(3, sequence)), Verdict::Run);
            table.forget(A, once(3, sequence));
            table.forget(A, once(3, sequence));
            assert_eq!(table.begin(A, once(3, sequence)), Verdict::Run);
            table.finish(A, once(3, sequence), kept(0, 1));
            table.forget(A, once(3, sequence));
            assert_eq!(table.begin(A, once(3, sequence)), Verdict::Repeat(kept(0, 1)));
        }
    }

    #[test]
    fn numbers_wrap_around_and_skip_zero() {
        let table = OnceTable::default();
        table
            .0
            .lock()
            .by_uuid
            .entry(A)
            .or_default()
            .slots
            .push(Slot { sequence: u32::MAX, state: State::Done(kept(1, 0)) });
        assert_eq!(table.begin(A, once(0, 0)), Verdict::Refuse(Status::WrongState));
        assert_eq!(table.begin(A, once(0, u32::MAX)), Verdict::Repeat(kept(1, 0)));
        assert_eq!(table.begin(A, once(0, 1)), Verdict::Run);
    }

    #[test]
    fn memory_is_bounded_and_the_silent_go_first() {
        let table = OnceTable::default();
        let uuid = |i: usize| {
            let mut uuid = [0; 16];
            uuid[..8].copy_from_slice(&(i as u64 + 1).to_le_bytes());
            uuid
        };
        assert_eq!(table.begin(uuid(0), once(0, 1)), Verdict::Run);
        for i in 1..limits::ONCE_CLIENTS + 10 {
            assert_eq!(table.begin(uuid(i), once(0, 1)), Verdict::Run);
            table.finish(uuid(i), once(0, 1), kept(0, 9));
        }
        let clients = table.0.lock();
        assert_eq!(clients.by_uuid.len(), limits::ONCE_CLIENTS);
        assert_eq!(clients.bytes, 9 * (limits::ONCE_CLIENTS - 1));
        assert!(clients.by_uuid.contains_key(&uuid(0)), "its call runs");
        assert!(!clients.by_uuid.contains_key(&uuid(1)) && !clients.by_uuid.contains_key(&uuid(10)));
        drop(clients);
        assert_eq!(table.begin(uuid(0), once(1, 1)), Verdict::Run);
        table.finish(uuid(0), once(0, 1), kept(0, limits::KEPT_BYTES - 9));
        let clients = table.0.lock();
        assert_eq!((clients.by_uuid.len(), clients.bytes), (2, limits::KEPT_BYTES));
    }
}
