//! `rde`: the command line of the engine.

mod args;
mod cat;
mod catalogue;
mod config;
mod get;
mod info;
mod kv;
mod latency;
mod link;
mod list;
mod partial;
mod perf;
mod ping;
mod secret;
mod serve;
mod stop;
mod units;
mod volumes;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use rdma_engine::{Error, Result, Status};
use serde_json::{Value, json};

use args::{Cli, Command};
use stop::Stop;

/// What a command needs beside its own arguments.
pub struct Run {
    /// Settings of the engine.
    pub engine: args::Engine,
    /// Whether to print JSON.
    pub json: bool,
    /// Whether to end.
    pub stop: Stop,
}

impl Run {
    /// Prints one result: a line of JSON, or the text.
    pub fn print(&self, value: &Value, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json { writeln!(out, "{value}") } else { writeln!(out, "{}", text.trim_end()) }
            .and_then(|()| out.flush())
            .map_err(|error| Error::os("cannot write to the standard output", &error))
    }
}

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    let json = cli.json;
    match run(&mut cli) {
        Ok(code) => ExitCode::from(code),
        Err((error, signal)) => {
            report(&error, json);
            ExitCode::from(if signal == 0 { 1 } else { 128 + signal })
        }
    }
}

/// The exit status, or the error and the signal that caused it (0 if none did).
fn run(cli: &mut Cli) -> std::result::Result<u8, (Error, u8)> {
    if let Some(path) = cli.config.clone() {
        let file = config::read(&path).map_err(|error| (error, 0))?;
        config::merge(cli, file);
    }
    log(cli).map_err(|error| (error, 0))?;
    let stop = Stop::watch().map_err(|error| (error, 0))?;
    let run = Run { engine: cli.engine.clone(), json: cli.json, stop: stop.clone() };
    let done = match &cli.command {
        Command::Info => info::run(&run),
        Command::Serve(serve) => serve::run(&run, serve),
        Command::Ping(ping) => ping::run(&run, ping),
        Command::Perf(perf) => perf::run(&run, perf),
        Command::List(list) => list::run(&run, list),
        Command::Get(get) => get::run(&run, get),
        Command::Cat(cat) => cat::run(&run, cat),
        Command::Kv(kv) => kv::run(&run, kv),
    };
    // An interruption is told by the exit status; any other error that it caused would only confuse.
    done.map(|()| 0).map_err(|error| (error, stop.signal()))
}

fn log(cli: &Cli) -> Result<()> {
    let filter = match (&cli.engine.log, cli.verbose) {
        (Some(filter), _) => filter.as_str(),
        (None, 0) => "warn",
        (None, 1) => "info",
        (None, _) => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| Error::new(Status::InvalidArgument, format!("--log {filter}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| Error::new(Status::Internal, format!("cannot log: {error}")))
}

/// One line: what happened, and what to do about it.
fn report(error: &Error, json: bool) {
    let hint = match error.status {
        Status::Unreachable => "check the address, and that `rde serve` runs there",
        Status::ConnectionLost => "the peer ended or was cut off; start again when it is back",
        Status::TimedOut => "look at the peer's load, or raise --connect-timeout or --keepalive",
        Status::AlreadyExists => "choose another address or name, or end what holds this one",
        Status::OutOfMemory => "raise --memory-limit, or export less",
        Status::Unauthorized => {
            "give the secret of the peer (--secret-file, RDE_SECRET), or a token for this file id (--token-file, RDE_TOKEN)"
        }
        Status::PermissionDenied => "both sides need the same secret: --secret-file or RDE_SECRET",
        Status::Revoked => "the peer took the memory back; ask for it again",
        _ => "",
    };
    let mut err = std::io::stderr().lock();
    let _ = if json {
        let (status, message) = (error.status.name(), &error.message);
        writeln!(err, "{}", json!({"error": {"status": status, "message": message, "hint": hint}}))
    } else if hint.is_empty() {
        writeln!(err, "rde: {error}")
    } else {
        writeln!(err, "rde: {error}; {hint}")
    };
}
