//! The streams among the fabrics: each is a fabric of its own, with one peer. A few are read again and again while
//! somebody waits, and epoll watches them from the first sleep on: telling it of every segment that comes costs the
//! sender. Of many, epoll says which have something.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};

use super::{Carrier, Ended, Endpoint, Fabric, Fabrics, Token};
use crate::engine::fabric::FabricKey;
use crate::engine::stream::{End, Interest, Payload, Stream};
use crate::limits::COMPACT_FRAME;
use crate::status::{Error, Result, Status};
use crate::ucx::{Kind, UcsStatus};

/// Streams that are read without asking epoll: an empty read costs as much as the question.
const FEW: usize = 2;
const MANY: usize = FEW + 1;

/// Streams that epoll names at a time; the others come first the next time.
const NAMED: usize = 64;

/// What all streams of a worker share.
#[derive(Default)]
pub(super) struct Streams {
    /// An epoll set of them alone, within that of the worker.
    epoll: Option<OwnedFd>,
    pub count: usize,
    /// Those that have something to read, when there are many.
    ready: Vec<u64>,
    /// Whether one that had its turn did nothing but wait for room.
    clogged: bool,
    /// Those that were given frames since the last flush.
    touched: Vec<u64>,
}

impl Streams {
    /// A stream was given a frame.
    #[inline]
    pub fn touch(&mut self, fabric: u64) {
        if self.touched.last() != Some(&fabric) {
            self.touched.push(fabric);
        }
    }
}

fn failed(errno: rustix::io::Errno) -> Error {
    Error::os("epoll", &errno.into())
}

/// `few`: told once, for a sleeper.
fn flags(interest: Interest, few: bool) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    flags.set(epoll::EventFlags::ONESHOT, few);
    flags.set(epoll::EventFlags::IN, interest.read);
    flags.set(epoll::EventFlags::OUT, interest.write);
    flags
}

impl Fabrics {
    /// A fabric for the only peer of a connected socket.
    pub fn open_stream(&mut self, socket: OwnedFd, came: Vec<u8>) -> Result<(u64, Endpoint)> {
        if self.streams.epoll.is_none() {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
            self.watch(epoll.as_fd())?;
            self.streams.epoll = Some(epoll);
        }
        let (reader, writer, abandoned) = (None, None, Vec::new());
        let carrier = Carrier::Stream(Box::new(Stream::new(socket, came)));
        let fabric =
            self.list.insert(Fabric { key: FabricKey::stream(), carrier, reader, writer, abandoned });
        self.streams.count += 1;
        let added = match (&self.streams.epoll, self.list.get(fabric).and_then(Fabric::stream)) {
            (Some(epoll), Some(stream)) => stream.socket().map_or(Ok(()), |socket| {
                let nothing = flags(Interest { read: false, write: false }, false);
                epoll::add(epoll, socket, epoll::EventData::new_u64(fabric), nothing)
            }),
            _ => Ok(()),
        };
        let watched = added.map_err(failed).and_then(|()| self.watch_many(fabric));
        if let Err(error) = watched {
            self.list.remove(fabric);
            self.streams.count -= 1;
            return Err(error);
        }
        Ok((fabric, Endpoint::Stream))
    }

    /// From a certain number of streams on epoll watches all of them, all the time: those there were, and the new one.
    fn watch_many(&mut self, new: u64) -> Result<()> {
        let watched = match self.streams.count {
            0..=FEW => return Ok(()),
            MANY => self.list.ids(|fabric| fabric.stream().is_some()),
            _ => vec![new],
        };
        watched.into_iter().try_for_each(|fabric| self.watch_stream(fabric, true))
    }

    /// Tells epoll what a stream waits for; unless `always`, only if that is something else than before.
    fn watch_stream(&mut self, fabric: u64, always: bool) -> Result<()> {
        let few = self.streams.count <= FEW;
        let stream = self.list.get_mut(fabric).and_then(Fabric::stream_mut);
        let (Some(epoll), Some(stream)) = (&self.streams.epoll, stream) else { return Ok(()) };
        let Some((socket, interest)) = stream.interest(always || few, few) else { return Ok(()) };
        let data = epoll::EventData::new_u64(fabric);
        epoll::modify(epoll, socket, data, flags(interest, few)).map_err(failed)
    }

