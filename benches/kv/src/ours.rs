//! Our side: one shard, everything through the submission queue.

use crate::measure::{Figure, Kind, Random, Task, key, memory_peak, value};
use hdrhistogram::Histogram;
use rdma_engine::kv::batch::{Action, Op, Order};
use rdma_engine::kv::engine::{Answer, Completions, Engine, EngineOptions, Handle, Request, Scan};
use rdma_engine::kv::options::Options;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Entries of a batch.
const BATCH: u64 = 1_000;
/// Batches under way, one a partition.
const WRITERS: usize = 4;

type Done<T> = Result<T, Box<dyn std::error::Error>>;

fn open(task: &Task) -> Done<(Engine, Vec<Handle>)> {
    let store = Options { store_paths: vec![task.dir.clone()], append: task.append, ..Options::default() };
    let engine = Engine::open(EngineOptions {
        store,
        cache_bytes: task.cache,
        cache_data_pages: true,
        ..EngineOptions::default()
    })?;
    eprintln!("ours: {:?}", engine.backend());
    let handles = (0..task.partitions).map(|number| engine.partition("bench", number));
    let handles = handles.collect::<Result<Vec<_>, _>>()?;
    Ok((engine, handles))
}

/// Runs one task.
pub fn run(task: &Task) -> Done<Figure> {
    let (engine, handles) = open(task)?;
    let mut figure = match task.kind {
        Kind::Load => load(&engine, &handles, task)?,
        Kind::Read | Kind::Cached => read(&engine, &handles, task)?,
        Kind::Scan => scan(&engine, &handles, task)?,
        Kind::Rewrite => rewrite(&engine, &handles, task)?,
    };
    figure.memory = memory_peak();
    engine.close();
    Ok(figure)
}

fn op(number: u64, round: u64, task: &Task) -> Op {
    let action = Action::Upsert { value: value(number, round, task.value), expire_ms: 0 };
    Op { key: key(number), action, timestamp: round }
}

/// Every partition gets its keys in ascending order.
fn load(engine: &Engine, handles: &[Handle], task: &Task) -> Done<Figure> {
    let each = task.keys / u64::from(task.partitions);
    let batches = (0..each.div_ceil(BATCH)).flat_map(|batch| {
        (0..handles.len()).map(move |partition| {
            (partition, (batch * BATCH..((batch + 1) * BATCH).min(each)).collect::<Vec<u64>>())
        })
    });
    write(engine, handles, task, 1, batches)
}

fn rewrite(engine: &Engine, handles: &[Handle], task: &Task) -> Done<Figure> {
    let each = task.keys / u64::from(task.partitions);
    let mut random = Random(17);
    let batches = (0..task.operations / BATCH).map(|batch| {
        let keys = (0..BATCH).map(|_| random.below(each)).collect::<Vec<u64>>();
        (batch as usize % handles.len(), keys)
    });
    write(engine, handles, task, 2, batches)
}

fn write(
    engine: &Engine,
    handles: &[Handle],
    task: &Task,
    round: u64,
    batches: impl Iterator<Item = (usize, Vec<u64>)>,
) -> Done<Figure> {
    let completions = Completions::new(WRITERS)?;
    let before = engine.stats();
    let start = Instant::now();
    let mut entries = 0;
    for (partition, keys) in batches {
        entries += keys.len() as u64;
        let ops = keys.iter().map(|number| op(*number, round, task)).collect();
        if completions.outstanding() == WRITERS {
            take(&completions)?.ok_or("no completion")?;
        }
        let request = Request::Write { ops, order: Order::Sort };
        engine.submit(handles[partition], request, &completions, 0)?;
    }
    while completions.outstanding() > 0 {
        take(&completions)?.ok_or("no completion")?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let stats = engine.stats();
    let written = stats.data_bytes + stats.manifest_bytes - before.data_bytes - before.manifest_bytes;
    let users = entries * (task.value as u64 + 16);
    Ok(Figure {
        rate: entries as f64 / seconds,
        amplification: written as f64 / users as f64,
        ..Figure::default()
    })
}

fn take(completions: &Arc<Completions>) -> Done<Option<(u64, Answer)>> {
    match completions.next(Some(Duration::from_secs(60))) {
        Some(completion) => Ok(Some((completion.user_data, completion.result?))),
        None => Ok(None),
    }
}

fn read(engine: &Engine, handles: &[Handle], task: &Task) -> Done<Figure> {
    let each = task.keys / u64::from(task.partitions);
    let completions = Completions::new(task.depth)?;
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let mut random = Random(23);
    let mut started = vec![Instant::now(); task.depth];
    let mut submit = |slot: u64, started: &mut [Instant]| {
        let (partition, number) = (random.below(handles.len() as u64) as usize, random.below(each));
        if task.kind == Kind::Read {
            started[slot as usize] = Instant::now();
        }
        engine.submit(handles[partition], Request::Read { key: key(number) }, &completions, slot)
    };
    // A tenth to warm up.
    let (warm, all) = (task.operations / 10, task.operations / 10 + task.operations);
    let mut submitted = 0;
    while submitted < task.depth as u64 {
        submit(submitted, &mut started)?;
        submitted += 1;
    }
    let mut start = Instant::now();
    for ended in 0..all {
        let completion = match completions.try_next() {
            Some(completion) => completion,
            None => completions.next(Some(Duration::from_secs(60))).ok_or("no completion")?,
        };
        if ended == warm {
            start = Instant::now();
        }
        match completion.result? {
            Answer::Found(Some(found)) if found.value.len() == task.value => {}
            other => return Err(format!("a read found {other:?}").into()),
        }
        if task.kind == Kind::Read && ended >= warm {
            latencies.record(started[completion.user_data as usize].elapsed().as_nanos() as u64)?;
        }
        if submitted < all {
            submit(completion.user_data, &mut started)?;
            submitted += 1;
        }
    }
    let rate = task.operations as f64 / start.elapsed().as_secs_f64();
    Ok(Figure { rate, p99_us: latencies.value_at_quantile(0.99) as f64 / 1e3, ..Figure::default() })
}

fn scan(engine: &Engine, handles: &[Handle], task: &Task) -> Done<Figure> {
    let start = Instant::now();
    let mut entries = 0u64;
    let mut bytes = 0;
    for handle in handles {
        let mut begin = Vec::new();
        loop {
            let begin_inclusive = begin.is_empty();
            let scan = Scan { begin, begin_inclusive, max_bytes: 1 << 20, ..Scan::default() };
            let scanned = engine.scan(*handle, scan)?;
            entries += scanned.entries.len() as u64;
            bytes += scanned.entries.iter().map(|entry| entry.value.len()).sum::<usize>();
            match scanned.entries.last() {
                Some(last) if scanned.remaining => begin = last.key.clone(),
                _ => break,
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    if entries != task.keys || bytes != task.keys as usize * task.value {
        return Err(format!("a scan found {entries} entries and {bytes} bytes").into());
    }
    Ok(Figure { rate: entries as f64 / seconds, ..Figure::default() })
}
