//! What hooks get, what becomes of what they print, and that nothing of them stays.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use vela_protocol::{Event, Hook, Step, Stream};
use vela_tests::{Artifact, Deploy, World, get, is_alive, processes_of};

const HOST: &str = "shop.localhost";

/// Nothing here takes longer on a machine that compiles something else at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a hostile hook starts, each with its pid in a file: it ignores TERM, leaves its session, its parent and its
/// environment, and then waits.
const FAMILY: &str = r#"
cd "$VELA_DATA_DIR"
trap '' TERM HUP INT
run() { "$@" sh -c 'trap "" TERM HUP INT; echo $$ >> '"$PWD"'/pids; while :; do sleep 1000; done'; }
run &
run setsid &
(run &)
(run setsid &)
(run setsid env -i PATH="$PATH" &)
echo $$ >> pids
while [ "$(wc -l < pids)" -lt 6 ]; do sleep 0.01; done
echo ready
"#;

fn shop(deploy: &str) -> Artifact {
    Artifact::demo_app(
        "shop",
        &format!("health = \"/health\"\ndrain = 1\n{deploy}"),
        "",
    )
}

/// A hook as a line of the manifest.
fn hook(hook: Hook, script: &str) -> String {
    format!("{hook} = '''\n{script}'''")
}

fn lines(deploy: &Deploy, hook: Hook) -> Vec<(Stream, String)> {
    let lines = deploy.events().filter_map(|event| match event {
        Event::HookPrinted {
            hook: of,
            stream,
            line,
        } if *of == hook => Some((*stream, line.clone())),
        _ => None,
    });
    lines.collect()
}

fn texts(deploy: &Deploy, hook: Hook) -> Vec<String> {
    let lines = lines(deploy, hook).into_iter();
    lines.map(|(_, line)| line).collect()
}

/// What is kept of a hook, the oldest line first.
fn kept(world: &World, operation: &str, hook: Hook) -> Vec<String> {
    let log = world
        .app_dir("shop")
        .join(format!("logs/hooks/{operation}.{hook}.log"));
    let mut text = String::new();
    for part in [log.with_added_extension("1"), log] {
        if let Ok(part) = std::fs::read(part) {
            text.push_str(&String::from_utf8_lossy(&part));
        }
    }
    // Each begins with its time.
    let lines = text.lines().map(|line| line.split_once(' ').unwrap().1);
    lines.map(str::to_owned).collect()
}

fn data(world: &World, file: &str) -> PathBuf {
    world.app_dir("shop").join("data").join(file)
}

fn pids(world: &World) -> Vec<u32> {
    let text = std::fs::read_to_string(data(world, "pids")).unwrap();
    let pids: Vec<_> = text.lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 6, "{text}");
    pids
}

/// Waits until a hook has printed a line.
async fn until_printed(deploy: &mut Deploy, wanted: &'static str) {
    deploy
        .until(wanted, move |event| match event {
            Event::HookPrinted { line, .. } if line == wanted => Some(()),
            _ => None,
        })
        .await;
}

/// The history id of the operation.
fn operation(deploy: &Deploy) -> String {
    let started = deploy.events().find_map(|event| match event {
        Event::Started { release, .. } => Some(release.clone()),
        _ => None,
    });
    started.unwrap()
}

