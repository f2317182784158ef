//! A TCP proxy on loopback that does something once so many bytes have gone to the server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

type Action = Box<dyn FnOnce() + Send>;

pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: SocketAddr,
    sent: AtomicU64,
    plan: Mutex<Option<(u64, Action)>>,
}

impl Proxy {
    pub fn start(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { server, sent: AtomicU64::new(0), plan: Mutex::default() });
        let shared = state.clone();
        // Ends with the process: nobody has to wait for it.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || state.serve(client));
            }
        });
        Proxy { address, state }
    }

    /// Does `action` once `bytes` more have been sent, between two of them.
    pub fn after(&self, bytes: u64, action: impl FnOnce() + Send + 'static) {
        let at = self.state.sent.load(Ordering::SeqCst) + bytes;
        *self.state.plan.lock().unwrap() = Some((at, Box::new(action)));
    }

    /// Whether what was planned has been done.
    pub fn is_done(&self) -> bool {
        self.state.plan.lock().unwrap().is_none()
    }
}

impl State {
    fn serve(self: Arc<State>, client: TcpStream) {
        // A server that is dead refuses, and so does this.
        let Ok(server) = TcpStream::connect(self.server) else { return };
        let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut answers, &mut back);
            let _ = back.shutdown(Shutdown::Both);
        });
        let _ = self.forward(client, &server);
        let _ = server.shutdown(Shutdown::Both);
    }

    fn forward(&self, mut client: TcpStream, mut server: &TcpStream) -> std::io::Result<()> {
        let mut bytes = vec![0; 4096];
        loop {
            let len = client.read(&mut bytes)?;
            if len == 0 {
                return Ok(());
            }
            let mut rest = &bytes[..len];
            let action = {
                let mut plan = self.plan.lock().unwrap();
                let before = self.sent.fetch_add(len as u64, Ordering::SeqCst);
                match &*plan {
                    Some((at, _)) if *at < before + len as u64 => {
                        let (first, second) = rest.split_at(at.saturating_sub(before) as usize);
                        server.write_all(first)?;
                        rest = second;
                        plan.take()
                    }
                    _ => None,
                }
            };
            if let Some((_, action)) = action {
                action();
            }
            server.write_all(rest)?;
        }
    }
}
