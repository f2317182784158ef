//! `rde kv`: stores of the key-value engine.

pub mod args;
mod data;
mod health;
mod text;
mod upkeep;

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use rdma_engine::kv::branch::MAIN;
use rdma_engine::kv::dump::hex;
use rdma_engine::kv::fork::branch_name;
use rdma_engine::kv::names::Partition;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::restore::unhex;
use rdma_engine::kv::store::{Store, View};
use rdma_engine::kv::writer::Writer;
use rdma_engine::{Error, Result, Status};
use serde_json::{Value, json};

use crate::Run;
use args::{Command, Kv};

/// One run of the command: what is asked for, and what the store is opened with.
struct Kvs<'r> {
    run: &'r Run,
    options: Options,
    hex: bool,
}

/// Does one command on a store.
pub fn run(run: &Run, kv: &Kv) -> Result<()> {
    let Some(file) = &kv.common.options else {
        let what =
            "say with --options FILE what the store is opened with: a line `store_path=DIRECTORY` at least";
        return Err(Error::new(Status::InvalidArgument, what));
    };
    let kvs = Kvs { run, options: Options::from_file(file)?, hex: kv.common.hex };
    match &kv.command {
        Command::Dump(dump) => text::dump(&kvs, dump),
        Command::Restore => text::restore(&kvs),
        Command::Load(load) => text::load(&kvs, load),
        Command::Get(get) => data::get(&kvs, get),
        Command::Put(put) => data::put(&kvs, put),
        Command::Delete(delete) => data::delete(&kvs, delete),
        Command::Scan(scan) => data::scan(&kvs, scan),
        Command::Stat(some) => health::stat(&kvs, &some.partitions),
        Command::Check(some) => health::check(&kvs, &some.partitions),
        Command::Archive(archive) => upkeep::archive(&kvs, archive),
        Command::Compact(of) => upkeep::compact(&kvs, of),
        Command::Clean(of) => upkeep::clean(&kvs, of),
        Command::Truncate(truncate) => upkeep::truncate(&kvs, truncate),
        Command::Drop(drop) => upkeep::drop(&kvs, drop),
        Command::Branch(branch) => upkeep::branch(&kvs, branch),
    }
}

impl Kvs<'_> {
    fn open(&self) -> Result<Store> {
        Store::open(self.options.clone())
    }

    /// A partition, or a branch of it, to be read.
    fn view(&self, partition: &Partition, branch: Option<&String>) -> Result<View> {
        let store = self.open()?;
        self.chosen(&store, std::slice::from_ref(partition))?;
        let name = branch.map_or(Ok(MAIN.to_owned()), |name| branch_name(name))?;
        store.branch(partition, &name)?.ok_or_else(|| match branch {
            Some(_) => Error::new(Status::NotFound, format!("{partition} has no branch {name}")),
            None => absent(partition),
        })
    }

    /// The writer of a partition, or of a branch of it.
    fn writer(&self, store: &Store, partition: &Partition, branch: Option<&String>) -> Result<Writer> {
        match branch {
            None => store.writer(partition),
            Some(name) => store.branch_writer(partition, &branch_name(name)?),
        }
    }

    /// The partitions that were named, or all of the store.
    fn chosen(&self, store: &Store, named: &[Partition]) -> Result<Vec<Partition>> {
        if named.is_empty() {
            return Ok(store.partitions().cloned().collect());
        }
        match named.iter().find(|partition| !store.partitions().any(|known| known == *partition)) {
            Some(missing) => Err(absent(missing)),
            None => Ok(named.to_vec()),
        }
    }

    /// A key or a value as the command line gives it.
    fn bytes(&self, text: &str) -> Result<Vec<u8>> {
        if !self.hex {
            return Ok(text.as_bytes().to_vec());
        }
        unhex(text.as_bytes()).ok_or_else(|| {
            Error::new(Status::InvalidArgument, format!("`{text}` is not hex, and --hex was given"))
        })
    }

    /// A key or a value as the command line shows it.
    fn shown(&self, bytes: &[u8]) -> String {
        if self.hex { hex(bytes) } else { bytes.escape_ascii().to_string() }
    }

    /// A key or a value in JSON: text, or hex if it is none or that was asked for.
    fn json(&self, name: &str, bytes: &[u8]) -> (String, Value) {
        match std::str::from_utf8(bytes) {
            Ok(text) if !self.hex => (name.to_owned(), json!(text)),
            _ => (format!("{name}_hex"), json!(hex(bytes))),
        }
    }

    /// Ends the command if somebody asked for that.
    fn go_on(&self) -> Result<()> {
        self.run.stop.check()
    }
}

/// The reader of a pipe is gone.
const EPIPE: i32 = 32;

fn absent(partition: &Partition) -> Error {
    Error::new(Status::NotFound, format!("there is no partition {partition}"))
}

/// Standard output that may be closed early, as by `head`: that ends the output and is no error.
fn quietly(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.os_errno == EPIPE => Ok(()),
        other => other,
    }
}

fn print(out: &mut impl Write, text: &str) -> Result<()> {
    let written = out.write_all(text.as_bytes());
    written.map_err(|error| Error::os("cannot write to the standard output", &error))
}

/// Unix time in milliseconds.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Unix time in microseconds, EloqStore's unit of timestamps.
fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
