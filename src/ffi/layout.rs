//! Proof by the compiler that the header's structures, constants and enumerations are the engine's.

use std::mem::offset_of;

use super::types::*;
use crate::engine::bytes::{Bytes, PIECES};
use crate::engine::call::{Header, Piece};
use crate::engine::request::{self, Completion, Op, Request, Segment};
use crate::engine::{info, options, pool};
use crate::limits;

const _: () = {
    assert!(size_of::<rde_error>() == 256 && size_of::<rde_key>() == 64 && size_of::<rde_bytes>() == 16);
    assert!(size_of::<rde_context_options>() == 128 && size_of::<rde_worker_options>() == 56);
    assert!(size_of::<rde_context_details>() == 832 && size_of::<rde_session_details>() == 712);
    assert!(size_of::<rde_call_arguments>() == 96 && size_of::<rde_call_details>() == 80);
    assert!(size_of::<rde_region_details>() == 24 && size_of::<rde_stats>() == 1608);
};

/// Asserts that a structure of the header and one of the engine are the same memory.
macro_rules! same_layout {
    ($ours:ty, $theirs:ty, $($field:ident),+) => {
        const _: () = {
            assert!(size_of::<$ours>() == size_of::<$theirs>() && align_of::<$ours>() == align_of::<$theirs>());
            $(assert!(offset_of!($ours, $field) == offset_of!($theirs, $field));)+
        };
    };
}

same_layout!(
    rde_request,
    Request,
    user_data,
    session,
    op,
    flags,
    timeout_us,
    buffer,
    buffer_offset,
    length,
    region,
    region_offset,
    data,
    operand,
    compare
);
same_layout!(rde_completion, Completion, user_data, op, status, length, value, flags, detail, data);
same_layout!(rde_rpc_header, Header, offset, len, flags, reserved);
same_layout!(rde_segment, Segment, buffer_offset, region_offset, length);
// Fields of the engine's that are private: the piece's bytes come first.
const _: () = assert!(size_of::<rde_piece>() == size_of::<Piece<'_>>() && RDE_PIECES == PIECES);
const _: () = assert!(offset_of!(rde_piece, buffer) == 16 && offset_of!(rde_piece, buffer_offset) == 24);
// The fields of the engine's are private: their order is the one of a pointer and a length.
const _: () = assert!(size_of::<rde_bytes>() == size_of::<Bytes<'_>>() && offset_of!(rde_bytes, len) == 8);

const _: () = {
    assert!(RDE_KEY_BYTES == limits::KEY_BYTES && RDE_ADDRESS_MAX == limits::ADDRESS_TEXT);
    assert!(RDE_BATCH_MAX as usize == limits::BATCH && RDE_SEGMENTS_MAX as usize == limits::SEGMENTS);
    assert!(
        RDE_INLINE_BYTES == request::INLINE_MESSAGE && RDE_COMPLETION_INLINE == request::COMPLETION_INLINE
    );
    assert!(RDE_REQUEST_CHECKSUM == request::REQUEST_CHECKSUM);
    assert!(RDE_COMPLETION_CHECKSUM == request::COMPLETION_CHECKSUM);
    assert!(RDE_REQUEST_VECTORED == request::REQUEST_VECTORED && RDE_BUFFER_EXPORTABLE == pool::EXPORTABLE);
    use options::{transport, way};
    assert!(RDE_TRANSPORT_SHARED == transport::SHARED && RDE_TRANSPORT_TCP == transport::TCP);
    assert!(RDE_TRANSPORT_RDMA == transport::RDMA && RDE_WAY_MAPPED == way::MAPPED);
    assert!(RDE_WAY_RMA == way::RMA && RDE_WAY_MESSAGE == way::MESSAGE);
    assert!(
        RDE_BUFFER_UNINITIALISED == pool::UNINITIALISED && RDE_COMPLETION_EVENT == request::COMPLETION_EVENT
    );
    use info::SessionState;
    assert!(rde_session_state::Connecting as u32 == SessionState::Connecting as u32);
    assert!(rde_session_state::Open as u32 == SessionState::Open as u32);
    assert!(rde_session_state::Closing as u32 == SessionState::Closing as u32);
    assert!(rde_session_state::Closed as u32 == SessionState::Closed as u32);
    assert!(rde_session_state::Lost as u32 == SessionState::Lost as u32);
};

macro_rules! same_ops {
    ($($op:ident),+) => {
        const _: () = { $(assert!(rde_op::$op as u16 == Op::$op as u16);)+ };
        /// Fails to compile when the engine has an operation that the header lacks.
        #[allow(dead_code, reason = "only its exhaustiveness is wanted")]
        fn header_has(op: Op) -> rde_op {
            match op { $(Op::$op => rde_op::$op),+ }
        }
    };
}

same_ops!(
    Nop,
    Get,
    Put,
    Flush,
    FetchAdd,
    CompareSwap,
    Send,
    RegionImport,
    SessionConnect,
    Call,
    OneWay,
    SessionAccepted,
    SessionClosed,
    Message,
    CallReceived,
    CallCanceled
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::key::Rights;

    #[test]
    fn rights_are_those_of_the_engine() {
        assert_eq!(RDE_RIGHT_READ, Rights::READ.bits());
        assert_eq!(RDE_RIGHT_WRITE, Rights::WRITE.bits());
        assert_eq!(RDE_RIGHT_ATOMIC, Rights::ATOMIC.bits());
    }
}
