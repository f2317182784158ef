//! Which branch wrote which files: the metadata at the end of every manifest record.

use super::damage::{Damage, Decoded};
use super::varint::Reader;

/// The branch that a store is on unless told otherwise.
pub const MAIN: &str = "main";

/// Files up to some id belong to a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The owner.
    pub branch: String,
    /// The owner's term.
    pub term: u64,
    /// Its largest data file.
    pub max_file: u64,
    /// Its largest segment file.
    pub max_segment_file: u64,
}

/// The branch that wrote a manifest, and the owners of its files, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branches {
    /// The branch that wrote.
    pub name: String,
    /// Its term.
    pub term: u64,
    /// Owners; the first whose `max_file` is not below a file's id owns the file.
    pub ranges: Vec<Range>,
}

impl Branches {
    /// A branch that owns no file yet.
    pub fn new(name: &str, term: u64) -> Branches {
        Branches { name: name.into(), term, ranges: Vec::new() }
    }

    /// The metadata that fills `bytes`; damage counts from the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Decoded<Branches> {
        let mut reader = Reader::new(bytes, 0);
        let name = text(&mut reader)?;
        let (term, count) = (reader.u64()?, reader.u64()?);
        let mut ranges: Vec<Range> = Vec::new();
        // Each range takes bytes, so the count cannot claim more memory than there is input.
        for _ in 0..count {
            let at = reader.at();
            let branch = text(&mut reader)?;
            let range = Range {
                branch,
                term: reader.u64()?,
                max_file: reader.u64()?,
                max_segment_file: reader.u64()?,
            };
            if ranges.last().is_some_and(|last| range.max_file < last.max_file) {
                return Err(Damage::new(at, "file ranges of branches do not ascend"));
            }
            ranges.push(range);
        }
        if !reader.is_empty() {
            return Err(Damage::new(reader.at(), "the branch metadata is too long"));
        }
        Ok(Branches { name, term, ranges })
    }

    /// As a manifest holds it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_text(&mut out, &self.name);
        out.extend_from_slice(&self.term.to_le_bytes());
        out.extend_from_slice(&(self.ranges.len() as u64).to_le_bytes());
        for range in &self.ranges {
            put_text(&mut out, &range.branch);
            for number in [range.term, range.max_file, range.max_segment_file] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out
    }

    /// Branch and term that own a data file; the writing branch owns what no range covers.
    pub fn owner(&self, file: u64) -> (&str, u64) {
        self.owner_by(|range| range.max_file >= file)
    }

    /// Branch and term that own a segment file.
    pub fn segment_owner(&self, file: u64) -> (&str, u64) {
        self.owner_by(|range| range.max_segment_file >= file)
    }

    fn owner_by(&self, covers: impl Fn(&Range) -> bool) -> (&str, u64) {
        let found = self.ranges.iter().find(|range| covers(range));
        found.map_or((self.name.as_str(), self.term), |range| (range.branch.as_str(), range.term))
    }

    /// Makes the writing branch own files up to these.
    pub fn extend(&mut self, max_file: u64, max_segment_file: u64) {
        let (name, term) = (&self.name, self.term);
        match self.ranges.last_mut().filter(|last| last.branch == *name && last.term == term) {
            Some(own) => {
                own.max_file = own.max_file.max(max_file);
                own.max_segment_file = own.max_segment_file.max(max_segment_file);
            }
            None => {
                self.ranges.push(Range { branch: name.clone(), term, max_file, max_segment_file });
            }
        }
    }
}

fn text(reader: &mut Reader<'_>) -> Decoded<String> {
    let at = reader.at();
    let len = reader.u32()? as usize;
    let bytes = reader.take(len)?;
    let plain = !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    match std::str::from_utf8(bytes) {
        Ok(text) if plain => Ok(text.to_owned()),
        _ => Err(Damage::new(at, "not a branch name")),
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back_and_says_who_owns() {
        let mut branches = Branches::new("dev-1", 3);
        branches.ranges.push(Range { branch: MAIN.into(), term: 0, max_file: 7, max_segment_file: 2 });
        assert_eq!(branches.owner(7), (MAIN, 0));
        assert_eq!(branches.owner(8), ("dev-1", 3));
        branches.extend(9, 0);
        branches.extend(12, 4);
        assert_eq!(branches.ranges.len(), 2);
        assert_eq!((branches.owner(12), branches.segment_owner(3)), (("dev-1", 3), ("dev-1", 3)));
        let bytes = branches.encode();
        assert_eq!(Branches::decode(&bytes), Ok(branches));
        for cut in 0..bytes.len() {
            assert!(Branches::decode(&bytes[..cut]).is_err());
        }
        assert!(Branches::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn names_that_could_leave_the_directory_are_damage() {
        for name in ["", "../x", "a_b", "a/b", "a.b"] {
            assert!(Branches::decode(&Branches::new(name, 0).encode()).is_err(), "{name:?}");
        }
    }
}
