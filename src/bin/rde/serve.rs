//! `rde serve`: exports files and scratch memory, and answers the catalogue.
//!
//! Files are read once into registered memory; what peers get is what was there at the start, under its SHA-256.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rdma_engine::engine::buffer::Buffer;
use rdma_engine::engine::call::{Call, Piece, Reply};
use rdma_engine::engine::handle;
use rdma_engine::engine::key::Rights;
use rdma_engine::engine::listener::Listener;
use rdma_engine::engine::pool::EXPORTABLE;
use rdma_engine::engine::request::{Completion, Op};
use rdma_engine::limits::KEY_BYTES;
use rdma_engine::needles::Exporter;
use rdma_engine::{Error, Result, Status};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Run;
use super::args::Serve;
use super::catalogue::{Entry, Grant, Message, PAGE, name_is_valid};
use super::link::{self, Link, ended};
use super::units::Size;
use super::volumes;

/// Name of the read-write memory in the catalogue.
pub const SCRATCH: &str = "scratch";
/// Files are read in pieces of this many bytes.
const PIECE: usize = 1 << 20;

struct Export {
    entry: Entry,
    grant: Grant,
    /// Held as long as the key is given out; nothing of it when the file is empty.
    _buffer: Option<Arc<Buffer>>,
}

struct Server {
    link: Link,
    exporter: Option<Exporter>,
    exports: Vec<Export>,
    sessions: u64,
    messages: u64,
    calls: u64,
}

