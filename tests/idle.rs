//! Workers with sessions and nothing to do use less than one percent of a core. Alone in its process, so that the
//! threads it looks at are its own.

mod common;

use common::{Pair, roads};
use rdma_engine::engine::options::Mode;
use std::time::{Duration, Instant};

/// Name and nanoseconds on a processor of every thread of the engine in this process.
fn engine_threads() -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap().trim().to_string();
        if name.starts_with("rde-") {
            let stat = std::fs::read_to_string(path.join("stat")).unwrap();
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
            let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
            found.push((format!("{name} {}", path.display()), ticks * tick));
        }
    }
    found.sort();
    found
}

#[test]
fn an_idle_worker_costs_nothing() {
    let pairs: Vec<Pair> = roads()
        .into_iter()
        .map(|(_, address, options)| Pair::new(&address, &options, Mode::Threaded, Mode::Threaded))
        .collect();
    let before = engine_threads();
    assert_eq!(before.len(), 12, "a worker and a control thread in each of six contexts: {before:?}");
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let window = began.elapsed().as_nanos() as u64;
    for ((name, before), (same, after)) in before.iter().zip(engine_threads()) {
        assert_eq!(*name, same);
        let used = after - before;
        eprintln!("{name}: {used} of {window} ns");
        assert!(used * 100 <= window, "{name} used {used} of {window} ns");
    }
    pairs.into_iter().for_each(Pair::close);
}
