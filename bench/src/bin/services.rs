//! What services cost a deploy. Each round takes every measure once, with servers that were not there before, so that
//! a machine that gets slower slows them all.
#![expect(
    clippy::print_stdout,
    reason = "the result of a benchmark is what it prints"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use vela_bench::{App, Daemon, Operation, Result, Samples, nats_by_hand, postgres_by_hand, table};

const POSTGRES: &str = "[services.postgres]\nversion = \"15\"\n";
const NATS: &str = "[services.nats]\njetstream = true\n";

/// Deploys of one app after its first, in each round.
const LATER: usize = 5;

/// Measures what services cost a deploy.
#[derive(Debug, Parser)]
struct Args {
    /// The program to measure [default: `vela` beside this one]
    #[arg(long)]
    vela: Option<PathBuf>,
    /// Rounds
    #[arg(long, default_value_t = 10)]
    rounds: usize,
}

/// One server, by its own tools and by a first deploy.
struct Server {
    by_hand: Samples,
    provisioned: Samples,
    beyond: Samples,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let own = std::env::current_exe()?;
    let vela = args.vela.unwrap_or_else(|| own.with_file_name("vela"));
    let program = own.with_file_name("bench-app");
    let mut postgres = Server::of("initdb, start, CREATE ROLE and DATABASE", "Postgres");
    let mut nats = Server::of("exec of nats-server to /healthz", "NATS");
    let mut further = Samples::of("a further app's first deploy, both there");
    let mut later = Samples::of("later deploys, both (goal: under 20 ms)");
    for round in 1..=args.rounds {
        eprint_round(round, args.rounds);
        // The servers' users pass through it.
        let dir = tempfile::Builder::new().prefix("vela-bench-").tempdir()?;
        pass_through(dir.path())?;
        let (by_hand, deployed) = (dir.path().join("by-hand"), dir.path());
        let daemon = Daemon::start(&vela, deployed)?;
        let rows = App::with_services(deployed, "rows", &program, POSTGRES)?;
        let words = App::with_services(deployed, "words", &program, NATS)?;
        let both = format!("{POSTGRES}\n{NATS}");
        let both = App::with_services(deployed, "both", &program, &both)?;
        let provision = |app: &App| -> Result<Duration> {
            provisioned(&daemon.deploy(app, &daemon.local_address(), None)?)
        };
        let mut measure = || -> Result<()> {
            postgres.push(postgres_by_hand(&by_hand)?, provision(&rows)?);
            nats.push(nats_by_hand(&by_hand)?, provision(&words)?);
            further.push(provision(&both)?);
            for _ in 0..LATER {
                later.push(provision(&both)?);
            }
            Ok(())
        };
        let measured = measure();
        // A server that nobody uses any more is stopped; whatever happened, none outlives its round.
        let purged = [&rows, &words, &both].map(|app| daemon.purge(app));
        measured?;
        purged.into_iter().collect::<Result<()>>()?;
    }
    postgres.print();
    nats.print();
    println!("{}", table(&[&later, &further]));
    Ok(())
}

impl Server {
    fn of(by_hand: &str, name: &str) -> Server {
        Server {
            by_hand: Samples::of(by_hand),
            provisioned: Samples::of(&format!("first deploy with {name}: provision")),
            beyond: Samples::of("the difference (goal: under 3 s)"),
        }
    }

    fn push(&mut self, by_hand: Duration, provisioned: Duration) {
        self.by_hand.push(by_hand);
        self.provisioned.push(provisioned);
        self.beyond.push(provisioned.saturating_sub(by_hand));
    }

    fn print(&self) {
        println!(
            "{}",
            table(&[&self.by_hand, &self.provisioned, &self.beyond])
        );
    }
}

/// The time of the step, of a deploy that succeeded.
fn provisioned(operation: &Operation) -> Result<Duration> {
    match operation.provisioned {
        Some(took) if operation.terminal.kind == "succeeded" => Ok(took),
        _ => Err(format!("a deploy did not succeed: {operation:?}").into()),
    }
}

fn pass_through(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(
        dir,
        std::fs::Permissions::from_mode(0o711),
    )?)
}

#[expect(
    clippy::print_stderr,
    reason = "progress, so that nobody thinks that it hangs"
)]
fn eprint_round(round: usize, rounds: usize) {
    eprintln!("round {round} of {rounds}");
}
