//! Brings ranges of files into the page cache, hundreds at a time, by a ring of its own, and runs what waits for them.

use super::buffer::Buffer;
use super::disk::{Choice, Disk, Options};
use super::event::Event;
use super::file::File;
use super::tasks::Tasks;
use crate::status::{Error, Result, Status};
use crossbeam_queue::ArrayQueue;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pieces that the disk has at a time.
const PIECES: usize = 128;
/// Bytes of a piece. They are read to memory that nobody looks at; what counts is that the kernel has them then.
const PIECE: usize = 32 << 10;
/// Jobs that wait for the thread.
const JOBS: usize = 1 << 10;
/// Longest sleep. Nothing needs it; it bounds what a lost wake-up could cost.
const SLEEP: Duration = Duration::from_secs(1);

/// Bytes of a file.
#[derive(Debug)]
pub struct Range {
    /// The file, opened without `O_DIRECT`.
    pub file: OwnedFd,
    /// Where they begin, in bytes.
    pub offset: u64,
    /// How many they are; those past the file's end do not matter.
    pub length: u64,
}

/// What is run when its ranges have been read, or cannot be.
pub type Then = Box<dyn FnOnce() + Send>;

struct Job {
    ranges: Vec<Range>,
    then: Then,
}

/// Takes jobs. Any thread.
pub struct Queue {
    jobs: ArrayQueue<Job>,
    closed: AtomicBool,
    event: Arc<Event>,
    taken: AtomicU64,
}

impl Queue {
    /// Has ranges read and `then` run in the thread that reads, once: it must not block. It comes back when there is no
    /// room, or the thread has ended; when that ends later, it may be dropped without having run.
    pub fn put(&self, ranges: Vec<Range>, then: Then) -> std::result::Result<(), Then> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(then);
        }
        self.jobs.push(Job { ranges, then }).map_err(|job| job.then)?;
        self.event.ring();
        // Nobody else may be there to drop it.
        if self.closed.load(Ordering::SeqCst) {
            self.clear();
        }
        Ok(())
    }

    /// Jobs that the thread has taken so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn clear(&self) {
        while self.jobs.pop().is_some() {}
    }
}

/// The thread. It ends when this is dropped: not by what it runs itself.
pub struct Readahead {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Readahead {
    /// Starts it. Errors: what io_uring says where the kernel has none, or does not allow it.
    pub fn new() -> Result<Readahead> {
        let (sender, started) = sync_channel(1);
        let thread = std::thread::Builder::new().name("rde-readahead".into()).spawn(move || run(&sender));
        let thread = thread.map_err(|error| Error::os("start a thread for reading ahead", &error))?;
        match started.recv() {
            Ok(Ok(queue)) => Ok(Readahead { queue, thread: Some(thread) }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Status::Internal.into()),
        }
    }

