//! What a deploy costs: each round takes every measure once, so that a machine that gets slower slows them all.
#![expect(
    clippy::print_stdout,
    reason = "the result of a benchmark is what it prints"
)]

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use vela_bench::{
    App, Daemon, HOST, Operation, Result, Samples, SshServer, direct_start, first_answer, table,
};

/// The size of the app over SSH.
const ONE_MB: usize = 1 << 20;

/// A crash after this much health is a first crash, which is answered at once.
const HEALTHY: Duration = Duration::from_millis(10_200);

/// Measures deploys, refusals and restarts.
#[derive(Debug, Parser)]
struct Args {
    /// The program to measure [default: `vela` beside this one]
    #[arg(long)]
    vela: Option<PathBuf>,
    /// Rounds
    #[arg(long, default_value_t = 20)]
    rounds: usize,
}

/// Every measure.
struct Measures {
    direct: Samples,
    switched: Samples,
    overhead: Samples,
    copied: Samples,
    over_ssh: Samples,
    refused: Samples,
    crashed: Samples,
    served: Samples,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let own = std::env::current_exe()?;
    let beside = |name: &str| own.with_file_name(name);
    let vela = args.vela.unwrap_or_else(|| beside("vela"));
    let dir = tempfile::Builder::new().prefix("vela-bench-").tempdir()?;
    let app = App::that_serves(dir.path(), &beside("bench-app"), ONE_MB)?;
    let exits = App::that_exits(dir.path())?;
    let ssh = SshServer::start(dir.path())?;
    let mut daemon = Daemon::start(&vela, dir.path())?;
    let mut measures = Measures::new();

    // The first deploy is not the measured one.
    switched(&daemon.deploy(&app, &daemon.local_address(), None)?)?;
    for round in 1..=args.rounds {
        eprint_round(round, args.rounds);
        let direct = direct_start(&app.artifact)?;
        let local = switched(&daemon.deploy(&app, &daemon.local_address(), None)?)?;
        measures.direct.push(direct);
        measures.switched.push(local);
        measures.overhead.push(local.saturating_sub(direct));

        measures.copied.push(ssh.copy_and_run(&app.artifact)?);
        let address = daemon.ssh_address(SshServer::HOST);
        let deploy = daemon.deploy(&app, &address, Some(&ssh.config()))?;
        switched(&deploy)?;
        measures.over_ssh.push(deploy.ended - deploy.began);

        measures.refused.push(refusal(&daemon, &exits)?);
        measures.crashed.push(crash(&daemon)?);
        measures.served.push(serve_again(&mut daemon)?);
    }
    measures.print();
    Ok(())
}

impl Measures {
    fn new() -> Measures {
        Measures {
            direct: Samples::of("direct exec to first 200"),
            switched: Samples::of("vela deploy to traffic switched, Unix socket"),
            overhead: Samples::of("the difference (goal: under 150 ms)"),
            copied: Samples::of("scp of 1 MB, then ssh host true"),
            over_ssh: Samples::of("vela deploy of 1 MB over SSH (goal: ratio 1)"),
            refused: Samples::of("exit of the release to refusal (200 ms)"),
            crashed: Samples::of("kill -9 of the app to first 200 (+50 ms)"),
            served: Samples::of("exec of vela serve to first 200 (100 ms)"),
        }
    }

    fn print(&self) {
        println!("{}", table(&[&self.direct, &self.switched, &self.overhead]));
        println!("{}", table(&[&self.copied, &self.over_ssh]));
        println!(
            "{}",
            table(&[&self.direct, &self.crashed, &self.refused, &self.served])
        );
    }
}

/// From the start of the client to its word that traffic was switched.
fn switched(operation: &Operation) -> Result<Duration> {
    match operation.switched {
        Some(at) if operation.terminal.kind == "succeeded" => Ok(at - operation.began),
        _ => Err(format!("a deploy did not succeed: {operation:?}").into()),
    }
}

/// From the exit of the release's process to the client's word that the deploy has failed.
fn refusal(daemon: &Daemon, exits: &App) -> Result<Duration> {
    let operation = daemon.deploy(exits, &daemon.local_address(), None)?;
    if operation.terminal.kind != "failed" {
        return Err(format!("a release that exits was not refused: {operation:?}").into());
    }
    let noted = std::fs::read_to_string(daemon.app_data(exits).join("exit"))?;
    let exited = SystemTime::UNIX_EPOCH + Duration::from_nanos(noted.trim().parse()?);
    Ok(operation.terminal.told.duration_since(exited)?)
}

/// From the death of the app to the first answer of another process of it.
fn crash(daemon: &Daemon) -> Result<Duration> {
    sleep(HEALTHY);
    let (_, pid) = first_answer(daemon.addr, HOST, |_| true)?;
    let process = Pid::from_raw(pid.parse()?).ok_or("the app has no pid")?;
    let begin = std::time::Instant::now();
    kill_process(process, Signal::KILL)?;
    let (answered, _) = first_answer(daemon.addr, HOST, |body| body != pid)?;
    Ok(answered - begin)
}

/// From the exec of the daemon, after a kill, to the first answer of the app, which went on meanwhile.
fn serve_again(daemon: &mut Daemon) -> Result<Duration> {
    let (_, pid) = first_answer(daemon.addr, HOST, |_| true)?;
    daemon.kill()?;
    let begin = daemon.spawn()?;
    let (answered, _) = first_answer(daemon.addr, HOST, |body| body == pid)?;
    Ok(answered - begin)
}

#[expect(
    clippy::print_stderr,
    reason = "progress, so that nobody thinks that it hangs"
)]
fn eprint_round(round: usize, rounds: usize) {
    eprintln!("round {round} of {rounds}");
}
