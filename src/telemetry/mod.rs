//! Counters, histograms and tracing.
