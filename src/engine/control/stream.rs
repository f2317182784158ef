//! Connections that carry a path's frames and nothing else. Who accepted the link told a ticket over it; who dialled
//! connects to the same listener once more and shows it; then both ends leave the control thread.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::net::{SendFlags, send};

use super::command::tell;
use super::conn::{Conn, Interest};
use super::link::Link;
use super::message::{Message, TICKET};
use super::notice::{Notice, Notices};
use super::reactor::{Part, Reactor, Timer, Token};
use super::socket::{self, Connecting, Target};
use crate::status::{Error, Status};

/// Who gets a stream.
struct Receiver {
    link: Arc<Link>,
    route: u32,
    inbox: Arc<Notices>,
}

/// A stream that we dial.
struct Dialled {
    receiver: Receiver,
    socket: OwnedFd,
    /// What is said first.
    words: Vec<u8>,
    timer: Timer,
}

/// Streams that are not there yet.
#[derive(Default)]
pub(super) struct Streams {
    expected: HashMap<[u8; TICKET], Receiver>,
    dialled: HashMap<u32, Dialled>,
}

impl Streams {
    /// The link is lost: nobody waits for its streams any more.
    pub fn forget(&mut self, link: &Arc<Link>) {
        self.expected.retain(|_, receiver| !Arc::ptr_eq(&receiver.link, link));
    }
}

impl Receiver {
    fn give(self, socket: OwnedFd, input: Vec<u8>) {
        let Receiver { link, route, inbox } = self;
        tell(&inbox, Notice::Stream { link, route, socket, input });
    }

    fn fail(self, error: Error) {
        let Receiver { link, route, inbox } = self;
        tell(&inbox, Notice::StreamFailed { link, route, error });
    }
}

impl Reactor {
    pub(super) fn expect_stream(
        &mut self,
        link: Arc<Link>,
        route: u32,
        inbox: Arc<Notices>,
        ticket: [u8; TICKET],
    ) {
        // Of one path the last ticket counts, so that a link has no more of them than workers have routes.
        self.streams.expected.retain(|_, known| !(Arc::ptr_eq(&known.link, &link) && known.route == route));
        self.streams.expected.insert(ticket, Receiver { link, route, inbox });
    }

    /// A connection has shown a ticket. One that we do not know is closed without a word.
    pub(super) fn take_stream(&mut self, mut conn: Conn, ticket: &[u8; TICKET]) {
        let Some(receiver) = self.streams.expected.remove(ticket) else {
            self.core.shared.counters.garbage.add(1);
            tracing::debug!("dropped a connection with a ticket that nobody waits for");
            return;
        };
        self.core.unwatch(&mut conn);
        let (socket, input) = conn.into_parts();
        match socket::tune_stream(&socket) {
            Ok(()) => receiver.give(socket, input),
            Err(errno) => receiver.fail(lost("a stream that was accepted", errno)),
        }
    }

    /// Dials a stream and shows the ticket there.
    pub(super) fn open_stream(
        &mut self,
        link: Arc<Link>,
        route: u32,
        inbox: Arc<Notices>,
        ticket: &[u8; TICKET],
    ) {
        let (to, here) = (link.peer_addr(), socket::stays_here((link.local_addr(), link.peer_addr())));
        let receiver = Receiver { link, route, inbox };
        let started = Message::Stream { ticket: *ticket }.encode().and_then(|words| {
            let to =
                to.ok_or_else(|| Error::new(Status::Internal, "a stream to a peer without an address"))?;
            let connecting = socket::start_connect(&Target::Tcp(to), here);
            Ok((words, connecting.map_err(|errno| lost("connect a stream", errno))?))
        });
        match started {
            Ok((words, Connecting::Done(socket))) => begin(receiver, socket, &words),
            Ok((words, Connecting::Pending(socket))) => self.wait_for_stream(receiver, socket, words),
            Ok((_, Connecting::Busy)) => receiver.fail(Status::Unreachable.into()),
            Err(error) => receiver.fail(error),
        }
    }

    fn wait_for_stream(&mut self, receiver: Receiver, socket: OwnedFd, words: Vec<u8>) {
        let id = self.core.fresh_id(|id| self.streams.dialled.contains_key(&id));
        let token = Token::new(Part::Stream, id);
        let wanted = Interest { token, read: false, write: true };
        if let Err(error) = self.core.watch_socket(&socket, wanted, false) {
            return receiver.fail(error);
        }
        let mut timer = Timer::default();
        self.core.arm(&mut timer, token, Instant::now() + self.core.shared.config.connect_timeout);
        self.streams.dialled.insert(id, Dialled { receiver, socket, words, timer });
    }

    /// A stream that was dialled is connected, or cannot be.
    pub(super) fn on_stream(&mut self, id: u32) {
        let Some(dialled) = self.take_dialled(id) else { return };
        match socket::connect_result(&dialled.socket) {
            Ok(()) => begin(dialled.receiver, dialled.socket, &dialled.words),
            Err(errno) => dialled.receiver.fail(lost("connect a stream", errno)),
        }
    }

    pub(super) fn on_stream_timer(&mut self, id: u32) {
        let Some(dialled) = self.take_dialled(id) else { return };
        dialled.receiver.fail(Error::new(Status::TimedOut, "the peer does not take a second connection"));
    }

    fn take_dialled(&mut self, id: u32) -> Option<Dialled> {
        let mut dialled = self.streams.dialled.remove(&id)?;
        self.core.disarm(&mut dialled.timer, Token::new(Part::Stream, id));
        self.core.unwatch_socket(&dialled.socket);
        Some(dialled)
    }
}

/// Says the first words, which a new connection takes at once.
fn begin(receiver: Receiver, socket: OwnedFd, words: &[u8]) {
    let said = socket::tune_stream(&socket)
        .and_then(|()| send(&socket, words, SendFlags::NOSIGNAL | SendFlags::DONTWAIT));
    match said {
        Ok(count) if count == words.len() => receiver.give(socket, Vec::new()),
        Ok(_) => receiver.fail(Error::new(Status::ConnectionLost, "a stream took half of its first words")),
        Err(errno) => receiver.fail(lost("begin a stream", errno)),
    }
}

fn lost(what: &str, errno: rustix::io::Errno) -> Error {
    Error { status: Status::ConnectionLost, ..Error::os(what, &errno.into()) }
}
