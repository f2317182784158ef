//! From what a peer granted for a key to a region.

use std::sync::{Arc, Weak};

use super::context::Context;
use super::control::{Control, KeyGrant, Link};
use super::export::Grant;
use super::key::{Key, Rights};
use super::region::{MappedRegion, Region, Way};
use crate::status::{Error, Result, Status};

/// The region of a key, by the way that its owner granted. Nothing of the peer's is trusted.
pub(super) fn region(key: Key, link: &Arc<Link>, grant: KeyGrant, context: &Context) -> Result<Arc<Region>> {
    let hold = Hold { control: Arc::downgrade(context.control()), link: link.clone(), export: key.export };
    let rights = Rights::from_bits(grant.rights)?;
    if grant.length != key.length || rights != key.rights {
        return Err(Error::new(
            Status::Protocol,
            "the peer granted another range or other rights than its key says",
        ));
    }
    let way = match (grant.mapping, grant.rma) {
        (Some([memory, words]), _) => {
            let grant = Grant { memory, words, length: grant.length, rights };
            Way::Mapped(MappedRegion::import(&key, &grant)?)
        }
        (None, Some((remote_address, rkey))) => {
            if remote_address.checked_add(key.length).is_none() {
                return Err(Error::new(
                    Status::Protocol,
                    "the peer granted memory past the end of its address space",
                ));
            }
            Way::Rma { remote_address, rkey }
        }
        (None, None) => Way::Message,
    };
    Ok(Arc::new(Region::new(key, way).of(context.id(), Box::new(hold))))
}

/// Tells the peer, when the region is gone, that nobody here holds its memory any more.
struct Hold {
    control: Weak<Control>,
    link: Arc<Link>,
    export: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(control) = self.control.upgrade() {
            control.drop_key(&self.link, self.export);
        }
    }
}
