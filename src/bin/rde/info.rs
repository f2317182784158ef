//! `rde info`: what UCX, devices and limits this machine offers.

use rdma_engine::Result;
use serde_json::json;

use super::Run;
use super::link::Link;
use super::units::Size;

/// Opens a context, says what it found, closes it.
pub fn run(run: &Run) -> Result<()> {
    let link = Link::open(&run.engine, 0, run.stop.clone())?;
    let info = link.context.info()?;
    let (major, minor, patch) = info.ucx_version;
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ucx": {"version": format!("{major}.{minor}.{patch}"), "path": info.ucx_path},
        "transports": split(&info.transports),
        "devices": split(&info.devices),
        "memory": {"limit": info.memory_limit, "used": info.memory_used, "huge": info.memory_huge},
        "sessions": {"limit": info.max_sessions, "open": info.sessions},
    });
    let text = format!(
        "rde         {}\nUCX         {major}.{minor}.{patch}, {}\ntransports  {}\ndevices     {}\n\
         memory      at most {}, {} of it on huge pages now\nsessions    at most {}\n",
        env!("CARGO_PKG_VERSION"),
        info.ucx_path,
        info.transports,
        info.devices,
        Size(info.memory_limit),
        Size(info.memory_huge),
        info.max_sessions,
    );
    link.close()?;
    run.print(&value, &text)
}

fn split(list: &str) -> Vec<&str> {
    list.split(',').filter(|item| !item.is_empty()).collect()
}
