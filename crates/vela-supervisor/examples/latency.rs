//! Measures what a shim costs: from `start` to the program's execution, and from the program's end
//! to the event.
//!
//! This program is its own shim, the way a daemon would be.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows its result"
)]

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::StreamExt;
use vela_supervisor::{
    InstanceEvent, InstanceId, InstanceSpec, ShimCommand, ShimSupervisor, Signal, Supervisor,
    run_shim,
};

const ROUNDS: usize = 50;

fn main() -> ExitCode {
    // Before anything is opened and any thread is started.
    if std::env::args().nth(1).as_deref() == Some("shim") {
        return run_shim();
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn measure() -> Result<(), Box<dyn Error>> {
    let run_dir = tempfile::tempdir()?;
    let supervisor =
        ShimSupervisor::open(run_dir.path(), ShimCommand::this_program(["shim"])).await?;
    let mut events = supervisor.watch();
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let instance = supervisor
            .start(InstanceSpec {
                args: vec!["1000".into()],
                ..InstanceSpec::new(InstanceId::random(), "/bin/sleep")
            })
            .await?;
        starts.push(began.elapsed());

        let killed = Instant::now();
        supervisor.signal(&instance.id, Signal::Kill).await?;
        let Some(InstanceEvent::Exited { .. }) = events.next().await else {
            return Err("the watch ended".into());
        };
        ends.push(killed.elapsed());
    }
    report("start to exec", &mut starts);
    report("signal to exit event", &mut ends);
    Ok(())
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what:<22} median {median:>10.1?}   worst {worst:>10.1?}");
}
