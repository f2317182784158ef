//! Blocks of operations, their median, and the JSON line.

use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Failures of a benchmark end it: any error will do.
pub type Done<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Pins this thread, and those it starts, to the first (0) or second (1) core that it may use.
pub fn pin(side: usize) -> Done {
    let allowed = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let mut one = CpuSet::new();
    one.set(cores[side % cores.len()]);
    sched_setaffinity(None, &one)?;
    Ok(())
}

/// What was measured of one kind of operation.
pub struct Figures {
    pub median_us: f64,
    pub ops_per_s: f64,
}

/// Warms up for a fifth of `time`, then runs `batch` (which does `operations`) in blocks of at least 20 µs.
pub fn blocks(time: Duration, operations: usize, mut batch: impl FnMut() -> Done) -> Done<Figures> {
    let warm = Instant::now();
    while warm.elapsed() < time / 5 {
        batch()?;
    }
    let mut samples = Vec::new();
    let (began, mut total) = (Instant::now(), 0);
    while began.elapsed() < time || samples.is_empty() {
        let block = Instant::now();
        let mut done = 0;
        while done == 0 || block.elapsed() < Duration::from_micros(20) {
            batch()?;
            done += operations;
        }
        samples.push(block.elapsed().as_secs_f64() * 1e6 / done as f64);
        total += done;
    }
    let ops_per_s = total as f64 / began.elapsed().as_secs_f64();
    samples.sort_by(f64::total_cmp);
    Ok(Figures { median_us: samples[samples.len() / 2], ops_per_s })
}

/// Prints the line that the harness reads.
pub fn print(fields: serde_json::Value) -> Done {
    let mut line = fields;
    let (major, minor, patch) = rdma_engine::ucx::library()?.version();
    line["ucx"] = format!("{major}.{minor}.{patch}").into();
    println!("{line}");
    Ok(())
}

/// Bytes that a process holds: its share of every page (`Pss`).
pub fn memory_of(pid: u32) -> Done<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).ok_or("no Pss")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}
