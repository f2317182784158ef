//! Secrets come from files or from the environment, never from the command line, which every user of the machine can see.

use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rdma_engine::{Error, Result, Status};

/// Longer ones are no secrets but a wrong path.
const LONGEST: u64 = 64 << 10;

/// What the file at `path` holds but for a line end behind it, or else what the variable `name` does; None: neither.
pub fn read(path: Option<&Path>, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(path) = path else {
        let value = std::env::var_os(name).map(OsStringExt::into_vec);
        return Ok(value.filter(|value| !value.is_empty()));
    };
    let failed = |error| Error::os(&format!("cannot read the secret in {}", path.display()), &error);
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(Error::new(Status::OutOfRange, format!("{} is longer than a secret", path.display())));
    }
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err(Error::new(Status::InvalidArgument, format!("there is no secret in {}", path.display())));
    }
    Ok(Some(bytes))
}
