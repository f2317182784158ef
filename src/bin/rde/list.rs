//! `rde list`: what an `rde serve` exports.

use std::time::Duration;

use rdma_engine::engine::session::Session;
use rdma_engine::{Error, Result, Status};
use serde_json::json;

use super::Run;
use super::args::List;
use super::catalogue::{Entry, Message};
use super::link::Link;
use super::units::Size;

/// Until an answer of the catalogue must be there.
pub const ANSWER: Duration = Duration::from_secs(5);

/// Asks page by page.
pub fn fetch(link: &mut Link, session: &Session) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    loop {
        let first = u32::try_from(entries.len()).map_err(|_| Status::Protocol)?;
        let Message::Listing(total, page) = link.ask(session, &Message::List(first), ANSWER)? else {
            return Err(Error::new(Status::Protocol, "the peer did not answer with a list"));
        };
        let more = !page.is_empty();
        entries.extend(page);
        // An empty page ends it too: the server may have lost entries meanwhile.
        if !more || entries.len() >= total as usize {
            return Ok(entries);
        }
    }
}

/// Prints the list.
pub fn run(run: &Run, list: &List) -> Result<()> {
    let mut link = Link::open(&run.engine, 0, run.stop.clone())?;
    let session = link.connect(&list.address)?;
    let entries = fetch(&mut link, &session)?;
    link.disconnect(&session);
    link.close()?;
    let value: Vec<_> = entries
        .iter()
        .map(|entry| json!({"name": entry.name, "size": entry.size, "writable": entry.writable}))
        .collect();
    let text: String = entries
        .iter()
        .map(|entry| {
            let rights = if entry.writable { "read-write" } else { "read" };
            format!("{:>10}  {rights:<10}  {}\n", Size(entry.size).to_string(), entry.name)
        })
        .collect();
    run.print(&json!({"entries": value}), &text)
}
