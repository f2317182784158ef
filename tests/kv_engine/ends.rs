//! Every request that was accepted ends exactly once.

use super::{open, small, upsert};
use rdma_engine::Status;
use rdma_engine::kv::batch::Order;
use rdma_engine::kv::engine::{Answer, Choice, Completions, Request, Scan};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

crate::both! {
    closing_completes_everything_once
    a_full_queue_says_so
}

fn request(i: u64) -> Request {
    let key = format!("{:04}", i % 500).into_bytes();
    match i % 5 {
        0 => Request::Write { ops: vec![upsert(&key, &[7; 500], i)], order: Order::Refuse },
        1 => Request::Scan(Scan { begin: key, max_entries: 20, ..Scan::default() }),
        2 => Request::Floor { key },
        _ => Request::Read { key },
    }
}

fn closing_completes_everything_once(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    for close_after in [0, 10, 300, 3_000] {
        let mut options = small(io, folder.path());
        options.store.threads = 2;
        let engine = open(&options);
        let completions = Completions::new(1 << 16).unwrap();
        let (accepted, next) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (engine, completions, accepted, next) = (&engine, &completions, &accepted, &next);
                scope.spawn(move || {
                    let partition = engine.partition("t", thread).unwrap();
                    loop {
                        let i = next.fetch_add(1, Ordering::SeqCst);
                        match engine.submit(partition, request(i), completions, i) {
                            Ok(()) => drop(accepted.fetch_add(1, Ordering::SeqCst)),
                            Err(error) if error.status == Status::QueueFull => std::thread::yield_now(),
                            Err(error) => return assert_eq!(error.status, Status::WrongState),
                        }
                    }
                });
            }
            while accepted.load(Ordering::SeqCst) < close_after {
                std::thread::yield_now();
            }
            engine.close();
        });
        let mut seen = HashSet::new();
        while let Some(completion) = completions.try_next() {
            assert!(seen.insert(completion.user_data), "{} completed twice", completion.user_data);
            if let Err(error) = completion.result {
                let early = error.status == Status::NotFound;
                assert!(early || error.status == Status::Canceled, "{error}");
            }
        }
        assert_eq!((seen.len() as u64, completions.outstanding()), (accepted.load(Ordering::SeqCst), 0));
    }
}

fn a_full_queue_says_so(io: Choice) {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&small(io, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    // Of completions: nobody takes any.
    let four = Completions::new(4).unwrap();
    for i in 0..4 {
        engine.submit(partition, Request::Read { key: vec![1] }, &four, i).unwrap();
    }
    let error = engine.submit(partition, Request::Read { key: vec![1] }, &four, 4).unwrap_err();
    assert_eq!((error.status, four.outstanding()), (Status::QueueFull, 4));
    for _ in 0..4 {
        let completion = four.next(None).unwrap();
        assert_eq!(completion.result.unwrap(), Answer::Found(None));
    }
    assert!(four.next(Some(Duration::from_millis(1))).is_none());
    // Of a shard: writes come faster than the disk syncs.
    let mut options = small(io, folder.path());
    (options.queue, options.writes) = (4, 1);
    engine.close();
    let engine = open(&options);
    let partition = engine.partition("t", 1).unwrap();
    let many = Completions::new(1 << 16).unwrap();
    let write = |i| Request::Write { ops: vec![upsert(b"key", &[1; 100], i)], order: Order::Refuse };
    let mut accepted = 0;
    let error = loop {
        match engine.submit(partition, write(accepted), &many, accepted) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error.status, many.outstanding() as u64), (Status::QueueFull, accepted));
    let ended: HashSet<u64> = (0..accepted).map(|_| many.next(None).unwrap().user_data).collect();
    assert_eq!((ended.len() as u64, many.outstanding()), (accepted, 0));
}

#[test]
fn a_closed_engine_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&small(Choice::Auto, folder.path()));
    let partition = engine.partition("t", 0).unwrap();
    engine.close();
    assert_eq!(engine.read(partition, b"x").unwrap_err().status, Status::WrongState);
    let queue: Arc<Completions> = Completions::new(1).unwrap();
    let error = engine.submit(partition, Request::Drop, &queue, 0).unwrap_err();
    assert_eq!((error.status, queue.outstanding()), (Status::WrongState, 0));
}
