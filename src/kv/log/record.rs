//! Records of a write log: a batch each, on 4 KiB boundaries. Our own format; EloqStore has no log.
//!
//! A log's first 4 KiB are its head: `u64` XXH3-64 of the next 24 bytes, `u64` what it is, `u64` its number, `u64` its salt.
//! A record is a head of 24 bytes (`u64` XXH3-64, with the log's salt as the seed, of what follows it in the record, `u64` where
//! the record begins in the file, `u32` bytes of its entries, `u32` how many), its entries, and zeros up to the next boundary. An
//! entry is a head of 32 bytes (`u64` XXH3-64 of what follows it in the entry, `u64` timestamp, `u64` expiry, `u32` length
//! of the value, `u16` length of the key, `u8` kind, a zero), key, value, and zeros up to the next 8 bytes. All
//! integers are little-endian. The salt is random, so that no value can hold what is taken for a record.

use crate::kv::batch::{Action, Op};
use crate::kv::damage::{Damage, Decoded};
use crate::kv::options::ALIGNMENT;
use crate::kv::varint::Reader;
use twox_hash::XxHash3_64;

/// Where the first record of a log begins.
pub const FIRST: u64 = ALIGNMENT as u64;
/// Entries begin at multiples of this.
pub const GRAIN: usize = 8;
const MAGIC: u64 = u64::from_le_bytes(*b"rde-log1");
/// Bytes of a record's head.
pub const HEAD: usize = 24;
/// Bytes of an entry's head.
const ENTRY: usize = 32;
const SUM: usize = 8;
const DELETE: u8 = 0;
const UPSERT: u8 = 1;

/// A change as a log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; None for a delete.
    pub value: Option<&'a [u8]>,
    /// The writer's timestamp.
    pub timestamp: u64,
    /// When it expires, unix milliseconds; 0 never.
    pub expire_ms: u64,
}

impl<'a> Logged<'a> {
    /// A batch's change. None for what no log takes: very large values.
    /// One that has expired at `now_ms` is a delete.
    pub fn of(op: &'a Op, now_ms: u64) -> Option<Logged<'a>> {
        let (value, expire_ms) = match &op.action {
            Action::Upsert { expire_ms, .. } if *expire_ms != 0 && *expire_ms <= now_ms => (None, 0),
            Action::Upsert { value, expire_ms } => (Some(value.as_slice()), *expire_ms),
            Action::Delete => (None, 0),
            Action::UpsertLarge { .. } => return None,
        };
        Some(Logged { key: &op.key, value, timestamp: op.timestamp, expire_ms })
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        size(self.key.len(), self.value.map_or(0, <[u8]>::len))
    }

    fn put(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; SUM]);
        out.extend_from_slice(&self.timestamp.to_le_bytes());
        out.extend_from_slice(&self.expire_ms.to_le_bytes());
        out.extend_from_slice(&(self.value.map_or(0, <[u8]>::len) as u32).to_le_bytes());
        out.extend_from_slice(&(self.key.len() as u16).to_le_bytes());
        out.extend_from_slice(&[if self.value.is_some() { UPSERT } else { DELETE }, 0]);
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value.unwrap_or_default());
        seal(out, at, 0);
        out.resize(at + self.size(), 0);
    }

    /// The entry at the start of `bytes`, its checksum verified.
    pub fn read(bytes: &'a [u8]) -> Decoded<Logged<'a>> {
        let mut reader = Reader::new(bytes, 0);
        let (sum, timestamp, expire_ms) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (value_len, key_len) = (reader.u32()? as usize, reader.u16()? as usize);
        let [kind, _] = *reader.take(2)?.first_chunk().ok_or(Damage::new(0, CUT))?;
        let (key, value) = (reader.take(key_len)?, reader.take(value_len)?);
        let body = bytes.get(SUM..reader.at()).unwrap_or_default();
        if XxHash3_64::oneshot(body) != sum {
            return Err(Damage::new(0, "an entry of the write log has a wrong checksum"));
        }
        let value = match kind {
            UPSERT => Some(value),
            DELETE if value.is_empty() => None,
            _ => return Err(Damage::new(ENTRY - 2, "the write log has an entry of an unknown kind")),
        };
        match key.is_empty() {
            true => Err(Damage::new(ENTRY, "the write log has an entry without a key")),
            false => Ok(Logged { key, value, timestamp, expire_ms }),
        }
    }
}

const CUT: &str = "an entry of the write log is cut off";

/// Bytes that an entry takes.
pub fn size(key: usize, value: usize) -> usize {
    (ENTRY + key + value).next_multiple_of(GRAIN)
}

/// Fills in the checksum of what begins at `at` and ends with `out`.
fn seal(out: &mut [u8], at: usize, seed: u64) {
    let sum = XxHash3_64::oneshot_with_seed(seed, &out[at + SUM..]);
    out[at..at + SUM].copy_from_slice(&sum.to_le_bytes());
}

