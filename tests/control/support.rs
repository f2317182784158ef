//! What the tests share: an inbox one can wait on, a key service, and a peer made of a bare socket.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdma_engine::engine::control::{
    Control, ControlConfig, Fabric, Hello, HostId, KeyAsk, KeyGrant, KeyService, Link, Listener, Message,
    Notice, Notices,
};
use rdma_engine::engine::inbox::Inbox;
use rdma_engine::{Error, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Long enough for any machine; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A worker's end: its inbox, and what was taken out of it.
pub struct Desk {
    pub inbox: Arc<Notices>,
    taken: VecDeque<Notice>,
}

impl Desk {
    pub fn new() -> Desk {
        Desk { inbox: Arc::new(Inbox::new().unwrap()), taken: VecDeque::new() }
    }

    /// The next notice, in order.
    pub fn next(&mut self) -> Notice {
        let end = Instant::now() + PATIENCE;
        loop {
            self.take();
            if let Some(notice) = self.taken.pop_front() {
                return notice;
            }
            self.inbox.waker().prepare_sleep();
            if self.inbox.is_empty() {
                let left = end.saturating_duration_since(Instant::now());
                assert!(!left.is_zero(), "no notice came");
                let fd = self.inbox.fd();
                let timeout = Timespec::try_from(left).unwrap();
                let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout));
            }
            self.inbox.waker().finish_sleep();
        }
    }

    /// Everything that is there now.
    pub fn rest(&mut self) -> Vec<Notice> {
        self.take();
        self.taken.drain(..).collect()
    }

    fn take(&mut self) {
        let mut out = Vec::new();
        self.inbox.drain_into(&mut out);
        self.taken.extend(out);
    }

    pub fn link(&mut self, token: u64) -> Arc<Link> {
        match self.next() {
            Notice::LinkUp { token: got, link } if got == token => link,
            other => panic!("wanted the link of {token}, got {other:?}"),
        }
    }

    pub fn failure(&mut self, token: u64) -> Error {
        match self.next() {
            Notice::DialFailed { token: got, error } if got == token => error,
            other => panic!("wanted the failure of {token}, got {other:?}"),
        }
    }

    pub fn lost(&mut self, link: &Arc<Link>) -> Error {
        match self.next() {
            Notice::LinkLost { link: got, error } if Arc::ptr_eq(&got, link) => error,
            other => panic!("wanted the loss of the link, got {other:?}"),
        }
    }

    /// Waits for an attach and takes it: link, request, the peer's route.
    pub fn attach(&mut self) -> (Arc<Link>, u32, u32) {
        match self.next() {
            Notice::Attach { link, request, peer, .. } => (link, request, peer.route),
            other => panic!("wanted an attach, got {other:?}"),
        }
    }
}

/// Keys: export 1 is a memory of 4096 bytes and its words, to whom knows the secret; export 2 has a remote key of 4096 bytes.
#[derive(Default)]
pub struct Keys {
    pub memory: Mutex<Option<[OwnedFd; 2]>>,
    pub dropped: Mutex<Vec<(u32, u64)>>,
    pub lost: Mutex<Vec<u32>>,
}

pub const SECRET: [u8; 16] = *b"sixteen secrets!";

impl KeyService for Keys {
    fn grant(&self, _link: &Arc<Link>, ask: &KeyAsk) -> Result<KeyGrant, Status> {
        if ask.secret != SECRET {
            return Err(Status::PermissionDenied);
        }
        match ask.export_id {
            1 => {
                let copy = |both: &[OwnedFd; 2]| both.each_ref().map(|fd| fd.try_clone().unwrap());
                let mapping = self.memory.lock().as_ref().map(copy);
                Ok(KeyGrant { length: 4096, rights: 3, mapping, rma: None })
            }
            2 => Ok(KeyGrant { length: 8, rights: 1, mapping: None, rma: Some((0x1000, vec![7; 4096])) }),
            3 => panic!("a key service that is broken"),
            _ => Err(Status::Revoked),
        }
    }

    fn dropped(&self, link: &Arc<Link>, export_id: u64) {
        self.dropped.lock().push((link.id(), export_id));
    }

    fn link_lost(&self, link: &Arc<Link>) {
        self.lost.lock().push(link.id());
    }
}

pub fn ask(export_id: u64) -> KeyAsk {
    KeyAsk { export_id, secret: SECRET, ways: 7, fabric: 0 }
}

pub const BOTH: u32 = Fabric::Shared.bit() | Fabric::Network.bit();
pub const NETWORK: u32 = Fabric::Network.bit();
pub const SHARED: u32 = Fabric::Shared.bit();

/// Options for a context named by one byte. The keepalive is so long that nothing is lost by it unless a test wants.
pub fn config(name: u8) -> ControlConfig {
    let mut config = ControlConfig::new([name; 16]);
    config.name = format!("context {name}");
    config.keepalive = Duration::from_secs(3_600);
    config.connect_timeout = PATIENCE;
    config.handshake_timeout = PATIENCE;
    config.local_timeout = PATIENCE;
    config
}

