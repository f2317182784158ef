//! `rde get`: fetches a file by one-sided gets and proves it by its SHA-256.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rdma_engine::engine::buffer::Buffer;
use rdma_engine::engine::request::{Op, Request};
use rdma_engine::engine::session::Session;
use rdma_engine::{Error, Result, Status};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Run;
use super::args::Get;
use super::catalogue::{Grant, Message};
use super::link::{self, Link, ended, lost};
use super::list;
use super::partial::Partial;
use super::serve::hex;
use super::units::Size;

/// Gets in flight are at most this many bytes.
const IN_FLIGHT: u64 = 256 << 20;

/// `tcp://host:port/name` → its address and its name.
fn split(source: &str) -> Result<(&str, &str)> {
    source
        .rsplit_once('/')
        .filter(|(address, name)| !name.is_empty() && !address.ends_with('/') && address.contains("://"))
        .ok_or_else(|| {
            let message =
                format!("`{source}` names no file; write tcp://host:port/NAME or unix:///path/NAME");
            Error::new(Status::InvalidArgument, message)
        })
}

/// Fetches one file.
pub fn run(run: &Run, get: &Get) -> Result<()> {
    let (address, name) = split(&get.source)?;
    let output = match &get.output {
        Some(path) if path.is_dir() => path.join(name),
        Some(path) => path.clone(),
        None => PathBuf::from(name),
    };
    let chunk = get.chunk.map_or(1 << 20, |size| size.0).clamp(1, IN_FLIGHT);
    let window = u64::from(get.window.unwrap_or(16)).clamp(1, IN_FLIGHT / chunk);
    let mut link = Link::open(&run.engine, chunk * window, run.stop.clone())?;
    let session = link.connect(address)?;
    let grant = open(&mut link, &session, name)?;
    let mut partial = Partial::create(&output)?;
    let bar = progress(run, grant.size);
    let start = Instant::now();
    let mut fetch =
        Fetch { chunk, window, grant: &grant, partial: &mut partial, hash: Sha256::new(), bar: &bar };
    let way = fetch.all(&mut link, &session)?;
    let sum: [u8; 32] = fetch.hash.finalize().into();
    let took = start.elapsed();
    bar.finish_and_clear();
    if grant.sha256.is_some_and(|promised| promised != sum) {
        let message = format!(
            "{name}: the bytes that arrived have another SHA-256 than the server's; nothing was kept"
        );
        return Err(Error::new(Status::Io, message));
    }
    partial.finish(&output)?;
    let transport = session.info().transport;
    link.disconnect(&session);
    link.close()?;
    report(run, &output, &grant, sum, took, way, &transport)
}

fn open(link: &mut Link, session: &Arc<Session>, name: &str) -> Result<Grant> {
    match link.ask(session, &Message::Open(name.to_owned()), list::ANSWER) {
        Ok(Message::Opened(grant)) => Ok(grant),
        Ok(_) => Err(Error::new(Status::Protocol, "the peer did not answer with a key")),
        Err(error) if error.status == Status::NotFound => {
            let names: Vec<String> =
                list::fetch(link, session)?.into_iter().map(|entry| entry.name).collect();
            let message = format!("`{name}` is not exported there; there are: {}", names.join(", "));
            Err(Error::new(Status::NotFound, message))
        }
        Err(error) => Err(error),
    }
}

fn progress(run: &Run, size: u64) -> ProgressBar {
    // indicatif draws nothing where there is no terminal.
    let target = if run.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(size), target);
    let template = "{bar:40} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

struct Fetch<'a> {
    chunk: u64,
    window: u64,
    grant: &'a Grant,
    partial: &'a mut Partial,
    hash: Sha256,
    bar: &'a ProgressBar,
}

