//! [`Address`]: `tcp://host:port`, `tcp://[::1]:port`, `unix:///path`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::limits::ADDRESS_TEXT;
use crate::status::{Error, Result, Status};

/// Longest path of a Unix socket, in bytes: what the kernel's address holds.
const UNIX_PATH: usize = 107;

/// An address that was understood.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A literal IP address.
    Tcp(SocketAddr),
    /// A host name to be resolved.
    Name(String, u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads an address. `InvalidArgument` says what is wrong with it.
    pub fn parse(text: &str) -> Result<Address> {
        if text.len() > ADDRESS_TEXT {
            return Err(bad("an address is longer than 512 bytes", ""));
        }
        if let Some(path) = text.strip_prefix("unix://") {
            return parse_path(path, text);
        }
        let Some(rest) = text.strip_prefix("tcp://") else {
            return Err(bad("an address begins with tcp:// or unix://", text));
        };
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err(bad("a tcp address ends with :port", text));
        };
        // `u16::from_str` takes a sign.
        let digits = !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
        let port: u16 = match port.parse() {
            Ok(port) if digits => port,
            _ => return Err(bad("a port is a number from 0 to 65535", text)),
        };
        if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            return match inner.parse::<Ipv6Addr>() {
                Ok(ip) => Ok(Address::Tcp(SocketAddr::new(IpAddr::V6(ip), port))),
                Err(_) => Err(bad("between brackets stands an IPv6 address", text)),
            };
        }
        match host.parse::<IpAddr>() {
            Ok(ip @ IpAddr::V4(_)) => Ok(Address::Tcp(SocketAddr::new(ip, port))),
            Ok(IpAddr::V6(_)) => Err(bad("an IPv6 address stands in brackets: tcp://[::1]:port", text)),
            Err(_) if is_name(host) => Ok(Address::Name(host.to_owned(), port)),
            Err(_) => Err(bad("a host is an address or a name", text)),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(addr) => write!(f, "tcp://{addr}"),
            Address::Name(host, port) => write!(f, "tcp://{host}:{port}"),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

fn parse_path(path: &str, text: &str) -> Result<Address> {
    let path = Path::new(path);
    let length = path.as_os_str().len();
    if !path.is_absolute() || path.file_name().is_none() || path.to_string_lossy().contains('\0') {
        return Err(bad("a unix address is unix:// and an absolute path", text));
    }
    if length > UNIX_PATH {
        return Err(bad("the path of a Unix socket has at most 107 bytes", text));
    }
    Ok(Address::Unix(path.to_owned()))
}

fn is_name(host: &str) -> bool {
    let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    !host.is_empty() && host.len() <= 253 && host.bytes().all(fine)
}

fn bad(what: &'static str, text: &str) -> Error {
    if text.is_empty() {
        return Error::new(Status::InvalidArgument, what);
    }
    Error::new(Status::InvalidArgument, format!("{what}: '{}'", text.escape_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_what_it_prints() {
        for text in ["tcp://127.0.0.1:0", "tcp://[::1]:65535", "tcp://node-1.lan:7", "unix:///run/x.sock"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_everything_else() {
        let long = format!("unix:///{}", "x".repeat(107));
        let longer = "tcp://".repeat(200);
        for text in [
            "",
            "tcp://",
            "tcp://:1",
            "tcp://1.2.3.4",
            "tcp://1.2.3.4:",
            "tcp://1.2.3.4:65536",
            "tcp://1.2.3.4:+1",
            "tcp://::1:80",
            "tcp://[::1:80",
            "tcp://[x]:80",
            "tcp://a b:80",
            "tcp://ä:80",
            "udp://1.2.3.4:1",
            "unix://",
            "unix://x",
            "unix:///",
            "unix:///a\0b",
            "TCP://1.2.3.4:1",
            &long,
            &longer,
        ] {
            let error = Address::parse(text).unwrap_err();
            assert_eq!(error.status, Status::InvalidArgument, "{text}");
        }
    }
}