/// What a log's file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The log's number.
    pub number: u64,
    /// What its records' checksums begin with.
    pub salt: u64,
}

impl Head {
    /// The first block of a log.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SUM];
        [MAGIC, self.number, self.salt].iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        seal(&mut out, 0, 0);
        out.resize(ALIGNMENT, 0);
        out
    }

    /// From a log's first bytes. None if it is cut off, damaged, or no log's.
    pub fn read(bytes: &[u8]) -> Option<Head> {
        let words = bytes.get(..4 * SUM)?.as_chunks::<SUM>().0;
        let [sum, magic, number, salt] = words.first_chunk()?.map(u64::from_le_bytes);
        let whole = XxHash3_64::oneshot(bytes.get(SUM..4 * SUM)?) == sum && magic == MAGIC;
        whole.then_some(Head { number, salt })
    }

    /// Encodes the record of a batch that will begin at `at`, and hears of each entry where it begins. None if no log takes
    /// one of its changes, or it would be 4 GiB.
    pub fn record(
        &self,
        out: &mut Vec<u8>,
        at: u64,
        (ops, now_ms): (&[&Op], u64),
        mut entry: impl FnMut(u64, &Logged<'_>),
    ) -> Option<()> {
        out.clear();
        out.resize(HEAD, 0);
        for op in ops {
            let logged = Logged::of(op, now_ms)?;
            entry(at + out.len() as u64, &logged);
            logged.put(out);
        }
        let len = u32::try_from(out.len() - HEAD).ok()?;
        out[8..16].copy_from_slice(&at.to_le_bytes());
        out[16..20].copy_from_slice(&len.to_le_bytes());
        out[20..24].copy_from_slice(&(ops.len() as u32).to_le_bytes());
        seal(out, 0, self.salt);
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        Some(())
    }
}

/// A record that is as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    at: u64,
    entries: &'a [u8],
    count: u32,
}

impl<'a> Record<'a> {
    /// The record of `log` that begins at `at`. None if it is cut off, damaged, or another one's.
    pub fn read(log: &'a [u8], head: Head, at: u64) -> Option<Record<'a>> {
        let bytes = log.get(usize::try_from(at).ok()?..)?;
        let mut reader = Reader::new(bytes, 0);
        let sum = reader.u64().ok()?;
        let own = reader.u64().ok()? == at;
        let (len, count) = (reader.u32().ok()? as usize, reader.u32().ok()?);
        let entries = reader.take(len).ok()?;
        let sealed = bytes.get(SUM..HEAD + len).filter(|_| own)?;
        let whole = XxHash3_64::oneshot_with_seed(head.salt, sealed) == sum;
        let record = Record { at, entries, count };
        // Reads are of whole blocks: the zeros belong to it.
        (whole && record.next() <= log.len() as u64).then_some(record)
    }

    /// Where the next record begins in the log.
    pub fn next(&self) -> u64 {
        self.at + ((HEAD + self.entries.len()) as u64).next_multiple_of(ALIGNMENT as u64)
    }

    /// Its entries, each with where it begins in the log.
    pub fn entries(&self) -> impl Iterator<Item = Decoded<(u64, Logged<'a>)>> + use<'a> {
        let (entries, mut at, mut left) = (self.entries, 0, self.count);
        let first = self.at + HEAD as u64;
        std::iter::from_fn(move || {
            let rest = entries.get(at..).filter(|rest| left > 0 || !rest.is_empty())?;
            let place = first + at as u64;
            if left == 0 || rest.is_empty() {
                at = usize::MAX;
                let what = "a record of the write log has another number of entries";
                return Some(Err(Damage::new(place as usize, what)));
            }
            left -= 1;
            let read = Logged::read(rest);
            at = read.as_ref().map_or(usize::MAX, |logged| at + logged.size());
            Some(match read {
                Ok(logged) => Ok((place, logged)),
                Err(damage) => Err(Damage::new(place as usize + damage.at, damage.what)),
            })
        })
    }
}

/// The head of the log `number`. None if it was only being made: its head is safe before anything follows it.
pub fn head(log: &[u8], number: u64) -> Decoded<Option<Head>> {
    match Head::read(log).filter(|head| head.number == number) {
        None if log.len() as u64 > FIRST => Err(Damage::new(0, "the head of this write log is damaged")),
        head => Ok(head),
    }
}

/// The records of a log, up to the first that was not finished.
#[derive(Debug)]
pub struct Records<'a> {
    log: &'a [u8],
    head: Head,
    at: u64,
}

/// The records of a log whose head is `head`.
pub fn records(log: &[u8], head: Head) -> Records<'_> {
    Records { log, head, at: FIRST }
}

