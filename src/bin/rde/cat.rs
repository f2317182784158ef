//! `rde cat`: one SeaweedFS needle from an exporter, to a file or to the standard output.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rdma_engine::needles::{NeedleInfo, NeedleRead, PORT_OFFSET, Reader, exporter_address, needle, read};
use rdma_engine::rpc::{Client, ClientOptions};
use rdma_engine::{Error, Result, Status};
use serde_json::json;

use super::Run;
use super::args::Cat;
use super::link::Link;
use super::partial::Partial;
use super::secret;
use super::units::{Size, nanoseconds};

/// For each call of the exporter.
const ANSWER: Duration = Duration::from_secs(30);
/// Memory for the parts of a long needle, in bytes.
const PARTS: u64 = 64 << 20;

/// Reads one needle.
pub fn run(run: &Run, cat: &Cat) -> Result<()> {
    if run.json && cat.output.is_none() {
        let message = "with --json the data go to a file: add --output FILE";
        return Err(Error::new(Status::InvalidArgument, message));
    }
    let token = secret::read(cat.token_file.as_deref(), "RDE_TOKEN")?;
    let token = match (&cat.token, &token) {
        (Some(token), _) => Cow::Borrowed(token.as_str()),
        (None, token) => String::from_utf8_lossy(token.as_deref().unwrap_or_default()),
    };
    let part = match (cat.offset, cat.length) {
        (None, None) => None,
        (offset, length) => {
            Some((offset.map_or(0, |size| size.0), length.map_or(u64::from(u32::MAX), |size| size.0)))
        }
    };
    let flag = |on: bool, flag| if on { flag } else { 0 };
    let flags = flag(cat.live, read::LIVE) | flag(cat.stored, read::STORED);
    let wanted = NeedleRead { file_id: &cat.file_id, token: &token, flags, part };
    let address = match cat.server.contains("://") {
        true => cat.server.clone(),
        false => exporter_address(&cat.server, cat.port_offset.unwrap_or(PORT_OFFSET))?,
    };
    let link = Link::open(&run.engine, PARTS, run.stop.clone())?;
    let client = Client::open(&link.context, &ClientOptions::default())?;
    let start = Instant::now();
    let done = match &cat.output {
        Some(path) => to_file(run, &client, &address, &wanted, path),
        None => to_standard_output(run, &client, &address, &wanted),
    };
    let took = start.elapsed();
    client.close();
    link.close()?;
    let (info, length) = done?;
    match &cat.output {
        Some(path) => report(run, path, &info, length, took),
        None => Ok(()),
    }
}

fn to_file(
    run: &Run,
    client: &Client,
    address: &str,
    wanted: &NeedleRead<'_>,
    path: &Path,
) -> Result<(NeedleInfo, u64)> {
    let mut partial = Partial::create(path)?;
    let done = fetch(run, client, address, wanted, &mut |bytes| partial.write(bytes))?;
    partial.finish(path)?;
    Ok(done)
}

fn to_standard_output(
    run: &Run,
    client: &Client,
    address: &str,
    wanted: &NeedleRead<'_>,
) -> Result<(NeedleInfo, u64)> {
    let failed = |error| Error::os("cannot write to the standard output", &error);
    let mut out = std::io::stdout().lock();
    let done = fetch(run, client, address, wanted, &mut |bytes| out.write_all(bytes).map_err(failed))?;
    out.flush().map_err(failed)?;
    Ok(done)
}

fn fetch(
    run: &Run,
    client: &Client,
    address: &str,
    wanted: &NeedleRead<'_>,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<(NeedleInfo, u64)> {
    let mut length = 0;
    let info = Reader::new(client, address, ANSWER).read(wanted, &mut |bytes| {
        run.stop.check()?;
        length += bytes.len() as u64;
        sink(bytes)
    });
    match info {
        Ok(info) => Ok((info, length)),
        Err(error) => {
            Err(Error { message: format!("{}: {}", wanted.file_id, error.message).into(), ..error })
        }
    }
}

fn report(run: &Run, path: &Path, info: &NeedleInfo, length: u64, took: Duration) -> Result<()> {
    let is = |flag: u32| info.flags & flag != 0;
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let value = json!({
        "output": path, "bytes": length, "data_length": info.data_length, "last_modified": info.last_modified,
        "compressed": is(1), "chunk_manifest": is(1 << 7), "deleted": is(needle::DELETED), "ns": nanos,
    });
    let what = if is(1) { ", gzip" } else { "" };
    let text = format!("{}: {}{what} in {}", path.display(), Size(length), nanoseconds(nanos));
    run.print(&value, &text)
}
