//! A peer's worker as this worker sees it: one endpoint, and a channel for each session that goes over it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fabric::Endpoint;
use super::inbound::InFlight;
use super::message::Held;
use crate::engine::control::Link;
use crate::engine::request::Completion;
use crate::engine::session::Session;
use crate::limits;

/// How far a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The control connection is being made.
    Dialling,
    /// The peer's worker was asked for its route.
    Attaching,
    /// Frames may go.
    Up,
    /// Lost or closed; kept until its operations have drained.
    Down,
}

/// A worker of a peer.
pub(super) struct Peer {
    pub stage: Stage,
    pub address: String,
    pub link: Option<Arc<Link>>,
    pub fabric: u64,
    pub endpoint: Option<Endpoint>,
    /// What our frames to it carry.
    pub route: u32,
    /// Of an accepted peer, the listener's user data.
    pub accepted: Option<u64>,
    pub channels: Channels,
    /// Sessions that may still be opened without asking.
    pub credits: u32,
    /// Whether more credits were asked for.
    pub asked: bool,
    /// Sessions that wait for the peer or for a credit.
    pub waiting: VecDeque<Arc<Session>>,
    /// Sessions that an accepted peer may open: how many were granted and not used.
    pub granted: u32,
    /// Replies with payload that UCX has not finished sending.
    pub serving: u32,
}

impl Peer {
    pub fn new(stage: Stage, address: String) -> Peer {
        Peer {
            stage,
            address,
            link: None,
            fabric: 0,
            endpoint: None,
            route: 0,
            accepted: None,
            channels: Channels::default(),
            credits: 0,
            asked: false,
            waiting: VecDeque::new(),
            granted: 0,
            serving: 0,
        }
    }

    /// The endpoint, while frames may go.
    pub fn open_endpoint(&self) -> Option<Endpoint> {
        if self.stage == Stage::Up { self.endpoint } else { None }
    }
}

/// One session over a peer's endpoint.
pub(super) struct Channel {
    pub session: Arc<Session>,
    /// Messages that may be sent before the peer says that it took some.
    pub window: u32,
    /// Messages went by UCX that the peer has perhaps not taken: none may overtake them.
    pub detour: bool,
    /// Sends that wait for the window.
    pub blocked: VecDeque<u64>,
    /// Messages in the order of their arrival that cannot be delivered yet.
    pub arriving: VecDeque<Arriving>,
    pub flushes: Flushes,
    /// Calls of the peer that are not answered.
    pub inbound: InFlight,
}

/// A message that is not in the hands of the user yet.
pub(super) enum Arriving {
    /// Its payload has no memory yet.
    Held(Held),
    /// UCX is moving its payload; an id of `Core::incoming`.
    Moving(u64),
    /// It may be delivered when those before it are.
    Ready(Completion),
}

impl Channel {
    /// Whether the next message may go by a ring.
    pub fn is_straight(&mut self) -> bool {
        self.detour &= self.window < limits::MESSAGE_WINDOW;
        !self.detour && self.session.is_heard()
    }

    pub fn new(session: Arc<Session>) -> Channel {
        Channel {
            session,
            window: limits::MESSAGE_WINDOW,
            detour: false,
            blocked: VecDeque::new(),
            arriving: VecDeque::new(),
            flushes: Flushes::default(),
            inbound: InFlight::default(),
        }
    }
}

/// Channels by number: `generation << 20 | index`. The dialler chooses; a closed number comes back with another
/// generation, so that a late frame of the old session is not taken for one of the new.
#[derive(Default)]
pub(super) struct Channels {
    list: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    number: u32,
    channel: Option<Channel>,
}

const INDEX: u32 = (1 << 20) - 1;

impl Channels {
    pub fn get(&mut self, number: u32) -> Option<&mut Channel> {
        let slot = self.list.get_mut((number & INDEX) as usize)?;
        if slot.number == number { slot.channel.as_mut() } else { None }
    }

