use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use vela_tests::{Release, World, get, try_get};

use super::{HOST, eventually, expect_undone, manifest, serving};

/// Lets the daemon have this many file descriptors more than it has now, and gives back the limit from before.
fn squeeze(world: &World, more: usize) -> Rlimit {
    let limit = Rlimit {
        current: Some((world.daemon_fds() + more) as u64),
        maximum: limit(world).maximum,
    };
    set(world, limit)
}

fn limit(world: &World) -> Rlimit {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", world.daemon_pid())).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let mut numbers = line
        .split_whitespace()
        .skip(3)
        .map(|word| word.parse().ok());
    Rlimit {
        current: numbers.next().unwrap(),
        maximum: numbers.next().unwrap(),
    }
}

fn set(world: &World, limit: Rlimit) -> Rlimit {
    let pid = Pid::from_raw(world.daemon_pid().cast_signed());
    prlimit(pid, Resource::Nofile, limit).unwrap()
}

#[tokio::test]
async fn out_of_descriptors_the_proxy_goes_on_accepting_once_there_are_some() {
    let (world, release) = serving().await;
    squeeze(&world, 8);
    let mut idle = Vec::new();
    for _ in 0..40 {
        // The kernel accepts for a daemon that can't.
        idle.push(TcpStream::connect(world.http()).await.unwrap());
    }
    eventually("the exhaustion", async || {
        let said = world.daemon_log().contains("cannot accept connections");
        said.then_some(())
    })
    .await;
    // What waits is answered as soon as there is a descriptor for it; nobody else was needed for that.
    let waiting = tokio::spawn({
        let addr = world.http();
        async move { try_get(addr, HOST, "/").await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(idle);
    let (status, body) = waiting.await.unwrap().unwrap();
    assert_eq!(status, 200);
    assert!(body.starts_with(&release), "{body}");
    expect_undone(&world, Some(&release)).await;
    // It did not spin meanwhile.
    let complaints = world
        .daemon_log()
        .matches("cannot accept connections")
        .count();
    assert!(complaints < 200, "{complaints}");
}

#[tokio::test]
async fn out_of_descriptors_the_control_socket_goes_on_accepting_once_there_are_some() {
    let (world, release) = serving().await;
    squeeze(&world, 8);
    let mut idle = Vec::new();
    for _ in 0..40 {
        match timeout(
            Duration::from_millis(500),
            UnixStream::connect(world.socket()),
        )
        .await
        {
            Ok(connected) => idle.push(connected.unwrap()),
            Err(_) => break,
        }
    }
    eventually("the exhaustion", async || {
        let said = world
            .daemon_log()
            .contains("cannot accept a connection of the control API");
        said.then_some(())
    })
    .await;
    drop(idle);
    world.vela(&["status", "shop"]).await.expect(0);
    expect_undone(&world, Some(&release)).await;
}

/// Wherever in a deploy the descriptors end, it is undone or done, and says which.
#[tokio::test]
async fn a_deploy_that_runs_out_of_descriptors_tells_the_truth() {
    let (world, mut serves) = serving().await;
    let release = Release::demo_app(&manifest("health = \"/health\""), "");
    let mut codes = Vec::new();
    for more in 0..16 {
        // Connections of the last round have ended.
        world.vela(&["apps"]).await.expect(0);
        let before = squeeze(&world, more);
        let output = world.deploy(&release).await;
        set(&world, before);
        codes.push(output.code);
        match output.code {
            0 => serves = output.stdout.trim_end().to_owned(),
            3 | 4 => {}
            _ => panic!("{more} more: {output:?}"),
        }
        let current = world.current("shop").unwrap();
        assert_eq!(current, serves, "{more} more: {output:?}");
        let (status, body) = get(world.http(), HOST, "/").await;
        assert_eq!(status, 200, "{more} more: {body}");
        assert!(body.starts_with(&serves), "{more} more: {body}");
        let pid = world.status("shop").await.pid.unwrap();
        assert_eq!(
            vela_tests::processes_of(world.data_dir()),
            [pid],
            "{more} more"
        );
        world.nothing_staged().await;
    }
    assert_ne!(codes.first(), Some(&0), "it was never short: {codes:?}");
    assert_eq!(codes.last(), Some(&0), "{codes:?}");
    println!("{codes:?}");
    // With enough of them everything is in order.
    world.deploy(&release).await.expect(0);
}
