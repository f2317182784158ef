//! [`Stats`] of several objects as one text in the Prometheus exposition format.

use std::fmt::Write;

use super::stats::{BUCKETS, Counters, Histogram, Stats};

/// One object's labels (name, value) and what it counted.
pub struct Source<'a> {
    /// Label names and values, such as `("worker", "0")`.
    pub labels: &'a [(&'a str, &'a str)],
    /// Its counters and histograms.
    pub stats: &'a Stats,
}

/// A family of samples: its name, its help, and each sample's own label (text, or empty) and value.
type Family = (&'static str, &'static str, &'static [(&'static str, fn(&Counters) -> u64)]);

const FAMILIES: &[Family] = &[
    ("rde_requests_submitted_total", "Requests that were accepted.", &[("", |c| c.submitted)]),
    ("rde_requests_completed_total", "Completions of requests.", &[("", |c| c.completed)]),
    (
        "rde_requests_failed_total",
        "Completions with an error, by reason.",
        &[
            ("reason=\"timed_out\"", |c| c.timed_out),
            ("reason=\"canceled\"", |c| c.canceled),
            ("reason=\"other\"", |c| c.failed.saturating_sub(c.timed_out.saturating_add(c.canceled))),
        ],
    ),
    ("rde_queue_full_total", "Requests refused by a full queue.", &[("", |c| c.queue_full)]),
    (
        "rde_operations_total",
        "Operations that succeeded.",
        &[
            ("op=\"get\"", |c| c.gets),
            ("op=\"put\"", |c| c.puts),
            ("op=\"flush\"", |c| c.flushes),
            ("op=\"atomic\"", |c| c.atomics),
            ("op=\"send\"", |c| c.sends),
            ("op=\"message\"", |c| c.messages),
            ("op=\"import\"", |c| c.imports),
        ],
    ),
    (
        "rde_operation_bytes_total",
        "Bytes moved by operations that succeeded.",
        &[
            ("op=\"get\"", |c| c.get_bytes),
            ("op=\"put\"", |c| c.put_bytes),
            ("op=\"send\"", |c| c.send_bytes),
            ("op=\"message\"", |c| c.message_bytes),
        ],
    ),
    (
        "rde_way_operations_total",
        "Gets and puts by the way they went.",
        &[
            ("way=\"mapped\"", |c| c.way_operations[0]),
            ("way=\"rma\"", |c| c.way_operations[1]),
            ("way=\"message\"", |c| c.way_operations[2]),
        ],
    ),
    (
        "rde_way_bytes_total",
        "Bytes of gets and puts by the way they went.",
        &[
            ("way=\"mapped\"", |c| c.way_bytes[0]),
            ("way=\"rma\"", |c| c.way_bytes[1]),
            ("way=\"message\"", |c| c.way_bytes[2]),
        ],
    ),
    (
        "rde_served_total",
        "Operations of peers that were served with messages.",
        &[
            ("op=\"get\"", |c| c.served_gets),
            ("op=\"put\"", |c| c.served_puts),
            ("op=\"atomic\"", |c| c.served_atomics),
        ],
    ),
    ("rde_served_bytes_total", "Bytes moved by what was served.", &[("", |c| c.served_bytes)]),
    ("rde_refused_total", "Requests of peers refused by key, range or rights.", &[("", |c| c.refused)]),
    (
        "rde_sessions_opened_total",
        "Sessions that opened.",
        &[("side=\"dialled\"", |c| c.connects), ("side=\"accepted\"", |c| c.accepts)],
    ),
    (
        "rde_sessions_refused_total",
        "Dials that failed and peers that were turned away.",
        &[("side=\"dialled\"", |c| c.connects_failed), ("side=\"accepted\"", |c| c.hellos_refused)],
    ),
    (
        "rde_sessions_ended_total",
        "Sessions that ended.",
        &[("how=\"closed\"", |c| c.sessions_closed), ("how=\"lost\"", |c| c.sessions_lost)],
    ),
    ("rde_keys_exported_total", "Keys that were exported.", &[("", |c| c.exports)]),
    ("rde_keys_revoked_total", "Keys that were revoked.", &[("", |c| c.revokes)]),
    ("rde_polls_total", "Calls to poll.", &[("", |c| c.polls)]),
    ("rde_sleeps_total", "Times a worker went to sleep.", &[("", |c| c.sleeps)]),
    ("rde_wakes_total", "Times a worker was woken from sleep.", &[("", |c| c.wakes)]),
    ("rde_logs_dropped_total", "Log messages that were dropped.", &[("", |c| c.logs_dropped)]),
    ("rde_calls_total", "Calls that the peer's service answered.", &[("", |c| c.calls)]),
    ("rde_late_replies_total", "Replies that nobody waited for.", &[("", |c| c.late_replies)]),
    (
        "rde_served_calls_total",
        "Calls of peers, by what became of them.",
        &[
            ("outcome=\"received\"", |c| c.calls_received),
            ("outcome=\"answered\"", |c| c.calls_answered),
            ("outcome=\"refused\"", |c| c.calls_refused),
            ("outcome=\"repeated\"", |c| c.calls_repeated),
        ],
    ),
    ("rde_handler_panics_total", "Handlers of calls that panicked.", &[("", |c| c.handler_panics)]),
    ("rde_proofs_failed_total", "Peers that did not prove the shared secret.", &[("", |c| c.proofs_failed)]),
];

