//! `.vif`: what a volume server notes beside a volume, in protobuf's JSON.

use serde_json::{Map, Value};

use crate::status::{Error, Result, Status};
use crate::volume::row::RowWidth;
use crate::volume::superblock::Version;

/// Longest `.vif` file that is read, in bytes; real ones are below 1 KiB.
pub const VIF_BYTES: usize = 1 << 20;

/// What of a `.vif` file matters to a reader. Everything is optional there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vif {
    /// The data was moved to a remote tier.
    pub tiered: bool,
    /// Overrides the superblock's version.
    pub version: Option<Version>,
    /// Width of the rows of the index.
    pub row_width: Option<RowWidth>,
    /// Length of the `.dat` file when the volume was sealed, in bytes.
    pub dat_file_size: Option<u64>,
    /// Unix seconds after which the whole volume goes away.
    pub expire_at_sec: Option<u64>,
    /// The volume takes no more writes.
    pub read_only: bool,
    /// Shards of an erasure-coded volume: data, parity.
    pub ec_shards: Option<(u32, u32)>,
}

impl Vif {
    /// Decodes the file's content; an empty file says nothing. Fields this library does not know are passed over.
    /// Errors: `Corrupted` for what is not such JSON, `Unsupported` for a volume version it does not know.
    pub fn decode(bytes: &[u8]) -> Result<Vif> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Vif::default());
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|error| corrupted(&error.to_string()))?;
        let Value::Object(fields) = value else { return Err(corrupted("not a JSON object")) };
        let files = field(&fields, "files", "files");
        let number = |camel, snake| integer(field(&fields, camel, snake));
        let shards = field(&fields, "ecShardConfig", "ec_shard_config").and_then(Value::as_object);
        Ok(Vif {
            tiered: files.is_some_and(|files| files.as_array().is_none_or(|list| !list.is_empty())),
            version: number("version", "version")?
                .map(|version| Version::from_number(narrow(version)))
                .transpose()?,
            row_width: number("bytesOffset", "bytes_offset")?
                .map(|bytes| {
                    RowWidth::from_offset_bytes(narrow(bytes))
                        .ok_or_else(|| corrupted("bytesOffset is neither 4 nor 5"))
                })
                .transpose()?,
            dat_file_size: number("datFileSize", "dat_file_size")?,
            expire_at_sec: number("expireAtSec", "expire_at_sec")?,
            read_only: field(&fields, "readOnly", "read_only").and_then(Value::as_bool).unwrap_or(false),
            ec_shards: shards.map(shard_counts).transpose()?,
        })
    }
}

fn shard_counts(config: &Map<String, Value>) -> Result<(u32, u32)> {
    let data = integer(field(config, "dataShards", "data_shards"))?;
    let parity = integer(field(config, "parityShards", "parity_shards"))?;
    Ok((narrow(data.unwrap_or(0)), narrow(parity.unwrap_or(0))))
}

/// Writers use either spelling; null is the same as absent.
fn field<'a>(fields: &'a Map<String, Value>, camel: &str, snake: &str) -> Option<&'a Value> {
    fields.get(camel).or_else(|| fields.get(snake)).filter(|value| !value.is_null())
}

/// 64-bit integers are written as strings, others as numbers. 0 is the same as absent.
fn integer(value: Option<&Value>) -> Result<Option<u64>> {
    let Some(value) = value else { return Ok(None) };
    let number = match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    match number {
        Some(0) => Ok(None),
        Some(number) => Ok(Some(number)),
        None => Err(corrupted("a field that should be a number is none")),
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn corrupted(why: &str) -> Error {
    Error::new(Status::Corrupted, format!("the .vif file is damaged: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_spellings() {
        let vif = Vif::decode(
            br#"{"files":[], "version":3, "replication":"000", "bytesOffset":5, "datFileSize":"123456789012",
                "expireAtSec":"0", "readOnly":true, "ecShardConfig":{"dataShards":10, "parityShards":4}, "new":{}}"#,
        )
        .unwrap();
        let expected = Vif {
            version: Some(Version::V3),
            row_width: Some(RowWidth::Seventeen),
            dat_file_size: Some(123_456_789_012),
            read_only: true,
            ec_shards: Some((10, 4)),
            ..Vif::default()
        };
        assert_eq!(vif, expected);
        assert_eq!(Vif::decode(br#"{"bytes_offset":4}"#).unwrap().row_width, Some(RowWidth::Sixteen));
        assert_eq!(Vif::decode(b" \n").unwrap(), Vif::default());
        assert_eq!(Vif::decode(br#"{"version":0,"files":null}"#).unwrap(), Vif::default());
    }

    #[test]
    fn tiered() {
        let vif =
            Vif::decode(br#"{"files":[{"backendType":"s3","key":"k","fileSize":"8"}],"version":3}"#).unwrap();
        assert!(vif.tiered);
        assert!(
            Vif::decode(br#"{"files":{"odd":1}}"#).unwrap().tiered,
            "when in doubt it is not ours to serve"
        );
    }

    #[test]
    fn refuses() {
        for (text, status) in [
            ("[]", Status::Corrupted),
            ("{", Status::Corrupted),
            (r#"{"version":9}"#, Status::Unsupported),
            (r#"{"version":4294967299}"#, Status::Unsupported),
            (r#"{"version":"three"}"#, Status::Corrupted),
            (r#"{"bytesOffset":6}"#, Status::Corrupted),
            (r#"{"datFileSize":-1}"#, Status::Corrupted),
        ] {
            assert_eq!(Vif::decode(text.as_bytes()).unwrap_err().status, status, "{text}");
        }
    }
}
