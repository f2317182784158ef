//! An exporter of a folder and a client of it, each in a context of its own.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rdma_engine::engine::context::Context;
use rdma_engine::engine::options::ContextOptions;
use rdma_engine::needles::{Exporter, ExporterOptions};
use rdma_engine::rpc::{Client, ClientOptions, Header, Outgoing, Piece, Replied};
use rustix::fs::{Advice, fadvise};

/// Of one call.
pub const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Exported {
    pub exporter: Exporter,
    pub client: Client,
    /// The exporter's and the client's.
    pub contexts: [Arc<Context>; 2],
}

impl Exported {
    pub fn new(address: &str, options: &ContextOptions, dir: &Path, exporting: &ExporterOptions) -> Exported {
        let contexts = [Context::open(options).unwrap(), Context::open(options).unwrap()];
        let exporter = Exporter::open(&contexts[0], address, dir.to_owned(), exporting).unwrap();
        let client = Client::open(&contexts[1], &ClientOptions::default()).unwrap();
        Exported { exporter, client, contexts }
    }

    pub fn try_call(&self, method: u32, payload: &[u8], header: Header) -> rdma_engine::Result<Replied> {
        let pieces = &[Piece::bytes(payload)];
        let call = Outgoing { method, header, pieces, timeout: TIMEOUT, reply: None };
        self.client.call(self.exporter.address(), &call)
    }

    pub fn call(&self, method: u32, payload: &[u8], header: Header) -> Replied {
        self.try_call(method, payload, header).unwrap()
    }

    pub fn close(self) {
        self.client.close();
        self.exporter.close();
        drop((self.client, self.exporter));
        for context in self.contexts {
            context.close().unwrap();
        }
    }
}

/// Takes a file out of the page cache, if its file system lets it.
pub fn evict(file: &File) {
    file.sync_all().unwrap();
    fadvise(file, 0, None, Advice::DontNeed).unwrap();
}
