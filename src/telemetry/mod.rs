//! Counters, histograms and tracing.

pub mod log;
pub mod meter;
pub mod prometheus;
pub mod stats;

pub use meter::{Count, Meter, SAMPLE, Tally};
pub use stats::{Counters, Histogram, Stats};
