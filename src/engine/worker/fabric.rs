//! The UCX workers below a worker, one for each fabric in use: shared memory, and each set of network devices.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::engine::buffer::Span;
use crate::engine::context::Context;
use crate::engine::control::Notice;
use crate::engine::fabric::FabricKey;
use crate::engine::inbox::Inbox;
use crate::limits;
use crate::status::{Error, Result, Status};
use crate::ucx::{self, Data, EndpointId, Message, Protocol, UcsStatus};

/// What an operation of UCX was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// An operation in flight; its id.
    Op(u64),
    /// A flush of the endpoint for an operation; its id.
    Flushed(u64),
    /// Bytes on their way into a buffer; an id of `Core::incoming`.
    Incoming(u64),
    /// A frame of ours that nobody waits for.
    Frame,
    /// A reply with bytes; the peer's id.
    Served(u64),
}

const KIND: u32 = 61;
const ID: u64 = (1 << KIND) - 1;

impl Token {
    /// One number for UCX; ids leave the three highest bits free.
    pub fn pack(self) -> u64 {
        match self {
            Token::Op(id) => id & ID,
            Token::Flushed(id) => 1 << KIND | id & ID,
            Token::Incoming(id) => 2 << KIND | id & ID,
            Token::Served(id) => 3 << KIND | id & ID,
            Token::Frame => 4 << KIND,
        }
    }

    fn unpack(packed: u64) -> Token {
        let id = packed & ID;
        match packed >> KIND {
            0 => Token::Op(id),
            1 => Token::Flushed(id),
            2 => Token::Incoming(id),
            3 => Token::Served(id),
            _ => Token::Frame,
        }
    }
}

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
}

struct Fabric {
    key: FabricKey,
    worker: ucx::Worker<Span>,
    /// Endpoints of silent peers, to be closed when UCX says that they failed.
    abandoned: Vec<EndpointId>,
}

/// UCX workers by fabric, and the epoll set that they and the inbox ring.
pub(super) struct Fabrics {
    list: Vec<Fabric>,
    epoll: OwnedFd,
    /// Ends the sleep of somebody who waits on the epoll set and knows no deadline of ours.
    alarm: OwnedFd,
    alarmed: bool,
}

