//! Measures rows: picks the best peer, then runs ours and the peer in turn.

use serde::{Deserialize, Serialize};

use crate::goals::{Metric, Peer, Row};
use crate::side::{Measurement, Missing, Tools};

/// Times that each candidate runs before the best is chosen.
const QUALIFYING_ROUNDS: usize = 3;

/// One element of `bench.json`. What was not measured is null.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Entry {
    /// The row's name.
    pub name: String,
    /// Median of our rounds.
    pub ours: Option<f64>,
    /// Median of the peer's rounds.
    pub peer: Option<f64>,
    /// Which of the candidates it is.
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
    /// The UCX that our side, or else the peer, ran on.
    pub ucx: Option<String>,
    /// Where and when.
    pub machine: String,
    /// Every round, in order.
    pub ours_rounds: Vec<f64>,
    /// Every round, in order.
    pub peer_rounds: Vec<f64>,
    /// Every candidate.
    pub candidates: Vec<Candidate>,
}

/// A raw peer and its median over some rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// What the table calls it.
    pub name: String,
    /// The median.
    pub value: Option<f64>,
    /// Why there is none.
    pub note: Option<String>,
}

/// Runs of one side so far. The first run without a figure ends it.
#[derive(Default)]
struct Side {
    figures: Vec<f64>,
    ucx: Option<String>,
    missing: Option<Missing>,
}

impl Side {
    fn add(&mut self, metric: Metric, run: impl FnOnce() -> Result<Measurement, Missing>) {
        if self.missing.is_some() {
            return;
        }
        match run().and_then(|m| Ok((m.figure(metric)?, m.ucx))) {
            Ok((figure, ucx)) => {
                self.figures.push(figure);
                self.ucx = ucx;
            }
            Err(missing) => self.missing = Some(missing),
        }
    }

    /// Of a side that never failed.
    fn median(&self) -> Option<f64> {
        if self.missing.is_some() { None } else { median(&self.figures) }
    }
}

/// Middle value; the mean of the two middle ones of an even count.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some((sorted.get(sorted.len() / 2 - 1)? + upper) / 2.0) }
}

/// Runs every candidate `rounds` times, all of them once before any again.
pub fn measure_candidates(tools: &Tools, peers: &[Peer], metric: Metric, rounds: usize) -> Vec<Candidate> {
    let mut sides: Vec<Side> = peers.iter().map(|_| Side::default()).collect();
    for _ in 0..rounds {
        for (side, peer) in sides.iter_mut().zip(peers) {
            side.add(metric, || tools.run_peer(peer));
        }
    }
    let candidate = |(side, peer): (&Side, &Peer)| Candidate {
        name: peer.name.clone(),
        value: side.median(),
        note: side.missing.as_ref().map(reason),
    };
    sides.iter().zip(peers).map(candidate).collect()
}

fn best<'a>(peers: &'a [Peer], candidates: &[Candidate], metric: Metric) -> Option<&'a Peer> {
    let better = |a: f64, b: f64| if metric.more_is_better() { a.total_cmp(&b) } else { b.total_cmp(&a) };
    let measured = peers.iter().zip(candidates).filter_map(|(peer, c)| Some((peer, c.value?)));
    measured.max_by(|a, b| better(a.1, b.1)).map(|(peer, _)| peer)
}

/// Measures one row: candidates first, then `rounds` of ours, peer, ours, peer.
pub fn measure(tools: &Tools, row: &Row, rounds: usize, machine: &str) -> Entry {
    let candidates = if row.peers.len() > 1 {
        measure_candidates(tools, &row.peers, row.metric, QUALIFYING_ROUNDS)
    } else {
        Vec::new()
    };
    let peer = best(&row.peers, &candidates, row.metric).or_else(|| row.peers.first());
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    for _ in 0..rounds {
        ours.add(row.metric, || tools.run_ours(row.ucx, row.ours));
        if let Some(peer) = peer {
            theirs.add(row.metric, || tools.run_peer(peer));
        }
    }
    entry(row, peer, candidates, &ours, &theirs, machine)
}

