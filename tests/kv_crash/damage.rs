//! A write log with a byte flipped or its end cut off: `CORRUPTED` with the file, or what the records before left, never anything
//! else.

use super::disk::{Disk, Random};
use super::log::{Model, Side, batch};
use super::options;
use rdma_engine::kv::log::Appended;
use rdma_engine::kv::names::FileName;
use rdma_engine::kv::options::Options;
use rdma_engine::kv::source::now;
use rdma_engine::{Error, Result, Status};
use std::sync::Arc;

const LOG: FileName = FileName::Log { number: 0 };

/// A log of a few records; where each begins, and what was there before it. The last is what there is, and the log's length.
fn written(options: &Arc<Options>, disk: &Disk) -> Vec<(usize, Model)> {
    let (mut random, mut model) = (Random(5), Model::new());
    let mut side = Side::open(options, disk).unwrap();
    let first = batch(options, &mut random, &mut model);
    now(side.writer.apply(&first, 0)).unwrap();
    let mut states = vec![(4096, model.clone())];
    while states.len() < 5 {
        let mut next = model.clone();
        let batch = batch(options, &mut random, &mut next);
        if next != model && matches!(now(side.log.append(&batch, 0)).unwrap(), Appended::Safe(_)) {
            states.push((disk.files.borrow()[&LOG].len(), next.clone()));
            model = next;
        }
    }
    states
}

fn opened(options: &Arc<Options>, disk: &Disk) -> Result<Model> {
    Side::open(options, disk)?.read()
}

fn is_clear(error: &Error, place: &str) {
    assert_eq!(error.status, Status::Corrupted, "{place}: {error}");
    assert!(error.message.contains("log_0"), "{place}: {error} names another file");
}

#[test]
fn bytes_of_a_log() {
    let (options, disk) = (options(false), Disk::default());
    let states = written(&options, &disk);
    let files = disk.files.take();
    let (log, last) = (&files[&LOG], states.len() - 1);
    let (mut right, mut corrupted) = (0, 0);
    // All of what stands at the begin of a block, and some of the values.
    for at in (0..log.len()).filter(|at| at % 4096 < 64 || at % 29 == 0) {
        let place = format!("byte {at} of {}", log.len());
        let record = states.iter().rposition(|(begin, _)| *begin <= at);
        let flipped = {
            let mut files = files.clone();
            files.get_mut(&LOG).unwrap()[at] ^= 1 << (at % 8);
            Disk::new(files)
        };
        match opened(&options, &flipped) {
            // Zeros that nobody reads, or it looks like the last record had not been finished.
            Ok(model) => {
                let unfinished = record == Some(last - 1) && model == states[last - 1].1;
                assert!(model == states[last].1 || unfinished, "{place}: a wrong answer");
                right += 1;
            }
            Err(error) => {
                is_clear(&error, &place);
                corrupted += 1;
            }
        }
        let cut = Disk::new(files.clone());
        now(rdma_engine::kv::sink::Sink::cut(&&cut, &LOG, at as u64)).unwrap();
        let model = opened(&options, &cut).unwrap_or_else(|error| panic!("{place}, cut: {error}"));
        assert!(model == states[record.unwrap_or(0)].1, "{place}, cut: no state before it");
    }
    assert!(right > 500 && corrupted > 5000, "{right} right, {corrupted} corrupted");
}

/// What is damaged while the log is in use is noticed when it is read.
#[test]
fn bytes_of_a_log_in_use() {
    let (options, disk) = (options(false), Disk::default());
    let states = written(&options, &disk);
    let (log, model) = (disk.files.borrow()[&LOG].clone(), &states.last().unwrap().1);
    let side = Side::open(&options, &disk).unwrap();
    let mut corrupted = 0;
    for at in 0..log.len() {
        let flip = || disk.files.borrow_mut().get_mut(&LOG).unwrap()[at] ^= 1 << (at % 8);
        flip();
        match side.read() {
            Ok(found) => assert!(found == *model, "byte {at}: a wrong answer"),
            Err(error) => {
                is_clear(&error, &format!("byte {at}"));
                corrupted += 1;
            }
        }
        flip();
    }
    assert!(corrupted > log.len() / 4, "{corrupted} of {}", log.len());
}
