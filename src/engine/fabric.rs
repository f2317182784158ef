//! Fabrics: what carries bytes between two workers, and the UCX context for each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::control::{Fabric, Link};
use super::options::{ContextOptions, transport, way};
use crate::status::{Error, Result, Status};
use crate::ucx;

/// Names a fabric: shared memory, or a set of network devices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FabricKey {
    /// Transports as UCX names them.
    pub tls: String,
    /// Network devices as UCX names them; empty for shared memory.
    pub devices: String,
    /// Whether UCX's remote memory access is used on it.
    pub rma: bool,
}

impl FabricKey {
    /// The fabric that a link's data goes over: only the devices its addresses belong to, so that no port is opened
    /// on others.
    pub fn of(link: &Link, options: &ContextOptions) -> Result<FabricKey> {
        if link.fabric() == Fabric::Shared {
            return Ok(FabricKey {
                tls: "posix,cma,self".into(),
                devices: String::new(),
                rma: forced_rma(options),
            });
        }
        let rdma = options.transports & transport::RDMA != 0 && has_rdma_device();
        let tls = if rdma { "rc,dc,ud,tcp,self" } else { "tcp,self" };
        let devices = match (options.devices.as_str(), link.local_addr()) {
            ("", Some(address)) if !rdma => device_of(address.ip())?,
            (named, _) => named.to_string(),
        };
        Ok(FabricKey { tls: tls.into(), devices, rma: rdma || forced_rma(options) })
    }

    /// A stream of ours, which UCX knows nothing of.
    pub fn stream() -> FabricKey {
        FabricKey { tls: "stream".into(), devices: String::new(), rma: false }
    }

    /// Whether it is shared memory.
    pub fn is_shared(&self) -> bool {
        self.devices.is_empty() && self.tls.starts_with("posix")
    }

    /// Whether a get goes by UCX here without being forced to.
    pub fn has_rdma(&self) -> bool {
        self.tls.starts_with("rc")
    }
}

/// Whether peers are told that we take frames by streams: not where UCX has something better to carry them, or was
/// told which devices to use.
pub fn wants_streams(options: &ContextOptions) -> bool {
    let rdma = options.transports & transport::RDMA != 0 && has_rdma_device();
    let tcp = options.transports & transport::TCP != 0;
    options.streams && tcp && !rdma && options.devices.is_empty() && !forced_rma(options)
}

/// `RMA` without `MAPPED` asks for UCX's remote memory access wherever it is to be had.
fn forced_rma(options: &ContextOptions) -> bool {
    options.ways & way::RMA != 0 && options.ways & way::MAPPED == 0
}

fn has_rdma_device() -> bool {
    std::fs::read_dir(Path::new("/sys/class/infiniband")).is_ok_and(|mut devices| devices.next().is_some())
}

/// The network interface that an address belongs to.
fn device_of(address: IpAddr) -> Result<String> {
    let interfaces =
        if_addrs::get_if_addrs().map_err(|error| Error::os("list the network interfaces", &error))?;
    let found = interfaces.into_iter().find(|interface| interface.ip() == address);
    let loopback = address.is_loopback().then(|| "lo".to_string());
    found.map(|interface| interface.name).or(loopback).ok_or_else(|| {
        Error::new(
            Status::Unreachable,
            format!("no network interface has {address}: name the devices to use"),
        )
    })
}

/// Transports that the options allow, as UCX names them.
fn allowed(options: &ContextOptions) -> Vec<&'static str> {
    let mut tls = Vec::new();
    if options.transports & transport::SHARED != 0 {
        tls.push("posix,cma,self");
    }
    if options.transports & transport::TCP != 0 {
        tls.push("tcp,self");
    }
    if options.transports & transport::RDMA != 0 && has_rdma_device() {
        tls.push("rc,dc,ud");
    }
    tls
}

/// UCX contexts by fabric, opened when they are first needed.
#[derive(Default)]
pub struct Fabrics {
    open: Mutex<HashMap<FabricKey, Arc<ucx::Context>>>,
}

impl Fabrics {
    /// The UCX context of a fabric. Opening one takes milliseconds.
    pub fn get(&self, key: &FabricKey) -> Result<Arc<ucx::Context>> {
        let mut open = self.open.lock();
        if let Some(context) = open.get(key) {
            return Ok(context.clone());
        }
        let config = ucx::ContextConfig {
            tls: key.tls.clone(),
            net_devices: key.devices.clone(),
            rma: key.rma,
            ..ucx::ContextConfig::default()
        };
        let context = ucx::Context::new(&config)?;
        open.insert(key.clone(), context.clone());
        Ok(context)
    }

    /// `(transport, device)` of everything that the options allow, whether it is open yet or not. UCX has to look at
    /// the devices for that, which takes milliseconds; what is opened only for it is closed again.
    pub fn resources(&self, options: &ContextOptions) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for context in self.open.lock().values() {
            all.extend(context.resources()?);
        }
        for tls in allowed(options) {
            let config = ucx::ContextConfig {
                tls: tls.into(),
                net_devices: options.devices.clone(),
                ..ucx::ContextConfig::default()
            };
            // A transport that this machine does not have is simply not listed.
            if let Ok(context) = ucx::Context::new(&config) {
                all.extend(context.resources()?);
            }
        }
        Ok(all)
    }
}
