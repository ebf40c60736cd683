//! The conformance suite of [`Supervisor`]: what every implementation does alike.
//!
//! It starts real processes of `/bin/sh` and panics at the first thing that is not as the trait
//! says. Needs a tokio runtime of several threads.

use std::collections::BTreeMap;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::timeout;

use crate::logs::{self, LogLine};
use crate::{
    Exit, ExitStatus, INSTANCE_VARIABLE, Instance, InstanceEvent, InstanceId, InstanceSpec,
    LogSpec, Signal, Stop, Supervisor, SupervisorError,
};

/// Far longer than anything here takes: a wait this long is a failure.
const LONG: Duration = Duration::from_secs(20);

/// A grace that a test never waits out.
const PATIENT: Stop = Stop {
    signal: Signal::Term,
    grace: Duration::from_secs(600),
};

/// Runs the suite. `dir` is an empty directory for logs and the like. The supervisor has no
/// instances before and has none after.
///
/// # Panics
/// When the supervisor breaks a promise of the trait.
pub async fn conformance(supervisor: &dyn Supervisor, dir: &Path) {
    let suite = Suite {
        supervisor,
        dir: dir.to_owned(),
    };
    suite.an_end_is_reported_with_status_labels_and_log().await;
    suite
        .what_cannot_be_executed_is_an_error_and_leaves_nothing()
        .await;
    suite.a_program_that_is_being_written_is_waited_for().await;
    suite.the_environment_is_exactly_the_one_given().await;
    suite.signals_and_stop_reach_the_main_process().await;
    suite.grace_ends_with_kill().await;
    suite.a_stop_takes_the_whole_tree().await;
    suite.leftovers_of_an_ended_instance_are_killed().await;
    suite.a_stop_is_graceful_for_what_main_leaves_behind().await;
    suite.what_is_spared_outlives_its_instance().await;
    suite.stop_is_idempotent_and_hurries().await;
    suite
        .a_dropped_stop_goes_on_and_a_dropped_start_is_undone()
        .await;
    suite.an_id_lives_once_and_can_be_used_again().await;
    suite.a_burst_is_logged_and_rotated_without_loss().await;
    assert_eq!(suite.supervisor.list().await.expect("list works"), []);
}

/// The spec of a shell script with `PATH` and the instance variable in its environment, which logs
/// to `<dir>/<id>.log`.
///
/// # Panics
/// Never: the shell is `/bin/sh`.
#[must_use]
pub fn script(dir: &Path, text: &str) -> InstanceSpec {
    let id = InstanceId::random();
    let env = [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        (INSTANCE_VARIABLE, id.as_str()),
    ];
    InstanceSpec {
        args: vec!["-c".into(), text.into()],
        env: env
            .map(|(name, value)| (name.to_owned(), value.into()))
            .into(),
        log: LogSpec::new(dir.join(format!("{id}.log"))),
        ..InstanceSpec::new(id, "/bin/sh")
    }
}

/// Whether a process runs; a zombie does not.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    crate::process::table().is_ok_and(|table| {
        table
            .iter()
            .any(|s| s.process.pid.unsigned_abs() == pid && !s.dead)
    })
}

