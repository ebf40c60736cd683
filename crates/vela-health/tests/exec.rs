//! The exec probe with real processes, some of which do not want to end.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;
use vela_health::{Exec, ExecProbe, Policy, Probe, ProbeError, ShellExec, Target, Unhealthy};

const LONG: Duration = Duration::from_secs(20);

fn nobody() -> Target {
    Target::new("127.0.0.1:1".parse().unwrap())
}

/// A pipe that every process of a command inherits, so that its end tells when all are gone.
struct Witness {
    reader: pipe::Receiver,
    writer: Option<io::PipeWriter>,
}

impl Witness {
    fn new() -> Self {
        let (reader, writer) = io::pipe().unwrap();
        rustix::io::fcntl_setfd(&writer, FdFlags::empty()).unwrap();
        let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).unwrap();
        Self {
            reader,
            writer: Some(writer),
        }
    }

    /// What a command redirects its output to, to be heard here.
    fn path(&self) -> String {
        format!(
            "/proc/self/fd/{}",
            self.writer.as_ref().unwrap().as_raw_fd()
        )
    }

    /// Waits until a command wrote a line there.
    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            match self.reader.read_u8().await.unwrap() {
                b'\n' => return String::from_utf8(line).unwrap(),
                byte => line.push(byte),
            }
        }
    }

    /// Waits until no process is left.
    async fn all_gone(mut self) {
        drop(self.writer.take());
        let mut rest = Vec::new();
        timeout(LONG, self.reader.read_to_end(&mut rest))
            .await
            .expect("all are gone")
            .unwrap();
    }
}

#[tokio::test]
async fn a_timeout_kills_the_whole_group() {
    let mut witness = Witness::new();
    let stubborn = format!(
        "trap '' HUP INT TERM; (sleep 600) & sh -c 'sleep 600' & echo up > {}; wait",
        witness.path()
    );
    let shell = ShellExec::new();
    let mut run = shell.run(&stubborn);
    tokio::select! {
        result = &mut run => panic!("it runs on: {result:?}"),
        line = witness.line() => assert_eq!(line, "up"),
    }
    drop(run);
    witness.all_gone().await;
}

#[tokio::test]
async fn the_policy_cuts_a_command_off() {
    let witness = Witness::new();
    let policy = Policy {
        timeout: Duration::from_millis(50),
        interval: Duration::from_millis(10),
        retries: 2,
        eager: vela_health::Eager {
            window: Duration::ZERO,
            ..Default::default()
        },
        ..Policy::default()
    };
    let probe = ExecProbe::new("sleep 600 & sleep 600", Arc::new(ShellExec::new()));
    let exited = std::future::pending::<()>();
    let error = policy
        .wait(&probe, &nobody(), exited, |_| {})
        .await
        .unwrap_err();
    let Unhealthy::GaveUp {
        last: ProbeError::TimedOut { after },
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(after, policy.timeout);
    witness.all_gone().await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_ends_with_it() {
    let witness = Witness::new();
    // The one in the background holds the output open, too.
    let run = ShellExec::new().run("sleep 600 & echo done").await.unwrap();
    assert_eq!(
        (run.status, run.last_line.as_deref()),
        (Some(0), Some("done"))
    );
    witness.all_gone().await;
}

#[tokio::test]
async fn an_escaped_process_does_not_hold_the_attempt() {
    let mut witness = Witness::new();
    let heard = witness.path();
    let directory = tempfile::tempdir().unwrap();
    let escape = format!(
        "setsid -f sh -c 'echo $$ > {heard}; echo out; echo > ready; exec sleep 600'
         while ! [ -s ready ]; do sleep 0.01; done"
    );
    let shell = ShellExec::new().directory(directory.path());

    let output = timeout(LONG, shell.run(&escape))
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(
        (output.status, output.last_line.as_deref()),
        (Some(0), Some("out"))
    );

    let escaped = witness
        .line()
        .await
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .unwrap();
    kill_process(escaped, Signal::KILL).unwrap();
    witness.all_gone().await;
}

#[tokio::test]
async fn a_failure_comes_with_its_last_line() {
    let probe = ExecProbe::new(
        r"echo first; printf '\033[31mno\tdatabase\n' >&2; echo; exit 3",
        Arc::new(ShellExec::new()),
    );
    let error = probe.check(&nobody()).await.unwrap_err();
    let ProbeError::Exec {
        status: Some(3),
        signal: None,
        last_line: Some(line),
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(line, r"\u{1b}[31mno\tdatabase");

    let killed = ExecProbe::new("kill -KILL $$", Arc::new(ShellExec::new()));
    let error = killed.check(&nobody()).await.unwrap_err();
    assert!(
        error.to_string().ends_with("was ended by signal 9"),
        "{error}"
    );
}

#[tokio::test]
async fn a_command_that_never_stops_writing_is_cut_off_too() {
    let witness = Witness::new();
    let shell = ShellExec::new();
    let flood = timeout(Duration::from_millis(100), shell.run("yes"));
    assert!(flood.await.is_err());
    witness.all_gone().await;
}

#[tokio::test]
async fn directory_and_environment_can_be_given() {
    let directory = tempfile::tempdir().unwrap();
    let shell = ShellExec::new()
        .directory(directory.path())
        .env("GREETING", "hello");
    let output = shell
        .run(r#"echo "$GREETING from $(pwd -P)""#)
        .await
        .unwrap();
    let expected = format!(
        "hello from {}",
        directory.path().canonicalize().unwrap().display()
    );
    assert_eq!(output.last_line, Some(expected));

    let nowhere = Arc::new(ShellExec::new().directory(directory.path().join("gone")));
    let error = ExecProbe::new("true", nowhere)
        .check(&nobody())
        .await
        .unwrap_err();
    let ProbeError::ExecStart { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
}