#[tokio::test]
async fn every_hook_has_the_whole_environment_of_the_app_in_the_directory_of_the_release() {
    let world = World::new().await;
    let set = ["secret", "set", "--app", "shop", "TOKEN=t0"];
    world.vela(&set).await.expect(0);
    let dump = |hook: Hook| {
        let script = format!("tr '\\0' '\\n' < /proc/$$/environ > $VELA_DATA_DIR/{hook}; pwd");
        self::hook(hook, &script)
    };
    let hooks = [Hook::PreStart, Hook::PreSwitch, Hook::PostDeploy];
    let shop = shop(&format!(
        "{}\n[services.nats]\n[env]\nMODE = \"live\"\nKEY = \"k-${{secret:TOKEN}}\"\nDB = \"${{data_dir}}/x.db\"",
        hooks.map(dump).join("\n")
    ));
    let mut deploy = shop.deploy(&world).await;
    let release = deploy.succeed().await;
    let (_, body) = get(world.http(), HOST, "/env").await;
    let running: BTreeMap<String, String> = serde_json::from_str(&body).unwrap();
    assert_eq!(running["TOKEN"], "t0");
    assert_eq!(running["KEY"], "k-t0");
    assert_eq!(running["MODE"], "live");
    assert_eq!(running["DB"], data(&world, "x.db").display().to_string());
    assert_eq!(running["VELA_RELEASE"], release);
    assert!(running["NATS_URL"].starts_with("nats://"), "{running:?}");
    let port = world.status("shop").await.port.unwrap().to_string();
    assert_eq!(running["PORT"], port);
    for hook in hooks {
        let text = std::fs::read_to_string(data(&world, hook.as_str())).unwrap();
        let mut env: BTreeMap<String, String> = text
            .lines()
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        // The same, but for its own name.
        let instance = env.insert("VELA_INSTANCE".into(), running["VELA_INSTANCE"].clone());
        assert_ne!(instance.as_ref(), Some(&running["VELA_INSTANCE"]));
        env.remove("PWD");
        let mut expected = running.clone();
        expected.remove("PWD");
        assert_eq!(env, expected, "{hook}");
        let dir = world.app_dir("shop").join("releases").join(&release);
        assert_eq!(texts(&deploy, hook), [dir.display().to_string()]);
    }
}

#[tokio::test]
async fn output_is_told_while_the_hook_runs_and_kept() {
    let world = World::new().await;
    let script = "echo one; while [ ! -e $VELA_DATA_DIR/go ]; do sleep 0.01; done; echo two >&2; printf 'no end'";
    let shop = shop(&hook(Hook::PreStart, script));
    let mut deploy = shop.begin(&world).await;
    // It waits for what happens only after its first line has come.
    until_printed(&mut deploy, "one").await;
    assert!(lines(&deploy, Hook::PreStart).len() == 1, "{deploy:?}");
    std::fs::write(data(&world, "go"), "").unwrap();
    let release = deploy.succeed().await;
    let mut printed = lines(&deploy, Hook::PreStart);
    printed.sort_by_key(|(_, line)| line.clone());
    assert_eq!(
        printed,
        [
            (Stream::Stdout, "no end".to_owned()),
            (Stream::Stdout, "one".to_owned()),
            (Stream::Stderr, "two".to_owned()),
        ]
    );

    // In the history, and in a log of its own, also after all that comes later.
    world.vela(&["restart", "shop"]).await.expect(0);
    let history = world
        .app_dir("shop")
        .join(format!("history/{release}.jsonl"));
    let history = std::fs::read_to_string(history).unwrap();
    for line in ["one", "two", "no end"] {
        assert!(history.contains(&format!("\"line\":{line:?}")), "{history}");
    }
    let mut kept = kept(&world, &release, Hook::PreStart);
    kept.sort();
    assert_eq!(kept, ["err two", "out no end", "out one"]);
}

#[tokio::test]
async fn of_a_hundred_thousand_lines_the_first_are_told_the_last_quoted_and_all_kept() {
    let world = World::new().await;
    let shop = shop(&hook(Hook::PreStart, "seq 100000; exit 9"));
    let mut deploy = shop.begin(&world).await;
    let Event::Failed { step, error, .. } = deploy.end().await else {
        panic!("{deploy:?}")
    };
    assert_eq!(step, Some(Step::PreStart));
    assert_eq!(error.message, "the hook pre_start exited with code 9");
    let last: Vec<_> = (99_991..=100_000).map(|n: u32| n.to_string()).collect();
    assert_eq!(error.output, last);
    let told = texts(&deploy, Hook::PreStart);
    let first: Vec<_> = (1..=2000).map(|n: u32| n.to_string()).collect();
    assert_eq!(told, first);
    let operation = operation(&deploy);
    let place = format!("logs/hooks/{operation}.pre_start.log");
    let place = world.app_dir("shop").join(place).display().to_string();
    let warned = deploy.events().find_map(|event| match event {
        Event::Warned { message } => Some(message.clone()),
        _ => None,
    });
    let warned = warned.unwrap();
    assert!(
        warned.ends_with(&format!("the rest is in {place}")),
        "{warned}"
    );
    // The deploy was undone; what it had to say is there.
    let kept = kept(&world, &operation, Hook::PreStart);
    assert_eq!(kept.len(), 100_000);
    assert_eq!(kept[0], "out 1");
    assert_eq!(kept[99_999], "out 100000");
    assert_eq!(world.names("shop", "releases"), [""; 0]);
}

