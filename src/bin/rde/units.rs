//! Sizes and time spans as people write them: `64KiB`, `1GiB`, `500ms`, `3s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A number of bytes; written with an optional unit of 1024 (`KiB`, `K`, `MiB` …).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// A span of time; written with a unit (`us`, `ms`, `s`, `m`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

const SIZES: &[(&str, u64)] =
    &[("", 1), ("b", 1), ("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40)];
const SPANS: &[(&str, u64)] = &[("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000)];

fn split(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text.get(..end)?.parse().ok()?, text.get(end..)?.trim().to_ascii_lowercase()))
}

fn scale(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = units.iter().find(|row| row.0 == unit)?.1;
    number.checked_mul(factor)
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let lower = text.trim().to_ascii_lowercase();
        let short = lower.strip_suffix("ib").unwrap_or(&lower);
        scale(short, SIZES)
            .map(Size)
            .ok_or_else(|| format!("`{text}` is not a size; write 4096, 64KiB, 256MiB or 1GiB"))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        scale(text, SPANS)
            .map(|micros| Span(Duration::from_micros(micros)))
            .ok_or_else(|| format!("`{text}` is not a time; write 200us, 50ms, 3s or 1m"))
    }
}

/// A number in a configuration file may stand without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Size, D::Error> {
        match Written::deserialize(source)? {
            Written::Number(bytes) => Ok(Size(bytes)),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Span, D::Error> {
        String::deserialize(source)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            let whole = 1u64 << shift;
            if self.0 >= whole {
                // One decimal only where it says something.
                let text = format!("{:.1}", self.0 as f64 / whole as f64);
                return write!(f, "{} {unit}", text.strip_suffix(".0").unwrap_or(&text));
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Nanoseconds for a person: `40 ns`, `9.6 µs`, `1.2 ms`.
pub fn nanoseconds(value: u64) -> String {
    match value {
        0..=999 => format!("{value} ns"),
        1_000..=999_999 => format!("{:.2} µs", value as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.2} ms", value as f64 / 1e6),
        _ => format!("{:.2} s", value as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("8", 8), ("64KiB", 65_536), ("4k", 4_096), ("256 MiB", 256 << 20), ("1GiB", 1 << 30)]
        {
            assert_eq!(text.parse::<Size>().unwrap().0, bytes, "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "4 potatoes", "99999999999999TiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(Size(1 << 20).to_string(), "1 MiB");
        assert_eq!(Size(1536).to_string(), "1.5 KiB");
        assert_eq!(Size(8).to_string(), "8 B");
    }

    #[test]
    fn spans() {
        assert_eq!("50ms".parse::<Span>().unwrap().0, Duration::from_millis(50));
        assert_eq!("2m".parse::<Span>().unwrap().0, Duration::from_secs(120));
        for text in ["3", "s", "1h", "1 fortnight"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