impl Fetch<'_> {
    /// Keeps `window` gets in flight; answers may come in any order, the file is written in its own. The way they went.
    fn all(&mut self, link: &mut Link, session: &Session) -> Result<&'static str> {
        if self.grant.size == 0 {
            return Ok("none");
        }
        let region = link.import(session, &self.grant.key)?;
        let (length, way) = link::region(region)?;
        if length < self.grant.size {
            return Err(Error::new(Status::Protocol, "the peer's key covers less than the file it promised"));
        }
        let chunks = self.grant.size.div_ceil(self.chunk);
        let slots = self.window.min(chunks);
        let buffer = link.context.alloc(self.chunk * slots, 0)?;
        let outcome = self.chunks(link, session, region, &buffer, chunks, slots);
        link::release_region(region);
        link.release(&buffer);
        outcome.map(|()| way)
    }

    fn chunks(
        &mut self,
        link: &mut Link,
        session: &Session,
        region: u64,
        buffer: &Arc<Buffer>,
        chunks: u64,
        slots: u64,
    ) -> Result<()> {
        let mut piece = vec![0; usize::try_from(self.chunk).map_err(|_| Status::OutOfMemory)?];
        let mut arrived = vec![false; usize::try_from(slots).map_err(|_| Status::OutOfMemory)?];
        let (mut asked, mut written) = (0, 0);
        while written < chunks {
            while asked < chunks && asked < written + slots {
                self.ask(link, session, region, buffer.id(), asked, slots)?;
                asked += 1;
            }
            let Some(completion) = link.next(Duration::from_secs(1))? else { continue };
            lost(&completion)?;
            if completion.op != Op::Get as u32 {
                continue;
            }
            arrived[(ended(&completion)?.user_data % slots) as usize] = true;
            while written < asked && arrived[(written % slots) as usize] {
                arrived[(written % slots) as usize] = false;
                let bytes = &mut piece[..self.length(written) as usize];
                link::read(buffer, (written % slots) * self.chunk, bytes)?;
                self.hash.update(&*bytes);
                self.partial.write(bytes)?;
                self.bar.inc(bytes.len() as u64);
                written += 1;
            }
        }
        Ok(())
    }

    fn length(&self, index: u64) -> u64 {
        self.chunk.min(self.grant.size - index * self.chunk)
    }

    fn ask(
        &self,
        link: &mut Link,
        session: &Session,
        region: u64,
        buffer: u64,
        index: u64,
        slots: u64,
    ) -> Result<()> {
        link.submit(&Request {
            user_data: index,
            session: session.id(),
            op: Op::Get as u16,
            buffer,
            buffer_offset: (index % slots) * self.chunk,
            length: self.length(index),
            region,
            region_offset: index * self.chunk,
            ..Request::default()
        })
    }
}

fn report(
    run: &Run,
    output: &Path,
    grant: &Grant,
    sum: [u8; 32],
    took: Duration,
    way: &str,
    transport: &str,
) -> Result<()> {
    let seconds = took.as_secs_f64().max(1e-9);
    let rate = grant.size as f64 / seconds / 1e9;
    let proved = grant.sha256.is_some();
    let value = json!({
        "output": output, "bytes": grant.size, "seconds": seconds, "gb_per_second": rate, "sha256": hex(sum),
        "verified": proved, "way": way, "transport": transport,
    });
    let text = format!(
        "{}: {} in {seconds:.3} s, {rate:.2} GB/s, {way} over {transport}, SHA-256 {}{}",
        output.display(),
        Size(grant.size),
        hex(sum),
        if proved { " as the server says" } else { " (the server promised none)" }
    );
    run.print(&value, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        assert_eq!(split("tcp://a:1/x.bin").unwrap(), ("tcp://a:1", "x.bin"));
        assert_eq!(split("unix:///tmp/rde.sock/x").unwrap(), ("unix:///tmp/rde.sock", "x"));
        for source in ["tcp://a:1", "tcp://a:1/", "x", "", "/x", "unix:///x"] {
            assert!(split(source).is_err(), "{source}");
        }
    }
}
