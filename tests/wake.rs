//! Drain, arm, sleep: no wake-up is lost, none comes for nothing, and waiting costs nothing.

mod common;

use common::{Node, PATIENCE, Pair, bytes_of, status, with_transports};
use rdma_engine::Status;
use rdma_engine::engine::options::{ContextOptions, Mode, transport};
use rdma_engine::engine::request::{Completion, Op, Request};
use rdma_engine::engine::worker::Worker;
use rustix::event::{Timespec, epoll};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Somebody's own loop around a worker.
struct Loop {
    worker: Arc<Worker>,
    epoll: OwnedFd,
    _fd: OwnedFd,
    sleeps: u32,
}

impl Loop {
    fn new(worker: &Arc<Worker>) -> Loop {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let fd = worker.event_fd().unwrap();
        epoll::add(&epoll, &fd, epoll::EventData::new_u64(1), epoll::EventFlags::IN).unwrap();
        Loop { worker: worker.clone(), epoll, _fd: fd, sleeps: 0 }
    }

    fn drain(&self) -> Vec<Completion> {
        let mut out = [Completion::default(); 16];
        let mut all = Vec::new();
        loop {
            let taken = self.worker.poll(Some(Duration::ZERO), &mut out).unwrap();
            if taken == 0 {
                return all;
            }
            all.extend_from_slice(&out[..taken]);
        }
    }

    /// Sleeps for at most `limit`; false when nothing rang.
    fn sleep(&mut self, limit: Duration) -> bool {
        self.sleeps += 1;
        let limit = Timespec::try_from(limit).unwrap();
        let mut events = Vec::with_capacity(4);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&limit)).unwrap() > 0
    }

    /// The contract: drain, arm, sleep, until something has come.
    fn next(&mut self) -> Vec<Completion> {
        loop {
            let found = self.drain();
            if !found.is_empty() {
                return found;
            }
            match self.worker.arm() {
                Status::Ok => assert!(self.sleep(PATIENCE), "a wake-up was lost"),
                Status::NotReady => {}
                other => panic!("arm: {other:?}"),
            }
        }
    }
}

const MODES: [Mode; 2] = [Mode::Polled, Mode::Threaded];

#[test]
fn a_loop_that_sleeps_between_completions_gets_them_all() {
    for transports in [transport::SHARED, transport::TCP] {
        for mode in MODES {
            let mut options = with_transports(transports);
            options.ways = 4;
            let address = if transports == transport::TCP {
                "tcp://127.0.0.1:0".into()
            } else {
                common::unix_address()
            };
            let mut pair = Pair::new(&address, &options, mode, Mode::Threaded);
            let theirs = pair.server.exported(100_000, |i| i as u8);
            let key = pair.server.context.export(&theirs, 0, 100_000, 1).unwrap();
            let region = pair.import(&key).unwrap();
            let ours = pair.client.context.alloc(100_000, 0).unwrap();
            let mut waiting = Loop::new(&pair.client.worker);
            for round in 0..300u64 {
                let length = if round % 3 == 0 { 100_000 } else { 8 };
                let (session, op, buffer) = (pair.session.id(), Op::Get as u16, ours.id());
                let get =
                    Request { user_data: round, session, op, buffer, length, region, ..Request::default() };
                pair.client.submit(get);
                let done = waiting.next();
                assert_eq!((done.len(), done[0].user_data, done[0].status), (1, round, 0), "{mode:?}");
            }
            assert!(bytes_of(&ours) == bytes_of(&theirs));
            pair.close();
        }
    }
}

#[test]
fn a_deadline_ends_the_sleep() {
    for mode in MODES {
        let mut options = with_transports(transport::TCP);
        options.ways = 4;
        let mut pair = Pair::new("tcp://127.0.0.1:0", &options, mode, Mode::Polled);
        let theirs = pair.server.exported(64, |i| i as u8);
        let key = pair.server.context.export(&theirs, 0, 64, 1).unwrap();
        let region = pair.import(&key).unwrap();
        let ours = pair.client.context.alloc(64, 0).unwrap();
        let mut waiting = Loop::new(&pair.client.worker);
        for round in 0..5 {
            let (session, op, buffer) = (pair.session.id(), Op::Get as u16, ours.id());
            let get =
                Request { user_data: round, session, op, buffer, length: 64, region, ..Request::default() };
            pair.client.submit(Request { timeout_us: 30_000, ..get });
            let done = waiting.next();
            assert_eq!((done.len(), status(&done[0])), (1, Status::TimedOut), "{mode:?}");
        }
        pair.close();
    }
}

#[test]
fn wake_ends_one_sleep_and_no_more() {
    for mode in MODES {
        let node = Node::new(&ContextOptions::default(), mode);
        let mut waiting = Loop::new(&node.worker);
        assert!(waiting.drain().is_empty());
        for round in 0..20 {
            // Before arm: arm says so. After it: the descriptor does.
            if round % 2 == 0 {
                node.worker.wake();
                assert_eq!(node.worker.arm(), Status::NotReady, "{mode:?} {round}");
                assert!(waiting.drain().is_empty());
            } else {
                assert_eq!(node.worker.arm(), Status::Ok, "{mode:?} {round}");
                node.worker.wake();
                assert!(waiting.sleep(PATIENCE), "{mode:?} {round}");
                assert!(waiting.drain().is_empty());
                while node.worker.arm() != Status::Ok {}
            }
        }
        // From another thread, into a poll that waits for ever.
        let worker = node.worker.clone();
        let sleeper = std::thread::spawn(move || {
            let mut out = [Completion::default(); 1];
            worker.poll(None, &mut out).unwrap()
        });
        while !sleeper.is_finished() {
            node.worker.wake();
            std::thread::yield_now();
        }
        assert_eq!(sleeper.join().unwrap(), 0);
        // What was woken sleeps again: a loop with nothing to do hardly turns.
        assert!(waiting.drain().is_empty());
        let until = Instant::now() + Duration::from_millis(1500);
        waiting.sleeps = 0;
        while Instant::now() < until {
            if node.worker.arm() == Status::Ok {
                waiting.sleep(Duration::from_millis(100));
            }
            assert!(waiting.drain().is_empty());
        }
        assert!(waiting.sleeps < 200, "{mode:?}: {} turns", waiting.sleeps);
        node.close();
    }
}