    /// Opens a channel under a number of our choice.
    pub fn open(&mut self, channel: Channel) -> u32 {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.list[index as usize];
            slot.channel = Some(channel);
            return slot.number;
        }
        let number = self.list.len() as u32;
        self.list.push(Slot { number, channel: Some(channel) });
        number
    }

    /// Opens a channel under the peer's number; `false` if it is taken or its index is not below `limit`.
    pub fn open_at(&mut self, number: u32, limit: u32, channel: Channel) -> bool {
        let index = number & INDEX;
        if index >= limit {
            return false;
        }
        while self.list.len() <= index as usize {
            self.list.push(Slot { number: 0, channel: None });
        }
        let slot = &mut self.list[index as usize];
        if slot.channel.is_some() {
            return false;
        }
        *slot = Slot { number, channel: Some(channel) };
        true
    }

    /// Closes a channel. `reuse` gives its index back, for the side that chooses numbers.
    pub fn close(&mut self, number: u32, reuse: bool) -> Option<Channel> {
        let index = number & INDEX;
        let slot = self.list.get_mut(index as usize)?;
        if slot.number != number {
            return None;
        }
        let channel = slot.channel.take()?;
        if reuse {
            slot.number = number.wrapping_add(INDEX + 1);
            self.free.push(index);
        }
        Some(channel)
    }

    /// Every open channel with its number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Channel)> {
        self.list.iter().filter_map(|slot| Some((slot.number, slot.channel.as_ref()?)))
    }
}

/// Puts between two flushes are an epoch; a flush ends when its epoch and all before it have.
#[derive(Default)]
pub(super) struct Flushes {
    first: u64,
    epochs: VecDeque<Epoch>,
}

#[derive(Default)]
struct Epoch {
    puts: u32,
    flush: Option<u64>,
}

impl Flushes {
    /// Notes a put; returns its epoch.
    pub fn put(&mut self) -> u64 {
        if self.epochs.is_empty() {
            self.epochs.push_back(Epoch::default());
        }
        if let Some(last) = self.epochs.back_mut() {
            last.puts += 1;
        }
        self.first + self.epochs.len() as u64 - 1
    }

    /// Notes a flush; `true` if nothing is before it and it has ended.
    pub fn flush(&mut self, id: u64) -> bool {
        if self.epochs.is_empty() || (self.epochs.len() == 1 && self.epochs[0].puts == 0) {
            return true;
        }
        if let Some(last) = self.epochs.back_mut() {
            last.flush = Some(id);
        }
        self.epochs.push_back(Epoch::default());
        false
    }

    /// Notes the end of a put; returns the flushes that end with it.
    pub fn ended(&mut self, epoch: u64) -> Vec<u64> {
        let index = epoch.wrapping_sub(self.first) as usize;
        if let Some(epoch) = self.epochs.get_mut(index) {
            epoch.puts -= 1;
        }
        let mut ended = Vec::new();
        while let Some(front) = self.epochs.front() {
            let (0, Some(flush)) = (front.puts, front.flush) else { break };
            ended.push(flush);
            self.epochs.pop_front();
            self.first += 1;
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_waits_for_every_put_before_it_and_none_after() {
        let mut flushes = Flushes::default();
        assert!(flushes.flush(1), "nothing to wait for");
        let (a, b) = (flushes.put(), flushes.put());
        assert!(!flushes.flush(2));
        let c = flushes.put();
        assert!(!flushes.flush(3));
        assert_eq!(flushes.ended(c), Vec::<u64>::new(), "epoch 2 waits for epoch 1");
        assert_eq!(flushes.ended(a), Vec::<u64>::new());
        assert_eq!(flushes.ended(b), vec![2, 3]);
        assert!(flushes.flush(4));
        let d = flushes.put();
        assert_eq!(flushes.ended(d), Vec::<u64>::new());
        assert!(flushes.flush(5));
    }
}
