//! The real command against a real daemon behind a real SSH server: what works over SSH, what is refused, and what a
//! network that breaks does.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

mod consoles;
mod deploys;
mod doors;
mod lost;
mod paused;
mod secrets;
mod trust;
mod uploads;

use vela_tests::{MANIFEST, Output, Release, Sshd, SshdOptions, World};

const HOST: &str = "shop.localhost";

/// The line with which an SSH server forwards to no sockets, so that `vela join` has to do.
const NO_FORWARDING: &str = "AllowStreamLocalForwarding no";

/// An SSH server with more lines in its configuration.
fn sshd(config: &str) -> Sshd {
    Sshd::with(SshdOptions {
        config: config.to_owned(),
        ..SshdOptions::default()
    })
}

/// The demo's app with a manifest that names the server, and more lines for its `[deploy]`.
fn shop(server: &str, deploy: &str) -> Release {
    let manifest = format!("{MANIFEST}server = {server:?}\n{deploy}\n");
    Release::demo_app(&manifest, "")
}

/// Commands about the server alone.
async fn apps(sshd: &Sshd, world: &World) -> Output {
    sshd.vela(&["apps", "-s", &sshd.address(&world.socket())])
        .await
}

/// The release that a deploy printed.
#[track_caller]
fn released(output: Output) -> String {
    let output = output.expect(0);
    let release = output.stdout.strip_suffix('\n').unwrap_or_default();
    assert_eq!(release.len(), "20260305-143022".len(), "{output:?}");
    release.to_owned()
}

/// Fails unless a command could not reach its daemon, and said this of it.
#[track_caller]
fn expect_unreachable(output: Output, cause: &str, hint: &str) {
    let output = output.expect(4);
    assert_eq!(output.stdout, "", "{output:?}");
    let lines: Vec<_> = output.stderr.lines().collect();
    assert_eq!(lines[0], "error: the server is unreachable", "{output:?}");
    let told = lines[1].strip_prefix("  caused by: ").unwrap_or_default();
    assert!(told.starts_with(cause), "{cause:?} is not in {output:?}");
    let hints = lines.iter().filter_map(|line| line.strip_prefix("hint: "));
    let hints: Vec<_> = hints.collect();
    assert_eq!(hints.len(), 1, "{output:?}");
    assert!(hints[0].contains(hint), "{hint:?} is not in {output:?}");
}
