//! Runs one side once: a program that measures and prints one JSON line.

use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::goals::{Metric, Peer, Ucx};

/// `ours` exits with this when it cannot measure that yet.
pub const NOT_MEASURED: i32 = 3;

/// Seconds after which a run is killed.
const DEADLINE_S: &str = "150";

/// What a side prints; fields that its test does not know are absent.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Measurement {
    /// Version of the UCX that it ran on.
    pub ucx: Option<String>,
    median_us: Option<f64>,
    gb_per_s: Option<f64>,
    ops_per_s: Option<f64>,
    value: Option<f64>,
}

/// Why there is no figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing to run: the side is not written, or the library is not there.
    NotRun(String),
    /// It ran and failed.
    Failed(String),
}

/// One figure, or why there is none.
pub type Outcome = Result<Measurement, Missing>;

impl Measurement {
    /// The figure that counts.
    pub fn figure(&self, metric: Metric) -> Result<f64, Missing> {
        let figure = match metric {
            Metric::Nanoseconds => self.median_us.map(|us| us * 1e3),
            Metric::Microseconds => self.median_us,
            Metric::Bandwidth => self.gb_per_s,
            Metric::Rate => self.ops_per_s,
            Metric::Bytes => self.value,
        };
        figure
            .filter(|value| value.is_finite() && *value >= 0.0)
            .ok_or_else(|| Missing::Failed(format!("the line has no figure in {}", metric.unit())))
    }
}

/// Where the programs and libraries are.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The raw peer.
    pub raw: PathBuf,
    /// Our side.
    pub ours: PathBuf,
    /// Folder of the newer UCX's libraries; may not exist.
    pub newer: PathBuf,
    /// Milliseconds that each run measures.
    pub run_ms: u32,
}

impl Tools {
    /// Runs a raw peer once.
    pub fn run_peer(&self, peer: &Peer) -> Outcome {
        let mut command = self.command(&self.raw, peer.ucx, &peer.args)?;
        command.env("UCX_NET_DEVICES", "lo").envs(peer.env.iter().copied());
        run(command)
    }

    /// Runs our side once. The engine chooses UCX's settings itself.
    pub fn run_ours(&self, ucx: Ucx, args: &str) -> Outcome {
        let mut command = self.command(&self.ours, ucx, args)?;
        if ucx == Ucx::Newer {
            command.env("RDE_UCX_LIBRARY", self.newer.join("libucp.so.0"));
        }
        run(command)
    }

    fn command(&self, program: &PathBuf, ucx: Ucx, args: &str) -> Result<Command, Missing> {
        // Two sides that both hang must not hang the benchmark; `timeout` ends the whole process group.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", DEADLINE_S]).arg(program).args(args.split(' '));
        command.arg("--ms").arg(self.run_ms.to_string());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("UCX_") {
                command.env_remove(name);
            }
        }
        command.env("UCX_WARN_UNUSED_ENV_VARS", "n");
        if ucx == Ucx::Newer {
            if !self.newer.join("libucp.so.0").exists() {
                return Err(Missing::NotRun(format!(
                    "no newer UCX in {}: run benches/fetch-ucx.sh",
                    self.newer.display()
                )));
            }
            command.env("LD_LIBRARY_PATH", &self.newer);
        }
        Ok(command)
    }
}

fn run(mut command: Command) -> Outcome {
    let output = command.output().map_err(|e| Missing::Failed(format!("cannot start: {e}")))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().last().unwrap_or("no message").to_owned();
    match output.status.code() {
        Some(0) => parse(&String::from_utf8_lossy(&output.stdout)),
        Some(NOT_MEASURED) => Err(Missing::NotRun(last)),
        Some(124 | 137) => Err(Missing::Failed(format!("no end within {DEADLINE_S} s"))),
        _ => Err(Missing::Failed(format!("{}: {last}", output.status))),
    }
}

/// The last line that is an object; UCX may print warnings before it.
fn parse(stdout: &str) -> Outcome {
    let line = stdout.lines().rfind(|line| line.starts_with('{'));
    let line = line.ok_or_else(|| Missing::Failed("printed no JSON line".to_owned()))?;
    serde_json::from_str(line).map_err(|e| Missing::Failed(format!("printed bad JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_line_is_found_after_warnings() {
        let m = parse("[123] UCX WARN something\n{\"median_us\": 0.5, \"name\": \"get\"}\n").unwrap();
        assert_eq!(m.figure(Metric::Nanoseconds), Ok(500.0));
        assert!(matches!(m.figure(Metric::Rate), Err(Missing::Failed(_))));
    }

    #[test]
    fn no_line_and_bad_lines_are_failures() {
        assert!(matches!(parse(""), Err(Missing::Failed(_))));
        assert!(matches!(parse("{\"median_us\": \"fast\"}"), Err(Missing::Failed(_))));
    }

    #[test]
    fn exit_codes_tell_not_run_from_failed() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run(command)
        };
        assert_eq!(shell("echo later >&2; exit 3").unwrap_err(), Missing::NotRun("later".to_owned()));
        assert!(matches!(shell("exit 1"), Err(Missing::Failed(_))));
        assert!(matches!(shell("exit 124"), Err(Missing::Failed(_))));
    }
}
