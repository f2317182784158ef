//! A draft: new registered memory that nobody else knows yet, filled in place and then sent.
#![allow(unsafe_code, reason = "its bytes are a slice while nobody else knows its handle")]

use std::sync::Arc;

use super::buffer::Buffer;
use super::context::Context;
use super::pool;
use crate::status::Result;

/// A buffer of its own, released when this is dropped. Its handle is told to nobody but the engine, by who sends it.
pub struct Draft {
    context: Arc<Context>,
    buffer: Arc<Buffer>,
}

impl Draft {
    /// Room for `length` bytes, which are whatever they were. Errors: as of [`Context::alloc`].
    pub fn new(context: &Arc<Context>, length: u64) -> Result<Draft> {
        let buffer = context.alloc(length.max(1), pool::UNINITIALISED)?;
        Ok(Draft { context: context.clone(), buffer })
    }

    /// Its bytes, to be filled.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the whole of a buffer that lives as long as `self`, mapped and writable, of bytes that were zeroed or
        // written before. No span of it exists, for its handle was told to nobody, and it cannot be exported.
        unsafe { std::slice::from_raw_parts_mut(self.buffer.address(), self.buffer.len()) }
    }

    /// The handle to send it by. What is sent must not be written to any more.
    pub fn id(&self) -> u64 {
        self.buffer.id()
    }
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.buffer.fmt(f)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // A closed context has released it; what is being sent keeps the memory.
        let _ = self.context.release_buffer(&self.buffer);
    }
}
