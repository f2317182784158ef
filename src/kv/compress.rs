//! Compressed values: `varint32 raw length ++ zstd frame`, alone or with the partition's dictionary.

use super::damage::{Damage, Decoded};
use super::value::Codec;
use super::varint::{Reader, put_varint};
use crate::status::{Error, Result, Status};
use std::io::Read;
use std::sync::Arc;
use zstd::dict::{DecoderDictionary, EncoderDictionary};

/// Values below this many bytes are stored as they are.
pub const RAW_BELOW: usize = 100;
/// Values above this many bytes are compressed without the dictionary.
pub const STANDALONE_ABOVE: usize = 10 << 20;
/// Bytes of a partition's dictionary.
pub const DICTIONARY: usize = 16 << 10;
/// Bytes of samples that train a dictionary.
pub const SAMPLES: usize = 100 * DICTIONARY;
/// zstd's level unless told otherwise.
pub const LEVEL: i32 = 3;

/// A partition's dictionary, prepared once.
#[derive(Clone)]
pub struct Dictionary {
    /// As it stands in the manifest.
    pub bytes: Arc<[u8]>,
    decoder: Arc<DecoderDictionary<'static>>,
    encoder: Arc<EncoderDictionary<'static>>,
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dictionary({} bytes)", self.bytes.len())
    }
}

impl Dictionary {
    /// From the bytes in a manifest.
    pub fn new(bytes: &[u8], level: i32) -> Dictionary {
        Dictionary {
            bytes: bytes.into(),
            decoder: Arc::new(DecoderDictionary::copy(bytes)),
            encoder: Arc::new(EncoderDictionary::copy(bytes, level)),
        }
    }

    /// Trained from samples that lie one after the other in `samples`; padded with zeros to [`DICTIONARY`].
    pub fn train(samples: &[u8], sizes: &[usize], level: i32) -> Result<Dictionary> {
        let mut bytes = zstd::dict::from_continuous(samples, sizes, DICTIONARY)
            .map_err(|error| Error::os("training a dictionary", &error))?;
        bytes.resize(DICTIONARY, 0);
        Ok(Dictionary::new(&bytes, level))
    }
}

/// The value that `stored` holds. `limit` bounds the memory that a damaged length can claim.
pub fn decode(
    codec: Codec,
    stored: &[u8],
    dictionary: Option<&Dictionary>,
    limit: usize,
) -> Decoded<Vec<u8>> {
    let mut reader = Reader::new(stored, 0);
    let len = reader.varlen()?;
    if len > limit {
        return Err(Damage::new(0, "a value is longer than the limit allows"));
    }
    let frame = &stored[reader.at()..];
    let broken = Damage::new(reader.at(), "a compressed value is broken");
    let decoder = match (codec, dictionary) {
        (Codec::Dictionary, Some(dictionary)) => {
            zstd::stream::read::Decoder::with_prepared_dictionary(frame, &dictionary.decoder)
        }
        (Codec::Dictionary, None) => {
            return Err(Damage::new(0, "a value needs a dictionary and there is none"));
        }
        _ => zstd::stream::read::Decoder::with_buffer(frame),
    };
    let decoder = decoder.map_err(|_| broken)?.single_frame();
    // Memory grows with what really comes out, not with what the length claims.
    let mut value = Vec::with_capacity(len.min(frame.len().saturating_mul(64)));
    let mut bounded = decoder.take(len as u64 + 1);
    bounded.read_to_end(&mut value).map_err(|_| broken)?;
    let unread = bounded.into_inner().finish().len();
    if value.len() != len || unread != 0 {
        return Err(Damage::new(0, "a compressed value has another length than it says"));
    }
    Ok(value)
}

/// How `value` is stored best, with its bytes unless those are the value itself.
pub fn encode(value: &[u8], dictionary: Option<&Dictionary>, level: i32) -> Result<(Codec, Option<Vec<u8>>)> {
    let failed = |error: std::io::Error| {
        Error::new(Status::OutOfMemory, format!("zstd could not compress a value: {error}"))
    };
    let (codec, compressor) = if value.len() > STANDALONE_ABOVE {
        (Codec::Standalone, zstd::bulk::Compressor::new(level))
    } else if let (true, Some(dictionary)) = (value.len() >= RAW_BELOW, dictionary) {
        (Codec::Dictionary, zstd::bulk::Compressor::with_prepared_dictionary(&dictionary.encoder))
    } else {
        return Ok((Codec::Raw, None));
    };
    let mut stored = Vec::new();
    put_varint(&mut stored, value.len() as u64);
    stored.extend_from_slice(&compressor.map_err(failed)?.compress(value).map_err(failed)?);
    if stored.len() < value.len() { Ok((codec, Some(stored))) } else { Ok((Codec::Raw, None)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(i: usize) -> Vec<u8> {
        (0..40).flat_map(|j| format!("field{j}={} ", i * 7919 + j * j).into_bytes()).collect()
    }

    fn dictionary() -> Dictionary {
        let samples: Vec<_> = (0..2000).map(text).collect();
        let sizes: Vec<_> = samples.iter().map(Vec::len).collect();
        Dictionary::train(&samples.concat(), &sizes, LEVEL).unwrap()
    }

    #[test]
    fn values_come_back_and_damage_is_seen() {
        let dictionary = dictionary();
        assert_eq!(dictionary.bytes.len(), DICTIONARY);
        let again = Dictionary::new(&dictionary.bytes, LEVEL);
        let value = text(123_456);
        let (codec, stored) = encode(&value, Some(&dictionary), LEVEL).unwrap();
        let stored = stored.unwrap();
        assert_eq!(codec, Codec::Dictionary);
        assert!(stored.len() * 2 < value.len());
        assert_eq!(decode(codec, &stored, Some(&again), 1 << 20), Ok(value.clone()));
        assert!(decode(codec, &stored, None, 1 << 20).is_err());
        assert!(decode(codec, &stored, Some(&again), value.len() - 1).is_err());
        for cut in 0..stored.len() {
            assert!(decode(codec, &stored[..cut], Some(&again), 1 << 20).is_err(), "cut at {cut}");
        }
        let longer = [&stored[..], &[0]].concat();
        assert!(decode(codec, &longer, Some(&again), 1 << 20).is_err());
    }

    #[test]
    fn what_does_not_shrink_or_is_short_stays_raw() {
        let dictionary = dictionary();
        let mut seed = 1u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        };
        let noise: Vec<u8> = (0..5000).map(|_| noise()).collect();
        for value in [&noise[..], &[b'a'; 99], b""] {
            assert_eq!(encode(value, Some(&dictionary), LEVEL).unwrap(), (Codec::Raw, None));
        }
        assert_eq!(encode(&[b'a'; 5000], None, LEVEL).unwrap(), (Codec::Raw, None));
    }

    #[test]
    fn ten_mebibytes_and_more_stand_alone() {
        let value = vec![b'z'; STANDALONE_ABOVE + 1];
        let (codec, stored) = encode(&value, Some(&dictionary()), LEVEL).unwrap();
        assert_eq!(codec, Codec::Standalone);
        let stored = stored.unwrap();
        assert!(decode(codec, &stored, None, usize::MAX).unwrap() == value);
        let claims_less = [&[100][..], &stored[4..]].concat();
        assert!(decode(codec, &claims_less, None, usize::MAX).is_err());
    }
}
