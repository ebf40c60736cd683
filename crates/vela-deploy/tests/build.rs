//! Releases that are built on the server from source, by an engine with real processes.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::StreamExt;
use support::{World, all, who, write_script};
use vela_deploy::{AppDirs, EngineError, Events};
use vela_protocol::{
    AppState, DeployRequest, Event, Outcome, Report, SecretChange, Serving, Step, Stream,
};

fn manifest(build: &str) -> String {
    format!(
        r#"
[app]
name = "tiny"
domain = "tiny.localhost"
[deploy]
health = "/health"
drain = 1
stop_timeout = 2
[env]
APP_ONLY = "${{secret:APP_SECRET}}"
[build]
remote = true
{build}
"#
    )
}

/// What most builds here do: they put the app where the release is made of.
const BUILD: &str = "command = 'mkdir -p out && cp app.sh out/tiny && cat note'\noutput = 'out'";

/// A source tree, and a world to build it in.
struct Project {
    world: World,
    source: tempfile::TempDir,
}

impl Project {
    async fn new() -> Project {
        let world = World::new(|stack| stack).await;
        let source = tempfile::tempdir().unwrap();
        write_script(&source.path().join("app.sh"), &[]);
        let project = Project { world, source };
        project.write("note", "one\n");
        project.set_secret("APP_SECRET", "of-the-app").await;
        project
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.source.path().join(name), text).unwrap();
    }

    async fn set_secret(&self, name: &str, value: &str) {
        let change = SecretChange {
            set: [(name.to_owned(), value.to_owned())].into(),
            remove: Vec::new(),
        };
        let changed = self.world.engine.change_secrets("tiny", change, who());
        changed.await.unwrap();
    }

    async fn request(&self, build: &str) -> DeployRequest {
        let source = self.source.path();
        let request = self.world.upload_dir(&manifest(build), source).await;
        DeployRequest {
            build: true,
            ..request
        }
    }

    async fn begin(&self, build: &str) -> (DeployRequest, Events) {
        let request = self.request(build).await;
        let events = self.world.engine.deploy("tiny", request.clone(), who());
        (request, events.await.unwrap())
    }

    async fn deploy(&self, build: &str) -> Vec<Event> {
        all(self.begin(build).await.1).await
    }

    async fn succeed(&self, build: &str) -> Vec<Event> {
        let events = self.deploy(build).await;
        let last = events.last();
        assert!(matches!(last, Some(Event::Succeeded { .. })), "{events:#?}");
        events
    }

    /// Builds what fails, and nothing has changed.
    async fn fail(&self, build: &str) -> (Step, Report) {
        let before = self.world.current();
        let (releases, metas) = (self.world.releases(), self.world.metas());
        let events = self.deploy(build).await;
        let failed = match events.last() {
            Some(Event::Failed {
                step: Some(step),
                error,
                serving,
                ..
            }) => {
                let expected = match before.clone() {
                    Some(release) => Serving::Previous { release },
                    None => Serving::Nothing,
                };
                assert_eq!(*serving, expected, "{events:#?}");
                (*step, error.clone())
            }
            _ => panic!("{events:#?}"),
        };
        assert_eq!(self.world.current(), before);
        assert_eq!(
            (self.world.releases(), self.world.metas()),
            (releases, metas)
        );
        self.expect_nothing_left().await;
        failed
    }

    async fn expect_nothing_left(&self) {
        let staging = std::fs::read_dir(self.world.dirs().staging()).unwrap();
        let staged: Vec<_> = staging.map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            !staged
                .iter()
                .any(|name| name.to_string_lossy().ends_with(".built")),
            "{staged:?}"
        );
        let tasks = self.world.instances().await;
        assert!(
            tasks.iter().all(|one| one["owner"] == "release"),
            "{tasks:?}"
        );
    }

    fn dirs(&self) -> AppDirs {
        self.world.dirs().app(&"tiny".parse().unwrap())
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.dirs().build().join("tree").join(name)
    }

    async fn log(&self, release: Option<&str>) -> Vec<String> {
        let log = self.world.engine.build_log("tiny", release, usize::MAX);
        log.await.unwrap().map(|line| line.text).collect().await
    }
}

