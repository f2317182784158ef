//! Random histories of a volume against a model of what each id must answer.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use rdma_engine::Status;
use rdma_engine::volume::{FileId, ReadOptions, Volume};

use crate::writer::{Format, Put, Writer};

const NOW: u64 = 1_800_000_000_000_000_000;

#[derive(Clone, Debug)]
enum Step {
    Put(Put),
    Delete(u64),
    Vacuum,
    Reopen,
}

fn a_put() -> impl Strategy<Value = Put> {
    let length = prop_oneof![3 => 0..40_usize, 2 => 40..5_000_usize, 1 => 60_000..70_000_usize];
    let data = (length, any::<u64>()).prop_map(|(length, seed)| crate::writer::Random(seed).bytes(length));
    let text = || proptest::option::of(vec(any::<u8>(), 0..=255));
    let minutes_ago = prop_oneof![Just(1_u64), Just(61), Just(1_441)];
    let ttl = prop_oneof![2 => Just(None), 1 => Just(Some([1, 1])), 1 => Just(Some([1, 2])), 1 => Just(Some([2, 3]))];
    let modified = proptest::option::of(0..1_u64 << 40);
    let pairs = proptest::option::of((0..3_000_usize).prop_map(|length| vec![b'p'; length]));
    (0..12_u64, any::<u32>(), data, text(), text(), modified, ttl, pairs, minutes_ago).prop_map(
        |(id, cookie, data, name, mime, last_modified, ttl, pairs, ago)| {
            let append_at_ns = NOW - ago * 60_000_000_000;
            Put { id, cookie, data, name, mime, last_modified, ttl, pairs, flags: 0, append_at_ns }
        },
    )
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => a_put().prop_map(Step::Put),
        3 => (0..12_u64).prop_map(Step::Delete),
        1 => Just(Step::Vacuum),
        1 => Just(Step::Reopen),
    ]
}

fn a_format() -> impl Strategy<Value = Format> {
    let extra = prop_oneof![Just(0_u16), Just(24)];
    (1..=3_u8, prop_oneof![Just(16_usize), Just(17)], any::<bool>(), extra)
        .prop_map(|(version, row, masked, extra)| Format { version, row, masked, extra })
}

/// What an id must answer to a read that takes deleted needles too.
fn expected(version: u8, held: Option<&(Put, bool)>, read_deleted: bool) -> Result<Vec<u8>, Status> {
    let (put, deleted) = held.ok_or(Status::NotFound)?;
    // Of an empty one nothing is left to be read.
    if *deleted && (!read_deleted || put.data.is_empty()) {
        return Err(Status::Deleted);
    }
    let stored = version > 1 && !put.data.is_empty() && put.last_modified.is_some();
    if let (true, Some([count, unit])) = (stored, put.ttl) {
        let minutes = u64::from(count) * [0, 1, 60, 1_440][usize::from(unit)];
        let appended = if version == 3 { put.append_at_ns } else { 0 };
        if NOW >= appended + minutes * 60_000_000_000 {
            return Err(Status::Expired);
        }
    }
    Ok(put.data.clone())
}

fn check(volume: &Volume, version: u8, model: &BTreeMap<u64, (Put, bool)>) -> Result<(), TestCaseError> {
    for needle in 0..13 {
        let held = model.get(&needle);
        let cookie = held.map_or(1, |(put, _)| put.cookie);
        let id = FileId { volume: 5, needle, cookie };
        for read_deleted in [true, false] {
            let options = ReadOptions { read_deleted, stored: false, now_ns: Some(NOW), wait: true };
            let expected = expected(version, held, read_deleted);
            let exact = expected.as_ref().map_or(100, Vec::len);
            let mut buffer = vec![0; exact];
            let got = volume.read(id, &mut buffer, &options).map_err(|error| error.status);
            prop_assert_eq!(&got.map(|read| buffer[..read.length].to_vec()), &expected);
            let mut buffer = vec![0; 70_000];
            let got = volume.read_range(id, 0, &mut buffer, &options).map_err(|error| error.status);
            prop_assert_eq!(&got.map(|read| buffer[..read.length].to_vec()), &expected);
            if let Ok(data) = &expected
                && data.len() > 2
            {
                let (start, part) = (data.len() / 3, &mut buffer[..data.len() / 2]);
                let read = volume.read_range(id, start as u64, part, &options).unwrap();
                prop_assert_eq!(&part[..read.length], &data[start..(start + part.len()).min(data.len())]);
            }
        }
        if let Some((put, deleted)) = held {
            let wrong = FileId { cookie: put.cookie ^ 1, ..id };
            let error = volume.stat(wrong, &ReadOptions::default()).unwrap_err();
            let gone = *deleted && put.data.is_empty();
            prop_assert_eq!(error.status, if gone { Status::Deleted } else { Status::CookieMismatch });
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_history_reads_back(
        format in a_format(),
        with_vif in any::<bool>(),
        steps in vec(a_step(), 1..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), "c_5", format);
        if with_vif {
            // The superblock's version is overridden by the file beside it.
            writer.write_vif(&format!(r#"{{"version":{},"bytesOffset":{}}}"#, format.version, format.row - 12));
        }
        let open = || Volume::open(dir.path(), "c", 5).unwrap();
        let mut volume = open();
        let mut model: BTreeMap<u64, (Put, bool)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(put) => {
                    writer.put(&put);
                    model.insert(put.id, (put, false));
                }
                Step::Delete(id) => {
                    writer.delete(id, 0);
                    model.entry(id).and_modify(|held| held.1 = true);
                }
                Step::Vacuum => {
                    writer.vacuum();
                    model.retain(|_, held| !held.1);
                }
                Step::Reopen => volume = open(),
            }
            if let Some((id, held)) = model.iter().next_back() {
                let id = FileId { volume: 5, needle: *id, cookie: held.0.cookie };
                let expected = expected(format.version, Some(held), true).map(|data| data.len());
                let options = ReadOptions { now_ns: Some(NOW), ..ReadOptions::default() };
                let got = volume.read(id, &mut vec![0; 70_000], &options);
                prop_assert_eq!(got.map(|read| read.length).map_err(|error| error.status), expected);
            }
        }
        check(&volume, format.version, &model)?;
        check(&open(), format.version, &model)?;
    }
}
