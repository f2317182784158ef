//! Where the exporter of a volume server is.

use crate::status::{Error, Result, Status};

/// An exporter's port is its volume server's HTTP port and this, unless somebody chose another one; gRPC's is that and
/// 10,000.
pub const PORT_OFFSET: u16 = 20_000;

/// The address of the exporter beside a volume server at `host:port`, as a master's look-up names it. Errors:
/// `InvalidArgument`, also when the port is too high for the offset.
pub fn exporter_address(server: &str, offset: u16) -> Result<String> {
    let invalid = || {
        let text = format!("`{server}` is no HOST:PORT whose port and {offset} are at most 65535");
        Error::new(Status::InvalidArgument, text)
    };
    let (host, port) = server.rsplit_once(':').ok_or_else(invalid)?;
    let digits = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    let port =
        port.parse::<u16>().ok().filter(|port| digits && *port > 0).and_then(|port| port.checked_add(offset));
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    match port {
        Some(port) if !host.is_empty() && !bare_v6 && !host.contains('/') => {
            Ok(format!("tcp://{host}:{port}"))
        }
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_the_volume_server() {
        let address = |server| exporter_address(server, PORT_OFFSET).ok();
        assert_eq!(address("127.0.0.1:8080").as_deref(), Some("tcp://127.0.0.1:28080"));
        assert_eq!(address("volume-3.example:8080").as_deref(), Some("tcp://volume-3.example:28080"));
        assert_eq!(address("[::1]:8080").as_deref(), Some("tcp://[::1]:28080"));
        assert_eq!(exporter_address("h:8080", 5).unwrap(), "tcp://h:8085");
        for bad in ["", "h", ":8080", "h:", "h:0", "h:+1", "h:x", "h:45536", "h:70000", "::1:8080", "a/b:80"]
        {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}
