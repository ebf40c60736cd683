//! The data plane beside the proxies that people would use instead: each round, every proxy gets every load once, so
//! that a machine that gets slower slows them all.
#![expect(
    clippy::print_stdout,
    reason = "the result of a benchmark is what it prints"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use vela_bench::{
    Contender, Goals, Kind, Limit, Load, Result, Results, Row, TlsPair, Wrk, allow_descriptors,
    free_address, h2load, handshakes, wait_for,
};
use vela_proxy::tls::{CertificateFiles, CertificateStore, Origin, Tls, TlsSettings};

/// Measures Vela's proxy, nginx, HAProxy and Caddy in front of one backend.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds for each load of each proxy
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Only loads whose name contains this
    #[arg(long, default_value = "")]
    load: String,
    /// Only these, by name
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Another build of this program, as NAME=PATH, to be measured as well
    #[arg(long)]
    also: Vec<String>,
    /// Idle connections while the memory is measured; 0 to skip it
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Be the proxy
    #[command(hide = true)]
    Serve {
        listen: SocketAddr,
        upstream: SocketAddr,
        /// Where to speak TLS
        #[arg(long)]
        tls: SocketAddr,
        #[arg(long)]
        certificate: PathBuf,
        #[arg(long)]
        key: PathBuf,
        /// Switch the route ten times a second
        #[arg(long)]
        switch: bool,
    },
    /// Be the backend
    #[command(hide = true)]
    Backend { listen: SocketAddr },
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.role {
        Some(Role::Serve {
            listen,
            upstream,
            tls,
            certificate,
            key,
            switch,
        }) => be_proxy(
            listen,
            tls,
            CertificateFiles { certificate, key },
            upstream,
            switch,
        ),
        Some(Role::Backend { listen }) => {
            Ok(vela_bench::serve_backend(TcpListener::bind(listen)?)?)
        }
        None => measure(&args),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn be_proxy(
    listen: SocketAddr,
    secure: SocketAddr,
    files: CertificateFiles,
    upstream: SocketAddr,
    switch: bool,
) -> Result<()> {
    use vela_proxy::{Listener, Proxy, ProxyConfig, RouteSpec, Router, Timeouts, Upstream};
    let proxy = Proxy::new(ProxyConfig {
        timeouts: Timeouts {
            keep_alive: Duration::from_secs(300),
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    });
    // What is asked for by wrk and h2load, and by a client that names a host in its handshake.
    let hosts = vec![listen.ip().to_string().parse()?];
    let spec = RouteSpec::new("bench", hosts, vec![Upstream::new(upstream)]);
    // The first one replaces nothing.
    drop(proxy.apply(spec.clone()).await?);
    let store = Arc::new(CertificateStore::new()?);
    store.put(Origin::Static, "bench", files.load()?);
    let tls = Tls::new(store, TlsSettings::default())?;
    let _serving = proxy.serve([
        Listener::http(TcpListener::bind(listen)?),
        Listener::https(TcpListener::bind(secure)?, tls),
    ])?;
    if !switch {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(replaced) = proxy.apply(spec.clone()).await? {
            let drained = proxy.drain(replaced, Duration::from_secs(5).into()).await;
            if !drained.is_complete() {
                return Err(format!("requests are lost: {drained:?}").into());
            }
        }
    }
}

struct Loads {
    name: &'static str,
    load: What,
}

/// What is asked of a proxy.
#[derive(Clone, Copy)]
enum What {
    /// HTTP/1.1, by wrk.
    Plain(Load),
    /// The same over TLS.
    Tls(Load),
    /// HTTP/2 over TLS, by h2load.
    Http2 {
        connections: usize,
        streams: usize,
        size: usize,
    },
    /// Connections with a handshake and a request each.
    Handshakes { resumed: bool },
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn loads(filter: &str) -> Vec<Loads> {
    let load = |name, size, connections, keep_alive| Loads {
        name,
        load: What::Plain(Load {
            connections,
            keep_alive,
            size,
        }),
    };
    let tls = |name, load| Loads { name, load };
    let kept = |size| Load {
        connections: 64,
        keep_alive: true,
        size,
    };
    let h2 = |size| What::Http2 {
        connections: 16,
        streams: 32,
        size,
    };
    let mut all = vec![
        load("1 KiB, 64 connections, keep-alive", KIB, 64, true),
        load("1 KiB, 1 connection, keep-alive", KIB, 1, true),
        load("1 KiB, 64 connections, new ones", KIB, 64, false),
        load("1 KiB, 1 connection, new ones", KIB, 1, false),
        load("1 MiB, 64 connections, keep-alive", MIB, 64, true),
        load("1 MiB, 1 connection, keep-alive", MIB, 1, true),
        load("1 MiB, 64 connections, new ones", MIB, 64, false),
        load("1 MiB, 1 connection, new ones", MIB, 1, false),
        tls("TLS, 1 KiB, 64 connections", What::Tls(kept(KIB))),
        tls("TLS, 1 MiB, 64 connections", What::Tls(kept(MIB))),
        tls("TLS, HTTP/2, 1 KiB, 16 x 32 streams", h2(KIB)),
        tls("TLS, HTTP/2, 1 MiB, 16 x 32 streams", h2(MIB)),
        tls("TLS, full handshakes", What::Handshakes { resumed: false }),
        tls(
            "TLS, resumed handshakes",
            What::Handshakes { resumed: true },
        ),
    ];
    all.retain(|one| one.name.contains(filter));
    all
}

/// Descriptors beside those of idle connections.
const SPARE: u64 = 4096;

fn measure(args: &Args) -> Result<()> {
    // Before anything is started, which inherits it.
    allow_descriptors(args.idle as u64 + SPARE)?;
    let dir = tempfile::Builder::new().prefix("vela-bench-").tempdir()?;
    let own = std::env::current_exe()?;
    let upstream = free_address()?;
    let _backend = Backend(
        Command::new(&own)
            .args(["backend", &upstream.to_string()])
            .stdin(Stdio::null())
            .spawn()?,
    );
    wait_for(upstream)?;
    let mut kinds = vec![
        ("direct".to_owned(), Kind::Direct),
        ("nginx".to_owned(), Kind::Nginx),
        ("HAProxy".to_owned(), Kind::Haproxy),
        ("Caddy".to_owned(), Kind::Caddy),
        ("Vela".to_owned(), Kind::Vela(own.clone())),
        ("Vela switched".to_owned(), Kind::VelaSwitched(own)),
    ];
    for other in &args.also {
        let (name, path) = other.split_once('=').ok_or("--also wants NAME=PATH")?;
        kinds.push((name.to_owned(), Kind::Vela(PathBuf::from(path))));
    }
    kinds.retain(|(name, _)| args.only.is_empty() || args.only.contains(name));
    let pair = TlsPair::make(dir.path())?;
    let contenders = kinds
        .iter()
        .map(|(name, kind)| Contender::start(name, kind, upstream, dir.path(), &pair))
        .collect::<Result<Vec<_>>>()?;
    let wrk = Wrk::new(dir.path())?;
    let mut goals = Goals::default();

    for one in loads(&args.load) {
        let speaks =
            |contender: &&Contender| matches!(one.load, What::Plain(_)) || contender.tls.is_some();
        let contenders: Vec<&Contender> = contenders.iter().filter(speaks).collect();
        let mut results: Vec<Results> = contenders.iter().map(|_| Results::default()).collect();
        for round in 0..args.rounds {
            // Another one is first each time.
            for turn in 0..contenders.len() {
                let at = (turn + round) % contenders.len();
                run(
                    &wrk,
                    contenders[at],
                    one.load,
                    args.seconds,
                    &mut results[at],
                )?;
            }
        }
        let rows: Vec<Row> = contenders
            .iter()
            .zip(&results)
            .map(|(contender, results)| Row::of(&contender.name, results))
            .collect();
        println!("\n{}", Row::table(one.name, &rows));
        note(&mut goals, &one, &rows);
    }
    if args.idle > 0 {
        println!(
            "\n{:<16}{:>14}{:>18}",
            "idle", "memory MiB", "a connection KiB"
        );
        for (name, kind) in kinds.iter().filter(|(_, kind)| *kind != Kind::Direct) {
            // A fresh one: what others have asked of it before is not in its memory.
            let contender = Contender::start(name, kind, upstream, dir.path(), &pair)?;
            let (before, after) = idle(&contender, args.idle)?;
            let memory = after as f64 / MIB as f64;
            println!(
                "{name:<16}{memory:>14.1}{:>18.2}",
                after.saturating_sub(before) as f64 / args.idle as f64 / KIB as f64
            );
            if name == "Vela" {
                let what = format!("{} idle connections, MiB", args.idle);
                goals.note(what, Limit::AtMost(100.0), Some(memory));
            }
        }
    }
    if !goals.is_empty() {
        println!("\n{goals}");
    }
    Ok(())
}

type Number = fn(&Row) -> f64;

/// What Vela is to reach under this load, of its peers' and of its own numbers.
fn note(goals: &mut Goals, load: &Loads, rows: &[Row]) {
    use Limit::{AtLeast, AtMost};
    let row = |name: &str| rows.iter().find(|row| row.name == name);
    let ratio = |number: Number, of: &str, to: &str| -> Option<f64> {
        Some(number(row(of)?) / number(row(to)?))
    };
    let mut goal = |what: &str, limit, seen| {
        goals.note(format!("{}: {what}", load.name), limit, seen);
    };
    let rate: Number = |row| row.rate;
    let p99: Number = |row| row.p99;
    let p999: Number = |row| row.p999;
    let cpu: Number = |row| row.cpu;
    match load.load {
        What::Plain(Load { size: MIB, .. }) => {
            goal(
                "requests, to nginx",
                AtLeast(1.0),
                ratio(rate, "Vela", "nginx"),
            );
        }
        What::Plain(Load {
            keep_alive: false, ..
        }) => goal(
            "requests, to nginx",
            AtLeast(0.9),
            ratio(rate, "Vela", "nginx"),
        ),
        What::Plain(Load {
            connections: 64, ..
        }) => {
            goal("CPU, to nginx", AtMost(1.17), ratio(cpu, "Vela", "nginx"));
            goal(
                "CPU, to HAProxy",
                AtMost(1.0),
                ratio(cpu, "Vela", "HAProxy"),
            );
            goal(
                "requests, to HAProxy",
                AtLeast(1.0),
                ratio(rate, "Vela", "HAProxy"),
            );
            goal(
                "p99, to HAProxy",
                AtMost(1.0),
                ratio(p99, "Vela", "HAProxy"),
            );
            let p999 = ratio(p999, "Vela switched", "Vela");
            goal("p99.9 when switched, to steady", AtMost(2.0), p999);
        }
        _ => {}
    }
    if let Some(switched) = row("Vela switched") {
        goal(
            "failed when switched",
            AtMost(0.0),
            Some(switched.errors as f64),
        );
    }
}

fn run(
    wrk: &Wrk,
    contender: &Contender,
    load: What,
    seconds: u64,
    results: &mut Results,
) -> Result<()> {
    let cpu = || {
        let processes = contender.processes();
        processes.map_or(Ok(Duration::ZERO), |all| all.cpu_time())
    };
    let before = cpu()?;
    let secure = contender.tls.ok_or("it speaks no TLS");
    let seen = match load {
        What::Plain(load) => wrk.run("http", contender.addr, load, seconds)?,
        What::Tls(load) => wrk.run("https", secure?, load, seconds)?,
        What::Http2 {
            connections,
            streams,
            size,
        } => h2load(secure?, (connections, streams), size, seconds)?,
        What::Handshakes { resumed } => handshakes(secure?, resumed, seconds)?,
    };
    results.cpu += cpu()?.saturating_sub(before);
    results.seen.push(seen);
    Ok(())
}

/// How long a proxy may take to answer one request while it is idle.
const PATIENCE: Duration = Duration::from_secs(30);

/// The memory before and after that many clients have each asked once and stayed.
fn idle(contender: &Contender, clients: usize) -> Result<(u64, u64)> {
    let memory = || match contender.processes() {
        Some(all) => all.memory(),
        None => Ok(0),
    };
    let before = memory()?;
    let request = format!("GET /1024 HTTP/1.1\r\nHost: {}\r\n\r\n", contender.addr);
    let mut open = Vec::with_capacity(clients);
    for _ in 0..clients {
        let mut socket = TcpStream::connect(contender.addr)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(request.as_bytes())?;
        let mut answer = [0; 4096];
        let mut got = 0;
        while got < KIB || !answer[..got].ends_with(b"abcdef") {
            match socket.read(&mut answer[got..])? {
                0 => return Err(format!("{} closes idle connections", contender.name).into()),
                read => got += read,
            }
        }
        open.push(socket);
    }
    Ok((before, memory()?))
}

/// The backend's process.
struct Backend(Child);

impl Drop for Backend {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
