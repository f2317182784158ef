//! An operation between its submission and its completion.

use std::sync::Arc;
use std::time::Instant;

use super::work::Local;
use crate::engine::options::way;
use crate::engine::region::Region;
use crate::engine::request::Op;
use crate::engine::session::Session;
use crate::status::Status;

/// How an operation ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub status: Status,
    pub detail: i32,
    pub length: u64,
    pub value: u64,
}

impl Outcome {
    /// An end with nothing to tell but the status.
    pub fn of(status: Status) -> Outcome {
        Outcome { status, detail: 0, length: 0, value: 0 }
    }

    /// A good end that moved `length` bytes.
    pub fn moved(length: u64) -> Outcome {
        Outcome { status: Status::Ok, detail: 0, length, value: 0 }
    }
}

/// An operation in flight. It completes when it has an outcome and UCX holds nothing of it any more.
pub(super) struct Pending {
    pub user_data: u64,
    pub op: Op,
    pub session: Arc<Session>,
    pub region: Option<Arc<Region>>,
    pub region_offset: u64,
    pub local: Local,
    /// Bytes to move.
    pub length: u64,
    /// `way::*` it goes.
    pub way: u32,
    /// Operations of UCX that may still touch its memory.
    pub held: u32,
    /// Whether UCX was given memory of the user's; else all it holds is a frame of ours, which nobody waits for.
    pub pinned: bool,
    /// Whether UCX is writing to that memory.
    pub receiving: bool,
    pub outcome: Option<Outcome>,
    /// Its peer is lost: if UCX does not let go soon, it completes without.
    pub lost: bool,
    /// Bytes done so far by a mapped copy in steps.
    pub done: u64,
    /// The vectored operation it is a piece of.
    pub parent: Option<u64>,
    /// Pieces that have not ended, of a vectored operation.
    pub pieces: u32,
    /// Flush epoch of a put.
    pub epoch: Option<u64>,
    /// Set when its latency is sampled.
    pub started: Option<Instant>,
    /// The key of an import.
    pub key: Option<Box<[u8; crate::limits::KEY_BYTES]>>,
    pub operand: u64,
    pub compare: u64,
    pub call: Option<Box<super::call::Outgoing>>,
}

impl Pending {
    /// An operation of which nothing is known but what it is.
    pub fn new(user_data: u64, op: Op, session: Arc<Session>) -> Pending {
        Pending {
            user_data,
            op,
            session,
            region: None,
            region_offset: 0,
            local: Local::None,
            length: 0,
            way: way::MESSAGE,
            held: 0,
            pinned: false,
            receiving: false,
            outcome: None,
            lost: false,
            done: 0,
            parent: None,
            pieces: 0,
            epoch: None,
            started: None,
            key: None,
            operand: 0,
            compare: 0,
            call: None,
        }
    }

    pub fn finished(&self) -> bool {
        self.outcome.is_some() && self.held == 0 && self.pieces == 0
    }
}
