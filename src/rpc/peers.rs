//! What a client knows of each address: a session, one on its way, or that nobody answers and until when to believe it.
//! Pure; the hub does what it says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::session::Session;
use crate::status::Status;

/// Addresses that a client remembers.
const ADDRESSES: usize = 16_384;

enum State {
    Idle,
    Connecting(u64),
    Open(Arc<Session>),
}

struct Peer {
    state: State,
    /// Dials that failed since the last one that did not.
    failures: u32,
    /// Nobody answered: not before this again.
    not_before: Option<Instant>,
    why: Status,
}

/// What to do for a call to an address.
pub(super) enum Plan {
    /// Call over this session.
    Use(Arc<Session>),
    /// Somebody dials already: wait for it.
    Wait,
    /// Dial, and say so with [`Peers::dialled`].
    Dial,
    /// Nobody answered a moment ago; so long ahead it is not worth another dial.
    Refuse(Status, Duration),
}

pub(super) struct Peers {
    by_address: HashMap<String, Peer>,
    shortest: Duration,
    longest: Duration,
}

impl Peers {
    /// Waits between two dials of a peer that does not answer: twice as long each time.
    pub fn new(shortest: Duration, longest: Duration) -> Peers {
        Peers { by_address: HashMap::new(), shortest, longest }
    }

    /// What to do for a call at `now`.
    pub fn plan(&mut self, address: &str, now: Instant) -> Plan {
        if !self.by_address.contains_key(address) {
            if self.by_address.len() >= ADDRESSES {
                self.by_address.retain(|_, peer| !matches!(peer.state, State::Idle));
            }
            let peer = Peer { state: State::Idle, failures: 0, not_before: None, why: Status::Unreachable };
            self.by_address.insert(address.to_owned(), peer);
        }
        let Some(peer) = self.by_address.get_mut(address) else { return Plan::Wait };
        match (&peer.state, peer.not_before) {
            (State::Open(session), _) => Plan::Use(session.clone()),
            (State::Connecting(_), _) => Plan::Wait,
            (State::Idle, Some(at)) if at > now => Plan::Refuse(peer.why, at - now),
            (State::Idle, _) => Plan::Dial,
        }
    }

    /// A dial has begun.
    pub fn dialled(&mut self, address: &str, session: u64) {
        if let Some(peer) = self.by_address.get_mut(address) {
            peer.state = State::Connecting(session);
        }
    }

    /// A dial has ended; `session` when it went well.
    pub fn connected(&mut self, id: u64, status: Status, session: Option<Arc<Session>>, now: Instant) {
        let connecting = |peer: &&mut Peer| matches!(peer.state, State::Connecting(of) if of == id);
        let Some(peer) = self.by_address.values_mut().find(connecting) else { return };
        match session {
            Some(session) if status == Status::Ok => {
                *peer = Peer { state: State::Open(session), failures: 0, not_before: None, why: status };
            }
            _ => {
                let wait = self.shortest.saturating_mul(1 << peer.failures.min(16)).min(self.longest);
                peer.failures += 1;
                peer.state = State::Idle;
                peer.why = status;
                peer.not_before = now.checked_add(jittered(wait, id));
            }
        }
    }

    /// A session has ended, in order or not: the next call dials.
    pub fn ended(&mut self, id: u64) {
        for peer in self.by_address.values_mut() {
            if matches!(&peer.state, State::Open(session) if session.id() == id) {
                peer.state = State::Idle;
            }
        }
    }
}

/// Up to a quarter less, so that clients that lost one server do not come back all at once.
fn jittered(wait: Duration, seed: u64) -> Duration {
    let mixed = (seed ^ std::process::id() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    wait - wait / 1024 * mixed as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(1);

    fn refused(peers: &mut Peers, now: Instant) -> Option<Duration> {
        match peers.plan("a", now) {
            Plan::Refuse(Status::Unreachable, left) => Some(left),
            _ => None,
        }
    }

    #[test]
    fn a_peer_that_does_not_answer_is_asked_less_and_less_often() {
        let mut peers = Peers::new(LEAST, MOST);
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for id in 1..8 {
            assert!(matches!(peers.plan("a", now), Plan::Dial));
            peers.dialled("a", id);
            assert!(matches!(peers.plan("a", now), Plan::Wait), "one dial at a time");
            peers.connected(id, Status::Unreachable, None, now);
            let left = refused(&mut peers, now).unwrap();
            assert!(refused(&mut peers, now + left - Duration::from_nanos(1)).is_some());
            now += left;
            waits.push(left);
        }
        for (i, wait) in waits.iter().enumerate() {
            let whole = LEAST.saturating_mul(1 << i).min(MOST);
            assert!(*wait <= whole && *wait >= whole * 3 / 4 - Duration::from_micros(1), "{i}: {wait:?}");
        }
        // Another address is another matter.
        assert!(matches!(peers.plan("b", now), Plan::Dial));
    }

    #[test]
    fn addresses_are_forgotten_before_there_are_too_many() {
        let mut peers = Peers::new(LEAST, MOST);
        for i in 0..ADDRESSES + 10 {
            assert!(matches!(peers.plan(&i.to_string(), Instant::now()), Plan::Dial));
        }
        assert!(peers.by_address.len() <= ADDRESSES);
    }
}
