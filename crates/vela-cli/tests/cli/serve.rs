//! The daemon's own life; what it does to apps is tested end to end elsewhere.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{vela, write};

struct Daemon {
    dir: TempDir,
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Daemon {
    fn start() -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir, "server.toml", "vela.sock");
        let mut child = vela(dir.path())
            .args(["serve", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut daemon = Daemon { dir, child, log };
        daemon.wait_for_log("ready");
        daemon
    }

    fn wait_for_log(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let read = self.log.read_line(&mut line).unwrap();
            assert!(read > 0, "the daemon ended without {text:?}");
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails when it has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A configuration with a data directory that all daemons of `dir` share, and a port that the system chooses.
fn config(dir: &TempDir, name: &str, socket: &str) -> PathBuf {
    let text = format!(
        "data_dir = \"{0}/data\"\nsocket = \"{0}/{socket}\"\n\
         [proxy]\nbind = \"127.0.0.1\"\nhttp_port = 0\n[apps]\nisolate = false\n",
        dir.path().display()
    );
    write(&dir.path().join(name), &text, 0o644)
}

#[test]
fn a_daemon_answers_and_stops_cleanly_on_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start();
        let socket = daemon.dir.path().join("vela.sock");
        let apps = vela(daemon.dir.path())
            .args(["apps", "--json", "--server"])
            .arg(format!("unix://{}", socket.display()))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(apps.stdout).unwrap(), "[]\n");
        daemon.signal(signal);
        daemon.wait_for_log("stopped");
        assert!(daemon.child.wait().unwrap().success());
    }
}

#[test]
fn a_second_daemon_on_the_same_data_directory_is_refused() {
    let daemon = Daemon::start();
    let other = config(&daemon.dir, "other.toml", "other.sock");
    let second = vela(daemon.dir.path())
        .args(["serve", "--config"])
        .arg(other)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8(second.stderr).unwrap();
    let data = daemon.dir.path().join("data");
    let holder = format!(
        "error: {} is in use by another daemon, process {}",
        data.display(),
        daemon.child.id()
    );
    assert!(stderr.contains(&holder), "{stderr}");
    assert!(stderr.contains("hint: "), "{stderr}");
}

#[test]
fn a_proxy_that_cannot_be_as_the_file_has_it_is_not_started() {
    for (line, told) in [
        ("trusted_proxies = \"10.0.0.1/8\"", "server.toml:6:19"),
        ("max_body = \"1M\"", "server.toml:6:1"),
        ("error_pages = \"/nonexistent/pages\"", "/nonexistent/pages"),
        ("limits.target = \"1M\"", "[proxy.limits] of server.toml"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = config(&dir, "server.toml", "vela.sock");
        let text = std::fs::read_to_string(&file).unwrap();
        let (proxy, rest) = text.split_once("[apps]").unwrap();
        std::fs::write(&file, format!("{proxy}{line}\n[apps]{rest}")).unwrap();
        let refused = vela(dir.path())
            .args(["serve", "--config"])
            .arg(file)
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(1), "{line}");
        let stderr = String::from_utf8(refused.stderr).unwrap();
        assert!(stderr.contains(told), "{line}: {stderr}");
        assert!(!dir.path().join("data").exists(), "{line}");
    }
}
