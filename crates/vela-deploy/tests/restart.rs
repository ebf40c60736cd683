//! What an engine makes of the state that another one left, in the cases that a crash or a full disk lead to.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod support;

use support::{World, all, who};
use vela_deploy::{AppDirs, Dirs, EngineError};
use vela_protocol::{AppState, Event, Outcome};

const MANIFEST: &str = r#"
[app]
name = "tiny"
domain = "tiny.localhost"
[deploy]
health = "/health"
drain = 1
stop_timeout = 2
"#;

fn app(dirs: &Dirs) -> AppDirs {
    dirs.app(&"tiny".parse().unwrap())
}

async fn deployed() -> World {
    let world = World::new(|stack| stack).await;
    let events = world.deploy(MANIFEST, &[]).await;
    assert!(
        matches!(events.last(), Some(Event::Succeeded { .. })),
        "{events:#?}"
    );
    world
}

fn newest_history(dirs: &Dirs) -> std::path::PathBuf {
    let entries = std::fs::read_dir(app(dirs).history()).unwrap();
    entries.map(|entry| entry.unwrap().path()).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_app_is_adopted_with_its_process() {
    let world = deployed().await;
    let before = world.engine.status("tiny").unwrap();
    let world = world.restarted(|_| {}).await;
    let after = world.until(AppState::Running).await;
    assert_eq!((after.pid, after.port), (before.pid, before.port));
    assert_eq!(
        world.get("tiny.localhost").await,
        (200, world.current().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_files_may_be_as_deep_as_an_app_likes() {
    let world = deployed().await;
    let before = world.engine.status("tiny").unwrap();
    let [instance] = &before.instances[..] else {
        panic!("{before:?}");
    };
    let (own, id) = (instance.instance.clone(), "0123456789abcdef");
    let fill = |dirs: &Dirs| {
        let tmp = app(dirs).tmp();
        std::fs::create_dir(tmp.join(&own)).unwrap();
        // Longer than a path may be.
        for _ in 0..4 {
            let below = tmp.join("d/".repeat(1_500));
            std::fs::create_dir_all(&below).unwrap();
            if tmp.join(id).exists() {
                std::fs::rename(tmp.join(id), below.join("d")).unwrap();
            }
            std::fs::rename(tmp.join("d"), tmp.join(id)).unwrap();
        }
    };
    // The daemon that follows an interrupted one removes it; what lives keeps its own.
    let world = world.restarted(fill).await;
    let after = world.until(AppState::Running).await;
    assert_eq!(after.pid, before.pid);
    let tmp = app(&world.dirs()).tmp();
    until_gone(&tmp.join(id)).await;
    assert!(tmp.join(&own).exists());
    // And so does one that stops an instance.
    std::fs::remove_dir(tmp.join(&own)).unwrap();
    fill(&world.dirs());
    std::fs::remove_dir(tmp.join(&own)).unwrap();
    std::fs::rename(tmp.join(id), tmp.join(&own)).unwrap();
    world.engine.stop("tiny", who()).await.unwrap();
    until_gone(&tmp.join(&own)).await;
}

async fn until_gone(path: &std::path::Path) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while path.exists() {
        assert!(std::time::Instant::now() < deadline, "{}", path.display());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_app_stays_stopped_and_keeps_its_hosts() {
    let world = deployed().await;
    world.engine.stop("tiny", who()).await.unwrap();
    let world = world.restarted(|_| {}).await;
    assert_eq!(
        world.engine.status("tiny").unwrap().state,
        AppState::Stopped
    );
    assert_eq!(world.get("tiny.localhost").await.0, 503);
    assert_eq!(world.instances().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_app_stays_stopped_though_its_deploy_s_end_was_lost() {
    let world = deployed().await;
    world.engine.stop("tiny", who()).await.unwrap();
    let cut_last_line = |dirs: &Dirs| {
        let path = newest_history(dirs);
        let text = std::fs::read_to_string(&path).unwrap();
        let end = text.trim_end().rfind('\n').unwrap() + 1;
        std::fs::write(&path, &text[..end]).unwrap();
    };
    let world = world.restarted(cut_last_line).await;
    let history = loop {
        let history = world.engine.history("tiny").await.unwrap();
        if history[0].outcome != Outcome::Running {
            break history;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(history[0].outcome, Outcome::Succeeded);
    assert_eq!(
        world.engine.status("tiny").unwrap().state,
        AppState::Stopped
    );
    assert_eq!(world.instances().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_could_not_be_written_after_the_commit_is_made_good() {
    let world = deployed().await;
    let before = world.engine.status("tiny").unwrap().pid;
    let as_before_the_deploy = |dirs: &Dirs| {
        let stale = "running = false\nsecrets = 0\noperation = \"20200101-000000\"\n";
        std::fs::write(app(dirs).desired(), stale).unwrap();
    };
    let world = world.restarted(as_before_the_deploy).await;
    assert_eq!(
        world.until(AppState::Running).await.pid,
        before,
        "the healthy instance goes on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_removal_is_finished() {
    for (removing, data_stays) in [("keep", true), ("purge", false)] {
        let world = deployed().await;
        std::fs::write(app(&world.dirs()).data().join("db"), "x").unwrap();
        let wish = |dirs: &Dirs| {
            let desired = app(dirs).desired();
            let text = std::fs::read_to_string(&desired).unwrap();
            let text = text.replace(
                "running = true",
                &format!("running = false\nremoving = \"{removing}\""),
            );
            std::fs::write(&desired, text).unwrap();
        };
        let world = world.restarted(wish).await;
        // The engine does not wait for it: a removal may have to wait for a service.
        let began = std::time::Instant::now();
        while !matches!(
            world.engine.status("tiny"),
            Err(EngineError::NoSuchApp { .. })
        ) {
            assert!(began.elapsed().as_secs() < 20, "{removing}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(world.instances().await, [], "{removing}");
        assert_eq!(world.releases(), [] as [String; 0], "{removing}");
        assert_eq!(
            app(&world.dirs()).data().join("db").exists(),
            data_stays,
            "{removing}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_app_does_not_come_back_and_can_be_purged_later() {
    let world = deployed().await;
    world.engine.remove("tiny", false, who()).await.unwrap();
    let world = world.restarted(|_| {}).await;
    assert!(world.engine.apps().is_empty());
    assert!(matches!(
        world.engine.remove("tiny", false, who()).await,
        Err(EngineError::NoSuchApp { .. })
    ));
    world.engine.remove("tiny", true, who()).await.unwrap();
    assert!(!app(&world.dirs()).root().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_cannot_be_restored_is_down_and_tried_again() {
    let world = deployed().await;
    let before = world.engine.status("tiny").unwrap();
    let manifest = app(&world.dirs())
        .meta(world.current().unwrap().parse().unwrap())
        .join("manifest.toml");
    let world = world
        .restarted(|_| std::fs::write(&manifest, "not a manifest").unwrap())
        .await;
    let down = world.until(AppState::Down).await;
    assert_eq!(down.release, before.release);
    std::fs::write(&manifest, MANIFEST).unwrap();
    assert_eq!(
        world.until(AppState::Running).await.pid,
        before.pid,
        "and its process was left alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_whose_history_cannot_be_read_is_seen_and_can_be_removed() {
    let world = deployed().await;
    let release = world.current();
    let damage = |dirs: &Dirs| {
        let newest = newest_history(dirs);
        std::fs::remove_file(&newest).unwrap();
        std::fs::create_dir(&newest).unwrap();
    };
    let world = world.restarted(damage).await;
    assert_eq!(world.engine.apps().len(), 1);
    assert_eq!(world.until(AppState::Down).await.release, release);
    world.engine.stop("tiny", who()).await.unwrap();
    assert_eq!(world.instances().await, []);
    world.engine.remove("tiny", true, who()).await.unwrap();
    assert!(!app(&world.dirs()).root().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_beside_an_app_that_could_not_be_restored_leaves_one_process() {
    let world = deployed().await;
    let manifest = app(&world.dirs())
        .meta(world.current().unwrap().parse().unwrap())
        .join("manifest.toml");
    let world = world
        .restarted(|_| std::fs::write(&manifest, "not a manifest").unwrap())
        .await;
    world.until(AppState::Down).await;
    let request = world.upload(MANIFEST, &[]).await;
    let events = all(world.engine.deploy("tiny", request, who()).await.unwrap()).await;
    assert!(
        matches!(events.last(), Some(Event::Succeeded { .. })),
        "{events:#?}"
    );
    assert_eq!(world.instances().await.len(), 1);
}
