//! Calls between a pair: what a test calls with, and a server that answers.

use rdma_engine::Status;
use rdma_engine::engine::call::{Call, Header, Piece, Reply};
use rdma_engine::engine::handle;
use rdma_engine::engine::options::{ContextOptions, Mode, WorkerOptions};
use rdma_engine::engine::request::{COMPLETION_INLINE, Completion, Op, Request};
use zerocopy::FromBytes;

use super::{Node, Pair, drive, status};

/// Answers with the payload, the header with 1 added to each field, and the method as status.
pub const ECHO: u32 = 1;

/// A worker that is called.
pub fn serving(mode: Mode) -> WorkerOptions {
    WorkerOptions { mode, calls: true, ..WorkerOptions::default() }
}

/// A pair whose both ends may be called.
pub fn pair(address: &str, options: &ContextOptions, client: Mode, server: Mode) -> Pair {
    Pair::of(Node::with(options, &serving(client)), Node::with(options, &serving(server)), address)
}

/// A call as the server sees it.
pub fn received(completion: &Completion) -> Call {
    assert_eq!((completion.op, completion.flags & 2), (Op::CallReceived as u32, 2));
    let call = Call::take(completion.value).unwrap();
    assert_eq!((call.method(), call.len() as u64), (completion.detail as u32, completion.length));
    if completion.flags & COMPLETION_INLINE != 0 {
        assert_eq!(call.bytes().unwrap(), &completion.data[..completion.length as usize]);
        assert!(call.header().is_zero());
    } else {
        assert_eq!(header_of(completion), call.header());
    }
    call
}

pub fn header_of(completion: &Completion) -> Header {
    Header::read_from_bytes(&completion.data).unwrap()
}

/// The echo of a call, without a copy when it is long.
pub fn echo(call: Call) {
    let Header { offset, len, flags, .. } = call.header();
    let header = if call.header().is_zero() {
        Header::default()
    } else {
        Header { offset: offset + 1, len: len + 1, flags: flags + 1, reserved: 0 }
    };
    let (bytes, method) = (call.bytes().map(<[u8]>::to_vec), call.method() as i32);
    let piece = match &bytes {
        Some(bytes) => Piece::bytes(bytes),
        None => Piece::buffer(call.buffer(), 0, call.len()),
    };
    let reply = Reply { status: method, header, pieces: &[piece], file: None };
    assert!(call.reply(&reply).is_ok());
}

/// Answers every call that the node has, with `answer`.
pub fn serve(node: &mut Node, mut answer: impl FnMut(Call)) {
    node.poll();
    while let Some(completion) = node.take(|c| c.op == Op::CallReceived as u32) {
        answer(received(&completion));
    }
}

/// The payload of an answer, wherever it is; an engine's buffer is released.
pub fn payload_of(node: &Node, completion: &Completion) -> Vec<u8> {
    let length = completion.length as usize;
    if completion.flags & COMPLETION_INLINE != 0 {
        return completion.data[..length].to_vec();
    }
    if completion.value == 0 {
        assert_eq!(length, 0);
        return Vec::new();
    }
    let buffer = handle::BUFFERS.get(completion.value).unwrap().arc();
    assert_eq!(buffer.len(), length);
    let bytes = super::bytes_of(&buffer);
    node.context.release_buffer(&buffer).unwrap();
    bytes
}

/// Calls and waits for the answer, while the server answers with `answer`.
pub fn call_with(pair: &mut Pair, request: Request<'_>, mut answer: impl FnMut(Call)) -> Completion {
    let user_data = request.user_data;
    pair.client.submit(Request { session: pair.session.id(), ..request });
    let mut found = None;
    drive(&mut [&mut pair.client, &mut pair.server], "the answer", |nodes| {
        serve(nodes[1], &mut answer);
        found = nodes[0].take(|c| c.user_data == user_data && c.op == Op::Call as u32);
        found.is_some()
    });
    let found = found.unwrap();
    assert_eq!(found.flags & 2, 0);
    found
}

/// The same with [`echo`], and it is answered.
pub fn call(pair: &mut Pair, request: Request<'_>) -> Completion {
    let done = call_with(pair, request, echo);
    assert_eq!(status(&done), Status::Ok, "{done:?}");
    done
}
