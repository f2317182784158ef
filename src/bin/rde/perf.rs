//! `rde perf`: latency with one operation in flight, then bandwidth with many, against an `rde serve`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdma_engine::engine::buffer::Buffer;
use rdma_engine::engine::call::Header;
use rdma_engine::engine::handle;
use rdma_engine::engine::request::{COMPLETION_INLINE, Completion, Op, Request};
use rdma_engine::engine::session::Session;
use rdma_engine::{Error, Result, Status};
use serde_json::{Value, json};

use super::Run;
use super::args::{Operation, Perf, Progress};
use super::catalogue::{ECHO, Message, overhead};
use super::latency::Latency;
use super::link::{self, Link, ended, lost};
use super::list::ANSWER;
use super::serve::{ECHO_METHOD, SCRATCH};
use super::units::{Size, nanoseconds};

/// Local memory that operations in flight use, in bytes.
const IN_FLIGHT: u64 = 256 << 20;
/// Completions taken at a time.
const BATCH: usize = 256;

/// When a measure ends.
#[derive(Clone, Copy)]
enum Limit {
    Count(u64),
    Time(Duration),
}

impl Limit {
    fn reached(self, done: u64, start: Instant) -> bool {
        match self {
            Limit::Count(count) => done >= count,
            Limit::Time(time) => start.elapsed() >= time,
        }
    }
}

struct Bench<'a> {
    link: &'a mut Link,
    session: Arc<Session>,
    operation: Operation,
    limit: Limit,
    warm_up: u64,
    /// The peer's scratch memory and its length; 0 for messages.
    region: u64,
    scratch: u64,
    /// Local memory; what a message carries is `text`.
    buffer: Option<Arc<Buffer>>,
    text: Vec<u8>,
}

/// What one size gave.
struct Row {
    size: u64,
    latency: Latency,
    depth: u64,
    operations: u64,
    seconds: f64,
}

/// Measures every size and prints the table.
pub fn run(run: &Run, perf: &Perf) -> Result<()> {
    let sizes = sizes(perf)?;
    let largest = sizes.iter().copied().max().unwrap_or(0);
    let depth = u64::from(perf.depth.unwrap_or(32)).clamp(1, 4_096);
    let memory = largest.saturating_mul(depth).min(IN_FLIGHT).max(largest);
    let mut link = Link::open(&run.engine, memory, run.stop.clone())?;
    let session = link.connect(&perf.address)?;
    let limit = match (perf.iterations, perf.duration) {
        (Some(count), _) => Limit::Count(count.max(1)),
        (None, span) => Limit::Time(span.map_or(Duration::from_secs(1), |span| span.0)),
    };
    let mut bench = Bench {
        link: &mut link,
        session: Arc::clone(&session),
        operation: perf.operation,
        limit,
        warm_up: perf.warm_up.unwrap_or(100),
        region: 0,
        scratch: 0,
        buffer: None,
        text: Vec::new(),
    };
    bench.prepare(largest, memory)?;
    let mut rows = Vec::new();
    for size in sizes {
        rows.push(bench.row(size, depth.min((memory / size.max(1)).max(1)))?);
    }
    let way = link::region(bench.region).map_or("message", |(_, way)| way);
    bench.release();
    let transport = session.info().transport;
    link.disconnect(&session);
    link.close()?;
    print(run, perf, &rows, way, &transport)
}

fn sizes(perf: &Perf) -> Result<Vec<u64>> {
    let sizes = match (&perf.sizes, perf.operation) {
        (Some(sizes), _) => sizes.iter().map(|size| size.0).collect(),
        (None, Operation::Message | Operation::Rpc) => vec![8, 4 << 10],
        (None, _) => vec![8, 4 << 10, 64 << 10, 1 << 20],
    };
    let carried = matches!(perf.operation, Operation::Message | Operation::Rpc);
    let largest = if carried { ECHO as u64 } else { IN_FLIGHT };
    let smallest = if carried { 0 } else { 1 };
    match sizes.iter().find(|size| !(smallest..=largest).contains(*size)) {
        Some(size) => {
            let message =
                format!("--sizes: {} is not within {smallest} B and {}", Size(*size), Size(largest));
            Err(Error::new(Status::InvalidArgument, message))
        }
        None => Ok(sizes),
    }
}

