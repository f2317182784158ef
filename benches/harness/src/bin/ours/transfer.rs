//! Gets, puts and messages against a target process.

use rdma_engine::engine::options::Mode;
use rdma_engine::engine::request::{Completion, Op, Request};
use serde_json::json;

use crate::Arguments;
use crate::measure::{Done, blocks, print};
use crate::node::Node;
use crate::target::{Target, pattern};

/// Gets, or puts and flushes.
pub fn one_sided(arguments: &Arguments) -> Done {
    let target = Target::start()?;
    let node = Node::new(arguments, Mode::Polled)?;
    let session = node.connect(&target.address)?;
    let import = Request {
        op: Op::RegionImport as u16,
        session: session.id(),
        data: target.key.as_slice().into(),
        ..Request::default()
    };
    let region = node.run(import, Op::RegionImport)?.value;
    let buffer = node.context.alloc(arguments.size, 0)?;
    let op = if arguments.test == "get" { Op::Get } else { Op::Put };
    let mine: Vec<u8> = (0..arguments.size as usize).map(|i| !pattern(i)).collect();
    buffer.whole()?.copy_from_slice(0, &mine)?;
    let request = Request {
        op: op as u16,
        session: session.id(),
        buffer: buffer.id(),
        length: arguments.size,
        region,
        ..Request::default()
    };
    let operations = match arguments.in_flight {
        1 => 1,
        n => n.max(64.min((16 << 20) / arguments.size as usize)),
    };
    let mut requests = vec![request; operations];
    if op == Op::Put {
        requests.push(Request { op: Op::Flush as u16, session: session.id(), ..Request::default() });
    }
    let window = if op == Op::Put { requests.len() } else { arguments.in_flight };
    let mut out = vec![Completion::default(); window];
    let figures = blocks(arguments.time(), operations, || node.run_all(&requests, window, &mut out))?;
    if op == Op::Put {
        node.run(Request { op: Op::Get as u16, ..request }, Op::Get)?;
    }
    let mut moved = vec![0; arguments.size as usize];
    buffer.whole()?.copy_to_slice(0, &mut moved)?;
    let expected = |i: usize| if op == Op::Get { pattern(i) } else { !pattern(i) };
    if moved.iter().enumerate().any(|(i, byte)| *byte != expected(i)) {
        return Err("the bytes that were moved are not the right ones".into());
    }
    print(json!({
        "test": arguments.test,
        "size": arguments.size,
        "median_us": figures.median_us,
        "gb_per_s": arguments.size as f64 / figures.median_us / 1000.0,
        "ops_per_s": figures.ops_per_s,
        "operations_by_way": session.info().operations,
    }))
}

/// Round trips of one message.
pub fn message(arguments: &Arguments) -> Done {
    let target = Target::start()?;
    let node = Node::new(arguments, Mode::Polled)?;
    let session = node.connect(&target.address)?;
    let data: Vec<u8> = (0..arguments.size as usize).map(pattern).collect();
    let send = Request {
        op: Op::Send as u16,
        session: session.id(),
        data: data.as_slice().into(),
        ..Request::default()
    };
    let mut out = [Completion::default(); 4];
    let figures = blocks(arguments.time(), 1, || {
        node.worker.submit(&[send]);
        let (mut sent, mut came) = (false, false);
        while !(sent && came) {
            let taken = node.worker.poll(Some(std::time::Duration::from_secs(1)), &mut out)?;
            for completion in &out[..taken] {
                crate::node::check(completion)?;
                sent |= completion.op == Op::Send as u32;
                came |= completion.op == Op::Message as u32;
            }
        }
        Ok(())
    })?;
    print(json!({ "test": "message", "size": arguments.size, "median_us": figures.median_us }))
}
