//! Messages there and back between two processes, polled: half a round trip, to set beside
//! `ucx_perftest -t ucp_am_lat`. Usage: `ucx_ping [bytes] [rounds] [transports]`.

use rdma_engine::ucx::{Context, ContextConfig, EndpointId, Protocol, Started, Worker};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word = |index: usize, other: &str| arguments.get(index).cloned().unwrap_or_else(|| other.to_owned());
    let (bytes, rounds): (usize, u64) = (word(0, "8").parse()?, word(1, "1000000").parse()?);
    let tls = word(2, "posix,cma,self");
    let config = ContextConfig { tls, ..ContextConfig::default() };
    let mut worker = Worker::<Vec<u8>>::new(Context::new(&config)?)?;
    if std::env::var_os("UCX_PING_PEER").is_some() {
        return peer(&mut worker, bytes, rounds);
    }
    let mut child = Command::new(std::env::current_exe()?)
        .args(&arguments)
        .env("UCX_PING_PEER", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut to_peer = child.stdin.take().ok_or("no input")?;
    let mut from_peer = BufReader::new(child.stdout.take().ok_or("no output")?);
    write_hex(&mut to_peer, &worker.address()?)?;
    let endpoint = worker.endpoint(&read_hex(&mut from_peer)?)?;
    for _ in 0..10_000 {
        send(&mut worker, endpoint, bytes)?;
        wait(&mut worker)?;
    }
    let mut best = f64::INFINITY;
    let mut all = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..rounds / 10 {
            send(&mut worker, endpoint, bytes)?;
            wait(&mut worker)?;
        }
        let half = start.elapsed().as_secs_f64() / (rounds / 10) as f64 / 2.0 * 1e9;
        best = best.min(half);
        all.push(half);
    }
    all.sort_by(f64::total_cmp);
    println!("{bytes} bytes: median {:.0} ns, best {best:.0} ns", all[all.len() / 2]);
    drop(to_peer);
    child.wait()?;
    Ok(())
}

fn peer(worker: &mut Worker<Vec<u8>>, bytes: usize, rounds: u64) -> Result<(), Failure> {
    let mut input = BufReader::new(std::io::stdin());
    let endpoint = worker.endpoint(&read_hex(&mut input)?)?;
    write_hex(&mut std::io::stdout(), &worker.address()?)?;
    for _ in 0..10_000 + rounds / 10 * 10 {
        wait(worker)?;
        send(worker, endpoint, bytes)?;
    }
    let mut rest = Vec::new();
    input.read_to_end(&mut rest)?;
    Ok(())
}

fn send(worker: &mut Worker<Vec<u8>>, endpoint: EndpointId, bytes: usize) -> Result<(), Failure> {
    match worker.send(endpoint, &[7; 192][..bytes], None, 0, Protocol::Auto) {
        Started::Failed(error, _) => Err(error.into()),
        _ => Ok(()),
    }
}

fn wait(worker: &mut Worker<Vec<u8>>) -> Result<(), Failure> {
    loop {
        worker.progress()?;
        if worker.next_message().is_some() {
            while worker.next_completed().is_some() {}
            return Ok(());
        }
    }
}

fn write_hex(out: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn read_hex(input: &mut impl BufRead) -> Result<Vec<u8>, Failure> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let line = line.trim();
    let byte = |i| u8::from_str_radix(line.get(i..i + 2).unwrap_or(""), 16);
    Ok((0..line.len()).step_by(2).map(byte).collect::<Result<_, _>>()?)
}