#[tokio::test]
async fn binary_output_is_told_as_far_as_it_is_text() {
    let world = World::new().await;
    let script = "printf 'a\\377\\000\\033[1mb\\n'; head -c 100000 /dev/zero | tr '\\0' 'x'; printf '\\n\\303'";
    let deploy = shop(&hook(Hook::PreSwitch, script)).deploy(&world).await;
    let told = texts(&deploy, Hook::PreSwitch);
    assert_eq!(told[0], "a\u{fffd}\0\u{1b}[1mb");
    assert_eq!(told.last().unwrap(), "\u{fffd}");
    let long = told[1..told.len() - 1].concat();
    assert_eq!(long.len(), 100_000, "a long line comes in parts");
    assert!(long.bytes().all(|byte| byte == b'x'));
}

#[tokio::test]
async fn at_the_time_limit_everything_that_a_hook_started_is_killed() {
    let before = async |step: Hook| {
        let world = World::new().await;
        let hook = hook(step, &format!("{FAMILY}\nwhile :; do sleep 1000; done"));
        let began = Instant::now();
        let mut deploy = shop(&format!("{hook}\nhook_timeout = 10"))
            .begin(&world)
            .await;
        let Event::Failed { error, .. } = deploy.end().await else {
            panic!("{deploy:?}")
        };
        assert!(began.elapsed() >= Duration::from_secs(10));
        let message = format!("the hook {step} did not end within 10 s");
        assert_eq!(error.message, message);
        assert_eq!(error.output, ["ready"]);
        let pids = pids(&world);
        assert_eq!(pids.into_iter().find(|pid| is_alive(*pid)), None);
        assert_eq!(processes_of(world.data_dir()), [0u32; 0]);
    };
    // All at once, for the limit is such that a busy machine gets them started in it.
    tokio::join!(
        before(Hook::PreStart),
        before(Hook::PreSwitch),
        hangs_after_the_commit()
    );
}

/// One after the commit takes nothing back.
async fn hangs_after_the_commit() {
    let world = World::new().await;
    let hook = hook(Hook::PostDeploy, &format!("{FAMILY}\nwait; wait"));
    let deploy = shop(&format!("{hook}\nhook_timeout = 10"))
        .deploy(&world)
        .await;
    let failed = deploy.events().any(|event| {
        matches!(event, Event::StepFailed { step: Step::PostDeploy, error, .. }
            if error.message == "the hook post_deploy did not end within 10 s")
    });
    assert!(failed, "{deploy:?}");
    assert_eq!(pids(&world).into_iter().find(|pid| is_alive(*pid)), None);
    let serving = world.status("shop").await.pid;
    assert_eq!(processes_of(world.data_dir()), Vec::from_iter(serving));
}

#[tokio::test]
async fn a_cancelled_hook_is_killed_with_everything_that_it_started() {
    let world = World::new().await;
    shop("").deploy(&world).await;
    let serving = world.status("shop").await.pid;
    let hook = hook(
        Hook::PreStart,
        &format!("{FAMILY}\nwhile :; do sleep 1000; done"),
    );
    let mut deploy = shop(&hook).begin(&world).await;
    until_printed(&mut deploy, "ready").await;
    let pids = pids(&world);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    world.vela(&["cancel", "shop"]).await.expect(0);
    let end = deploy.end().await;
    assert!(matches!(end, Event::Cancelled { .. }), "{end:?}");
    assert_eq!(pids.into_iter().find(|pid| is_alive(*pid)), None);
    assert_eq!(processes_of(world.data_dir()), Vec::from_iter(serving));
    assert_eq!(
        kept(&world, &operation(&deploy), Hook::PreStart),
        ["out ready"]
    );
}

#[tokio::test]
async fn what_a_hook_leaves_running_ends_with_it() {
    let world = World::new().await;
    let hook = hook(Hook::PreStart, &format!("{FAMILY}\nexit 0"));
    let began = Instant::now();
    shop(&hook).deploy(&world).await;
    assert!(began.elapsed() < PATIENCE, "nobody waits for them");
    assert_eq!(pids(&world).into_iter().find(|pid| is_alive(*pid)), None);
    let serving = world.status("shop").await.pid;
    assert_eq!(processes_of(world.data_dir()), Vec::from_iter(serving));
}

