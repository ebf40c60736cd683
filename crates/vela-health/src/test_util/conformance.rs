use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::timeout;

use crate::{Exec, Probe, Target};

/// What no attempt of a working probe takes.
const LONG: Duration = Duration::from_secs(30);

/// What every [`Probe`] must do. `healthy` and `unhealthy` are a probe each and where it looks:
/// the first is to succeed, the second to fail, both promptly.
///
/// # Panics
///
/// If one of the probes breaks the contract.
pub async fn conformance(healthy: (&dyn Probe, Target), unhealthy: (&dyn Probe, Target)) {
    let (healthy, unhealthy) = (&healthy, &unhealthy);
    let check = async |(probe, target): &(&dyn Probe, Target)| {
        timeout(LONG, probe.check(target))
            .await
            .expect("an attempt ends promptly")
    };

    // One attempt leaves nothing for the next.
    for _ in 0..3 {
        check(healthy).await.expect("a healthy target is healthy");
        let error = check(unhealthy)
            .await
            .expect_err("an unhealthy target is not");
        assert!(!error.to_string().is_empty(), "an error says something");
    }

    // Dropped in the middle, an attempt does not disturb the next.
    for (probe, target) in [healthy, unhealthy] {
        poll_once(probe.check(target));
    }
    check(healthy)
        .await
        .expect("healthy after a dropped attempt");
    check(unhealthy)
        .await
        .expect_err("unhealthy after a dropped attempt");

    // Attempts at the same time do not disturb each other.
    let (first, second, third) = tokio::join!(check(healthy), check(unhealthy), check(healthy));
    first.expect("healthy beside others");
    second.expect_err("unhealthy beside others");
    third.expect("healthy beside others");
}

/// What every [`Exec`] must do.
///
/// # Panics
///
/// If it breaks the contract.
pub async fn exec_conformance(exec: &dyn Exec) {
    let run = async |command: &str| {
        let ran = timeout(LONG, exec.run(command)).await;
        ran.expect("a command ends promptly")
            .expect("a shell can be run")
    };

    let output = run("exit 0").await;
    assert_eq!(
        (output.status, output.signal, output.last_line),
        (Some(0), None, None)
    );

    let output = run("echo to stdout; echo to stderr >&2; exit 3").await;
    assert_eq!(output.status, Some(3));
    assert_eq!(output.last_line.as_deref(), Some("to stderr"));

    let output = run("kill -TERM $$").await;
    assert_eq!((output.status, output.signal), (None, Some(15)));

    let output = run("cat; echo read all").await;
    assert_eq!(
        output.last_line.as_deref(),
        Some("read all"),
        "standard input is empty"
    );

    let output = run("no-such-command-anywhere").await;
    assert_eq!(output.status, Some(127), "a shell interprets the command");

    // More than fits into a pipe.
    let output = run("head -c 300000 /dev/zero; echo; echo the end; exit 1").await;
    assert_eq!(output.last_line.as_deref(), Some("the end"));

    // Dropped in the middle, a run does not disturb the next.
    poll_once(exec.run("sleep 600"));
    assert_eq!(run("exit 0").await.status, Some(0));
}

fn poll_once<T>(future: impl Future<Output = T>) {
    // Whether it is ready at once does not matter: it is dropped either way.
    drop(pin!(future).poll(&mut Context::from_waker(Waker::noop())));
}
