//! A proxy in a process of its own, so that what it needs can be measured.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::world::{Door, World};

const UPSTREAM: &str = "VELA_PROXY_TEST_HTTP2_UPSTREAM";

/// Run again by [`Process::start`].
#[tokio::test]
async fn child() {
    let Ok(upstream) = std::env::var(UPSTREAM) else {
        return;
    };
    let world = World::start();
    world.route(upstream.parse().unwrap()).await;
    let authority = world.door.authority.replace('\n', "|");
    println!("listening on {} {authority}", world.door.addr);
    std::future::pending::<()>().await;
}

pub(crate) struct Process {
    child: Child,
    pub(crate) door: Door,
}

impl Process {
    /// Passes all on to the upstream.
    pub(crate) fn start(upstream: SocketAddr) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::child", "--nocapture"])
            .env(UPSTREAM, upstream.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let said = output
            .lines()
            .find_map(|line| Some(line.unwrap().split_once("listening on ")?.1.to_owned()));
        let said = said.expect("an address");
        let (addr, authority) = said.split_once(' ').unwrap();
        Process {
            child,
            door: Door {
                addr: addr.parse().unwrap(),
                authority: authority.replace('|', "\n"),
            },
        }
    }

    /// The most memory that it has had so far, in KiB.
    pub(crate) fn memory(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let mut words = line.unwrap().split_whitespace();
        words.nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
