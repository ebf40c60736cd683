//! As root each app and its hooks run as a user of their own: with its data, without anybody else's, and with nothing
//! of the daemon's environment. Without root nobody can have that, and the daemon says so.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use vela_tests::{Options, Output, Release, World, get};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An app's name that no other test and no real app of this machine has; its user is removed with this.
struct App(String);

impl App {
    fn new() -> App {
        let id = uuid::Uuid::new_v4().simple().to_string();
        App(format!("test-{}", &id[..8]))
    }

    fn user(&self) -> String {
        format!("vela-{}", self.0)
    }

    fn host(&self) -> String {
        format!("{}.localhost", self.0)
    }

    /// Its number, once it exists.
    fn uid(&self) -> Option<u32> {
        let id = Command::new("id").args(["-u", &self.user()]).output();
        String::from_utf8(id.unwrap().stdout)
            .unwrap()
            .trim()
            .parse()
            .ok()
    }

    fn manifest(&self, more: &str) -> String {
        format!(
            "[app]\nname = \"{}\"\ndomain = \"{}\"\n\n[deploy]\nbinary = \"run\"\ndrain = 1\nstop_timeout = 3\n{more}\n",
            self.0,
            self.host()
        )
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if self.uid().is_some() {
            // Its processes were killed with the world, which may take the kernel a moment.
            for _ in 0..100 {
                let removed = Command::new("userdel")
                    .arg(self.user())
                    .stderr(Stdio::null())
                    .status();
                if removed.unwrap().success() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}

/// An isolating daemon, with the program at a place where every user can run it.
async fn isolating() -> World {
    let mut world = World::stopped(Options {
        isolate: true,
        ..Options::default()
    });
    let program = world.dir().join("vela");
    std::fs::copy(env!("CARGO_BIN_EXE_vela-under-test"), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    world
        .start(&[("VELA_TEST_LEAK", "of the daemon"), ("TZ", "UTC")])
        .await;
    world
}

fn demo_app(world: &World, manifest: &str) -> Release {
    let program = world.dir().join("vela");
    Release::script(manifest, &format!("exec '{}' demo-app", program.display()))
}

#[tokio::test]
async fn without_root_isolation_is_refused() {
    if is_root() {
        return;
    }
    let mut world = World::stopped(Options {
        isolate: true,
        ..Options::default()
    });
    world.spawn(&[]);
    assert_eq!(world.daemon_ended().await, Some(1));
    let said = world.daemon_log();
    assert!(
        said.contains(
            "error: `isolate = true` needs root: only root can run apps as other users\nhint: "
        ),
        "{said}"
    );
}

/// What a shell script of one app tries on the other app and on the daemon: each line is one attempt that must fail.
const ATTEMPTS: &str = r#"
try() { if "$@" >/dev/null 2>&1; then echo "could: $*"; else failed=$((failed + 1)); fi; }
failed=0
# The other app.
try ls "$OTHER/data"
try cat "$OTHER/data/private"
try touch "$OTHER/data/planted"
try touch "$OTHER/planted"
try ls "$OTHER/releases"
try cat "$OTHER/current/run"
try cat "/proc/$OTHER_PID/environ"
try kill "$OTHER_PID"
# The state of the daemon, its own app's included.
for app in "$OTHER" "$VELA_DATA_DIR/.."; do
    for dir in secrets meta history logs; do try ls "$app/$dir"; done
    try cat "$app/secrets/1.env"
    try cat "$app/app.toml"
    try cat "$app/desired.toml"
    try ls "$app"
done
for dir in . apps staging run; do try ls "$STATE/$dir"; done
try touch "$STATE/planted"
try cat "/proc/$DAEMON_PID/environ"
try kill "$DAEMON_PID"
# Its own shim.
try kill "$PPID"
# Its own release, which is sealed by now.
try touch planted
try sh -c 'echo >> run'
try rm run
try chmod u+w .
# The door to the daemon.
try "$PROGRAM" apps -s "unix://$SOCKET"
echo "$failed attempts failed"
"#;

/// Who may make the socket may make a link there as well, which leads the daemon wherever root may go.
#[tokio::test]
async fn an_app_cannot_lead_the_proxy_to_a_socket_of_others() {
    if !is_root() {
        return;
    }
    let app = App::new();
    let world = isolating().await;
    let manifest = |more: &str| {
        let manifest = app.manifest(more);
        manifest.replace("[app]\n", "[app]\nlisten = \"unix\"\n")
    };
    let program = world.dir().join("vela");
    let script = format!("exec '{}' demo-app --unix", program.display());
    let release = Release::script(&manifest("health = \"/health\""), &script);
    world.deploy(&release).await.expect(0);
    let status = world.status(&app.0).await;
    let sockets = world.app_dir(&app.0).join("sockets");
    let found = sockets.metadata().unwrap();
    assert_eq!(Some(found.uid()), app.uid());
    assert_eq!(found.permissions().mode() & 0o777, 0o700);

    // The proxy has no connection to the app yet that it could use instead.
    let socket = sockets.join(status.port.unwrap().to_string());
    let aside = sockets.join("aside");
    std::fs::rename(&socket, &aside).unwrap();
    std::os::unix::fs::symlink(world.socket(), &socket).unwrap();
    let (code, body) = get(world.http(), &app.host(), "/v1/version").await;
    assert_eq!(code, 502, "{body}");
    std::fs::remove_file(&socket).unwrap();
    std::fs::rename(&aside, &socket).unwrap();

    // Nor is the daemon's answer that of a healthy app.
    let health = "health = { path = \"/v1/version\", retries = 2 }";
    let script = format!(
        "ln -s '{}' $VELA_SOCKET; exec sleep 1000",
        world.socket().display()
    );
    let output = world
        .deploy(&Release::script(&manifest(health), &script))
        .await
        .expect(3);
    let uid = app.uid().unwrap();
    let said = format!("the user 0 listens there, and not {uid}\n");
    assert!(output.stderr.contains(&said), "{output:?}");
    assert!(std::fs::metadata(world.socket()).is_ok());

    // Its own is what it was.
    let status = world.status(&app.0).await;
    let served = eventually_served(&world, &app.host()).await;
    assert!(served.starts_with(&status.release.unwrap()), "{served}");
}

/// What the app answers once the proxy has found it again.
async fn eventually_served(world: &World, host: &str) -> String {
    let began = std::time::Instant::now();
    loop {
        let (code, body) = get(world.http(), host, "/").await;
        if code == 200 {
            return body;
        }
        assert!(began.elapsed().as_secs() < 60, "{code}: {body}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_app_reaches_its_own_and_nothing_else() {
    if !is_root() {
        return;
    }
    let (one, other) = (App::new(), App::new());
    let world = isolating().await;

    let release = demo_app(&world, &other.manifest("health = \"/health\""));
    let set = ["secret", "set", "--app", &other.0, "KEY=other's secret"];
    world.vela(&set).await.expect(0);
    world.deploy(&release).await.expect(0);
    let status = world.status(&other.0).await;
    let private = world.app_dir(&other.0).join("data/private");
    std::fs::write(&private, "of the other").unwrap();

    let env = format!(
        "pre_start = \"id -un > $VELA_DATA_DIR/hook; id -G >> $VELA_DATA_DIR/hook; echo built > built\"\n\
         pre_switch = \"exec sh attempts\"\nhealth = \"/health\"\n\
         [env]\nOTHER = {:?}\nOTHER_PID = {}\nSTATE = {:?}\nDAEMON_PID = {}\nSOCKET = {:?}\nPROGRAM = {:?}\n",
        world.app_dir(&other.0),
        status.pid.unwrap(),
        world.data_dir(),
        world.daemon_pid(),
        world.socket(),
        world.dir().join("vela"),
    );
    let set = ["secret", "set", "--app", &one.0, "KEY=its own secret"];
    world.vela(&set).await.expect(0);
    let plain = demo_app(&world, &one.manifest("health = \"/health\""));
    world.deploy(&plain).await.expect(0);
    let release = demo_app(&world, &one.manifest(&env));
    release.write("attempts", ATTEMPTS);
    let output = world.deploy(&release).await.expect(0);
    assert!(!output.stderr.contains("could: "), "{output:?}");
    assert!(
        output.stderr.contains(" | 37 attempts failed\n"),
        "{output:?}"
    );
    // They did not fail because there was nothing to be had.
    for app in [&one, &other] {
        for path in ["secrets/1.env", "app.toml", "desired.toml", "current/run"] {
            assert!(world.app_dir(&app.0).join(path).is_file(), "{path}");
        }
        for path in ["secrets", "meta", "history", "logs", "releases"] {
            assert!(world.app_dir(&app.0).join(path).is_dir(), "{path}");
        }
    }

    // Nothing of all that happened.
    assert_eq!(world.status(&other.0).await.pid, status.pid);
    assert!(!private.with_file_name("planted").exists());

    // The hook and the app are the app's user, in no group but its own.
    let uid = one.uid().unwrap();
    let data = world.app_dir(&one.0).join("data");
    let hook = std::fs::read_to_string(data.join("hook")).unwrap();
    let mut lines = hook.lines();
    assert_eq!(lines.next(), Some(one.user().as_str()));
    assert_eq!(lines.next().unwrap().split(' ').count(), 1, "{hook}");
    assert_ne!(uid, 0);
    assert_ne!(Some(uid), other.uid());
    let pid = world.status(&one.0).await.pid.unwrap();
    assert_eq!(ids(pid, "Uid"), vec![uid; 4]);
    assert_eq!(ids(pid, "Gid").len(), 4);
    assert!(!ids(pid, "Gid").contains(&0) && !ids(pid, "Groups").contains(&0));
    // What the hook built is part of the release.
    let built = world.app_dir(&one.0).join("current/built");
    assert_eq!(std::fs::read_to_string(&built).unwrap(), "built\n");

    // The data is the app's and nobody else's; everything else is the daemon's.
    let owned = |path: &Path| {
        let metadata = path.symlink_metadata().unwrap();
        (metadata.uid(), metadata.mode() & 0o7777)
    };
    assert_eq!(owned(&data), (uid, 0o700));
    let root = world.app_dir(&one.0);
    assert_eq!(owned(&root), (0, 0o711));
    for dir in ["meta", "history", "logs"] {
        assert_eq!(owned(&root.join(dir)), (0, 0o700), "{dir}");
    }
    for dir in ["staging", "run"] {
        assert_eq!(owned(&world.data_dir().join(dir)), (0, 0o700), "{dir}");
    }
    // Its data stays its own over the next deploy, and it can write to it.
    std::fs::remove_file(data.join("hook")).unwrap();
    world.deploy(&release).await.expect(0);
    assert_eq!(owned(&data.join("hook")).0, uid);
}

/// The numbers of a line of `/proc/<pid>/status`.
fn ids(pid: u32, name: &str) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap()
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

#[tokio::test]
async fn the_environment_is_what_was_promised_and_no_more() {
    let app = App::new();
    let world = match is_root() {
        true => isolating().await,
        false => {
            let mut world = World::stopped(Options::default());
            std::fs::copy(
                env!("CARGO_BIN_EXE_vela-under-test"),
                world.dir().join("vela"),
            )
            .unwrap();
            world
                .start(&[("VELA_TEST_LEAK", "of the daemon"), ("TZ", "UTC")])
                .await;
            world
        }
    };
    let set = ["secret", "set", "--app", &app.0, "TOKEN=t0"];
    world.vela(&set).await.expect(0);
    let manifest = app.manifest(
        "health = \"/health\"\npre_start = \"tr '\\\\0' '\\\\n' < /proc/$$/environ > $VELA_DATA_DIR/env\"\n[env]\nMODE = \"live\"\nDB = \"${data_dir}/x.db\"\n",
    );
    world.deploy(&demo_app(&world, &manifest)).await.expect(0);
    let data = world.app_dir(&app.0).join("data");
    let hook: BTreeMap<String, String> = std::fs::read_to_string(data.join("env"))
        .unwrap()
        .lines()
        .map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect();
    let (_, body) = get(world.http(), &app.host(), "/env").await;
    let running: BTreeMap<String, String> = serde_json::from_str(&body).unwrap();
    for env in [&hook, &running] {
        // PWD is the shell's own doing.
        let mut names: Vec<_> = env.keys().map(String::as_str).collect();
        names.retain(|name| *name != "PWD" && *name != "LANG");
        assert_eq!(
            names,
            [
                "DB",
                "HOME",
                "MODE",
                "PATH",
                "PORT",
                "TOKEN",
                "TZ",
                "VELA_APP_NAME",
                "VELA_DATA_DIR",
                "VELA_INSTANCE",
                "VELA_PORT",
                "VELA_RELEASE",
            ]
        );
        assert_eq!(env["DB"], format!("{}/x.db", data.display()));
        assert_eq!(env["VELA_DATA_DIR"], data.display().to_string());
        assert_eq!(env["VELA_APP_NAME"], app.0);
        assert_eq!(env["VELA_RELEASE"], world.current(&app.0).unwrap());
        assert_eq!(env["TOKEN"], "t0");
        assert_eq!(env["PORT"], env["VELA_PORT"]);
        if is_root() {
            assert_eq!(env["HOME"], data.display().to_string());
        }
    }
    // The hook was told the port that the app got.
    assert_eq!(hook["PORT"], running["PORT"]);
    assert_ne!(hook["VELA_INSTANCE"], running["VELA_INSTANCE"]);
}

#[tokio::test]
async fn an_app_may_name_its_user_and_must_not_invent_one() {
    if !is_root() {
        return;
    }
    let app = App::new();
    let world = isolating().await;
    let named = |user: &str| {
        app.manifest("health = \"/health\"")
            .replace("\n\n[deploy]", &format!("\nuser = {user:?}\n\n[deploy]"))
    };
    let refused: Output = world
        .deploy(&demo_app(&world, &named("no-such-user")))
        .await
        .expect(1);
    assert!(refused.stderr.contains("no-such-user"), "{refused:?}");
    world
        .deploy(&demo_app(&world, &named("nobody")))
        .await
        .expect(0);
    let nobody = ids(world.status(&app.0).await.pid.unwrap(), "Uid")[0];
    assert_ne!(nobody, 0);
    let data = world.app_dir(&app.0).join("data");
    assert_eq!(data.metadata().unwrap().uid(), nobody);
    assert_eq!(app.uid(), None, "a user of its own was not needed");

    // Another user could not use what this one wrote: that is for the administrator to decide.
    let own = demo_app(&world, &app.manifest("health = \"/health\""));
    let refused = world.deploy(&own).await.expect(3);
    let hint = format!(
        "hint: stop the app, give {} and all in it to",
        data.display()
    );
    assert!(refused.stderr.contains(&hint), "{refused:?}");
    assert_eq!(data.metadata().unwrap().uid(), nobody);
    world.vela(&["stop", &app.0]).await.expect(0);
    let uid = app.uid().unwrap();
    std::os::unix::fs::chown(&data, Some(uid), None).unwrap();
    world.deploy(&own).await.expect(0);
    assert_eq!(ids(world.status(&app.0).await.pid.unwrap(), "Uid")[0], uid);
}
