//! `rde ping`: message round trips, one at a time.

use std::time::{Duration, Instant};

use rdma_engine::{Error, Result, Status};
use serde_json::json;

use super::Run;
use super::args::Ping;
use super::catalogue::{ECHO, Message};
use super::latency::Latency;
use super::link::Link;
use super::list::ANSWER;
use super::units::{Size, nanoseconds};

/// Pings until the count is reached or the user interrupts; both are success.
pub fn run(run: &Run, ping: &Ping) -> Result<()> {
    let count = ping.count.unwrap_or(10);
    let interval = ping.interval.map_or(Duration::from_millis(100), |span| span.0);
    let size = ping.size.map_or(8, |size| size.0);
    let payload = match usize::try_from(size) {
        Ok(size) if size <= ECHO => (0..size).map(|i| i as u8).collect::<Vec<u8>>(),
        _ => {
            return Err(Error::new(
                Status::InvalidArgument,
                format!("--size is at most {}", Size(ECHO as u64)),
            ));
        }
    };
    let mut link = Link::open(&run.engine, 0, run.stop.clone())?;
    let session = link.connect(&ping.address)?;
    let mut latency = Latency::new()?;
    let message = Message::Echo(payload.clone());
    let mut sequence = 0;
    while (count == 0 || sequence < count) && run.stop.signal() == 0 {
        let start = Instant::now();
        let answer = match link.ask(&session, &message, ANSWER) {
            Err(error) if error.status == Status::Canceled => break,
            answer => answer?,
        };
        let took = start.elapsed();
        if answer != Message::EchoReply(payload.clone()) {
            return Err(Error::new(Status::Protocol, "the echo differs from what was sent"));
        }
        latency.add(took);
        sequence += 1;
        let nanos = took.as_nanos() as u64;
        let text = format!("{} from {}: #{sequence} {}", Size(size), ping.address, nanoseconds(nanos));
        run.print(&json!({"sequence": sequence, "ns": nanos}), &text)?;
        if count == 0 || sequence < count {
            pause(&mut link, interval)?;
        }
    }
    let info = session.info();
    let value = json!({"address": ping.address, "size": size, "transport": info.transport, "round_trip": latency.json()});
    let text = match latency.count() {
        0 => "no round trip".to_owned(),
        trips => format!("{trips} round trips over {}: {}", info.transport, latency.text()),
    };
    link.disconnect(&session);
    link.close()?;
    run.print(&value, &text)
}

/// Waits without missing that the peer goes away.
fn pause(link: &mut Link, interval: Duration) -> Result<()> {
    let end = Instant::now() + interval;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        match link.next(left) {
            Ok(Some(completion)) => super::link::lost(&completion)?,
            Ok(None) => {}
            Err(error) if error.status == Status::Canceled => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
