use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Result;

/// What `wrk` is to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// How many clients ask at one time.
    pub connections: usize,
    /// Whether a client asks again on its connection, or makes a new one for each request.
    pub keep_alive: bool,
    /// The size of each response's body in bytes.
    pub size: usize,
}

/// What `wrk` saw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Requests that were answered.
    pub requests: u64,
    /// How long it took.
    pub took: Duration,
    /// Bytes that came.
    pub bytes: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Median latency.
    pub p50: Duration,
    /// What one in a hundred is slower than.
    pub p99: Duration,
    /// What one in a thousand is slower than.
    pub p999: Duration,
}

/// `wrk`, with a report that can be read.
#[derive(Debug)]
pub struct Wrk {
    script: PathBuf,
}

impl Wrk {
    /// With its script in `dir`.
    pub fn new(dir: &Path) -> Result<Wrk> {
        let script = dir.join("report.lua");
        std::fs::File::create(&script)?.write_all(include_bytes!("../proxy/report.lua"))?;
        Ok(Wrk { script })
    }

    /// Sends requests by `http` or `https` for that long.
    pub fn run(&self, scheme: &str, addr: SocketAddr, load: Load, seconds: u64) -> Result<Seen> {
        let mut command = Command::new("wrk");
        command
            .arg(format!("-t{}", load.connections.min(2)))
            .arg(format!("-c{}", load.connections))
            .arg(format!("-d{seconds}s"))
            .arg("-s")
            .arg(&self.script);
        if !load.keep_alive {
            command.args(["-H", "Connection: close"]);
        }
        let output = command
            .arg(format!("{scheme}://{addr}/{}", load.size))
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let numbers: Vec<u64> = text
            .lines()
            .find_map(|line| line.strip_prefix("MEASURED "))
            .ok_or_else(|| format!("wrk measured nothing: {text}"))?
            .split(' ')
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?;
        let [requests, took, bytes, errors, p50, p99, p999] = numbers[..] else {
            return Err(format!("wrk reports something else: {text}").into());
        };
        Ok(Seen {
            requests,
            took: Duration::from_micros(took),
            bytes,
            errors,
            p50: Duration::from_micros(p50),
            p99: Duration::from_micros(p99),
            p999: Duration::from_micros(p999),
        })
    }
}
