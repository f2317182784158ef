//! The C ABI: one file for each section of the header. Checks arguments and calls; decides nothing.
//!
//! The names here are the C names, so that one word finds the Rust source, the header and the symbol. Every exported
//! function starts with `guard`, `guard_close` or `guard_value`; a test counts them. Docs of exported functions
//! become the header: their sections are fixed (a test looks for them), and *Parameters* is the safety contract.
#![allow(unsafe_code, reason = "the C boundary: pointers of the caller become references and slices here")]
#![allow(non_camel_case_types, reason = "the names are those of the C header")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the Parameters section of each function is its safety contract"
)]

pub mod call_types;
pub mod constants;
pub mod handle;
pub mod kv_types;
pub mod types;
pub mod volume_types;

// One for each section of the header; tests/header.rs has their order.
pub mod call;
pub mod context;
pub mod exporter;
pub mod kv;
pub mod library;
pub mod memory;
pub mod needle;
pub mod operation;
pub mod session;
pub mod telemetry;
pub mod volume;
pub mod worker;

mod argument;
mod guard;
mod kv_request;
mod layout;

#[cfg(debug_assertions)]
pub use guard::fault;
use guard::{guard, guard_close, guard_value};
