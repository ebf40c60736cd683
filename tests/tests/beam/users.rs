use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use vela_tests::{Options, Release, World, is_alive, kill, processes_of};

use super::{App, eventually, expect_unchanged};

/// An app's name that no other test has; its user is removed with this.
struct Name(String);

impl Name {
    fn new() -> Name {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Name(format!("test-{}", &id[..8]))
    }

    fn uid(&self) -> u32 {
        let user = format!("vela-{}", self.0);
        let id = Command::new("id").args(["-u", &user]).output().unwrap();
        let id = String::from_utf8(id.stdout).unwrap();
        id.trim().parse().expect("the user exists")
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // Its processes were killed with the world, which may take the kernel a moment.
        for _ in 0..100 {
            let removed = Command::new("userdel")
                .arg(format!("vela-{}", self.0))
                .stderr(Stdio::null())
                .status();
            if removed.unwrap().success() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

async fn isolating() -> World {
    World::with(Options {
        isolate: true,
        ..Options::default()
    })
    .await
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn uid_of(pid: u32) -> u32 {
    std::fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

#[tokio::test]
async fn a_release_runs_as_its_own_user_and_writes_into_its_own_directories() {
    if !is_root() {
        return;
    }
    let name = Name::new();
    let world = isolating().await;
    let app = App::named(&name.0)
        .deploy("pre_start = \"bin/my_app eval 'MyApp.Release.migrate()'\"")
        .deploy("stop_timeout = 60");
    app.serve(&world).await;
    app.serve(&world).await;
    let (uid, root) = (name.uid(), world.app_dir(&name.0));
    assert_ne!(uid, 0);
    assert_eq!(uid_of(world.status(&name.0).await.pid.unwrap()), uid);
    let owned = |name: &str| {
        let metadata = std::fs::metadata(root.join(name)).unwrap();
        (metadata.uid(), metadata.mode() & 0o777)
    };
    assert_eq!(owned("data"), (uid, 0o700));
    assert_eq!(owned("tmp"), (uid, 0o700));
    assert_eq!(owned("data/migrated").0, uid);
    assert_eq!(owned("data/stopped").0, uid);
    let env = app.environment(&world).await;
    assert_eq!(env["HOME"], root.join("data").display().to_string());
    // The configuration of this start, which nobody else needs to know.
    let configs = std::fs::read_dir(&env["RELEASE_TMP"]).unwrap();
    assert_eq!(configs.count(), 1);

    // The release is sealed: it could not be written into.
    let current = root.join("releases").join(world.current(&name.0).unwrap());
    let said = app.get(&world, "/planted").await;
    assert_eq!(said, format!("{} {{:error, :eacces}}", current.display()));
    drop(vela_tests::try_get(world.http(), &app.host(), "/crash").await);
    eventually("the next instance", async || {
        let status = world.status(&name.0).await;
        (status.restarts == 1 && status.health.as_deref() == Some("healthy")).then_some(())
    })
    .await;
    assert_eq!(owned("tmp/erl_crash.dump").0, uid);
    expect_unchanged(&world, &name.0);
}

/// All that a program gains by that name.
#[tokio::test]
async fn what_calls_itself_epmd_outlives_its_instance_as_the_same_user() {
    if !is_root() {
        return;
    }
    let name = Name::new();
    let world = isolating().await;
    let manifest = format!(
        "[app]\nname = {0:?}\ndomain = \"{0}.localhost\"\n[deploy]\ntype = \"beam\"\nbinary = \"run\"\n\
         health = {{ exec = \"test -e $VELA_DATA_DIR/pids\" }}\nstop_timeout = 60\n",
        name.0
    );
    let script = "cd \"$VELA_DATA_DIR\"; cp /bin/sleep epmd; cp /bin/sleep empd\n\
                  setsid ./epmd 1000 & one=$!\n\
                  setsid ./empd 1000 & other=$!\n\
                  echo $one $other > pids.new; mv pids.new pids; wait";
    world
        .deploy(&Release::script(&manifest, script))
        .await
        .expect(0);
    let pids = std::fs::read_to_string(world.app_dir(&name.0).join("data/pids")).unwrap();
    let pids: Vec<u32> = pids
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    world.vela(&["stop", &name.0]).await.expect(0);
    assert_eq!(processes_of(world.data_dir()), [pids[0]]);
    assert!(is_alive(pids[0]));
    assert_eq!(uid_of(pids[0]), name.uid());
    kill(pids[0], Signal::KILL);
}
