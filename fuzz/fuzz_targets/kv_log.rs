#![no_main]
//! Write logs: as they are, and records with right checksums around entries that the bytes choose.

use libfuzzer_sys::fuzz_target;
use rdma_engine::kv::batch::{Action, Op};
use rdma_engine::kv::log::record::{FIRST, Head, Logged, head, records, torn};

/// Reads all there is, and counts entries.
fn read(log: &[u8]) -> usize {
    let Ok(Some(own)) = head(log, 3) else { return 0 };
    let mut found = records(log, own);
    let mut count = 0;
    for record in &mut found {
        for entry in record.entries() {
            let Ok((at, logged)) = entry else { return count };
            assert!(Logged::read(&log[at as usize..]) == Ok(logged));
            count += 1;
        }
    }
    let _ = torn(log, own, found.end());
    count
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let _ = Logged::read(bytes);
    let own = Head { number: 3, salt: 7 };
    read(&[&own.encode(), bytes].concat());
    // A record of a change for each 4 bytes and what they say follows.
    let (mut ops, mut rest) = (Vec::new(), bytes);
    while let Some(([kind, key, value, time], after)) = rest.split_first_chunk() {
        let (key, after) = after.split_at(after.len().min(usize::from(*key).max(1)));
        if key.is_empty() {
            break;
        }
        let (value, after) = after.split_at(after.len().min(usize::from(*value)));
        let action = match kind % 2 {
            0 => Action::Delete,
            _ => Action::Upsert { value: value.to_vec(), expire_ms: u64::from(*kind) },
        };
        ops.push(Op { key: key.to_vec(), action, timestamp: u64::from(*time) });
        rest = after;
    }
    let (mut record, ops) = (Vec::new(), ops.iter().collect::<Vec<_>>());
    own.record(&mut record, FIRST, (&ops, 0), |_, _| {}).expect("short");
    assert_eq!(read(&[own.encode(), record].concat()), ops.len());
});
