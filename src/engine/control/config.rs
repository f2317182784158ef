//! [`ControlConfig`]: what a context decides about its control connections.

use std::time::Duration;

use super::hello::{Hello, HostId, STREAM};
use super::message::{LOCAL_NAME, Message};
use super::{Fabric, SharedSecret};
use crate::status::{Error, Result, Status};

/// Options of a [`super::Control`]. `ControlConfig::new` has the defaults.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Names this context among all; random.
    pub uuid: [u8; 16],
    /// Name of this context, for people; at most 255 bytes.
    pub name: String,
    /// Name of this machine, for people; at most 255 bytes.
    pub host_name: String,
    /// What decides whether two contexts can share memory.
    pub host: HostId,
    /// UCX settings that must be the same at both ends of a network link: name, value.
    pub settings: Vec<(String, String)>,
    /// Version of the UCX that was loaded; all 0 without UCX.
    pub ucx_version: (u32, u32, u32),
    /// Fabrics that may be used: [`Fabric::bit`]s, and [`STREAM`].
    pub fabrics: u32,
    /// What every peer must prove to know; with none, nobody is asked, and who asks is refused.
    pub secret: Option<SharedSecret>,
    /// Silence after which a peer is lost.
    pub keepalive: Duration,
    /// For a dial, from its start to the link.
    pub connect_timeout: Duration,
    /// For an accepted connection, until its handshake is done.
    pub handshake_timeout: Duration,
    /// How long a dial that could be local waits for the peer's local socket before it stays on TCP.
    pub local_timeout: Duration,
    /// Links at once, both directions together; one more is refused with `LimitReached`.
    pub max_links: u32,
    /// Accepted connections in handshake at once; more wait in the kernel's backlog.
    pub max_handshakes: u32,
    /// Bytes that wait to be sent on one link; a peer that does not read is cut off beyond it.
    pub max_output: usize,
}

impl ControlConfig {
    /// The defaults, for the context named `uuid`.
    pub fn new(uuid: [u8; 16]) -> ControlConfig {
        let uname = rustix::system::uname();
        ControlConfig {
            uuid,
            name: String::new(),
            host_name: uname.nodename().to_string_lossy().chars().take(60).collect(),
            host: HostId::of_this_machine(),
            settings: Vec::new(),
            ucx_version: (0, 0, 0),
            fabrics: Fabric::Shared.bit() | Fabric::Network.bit(),
            secret: None,
            keepalive: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            local_timeout: Duration::from_secs(1),
            max_links: 4096,
            max_handshakes: 128,
            max_output: crate::limits::CONTROL_OUTPUT,
        }
    }

    /// Whether the options make sense; what is said in the hello must fit into it.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: &'static str| Err(Error::new(Status::InvalidArgument, what));
        let fabrics = Fabric::Shared.bit() | Fabric::Network.bit();
        if self.fabrics & !(fabrics | STREAM) != 0 || self.fabrics & fabrics == 0 {
            return wrong("fabrics: allow shared memory, the network, or both");
        }
        if self.keepalive < Duration::from_millis(30) || self.keepalive > Duration::from_secs(86_400) {
            return wrong("keepalive: from 30 ms to one day");
        }
        if self.connect_timeout.is_zero() || self.handshake_timeout.is_zero() {
            return wrong("connect and handshake timeouts are longer than nothing");
        }
        if self.max_links == 0 || self.max_handshakes == 0 || self.max_output < crate::limits::CONTROL_MESSAGE
        {
            return wrong("limits: at least one link, one handshake, and output for one message");
        }
        let hello = Message::Welcome { hello: Box::new(Hello::of(self)), local: vec![0; LOCAL_NAME] };
        if hello.encode().is_err() {
            return wrong("names have at most 255 bytes, settings at most 64 pairs of 255 and 1024 bytes");
        }
        Ok(())
    }
}
