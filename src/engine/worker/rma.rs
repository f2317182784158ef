//! The RMA way: UCX moves the bytes, with a NIC without the peer's processor. The NIC enforces the key; range, rights
//! and revocation are checked here too, because transports below UCX that emulate RMA check nothing.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::core::Core;
use super::fabric::{Endpoint, Started, Token, started};
use super::pending::Outcome;
use super::work::Local;
use crate::engine::options::way;
use crate::engine::region::{Region, Way};
use crate::engine::request::Op;
use crate::status::{Error, Status};
use crate::ucx::{EndpointId, RkeyId};

/// An atomic that was started is always followed by its end.
fn followed(result: Result<(), Error>) -> Result<Started, Status> {
    result.map(|()| Started::Pending).map_err(|error| error.status)
}

/// A key as UCX wants it for one endpoint.
pub(super) struct Unpacked {
    region: Weak<Region>,
    fabric: u64,
    rkey: RkeyId,
}

/// Unpacked keys by fabric, endpoint and region.
pub(super) type Rkeys = HashMap<(u64, EndpointId, usize), Unpacked>;

impl Core {
    /// Starts a get, put or atomic on remote memory.
    pub(super) fn issue_rma(&mut self, id: u64, region: &Arc<Region>) {
        let result = self.start_rma(id, region);
        let Some(pending) = self.ops.get_mut(id) else { return };
        pending.pinned = true;
        match result {
            Ok(Started::Pending) => pending.held += 1,
            Ok(Started::Done) => {
                let length = pending.length;
                self.settle(id, Outcome::moved(length));
            }
            Err(status) => self.settle(id, Outcome::of(status)),
        }
    }

    fn start_rma(&mut self, id: u64, region: &Arc<Region>) -> Result<Started, Status> {
        let Way::Rma { remote_address: address, rkey } = region.way() else { return Err(Status::Internal) };
        let pending = self.ops.get_mut(id).ok_or(Status::Internal)?;
        let (index, _) = pending.session.place();
        let peer = self.peers.id_at(index).ok_or(Status::ConnectionLost)?;
        let to = self.peers.get(peer).ok_or(Status::ConnectionLost)?;
        let fabric = to.fabric;
        let Endpoint::Ucx(endpoint) = to.open_endpoint().ok_or(Status::ConnectionLost)? else {
            return Err(Status::Unsupported);
        };
        let rkey = self.rkey(fabric, endpoint, region, rkey)?;
        let pending = self.ops.get_mut(id).ok_or(Status::Internal)?;
        let remote = address + pending.region_offset;
        let worker = self.fabrics.worker(fabric)?;
        let token = Token::Op(id).pack();
        pending.way = way::RMA;
        match (&pending.local, pending.op) {
            (Local::Span(span), Op::Get) => started(worker.get(endpoint, rkey, remote, span.clone(), token)),
            (Local::Span(span), Op::Put) => started(worker.put(endpoint, rkey, remote, span.clone(), token)),
            (_, Op::FetchAdd) => followed(worker.fetch_add(endpoint, rkey, remote, pending.operand, token)),
            (_, Op::CompareSwap) => {
                followed(worker.compare_swap(endpoint, rkey, remote, pending.compare, pending.operand, token))
            }
            _ => Err(Status::Internal),
        }
    }

    /// The unpacked key of a region for an endpoint, kept while the region lives.
    fn rkey(
        &mut self,
        fabric: u64,
        endpoint: EndpointId,
        region: &Arc<Region>,
        packed: &[u8],
    ) -> Result<RkeyId, Status> {
        let name = (fabric, endpoint, Arc::as_ptr(region) as usize);
        if let Some(known) = self.rkeys.get(&name).filter(|known| known.region.strong_count() > 0) {
            return Ok(known.rkey);
        }
        let fabrics = &mut self.fabrics;
        self.rkeys.retain(|_, known| {
            let alive = known.region.strong_count() > 0;
            if !alive && let Ok(worker) = fabrics.worker(known.fabric) {
                let _ = worker.release_rkey(known.rkey);
            }
            alive
        });
        let rkey = fabrics.worker(fabric)?.unpack(endpoint, packed).map_err(|error| error.status)?;
        self.rkeys.insert(name, Unpacked { region: Arc::downgrade(region), fabric, rkey });
        Ok(rkey)
    }

    /// Has a flush wait until UCX says that the endpoint's writes are visible.
    pub(super) fn flush_rma(&mut self, id: u64, fabric: u64, endpoint: EndpointId) {
        let flushed = self
            .fabrics
            .worker(fabric)
            .and_then(|worker| started(worker.flush(endpoint, Token::Flushed(id).pack())));
        let Some(pending) = self.ops.get_mut(id) else { return };
        match flushed {
            Ok(Started::Done) => {}
            Ok(Started::Pending) => pending.held += 1,
            Err(status) => self.settle(id, Outcome::of(status)),
        }
    }
}
