//! What `rde` and `rde serve` say to each other by messages: a small catalogue of exported memory, and an echo.
//!
//! A message is `version u8, kind u8, reserved u16, id u32`, then the kind's own bytes; little-endian. The answer to a
//! request has its id. Eight bytes of header let a 16-byte ping travel inside a completion.

use rdma_engine::limits::KEY_BYTES;
use rdma_engine::{Error, Result, Status};

const VERSION: u8 = 1;
const HEADER: usize = 8;

/// Longest name of an export, in bytes: as long as a file's name.
pub const NAME: usize = 255;
/// Entries of one `Listing`; the next page is asked for by index, so that no answer is longer than 8 KiB.
pub const PAGE: usize = 28;
/// Longest echo, in bytes: the engine copies messages of up to 64 KiB.
pub const ECHO: usize = (64 << 10) - HEADER;

/// One thing that a server exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bytes.
    pub size: u64,
    /// Whether peers may write it.
    pub writable: bool,
    /// Its name; UTF-8 without `/` or control characters.
    pub name: String,
}

/// How to reach one exported thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Bytes.
    pub size: u64,
    /// Key for a region import; unused when `size` is 0.
    pub key: [u8; KEY_BYTES],
    /// SHA-256 of the bytes when they were exported; `None` for memory that changes.
    pub sha256: Option<[u8; 32]>,
}

/// A message without its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks for an `EchoReply` with the same bytes.
    Echo(Vec<u8>),
    /// Answers `Echo`.
    EchoReply(Vec<u8>),
    /// To be forgotten; `rde perf message` measures with it.
    Sink(Vec<u8>),
    /// Asks for the entries from this index on.
    List(u32),
    /// Answers `List`: how many there are in all, and a page of them.
    Listing(u32, Vec<Entry>),
    /// Asks for the key of a name.
    Open(String),
    /// Answers `Open`.
    Opened(Grant),
    /// Answers any request that cannot be served.
    Refused(Status),
}

fn broken(what: &str) -> Error {
    Error::new(Status::Protocol, format!("the peer sent {what}; is it an `rde serve` of this version?"))
}

/// Reads fields off the front; every read is checked.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) =
            self.0.split_at_checked(count).ok_or_else(|| broken("a message that ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| broken("a message that ends too early"))
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn name(&mut self) -> Result<String> {
        let length = usize::from(self.u8()?);
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| broken("a name that is not UTF-8"))?;
        if !name_is_valid(text) {
            return Err(broken("a name that is not allowed"));
        }
        Ok(text.to_owned())
    }
}

/// Whether a name may be exported: it can be typed, and it can neither leave a folder nor fake a terminal's output.
pub fn name_is_valid(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME
        && name != "."
        && name != ".."
        && !name.chars().any(|c| c == '/' || c.is_control())
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    // `name_is_valid` bounds it; a longer one is cut to nothing and refused by the reader.
    out.push(u8::try_from(name.len()).unwrap_or(0));
    out.extend(name.as_bytes());
}

impl Message {
    fn kind(&self) -> u8 {
        match self {
            Message::Echo(_) => 1,
            Message::EchoReply(_) => 2,
            Message::Sink(_) => 3,
            Message::List(_) => 4,
            Message::Listing(..) => 5,
            Message::Open(_) => 6,
            Message::Opened(_) => 7,
            Message::Refused(_) => 8,
        }
    }

    /// The message as bytes.
    pub fn encode(&self, id: u32) -> Vec<u8> {
        let mut out = vec![VERSION, self.kind(), 0, 0];
        out.extend(id.to_le_bytes());
        match self {
            Message::Echo(bytes) | Message::EchoReply(bytes) | Message::Sink(bytes) => out.extend(bytes),
            Message::List(first) => out.extend(first.to_le_bytes()),
            Message::Listing(total, entries) => {
                out.extend(total.to_le_bytes());
                for entry in entries {
                    out.extend(entry.size.to_le_bytes());
                    out.push(u8::from(entry.writable));
                    put_name(&mut out, &entry.name);
                }
            }
            Message::Open(name) => put_name(&mut out, name),
            Message::Opened(grant) => {
                out.extend(grant.size.to_le_bytes());
                out.extend(grant.key);
                out.push(u8::from(grant.sha256.is_some()));
                out.extend(grant.sha256.unwrap_or_default());
            }
            Message::Refused(status) => out.extend((*status as i32).to_le_bytes()),
        }
        out
    }

