//! `rde serve --volumes`: an exporter beside what the command serves itself.

use std::sync::Arc;

use rdma_engine::engine::context::Context;
use rdma_engine::needles::{Exporter, ExporterOptions, ReadKey};
use rdma_engine::{Error, Result, Status};

use super::args::Serve;
use super::secret;

/// The exporter that was asked for, if one was.
pub fn open(context: &Arc<Context>, serve: &Serve) -> Result<Option<Exporter>> {
    let Some(dir) = &serve.volumes else {
        let lonely =
            serve.volumes_listen.is_some() || serve.index_dir.is_some() || serve.read_key_file.is_some();
        let message = "--volumes-listen, --index-dir and --read-key-file go with --volumes";
        return if lonely { Err(Error::new(Status::InvalidArgument, message)) } else { Ok(None) };
    };
    let Some(address) = &serve.volumes_listen else {
        let message = "nowhere to serve needles; add --volumes-listen tcp://127.0.0.1:28080 (a volume server's HTTP port \
                       and 20000)";
        return Err(Error::new(Status::InvalidArgument, message));
    };
    let read_key = secret::read(serve.read_key_file.as_deref(), "RDE_READ_KEY")?;
    let options = ExporterOptions {
        index_dir: serve.index_dir.clone(),
        read_key: read_key.map(|key| ReadKey::new(&key)).transpose()?,
        ..ExporterOptions::default()
    };
    Exporter::open(context, address, dir.clone(), &options).map(Some)
}
