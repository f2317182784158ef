//! Manifest records: a checksum, two roots and a payload, each on a 4 KiB boundary.

use super::options::ALIGNMENT;
use super::page::PageId;
use super::varint::Reader;
use twox_hash::XxHash3_64;

const ROOT: usize = 8;
const PAYLOAD: usize = 20;
/// Bytes hashed at a time.
const CHUNK: usize = 1 << 20;

/// A record whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Root of the tree of entries, or `NONE`.
    pub root: PageId,
    /// Root of the tree of expiries, or `NONE`.
    pub ttl_root: PageId,
    /// What it says, by the kind of record.
    pub payload: &'a [u8],
    /// Where the payload begins in the manifest.
    pub payload_at: usize,
    /// Where the next record begins.
    pub next: usize,
}

impl<'a> Record<'a> {
    /// The record at `at`. None if it is cut off (its padding counts) or damaged.
    pub fn read(manifest: &'a [u8], at: usize) -> Option<Record<'a>> {
        let mut reader = Reader::new(manifest, at);
        let stored = reader.u64().ok()?;
        let root = reader.u32().ok()?;
        let ttl_root = reader.u32().ok()?;
        let len = reader.u32().ok()? as usize;
        let payload = reader.take(len).ok()?;
        let next = at + (PAYLOAD + len).next_multiple_of(ALIGNMENT);
        let whole = next <= manifest.len() && stored == checksum(&manifest[at + ROOT..at + PAYLOAD + len]);
        whole.then_some(Record { root, ttl_root, payload, payload_at: at + PAYLOAD, next })
    }

    /// Whether a log record could be here at all: cheap, before anything is hashed.
    pub fn plausible_log(manifest: &[u8], at: usize) -> bool {
        let sections = || {
            let mut reader = Reader::new(manifest, at + PAYLOAD - 4);
            let len = reader.u32().ok()? as usize;
            for _ in 0..3 {
                let section = reader.u32().ok()? as usize;
                reader.take(section).ok()?;
            }
            Some(reader.at() == at + PAYLOAD + len)
        };
        sections() == Some(true)
    }

    /// The bytes of a record, padded with zeros. The payload is below 4 GiB.
    pub fn encode(root: PageId, ttl_root: PageId, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; ROOT];
        for word in [root, ttl_root, payload.len() as u32] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(payload);
        let sum = checksum(&out[ROOT..]);
        out[..ROOT].copy_from_slice(&sum.to_le_bytes());
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out
    }
}

fn checksum(body: &[u8]) -> u64 {
    body.chunks(CHUNK).fold(0u64, |sum, chunk| {
        (sum.rotate_left(1) ^ XxHash3_64::oneshot(chunk)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_whole_or_not_at_all() {
        let payload: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
        let bytes = Record::encode(7, u32::MAX, &payload);
        assert_eq!(bytes.len(), 8192);
        let record = Record::read(&bytes, 0).unwrap();
        assert_eq!(
            (record.root, record.ttl_root, record.payload, record.next),
            (7, u32::MAX, &payload[..], 8192)
        );
        assert!(Record::read(&bytes[..8191], 0).is_none(), "padding is missing");
        for at in (0..5020).step_by(37).chain([0, 8, 12, 16, 5019]) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(Record::read(&bytes, 0).is_none(), "byte {at}");
        }
        assert!(Record::read(&bytes, 4096).is_none());
        assert!(Record::read(&[0; 8192], 0).is_none(), "zeros are no record");
    }

    #[test]
    fn long_payloads_are_hashed_in_chunks() {
        let payload = vec![3u8; 2 * CHUNK + 17];
        let bytes = Record::encode(1, 2, &payload);
        assert!(Record::read(&bytes, 0).is_some());
        let mut last = bytes;
        last[PAYLOAD + 2 * CHUNK + 16] ^= 1;
        assert!(Record::read(&last, 0).is_none());
    }
}
