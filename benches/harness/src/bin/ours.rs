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
//! | `handle-lookup` | `median_us` | resolving one live handle of many |
//! | `session-open` | `ops_per_s` | sessions to a peer that is connected |
//! | `session-memory` | `value` | bytes of both processes for each session beyond the first |
//! | `growth --operations N` | `value` | bytes that both processes grew by, after warm-up (`smaps_rollup`, Pss) |
//!
//! All take `--ms N`, the time to measure, and print `ucx`, the version that they ran on.

use std::process::ExitCode;

/// Tells the harness that there is no figure, and no failure either.
const NOT_MEASURED: u8 = 3;

fn main() -> ExitCode {
    let test = std::env::args().nth(1).unwrap_or_default();
    match test.as_str() {
        "get" | "put" | "message" | "handle-lookup" | "session-open" | "session-memory" | "growth" => {
            eprintln!("{test}: our side is not written yet");
            ExitCode::from(NOT_MEASURED)
        }
        _ => {
            eprintln!("unknown test '{test}'; the tests are listed at the top of ours.rs");
            ExitCode::FAILURE
        }
    }
}