#[tokio::test]
async fn a_hook_whose_daemon_is_killed_is_ended_by_the_next_one() {
    let mut world = World::new().await;
    shop("").deploy(&world).await;
    let serving = world.status("shop").await;
    let hook = hook(
        Hook::PreStart,
        &format!("{FAMILY}\nwhile :; do sleep 1000; done"),
    );
    let mut deploy = shop(&hook).begin(&world).await;
    until_printed(&mut deploy, "ready").await;
    let (operation, pids) = (operation(&deploy), pids(&world));
    world.kill_daemon().await;
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    world.start(&[]).await;
    let began = Instant::now();
    while world.status("shop").await.deploying.is_some() || pids.iter().any(|pid| is_alive(*pid)) {
        assert!(began.elapsed() < PATIENCE, "the hook goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = world.status("shop").await;
    assert_eq!((status.release, status.pid), (serving.release, serving.pid));
    // What it said is not lost with the daemon.
    assert_eq!(kept(&world, &operation, Hook::PreStart), ["out ready"]);
}

#[tokio::test]
async fn a_pre_start_that_fails_leaves_everything_as_it_was() {
    let world = World::new().await;
    for strategy in ["blue-green", "sequential"] {
        let lines = format!("strategy = {strategy:?}");
        shop(&lines).deploy(&world).await;
        let before = (everything(&world), world.status("shop").await);
        let fails = hook(Hook::PreStart, "echo built > built; exit 1");
        let mut deploy = shop(&format!("{lines}\n{fails}")).begin(&world).await;
        let end = deploy.end().await;
        assert!(
            matches!(
                end,
                Event::Failed {
                    step: Some(Step::PreStart),
                    ..
                }
            ),
            "{end:?}"
        );
        let after = world.status("shop").await;
        assert_eq!(everything(&world), before.0);
        assert_eq!((after.pid, after.port), (before.1.pid, before.1.port));
        assert_eq!(after.release, before.1.release);
        assert_eq!(processes_of(world.data_dir()), Vec::from_iter(after.pid));
        assert_eq!(get(world.http(), HOST, "/").await.0, 200);
    }
}

/// Every file of the app with what is in it, but for the history and the logs, which grow.
fn everything(world: &World) -> BTreeMap<PathBuf, Vec<u8>> {
    let root = world.app_dir("shop");
    let mut found = BTreeMap::new();
    let mut next = vec![root.clone()];
    while let Some(path) = next.pop() {
        let name = path.strip_prefix(&root).unwrap().to_owned();
        if name.starts_with("history") || name.starts_with("logs") {
            continue;
        }
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            next.extend(entries.map(|entry| entry.unwrap().path()));
        }
        let content = match (kind.is_dir(), kind.is_symlink()) {
            (true, _) => Vec::new(),
            (_, true) => {
                let to = std::fs::read_link(&path).unwrap();
                to.into_os_string().into_encoded_bytes()
            }
            _ => std::fs::read(&path).unwrap(),
        };
        found.insert(name, content);
    }
    found
}

#[tokio::test]
async fn the_logs_of_hooks_go_with_their_releases() {
    let world = World::new().await;
    let lines = "keep_releases = 2\nhook_timeout = 30";
    let says = [
        hook(Hook::PreStart, "echo before"),
        hook(Hook::PostDeploy, "echo after"),
    ];
    let good = shop(&format!("{lines}\n{}", says.join("\n")));
    let bad = shop(&format!(
        "{lines}\n{}",
        hook(Hook::PreStart, "echo no; exit 1")
    ));
    let mut operations = Vec::new();
    for artifact in [&good, &bad, &good, &bad, &good] {
        let mut deploy = artifact.begin(&world).await;
        deploy.end().await;
        operations.push(operation(&deploy));
    }
    let releases = world.names("shop", "releases");
    assert_eq!(releases, [operations[2].clone(), operations[4].clone()]);
    let logs = |operation: &String, hooks: &[Hook]| -> Vec<String> {
        let logs = hooks.iter().map(|hook| format!("{operation}.{hook}.log"));
        logs.collect()
    };
    let both = [Hook::PostDeploy, Hook::PreStart];
    let expected = [
        logs(&operations[2], &both),
        logs(&operations[3], &both[1..]),
        logs(&operations[4], &both),
    ];
    assert_eq!(world.names("shop", "logs/hooks"), expected.concat());
}