impl Bench<'_> {
    /// Opens the peer's scratch memory and allocates ours.
    fn prepare(&mut self, largest: u64, memory: u64) -> Result<()> {
        if matches!(self.operation, Operation::Message | Operation::Rpc) {
            self.text = (0..largest).map(|i| i as u8).collect();
            return Ok(());
        }
        let Message::Opened(grant) =
            self.link.ask(&self.session, &Message::Open(SCRATCH.to_owned()), ANSWER)?
        else {
            return Err(Error::new(Status::Protocol, "the peer did not answer with a key"));
        };
        if grant.size < largest {
            let message = format!(
                "the peer has {} of scratch memory; start it with --scratch {largest}",
                Size(grant.size)
            );
            return Err(Error::new(Status::OutOfRange, message));
        }
        self.region = self.link.import(&self.session, &grant.key)?;
        self.scratch = grant.size;
        self.buffer = Some(self.link.context.alloc(memory, 0)?);
        Ok(())
    }

    fn release(&mut self) {
        link::release_region(self.region);
        if let Some(buffer) = &self.buffer {
            self.link.release(buffer);
        }
    }

    fn row(&mut self, size: u64, depth: u64) -> Result<Row> {
        let latency = self.latency(size)?;
        let (operations, seconds) = self.bandwidth(size, depth)?;
        Ok(Row { size, latency, depth, operations, seconds })
    }

    /// The request that moves `size` bytes by the local memory's part number `slot`.
    fn request<'a>(&self, size: u64, slot: u64, message: &'a [u8]) -> Request<'a> {
        let session = self.session.id();
        let data = message.into();
        let op = match self.operation {
            Operation::Message => {
                return Request { session, op: Op::Send as u16, data, ..Request::default() };
            }
            Operation::Rpc => return Request::call(session, ECHO_METHOD, &Header::default(), data),
            Operation::Get => Op::Get,
            Operation::Put => Op::Put,
        };
        Request {
            user_data: slot,
            session,
            op: op as u16,
            buffer: self.buffer.as_ref().map_or(0, |buffer| buffer.id()),
            buffer_offset: slot * size,
            length: size,
            region: self.region,
            region_offset: (slot % (self.scratch / size.max(1)).max(1)) * size,
            ..Request::default()
        }
    }

    /// One at a time. A put is timed with the flush after it, a message with its echo.
    fn latency(&mut self, size: u64) -> Result<Latency> {
        let text = self.text.get(..size as usize).unwrap_or_default().to_vec();
        let echo = if self.operation == Operation::Rpc { text } else { Message::Echo(text).encode(0) };
        let last = match self.operation {
            Operation::Rpc => Op::Call,
            Operation::Get => Op::Get,
            Operation::Put => Op::Flush,
            Operation::Message => Op::Message,
        };
        let flush = Request { session: self.session.id(), op: Op::Flush as u16, ..Request::default() };
        let requests = [self.request(size, 0, &echo), flush];
        let requests = if self.operation == Operation::Put { &requests[..] } else { &requests[..1] };
        let mut latency = Latency::new()?;
        let mut out = [Completion::default(); 4];
        let (mut done, mut clock) = (0, Instant::now());
        while done < self.warm_up || !self.limit.reached(done - self.warm_up, clock) {
            if done == self.warm_up {
                clock = Instant::now();
            }
            let start = Instant::now();
            for request in requests {
                self.link.submit(request)?;
            }
            while !self.round(&mut out, last)? {}
            if done >= self.warm_up {
                latency.add(start.elapsed());
            }
            done += 1;
        }
        Ok(latency)
    }

    /// Takes completions; whether the one that ends a round was among them.
    fn round(&mut self, out: &mut [Completion], last: Op) -> Result<bool> {
        let count = self.link.poll(out)?;
        let mut ends = false;
        for completion in &out[..count] {
            lost(completion)?;
            ended(completion)?;
            if completion.op == Op::Message as u32 {
                self.link.arrived(completion)?;
            }
            self.let_go(completion);
            ends |= completion.op == last as u32;
        }
        Ok(ends)
    }

    /// Releases the buffer that a long answer came in.
    fn let_go(&self, completion: &Completion) {
        let long = completion.op == Op::Call as u32 && completion.flags & COMPLETION_INLINE == 0;
        if long && let Some(buffer) = handle::BUFFERS.get(completion.value) {
            self.link.release(&buffer.arc());
        }
    }

    /// `depth` at a time. The clock stops when the peer has everything: after a flush, or an echo behind the messages.
    fn bandwidth(&mut self, size: u64, depth: u64) -> Result<(u64, f64)> {
        let text = self.text.get(..size as usize).unwrap_or_default().to_vec();
        let sink = if self.operation == Operation::Rpc { text } else { Message::Sink(text).encode(0) };
        let mut free: Vec<Request<'_>> = (0..depth).map(|slot| self.request(size, slot, &sink)).collect();
        let slots = free.clone();
        let op = u32::from(slots[0].op);
        let mut out = vec![Completion::default(); BATCH];
        let (mut asked, mut done) = (0, 0);
        let start = Instant::now();
        let mut over = false;
        while !over || done < asked {
            over = over || self.limit.reached(asked, start);
            if !over {
                let mut wanted = free.len() as u64;
                if let Limit::Count(count) = self.limit {
                    wanted = wanted.min(count - asked);
                }
                let accepted = self.link.submit_some(&free[..wanted as usize])?;
                free.drain(..accepted);
                asked += accepted as u64;
            }
            let count = self.link.poll(&mut out)?;
            for completion in &out[..count] {
                lost(completion)?;
                self.let_go(completion);
                if completion.op == op {
                    let slot = ended(completion)?.user_data;
                    // A message has no memory of its own: any slot is as good.
                    free.push(slots[(slot % depth) as usize]);
                    done += 1;
                }
            }
        }
        match self.operation {
            Operation::Get | Operation::Rpc => {}
            Operation::Put => {
                let flush =
                    Request { session: self.session.id(), op: Op::Flush as u16, ..Request::default() };
                self.link.submit(&flush)?;
                while !self.round(&mut out, Op::Flush)? {}
            }
            Operation::Message => {
                self.link.ask(&self.session, &Message::Echo(Vec::new()), ANSWER)?;
            }
        }
        Ok((done, start.elapsed().as_secs_f64().max(1e-9)))
    }
}

