//! The result as a table on the terminal, as `bench.json`, and as a part of the documentation.

use std::collections::BTreeSet;
use std::path::Path;

use crate::run::{Candidate, Entry};

const BEGIN: &str = "<!-- bench:begin (written by `make -C benches docs`; do not edit) -->";
const END: &str = "<!-- bench:end -->";
const HEAD: [&str; 8] = ["what", "ours", "theirs", "unit", "ratio", "goal", "", "peer"];

/// Three significant digits, no exponent.
pub fn short(value: f64) -> String {
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    let decimals = usize::try_from(2 - magnitude).unwrap_or(0).min(6);
    format!("{value:.decimals$}")
}

fn cells(entry: &Entry) -> [String; 8] {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), short);
    let verdict = match entry.met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None if entry.failed => "FAILED",
        None => "not run",
    };
    [
        entry.name.clone(),
        number(entry.ours),
        number(entry.peer),
        entry.unit.clone(),
        number(entry.ratio),
        entry.goal.clone(),
        verdict.to_owned(),
        entry.peer_name.clone().unwrap_or_default(),
    ]
}

/// The table for a terminal, and below it why figures are missing.
pub fn terminal(entries: &[Entry]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(entries.iter().map(cells));
    let mut widths = [0; 8];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    }
    for entry in entries {
        if let Some(note) = &entry.note {
            out.push_str(&format!("{}: {note}\n", entry.name));
        }
    }
    out
}

/// The table as Markdown, with every candidate below it.
pub fn markdown(entries: &[Entry]) -> String {
    let machines: BTreeSet<&str> =
        entries.iter().map(|e| e.machine.as_str()).filter(|m| !m.is_empty()).collect();
    let machines: Vec<&str> = machines.into_iter().collect();
    let mut out = match machines.as_slice() {
        [] => "Measured on: not run yet.\n\n".to_owned(),
        some => format!("Measured on: {}.\n\n", some.join("; ")),
    };
    out.push_str("| what | UCX | ours | theirs | unit | ratio | goal | | peer |\n|---|---|---|---|---|---|---|---|---|\n");
    for entry in entries {
        let [what, ours, peer, unit, ratio, goal, verdict, name] = cells(entry);
        let ucx = entry.ucx.as_deref().unwrap_or("–");
        out.push_str(&format!(
            "| {what} | {ucx} | {ours} | {peer} | {unit} | {ratio} | {goal} | {verdict} | {name} |\n"
        ));
    }
    if entries.iter().all(|entry| entry.candidates.is_empty()) {
        return out;
    }
    out.push_str(
        "\nEvery way to use raw UCX that was tried, medians:\n\n| what | raw UCX | |\n|---|---|---|\n",
    );
    for entry in entries {
        for candidate in &entry.candidates {
            let value = candidate_text(candidate, &entry.unit);
            out.push_str(&format!("| {} | {} | {value} |\n", entry.name, candidate.name));
        }
    }
    out
}

/// A candidate's figure, or why there is none.
pub fn candidate_text(candidate: &Candidate, unit: &str) -> String {
    match (candidate.value, &candidate.note) {
        (Some(value), _) => format!("{} {unit}", short(value)),
        (None, Some(note)) => note.clone(),
        (None, None) => "–".to_owned(),
    }
}

/// `page` with what stands between the marks replaced by the table.
pub fn with_table(page: &str, entries: &[Entry]) -> Result<String, String> {
    let (before, rest) = page.split_once(BEGIN).ok_or(format!("the page has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).ok_or(format!("the page has no line {END}"))?;
    Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", markdown(entries)))
}

/// Reads `bench.json`; a file that is not there has no entries.
pub fn load(path: &Path) -> Result<Vec<Entry>, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Writes `bench.json` whole, or leaves the old one.
pub fn save(path: &Path, entries: &[Entry]) -> Result<(), String> {
    let text = serde_json::to_string_pretty(entries).map_err(|e| e.to_string())?;
    let part = path.with_extension("json.part");
    let written = std::fs::write(&part, text + "\n").and_then(|()| std::fs::rename(&part, path));
    written.map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        for (value, text) in
            [(0.0, "0.00"), (0.01893, "0.0189"), (1.0, "1.00"), (48.29, "48.3"), (123456.0, "123456")]
        {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn the_table_replaces_itself_and_nothing_else() {
        let page = format!("# Title\n{BEGIN}\nold\n{END}\ntail\n");
        let once = with_table(&page, &[]).unwrap();
        assert!(once.starts_with("# Title\n") && once.ends_with(&format!("{END}\ntail\n")));
        assert!(!once.contains("old"));
        assert_eq!(with_table(&once, &[]).unwrap(), once);
        assert!(with_table("no marks", &[]).is_err());
    }

    #[test]
    fn a_row_that_was_not_run_says_so_and_shows_no_figure() {
        let entry = Entry { name: "get".to_owned(), goal: "≤ 1 ns".to_owned(), ..Entry::default() };
        let table = terminal(std::slice::from_ref(&entry));
        assert!(table.lines().nth(1).unwrap().contains("not run"));
        assert!(markdown(&[entry]).contains("| get | – | – | – |"));
    }
}
