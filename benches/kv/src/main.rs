//! `make -C benches kv`: the key-value engine and RocksDB, in turn, on this machine.

mod measure;
mod ours;
mod report;
mod rocks;

use clap::{Parser, Subcommand, ValueEnum};
use measure::{Figure, Task};
use report::{Entry, Goal, entry};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

type Done<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(about = "Compares the key-value engine with RocksDB. On a machine that does nothing else.")]
struct Cli {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Runs one task of one side in this process and prints a line of JSON.
    Side {
        /// Whose.
        side: Side,
        #[command(flatten)]
        task: Task,
    },
    /// Writes the figures of bench.json into the documentation.
    Docs {
        /// Where bench.json is.
        #[arg(long, default_value = "target")]
        target: PathBuf,
        /// The page.
        #[arg(long, default_value = "docs/performance.md")]
        page: PathBuf,
    },
    /// Measures everything and puts the rows into bench.json.
    Run(Run),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    Ours,
    Rocks,
}

#[derive(clap::Args)]
struct Run {
    /// A folder on the disk that is measured; what it makes there it removes.
    #[arg(long)]
    dir: PathBuf,
    /// Where bench.json is.
    #[arg(long, default_value = "target")]
    target: PathBuf,
    /// Entries of a store.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Random reads of a round.
    #[arg(long, default_value_t = 300_000)]
    reads: u64,
    /// Random rewrites of a round, in batches of 1,000; 0 for as many as there are entries.
    #[arg(long, default_value_t = 0)]
    rewrites: u64,
    /// Times that each side runs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Sizes of values.
    #[arg(long, value_delimiter = ',', default_values_t = [1024, 128])]
    values: Vec<usize>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        What::Side { side, task } => side_now(side, &task),
        What::Docs { target, page } => report::docs(&target.join("bench.json"), &page),
        What::Run(run) => run.all(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rde-bench-kv: {error}");
            ExitCode::FAILURE
        }
    }
}

fn side_now(side: Side, task: &Task) -> Done<()> {
    let figure = match side {
        Side::Ours => ours::run(task)?,
        Side::Rocks => rocks::run(task)?,
    };
    println!("{}", serde_json::to_string(&figure)?);
    Ok(())
}

/// Figures of a size's rounds, by what was measured.
#[derive(Default)]
struct Rounds {
    ours: Vec<Figure>,
    rocks: Vec<Figure>,
}