/// The lines of an instance that runs.
pub struct Output(BoxStream<'static, io::Result<LogLine>>);

impl Output {
    /// Follows the log of a spec that has not been started yet.
    ///
    /// # Panics
    /// When the log's directory is missing.
    #[must_use]
    pub fn of(spec: &InstanceSpec) -> Self {
        Self(logs::follow(&spec.log.path).expect("the directory of the log exists"))
    }

    /// The next line.
    ///
    /// # Panics
    /// When none comes for a long time.
    pub async fn line(&mut self) -> String {
        let line = timeout(LONG, self.0.next())
            .await
            .expect("a line is written in time");
        line.expect("a log has no end")
            .expect("the log can be read")
            .text
    }

    /// The next line as a pid.
    ///
    /// # Panics
    /// When it is none.
    pub async fn pid(&mut self) -> u32 {
        self.line().await.trim().parse().expect("the line is a pid")
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Output")
    }
}

/// The next end that a watch reports.
///
/// # Panics
/// When none comes for a long time.
pub async fn next_exit(
    events: &mut BoxStream<'static, InstanceEvent>,
) -> (InstanceId, BTreeMap<String, String>, Exit) {
    let event = timeout(LONG, events.next())
        .await
        .expect("an end is reported in time");
    let InstanceEvent::Exited { id, labels, exit } = event.expect("a watch has no end");
    (id, labels, exit)
}

/// Starts an instance that spares a program: its spec, its main process, the daemon that is spared,
/// and processes that are not, though they run the same program or bear its name.
///
/// # Panics
/// When it cannot be started.
pub async fn spared_family(
    supervisor: &dyn Supervisor,
    dir: &Path,
) -> (InstanceSpec, u32, u32, Vec<u32>) {
    let program = dir.join("spared");
    if !program.exists() {
        std::fs::copy("/bin/sleep", &program).expect("there is a program to copy");
    }
    let run = format!("exec \"{}\" 1000", program.display());
    let mut spec = script(
        dir,
        &format!(
            "run='{run}'
            sh -c \"echo in the session \\$\\$; $run\" &
            (sh -c \"echo orphan in the session \\$\\$; $run\" &)
            (setsid sh -c \"echo another program \\$\\$; exec sleep 1000\" &)
            (setsid sh -c \"echo daemon \\$\\$; $run\" &)
            wait"
        ),
    );
    spec.spares = vec!["other".into(), "spared".into()];
    let mut output = Output::of(&spec);
    let main = supervisor
        .start(spec.clone())
        .await
        .expect("the instance starts")
        .pid;
    let (mut daemon, mut rest) = (None, vec![main]);
    for _ in 0..4 {
        let line = output.line().await;
        let (what, pid) = line.rsplit_once(' ').expect("a word and a pid");
        let pid = pid.parse().expect("a pid");
        match what {
            "daemon" => daemon = Some(pid),
            _ => rest.push(pid),
        }
        // Until it executes the program it is a shell.
        let started = async {
            while !runs(pid, "spared") && !runs(pid, "sleep") {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LONG, started).await.expect("it starts in time");
    }
    (spec, main, daemon.expect("it has told"), rest)
}

fn runs(pid: u32, name: &str) -> bool {
    let file = std::fs::read_link(format!("/proc/{pid}/exe"));
    file.is_ok_and(|file| file.file_name().is_some_and(|file| file == name))
}

fn kill_process(pid: u32, signal: Signal) {
    let process = i32::try_from(pid)
        .ok()
        .and_then(|pid| crate::process::Process::of_pid(pid).ok());
    process.expect("it lives").signal(signal.raw());
}

struct Suite<'a> {
    supervisor: &'a dyn Supervisor,
    dir: PathBuf,
}

impl Suite<'_> {
    async fn start(&self, spec: &InstanceSpec) -> Instance {
        self.supervisor
            .start(spec.clone())
            .await
            .expect("the instance starts")
    }

    async fn stop(&self, id: &InstanceId, stop: Stop) -> Exit {
        let stopped = timeout(LONG, self.supervisor.stop(id, &stop)).await;
        stopped.expect("it stops in time").expect("it is known")
    }

    async fn is_listed(&self, id: &InstanceId) -> bool {
        let list = self.supervisor.list().await.expect("list works");
        list.iter().any(|instance| instance.id == *id)
    }

    async fn an_end_is_reported_with_status_labels_and_log(&self) {
        let ends = [
            ("exit 0", ExitStatus::Code(0)),
            ("exit 7", ExitStatus::Code(7)),
        ];
        let killed = [
            ("kill -9 $$", ExitStatus::Signal(9)),
            ("kill $$", ExitStatus::Signal(15)),
        ];
        for (end, status) in ends.into_iter().chain(killed) {
            let mut spec = script(
                &self.dir,
                &format!("echo to out; echo to err >&2; printf half; {end}"),
            );
            spec.labels.insert("app".into(), "a \"b\" c".into());
            spec.port = Some(12345);
            let mut events = [self.supervisor.watch(), self.supervisor.watch()];
            let instance = self.start(&spec).await;
            assert_eq!((&instance.id, &instance.labels), (&spec.id, &spec.labels));
            assert_eq!(instance.port, Some(12345));
            for events in &mut events {
                let (id, labels, exit) = next_exit(events).await;
                assert_eq!((id, labels), (spec.id.clone(), spec.labels.clone()));
                assert_eq!(exit.status, status);
                assert!(exit.at >= instance.started_at);
            }
            assert!(!self.is_listed(&spec.id).await);
            let lines = logs::tail(&spec.log.path, 9).expect("the log can be read");
            let mut lines: Vec<_> = lines
                .iter()
                .map(|line| format!("{} {}", line.stream, line.text))
                .collect();
            lines.sort_unstable(); // the order between the streams is not kept
            assert_eq!(lines, ["err to err", "out half", "out to out"]);
        }
    }

    async fn what_cannot_be_executed_is_an_error_and_leaves_nothing(&self) {
        let file = |name: &str, content: &[u8], mode| {
            let path = self.dir.join(name);
            std::fs::write(&path, content).expect("a file can be written");
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, mode).expect("its mode can be set");
            path
        };
        let foreign = b"\x7fELF for another machine";
        let programs = [
            (self.dir.join("absent"), libc::ENOENT),
            (file("plain", b"#!/bin/sh\n", 0o644), libc::EACCES),
            (file("foreign", foreign, 0o755), libc::ENOEXEC),
            (file("headless", b"echo hello\n", 0o755), libc::ENOEXEC),
            (
                file("orphan", b"#!/no/such/interpreter\n", 0o755),
                libc::ENOENT,
            ),
            (self.dir.clone(), libc::EACCES),
        ];
        for (program, errno) in programs {
            let spec = InstanceSpec {
                program: program.clone(),
                ..script(&self.dir, "")
            };
            match self.supervisor.start(spec.clone()).await {
                Err(SupervisorError::NotExecutable {
                    program: named,
                    source,
                }) => {
                    assert_eq!(named, program);
                    assert_eq!(source.raw_os_error(), Some(errno), "{}", program.display());
                }
                other => panic!("{} gave {other:?}", program.display()),
            }
            assert!(!self.is_listed(&spec.id).await);
            // The id was given up.
            let spec = InstanceSpec {
                id: spec.id,
                ..script(&self.dir, "exit")
            };
            self.start(&spec).await;
            self.stop(&spec.id, PATIENT).await;
        }

        let nowhere = InstanceSpec {
            cwd: self.dir.join("absent"),
            ..script(&self.dir, "")
        };
        let result = self.supervisor.start(nowhere).await;
        assert!(
            matches!(result, Err(SupervisorError::WorkingDirectory { .. })),
            "{result:?}"
        );
        let no_log = InstanceSpec {
            log: LogSpec::new("/proc/nothing/x"),
            ..script(&self.dir, "")
        };
        let result = self.supervisor.start(no_log).await;
        assert!(
            matches!(result, Err(SupervisorError::OpenLog { .. })),
            "{result:?}"
        );
        let mut invalid = [
            script(&self.dir, "a\0b"),
            script(&self.dir, ""),
            script(&self.dir, ""),
        ];
        invalid[1].env.insert("A=B".into(), "c".into());
        invalid[2].cwd = "relative".into();
        for spec in invalid {
            let result = self.supervisor.start(spec).await;
            assert!(
                matches!(result, Err(SupervisorError::InvalidSpec { .. })),
                "{result:?}"
            );
        }
    }

    async fn a_program_that_is_being_written_is_waited_for(&self) {
        let program = self.dir.join("written");
        std::fs::copy("/bin/sh", &program).expect("a file can be copied");
        // By a process that this one has started while it wrote it, say.
        let mut writer = std::process::Command::new("sh")
            .args(["-c", "exec 3>>\"$0\"; echo; exec sleep 0.1"])
            .arg(&program)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a shell can be started");
        let said = writer.stdout.take().map(|mut said| said.read(&mut [0]));
        assert!(matches!(said, Some(Ok(1))), "{said:?}");
        let spec = InstanceSpec {
            program,
            ..script(&self.dir, "exit 3")
        };
        let mut events = self.supervisor.watch();
        self.start(&spec).await;
        assert_eq!(next_exit(&mut events).await.2.status, ExitStatus::Code(3));
        writer.wait().expect("it ends");
    }

    async fn the_environment_is_exactly_the_one_given(&self) {
        let mut spec = script(&self.dir, "");
        spec.env = [("B", "two words"), ("A", "line\nbreak"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.into()))
            .into();
        // No shell: it adds variables of its own.
        spec.program = "/usr/bin/env".into();
        spec.args = vec!["-0".into()];
        let mut events = self.supervisor.watch();
        self.start(&spec).await;
        next_exit(&mut events).await;
        let lines = logs::tail(&spec.log.path, 99).expect("the log can be read");
        let lines: Vec<_> = lines.into_iter().map(|line| line.text).collect();
        assert_eq!(lines.join("\n"), "A=line\nbreak\0B=two words\0EMPTY=\0");

        let mut spec = script(&self.dir, "pwd; ls /proc/self/fd; cat; umask");
        spec.cwd = PathBuf::from("/usr");
        self.start(&spec).await;
        next_exit(&mut events).await;
        let lines = logs::tail(&spec.log.path, 99).expect("the log can be read");
        let lines: Vec<_> = lines.into_iter().map(|line| line.text).collect();
        // The fourth descriptor is the directory that `ls` reads; `cat` finds nothing to read.
        assert_eq!(lines, ["/usr", "0", "1", "2", "3", "0022"]);
    }

    async fn signals_and_stop_reach_the_main_process(&self) {
        let text = "trap 'echo hup' HUP; trap 'echo term; exit 5' TERM; echo ready; \
                    while :; do sleep 1000 & wait; done";
        let spec = script(&self.dir, text);
        let mut output = Output::of(&spec);
        let instance = self.start(&spec).await;
        assert_eq!(output.line().await, "ready");
        assert!(self.is_listed(&spec.id).await && is_alive(instance.pid));
        self.supervisor
            .signal(&spec.id, Signal::Hup)
            .await
            .expect("it can be signalled");
        assert_eq!(output.line().await, "hup");
        // Not for ever: a child that the shell is just forking may still have its handlers, and
        // swallow the signal.
        let grace = Duration::from_secs(5);
        let exit = self.stop(&spec.id, Stop { grace, ..PATIENT }).await;
        assert_eq!(exit.status, ExitStatus::Code(5));
        assert_eq!(output.line().await, "term");
        assert!(!is_alive(instance.pid));
        self.supervisor
            .signal(&spec.id, Signal::Hup)
            .await
            .expect("its end is no error");
    }

    async fn grace_ends_with_kill(&self) {
        let spec = script(
            &self.dir,
            "trap '' TERM; echo ready; while :; do sleep 1000; done",
        );
        let mut output = Output::of(&spec);
        self.start(&spec).await;
        output.line().await;
        let grace = Duration::from_millis(100);
        let began = std::time::Instant::now();
        let exit = self
            .stop(
                &spec.id,
                Stop {
                    signal: Signal::Term,
                    grace,
                },
            )
            .await;
        assert_eq!(exit.status, ExitStatus::Signal(9));
        assert!(began.elapsed() >= grace);
    }

    /// Children of four kinds: plain, of a session of their own, orphaned, and both.
    const FAMILY: &'static str = "
        sh -c 'echo $$; exec sleep 1000' &
        setsid sh -c 'echo $$; exec sleep 1000' &
        (sh -c 'echo $$; exec sleep 1000' &)
        (setsid sh -c '(setsid sh -c \"echo \\$\\$; exec sleep 1000\" &)' &)
        wait
    ";

    async fn family(&self) -> (InstanceSpec, Vec<u32>) {
        let spec = script(&self.dir, Self::FAMILY);
        let mut output = Output::of(&spec);
        let mut family = vec![self.start(&spec).await.pid];
        while family.len() < 5 {
            family.push(output.pid().await);
        }
        (spec, family)
    }

    async fn a_stop_takes_the_whole_tree(&self) {
        for stop in [Stop::now(), PATIENT] {
            let (spec, family) = self.family().await;
            assert!(family.iter().all(|pid| is_alive(*pid)));
            let exit = self.stop(&spec.id, stop).await;
            assert_eq!(exit.status, ExitStatus::Signal(stop.signal.raw().as_raw()));
            assert_eq!(family.into_iter().find(|pid| is_alive(*pid)), None);
        }
    }

    async fn leftovers_of_an_ended_instance_are_killed(&self) {
        let mut events = self.supervisor.watch();
        let (spec, family) = self.family().await;
        self.supervisor
            .signal(&spec.id, Signal::Hup)
            .await
            .expect("it can be signalled");
        let (id, _, exit) = next_exit(&mut events).await;
        assert_eq!((id, exit.status), (spec.id, ExitStatus::Signal(1)));
        assert_eq!(family.into_iter().find(|pid| is_alive(*pid)), None);
    }

    /// A script that does not `exec` its server: the signal ends the script at once.
    async fn a_stop_is_graceful_for_what_main_leaves_behind(&self) {
        let script = |trap: &str| {
            // Ready once its child is there: one that it started later would miss the signal.
            let child = "sh -c \"echo ready; exec sleep 1000\"";
            let server = format!("trap \"{trap}\" TERM; {child} & while :; do wait; done");
            script(&self.dir, &format!("sh -c '{server}'; echo not reached"))
        };
        let spec = script("echo bye; exit");
        let mut output = Output::of(&spec);
        self.start(&spec).await;
        output.line().await;
        let exit = self.stop(&spec.id, PATIENT).await;
        assert_eq!(exit.status, ExitStatus::Signal(15));
        let lines = logs::tail(&spec.log.path, 9).expect("the log can be read");
        let lines: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(lines, ["ready", "bye"]);

        // No more than the grace, and less when hurried.
        let grace = Duration::from_millis(100);
        for stop in [Stop { grace, ..PATIENT }, PATIENT] {
            let spec = script("");
            let mut output = Output::of(&spec);
            let main = self.start(&spec).await.pid;
            output.line().await;
            let began = std::time::Instant::now();
            let hurry = async {
                while is_alive(main) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                if stop == PATIENT {
                    self.stop(&spec.id, Stop::now()).await;
                }
            };
            let (exit, ()) = tokio::join!(self.stop(&spec.id, stop), hurry);
            assert_eq!(exit.status, ExitStatus::Signal(15));
            assert!(stop == PATIENT || began.elapsed() >= grace);
        }
    }

    async fn what_is_spared_outlives_its_instance(&self) {
        for ends_by_itself in [false, true] {
            let (spec, main, daemon, rest) = spared_family(self.supervisor, &self.dir).await;
            let mut events = self.supervisor.watch();
            if ends_by_itself {
                kill_process(main, Signal::Kill);
                next_exit(&mut events).await;
            } else {
                // At once, though the daemon goes on.
                self.stop(&spec.id, PATIENT).await;
            }
            assert!(!self.is_listed(&spec.id).await);
            assert_eq!(rest.into_iter().find(|pid| is_alive(*pid)), None);
            assert!(is_alive(daemon));
            kill_process(daemon, Signal::Kill);
        }
        let mut invalid = script(&self.dir, "");
        invalid.spares = vec!["bin/epmd".into()];
        let refused = self.supervisor.start(invalid).await;
        assert!(matches!(refused, Err(SupervisorError::InvalidSpec { .. })));
    }

    async fn stop_is_idempotent_and_hurries(&self) {
        let stranger = InstanceId::random();
        let result = self.supervisor.stop(&stranger, &PATIENT).await;
        assert!(
            matches!(result, Err(SupervisorError::NotFound { .. })),
            "{result:?}"
        );
        let result = self.supervisor.signal(&stranger, Signal::Hup).await;
        assert!(
            matches!(result, Err(SupervisorError::NotFound { .. })),
            "{result:?}"
        );

        let text = "trap 'echo term' TERM; echo ready; while :; do sleep 1000 & wait; done";
        let spec = script(&self.dir, text);
        let mut output = Output::of(&spec);
        self.start(&spec).await;
        assert_eq!(output.line().await, "ready");
        let hurry = async {
            assert_eq!(output.line().await, "term");
            self.stop(
                &spec.id,
                Stop {
                    signal: Signal::Term,
                    grace: Duration::ZERO,
                },
            )
            .await
        };
        let (patient, hurried) = tokio::join!(self.stop(&spec.id, PATIENT), hurry);
        assert_eq!((patient, patient.status), (hurried, ExitStatus::Signal(9)));
        assert_eq!(self.stop(&spec.id, PATIENT).await, patient);
        let lines = logs::tail(&spec.log.path, 9).expect("the log can be read");
        let terms = lines.iter().filter(|line| line.text == "term").count();
        assert_eq!(terms, 1, "the signal was sent twice");
    }

    async fn a_dropped_stop_goes_on_and_a_dropped_start_is_undone(&self) {
        let mut events = self.supervisor.watch();
        let spec = script(
            &self.dir,
            "trap '' TERM; echo ready; while :; do sleep 1000; done",
        );
        let mut output = Output::of(&spec);
        self.start(&spec).await;
        output.line().await;
        let stop = Stop {
            signal: Signal::Term,
            grace: Duration::from_millis(50),
        };
        let mut stopping = self.supervisor.stop(&spec.id, &stop);
        assert!(futures::poll!(&mut stopping).is_pending());
        drop(stopping);
        let (id, _, exit) = next_exit(&mut events).await;
        assert_eq!((id, exit.status), (spec.id, ExitStatus::Signal(9)));

        let spec = script(&self.dir, "exec sleep 1000");
        let mut starting = self.supervisor.start(spec.clone());
        let started = futures::poll!(&mut starting).is_ready();
        drop(starting);
        if started {
            self.stop(&spec.id, Stop::now()).await; // on a busy machine
        }
        let (id, _, exit) = next_exit(&mut events).await;
        assert_eq!((id, exit.status), (spec.id, ExitStatus::Signal(9)));
    }

    async fn an_id_lives_once_and_can_be_used_again(&self) {
        let spec = script(&self.dir, "exec sleep 1000");
        for _ in 0..2 {
            self.start(&spec).await;
            let result = self.supervisor.start(spec.clone()).await;
            assert!(
                matches!(result, Err(SupervisorError::AlreadyExists { .. })),
                "{result:?}"
            );
            assert_eq!(
                self.stop(&spec.id, PATIENT).await.status,
                ExitStatus::Signal(15)
            );
        }
    }

    async fn a_burst_is_logged_and_rotated_without_loss(&self) {
        const LINES: usize = 50_000;
        let mut events = self.supervisor.watch();
        let mut spec = script(&self.dir, &format!("seq 1 {LINES}; seq 1 {LINES} >&2"));
        spec.log.max_bytes = 100_000;
        spec.log.keep = 100;
        self.start(&spec).await;
        next_exit(&mut events).await;
        let lines = logs::tail(&spec.log.path, usize::MAX).expect("the log can be read");
        for stream in [logs::LogStream::Out, logs::LogStream::Err] {
            let mine = lines.iter().filter(|line| line.stream == stream);
            let numbers: Vec<usize> = mine.filter_map(|line| line.text.parse().ok()).collect();
            assert!(
                numbers.into_iter().eq(1..=LINES),
                "{stream} lost lines or their order"
            );
        }
        assert!(
            self.dir.join(format!("{}.log.10", spec.id)).exists(),
            "it was rotated"
        );
    }
}