/// Serves until SIGINT or SIGTERM, which is success.
pub fn run(run: &Run, serve: &Serve) -> Result<()> {
    let addresses = serve.listen.clone().unwrap_or_default();
    if addresses.is_empty() && serve.volumes.is_none() {
        let message = "nowhere to listen; add --listen tcp://127.0.0.1:0 or --listen unix:///tmp/rde.sock";
        return Err(Error::new(Status::InvalidArgument, message));
    }
    let files = serve.file.clone().unwrap_or_default();
    // Without a listener nobody could reach them.
    let scratch = if addresses.is_empty() { 0 } else { serve.scratch.map_or(64 << 20, |size| size.0) };
    let mut memory = scratch;
    for path in &files {
        let length = std::fs::metadata(path).map_err(|error| cannot_read(path, &error))?.len();
        memory = memory.saturating_add(length);
    }
    let link = Link::open_called(&run.engine, memory, run.stop.clone())?;
    let exporter = volumes::open(&link.context, serve)?;
    let mut server = Server { link, exporter, exports: Vec::new(), sessions: 0, messages: 0, calls: 0 };
    for path in &files {
        server.export_file(run, path)?;
    }
    if scratch > 0 {
        server.export_scratch(scratch)?;
    }
    let mut listeners = Vec::new();
    for address in &addresses {
        listeners.push(Listener::open(server.link.worker(), address, 0)?);
    }
    server.announce(run, &listeners)?;
    let outcome = server.answer();
    for listener in &listeners {
        listener.close()?;
    }
    let (sessions, messages, mut calls) = (server.sessions, server.messages, server.calls);
    if let Some(exporter) = server.exporter.take() {
        exporter.close();
        calls += exporter.served();
    }
    server.link.close()?;
    outcome?;
    let text = format!("served {sessions} sessions, {messages} messages and {calls} calls");
    run.print(&json!({"ended": {"sessions": sessions, "messages": messages, "calls": calls}}), &text)
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Error {
    Error::os(&format!("cannot read {}", path.display()), error)
}

impl Server {
    fn export_file(&mut self, run: &Run, path: &Path) -> Result<()> {
        let mut file = File::open(path).map_err(|error| cannot_read(path, &error))?;
        let metadata = file.metadata().map_err(|error| cannot_read(path, &error))?;
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| name_is_valid(name));
        let Some(name) = name else {
            let message =
                format!("{}: only names of UTF-8 without control characters are served", path.display());
            return Err(Error::new(Status::InvalidArgument, message));
        };
        if !metadata.is_file() {
            return Err(Error::new(Status::InvalidArgument, format!("{} is not a file", path.display())));
        }
        let size = metadata.len();
        let mut hash = Sha256::new();
        let buffer = if size == 0 { None } else { Some(self.link.context.alloc(size, EXPORTABLE)?) };
        if let Some(buffer) = &buffer {
            fill(run, &mut file, path, buffer, size, &mut hash)?;
        }
        self.export(name, size, buffer, Rights::READ.bits(), Some(hash.finalize().into()))
    }

    fn export_scratch(&mut self, size: u64) -> Result<()> {
        let buffer = self.link.context.alloc(size, EXPORTABLE)?;
        self.export(SCRATCH, size, Some(buffer), Rights::READ.bits() | Rights::WRITE.bits(), None)
    }

    fn export(
        &mut self,
        name: &str,
        size: u64,
        buffer: Option<Arc<Buffer>>,
        rights: u32,
        sha256: Option<[u8; 32]>,
    ) -> Result<()> {
        if self.find(name).is_some() {
            return Err(Error::new(Status::AlreadyExists, format!("two exports are named `{name}`")));
        }
        let key = match &buffer {
            Some(buffer) => self.link.context.export(buffer, 0, size, rights)?,
            None => [0; KEY_BYTES],
        };
        let entry = Entry { size, writable: rights & Rights::WRITE.bits() != 0, name: name.to_owned() };
        self.exports.push(Export { entry, grant: Grant { size, key, sha256 }, _buffer: buffer });
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Export> {
        self.exports.iter().find(|export| export.entry.name == name)
    }

    fn announce(&self, run: &Run, listeners: &[Arc<Listener>]) -> Result<()> {
        let addresses: Vec<&str> = listeners.iter().map(|listener| listener.address()).collect();
        let exports: Vec<_> = self
            .exports
            .iter()
            .map(|Export { entry, grant, .. }| {
                let sha256 = grant.sha256.map(hex);
                json!({"name": entry.name, "size": entry.size, "writable": entry.writable, "sha256": sha256})
            })
            .collect();
        let mut text = String::new();
        for Export { entry, grant, .. } in &self.exports {
            let sum = grant.sha256.map_or_else(|| "read-write".to_owned(), hex);
            text += &format!("exports {} ({}) {sum}\n", entry.name, Size(entry.size));
        }
        for address in &addresses {
            text += &format!("listens on {address}\n");
        }
        let needles = self.exporter.as_ref().map(Exporter::address);
        if let Some(address) = needles {
            text += &format!("serves needles on {address}\n");
        }
        run.print(&json!({"listening": addresses, "exports": exports, "needles": needles}), &text)
    }

    /// Answers messages until a signal comes.
    fn answer(&mut self) -> Result<()> {
        loop {
            match self.link.next(Duration::from_secs(1)) {
                Ok(Some(completion)) => self.event(&completion)?,
                Ok(None) => {}
                Err(error) if error.status == Status::Canceled => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn event(&mut self, completion: &Completion) -> Result<()> {
        let op = completion.op;
        if op == Op::SessionAccepted as u32 {
            self.sessions += 1;
            tracing::info!(session = completion.value, "a peer came");
        } else if op == Op::SessionClosed as u32 {
            tracing::info!(session = completion.value, status = completion.status, "a peer went");
        } else if op == Op::Message as u32 {
            self.messages += 1;
            self.message(completion);
        } else if op == Op::CallReceived as u32 {
            self.calls += 1;
            echo(completion.value);
        } else if let Err(error) = ended(completion) {
            // An answer did not arrive; its peer hears of it by the session's end or its own timeout.
            tracing::warn!(%error, op, "an answer was lost");
        }
        Ok(())
    }

    /// A peer's mistake ends its session, not the server.
    fn message(&mut self, completion: &Completion) {
        let arrived = match self.link.arrived(completion) {
            Ok(arrived) => arrived,
            Err(error) => return tracing::warn!(%error, "a message was dropped"),
        };
        match Message::decode(&arrived.bytes) {
            Ok((id, message)) => {
                if let Some(answer) = self.reply(message)
                    && let Err(error) = self.link.try_send(arrived.session, &answer.encode(id))
                {
                    tracing::warn!(%error, session = arrived.session, "an answer was dropped");
                }
            }
            Err(error) => {
                tracing::warn!(%error, session = arrived.session, "closing a session");
                if let Some(session) = handle::SESSIONS.get(arrived.session) {
                    let _ = session.arc().close(0);
                }
            }
        }
    }

    fn reply(&self, message: Message) -> Option<Message> {
        match message {
            Message::Echo(bytes) => Some(Message::EchoReply(bytes)),
            Message::List(first) => {
                let page =
                    self.exports.iter().skip(first as usize).take(PAGE).map(|export| export.entry.clone());
                let total = u32::try_from(self.exports.len()).unwrap_or(u32::MAX);
                Some(Message::Listing(total, page.collect()))
            }
            Message::Open(name) => Some(match self.find(&name) {
                Some(export) => Message::Opened(export.grant.clone()),
                None => Message::Refused(Status::NotFound),
            }),
            // Answers that nobody asked for are as good as silence.
            _ => None,
        }
    }
}

/// Method that answers what it is called with, for `rde perf rpc`.
pub const ECHO_METHOD: u32 = 1;

/// Answers a call with what came with it, from where it is.
fn echo(call: u64) {
    // Else its session has ended.
    let Ok(call) = Call::take(call) else { return };
    if call.method() != ECHO_METHOD {
        return call.refuse(Status::UnknownMethod, Duration::ZERO);
    }
    let bytes = call.bytes().map(<[u8]>::to_vec);
    let piece = match &bytes {
        Some(bytes) => Piece::bytes(bytes),
        None => Piece::buffer(call.buffer(), 0, call.len()),
    };
    if let Err((status, call)) = call.reply(&Reply { pieces: &[piece], ..Reply::default() }) {
        call.refuse(status, Duration::ZERO);
    }
}

/// Reads the file's `size` bytes into the buffer; a file that changes its length meanwhile is refused.
fn fill(
    run: &Run,
    file: &mut File,
    path: &Path,
    buffer: &Arc<Buffer>,
    size: u64,
    hash: &mut Sha256,
) -> Result<()> {
    let changed =
        || Error::new(Status::Io, format!("{} changes while it is read; copy it first", path.display()));
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    loop {
        run.stop.check()?;
        let count = match file.read(&mut piece) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(cannot_read(path, &error)),
        };
        if count == 0 {
            return if offset == size { Ok(()) } else { Err(changed()) };
        }
        if count as u64 > size - offset {
            return Err(changed());
        }
        hash.update(&piece[..count]);
        link::write(buffer, offset, &piece[..count])?;
        offset += count as u64;
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
