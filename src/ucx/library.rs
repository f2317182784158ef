//! The shared library: found and loaded once a process, after its environment was set.
#![allow(unsafe_code, reason = "loading a C library and calling it")]

use super::status::UcsStatus;
use crate::status::{Error, Result, Status};
use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use ucx_sys::{Functions, c_file};

/// What UCX must find in its environment; a value that the user has set stays.
///
/// Transport keys cannot be set in another way on UCX 1.13: there `ucp_config_modify` accepts and ignores them.
const ENVIRONMENT: &[(&str, &str)] = &[
    // Signals belong to the program: Go and the JVM use SIGSEGV, everyone SIGHUP.
    ("UCX_HANDLE_ERRORS", "none"),
    ("UCX_DEBUG_SIGNO", "0"),
    ("UCX_ERROR_SIGNALS", ""),
    // No patching of libc's mmap: memory is registered explicitly, so a registration cache needs no hooks.
    ("UCX_MEM_EVENTS", "n"),
    ("UCX_MEM_MMAP_HOOK_MODE", "none"),
    // 8 KiB by default, four to five times slower at 1 MiB. Both peers must have the same values.
    ("UCX_TCP_TX_SEG_SIZE", "256K"),
    ("UCX_TCP_RX_SEG_SIZE", "256K"),
    // Without it shared memory is not eligible for endpoints that report a peer's failure.
    ("UCX_MM_ERROR_HANDLING", "y"),
    // A connect to a host that does not answer must not hold up the worker.
    ("UCX_TCP_CONN_NB", "y"),
    // 64 in 1.13, 256 in 1.22; a sender indexes the receiver's queue with its own value.
    ("UCX_MM_FIFO_SIZE", "256"),
    ("UCX_LOG_LEVEL", "error"),
    ("UCX_WARN_UNUSED_ENV_VARS", "n"),
];

/// Settings on which both peers of a transport must agree, or memory is corrupted.
const AGREED: &[&str] = &[
    "TCP_TX_SEG_SIZE",
    "TCP_RX_SEG_SIZE",
    "POSIX_FIFO_SIZE",
    "POSIX_SEG_SIZE",
    "POSIX_FIFO_ELEM_SIZE",
    "SYSV_FIFO_SIZE",
    "SYSV_SEG_SIZE",
    "SYSV_FIFO_ELEM_SIZE",
];

static LIBRARY: OnceLock<Result<Library>> = OnceLock::new();
/// Set in the child of a fork: UCX's threads and connections did not follow it there.
static FORKED: AtomicBool = AtomicBool::new(false);

/// UCX, loaded for the rest of the process: it cannot be unloaded.
pub struct Library {
    pub(crate) api: Functions,
    version: (u32, u32, u32),
    path: PathBuf,
    print_all: Option<(ucx_sys::ucs_config_parser_print_all_opts_t, *mut c_void)>,
}

// SAFETY: the table is constant after loading, and the pointer names a list that only UCX's own loading changes.
unsafe impl Send for Library {}
// SAFETY: as above; nothing here is mutable.
unsafe impl Sync for Library {}

/// UCX, loaded at the first call from `RDE_UCX_LIBRARY`, else `libucp.so.0`.
///
/// The first call changes the environment of the process: it must come before other threads read theirs. A
/// failure stays: the library is not tried again.
///
/// # Errors
/// [`Status::Unsupported`] where UCX 1.13 or newer is not to be had; [`Status::WrongState`] after a fork.
pub fn library() -> Result<&'static Library> {
    check_fork()?;
    LIBRARY.get_or_init(load).as_ref().map_err(Clone::clone)
}

/// UCX, if it has been loaded.
pub(crate) fn loaded() -> Option<&'static Library> {
    LIBRARY.get().and_then(|library| library.as_ref().ok())
}

/// The values of the settings on which two peers must agree, by name without `UCX_`, as UCX itself reads them: its
/// defaults, its configuration file and the environment. `TCP_…` matter between peers over TCP, `POSIX_…` and `SYSV_…`
/// on one host.
///
/// # Errors
/// Those of [`library()`].
pub fn settings() -> Result<Vec<(String, String)>> {
    let library = library()?;
    let text = library.print_settings()?;
    let mut found = Vec::with_capacity(AGREED.len());
    for name in AGREED {
        let line = text.lines().find_map(|line| {
            let (key, value) = line.trim_start_matches("# ").split_once('=')?;
            (key.strip_prefix("UCX_")? == *name).then_some(value)
        });
        let value = match line {
            Some(value) => value.to_owned(),
            None => std::env::var(format!("UCX_{name}")).unwrap_or_else(|_| "default".to_owned()),
        };
        found.push(((*name).to_owned(), value));
    }
    Ok(found)
}

/// Refuses to go on in the child of a fork.
#[inline]
pub(crate) fn check_fork() -> Result<()> {
    if FORKED.load(Ordering::Relaxed) { Err(forked()) } else { Ok(()) }
}

/// Whether this process is the child of a fork of one that had loaded UCX.
#[inline]
pub(crate) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

#[cold]
fn forked() -> Error {
    Error::new(
        Status::WrongState,
        "UCX does not survive fork(): use the engine in the parent, or exec() first",
    )
}

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> i32;
}

extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
}

