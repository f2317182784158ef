//! What the control thread is asked about exported memory: who gets it, and which way.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::buffer::Span;
use super::control::{KeyAsk, KeyGrant, KeyService, Link};
use super::export::Exports;
use super::fabric::{FabricKey, Fabrics};
use super::key::Secret;
use super::options::way;
use crate::status::Status;
use crate::ucx;

/// Exports, and what UCX and peers were told of them.
pub struct Keys {
    exports: Arc<Exports>,
    fabrics: Arc<Fabrics>,
    /// Ways that peers may be granted.
    ways: u32,
    links: Mutex<HashMap<u32, Attached>>,
    remote: Mutex<Remote>,
}

struct Attached {
    link: Arc<Link>,
    fabric: Arc<FabricKey>,
}

/// Memory that UCX registered for peers.
#[derive(Default)]
struct Remote {
    memory: HashMap<(u64, Arc<FabricKey>), Arc<ucx::Memory<Span>>>,
    holders: HashSet<(u64, u32)>,
}

impl Keys {
    /// Answers for `exports` with `ways`.
    pub fn new(exports: Arc<Exports>, fabrics: Arc<Fabrics>, ways: u32) -> Keys {
        Keys { exports, fabrics, ways, links: Mutex::default(), remote: Mutex::default() }
    }

    /// Notes what a link's data goes over.
    pub fn attached(&self, link: &Arc<Link>, fabric: FabricKey) {
        let attached = Attached { link: link.clone(), fabric: Arc::new(fabric) };
        self.links.lock().insert(link.id(), attached);
    }

    /// A link that a worker is attached to.
    pub fn link(&self, id: u32) -> Option<Arc<Link>> {
        self.links.lock().get(&id).map(|attached| attached.link.clone())
    }

    /// Lets go of what UCX keeps of a revoked export; answers the links that must be told.
    pub fn forget(&self, export: u64) -> Vec<u32> {
        let mut remote = self.remote.lock();
        remote.memory.retain(|(of, _), _| *of != export);
        let told = remote.holders.iter().filter(|(of, _)| *of == export).map(|(_, link)| *link).collect();
        remote.holders.retain(|(of, _)| *of != export);
        told
    }

    fn remote_key(&self, link: &Link, export: u64, span: Span) -> Result<(u64, Vec<u8>), Status> {
        let fabric =
            self.links.lock().get(&link.id()).map(|attached| attached.fabric.clone()).filter(|f| f.rma);
        let fabric = fabric.ok_or(Status::Unsupported)?;
        let context = self.fabrics.get(&fabric).map_err(|error| error.status)?;
        let mut remote = self.remote.lock();
        let memory = match remote.memory.get(&(export, fabric.clone())) {
            Some(memory) => memory.clone(),
            None => {
                let memory = context.map(span).map_err(|error| error.status)?;
                remote.memory.insert((export, fabric), memory.clone());
                memory
            }
        };
        let rkey = memory.pack_rkey().map_err(|error| error.status)?;
        remote.holders.insert((export, link.id()));
        Ok((memory.address(), rkey))
    }
}

impl KeyService for Keys {
    fn grant(&self, link: &Arc<Link>, ask: &KeyAsk) -> Result<KeyGrant, Status> {
        let secret = Secret(ask.secret);
        let (span, rights) = self.exports.open(ask.export_id, &secret)?;
        let mut grant =
            KeyGrant { length: span.len() as u64, rights: rights.bits(), mapping: None, rma: None };
        let ways = u32::from(ask.ways) & self.ways;
        if ways & way::MAPPED != 0 && link.local() {
            let mapped = self.exports.grant_mapping(ask.export_id, &secret, link.id());
            let mapped = mapped.map_err(|error| error.status)?;
            grant.mapping = mapped.map(|mapped| [mapped.memory, mapped.words]);
        }
        if grant.mapping.is_none() && ways & way::RMA != 0 {
            grant.rma = self.remote_key(link, ask.export_id, span).ok();
        }
        if grant.mapping.is_none() && grant.rma.is_none() && ways & way::MESSAGE == 0 {
            return Err(Status::Unsupported);
        }
        Ok(grant)
    }

    fn dropped(&self, link: &Arc<Link>, export_id: u64) {
        self.exports.drop_mapping(export_id, link.id());
        self.remote.lock().holders.remove(&(export_id, link.id()));
    }

    fn link_lost(&self, link: &Arc<Link>) {
        self.exports.link_lost(link.id());
        self.links.lock().remove(&link.id());
        self.remote.lock().holders.retain(|(_, of)| *of != link.id());
    }
}
