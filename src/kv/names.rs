//! Names of partitions and of the files in a partition's directory.

use super::branch::MAIN;
use std::fmt;

/// A partition: a table and a number. Its directory is `<table>.<number>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The table.
    pub table: String,
    /// The partition of the table.
    pub number: u32,
}

impl Partition {
    /// From a directory's name, split at the last dot. None for any other name.
    pub fn parse(name: &str) -> Option<Partition> {
        let (table, number) = name.rsplit_once('.')?;
        let sound = !table.is_empty() && !table.contains(['/', '\0']);
        let number = u32::try_from(decimal(number)?).ok()?;
        sound.then(|| Partition { table: table.into(), number })
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.number)
    }
}

/// A file of a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// `data_<id>_<branch>_<term>`: pages.
    Data {
        /// Its number.
        id: u64,
        /// Who wrote it.
        branch: String,
        /// The writer's term.
        term: u64,
    },
    /// `segment_<id>_<branch>_<term>`: parts of very large values.
    Segment {
        /// Its number.
        id: u64,
        /// Who wrote it.
        branch: String,
        /// The writer's term.
        term: u64,
    },
    /// `manifest_<branch>_<term>`: the mapping, as it changes.
    Manifest {
        /// Who writes it.
        branch: String,
        /// The writer's term.
        term: u64,
    },
    /// `manifest_<branch>_<term>_<tag>`: the mapping as it was once.
    Archive {
        /// Who wrote it.
        branch: String,
        /// The writer's term.
        term: u64,
        /// What it is called.
        tag: String,
    },
    /// `log_<number>`: changes that are not in the pages yet. Ours; EloqStore has none.
    Log {
        /// Its number.
        number: u64,
    },
}

impl FileName {
    /// None for what is no file of a partition (`*.tmp` among them).
    pub fn parse(name: &str) -> Option<FileName> {
        let (kind, rest) = name.split_once('_')?;
        if kind == "manifest" {
            let (branch, rest) = rest.split_once('_')?;
            let branch = branch_name(branch)?;
            return match rest.split_once('_') {
                None => Some(FileName::Manifest { branch, term: decimal(rest)? }),
                Some((term, tag)) => {
                    let sound = !tag.is_empty() && !tag.ends_with(".tmp") && !tag.contains(['/', '\0']);
                    let term = decimal(term)?;
                    sound.then(|| FileName::Archive { branch, term, tag: tag.into() })
                }
            };
        }
        if kind == "log" {
            return Some(FileName::Log { number: decimal(rest)? });
        }
        let (id, rest) = rest.split_once('_')?;
        let (branch, term) = rest.split_once('_')?;
        let (id, branch, term) = (decimal(id)?, branch_name(branch)?, decimal(term)?);
        match kind {
            "data" => Some(FileName::Data { id, branch, term }),
            "segment" => Some(FileName::Segment { id, branch, term }),
            _ => None,
        }
    }

    /// The manifest of a local store.
    pub fn main_manifest() -> FileName {
        FileName::Manifest { branch: MAIN.into(), term: 0 }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Data { id, branch, term } => write!(f, "data_{id}_{branch}_{term}"),
            FileName::Segment { id, branch, term } => write!(f, "segment_{id}_{branch}_{term}"),
            FileName::Manifest { branch, term } => write!(f, "manifest_{branch}_{term}"),
            FileName::Archive { branch, term, tag } => write!(f, "manifest_{branch}_{term}_{tag}"),
            FileName::Log { number } => write!(f, "log_{number}"),
        }
    }
}

/// Manifests that a newer term's of the same branch has replaced.
pub fn superseded(files: &[FileName]) -> Vec<FileName> {
    let newer = |branch: &str, term: u64| {
        files.iter().any(
            |other| matches!(other, FileName::Manifest { branch: b, term: t } if b == branch && *t > term),
        )
    };
    let old = files.iter().filter(|file| match file {
        FileName::Manifest { branch, term } => newer(branch, *term),
        _ => false,
    });
    old.cloned().collect()
}

fn branch_name(text: &str) -> Option<String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (plain && !text.is_empty()).then(|| text.to_owned())
}

/// A number as these names have it: digits, no sign, no leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let names = [
            "data_0_main_0",
            "data_18446744073709551615_b-1_7",
            "segment_3_main_0",
            "manifest_main_0",
            "manifest_feature-0000abcd_12",
            "manifest_main_0_snap1",
            "manifest_main_0_a_b",
            "log_0",
            "log_18446744073709551615",
        ];
        for name in names {
            assert_eq!(FileName::parse(name).unwrap().to_string(), name);
        }
        let tag = |name| match FileName::parse(name) {
            Some(FileName::Archive { tag, .. }) => tag,
            other => panic!("{other:?}"),
        };
        assert_eq!(tag("manifest_main_0_a_b"), "a_b");
        for name in ["t.0", "a.b.4294967295"] {
            assert_eq!(Partition::parse(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn other_names_are_none() {
        for name in [
            "",
            "data",
            "data_0",
            "data_0_main",
            "data_x_main_0",
            "data_0_main_00",
            "data_01_main_0",
            "data_-1_main_0",
            "data_0_main_0_x",
            "data_0_a.b_0",
            "data_18446744073709551616_main_0",
            "other_0_main_0",
            "manifest_main",
            "manifest_main_0.tmp",
            "manifest_main_0_x.tmp",
            "manifest_main_0_",
            "manifest__0",
            "CURRENT_TERM_main_0",
            "log_",
            "log_00",
            "log_0_main",
        ] {
            assert_eq!(FileName::parse(name), None, "{name:?}");
        }
        for name in ["", "t", ".0", "t.", "t.01", "t.+1", "t.4294967296", "a/b.1"] {
            assert_eq!(Partition::parse(name), None, "{name:?}");
        }
    }
}
