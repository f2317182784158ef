//! `make bench`: rdma-engine and raw UCX, in turn, on this machine.

mod goals;
mod report;
mod run;
mod side;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use goals::{Metric, Row};
use run::Entry;
use side::Tools;

#[derive(Parser)]
#[command(
    about = "Compares rdma-engine with raw UCX. Run it in the project's folder, on a machine that does nothing else."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures every row, prints the table and writes bench.json.
    Run {
        #[command(flatten)]
        how: How,
        /// Rounds of ours and the peer, in turn; at least 5.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(5..))]
        rounds: u16,
        /// Ends well although a side could not be run.
        #[arg(long)]
        allow_missing: bool,
    },
    /// Measures raw UCX alone, every way that the harness knows.
    Raw {
        #[command(flatten)]
        how: How,
        /// Rounds; the median counts.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
    },
    /// Writes the figures of bench.json into the documentation.
    Report {
        /// Folder of bench.json.
        #[arg(long, default_value = "target")]
        target: PathBuf,
        /// The page that has the marks.
        #[arg(long, default_value = "docs/performance.md")]
        page: PathBuf,
    },
}

#[derive(Args)]
struct How {
    /// Only rows whose name contains this; the others stay in bench.json as they are.
    #[arg(long)]
    only: Option<String>,
    /// Milliseconds that each run measures.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    ms: u32,
    /// Where `make` puts what it builds.
    #[arg(long, default_value = "target")]
    target: PathBuf,
    /// Another build of our side than the one next to this program.
    #[arg(long)]
    ours: Option<PathBuf>,
}

impl How {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }

    fn tools(&self) -> Result<Tools, String> {
        let folder = self.target.canonicalize().map_err(|e| format!("{}: {e}", self.target.display()))?;
        let exe = std::env::current_exe().map_err(|e| e.to_string())?;
        let raw = folder.join("bench/ucx_raw");
        if !raw.exists() {
            return Err(format!("{} is not built: run `make -C benches`", raw.display()));
        }
        let ours = self.ours.clone().unwrap_or_else(|| exe.with_file_name("ours"));
        Ok(Tools { raw, ours, newer: folder.join("ucx/lib"), run_ms: self.ms })
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run { how, rounds, allow_missing } => run_rows(&how, usize::from(rounds), allow_missing),
        Command::Raw { how, rounds } => run_raw(&how, usize::from(rounds)),
        Command::Report { target, page } => write_page(&target, &page),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("rde-bench: {message}");
            ExitCode::FAILURE
        }
    }
}

/// True if every side was run, or may be missing, and none failed. A goal that is missed is a result, not an error.
fn run_rows(how: &How, rounds: usize, allow_missing: bool) -> Result<bool, String> {
    let tools = how.tools()?;
    let _lock = only_one(&how.target)?;
    let (json, machine) = (how.target.join("bench.json"), machine());
    let before = if how.only.is_some() { report::load(&json)? } else { Vec::new() };
    let rows: Vec<Row> = goals::rows();
    let mut measured = Vec::new();
    for row in rows.iter().filter(|row| how.wants(row.name)) {
        eprintln!("measuring: {}", row.name);
        measured.push(run::measure(&tools, row, rounds, &machine));
    }
    if measured.is_empty() {
        return Err("no row has that in its name".to_owned());
    }
    print!("{machine}\n\n{}", report::terminal(&measured));
    let missing = measured.iter().filter(|e| e.met.is_none() && !e.failed).count();
    let failed = measured.iter().filter(|e| e.failed).count();
    let missed = measured.iter().filter(|e| e.met == Some(false)).count();
    println!("\n{} rows: {missed} missed, {missing} not run, {failed} failed", measured.len());
    report::save(&json, &merge(before, measured))?;
    Ok(failed == 0 && (missing == 0 || allow_missing))
}

/// The new entries take the places of the old ones of the same name.
fn merge(mut entries: Vec<Entry>, new: Vec<Entry>) -> Vec<Entry> {
    for entry in new {
        match entries.iter_mut().find(|old| old.name == entry.name) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }
    entries
}

fn run_raw(how: &How, rounds: usize) -> Result<bool, String> {
    let tools = how.tools()?;
    let _lock = only_one(&how.target)?;
    println!("{}\n", machine());
    let mut sets: Vec<_> =
        goals::rows().into_iter().map(|row| (row.name.to_owned(), row.metric, row.peers)).collect();
    for peer in goals::other_peers() {
        let metric = if peer.args.contains("1048576") { Metric::Bandwidth } else { Metric::Nanoseconds };
        sets.push((peer.args.clone(), metric, vec![peer]));
    }
    for (name, metric, peers) in sets.iter().filter(|set| how.wants(&set.0)) {
        for candidate in run::measure_candidates(&tools, peers, *metric, rounds) {
            println!(
                "{name:<70} {:<45} {}",
                candidate.name,
                report::candidate_text(&candidate, metric.unit())
            );
        }
    }
    Ok(true)
}

/// The page shows every row, also those that nobody has measured.
fn write_page(target: &Path, page: &Path) -> Result<bool, String> {
    let mut entries = report::load(&target.join("bench.json"))?;
    // Those of the key-value store and of SeaweedFS have tables of their own, which their benches write.
    entries.retain(|entry| !entry.name.starts_with("kv ") && !entry.name.starts_with("seaweedfs "));
    let all = merge(goals::rows().iter().map(run::unmeasured).collect(), entries);
    let text = std::fs::read_to_string(page).map_err(|e| format!("{}: {e}", page.display()))?;
    let new = report::with_table(&text, &all)?;
    std::fs::write(page, new).map_err(|e| format!("{}: {e}", page.display()))?;
    Ok(true)
}

/// Two measurements at once measure each other.
fn only_one(target: &Path) -> Result<File, String> {
    let path = target.join("bench.lock");
    let file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    file.try_lock().map_err(|_| "another rde-bench is measuring".to_owned())?;
    Ok(file)
}

/// The processor, its cores, the kernel, and how busy it was before.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model =
        info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.trim()));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    format!(
        "{}, {cores} cores, Linux {}, load {} before the run",
        model.unwrap_or("unknown processor"),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_run_keeps_the_other_rows() {
        let entry = |name: &str, ours| Entry { name: name.to_owned(), ours, ..Entry::default() };
        let merged = merge(
            vec![entry("a", Some(1.0)), entry("b", Some(2.0))],
            vec![entry("b", Some(3.0)), entry("c", None)],
        );
        let seen: Vec<_> = merged.iter().map(|e| (e.name.as_str(), e.ours)).collect();
        assert_eq!(seen, [("a", Some(1.0)), ("b", Some(3.0)), ("c", None)]);
    }
}
