//! SeaweedFS needles for other processes: an [`Exporter`] serves every volume of a folder by calls of [`METHOD`].
//!
//! A call's payload is a file id as text; its header is the part (`offset`, `len`) and [`read`] flags. The answer's status
//! is a [`Status`](crate::Status); its payload the data; its header the length of all data (`offset`), when it was modified
//! (`len`, Unix seconds, 0 unknown) and [`needle`] flags. docs/wire.md has the same.

mod directory;
mod exporter;

pub use exporter::{Exporter, ExporterOptions};

/// Reads a needle.
pub const METHOD: u32 = 0x5357_0001;

/// Flags of a read.
pub mod read {
    /// A needle that was deleted is `DELETED`, also while its bytes are there.
    pub const LIVE: u32 = 1 << 0;
    /// Chunk manifests, and parts of compressed data, are given out as they are stored.
    pub const STORED: u32 = 1 << 1;
    /// A part: `len` bytes from `offset` on, as far as the data goes.
    pub const RANGE: u32 = 1 << 2;
    /// Every flag there is.
    pub const ALL: u32 = LIVE | STORED | RANGE;
}

/// Flags of an answer, beside those that SeaweedFS stores with the needle.
pub mod needle {
    /// It was deleted; its bytes are still there.
    pub const DELETED: u32 = 1 << 8;
}
