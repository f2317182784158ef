//! UCX declarations.
