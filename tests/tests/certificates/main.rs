//! Certificates with the real daemon: what a deploy brings, what an operator sees, and what crashes and authorities do
//! to them.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

mod crashes;
mod deploys;
mod many;
mod operator;
#[path = "../../../crates/vela-proxy/tests/acme/pebble.rs"]
#[expect(dead_code, reason = "the proxy's own tests use the rest")]
mod pebble;
mod renewals;
mod scanner;
mod wildcards;

use std::path::PathBuf;
use std::time::Duration;

use pebble::Pebble;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep};
use vela_tests::{Artifact, Deploy, MANIFEST, Options, Output, Release, World};

const LONG: Duration = Duration::from_secs(60);
const HOST: &str = "shop.localhost";

/// What a daemon that obtains certificates from pebble is made with.
fn obtaining(pebble: &Pebble, more: &str) -> Options {
    let config = format!(
        "[tls]\nacme_email = \"ops@example.com\"\ndirectory = {:?}\ndirectory_ca = {:?}\n{more}\n",
        pebble.directory(),
        pebble.authority(),
    );
    given(pebble, &config)
}

/// What a daemon is made with that serves HTTPS where pebble looks.
fn given(pebble: &Pebble, config: &str) -> Options {
    Options {
        config: config.to_owned(),
        ports: Some((pebble.ports.http, pebble.ports.https)),
        ..Options::default()
    }
}

/// A release of an app with these hosts.
fn release(app: &str, domain: &str, aliases: &[&str]) -> Release {
    let aliases: Vec<String> = aliases.iter().map(|alias| format!("{alias:?}")).collect();
    let manifest = MANIFEST
        .replace("\"shop\"", &format!("{app:?}"))
        .replace(HOST, domain)
        .replace(
            "[deploy]",
            &format!("aliases = [{}]\n[deploy]", aliases.join(", ")),
        );
    Release::demo_app(&manifest, "")
}

/// Begins a deploy without waiting for it.
async fn begin(world: &World, release: &Release) -> Deploy {
    let manifest = std::fs::read_to_string(release.manifest()).unwrap();
    Artifact::of("shop", &manifest, release).begin(world).await
}

/// What curl prints of a host's page, and what it complains about, trusting pebble's root alone.
async fn https(world: &World, pebble: &Pebble, host: &str) -> String {
    let roots = pebble.roots(world.dir());
    curl(pebble, &roots, host).await
}

async fn curl(pebble: &Pebble, roots: &std::path::Path, host: &str) -> String {
    let output = Command::new("curl")
        .args(["-sSi", "--max-time", "20", "--cacert"])
        .arg(roots)
        .arg("--connect-to")
        .arg(format!(":443:127.0.0.1:{}", pebble.ports.https))
        .arg(format!("https://{host}/"))
        .output()
        .await
        .unwrap();
    let output = Output::from(output);
    output.stdout + &output.stderr
}

async fn until(what: &str, world: &World, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !holds().await {
        assert!(Instant::now() < until, "{what}: {}", world.daemon_log());
        sleep(Duration::from_millis(20)).await;
    }
}

/// `vela certs list` of one origin.
async fn certificates(world: &World, origin: &str) -> Vec<Value> {
    let list = world.vela(&["certs", "list", "--json"]).await.expect(0);
    let Value::Array(all) = list.json() else {
        panic!("{list:?}")
    };
    all.into_iter()
        .filter(|one| one["origin"] == origin)
        .collect()
}

/// The one that was obtained for the app that most tests deploy.
async fn obtained(world: &World) -> Value {
    let shown = world.vela(&["certs", "show", "shop", "--json"]).await;
    let shown = shown.expect(0).json();
    let found = shown.as_array().unwrap().iter();
    let mut found = found.filter(|one| one["origin"] == "acme");
    let one = found.next().cloned().unwrap_or_default();
    assert!(found.next().is_none(), "{shown}");
    one
}

/// The names that a certificate is for, sorted.
fn names(one: &Value) -> Vec<String> {
    let names = one["names"].as_array().unwrap().iter();
    let mut names: Vec<String> = names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// What `vela status --json` warns of.
async fn warnings(world: &World, app: &str) -> String {
    let status = world.vela(&["status", app, "--json"]).await.expect(0);
    status.json()[0]["tls"]["warnings"].to_string()
}

/// Orders that pebble has taken. A nonce that it refused is sent again.
fn orders(pebble: &Pebble) -> usize {
    pebble.logged("Added order ")
}

/// A command for TXT records that waits at one of its actions until it may go on.
struct Gate {
    dir: tempfile::TempDir,
}

impl Gate {
    fn new() -> Gate {
        Gate {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// The line for server.toml.
    fn hook(&self, pebble: &Pebble, action: &str) -> String {
        let script = self.dir.path().join("hook");
        let dir = self.dir.path().display();
        let own = pebble.dns_hook();
        let text = format!(
            "if [ $VELA_ACME_ACTION = {action} ]; then\n\
             echo >> {dir}/reached\nwhile ! [ -e {dir}/open ]; do sleep 0.05; done\nfi\n{own}\n"
        );
        std::fs::write(&script, text).unwrap();
        format!("dns_hook = \"sh {}\"", script.display())
    }

    fn open(&self) {
        std::fs::write(self.dir.path().join("open"), "").unwrap();
    }

    /// How often somebody came to it.
    fn reached(&self) -> usize {
        std::fs::read(self.path()).map_or(0, |lines| lines.len())
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("reached")
    }
}
