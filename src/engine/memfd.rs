//! Memory files: the descriptors behind memory that may be mapped by a peer on this host.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use crate::status::{Error, Result, Status};

/// `statfs` type of a memory file on ordinary pages.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// A new memory file of `length` bytes, zeroed and backed by real memory, that can neither shrink nor grow.
///
/// `OutOfMemory` when the system has not that much.
pub fn create(length: usize) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let named = |flags| rustix::fs::memfd_create(c"rdma-engine", flags);
    // Kernels before 6.3 do not know the flag; newer ones may insist on it.
    let fd =
        named(flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| named(flags)).map_err(failed("memfd_create"))?;
    rustix::fs::ftruncate(&fd, length as u64).map_err(failed("ftruncate of a memory file"))?;
    // Without it, touching a page when memory has run out would kill the process.
    rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, length as u64)
        .map_err(failed("fallocate of a memory file"))?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW)
        .map_err(failed("sealing a memory file"))?;
    Ok(fd)
}

/// Forbids, for ever and to everyone, new writable mappings of the file and writes to it. Mappings that exist stay
/// as they are: the owner goes on writing through its own.
pub fn forbid_writers(fd: impl AsFd) -> Result<()> {
    let seals = SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(fd, seals).map_err(failed("sealing a memory file against writers"))
}

/// Forbids further seals, so that no holder can take writing away from the others.
pub fn fix_seals(fd: impl AsFd) -> Result<()> {
    rustix::fs::fcntl_add_seals(fd, SealFlags::SEAL).map_err(failed("fixing the seals of a memory file"))
}

/// Another descriptor of the same file that cannot write.
pub fn reopen_read_only(fd: impl AsFd) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("reopening a memory file"))
}

/// Another descriptor of the same open file.
pub fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(failed("duplicating a memory file"))
}

/// Whether mapping the first `length` bytes of a peer's descriptor is safe: an ordinary memory file, sealed against
/// shrinking, and large enough. Otherwise the peer could make our next access end in SIGBUS.
pub fn check_foreign(fd: impl AsFd, length: u64) -> Result<()> {
    let refused = |why: &'static str| Err(Error::new(Status::Protocol, why));
    let fd = fd.as_fd();
    // A huge-page file is refused too: punched holes need pages that may not be there.
    match rustix::fs::fstatfs(fd) {
        #[allow(clippy::unnecessary_cast, reason = "the type differs between targets")]
        Ok(stat) if stat.f_type as i64 == TMPFS_MAGIC => {}
        _ => return refused("the peer's descriptor is not a memory file"),
    }
    match rustix::fs::fcntl_get_seals(fd) {
        Ok(seals) if seals.contains(SealFlags::SHRINK) => {}
        _ => return refused("the peer's memory file is not sealed against shrinking"),
    }
    match rustix::fs::fstat(fd) {
        Ok(stat) if u64::try_from(stat.st_size).is_ok_and(|size| size >= length) => Ok(()),
        _ => refused("the peer's memory file is shorter than its key says"),
    }
}

/// Makes the error of a failed system call.
pub(super) fn failed(what: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| {
        let mut error = Error::os(what, &errno.into());
        if matches!(errno, Errno::NOMEM | Errno::NOSPC) {
            error.status = Status::OutOfMemory;
        }
        error
    }
}
