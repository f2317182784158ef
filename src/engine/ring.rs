//! A queue of short frames between two processes on this host, in a memory file that both have mapped: one writes
//! ([`RingWriter`]), one reads ([`RingReader`]). One cache line carries a short frame from core to core.
//!
//! Layout: at 0 `taken` (u32: frames the reader has taken) and at 4 `asleep` (u32: the reader wants its bell rung);
//! from 128 on [`SLOTS`] slots of [`SLOT`] bytes. A slot begins with a stamp, `lap << 8 | length`, written last; the
//! frame follows. The lap counts rounds from 1 on, in 24 bits.
//!
//! Neither side trusts the other: the reader checks lengths and copies before it looks; the writer, whatever `taken`
//! says, writes only into slots of its mapping.
#![allow(unsafe_code, reason = "memory that another process writes")]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use super::buffer::{Mapping, PAGE};
use super::memfd;
use crate::limits::COMPACT_FRAME;
use crate::status::{Error, Result, Status};

/// Frames that fit: what one session may have on its way.
const SLOTS: u32 = crate::limits::MESSAGE_WINDOW;
/// Bytes of a slot.
const SLOT: usize = 256;
const HEADER: usize = 128;
const ASLEEP: usize = 4;
const LENGTH: usize = HEADER + SLOTS as usize * SLOT;
/// Bytes of a stamp.
const STAMP: usize = 4;

const _: () = assert!(STAMP + COMPACT_FRAME <= SLOT && COMPACT_FRAME <= 0xFF && SLOTS.is_power_of_two());

/// A word of a ring.
fn word(mapping: &Mapping, offset: usize) -> &AtomicU32 {
    debug_assert!(offset.is_multiple_of(4));
    // SAFETY: a word of the mapping, which is page-aligned and lives as long as the reference; both sides use it as an
    // atomic only.
    unsafe { AtomicU32::from_ptr(place(mapping, offset).cast()) }
}

/// The byte at an offset.
fn place(mapping: &Mapping, offset: usize) -> *mut u8 {
    debug_assert!(offset < LENGTH);
    // SAFETY: within the mapping, which has at least `LENGTH` bytes.
    unsafe { mapping.address().add(offset) }
}

/// Where the slot of a frame begins, and its stamp without the length.
fn slot(position: u32) -> (usize, u32) {
    let lap = (position / SLOTS).wrapping_add(1) << 8;
    (HEADER + (position % SLOTS) as usize * SLOT, lap)
}

/// The reading end: it made the memory and the bell.
pub(super) struct RingReader {
    mapping: Mapping,
    bell: OwnedFd,
    position: u32,
    /// `taken` as the writer was told.
    told: u32,
    armed: bool,
}

impl RingReader {
    /// A ring, and what its writer needs: the memory and the bell.
    pub fn new() -> Result<(RingReader, [OwnedFd; 2])> {
        let made = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (bell, cord) = made.map_err(|errno| Error::os("socketpair", &errno.into()))?;
        let mapping = Mapping::memfd(LENGTH.next_multiple_of(PAGE))?;
        let file = mapping.file().ok_or(Status::Internal)?;
        memfd::fix_seals(file)?;
        let ends = [memfd::duplicate(file)?, cord];
        Ok((RingReader { mapping, bell, position: 0, told: 0, armed: false }, ends))
    }

    /// Readable when it was rung.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The length of the oldest frame, which is copied to the beginning of `into`.
    #[inline]
    pub fn take(&mut self, into: &mut [u8; COMPACT_FRAME]) -> Option<usize> {
        let (offset, lap) = slot(self.position);
        let stamp = word(&self.mapping, offset).load(Ordering::Acquire);
        if stamp & !0xFF != lap {
            return None;
        }
        let length = ((stamp & 0xFF) as usize).min(COMPACT_FRAME);
        let from = place(&self.mapping, offset + STAMP);
        // SAFETY: within the slot, and within `into`; bytes that the writer changes meanwhile are its own harm.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), length) };
        self.position = self.position.wrapping_add(1);
        if self.position.wrapping_sub(self.told) >= SLOTS / 4 {
            self.told = self.position;
            word(&self.mapping, 0).store(self.told, Ordering::Release);
        }
        Some(length)
    }

    fn is_empty(&self) -> bool {
        let (offset, lap) = slot(self.position);
        word(&self.mapping, offset).load(Ordering::Acquire) & !0xFF != lap
    }

    /// Wants the bell rung for the next frame; `false`: one is there already.
    pub fn arm(&mut self) -> bool {
        self.disarm();
        self.armed = true;
        word(&self.mapping, ASLEEP).store(1, Ordering::Relaxed);
        // Pairs with the fence of `put`: either we see the frame, or the writer sees us.
        fence(Ordering::SeqCst);
        self.is_empty()
    }

    /// Makes the bell quiet.
    pub fn disarm(&mut self) {
        if std::mem::take(&mut self.armed) {
            word(&self.mapping, ASLEEP).store(0, Ordering::Relaxed);
            let _ = recv(&self.bell, &mut [0; 64], RecvFlags::DONTWAIT);
        }
    }
}

/// The writing end.
pub(super) struct RingWriter {
    mapping: Mapping,
    bell: OwnedFd,
    position: u32,
    /// `taken` as last seen.
    taken: u32,
}

impl RingWriter {
    /// The end of a ring that a peer made. `Protocol` when using its memory would not be safe.
    pub fn new([memory, bell]: [OwnedFd; 2]) -> Result<RingWriter> {
        let mapping = Mapping::import(memory.as_fd(), 0, LENGTH.next_multiple_of(PAGE), true)?;
        Ok(RingWriter { mapping, bell, position: 0, taken: 0 })
    }

