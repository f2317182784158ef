//! The operations that a disk has under way.

use super::buffer::Buffer;
use super::file::File;
use super::operation::Ended;
use std::io;
use std::rc::Rc;
use std::task::Waker;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    Sync,
    /// A sync of everything about the file, which a directory needs.
    SyncAll,
    /// A closure on another thread, which keeps its own result.
    Call,
}

/// An operation. It owns its memory and its file until the kernel has let go of both.
#[derive(Debug)]
pub struct Op {
    pub kind: Kind,
    pub file: Option<Rc<File>>,
    pub buffer: Option<Buffer>,
    pub offset: u64,
    pub len: usize,
    /// Bytes moved so far: short reads and writes are continued.
    pub done: usize,
    /// Times that the kernel asked to be asked again.
    pub retries: u32,
    pub result: Option<io::Result<usize>>,
    pub wakers: Vec<Waker>,
    pub abandoned: bool,
}

/// Answers of `EAGAIN` in a row that are believed.
const RETRIES: u32 = 1_000;
/// Sectors that direct I/O may stop between; a read that ends elsewhere has met the end of the file.
const SECTOR: usize = 512;

impl Op {
    pub fn new(kind: Kind, file: Option<Rc<File>>, buffer: Option<Buffer>, offset: u64, len: usize) -> Op {
        Op {
            kind,
            file,
            buffer,
            offset,
            len,
            done: 0,
            retries: 0,
            result: None,
            wakers: Vec::new(),
            abandoned: false,
        }
    }

    /// Takes what the kernel answered, bytes or a negative errno; true if it must be asked to go on.
    pub fn advance(&mut self, answer: i64) -> bool {
        if answer < 0 {
            let error = io::Error::from_raw_os_error(answer.unsigned_abs() as i32);
            let again = matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock);
            self.retries += 1;
            if again && self.retries <= RETRIES {
                return true;
            }
            self.result = Some(Err(error));
            return false;
        }
        self.retries = 0;
        let moved = answer as usize;
        match self.kind {
            Kind::Sync | Kind::SyncAll | Kind::Call => self.result = Some(Ok(0)),
            Kind::Read | Kind::Write => {
                self.done += moved.min(self.len - self.done);
                let direct = self.file.as_ref().is_some_and(|file| file.is_direct());
                let over = moved == 0 || (direct && !self.done.is_multiple_of(SECTOR));
                if self.done < self.len && !over {
                    return true;
                }
                self.result = Some(if self.kind == Kind::Write && self.done < self.len {
                    Err(io::ErrorKind::WriteZero.into())
                } else {
                    Ok(self.done)
                });
            }
        }
        false
    }
}

/// Operations by token. Tokens are used again once their operation is over and its owner has heard of it.
#[derive(Debug, Default)]
pub struct Table {
    ops: Vec<Option<Op>>,
    free: Vec<u32>,
    limit: usize,
}

impl Table {
    pub fn new(limit: usize) -> Table {
        Table { ops: Vec::new(), free: Vec::new(), limit }
    }

    /// The new operation's token; the operation itself when there are too many.
    pub fn insert(&mut self, op: Op) -> Result<u32, Op> {
        if let Some(token) = self.free.pop() {
            self.ops[token as usize] = Some(op);
            return Ok(token);
        }
        if self.ops.len() >= self.limit {
            return Err(op);
        }
        self.ops.push(Some(op));
        Ok(self.ops.len() as u32 - 1)
    }

    pub fn get(&mut self, token: u32) -> Option<&mut Op> {
        self.ops.get_mut(token as usize)?.as_mut()
    }

    /// Operations that are not over, or whose owners have not asked yet.
    pub fn len(&self) -> usize {
        self.ops.len() - self.free.len()
    }

    /// Takes the kernel's answer. True if the operation goes on; otherwise its wakers are in `wakers`.
    pub fn answer(&mut self, token: u32, answer: i64, wakers: &mut Vec<Waker>) -> bool {
        let Some(op) = self.get(token) else { return false };
        if op.advance(answer) {
            return true;
        }
        wakers.append(&mut op.wakers);
        if op.abandoned {
            self.remove(token);
        }
        false
    }

    /// Ends an operation with an error and returns who waits for it.
    pub fn fail(&mut self, token: u32, error: io::Error) -> Vec<Waker> {
        let Some(op) = self.get(token) else { return Vec::new() };
        op.result = Some(Err(error));
        let wakers = std::mem::take(&mut op.wakers);
        if op.abandoned {
            self.remove(token);
        }
        wakers
    }

    /// What the operation ended with, or a note of whom to wake.
    pub fn take(&mut self, token: u32, waker: &Waker) -> Option<Ended> {
        let op = self.get(token)?;
        if op.result.is_none() {
            if !op.wakers.iter().any(|known| known.will_wake(waker)) {
                op.wakers.push(waker.clone());
            }
            return None;
        }
        let op = self.remove(token)?;
        Some(Ended { buffer: op.buffer, result: op.result.unwrap_or(Ok(0)) })
    }

    /// Nobody asks for it any more.
    pub fn abandon(&mut self, token: u32) -> Option<Op> {
        let op = self.get(token)?;
        if op.result.is_some() {
            return self.remove(token);
        }
        op.abandoned = true;
        op.wakers.clear();
        None
    }

    fn remove(&mut self, token: u32) -> Option<Op> {
        let op = self.ops.get_mut(token as usize)?.take();
        if op.is_some() {
            self.free.push(token);
        }
        op
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(len: usize) -> Op {
        Op::new(Kind::Read, None, None, 0, len)
    }

    #[test]
    fn short_reads_go_on_until_the_file_ends() {
        let mut op = read(100);
        assert!(op.advance(60) && op.advance(-i64::from(libc::EINTR)) && !op.advance(40));
        assert_eq!(op.result.unwrap().unwrap(), 100);
        let mut op = read(100);
        assert!(op.advance(60) && !op.advance(0));
        assert_eq!(op.result.unwrap().unwrap(), 60);
    }

    #[test]
    fn a_write_is_whole_or_an_error() {
        let mut op = Op { kind: Kind::Write, ..read(100) };
        assert!(op.advance(60) && !op.advance(0));
        assert_eq!(op.result.unwrap().unwrap_err().kind(), io::ErrorKind::WriteZero);
        let mut op = Op { kind: Kind::Write, ..read(100) };
        assert!(op.advance(60) && !op.advance(-i64::from(libc::ENOSPC)));
        assert_eq!(op.result.unwrap().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    }

    #[test]
    fn asking_again_ends() {
        let mut op = read(1);
        let asked = (0..).take_while(|_| op.advance(-i64::from(libc::EAGAIN))).count();
        assert_eq!(asked, RETRIES as usize);
        assert!(op.result.unwrap().is_err());
    }

    #[test]
    fn tokens_are_bounded_and_free_only_when_over() {
        let mut table = Table::new(2);
        let (a, b) = (table.insert(read(1)).unwrap(), table.insert(read(1)).unwrap());
        assert!(table.insert(read(1)).is_err());
        table.abandon(a);
        assert!(table.insert(read(1)).is_err(), "the kernel still has it");
        assert!(!table.answer(a, 1, &mut Vec::new()));
        assert_eq!(table.insert(read(1)).unwrap(), a);
        assert!(table.take(b, Waker::noop()).is_none());
        let mut wakers = Vec::new();
        assert!(!table.answer(b, 1, &mut wakers));
        assert_eq!((wakers.len(), table.take(b, Waker::noop()).unwrap().result.unwrap()), (1, 1));
        assert_eq!(table.len(), 1);
    }
}
