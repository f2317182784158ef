//! What is measured and what is asked of it: one table. A new row is one more element of [`rows`].

/// A UCX to run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ucx {
    /// The one that the system's loader finds.
    System,
    /// The newer one of `fetch-ucx.sh`.
    Newer,
}

/// Which figure of a measurement counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Median nanoseconds an operation.
    Nanoseconds,
    /// Median microseconds an operation.
    Microseconds,
    /// 10⁹ bytes a second, from the median.
    Bandwidth,
    /// Operations a second.
    Rate,
    /// The measurement's own `value`, in bytes.
    Bytes,
}

/// What the row asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At most so much, in the row's unit.
    AtMost(f64),
    /// At least so much, in the row's unit.
    AtLeast(f64),
    /// At most so many times the peer.
    TimesPeerAtMost(f64),
    /// At least so many times the peer.
    TimesPeerAtLeast(f64),
}

/// One way to run raw UCX: the arguments and the environment of `ucx_raw`.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What the table calls it.
    pub name: String,
    /// The library it runs on.
    pub ucx: Ucx,
    /// UCX's environment.
    pub env: Vec<(&'static str, &'static str)>,
    /// Arguments of `ucx_raw`.
    pub args: String,
}

/// One line of the result.
#[derive(Clone, Debug)]
pub struct Row {
    /// Unique; the key in `bench.json`.
    pub name: &'static str,
    /// The library our side runs on.
    pub ucx: Ucx,
    /// The figure that is compared.
    pub metric: Metric,
    /// What is asked.
    pub goal: Goal,
    /// Arguments of `ours`.
    pub ours: &'static str,
    /// Candidates; the best of them is the peer. None: the goal is absolute.
    pub peers: Vec<Peer>,
}

const SHM: &[(&str, &str)] = &[("UCX_TLS", "posix,cma")];
const SHM_ONLY: &[(&str, &str)] = &[("UCX_TLS", "posix")];
/// As the engine sets it: peer failure is noticed over shared memory too.
const SHM_OURS: &[(&str, &str)] = &[("UCX_TLS", "posix,cma"), ("UCX_MM_ERROR_HANDLING", "y")];
const TCP: &[(&str, &str)] = &[("UCX_TLS", "tcp")];
/// As the engine sets it: large segments.
const TCP_OURS: &[(&str, &str)] =
    &[("UCX_TLS", "tcp"), ("UCX_TCP_TX_SEG_SIZE", "256K"), ("UCX_TCP_RX_SEG_SIZE", "256K")];
/// The same, and no rendezvous.
const TCP_EAGER: &[(&str, &str)] = &[
    ("UCX_TLS", "tcp"),
    ("UCX_TCP_TX_SEG_SIZE", "256K"),
    ("UCX_TCP_RX_SEG_SIZE", "256K"),
    ("UCX_RNDV_THRESH", "inf"),
];

fn peer(ucx: Ucx, name: &str, env: &[(&'static str, &'static str)], args: &str) -> Peer {
    let version = if ucx == Ucx::System { "" } else { ", newer UCX" };
    Peer { name: format!("{name}{version}"), ucx, env: env.to_vec(), args: args.to_owned() }
}

/// Every way to get or put one message's length over shared memory, `test` being `get` or `put`.
fn shared_memory(ucx: Ucx, test: &str, args: &str) -> Vec<Peer> {
    let one = |what: &str, env, memory| {
        peer(ucx, &format!("ucp_{test}, {what}"), env, &format!("{test} {args} --memory {memory}"))
    };
    vec![
        one("user memory", SHM, "malloc"),
        one("UCX's memory", SHM, "ucx"),
        one("UCX's memory, no CMA", SHM_ONLY, "ucx"),
    ]
}

/// The same, with the program's own copy through `ucp_rkey_ptr`, on every library.
fn best_shared_memory(test: &str, args: &str) -> Vec<Peer> {
    let mut all = Vec::new();
    for ucx in [Ucx::System, Ucx::Newer] {
        all.extend(shared_memory(ucx, test, args));
        let copy = format!("{test}_ptr {args} --memory ucx");
        all.push(peer(ucx, "ucp_rkey_ptr and memcpy", SHM, &copy));
    }
    all
}

/// `ucp_am_bw` with several windows.
fn am_bandwidth(ucx: Ucx, what: &str, env: &[(&'static str, &'static str)], errors: &str) -> Vec<Peer> {
    [2, 4, 8, 16, 32]
        .map(|window| {
            let args = format!("am_bw --size 1048576 --in-flight {window} --errors {errors}");
            peer(ucx, &format!("ucp_am_bw, {window} in flight{what}"), env, &args)
        })
        .to_vec()
}

