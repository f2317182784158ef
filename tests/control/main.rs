//! Control connections between real contexts: two in one process, or one in a child process (this binary, executed
//! again), over TCP, Unix and abstract sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that meets the unexpected fails")]

mod children;
mod faults;
mod links;
mod support;
mod traffic;
