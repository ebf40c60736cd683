//! Shims that do not do their part: stopped, lost, or in the way.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal as RawSignal, kill_process};
use vela_supervisor::test_util::{Output, is_alive, script};
use vela_supervisor::{
    ExitStatus, InstanceId, ShimCommand, ShimSupervisor, Signal, Stop, Supervisor, SupervisorError,
};

struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { root }
    }

    fn dir(&self) -> &Path {
        self.root.path()
    }

    fn instance_dir(&self, id: &InstanceId) -> PathBuf {
        self.dir().join("run").join(id.as_str())
    }

    async fn open(&self) -> ShimSupervisor {
        self.open_with(ShimCommand {
            program: env!("CARGO_BIN_EXE_vela-shim").into(),
            args: vec![],
        })
        .await
    }

    async fn open_with(&self, shim: ShimCommand) -> ShimSupervisor {
        ShimSupervisor::open(self.dir().join("run"), shim)
            .await
            .unwrap()
    }

    fn shim_pid(&self, id: &InstanceId) -> u32 {
        let state = fs::read(self.instance_dir(id).join("state")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        state["body"]["shim"]["pid"].as_u64().unwrap() as u32
    }

    fn freeze_shim(&self, id: &InstanceId) -> u32 {
        let pid = self.shim_pid(id);
        send(pid, RawSignal::STOP);
        let is_stopped = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.contains(") T ")
        };
        while !is_stopped() {
            std::thread::yield_now();
        }
        pid
    }
}

fn send(pid: u32, signal: RawSignal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_adopted_though_its_shim_is_frozen() {
    let world = World::new();
    let spec = script(world.dir(), "exec sleep 1000");
    let healthy = script(world.dir(), "exec sleep 1000");
    let supervisor = world.open().await;
    let instance = supervisor.start(spec.clone()).await.unwrap();
    supervisor.start(healthy.clone()).await.unwrap();
    drop(supervisor);
    let shim = world.freeze_shim(&spec.id);

    // Whatever else the machine does, one of some rounds takes less than a shim has that is just starting.
    let mut rounds = 0;
    let supervisor = loop {
        let began = Instant::now();
        let supervisor = world.open().await;
        if began.elapsed() < Duration::from_secs(2) {
            break supervisor;
        }
        rounds += 1;
        assert!(rounds < 5, "it was waited for");
    };
    assert!(supervisor.skipped().is_empty());
    let list = supervisor.list().await.unwrap();
    assert_eq!(list.len(), 2);
    assert!(list.contains(&instance), "{list:?}");
    let again = supervisor.start(spec.clone()).await;
    assert!(
        matches!(again, Err(SupervisorError::AlreadyExists { .. })),
        "{again:?}"
    );

    let stop = Stop::default();
    let mut stopping = supervisor.stop(&spec.id, &stop);
    assert!(futures::poll!(&mut stopping).is_pending());
    send(shim, RawSignal::CONT);
    assert_eq!(stopping.await.unwrap().status, ExitStatus::Signal(15));
    supervisor.stop(&healthy.id, &Stop::now()).await.unwrap();
    assert!(!world.instance_dir(&spec.id).exists());
}

#[tokio::test]
async fn a_stop_that_a_frozen_shim_does_not_heed_is_done_without_it() {
    let world = World::new();
    let family = "echo $$; setsid env -i /bin/sh -c 'echo $$; exec sleep 1000' & \
                  (sh -c 'echo $$; exec sleep 1000' &); wait";
    let spec = script(world.dir(), family);
    let mut output = Output::of(&spec);
    let supervisor = world.open().await;
    supervisor.start(spec.clone()).await.unwrap();
    let mut family = Vec::new();
    while family.len() < 3 {
        family.push(output.pid().await);
    }
    family.push(world.freeze_shim(&spec.id));

    let grace = Duration::from_secs(600);
    let stop = Stop {
        signal: Signal::Term,
        grace,
    };
    let later = async {
        // Until the stop is on its way.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
        tokio::time::advance(grace + Duration::from_secs(8)).await;
        tokio::time::resume();
    };
    let (exit, ()) = tokio::join!(supervisor.stop(&spec.id, &stop), later);
    assert_eq!(exit.unwrap().status, ExitStatus::Unknown);
    assert_eq!(family.into_iter().find(|pid| is_alive(*pid)), None);
    assert!(!world.instance_dir(&spec.id).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_spares_a_directory_that_it_did_not_make() {
    let world = World::new();
    let supervisor = world.open().await;
    let spec = script(world.dir(), "exec sleep 1000");
    let dir = world.instance_dir(&spec.id);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("state"), "precious").unwrap();
    match supervisor.start(spec).await {
        Err(SupervisorError::RunDir { path, source }) => {
            assert_eq!(path, dir);
            assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_to_string(dir.join("state")).unwrap(), "precious");
}

/// The stand-in for a shim dies between the `exec` of the program and its greeting.
#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_is_lost_in_a_start_leaves_no_process() {
    let world = World::new();
    let spec = script(world.dir(), "");
    let dir = world.instance_dir(&spec.id).display().to_string();
    let child = world.dir().join("child");
    let text = format!(
        "read -r request; echo '{{}}' >'{dir}/state'; \
         VELA_INSTANCE={} /bin/sh -c 'echo $$ >{child}; exec /bin/sleep 1000' \
         </dev/null >/dev/null 2>&1 & while ! test -s '{child}'; do :; done",
        spec.id,
        child = child.display()
    );
    let shim = ShimCommand {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), text.into()],
    };
    let supervisor = world.open_with(shim).await;
    let result = supervisor.start(spec.clone()).await;
    assert!(
        matches!(result, Err(SupervisorError::ShimFailed { .. })),
        "{result:?}"
    );
    let child = fs::read_to_string(child).unwrap().trim().parse().unwrap();
    assert!(!is_alive(child));
    assert!(!world.instance_dir(&spec.id).exists());
}
