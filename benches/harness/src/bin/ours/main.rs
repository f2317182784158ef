//! Our side of the benchmark: one measurement, one JSON line, as `ucx_raw` prints it.
//!
//! A measurement that is not written exits with 3 and the harness reports "not run". Never print a figure that was
//! not measured. Method, the same as in `raw/ucx_raw.c`:
//!
//! - two processes, initiator pinned to the first allowed core and target to the second;
//! - warm-up of a fifth of `--ms`, then blocks of at least 20 µs for `--ms`; `median_us` is the median of the blocks
//!   divided by their operations; `gb_per_s` is size / median / 1000; `ops_per_s` is the mean;
//! - with `--in-flight` n > 1 a call is `max(n, min(64, 16 MiB / size))` operations, n of them outstanding;
//! - the bytes that were moved are compared.
//!
//! | arguments | prints | what |
//! |---|---|---|
//! | `get --transport shm\|tcp --size N [--in-flight N] [--target threaded]` | `median_us`, `gb_per_s`, `ops_per_s` | into a registered buffer, out of an exported engine buffer; with `--target threaded` the target's owner never polls |
//! | `put --transport shm --size N` | the same | put and flush |
//! | `message --transport shm --size N` | `median_us` | a round trip, both sides polled |
//! | `call --transport shm\|tcp --size N` | `median_us` | a call answered with its payload, both sides polled |
//! | `call-rate --in-flight N` | `ops_per_s` | the same, N calls outstanding on one session |
//! | `call-bytes --transport shm\|tcp --size N --in-flight N` | `gb_per_s` | calls with a payload from a registered buffer, answered without one |
//! | `idle-sessions` | `value` | bytes of both processes for 1,000 sessions beyond the first; fails when the target uses 1 % of a core or more |
//! | `handle-lookup` | `median_us` | resolving one live handle of many |
//! | `session-open` | `ops_per_s` | sessions to a peer that is connected |
//! | `session-memory` | `value` | bytes of both processes for each session beyond the first |
//! | `growth --operations N` | `value` | bytes that both processes grew by, after warm-up (`smaps_rollup`, Pss) |
//! | `needle-map` | `ops_per_s`, `value` | rows of an index loaded a second; bytes of the map a live needle |
//!
//! All take `--ms N`, the time to measure, and print `ucx`, the version that they ran on.

mod alone;
mod call;
mod measure;
mod node;
mod target;
mod transfer;
mod volume;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// What to measure.
#[derive(Parser, Clone, Debug)]
pub struct Arguments {
    /// The test: get, put, message, call, call-rate, call-bytes, idle-sessions, handle-lookup, session-open, session-memory,
    /// growth, needle-map.
    test: String,
    /// shm or tcp.
    #[arg(long, default_value = "shm")]
    transport: String,
    /// Bytes an operation.
    #[arg(long, default_value_t = 8)]
    size: u64,
    /// Operations outstanding.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Who makes the target's progress: polled, or threaded with an owner that never polls.
    #[arg(long, default_value = "polled")]
    target: String,
    /// Milliseconds to measure.
    #[arg(long, default_value_t = 500)]
    ms: u64,
    /// Operations of the growth test.
    #[arg(long, default_value_t = 10_000_000)]
    operations: u64,
    /// Forces a way: mapped, rma, message.
    #[arg(long, default_value = "")]
    way: String,
    /// Internal: this process is the target.
    #[arg(long, hide = true)]
    serve: bool,
}

impl Arguments {
    fn time(&self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.serve { target::serve(&arguments) } else { run(&arguments) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", arguments.test);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> measure::Done {
    match arguments.test.as_str() {
        "get" | "put" => transfer::one_sided(arguments),
        "message" => transfer::message(arguments),
        "call" => call::round_trips(arguments),
        "call-rate" => call::rate(arguments),
        "call-bytes" => call::bytes(arguments),
        "idle-sessions" => call::idle(arguments),
        "handle-lookup" => alone::handle_lookup(arguments),
        "session-open" => alone::session_open(arguments),
        "session-memory" => alone::session_memory(arguments),
        "growth" => alone::growth(arguments),
        "needle-map" => volume::needle_map(arguments),
        _ => Err("unknown test; the tests are listed at the top of ours/main.rs".into()),
    }
}
