//! The exporter: a server of calls that name needles.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::directory::Directory;
use super::serve::Needles;
use super::token::ReadKey;
use super::{METHOD, METHOD_BATCH, METHOD_MEMORY};
use crate::engine::context::Context;
use crate::io::readahead::Readahead;
use crate::rpc::{Lent, Methods, Server, ServerOptions};
use crate::status::Result;
use crate::volume::Volume;

/// Options of an exporter.
#[derive(Clone, Debug)]
pub struct ExporterOptions {
    /// Where `.idx` and `.sdx` are; None is beside the `.dat` files.
    pub index_dir: Option<PathBuf>,
    /// Threads for reads that wait for the disk.
    pub threads: usize,
    /// SeaweedFS's read key: each read needs a token that was signed with it and names its file id. None: the cookie is all
    /// that a read needs.
    pub read_key: Option<ReadKey>,
    /// Reads what is not in the page cache by io_uring, many at a time, where the kernel has it; else those threads do.
    pub read_ahead: bool,
}

impl Default for ExporterOptions {
    fn default() -> ExporterOptions {
        ExporterOptions { index_dir: None, threads: 4, read_key: None, read_ahead: true }
    }
}

/// Serves the needles of folders' volumes until it is closed or dropped. It never writes there.
pub struct Exporter {
    // It goes first: what it runs uses the server.
    ahead: Mutex<Option<Readahead>>,
    server: Server,
    directory: Arc<Directory>,
}

impl Exporter {
    /// Binds `address` and serves. Whoever reaches the address may read what he has a file id with its cookie for, unless
    /// there is a `read_key`. Errors: those of a listener; `Io` when there is no such folder.
    pub fn open(
        context: &Arc<Context>,
        address: &str,
        dir: PathBuf,
        options: &ExporterOptions,
    ) -> Result<Exporter> {
        let directory = Arc::new(Directory::new(dir, options.index_dir.clone())?);
        let lent = Arc::new(Lent::default());
        let needles = Arc::new(Needles {
            context: context.clone(),
            directory: directory.clone(),
            key: options.read_key.clone(),
            lent: lent.clone(),
        });
        // Without io_uring the threads do it all.
        let ahead = options.read_ahead.then(Readahead::new).and_then(Result::ok);
        let (ones, batches) = (needles.clone(), needles.clone());
        let mut methods = Methods::new()
            .on_either(METHOD, move |call, wait| ones.one(call, wait))
            .on_either(METHOD_BATCH, move |call, wait| batches.many(call, wait))
            .lending(METHOD_MEMORY, &lent);
        for method in [METHOD, METHOD_BATCH] {
            let Some(ahead) = &ahead else { break };
            let (needles, queue) = (needles.clone(), ahead.queue().clone());
            methods = methods.preparing(method, move |call, resume| needles.prepare(&queue, call, resume));
        }
        let server_options = ServerOptions { blocking_threads: options.threads, ..ServerOptions::default() };
        let server = Server::open(context, address, methods, &server_options)?;
        Ok(Exporter { ahead: Mutex::new(ahead), server, directory })
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

    /// Calls that were answered, or are being.
    pub fn served(&self) -> u64 {
        self.server.worker().stats().counters.calls_received
    }

    /// Calls for which bytes were read ahead; 0 where io_uring is missing.
    pub fn read_ahead(&self) -> u64 {
        self.ahead.lock().as_ref().map_or(0, |ahead| ahead.queue().taken())
    }

    /// The volumes that were asked for and are open.
    pub fn volumes(&self) -> Vec<Arc<Volume>> {
        self.directory.volumes()
    }

    /// Ends it: reads that run end first. Harmless when repeated.
    pub fn close(&self) {
        drop(self.ahead.lock().take());
        self.server.close();
    }
}