/// A context of a test.
pub struct Side {
    pub control: Arc<Control>,
    pub desk: Desk,
    pub keys: Arc<Keys>,
}

impl Side {
    pub fn new(config: ControlConfig) -> Side {
        let keys = Arc::new(Keys::default());
        let control = Control::start(config, keys.clone()).unwrap();
        Side { control, desk: Desk::new(), keys }
    }

    pub fn listen(&self, address: &str) -> Arc<Listener> {
        self.control.listen(address, &self.desk.inbox, 77).unwrap()
    }

    pub fn dial(&mut self, address: &str, token: u64) -> Arc<Link> {
        self.control.dial(address, &self.desk.inbox, token);
        self.desk.link(token)
    }

    pub fn dial_fails(&mut self, address: &str) -> Error {
        self.control.dial(address, &self.desk.inbox, 404);
        self.desk.failure(404)
    }

    /// Waits until `ready` sees what it wants in the counters.
    pub fn until(&self, what: &str, ready: impl Fn(&Control) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !ready(&self.control) {
            assert!(Instant::now() < end, "{what}: {:?}", self.control.counters());
            std::thread::yield_now();
        }
    }
}

/// Two contexts with a link: who accepts, who dials, the link as seen by both (after an attach with the routes 10
/// and 20).
pub fn pair(address: &str, fabrics: u32) -> (Side, Side, Arc<Link>, Arc<Link>) {
    let mut configs = (config(1), config(2));
    configs.0.fabrics = fabrics;
    configs.1.fabrics = fabrics;
    pair_of(address, configs.0, configs.1)
}

pub fn pair_of(address: &str, one: ControlConfig, two: ControlConfig) -> (Side, Side, Arc<Link>, Arc<Link>) {
    let (mut server, mut client) = (Side::new(one), Side::new(two));
    let listener = server.listen(address);
    let link = client.dial(listener.address(), 1);
    let accepted = join(&mut server, &mut client, &link, 10, 20);
    (server, client, accepted, link)
}

/// Makes a path over `link`: route `theirs` at the server, `ours` at the client. Returns the server's link.
pub fn join(server: &mut Side, client: &mut Side, link: &Arc<Link>, theirs: u32, ours: u32) -> Arc<Link> {
    client.control.attach(link, &client.desk.inbox, attach(ours, b"client"));
    let (accepted, request, route) = server.desk.attach();
    assert_eq!(route, ours);
    server.control.accept_attach(&accepted, request, &server.desk.inbox, attach(theirs, b"server"), 8);
    match client.desk.next() {
        Notice::Attached { route, peer, credits, .. } => {
            assert_eq!((route, peer, credits), (ours, attach(theirs, b"server"), 8));
        }
        other => panic!("{other:?}"),
    }
    accepted
}

pub fn attach(route: u32, address: &[u8]) -> rdma_engine::engine::control::Attach {
    rdma_engine::engine::control::Attach { route, address: address.to_vec() }
}

/// An anonymous file of so many bytes.
pub fn memfd(bytes: u64) -> OwnedFd {
    let fd = rustix::fs::memfd_create("export", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&fd, bytes).unwrap();
    fd
}

/// A fresh folder, gone with the value.
pub struct Folder(pub std::path::PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("rde-control-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn address(&self, file: &str) -> String {
        format!("unix://{}", self.0.join(file).display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The hello of a peer that is not ours: another host, the network only.
pub fn stranger() -> Hello {
    Hello {
        version: (1, 0),
        fabrics: NETWORK,
        uuid: [0xee; 16],
        pid: 1,
        uid: 0,
        ucx_version: (0, 0, 0),
        max_message: 65_536,
        max_address: 16_384,
        keepalive_ms: 1_000,
        host: HostId([7; 24]),
        name: "stranger".into(),
        host_name: "elsewhere".into(),
        settings: Vec::new(),
    }
}

/// A bare socket that speaks frames.
pub struct Raw<S>(pub S);

impl<S: Read + Write> Raw<S> {
    pub fn send(&mut self, message: &Message) {
        self.0.write_all(&message.encode().unwrap()).unwrap();
    }

    /// One frame; `None` at the end of the stream.
    pub fn receive(&mut self) -> Option<Message> {
        let mut bytes = vec![0; 12];
        self.0.read_exact(&mut bytes).ok()?;
        let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        bytes.resize(12 + length, 0);
        self.0.read_exact(&mut bytes[12..]).ok()?;
        match Message::decode(&bytes).unwrap() {
            rdma_engine::engine::control::Decoded::Message { message, .. } => Some(message),
            other => panic!("{other:?}"),
        }
    }

    /// Says hello, is welcomed, and takes the connection as a link over the network.
    pub fn shake(&mut self) {
        self.send(&Message::Hello(Box::new(stranger())));
        assert!(matches!(self.receive(), Some(Message::Welcome { .. })));
        self.send(&Message::Ready { fabric: Fabric::Network });
    }
}

/// A bare connection to a `tcp://` address.
pub fn raw(address: &str) -> Raw<TcpStream> {
    let stream = TcpStream::connect(address.strip_prefix("tcp://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Raw(stream)
}