    /// Where jobs are put.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }
}

impl Drop for Readahead {
    fn drop(&mut self) {
        self.queue.closed.store(true, Ordering::SeqCst);
        self.queue.event.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A job whose pieces are on their way; each holds it, and the last one to let go runs what waits.
struct Waiting(Option<Then>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(then) = self.0.take()
            && catch_unwind(AssertUnwindSafe(then)).is_err()
        {
            tracing::error!("what waited for bytes of a file panicked");
        }
    }
}

struct Piece {
    file: Rc<File>,
    offset: u64,
    length: usize,
    waiting: Rc<Waiting>,
}

fn run(started: &SyncSender<Result<Arc<Queue>>>) {
    let options = Options {
        choice: Choice::Ring,
        depth: PIECES as u32,
        operations: PIECES,
        threads: 1,
        files: 0,
        buffers: PIECES,
        buffer_size: PIECE,
    };
    let disk = match Disk::open(&options) {
        Ok(disk) => disk,
        Err(error) => return drop(started.send(Err(error))),
    };
    let (jobs, closed, taken) = (ArrayQueue::new(JOBS), AtomicBool::new(false), AtomicU64::new(0));
    let queue = Arc::new(Queue { jobs, closed, event: disk.event().clone(), taken });
    let _ = started.send(Ok(queue.clone()));
    serve(&disk, &queue);
    queue.closed.store(true, Ordering::SeqCst);
    queue.clear();
}

fn serve(disk: &Rc<Disk>, queue: &Queue) {
    let mut tasks = Tasks::new(PIECES);
    let mut pieces = Vec::new();
    while !queue.closed.load(Ordering::SeqCst) {
        let mut did = tasks.run(PIECES);
        while tasks.room() > 0 {
            if pieces.is_empty() {
                let Some(job) = queue.jobs.pop() else { break };
                queue.taken.fetch_add(1, Ordering::Relaxed);
                pieces = cut(disk, job);
            }
            // As many buffers as tasks.
            let (Some(piece), Some(buffer)) = (pieces.pop(), disk.pool().take()) else { break };
            tasks.start(read(disk.clone(), piece, buffer));
            did += 1;
        }
        if did == 0 && tasks.len() == 0 {
            // Not in the ring: some tools that run one thread at a time take that for work.
            disk.event().arm();
            if queue.jobs.is_empty() && !queue.closed.load(Ordering::SeqCst) {
                disk.event().wait(Some(SLEEP));
            }
            disk.event().disarm();
            continue;
        }
        if let Err(error) = disk.turn((did == 0 && !tasks.is_ready()).then_some(SLEEP)) {
            tracing::error!(%error, "reading ahead has ended");
            break;
        }
    }
    // Not what waits: its server is closing.
    pieces.clear();
}

/// A job's pieces, the first one last.
fn cut(disk: &Disk, job: Job) -> Vec<Piece> {
    let waiting = Rc::new(Waiting(Some(job.then)));
    let mut pieces = Vec::new();
    for Range { file, offset, length } in job.ranges {
        let file = disk.file(file, false);
        pieces.extend((0..length).step_by(PIECE).map(|at| Piece {
            file: file.clone(),
            offset: offset.saturating_add(at),
            length: (length - at).min(PIECE as u64) as usize,
            waiting: waiting.clone(),
        }));
    }
    pieces.reverse();
    pieces
}

/// An error is not told: whoever reads the bytes next meets it, too.
async fn read(disk: Rc<Disk>, piece: Piece, buffer: Buffer) {
    if let Ok(operation) = disk.read(&piece.file, piece.offset, buffer, piece.length) {
        operation.await;
    }
    drop(piece.waiting);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::sync::mpsc::channel;

    fn ranges(file: &File, lengths: &[u64]) -> Vec<Range> {
        let range =
            |length: &u64| Range { file: file.try_clone().unwrap().into(), offset: 0, length: *length };
        lengths.iter().map(range).collect()
    }

    #[test]
    fn each_job_is_run_once_and_none_after_the_end() {
        let Ok(ahead) = Readahead::new() else { return eprintln!("not shown: no io_uring here") };
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let (sender, ran) = channel();
        for number in 0..500u32 {
            let sender = sender.clone();
            // Also none, more than the disk has at a time, and past the end.
            let lengths = [u64::from(number) * 1000, [0, 8 << 20][(number % 50 == 0) as usize]];
            let mut then: Then = Box::new(move || sender.send(number).unwrap());
            // The thread makes room.
            while let Err(back) = ahead.queue().put(ranges(&file, &lengths), then) {
                then = back;
                std::thread::yield_now();
            }
        }
        let mut numbers: Vec<u32> = ran.iter().take(500).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        assert_eq!(ahead.queue().taken(), 500);
        let panics: Then = Box::new(|| panic!("meant to"));
        assert!(ahead.queue().put(vec![], panics).is_ok());
        let sender = sender.clone();
        assert!(ahead.queue().put(vec![], Box::new(move || sender.send(1).unwrap())).is_ok());
        assert_eq!(ran.recv(), Ok(1));
        let queue = ahead.queue().clone();
        drop(ahead);
        assert!(queue.put(vec![], Box::new(|| ())).is_err());
    }
}
