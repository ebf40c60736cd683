//! As root a build runs as the app's own user, who gets nothing by it that it has not.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use vela_protocol::SecretChange;
use vela_tests::{Options, World, get};

use super::project::Project;

/// An app that no other test and no real server has; its user goes with it.
struct App(String);

impl App {
    fn new() -> Option<App> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let is_root = rustix::process::geteuid().is_root();
        is_root.then(|| App(format!("test-{}", &id[..8])))
    }

    fn uid(&self) -> u32 {
        let id = Command::new("id")
            .args(["-u", &format!("vela-{}", self.0)])
            .output();
        String::from_utf8(id.unwrap().stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Its processes were killed with the world, which may take the kernel a moment.
        for _ in 0..100 {
            let user = format!("vela-{}", self.0);
            let removed = Command::new("userdel")
                .arg(user)
                .stderr(Stdio::null())
                .status();
            if removed.unwrap().success() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// A project on a daemon that isolates; the program of the app is where every user can run it.
async fn isolated(app: &App, build: &str) -> Project {
    let mut world = World::stopped(Options {
        isolate: true,
        ..Options::default()
    });
    let program = world.dir().join("vela");
    std::fs::copy(env!("CARGO_BIN_EXE_vela-under-test"), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.start(&[("VELA_TEST_LEAK", "of the daemon")]).await;
    let project = Project::of(world);
    project.write_script("run", &format!("exec '{}' demo-app", program.display()));
    project.manifest(&app.0, "binary = \"run\"", build);
    project.commit();
    project
}

#[tokio::test]
async fn a_build_runs_as_the_apps_own_user() {
    let Some(app) = App::new() else { return };
    let build =
        "command = \"id -u; env; touch made; cat /etc/shadow ../sources; ls ../../history; true\"";
    let project = isolated(&app, build).await;
    let deployed = project.deployed().await;
    let uid = app.uid();
    let has = |text: &str| deployed.lines.iter().any(|line| line.contains(text));
    assert_eq!(deployed.lines[0], uid.to_string());
    assert!(!has("VELA_TEST_LEAK"), "{:#?}", deployed.lines);
    let home = project.world.app_dir(&app.0).join("build/home");
    assert!(
        has(&format!("HOME={}", home.display())),
        "{:#?}",
        deployed.lines
    );
    for closed in ["/etc/shadow", "../sources", "../../history"] {
        let denied = deployed
            .lines
            .iter()
            .any(|line| line.contains(closed) && line.contains("ermission denied"));
        assert!(denied, "{closed}: {:#?}", deployed.lines);
    }
    // The tree is the user's, and what was made of it root's, as every release is.
    for name in ["run", "made", ""] {
        let metadata = std::fs::metadata(project.built(&app.0, name)).unwrap();
        assert_eq!(metadata.uid(), uid, "{name}");
    }
    let release = project
        .world
        .app_dir(&app.0)
        .join("releases")
        .join(&deployed.release);
    let run = std::fs::metadata(release.join("run")).unwrap();
    assert_eq!((run.uid(), run.mode() & 0o222), (0, 0));
    let host = format!("{}.localhost", app.0);
    assert_eq!(get(project.world.http(), &host, "/").await.0, 200);
}

#[tokio::test]
async fn links_that_a_build_plants_lead_nowhere() {
    let Some(app) = App::new() else { return };
    let project = isolated(&app, "command = \"true\"").await;
    let first = project.deployed().await.release;
    let outside = project.world.dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), "of root").unwrap();
    std::fs::set_permissions(
        outside.join("victim"),
        std::fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let victim = outside.join("victim");

    let steal = |what: &str, output: &str| {
        let build = format!("command = \"{what}\"\noutput = {output}");
        project.manifest(&app.0, "binary = \"run\"", &build);
        project.commit();
    };
    let (dir, file) = (outside.display(), victim.display());
    for (what, output) in [
        (format!("ln -sfn {dir} out"), "\"out\""),
        (format!("ln -sfn {file} run2"), "\"run2\""),
        (
            format!("rm -rf out2; mkdir out2; ln -s {file} out2/x; cp run out2"),
            "\"out2\"",
        ),
        (
            format!("ln -sfn {dir} out"),
            "[\"run\", \"out/**\", \"out\"]",
        ),
    ] {
        steal(&what, output);
        let deploy = project.deploy().await.expect(3);
        assert!(deploy.stderr.contains("failed at build\n"), "{deploy:?}");
        assert_eq!(project.world.current(&app.0).as_ref(), Some(&first));
    }

    // Planted where the next source will be: a directory, a file, and a directory whose file goes.
    project.write("src/victim", "source");
    project.write("gone/victim", "source");
    steal(
        &format!("rm -rf src gone run; ln -s {dir} src; ln -s {dir} gone; ln -s {file} run; false"),
        "\".\"",
    );
    project.deploy().await.expect(3);
    std::fs::remove_dir_all(project.path("gone")).unwrap();
    project.write("src/victim", "changed source");
    steal("rm -f gone out run2; rm -rf out2", "\".\"");
    let deploy = project.deploy().await.expect(0);
    assert!(!deploy.stderr.contains("of root"), "{deploy:?}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "of root");
    assert_eq!(std::fs::metadata(&victim).unwrap().uid(), 0);
    assert_eq!(names(&outside), ["victim"]);
    let built = std::fs::read_to_string(project.built(&app.0, "src/victim")).unwrap();
    assert_eq!(built, "changed source");
}

#[tokio::test]
async fn a_secret_of_the_build_is_seen_by_the_build_alone() {
    let Some(app) = App::new() else { return };
    // While it runs, all that is told of any process to everybody.
    let shown =
        "test -n \\\"$TOKEN\\\" && echo has it; cat /proc/[0-9]*/cmdline | tr '\\\\0' ' '; true";
    let build = format!("command = \"{shown}\"\n[build.env]\nTOKEN = \"${{secret:BUILD_TOKEN}}\"");
    let project = isolated(&app, &build).await;
    let refused = project.deploy().await.expect(1);
    assert!(
        refused
            .stderr
            .contains("`build.env.TOKEN` needs the secret `BUILD_TOKEN`, which is not set"),
        "{refused:?}"
    );
    let secret = "s3cr3t-of-the-build";
    let change = SecretChange {
        set: [("BUILD_TOKEN".to_owned(), secret.to_owned())].into(),
        remove: Vec::new(),
    };
    project
        .world
        .client()
        .change_secrets(&app.0, &change)
        .await
        .unwrap();
    let deployed = project.deployed().await;
    assert_eq!(deployed.lines[0], "has it");
    let events = serde_json::to_string(&deployed.events).unwrap();
    assert!(!events.contains(secret));
    assert!(!project.world.daemon_log().contains(secret));
    project.world.nothing_staged().await;
    expect_nowhere(project.world.data_dir(), secret);
}

fn expect_nowhere(dir: &Path, secret: &str) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && !path.ends_with("secrets") {
            expect_nowhere(&path, secret);
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "it is in {}", path.display());
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
