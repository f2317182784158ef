//! Two hosts on one machine: network namespaces joined by a third that routes between them, and can stop doing so, which
//! is what a cut link looks like from both ends. Needs root and `ip` (Debian: iproute2).

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{unique, wait_for};

/// The two ends and what is between them; gone when dropped.
pub struct Network {
    ends: [String; 2],
    router: String,
}

/// Address of each end, and of the router's interface that faces it.
const ADDRESSES: [(&str, &str); 2] = [("10.77.1.2", "10.77.1.1"), ("10.77.2.2", "10.77.2.1")];

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip, of Debian's iproute2");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Network {
    /// Makes one whose link works.
    pub fn new() -> Network {
        let name = |part: &str| format!("rde-{}-{}-{part}", std::process::id(), unique());
        let network = Network { ends: [name("a"), name("b")], router: name("r") };
        ip(&format!("netns add {}", network.router));
        for (at, (address, gateway)) in ADDRESSES.iter().enumerate() {
            let (end, router) = (&network.ends[at], &network.router);
            ip(&format!("netns add {end}"));
            ip(&format!("-n {router} link add to{at} type veth peer name eth0 netns {end}"));
            ip(&format!("-n {router} addr add {gateway}/24 dev to{at}"));
            ip(&format!("-n {router} link set to{at} up"));
            ip(&format!("-n {end} addr add {address}/24 dev eth0"));
            ip(&format!("-n {end} link set lo up"));
            ip(&format!("-n {end} link set eth0 up"));
            ip(&format!("-n {end} route add default via {gateway}"));
        }
        network.mend();
        wait_for("the interfaces are up", || network.is_up());
        network
    }

    /// Whether the kernel has noticed that every cable is plugged in, which it does in its own time.
    fn is_up(&self) -> bool {
        [&self.router, &self.ends[0], &self.ends[1]].into_iter().all(|name| {
            let links = Command::new("ip").args(["-n", name, "-o", "link"]).output().unwrap();
            let links = String::from_utf8_lossy(&links.stdout).into_owned();
            links.lines().filter(|line| !line.contains(" lo:")).all(|line| line.contains("state UP"))
        })
    }

    /// The address of an end, 0 or 1.
    pub fn address(&self, end: usize) -> &'static str {
        ADDRESSES[end].0
    }

    /// Runs something at an end; threads that it starts stay there.
    pub fn at<T: Send>(&self, end: usize, work: impl FnOnce() -> T + Send) -> T {
        self.inside(&self.ends[end], work)
    }

    /// From now on nothing gets through, and nobody is told.
    pub fn cut(&self) {
        self.forward("0");
    }

    /// Everything gets through again.
    pub fn mend(&self) {
        self.forward("1");
    }

    fn forward(&self, value: &'static str) {
        let write = move || std::fs::write("/proc/sys/net/ipv4/ip_forward", value);
        self.inside(&self.router, write).unwrap();
    }

    fn inside<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        let space = File::open(format!("/run/netns/{name}")).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in [&self.router, &self.ends[0], &self.ends[1]] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}
