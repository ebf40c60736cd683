//! A daemon that says what a test tells it to, over the real protocol, and a `vela` that talks to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than anything here takes; a test that waits as long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with a manifest and a program, and a fake daemon beside it.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    /// Requests as they arrive: `POST /v1/apps/my-app/deploys`.
    requests: Receiver<String>,
    /// What the daemon says next on the stream of the deploy.
    script: Sender<Said>,
}

enum Said {
    Line(String),
    Cut,
}

impl World {
    pub(crate) fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        write(
            &dir.path().join("Vela.toml"),
            "[app]\nname = \"my-app\"\ndomain = \"my-app.example\"\n",
            0o644,
        );
        write(&dir.path().join("my-app"), "#!/bin/sh\n", 0o755);
        let listener = UnixListener::bind(dir.path().join("vela.sock")).unwrap();
        let (seen, requests) = channel();
        let (script, said) = channel();
        let said = Arc::new(Mutex::new(said));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, said) = (seen.clone(), Arc::clone(&said));
                thread::spawn(move || serve(stream.unwrap(), &seen, &said));
            }
        });
        World {
            dir,
            requests,
            script,
        }
    }

    pub(crate) fn vela(&self) -> Command {
        let mut vela = vela(self.dir.path());
        let socket = self.dir.path().join("vela.sock");
        vela.arg("--server")
            .arg(format!("unix://{}", socket.display()));
        vela
    }

    /// Starts `vela deploy ./my-app` and waits until the daemon was asked for it.
    pub(crate) fn deploy(&self, flags: &[&str]) -> Deploying {
        let mut child = self
            .vela()
            .args(flags)
            .args(["deploy", "./my-app"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, stderr_lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                if lines.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        self.wait_for("POST /v1/apps/my-app/deploys");
        Deploying {
            child,
            stderr: stderr_lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a request, in which one `*` stands for anything; others before it are passed over, and returned.
    pub(crate) fn wait_for(&self, request: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let next = self
                .requests
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("no {request}; there were {before:?}"));
            let (start, end) = request.split_once('*').unwrap_or((request, ""));
            if next.starts_with(start) && next.ends_with(end) {
                return before;
            }
            before.push(next);
        }
    }

    /// Requests that nobody waited for.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }

    /// The next event of the deploy.
    pub(crate) fn say(&self, seq: u64, event: Value) {
        let mut envelope = json!({
            "v": 1, "seq": seq, "time": "2026-03-05T14:30:22Z",
            "deploy": "6f1c2d9e-8f0b-4f43-9d8a-0d5a4c1f2b3c",
        });
        envelope
            .as_object_mut()
            .unwrap()
            .extend(event.as_object().unwrap().clone());
        self.script.send(Said::Line(envelope.to_string())).unwrap();
    }

    /// Ends the stream although the deploy goes on.
    pub(crate) fn cut(&self) {
        self.script.send(Said::Cut).unwrap();
    }
}

/// A `vela deploy` that runs.
pub(crate) struct Deploying {
    child: Child,
    stderr: Receiver<String>,
    seen: Vec<String>,
}

impl Deploying {
    /// Waits until stderr has a line that starts like this.
    pub(crate) fn wait_for_line(&mut self, start: &str) {
        loop {
            let line = self
                .stderr
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("no line {start:?} in {:#?}", self.seen));
            self.seen.push(line);
            if self.seen.last().unwrap().starts_with(start) {
                return;
            }
        }
    }

    pub(crate) fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    /// Its end: exit code, stdout, lines of stderr.
    pub(crate) fn end(mut self) -> (i32, String, Vec<String>) {
        let mut stdout = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        let code = self.child.wait().unwrap().code().unwrap();
        self.seen.extend(self.stderr.iter());
        (code, stdout, self.seen)
    }
}

/// A `vela` in `dir`, with none of this process's own settings.
pub(crate) fn vela(dir: &Path) -> Command {
    let mut vela = Command::new(env!("CARGO_BIN_EXE_vela"));
    vela.current_dir(dir).env_clear().env("HOME", dir);
    if let Some(path) = std::env::var_os("PATH") {
        vela.env("PATH", path);
    }
    vela
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.to_owned()
}

/// Answers the requests of one connection until the client closes it.
fn serve(stream: UnixStream, seen: &Sender<String>, said: &Mutex<Receiver<Said>>) {
    let mut out = stream.try_clone().unwrap();
    let mut input = BufReader::new(stream);
    while let Some((request, body)) = read_request(&mut input) {
        let path = request.split(' ').nth(1).unwrap().to_owned();
        if seen.send(request.clone()).is_err() {
            return;
        }
        let answer = if path == "/v1/version" {
            json!({ "version": "0.1.0", "protocol": 1, "data_dir": "/var/vela", "pid": 1 })
        } else if let Some(id) = path.strip_prefix("/v1/uploads/") {
            json!({ "upload": id, "size": body })
        } else if path.ends_with("/deploys") || path.contains("/events") {
            if stream_events(&mut out, &said.lock().unwrap()).is_err() {
                return;
            }
            continue;
        } else {
            json!({})
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if out.write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

fn stream_events(out: &mut UnixStream, said: &Receiver<Said>) -> std::io::Result<()> {
    out.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    while let Ok(Said::Line(line)) = said.recv() {
        out.write_all(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).as_bytes())?;
        if line.contains("\"kind\":\"succeeded\"")
            || line.contains("\"kind\":\"failed\"")
            || line.contains("\"kind\":\"cancelled\"")
        {
            break;
        }
    }
    out.write_all(b"0\r\n\r\n")
}

/// The request line without its version, and the length of the body.
fn read_request(input: &mut impl BufRead) -> Option<(String, u64)> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let request = line.rsplit_once(' ')?.0.to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        input.read_line(&mut header).ok()?;
        match header.trim().to_lowercase().split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    std::io::copy(&mut input.take(length), &mut std::io::sink()).ok()?;
    Some((request, length))
}