fn same_host() -> Vec<Row> {
    use {Goal::*, Metric::*, Ucx::*};
    let batched = |ucx| shared_memory(ucx, "get", "--size 8 --in-flight 64");
    vec![
        Row {
            name: "get 8 B, same host, 64 in flight",
            ucx: System,
            metric: Nanoseconds,
            goal: AtMost(100.0),
            ours: "get --transport shm --size 8 --in-flight 64",
            peers: batched(System),
        },
        Row {
            name: "get 8 B, same host, 64 in flight, newer UCX",
            ucx: Newer,
            metric: Nanoseconds,
            goal: AtMost(100.0),
            ours: "get --transport shm --size 8 --in-flight 64",
            peers: batched(Newer),
        },
        Row {
            name: "message round trip 8 B, same host, polled",
            ucx: System,
            metric: Microseconds,
            goal: TimesPeerAtMost(1.3),
            ours: "message --transport shm --size 8",
            peers: vec![
                peer(System, "ucp_am_lat", SHM, "am_lat"),
                peer(System, "ucp_am_lat, our settings", SHM_OURS, "am_lat --errors peer"),
            ],
        },
        Row {
            name: "get 1 MiB, same host",
            ucx: System,
            metric: Bandwidth,
            goal: TimesPeerAtLeast(0.95),
            ours: "get --transport shm --size 1048576",
            peers: best_shared_memory("get", "--size 1048576"),
        },
        Row {
            name: "put 1 MiB and flush, same host",
            ucx: System,
            metric: Bandwidth,
            goal: TimesPeerAtLeast(0.95),
            ours: "put --transport shm --size 1048576",
            peers: best_shared_memory("put", "--size 1048576"),
        },
    ]
}

fn tcp() -> Vec<Row> {
    use {Goal::*, Metric::*, Ucx::*};
    let mut bandwidth = am_bandwidth(System, "", TCP_OURS, "peer");
    bandwidth.extend(am_bandwidth(System, ", eager", TCP_EAGER, "peer"));
    vec![
        Row {
            name: "get 1 MiB, TCP",
            ucx: System,
            metric: Bandwidth,
            goal: TimesPeerAtLeast(4.0),
            ours: "get --transport tcp --size 1048576",
            peers: vec![peer(System, "ucp_get, UCX's defaults", TCP, "get --size 1048576")],
        },
        Row {
            name: "get 1 MiB, TCP, 8 in flight",
            ucx: System,
            metric: Bandwidth,
            goal: TimesPeerAtLeast(0.9),
            ours: "get --transport tcp --size 1048576 --in-flight 8",
            peers: bandwidth,
        },
        Row {
            name: "get 8 B, TCP, target not polling",
            ucx: System,
            metric: Microseconds,
            goal: TimesPeerAtMost(1.2),
            ours: "get --transport tcp --size 8 --target threaded",
            peers: vec![
                peer(System, "ucp_am_lat", TCP, "am_lat"),
                peer(System, "ucp_am_lat, our settings", TCP_OURS, "am_lat --errors peer"),
            ],
        },
    ]
}

fn alone() -> Vec<Row> {
    use {Goal::*, Metric::*, Ucx::*};
    let row = |name, metric, goal, ours| Row { name, ucx: System, metric, goal, ours, peers: vec![] };
    vec![
        row("handle look-up", Nanoseconds, AtMost(10.0), "handle-lookup"),
        row("another session to a connected peer", Rate, AtLeast(100_000.0), "session-open"),
        row("memory of a session beyond the first", Bytes, AtMost(2048.0), "session-memory"),
        // Resident memory is counted in pages: below one byte in 100 operations nothing is kept for an operation.
        row("growth over 10⁷ operations", Bytes, AtMost(100_000.0), "growth --operations 10000000"),
        row("needle map, a live needle", Bytes, AtMost(16.0), "needle-map"),
        row("rows of a volume's index loaded", Rate, AtLeast(10_000_000.0), "needle-map"),
    ]
}

