//! What came beside a frame, whatever carries it.

use crate::engine::stream::Payload;
use crate::ucx;

/// What came beside a frame.
pub(super) enum Data {
    /// Nothing.
    None,
    /// It is here.
    Eager(ucx::Eager),
    /// It comes when it is known where to. Dropping it is discarding it: the sender sees a success.
    Rendezvous(Rendezvous),
}

/// Bytes that have been announced.
pub(super) enum Rendezvous {
    Ucx(ucx::Rendezvous),
    Stream(Payload),
}

impl Data {
    /// Bytes that came or will come.
    pub fn len(&self) -> u64 {
        match self {
            Data::None => 0,
            Data::Eager(eager) => eager.len() as u64,
            Data::Rendezvous(Rendezvous::Ucx(held)) => held.len() as u64,
            Data::Rendezvous(Rendezvous::Stream(payload)) => payload.length(),
        }
    }
}

impl From<ucx::Data> for Data {
    #[inline]
    fn from(data: ucx::Data) -> Data {
        match data {
            ucx::Data::None => Data::None,
            ucx::Data::Eager(eager) => Data::Eager(eager),
            ucx::Data::Rendezvous(held) => Data::Rendezvous(Rendezvous::Ucx(held)),
        }
    }
}
