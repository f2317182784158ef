//! Calls that happen once: tried again with the same number until they are answered, over whatever session there is.

use std::time::{Duration, Instant};

use super::client::{Client, Outgoing, Replied, failure, request};
use crate::engine::call::Once;
use crate::engine::info::SessionState;
use crate::engine::request::Completion;
use crate::status::{Error, Result, Status};

/// Longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// What a try came to.
enum Tried {
    Answered(Completion),
    /// Not now; it has not run, or nobody knows.
    Again(Error, Duration),
    /// It cannot go on; whether the slot's next number is known.
    Over(Error, bool),
}

impl Client {
    /// Calls a method that changes something, so that it happens once, also when the answer or the connection is lost: it
    /// is tried again until it is answered, or `call.timeout` (which must be given) has passed. `TIMED_OUT`: it may have
    /// happened. `EXPIRED`: so it may, and the peer has forgotten.
    pub fn call_once(&self, address: &str, call: &Outgoing<'_>) -> Result<Replied> {
        if call.timeout.is_zero() {
            return Err(Error::new(Status::InvalidArgument, "a call that is tried again needs a timeout"));
        }
        let until = Instant::now() + call.timeout;
        let slots = self.hub.context.once_slots();
        let Some(mut once) = slots.take(address) else {
            let text = "every slot for calls that happen once is in use, or its call timed out";
            return Err(Error::new(Status::LimitReached, text));
        };
        // Whether some try may have reached the peer.
        let mut sent = false;
        loop {
            match self.try_once(address, call, once, until, &mut sent) {
                Tried::Answered(done) => {
                    slots.put(address, once);
                    return self.replied(&done, call.reply.is_some());
                }
                // The peer has started anew, and this call cannot have been the reason.
                Tried::Over(error, _) if error.status == Status::Expired && !sent && once.sequence != 1 => {
                    once.sequence = 1;
                }
                Tried::Over(error, known) => {
                    match error.status {
                        Status::Expired => slots.restart(address, Once { sequence: 1, ..once }),
                        _ if known => slots.put(address, once),
                        _ if !sent => slots.restart(address, once),
                        _ => {}
                    }
                    return Err(error);
                }
                Tried::Again(error, pause) => {
                    let now = Instant::now();
                    if now + pause >= until {
                        if !sent {
                            slots.restart(address, once);
                            return Err(error);
                        }
                        let text = format!("the call may have happened; the last try: {error}");
                        return Err(Error::new(Status::TimedOut, text));
                    }
                    std::thread::sleep(pause);
                }
            }
        }
    }

    fn try_once(
        &self,
        address: &str,
        call: &Outgoing<'_>,
        once: Once,
        until: Instant,
        sent: &mut bool,
    ) -> Tried {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Tried::Again(Status::TimedOut.into(), Duration::ZERO);
        }
        let session = match self.hub.session(address) {
            Ok(session) => session,
            Err(error) if matches!(error.status, Status::InvalidArgument | Status::PermissionDenied) => {
                return Tried::Over(error, false);
            }
            Err(error) => {
                let pause = self.hub.not_before(address).unwrap_or(PAUSE).min(PAUSE);
                return Tried::Again(error, pause);
            }
        };
        let call = Outgoing { timeout: left, ..*call };
        let submitted = request(session.id(), &call, Some(once)).and_then(|request| self.hub.submit(request));
        let id = match submitted {
            Ok(id) => id,
            Err(error) if matches!(error.status, Status::StaleHandle | Status::QueueFull) => {
                return Tried::Again(error, Duration::from_millis(1));
            }
            Err(error) => return Tried::Over(error, false),
        };
        let done = match self.hub.finish(id) {
            Ok(done) => done,
            Err(error) => return Tried::Over(error, false),
        };
        let Some(error) = failure(&done) else { return Tried::Answered(done) };
        match error.status {
            Status::QueueFull | Status::Busy => {
                *sent |= error.status == Status::Busy;
                let pause = Duration::from_micros(u64::try_from(done.detail).unwrap_or(0));
                Tried::Again(error, pause.clamp(Duration::from_micros(50), PAUSE))
            }
            Status::ConnectionLost | Status::Unreachable | Status::TimedOut | Status::WrongState => {
                // A session that ended while the call was on its way.
                let wrong_number = error.status == Status::WrongState && !*sent;
                *sent = true;
                if wrong_number {
                    Tried::Over(error, false)
                } else {
                    Tried::Again(error, Duration::from_millis(1))
                }
            }
            // The session was closed under it.
            Status::Canceled if session.state() != SessionState::Open => {
                *sent = true;
                Tried::Again(error, Duration::from_millis(1))
            }
            // The peer's handler gave it up, or failed: that is its answer.
            Status::Canceled | Status::Internal => Tried::Over(error, true),
            // Refused before it ran.
            _ => Tried::Over(error, false),
        }
    }
}
