//! [`Sockets`]: the bound sockets of one listener, and the socket file of a Unix one.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use super::hello::Road;
use super::socket::{self, Connecting, Target};
use super::{Address, ControlConfig, Fabric};
use crate::status::{Error, Result, Status};

/// How often a socket file that keeps changing under us is looked at.
const FILE_ATTEMPTS: usize = 8;

/// What one listener listens on. Dropping it closes the sockets and removes the file.
#[derive(Debug)]
pub(super) struct Sockets {
    main: OwnedFd,
    road: Road,
    /// A TCP listener's abstract Unix socket and its name.
    local: Option<(OwnedFd, Vec<u8>)>,
    address: String,
    // Dropped with the sockets.
    _file: Option<SocketFile>,
}

impl Sockets {
    /// Binds `address`; see [`super::Control::listen`].
    pub fn bind(address: &Address, config: &ControlConfig) -> Result<Sockets> {
        match address {
            Address::Tcp(addr) => bind_tcp(*addr, address, config),
            Address::Name(host, port) => {
                let found = (host.as_str(), *port).to_socket_addrs().map(|mut list| list.next());
                match found {
                    Ok(Some(addr)) => bind_tcp(addr, address, config),
                    _ => Err(Error::new(Status::NotFound, format!("host name '{host}' is not known"))),
                }
            }
            Address::Unix(path) => bind_unix(path, address),
        }
    }

    /// The main socket, or the abstract one.
    pub fn of(&self, local: bool) -> Option<(&OwnedFd, Road)> {
        if local {
            self.local.as_ref().map(|(socket, _)| (socket, Road::Unix))
        } else {
            Some((&self.main, self.road))
        }
    }

    /// The abstract socket's name.
    pub fn local_name(&self) -> Option<Vec<u8>> {
        self.local.as_ref().map(|(_, name)| name.clone())
    }

    /// The text that others dial.
    pub fn address(&self) -> &str {
        &self.address
    }
}

fn bind_tcp(addr: SocketAddr, address: &Address, config: &ControlConfig) -> Result<Sockets> {
    let main = socket::listen_tcp(addr).map_err(|errno| refusal(address, errno))?;
    let bound = socket::addresses(&main).0.unwrap_or(addr);
    let shared = config.fabrics & Fabric::Shared.bit() != 0;
    let local = if shared { Some(bind_local()?) } else { None };
    Ok(Sockets { main, road: Road::Tcp, local, address: Address::Tcp(bound).to_string(), _file: None })
}

/// An abstract socket: no file, gone with its process, its name known only to whom we tell it.
fn bind_local() -> Result<(OwnedFd, Vec<u8>)> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|_| Error::new(Status::Io, "the kernel gives no random bytes"))?;
    let name = format!("rde-{:032x}", u128::from_le_bytes(random)).into_bytes();
    let failed = |errno: Errno| Error::os("bind an abstract Unix socket", &errno.into());
    let addr = SocketAddrUnix::new_abstract_name(&name).map_err(failed)?;
    Ok((socket::listen_unix(&addr).map_err(failed)?, name))
}

fn bind_unix(path: &Path, address: &Address) -> Result<Sockets> {
    let addr = SocketAddrUnix::new(path).map_err(|errno| refusal(address, errno))?;
    for _ in 0..FILE_ATTEMPTS {
        match socket::listen_unix(&addr) {
            Ok(main) => {
                let file = SocketFile::of(path);
                let address = address.to_string();
                return Ok(Sockets { main, road: Road::Unix, local: None, address, _file: file });
            }
            Err(Errno::ADDRINUSE) => remove_dead(path, address)?,
            Err(errno) => return Err(refusal(address, errno)),
        }
    }
    Err(in_use(address))
}

/// Removes the socket file of a process that is gone. `AlreadyExists` when somebody listens there, or when it is no
/// socket.
fn remove_dead(path: &Path, address: &Address) -> Result<()> {
    let Ok(seen) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !seen.file_type().is_socket() || !is_dead(path) {
        return Err(in_use(address));
    }
    // Another process may be doing the same and already listen under the name: take the file out of the way, see
    // which it was, and put it back if it is not the dead one.
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".dead-{}", std::process::id()));
    let aside = PathBuf::from(aside);
    if std::fs::rename(path, &aside).is_err() {
        return match path.symlink_metadata() {
            Ok(_) => Err(Error::new(
                Status::PermissionDenied,
                format!("cannot replace the dead socket of {address}"),
            )),
            Err(_) => Ok(()),
        };
    }
    if identity(&aside) == Some((seen.dev(), seen.ino())) {
        let _ = std::fs::remove_file(&aside);
        return Ok(());
    }
    let _ = std::fs::rename(&aside, path);
    Err(in_use(address))
}

fn is_dead(path: &Path) -> bool {
    match Target::path(path).and_then(|target| socket::start_connect(&target, false)) {
        Err(errno) => errno == Errno::CONNREFUSED,
        Ok(Connecting::Done(_) | Connecting::Pending(_) | Connecting::Busy) => false,
    }
}

fn in_use(address: &Address) -> Error {
    Error::new(
        Status::AlreadyExists,
        format!("{address} is in use: choose another, or stop who listens there"),
    )
}

fn refusal(address: &Address, errno: Errno) -> Error {
    let mut error = match errno {
        Errno::ADDRINUSE => in_use(address),
        Errno::ACCESS | Errno::PERM => {
            Error::new(Status::PermissionDenied, format!("not permitted to listen on {address}"))
        }
        Errno::ADDRNOTAVAIL => {
            Error::new(Status::NotFound, format!("{address} is not an address of this machine"))
        }
        Errno::NOENT => Error::new(Status::NotFound, format!("the folder of {address} does not exist")),
        errno => Error::os(&format!("listen on {address}"), &errno.into()),
    };
    error.os_errno = errno.raw_os_error();
    error
}

/// A socket file that we made; removed when dropped, unless it was replaced.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> Option<SocketFile> {
        Some(SocketFile { path: path.to_owned(), identity: identity(path)? })
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let now = std::fs::symlink_metadata(path).ok()?;
    Some((now.dev(), now.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
