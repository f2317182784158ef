//! Whole stores as text: `rde kv dump`, `restore` and `load`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rdma_engine::kv::dump::{self, State};
use rdma_engine::kv::fork::branch_name;
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::restore::{Restored, restore_watched};
use rdma_engine::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::args::{Dump, Load};
use super::{Kvs, quietly};
use crate::stop::Stop;
use crate::units::Size;

/// Bytes read and written at a time.
const BUFFER: usize = 1 << 20;

/// Prints a store.
pub fn dump(kvs: &Kvs<'_>, dump: &Dump) -> Result<()> {
    let store = kvs.open()?;
    let wanted = kvs.chosen(&store, &dump.partitions)?;
    let branch = dump.branch.as_deref().map(branch_name).transpose()?;
    let state = match (&dump.archive, &branch) {
        (Some(name), _) => State::Archive(name),
        (None, Some(name)) => State::Branch(name),
        (None, None) => State::Now,
    };
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    let format = if kvs.run.json { dump::json } else { dump::line };
    let wanted = |partition: &Partition| wanted.contains(partition);
    let done = dump::dump_state(&store, state, wanted, format, &mut out);
    let flushed = out.flush().map_err(|error| Error::os("cannot write to the standard output", &error));
    quietly(done.and(flushed))
}

/// Standard input that can be interrupted while nothing comes.
struct Input(Stop);

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let stdin = io::stdin();
        let pause = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            self.0.check().map_err(|error| io::Error::other(error.message.into_owned()))?;
            let mut ready = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
            // Files and closed pipes are always ready.
            if !matches!(poll(&mut ready, Some(&pause)), Ok(0) | Err(rustix::io::Errno::INTR)) {
                return stdin.lock().read(into);
            }
        }
    }
}

/// Writes a store from the standard input.
pub fn restore(kvs: &Kvs<'_>) -> Result<()> {
    let lines = BufReader::with_capacity(BUFFER, Input(kvs.run.stop.clone()));
    let start = Instant::now();
    let done = restore_watched(kvs.options.clone(), lines, |_| kvs.go_on())?;
    report(kvs, &done, start)
}

/// Writes a store from a file or from nothing, with a progress bar.
pub fn load(kvs: &Kvs<'_>, load: &Load) -> Result<()> {
    let (lines, total): (Box<dyn BufRead>, Option<u64>) = match (&load.file, load.generate) {
        (_, Some(count)) => {
            let made = Made::new(load, count);
            (Box::new(BufReader::with_capacity(BUFFER, made)), Some(count.saturating_mul(load.value_size.0)))
        }
        (Some(path), None) => {
            let what = |error| Error::os(&path.display().to_string(), &error);
            let file = File::open(path).map_err(what)?;
            let length = file.metadata().map_err(what)?.len();
            // Two digits a byte.
            (Box::new(BufReader::with_capacity(BUFFER, file)), Some(length / 2))
        }
        (None, None) => (Box::new(BufReader::with_capacity(BUFFER, Input(kvs.run.stop.clone()))), None),
    };
    let bar = progress(kvs, total);
    let start = Instant::now();
    let done = restore_watched(kvs.options.clone(), lines, |done| {
        bar.set_position(done.bytes);
        kvs.go_on()
    });
    bar.finish_and_clear();
    report(kvs, &done?, start)
}

fn progress(kvs: &Kvs<'_>, total: Option<u64>) -> ProgressBar {
    let hidden = kvs.run.json || !io::stderr().is_terminal();
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(total, target);
    let template = "{bar:40} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn report(kvs: &Kvs<'_>, done: &Restored, start: Instant) -> Result<()> {
    let seconds = start.elapsed().as_secs_f64();
    let rate = done.bytes as f64 / seconds.max(1e-9);
    let value = json!({
        "entries": done.entries,
        "applied": done.applied,
        "bytes": done.bytes,
        "seconds": seconds,
        "bytes_per_second": rate,
    });
    let text = format!(
        "{} entries read, {} took effect, {} in {seconds:.2} s, {}/s",
        done.entries,
        done.applied,
        Size(done.bytes),
        Size(rate as u64)
    );
    kvs.run.print(&value, &text)
}

/// Lines that are made up as they are read.
struct Made {
    next: u64,
    count: u64,
    value: usize,
    partitions: u64,
    state: u64,
    line: Vec<u8>,
    at: usize,
}

impl Made {
    fn new(load: &Load, count: u64) -> Made {
        let value = usize::try_from(load.value_size.0).unwrap_or(usize::MAX).min(1 << 30);
        let partitions = u64::from(load.partitions);
        Made { next: 0, count, value, partitions, state: load.seed, line: Vec::new(), at: 0 }
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn fill(&mut self) {
        self.line.clear();
        self.at = 0;
        let (number, partition) = (self.next / self.partitions, self.next % self.partitions);
        self.line.extend_from_slice(format!("load.{partition} {number:016x} ").as_bytes());
        for _ in 0..self.value.div_ceil(8) {
            let word = self.random();
            self.line.extend_from_slice(format!("{word:016x}").as_bytes());
        }
        self.line.truncate(self.line.len() - 2 * (self.value.next_multiple_of(8) - self.value));
        self.line.extend_from_slice(b" 1 0\n");
        self.next += 1;
    }
}

impl Read for Made {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.line.len() {
            if self.next == self.count {
                return Ok(0);
            }
            self.fill();
        }
        let len = into.len().min(self.line.len() - self.at);
        into[..len].copy_from_slice(&self.line[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
