//! What is below a worker. Streams: one for each peer over TCP that has them too. UCX workers: one for each set of
//! network devices, and one for each peer on this host. UCX's shared memory has one queue a worker, and a process that is
//! killed while it writes to it blocks it for ever; so each peer writes to its own, which goes when the peer does.

mod carrier;
mod streams;
mod token;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::engine::buffer::Span;
use crate::engine::context::Context;
use crate::engine::control::Notice;
use crate::engine::fabric::FabricKey;
use crate::engine::inbox::Inbox;
use crate::engine::ring::{RingReader, RingWriter};
use crate::engine::slots::Slots;
use crate::limits::{self, COMPACT_FRAME};
use crate::status::{Error, Result, Status};
use crate::ucx::{self, EndpointId, Message, UcsStatus};

use self::carrier::Carrier;
pub(super) use self::carrier::Endpoint;
use self::streams::Streams;
pub(super) use self::token::Token;

/// Whether UCX still holds something of what was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Started {
    /// It has ended well.
    Done,
    /// An [`Ended`] will follow.
    Pending,
}

/// The end of what was pending.
pub(super) struct Ended {
    pub token: Token,
    pub kind: ucx::Kind,
    pub status: std::result::Result<(), UcsStatus>,
    pub value: u64,
    /// CRC-32C of what came, where somebody wanted it.
    pub sum: Option<u32>,
}

struct Fabric {
    key: FabricKey,
    carrier: Carrier,
    /// Of a peer's own: where its short frames come in, and where ours go out.
    reader: Option<RingReader>,
    writer: Option<RingWriter>,
    /// Endpoints of silent peers, to be closed when UCX says that they failed.
    abandoned: Vec<EndpointId>,
}

/// A fabric whose only peer was lost: it goes when UCX has let go of everything, or the peer's process has ended.
pub(super) struct Leaving {
    pub fabric: u64,
    /// The peer's.
    pub process: Option<Arc<OwnedFd>>,
    /// Operations that UCX may hold something of.
    pub ops: Vec<u64>,
    /// The same of `Core::incoming`.
    pub incoming: Vec<u64>,
}

impl Leaving {
    fn is_process_gone(&self) -> bool {
        let Some(process) = &self.process else { return false };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)), Ok(1))
    }
}

/// What carries frames, by fabric, and the epoll set that all of it and the inbox ring.
pub(super) struct Fabrics {
    list: Slots<Fabric>,
    streams: Streams,
    leaving: Vec<Leaving>,
    epoll: OwnedFd,
    /// Ends the sleep of somebody who waits on the epoll set and knows no deadline of ours.
    alarm: OwnedFd,
    alarmed: bool,
    /// A callback of UCX met a defect, or the process has forked.
    pub defect: bool,
}

