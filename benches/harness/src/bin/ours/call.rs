//! Calls against a target process.

use std::time::{Duration, Instant};

use rdma_engine::engine::bytes::Bytes;
use rdma_engine::engine::call::{Call, Header, Piece, Reply};
use rdma_engine::engine::options::Mode;
use rdma_engine::engine::request::{Completion, Op, Request};
use serde_json::json;

use crate::Arguments;
use crate::alone::open_many;
use crate::measure::{Done, blocks, memory_of, print};
use crate::node::Node;
use crate::target::{Target, pattern};

const ECHO: u32 = 1;
const TAKE: u32 = 2;

/// The target's side: an echo, or the payload's length.
pub fn answer(event: &Completion) -> Done {
    let call = Call::take(event.value)?;
    let length = call.len() as u64;
    let mut bytes = [0; 192];
    let echoed = call.bytes().filter(|_| call.method() == ECHO).unwrap_or_default();
    let echoed = bytes.get_mut(..echoed.len()).map(|room| {
        room.copy_from_slice(echoed);
        &*room
    });
    let piece = [Piece::bytes(echoed.ok_or("too long to be echoed")?)];
    let header =
        if call.method() == TAKE { Header { len: length, ..Header::default() } } else { Header::default() };
    let reply = Reply { header, pieces: &piece, ..Reply::default() };
    call.reply(&reply).map_err(|(status, _)| status.message())?;
    Ok(())
}

/// One call at a time.
pub fn round_trips(arguments: &Arguments) -> Done {
    let target = Target::start()?;
    let node = Node::new(arguments, Mode::Polled)?;
    let session = node.connect(&target.address)?;
    let data: Vec<u8> = (0..arguments.size as usize).map(pattern).collect();
    let call = Request::call(session.id(), ECHO, &Header::default(), data.as_slice().into());
    let mut out = [Completion::default(); 4];
    let figures = blocks(arguments.time(), 1, || node.run_all(&[call], 1, &mut out))?;
    let last = node.run(call, Op::Call)?;
    if last.length != arguments.size || (last.length <= 24 && last.data[..data.len()] != data[..]) {
        return Err("the echo differs from what was sent".into());
    }
    print(json!({ "test": "call", "size": arguments.size, "median_us": figures.median_us }))
}

/// Many calls at a time on one session.
pub fn rate(arguments: &Arguments) -> Done {
    let target = Target::start()?;
    let node = Node::new(arguments, Mode::Polled)?;
    let session = node.connect(&target.address)?;
    let data: Vec<u8> = (0..arguments.size as usize).map(pattern).collect();
    let call = Request::call(session.id(), ECHO, &Header::default(), data.as_slice().into());
    let window = arguments.in_flight;
    let calls = vec![call; 4096.max(window)];
    let mut out = vec![Completion::default(); window];
    let figures = blocks(arguments.time(), calls.len(), || node.run_all(&calls, window, &mut out))?;
    print(json!({ "test": "call-rate", "ops_per_s": figures.ops_per_s, "median_us": figures.median_us }))
}

/// Payloads from a registered buffer.
pub fn bytes(arguments: &Arguments) -> Done {
    let target = Target::start()?;
    let node = Node::new(arguments, Mode::Polled)?;
    let session = node.connect(&target.address)?;
    let buffer = node.context.alloc(arguments.size, 0)?;
    let pieces = [Piece::buffer(buffer.id(), 0, arguments.size as usize)];
    let call = Request::call(session.id(), TAKE, &Header::default(), Bytes::pieces(&pieces));
    let window = arguments.in_flight;
    let calls = vec![call; 64.max(window)];
    let mut out = vec![Completion::default(); window];
    let figures = blocks(arguments.time(), calls.len(), || node.run_all(&calls, window, &mut out))?;
    let last = node.run(call, Op::Call)?;
    if last.data[8..16] != arguments.size.to_le_bytes() {
        return Err("the target took another length".into());
    }
    print(json!({
        "test": "call-bytes",
        "size": arguments.size,
        "median_us": figures.median_us,
        "gb_per_s": arguments.size as f64 / figures.median_us / 1000.0,
    }))
}

/// Processor time of a process so far.
fn processor_time(pid: u32) -> Done<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).ok_or("no time");
    // utime and stime, in ticks of 10 ms.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// What 1,000 sessions cost that nobody uses.
pub fn idle(arguments: &Arguments) -> Done {
    let target = Target::start()?;
    let node = Node::new(arguments, Mode::Threaded)?;
    node.connect(&target.address)?;
    let both = || {
        Ok::<u64, Box<dyn std::error::Error>>(memory_of(std::process::id())? + memory_of(target.child.id())?)
    };
    let before = both()?;
    let sessions = open_many(&node, &target.address, 1_000)?;
    std::thread::sleep(Duration::from_millis(100));
    let value = both()?.saturating_sub(before);
    let (began, busy) = (Instant::now(), processor_time(target.child.id())?);
    std::thread::sleep(Duration::from_secs(3));
    let share = (processor_time(target.child.id())? - busy).as_secs_f64() / began.elapsed().as_secs_f64();
    if share >= 0.01 {
        return Err(format!(
            "the target uses {:.1} % of a core for {} sessions",
            share * 100.0,
            sessions.len()
        )
        .into());
    }
    print(json!({ "test": "idle-sessions", "value": value, "core_share": share }))
}
