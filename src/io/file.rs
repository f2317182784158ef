//! Files as a disk knows them.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// An open file of a [`Disk`](super::disk::Disk). It closes when its last holder is gone; operations hold it.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    direct: bool,
    slot: Option<u32>,
    slots: Rc<RefCell<FileSlots>>,
}

/// Places in a ring's table of registered files.
#[derive(Debug, Default)]
pub(super) struct FileSlots {
    pub free: Vec<u32>,
    /// Places whose file is gone, to be emptied before they are used again.
    pub released: Vec<u32>,
}

impl File {
    pub(super) fn new(fd: OwnedFd, direct: bool, slot: Option<u32>, slots: Rc<RefCell<FileSlots>>) -> File {
        File { fd, direct, slot, slots }
    }

    /// Whether it was opened with `O_DIRECT`: offsets, lengths and memory must be aligned.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Its place in the ring's table.
    pub(super) fn slot(&self) -> Option<u32> {
        self.slot
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.slots.borrow_mut().released.push(slot);
        }
    }
}
