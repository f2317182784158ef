//! SeaweedFS needles for other processes: an [`Exporter`] serves every volume of a folder, a [`Reader`] asks for them.
//!
//! A call of [`METHOD`] is one read: its payload is a file id as text, `?jwt=TOKEN` behind it if there is a token; its
//! header is the part (`offset`, `len`) and [`read`] flags. The answer's status is a [`Status`](crate::Status); its payload
//! the data; its header the length of all data (`offset`), when it was modified (`len`, Unix seconds, 0 unknown) and
//! [`needle`] flags. A call of [`METHOD_BATCH`] is many reads in one round trip: see [`batch`]. docs/wire.md has the same.

mod ask;
pub mod batch;
mod cold;
mod directory;
mod exporter;
mod place;
mod placed;
mod reader;
mod serve;
mod token;

pub use exporter::{Exporter, ExporterOptions};
pub use place::{PORT_OFFSET, exporter_address};
pub use placed::{PLACE, Place};
pub use reader::{NeedleInfo, NeedleRead, Reader};
pub use token::{KEY as READ_KEY, ReadKey};

/// Reads a needle.
pub const METHOD: u32 = 0x5357_0001;

/// Reads many needles.
pub const METHOD_BATCH: u32 = 0x5357_0002;

/// Lends memory of the caller's for answers: its payload is a key that allows reads and writes of all of an exportable
/// buffer. The answer's header has the memory's number in this session (`offset`) and its length (`len`). `UNSUPPORTED`: it
/// cannot be mapped there. Without a payload it takes the memory with the number `offset` back.
pub const METHOD_MEMORY: u32 = 0x5357_0003;

/// Longest file id with its token, in bytes; also those that are whole paths of URLs.
pub const FILE_ID: usize = 4096;

/// Flags of a read.
pub mod read {
    /// A needle that was deleted is `DELETED`, also while its bytes are there.
    pub const LIVE: u32 = 1 << 0;
    /// Chunk manifests, and parts of compressed data, are given out as they are stored.
    pub const STORED: u32 = 1 << 1;
    /// A part: `len` bytes from `offset` on, as far as the data goes.
    pub const RANGE: u32 = 1 << 2;
    /// No data: what is known of the needle.
    pub const STAT: u32 = 1 << 3;
    /// Every flag of one read.
    pub const ALL: u32 = LIVE | STORED | RANGE | STAT;
    /// The payload ends with a [`Place`](super::Place): where the answer is to go, if it can. Of a call, also of one for many.
    pub const PLACED: u32 = 1 << 4;
    /// With `PLACED`: the reader checks what the answer says was not. Of a call, also of one for many.
    pub const UNCHECKED: u32 = 1 << 5;
}

/// Flags of an answer, beside those that SeaweedFS stores with the needle.
pub mod needle {
    /// It was deleted; its bytes are still there.
    pub const DELETED: u32 = 1 << 8;
    /// Of an answer's header: what would be its payload is at the place that the call named.
    pub const PLACED: u32 = 1 << 9;
    /// Its data was not checked: the reader has to, against the checksum, which of an answer for one is in the upper half
    /// of the header's `offset`.
    pub const UNCHECKED: u32 = 1 << 10;
}
