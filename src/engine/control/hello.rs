//! [`Hello`]: what two contexts tell each other first, and whether they can work together ([`Hello::agree`]).

use std::os::unix::fs::MetadataExt;

use super::Fabric;
use super::wire::{Reader, WIRE_MAJOR, WIRE_MINOR, Writer, broken};
use crate::limits;
use crate::status::{Error, Result, Status};

/// Longest name, host name, setting's name, in bytes.
pub(super) const NAME: usize = 255;

/// Longest value of a setting, in bytes.
pub(super) const VALUE: usize = 1_024;

/// Bit of [`Hello::fabrics`]: over a network it takes its frames by a stream of its own.
pub const STREAM: u32 = 1 << 2;

/// The same: its streams know payloads that turn out to be no good.
pub const SPOILS: u32 = 1 << 3;

/// UCX changed its wire format here; older and newer do not mix.
const UCX_WIRE_CHANGE: (u32, u32) = (1, 16);

/// Where abstract sockets and shared memory reach: one boot of one kernel, one network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostId(pub [u8; 24]);

impl HostId {
    /// This machine's: boot id and network namespace. Where `/proc` does not tell, random bytes: never the same host.
    pub fn of_this_machine() -> HostId {
        HostId::read().unwrap_or_else(|| {
            let mut id = [0; 24];
            // Without randomness the id stays zero, which `same_host` never accepts.
            let _ = getrandom::fill(&mut id);
            HostId(id)
        })
    }

    /// Whether both are the same, known host.
    pub fn same_host(&self, other: &HostId) -> bool {
        self == other && self.0 != [0; 24]
    }

    fn read() -> Option<HostId> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        let boot = u128::from_str_radix(&digits, 16).ok()?;
        let namespace = std::fs::metadata("/proc/self/ns/net").ok()?.ino();
        let mut id = [0; 24];
        id[..16].copy_from_slice(&boot.to_be_bytes());
        id[16..].copy_from_slice(&namespace.to_le_bytes());
        Some(HostId(id))
    }
}

/// What a context says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Wire version: major, minor.
    pub version: (u16, u16),
    /// Fabrics it may use: [`Fabric::bit`]s, and [`STREAM`].
    pub fabrics: u32,
    /// Names the context.
    pub uuid: [u8; 16],
    /// Process.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// UCX version; 0.0.0 without UCX.
    pub ucx_version: (u32, u32, u32),
    /// Longest control message it takes, in bytes.
    pub max_message: u32,
    /// Longest worker address it takes, in bytes.
    pub max_address: u32,
    /// Silence after which it gives a peer up, in milliseconds.
    pub keepalive_ms: u32,
    /// Its host.
    pub host: HostId,
    /// Its name, for people.
    pub name: String,
    /// Its machine's name, for people.
    pub host_name: String,
    /// UCX settings that must agree on a network: name, value.
    pub settings: Vec<(String, String)>,
}

/// What the connection is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Road {
    /// TCP; with the same host, a local socket may follow.
    Tcp,
    /// A Unix socket.
    Unix,
}

/// What two hellos come to.
#[derive(Debug)]
pub(super) struct Agreement {
    /// Whether the two may share memory over a Unix socket.
    pub shared: bool,
    /// Whether the network may carry the data; if not, why.
    pub network: Result<()>,
}

impl Hello {
    /// What this context says.
    pub(super) fn of(config: &super::ControlConfig) -> Hello {
        Hello {
            version: (WIRE_MAJOR, WIRE_MINOR),
            fabrics: config.fabrics | if config.fabrics & STREAM != 0 { SPOILS } else { 0 },
            uuid: config.uuid,
            pid: std::process::id(),
            uid: rustix::process::getuid().as_raw(),
            ucx_version: config.ucx_version,
            max_message: limits::CONTROL_MESSAGE as u32,
            max_address: limits::WORKER_ADDRESS as u32,
            keepalive_ms: u32::try_from(config.keepalive.as_millis()).unwrap_or(u32::MAX),
            host: config.host,
            name: config.name.clone(),
            host_name: config.host_name.clone(),
            settings: config.settings.clone(),
        }
    }

