//! Connections that we close: what is queued is sent first, and the peer's end is waited for.

use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

use super::conn::{Conn, Filled};
use super::reactor::{Core, Part, Reactor, Timer, Token};

/// How long a connection that we closed may take to send what is left and see the peer's end.
const LINGER: Duration = Duration::from_secs(1);

/// Connections that close at once; one more is cut.
const MAX_CLOSING: usize = 256;

/// A connection that sends its last bytes and waits for the peer's end.
pub(super) struct Closing {
    conn: Conn,
    finished: bool,
}

impl Reactor {
    /// Sends what is queued, then ends our direction and waits for the peer's end: closing at once could destroy what
    /// the peer has not read yet.
    pub(super) fn close_softly(&mut self, mut conn: Conn) {
        if self.closing.len() >= MAX_CLOSING {
            let _ = conn.flush(&self.core.shared.counters);
            return;
        }
        conn.discard_input();
        let id = self.core.fresh_id(|id| self.closing.contains_key(&id));
        let mut timer = Timer::default();
        self.core.arm(&mut timer, Token::new(Part::Closing, id), Instant::now() + LINGER);
        self.closing.insert(id, Closing { conn, finished: false });
        self.on_closing(id);
    }

    pub(super) fn on_closing(&mut self, id: u32) {
        let Some(closing) = self.closing.get_mut(&id) else { return };
        if !closing.advance(&mut self.core, id) {
            self.closing.remove(&id);
        }
    }
}

impl Closing {
    /// Goes on closing; false when done.
    fn advance(&mut self, core: &mut Core, id: u32) -> bool {
        let shared = core.shared.clone();
        if self.conn.flush(&shared.counters).is_err() {
            return false;
        }
        if !self.finished && !self.conn.wants_write() {
            self.finished = true;
            if shutdown(self.conn.socket(), Shutdown::Write).is_err() {
                return false;
            }
        }
        match self.conn.fill(&mut core.scratch, &shared.counters) {
            Ok(Filled::Bytes(_) | Filled::Empty) => {}
            Ok(Filled::End) | Err(_) => return false,
        }
        self.conn.discard_input();
        core.watch(&mut self.conn, Token::new(Part::Closing, id), true).is_ok()
    }
}
