//! What a decoder found wrong, before anyone knows in which file.

use crate::status::{Error, Status};
use std::fmt::Display;

/// Bytes that cannot be what they should be: where in the decoded slice, and what is wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Offset in the bytes that were decoded.
    pub at: usize,
    /// What is wrong, in a few words.
    pub what: &'static str,
}

/// What decoders return.
pub type Decoded<T> = std::result::Result<T, Damage>;

impl Damage {
    /// Damage `what` at `at`.
    pub fn new(at: usize, what: &'static str) -> Damage {
        Damage { at, what }
    }

    /// The error for a caller: `base` is where in `file` the decoded bytes begin.
    pub fn in_file(self, file: impl Display, base: u64) -> Error {
        corrupted(file, base.saturating_add(self.at as u64), self.what)
    }
}

/// `CORRUPTED`, naming the file and the byte.
pub fn corrupted(file: impl Display, at: u64, what: impl Display) -> Error {
    Error::new(
        Status::Corrupted,
        format!("{file}, byte {at}: {what}; restore this file from a copy, or the partition from an archive"),
    )
}
