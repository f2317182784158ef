//! Disk: asynchronous reads, writes and syncs for one thread, over io_uring or over positioned I/O on a few threads.
//!
//! A [`disk::Disk`] belongs to the thread that opened it, and whoever owns it turns it. [`ring`] and [`threads`] are
//! its two back-ends, chosen when it is opened; [`buffer`] is memory that direct I/O takes, [`event`] wakes a thread
//! that sleeps in [`disk::Disk::turn`], [`tasks`] are what runs beside it. [`readahead`] is a thread with a disk of its own
//! that brings files' bytes into the page cache, [`processor`] says where work comes from. Nothing here knows of UCX or of what is stored.

pub mod buffer;
pub mod disk;
pub mod event;
pub mod file;
pub mod operation;
pub(crate) mod processor;
pub mod readahead;
mod ring;
mod table;
pub(crate) mod tasks;
mod threads;
