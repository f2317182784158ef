//! Rows in the form of `target/bench.json`, which `rde-bench report` puts into docs/performance.md.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// One row; the fields are those of `rde-bench`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Entry {
    /// The row's name.
    pub name: String,
    /// Median of our rounds.
    pub ours: Option<f64>,
    /// Median of the peer's rounds.
    pub peer: Option<f64>,
    /// Who that is.
    pub peer_name: Option<String>,
    /// Median over the rounds of ours divided by the peer's adjacent run.
    pub ratio: Option<f64>,
    /// Of `ours` and `peer`.
    pub unit: String,
    /// What is asked, in words.
    pub goal: String,
    /// Whether it is met.
    pub met: Option<bool>,
    /// Why a side is missing.
    pub note: Option<String>,
    /// Whether a side ran and failed.
    pub failed: bool,
    /// None: no UCX here.
    pub ucx: Option<String>,
    /// Where and when.
    pub machine: String,
    /// Every round, in order.
    pub ours_rounds: Vec<f64>,
    /// Every round, in order.
    pub peer_rounds: Vec<f64>,
    /// None here.
    pub candidates: Vec<Value>,
}

/// What a row asks for.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At least so many times the peer.
    TimesAtLeast(f64),
    /// At most so many times the peer.
    TimesAtMost(f64),
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// Nothing: it is there to be compared with.
    Nothing,
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (!sorted.is_empty()).then(|| sorted[sorted.len() / 2])
}

/// A row from its rounds; without a peer's the goal is absolute.
pub fn entry(
    name: &str,
    unit: &str,
    goal: Goal,
    ours: &[f64],
    peer: &[f64],
    peer_name: &str,
    machine: &str,
) -> Entry {
    let ratios: Vec<f64> = ours.iter().zip(peer).map(|(ours, peer)| ours / peer).collect();
    let (ours_median, ratio) = (median(ours), median(&ratios));
    let (met, goal) = match goal {
        Goal::TimesAtLeast(times) => (ratio.map(|ratio| ratio >= times), format!("≥ {times} × peer")),
        Goal::TimesAtMost(times) => (ratio.map(|ratio| ratio <= times), format!("≤ {times} × peer")),
        Goal::AtMost(most) => (ours_median.map(|ours| ours <= most), format!("≤ {most} {unit}")),
        Goal::AtLeast(least) => (ours_median.map(|ours| ours >= least), format!("≥ {least} {unit}")),
        Goal::Nothing => (None, String::new()),
    };
    Entry {
        name: name.into(),
        ours: ours_median,
        peer: median(peer),
        peer_name: (!peer.is_empty()).then(|| peer_name.into()),
        ratio,
        unit: unit.into(),
        goal: goal.trim_end().into(),
        met,
        machine: machine.into(),
        ours_rounds: ours.to_vec(),
        peer_rounds: peer.to_vec(),
        ..Entry::default()
    }
}

impl Entry {
    fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None if self.goal.is_empty() && self.ours.is_some() => "",
            None => "not run",
        }
    }
}

/// Prints rows.
pub fn print(entries: &[Entry]) {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
    for entry in entries {
        let verdict = entry.verdict();
        println!(
            "{:<44} {:>14} {:>14} {:<5} ratio {:>7}  {:<16} {:<7} {}",
            entry.name,
            number(entry.ours),
            number(entry.peer),
            entry.unit,
            number(entry.ratio),
            entry.goal,
            verdict,
            entry.peer_name.as_deref().unwrap_or("")
        );
    }
}

const BEGIN: &str = "<!-- bench-kv:begin (written by `make -C benches kv-docs`; do not edit) -->";
const END: &str = "<!-- bench-kv:end -->";

/// Three significant digits, no exponent.
fn short(value: f64) -> String {
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    let decimals = usize::try_from(2 - magnitude).unwrap_or(0).min(6);
    format!("{value:.decimals$}")
}

/// Puts the rows of `bench.json` into a page, between its marks.
pub fn docs(json: &Path, page: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let entries: Vec<Entry> = serde_json::from_str(&std::fs::read_to_string(json)?)?;
    let entries: Vec<Entry> = entries.into_iter().filter(|entry| entry.name.starts_with("kv ")).collect();
    let number = |value: Option<f64>| value.map_or("–".to_owned(), short);
    let machine = entries.first().map_or("not run yet", |entry| entry.machine.as_str());
    let mut table = format!("Measured on: {machine}.\n\n");
    table += "| what | ours | theirs | unit | ratio | goal | | peer |\n|---|---|---|---|---|---|---|---|\n";
    for entry in &entries {
        let verdict = entry.verdict();
        table += &format!(
            "| {} | {} | {} | {} | {} | {} | {verdict} | {} |\n",
            entry.name,
            number(entry.ours),
            number(entry.peer),
            entry.unit,
            number(entry.ratio),
            entry.goal,
            entry.peer_name.as_deref().unwrap_or_default()
        );
    }
    let text = std::fs::read_to_string(page)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("the page has no mark where the table begins")?;
    let (_, after) = rest.split_once(END).ok_or("the page has no mark where the table ends")?;
    Ok(std::fs::write(page, format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))?)
}

/// Puts rows into `bench.json`, in the places of those of the same name.
pub fn merge(path: &Path, entries: &[Entry]) -> Result<(), Box<dyn std::error::Error>> {
    let mut all: Vec<Value> = match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    for entry in entries {
        let value = serde_json::to_value(entry)?;
        match all.iter_mut().find(|old| old["name"] == entry.name.as_str()) {
            Some(old) => *old = value,
            None => all.push(value),
        }
    }
    let part = path.with_extension("json.part");
    std::fs::write(&part, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(std::fs::rename(part, path)?)
}