fn load() -> Result<Library> {
    for (name, value) in ENVIRONMENT {
        if std::env::var_os(name).is_none() {
            // SAFETY: documented at `library()`: the first call precedes the threads that read the environment.
            unsafe { std::env::set_var(name, value) };
        }
    }
    let name = std::env::var_os("RDE_UCX_LIBRARY").filter(|name| !name.is_empty());
    let name = name.as_deref().unwrap_or(OsStr::new("libucp.so.0"));
    let flags = libloading::os::unix::RTLD_NOW | libloading::os::unix::RTLD_LOCAL;
    // SAFETY: UCX's constructors run here, in an environment that keeps them away from signals and libc's code.
    let handle =
        unsafe { libloading::os::unix::Library::open(Some(name), flags) }.map_err(|e| missing(name, &e))?;
    let address = |symbol: &'static str| {
        // SAFETY: only the address is taken.
        let found = unsafe { handle.get::<*mut c_void>(symbol.as_bytes()) };
        found.map(libloading::os::unix::Symbol::into_raw).map_err(|e| missing(name, &e))
    };
    // SAFETY: the addresses are those of the functions of these names in libucp and the libraries it depends on.
    let api = unsafe { Functions::resolve(address) }?;
    let print_all = match (address("ucs_config_parser_print_all_opts"), address("ucs_config_global_list")) {
        (Ok(print), Ok(list)) => {
            // SAFETY: UCX's function of this name; see the type about its last argument.
            let print = unsafe {
                std::mem::transmute::<*mut c_void, ucx_sys::ucs_config_parser_print_all_opts_t>(print)
            };
            Some((print, list))
        }
        _ => None,
    };
    std::mem::forget(handle);
    let (mut major, mut minor, mut release) = (0, 0, 0);
    // SAFETY: three numbers are written.
    unsafe { (api.ucp_get_version)(&mut major, &mut minor, &mut release) };
    if (major, minor) < (1, 13) || major > 1 {
        let text = format!("UCX {major}.{minor}.{release} is loaded; 1.13 or a newer 1.x is needed");
        return Err(Error::new(Status::Unsupported, text));
    }
    // SAFETY: the handler only stores a flag.
    if unsafe { pthread_atfork(None, None, Some(in_child)) } != 0 {
        return Err(Error::new(Status::OutOfMemory, "pthread_atfork failed"));
    }
    let path = path_of(api.ucp_get_version as *const c_void);
    Ok(Library { api, version: (major, minor, release), path, print_all })
}

fn missing(name: &OsStr, error: &libloading::Error) -> Error {
    let name = name.to_string_lossy();
    let text = format!(
        "UCX is not available: {name}: {error}; install libucx0 (Debian, Ubuntu) or ucx (elsewhere), 1.13 or newer, or set RDE_UCX_LIBRARY"
    );
    Error::new(Status::Unsupported, text)
}

/// The file that a loaded function came from.
fn path_of(address: *const c_void) -> PathBuf {
    // SAFETY: an all-zero Dl_info is valid: pointers and numbers.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is written only.
    let found = unsafe { libc::dladdr(address, &mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return PathBuf::new();
    }
    // SAFETY: a string of the loader, valid while the library is loaded: always.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

impl Library {
    /// Version of the loaded library: major, minor, release.
    pub fn version(&self) -> (u32, u32, u32) {
        self.version
    }

    /// The file that was loaded, with symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// UCX's words for a status.
    pub(crate) fn status_text(&self, status: UcsStatus) -> &'static str {
        if !matches!(status.0, -25..=0 | -80) {
            // UCX writes a number that it does not know into a buffer shared by all threads.
            return "unknown status";
        }
        // SAFETY: any number is accepted.
        let text = unsafe { (self.api.ucs_status_string)(status.0) };
        if text.is_null() {
            return "unknown";
        }
        // SAFETY: for the statuses let through above a constant.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("unknown")
    }

    fn print_settings(&self) -> Result<String> {
        let Some((print, list)) = self.print_all else { return Ok(String::new()) };
        printed(|file| {
            // SAFETY: an open stream, UCX's own list, NULL for the newer filter argument.
            unsafe {
                print(file, c"UCX_".as_ptr(), ucx_sys::UCS_CONFIG_PRINT_CONFIG, list, std::ptr::null())
            };
        })
    }
}

/// What `print` writes to a C stream.
pub(crate) fn printed(print: impl FnOnce(*mut c_file)) -> Result<String> {
    let (mut text, mut length): (*mut c_char, usize) = (std::ptr::null_mut(), 0);
    // SAFETY: both outlive the stream, which is closed below.
    let stream = unsafe { libc::open_memstream(&mut text, &mut length) };
    if stream.is_null() {
        return Err(Error::os("open_memstream", &std::io::Error::last_os_error()));
    }
    print(stream.cast());
    // SAFETY: the stream is open and closed once.
    let closed = unsafe { libc::fclose(stream) };
    if closed != 0 || text.is_null() {
        return Err(Error::os("fclose", &std::io::Error::last_os_error()));
    }
    // SAFETY: fclose left `length` bytes at `text`.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    let string = String::from_utf8_lossy(bytes).into_owned();
    // SAFETY: open_memstream allocates with malloc and leaves freeing to us.
    unsafe { libc::free(text.cast()) };
    Ok(string)
}
