//! SeaweedFS volumes, read from their files: superblock, needle, index, file id. Knows nothing of UCX.
//!
//! [`Volume::open`] loads the index of a volume and follows it as the volume server appends to it. A read takes
//! [`Volume::locate`] (no I/O but an `fstat`, unless there is news) and then [`Location::read`], or the caller's own
//! I/O and [`Location::verify`]. Nothing here ever writes to a volume.
//!
//! Whether a chunk is encrypted is known to the filer alone, not to the volume: whoever holds a cipher key must not ask
//! for parts, and gets the encrypted bytes of the whole.

pub mod checksum;
pub mod compact;
pub mod file_id;
mod files;
mod index;
pub mod location;
pub mod map;
pub mod needle;
pub mod read;
pub mod row;
pub mod sorted;
pub mod superblock;
pub mod ttl;
pub mod vif;
#[allow(clippy::module_inception, reason = "the noun of the file is the noun of the module")]
mod volume;

pub use file_id::FileId;
pub use location::{Location, Needle, ReadOptions};
pub use read::Read;
pub use volume::{Info, OpenOptions, View, Volume};
