//! A histogram of latencies, and how it is shown.

use std::time::Duration;

use hdrhistogram::Histogram;
use rdma_engine::{Error, Result, Status};
use serde_json::{Value, json};

use super::units::nanoseconds;

/// Latencies from 1 ns to a minute with three digits, in bounded memory.
pub struct Latency(Histogram<u64>);

impl Latency {
    /// An empty one.
    pub fn new() -> Result<Latency> {
        Histogram::new_with_bounds(1, 60_000_000_000, 3)
            .map(Latency)
            .map_err(|error| Error::new(Status::Internal, error.to_string()))
    }

    /// Adds one.
    pub fn add(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `percent` of them do not exceed, in ns.
    pub fn percentile(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }

    /// As JSON, in ns; `null` when there is none.
    pub fn json(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        json!({
            "unit": "ns", "count": self.0.len(), "min": self.0.min(), "avg": self.0.mean().round(),
            "max": self.0.max(), "p50": self.percentile(50.0), "p99": self.percentile(99.0),
            "p99.9": self.percentile(99.9),
        })
    }

    /// For a person.
    pub fn text(&self) -> String {
        format!(
            "min {}, avg {}, p99 {}, max {}",
            nanoseconds(self.0.min()),
            nanoseconds(self.0.mean().round() as u64),
            nanoseconds(self.percentile(99.0)),
            nanoseconds(self.0.max())
        )
    }
}
