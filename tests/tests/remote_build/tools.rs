//! What real tools build is deployed under load, twice: the second build finds what the first one left.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use vela_cli::demo::load::{Load, LoadHandle, LoadOptions, Mark};
use vela_tests::{expect_no_failure, get, summary};

use super::project::{Deployed, Project, build_env};

/// Builds and deploys twice, with `change` between the two, under load: no request fails.
async fn twice(
    project: &Project,
    app: &str,
    change: impl FnOnce(&Deployed),
) -> (Deployed, Deployed) {
    let host = format!("{app}.localhost");
    project.commit();
    let first = project.deployed().await;
    assert_eq!(project.world.current(app).as_ref(), Some(&first.release));
    let options = LoadOptions {
        workers: 4,
        rate: 100,
        length: None,
        slow: 0,
        websockets: 0,
        ..LoadOptions::default()
    };
    let mut load = Load::start(project.world.http(), &host, options).unwrap();
    load.mark(Mark::Serves(vec![first.release.clone()]));
    more_requests(&load, 50).await;
    change(&first);
    project.commit();
    let second = project.deployed().await;
    more_requests(&load, 50).await;
    second
        .events
        .iter()
        .for_each(|envelope| load.observe(envelope));
    let report = load.stop().await.unwrap();
    println!(
        "{app}: built in {:?}, then in {:?}",
        first.took, second.took
    );
    println!("{app}: {}", summary(&report));
    expect_no_failure(&report);
    for release in [&first.release, &second.release] {
        assert!(report.answers.contains_key(release), "{:?}", report.answers);
    }
    let (status, body) = get(project.world.http(), &host, "/").await;
    assert_eq!(status, 200);
    assert!(body.starts_with(&second.release), "{body}");

    // Each build's output is kept with its release, as it was shown.
    for deployed in [&first, &second] {
        let flag = format!("--build={}", deployed.release);
        let log = project.vela(&["logs", &flag]).await.expect(0).stdout;
        let texts = log
            .lines()
            .map(|line| line.splitn(3, ' ').nth(2).unwrap_or_default());
        assert_eq!(texts.collect::<Vec<_>>(), deployed.lines);
    }
    (first, second)
}

async fn more_requests(load: &LoadHandle, more: u64) {
    let (wanted, began) = (load.requests() + more, Instant::now());
    while load.requests() < wanted {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the load stands still"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn modified(path: &Path) -> SystemTime {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const RUST_APP: &str = r#"
use std::io::{BufRead, BufReader, Write};

fn main() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", port())).expect("bind");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream));
    }
}

fn port() -> u16 {
    std::env::var("PORT").expect("PORT").parse().expect("a port")
}