    /// Whether a fabric is a stream.
    #[inline]
    pub fn is_stream(&self, fabric: u64) -> bool {
        self.list.get(fabric).is_some_and(|fabric| fabric.stream().is_some())
    }

    /// Finds out which streams have something to read, when there are many.
    #[inline]
    pub fn look(&mut self) {
        if self.streams.count > FEW {
            self.ask();
        }
    }

    fn ask(&mut self) {
        let Some(epoll) = &self.streams.epoll else { return };
        let nothing = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [nothing; NAMED];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = epoll::wait(epoll, &mut events[..], Some(&now)).unwrap_or(0);
        self.streams.ready.clear();
        self.streams.ready.extend(events[..count].iter().map(|event| {
            let data = event.data;
            data.u64()
        }));
    }

    /// Begins a turn of a stream: sends, and lets it receive.
    pub fn begin_turn(&mut self, fabric: u64) {
        let ready = self.streams.count <= FEW || self.streams.ready.contains(&fabric);
        if let Some(stream) = self.stream(fabric) {
            stream.begin_turn(ready);
        }
    }

    /// Ends a turn: what it made us say is sent. Whether bytes moved.
    pub fn end_turn(&mut self, fabric: u64) -> bool {
        let Some(stream) = self.stream(fabric) else { return false };
        stream.flush();
        let (moved, busy) = (stream.has_moved(), stream.is_busy());
        self.streams.clogged = !moved && busy;
        moved
    }

    #[inline]
    fn stream(&mut self, fabric: u64) -> Option<&mut Stream> {
        self.list.get_mut(fabric)?.stream_mut()
    }

    /// The next frame that came by a stream.
    #[inline]
    pub fn next_streamed(
        &mut self,
        fabric: u64,
        into: &mut [u8; COMPACT_FRAME],
    ) -> Option<(usize, Option<Payload>)> {
        self.stream(fabric)?.next(into)
    }

    /// The next thing that has ended on a stream.
    #[inline]
    pub fn next_stream_end(&mut self, fabric: u64) -> Option<Ended> {
        let ended = self.stream(fabric)?.next_ended()?;
        let kind = if ended.received { Kind::Receive } else { Kind::Send };
        let sum = if let End::Counted(sum) = ended.end { Some(sum) } else { None };
        let status = match ended.end {
            End::Good | End::Counted(_) => Ok(()),
            End::Lost => Err(UcsStatus::CONNECTION_RESET),
            End::Spoiled => Err(UcsStatus::IO_ERROR),
        };
        Some(Ended { token: Token::unpack(ended.token), kind, status, value: 0, sum })
    }

    /// Why a stream has ended, once.
    #[inline]
    pub fn stream_failure(&mut self, fabric: u64) -> Option<Status> {
        self.stream(fabric)?.take_failure()
    }

    /// Sends what streams were given. Whoever gave it calls this, at the latest when it lets others go on.
    #[inline]
    pub fn flush(&mut self) {
        while let Some(fabric) = self.streams.touched.pop() {
            if let Some(stream) = self.stream(fabric) {
                stream.flush();
            }
        }
    }

    /// Whether the only stream there is waits for room, and did nothing in its last turn.
    #[inline]
    pub fn is_clogged(&self) -> bool {
        self.streams.count == 1 && self.streams.clogged
    }

    /// Has epoll ring for what the streams wait for; `false`: one has something to do first.
    pub(super) fn arm_streams(&mut self) -> Result<bool> {
        if self.streams.count == 0 {
            return Ok(true);
        }
        for fabric in self.list.ids(|fabric| fabric.stream().is_some()) {
            let Some(stream) = self.stream(fabric) else { continue };
            stream.flush();
            if stream.has_ended() {
                return Ok(false);
            }
            self.watch_stream(fabric, false)?;
        }
        Ok(true)
    }
}