fn entry(
    row: &Row,
    peer: Option<&Peer>,
    candidates: Vec<Candidate>,
    ours: &Side,
    theirs: &Side,
    machine: &str,
) -> Entry {
    let unit = row.metric.unit();
    let pairs: Vec<f64> = ours.figures.iter().zip(&theirs.figures).map(|(a, b)| a / b).collect();
    let complete = ours.missing.is_none() && theirs.missing.is_none();
    let ratio = if complete { median(&pairs) } else { None };
    let notes: Vec<String> = [("ours", ours), ("peer", theirs)]
        .iter()
        .filter_map(|(who, side)| Some(format!("{who}: {}", reason(side.missing.as_ref()?))))
        .collect();
    Entry {
        name: row.name.to_owned(),
        ours: ours.median(),
        peer: theirs.median(),
        peer_name: peer.map(|peer| peer.name.clone()),
        ratio,
        unit: unit.to_owned(),
        goal: row.goal.text(unit),
        met: row.goal.met(ours.median(), ratio),
        note: if notes.is_empty() { None } else { Some(notes.join("; ")) },
        failed: [ours, theirs].iter().any(|side| matches!(side.missing, Some(Missing::Failed(_)))),
        ucx: ours.ucx.clone().or_else(|| theirs.ucx.clone()),
        machine: machine.to_owned(),
        ours_rounds: ours.figures.clone(),
        peer_rounds: theirs.figures.clone(),
        candidates,
    }
}

/// A row that nobody has measured.
pub fn unmeasured(row: &Row) -> Entry {
    let unit = row.metric.unit();
    Entry {
        name: row.name.to_owned(),
        unit: unit.to_owned(),
        goal: row.goal.text(unit),
        note: Some("not run".to_owned()),
        ..Entry::default()
    }
}

fn reason(missing: &Missing) -> String {
    match missing {
        Missing::NotRun(why) => format!("not run ({why})"),
        Missing::Failed(why) => format!("failed ({why})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::rows;

    fn side(figures: &[f64]) -> Side {
        Side { figures: figures.to_vec(), ..Side::default() }
    }

    fn comparing_row() -> Row {
        rows().into_iter().find(|row| row.name == "get 1 MiB, same host").unwrap()
    }

    #[test]
    fn medians_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn the_ratio_is_of_adjacent_runs() {
        // The machine was twice as slow in rounds 2 and 3, for both: the ratio does not see it.
        let row = comparing_row();
        let e = entry(
            &row,
            row.peers.first(),
            vec![],
            &side(&[40.0, 20.0, 20.0]),
            &side(&[80.0, 40.0, 40.0]),
            "",
        );
        assert_eq!((e.ratio, e.met, e.failed), (Some(0.5), Some(false), false));
    }

    #[test]
    fn a_side_that_failed_once_has_no_figure() {
        let row = comparing_row();
        let mut broken = side(&[40.0, 41.0]);
        broken.missing = Some(Missing::Failed("exit status: 1".to_owned()));
        let e = entry(&row, row.peers.first(), vec![], &broken, &side(&[40.0, 40.0, 40.0]), "");
        assert_eq!((e.ours, e.ratio, e.met, e.failed), (None, None, None, true));
        assert!(e.note.unwrap().contains("exit status: 1"));
    }

    #[test]
    fn the_best_candidate_depends_on_the_metric() {
        let peers = comparing_row().peers;
        let candidate = |value| Candidate { name: String::new(), value, note: None };
        let some = [candidate(Some(1.0)), candidate(Some(2.0)), candidate(None)];
        assert_eq!(best(&peers[..3], &some, Metric::Bandwidth).unwrap().name, peers[1].name);
        assert_eq!(best(&peers[..3], &some, Metric::Microseconds).unwrap().name, peers[0].name);
        assert!(best(&peers[..1], &[candidate(None)], Metric::Rate).is_none());
    }
}
