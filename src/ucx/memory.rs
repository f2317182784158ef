//! Memory that UCX may touch: pinned by its owner, mapped for peers.
#![allow(unsafe_code, reason = "calls UCX, and defines what memory it may touch")]

use super::context::Context;
use super::library;
use super::status::UcsStatus;
use crate::status::{Error, Result, Status};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;
use ucx_sys::{ucp_mem_h, ucp_mem_map_params_t};

/// Memory that stays where it is for as long as the value lives.
///
/// # Safety
/// `address()..address() + len()` must be readable and writable, must not move or be freed while the value lives, also
/// when the value itself is moved to another place or thread, and must not be reachable through a Rust reference that
/// would be invalid if another thread, another process or a device reads or writes it at any time. Both functions
/// must always answer the same.
pub unsafe trait Pinned: Send + 'static {
    /// First byte.
    fn address(&self) -> *mut u8;
    /// Bytes.
    fn len(&self) -> usize;
    /// Whether there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// SAFETY: the heap block stays when the vector moves, and while a worker owns it nobody else can reach it.
unsafe impl Pinned for Vec<u8> {
    fn address(&self) -> *mut u8 {
        self.as_ptr().cast_mut()
    }

    fn len(&self) -> usize {
        Vec::len(self)
    }
}

/// Pinned memory, mapped so that peers with its key can get and put. Unmapped, then released, on drop.
///
/// **On TCP and shared memory UCX checks neither bounds nor keys**: a peer that can get and put at all can reach
/// everything in this process.
pub struct Memory<P: Pinned> {
    context: Arc<Context>,
    handle: ucp_mem_h,
    pinned: ManuallyDrop<P>,
}

// SAFETY: the handle is used only through the context, which is locked; the pinned value is only dropped.
unsafe impl<P: Pinned> Send for Memory<P> {}
// SAFETY: no reference to the pinned value is given out, only numbers.
unsafe impl<P: Pinned> Sync for Memory<P> {}

impl Context {
    /// Maps memory for remote access and keeps it alive until the last `Arc` is gone.
    ///
    /// # Errors
    /// [`Status::InvalidArgument`] for empty memory or a context without `rma`; what UCX says.
    pub fn map<P: Pinned>(self: &Arc<Self>, pinned: P) -> Result<Arc<Memory<P>>> {
        library::check_fork()?;
        if pinned.is_empty() || !self.rma() {
            return Err(Error::new(
                Status::InvalidArgument,
                "map needs memory of at least one byte and a context with rma",
            ));
        }
        // SAFETY: an all-zero ucp_mem_map_params_t is valid: numbers and NULL.
        let mut params: ucp_mem_map_params_t = unsafe { std::mem::zeroed() };
        params.field_mask =
            ucx_sys::UCP_MEM_MAP_PARAM_FIELD_ADDRESS | ucx_sys::UCP_MEM_MAP_PARAM_FIELD_LENGTH;
        params.address = pinned.address().cast();
        params.length = pinned.len();
        let mut handle = ptr::null_mut();
        // SAFETY: the memory is valid by the trait's contract and outlives the mapping: it is dropped after it.
        let status = unsafe { (self.library.api.ucp_mem_map)(self.handle, &params, &mut handle) };
        UcsStatus::check(status).map_err(|s| s.error("mapping memory"))?;
        Ok(Arc::new(Memory { context: self.clone(), handle, pinned: ManuallyDrop::new(pinned) }))
    }
}

impl<P: Pinned> Memory<P> {
    /// Address for a peer's get and put.
    pub fn address(&self) -> u64 {
        self.pinned.address() as u64
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.pinned.len()
    }

    /// Never: empty memory is not mapped.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The key for a peer, to be sent to it and unpacked there.
    ///
    /// # Errors
    /// What UCX says.
    pub fn pack_rkey(&self) -> Result<Vec<u8>> {
        library::check_fork()?;
        let api = &self.context.library.api;
        let (mut buffer, mut length) = (ptr::null_mut(), 0);
        // SAFETY: context and mapping are live; both outputs are written.
        let status =
            unsafe { (api.ucp_rkey_pack)(self.context.handle, self.handle, &mut buffer, &mut length) };
        UcsStatus::check(status).map_err(|s| s.error("packing a key"))?;
        // SAFETY: UCX gave `length` bytes at `buffer`.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length) }.to_vec();
        // SAFETY: given by ucp_rkey_pack, released once.
        unsafe { (api.ucp_rkey_buffer_release)(buffer) };
        Ok(bytes)
    }
}

impl<P: Pinned> Drop for Memory<P> {
    fn drop(&mut self) {
        if library::is_forked() {
            return;
        }
        // SAFETY: mapped once, unmapped once.
        let status = unsafe { (self.context.library.api.ucp_mem_unmap)(self.context.handle, self.handle) };
        if let Err(status) = UcsStatus::check(status) {
            // Peers could still reach it: leaking is the only safe end.
            tracing::error!(%status, "UCX did not unmap memory; leaking it");
            return;
        }
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.pinned) };
    }
}
