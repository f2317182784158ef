//! `rde`: the command line of the engine.
fn main() {}