    /// The id and the message in `bytes`, which come from a peer.
    pub fn decode(bytes: &[u8]) -> Result<(u32, Message)> {
        let mut reader = Reader(bytes);
        let [version, kind, 0, 0] = reader.array::<4>()? else { return Err(broken("reserved bits")) };
        if version != VERSION {
            return Err(broken("another version of the catalogue protocol"));
        }
        let id = reader.u32()?;
        let message = match kind {
            1..=3 if reader.0.len() > ECHO => return Err(broken("too long an echo")),
            1 => Message::Echo(reader.take(reader.0.len())?.to_vec()),
            2 => Message::EchoReply(reader.take(reader.0.len())?.to_vec()),
            3 => Message::Sink(reader.take(reader.0.len())?.to_vec()),
            4 => Message::List(reader.u32()?),
            5 => listing(&mut reader)?,
            6 => Message::Open(reader.name()?),
            7 => Message::Opened(grant(&mut reader)?),
            8 => {
                let number = i32::from_le_bytes(reader.array()?);
                Message::Refused(Status::from_i32(number).ok_or_else(|| broken("an unknown status"))?)
            }
            _ => return Err(broken("an unknown kind of message")),
        };
        if !reader.0.is_empty() {
            return Err(broken("a message with bytes left over"));
        }
        Ok((id, message))
    }
}

fn listing(reader: &mut Reader<'_>) -> Result<Message> {
    let total = reader.u32()?;
    let mut entries = Vec::new();
    while !reader.0.is_empty() {
        if entries.len() == PAGE {
            return Err(broken("too long a page of names"));
        }
        let size = reader.u64()?;
        let writable = flag(reader)?;
        entries.push(Entry { size, writable, name: reader.name()? });
    }
    Ok(Message::Listing(total, entries))
}

fn grant(reader: &mut Reader<'_>) -> Result<Grant> {
    let size = reader.u64()?;
    let key = reader.array()?;
    let proved = flag(reader)?;
    let sha256 = reader.array()?;
    if !proved && sha256 != [0; 32] {
        return Err(broken("a checksum that it does not vouch for"));
    }
    Ok(Grant { size, key, sha256: proved.then_some(sha256) })
}

fn flag(reader: &mut Reader<'_>) -> Result<bool> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(broken("a flag that is neither 0 nor 1")),
    }
}

/// Bytes that `Echo` adds to its payload.
pub const fn overhead() -> usize {
    HEADER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Message> {
        let entry = |size, writable, name: &str| Entry { size, writable, name: name.to_owned() };
        vec![
            Message::Echo(vec![]),
            Message::EchoReply(vec![7; 16]),
            Message::Sink(vec![1, 2, 3]),
            Message::List(28),
            Message::Listing(3, vec![entry(u64::MAX, false, "größe.bin"), entry(0, true, &"n".repeat(NAME))]),
            Message::Open("a".to_owned()),
            Message::Opened(Grant { size: 9, key: [3; KEY_BYTES], sha256: Some([5; 32]) }),
            Message::Opened(Grant { size: 9, key: [3; KEY_BYTES], sha256: None }),
            Message::Refused(Status::NotFound),
        ]
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for (id, message) in (0x0102_0304..).zip(samples()) {
            assert_eq!(Message::decode(&message.encode(id)).unwrap(), (id, message));
        }
    }

    #[test]
    fn a_cut_or_longer_message_never_panics_and_never_passes_for_another() {
        for message in samples() {
            let whole = message.encode(1);
            for end in 0..whole.len() {
                // A shorter echo is an echo; anything else must be refused, except a page cut at an entry's end.
                if let Ok((_, other)) = Message::decode(&whole[..end]) {
                    assert_eq!(other.kind(), message.kind());
                    assert!(matches!(other.kind(), 1..=3 | 5), "{other:?}");
                }
            }
            let longer = [&whole[..], &[0]].concat();
            assert!(Message::decode(&longer).is_err() || message.kind() <= 3);
        }
    }

    #[test]
    fn every_flipped_byte_is_read_or_refused() {
        for message in samples() {
            let whole = message.encode(1);
            for at in 0..whole.len() {
                for bit in 0..8 {
                    let mut bytes = whole.clone();
                    bytes[at] ^= 1 << bit;
                    if let Ok((id, other)) = Message::decode(&bytes) {
                        assert_eq!(other.encode(id), bytes, "decoding forgot something");
                    }
                }
            }
        }
    }

    #[test]
    fn names() {
        for name in ["", ".", "..", "a/b", "a\nb", "\u{1b}[2J", &"n".repeat(NAME + 1)] {
            assert!(!name_is_valid(name), "{name:?}");
        }
        assert!(name_is_valid("model-00001.bin"));
        let page = Message::Listing(0, vec![Entry { size: 0, writable: false, name: "x".into() }; PAGE + 1]);
        assert_eq!(Message::decode(&page.encode(0)).unwrap_err().status, Status::Protocol);
    }
}
