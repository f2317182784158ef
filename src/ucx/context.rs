//! A set of transports and devices, opened.
#![allow(unsafe_code, reason = "calls UCX")]

use super::library::{self, Library, library, printed};
use super::status::UcsStatus;
use crate::status::{Error, Result, Status};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;
use ucx_sys::{ucp_config_t, ucp_context_h, ucp_params_t};

/// What a [`Context`] opens.
#[derive(Clone, Debug)]
pub struct ContextConfig {
    /// Transports as in `UCX_TLS` (`posix,cma,self`, `tcp,self`); empty: UCX's own choice or the environment's.
    pub tls: String,
    /// Network devices as in `UCX_NET_DEVICES` (`lo`, `mlx5_0:1`); empty: all, or the environment's.
    pub net_devices: String,
    /// Whether get, put and atomics are wanted.
    pub rma: bool,
    /// Data of this many bytes and more goes by rendezvous where the sender leaves it open; `None`: UCX decides.
    pub rndv_threshold: Option<usize>,
    /// How often an idle connection is checked, where the transport does not notice a death by itself (shared
    /// memory); `None`: UCX's 20 s.
    pub keepalive: Option<Duration>,
}

impl Default for ContextConfig {
    fn default() -> Self {
        let (tls, net_devices) = (String::new(), String::new());
        ContextConfig {
            tls,
            net_devices,
            rma: false,
            rndv_threshold: None,
            keepalive: Some(Duration::from_secs(1)),
        }
    }
}

/// Transports and devices of this process, ready for workers. Any thread may use it.
pub struct Context {
    pub(crate) library: &'static Library,
    pub(crate) handle: ucp_context_h,
    rma: bool,
}

// SAFETY: opened with `mt_workers_shared`: UCX locks what contexts share between threads.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Opens transports and devices. Takes milliseconds.
    ///
    /// # Errors
    /// Those of [`library()`]; [`Status::InvalidArgument`] for a refused setting; what UCX says otherwise, which for
    /// transports that this machine does not have is `Unreachable`/`Transport` with "No such device".
    pub fn new(config: &ContextConfig) -> Result<Arc<Context>> {
        let library = library()?;
        let settings = Settings::read(library, config)?;
        // SAFETY: an all-zero ucp_params_t is valid: numbers, NULL and no functions.
        let mut params: ucp_params_t = unsafe { std::mem::zeroed() };
        params.field_mask = ucx_sys::UCP_PARAM_FIELD_FEATURES | ucx_sys::UCP_PARAM_FIELD_MT_WORKERS_SHARED;
        params.features = ucx_sys::UCP_FEATURE_AM | ucx_sys::UCP_FEATURE_WAKEUP;
        if config.rma {
            params.features |= ucx_sys::UCP_FEATURE_RMA | ucx_sys::UCP_FEATURE_AMO64;
        }
        params.mt_workers_shared = 1;
        let mut handle = ptr::null_mut();
        // SAFETY: parameters and settings live over the call; API 1.13 is what the structures were declared from.
        let status = unsafe { (library.api.ucp_init_version)(1, 13, &params, settings.handle, &mut handle) };
        UcsStatus::check(status).map_err(|s| s.error(&format!("opening transports '{}'", config.tls)))?;
        Ok(Arc::new(Context { library, handle, rma: config.rma }))
    }

    /// UCX as this context uses it.
    pub fn library(&self) -> &'static Library {
        self.library
    }

    /// Whether get, put and atomics are available.
    pub fn rma(&self) -> bool {
        self.rma
    }

    /// Transports that were really opened (`posix`, `cma`, `tcp` …), sorted.
    ///
    /// # Errors
    /// [`Status::WrongState`] after a fork.
    pub fn transports(&self) -> Result<Vec<String>> {
        Ok(self
            .resources()?
            .into_iter()
            .map(|(transport, _)| transport)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect())
    }

    /// Devices that were really opened (`lo`, `eth0`, `memory`, `mlx5_0:1` …), sorted.
    ///
    /// # Errors
    /// [`Status::WrongState`] after a fork.
    pub fn devices(&self) -> Result<Vec<String>> {
        Ok(self
            .resources()?
            .into_iter()
            .map(|(_, device)| device)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect())
    }

    /// Transport and device of each resource, from UCX's own listing: there is no call for it.
    pub fn resources(&self) -> Result<Vec<(String, String)>> {
        library::check_fork()?;
        // SAFETY: the context is open and the stream too.
        let text = printed(|file| unsafe { (self.library.api.ucp_context_print_info)(self.handle, file) })?;
        let lines =
            text.lines().filter(|line| line.trim_start_matches('#').trim_start().starts_with("resource "));
        let names = lines.filter_map(|line| line.split_whitespace().last()?.split_once('/'));
        Ok(names.map(|(transport, device)| (transport.to_owned(), device.to_owned())).collect())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !library::is_forked() {
            // SAFETY: workers and memory hold this context, so none is left.
            unsafe { (self.library.api.ucp_cleanup)(self.handle) };
        }
    }
}

/// UCX's configuration, released on drop.
struct Settings {
    library: &'static Library,
    handle: *mut ucp_config_t,
}

impl Settings {
    fn read(library: &'static Library, config: &ContextConfig) -> Result<Settings> {
        let mut handle = ptr::null_mut();
        // SAFETY: NULL names are allowed; the handle is written.
        let status = unsafe { (library.api.ucp_config_read)(ptr::null(), ptr::null(), &mut handle) };
        UcsStatus::check(status).map_err(|s| s.error("reading the configuration"))?;
        let settings = Settings { library, handle };
        if !config.tls.is_empty() {
            settings.set("TLS", &config.tls)?;
        }
        if !config.net_devices.is_empty() {
            settings.set("NET_DEVICES", &config.net_devices)?;
        }
        if let Some(bytes) = config.rndv_threshold {
            settings.set("RNDV_THRESH", &bytes.to_string())?;
        }
        if let Some(interval) = config.keepalive {
            settings.set("KEEPALIVE_INTERVAL", &format!("{}ms", interval.as_millis().max(1)))?;
        }
        Ok(settings)
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        let text = |s: &str| {
            CString::new(s).map_err(|_| Error::new(Status::InvalidArgument, "a setting with a NUL byte"))
        };
        let (name_c, value_c) = (text(name)?, text(value)?);
        // SAFETY: the configuration is live and the strings end in NUL.
        let status =
            unsafe { (self.library.api.ucp_config_modify)(self.handle, name_c.as_ptr(), value_c.as_ptr()) };
        UcsStatus::check(status).map_err(|s| s.error(&format!("setting {name}={value}")))
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // SAFETY: read once, released once.
        unsafe { (self.library.api.ucp_config_release)(self.handle) };
    }
}
