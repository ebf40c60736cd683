//! What needs no daemon: help, usage, local errors, `init`, `check`, `setup` of an image.

use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::{vela, write};
use serde_json::Value;
use tempfile::TempDir;

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn last_line(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }
}

fn run(dir: &Path, words: &[&str]) -> Ended {
    ended(vela(dir).args(words).stdin(Stdio::null()).output().unwrap())
}

fn ended(output: Output) -> Ended {
    let ended = Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    for text in [&ended.stdout, &ended.stderr] {
        assert!(
            !text.contains('\u{1b}'),
            "an escape without a terminal: {text:?}"
        );
    }
    ended
}

fn project(manifest: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("Vela.toml"), manifest, 0o644);
    write(&dir.path().join("my-app"), "#!/bin/sh\n", 0o755);
    dir
}

const GOOD: &str = "[app]\nname = \"my-app\"\ndomain = \"my-app.example\"\n";

#[test]
fn help_lists_the_commands_and_hides_the_machinery() {
    let dir = tempfile::tempdir().unwrap();
    let help = run(dir.path(), &["--help"]);
    assert_eq!(help.code, 0);
    for command in [
        "init",
        "check",
        "deploy",
        "cancel",
        "status",
        "apps",
        "logs",
        "releases",
        "history",
        "rollback",
        "restart",
        "stop",
        "start",
        "remove",
        "secret",
        "setup",
        "serve",
        "demo",
        "completions",
    ] {
        let listed = |line: &str| line.trim_start().split(' ').next() == Some(command);
        assert!(
            help.stdout.lines().any(listed),
            "{command}: {}",
            help.stdout
        );
    }
    for hidden in ["  shim", "  join", "  demo-app"] {
        assert!(!help.stdout.contains(hidden), "{}", help.stdout);
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    let dir = project(GOOD);
    for words in [
        &[][..],
        &["deplyo"],
        &["deploy", "--drain"],
        &["status", "../x"],
        &["logs", "Bad_Name"],
        &["-s", "-oProxyCommand=evil", "apps"],
        &["-s", "http://host", "apps"],
        &["completions", "tcsh-ish"],
        &["secret", "set"],
    ] {
        let ended = run(dir.path(), words);
        assert_eq!(ended.code, 2, "{words:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{words:?}");
    }
}

#[test]
fn a_command_that_needs_an_app_asks_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(dir.path(), &["releases"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with("error: which app?"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("hint: name the app"),
        "{}",
        ended.stderr
    );
}

#[test]
fn init_writes_a_manifest_that_check_accepts_and_never_overwrites_one() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(
        dir.path(),
        &["init", "my-app", "--domain", "my-app.example"],
    );
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let ended = run(dir.path(), &["check"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "Vela.toml is valid\n"),
        "{}",
        ended.stderr
    );
    write(&dir.path().join("Vela.toml"), GOOD, 0o644);
    let ended = run(dir.path(), &["init", "other"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.starts_with("error: Vela.toml exists already"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        std::fs::read_to_string(dir.path().join("Vela.toml")).unwrap(),
        GOOD
    );
}

#[test]
fn a_typo_is_shown_where_it_is() {
    let dir = project(&format!("{GOOD}[deploy]\ndrian = 5\n"));
    for command in ["check", "deploy"] {
        let ended = run(dir.path(), &[command]);
        assert_eq!(ended.code, 1);
        assert!(
            ended.stderr.starts_with("error: Vela.toml:5:1: "),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("drian = 5"), "{}", ended.stderr);
        assert!(ended.stderr.contains("^^^^^"), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("did you mean `drain`?"),
            "{}",
            ended.stderr
        );
    }
    let ended = run(dir.path(), &["check", "--json"]);
    assert_eq!(ended.code, 1);
    let value: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(value["valid"], false);
    assert_eq!(value["problems"][0]["line"], 5);
    let error: Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(error["exit"], 1);
}

#[test]
fn what_cannot_be_deployed_yet_is_listed_by_check_and_refused_by_name() {
    let dir = project(&format!("{GOOD}[resources]\nmemory = \"512M\"\n"));
    let ended = run(dir.path(), &["check"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("resources.memory"),
        "{}",
        ended.stderr
    );
    let ended = run(dir.path(), &["deploy", "./my-app"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains("resources.memory"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.last_line(), "nothing was changed");
}

#[test]
fn a_bad_artifact_is_refused_before_anything_is_sent() {
    let dir = project(GOOD);
    write(&dir.path().join("empty"), "", 0o755);
    write(&dir.path().join("server"), "x", 0o755);
    for (artifact, message) in [
        ("./none", "error: the artifact ./none does not exist"),
        ("./empty", "error: the artifact ./empty is empty"),
        (
            "./server",
            "error: the artifact ./server lacks the entrypoint `my-app`: it is the single file `server`",
        ),
    ] {
        // A server that is not there would be exit code 4.
        let ended = run(
            dir.path(),
            &["-s", "unix:///nonexistent/vela.sock", "deploy", artifact],
        );
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
        assert_eq!(ended.last_line(), "nothing was changed");
    }
    let ended = run(dir.path(), &["deploy"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains("target/release/my-app"),
        "{}",
        ended.stderr
    );
}

#[test]
fn without_a_manifest_deploy_says_how_to_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(dir.path(), &["deploy"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains("hint: `vela init` writes one"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.last_line(), "nothing was changed");
}

#[test]
fn a_server_that_is_not_there_is_exit_code_4() {
    let dir = project(GOOD);
    let server = "unix:///nonexistent/vela.sock";
    for words in [
        &["apps"][..],
        &["status"],
        &["deploy", "./my-app"],
        &["rollback"],
        &["stop"],
    ] {
        let ended = run(dir.path(), &[&["-s", server], words].concat());
        assert_eq!(ended.code, 4, "{words:?}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("/nonexistent/vela.sock"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn flags_can_be_variables_and_errors_json() {
    let dir = project(GOOD);
    let output = vela(dir.path())
        .arg("apps")
        .env("VELA_JSON", "1")
        .env("VELA_SERVER", "unix:///nonexistent/vela.sock")
        .output()
        .unwrap();
    let ended = ended(output);
    let error: Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(error["exit"], 4);
    assert_eq!(error["error"]["message"], "the server is unreachable");
    assert_eq!(ended.stdout, "");
}

#[test]
fn one_stdin_holds_one_secret() {
    let dir = project(GOOD);
    let ended = run(dir.path(), &["secret", "set", "A", "B"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("`vela secret import`"),
        "{}",
        ended.stderr
    );
}

#[test]
fn completions_know_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(dir.path(), &["completions", shell]);
        assert_eq!(ended.code, 0);
        assert!(ended.stdout.contains("rollback"), "{shell}");
    }
}

#[test]
fn an_image_is_set_up_once() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let words = ["setup", "--root", image.to_str().unwrap()];
    let plan = run(dir.path(), &[&words[..], &["--dry-run"]].concat());
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    assert!(
        plan.stdout
            .lines()
            .all(|line| line.starts_with("would be done: ")),
        "{}",
        plan.stdout
    );
    assert!(!image.exists());
    let first = run(dir.path(), &words);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(
        first.stdout.lines().all(|line| line.starts_with("done: ")),
        "{}",
        first.stdout
    );
    let second = run(dir.path(), &words);
    assert!(
        second
            .stdout
            .lines()
            .all(|line| line.starts_with("unchanged: ")),
        "{}",
        second.stdout
    );
    let installed = std::process::Command::new(image.join("usr/local/bin/vela"))
        .arg("--version")
        .output()
        .unwrap();
    assert!(installed.status.success());
}

#[test]
fn a_bad_server_configuration_is_shown_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(
        &dir.path().join("server.toml"),
        "[proxy]\nhttp_prot = 80\n",
        0o644,
    );
    let ended = run(dir.path(), &["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("server.toml:2:1"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("did you mean `http_port`?"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_port_that_is_taken_is_refused_with_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "data_dir = \"{0}/data\"\nsocket = \"{0}/vela.sock\"\n[proxy]\nbind = \"127.0.0.1\"\nhttp_port = {1}\n",
        dir.path().display(),
        taken.local_addr().unwrap().port()
    );
    let config = write(&dir.path().join("server.toml"), &text, 0o644);
    let ended = run(dir.path(), &["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains(&format!("(pid {})", std::process::id())),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
}
