//! Non-blocking stream sockets, and what we set on them.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getpeername,
    getsockname, listen, socket_with, sockopt,
};

use super::link::Credentials;

/// Connections that the kernel keeps for us until we accept.
const BACKLOG: i32 = 1_024;

/// What to connect to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(SocketAddrUnix),
}

impl Target {
    pub fn path(path: &Path) -> rustix::io::Result<Target> {
        Ok(Target::Unix(SocketAddrUnix::new(path)?))
    }

    pub fn local(name: &[u8]) -> rustix::io::Result<Target> {
        Ok(Target::Unix(SocketAddrUnix::new_abstract_name(name)?))
    }
}

/// How far a connect came.
#[derive(Debug)]
pub(super) enum Connecting {
    /// Done.
    Done(OwnedFd),
    /// Writable when done; then ask [`connect_result`].
    Pending(OwnedFd),
    /// The peer's backlog is full: try again a little later.
    Busy,
}

/// Begins to connect; `here`: to this host, without pacing.
pub(super) fn start_connect(target: &Target, here: bool) -> rustix::io::Result<Connecting> {
    let family = match target {
        Target::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
        Target::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
        Target::Unix(_) => AddressFamily::UNIX,
    };
    let socket = stream(family)?;
    if here {
        leave_unpaced(&socket);
    }
    let result = match target {
        Target::Tcp(addr) => connect(&socket, addr),
        Target::Unix(addr) => connect(&socket, addr),
    };
    match result {
        Ok(()) => Ok(Connecting::Done(socket)),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(Connecting::Pending(socket)),
        Err(Errno::AGAIN) => Ok(Connecting::Busy),
        Err(errno) => Err(errno),
    }
}

/// What became of a pending connect, once its socket is writable.
pub(super) fn connect_result(socket: &OwnedFd) -> rustix::io::Result<()> {
    sockopt::socket_error(socket)?
}

/// Small messages at once; a dead host is noticed by the kernel too.
pub(super) fn tune_tcp(socket: &OwnedFd, keepalive: Duration) -> rustix::io::Result<()> {
    let second = Duration::from_secs(1);
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, keepalive.max(second))?;
    sockopt::set_tcp_keepintvl(socket, second)?;
    sockopt::set_tcp_keepcnt(socket, 3)?;
    sockopt::set_tcp_user_timeout(socket, u32::try_from(keepalive.as_millis()).unwrap_or(u32::MAX))
}

/// A stream's: small frames at once. Whether the peer lives is seen at the control connection; a receiver that does not
/// read for a while, because its owner computes, must not end it.
pub(super) fn tune_stream(socket: &OwnedFd) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_tcp_user_timeout(socket, 0)
}

/// Paces nothing and knows no timers; every kernel has it.
const UNPACED: &str = "reno";

/// BBR, a common default, paces with timers, which halves what a host moves to itself. A socket that was connected with it is
/// paced for good, whatever it is given later, so that it must not have it even once: those that are accepted get what their
/// listener has. Where this is not allowed, the default stays.
fn leave_unpaced(socket: &OwnedFd) {
    let _ = sockopt::set_tcp_congestion(socket, UNPACED);
}

/// Gives a socket that was accepted from another host the congestion control that it would have had.
pub(super) fn restore_congestion(socket: &OwnedFd) -> rustix::io::Result<()> {
    if stays_here(addresses(socket)) || sockopt::tcp_congestion(socket)? != UNPACED {
        return Ok(());
    }
    let default = sockopt::tcp_congestion(stream(AddressFamily::INET)?)?;
    if default == UNPACED { Ok(()) } else { sockopt::set_tcp_congestion(socket, &default) }
}

/// Whether both ends have one address: nothing between them can be congested.
pub(super) fn stays_here(ends: (Option<SocketAddr>, Option<SocketAddr>)) -> bool {
    matches!(ends, (Some(ours), Some(theirs)) if ours.ip() == theirs.ip())
}

/// A listening TCP socket.
pub(super) fn listen_tcp(addr: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = stream(family)?;
    // Without it a restarted server waits for the old connections' TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    leave_unpaced(&socket);
    bind(&socket, &addr)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A listening Unix socket that only its owner may connect to (abstract ones have no mode).
pub(super) fn listen_unix(addr: &SocketAddrUnix) -> rustix::io::Result<OwnedFd> {
    let socket = stream(AddressFamily::UNIX)?;
    // The file that bind makes takes its mode from the socket: never open to others, not even for a moment.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
    bind(&socket, addr)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Our address and the peer's, of a TCP socket.
pub(super) fn addresses(socket: &OwnedFd) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let ip = |addr: SocketAddrAny| SocketAddr::try_from(addr).ok();
    (getsockname(socket).ok().and_then(ip), getpeername(socket).ok().flatten().and_then(ip))
}

/// Who connected to, or listens on, a Unix socket.
pub(super) fn credentials(socket: &OwnedFd) -> Option<Credentials> {
    let cred = sockopt::socket_peercred(socket).ok()?;
    Some(Credentials {
        pid: rustix::process::Pid::as_raw(Some(cred.pid)).cast_unsigned(),
        uid: cred.uid.as_raw(),
        gid: cred.gid.as_raw(),
    })
}

fn stream(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::net::accept;

    fn dialled(to: SocketAddr, here: bool) -> OwnedFd {
        match start_connect(&Target::Tcp(to), here).unwrap() {
            Connecting::Done(socket) | Connecting::Pending(socket) => socket,
            Connecting::Busy => panic!("nobody else dials it"),
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn what_stays_on_the_host_is_never_paced() {
        let allowed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control");
        let allowed = allowed.is_ok_and(|names| names.split_whitespace().any(|name| name == UNPACED));
        let default = sockopt::tcp_congestion(stream(AddressFamily::INET).unwrap()).unwrap();
        let expected = if allowed { UNPACED } else { &default };
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = listen_tcp(address.parse().unwrap()) else { continue };
            // Also who accepts: what it was given after it was connected would not help.
            assert_eq!(sockopt::tcp_congestion(&listener).unwrap(), expected, "{address}");
            let to = addresses(&listener).0.unwrap();
            let ours = dialled(to, true);
            wait(&listener);
            let theirs = accept(&listener).unwrap();
            restore_congestion(&theirs).unwrap();
            for socket in [ours, theirs] {
                assert_eq!(sockopt::tcp_congestion(&socket).unwrap(), expected, "{address}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn what_comes_from_elsewhere_has_the_default() {
        let default = sockopt::tcp_congestion(stream(AddressFamily::INET).unwrap()).unwrap();
        // All of 127/8 is this host's, but the two ends have different addresses.
        let listener = listen_tcp("127.0.0.2:0".parse().unwrap()).unwrap();
        let elsewhere = stream(AddressFamily::INET).unwrap();
        bind(&elsewhere, &"127.0.0.3:0".parse::<SocketAddr>().unwrap()).unwrap();
        let to = addresses(&listener).0.unwrap();
        assert!(matches!(connect(&elsewhere, &to), Ok(()) | Err(Errno::INPROGRESS)));
        wait(&listener);
        let theirs = accept(&listener).unwrap();
        restore_congestion(&theirs).unwrap();
        assert_eq!(sockopt::tcp_congestion(&theirs).unwrap(), default);
        assert_eq!(sockopt::tcp_congestion(dialled(to, false)).unwrap(), default);
    }

    fn wait(socket: &OwnedFd) {
        let mut ready = [PollFd::new(socket, PollFlags::IN)];
        assert_eq!(poll(&mut ready, None).unwrap(), 1);
    }
}
