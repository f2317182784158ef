//! Bytes of a partition, wherever they are kept.

use crate::io::buffer::Buffer;
use std::rc::Rc;

/// Bytes that were read. Whoever holds them keeps their memory.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// A piece of a buffer that the disk has read into: where it begins, and its length.
    Disk(Rc<Buffer>, usize, usize),
    /// A piece of a store in memory.
    Memory(Rc<[u8]>),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Bytes::Disk(buffer, at, len) => &buffer[*at..*at + *len],
            Bytes::Memory(bytes) => bytes,
        }
    }
}