fn calls() -> Vec<Row> {
    use {Goal::*, Metric::*, Ucx::*};
    let mut tcp_bandwidth = am_bandwidth(System, "", TCP_OURS, "peer");
    tcp_bandwidth.extend(am_bandwidth(System, ", eager", TCP_EAGER, "peer"));
    vec![
        Row {
            name: "call 8 B, same host, polled",
            ucx: System,
            metric: Microseconds,
            goal: TimesPeerAtMost(1.6),
            ours: "call --transport shm --size 8",
            peers: vec![
                peer(System, "ucp_am_lat", SHM, "am_lat"),
                peer(System, "ucp_am_lat, our settings", SHM_OURS, "am_lat --errors peer"),
            ],
        },
        Row {
            name: "call 8 B, TCP, polled",
            ucx: System,
            metric: Microseconds,
            goal: TimesPeerAtMost(1.15),
            ours: "call --transport tcp --size 8",
            peers: vec![
                peer(System, "ucp_am_lat", TCP, "am_lat"),
                peer(System, "ucp_am_lat, our settings", TCP_OURS, "am_lat --errors peer"),
            ],
        },
        Row {
            name: "calls, same host, 64 in flight",
            ucx: System,
            metric: Rate,
            goal: AtLeast(1_500_000.0),
            ours: "call-rate --transport shm --size 8 --in-flight 64",
            peers: vec![],
        },
        Row {
            name: "call with 1 MiB, same host",
            ucx: System,
            metric: Bandwidth,
            goal: TimesPeerAtLeast(0.9),
            ours: "call-bytes --transport shm --size 1048576 --in-flight 16",
            peers: am_bandwidth(System, "", SHM_OURS, "peer"),
        },
        Row {
            name: "call with 1 MiB, TCP",
            ucx: System,
            metric: Bandwidth,
            goal: TimesPeerAtLeast(0.9),
            ours: "call-bytes --transport tcp --size 1048576 --in-flight 16",
            peers: tcp_bandwidth,
        },
        Row {
            name: "1,000 idle sessions, below 1 % of a core",
            ucx: System,
            metric: Bytes,
            goal: AtMost(4_194_304.0),
            ours: "idle-sessions --target threaded",
            peers: vec![],
        },
    ]
}

/// Every row, in the order of the table.
pub fn rows() -> Vec<Row> {
    let mut all = same_host();
    all.extend(tcp());
    all.extend(calls());
    all.extend(alone());
    all
}

/// Raw UCX that no row compares with, for `rde-bench raw`: what else was tried.
pub fn other_peers() -> Vec<Peer> {
    let mut all = Vec::new();
    for ucx in [Ucx::System, Ucx::Newer] {
        for args in ["--size 8 --in-flight 1", "--size 8 --in-flight 64"] {
            all.extend(shared_memory(ucx, "put", args));
        }
        all.extend(shared_memory(ucx, "get", "--size 8"));
        all.push(peer(ucx, "ucp_get, 256K segments", TCP_OURS, "get --size 1048576"));
        all.push(peer(
            ucx,
            "ucp_get, 8 in flight, 256K segments",
            TCP_OURS,
            "get --size 1048576 --in-flight 8",
        ));
        all.push(peer(ucx, "ucp_put, 256K segments", TCP_OURS, "put --size 1048576"));
        all.extend(am_bandwidth(ucx, ", shared memory", SHM, "none"));
        all.extend(am_bandwidth(ucx, ", shared memory, our settings", SHM_OURS, "peer"));
        all.extend(am_bandwidth(ucx, ", TCP, UCX's defaults", TCP, "none"));
    }
    all
}

impl Metric {
    /// The unit's name in the table and in `bench.json`.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::Nanoseconds => "ns",
            Metric::Microseconds => "µs",
            Metric::Bandwidth => "GB/s",
            Metric::Rate => "1/s",
            Metric::Bytes => "B",
        }
    }

    /// Whether a larger figure is a better one.
    pub fn more_is_better(self) -> bool {
        matches!(self, Metric::Bandwidth | Metric::Rate)
    }
}

impl Goal {
    /// As the table says it.
    pub fn text(self, unit: &str) -> String {
        match self {
            Goal::AtMost(limit) => format!("≤ {limit} {unit}"),
            Goal::AtLeast(limit) => format!("≥ {limit} {unit}"),
            Goal::TimesPeerAtMost(times) => format!("≤ {times} × peer"),
            Goal::TimesPeerAtLeast(times) => format!("≥ {times} × peer"),
        }
    }

    /// Whether it is met; `None` when what it needs was not measured.
    pub fn met(self, ours: Option<f64>, ratio: Option<f64>) -> Option<bool> {
        match self {
            Goal::AtMost(limit) => ours.map(|value| value <= limit),
            Goal::AtLeast(limit) => ours.map(|value| value >= limit),
            Goal::TimesPeerAtMost(times) => ratio.map(|value| value <= times),
            Goal::TimesPeerAtLeast(times) => ratio.map(|value| value >= times),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = rows().iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows().len());
    }

    #[test]
    fn a_goal_that_compares_has_a_peer() {
        for row in rows() {
            let compares = matches!(row.goal, Goal::TimesPeerAtMost(_) | Goal::TimesPeerAtLeast(_));
            assert!(!compares || !row.peers.is_empty(), "{}", row.name);
        }
    }

    #[test]
    fn a_goal_is_met_at_its_limit_and_not_past_it() {
        assert_eq!(Goal::AtMost(100.0).met(Some(100.0), None), Some(true));
        assert_eq!(Goal::AtMost(100.0).met(Some(100.1), None), Some(false));
        assert_eq!(Goal::AtLeast(10.0).met(Some(9.9), None), Some(false));
        assert_eq!(Goal::TimesPeerAtLeast(0.9).met(Some(1.0), Some(0.89)), Some(false));
        assert_eq!(Goal::TimesPeerAtMost(1.2).met(Some(1.0), None), None);
    }
}
