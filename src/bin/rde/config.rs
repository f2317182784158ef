//! The configuration file: what flags and environment left open. TOML, or JSON when its name ends in `.json`.
//!
//! ```toml
//! [engine]
//! transports = ["tcp"]
//! keepalive = "1s"
//! [serve]
//! listen = ["tcp://0.0.0.0:7471"]
//! scratch = "128MiB"
//! ```

use std::io::Read;
use std::path::Path;

use rdma_engine::{Error, Result, Status};
use serde::Deserialize;

use super::args::{Cat, Cli, Command, Engine, Get, Perf, Ping, Serve};

/// A configuration file is small; a wrong path (`/dev/zero`) must not fill memory.
const LONGEST: u64 = 1 << 20;

/// The whole file; each section is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    engine: Engine,
    serve: Serve,
    ping: Ping,
    perf: Perf,
    get: Get,
    cat: Cat,
    kv: super::kv::args::Common,
}

/// Reads the file at `path`.
pub fn read(path: &Path) -> Result<File> {
    let what = format!("cannot read the configuration {}", path.display());
    let file = std::fs::File::open(path).map_err(|error| Error::os(&what, &error))?;
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| Error::os(&what, &error))?;
    if text.len() as u64 > LONGEST {
        return Err(Error::new(Status::OutOfRange, format!("{what}: it is longer than 1 MiB")));
    }
    let json = path.extension().is_some_and(|extension| extension == "json");
    parse(&text, json)
        .map_err(|error| Error::new(Status::InvalidArgument, format!("{}: {error}", path.display())))
}

fn parse(text: &str, json: bool) -> std::result::Result<File, String> {
    if json {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        // The parser draws the line below its message; an error of ours is one line.
        toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            format!("line {line}: {}", error.message())
        })
    }
}

macro_rules! fill {
    ($into:expr, $from:expr, $($field:ident),+) => {{
        $( if $into.$field.is_none() { $into.$field = $from.$field; } )+
    }};
}

/// Fills what the command line and the environment left open.
pub fn merge(cli: &mut Cli, file: File) {
    fill!(
        cli.engine,
        file.engine,
        log,
        name,
        transports,
        devices,
        memory_limit,
        keepalive,
        connect_timeout,
        progress,
        secret_file
    );
    match &mut cli.command {
        Command::Serve(serve) => {
            fill!(
                serve,
                file.serve,
                listen,
                file,
                scratch,
                volumes,
                volumes_listen,
                index_dir,
                read_key_file
            );
        }
        Command::Ping(ping) => fill!(ping, file.ping, count, interval, size),
        Command::Perf(perf) => {
            // A count given by hand also replaces the file's duration, and the other way round.
            if perf.iterations.is_none() && perf.duration.is_none() {
                fill!(perf, file.perf, duration, iterations);
            }
            fill!(perf, file.perf, sizes, depth, warm_up);
        }
        Command::Get(get) => fill!(get, file.get, chunk, window),
        Command::Cat(cat) => fill!(cat, file.cat, port_offset),
        Command::Kv(kv) => fill!(kv.common, file.kv, options),
        Command::Info | Command::List(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    const TOML: &str =
        "[engine]\nname = \"file\"\nkeepalive = \"1s\"\n[perf]\ndepth = 7\nsizes = [8, \"4KiB\"]\n";

    #[test]
    fn flags_beat_the_file() {
        let mut cli = Cli::parse_from(["rde", "--name", "flag", "perf", "get", "tcp://x:1"]);
        merge(&mut cli, parse(TOML, false).unwrap());
        assert_eq!(cli.engine.name.as_deref(), Some("flag"));
        assert_eq!(cli.engine.keepalive.unwrap().0.as_secs(), 1);
        let Command::Perf(perf) = cli.command else { panic!("perf was asked for") };
        assert_eq!(perf.depth, Some(7));
        assert_eq!(perf.sizes.unwrap().iter().map(|size| size.0).collect::<Vec<_>>(), [8, 4_096]);
    }

    #[test]
    fn a_count_replaces_the_files_duration() {
        let mut cli = Cli::parse_from(["rde", "perf", "get", "tcp://x:1", "--iterations", "5"]);
        merge(&mut cli, parse("[perf]\nduration = \"9s\"\n", false).unwrap());
        let Command::Perf(perf) = cli.command else { panic!("perf was asked for") };
        assert_eq!((perf.iterations, perf.duration), (Some(5), None));
    }

    #[test]
    fn json_and_mistakes() {
        assert_eq!(parse(r#"{"ping": {"count": 3}}"#, true).unwrap().ping.count, Some(3));
        assert!(parse("[engine]\nkeepalive = \"soon\"\n", false).unwrap_err().starts_with("line 2: "));
        assert!(parse("[engin]\n", false).unwrap_err().contains("engin"));
        assert!(parse("{", true).is_err());
    }
}