impl Fabrics {
    pub fn new(inbox: &Inbox<Notice>) -> Result<Fabrics> {
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Error::os("epoll_create", &e.into()))?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(|e| Error::os("timerfd_create", &e.into()))?;
        let fabrics = Fabrics {
            list: Slots::new(),
            streams: Streams::default(),
            leaving: Vec::new(),
            epoll,
            alarm,
            alarmed: false,
            defect: false,
        };
        fabrics.watch(inbox.fd())?;
        fabrics.watch(fabrics.alarm.as_fd())?;
        Ok(fabrics)
    }

    fn watch(&self, fd: BorrowedFd<'_>) -> Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
            .map_err(|errno| Error::os("epoll_ctl", &errno.into()))
    }

    /// The fabric at a place, for going through all of them while some come and go.
    #[inline]
    pub fn at(&self, place: u32) -> Option<u64> {
        self.list.id_at(place)
    }

    /// Places that were ever taken.
    #[inline]
    pub fn places(&self) -> u32 {
        self.list.places()
    }

    /// The UCX worker for a peer: its own on this host, else that of the network devices.
    pub fn open(&mut self, context: &Context, key: &FabricKey) -> Result<u64> {
        let of_ucx = |fabric: &Fabric| fabric.ucx().is_some();
        let alike = self.list.ids(|fabric| of_ucx(fabric) && fabric.key.is_shared() == key.is_shared());
        let known = alike.iter().find(|id| self.list.get(**id).is_some_and(|fabric| fabric.key == *key));
        let (limit, advice) = match (key.is_shared(), known) {
            (false, Some(known)) => return Ok(*known),
            (false, None) => (limits::FABRICS, "too many sets of network devices: name the devices to use"),
            (true, _) => (limits::LOCAL_PEERS, "too many peers on this host: open another worker"),
        };
        if alike.len() >= limit {
            return Err(Error::new(Status::LimitReached, advice));
        }
        let mut worker: Box<ucx::Worker<Span>> = Box::new(ucx::Worker::new(context.fabric(key)?)?);
        // Armed or not, an epoll set never reads: only whoever sleeps arms.
        self.watch(worker.event_source()?)?;
        worker.progress()?;
        let (reader, writer, abandoned) = (None, None, Vec::new());
        let carrier = Carrier::Ucx(worker);
        Ok(self.list.insert(Fabric { key: key.clone(), carrier, reader, writer, abandoned }))
    }

    /// Whether a fabric is a peer's own.
    pub fn is_own(&self, fabric: u64) -> bool {
        self.list.get(fabric).is_some_and(|fabric| fabric.key.is_shared() || fabric.stream().is_some())
    }

    /// Makes a ring for the short frames of a fabric's only peer: what that one needs to write to it.
    pub fn open_ring(&mut self, fabric: u64) -> Result<[OwnedFd; 2]> {
        let (reader, ends) = RingReader::new()?;
        self.watch(reader.bell())?;
        self.of(fabric)?.reader = Some(reader);
        Ok(ends)
    }

    /// Sends short frames by the peer's ring from now on.
    pub fn join_ring(&mut self, fabric: u64, ends: [OwnedFd; 2]) -> Result<()> {
        self.of(fabric)?.writer = Some(RingWriter::new(ends)?);
        Ok(())
    }

    /// The length of the next short frame that came by a ring.
    #[inline]
    pub fn next_short(&mut self, fabric: u64, into: &mut [u8; COMPACT_FRAME]) -> Option<usize> {
        self.list.get_mut(fabric)?.reader.as_mut()?.take(into)
    }

    /// Lets a peer's own fabric go, as soon as may be.
    pub fn leave(&mut self, leaving: Leaving) {
        if let Some(process) = &leaving.process {
            // Its end is to end a sleep. Without it the next nap does.
            let _ = self.watch(process.as_fd());
        }
        self.leaving.push(leaving);
    }

    /// Frees what was left. UCX holds nothing any more of the operations that are returned.
    pub fn sweep(&mut self) -> Vec<Leaving> {
        let mut gone = Vec::new();
        for leaving in std::mem::take(&mut self.leaving) {
            let Some(fabric) = self.list.get(leaving.fabric) else { continue };
            let dead = leaving.is_process_gone();
            if !dead && fabric.is_in_use() {
                self.leaving.push(leaving);
                continue;
            }
            if let Some(process) = &leaving.process {
                let _ = epoll::delete(&self.epoll, process);
            }
            if let Some(fabric) = self.list.remove(leaving.fabric) {
                let _ = fabric.reader.as_ref().map(|reader| epoll::delete(&self.epoll, reader.bell()));
                match fabric.carrier {
                    Carrier::Stream(_) => self.streams.count -= 1,
                    Carrier::Ucx(worker) => {
                        let _ = worker.event_source().map(|source| epoll::delete(&self.epoll, source));
                        if dead { worker.bereave() } else { drop(worker) }
                    }
                }
                gone.push(leaving);
            }
        }
        gone
    }

    /// Whether some fabric is waiting to go.
    #[inline]
    pub fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    pub fn key(&self, fabric: u64) -> Option<&FabricKey> {
        self.list.get(fabric).map(|fabric| &fabric.key)
    }

    fn of(&mut self, fabric: u64) -> Result<&mut Fabric> {
        let gone = || Error::new(Status::ConnectionLost, "the peer is gone");
        self.list.get_mut(fabric).ok_or_else(gone)
    }

    pub fn address(&mut self, fabric: u64) -> Result<Vec<u8>> {
        let address = self.worker(fabric)?.address()?;
        if address.len() > limits::WORKER_ADDRESS {
            return Err(Error::new(Status::LimitReached, "UCX has too many devices: name the ones to use"));
        }
        Ok(address)
    }

    pub fn connect(&mut self, fabric: u64, address: &[u8]) -> Result<Endpoint> {
        self.worker(fabric)?.endpoint(address).map(Endpoint::Ucx)
    }

    /// Closes an endpoint by force: everything on it ends soon.
    pub fn disconnect(&mut self, fabric: u64, endpoint: Endpoint) {
        let Some(of) = self.list.get_mut(fabric) else { return };
        let closed = match (&mut of.carrier, endpoint) {
            (Carrier::Ucx(worker), Endpoint::Ucx(id)) => {
                worker.close(id, ucx::Close::Force, Token::Frame.pack()).map(drop)
            }
            (Carrier::Stream(stream), Endpoint::Stream) => {
                stream.close();
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = closed {
            tracing::debug!(%error, "endpoint close");
        }
    }

    /// Ends an endpoint whose peer is lost. With bytes that TCP has not taken it stays until UCX notices too, which is
    /// at once for a process that died: UCX 1.13 frees a connection that is closed by force under unsent bytes, and
    /// uses it once more when a peer that was stopped or cut off comes back.
    pub fn abandon(&mut self, fabric: u64, endpoint: Endpoint) {
        let Some(of) = self.list.get_mut(fabric) else { return };
        match (of.ucx(), endpoint) {
            (Some(worker), Endpoint::Ucx(id)) if !of.key.is_shared() && worker.in_flight_on(id) > 0 => {
                of.abandoned.push(id);
            }
            _ => self.disconnect(fabric, endpoint),
        }
    }

    /// Whether some endpoint was abandoned and UCX has not noticed yet.
    pub fn has_abandoned(&self) -> bool {
        self.list.any(|fabric| !fabric.abandoned.is_empty())
    }

    /// Closes an abandoned endpoint that has failed; `false` for others.
    pub fn bury(&mut self, fabric: u64, endpoint: EndpointId) -> bool {
        let Some(of) = self.list.get_mut(fabric) else { return false };
        let abandoned = &mut of.abandoned;
        let Some(at) = abandoned.iter().position(|one| *one == endpoint) else { return false };
        abandoned.swap_remove(at);
        self.disconnect(fabric, Endpoint::Ucx(endpoint));
        true
    }

    /// Makes UCX go on; whether there is something to take, or UCX is busy.
    #[inline]
    pub fn progress(&mut self, fabric: u64) -> bool {
        let Some(worker) = self.list.get_mut(fabric).and_then(Fabric::ucx_mut) else { return false };
        match worker.progress() {
            Ok(events) => events > 0 || worker.has_news(),
            Err(error) => {
                tracing::error!(%error, "UCX makes no progress");
                self.defect = true;
                false
            }
        }
    }

    #[inline]
    pub fn next_message(&mut self, fabric: u64, message: &mut Message) -> bool {
        self.list
            .get_mut(fabric)
            .and_then(Fabric::ucx_mut)
            .is_some_and(|worker| worker.next_message_into(message))
    }

    /// Whether something has ended that was not taken.
    #[inline]
    pub fn has_ends(&self, fabric: u64) -> bool {
        self.list.get(fabric).and_then(Fabric::ucx).is_some_and(ucx::Worker::has_ends)
    }

    #[inline]
    pub fn next_completed(&mut self, fabric: u64) -> Option<Ended> {
        let done = self.list.get_mut(fabric)?.ucx_mut()?.next_completed()?;
        Some(Ended {
            token: Token::unpack(done.token),
            kind: done.kind,
            status: done.status,
            value: done.value,
            sum: None,
        })
    }

    #[inline]
    pub fn next_failure(&mut self, fabric: u64) -> Option<(EndpointId, UcsStatus)> {
        self.list.get_mut(fabric)?.ucx_mut()?.next_failure()
    }

    /// The UCX worker itself, for remote memory access.
    pub fn worker(&mut self, fabric: u64) -> std::result::Result<&mut ucx::Worker<Span>, Status> {
        self.list.get_mut(fabric).and_then(Fabric::ucx_mut).ok_or(Status::ConnectionLost)
    }

    /// Asks every fabric for a wake-up; `false` if one has work to do first.
    pub fn arm(&mut self) -> Result<bool> {
        if !self.arm_streams()? {
            return Ok(false);
        }
        self.list.values_mut().try_fold(true, |armed, fabric| {
            let Some(worker) = fabric.ucx_mut() else { return Ok(armed) };
            let quiet = armed && worker.arm()?;
            Ok(quiet && fabric.reader.as_mut().is_none_or(RingReader::arm))
        })
    }

    /// Whoever slept is awake: nobody needs to ring.
    pub fn disarm(&mut self) {
        self.list.values_mut().filter_map(|fabric| fabric.reader.as_mut()).for_each(RingReader::disarm);
    }

    /// Sleeps until something rings.
    pub fn wait(&self, limit: Option<Duration>) -> Result<()> {
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 4];
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match epoll::wait(&self.epoll, &mut events[..], limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::os("epoll_wait", &errno.into())),
        }
    }

    /// Sets the alarm, or makes it quiet.
    pub fn ring_in(&mut self, after: Option<Duration>) -> Result<()> {
        if after.is_none() && !self.alarmed {
            return Ok(());
        }
        self.alarmed = after.is_some();
        let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would switch it off.
        let after = after.and_then(|after| Timespec::try_from(after.max(Duration::from_nanos(1))).ok());
        let setting = Itimerspec { it_interval: nothing, it_value: after.unwrap_or(nothing) };
        let set = timerfd_settime(&self.alarm, TimerfdTimerFlags::empty(), &setting);
        set.map(drop).map_err(|errno| Error::os("timerfd_settime", &errno.into()))
    }

    /// The epoll set, for somebody else's.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        self.epoll.try_clone().map_err(|error| Error::os("dup", &error))
    }

    /// Lets go of UCX.
    pub fn shut(&mut self) {
        self.sweep();
        self.leaving.clear();
        self.list = Slots::new();
    }
}

/// Who was connected and cannot be reached any more is lost.
pub(super) fn lost_status(status: Status) -> Status {
    if status == Status::Unreachable { Status::ConnectionLost } else { status }
}

/// What became of a call, without its memory: the span that comes back is dropped here.
pub(super) fn started<M>(outcome: ucx::Started<M>) -> std::result::Result<Started, Status> {
    match outcome {
        ucx::Started::Done(_) => Ok(Started::Done),
        ucx::Started::Pending => Ok(Started::Pending),
        ucx::Started::Failed(error, _) => Err(lost_status(error.status)),
    }
}
