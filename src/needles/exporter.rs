//! The exporter: a call names a needle, its bytes go from the disk into registered memory and from there out.

use std::path::PathBuf;
use std::sync::Arc;

use super::directory::Directory;
use super::{METHOD, needle, read};
use crate::engine::context::Context;
use crate::engine::draft::Draft;
use crate::rpc::{Answer, Call, Header, Methods, Part, Server, ServerOptions};
use crate::status::{Error, Result, Status};
use crate::volume::{FileId, Location, Read, ReadOptions, Volume};

/// Longest file id, in bytes; also those that are whole paths of URLs.
const FILE_ID: usize = 4096;

/// How often a needle that is overwritten by a longer one while it is read is tried again.
const ATTEMPTS: u8 = 3;

/// Options of an exporter.
#[derive(Clone, Debug)]
pub struct ExporterOptions {
    /// Where `.idx` and `.sdx` are; None is beside the `.dat` files.
    pub index_dir: Option<PathBuf>,
    /// Threads that read the disk.
    pub threads: usize,
}

impl Default for ExporterOptions {
    fn default() -> ExporterOptions {
        ExporterOptions { index_dir: None, threads: 4 }
    }
}

/// Serves the needles of folders' volumes until it is closed or dropped. It never writes there.
pub struct Exporter {
    server: Server,
    directory: Arc<Directory>,
}

impl Exporter {
    /// Binds `address` and serves. Whoever reaches the address may read what he has a file id with its cookie for: tokens
    /// are not looked at. Errors: those of a listener; `Io` when there is no such folder.
    pub fn open(
        context: &Arc<Context>,
        address: &str,
        dir: PathBuf,
        options: &ExporterOptions,
    ) -> Result<Exporter> {
        let directory = Arc::new(Directory::new(dir, options.index_dir.clone())?);
        let needles = Needles { context: context.clone(), directory: directory.clone() };
        let methods = Methods::new().on_blocking(METHOD, move |call| needles.answer(call));
        let server_options = ServerOptions { blocking_threads: options.threads, ..ServerOptions::default() };
        Ok(Exporter { server: Server::open(context, address, methods, &server_options)?, directory })
    }

    /// Serves the volumes of another folder, too; of a volume that is in several, the first folder's. Errors:
    /// `LimitReached`; `Io` when there is no such folder.
    pub fn add(&self, dir: PathBuf, index_dir: Option<PathBuf>) -> Result<()> {
        self.directory.add(dir, index_dir)
    }

    /// The address it is bound to, with the real port.
    pub fn address(&self) -> &str {
        self.server.address()
    }

    /// The volumes that were asked for and are open.
    pub fn volumes(&self) -> Vec<Arc<Volume>> {
        self.directory.volumes()
    }

    /// Ends it: reads that run end first. Harmless when repeated.
    pub fn close(&self) {
        self.server.close();
    }
}

struct Needles {
    context: Arc<Context>,
    directory: Arc<Directory>,
}

impl Needles {
    fn answer(&self, call: &Call) -> Answer {
        self.read(call).unwrap_or_else(|error| {
            tracing::debug!(%error, "a needle was not served");
            // A peer can try again; that this side is short of memory is not its fault.
            let busy = error.status == Status::OutOfMemory;
            Answer::status(if busy { Status::Busy } else { error.status } as i32)
        })
    }

    fn read(&self, call: &Call) -> Result<Answer> {
        let header = call.header();
        if header.flags & !read::ALL != 0 || call.len() > FILE_ID {
            return Err(Error::new(Status::InvalidArgument, "an unknown flag, or too long a file id"));
        }
        let text = String::from_utf8(call.to_vec()).map_err(|_| Error::from(Status::InvalidArgument))?;
        let id = FileId::from_path(&text)?;
        let options = ReadOptions {
            read_deleted: header.flags & read::LIVE == 0,
            stored: header.flags & read::STORED != 0,
            now_ns: None,
        };
        let volume = self.directory.volume(id.volume)?;
        let answer = self.needle(&volume, id, &header, &options);
        if answer.as_ref().is_err_and(|error| error.status == Status::NotFound) && volume.info().is_none() {
            self.directory.forget(&volume);
        }
        answer
    }

    /// One read of the disk, straight into what is sent.
    fn needle(&self, volume: &Volume, id: FileId, header: &Header, options: &ReadOptions) -> Result<Answer> {
        for attempt in 0.. {
            let mut draft = self.draft(&volume.locate(id, options)?, header)?;
            let read = match header.flags & read::RANGE {
                0 => volume.read(id, draft.bytes(), options),
                _ => {
                    let room = usize::try_from(header.len).unwrap_or(usize::MAX).min(draft.bytes().len());
                    volume.read_range(id, header.offset, &mut draft.bytes()[..room], options)
                }
            };
            match read {
                Ok(read) => return Ok(answer(draft, &read)),
                Err(error) if error.status == Status::Truncated && attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
        Err(Status::Busy.into())
    }

    /// Room for a needle, or for the part that is asked for.
    fn draft(&self, location: &Location, header: &Header) -> Result<Draft> {
        // The data is shorter than the record.
        let all = u64::from(location.size());
        let room = if header.flags & read::RANGE == 0 { all } else { all.min(header.len) };
        if room > self.context.options().max_message {
            return Err(Error::new(Status::Ineligible, "longer than a message may be: read it in parts"));
        }
        Draft::new(&self.context, room)
    }
}

fn answer(draft: Draft, read: &Read) -> Answer {
    let deleted = if read.needle.deleted { needle::DELETED } else { 0 };
    let header = Header {
        offset: read.needle.data_length.into(),
        len: read.needle.last_modified.unwrap_or(0),
        flags: u32::from(read.needle.flags.0) | deleted,
        reserved: 0,
    };
    let parts = match read.length {
        0 => vec![],
        length => vec![Part::Draft { draft, length }],
    };
    Answer { status: 0, header, parts }
}