/// A histogram's label and where it is.
type Operation = (&'static str, fn(&Stats) -> &Histogram);

const HISTOGRAMS: &[Operation] =
    &[("get", |s| &s.get), ("put", |s| &s.put), ("message", |s| &s.message), ("connect", |s| &s.connect)];

/// Renders what `sources` counted; each family once, with one sample for each source and value.
pub fn render(sources: &[Source<'_>]) -> String {
    let labels: Vec<String> = sources.iter().map(|source| labels(source.labels)).collect();
    let mut text = String::with_capacity(4096 * (sources.len() + 1));
    for (name, help, samples) in FAMILIES {
        head(&mut text, name, help, "counter");
        for (source, labels) in sources.iter().zip(&labels) {
            for (own, value) in *samples {
                sample(&mut text, name, &[labels, own], value(&source.stats.counters));
            }
        }
    }
    let name = "rde_operation_duration_seconds";
    head(&mut text, name, "Durations from submission to completion.", "histogram");
    for (source, labels) in sources.iter().zip(&labels) {
        for (op, histogram) in HISTOGRAMS {
            durations(&mut text, name, labels, op, histogram(source.stats));
        }
    }
    text
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a String does not fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn sample(text: &mut String, name: &str, labels: &[&str], value: impl std::fmt::Display) {
    let labels: Vec<&str> = labels.iter().copied().filter(|part| !part.is_empty()).collect();
    let _ = if labels.is_empty() {
        writeln!(text, "{name} {value}")
    } else {
        writeln!(text, "{name}{{{}}} {value}", labels.join(","))
    };
}

fn durations(text: &mut String, name: &str, labels: &str, op: &str, histogram: &Histogram) {
    let (op, bucket) = (format!("op=\"{op}\""), format!("{name}_bucket"));
    let mut below = 0u64;
    for index in 0..BUCKETS {
        below += histogram.buckets[index];
        let bound = match Histogram::bound_ns(index) {
            Some(ns) => format!("le=\"{}\"", seconds(ns)),
            None => "le=\"+Inf\"".to_owned(),
        };
        sample(text, &bucket, &[labels, &op, &bound], below);
    }
    sample(text, &format!("{name}_sum"), &[labels, &op], seconds(histogram.sum_ns));
    sample(text, &format!("{name}_count"), &[labels, &op], below);
}

/// Nanoseconds as decimal seconds, exact and without trailing zeros.
fn seconds(ns: u64) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Label pairs as text, values escaped as the format asks.
fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Stats {
        let mut stats = Stats::default();
        stats.counters.submitted = 7;
        stats.counters.completed = 6;
        stats.counters.failed = 3;
        stats.counters.timed_out = 1;
        stats.counters.gets = 3;
        stats.counters.get_bytes = 12_288;
        stats.counters.way_operations = [2, 0, 1];
        stats.counters.way_bytes = [8_192, 0, 4_096];
        for ns in [15, 16, 900, 20_000_000_000] {
            stats.get.add(ns);
        }
        stats
    }

    #[test]
    fn text_is_the_golden_one() {
        let (first, second) = (example(), Stats::default());
        let text = render(&[
            Source { labels: &[("context", "a \"b\"\\\n"), ("worker", "0")], stats: &first },
            Source { labels: &[], stats: &second },
        ]);
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/telemetry/golden.prom");
        if std::env::var_os("RDE_BLESS").is_some() {
            std::fs::write(golden, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(golden).unwrap(), "RDE_BLESS=1 writes it anew");
    }

    #[test]
    fn every_sample_is_well_formed_and_every_family_is_declared_once() {
        let stats = example();
        let text = render(&[Source { labels: &[("context", "c")], stats: &stats }]);
        let mut declared = std::collections::HashSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(declared.insert(rest.split(' ').next().unwrap().to_owned()), "{line}");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let name = name.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                assert!(declared.contains(name) || declared.contains(family.unwrap_or("")), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.contains(
            "rde_operation_duration_seconds_bucket{context=\"c\",op=\"get\",le=\"0.000000016\"} 1\n"
        ));
        assert!(text.contains("rde_operation_duration_seconds_sum{context=\"c\",op=\"get\"} 20.000000931\n"));
    }

    #[test]
    fn seconds_are_exact() {
        assert_eq!(
            (seconds(0), seconds(16), seconds(1_500_000_000)),
            ("0".into(), "0.000000016".into(), "1.5".into())
        );
    }
}
