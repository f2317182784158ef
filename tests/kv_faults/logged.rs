//! The same steps done by an engine with a write log.

use super::steps::{Model, Plan, Step, partition};
use rdma_engine::kv::batch::Order;
use rdma_engine::kv::engine::{Answer, Choice, Engine, EngineOptions, Handle, Request, Scan};
use rdma_engine::kv::scan::Large;
use rdma_engine::{Result, Status};
use std::time::Duration;

/// Does the steps after `from` up to `to`, and says which are done. After a failure everything must still be readable.
pub fn run(plan: &Plan, from: u64, to: u64) {
    let options = EngineOptions {
        store: plan.options(),
        // What does the harm stands between the program and libc.
        io: Choice::Threads,
        log_bytes: 1 << 20,
        upkeep_interval: Duration::ZERO,
        ..EngineOptions::default()
    };
    let name = partition();
    let opened = Engine::open(options)
        .and_then(|engine| engine.partition(&name.table, name.number).map(|handle| (engine, handle)));
    let (engine, handle) = match opened {
        Ok(opened) => opened,
        Err(error) => return println!("failed {} {}", from + 1, error.status.name()),
    };
    for number in from + 1..=to {
        match act(&engine, handle, plan, number) {
            Ok(()) => println!("done {number}"),
            Err(error) => {
                let found = content(&engine, handle);
                assert!(found == plan.model(number - 1) || found == plan.model(number));
                return println!("failed {number} {}", error.status.name());
            }
        }
    }
    engine.close();
}

fn content(engine: &Engine, handle: Handle) -> Model {
    let scan = Scan { large: Large::Return, ..Scan::default() };
    match engine.scan(handle, scan) {
        Ok(found) => found.entries.into_iter().map(|entry| (entry.key, entry.value)).collect(),
        // Nothing was written yet.
        Err(error) if error.status == Status::NotFound => Model::new(),
        Err(error) => panic!("{error}"),
    }
}

fn act(engine: &Engine, handle: Handle, plan: &Plan, number: u64) -> Result<()> {
    match plan.step(number) {
        Step::Write(ops) => engine.write(handle, ops, Order::Refuse).map(drop),
        Step::Truncate(position) => engine.call(handle, Request::Truncate { position }).map(drop),
        Step::Compact if !plan.append => engine.call(handle, Request::Collect).map(drop),
        Step::Compact => engine.call(handle, Request::Compact).map(drop),
        Step::Archive => {
            let Answer::Names(tags) = engine.call(handle, Request::Archives)? else { panic!("no names") };
            for tag in tags {
                engine.call(handle, Request::ForgetArchive { tag })?;
            }
            match engine.call(handle, Request::Archive { tag: number.to_string() }) {
                // Nothing was written yet.
                Err(error) if error.status == Status::NotFound => Ok(()),
                archived => archived.map(drop),
            }
        }
    }
}