    /// What we may do with `peer`. `Err` when there is no way at all; both sides come to the same answer.
    pub(super) fn agree(&self, peer: &Hello, road: Road) -> Result<Agreement> {
        if peer.version.0 != self.version.0 {
            let (ours, theirs) = (self.version, peer.version);
            return Err(Error::new(
                Status::Protocol,
                format!("wire version {}.{} here, {}.{} at the peer", ours.0, ours.1, theirs.0, theirs.1),
            ));
        }
        same_ucx_wire(self.ucx_version, peer.ucx_version)?;
        let common = self.fabrics & peer.fabrics;
        let near = road == Road::Unix || self.host.same_host(&peer.host);
        let shared = near && common & Fabric::Shared.bit() != 0;
        let network = if common & Fabric::Network.bit() != 0 {
            same_settings(&self.settings, &peer.settings)
        } else {
            Err(Error::new(Status::Unreachable, no_way(self.fabrics, peer.fabrics, near)))
        };
        match (shared, network) {
            (false, Err(error)) => Err(error),
            (shared, network) => Ok(Agreement { shared, network }),
        }
    }

    fn unreadable(version: (u16, u16)) -> Hello {
        Hello {
            version,
            fabrics: 0,
            uuid: [0; 16],
            pid: 0,
            uid: 0,
            ucx_version: (0, 0, 0),
            max_message: 0,
            max_address: 0,
            keepalive_ms: 0,
            host: HostId([0; 24]),
            name: String::new(),
            host_name: String::new(),
            settings: Vec::new(),
        }
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.u16(self.version.0);
        out.u16(self.version.1);
        out.u32(self.fabrics);
        out.array(self.uuid);
        out.u32(self.pid);
        out.u32(self.uid);
        out.u32(self.ucx_version.0);
        out.u32(self.ucx_version.1);
        out.u32(self.ucx_version.2);
        out.u32(self.max_message);
        out.u32(self.max_address);
        out.u32(self.keepalive_ms);
        out.array(self.host.0);
        out.bytes(self.name.as_bytes(), NAME);
        out.bytes(self.host_name.as_bytes(), NAME);
        out.count(self.settings.len(), limits::HELLO_SETTINGS);
        for (name, value) in &self.settings {
            out.bytes(name.as_bytes(), NAME);
            out.bytes(value.as_bytes(), VALUE);
        }
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Hello> {
        let version = (from.u16()?, from.u16()?);
        if version.0 != WIRE_MAJOR {
            // The rest may look different: it is not read, and `agree` refuses.
            return Ok(Hello::unreadable(version));
        }
        let mut hello = Hello {
            version,
            fabrics: from.u32()?,
            uuid: from.array()?,
            pid: from.u32()?,
            uid: from.u32()?,
            ucx_version: (from.u32()?, from.u32()?, from.u32()?),
            max_message: from.u32()?,
            max_address: from.u32()?,
            keepalive_ms: from.u32()?,
            host: HostId(from.array()?),
            name: from.text(NAME)?,
            host_name: from.text(NAME)?,
            settings: Vec::new(),
        };
        let count = usize::from(from.u16()?);
        if count > limits::HELLO_SETTINGS {
            return Err(broken("a hello has too many settings"));
        }
        for _ in 0..count {
            hello.settings.push((from.text(NAME)?, from.text(VALUE)?));
        }
        Ok(hello)
    }
}

fn same_ucx_wire(ours: (u32, u32, u32), theirs: (u32, u32, u32)) -> Result<()> {
    let none = (0, 0, 0);
    let new = |version: (u32, u32, u32)| (version.0, version.1) >= UCX_WIRE_CHANGE;
    if ours == none || theirs == none || new(ours) == new(theirs) {
        return Ok(());
    }
    Err(Error::new(
        Status::SettingsMismatch,
        format!(
            "UCX {}.{}.{} here, {}.{}.{} at the peer: versions before and after 1.16 do not mix",
            ours.0, ours.1, ours.2, theirs.0, theirs.1, theirs.2
        ),
    ))
}

fn same_settings(ours: &[(String, String)], theirs: &[(String, String)]) -> Result<()> {
    let value_in = |list: &[(String, String)], name: &str| -> Option<String> {
        list.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    for (name, _) in ours.iter().chain(theirs) {
        let (here, there) = (value_in(ours, name), value_in(theirs, name));
        if here != there {
            let show =
                |value: Option<String>| value.map_or("not set".to_owned(), |value| format!("'{value}'"));
            let message = format!("setting {name} is {} here, {} at the peer", show(here), show(there));
            return Err(Error::new(Status::SettingsMismatch, message));
        }
    }
    Ok(())
}

fn no_way(ours: u32, theirs: u32, near: bool) -> String {
    let list = |bits: u32| {
        let names: Vec<&str> = [(Fabric::Shared, "shared memory"), (Fabric::Network, "network")]
            .iter()
            .filter(|(fabric, _)| bits & fabric.bit() != 0)
            .map(|(_, name)| *name)
            .collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(" and ") }
    };
    let place = if near { "the same host" } else { "another host" };
    format!(
        "no way in common: {} allowed here, {} at the peer, which is on {place}",
        list(ours),
        list(theirs)
    )
}
