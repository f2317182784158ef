//! The key-value store, byte-compatible with EloqStore. Knows nothing of UCX.