impl Records<'_> {
    /// Where the last one ended that was taken.
    pub fn end(&self) -> u64 {
        self.at
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let record = Record::read(self.log, self.head, self.at)?;
        self.at = record.next();
        Some(record)
    }
}

/// Whether something that was not finished follows the last record, which ends at `end`. What is finished behind that is
/// damage: each record was safe before the next was written.
pub fn torn(log: &[u8], head: Head, end: u64) -> Decoded<bool> {
    let len = log.len() as u64;
    let intact = (end..len).step_by(ALIGNMENT).any(|at| Record::read(log, head, at).is_some());
    match intact {
        true => Err(Damage::new(end as usize, "a record of the write log is damaged, and others follow it")),
        false => Ok(log.get(end as usize..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops() -> Vec<Op> {
        let upsert = |value: &[u8]| Action::Upsert { value: value.into(), expire_ms: 9 };
        vec![
            Op { key: b"a".to_vec(), action: upsert(b""), timestamp: 1 },
            Op { key: b"bb".to_vec(), action: Action::Delete, timestamp: u64::MAX },
            Op { key: vec![7; 2000], action: upsert(&[5; 5000]), timestamp: 3 },
        ]
    }

    fn refs(ops: &[Op]) -> Vec<&Op> {
        ops.iter().collect()
    }

    const LOG: Head = Head { number: 3, salt: 77 };

    #[test]
    fn records_come_back_whole_or_not_at_all() {
        let (ops, mut bytes, mut places) = (ops(), vec![1; 99], Vec::new());
        let placed = |at, logged: &Logged<'_>| places.push((at, logged.key.to_vec()));
        LOG.record(&mut bytes, FIRST, (&refs(&ops), 0), placed).unwrap();
        assert_eq!(bytes.len(), 8192);
        let log = [LOG.encode(), bytes].concat();
        assert_eq!(Head::read(&log), Some(LOG));
        let record = Record::read(&log, LOG, FIRST).unwrap();
        assert_eq!(record.next(), log.len() as u64);
        let read: Vec<_> = record.entries().map(|entry| entry.unwrap()).collect();
        assert!(read.iter().map(|(_, logged)| *logged).eq(ops.iter().map(|op| Logged::of(op, 8).unwrap())));
        assert!(read.iter().zip(&places).all(|((at, logged), place)| {
            *at == place.0
                && logged.key == place.1
                && Logged::read(&log[place.0 as usize..]).unwrap() == *logged
        }));
        assert!(Record::read(&log, Head { salt: 78, ..LOG }, FIRST).is_none(), "another log's");
        assert!(Record::read(&log[4096..], LOG, 0).is_none(), "it was written to another place");
        for at in (0..4 * SUM).chain(4096..4096 + HEAD + record.entries.len()) {
            let mut log = log.clone();
            log[at] ^= 4;
            let gone = Head::read(&log).is_none_or(|head| Record::read(&log, head, FIRST).is_none());
            assert!(gone, "byte {at}");
        }
        assert!(Record::read(&log[..4096 + 7000], LOG, FIRST).is_none(), "cut off");
        assert!(Record::read(&log[..log.len() - 1], LOG, FIRST).is_none(), "cut off behind its entries");
        assert!(Record::read(&log, LOG, u64::MAX).is_none());
    }

    #[test]
    fn what_has_expired_is_deleted() {
        assert_eq!(Logged::of(&ops()[0], 8).unwrap().value, Some(&b""[..]));
        assert_eq!(Logged::of(&ops()[0], 9).unwrap().value, None);
    }

    #[test]
    fn a_number_of_entries_that_lies_is_damage() {
        for (count, good) in [(2u32, 2), (4, 3)] {
            let mut bytes = Vec::new();
            LOG.record(&mut bytes, 0, (&refs(&ops()), 0), |_, _| {}).unwrap();
            let len = u32::from_le_bytes(*bytes[16..].first_chunk().unwrap()) as usize;
            bytes[20..24].copy_from_slice(&count.to_le_bytes());
            seal(&mut bytes[..HEAD + len], 0, LOG.salt);
            let entries: Vec<_> = Record::read(&bytes, LOG, 0).unwrap().entries().collect();
            assert_eq!(entries.iter().filter(|entry| entry.is_ok()).count(), good);
            assert!(entries.last().unwrap().is_err() && entries.len() == good + 1);
        }
    }

    #[test]
    fn very_large_values_are_no_log_s() {
        let action = Action::UpsertLarge { value: vec![], metadata: None, expire_ms: 0 };
        let op = Op { key: b"k".to_vec(), action, timestamp: 0 };
        assert!(LOG.record(&mut Vec::new(), 0, (&[&op], 0), |_, _| {}).is_none());
    }
}