    /// Appends a frame of 1 to [`COMPACT_FRAME`] bytes; `false` when there is no room now.
    #[inline]
    pub fn put(&mut self, frame: &[u8]) -> bool {
        if frame.is_empty() || frame.len() > COMPACT_FRAME {
            return false;
        }
        if self.position.wrapping_sub(self.taken) >= SLOTS {
            self.taken = word(&self.mapping, 0).load(Ordering::Acquire);
            // A reader that lies about what it took harms what is on its way to it.
            if self.position.wrapping_sub(self.taken) >= SLOTS {
                return false;
            }
        }
        let (offset, lap) = slot(self.position);
        let to = place(&self.mapping, offset + STAMP);
        // SAFETY: within the slot, which the reader has taken.
        unsafe { std::ptr::copy_nonoverlapping(frame.as_ptr(), to, frame.len()) };
        word(&self.mapping, offset).store(lap | frame.len() as u32, Ordering::Release);
        self.position = self.position.wrapping_add(1);
        fence(Ordering::SeqCst);
        let asleep = word(&self.mapping, ASLEEP);
        if asleep.load(Ordering::Relaxed) != 0 && asleep.swap(0, Ordering::AcqRel) != 0 {
            // Never waits, whatever the peer made of its end. Fails when it is full, and then the bell rings anyway.
            let _ = send(&self.bell, b"!", SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn ring() -> (RingReader, RingWriter) {
        let (reader, ends) = RingReader::new().unwrap();
        (reader, RingWriter::new(ends).unwrap())
    }

    fn take(reader: &mut RingReader) -> Option<Vec<u8>> {
        let mut into = [0; COMPACT_FRAME];
        reader.take(&mut into).map(|length| into[..length].to_vec())
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn frames_come_in_order_over_many_laps_and_none_when_full() {
        let (mut reader, mut writer) = ring();
        assert_eq!(take(&mut reader), None);
        let frame = |i: u32| {
            let mut bytes = i.to_le_bytes().to_vec();
            bytes.resize(4 + i as usize % (COMPACT_FRAME - 3), i as u8);
            bytes
        };
        let (mut put, mut taken) = (0, 0);
        for round in 0..1_000u32 {
            for _ in 0..round % 301 {
                // The reader tells in steps: a writer may see less room than there is, never more.
                put += u32::from(writer.put(&frame(put)));
                assert!(put - taken <= SLOTS);
            }
            for _ in 0..round * 7 % 307 {
                let Some(bytes) = take(&mut reader) else { break };
                assert_eq!(bytes, frame(taken));
                taken += 1;
            }
        }
        while let Some(bytes) = take(&mut reader) {
            assert_eq!(bytes, frame(taken));
            taken += 1;
        }
        assert!(put == taken && put > 100 * SLOTS, "{put} {taken}");
        let (mut reader, mut writer) = ring();
        assert_eq!((0..1_000).filter(|_| writer.put(b"x")).count(), SLOTS as usize);
        assert!(!writer.put(&[]) && !writer.put(&[0; COMPACT_FRAME + 1]));
        assert_eq!(std::iter::from_fn(|| take(&mut reader)).count(), SLOTS as usize);
        assert!(writer.put(b"y"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn no_frame_is_slept_through() {
        const FRAMES: u32 = 20_000;
        let (mut reader, mut writer) = ring();
        let thread = std::thread::spawn(move || {
            for i in 0..FRAMES {
                while !writer.put(&i.to_le_bytes()) {
                    std::thread::yield_now();
                }
            }
        });
        let mut next = 0u32;
        while next < FRAMES {
            if reader.arm() {
                let bell = reader.bell();
                let mut set = [PollFd::new(&bell, PollFlags::IN)];
                let rung = poll(&mut set, Some(&Timespec { tv_sec: 60, tv_nsec: 0 })).unwrap();
                assert_eq!(rung, 1, "slept through a frame after {next}");
            }
            while let Some(bytes) = take(&mut reader) {
                assert_eq!(bytes, next.to_le_bytes());
                next += 1;
            }
        }
        thread.join().unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn a_hostile_other_end_gets_nowhere() {
        let (mut reader, ends) = RingReader::new().unwrap();
        let mut writer = RingWriter::new(ends).unwrap();
        // A stamp with a length that lies is cut; what `taken` says moves no write out of the slots.
        let (offset, lap) = slot(0);
        word(&writer.mapping, offset).store(lap | 0xFF, Ordering::Release);
        assert_eq!(take(&mut reader).unwrap().len(), COMPACT_FRAME);
        for taken in [0u32, 1, 77, u32::MAX, 1 << 31] {
            word(&reader.mapping, 0).store(taken, Ordering::Release);
            for _ in 0..2 * SLOTS {
                writer.put(&[7; COMPACT_FRAME]);
            }
        }
        // Memory that could shrink is refused.
        let plain = rustix::fs::memfd_create(c"plain", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&plain, 1 << 20).unwrap();
        let (_, [_, cord]) = RingReader::new().unwrap();
        assert!(RingWriter::new([plain, cord]).is_err());
        // A bell that is none, or that nobody answers, holds nobody up.
        let (mut reader, [memory, _]) = RingReader::new().unwrap();
        let mut writer = RingWriter::new([memory.try_clone().unwrap(), memory]).unwrap();
        assert!(reader.arm() && writer.put(b"x") && take(&mut reader).is_some());
        let (mut reader, mut writer) = ring();
        for _ in 0..10_000 {
            word(&reader.mapping, ASLEEP).store(1, Ordering::Relaxed);
            while !writer.put(b"x") {
                while take(&mut reader).is_some() {}
            }
        }
    }
}