impl Fabrics {
    pub fn new(inbox: &Inbox<Notice>) -> Result<Fabrics> {
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Error::os("epoll_create", &e.into()))?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(|e| Error::os("timerfd_create", &e.into()))?;
        let fabrics = Fabrics { list: Vec::new(), epoll, alarm, alarmed: false };
        fabrics.watch(inbox.fd())?;
        fabrics.watch(fabrics.alarm.as_fd())?;
        Ok(fabrics)
    }

    fn watch(&self, fd: BorrowedFd<'_>) -> Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
            .map_err(|errno| Error::os("epoll_ctl", &errno.into()))
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The UCX worker of a fabric, made when it is first asked for.
    pub fn open(&mut self, context: &Context, key: &FabricKey) -> Result<usize> {
        if let Some(known) = self.list.iter().position(|fabric| fabric.key == *key) {
            return Ok(known);
        }
        if self.list.len() >= limits::FABRICS {
            return Err(Error::new(
                Status::LimitReached,
                "too many sets of network devices: name the devices to use",
            ));
        }
        let mut worker: ucx::Worker<Span> = ucx::Worker::new(context.fabric(key)?)?;
        // Armed or not, an epoll set never reads: only whoever sleeps arms.
        self.watch(worker.event_source()?)?;
        worker.progress()?;
        self.list.push(Fabric { key: key.clone(), worker, abandoned: Vec::new() });
        Ok(self.list.len() - 1)
    }

    pub fn key(&self, fabric: usize) -> &FabricKey {
        &self.list[fabric].key
    }

    pub fn address(&self, fabric: usize) -> Result<Vec<u8>> {
        let address = self.list[fabric].worker.address()?;
        if address.len() > limits::WORKER_ADDRESS {
            return Err(Error::new(Status::LimitReached, "UCX has too many devices: name the ones to use"));
        }
        Ok(address)
    }

    pub fn connect(&mut self, fabric: usize, address: &[u8]) -> Result<EndpointId> {
        self.list[fabric].worker.endpoint(address)
    }

    /// Closes an endpoint by force: everything on it ends soon.
    pub fn disconnect(&mut self, fabric: usize, endpoint: EndpointId) {
        if let Err(error) = self.list[fabric].worker.close(endpoint, ucx::Close::Force, Token::Frame.pack()) {
            tracing::debug!(%error, "endpoint close");
        }
    }

    /// Ends an endpoint whose peer is lost. With bytes that TCP has not taken it stays until UCX notices too, which is
    /// at once for a process that died: UCX 1.13 frees a connection that is closed by force under unsent bytes, and
    /// uses it once more when a peer that was stopped or cut off comes back.
    pub fn abandon(&mut self, fabric: usize, endpoint: EndpointId) {
        let of = &mut self.list[fabric];
        if of.key.is_shared() || of.worker.in_flight_on(endpoint) == 0 {
            return self.disconnect(fabric, endpoint);
        }
        of.abandoned.push(endpoint);
    }

    /// Whether some endpoint was abandoned and UCX has not noticed yet.
    pub fn has_abandoned(&self) -> bool {
        self.list.iter().any(|fabric| !fabric.abandoned.is_empty())
    }

    /// Closes an abandoned endpoint that has failed; `false` for others.
    pub fn bury(&mut self, fabric: usize, endpoint: EndpointId) -> bool {
        let abandoned = &mut self.list[fabric].abandoned;
        let Some(at) = abandoned.iter().position(|one| *one == endpoint) else { return false };
        abandoned.swap_remove(at);
        self.disconnect(fabric, endpoint);
        true
    }

    pub fn progress(&mut self, fabric: usize) -> bool {
        match self.list[fabric].worker.progress() {
            Ok(events) => events > 0,
            Err(error) => {
                tracing::error!(%error, "UCX makes no progress");
                false
            }
        }
    }

    pub fn next_message(&mut self, fabric: usize) -> Option<Message> {
        self.list[fabric].worker.next_message()
    }

    pub fn next_completed(&mut self, fabric: usize) -> Option<Ended> {
        let done = self.list[fabric].worker.next_completed()?;
        Some(Ended {
            token: Token::unpack(done.token),
            kind: done.kind,
            status: done.status,
            value: done.value,
        })
    }

    pub fn next_failure(&mut self, fabric: usize) -> Option<(EndpointId, UcsStatus)> {
        self.list[fabric].worker.next_failure()
    }

    /// Sends a frame, with bytes beside it or without.
    pub fn send(
        &mut self,
        fabric: usize,
        endpoint: EndpointId,
        frame: &[u8],
        span: Option<Span>,
        token: Token,
    ) -> std::result::Result<Started, Status> {
        started(self.list[fabric].worker.send(endpoint, frame, span, token.pack(), Protocol::Auto))
    }

    /// Fetches what a sender holds.
    pub fn receive(
        &mut self,
        fabric: usize,
        data: Data,
        into: Span,
        token: Token,
    ) -> std::result::Result<Started, Status> {
        let Data::Rendezvous(held) = data else { return Err(Status::Internal) };
        started(self.list[fabric].worker.receive(held, into, token.pack()))
    }

    /// The UCX worker itself, for remote memory access.
    pub fn worker(&mut self, fabric: usize) -> &mut ucx::Worker<Span> {
        &mut self.list[fabric].worker
    }

    /// Asks every fabric for a wake-up; `false` if one has work to do first.
    pub fn arm(&mut self) -> Result<bool> {
        for fabric in &mut self.list {
            if !fabric.worker.arm()? {
                return Ok(false);
            }
        }
        Ok(true)
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
        self.list.clear();
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

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn tokens_survive_the_way_through_ucx() {
        let id = ((1 << 29) - 1) << 32 | 7;
        for token in [Token::Op(id), Token::Flushed(id), Token::Incoming(id), Token::Served(id), Token::Frame]
        {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
