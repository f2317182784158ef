//! Our side: everything through the submission queue.

use crate::measure::{Figure, Kind, Random, Task, key, memory_peak, value};
use hdrhistogram::Histogram;
use rdma_engine::kv::batch::{Action, Op, Order};
use rdma_engine::kv::engine::{Answer, Completions, Engine, EngineOptions, Handle, Request, Scan};
use rdma_engine::kv::options::Options;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Entries of a batch.
const BATCH: u64 = 1_000;

/// What a shard takes beside its cache, in bytes: more of them have less to cache.
const SHARD: usize = 12 << 20;

type Done<T> = Result<T, Box<dyn std::error::Error>>;

/// A shard a processor where one thread submits and mostly waits.
fn shards(task: &Task) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    match (task.shards, task.kind) {
        (0, Kind::Load | Kind::Rewrite | Kind::Sustain) => processors.min(task.partitions as usize),
        (0, _) => 1,
        (shards, _) => shards,
    }
}

fn open(task: &Task) -> Done<(Engine, Vec<Handle>)> {
    let threads = shards(task);
    let store =
        Options { store_paths: vec![task.dir.clone()], append: task.append, threads, ..Options::default() };
    let engine = Engine::open(EngineOptions {
        store,
        cache_bytes: (task.cache - (threads - 1) * SHARD - task.log / 8) / threads,
        cache_data_pages: true,
        log_bytes: task.log / threads,
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
    let (before, start) = (written(&engine), Instant::now());
    let mut figure = match task.kind {
        Kind::Load => load(&engine, &handles, task)?,
        Kind::Read | Kind::Cached => read(&engine, &handles, task)?,
        Kind::Scan => scan(&engine, &handles, task)?,
        Kind::Rewrite | Kind::Sustain => rewrite(&engine, &handles, task)?,
    };
    // What is still in a log is put into the pages.
    engine.close();
    if matches!(task.kind, Kind::Load | Kind::Rewrite | Kind::Sustain) {
        let entries = if task.kind == Kind::Load { task.keys } else { task.operations };
        let users = entries * (task.value as u64 + 16);
        figure.amplification = (written(&engine) - before) as f64 / users as f64;
        if task.kind == Kind::Sustain {
            figure.seconds = start.elapsed().as_secs_f64();
            figure.rate = entries as f64 / figure.seconds;
        }
    }
    figure.memory = memory_peak();
    Ok(figure)
}

/// Bytes that were written to all files.
fn written(engine: &Engine) -> u64 {
    let stats = engine.stats();
    stats.data_bytes + stats.manifest_bytes + stats.log_bytes
}

fn op(number: u64, round: u64, task: &Task) -> Op {
    let action = Action::Upsert { value: value(number, round, task.value), expire_ms: 0 };
    Op { key: key(number), action, timestamp: round }
}

/// Every partition gets its keys in ascending order.
fn load(engine: &Engine, handles: &[Handle], task: &Task) -> Done<Figure> {
    let each = task.keys / u64::from(task.partitions);
    write(engine, handles, task, 1, |_, batch| {
        let from = batch * BATCH;
        (from < each).then(|| (from..(from + BATCH).min(each)).collect())
    })
}

fn rewrite(engine: &Engine, handles: &[Handle], task: &Task) -> Done<Figure> {
    let each = task.keys / u64::from(task.partitions);
    let batches = task.operations / BATCH / u64::from(task.partitions);
    write(engine, handles, task, 2, |partition, batch| {
        let mut random = Random(17 + partition * 1_000_003 + batch * 7);
        (batch < batches).then(|| (0..BATCH).map(|_| random.below(each)).collect())
    })
}

/// One batch of each partition under way, and the next one made meanwhile.
fn write(
    engine: &Engine,
    handles: &[Handle],
    task: &Task,
    round: u64,
    batch: impl Fn(u64, u64) -> Option<Vec<u64>>,
) -> Done<Figure> {
    let completions = Completions::new(handles.len())?;
    let mut numbers = vec![0; handles.len()];
    let mut make = |partition: usize| {
        let keys = batch(partition as u64, numbers[partition])?;
        numbers[partition] += 1;
        Some(keys.iter().map(|number| op(*number, round, task)).collect::<Vec<Op>>())
    };
    let start = Instant::now();
    let mut entries = 0;
    let mut submit = |partition: usize, ops: Vec<Op>| {
        entries += ops.len() as u64;
        let request = Request::Write { ops, order: Order::Sort };
        engine.submit(handles[partition], request, &completions, partition as u64)
    };
    for partition in 0..handles.len() {
        make(partition).map_or(Ok(()), |ops| submit(partition, ops))?;
    }
    let mut next: Vec<Option<Vec<Op>>> = (0..handles.len()).map(&mut make).collect();
    while completions.outstanding() > 0 {
        let (partition, _) = take(&completions)?.ok_or("no completion")?;
        let partition = partition as usize;
        next[partition].take().map_or(Ok(()), |ops| submit(partition, ops))?;
        next[partition] = make(partition);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Figure { rate: entries as f64 / seconds, seconds, ..Figure::default() })
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

/// Every entry in order, a piece at a time; the next piece is asked for before the entries of this one are looked at.
fn scan(engine: &Engine, handles: &[Handle], task: &Task) -> Done<Figure> {
    let completions = Completions::new(1)?;
    let start = Instant::now();
    let (mut entries, mut bytes) = (0u64, 0);
    for handle in handles {
        let submit = |begin: Vec<u8>| {
            let begin_inclusive = begin.is_empty();
            let scan = Scan { begin, begin_inclusive, max_bytes: 1 << 20, ..Scan::default() };
            engine.submit(*handle, Request::ScanPacked(scan), &completions, 0)
        };
        submit(Vec::new())?;
        while completions.outstanding() > 0 {
            let Some((_, Answer::Packed { entries: found, remaining })) = take(&completions)? else {
                return Err("a scan was not answered as one".into());
            };
            if let Some(last) = found.last_key().filter(|_| remaining) {
                submit(last.to_vec())?;
            }
            for entry in found.iter() {
                entries += 1;
                bytes += entry.value.len();
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    if entries != task.keys || bytes != task.keys as usize * task.value {
        return Err(format!("a scan found {entries} entries and {bytes} bytes").into());
    }
    Ok(Figure { rate: entries as f64 / seconds, ..Figure::default() })
}
