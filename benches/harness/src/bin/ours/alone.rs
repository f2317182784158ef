//! What is measured without a peer of raw UCX: look-up, sessions, memory.

use std::time::Instant;

use rdma_engine::engine::handle;
use rdma_engine::engine::options::Mode;
use rdma_engine::engine::request::{Completion, Op, Request};
use rdma_engine::engine::session::Session;
use serde_json::json;

use crate::Arguments;
use crate::measure::{Done, blocks, memory_of, pin, print};
use crate::node::{Node, check};
use crate::target::Target;

/// Resolves live handles of many, in an order that no predictor knows.
pub fn handle_lookup(arguments: &Arguments) -> Done {
    pin(0)?;
    let node = Node::new(arguments, Mode::Polled)?;
    let buffers: Vec<_> = (0..1024).map(|_| node.context.alloc(64, 0)).collect::<Result<_, _>>()?;
    let ids: Vec<u64> = (0..4096).map(|i: usize| buffers[i * 7919 % 1024].id()).collect();
    let mut sum = 0usize;
    let figures = blocks(arguments.time(), ids.len(), || {
        for id in &ids {
            sum += handle::BUFFERS.get(std::hint::black_box(*id)).map_or(0, |buffer| buffer.len());
        }
        Ok(())
    })?;
    if sum == 0 {
        return Err("nothing was found".into());
    }
    print(json!({ "test": "handle-lookup", "median_us": figures.median_us, "ops_per_s": figures.ops_per_s }))
}

/// Opens `count` sessions to a connected peer and waits until all are open.
pub fn open_many(node: &Node, address: &str, count: usize) -> Done<Vec<u64>> {
    let mut sessions = Vec::with_capacity(count);
    let mut out = vec![Completion::default(); 256];
    let mut opened = 0;
    while opened < count {
        for _ in 0..(count - sessions.len()).min(256) {
            sessions.push(Session::connect(&node.worker, address, 0)?.id());
        }
        let taken = node.worker.poll(Some(std::time::Duration::ZERO), &mut out)?;
        for completion in out[..taken].iter().filter(|c| c.op == Op::SessionConnect as u32) {
            check(completion)?;
            opened += 1;
        }
    }
    Ok(sessions)
}

/// Sessions a second to a peer that is connected.
pub fn session_open(arguments: &Arguments) -> Done {
    let target = Target::start()?;
    let node = Node::new(arguments, Mode::Polled)?;
    node.connect(&target.address)?;
    let count = 20_000;
    let mut rates = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let sessions = open_many(&node, &target.address, count)?;
        rates.push(count as f64 / began.elapsed().as_secs_f64());
        close_all(&node, &sessions)?;
    }
    rates.sort_by(f64::total_cmp);
    print(json!({ "test": "session-open", "ops_per_s": rates[2] }))
}

fn close_all(node: &Node, sessions: &[u64]) -> Done {
    let mut out = vec![Completion::default(); 1024];
    let mut left = 0;
    for id in sessions {
        let session = handle::SESSIONS.get(*id).ok_or("a session is gone")?.arc();
        session.close(1);
        left += 1;
    }
    while left > 0 {
        let taken = node.worker.poll(Some(std::time::Duration::ZERO), &mut out)?;
        left -= out[..taken].iter().filter(|c| c.op == Op::SessionClosed as u32).count();
    }
    Ok(())
}

/// Bytes of both processes for each session beyond the first.
pub fn session_memory(arguments: &Arguments) -> Done {
    let target = Target::start()?;
    let node = Node::new(arguments, Mode::Polled)?;
    node.connect(&target.address)?;
    let both = || {
        Ok::<u64, Box<dyn std::error::Error>>(memory_of(std::process::id())? + memory_of(target.child.id())?)
    };
    let before = both()?;
    let count = 50_000;
    let sessions = open_many(&node, &target.address, count)?;
    // One more round trip: the target has taken them all.
    let send = Request {
        op: Op::Send as u16,
        session: sessions[count - 1],
        data: b"all".as_slice().into(),
        ..Request::default()
    };
    node.run(send, Op::Message)?;
    print(
        json!({ "test": "session-memory", "value": (both()?.saturating_sub(before)) as f64 / count as f64 }),
    )
}

/// Bytes that both processes grow by over many messages and gets by messages.
pub fn growth(arguments: &Arguments) -> Done {
    let target = Target::start()?;
    let node = Node::new(&Arguments { way: "message".into(), ..arguments.clone() }, Mode::Polled)?;
    let session = node.connect(&target.address)?;
    let import = Request {
        op: Op::RegionImport as u16,
        session: session.id(),
        data: target.key.as_slice().into(),
        ..Request::default()
    };
    let region = node.run(import, Op::RegionImport)?.value;
    let buffer = node.context.alloc(8, 0)?;
    let get = Request {
        op: Op::Get as u16,
        session: session.id(),
        buffer: buffer.id(),
        length: 8,
        region,
        ..Request::default()
    };
    let requests = vec![get; 64];
    let mut out = vec![Completion::default(); 64];
    let mut rounds = |operations: u64| -> Done {
        for _ in 0..operations / 64 {
            node.run_all(&requests, 64, &mut out)?;
        }
        Ok(())
    };
    rounds(arguments.operations / 10)?;
    let both = || {
        Ok::<u64, Box<dyn std::error::Error>>(memory_of(std::process::id())? + memory_of(target.child.id())?)
    };
    let before = both()?;
    rounds(arguments.operations)?;
    print(json!({ "test": "growth", "value": both()?.saturating_sub(before) }))
}
