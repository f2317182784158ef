//! A real `weed server` on loopback, in a folder of its own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::http;

/// How long a server may take to come up, or to let go of its ports.
const PATIENCE: Duration = Duration::from_secs(90);

/// gRPC listens this much above HTTP.
const GRPC_OFFSET: u16 = 10_000;

pub struct Server {
    weed: PathBuf,
    dir: PathBuf,
    pub master: SocketAddr,
    pub volume: SocketAddr,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // SeaweedFS makes it at a fixed place, and leaves it there.
        let grpc = self.volume.port() + GRPC_OFFSET;
        let _ = std::fs::remove_file(format!("/tmp/seaweedfs-volume-grpc-{grpc}.sock"));
    }
}

/// A port that is free, and whose gRPC port is.
fn free_port() -> u16 {
    (0..100)
        .find_map(|_| {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let port = free.local_addr().ok()?.port();
            let port = if port > u16::MAX - GRPC_OFFSET { port - 2 * GRPC_OFFSET } else { port };
            TcpListener::bind((Ipv4Addr::LOCALHOST, port + GRPC_OFFSET)).ok()?;
            Some(port)
        })
        .expect("two free ports 10,000 apart")
}

fn spawn(weed: &Path, dir: &Path, master: u16, volume: u16) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("weed.log")).unwrap();
    let data = dir.join("data");
    std::fs::create_dir_all(&data).unwrap();
    Command::new(weed)
        .arg("server")
        .arg(format!("-dir={}", data.display()))
        .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.peers=none", "-master.telemetry=false"])
        .args(["-master.volumeSizeLimitMB=64", "-volume.max=16"])
        .arg(format!("-master.port={master}"))
        .arg(format!("-volume.port={volume}"))
        .current_dir(dir)
        .env("HOME", dir)
        .env("TMPDIR", dir)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("RDE_WEED names a program that starts")
}

impl Server {
    pub fn start(weed: &Path, dir: &Path) -> Server {
        let (master, volume) = (free_port(), free_port());
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let child = spawn(weed, dir, master, volume);
        let server = Server {
            weed: weed.into(),
            dir: dir.into(),
            master: address(master),
            volume: address(volume),
            child,
        };
        server.wait();
        server
    }

    /// Where the volumes are.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.weed, &self.dir, self.master.port(), self.volume.port());
        self.wait();
    }

    /// Until it hands out file ids: nothing tells when, so it is asked again and again.
    fn wait(&self) {
        let start = Instant::now();
        while !http::get(self.master, "/dir/assign").is_ok_and(|answer| answer.body.starts_with(b"{\"fid\""))
        {
            let log = || std::fs::read_to_string(self.dir.join("weed.log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "weed does not come up:\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