fn printed(events: &[Event]) -> Vec<&str> {
    let lines = events.iter().filter_map(|event| match event {
        Event::BuildPrinted { line, .. } => Some(line.as_str()),
        _ => None,
    });
    lines.collect()
}

/// Waits for a line of the build.
async fn until_printed(events: &mut Events, wanted: &str) -> String {
    let line = async {
        loop {
            match events.next().await.expect("it goes on").event {
                Event::BuildPrinted { line, .. } if line.starts_with(wanted) => return line,
                event => assert!(!event.is_terminal(), "{event:?}"),
            }
        }
    };
    let line = tokio::time::timeout(Duration::from_secs(30), line).await;
    line.expect("the build prints it")
}

/// Waits until a process is gone.
async fn until_gone(pid: u32) {
    let began = Instant::now();
    let stat = PathBuf::from(format!("/proc/{pid}/stat"));
    // A zombie is gone: it is its parent's affair, which in a container may be nobody's.
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "process {pid} lives"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn source_becomes_a_release_and_the_build_finds_what_the_last_one_left() {
    let project = Project::new().await;
    let command = "command = 'mkdir -p out && cp app.sh out/tiny && \
                   echo built >> builds && wc -l < builds && cat note'\noutput = 'out'";
    let first = project.succeed(command).await;
    let Event::Started { steps, .. } = &first[0] else {
        panic!("{first:#?}")
    };
    assert_eq!(steps[..2], [Step::Build, Step::Unpack]);
    assert_eq!(printed(&first), ["1", "one"]);
    let release = project.world.current().unwrap();
    assert_eq!(
        project.world.get("tiny.localhost").await,
        (200, release.clone())
    );
    let files = std::fs::read_dir(project.dirs().root().join("releases").join(&release)).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["tiny"], "the directory's content alone");

    let modified = |name: &str| {
        std::fs::metadata(project.tree(name))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = modified("app.sh");
    project.write("note", "two\n");
    let second = project.succeed(command).await;
    assert_eq!(printed(&second), ["2", "two"]);
    assert_eq!(
        modified("app.sh"),
        before,
        "the cache of a build goes by it"
    );
    let newest = project.world.current().unwrap();
    assert_eq!(
        project.world.get("tiny.localhost").await,
        (200, newest.clone())
    );

    // Each release's build is remembered, as the builder printed it.
    assert_eq!(project.log(None).await, ["2", "two"]);
    assert_eq!(project.log(Some(&release)).await, ["1", "one"]);
    let none = project
        .world
        .engine
        .build_log("tiny", Some("20000101-000000"), 1);
    let none = none.await.err().unwrap();
    assert!(matches!(none, EngineError::NoBuildLog { .. }), "{none}");
    project.expect_uploads_gone();

    // An artifact that was built elsewhere is deployed as it is.
    let artifact = project.world.deploy(&manifest(command), &[]).await;
    assert!(matches!(artifact.last(), Some(Event::Succeeded { .. })));
    assert_eq!(printed(&artifact), [""; 0]);
    assert_eq!(project.log(None).await, ["2", "two"]);

    project
        .world
        .engine
        .remove("tiny", false, who())
        .await
        .unwrap();
    assert!(!project.dirs().build().exists());
}

impl Project {
    fn expect_uploads_gone(&self) {
        let staging = std::fs::read_dir(self.world.dirs().staging()).unwrap();
        assert!(staging.count() <= 1, "the last upload at most");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_changes_nothing_and_says_why() {
    let project = Project::new().await;
    let failing = "command = 'seq 100; echo it broke >&2; exit 7'";
    let (step, error) = project.fail(failing).await;
    assert_eq!(step, Step::Build);
    assert_eq!(error.message, "the build exited with code 7");
    assert_eq!(
        project.world.engine.status("tiny").unwrap().state,
        AppState::Empty
    );

    project.succeed(BUILD).await;
    let serving = project.world.current().unwrap();
    let events = project.deploy(failing).await;
    let Some(Event::Failed { error, .. }) = events.last() else {
        panic!("{events:#?}")
    };
    assert_eq!(error.output.len(), 30);
    assert_eq!(error.output.last().unwrap(), "it broke");
    assert!(error.output.contains(&"100".to_owned()));
    let stderr = Event::BuildPrinted {
        stream: Stream::Stderr,
        line: "it broke".into(),
    };
    assert!(events.contains(&stderr));
    assert_eq!(
        project.world.get("tiny.localhost").await,
        (200, serving.clone())
    );

    // The log is kept, though there is no release.
    let history = project.world.engine.history("tiny").await.unwrap();
    assert_eq!(history[0].outcome, Outcome::Failed);
    assert_eq!(project.log(Some(&history[0].release)).await.len(), 101);
    assert_eq!(project.log(Some(&serving)).await, ["one"]);

    let (_, error) = project.fail("command = 'no-such-program'").await;
    assert!(
        error
            .hint
            .unwrap()
            .contains("PATH can be set in [build.env]")
    );
    let (_, error) = project.fail("").await;
    assert_eq!(error.message, "the server can't tell how to build");
    assert!(error.hint.unwrap().contains("npm ci"));
    project.succeed(BUILD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_killed_with_all_that_it_started() {
    let project = Project::new().await;
    project.succeed(BUILD).await;
    // In the background and out of the group, as a build server would be.
    let endless = "command = 'setsid sleep 1000 & echo pid $!; wait'";
    let pid = |line: String| line["pid ".len()..].parse::<u32>().unwrap();

    let (_, mut events) = project.begin(endless).await;
    let cancelled = pid(until_printed(&mut events, "pid ").await);
    project
        .world
        .engine
        .cancel("tiny", None, who())
        .await
        .unwrap();
    let events = all(events).await;
    assert!(
        matches!(
            events.last(),
            Some(Event::Cancelled {
                serving: Serving::Previous { .. },
                ..
            })
        ),
        "{events:#?}"
    );
    until_gone(cancelled).await;
    project.expect_nothing_left().await;

    let slow = format!("{endless}\ntimeout = '3s'");
    let events = project.deploy(&slow).await;
    let Some(Event::Failed { error, .. }) = events.last() else {
        panic!("{events:#?}")
    };
    assert_eq!(error.message, "the build did not end within 3 s");
    assert!(
        error
            .hint
            .as_ref()
            .unwrap()
            .contains("`timeout` in [build]")
    );
    until_gone(pid(error.output[0].clone())).await;
    project.expect_nothing_left().await;

    // Nor does a build that ends leave anything behind.
    let events = project
        .succeed("command = 'setsid sleep 1000 & echo pid $!; cp app.sh tiny'\noutput = 'tiny'")
        .await;
    until_gone(pid(printed(&events)[0].to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stops_ends_the_build_and_the_next_one_goes_on() {
    let project = Project::new().await;
    project.succeed(BUILD).await;
    let serving = project.world.current().unwrap();
    let (_, mut events) = project.begin("command = 'echo pid $$; sleep 1000'").await;
    let pid = until_printed(&mut events, "pid ").await["pid ".len()..]
        .parse()
        .unwrap();
    let Project { world, source } = project;
    let world = world.restarted(|_| ()).await;
    let events = all(events).await;
    assert!(
        matches!(events.last(), Some(Event::Cancelled { .. })),
        "{events:#?}"
    );
    until_gone(pid).await;
    world.until(AppState::Running).await;
    assert_eq!(world.current(), Some(serving));
    let project = Project { world, source };
    project.succeed(BUILD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_names_what_becomes_the_release() {
    let project = Project::new().await;
    let files = |project: &Project| {
        let release = project.world.current().unwrap();
        let root = project.dirs().root().join("releases").join(release);
        let mut found = Vec::new();
        let mut left = vec![root.clone()];
        while let Some(path) = left.pop() {
            match path.is_dir() {
                true => left.extend(
                    std::fs::read_dir(path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                ),
                false => found.push(path.strip_prefix(&root).unwrap().display().to_string()),
            }
        }
        found.sort();
        found
    };
    let make = "command = 'mkdir -p dist/deep && cp app.sh dist/tiny && cp app.sh tiny && touch dist/deep/a.js dist/b.css'";
    project
        .succeed(&format!("{make}\noutput = 'dist/tiny'"))
        .await;
    assert_eq!(files(&project), ["tiny"]);
    project
        .succeed(&format!("{make}\noutput = ['tiny', 'dist/**/*.js']"))
        .await;
    assert_eq!(files(&project), ["dist/deep/a.js", "tiny"]);
    project.succeed(&format!("{make}\noutput = 'dist'")).await;
    assert_eq!(files(&project), ["b.css", "deep/a.js", "tiny"]);
    project.succeed(make).await;
    assert_eq!(
        files(&project),
        [
            "app.sh",
            "dist/b.css",
            "dist/deep/a.js",
            "dist/tiny",
            "note",
            "tiny"
        ]
    );

    // What the tools make, where nothing is said.
    project.write("mix.exs", "");
    let mix = "command = 'mkdir -p _build/prod/rel/other && cp app.sh _build/prod/rel/other/tiny; echo $MIX_ENV'";
    assert_eq!(printed(&project.succeed(mix).await), ["prod"]);
    assert_eq!(files(&project), ["tiny"]);
    let both = "command = 'mkdir -p _build/prod/rel/tiny && cp app.sh _build/prod/rel/tiny/tiny'";
    project.succeed(both).await;
    assert_eq!(files(&project), ["tiny"]);
    project.write("Cargo.toml", "");
    let (step, error) = project
        .fail("command = 'mkdir -p target/release && touch target/release/other'")
        .await;
    assert_eq!(step, Step::Build);
    assert_eq!(
        error.message,
        "the build left nothing at `target/release/tiny`: in `target/release` there is other"
    );
    assert!(error.hint.unwrap().contains("`output` in [build]"));
    for (output, said) in [
        (
            "'nothing/here'",
            "the build left nothing at `nothing/here`: in `.` there is Cargo.toml, _build/, app.sh",
        ),
        (
            "['dist/*.wasm', '*.wasm']",
            "the build left nothing at `dist/*.wasm, *.wasm`: in `dist` there is b.css, deep/, tiny",
        ),
    ] {
        let (_, error) = project
            .fail(&format!("command = 'true'\noutput = {output}"))
            .await;
        assert!(error.message.starts_with(said), "{error:?}");
    }
    // Built, but not what the manifest runs.
    let (step, _) = project
        .fail("command = 'true'\noutput = 'dist/b.css'")
        .await;
    assert_eq!(step, Step::Unpack);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_the_tree_becomes_a_release() {
    let project = Project::new().await;
    let outside = project.source.path().join("outside");
    std::fs::write(&outside, "secret of the machine").unwrap();
    let steal = |output: &str| {
        format!(
            "command = 'mkdir -p out && cp app.sh out/tiny && ln -sfn {} out/stolen && ln -sfn / root'\noutput = {output}",
            outside.display()
        )
    };
    for output in [
        "'out'",
        "'out/stolen'",
        "'root/etc'",
        "['root/etc/*']",
        "['root']",
        "['out/*']",
    ] {
        let (step, error) = project.fail(&steal(output)).await;
        assert_eq!(step, Step::Build, "{output}: {error:?}");
    }
    // A link that a build has planted where the next source goes is no way out either.
    let planted = "command = 'rm note && ln -s ../../data note'\noutput = 'x'";
    project.fail(planted).await;
    project
        .succeed(&BUILD.replace("mkdir", "rm -r out && mkdir"))
        .await;
    assert_eq!(
        std::fs::read_to_string(project.tree("note")).unwrap(),
        "one\n"
    );
    assert!(!project.tree("note").is_symlink());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_sees_its_own_environment_and_nothing_of_the_apps() {
    let project = Project::new().await;
    let build = format!(
        "{BUILD}\n[build.env]\nTOKEN = 'token ${{secret:BUILD_SECRET}}'\nAPP = '${{app}} ${{release}}'\nLANG = 'C'"
    );
    let request = project.request(&build).await;
    let refused = project
        .world
        .engine
        .deploy("tiny", request, who())
        .await
        .err()
        .unwrap();
    assert_eq!(
        refused.to_string(),
        "`build.env.TOKEN` needs the secret `BUILD_SECRET`, which is not set"
    );
    // What is built elsewhere needs no secret of the build's.
    let elsewhere = project.world.deploy(&manifest(&build), &[]).await;
    assert!(matches!(elsewhere.last(), Some(Event::Succeeded { .. })));

    let secret = "s3cr3t-of-the-build";
    project.set_secret("BUILD_SECRET", secret).await;
    let shown = build.replace("cat note", "env | grep -v TOKEN; pwd; test \"$TOKEN\" = \"token s3cr3t-of-the-build\" && echo has the token; tr \"\\\\0\" \"\\\\n\" < /proc/$$/cmdline");
    let events = project
        .succeed(&shown.replace("s3cr3t-of-the-build", "s3cr3t\"-of-the-\"build"))
        .await;
    let lines = printed(&events);
    let release = project.world.current().unwrap();
    let has = |line: &str| assert!(lines.contains(&line), "{line}: {lines:#?}");
    has("has the token");
    has("LANG=C");
    has(&format!("APP=tiny {release}"));
    has(&format!("VELA_RELEASE={release}"));
    has("VELA_APP_NAME=tiny");
    has(&format!(
        "HOME={}",
        project.dirs().build().join("home").display()
    ));
    has(&project.dirs().build().join("tree").display().to_string());
    for absent in [
        "APP_ONLY",
        "APP_SECRET",
        "BUILD_SECRET=",
        "PORT=",
        "VELA_DATA_DIR",
        "CARGO_MANIFEST_DIR",
    ] {
        assert!(
            !lines.iter().any(|line| line.starts_with(absent)),
            "{absent}: {lines:#?}"
        );
    }
    // Nowhere but where secrets are kept.
    expect_nowhere(project.dirs().root(), secret);
    expect_nowhere(project.dirs().root(), "of-the-app");
}

fn expect_nowhere(dir: &Path, secret: &str) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() || path.ends_with("secrets") {
            continue;
        }
        if path.is_dir() {
            expect_nowhere(&path, secret);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_of_one_app_take_turns_and_those_of_others_do_not_wait() {
    let project = Project::new().await;
    let waiting = "command = 'echo waiting; while ! test -e go; do sleep 0.01; done; cp app.sh tiny'\noutput = 'tiny'";
    let (_, mut events) = project.begin(waiting).await;
    until_printed(&mut events, "waiting").await;
    let second = project.request(BUILD).await;
    let busy = project
        .world
        .engine
        .deploy("tiny", second, who())
        .await
        .err()
        .unwrap();
    assert!(matches!(busy, EngineError::Busy { .. }), "{busy}");

    let other = manifest(BUILD)
        .replace("tiny", "other")
        .replace("APP_ONLY", "#");
    let upload = project
        .world
        .upload_dir(&other, project.source.path())
        .await;
    let request = DeployRequest {
        build: true,
        ..upload
    };
    let events_of_other = project
        .world
        .engine
        .deploy("other", request, who())
        .await
        .unwrap();
    let events_of_other = all(events_of_other).await;
    assert!(
        matches!(events_of_other.last(), Some(Event::Succeeded { .. })),
        "{events_of_other:#?}"
    );
    std::fs::write(project.tree("go"), "").unwrap();
    let events = all(events).await;
    assert!(
        matches!(events.last(), Some(Event::Succeeded { .. })),
        "{events:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_is_in_the_log_and_its_beginning_in_the_events() {
    let project = Project::new().await;
    let flood = "command = 'seq 20000; cp app.sh tiny'\noutput = 'tiny'";
    let events = project.succeed(flood).await;
    assert_eq!(printed(&events).len(), 2000);
    let warned = events.iter().any(
        |event| matches!(event, Event::Warned { message } if message.contains("vela logs --build")),
    );
    assert!(warned);
    let log = project.log(None).await;
    assert_eq!((log.len(), log.last().unwrap().as_str()), (20000, "20000"));
    let last = project
        .world
        .engine
        .build_log("tiny", None, 2)
        .await
        .unwrap();
    let last: Vec<_> = last.map(|line| line.text).collect().await;
    assert_eq!(last, ["19999", "20000"]);
}
