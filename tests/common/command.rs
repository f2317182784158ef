//! The command `rde`, for tests that run it.

use std::process::Command;

/// `rde` without what a developer has set: that must not change what the tests see.
pub fn rde() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rde"));
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("RDE_") && name != "RDE_UCX_LIBRARY")
    {
        command.env_remove(name);
    }
    command
}
