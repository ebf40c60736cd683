use vela_tests::World;

use super::{App, eventually, expect_unchanged, started, tmp_has};

#[tokio::test]
async fn a_crash_dump_lies_beside_the_release_and_outlasts_the_instance() {
    let world = World::new().await;
    let app = App::new();
    let deploy = app.serve(&world).await;
    let instance = started(&deploy).0;
    assert_eq!(world.names(&app.name, "tmp"), [instance.as_str()]);
    // It takes its answer with it.
    drop(vela_tests::try_get(world.http(), &app.host(), "/crash").await);
    eventually("the next instance", async || {
        let status = world.status(&app.name).await;
        (status.restarts == 1 && status.health.as_deref() == Some("healthy")).then_some(())
    })
    .await;
    let names = eventually("the end of the dead one's files", async || {
        let names = world.names(&app.name, "tmp");
        (names.len() == 2 && !names.contains(&instance)).then_some(names)
    })
    .await;
    let [dump, other] = &names[..] else {
        panic!("{names:?}")
    };
    let [dump, other] = match dump.starts_with("erl") {
        true => [dump, other],
        false => [other, dump],
    };
    assert_eq!(dump, "erl_crash.dump");
    assert_eq!(*other, app.environment(&world).await["VELA_INSTANCE"]);
    let dump = world.app_dir(&app.name).join("tmp").join(dump);
    let dump = std::fs::read(dump).unwrap();
    let said = b"told to crash";
    assert!(dump.windows(said.len()).any(|some| some == said));
    expect_unchanged(&world, &app.name);
}

#[tokio::test]
async fn what_a_killed_daemon_left_over_goes_and_what_lives_keeps_its_own() {
    let mut world = World::new().await;
    let app = App::new();
    let deploy = app.serve(&world).await;
    let instance = started(&deploy).0;
    let pid = world.status(&app.name).await.pid;
    world.kill_daemon().await;
    let tmp = world.app_dir(&app.name).join("tmp");
    std::fs::create_dir(tmp.join("0123456789abcdef")).unwrap();
    std::fs::write(tmp.join("0123456789abcdef/some.config"), "x").unwrap();
    std::fs::write(tmp.join("erl_crash.dump"), "x").unwrap();
    world.start(&[]).await;
    let status = eventually("the app", async || {
        let status = world.status(&app.name).await;
        (status.health.as_deref() == Some("healthy")).then_some(status)
    })
    .await;
    assert_eq!(status.pid, pid, "it was adopted");
    tmp_has(&world, &app.name, &[&instance, "erl_crash.dump"]).await;
}