fn serve(mut stream: std::net::TcpStream) {
    let release = std::env::var("VELA_RELEASE").expect("VELA_RELEASE");
    let mut lines = BufReader::new(stream.try_clone().expect("clone")).lines();
    loop {
        let (mut head, mut close) = (false, false);
        for line in lines.by_ref() {
            let Ok(line) = line else { return };
            head = true;
            close |= line.eq_ignore_ascii_case("connection: close");
            if line.is_empty() {
                break;
            }
        }
        if !head {
            return;
        }
        let body = format!("{release}\n{}\n", serde_json::json!({ "greeting": GREETING }));
        let connection = if close { "close" } else { "keep-alive" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-release: {release}\r\nconnection: {connection}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).is_err() || close {
            return;
        }
    }
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_cargo_project() {
    let project = Project::new().await;
    // The toolchain that builds these tests, and where it has its registry: a home of its own has neither.
    let toolchain = Path::new(env!("CARGO")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", toolchain.display());
    let home = std::env::var("CARGO_HOME")
        .unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").unwrap()));
    // Neither a command nor an output: both are told from Cargo.toml.
    project.manifest(
        "rust-shop",
        "",
        &build_env(&[("PATH", &path), ("CARGO_HOME", &home)]),
    );
    project.write(
        "Cargo.toml",
        "[package]\nname = \"rust-shop\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nserde_json = \"1\"\n[workspace]\n",
    );
    let source = |greeting: &str| format!("const GREETING: &str = {greeting:?};\n{RUST_APP}");
    project.write("src/main.rs", &source("hello"));
    project.write(".gitignore", "/target\n");
    let locked = Command::new(env!("CARGO"))
        .args(["generate-lockfile", "--quiet"])
        .current_dir(project.root())
        .status();
    assert!(locked.unwrap().success());

    let (first, second) = twice(&project, "rust-shop", |_| {
        project.write("src/main.rs", &source("welcome"));
    })
    .await;
    let compiled = |deployed: &Deployed, name: &str| {
        let compiling = format!("Compiling {name} ");
        deployed.lines.iter().any(|line| line.contains(&compiling))
    };
    assert!(
        compiled(&first, "serde_json") && compiled(&first, "rust-shop"),
        "{:#?}",
        first.lines
    );
    assert!(
        !compiled(&second, "serde_json") && compiled(&second, "rust-shop"),
        "{:#?}",
        second.lines
    );
    let body = get(project.world.http(), "rust-shop.localhost", "/")
        .await
        .1;
    assert!(body.contains("welcome"), "{body}");

    // Nothing to compile at all, for nothing has changed: the times of the files say so.
    project.commit();
    let third = project.deployed().await;
    assert!(!compiled(&third, "rust-shop"), "{:#?}", third.lines);
    assert_eq!(
        project
            .world
            .names("rust-shop", &format!("releases/{}", third.release)),
        ["rust-shop"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_elixir_release() {
    let project = Project::new().await;
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("elixir/my_app/.");
    let copied = Command::new("cp")
        .arg("-a")
        .arg(app)
        .arg(project.root())
        .status();
    assert!(copied.unwrap().success());
    // Enough of it that to compile it anew would show.
    for number in 0..300 {
        let module = format!(
            "defmodule MyApp.Generated.M{number} do\n{}end\n",
            (0..20)
                .map(|f| format!(
                    "  def f{f}(%{{a: a, b: [b | _]}} = x), do: {{a, b, Map.get(x, :c), {f}}}\n"
                ))
                .collect::<String>()
        );
        project.write(&format!("lib/my_app/generated/m{number}.ex"), &module);
    }
    project.write(".gitignore", "/_build\n/deps\n");
    project.manifest(
        "my-app",
        "type = \"beam\"",
        &build_env(&[("LANG", "C.UTF-8")]),
    );
    // What the manifest of the project sets in [env] is for other tests.
    let (first, second) = twice(&project, "my-app", |_| {
        let path = project.path("lib/my_app/web.ex");
        let web = std::fs::read_to_string(&path).unwrap();
        let changed = web.replace(
            "defp answer(\"/health\", _)",
            "defp answer(\"/changed\", _), do: {200, \"yes\"}\n  defp answer(\"/health\", _)",
        );
        assert_ne!(web, changed);
        project.write("lib/my_app/web.ex", &changed);
    })
    .await;
    let has =
        |deployed: &Deployed, text: &str| deployed.lines.iter().any(|line| line.contains(text));
    let compiled = first
        .lines
        .iter()
        .find(|line| line.starts_with("Compiling 30"));
    assert!(compiled.is_some(), "{:#?}", first.lines);
    assert!(
        has(&second, "Compiling 1 file (.ex)"),
        "{:#?}",
        second.lines
    );
    assert!(
        has(&second, "Release created at _build/prod/rel/my_app"),
        "{:#?}",
        second.lines
    );
    let changed = get(project.world.http(), "my-app.localhost", "/changed").await;
    assert_eq!(changed, (200, "yes".to_owned()));
}

const NODE_APP: &str = r#"
const express = require("express");
const ms = require("ms");
const app = express();
const release = process.env.VELA_RELEASE;
app.get("/", (_, response) => {
  response.set("x-release", release).send(`${release}\n${GREETING} in ${ms("2 days")}\n`);
});
app.get("/health", (_, response) => response.send("ok"));
const server = app.listen(process.env.PORT, "127.0.0.1");
server.keepAliveTimeout = 120000;
process.on("SIGTERM", () => server.close(() => process.exit(0)));
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_app_with_packages() {
    let project = Project::new().await;
    let source = |greeting: &str| format!("const GREETING = {greeting:?};\n{NODE_APP}");
    project.write("server.js", &source("hello"));
    project.write(".gitignore", "/node_modules\n");
    project.write(
        "package.json",
        "{ \"name\": \"node-shop\", \"private\": true, \"dependencies\": { \"express\": \"4.21.2\", \"ms\": \"2.1.3\" } }\n",
    );
    let locked = Command::new("npm")
        .args([
            "install",
            "--package-lock-only",
            "--no-audit",
            "--no-fund",
            "--silent",
        ])
        .current_dir(project.root())
        .status();
    assert!(locked.expect("`make test` installs npm").success());
    project.write_script("run", "exec node server.js");
    // No output either: the release is the tree, with what npm has put there.
    let build = "command = \"npm install --omit=dev --no-audit --no-fund\"";
    project.manifest(
        "node-shop",
        "binary = \"run\"",
        &format!("{build}{}", build_env(&[])),
    );

    let package = project.built("node-shop", "node_modules/express/package.json");
    let mut installed = None;
    let (first, second) = twice(&project, "node-shop", |_| {
        installed = Some(modified(&package));
        project.write("server.js", &source("welcome"));
    })
    .await;
    let has =
        |deployed: &Deployed, text: &str| deployed.lines.iter().any(|line| line.contains(text));
    assert!(has(&first, "added "), "{:#?}", first.lines);
    assert!(has(&second, "up to date"), "{:#?}", second.lines);
    assert_eq!(Some(modified(&package)), installed);
    let body = get(project.world.http(), "node-shop.localhost", "/")
        .await
        .1;
    assert!(body.ends_with("welcome in 172800000\n"), "{body}");
}
