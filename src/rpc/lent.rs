//! Memory that callers lend a server, so that it puts answers there itself: imported once for each session, by the key that
//! the caller made, and used only where it is mapped.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::answer::Answer;
use crate::engine::buffer::Span;
use crate::engine::call::{Call, Header};
use crate::engine::handle;
use crate::engine::info::SessionState;
use crate::engine::key::Rights;
use crate::engine::region::{Place, Region, Way};
use crate::engine::request::{Completion, Op, Request};
use crate::engine::slots::Slots;
use crate::limits;
use crate::status::{Error, Result, Status};

/// Microseconds that the import of a key may take.
const IMPORT_US: u32 = 5_000_000;

/// What the callers of one server lent. Any thread.
#[derive(Default)]
pub struct Lent {
    /// By session; a memory's number is its place here, from 1.
    regions: RwLock<HashMap<u64, Vec<Option<Arc<Region>>>>>,
    /// Calls whose keys are being imported.
    importing: Mutex<Slots<Call>>,
}

impl Lent {
    /// Memory that a session lent, to be written now. `None`: there is none with this number, or its key was revoked.
    pub fn region(&self, session: u64, number: u64) -> Option<Arc<Region>> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        let region = self.regions.read().get(&session)?.get(index)?.clone()?;
        if !region.is_revoked() {
            return Some(region);
        }
        self.give_back(session, number);
        None
    }

    /// Answers a call that lends memory (its payload is the key) or takes it back (no payload, its header's `offset` is the
    /// number).
    pub(super) fn take(&self, call: Call) {
        match call.bytes() {
            Some([]) => {
                let known = self.give_back(call.session().id(), call.header().offset);
                let status = if known { Status::Ok } else { Status::NotFound };
                Answer::status(status as i32).send(call);
            }
            Some(key) if key.len() == limits::KEY_BYTES => self.import(<Vec<u8>>::from(key), call),
            _ => Answer::status(Status::InvalidArgument as i32).send(call),
        }
    }

    fn import(&self, key: Vec<u8>, call: Call) {
        let session = call.session().clone();
        let id = self.importing.lock().insert(call);
        let request = Request {
            user_data: id,
            session: session.id(),
            op: Op::RegionImport as u16,
            timeout_us: IMPORT_US,
            data: key.as_slice().into(),
            ..Request::default()
        };
        let status = match session.worker() {
            Ok(worker) => match worker.submit(&[request]) {
                (1, _) => return,
                (_, status) => status,
            },
            Err(error) => error.status,
        };
        if let Some(call) = self.importing.lock().remove(id) {
            Answer::status(status as i32).send(call);
        }
    }

    /// An import has ended: its call is answered with the memory's number (`offset`) and length (`len`).
    pub(super) fn imported(&self, completion: &Completion) {
        let region = handle::REGIONS.remove(completion.value);
        let Some(call) = self.importing.lock().remove(completion.user_data) else { return };
        let answer = match Status::from_i32(completion.status) {
            Some(Status::Ok) => {
                region.ok_or(Status::Internal.into()).and_then(|region| self.keep(&call, region))
            }
            status => Err(status.unwrap_or(Status::Internal).into()),
        };
        match answer {
            Ok(header) => Answer { header, ..Answer::default() }.send(call),
            Err(error) => Answer::status(error.status as i32).send(call),
        }
    }

    fn keep(&self, call: &Call, region: Arc<Region>) -> Result<Header> {
        if !matches!(region.way(), Way::Mapped(_)) {
            return Err(Status::Unsupported.into());
        }
        if !region.rights().allows(Rights::WRITE) {
            return Err(Status::PermissionDenied.into());
        }
        let len = region.len();
        let mut regions = self.regions.write();
        if call.session().state() != SessionState::Open {
            return Err(Status::Canceled.into());
        }
        let of_session = regions.entry(call.session().id()).or_default();
        for place in of_session.iter_mut() {
            if place.as_ref().is_some_and(|region| region.is_revoked()) {
                *place = None;
            }
        }
        let index = match of_session.iter().position(Option::is_none) {
            Some(free) => free,
            None if of_session.len() < limits::LENT => {
                of_session.push(None);
                of_session.len() - 1
            }
            None => {
                return Err(Error::new(Status::LimitReached, "a session lends that many memories at most"));
            }
        };
        of_session[index] = Some(region);
        Ok(Header { offset: index as u64 + 1, len, ..Header::default() })
    }

    fn give_back(&self, session: u64, number: u64) -> bool {
        let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let mut regions = self.regions.write();
        let place = index.and_then(|index| regions.get_mut(&session)?.get_mut(index));
        // Its last user unmaps it.
        place.and_then(Option::take).is_some()
    }

    /// A session has ended, and what it lent is not ours any more.
    pub(super) fn ended(&self, session: u64) {
        self.regions.write().remove(&session);
    }
}

/// `length` bytes of lent memory from `offset` on, to be written at once. Errors: `OutOfRange`, `Revoked`.
pub fn writable(region: &Region, offset: u64, length: u64) -> Result<Span> {
    match region.check(offset, length, Rights::WRITE)? {
        Place::Here(span) => Ok(span),
        Place::Remote(_) | Place::Ask => Err(Status::Unsupported.into()),
    }
}
