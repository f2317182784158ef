//! RocksDB's side: one database, a thread for each operation in flight.

use crate::measure::{Figure, Kind, Random, Task, key, memory_peak, value};
use hdrhistogram::Histogram;
use rocksdb::{
    BlockBasedOptions, Cache, DB, Direction, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const BATCH: u64 = 1_000;

type Done<T> = Result<T, Box<dyn std::error::Error>>;

fn open(task: &Task) -> Done<DB> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::None);
    options.set_use_direct_reads(true);
    options.set_use_direct_io_for_flush_and_compaction(true);
    options.increase_parallelism(2);
    options.set_max_open_files(-1);
    if task.kind == Kind::Load {
        options.set_write_buffer_size(64 << 20);
    }
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(task.cache));
    blocks.set_block_size(4 << 10);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    options.set_block_based_table_factory(&blocks);
    Ok(DB::open(&options, &task.dir)?)
}

/// Partitions are prefixes of one key space.
fn place(partition: u32, number: u64) -> Vec<u8> {
    let mut place = partition.to_be_bytes().to_vec();
    place.extend_from_slice(&key(number));
    place
}

/// Runs one task.
pub fn run(task: &Task) -> Done<Figure> {
    let db = open(task)?;
    let mut figure = match task.kind {
        Kind::Load => {
            let figure = load(&db, task)?;
            // Reads afterwards shall find it as good as it gets.
            db.flush()?;
            db.compact_range::<&[u8], &[u8]>(None, None);
            figure
        }
        Kind::Read | Kind::Cached => read(&db, task)?,
        Kind::Scan => scan(&db, task)?,
        Kind::Rewrite => rewrite(&db, task)?,
        Kind::Sustain => sustain(&db, task)?,
    };
    figure.memory = memory_peak();
    Ok(figure)
}

fn load(db: &DB, task: &Task) -> Done<Figure> {
    let each = task.keys / u64::from(task.partitions);
    write(db, task, 1, |partition, batch| {
        let from = batch * BATCH;
        (from < each).then(|| (from..(from + BATCH).min(each)).map(|number| (partition, number)).collect())
    })
}

fn rewrite(db: &DB, task: &Task) -> Done<Figure> {
    let each = task.keys / u64::from(task.partitions);
    let batches = task.operations / BATCH / u64::from(task.partitions);
    write(db, task, 2, |partition, batch| {
        let mut random = Random(17 + u64::from(partition) * 1_000_003 + batch * 7);
        (batch < batches).then(|| (0..BATCH).map(|_| (partition, random.below(each))).collect())
    })
}

/// Rewrites until the last compaction that they cause has ended; what the process wrote meanwhile is counted.
fn sustain(db: &DB, task: &Task) -> Done<Figure> {
    let before = written()?;
    let start = Instant::now();
    let figure = rewrite(db, task)?;
    let entries = figure.rate * figure.seconds;
    db.flush()?;
    wait_for_compactions(db)?;
    let rate = entries / start.elapsed().as_secs_f64();
    let users = entries * (task.value + 16) as f64;
    Ok(Figure { rate, amplification: (written()? - before) as f64 / users, ..figure })
}

/// Waits until RocksDB sees nothing to compact and nothing runs. The binding has no call that waits for what is queued.
fn wait_for_compactions(db: &DB) -> Done<()> {
    loop {
        let mut busy = 0;
        for property in [
            "rocksdb.num-running-compactions",
            "rocksdb.compaction-pending",
            "rocksdb.num-running-flushes",
            "rocksdb.mem-table-flush-pending",
        ] {
            busy += db.property_int_value(property)?.unwrap_or(0);
        }
        if busy == 0 {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Bytes that this process has had written to disks.
fn written() -> Done<u64> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("/proc/self/io does not say what was written")?.parse()?)
}

/// A thread a partition; each batch is safe when its write returns, as ours is.
fn write(
    db: &DB,
    task: &Task,
    round: u64,
    batch: impl Fn(u32, u64) -> Option<Vec<(u32, u64)>> + Sync,
) -> Done<Figure> {
    let entries = AtomicU64::new(0);
    let failed = Mutex::new(None);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for partition in 0..task.partitions {
            let (entries, failed, batch) = (&entries, &failed, &batch);
            scope.spawn(move || {
                let mut options = WriteOptions::default();
                options.set_sync(true);
                for keys in (0..).map_while(|number| batch(partition, number)) {
                    let mut out = WriteBatch::default();
                    for (partition, number) in &keys {
                        out.put(place(*partition, *number), value(*number, round, task.value));
                    }
                    if let Err(error) = db.write_opt(out, &options) {
                        *failed.lock().unwrap_or_else(|lock| lock.into_inner()) = Some(error);
                        return;
                    }
                    entries.fetch_add(keys.len() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    match failed.into_inner() {
        Ok(Some(error)) => Err(error.into()),
        _ => Ok(Figure { rate: entries.into_inner() as f64 / seconds, seconds, ..Figure::default() }),
    }
}

fn read(db: &DB, task: &Task) -> Done<Figure> {
    let each = task.keys / u64::from(task.partitions);
    let threads = if task.kind == Kind::Cached { 1 } else { task.depth as u64 };
    let shares = task.operations / threads;
    let barrier = std::sync::Barrier::new(threads as usize + 1);
    let (start, histograms) = std::thread::scope(|scope| -> Done<_> {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || -> Result<Histogram<u64>, String> {
                    let mut random = Random(23 + thread * 1_000_003);
                    let mut latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3)
                        .map_err(|error| error.to_string())?;
                    let mut one = |record: bool| -> Result<(), String> {
                        let partition = random.below(u64::from(task.partitions)) as u32;
                        let place = place(partition, random.below(each));
                        let start = Instant::now();
                        let found = db.get(place).map_err(|error| error.to_string())?;
                        if found.is_none_or(|found| found.len() != task.value) {
                            return Err("a read found nothing".into());
                        }
                        if record {
                            let _ = latencies.record(start.elapsed().as_nanos() as u64);
                        }
                        Ok(())
                    };
                    let warm = (0..shares / 10).try_for_each(|_| one(false));
                    barrier.wait();
                    warm?;
                    (0..shares).try_for_each(|_| one(true))?;
                    Ok(latencies)
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        let mut all = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
        for handle in handles {
            all.add(handle.join().map_err(|_| "a reader panicked")??)?;
        }
        Ok((start.elapsed(), all))
    })?;
    let rate = (shares * threads) as f64 / start.as_secs_f64();
    Ok(Figure { rate, p99_us: histograms.value_at_quantile(0.99) as f64 / 1e3, ..Figure::default() })
}

fn scan(db: &DB, task: &Task) -> Done<Figure> {
    let start = Instant::now();
    let (mut entries, mut bytes) = (0u64, 0);
    let mut options = ReadOptions::default();
    options.set_readahead_size(2 << 20);
    for item in db.iterator_opt(IteratorMode::From(&[], Direction::Forward), options) {
        let (_, value) = item?;
        entries += 1;
        bytes += value.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    if entries != task.keys || bytes != task.keys as usize * task.value {
        return Err(format!("a scan found {entries} entries and {bytes} bytes").into());
    }
    Ok(Figure { rate: entries as f64 / seconds, ..Figure::default() })
}
