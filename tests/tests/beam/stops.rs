use vela_tests::{World, get, processes_of};

use super::{App, Duration, Instant, eventually, started, stopped};

/// Long enough that it is under way when the stop comes.
const JOB: &str = "/job?name=one&ms=1500";

async fn begin_job(app: &App, world: &World, path: &str) {
    app.get(world, path).await;
    eventually("the job", async || {
        (app.lines(world, "jobs") == ["one begun"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stop_waits_for_what_was_begun() {
    let world = World::new().await;
    let app = App::new().deploy("stop_timeout = 60");
    let deploy = app.serve(&world).await;
    begin_job(&app, &world, JOB).await;
    world.vela(&["stop", &app.name]).await.expect(0);
    let done = ["one begun", "one done", "terminated"];
    assert_eq!(app.lines(&world, "jobs"), done);
    assert_eq!(app.lines(&world, "stopped"), [started(&deploy).0]);
    assert_eq!(processes_of(world.data_dir()), [0u32; 0]);
    let logs = world.vela(&["logs", &app.name]).await.expect(0);
    assert!(logs.stdout.contains("SIGTERM received"), "{logs:?}");
    assert_eq!(get(world.http(), &app.host(), "/").await.0, 503);
}

#[tokio::test]
async fn the_old_instance_ends_what_it_began_while_the_new_one_serves() {
    let world = World::new().await;
    let app = App::new().deploy("stop_timeout = 60");
    app.serve(&world).await;
    begin_job(&app, &world, "/job?name=one&ms=4000").await;
    let mut second = app.artifact().begin(&world).await;
    second.reach(vela_protocol::Step::Stop).await;
    let (new, _) = started(&second);
    assert_eq!(app.environment(&world).await["VELA_INSTANCE"], new);
    second.succeed().await;
    let (old, exit) = stopped(&second).unwrap();
    assert_eq!(exit, "exited with code 0");
    let done = ["one begun", "one done", "terminated"];
    assert_eq!(app.lines(&world, "jobs"), done);
    assert_eq!(app.lines(&world, "stopped"), [old]);
}

#[tokio::test]
async fn what_outlasts_the_stop_timeout_is_killed() {
    let world = World::new().await;
    let app = App::new().deploy("stop_timeout = 1");
    app.serve(&world).await;
    begin_job(&app, &world, "/job?name=one&ms=50000").await;
    let began = Instant::now();
    world.vela(&["stop", &app.name]).await.expect(0);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_secs(40), "{took:?}");
    assert_eq!(app.lines(&world, "jobs"), ["one begun"]);
    assert_eq!(app.lines(&world, "stopped"), [""; 0]);
    assert_eq!(processes_of(world.data_dir()), [0u32; 0]);
}