impl Row {
    fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    fn gigabytes(&self) -> f64 {
        self.rate() * self.size as f64 / 1e9
    }

    fn json(&self) -> Value {
        json!({
            "size": self.size, "latency": self.latency.json(),
            "bandwidth": {
                "in_flight": self.depth, "operations": self.operations, "seconds": self.seconds,
                "operations_per_second": self.rate(), "gb_per_second": self.gigabytes(),
            },
        })
    }

    fn text(&self) -> String {
        format!(
            "{:>9} {:>11} {:>11} {:>11} {:>9} {:>12.0} {:>8.2}\n",
            Size(self.size).to_string(),
            nanoseconds(self.latency.percentile(50.0)),
            nanoseconds(self.latency.percentile(99.0)),
            nanoseconds(self.latency.percentile(99.9)),
            self.depth,
            self.rate(),
            self.gigabytes()
        )
    }
}

fn print(run: &Run, perf: &Perf, rows: &[Row], way: &str, transport: &str) -> Result<()> {
    let operation = match perf.operation {
        Operation::Get => "get",
        Operation::Put => "put",
        Operation::Message => "message",
        Operation::Rpc => "rpc",
    };
    let progress = if run.engine.progress == Some(Progress::Polled) { "polled" } else { "threaded" };
    let value = json!({
        "operation": operation, "address": perf.address, "progress": progress, "way": way, "transport": transport,
        "overhead": if perf.operation == Operation::Message { overhead() } else { 0 },
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    let mut text = format!("{operation}, {progress}, {way} over {transport}, {}\n", perf.address);
    text += &format!(
        "{:>9} {:>11} {:>11} {:>11} {:>9} {:>12} {:>8}\n",
        "size", "p50", "p99", "p99.9", "in flight", "operations/s", "GB/s"
    );
    text.extend(rows.iter().map(Row::text));
    run.print(&value, &text)
}
