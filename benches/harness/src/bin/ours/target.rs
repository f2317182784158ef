//! The target: a process of its own on the second core. It tells address and key in one line, then serves until its
//! standard input ends.

use std::io::{BufRead, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::options::Mode;
use rdma_engine::engine::pool::EXPORTABLE;
use rdma_engine::engine::request::{COMPLETION_EVENT, Completion, Op, Request};

use crate::Arguments;
use crate::measure::{Done, pin};
use crate::node::Node;

/// The byte at an offset of the exported buffer.
pub fn pattern(offset: usize) -> u8 {
    (offset * 31 + offset / 4096) as u8
}

/// Runs the target in this process.
pub fn serve(arguments: &Arguments) -> Done {
    pin(1)?;
    let polled = arguments.target == "polled";
    let node = Node::new(arguments, if polled { Mode::Polled } else { Mode::Threaded })?;
    let listener = Listener::open(&node.worker, "tcp://127.0.0.1:0", 0)?;
    let length = arguments.size.max(4096);
    let buffer = node.context.alloc(length, EXPORTABLE)?;
    let bytes: Vec<u8> = (0..length as usize).map(pattern).collect();
    buffer.whole()?.copy_from_slice(0, &bytes)?;
    let key = node.context.export(&buffer, 0, length, 7)?;
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{} {hex}", listener.address());
    static END: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        END.store(true, Ordering::Relaxed);
    });
    let mut out = [Completion::default(); 64];
    while !END.load(Ordering::Relaxed) {
        if polled { echo(&node, &mut out)? } else { std::thread::sleep(Duration::from_millis(20)) }
    }
    Ok(())
}

/// Answers every message with itself.
fn echo(node: &Node, out: &mut [Completion]) -> Done {
    let taken = node.worker.poll(Some(Duration::from_millis(10)), out)?;
    for call in out[..taken].iter().filter(|c| c.op == Op::CallReceived as u32) {
        crate::call::answer(call)?;
    }
    for message in
        out[..taken].iter().filter(|c| c.op == Op::Message as u32 && c.flags & COMPLETION_EVENT != 0)
    {
        let data = &message.data[..message.length as usize];
        let answer =
            Request { op: Op::Send as u16, session: message.value, data: data.into(), ..Request::default() };
        node.worker.submit(&[answer]);
    }
    Ok(())
}

/// The target as its initiator sees it.
pub struct Target {
    pub child: Child,
    pub address: String,
    pub key: Vec<u8>,
}

impl Target {
    /// Starts the target with our own arguments, then pins ourselves: a child inherits where it may run.
    pub fn start() -> Done<Target> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(std::env::args().skip(1))
            .arg("--serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        pin(0)?;
        let output = child.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        std::io::BufReader::new(output).read_line(&mut line)?;
        let (address, hex) = line.trim().split_once(' ').ok_or("the target did not start")?;
        let key = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16))
            .collect::<Result<_, _>>()?;
        Ok(Target { address: address.to_string(), key, child })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