impl Run {
    fn all(&self) -> Done<()> {
        let machine = machine();
        println!("{machine}\n");
        let folder = self.dir.join(format!("rde-bench-kv-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let mut entries = Vec::new();
        let mut done = Ok(());
        for value in &self.values {
            done = self.size(&folder, *value, &machine, &mut entries);
            if done.is_err() {
                break;
            }
        }
        if done.is_ok() {
            done = self.cached(&folder, &machine, &mut entries);
        }
        std::fs::remove_dir_all(&folder)?;
        report::print(&entries);
        std::fs::create_dir_all(&self.target)?;
        report::merge(&self.target.join("bench.json"), &entries)?;
        done
    }

    /// Rows of one size of values.
    fn size(&self, folder: &Path, value: usize, machine: &str, entries: &mut Vec<Entry>) -> Done<()> {
        let size =
            if value.is_multiple_of(1024) { format!("{} KiB", value / 1024) } else { format!("{value} B") };
        let [place, append, rocks] = ["place", "append", "rocks"].map(|name| folder.join(name));
        let (mut in_place, mut appended, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            for path in [&place, &append, &rocks] {
                let _ = std::fs::remove_dir_all(path);
                std::fs::create_dir_all(path)?;
            }
            in_place.push(self.side(Side::Ours, "load", &place, value, 0, &[])?);
            appended.push(self.side(Side::Ours, "load", &append, value, 0, &["--append"])?);
            theirs.push(self.side(Side::Rocks, "load", &rocks, value, 0, &[])?);
        }
        let _ = std::fs::remove_dir_all(&append);
        let rate = |figures: &[Figure]| figures.iter().map(|figure| figure.rate).collect::<Vec<_>>();
        let mut row = |what: &str, unit: &str, goal, ours: &[f64], peer: &[f64], name: &str| {
            let name_of_row = format!("kv {what}, {size}");
            entries.push(entry(&name_of_row, unit, goal, ours, peer, name, machine));
        };
        row("bulk load, append", "1/s", Goal::TimesAtLeast(2.0), &rate(&appended), &rate(&theirs), ROCKS);
        let (in_place_rate, appended_rate) = (rate(&in_place), rate(&appended));
        row("bulk load, in place", "1/s", Goal::TimesAtLeast(0.5), &in_place_rate, &appended_rate, "append");
        let mut memory: Vec<f64> =
            in_place.iter().chain(&appended).map(|figure| figure.memory as f64 / 1048576.0).collect();
        let (mut reads, mut fio) = (Rounds::default(), Vec::new());
        let mut scans = Rounds::default();
        for _ in 0..self.rounds {
            fio.extend(fio_iops(&place));
            reads.ours.push(self.side(Side::Ours, "read", &place, value, self.reads, &[])?);
            reads.rocks.push(self.side(Side::Rocks, "read", &rocks, value, self.reads, &[])?);
        }
        for _ in 0..self.rounds {
            scans.ours.push(self.side(Side::Ours, "scan", &place, value, 0, &[])?);
            scans.rocks.push(self.side(Side::Rocks, "scan", &rocks, value, 0, &[])?);
        }
        let (ours, theirs) = (rate(&reads.ours), rate(&reads.rocks));
        row("random read, 32 in flight", "1/s", Goal::TimesAtLeast(1.3), &ours, &theirs, ROCKS);
        row("random read, 32 in flight, beside fio", "1/s", Goal::TimesAtLeast(0.95), &ours, &fio, "fio");
        let p99 = |figures: &[Figure]| figures.iter().map(|figure| figure.p99_us).collect::<Vec<_>>();
        let (ours, theirs) = (p99(&reads.ours), p99(&reads.rocks));
        row("random read, p99", "µs", Goal::TimesAtMost(1.0), &ours, &theirs, ROCKS);
        row("scan", "1/s", Goal::TimesAtLeast(1.2), &rate(&scans.ours), &rate(&scans.rocks), ROCKS);
        let all = reads.ours.iter().chain(&scans.ours);
        memory.extend(all.map(|figure| figure.memory as f64 / 1048576.0));
        memory.extend(self.rewrites(value, (&place, &rocks), &mut row)?);
        let most = memory.iter().copied().fold(0.0, f64::max);
        row("peak memory", "MiB", Goal::AtMost(128.0 + 64.0), &[most], &[], "");
        Ok(())
    }

    /// Rows of rewrites, and what memory they took, in MiB.
    fn rewrites(
        &self,
        value: usize,
        (place, rocks): (&Path, &Path),
        row: &mut impl FnMut(&str, &str, Goal, &[f64], &[f64], &str),
    ) -> Done<Vec<f64>> {
        let count = if self.rewrites == 0 { self.keys } else { self.rewrites };
        let log = LOG.to_string();
        let rate = |figure: &Figure| figure.rate;
        let amplification = |figure: &Figure| figure.amplification;
        let of = |figures: &[Figure], what: fn(&Figure) -> f64| figures.iter().map(what).collect::<Vec<_>>();
        let mut memory = Vec::new();
        for (kind, name) in [("rewrite", "rewrite at random"), ("sustain", "rewrite at random, sustained")] {
            let (mut logged, mut in_place, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                logged.push(self.side(Side::Ours, kind, place, value, count, &["--log", &log])?);
                theirs.push(self.side(Side::Rocks, kind, rocks, value, count, &[])?);
                in_place.push(self.side(Side::Ours, kind, place, value, count, &[])?);
            }
            let theirs_rate = of(&theirs, rate);
            let goal = Goal::TimesAtLeast(1.0);
            row(&format!("{name}, with a log"), "1/s", goal, &of(&logged, rate), &theirs_rate, ROCKS);
            row(&format!("{name}, no log"), "1/s", Goal::Nothing, &of(&in_place, rate), &theirs_rate, ROCKS);
            // Each side's is of all that it ever writes for these; of RocksDB's only what it has waited for counts so.
            let theirs = if kind == "sustain" { of(&theirs, amplification) } else { Vec::new() };
            let (ours, plain) = (of(&logged, amplification), of(&in_place, amplification));
            let what = format!("{name}, with a log, write amplification");
            row(&what, "", Goal::AtMost(4.0), &ours, &theirs, ROCKS);
            let what = format!("{name}, no log, write amplification");
            row(&what, "", Goal::Nothing, &plain, &theirs, ROCKS);
            memory.extend(logged.iter().chain(&in_place).map(|figure| figure.memory as f64 / 1048576.0));
        }
        Ok(memory)
    }

    /// Everything in memory.
    fn cached(&self, folder: &Path, machine: &str, entries: &mut Vec<Entry>) -> Done<()> {
        let path = folder.join("cached");
        std::fs::create_dir_all(&path)?;
        let small = Run {
            keys: 100_000,
            dir: self.dir.clone(),
            target: self.target.clone(),
            values: Vec::new(),
            ..*self
        };
        small.side(Side::Ours, "load", &path, 128, 0, &[])?;
        let mut rates = Vec::new();
        for _ in 0..self.rounds {
            rates.push(small.side(Side::Ours, "cached", &path, 128, 4_000_000, &["--depth", "512"])?.rate);
        }
        entries.push(entry("kv data in cache, 128 B", "1/s", Goal::AtLeast(1e6), &rates, &[], "", machine));
        Ok(())
    }

    fn side(
        &self,
        side: Side,
        kind: &str,
        dir: &Path,
        value: usize,
        operations: u64,
        more: &[&str],
    ) -> Done<Figure> {
        let name = if side == Side::Ours { "ours" } else { "rocks" };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["side", name, "--kind", kind, "--dir"]).arg(dir);
        command.args(["--keys", &self.keys.to_string(), "--value", &value.to_string()]);
        command.args(["--operations", &operations.to_string()]).args(more).stderr(Stdio::inherit());
        let output = command.output()?;
        if !output.status.success() {
            return Err(format!("{name} {kind}: {}", output.status).into());
        }
        let figure: Figure = serde_json::from_slice(&output.stdout)?;
        eprintln!("{name} {kind} {value}: {figure:?}");
        Ok(figure)
    }
}

const ROCKS: &str = "RocksDB";
/// Bytes of our write logs together; an eighth as much memory comes out of the cache's.
const LOG: usize = 512 << 20;

/// fio's random reads of 4 KiB from the same file at the same depth; None without fio.
fn fio_iops(store: &Path) -> Option<f64> {
    let file = store.join("bench.0/data_0_main_0");
    let output = Command::new("fio")
        .args([
            "--name=read",
            "--rw=randread",
            "--bs=4k",
            "--direct=1",
            "--ioengine=io_uring",
            "--iodepth=32",
        ])
        .args(["--runtime=5", "--time_based", "--readonly", "--output-format=json"])
        .arg(format!("--filename={}", file.display()))
        .output()
        .ok()?;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let iops = json["jobs"][0]["read"]["iops"].as_f64().filter(|iops| *iops > 0.0);
    eprintln!("fio: {iops:?}");
    iops
}

/// The processor, its cores, the kernel, and how busy it was before.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    format!(
        "{}, {cores} cores, Linux {}, load {} before the run",
        model.map_or("unknown processor", |(_, model)| model.trim()),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or("unknown"),
    )
}
