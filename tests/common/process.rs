//! A peer in a process of its own: this test binary, started again in a role.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// Names the role; whoever has it set is a peer, not a test.
const ROLE: &str = "RDE_TEST_ROLE";

/// What a started peer was told: its role and arguments. `None` in the process that runs the tests.
pub fn role() -> Option<Vec<String>> {
    Some(std::env::var(ROLE).ok()?.split('\n').map(str::to_owned).collect())
}

/// Says a line to whoever started us.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The harness has written half a line before.
    writeln!(out, "\n>{line}").unwrap();
    out.flush().unwrap();
}

/// Waits until whoever started us says something or is gone.
pub fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// A started peer; killed when dropped.
pub struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stdin: ChildStdin,
}

impl Peer {
    /// Starts the test `entry` of this binary, which must begin by looking at [`role`].
    pub fn start(entry: &str, role: &[&str], environment: &[(&str, &str)]) -> Peer {
        Peer::start_by(Command::new(std::env::current_exe().unwrap()), entry, role, environment)
    }

    /// The same, by a command that runs what follows it.
    pub fn start_by(mut command: Command, entry: &str, role: &[&str], environment: &[(&str, &str)]) -> Peer {
        let mut child = command
            .args(["--exact", entry, "--nocapture", "--test-threads=1"])
            .env(ROLE, role.join("\n"))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdin = child.stdin.take().unwrap();
        Peer { child, lines, stdin }
    }

    /// The rest of the next line that it says with this beginning.
    pub fn expect(&mut self, beginning: &str) -> String {
        let begin = format!(">{beginning}");
        loop {
            let line =
                self.lines.next().unwrap_or_else(|| panic!("the peer ended before '{beginning}'")).unwrap();
            if let Some(rest) = line.strip_prefix(&begin) {
                return rest.trim().to_owned();
            }
        }
    }

    /// The next line of any kind, with its log, that has this in it.
    pub fn line_with(&mut self, part: &str) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        lines.find(|line| line.contains(part)).unwrap_or_else(|| panic!("the peer ended before '{part}'"))
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGKILL. The thread answers when the kernel was done with the process, which takes a while with much memory.
    pub fn kill(&self) -> JoinHandle<Instant> {
        let pid = Pid::from_child(&self.child);
        let gone = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        std::thread::spawn(move || {
            poll(&mut [PollFd::new(&gone, PollFlags::IN)], None).unwrap();
            Instant::now()
        })
    }

    /// SIGKILL, and the zombie is taken.
    pub fn reap(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end and says whether it did so well.
    pub fn ends_well(mut self) -> bool {
        self.tell("end");
        self.child.wait().unwrap().success()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}
