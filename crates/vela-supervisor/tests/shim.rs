//! What only a supervisor with shims promises: instances that outlive their host.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use vela_supervisor::test_util::{Output, is_alive, next_exit, script, spared_family};
use vela_supervisor::{
    ExitStatus, Instance, InstanceEvent, InstanceId, InstanceSpec, PortOwner, ShimCommand,
    ShimSupervisor, Stop, Supervisor, SupervisorError, listener_of, listening_on, logs,
    unix_listener_of, users,
};

/// A run directory and a place for logs.
struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        // Other users run some of the instances.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { root }
    }

    fn dir(&self) -> &Path {
        self.root.path()
    }

    fn run_dir(&self) -> PathBuf {
        self.dir().join("run")
    }

    fn instance_dir(&self, id: &InstanceId) -> PathBuf {
        self.run_dir().join(id.as_str())
    }

    async fn open(&self) -> ShimSupervisor {
        ShimSupervisor::open(self.run_dir(), shim()).await.unwrap()
    }

    fn state(&self, id: &InstanceId) -> serde_json::Value {
        let state = fs::read(self.instance_dir(id).join("state")).unwrap();
        serde_json::from_slice(&state).unwrap()
    }

    fn shim_pid(&self, id: &InstanceId) -> u32 {
        self.state(id)["body"]["shim"]["pid"].as_u64().unwrap() as u32
    }

    fn until_orphan_prints(&self) {
        let log = self.dir().join("orphan.log");
        while logs::tail(&log, 1).map_or(true, |lines| lines.is_empty()) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn assert_no_instances(&self) {
        let entries = fs::read_dir(self.run_dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert_eq!(entries.collect::<Vec<_>>(), [".lock"]);
    }

    /// This test program, running another of its tests as a program.
    fn host(&self, test: &str) -> Command {
        let mut host = Command::new(std::env::current_exe().unwrap());
        host.args(["--exact", test, "--ignored", "--nocapture"])
            .env("WORLD", self.dir());
        host.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        host
    }
}

fn shim() -> ShimCommand {
    ShimCommand {
        program: env!("CARGO_BIN_EXE_vela-shim").into(),
        args: vec![],
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The host program of some tests below: starts one instance and waits to be killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by other tests"]
async fn host() {
    let root = PathBuf::from(std::env::var_os("WORLD").expect("run by another test"));
    let supervisor = ShimSupervisor::open(root.join("run"), shim())
        .await
        .unwrap();
    let mut spec = script(&root, "echo $$; (setsid sleep 1000 &); exec sleep 1000");
    spec.id = InstanceId::parse("orphan").unwrap();
    spec.env.insert("VELA_INSTANCE".into(), "orphan".into());
    spec.labels.insert("app".into(), "x".into());
    spec.port = Some(4242);
    spec.log.path = root.join("orphan.log");
    supervisor.start(spec).await.unwrap();
    std::future::pending::<()>().await;
}

fn orphan(world: &World) -> InstanceSpec {
    let mut spec = script(world.dir(), "");
    spec.id = InstanceId::parse("orphan").unwrap();
    spec.log.path = world.dir().join("orphan.log");
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_survives_its_host_and_is_adopted() {
    let world = World::new();
    let spec = orphan(&world);
    let mut output = Output::of(&spec);
    let mut host = world.host("host").spawn().unwrap();
    let pid = output.pid().await;
    host.kill().unwrap();
    host.wait().unwrap();
    assert!(is_alive(pid));

    let before: Instance;
    {
        let supervisor = world.open().await;
        assert_eq!(supervisor.ended_unwatched(), []);
        let list = supervisor.list().await.unwrap();
        let [instance] = &list[..] else {
            panic!("{list:?}")
        };
        assert_eq!((instance.id.clone(), instance.pid), (spec.id.clone(), pid));
        assert_eq!(
            (instance.labels["app"].as_str(), instance.port),
            ("x", Some(4242))
        );
        before = instance.clone();
    }
    // Dropped, which leaves it running; and adopted again.
    let supervisor = world.open().await;
    assert_eq!(supervisor.list().await.unwrap(), [before]);
    let exit = supervisor.stop(&spec.id, &Stop::default()).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Signal(15));
    assert!(!is_alive(pid));
    world.assert_no_instances();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_without_a_host_is_reported_to_the_next_one() {
    let world = World::new();
    let mut spec = script(world.dir(), "echo ready; read -r line <\"$FIFO\"; exit 9");
    let fifo = world.dir().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    spec.env
        .insert("FIFO".into(), fifo.to_str().unwrap().into());
    spec.labels.insert("app".into(), "x".into());
    let mut output = Output::of(&spec);
    let supervisor = world.open().await;
    supervisor.start(spec.clone()).await.unwrap();
    output.line().await;
    let shim = world.shim_pid(&spec.id);
    drop(supervisor);
    fs::write(&fifo, "go\n").unwrap();
    while is_alive(shim) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let supervisor = world.open().await;
    let [InstanceEvent::Exited { id, labels, exit }] = supervisor.ended_unwatched() else {
        panic!("{supervisor:?}")
    };
    assert_eq!(
        (id, labels, exit.status),
        (&spec.id, &spec.labels, ExitStatus::Code(9))
    );
    assert_eq!(supervisor.stop(id, &Stop::now()).await.unwrap(), *exit);
    assert_eq!(supervisor.list().await.unwrap(), []);
    world.assert_no_instances();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_takes_its_instance_with_it() {
    for watched in [true, false] {
        let world = World::new();
        let family = "echo $$; sh -c 'echo $$; exec sleep 1000' & \
                      (setsid sh -c 'echo $$; exec sleep 1000' &) ; \
                      (env -i /bin/sh -c 'echo $$; exec sleep 1000' &) ; wait";
        let spec = script(world.dir(), family);
        let mut output = Output::of(&spec);
        let mut supervisor = world.open().await;
        let mut events = supervisor.watch();
        supervisor.start(spec.clone()).await.unwrap();
        let mut family = Vec::new();
        while family.len() < 4 {
            family.push(output.pid().await);
        }
        let shim = world.shim_pid(&spec.id);
        if watched {
            kill(shim);
            let (id, _, exit) = next_exit(&mut events).await;
            assert_eq!((id, exit.status), (spec.id.clone(), ExitStatus::Unknown));
        } else {
            drop(supervisor);
            kill(shim);
            while is_alive(shim) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            supervisor = world.open().await;
            assert_eq!(supervisor.ended_unwatched().len(), 1);
        }
        assert_eq!(family.into_iter().find(|pid| is_alive(*pid)), None);
        assert_eq!(supervisor.list().await.unwrap(), []);
        world.assert_no_instances();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_spared_outlives_a_killed_shim_and_an_adopted_instance() {
    for shim_is_killed in [true, false] {
        let world = World::new();
        let supervisor = world.open().await;
        let (spec, _, daemon, rest) = spared_family(&supervisor, world.dir()).await;
        drop(supervisor);
        if shim_is_killed {
            let shim = world.shim_pid(&spec.id);
            kill(shim);
            while is_alive(shim) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let supervisor = world.open().await;
        if !shim_is_killed {
            supervisor.stop(&spec.id, &Stop::now()).await.unwrap();
        }
        assert_eq!(rest.into_iter().find(|pid| is_alive(*pid)), None);
        assert!(is_alive(daemon));
        // Nobody looks for it any more.
        drop(supervisor);
        assert_eq!(world.open().await.list().await.unwrap(), []);
        assert!(is_alive(daemon));
        kill(daemon);
        world.assert_no_instances();
    }
}

/// Kills the host at every moment of a start: whatever lives is listed, whatever is not listed is
/// gone, and nothing is left in the run directory after a stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_in_the_middle_of_a_start_leaves_nothing_unknown() {
    let mut adopted = 0;
    let delays = (0..40).map(|step| Some(Duration::from_micros(step * 500)));
    // The last time when it has surely started.
    for delay in delays.chain([None]) {
        let world = World::new();
        let mut host = world.host("host").spawn().unwrap();
        while !world.run_dir().join(".lock").exists() {
            std::thread::yield_now();
        }
        match delay {
            Some(delay) => std::thread::sleep(delay),
            None => world.until_orphan_prints(),
        }
        host.kill().unwrap();
        host.wait().unwrap();
        let supervisor = world.open().await;
        let list = supervisor.list().await.unwrap();
        adopted += list.len();
        assert!(list.len() <= 1);
        for instance in &list {
            supervisor.stop(&instance.id, &Stop::now()).await.unwrap();
        }
        assert!(
            supervisor.skipped().is_empty(),
            "{:?}",
            supervisor.skipped()
        );
        world.assert_no_instances();
        if let Ok(lines) = logs::tail(&world.dir().join("orphan.log"), 1) {
            let pids = lines.iter().map(|line| line.text.parse().unwrap());
            assert_eq!(pids.into_iter().find(|pid| is_alive(*pid)), None);
        }
    }
    assert!(adopted > 0, "no delay was long enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_off_the_command_line_and_the_disk() {
    let world = World::new();
    let supervisor = world.open().await;
    let mut spec = script(world.dir(), "echo $$; exec sleep 1000");
    spec.env.insert("TOKEN".into(), "s3cr3t-value".into());
    let mut output = Output::of(&spec);
    supervisor.start(spec.clone()).await.unwrap();
    let pid = output.pid().await;
    let shim = world.shim_pid(&spec.id);
    for pid in [pid, shim] {
        let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(
            !cmdline.contains("s3cr3t") && !cmdline.contains("TOKEN"),
            "{cmdline}"
        );
    }
    if is_root() {
        assert_eq!(fs::read(format!("/proc/{shim}/environ")).unwrap(), b"");
    }
    let dir = world.instance_dir(&spec.id);
    assert_eq!(
        fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("ctl") {
            continue;
        }
        let content = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!content.contains("s3cr3t"), "{}: {content}", path.display());
    }
    supervisor.stop(&spec.id, &Stop::now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_entries_are_left_alone_and_reported() {
    let world = World::new();
    drop(world.open().await);
    let run = world.run_dir();
    fs::write(run.join("file"), "x").unwrap();
    fs::create_dir(run.join("Not-An-Id")).unwrap();
    fs::create_dir(run.join("stranger")).unwrap();
    fs::write(run.join("stranger/precious"), "x").unwrap();
    std::os::unix::fs::symlink("/etc", run.join("link")).unwrap();
    fs::create_dir(run.join("empty")).unwrap();
    let supervisor = world.open().await;
    let skipped = supervisor
        .skipped()
        .iter()
        .map(|skipped| skipped.path.file_name().unwrap());
    let mut skipped: Vec<_> = skipped.map(|name| name.to_str().unwrap()).collect();
    skipped.sort_unstable();
    assert_eq!(skipped, ["Not-An-Id", "file", "link", "stranger"]);
    assert!(run.join("stranger/precious").exists());
    assert!(!run.join("empty").exists(), "a start that got no further");
    assert_eq!(supervisor.ended_unwatched(), []);
}

/// Instances whose shim is gone, with files as a crash or an enemy would leave them.
#[tokio::test(flavor = "multi_thread")]
async fn torn_and_hostile_files_kill_no_stranger() {
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = stranger.id();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let state = |id: &str, boot_id: &str, pid: u32, start: u64| {
        serde_json::json!({"v": 1, "body": {
            "id": id, "labels": {"app": "x"}, "boot_id": boot_id.trim(), "shim": null,
            "main": {"pid": pid, "start": start}, "started_at": "2026-11-21T00:00:00Z", "port": 1,
        }})
        .to_string()
    };
    let start = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start: u64 = start.split_whitespace().nth(21).unwrap().parse().unwrap();
    let exit = r#"{"v":1,"body":{"status":{"code":3},"at":"2026-11-21T00:00:00Z"}}"#;
    let unknown = ExitStatus::Unknown;
    let torn = state("torn", &boot_id, pid, start);
    let cases: BTreeMap<&str, (String, &str, ExitStatus)> = [
        (
            "reused",
            (state("reused", &boot_id, pid, start + 1), "", unknown),
        ),
        (
            "other-boot",
            (state("other-boot", "another", pid, start), "", unknown),
        ),
        (
            "renamed",
            (state("someone-else", &boot_id, pid, start), "", unknown),
        ),
        ("init", (state("init", &boot_id, 1, 0), "", unknown)),
        ("torn", (torn[..torn.len() / 2].to_owned(), "", unknown)),
        ("empty", (String::new(), "", unknown)),
        ("binary", ("\0\u{1}\u{2}".to_owned(), "", unknown)),
        ("newer", (r#"{"v":99,"body":{}}"#.to_owned(), "", unknown)),
        (
            "exit-torn",
            (
                state("exit-torn", "another", pid, start),
                &exit[..30],
                unknown,
            ),
        ),
        (
            "exited",
            (
                state("exited", &boot_id, pid, start),
                exit,
                ExitStatus::Code(3),
            ),
        ),
    ]
    .into();
    let world = World::new();
    drop(world.open().await);
    for (id, (state, exit, _)) in &cases {
        let dir = world.run_dir().join(id);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("lock"), "").unwrap();
        fs::write(dir.join("state"), state).unwrap();
        fs::write(dir.join("exit.tmp"), "half").unwrap();
        if !exit.is_empty() {
            fs::write(dir.join("exit"), exit).unwrap();
        }
    }
    let supervisor = world.open().await;
    let ended: BTreeMap<_, _> = supervisor
        .ended_unwatched()
        .iter()
        .map(|event| match event {
            InstanceEvent::Exited { id, exit, .. } => (id.as_str(), exit.status),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = cases
        .iter()
        .map(|(id, (_, _, status))| (*id, *status))
        .collect();
    assert_eq!(ended, expected);
    assert!(
        supervisor.skipped().is_empty(),
        "{:?}",
        supervisor.skipped()
    );
    assert!(is_alive(pid), "a stranger was killed");
    world.assert_no_instances();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_state_does_not_lose_an_instance_that_lives() {
    let world = World::new();
    let supervisor = world.open().await;
    let spec = script(world.dir(), "exec sleep 1000");
    let instance = supervisor.start(spec.clone()).await.unwrap();
    drop(supervisor);
    fs::write(world.instance_dir(&spec.id).join("state"), "garbage").unwrap();
    let supervisor = world.open().await;
    assert_eq!(supervisor.list().await.unwrap(), [instance]);
    supervisor.stop(&spec.id, &Stop::now()).await.unwrap();
    world.assert_no_instances();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_longer_than_a_socket_address_works() {
    let world = World::new();
    let run_dir = world.dir().join("long-".repeat(40)).join("run");
    let supervisor = ShimSupervisor::open(&run_dir, shim()).await.unwrap();
    let spec = script(world.dir(), "exec sleep 1000");
    supervisor.start(spec.clone()).await.unwrap();
    drop(supervisor);
    let supervisor = ShimSupervisor::open(&run_dir, shim()).await.unwrap();
    let exit = supervisor.stop(&spec.id, &Stop::default()).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Signal(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_supervisor_at_a_time() {
    let world = World::new();
    let first = world.open().await;
    let second = ShimSupervisor::open(world.run_dir(), shim()).await;
    assert!(
        matches!(second, Err(SupervisorError::RunDirInUse { .. })),
        "{second:?}"
    );
    drop(first);
    world.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_shim_is_reported_with_its_last_words() {
    let world = World::new();
    let open = |program: &str, args: &[&str]| {
        let args = args.iter().map(Into::into).collect();
        ShimSupervisor::open(
            world.run_dir(),
            ShimCommand {
                program: program.into(),
                args,
            },
        )
    };
    let no_shim = open("/bin/sh", &["-c", "echo 'unknown command: shim' >&2"])
        .await
        .unwrap();
    let result = no_shim.start(script(world.dir(), "exit")).await;
    let Err(SupervisorError::ShimFailed { said, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(said, "unknown command: shim");
    drop(no_shim);
    let absent = open("/no/such/shim", &[]).await.unwrap();
    let result = absent.start(script(world.dir(), "exit")).await;
    assert!(
        matches!(result, Err(SupervisorError::StartShim { .. })),
        "{result:?}"
    );
    world.assert_no_instances();
    // By hand, it says what it is missing.
    let by_hand = Command::new(shim().program)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!by_hand.status.success() && !by_hand.stderr.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_as_another_user() {
    // Somebody else, whoever we are.
    let user = if is_root() { "nobody" } else { "root" };
    let Some(nobody) = users::lookup(user).unwrap() else {
        return;
    };
    let world = World::new();
    let supervisor = world.open().await;
    let text = "id -u; id -g; id -G; grep -E 'CapEff|CapPrm' /proc/self/status";
    let spec = InstanceSpec {
        user: Some(nobody.clone()),
        ..script(world.dir(), text)
    };
    let mut events = supervisor.watch();
    let started = supervisor.start(spec.clone()).await;
    if !is_root() {
        assert!(
            matches!(started, Err(SupervisorError::SwitchUser { .. })),
            "{started:?}"
        );
        assert!(started.unwrap_err().hint().unwrap().contains("root"));
        return;
    }
    started.unwrap();
    next_exit(&mut events).await;
    let lines = logs::tail(&spec.log.path, 9).unwrap();
    let lines: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
    assert_eq!(lines[..3], [&uid, &gid, &gid]);
    assert!(
        lines[3..]
            .iter()
            .all(|line| line.ends_with("0000000000000000")),
        "{lines:?}"
    );

    // It dies with its shim all the same, and cannot reach into the run directory.
    let text = "ls \"$RUN\" || echo refused; echo $$; exec sleep 1000";
    let mut spec = InstanceSpec {
        user: Some(nobody.clone()),
        ..script(world.dir(), text)
    };
    spec.env
        .insert("RUN".into(), world.run_dir().to_str().unwrap().into());
    let mut output = Output::of(&spec);
    supervisor.start(spec.clone()).await.unwrap();
    let mut lines = vec![output.line().await, output.line().await];
    lines.push(output.line().await);
    assert!(lines.contains(&"refused".to_owned()), "{lines:?}");
    let pid = supervisor.list().await.unwrap()[0].pid;
    kill(world.shim_pid(&spec.id));
    next_exit(&mut events).await;
    assert!(!is_alive(pid));

    // A directory that only root may enter.
    let private = world.dir().join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let spec = InstanceSpec {
        user: Some(nobody),
        cwd: private,
        ..script(world.dir(), "exit")
    };
    let result = supervisor.start(spec).await;
    assert!(
        matches!(result, Err(SupervisorError::WorkingDirectory { .. })),
        "{result:?}"
    );
}

/// A program that listens, for the test below.
#[test]
#[ignore = "run by another test"]
fn listens() {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let path = std::env::var_os("SOCKET").unwrap();
    let _unix = std::os::unix::net::UnixListener::bind(path).unwrap();
    let socket = TcpListener::bind(("0.0.0.0", port)).unwrap();
    eprintln!("listening");
    for connection in socket.incoming() {
        drop(connection);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_port_is_known() {
    let world = World::new();
    let supervisor = world.open().await;
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let port = address.port();
    let host = std::env::current_exe().unwrap();
    let text = format!(
        "(setsid '{}' --exact listens --ignored --nocapture &); exec sleep 1000",
        host.display()
    );
    let mut spec = script(world.dir(), &text);
    spec.env.insert("PORT".into(), port.to_string().into());
    let path = world.dir().join("app.sock");
    let socket = path.to_str().unwrap();
    spec.env.insert("SOCKET".into(), socket.into());
    let mut output = Output::of(&spec);
    let instance = supervisor.start(spec.clone()).await.unwrap();
    let nobodys = "127.0.0.1:1".parse().unwrap();
    assert_eq!(
        listener_of(nobodys, &instance).await.unwrap(),
        PortOwner::Nobody
    );
    while output.line().await != "listening" {}
    // An orphan in a session of its own, and still in the instance's tree.
    assert_eq!(
        listener_of(address, &instance).await.unwrap(),
        PortOwner::Instance
    );
    let any = SocketAddr::from(([0, 0, 0, 0], port));
    assert_eq!(listening_on(&instance).await.unwrap(), [any]);
    let owner = unix_listener_of(&path, &instance).await.unwrap();
    assert_eq!(owner, PortOwner::Instance);

    let other = script(world.dir(), "exec sleep 1000");
    let other = supervisor.start(other).await.unwrap();
    assert_eq!(listening_on(&other).await.unwrap(), []);
    let owner = listener_of(address, &other).await.unwrap();
    assert!(
        matches!(owner, PortOwner::Stranger { pid: Some(_) }),
        "{owner:?}"
    );
    assert_eq!(unix_listener_of(&path, &other).await.unwrap(), owner);
    for id in [&spec.id, &other.id] {
        supervisor.stop(id, &Stop::now()).await.unwrap();
    }
}

/// A peer that sends nonsense is dropped; the instance and the other peers do not notice.
#[tokio::test(flavor = "multi_thread")]
async fn the_control_socket_survives_nonsense() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new();
    let supervisor = world.open().await;
    let spec = script(world.dir(), "exec sleep 1000");
    supervisor.start(spec.clone()).await.unwrap();
    let ctl = world.instance_dir(&spec.id).join("ctl");
    let endless = vec![b'x'; 1 << 20];
    for nonsense in [
        &b"hello\n"[..],
        b"{\"v\":99,\"body\":{}}\n",
        b"\xff\xfe\n",
        &endless,
    ] {
        let mut peer = tokio::net::UnixStream::connect(&ctl).await.unwrap();
        // The shim may hang up in the middle.
        drop(peer.write_all(nonsense).await);
        let mut said = Vec::new();
        drop(peer.read_to_end(&mut said).await);
        assert!(said.starts_with(b"{\"v\":1"), "it greets, and closes");
    }
    let exit = supervisor.stop(&spec.id, &Stop::default()).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Signal(15));
}

/// Signals to the shim reach the instance, which is what `systemctl stop` of a scope would send.
#[tokio::test(flavor = "multi_thread")]
async fn a_shim_passes_signals_on() {
    let world = World::new();
    let supervisor = world.open().await;
    let text = "trap 'echo usr1' USR1; trap 'exit 4' TERM; echo ready; \
                while :; do sleep 1000 & wait; done";
    let spec = script(world.dir(), text);
    let mut output = Output::of(&spec);
    let mut events = supervisor.watch();
    supervisor.start(spec.clone()).await.unwrap();
    output.line().await;
    let shim = rustix::process::Pid::from_raw(world.shim_pid(&spec.id) as i32).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::USR1).unwrap();
    assert_eq!(output.line().await, "usr1");
    rustix::process::kill_process(shim, rustix::process::Signal::TERM).unwrap();
    assert_eq!(next_exit(&mut events).await.2.status, ExitStatus::Code(4));
    let mut rest = supervisor.watch();
    drop(supervisor);
    assert!(
        rest.next().await.is_none(),
        "a watch ends with its supervisor"
    );
}
